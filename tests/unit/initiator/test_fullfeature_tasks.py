# SPDX-License-Identifier: LGPL-2.1-or-later
"""Task management, Logout, Reject and Asynchronous Message: what each does to the tasks and to the session."""

from __future__ import annotations

from typing import Any

import pytest

from iscsiboot.errors import ExitCode
from iscsiboot.initiator.config import SessionType
from iscsiboot.initiator.errors import Misuse, SessionError
from iscsiboot.initiator.fullfeature_states import Phase
from iscsiboot.initiator.pdu.control import (
    AsyncMessage,
    LogoutAnswer,
    LogoutReason,
    LogoutRequest,
    LogoutResponse,
    NopIn,
    NopOut,
    TextRequest,
    TextResponse,
)
from iscsiboot.initiator.pdu.header import NO_LUN, RESERVED_TAG, Pdu
from iscsiboot.initiator.pdu.login import LoginRequest
from iscsiboot.initiator.pdu.reject import REJECT_REASONS, Reject
from iscsiboot.initiator.pdu.scsi import (
    DataIn,
    DataOut,
    ReadyToTransfer,
    ScsiCommand,
    ScsiResponse,
    SnackRequest,
    TaskAnswer,
    TaskFunction,
    TaskManagementRequest,
    TaskManagementResponse,
)
from iscsiboot.initiator.session_events import (
    CommandFailed,
    CommandFinished,
    ConnectionDropped,
    LoggedOut,
    LogoutRequested,
    NegotiationRequested,
    Pong,
    Rejected,
    Remark,
    ScsiAsync,
    SessionDropped,
    SessionEvent,
    TaskManaged,
    TasksTerminated,
    TextAnswered,
    TextPart,
    VendorAsync,
)
from iscsiboot.initiator.timers import Timers
from iscsiboot.model.lun import Lun
from tests.unit.initiator.fullfeature_kit import CMDSN, LUN, OTHER_LUN, STATSN, Session, pattern

ABORT, SET_ABORT, CLEAR_ACA, CLEAR, LUN_RESET, WARM, COLD, REASSIGN = TaskFunction


def manage(session: Session, function: TaskFunction, task: int | None = None) -> int:
    lun = LUN if function in (SET_ABORT, CLEAR_ACA, CLEAR, LUN_RESET) else None
    return session.machine.manage_task(function, now=session.now, lun=lun, task=task)


def failed(events: list[SessionEvent]) -> list[int]:
    return [event.tag for event in events if isinstance(event, CommandFailed)]


# Task management.


@pytest.mark.parametrize(
    ("function", "ended"),
    [
        (SET_ABORT, "own"),
        (CLEAR_ACA, ""),
        (CLEAR, "own"),
        (LUN_RESET, "own"),
        (WARM, "own other"),
        (COLD, "own other late"),
    ],
    ids=lambda value: value.name if isinstance(value, TaskFunction) else "",
)
def test_functions_and_the_commands_they_end(function: TaskFunction, ended: str) -> None:
    session = Session()
    tags = {"own": session.read(), "other": session.read(lun=OTHER_LUN)}
    session.sent()
    managing = manage(session, function)
    request = session.one(TaskManagementRequest)
    assert (request.immediate, request.function, request.itt) == (True, function, managing)
    assert request.lun == (LUN.wire if function in (SET_ABORT, CLEAR_ACA, CLEAR, LUN_RESET) else NO_LUN)
    assert (request.referenced_tag, request.ref_cmdsn, request.exp_datasn) == (RESERVED_TAG, 0, 0)
    assert (request.cmdsn, request.exp_statsn) == (CMDSN + 2, STATSN + 1)
    # Sent after the function, so the function is not about it; only the end of the connection is.
    tags["late"] = session.read()
    session.sent()
    session.give(TaskManagementResponse(itt=managing))
    events = session.events()
    assert failed(events) == [tags[name] for name in ended.split()]
    assert TaskManaged(tag=managing, response=TaskAnswer.COMPLETE) in events
    assert session.machine.active == (0 if function is COLD else 3 - len(ended.split()))
    assert session.phase() is (Phase.DROPPED if function is COLD else Phase.FULL_FEATURE)


