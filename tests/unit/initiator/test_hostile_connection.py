# SPDX-License-Identifier: LGPL-2.1-or-later
"""A target that lies in its answers: every activity of an initiator x what can happen to the answer.

Closed at each step, silent, late, lost, sent twice, with wrong numbers, of another kind, too long, damaged.
"""

from __future__ import annotations

from typing import Any

import pytest

from iscsiboot.errors import ExitCode
from iscsiboot.initiator.connection import ConnectionPhase
from iscsiboot.initiator.pdu.control import (
    LogoutAnswer,
    LogoutResponse,
    NopIn,
    TextResponse,
)
from iscsiboot.initiator.pdu.header import Opcode
from iscsiboot.initiator.pdu.scsi import (
    DataIn,
    ReadyToTransfer,
)
from iscsiboot.initiator.session_events import (
    LogoutRequested,
    Pong,
    Remark,
)
from iscsiboot.initiator.timers import Timers
from iscsiboot.model.params import Digest, SessionParams
from tests.doubles.disk import Device, LogicalUnit
from tests.doubles.faults import (
    Change,
    announcing,
    announcing_headers,
    bytes_instead,
    closed_after,
    closed_before,
    closed_inside,
    dropped,
    event,
    fields,
    followed_by,
    holding,
    late,
    lost,
    on,
    plus,
    preceded_by,
    spoiled,
    stray_logout_response,
    stray_pong,
    stray_response,
    stray_task_response,
    stray_text,
    twice,
    with_headers,
    without_data,
)
from tests.doubles.limits import Limits
from tests.doubles.target import Script
from tests.doubles.wire import Item
from tests.unit.initiator.hostile_kit import (
    ACTIVITIES,
    GOES_ON,
    IMAGE,
    LENGTH,
    LUN,
    READ,
    SEGMENT,
    answered,
    begin,
    fails,
    lives,
    pieces,
    plan,
    remarks,
    run,
)


@pieces
@pytest.mark.parametrize("activity", ACTIVITIES)
def test_honest_targets_are_understood(activity: str, piece: int) -> None:
    """The control: without a lie each activity ends as its row says."""
    ours = begin(plan(), piece)
    assert isinstance(run(ours, activity), ACTIVITIES[activity].ends)
    assert remarks(ours) == []
    if activity != "logout":
        lives(ours)


@pieces
@pytest.mark.parametrize(
    "change",
    [closed_before, closed_inside(1), closed_inside(47), closed_after],
    ids=["before", "byte", "header", "after"],
)
@pytest.mark.parametrize("activity", GOES_ON)
def test_closing_at_each_step(activity: str, change: Change, piece: int) -> None:
    ours = begin(plan(faults=[on(ACTIVITIES[activity].answer, change)]), piece)
    error = fails(ours, lambda: run(ours, activity))
    assert error.cause == "the target closed the connection"
    assert (error.exit_code, error.retryable) == (ExitCode.TRANS, True)
    assert error.hint
    ours.events += iter(ours.machine.next_event, None)
    assert any(isinstance(item, ACTIVITIES[activity].ends) for item in ours.events) is (change is closed_after)


@pieces
@pytest.mark.parametrize("kind", [DataIn, ReadyToTransfer])
@pytest.mark.parametrize("nth", [0, 1])
def test_closing_in_the_middle_of_data(kind: type[DataIn | ReadyToTransfer], nth: int, piece: int) -> None:
    for change in (closed_before, closed_inside(50), closed_after):
        ours = begin(plan(faults=[on(kind, change, nth=nth)]), piece)
        error = fails(ours, lambda: run(ours, "read" if kind is DataIn else "write"))  # noqa: B023 (called at once)
        assert error.cause == "the target closed the connection"


@pieces
@pytest.mark.parametrize(
    ("change", "response"), [(closed_before, None), (closed_inside(20), None), (closed_after, LogoutAnswer.CLOSED)]
)
def test_a_target_that_closes_on_logout_has_logged_us_out(change: Change, response: int | None, piece: int) -> None:
    ours = begin(plan(faults=[on(LogoutResponse, change)]), piece)
    assert run(ours, "logout").response == response
    assert ours.machine.phase is ConnectionPhase.LOGGED_OUT


