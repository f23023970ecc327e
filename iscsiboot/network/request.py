# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is asked of one NIC, checked, and by which method it gets its address. Pure.

How firmware's words are taken:

* an address of zero is no address; a prefix of zero or none is a missing prefix;
* a missing IPv4 prefix makes a host address (/32): everything is then reached by explicit routes, through the gateway
  if there is one and directly if not. Guessing a class or /24 would declare strangers to be neighbours;
* a missing IPv6 prefix is /64, the only length subnets have (RFC 4291 section 2.5.1);
* DHCP with an IPv6 address is DHCPv6, which is not spoken here: the address firmware obtained is used as it stands.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_interface

from iscsiboot.errors import ExitCode, IscsiBootError, Stage, quoted
from iscsiboot.model.boot import BootNic
from iscsiboot.model.portal import IpAddress
from iscsiboot.network.facts import IpInterface

_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
MTU_MIN = 576
"""RFC 791: what every IPv4 host must take."""
MTU_MAX = 65535
_ORIGIN_ROUTER_ADVERTISEMENT = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class NicRequest:
    """One NIC to bring up."""

    nic: BootNic
    destinations: tuple[IpAddress, ...] = ()
    """Targets that must be reachable through this NIC."""
    mtu: int | None = None
    """Bytes; None keeps what the device has, or takes what DHCP says."""

    @property
    def mac(self) -> str | None:
        """The MAC in lower case."""
        return None if self.nic.mac is None else self.nic.mac.value.lower()

    @property
    def subject(self) -> str:
        """How messages call this NIC before its device is known."""
        parts = [quoted(part.value).strip('"') for part in (self.nic.mac, self.nic.netdev, self.nic.pci) if part]
        return f"NIC {parts[0]}" + (f" ({', '.join(parts[1:])})" if parts[1:] else "") if parts else "NIC without name"


class Method(Enum):
    """How the address comes about."""

    STATIC = "static"
    DHCP4 = "DHCPv4"
    ROUTER_ADVERTISEMENT = "router advertisement"
    """The kernel does it; we wait for the outcome."""


def firmware_address(request: NicRequest) -> IpAddress | None:
    """The address firmware names, None when it is absent or zero."""
    address = request.nic.address
    return None if address is None or address.value.is_unspecified else address.value


def method_of(request: NicRequest) -> Method:
    """Static when there is an address and DHCP was not its origin; see the module's head for the rest."""
    nic = request.nic
    address = firmware_address(request)
    if nic.origin is not None and nic.origin.value == _ORIGIN_ROUTER_ADVERTISEMENT:
        return Method.ROUTER_ADVERTISEMENT
    by_dhcp = nic.dhcp is not None and nic.dhcp.value
    if address is not None:
        return Method.DHCP4 if by_dhcp and address.version == 4 else Method.STATIC
    if request.destinations and all(destination.version == 6 for destination in request.destinations):
        return Method.ROUTER_ADVERTISEMENT
    return Method.DHCP4


def firmware_interface(request: NicRequest) -> IpInterface | None:
    """Firmware's address with its prefix, or with the prefix the module's head states for a missing one."""
    address = firmware_address(request)
    if address is None:
        return None
    prefix = request.nic.prefix_len.value if request.nic.prefix_len is not None else 0
    missing = 32 if address.version == 4 else 64
    return ip_interface(f"{str(address).partition('%')[0]}/{prefix or missing}")


def check_request(request: NicRequest) -> None:
    """IscsiBootError when the request can never succeed, whatever the machine looks like."""
    if request.nic.mac is None and request.nic.netdev is None and request.nic.pci is None:
        raise _refused(request, "firmware names neither a MAC nor a device for this NIC")
    if request.mac is not None and not _MAC.fullmatch(request.mac):
        raise _refused(request, f"the MAC {quoted(request.mac)} is not six hexadecimal bytes")
    if request.mac is not None and int(request.mac[:2], 16) & 1:
        raise _refused(request, f"the MAC {request.mac} is a group address, which no NIC has")
    if request.nic.vlan is not None and not 1 <= request.nic.vlan.value <= 4094:
        raise _refused(request, f"VLAN {request.nic.vlan.value} is outside 1 to 4094")
    if request.mtu is not None and not MTU_MIN <= request.mtu <= MTU_MAX:
        raise _refused(request, f"MTU {request.mtu} is outside {MTU_MIN} to {MTU_MAX}")
    address = firmware_address(request)
    if address is not None:
        if address.is_multicast or address.is_loopback or str(address) == "255.255.255.255":
            raise _refused(request, f"{address} is not an address a NIC can have")
        prefix = request.nic.prefix_len
        if prefix is not None and not 0 <= prefix.value <= address.max_prefixlen:
            raise _refused(request, f"prefix /{prefix.value} is impossible for {address}")


def _refused(request: NicRequest, cause: str) -> IscsiBootError:
    return IscsiBootError(
        cause,
        stage=Stage.NETWORK,
        subject=request.subject,
        hint="correct the firmware's iSCSI settings ('iscsiboot explain' shows where each value came from)",
        exit_code=ExitCode.INVAL,
    )
