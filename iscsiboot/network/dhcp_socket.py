# SPDX-License-Identifier: LGPL-2.1-or-later
"""DHCP datagrams over a packet socket: the device has no address yet, so the kernel's UDP cannot be used.

Framing is pure (:func:`build_datagram`, :func:`parse_datagram`; RFC 791, RFC 768); :class:`DhcpSocket` is the rest.
"""

from __future__ import annotations

import array
import socket
import struct

CLIENT_PORT, SERVER_PORT = 68, 67
_ETH_P_IP = 0x0800
_IP = struct.Struct("!BBHHHBBH4s4s")
_UDP = struct.Struct("!HHHH")
_MORE_FRAGMENTS_OR_OFFSET = 0x3FFF
_FRAME_MAX = 4096

# Not in Python's socket module: include/uapi/linux/if_packet.h, asm-generic/socket.h.
_SOL_PACKET = 263
_PACKET_AUXDATA = 8
_SO_ATTACH_FILTER = 26
_TP_STATUS_CSUMNOTREADY = 1 << 3
_TP_STATUS_VLAN_VALID = 1 << 4
_AUXDATA = struct.Struct("=IIIHHHH")
_PACKET_OTHERHOST, _PACKET_OUTGOING = 3, 4

_FILTER = (
    (0x30, 0, 0, 9),  # ldb  [9]               IP protocol
    (0x15, 0, 6, 17),  # jeq  UDP               else drop
    (0x28, 0, 0, 6),  # ldh  [6]               flags and fragment offset
    (0x45, 4, 0, 0x1FFF),  # jset offset            drop
    (0xB1, 0, 0, 0),  # ldxb 4*([0]&0xf)       IP header length
    (0x48, 0, 0, 2),  # ldh  [x+2]             destination port
    (0x15, 0, 1, CLIENT_PORT),  # jeq  68                else drop
    (0x06, 0, 0, 0x40000),  # accept
    (0x06, 0, 0, 0),  # drop
)
"""Classic BPF over the IP header: a busy network does not wake us for frames that are not DHCP."""


def build_datagram(payload: bytes) -> bytes:
    """IPv4 and UDP headers around ``payload``: 0.0.0.0 port 68 to 255.255.255.255 port 67."""
    source, destination = bytes(4), b"\xff" * 4
    length = _UDP.size + len(payload)
    bare = _UDP.pack(CLIENT_PORT, SERVER_PORT, length, 0)
    pseudo = source + destination + struct.pack("!BBH", 0, socket.IPPROTO_UDP, length)
    # RFC 768: a sum of zero is sent as ones, zero means there is none.
    udp_sum = checksum(pseudo + bare + payload) or 0xFFFF
    udp = _UDP.pack(CLIENT_PORT, SERVER_PORT, length, udp_sum)
    fields = (0x45, 0x10, _IP.size + length, 0, 0, 64, socket.IPPROTO_UDP)
    ip_sum = checksum(_IP.pack(*fields, 0, source, destination))
    return _IP.pack(*fields, ip_sum, source, destination) + udp + payload


def parse_datagram(packet: bytes, *, check_udp: bool = True) -> bytes | None:
    """The payload of a UDP datagram to port 68; None for anything else or anything damaged.

    ``check_udp=False`` when the kernel says the sum was left to hardware that this packet never passed (two guests on
    one host).
    """
    if len(packet) < _IP.size or packet[0] >> 4 != 4:
        return None
    header = (packet[0] & 15) * 4
    _v, _tos, total, _id, fragment, _ttl, protocol, _sum, source, destination = _IP.unpack_from(packet)
    if not _IP.size <= header <= total - _UDP.size or total > len(packet) or checksum(packet[:header]):
        return None
    if protocol != socket.IPPROTO_UDP or fragment & _MORE_FRAGMENTS_OR_OFFSET:
        return None
    _source_port, port, length, udp_sum = _UDP.unpack_from(packet, header)
    if port != CLIENT_PORT or not _UDP.size <= length <= total - header:
        return None
    datagram = packet[header : header + length]
    if check_udp and udp_sum:
        pseudo = source + destination + struct.pack("!BBH", 0, protocol, length)
        if checksum(pseudo + datagram):
            return None
    return datagram[_UDP.size :]


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of ``data``; zero over data that holds its own right sum."""
    words = array.array("H", data if len(data) % 2 == 0 else data + b"\0")
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return socket.htons(~total & 0xFFFF)


class DhcpSocket:
    """A packet socket bound to one device. Closing is the owner's duty."""

    def __init__(self, index: int) -> None:
        """OSError when the device is gone, or the kernel has no packet sockets, or we may not (CAP_NET_RAW)."""
        self._index = index
        # Protocol 0 receives nothing: the filter is in place before the first frame can be.
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 0)
        try:
            self._socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
            program = array.array("B", b"".join(struct.pack("=HBBI", *line) for line in _FILTER))
            self._socket.setsockopt(
                socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(_FILTER), program.buffer_info()[0])
            )
            self._socket.bind((socket.if_indextoname(index), _ETH_P_IP))
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """For ``select``."""
        return self._socket.fileno()

    def send(self, payload: bytes) -> None:
        """Broadcast one message. OSError when the device is down or gone."""
        # By name, because Python's packet addresses are; asked anew each time, because udev renames.
        name = socket.if_indextoname(self._index)
        self._socket.sendto(build_datagram(payload), (name, _ETH_P_IP, 0, 0, b"\xff" * 6))

    def receive(self) -> bytes | None:
        """The next frame's DHCP payload; None when it holds none, or when nothing waits. OSError when the device died.

        Frames for other hosts and frames with a VLAN tag (which belong to a VLAN device) are passed over.
        """
        try:
            packet, ancillary, _flags, origin = self._socket.recvmsg(_FRAME_MAX, socket.CMSG_SPACE(_AUXDATA.size))
        except BlockingIOError:
            return None
        if origin[2] in (_PACKET_OTHERHOST, _PACKET_OUTGOING):
            return None
        check_udp = True
        for level, kind, data in ancillary:
            if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA) and len(data) >= _AUXDATA.size:
                status, *_rest, tci, _tpid = _AUXDATA.unpack_from(data)
                check_udp = not status & _TP_STATUS_CSUMNOTREADY
                if status & _TP_STATUS_VLAN_VALID and tci & 0xFFF:
                    return None
        return parse_datagram(packet, check_udp=check_udp)

    def close(self) -> None:
        """Close the socket; again is harmless."""
        self._socket.close()