SILENCES = [
    ("ping", 5.0, ExitCode.PDU_TIMEOUT, True, "did not answer a NOP-Out within 5 s"),
    ("text", 30.0, ExitCode.PDU_TIMEOUT, True, "did not answer a Text Request within 30 s"),
    ("management", 30.0, ExitCode.PDU_TIMEOUT, True, "did not answer a task management function within 30 s"),
    ("logout", 15.0, ExitCode.LOGOUT, False, "did not answer a Logout Request within 15 s"),
]


@pytest.mark.parametrize(
    ("activity", "seconds", "code", "retryable", "says"), SILENCES, ids=[row[0] for row in SILENCES]
)
@pytest.mark.parametrize("how", ["deaf", "dropped", "lost", "late"])
def test_silence(activity: str, seconds: float, code: ExitCode, retryable: bool, says: str, how: str) -> None:
    one = ACTIVITIES[activity]
    change: dict[str, Change] = {"dropped": dropped, "lost": lost, "late": late(seconds + 0.5)}
    made = plan(deaf_to=frozenset({one.opcode})) if how == "deaf" else plan(faults=[on(one.answer, change[how])])
    # Without pings of the timer, which would find out first that the target is silent.
    ours = begin(made, 0, timers=Timers(ping_interval=0))
    began = ours.now
    if activity == "logout" and how in ("dropped", "lost"):
        # The double closes behind its answer, and closing is an answer too.
        assert run(ours, activity).response is None
        return
    error = fails(ours, lambda: run(ours, activity))
    assert says in error.cause
    assert (error.exit_code, error.retryable) == (code, retryable)
    assert error.hint
    assert seconds <= ours.now - began <= seconds + 0.01


@pytest.mark.parametrize("activity", GOES_ON)
def test_an_answer_just_in_time(activity: str) -> None:
    ours = begin(plan(faults=[on(ACTIVITIES[activity].answer, late(4.5))]), 0)
    assert isinstance(run(ours, activity), ACTIVITIES[activity].ends)
    lives(ours)


def test_a_disk_may_take_as_long_as_it_likes() -> None:
    """While the target answers pings: how long a command may take is the caller's decision."""
    ours = begin(plan(device=Device({1: LogicalUnit(IMAGE, dead=True)})), 0)
    ours.machine.command(LUN, READ, now=ours.now, read_length=LENGTH)
    ours.advance(600)
    assert [item for item in ours.events if not isinstance(item, Remark)] == ours.events[:1]
    lives(ours)


def test_a_target_that_falls_silent_is_noticed_without_any_activity() -> None:
    ours = begin(plan(deaf_to=frozenset({Opcode.NOP_OUT})), 0)
    began = ours.now
    error = fails(ours, lambda: ours.advance(60))
    assert "did not answer a NOP-Out within 5 s" in error.cause
    assert ours.now - began == pytest.approx(10)


@pieces
@pytest.mark.parametrize("shift", [1, -1, 1000, 1 << 31], ids=["one more", "one less", "far", "opposite"])
@pytest.mark.parametrize("activity", ACTIVITIES)
def test_wrong_statsn(activity: str, shift: int, piece: int) -> None:
    ours = begin(plan(faults=[on(ACTIVITIES[activity].answer, fields(statsn=plus(shift)))]), piece)
    error = fails(ours, lambda: run(ours, activity))
    # The Login Response had 1000.
    assert f"the target sent StatSN {(1001 + shift) % (1 << 32)}, 1001 was due" in error.cause
    assert ("answers missing: " in error.cause) is (shift in (1, 1000))
    assert (error.exit_code, error.retryable) == (ExitCode.TRANS, True)
    assert "log in again" in error.hint