def test_abort_task() -> None:
    session = Session()
    other, tag = session.read(0), session.read()
    session.sent()
    managing = manage(session, ABORT, tag)
    request = session.one(TaskManagementRequest)
    assert (request.referenced_tag, request.ref_cmdsn, request.lun) == (tag, CMDSN + 1, LUN.wire)
    session.give(TaskManagementResponse(itt=managing))
    events = session.events()
    assert events == [
        CommandFailed(tag=tag, cause="the command was ended by ABORT TASK"),
        TaskManaged(tag=managing, response=TaskAnswer.COMPLETE),
    ]
    session.give(ScsiResponse(itt=other))
    assert session.event(CommandFinished).tag == other


def test_late_answers_to_an_aborted_command_are_dropped_and_counted() -> None:
    session = Session()
    tag = session.write(pattern(5000))
    session.sent()
    managing = manage(session, ABORT, tag)
    session.sent()
    session.give(TaskManagementResponse(itt=managing))
    session.events()
    session.give(DataIn(itt=tag, datasn=9), b"late")
    session.give(ReadyToTransfer(itt=tag, ttt=1, buffer_offset=2048, desired_length=1))
    session.give(ScsiResponse(itt=tag))
    assert (session.events(), session.sent()) == ([], [])
    session.machine.ping(0)
    assert session.one(NopOut).exp_statsn == STATSN + 3


def test_a_command_goes_on_until_its_abort_is_answered() -> None:
    """Section 4.2.3.3: R2Ts are answered and a status counts until then."""
    session = Session()
    tag = session.write(pattern(5000))
    session.sent()
    managing = manage(session, ABORT, tag)
    session.sent()
    session.give(ReadyToTransfer(itt=tag, ttt=1, buffer_offset=2048, desired_length=100))
    assert session.one(DataOut).final
    session.give(ScsiResponse(itt=tag))
    session.give(TaskManagementResponse(itt=managing, response=TaskAnswer.NO_TASK))
    finished, managed = session.events()
    assert isinstance(finished, CommandFinished)
    assert managed == TaskManaged(tag=managing, response=TaskAnswer.NO_TASK)


def test_a_command_the_target_does_not_know() -> None:
    session = Session()
    tag = session.read()
    session.sent()
    managing = manage(session, ABORT, tag)
    session.sent()
    session.give(TaskManagementResponse(itt=managing, response=TaskAnswer.NO_TASK))
    assert session.events()[0] == CommandFailed(tag=tag, cause="the target does not know the command")


@pytest.mark.parametrize(
    ("function", "response"),
    [
        *((function, 1) for function in (SET_ABORT, LUN_RESET, COLD)),
        *(
            (function, response)
            for function in (ABORT, SET_ABORT, LUN_RESET, COLD)
            for response in (2, 3, 4, 5, 6, 255, 7)
        ),
    ],
    ids=lambda value: value.name if isinstance(value, TaskFunction) else str(value),
)
def test_a_function_that_was_not_carried_out_ends_nothing(function: TaskFunction, response: int) -> None:
    session = Session()
    tag = session.read()
    session.sent()
    managing = manage(session, function, tag if function is ABORT else None)
    session.sent()
    session.give(TaskManagementResponse(itt=managing, response=response))
    assert session.event(TaskManaged) == TaskManaged(tag=managing, response=response)
    assert session.machine.active == 1
    assert session.phase() is Phase.FULL_FEATURE


