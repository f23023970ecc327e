# SPDX-License-Identifier: LGPL-2.1-or-later
"""DHCP options on the wire and as checked values (RFC 2132; overload and RFC 3396 long options; RFC 3442 routes).

Pure. What comes from a server is untrusted: a malformed option is left out with its reason, since a wrong DNS list must
not stop a boot; only an option area that cannot be walked at all is an error (:class:`DhcpError`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network

from iscsiboot.errors import quoted
from iscsiboot.network.lease import LeaseRoute

LIST_MAX = 16
"""Routers, DNS servers: more is nonsense, and every one costs a line somewhere."""
ROUTES_MAX = 64
LEASE_FOREVER = 0xFFFFFFFF
"""RFC 2131 section 3.3."""
MTU_MIN, MTU_MAX = 576, 65535
"""RFC 2132 section 5.1 allows 68; below 576 no IPv4 host need listen (RFC 791), and NFS, iSCSI and DNS break."""
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")


class DhcpError(ValueError):
    """A datagram that is no usable DHCP message; the text says why, safe to print."""


class Option(IntEnum):
    """Option codes we send or read. Others survive parsing as plain numbers."""

    PAD = 0
    SUBNET_MASK = 1
    ROUTER = 3
    DNS = 6
    HOST_NAME = 12
    DOMAIN_NAME = 15
    ROOT_PATH = 17
    INTERFACE_MTU = 26
    REQUESTED_ADDRESS = 50
    LEASE_TIME = 51
    OVERLOAD = 52
    MESSAGE_TYPE = 53
    SERVER_ID = 54
    PARAMETER_LIST = 55
    MESSAGE = 56
    MAX_MESSAGE_SIZE = 57
    RENEWAL_TIME = 58
    REBINDING_TIME = 59
    CLIENT_ID = 61
    CLASSLESS_ROUTES = 121
    END = 255


def split_options(area: bytes, into: dict[int, bytes], where: str) -> None:
    """Walk one option area and add what it holds to ``into``; a code met again is joined (RFC 3396).

    A missing END is tolerated (servers in the field leave it out when the area is full). DhcpError when an option runs
    past the area.
    """
    position = 0
    while position < len(area):
        code = area[position]
        position += 1
        if code == Option.PAD:
            continue
        if code == Option.END:
            return
        if position >= len(area):
            raise DhcpError(f"option {code} in {where} has no length")
        length = area[position]
        value = area[position + 1 : position + 1 + length]
        if len(value) < length:
            raise DhcpError(f"option {code} in {where} says {length} bytes, {len(value)} are left")
        into[code] = into.get(code, b"") + value
        position += 1 + length


def join_options(options: Iterable[tuple[int, bytes]]) -> bytes:
    """The option area for ``options`` in their order, ended; values over 255 bytes are split (RFC 3396)."""
    parts = bytearray()
    for code, value in options:
        if not 0 < code < 255:
            raise ValueError(f"option code {code} is outside 1 to 254")
        pieces = [value[start : start + 255] for start in range(0, len(value), 255)] or [b""]
        for piece in pieces:
            parts += bytes((code, len(piece))) + piece
    parts.append(Option.END)
    return bytes(parts)


class OptionReader:
    """Checked values out of split options; collects in ``ignored`` what was left out and why."""

    def __init__(self, options: Mapping[int, bytes]) -> None:
        self._options = options
        self.ignored: list[str] = []

    def raw(self, code: Option) -> bytes | None:
        """The bytes as they came."""
        return self._options.get(code)

    def number(self, code: Option, size: int) -> int | None:
        """An unsigned integer of exactly ``size`` bytes."""
        value = self._options.get(code)
        if value is None:
            return None
        if len(value) != size:
            self._ignore(code, f"{len(value)} bytes instead of {size}")
            return None
        return int.from_bytes(value, "big")

    def address(self, code: Option) -> IPv4Address | None:
        """One host address."""
        value = self._options.get(code)
        if value is None:
            return None
        if len(value) != 4:
            self._ignore(code, f"{len(value)} bytes instead of 4")
            return None
        address = IPv4Address(value)
        if not is_host(address):
            self._ignore(code, f"{address} is no host's address")
            return None
        return address

    def addresses(self, code: Option) -> tuple[IPv4Address, ...]:
        """A list of host addresses, each once, at most LIST_MAX."""
        value = self._options.get(code, b"")
        if len(value) % 4:
            self._ignore(code, f"{len(value)} bytes are no whole number of addresses")
            return ()
        every = [IPv4Address(value[start : start + 4]) for start in range(0, len(value), 4)]
        for address in every:
            if not is_host(address):
                self._ignore(code, f"{address} is no host's address")
        usable = tuple(dict.fromkeys(address for address in every if is_host(address)))
        if len(usable) > LIST_MAX:
            self._ignore(code, f"{len(usable)} addresses, only {LIST_MAX} are kept")
        return usable[:LIST_MAX]

    def prefix(self) -> int | None:
        """The subnet mask as a prefix length, 1 to 32."""
        mask = self.number(Option.SUBNET_MASK, 4)
        if mask is None:
            return None
        inverted = mask ^ 0xFFFFFFFF
        if mask == 0 or inverted & (inverted + 1):
            self._ignore(Option.SUBNET_MASK, f"{IPv4Address(mask)} is no subnet mask")
            return None
        return mask.bit_count()

    def name(self, code: Option) -> str | None:
        """A DNS name in letters, digits, hyphens and underscores (RFC 1123 and what the field does)."""
        value = self._options.get(code)
        if value is None:
            return None
        # RFC 2132 section 2: a trailing NUL is to be removed.
        text = value.rstrip(b"\0").decode("ascii", "replace").removesuffix(".")
        if not text or len(text) > 253 or not all(_LABEL.fullmatch(label) for label in text.split(".")):
            self._ignore(code, f"{quoted(value)} is no host or domain name")
            return None
        return text

    def mtu(self) -> int | None:
        """The interface MTU in bytes."""
        mtu = self.number(Option.INTERFACE_MTU, 2)
        if mtu is not None and not MTU_MIN <= mtu <= MTU_MAX:
            self._ignore(Option.INTERFACE_MTU, f"{mtu} is outside {MTU_MIN} to {MTU_MAX}")
            return None
        return mtu

    def routes(self) -> tuple[LeaseRoute, ...]:
        """Classless static routes; none at all when the option cannot be walked, since half a list misroutes."""
        value = self._options.get(Option.CLASSLESS_ROUTES, b"")
        found: list[LeaseRoute] = []
        position = 0
        while position < len(value):
            prefix = value[position]
            size = (prefix + 7) // 8
            entry = value[position + 1 : position + 5 + size]
            if prefix > 32 or len(entry) < size + 4 or len(found) == ROUTES_MAX:
                self._ignore(Option.CLASSLESS_ROUTES, f"entry {len(found)} is malformed or one too many")
                return ()
            position += 5 + size
            destination = IPv4Network((entry[:size].ljust(4, b"\0"), prefix), strict=False)
            gateway = IPv4Address(entry[size:])
            if gateway.is_unspecified:
                found.append(LeaseRoute(destination=destination, gateway=None))
            elif is_host(gateway) and not destination.is_multicast and not destination.is_loopback:
                found.append(LeaseRoute(destination=destination, gateway=gateway))
            else:
                self._ignore(Option.CLASSLESS_ROUTES, f"{destination} via {gateway} is no route to anywhere")
        return tuple(found)

    def _ignore(self, code: Option, why: str) -> None:
        self.ignored.append(f"{code.name} ({code.value}): {why}")


def is_host(address: IPv4Address) -> bool:
    """Whether a single machine elsewhere can have this address: not 0/8, 127/8, multicast, reserved or broadcast."""
    first = int(address) >> 24
    return 0 < first < 224 and first != 127