@pieces
@pytest.mark.parametrize("activity", GOES_ON)
def test_a_duplicate_answer(activity: str, piece: int) -> None:
    ours = begin(plan(faults=[on(ACTIVITIES[activity].answer, twice)]), piece)
    error = fails(ours, lambda: answered(ours, activity))
    assert "1002 was due (that one was answered before)" in error.cause


@pieces
@pytest.mark.parametrize("activity", GOES_ON)
def test_a_lost_answer_is_noticed_by_the_next(activity: str, piece: int) -> None:
    ours = begin(plan(faults=[on(ACTIVITIES[activity].answer, lost)]), piece)
    ACTIVITIES[activity].begin(ours)
    ours.pump()
    error = fails(ours, lambda: ours.push(event(1)))
    assert "the target sent StatSN 1002, 1001 was due" in error.cause


@pieces
@pytest.mark.parametrize("activity", ACTIVITIES)
def test_an_answer_to_a_task_that_does_not_exist(activity: str, piece: int) -> None:
    ours = begin(plan(faults=[on(ACTIVITIES[activity].answer, fields(itt=0x777))]), piece)
    error = fails(ours, lambda: run(ours, activity))
    assert "of task 0x777: it came for a task that does not exist" in error.cause


@pieces
@pytest.mark.parametrize(
    ("activity", "stray", "says"),
    [
        ("ping", stray_response(itt=1), "SCSI Response of task 0x1: it came for a NOP-Out"),
        ("read", stray_pong(itt=1), "NOP-In of task 0x1: it came for a SCSI command"),
        (
            "text",
            stray_task_response(itt=1),
            "Task Management Function Response of task 0x1: it came for a Text Request",
        ),
        ("management", stray_text(itt=1), "Text Response of task 0x1: it came for a task management function"),
        ("logout", stray_pong(itt=1), "NOP-In of task 0x1: it came for a Logout Request"),
        ("read", stray_logout_response(itt=1), "Logout Response of task 0x1: it has no place here"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else None,
)
def test_an_answer_of_another_kind(activity: str, stray: Item, says: str, piece: int) -> None:
    ours = begin(
        plan(faults=[on(ACTIVITIES[activity].answer, preceded_by(stray)), on(DataIn, preceded_by(stray))]), piece
    )
    assert says in fails(ours, lambda: run(ours, activity)).cause


@pieces
@pytest.mark.parametrize("activity", ACTIVITIES)
def test_more_data_than_we_take(activity: str, piece: int) -> None:
    """Refused by the header alone: nothing of that size is waited for or kept."""
    for length in (SEGMENT + 1, (1 << 24) - 1):
        ours = begin(plan(faults=[on(ACTIVITIES[activity].answer, announcing(length))]), piece)
        error = fails(ours, lambda: run(ours, activity))  # noqa: B023 (called at once)
        assert f"announces {length} bytes of data, at most {SEGMENT} are allowed" in error.cause


@pieces
@pytest.mark.parametrize("activity", ACTIVITIES)
def test_additional_headers(activity: str, piece: int) -> None:
    ours = begin(plan(faults=[on(ACTIVITIES[activity].answer, with_headers(bytes(8)))]), piece)
    assert "it has 8 bytes of additional headers" in fails(ours, lambda: run(ours, activity)).cause


@pytest.mark.parametrize("activity", ["ping", "text", "management"])
def test_additional_headers_that_never_come(activity: str) -> None:
    ours = begin(plan(faults=[on(ACTIVITIES[activity].answer, announcing_headers(1020))]), 0)
    assert fails(ours, lambda: run(ours, activity)).exit_code is ExitCode.PDU_TIMEOUT


@pieces
@pytest.mark.parametrize("what", ["header", "data"])
@pytest.mark.parametrize(
    ("activity", "kind"),
    [("ping", NopIn), ("read", DataIn), ("text", TextResponse), ("write", ReadyToTransfer), ("logout", LogoutResponse)],
    ids=["ping", "read", "text", "write", "logout"],
)
def test_wrong_digests(activity: str, kind: Any, what: str, piece: int) -> None:
    params = SessionParams(header_digest=Digest.CRC32C, data_digest=Digest.CRC32C, max_recv_data_segment_length=SEGMENT)
    ours = begin(plan(faults=[on(kind, spoiled(what))]), piece, params=params)
    if what == "data" and activity in ("write", "logout"):
        # They have no data, so no data digest: nothing is wrong.
        assert isinstance(run(ours, activity), ACTIVITIES[activity].ends)
        return
    error = fails(ours, lambda: run(ours, activity))
    assert f"the {what} of a PDU ({Opcode.words(kind.OPCODE)}) came with digest 0x" in error.cause
    assert "damages data" in error.hint
    # What was damaged on the way may come whole the next time.
    assert (error.exit_code, error.retryable) == (ExitCode.TRANS, True)


# Numbers.


@pieces
@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"max_cmdsn": 0, "exp_cmdsn": 2}, "MaxCmdSN 0 below ExpCmdSN 2: both are ignored"),
        ({"exp_cmdsn": 1000, "max_cmdsn": 1031}, "expects CmdSN 1000, and the next command has"),
    ],
    ids=["MaxCmdSN", "ExpCmdSN"],
)
@pytest.mark.parametrize("activity", GOES_ON)
def test_a_window_that_cannot_be(activity: str, values: dict[str, int], says: str, piece: int) -> None:
    ours = begin(plan(faults=[on(ACTIVITIES[activity].answer, fields(**values))]), piece)
    assert isinstance(run(ours, activity), ACTIVITIES[activity].ends)
    assert any(says in text for text in remarks(ours))
    assert ours.target.violations == []


