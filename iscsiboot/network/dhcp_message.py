# SPDX-License-Identifier: LGPL-2.1-or-later
"""The DHCP message (RFC 2131 section 2): bytes to values and back. Pure; see :mod:`.dhcp_options` for options.

op(1) htype(1) hlen(1) hops(1) xid(4) secs(2) flags(2) ciaddr(4) yiaddr(4) siaddr(4) giaddr(4)
chaddr(16) sname(64) file(128) magic(4) options
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Interface

from iscsiboot.network.dhcp_options import (
    LEASE_FOREVER,
    DhcpError,
    Option,
    OptionReader,
    is_host,
    join_options,
    split_options,
)
from iscsiboot.network.lease import DhcpLease

_FIXED = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")
_MAGIC = bytes((99, 130, 83, 99))
_BOOTREQUEST, _BOOTREPLY = 1, 2
_HTYPE_ETHERNET = 1
_BROADCAST = 0x8000
MESSAGE_MIN = 300
"""BOOTP relays and servers in the field drop anything shorter (RFC 1542 section 2.1)."""
MESSAGE_MAX = 1472
"""What we announce to take (option 57 counts IP and UDP headers, this does not): an Ethernet frame, no fragments."""
DATAGRAM_MAX = 4096
"""Longer datagrams are refused unread."""


class MessageType(IntEnum):
    """Option 53."""

    DISCOVER = 1
    OFFER = 2
    REQUEST = 3
    DECLINE = 4
    ACK = 5
    NAK = 6
    RELEASE = 7
    INFORM = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerMessage:
    """A message from a server, structure checked, contents not yet trusted."""

    kind: MessageType
    xid: int
    mac: bytes
    """Six bytes: whom it is for."""
    address: IPv4Address
    """yiaddr; zero in a NAK."""
    server: IPv4Address | None
    """Option 54, None when missing or no host's address."""
    options: Mapping[int, bytes] = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientMessage:
    """A message we send."""

    kind: MessageType
    xid: int
    mac: bytes
    seconds: int
    """Since the exchange began; servers and relays prefer the patient."""
    requested: IPv4Address | None = None
    server: IPv4Address | None = None

    def encode(self) -> bytes:
        """The UDP payload, at least MESSAGE_MIN bytes.

        The broadcast flag is set: without an address yet, not every switch and hypervisor delivers unicast to us.
        """
        options: list[tuple[int, bytes]] = [
            (Option.MESSAGE_TYPE, bytes((self.kind,))),
            (Option.CLIENT_ID, client_id(self.mac)),
        ]
        if self.requested is not None:
            options.append((Option.REQUESTED_ADDRESS, self.requested.packed))
        if self.server is not None:
            options.append((Option.SERVER_ID, self.server.packed))
        options.append((Option.MAX_MESSAGE_SIZE, (MESSAGE_MAX + 28).to_bytes(2, "big")))
        options.append((Option.PARAMETER_LIST, bytes(_WANTED)))
        zero = bytes(4)
        fixed = _FIXED.pack(
            *(_BOOTREQUEST, _HTYPE_ETHERNET, 6, 0, self.xid, min(self.seconds, 0xFFFF), _BROADCAST),
            *(zero, zero, zero, zero, self.mac, b"", b"", _MAGIC),
        )
        return (fixed + join_options(options)).ljust(MESSAGE_MIN, b"\0")


# RFC 3442: the code for classless routes comes before the one for routers.
_WANTED = (
    Option.SUBNET_MASK,
    Option.CLASSLESS_ROUTES,
    Option.ROUTER,
    Option.DNS,
    Option.HOST_NAME,
    Option.DOMAIN_NAME,
    Option.ROOT_PATH,
    Option.INTERFACE_MTU,
    Option.LEASE_TIME,
    Option.SERVER_ID,
    Option.RENEWAL_TIME,
    Option.REBINDING_TIME,
)