def test_a_command_not_sent_yet_is_aborted_here() -> None:
    session = Session(window=1)
    session.read()
    tag = session.read()
    session.sent()
    managing = manage(session, ABORT, tag)
    assert session.sent() == []
    assert session.events() == [
        CommandFailed(tag=tag, cause="the command was aborted before it was sent"),
        TaskManaged(tag=managing, response=TaskAnswer.COMPLETE),
    ]
    session.max_cmdsn += 3
    session.give(NopIn())
    assert session.sent() == []


@pytest.mark.parametrize("kind", ["ended", "ping", "never"])
def test_an_abort_of_what_is_no_command_any_more(kind: str) -> None:
    session = Session()
    tag = 99
    if kind == "ping":
        tag = session.machine.ping(0)
    elif kind == "ended":
        tag = session.read(0)
        session.sent()
        session.give(ScsiResponse(itt=tag))
        session.events()
    managing = manage(session, ABORT, tag)
    assert session.event(TaskManaged) == TaskManaged(tag=managing, response=TaskAnswer.NO_TASK)


def test_a_reset_leaves_commands_alone_that_were_not_sent() -> None:
    session = Session(window=1)
    first, second = session.read(), session.read()
    session.sent()
    managing = manage(session, LUN_RESET)
    session.sent()
    session.give(TaskManagementResponse(itt=managing))
    assert failed(session.events()) == [first]
    session.max_cmdsn += 1
    session.give(NopIn())
    assert session.one(ScsiCommand).itt == second


def test_one_function_at_a_time() -> None:
    session = Session()
    first, second = manage(session, WARM), manage(session, LUN_RESET)
    session.machine.ping(0)
    kinds = [item.pdu for item in session.sent()]
    assert [type(pdu) for pdu in kinds] == [TaskManagementRequest, NopOut]
    assert kinds[0].itt == first
    session.give(TaskManagementResponse(itt=first))
    assert session.one(TaskManagementRequest).itt == second


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (REASSIGN, {"task": 1}),
        (ABORT, {}),
        (ABORT, {"task": 1, "lun": LUN}),
        (LUN_RESET, {}),
        (LUN_RESET, {"lun": LUN, "task": 1}),
        (WARM, {"lun": LUN}),
        (COLD, {"task": 1}),
    ],
    ids=str,
)
def test_functions_called_wrongly(function: TaskFunction, arguments: dict[str, Any]) -> None:
    with pytest.raises(Misuse, match="manage_task"):
        Session().machine.manage_task(function, now=0, **arguments)


# Logout.


@pytest.mark.parametrize("reason", LogoutReason, ids=lambda value: value.name)
@pytest.mark.parametrize("answer", [*LogoutAnswer, 9], ids=str)
def test_logout(reason: LogoutReason, answer: int) -> None:
    session = Session(cid=3)
    tag = session.machine.logout(0, reason)
    request = session.one(LogoutRequest)
    assert (request.immediate, request.reason, request.itt) == (True, reason, tag)
    assert request.cid == (0 if reason is LogoutReason.CLOSE_SESSION else 3)
    assert session.phase() is Phase.LOGGING_OUT
    session.give(LogoutResponse(itt=tag, response=answer, time2wait=4, time2retain=9))
    assert session.event(LoggedOut) == LoggedOut(tag=tag, response=answer, time2wait=4, time2retain=9)
    assert session.phase() is Phase.LOGGED_OUT
    session.machine.connection_ended(0)
    assert session.events() == []


def test_nothing_is_sent_after_a_logout() -> None:
    session = Session(window=3, immediate_data=False)
    reading, writing = session.read(), session.write(pattern(5000))
    session.machine.next_pdu()
    session.machine.next_pdu()
    streaming = session.machine.send_text((("SendTargets", "All"),), 0, stream=True)
    session.machine.next_pdu()
    managing = manage(session, ABORT, reading)
    session.machine.next_pdu()
    unsent = session.read()
    session.give(NopIn(ttt=5), b"answer me")
    tag = session.machine.logout(0)
    assert session.event(CommandFailed).tag == unsent
    assert session.one(LogoutRequest).itt == tag
    session.give(NopIn(ttt=6))
    session.give(ReadyToTransfer(itt=writing, ttt=1, buffer_offset=2048, desired_length=100))
    session.give(TextResponse(itt=streaming, final=False, ttt=5), b"A=1\0")
    assert session.event(TextPart).data == b"A=1\0"
    session.give(TaskManagementResponse(itt=managing))
    assert failed(session.events()) == [reading]
    assert session.sent() == []
    session.give(LogoutResponse(itt=tag))
    first, last = session.events()
    assert first == CommandFailed(tag=writing, cause="the session was logged out")
    assert isinstance(last, LoggedOut)
    assert session.machine.active == 0


