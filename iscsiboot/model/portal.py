# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a target listens: address, TCP port, portal group tag (RFC 7143 section 4.1 and chapter 13.9)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

ISCSI_PORT = 3260
"""The system port IANA assigned to iSCSI."""

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def parse_ip(text: str) -> IpAddress:
    """An address, IPv4-mapped IPv6 reduced to IPv4 so that both spellings compare equal. ValueError otherwise."""
    address = ipaddress.ip_address(text.strip("[]"))
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


@dataclass(frozen=True, kw_only=True, slots=True)
class Portal:
    """One TCP portal of a target."""

    address: IpAddress
    """IPv6 keeps its scope (``fe80::1%eth0``)."""
    port: int = ISCSI_PORT
    tpgt: int | None = None
    """Target portal group tag, 0 to 65535; None while unknown."""

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise ValueError(f"port {self.port} is outside 1 to 65535")
        if self.tpgt is not None and not 0 <= self.tpgt <= 65535:
            raise ValueError(f"portal group tag {self.tpgt} is outside 0 to 65535")

    @property
    def endpoint(self) -> str:
        """``10.0.2.2:3260`` or ``[fe80::1%eth0]:3260``, as URLs and RFC 7143 TargetAddress write it."""
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        return self.endpoint if self.tpgt is None else f"{self.endpoint},{self.tpgt}"


def on_link_of(address: IpAddress, here: IpAddress) -> IpAddress:
    """``address`` as a peer at ``here`` meant it: link-local without a scope is on the link that leads to that peer.

    A peer cannot know what we call our interfaces, so it has no way to say so itself.
    """
    if not (isinstance(address, ipaddress.IPv6Address) and address.is_link_local and address.scope_id is None):
        return address
    if not (isinstance(here, ipaddress.IPv6Address) and here.scope_id is not None):
        return address
    return ipaddress.IPv6Address(f"{address}%{here.scope_id}")


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedPortal:
    """A portal given by host name; who resolves it is the caller's business."""

    host: str
    """Letters, digits, dashes and dots only."""
    port: int = ISCSI_PORT
    tpgt: int | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"
