# SPDX-License-Identifier: LGPL-2.1-or-later
"""IP and UDP framing of DHCP, against known bytes and damaged ones."""

from __future__ import annotations

import socket
import struct

import pytest

from iscsiboot.network.dhcp_socket import DhcpSocket, build_datagram, checksum, parse_datagram


def reply(payload: bytes, *, port: int = 68, fragment: int = 0, protocol: int = 17, udp_sum: bool = True) -> bytes:
    """A server's datagram 10.0.0.1:67 to 255.255.255.255, made with other code than the product's."""
    source, destination = socket.inet_aton("10.0.0.1"), b"\xff" * 4
    length = 8 + len(payload)
    pseudo = source + destination + struct.pack("!HH", 17, length)
    head = struct.pack("!HHH", 67, port, length)
    total = slow_sum(pseudo + head + b"\0\0" + payload) if udp_sum else 0
    udp = head + total.to_bytes(2, "big") + payload
    fixed = struct.pack("!BBHHHBB", 0x45, 0, 20 + length, 1, fragment, 64, protocol)
    return fixed + slow_sum(fixed + b"\0\0" + source + destination).to_bytes(2, "big") + source + destination + udp


def slow_sum(data: bytes) -> int:
    """RFC 1071, word by word."""
    total = 0
    for position in range(0, len(data), 2):
        total += int.from_bytes(data[position : position + 2].ljust(2, b"\0"), "big")
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def test_checksum_of_rfc_1071() -> None:
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D
    assert checksum(b"\x01") == slow_sum(b"\x01")


@pytest.mark.parametrize("payload", [b"", b"x", b"hello!", bytes(300)], ids=["empty", "odd", "even", "zeros"])
def test_built_datagram_is_a_valid_broadcast(payload: bytes) -> None:
    packet = build_datagram(payload)
    assert slow_sum(packet[:20]) == 0
    assert packet[12:20] == bytes(4) + b"\xff" * 4
    assert struct.unpack("!HHH", packet[20:26]) == (68, 67, 8 + len(payload))
    assert slow_sum(packet[12:20] + struct.pack("!HH", 17, 8 + len(payload)) + packet[20:]) == 0
    assert packet[28:] == payload


@pytest.mark.parametrize("tail", [b"", bytes(18)], ids=["exact", "padded-frame"])
@pytest.mark.parametrize("payload", [b"", b"x", b"data"])
def test_reply_is_taken(payload: bytes, tail: bytes) -> None:
    assert parse_datagram(reply(payload) + tail) == payload


def test_absent_or_unfinished_udp_sum() -> None:
    assert parse_datagram(reply(b"data", udp_sum=False)) == b"data"
    wrong = bytearray(reply(b"data"))
    wrong[26] ^= 1
    assert parse_datagram(bytes(wrong)) is None
    assert parse_datagram(bytes(wrong), check_udp=False) == b"data", "left to hardware the packet never passed"


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        reply(b"data")[:27],
        reply(b"data")[:-1],
        reply(b"data", port=69),
        reply(b"data", protocol=6),
        reply(b"data", fragment=0x2000),
        reply(b"data", fragment=5),
        b"\x60" + reply(b"data")[1:],
        b"\x44" + reply(b"data")[1:],
        b"\x4f" + reply(b"data")[1:],
        reply(b"data")[:8] + b"\1" + reply(b"data")[9:],
        reply(b"data")[:24] + b"\xff\xff" + reply(b"data")[26:],
        reply(b"data")[:24] + b"\0\7" + reply(b"data")[26:],
    ],
    ids=["empty", "headers-cut", "data-cut", "port", "tcp", "more-fragments", "later-fragment", "ipv6", "ihl-4",
         "ihl-15", "ip-sum", "udp-longer-than-ip", "udp-shorter-than-header"],
)  # fmt: skip
def test_anything_else_is_passed_over(packet: bytes) -> None:
    assert parse_datagram(packet) is None


@pytest.mark.root
def test_a_device_that_is_gone_is_an_error() -> None:
    with pytest.raises(OSError, match="No such device"):
        DhcpSocket(1 << 20)


@pytest.mark.root
def test_nothing_waits_on_loopback() -> None:
    client = DhcpSocket(socket.if_nametoindex("lo"))
    try:
        assert client.receive() is None
    finally:
        client.close()
        client.close()
