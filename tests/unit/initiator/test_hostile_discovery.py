# SPDX-License-Identifier: LGPL-2.1-or-later
"""A portal that lies about targets: no bad name or address comes through, and what is good still does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from iscsiboot.errors import ExitCode, Stage
from iscsiboot.initiator import discovery
from iscsiboot.initiator.config import SessionType
from iscsiboot.initiator.connection import Connection, ConnectionPhase
from iscsiboot.initiator.discovery import DiscoveryFinished, RecordRefused, TargetFound
from iscsiboot.initiator.errors import SessionError
from iscsiboot.initiator.pdu.control import TextResponse
from iscsiboot.initiator.pdu.header import RESERVED_TAG, Opcode
from iscsiboot.initiator.session_events import Rejected
from iscsiboot.model.names import check_target_name
from iscsiboot.model.params import SessionParams
from tests.doubles.directory import Served, always, directory, endless, record
from tests.doubles.faults import (
    EVERY,
    HOSTILE_RECORDS,
    Change,
    announcing,
    closed_after,
    closed_before,
    closed_inside,
    dropped,
    event,
    fields,
    holding,
    late,
    lost,
    on,
    ping,
    plus,
    preceded_by,
    rejecting,
    stray_data_in,
    stray_r2t,
    stray_response,
    twice,
    without_data,
)
from tests.doubles.link import Link, logged_in
from tests.doubles.session import Plan

FIRST = Served("iqn.2004-01.com.example:first", ["192.0.2.5:3260,1"])
LAST = Served("iqn.2004-01.com.example:last", ["[2001:db8::5]:860,2"])

pieces = pytest.mark.parametrize("piece", [0, 1], ids=["whole", "bytes"])


def begin(plan: Plan, piece: int = 0, *, takes: int = 8192) -> Link[Connection]:
    return logged_in(
        plan,
        piece=piece,
        session_type=SessionType.DISCOVERY,
        target_name="",
        params=SessionParams(max_recv_data_segment_length=takes),
    )


def discover(ours: Link[Connection]) -> DiscoveryFinished:
    ours.machine.discover(ours.now)
    return ours.until(DiscoveryFinished)


def names(ours: Link[Connection]) -> list[str]:
    return [item.target.name for item in ours.events if isinstance(item, TargetFound)]


def refusals(ours: Link[Connection]) -> list[str]:
    return [item.cause for item in ours.events if isinstance(item, RecordRefused)]


def fails(act: Callable[[], object]) -> SessionError:
    with pytest.raises(SessionError) as caught:
        act()
    error = caught.value
    assert error.stage is Stage.DISCOVERY
    assert error.subject == "192.0.2.1:3260"
    assert error.line().isprintable()
    assert len(error.line()) < 500
    return error


WITH_NAME = frozenset(
    {"port 0", "port 65536", "group 65536", "no address", "zone of ours", "address is a path", "address not UTF-8"}
)
"""Records whose name is good: it is the address that nobody may be sent to."""
SAYS = {
    "path": "is no target's name",
    "300 bytes": "is no target's name",
    "not UTF-8": "is not UTF-8",
    "address not UTF-8": "is not UTF-8",
    "port 0": "above 65535, or port 0",
    "port 65536": "above 65535, or port 0",
    "group 65536": "above 65535, or port 0",
    "no address": "holds no address",
    "zone of ours": "names no host",
    "address is a path": "names no host",
    "address without a target": "before any TargetName",
    "no equals sign": "has no equals sign",
}


@pieces
@pytest.mark.parametrize("segment", [7, 64, 8192])
@pytest.mark.parametrize("kind", HOSTILE_RECORDS)
def test_no_hostile_record_comes_through(kind: str, segment: int, piece: int) -> None:
    """Between two good ones, which are found."""
    hostile = HOSTILE_RECORDS[kind]
    # An address without a name would be the first target's, were it behind it.
    pieces_ = (
        (hostile, FIRST.record(), LAST.record())
        if kind == "address without a target"
        else (FIRST.record(), hostile, LAST.record())
    )
    ours = begin(Plan(records=always(*pieces_), text_segment=segment), piece)
    finished = discover(ours)
    assert names(ours) == [FIRST.name, LAST.name]
    assert finished.found == 2
    assert [
        [str(portal) for portal in item.target.portals] for item in ours.events if isinstance(item, TargetFound)
    ] == [
        ["192.0.2.5:3260,1"],
        ["[2001:db8::5]:860,2"],
    ]
    told = refusals(ours)
    if kind == "another key":
        # A key without a meaning here is no reason to complain.
        assert told == []
        return
    assert finished.refused == len(told) > 0
    assert SAYS.get(kind, "is no target's name") in told[0]
    assert all(text.isprintable() and len(text) < 600 for text in told)
    assert ("none of its addresses can be used" in told[-1]) is (kind in WITH_NAME)
    assert ours.target.violations == []


@pytest.mark.parametrize("kind", HOSTILE_RECORDS)
def test_a_hostile_record_alone(kind: str) -> None:
    ours = begin(Plan(records=always(HOSTILE_RECORDS[kind])))
    assert discover(ours).found == 0
    assert names(ours) == []


def test_names_of_every_byte() -> None:
    """Whatever byte stands in a name: either the grammar takes it, or the name is refused."""
    records = [record(b"iqn.2004-01.com.example:a" + bytes([byte]) + b"z") for byte in range(1, 256)]
    ours = begin(Plan(records=always(*records)))
    finished = discover(ours)
    assert finished.found + finished.refused == 255
    for name in names(ours):
        assert check_target_name(name) == name
    assert all(len(name) == len(FIRST.name.replace("first", "abz")) for name in names(ours))
    assert {name[-2] for name in names(ours)} >= set("abz019.-:")
    assert not {name[-2] for name in names(ours)} & set("/\\ \x1b\n\0\x7f'\"$`|;&<>*?")


@pieces
def test_absurd_lists(piece: int) -> None:
    """Ten thousand portals of one target, and one pair that never ends."""
    many = record(
        FIRST.name.encode(), *(f"192.0.{number >> 8}.{number & 255}:3260,1".encode() for number in range(10_000))
    )
    long = b"TargetAddress=" + b"1" * 70_000 + b"\0"
    ours = begin(Plan(records=always(many, long, LAST.record())), 0 if piece == 0 else 4096)
    finished = discover(ours)
    assert names(ours) == [FIRST.name, LAST.name]
    target = next(item.target for item in ours.events if isinstance(item, TargetFound))
    assert len(target.portals) == 256
    assert finished.refused == 10_000 - 256 + 1
    assert len(refusals(ours)) <= 64


def test_an_answer_without_end_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 1 << 21
    assert limit < discovery.ANSWER_MAX == 64 << 20
    monkeypatch.setattr(discovery, "ANSWER_MAX", limit)
    ours = begin(Plan(records=endless(b"X" * 65536)), takes=1 << 18)
    error = fails(lambda: discover(ours))
    assert f"not over after {limit} bytes" in error.cause
    assert ours.sent < limit + (1 << 19)


@pieces
def test_refusals_are_counted_and_not_all_told(piece: int) -> None:
    bad = record(b"../" * 10)
    ours = begin(Plan(records=always(*[bad] * 500, LAST.record())), piece)
    finished = discover(ours)
    assert (finished.found, finished.refused) == (1, 500)
    assert len(refusals(ours)) == 64


def test_the_refusal_of_the_question() -> None:
    ours = begin(Plan(records=always(b"SendTargets=Reject\0")))
    assert discover(ours).found == 0
    assert "does not serve this kind of discovery" in refusals(ours)[0]


@pieces
def test_a_rejected_question(piece: int) -> None:
    ours = begin(Plan(deaf_to=frozenset({Opcode.TEXT_REQUEST})), piece)
    tag = ours.machine.discover(ours.now)
    ours.pump()
    ours.push(rejecting(5, ours.target.received[-1].encode()))
    assert ours.until(Rejected).tag == tag
    assert not any(isinstance(item, DiscoveryFinished) for item in ours.events)


@pieces
def test_another_target_than_the_one_asked_for(piece: int) -> None:
    ours = begin(Plan(records=always(FIRST.record(), LAST.record())), piece)
    ours.machine.discover(ours.now, LAST.name)
    assert ours.until(DiscoveryFinished).found == 1
    assert names(ours) == [LAST.name]
    assert "asked for was" in refusals(ours)[0]


MANY = Plan(
    records=directory([Served(f"iqn.2004-01.com.example:d{number}", ["192.0.2.5:3260,1"]) for number in range(20)]),
    text_segment=100,
)
BROKEN: list[tuple[str, tuple[Change, ...], int, str, ExitCode, bool]] = [
    ("closed before", (closed_before,), 0, "closed the connection", ExitCode.TRANS, True),
    ("closed inside", (closed_inside(60),), 0, "closed the connection", ExitCode.TRANS, True),
    ("closed later", (closed_after,), 5, "closed the connection", ExitCode.TRANS, True),
    ("silence", (dropped,), 0, "did not answer a Text Request within 30 s", ExitCode.PDU_TIMEOUT, True),
    ("silence later", (lost,), 5, "did not answer a Text Request within 30 s", ExitCode.PDU_TIMEOUT, True),
    ("late", (late(31),), 5, "did not answer a Text Request within 30 s", ExitCode.PDU_TIMEOUT, True),
    ("StatSN", (fields(statsn=plus(1)),), 3, "StatSN", ExitCode.TRANS, True),
    ("duplicate", (twice,), 3, "that one was answered before", ExitCode.TRANS, True),
    ("F and C", (fields(final=True),), 3, "F and C bit", ExitCode.TRANS, False),
    ("no tag", (fields(ttt=RESERVED_TAG),), 3, "gives no transfer tag", ExitCode.TRANS, False),
    ("another task", (fields(itt=99),), 3, "a task that does not exist", ExitCode.TRANS, False),
    ("oversized", (announcing(8193),), 3, "announces 8193 bytes of data", ExitCode.TRANS, False),
    (
        "empty for ever",
        (fields(final=False, ttt=5), without_data),
        EVERY,
        "announced more text 17 times",
        ExitCode.TRANS,
        False,
    ),
    ("data", (preceded_by(stray_data_in()),), 3, "a task that does not exist", ExitCode.TRANS, False),
    ("R2T for the question", (preceded_by(stray_r2t(itt=1)),), 3, "it came for a Text Request", ExitCode.TRANS, False),
    (
        "status for the question",
        (preceded_by(stray_response(itt=1)),),
        3,
        "it came for a Text Request",
        ExitCode.TRANS,
        False,
    ),
]


@pieces
@pytest.mark.parametrize(
    ("changes", "nth", "says", "code", "retryable"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN]
)
def test_answers_that_break_off(
    changes: tuple[Change, ...], nth: int, says: str, code: ExitCode, retryable: bool, piece: int
) -> None:
    plan = Plan(records=MANY.records, text_segment=100, faults=[on(TextResponse, *changes, nth=nth)])
    ours = begin(plan, piece)
    error = fails(lambda: discover(ours))
    assert says in error.cause
    assert (error.exit_code, error.retryable) == (code, retryable)
    assert ours.machine.phase is ConnectionPhase.FAILED
    # What was whole before it is told, and nothing that was not.
    ours.events += iter(ours.machine.next_event, None)
    assert all(name.startswith("iqn.2004-01.com.example:d") for name in names(ours))
    assert len(names(ours)) <= nth * 2 + 2
    assert not any(isinstance(item, DiscoveryFinished) for item in ours.events)


@pieces
def test_pings_and_events_in_the_middle_of_an_answer(piece: int) -> None:
    extra: Any = preceded_by(ping(0x61, data=b"x"), event(1, parameters=(0, 0, 7)))
    ours = begin(Plan(records=MANY.records, text_segment=100, faults=[on(TextResponse, extra, nth=4)]), piece)
    assert discover(ours).found == 20
    assert ours.target.pings == set()
    assert ours.target.violations == []


@pieces
def test_a_session_that_is_dropped_in_the_middle(piece: int) -> None:
    ours = begin(
        Plan(records=MANY.records, text_segment=100, faults=[on(TextResponse, preceded_by(event(3)), nth=4)]), piece
    )
    ours.machine.discover(ours.now)
    ours.pump()
    assert ours.machine.phase is ConnectionPhase.DROPPED
    assert not any(isinstance(item, DiscoveryFinished) for item in ours.events)


def test_a_discovery_session_is_not_pinged() -> None:
    """Section 4.3: it takes Text and Logout alone."""
    ours = begin(MANY)
    ours.advance(300)
    assert discover(ours).found == 20
    assert ours.target.violations == []


@pytest.mark.parametrize(
    "text", [b"\0" * 100, b"", b"TargetName=" + LAST.name.encode()], ids=["NULs", "nothing", "no NUL"]
)
def test_texts_at_the_edge(text: bytes) -> None:
    ours = begin(Plan(faults=[on(TextResponse, holding(text))]))
    assert discover(ours).found == (1 if b"=" in text else 0)
    assert refusals(ours) == []