def test_what_waits_for_its_slot_does_not_follow_a_logout() -> None:
    session = Session()
    ping, managing = session.machine.ping(0), manage(session, WARM)
    session.sent()
    session.machine.ping(0)
    manage(session, LUN_RESET)
    session.machine.logout(0)
    session.one(LogoutRequest)
    session.give(NopIn(itt=ping))
    session.give(TaskManagementResponse(itt=managing))
    assert len(session.events()) == 2
    assert session.sent() == []


def test_a_target_that_counts_an_immediate_logout() -> None:
    """As istgt does: a remark, and as good as any other answer."""
    session = Session()
    tag = session.machine.logout(0)
    session.sent()
    session.give(LogoutResponse(itt=tag), exp_cmdsn=CMDSN + 1)
    remark, event = session.events()
    assert isinstance(remark, Remark)
    assert isinstance(event, LoggedOut)


def test_a_command_may_end_between_logout_and_its_answer() -> None:
    session = Session()
    tag = session.read(100)
    session.sent()
    logout = session.machine.logout(0)
    session.sent()
    session.give(DataIn(itt=tag, final=True), pattern(100))
    session.give(ScsiResponse(itt=tag))
    assert session.event(CommandFinished).result.data == pattern(100)
    session.give(LogoutResponse(itt=logout))
    session.event(LoggedOut)


@pytest.mark.parametrize("window", [0, 4], ids=["closed", "open"])
def test_a_logout_while_another_immediate_request_is_under_way(window: int) -> None:
    session = Session(window=window)
    session.machine.ping(0)
    session.sent()
    session.machine.logout(0)
    request = session.one(LogoutRequest)
    assert request.immediate == (window == 0)
    assert request.cmdsn == CMDSN


@pytest.mark.parametrize("call", ["read", "ping", "text", "manage", "logout", "reset"])
@pytest.mark.parametrize("answered", [False, True], ids=["asked", "answered"])
def test_no_call_is_taken_after_a_logout(call: str, answered: bool) -> None:
    session = Session()
    tag = session.machine.logout(0)
    session.sent()
    if answered:
        session.give(LogoutResponse(itt=tag))
    calls: dict[str, Any] = {
        "read": session.read,
        "ping": lambda: session.machine.ping(0),
        "text": lambda: session.machine.send_text((), 0),
        "manage": lambda: manage(session, WARM),
        "logout": lambda: session.machine.logout(0),
        "reset": lambda: session.machine.reset_text(1, 0),
    }
    with pytest.raises(Misuse, match="was logged out" if answered else "is being logged out"):
        calls[call]()


def test_a_logout_for_no_reason() -> None:
    with pytest.raises(Misuse, match="3 is no reason"):
        Session().machine.logout(0, 3)


def test_a_target_that_closes_instead_of_answering() -> None:
    session = Session()
    command = session.read()
    session.sent()
    tag = session.machine.logout(0)
    session.sent()
    session.machine.connection_ended(0)
    assert session.events() == [
        CommandFailed(tag=command, cause="the session was logged out"),
        LoggedOut(tag=tag, response=None),
    ]
    assert session.phase() is Phase.LOGGED_OUT


