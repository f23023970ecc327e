# SPDX-License-Identifier: LGPL-2.1-or-later
"""The invariants of discovery and of a whole connection, as functions: the property tests and the long runs hold them.

*answer*: any bytes, cut anywhere, give the targets and refusals they give in one piece; names and hosts that come out
passed their grammar, causes are printable, and no more than one pair is ever kept.

*connection*: any bytes at any phase, cut anywhere, give events or one error of the phase; after it nothing is taken or
sent; never more than one PDU is kept, and no message can move a terminal's cursor.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache

from iscsiboot.errors import IscsiBootError
from iscsiboot.initiator.config import SessionType
from iscsiboot.initiator.connection import CLOSED, ENDED, Connection, ConnectionPhase
from iscsiboot.initiator.discovery import (
    PAIR_MAX,
    PORTALS_MAX,
    REFUSALS_TOLD_MAX,
    RecordRefused,
    SendTargetsParser,
    TargetFound,
)
from iscsiboot.initiator.errors import LoginError, SessionError
from iscsiboot.initiator.pdu.login import LOGIN_DATA_MAX
from iscsiboot.initiator.session_events import Rejected, Remark
from iscsiboot.initiator.timers import Timers
from iscsiboot.model.discovered import DiscoveredTarget
from iscsiboot.model.names import check_target_name
from iscsiboot.model.params import Digest, SessionParams
from iscsiboot.model.portal import NamedPortal, Portal, parse_ip
from tests.doubles.conversation import OWN, USER, config, credentials, fixed_entropy
from tests.doubles.directory import Served, directory
from tests.doubles.faults import HOSTILE_RECORDS
from tests.doubles.session import FullTarget, Plan
from tests.doubles.target import Script
from tests.doubles.wire import Send

ACCEPTED, REFUSED = "accepted", "refused"
ASKED = (Portal(address=parse_ip("192.0.2.1")), Portal(address=parse_ip("fe80::9%eth0")), NamedPortal(host="asked"))
NAME = "iqn.2004-01.com.example:one"
SEGMENT = 4096
NOW = 1000.0
SESSIONS = ("discovery", "normal", "digests")
"""Kinds of connection the bytes may come on; each in full feature phase, and during login."""

Where = Portal | NamedPortal
Out = list[DiscoveredTarget | RecordRefused]


def pieces_of(data: bytes, rng: random.Random) -> list[bytes]:
    """``data`` cut at chance, sometimes byte by byte; at least one piece."""
    longest = rng.choice((1, 7, 60, 5000))
    pieces = []
    at = 0
    while at < len(data):
        length = rng.randint(1, longest)
        pieces.append(data[at : at + length])
        at += length
    return pieces or [b""]


# The answer to SendTargets.


def parse(pieces: Sequence[bytes], asked: Where, expected: str | None) -> tuple[Out, int, int]:
    """Everything an answer gives, and how many targets and refusals the parser counted."""
    parser = SendTargetsParser(asked, expected=expected)
    out: Out = []
    for number, piece in enumerate(pieces, 1):
        out += parser.feed(piece, number == len(pieces))
        assert parser.pending <= PAIR_MAX
    assert parser.pending == 0
    return out, parser.found, parser.refused


def check_item(item: DiscoveredTarget | RecordRefused, asked: Where, expected: str | None) -> None:
    """What may come out."""
    if isinstance(item, RecordRefused):
        assert item.cause.isprintable()
        assert len(item.cause) < 500
        return
    assert check_target_name(item.name) == item.name
    assert expected in (None, item.name)
    assert 1 <= len(item.portals) <= PORTALS_MAX
    assert len(set(item.portals)) == len(item.portals)
    for portal in item.portals:
        if portal != asked:
            host = portal.host if isinstance(portal, NamedPortal) else str(portal.address).removesuffix("%eth0")
            assert all(char.isascii() and (char.isalnum() or char in ".:-") for char in host)


def answer(data: bytes, rng: random.Random, asked: Where = ASKED[0], expected: str | None = None) -> str:
    """One answer; accepted when there is a target in it."""
    whole, found, refused = parse([data], asked, expected)
    assert found == sum(isinstance(item, DiscoveredTarget) for item in whole)
    assert len(whole) - found <= min(refused, REFUSALS_TOLD_MAX)
    for item in whole:
        check_item(item, asked, expected)
    assert parse(pieces_of(data, rng), asked, expected) == (whole, found, refused)
    return ACCEPTED if found else REFUSED


def answers() -> list[bytes]:
    """Answers to begin with."""
    return [
        b"",
        Served(NAME).record(),
        Served(NAME, ["192.0.2.7:3260,1"]).record(),
        b"".join(Served(f"{NAME}{number}", ["10.0.0.1:3260,1", "[2001:db8::1]:860,2"]).record() for number in range(9)),
        Served("eui.02004567a425678d", ["storage.example.com", "[fe80::1],7"]).record() + b"X-other=1\0\0\0",
        *(Served(NAME).record() + record for record in HOSTILE_RECORDS.values()),
    ]


# A connection.


def connect(session: str) -> tuple[Connection, FullTarget]:
    """A connection that has begun its login, and the target for it."""
    digest = Digest.CRC32C if session == "digests" else Digest.NONE
    params = SessionParams(max_recv_data_segment_length=SEGMENT, header_digest=digest, data_digest=digest)
    kind: dict[str, object] = {"session_type": SessionType.DISCOVERY, "target_name": ""}
    chosen = kind if session == "discovery" else {}
    creds = credentials(mutual=True) if session == "normal" else None
    made = Connection(
        config(params=params, credentials=creds, **chosen), entropy=fixed_entropy, timers=Timers(ping_interval=0)
    )
    made.start()
    script = Script(user=USER, own=OWN) if session == "normal" else Script()
    served = directory([Served(NAME, ["10.0.0.1:3260,1"]), Served(f"{NAME}2")])
    return made, FullTarget(Plan(login=script, records=served, text_segment=40))


def said(target: FullTarget, made: Connection) -> bytes:
    """What the target answers to what the connection has to say."""
    return b"".join(action.data for action in target.receive(made.data_to_send()) if isinstance(action, Send))


def in_session(session: str) -> tuple[Connection, FullTarget]:
    """The same in full feature phase, with a discovery (normal sessions: of their own target) and a text asked for."""
    made, target = connect(session)
    while made.phase is ConnectionPhase.LOGIN:
        made.receive(said(target, made), NOW)
    while made.next_event() is not None:
        pass
    made.discover(NOW, "All" if session == "discovery" else "")
    made.send_text((("X-key", "1"),), NOW)
    return made, target


@cache
def connections() -> tuple[bytes, ...]:
    """What honest targets say, behind the byte that says on which connection and when."""
    found = []
    for number, session in enumerate(SESSIONS):
        made, target = connect(session)
        login = b""
        while made.phase is ConnectionPhase.LOGIN:
            part = said(target, made)
            login += part
            made.receive(part, NOW)
        made, target = in_session(session)
        rest = b""
        while part := said(target, made):
            rest += part
            made.receive(part, NOW)
        found += [bytes([number]) + login, bytes([number | 128]) + rest]
    return tuple(found)


def connection(data: bytes, rng: random.Random) -> str:
    """Bytes on one connection; the first one says which, and whether they come during login or after it."""
    kind = data[0] if data else 0
    made, _ = (in_session if kind & 128 else connect)(SESSIONS[(kind & 127) % len(SESSIONS)])
    made.data_to_send()
    told = 0
    for piece in pieces_of(data[1:], rng):
        try:
            made.receive(piece, NOW)
        except IscsiBootError as error:
            _check_failure(made, error)
            return REFUSED
        told += _take_events(made)
        made.data_to_send()
        assert made._decoder.pending <= max(SEGMENT, LOGIN_DATA_MAX) + 4096, "more than a PDU is kept"
    due = made.phase in ENDED or made.phase is ConnectionPhase.LOGGING_OUT
    try:
        made.connection_lost(CLOSED, NOW)
        assert due, "the connection ended, and nobody minds"
    except IscsiBootError as error:
        _check_failure(made, error)
    return ACCEPTED if told else REFUSED


def _check_failure(made: Connection, error: IscsiBootError) -> None:
    assert isinstance(error, LoginError | SessionError)
    line = error.line()
    assert line.isprintable()
    assert len(line) < 1200
    assert USER[1].decode() not in line
    assert OWN[1].decode() not in line
    assert made.phase is ConnectionPhase.FAILED
    assert made.data_to_send() == b""
    assert made.next_deadline() is None
    _take_events(made)
    assert made.next_event() is None


def _take_events(made: Connection) -> int:
    count = 0
    while (event := made.next_event()) is not None:
        count += 1
        match event:
            case TargetFound():
                check_item(event.target, made.config.portal or ASKED[0], None)
            case RecordRefused():
                check_item(event, ASKED[0], None)
            case Remark():
                assert event.text.isprintable()
            case Rejected():
                assert len(event.header) == 48
    return count