def client_id(mac: bytes) -> bytes:
    """Option 61 in its hardware form: iPXE, UEFI and systemd-networkd (``ClientIdentifier=mac``) send the same, so
    firmware, initramfs and the booted system are one client and keep one address.
    """
    return bytes((_HTYPE_ETHERNET,)) + mac


def decode_server_message(data: bytes) -> ServerMessage:
    """A server's message out of a UDP payload. DhcpError for everything else."""
    if not _FIXED.size <= len(data) <= DATAGRAM_MAX:
        raise DhcpError(f"{len(data)} bytes are no DHCP message ({_FIXED.size} to {DATAGRAM_MAX})")
    op, htype, hlen, _hops, xid, _secs, _flags, _ci, yiaddr, _si, _gi, chaddr, sname, file, magic = _FIXED.unpack_from(
        data
    )
    if op != _BOOTREPLY:
        raise DhcpError(f"operation {op} is no reply")
    if (htype, hlen) != (_HTYPE_ETHERNET, 6):
        raise DhcpError(f"hardware type {htype} with {hlen} bytes is no Ethernet")
    if magic != _MAGIC:
        raise DhcpError("the magic cookie is missing")
    options: dict[int, bytes] = {}
    split_options(data[_FIXED.size :], options, "the options")
    overload = options.get(Option.OVERLOAD, b"\0")
    if overload not in (b"\0", b"\1", b"\2", b"\3"):
        raise DhcpError("option overload (52) is malformed")
    # RFC 2131 section 4.1: file before sname. A second OVERLOAD inside them has no meaning and is not followed.
    if overload[0] & 1:
        split_options(file, options, "the file field")
    if overload[0] & 2:
        split_options(sname, options, "the sname field")
    kind = options.get(Option.MESSAGE_TYPE, b"")
    if len(kind) != 1 or kind[0] not in (MessageType.OFFER, MessageType.ACK, MessageType.NAK):
        raise DhcpError("the message type is none a server sends to a client")
    return ServerMessage(
        kind=MessageType(kind[0]),
        xid=xid,
        mac=chaddr[:6],
        address=IPv4Address(yiaddr),
        server=OptionReader(options).address(Option.SERVER_ID),
        options=options,
    )


def lease_from(message: ServerMessage, *, now: float) -> DhcpLease:
    """What an OFFER or ACK grants. DhcpError when its address or server cannot be used; lesser faults are listed in
    :attr:`DhcpLease.ignored`.
    """
    reader = OptionReader(message.options)
    if message.server is None:
        raise DhcpError("it names no server (option 54)")
    if not is_host(message.address):
        raise DhcpError(f"it offers {message.address}, which no host can have")
    prefix = reader.prefix()
    interface = IPv4Interface((int(message.address), prefix or 32))
    network = interface.network
    if network.prefixlen < 31 and message.address in (network.network_address, network.broadcast_address):
        raise DhcpError(f"it offers {interface}, which is the subnet's own or broadcast address")
    seconds = reader.number(Option.LEASE_TIME, 4)
    if seconds == 0:
        raise DhcpError("it offers a lease of no time")
    routes = reader.routes()
    return DhcpLease(
        address=interface,
        server=message.server,
        client_id=client_id(message.mac),
        lease_seconds=None if seconds == LEASE_FOREVER else seconds,
        renewal_seconds=reader.number(Option.RENEWAL_TIME, 4),
        rebinding_seconds=reader.number(Option.REBINDING_TIME, 4),
        obtained=now,
        # RFC 3442: a client that got classless routes must ignore the router option.
        routers=() if routes else reader.addresses(Option.ROUTER),
        routes=routes,
        dns=reader.addresses(Option.DNS),
        domain=reader.name(Option.DOMAIN_NAME),
        hostname=reader.name(Option.HOST_NAME),
        mtu=reader.mtu(),
        root_path=reader.raw(Option.ROOT_PATH),
        ignored=tuple(reader.ignored),
    )
