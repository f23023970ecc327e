# SPDX-License-Identifier: LGPL-2.1-or-later
"""Changes to the machine's network as values: planned by :mod:`.plan`, shown by ``describe``, done by :mod:`.rtnl`."""

from __future__ import annotations

from dataclasses import dataclass

from iscsiboot.model.portal import IpAddress
from iscsiboot.network.facts import IpInterface, IpNetwork


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """A device a step works on: by index, since udev may rename it meanwhile; by name while it does not exist yet."""

    index: int | None
    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, kw_only=True, slots=True)
class CreateVlan:
    """Make a VLAN device (802.1Q)."""

    base: Device
    vlan_id: int
    name: str

    def describe(self) -> str:
        """One line for a person."""
        return f"create VLAN device {self.name} (id {self.vlan_id} on {self.base})"


@dataclass(frozen=True, kw_only=True, slots=True)
class SetMtu:
    """Set the largest packet of a device, in bytes."""

    device: Device
    mtu: int

    def describe(self) -> str:
        """One line for a person."""
        return f"set MTU of {self.device} to {self.mtu}"


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkUp:
    """Set a device administratively up."""

    device: Device

    def describe(self) -> str:
        """One line for a person."""
        return f"set {self.device} up"


@dataclass(frozen=True, kw_only=True, slots=True)
class AddAddress:
    """Give a device an address; the kernel adds the route to its subnet."""

    device: Device
    address: IpInterface

    def describe(self) -> str:
        """One line for a person."""
        return f"add address {self.address} to {self.device}"


@dataclass(frozen=True, kw_only=True, slots=True)
class AddRoute:
    """Add a route to the main table."""

    device: Device
    destination: IpNetwork
    gateway: IpAddress | None = None
    """None: the destination is on the link."""
    onlink: bool = False
    """The gateway is a neighbour although no subnet says so (RTNH_F_ONLINK)."""
    metric: int = 0
    """0 is the kernel's default for the family."""
    dhcp: bool = False
    """Marks the route RTPROT_DHCP instead of RTPROT_STATIC: systemd-networkd's KeepConfiguration= goes by it."""

    def describe(self) -> str:
        """One line for a person."""
        name = "default" if self.destination.prefixlen == 0 else str(self.destination)
        via = f" via {self.gateway}" if self.gateway is not None else ""
        metric = f" metric {self.metric}" if self.metric else ""
        return f"add route {name}{via} on {self.device}{metric}"


@dataclass(frozen=True, kw_only=True, slots=True)
class WriteResolver:
    """Name the DNS servers in ``resolv.conf``."""

    servers: tuple[IpAddress, ...]
    search: tuple[str, ...] = ()

    def describe(self) -> str:
        """One line for a person."""
        return f"write resolv.conf: {', '.join(str(server) for server in self.servers)}"


Step = CreateVlan | SetMtu | LinkUp | AddAddress | AddRoute
"""What rtnetlink carries out. :class:`WriteResolver` is a file and is done for all NICs together."""