@pytest.mark.parametrize("asked", [False, True], ids=["in full feature", "before the request left"])
def test_a_connection_that_ends_by_itself(asked: bool) -> None:
    session = Session()
    if asked:
        session.machine.logout(0)
    with pytest.raises(SessionError, match="the target closed the connection") as caught:
        session.machine.connection_ended(0)
    assert (caught.value.exit_code, caught.value.retryable) == (ExitCode.TRANS, True)
    assert session.phase() is Phase.FAILED
    with pytest.raises(Misuse):
        session.machine.connection_ended(0)


def test_a_logout_of_a_discovery_session() -> None:
    session = Session(session_type=SessionType.DISCOVERY)
    tag = session.machine.logout(0)
    session.one(LogoutRequest)
    session.give(LogoutResponse(itt=tag))
    session.event(LoggedOut)


# Reject.


def rejecting(session: Session, refused: Pdu | bytes, reason: int = 9) -> None:
    header = refused if isinstance(refused, bytes) else refused.encode()
    session.give(Reject(reason=reason), header)


def test_a_rejected_command_has_failed() -> None:
    session = Session(immediate_data=False)
    tag = session.write(pattern(5000))
    raw = session.machine.next_pdu()
    assert raw is not None
    rejecting(session, raw.bhs, 5)
    assert session.events() == [
        Rejected(reason=5, header=raw.bhs, tag=tag),
        CommandFailed(tag=tag, cause="the target rejected the command: command not supported"),
    ]
    assert session.sent() == []
    session.give(ScsiResponse(itt=tag))
    assert session.events() == []


def test_rejected_data_leaves_the_command_to_its_status() -> None:
    session = Session(immediate_data=False)
    tag = session.write(pattern(5000))
    sent = session.sent()
    rejecting(session, sent[1].pdu, 2)
    assert session.event(Rejected).tag is None
    session.give(ScsiResponse(itt=tag, status=2))
    session.event(CommandFinished)


@pytest.mark.parametrize("kind", ["ping", "text", "manage"])
def test_a_rejected_request_has_ended_and_the_next_one_is_sent(kind: str) -> None:
    session = Session()
    tag = {
        "ping": lambda: session.machine.ping(0),
        "text": lambda: session.machine.send_text((("X-a", "b"),), 0),
        "manage": lambda: manage(session, WARM),
    }[kind]()
    following = manage(session, LUN_RESET) if kind == "manage" else session.machine.ping(0)
    (sent,) = session.sent()
    rejecting(session, sent.pdu, 6)
    assert session.event(Rejected) == Rejected(reason=6, header=sent.pdu.encode(), tag=tag)
    (sent,) = session.sent()
    assert sent.pdu.itt == following


def test_a_rejected_ping_of_the_timer_is_a_remark() -> None:
    session = Session(timers=Timers())
    session.machine.handle_timer(5)
    rejecting(session, session.one(NopOut), 5)
    assert "rejected a ping: command not supported" in session.event(Remark).text
    assert session.machine.active == 0


def test_a_reset_answered_by_a_reject() -> None:
    session = Session()
    tag = session.machine.send_text((("X-a", "b"),), 0, stream=True)
    session.sent()
    session.machine.reset_text(tag, 0)
    session.give(TextResponse(itt=tag, final=False, ttt=1))
    rejecting(session, session.one(TextRequest))
    assert session.event(TextAnswered) == TextAnswered(tag=tag, pairs=())


def test_a_rejected_answer_to_a_ping_concerns_no_task() -> None:
    session = Session()
    session.give(NopIn(ttt=1))
    rejecting(session, session.one(NopOut))
    assert session.event(Rejected).tag is None


def test_a_reject_for_a_task_that_has_ended() -> None:
    session = Session(immediate_data=False)
    tag = session.write(pattern(1000))
    sent = session.sent()
    session.give(ScsiResponse(itt=tag))
    session.events()
    rejecting(session, sent[1].pdu)
    assert session.event(Rejected).tag is None


