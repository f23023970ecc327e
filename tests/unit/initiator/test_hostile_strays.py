# SPDX-License-Identifier: LGPL-2.1-or-later
"""What nobody asked for, in every phase: stray answers, pings, events, rejects, and answers to task management."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from iscsiboot.errors import ExitCode
from iscsiboot.initiator.connection import ConnectionPhase
from iscsiboot.initiator.errors import Misuse, SessionError
from iscsiboot.initiator.pdu.control import (
    AsyncMessage,
    LogoutAnswer,
    NopIn,
    NopOut,
)
from iscsiboot.initiator.pdu.header import RESERVED_TAG, Opcode
from iscsiboot.initiator.pdu.reject import REJECT_REASONS
from iscsiboot.initiator.pdu.scsi import (
    DataIn,
    ReadyToTransfer,
    ScsiResponse,
    TaskAnswer,
    TaskFunction,
)
from iscsiboot.initiator.session_events import (
    CommandFailed,
    ConnectionDropped,
    LogoutRequested,
    NegotiationRequested,
    Rejected,
    Remark,
    ScsiAsync,
    SessionDropped,
    TaskManaged,
    TasksTerminated,
    VendorAsync,
)
from tests.doubles.disk import Device, LogicalUnit
from tests.doubles.faults import (
    event,
    holding,
    login_response,
    news,
    on,
    ping,
    preceded_by,
    rejecting,
    stray_data_in,
    stray_pong,
    stray_r2t,
    stray_response,
    stray_task_response,
    stray_text,
    unknown_pdu,
)
from tests.doubles.scsi import (
    Outcome,
    sense,
)
from tests.doubles.wire import Item, Send
from tests.unit.initiator.hostile_kit import (
    ACTIVITIES,
    IMAGE,
    LENGTH,
    LUN,
    READ,
    SEGMENT,
    Link_,
    begin,
    fails,
    lives,
    pieces,
    plan,
    remarks,
    run,
)

STRAYS: list[tuple[str, Item, str]] = [
    ("pong", stray_pong(), "NOP-In of task 0xdead0001: it came for a task that does not exist"),
    ("data", stray_data_in(), "SCSI Data-In of task 0xdead0001: it came for a task that does not exist"),
    (
        "data with status",
        stray_data_in(status=True),
        "SCSI Data-In of task 0xdead0001: it came for a task that does not",
    ),
    ("R2T", stray_r2t(), "Ready To Transfer of task 0xdead0001: it came for a task that does not exist"),
    ("response", stray_response(), "SCSI Response of task 0xdead0001: it came for a task that does not exist"),
    ("text", stray_text(), "Text Response of task 0xdead0001: it came for a task that does not exist"),
    (
        "management",
        stray_task_response(),
        "Task Management Function Response of task 0xdead0001: it came for a task that",
    ),
    ("login", login_response(), "Login Response of task 0x0: it has no place here"),
    ("no tag", stray_response(itt=RESERVED_TAG), "SCSI Response: it came for no task"),
    ("unknown opcode", unknown_pdu(), "unknown opcode 0x2a is nothing a target sends"),
    ("our own PDU", Send(NopOut(itt=5, cmdsn=1, exp_statsn=1).encode()), "NOP-Out is nothing a target sends"),
    ("reject of nothing", rejecting(4, b""), "does not say which: 0 bytes of its header came"),
    ("reject of a target's PDU", rejecting(4, NopIn().encode()), "rejected a PDU that was not sent: NOP-In"),
    ("reject of a login", rejecting(4, b"\x43" + bytes(47)), "rejected a PDU that was not sent: Login Request"),
    ("web server", Send(b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n".ljust(48)), "announces"),
]


@pieces
@pytest.mark.parametrize("activity", [None, *ACTIVITIES], ids=lambda name: name or "idle")
@pytest.mark.parametrize(("stray", "says"), [row[1:] for row in STRAYS], ids=[row[0] for row in STRAYS])
def test_what_nobody_asked_for_ends_the_session(stray: Item, says: str, activity: str | None, piece: int) -> None:
    if activity is None:
        ours = begin(plan(), piece)
        error = fails(ours, lambda: ours.push(stray))
    else:
        ours = begin(plan(faults=[on(ACTIVITIES[activity].answer, preceded_by(stray))]), piece)
        error = fails(ours, lambda: run(ours, activity))
    assert says in error.cause
    assert error.exit_code is ExitCode.TRANS


def test_a_stray_behind_the_last_login_response() -> None:
    """In one segment with it: already full feature phase."""
    ours = begin_with_greeting(ping(0x51), news(), event(1, parameters=(0, 0, 9)))
    assert ours.target.pings == set()
    assert LogoutRequested(seconds=9) in ours.events
    lives(ours)
    with pytest.raises(SessionError, match="it came for a task that does not exist"):
        begin_with_greeting(stray_r2t())


def begin_with_greeting(*items: Item) -> Link_:
    return begin(plan(greeting=items), 0)


@pieces
@pytest.mark.parametrize("activity", [None, *ACTIVITIES], ids=lambda name: name or "idle")
@pytest.mark.parametrize("data", [b"", b"ping", bytes(SEGMENT)], ids=["empty", "short", "full"])
def test_a_ping_of_the_target_at_any_time(activity: str | None, data: bytes, piece: int) -> None:
    if activity is None:
        ours = begin(plan(), piece)
        ours.push(ping(0x52, data=data))
    else:
        ours = begin(plan(faults=[on(ACTIVITIES[activity].answer, preceded_by(ping(0x52, data=data)))]), piece)
        assert isinstance(run(ours, activity), ACTIVITIES[activity].ends)
    if activity == "logout":
        # Nothing is sent after a Logout Request (section 11.14), not even this.
        assert ours.target.pings == {0x52}
        assert ours.target.violations == []
        return
    answers = [pdu for pdu in ours.target.received if isinstance(pdu, NopOut) and pdu.ttt == 0x52]
    assert [(pdu.itt, pdu.data_length, pdu.immediate) for pdu in answers] == [(RESERVED_TAG, len(data), True)]
    lives(ours)


def test_a_flood_of_pings_ends() -> None:
    """A target that makes us answer and does not read must not fill our memory."""
    ours = begin(plan(), 0)
    error = fails(ours, lambda: ours.push_at_once(*(ping(number) for number in range(1000))))
    assert "17 pings without reading the answers" in error.cause


def test_many_pings_that_are_read_are_answered() -> None:
    ours = begin(plan(), 0)
    for number in range(100):
        ours.push(ping(number))
    lives(ours)


# Events.

DROPPED = ConnectionPhase.DROPPED
EVENTS: list[tuple[str, Item, Any]] = [
    ("SCSI", event(0, lun=LUN.wire, data=sense(6, 0x2A)), ScsiAsync(lun=LUN, sense=sense(6, 0x2A))),
    ("logout", event(1, parameters=(0, 0, 30)), LogoutRequested(seconds=30)),
    ("connection", event(2, parameters=(0, 4, 5)), ConnectionDropped(cid=0, time2wait=4, time2retain=5)),
    ("other connection", event(2, parameters=(9, 4, 5)), ConnectionDropped(cid=9, time2wait=4, time2retain=5)),
    ("session", event(3, parameters=(0, 6, 7)), SessionDropped(time2wait=6, time2retain=7)),
    ("negotiation", event(4, parameters=(0, 0, 8)), NegotiationRequested(seconds=8)),
    ("tasks", event(5, lun=LUN.wire), TasksTerminated(lun=LUN)),
    ("vendor", event(255, vcode=3, data=b"anything"), VendorAsync(vcode=3, data=b"anything")),
    ("vendor 248", event(248, vcode=1), VendorAsync(vcode=1, data=b"")),
    ("unassigned", event(9), Remark(text="the target sent an asynchronous message the RFC does not assign: event 9")),
]


@pieces
@pytest.mark.parametrize(("item", "expected"), [row[1:] for row in EVENTS], ids=[row[0] for row in EVENTS])
def test_each_event(item: Item, expected: Any, piece: int) -> None:
    ours = begin(plan(), piece)
    ours.push(item)
    assert expected in ours.events
    if isinstance(expected, SessionDropped) or expected == ConnectionDropped(cid=0, time2wait=4, time2retain=5):
        assert ours.machine.phase is DROPPED
        assert ours.machine.next_deadline() is None
        with pytest.raises(Misuse):
            ours.machine.ping(ours.now)
        ours.machine.connection_lost("the target closed the connection", ours.now)
    else:
        lives(ours)


@pieces
@pytest.mark.parametrize("number", [2, 3], ids=["connection", "session"])
@pytest.mark.parametrize("activity", ["read", "write"])
def test_a_drop_in_the_middle_of_a_command(activity: str, number: int, piece: int) -> None:
    """The command is told to have failed; what was under way is passed over; closing is then no error."""
    kind: Any = DataIn if activity == "read" else ReadyToTransfer
    ours = begin(plan(faults=[on(kind, preceded_by(event(number)), nth=1)]), piece)
    assert isinstance(run(ours, activity), CommandFailed)
    ours.pump()
    assert ours.machine.phase is DROPPED
    assert ours.machine.data_to_send() == b""
    ours.machine.connection_lost("the target closed the connection", ours.now)


@pieces
def test_tasks_terminated_by_an_event(piece: int) -> None:
    ours = begin(plan(faults=[on(DataIn, preceded_by(event(5, lun=LUN.wire)), nth=1)]), piece)
    failed = run(ours, "read")
    assert isinstance(failed, CommandFailed)
    assert "ended all commands of the LUN" in failed.cause
    lives(ours)


@pieces
@pytest.mark.parametrize(
    ("data", "kept", "says"),
    [
        (b"\x00", b"", "too short for SenseLength"),
        (b"\xff\xff\x70\x00", b"\x70\x00", "announces 65535 bytes of sense data, 2 came"),
        ((300).to_bytes(2, "big") + bytes(300), bytes(252), "300 bytes of sense data, 252 are kept"),
        (b"", b"", ""),
    ],
    ids=["short", "lie", "long", "none"],
)
def test_sense_that_lies(data: bytes, kept: bytes, says: str, piece: int) -> None:
    for_event = replace(event(0, lun=LUN.wire), data=data)
    ours = begin(plan(), piece)
    ours.push(for_event)
    assert ScsiAsync(lun=LUN, sense=kept) in ours.events
    assert (says in "".join(remarks(ours))) is True
    made = plan(faults=[on(ScsiResponse, holding(data))])
    made.device.units[LUN.wire].pending.append(Outcome(status=2, sense=sense(6, 0x29)))
    ours = begin(made, piece)
    result = run(ours, "read").result
    assert (result.status, result.sense) == (2, kept)
    assert says in "".join(remarks(ours))
    lives(ours)


# Rejects.


@pieces
@pytest.mark.parametrize("reason", [*REJECT_REASONS, 0x55])
@pytest.mark.parametrize("activity", ["ping", "text", "management", "read"])
def test_a_reject_ends_its_task_and_no_other(activity: str, reason: int, piece: int) -> None:
    made = plan(deaf_to=frozenset({ACTIVITIES[activity].opcode}))
    ours = begin(made, piece)
    tag = ACTIVITIES[activity].begin(ours)
    ours.pump()
    ours.push(rejecting(reason, ours.target.received[-1].encode()))
    rejected = ours.until(Rejected)
    assert (rejected.reason, rejected.tag) == (reason, tag)
    failed = [item for item in ours.events if isinstance(item, CommandFailed)]
    assert [item.tag for item in failed] == ([tag] if activity == "read" else [])
    ours.target.plan = plan()
    lives(ours)


@pieces
def test_a_rejected_logout(piece: int) -> None:
    ours = begin(plan(deaf_to=frozenset({Opcode.LOGOUT_REQUEST}), faults=[]), piece)
    ours.machine.logout(ours.now)
    ours.pump()
    error = fails(ours, lambda: ours.push(rejecting(4, ours.target.received[-1].encode())))
    assert "refuses to log us out: protocol error" in error.cause
    assert error.exit_code is ExitCode.LOGOUT


@pytest.mark.parametrize("response", [*LogoutAnswer, 77])
def test_every_answer_to_a_logout(response: int) -> None:
    ours = begin(plan(logout_answer=response, time2wait=11, time2retain=12), 0)
    ended = run(ours, "logout")
    assert (ended.response, ended.time2wait, ended.time2retain) == (response, 11, 12)


# Task management.


@pieces
@pytest.mark.parametrize("response", [*TaskAnswer, 77])
@pytest.mark.parametrize("function", [TaskFunction.LOGICAL_UNIT_RESET, TaskFunction.ABORT_TASK])
def test_every_answer_to_task_management(function: TaskFunction, response: int, piece: int) -> None:
    device = Device({1: LogicalUnit(IMAGE, dead=True)})
    ours = begin(plan(device=device, task_answers={function: response}), piece)
    task = ours.machine.command(LUN, READ, now=ours.now, read_length=LENGTH)
    ours.pump()
    aims: dict[str, Any] = {"task": task} if function is TaskFunction.ABORT_TASK else {"lun": LUN}
    ours.machine.manage_task(function, now=ours.now, **aims)
    assert ours.until(TaskManaged).response == response
    unknown = response == TaskAnswer.NO_TASK and function is TaskFunction.ABORT_TASK
    failed = [item.tag for item in ours.events if isinstance(item, CommandFailed)]
    assert failed == ([task] if response == TaskAnswer.COMPLETE or unknown else [])
    lives(ours)


@pieces
def test_an_answer_that_comes_after_its_task_was_aborted(piece: int) -> None:
    ours = begin(plan(device=Device({1: LogicalUnit(IMAGE, dead=True)})), piece)
    task = ours.machine.command(LUN, READ, now=ours.now, read_length=LENGTH)
    ours.pump()
    ours.machine.manage_task(TaskFunction.ABORT_TASK, now=ours.now, task=task)
    ours.until(TaskManaged)
    ours.push(stray_data_in(itt=task), stray_r2t(itt=task), stray_response(itt=task))
    assert [type(item) for item in ours.events[1:]] == [CommandFailed, TaskManaged]
    lives(ours)


def test_every_kind_of_pdu_of_a_target_is_lied_about() -> None:
    """A PDU added to the protocol needs a row here."""
    from iscsiboot.initiator.pdu.registry import TARGET_PDUS

    lied = {one.answer for one in ACTIVITIES.values()} | {DataIn, ReadyToTransfer}
    pushed = {type(item.pdu) for _, item, *_ in [*STRAYS, *EVENTS] if not isinstance(item, Send)}  # type: ignore[union-attr]
    assert set(TARGET_PDUS.values()) <= lied | pushed
    assert AsyncMessage in pushed