def test_a_closed_window_holds_commands_and_not_pings() -> None:
    """MaxCmdSN = ExpCmdSN - 1 from login on: legal, and nothing but immediate requests goes."""
    ours = begin(plan(login=Script(limits=Limits(), faults={0: lambda reply: reply.changed(max_cmdsn=0)}), depth=0), 0)
    ours.machine.command(LUN, READ, now=ours.now, read_length=LENGTH)
    ours.advance(100)
    assert not any(pdu.OPCODE == Opcode.SCSI_COMMAND for pdu in ours.target.received)
    lives(ours)


def test_remarks_of_a_session_are_bounded() -> None:
    ours = begin(plan(), 0)
    for number in range(10, 200):
        ours.push(event(number))
    assert len(remarks(ours)) == 16
    lives(ours)


# What else an answer can be.


@pieces
def test_a_pong_with_other_data(piece: int) -> None:
    for change in (holding(b"hellO"), holding(b"hell"), holding(b"hello!"), without_data):
        ours = begin(plan(faults=[on(NopIn, change)]), piece)
        assert "bytes other than the 5 sent" in fails(ours, lambda: run(ours, "ping")).cause  # noqa: B023


def test_a_pong_that_is_a_ping_too() -> None:
    ours = begin(plan(faults=[on(NopIn, fields(ttt=5))]), 0)
    assert isinstance(run(ours, "ping"), Pong)
    assert "TTT is not reserved" in remarks(ours)[0]
    lives(ours)


@pieces
@pytest.mark.parametrize("wire", [b"\0" * 48, b"\xff" * 48, b"\x25" + b"\xff" * 47], ids=["zeros", "ones", "data"])
def test_garbage_instead_of_an_answer(wire: bytes, piece: int) -> None:
    ours = begin(plan(faults=[on(NopIn, bytes_instead(wire))]), piece)
    fails(ours, lambda: run(ours, "ping"))


def test_the_event_before_a_lie_is_still_told() -> None:
    ours = begin(plan(faults=[on(NopIn, followed_by(event(1, parameters=(0, 0, 3)), stray_pong()))]), 0)
    fails(ours, lambda: answered(ours, "ping"))
    ours.events += iter(ours.machine.next_event, None)
    assert LogoutRequested(seconds=3) in ours.events
