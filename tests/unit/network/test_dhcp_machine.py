# SPDX-License-Identifier: LGPL-2.1-or-later
"""The DHCP client against scripted servers, in memory, on a clock of its own."""

from __future__ import annotations

import itertools
from ipaddress import IPv4Address

import pytest

from iscsiboot.network.dhcp_machine import (
    EVENTS_MAX,
    TRANSITIONS,
    TRIES_MAX,
    Bound,
    DhcpMachine,
    Input,
    Refused,
    State,
    Unanswered,
)
from iscsiboot.network.dhcp_message import MessageType
from iscsiboot.network.dhcp_options import Option, split_options
from tests.unit.network.support import MAC_BYTES, server_message

OFFER, ACK, NAK = MessageType.OFFER, MessageType.ACK, MessageType.NAK
KNOWN = IPv4Address("10.0.0.77")


def machine(known: IPv4Address | None = None) -> DhcpMachine:
    """A started client; jitter is about zero (0x8080 of 0xffff), transaction id 0x80808080."""
    made = DhcpMachine(MAC_BYTES, known=known, entropy=lambda count: b"\x80" * count)
    made.start(0.0)
    return made


def xid_of(datagram: bytes) -> int:
    return int.from_bytes(datagram[4:8], "big")


def options_of(datagram: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    split_options(datagram[240:], found, "the test")
    return found


def in_state(state: State) -> DhcpMachine:
    """A client that came to ``state`` by the wire."""
    if state is State.INIT:
        made = in_state(State.REQUESTING)
        made.receive(server_message(NAK, 0x80808080, yiaddr="0.0.0.0"), 1.0)
    elif state is State.REBOOTING:
        made = machine(KNOWN)
    else:
        made = machine()
        if state is not State.SELECTING:
            made.receive(server_message(OFFER, 0x80808080), 1.0)
        if state is State.BOUND:
            made.receive(server_message(ACK, 0x80808080), 1.0)
    assert made.state is state
    made.take_datagrams()
    made.take_events()
    return made


def test_four_messages() -> None:
    client = machine()
    (discover,) = client.take_datagrams()
    assert options_of(discover)[Option.MESSAGE_TYPE] == b"\1"
    client.receive(server_message(OFFER, xid_of(discover)), 0.1)
    (ask,) = client.take_datagrams()
    sent = options_of(ask)
    assert sent[Option.MESSAGE_TYPE] == b"\3"
    assert sent[Option.REQUESTED_ADDRESS] == IPv4Address("10.0.0.5").packed
    assert sent[Option.SERVER_ID] == IPv4Address("10.0.0.1").packed
    assert xid_of(ask) == xid_of(discover)
    client.receive(server_message(ACK, xid_of(ask), options={Option.DNS: bytes((10, 0, 0, 53))}), 0.2)
    (bound,) = client.take_events()
    assert isinstance(bound, Bound)
    assert (str(bound.lease.address), bound.lease.dns) == ("10.0.0.5/24", (IPv4Address("10.0.0.53"),))
    assert (client.state, client.next_deadline, client.take_datagrams()) == (State.BOUND, None, [])


def test_known_address_takes_two_messages() -> None:
    client = machine(KNOWN)
    (ask,) = client.take_datagrams()
    sent = options_of(ask)
    assert (sent[Option.MESSAGE_TYPE], sent[Option.REQUESTED_ADDRESS]) == (b"\3", KNOWN.packed)
    assert Option.SERVER_ID not in sent, "RFC 2131 section 4.3.2: INIT-REBOOT names no server"
    client.receive(server_message(ACK, xid_of(ask), yiaddr=str(KNOWN)), 0.1)
    assert isinstance(client.take_events()[0], Bound)


def test_known_address_refused_leads_to_discover_at_once() -> None:
    client = machine(KNOWN)
    (ask,) = client.take_datagrams()
    client.receive(server_message(NAK, xid_of(ask), yiaddr="0.0.0.0", options={Option.MESSAGE: b"wrong\nnet"}), 0.1)
    (discover,) = client.take_datagrams()
    assert options_of(discover)[Option.MESSAGE_TYPE] == b"\1"
    (event,) = client.take_events()
    assert isinstance(event, Refused)
    assert "10.0.0.1 refused the address" in event.text
    assert "\n" not in event.text


def test_known_address_unanswered() -> None:
    client = machine(KNOWN)
    sent = len(client.take_datagrams())
    while client.state is State.REBOOTING:
        assert client.next_deadline is not None
        client.timeout(client.next_deadline)
        sent += len(client.take_datagrams())
    assert client.take_events() == [Unanswered(KNOWN)]
    assert (client.state, sent) == (State.SELECTING, TRIES_MAX + 1)


def test_discover_is_repeated_with_back_off_for_ever() -> None:
    client = machine()
    times = [0.0]
    for _ in range(8):
        assert client.next_deadline is not None
        times.append(client.next_deadline)
        client.timeout(client.next_deadline)
    gaps = [round(after - before) for before, after in itertools.pairwise(times)]
    assert gaps == [2, 4, 8, 8, 8, 8, 8, 8]
    seconds = [int.from_bytes(datagram[8:10], "big") for datagram in client.take_datagrams()]
    assert seconds == [int(time) for time in times[:9]], "relays may wait for patience"


@pytest.mark.parametrize(("noise", "delay"), [(b"\0\0", 1.0), (b"\xff\xff", 3.0)], ids=["least", "most"])
def test_jitter_stays_within_a_second(noise: bytes, delay: float) -> None:
    client = DhcpMachine(MAC_BYTES, known=None, entropy=lambda count: noise * (count // 2))
    client.start(50.0)
    assert client.next_deadline == 50.0 + delay


def test_nothing_happens_before_the_deadline() -> None:
    client = machine()
    client.take_datagrams()
    client.timeout(0.5)
    assert client.take_datagrams() == []


def test_second_offer_is_ignored_and_the_first_server_decides() -> None:
    client = in_state(State.SELECTING)
    client.receive(server_message(OFFER, 0x80808080, yiaddr="10.0.0.5", server="10.0.0.1"), 0.1)
    client.receive(server_message(OFFER, 0x80808080, yiaddr="10.0.0.6", server="10.0.0.2"), 0.1)
    (ask,) = client.take_datagrams()
    assert options_of(ask)[Option.SERVER_ID] == IPv4Address("10.0.0.1").packed
    client.receive(server_message(ACK, 0x80808080, yiaddr="10.0.0.6", server="10.0.0.2"), 0.2)
    client.receive(server_message(NAK, 0x80808080, yiaddr="0.0.0.0", server="10.0.0.2"), 0.2)
    assert client.state is State.REQUESTING
    client.receive(server_message(ACK, 0x80808080), 0.3)
    (event,) = client.take_events()
    assert isinstance(event, Bound)
    assert event.lease.address.ip == IPv4Address("10.0.0.5")


def test_unanswered_request_goes_back_to_offers() -> None:
    client = in_state(State.REQUESTING)
    for _ in range(TRIES_MAX):
        assert client.next_deadline is not None
        client.timeout(client.next_deadline)
    kinds = [options_of(datagram)[Option.MESSAGE_TYPE] for datagram in client.take_datagrams()]
    assert kinds == [b"\3"] * (TRIES_MAX - 1) + [b"\1"]


def test_a_server_that_refuses_every_request_is_asked_ever_less_often() -> None:
    client = machine()
    now, pauses = 0.0, []
    for _ in range(4):
        client.receive(server_message(OFFER, 0x80808080), now)
        client.receive(server_message(NAK, 0x80808080, yiaddr="0.0.0.0"), now)
        assert client.state is State.INIT
        assert client.next_deadline is not None
        pauses.append(round(client.next_deadline - now))
        now = client.next_deadline
        client.timeout(now)
    assert pauses == [2, 4, 8, 8]


@pytest.mark.parametrize(
    ("state", "message", "words"),
    [
        (State.SELECTING, server_message(OFFER, 0x80808080, server=None), "names no server"),
        (State.SELECTING, server_message(OFFER, 0x80808080, server="224.0.0.1"), "names no server"),
        (State.SELECTING, server_message(OFFER, 0x80808080, yiaddr="0.0.0.0"), "offers 0.0.0.0"),
        (State.SELECTING, server_message(OFFER, 0x80808080, yiaddr="239.1.1.1"), "offers 239.1.1.1"),
        (State.SELECTING, server_message(OFFER, 0x80808080, yiaddr="127.0.0.1"), "offers 127.0.0.1"),
        (State.SELECTING, server_message(OFFER, 0x80808080, yiaddr="255.255.255.255"), "no host can have"),
        (State.SELECTING, server_message(OFFER, 0x80808080, yiaddr="10.0.0.255"), "broadcast address"),
        (State.SELECTING, server_message(OFFER, 0x80808080, yiaddr="10.0.0.0"), "subnet's own"),
        (State.SELECTING, server_message(OFFER, 0x80808080, options={51: bytes(4)}), "lease of no time"),
        (State.REQUESTING, server_message(ACK, 0x80808080, yiaddr="10.0.0.6"), "acknowledged 10.0.0.6"),
        (State.REBOOTING, server_message(ACK, 0x80808080, yiaddr="10.0.0.6"), "where 10.0.0.77 was asked for"),
        (State.SELECTING, b"", "0 bytes are no DHCP message"),
        (State.SELECTING, bytes(5000), "5000 bytes"),
        (State.SELECTING, server_message(OFFER, 0x80808080)[:-1] + b"\x06\xff", "says 255 bytes"),
    ],
    ids=["no-server", "multicast-server", "zero", "multicast", "loopback", "all-ones", "broadcast", "network",
         "no-time", "other-address", "other-than-known", "empty", "huge", "truncated"],
)  # fmt: skip
def test_lies_are_refused_with_their_reason(state: State, message: bytes, words: str) -> None:
    client = in_state(state)
    client.receive(message, 1.0)
    (event,) = client.take_events()
    assert isinstance(event, Refused)
    assert words in event.text
    assert client.state is state
    assert client.take_datagrams() == []


@pytest.mark.parametrize(
    "message",
    [
        server_message(OFFER, 0x12345678),
        server_message(OFFER, 0x80808080, mac=b"\2\0\0\0\0\1"),
        server_message(ACK, 0x80808080),
    ],
    ids=["other-transaction", "other-mac", "out-of-turn"],
)
def test_messages_for_others_or_out_of_turn_are_silently_dropped(message: bytes) -> None:
    client = in_state(State.SELECTING)
    client.receive(message, 1.0)
    assert (client.take_events(), client.take_datagrams(), client.state) == ([], [], State.SELECTING)


def test_a_flood_of_garbage_costs_no_memory_and_hides_no_lease() -> None:
    client = in_state(State.REQUESTING)
    for _ in range(1000):
        client.receive(b"garbage", 1.0)
    client.receive(server_message(ACK, 0x80808080), 1.0)
    events = client.take_events()
    assert len(events) == EVENTS_MAX + 1
    assert isinstance(events[-1], Bound)


_INPUTS = {Input.OFFER: OFFER, Input.ACK: ACK, Input.NAK: NAK}


@pytest.mark.parametrize(("state", "happened"), itertools.product(State, Input), ids=lambda part: part.name)
def test_every_cell_of_the_table(state: State, happened: Input) -> None:
    """What is in the table happens; what is not changes nothing."""
    expected = TRANSITIONS.get((state, happened))
    if state is State.INIT and happened in (Input.START, Input.START_KNOWN):
        known = KNOWN if happened is Input.START_KNOWN else None
        assert expected is not None
        assert machine(known).state is expected[0]
        return
    client = in_state(state)
    if happened in (Input.START, Input.START_KNOWN):
        with pytest.raises(ValueError, match="started already"):
            client.start(2.0)
    elif happened in (Input.TIMER, Input.EXHAUSTED):
        if happened is Input.EXHAUSTED and state in (State.REBOOTING, State.REQUESTING):
            assert client.next_deadline is not None
            client.timeout(client.next_deadline)
        client.timeout(1000.0)
        # States without a limit of tries know the timer only.
        expected = expected or TRANSITIONS.get((state, Input.TIMER))
    else:
        yiaddr = str(KNOWN) if state is State.REBOOTING else "10.0.0.5"
        client.receive(server_message(_INPUTS[happened], 0x80808080, yiaddr=yiaddr), 2.0)
    assert client.state is (expected[0] if expected else state)


def test_a_mac_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="six bytes"):
        DhcpMachine(bytes(20), known=None, entropy=bytes)
