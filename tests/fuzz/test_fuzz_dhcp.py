# SPDX-License-Identifier: LGPL-2.1-or-later
"""Invariant: whatever a server sends, the client neither raises nor takes an address no host can have, and what it
prints of it is printable.
"""

from __future__ import annotations

from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.network.dhcp_machine import Bound, DhcpMachine, Refused, State
from iscsiboot.network.dhcp_message import MessageType, decode_server_message, lease_from
from iscsiboot.network.dhcp_options import DhcpError, Option, join_options, split_options
from iscsiboot.network.dhcp_socket import build_datagram, parse_datagram
from iscsiboot.network.lease import DhcpLease
from tests.unit.network.support import MAC_BYTES, server_message

XID = 0x80808080
CODES = st.one_of(st.sampled_from([code.value for code in Option if 0 < code < 255]), st.integers(1, 254))
OPTIONS = st.dictionaries(CODES, st.binary(max_size=300), max_size=12)
MESSAGES = st.builds(
    server_message,
    st.sampled_from([MessageType.OFFER, MessageType.ACK, MessageType.NAK]),
    st.just(XID),
    yiaddr=st.one_of(st.just("10.0.0.5"), st.ip_addresses(v=4).map(str)),
    options=OPTIONS,
    sname=st.binary(max_size=64),
    file=st.binary(max_size=128),
)


def check_lease(lease: DhcpLease) -> None:
    address = lease.address.ip
    assert not address.is_multicast
    assert not address.is_loopback
    assert not address.is_unspecified
    assert len(lease.dns) <= 16
    assert all(text.isprintable() for text in (*lease.ignored, lease.hostname or "", lease.domain or ""))
    assert DhcpLease.from_json(lease.to_json()).address == lease.address


@given(st.binary(max_size=600))
def test_random_bytes_are_an_error_or_a_message(data: bytes) -> None:
    for payload in (data, server_message(MessageType.ACK, 1)[:240] + data):
        said = ""
        try:
            check_lease(lease_from(decode_server_message(payload), now=0.0))
        except DhcpError as error:
            said = str(error)
        assert said.isprintable()


@given(st.lists(st.one_of(MESSAGES, st.binary(max_size=400)), max_size=12), st.booleans())
def test_any_conversation(messages: list[bytes], known: bool) -> None:
    client = DhcpMachine(
        MAC_BYTES, known=IPv4Address("10.0.0.5") if known else None, entropy=lambda count: b"\x80" * count
    )
    client.start(0.0)
    now = 0.0
    for message in messages:
        now += 0.5
        client.receive(message, now)
        client.timeout(now)
        for event in client.take_events():
            if isinstance(event, Bound):
                check_lease(event.lease)
            elif isinstance(event, Refused):
                assert event.text.isprintable()
        assert all(300 <= len(datagram) <= 576 for datagram in client.take_datagrams())
        assert (client.next_deadline is None) == (client.state is State.BOUND)


@given(OPTIONS)
def test_options_round_trip(options: dict[int, bytes]) -> None:
    found: dict[int, bytes] = {}
    split_options(join_options(options.items()), found, "the test")
    assert found == options


@given(st.binary(max_size=200), st.integers(0, 300), st.integers(0, 255))
def test_damaged_datagrams_are_passed_over_or_whole(payload: bytes, position: int, value: int) -> None:
    packet = bytearray(build_datagram(payload))
    packet[20:24] = bytes((0, 67, 0, 68))  # ports exchanged: the sum stays right
    assert parse_datagram(bytes(packet)) == payload
    position %= len(packet)
    packet[position] = value
    assert parse_datagram(bytes(packet)) in (payload, None) or packet[26:28] == b"\0\0"


@given(st.binary(max_size=100))
def test_random_packets_never_raise(data: bytes) -> None:
    parse_datagram(data)
    parse_datagram(b"\x45" + data, check_udp=False)