@pytest.mark.parametrize("reason", [*REJECT_REASONS, 0x0B, 0xFF], ids=hex)
def test_a_rejected_logout_ends_the_session(reason: int) -> None:
    session = Session()
    session.machine.logout(0)
    with pytest.raises(SessionError, match="refuses to log us out") as caught:
        rejecting(session, session.one(LogoutRequest), reason)
    assert (caught.value.exit_code, caught.value.hint) == (ExitCode.LOGOUT, "close the connection")
    assert session.phase() is Phase.FAILED


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        (b"", "does not say which: 0 bytes"),
        (bytes(47), "does not say which: 47 bytes"),
        (LoginRequest(transit=True, csg=0, isid=bytes(6), cmdsn=1, exp_statsn=1), "not sent: Login Request"),
        (SnackRequest(type=0, exp_statsn=1), "not sent: SNACK Request"),
        (ScsiResponse(itt=1), "not sent: SCSI Response"),
        (bytes([0x3C]) + bytes(47), "not sent: unknown opcode 0x3c"),
        (NopOut(itt=1, cmdsn=1, exp_statsn=1), "rejected NOP-Out for a SCSI command"),
        (TextRequest(itt=1, cmdsn=1, exp_statsn=1), "rejected Text Request for a SCSI command"),
        (ScsiCommand(lun=NO_LUN, itt=2, cmdsn=1, exp_statsn=1, cdb=bytes(16)), "for a task that waits to be sent"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rejects_of_what_was_never_sent(refused: Pdu | bytes, words: str) -> None:
    session = Session(window=1)
    session.read()
    session.sent()
    session.read()
    with pytest.raises(SessionError, match=f"Reject: .*{words}"):
        rejecting(session, refused)


def test_more_than_a_header_comes_with_a_reject() -> None:
    session = Session()
    tag = session.read()
    command = session.one(ScsiCommand)
    rejecting(session, command.encode() + bytes(100))
    assert session.events()[0] == Rejected(reason=9, header=command.encode(), tag=tag)


# Asynchronous Message.

ASYNCS: list[tuple[dict[str, Any], bytes, SessionEvent]] = [
    ({"event": 0, "lun": LUN.wire}, b"\0\x03abc", ScsiAsync(lun=LUN, sense=b"abc")),
    ({"event": 1, "parameter3": 30}, b"", LogoutRequested(seconds=30)),
    ({"event": 3, "parameter2": 3, "parameter3": 4}, b"", SessionDropped(time2wait=3, time2retain=4)),
    ({"event": 4, "parameter3": 9}, b"", NegotiationRequested(seconds=9)),
    ({"event": 5, "lun": LUN.wire}, b"", TasksTerminated(lun=LUN)),
    ({"event": 255, "vcode": 7}, b"vendor", VendorAsync(vcode=7, data=b"vendor")),
    ({"event": 248, "vcode": 1}, b"", VendorAsync(vcode=1, data=b"")),
]


@pytest.mark.parametrize(("fields", "data", "event"), ASYNCS, ids=[str(case[0]["event"]) for case in ASYNCS])
def test_asynchronous_messages(fields: dict[str, Any], data: bytes, event: SessionEvent) -> None:
    session = Session()
    session.give(AsyncMessage(**fields), data)
    assert session.events() == [event]
    ends = isinstance(event, SessionDropped)
    assert session.phase() is (Phase.DROPPED if ends else Phase.FULL_FEATURE)


def test_our_connection_is_dropped() -> None:
    session = Session(cid=2)
    tag = session.read()
    session.sent()
    session.give(AsyncMessage(event=2, parameter1=2, parameter2=5, parameter3=6))
    assert session.events() == [
        CommandFailed(tag=tag, cause="the target drops the connection"),
        ConnectionDropped(cid=2, time2wait=5, time2retain=6),
    ]
    assert session.phase() is Phase.DROPPED
    assert session.machine.next_deadline() is None
    session.give(ScsiResponse(itt=tag))
    session.give(NopIn(ttt=4))
    assert (session.events(), session.sent()) == ([], [])
    session.machine.connection_ended(0)
    with pytest.raises(Misuse, match="was dropped by the target"):
        session.read()


def test_another_connection_is_dropped() -> None:
    session = Session()
    session.give(AsyncMessage(event=2, parameter1=9, parameter2=5, parameter3=6))
    remark, event = session.events()
    assert isinstance(remark, Remark)
    assert event == ConnectionDropped(cid=9, time2wait=5, time2retain=6)
    assert session.phase() is Phase.FULL_FEATURE


@pytest.mark.parametrize("event", [6, 100, 247])
def test_an_event_nobody_assigned_is_remarked(event: int) -> None:
    session = Session()
    session.give(AsyncMessage(event=event))
    assert f"event {event}" in session.event(Remark).text


def test_sense_of_an_event_that_is_cut() -> None:
    session = Session()
    session.give(AsyncMessage(event=0, lun=OTHER_LUN.wire), b"\0\x09ab")
    remark, event = session.events()
    assert isinstance(remark, Remark)
    assert event == ScsiAsync(lun=OTHER_LUN, sense=b"ab")


def test_terminated_tasks_are_those_sent_of_that_lun() -> None:
    session = Session(window=2)
    own, other, waiting = session.read(), session.read(lun=OTHER_LUN), session.read()
    session.sent()
    session.give(AsyncMessage(event=5, lun=LUN.wire))
    events = session.events()
    assert failed(events) == [own]
    assert events[-1] == TasksTerminated(lun=Lun(LUN.wire))
    assert session.machine.active == 2
    assert {other, waiting} == {task.itt for task in session.machine._state.tasks.commands()}


def test_a_message_uses_a_statsn_up() -> None:
    session = Session()
    session.give(AsyncMessage(event=1))
    session.machine.ping(0)
    assert session.one(NopOut).exp_statsn == STATSN + 2


def test_a_message_while_logging_out_may_drop_the_session() -> None:
    session = Session()
    session.machine.logout(0)
    session.sent()
    session.give(AsyncMessage(event=3))
    session.event(SessionDropped)
    assert session.phase() is Phase.DROPPED


# Time.


def test_silence_is_broken_by_a_ping_and_a_pong_ends_it() -> None:
    session = Session(timers=Timers(ping_interval=5, ping_timeout=3))
    assert session.machine.next_deadline() == 5
    session.machine.handle_timer(4.9)
    assert session.sent() == []
    session.machine.handle_timer(5)
    ping = session.one(NopOut)
    assert session.machine.next_deadline() == 8
    session.machine.handle_timer(7.9)
    session.now = 7.95
    session.give(NopIn(itt=ping.itt))
    assert session.events() == []
    assert session.machine.next_deadline() == pytest.approx(12.95)


def test_a_ping_without_an_answer() -> None:
    session = Session(timers=Timers(ping_interval=5, ping_timeout=3))
    session.machine.handle_timer(5)
    session.sent()
    with pytest.raises(SessionError, match="did not answer a NOP-Out within 3 s") as caught:
        session.machine.handle_timer(8)
    assert (caught.value.exit_code, caught.value.retryable) == (ExitCode.PDU_TIMEOUT, True)
    assert session.phase() is Phase.FAILED


def test_a_target_that_sends_anything_is_alive() -> None:
    session = Session(timers=Timers(ping_interval=5, ping_timeout=3))
    session.machine.handle_timer(5)
    session.sent()
    session.now = 7
    session.give(NopIn())
    assert session.machine.next_deadline() == 10
    session.machine.handle_timer(9.9)
    with pytest.raises(SessionError):
        session.machine.handle_timer(10)


def test_anything_that_comes_puts_the_ping_off() -> None:
    session = Session(timers=Timers(ping_interval=5))
    session.now = 3
    session.give(NopIn())
    assert session.machine.next_deadline() == 8


@pytest.mark.parametrize("session_type", SessionType, ids=lambda value: value.name)
def test_no_pings(session_type: SessionType) -> None:
    interval = 0 if session_type is SessionType.NORMAL else 5
    session = Session(session_type=session_type, timers=Timers(ping_interval=interval))
    assert session.machine.next_deadline() is None
    session.machine.handle_timer(1000)
    assert session.sent() == []


def test_a_ping_that_may_wait_for_ever() -> None:
    session = Session(timers=Timers(ping_interval=5, ping_timeout=0))
    session.machine.handle_timer(5)
    session.one(NopOut)
    assert session.machine.next_deadline() is None
    session.machine.handle_timer(4000)
    assert session.sent() == []


def test_a_waiting_request_has_no_time_yet() -> None:
    session = Session(timers=Timers(ping_interval=0, ping_timeout=3, text_timeout=10))
    text = session.machine.send_text((("X-a", "b"),), 0)
    session.machine.ping(0)
    session.sent()
    assert session.machine.next_deadline() == 10
    session.now = 9
    session.give(TextResponse(itt=text))
    assert session.machine.next_deadline() == 12


def test_each_part_of_a_text_has_its_time() -> None:
    session = Session(timers=Timers(ping_interval=0, text_timeout=10))
    tag = session.machine.send_text((("X-a", "b"),), 0, stream=True)
    for count in range(1, 4):
        session.sent()
        session.now = 9.0 * count
        session.give(TextResponse(itt=tag, final=False, ttt=1), b"x")
        assert session.machine.next_deadline() == session.now + 10
    with pytest.raises(SessionError, match="a Text Request within 10 s"):
        session.machine.handle_timer(37)


@pytest.mark.parametrize(
    ("function", "seconds"), [(ABORT, 15), (SET_ABORT, 15), (CLEAR_ACA, 15), (LUN_RESET, 30), (WARM, 30), (COLD, 30)]
)
def test_task_management_has_its_time(function: TaskFunction, seconds: int) -> None:
    session = Session()
    tag = session.read()
    session.sent()
    manage(session, function, tag if function is ABORT else None)
    assert session.machine.next_deadline() == seconds
    with pytest.raises(SessionError, match=f"a task management function within {seconds} s"):
        session.machine.handle_timer(seconds)


def test_a_logout_has_its_time_and_pings_stop() -> None:
    session = Session(timers=Timers(ping_interval=1, logout_timeout=15))
    session.machine.ping(0)
    session.machine.logout(0)
    assert session.machine.next_deadline() == 15
    with pytest.raises(SessionError, match="a Logout Request within 15 s") as caught:
        session.machine.handle_timer(15)
    assert (caught.value.exit_code, caught.value.retryable) == (ExitCode.LOGOUT, False)


def test_abandoned() -> None:
    session = Session()
    session.read()
    error = session.machine.abandon("the cable is out", hint="put it in", exit_code=ExitCode.TRANS_TIMEOUT)
    assert error.line() == (
        "session: iqn.2004-01.com.example:disk at 192.0.2.1:3260: the cable is out; next: put it in"
    )
    assert error.exit_code is ExitCode.TRANS_TIMEOUT
    assert session.sent() == []


@pytest.mark.parametrize("value", [-1, 3601, float("nan")], ids=str)
def test_timers_have_a_range(value: float) -> None:
    with pytest.raises(ValueError, match="outside 0 to 3600"):
        Timers(text_timeout=value)


def test_a_pong_of_the_callers_ping_is_told_and_of_the_timers_not() -> None:
    session = Session(timers=Timers(ping_interval=5))
    session.machine.handle_timer(5)
    ours = session.one(NopOut)
    tag = session.machine.ping(5)
    session.now = 6
    session.give(NopIn(itt=ours.itt))
    assert session.one(NopOut).itt == tag
    session.give(NopIn(itt=tag))
    assert session.event(Pong).tag == tag
