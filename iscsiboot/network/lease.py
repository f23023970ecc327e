# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a DHCP server granted, as a value, and its JSON form in ``network.json`` (version in :mod:`.state`).

Every address in here has passed the checks of :mod:`.dhcp_options`; the JSON reader checks again, because a file may be
older than this code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseRoute:
    """One classless static route (RFC 3442)."""

    destination: IPv4Network
    gateway: IPv4Address | None
    """None: on this link, no router between (the RFC writes 0.0.0.0)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DhcpLease:
    """A bound DHCPv4 lease. Times in seconds, ``obtained`` on the clock the bring-up was given."""

    address: IPv4Interface
    """Address and prefix; /32 when the server named no mask."""
    server: IPv4Address
    """Server identifier (option 54)."""
    client_id: bytes
    """Option 61 as we sent it; whoever renews must send the same or gets another address."""
    lease_seconds: int | None
    """Option 51; None is a lease without end."""
    renewal_seconds: int | None = None
    rebinding_seconds: int | None = None
    obtained: float
    routers: tuple[IPv4Address, ...] = ()
    """Option 3, best first; empty when classless routes were given, which replace it (RFC 3442)."""
    routes: tuple[LeaseRoute, ...] = ()
    dns: tuple[IPv4Address, ...] = ()
    domain: str | None = None
    hostname: str | None = None
    mtu: int | None = None
    root_path: bytes | None = None
    """Option 17, raw and untrusted: its grammar (RFC 4173) is read elsewhere."""
    ignored: tuple[str, ...] = ()
    """Parts of the answer that were left out, each with its reason."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; bytes as hexadecimal text."""
        return {
            "address": str(self.address),
            "server": str(self.server),
            "client_id": self.client_id.hex(),
            "lease_seconds": self.lease_seconds,
            "renewal_seconds": self.renewal_seconds,
            "rebinding_seconds": self.rebinding_seconds,
            "obtained": self.obtained,
            "routers": [str(router) for router in self.routers],
            "routes": [
                [str(route.destination), str(route.gateway) if route.gateway else None] for route in self.routes
            ],
            "dns": [str(server) for server in self.dns],
            "domain": self.domain,
            "hostname": self.hostname,
            "mtu": self.mtu,
            "root_path": None if self.root_path is None else self.root_path.hex(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DhcpLease:
        """The inverse of :meth:`to_json`. ValueError, KeyError or TypeError when ``data`` is something else."""
        root_path = data["root_path"]
        return cls(
            address=IPv4Interface(data["address"]),
            server=IPv4Address(data["server"]),
            client_id=bytes.fromhex(data["client_id"]),
            lease_seconds=_optional_int(data["lease_seconds"]),
            renewal_seconds=_optional_int(data["renewal_seconds"]),
            rebinding_seconds=_optional_int(data["rebinding_seconds"]),
            obtained=float(data["obtained"]),
            routers=tuple(IPv4Address(text) for text in data["routers"]),
            routes=tuple(
                LeaseRoute(
                    destination=IPv4Network(destination), gateway=None if gateway is None else IPv4Address(gateway)
                )
                for destination, gateway in data["routes"]
            ),
            dns=tuple(IPv4Address(text) for text in data["dns"]),
            domain=_optional_text(data["domain"]),
            hostname=_optional_text(data["hostname"]),
            mtu=_optional_int(data["mtu"]),
            root_path=None if root_path is None else bytes.fromhex(root_path),
        )


def _optional_int(value: object) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise TypeError("a number or null was expected")


def _optional_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise TypeError("text or null was expected")
