# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tables of the full feature phase: every cell is entered and leads where it says, every gap ends the session."""

from __future__ import annotations

from typing import Any

import pytest

from iscsiboot.initiator.errors import Misuse, SessionError
from iscsiboot.initiator.fullfeature_states import PHASES, TASKS, Action, Handling, Phase, TaskKind
from iscsiboot.initiator.pdu.control import (
    AsyncMessage,
    LogoutResponse,
    NopIn,
    TextResponse,
)
from iscsiboot.initiator.pdu.header import RESERVED_TAG, Opcode, Pdu
from iscsiboot.initiator.pdu.login import LoginResponse
from iscsiboot.initiator.pdu.registry import TARGET_PDUS
from iscsiboot.initiator.pdu.reject import Reject
from iscsiboot.initiator.pdu.scsi import (
    DataIn,
    ReadyToTransfer,
    ScsiCommand,
    ScsiResponse,
    TaskFunction,
    TaskManagementResponse,
)
from iscsiboot.initiator.reactions import Reactions
from iscsiboot.initiator.stream import RawPdu
from iscsiboot.initiator.timers import Timers
from tests.unit.initiator.fullfeature_kit import Session, pattern

OPCODES = [opcode for opcode in Opcode if opcode in TARGET_PDUS]
WITHOUT_TASK = (Opcode.ASYNC_MESSAGE, Opcode.REJECT)

HONEST: dict[Opcode, tuple[dict[str, Any], bytes]] = {
    Opcode.NOP_IN: ({}, b""),
    Opcode.SCSI_RESPONSE: ({}, b""),
    Opcode.TASK_MANAGEMENT_RESPONSE: ({}, b""),
    Opcode.LOGIN_RESPONSE: ({}, b""),
    Opcode.TEXT_RESPONSE: ({}, b""),
    Opcode.DATA_IN: ({}, b""),
    Opcode.LOGOUT_RESPONSE: ({}, b""),
    Opcode.READY_TO_TRANSFER: ({"ttt": 5, "buffer_offset": 512, "desired_length": 1}, b""),
    Opcode.ASYNC_MESSAGE: ({"event": 1}, b""),
}

KINDS: dict[Opcode, Any] = {
    Opcode.NOP_IN: NopIn,
    Opcode.SCSI_RESPONSE: ScsiResponse,
    Opcode.TASK_MANAGEMENT_RESPONSE: TaskManagementResponse,
    Opcode.LOGIN_RESPONSE: LoginResponse,
    Opcode.TEXT_RESPONSE: TextResponse,
    Opcode.DATA_IN: DataIn,
    Opcode.LOGOUT_RESPONSE: LogoutResponse,
    Opcode.READY_TO_TRANSFER: ReadyToTransfer,
    Opcode.ASYNC_MESSAGE: AsyncMessage,
}


def with_task(kind: TaskKind, opcode: Opcode | None = None) -> tuple[Session, int]:
    """A session with a task of that kind (one that suits ``opcode``), and its tag."""
    session = Session(initial_r2t=True, window=0 if kind is TaskKind.WAITING else 32)
    machine, tag = session.machine, RESERVED_TAG
    if kind is TaskKind.NEVER:
        tag = 1
    elif kind in (TaskKind.COMMAND, TaskKind.WAITING, TaskKind.ENDED):
        tag = session.write(pattern(1000)) if opcode is Opcode.READY_TO_TRANSFER else session.read(100)
    elif kind is TaskKind.PING:
        tag = machine.ping(0)
    elif kind is TaskKind.TEXT:
        tag = machine.send_text((("X-a", "b"),), 0)
    elif kind is TaskKind.MANAGEMENT:
        tag = machine.manage_task(TaskFunction.TARGET_WARM_RESET, now=0)
    elif kind is TaskKind.LOGOUT:
        tag = machine.logout(0)
    session.sent()
    if kind is TaskKind.ENDED:
        aborting = machine.manage_task(TaskFunction.ABORT_TASK, now=0, task=tag)
        session.sent()
        session.give(TaskManagementResponse(itt=aborting))
        session.events()
    assert machine._state.tasks.kind(tag) is kind
    return session, tag


def pdu(opcode: Opcode, tag: int) -> tuple[Pdu, bytes]:
    """An honest PDU of the target for the task."""
    if opcode is Opcode.REJECT:
        return Reject(reason=9), ScsiCommand(lun=bytes(8), itt=0x99, cmdsn=1, exp_statsn=1, cdb=bytes(16)).encode()
    fields, data = HONEST[opcode]
    return KINDS[opcode](**fields, **({} if opcode in WITHOUT_TASK else {"itt": tag})), data


def in_phase(phase: Phase, opcode: Opcode) -> tuple[Session, int]:
    """A session in that phase with a task the PDU is for, where the phase can have one."""
    wanted = {
        Opcode.NOP_IN: TaskKind.NONE,
        Opcode.SCSI_RESPONSE: TaskKind.COMMAND,
        Opcode.DATA_IN: TaskKind.COMMAND,
        Opcode.READY_TO_TRANSFER: TaskKind.COMMAND,
        Opcode.TASK_MANAGEMENT_RESPONSE: TaskKind.MANAGEMENT,
        Opcode.TEXT_RESPONSE: TaskKind.TEXT,
    }
    session, tag = with_task(wanted.get(opcode, TaskKind.NONE), opcode)
    if phase in (Phase.LOGGING_OUT, Phase.LOGGED_OUT):
        logout = session.machine.logout(0)
        session.sent()
        tag = logout if opcode is Opcode.LOGOUT_RESPONSE else tag
        if phase is Phase.LOGGED_OUT:
            session.give(LogoutResponse(itt=logout))
    elif phase is Phase.DROPPED:
        session.give(AsyncMessage(event=3))
    session.events()
    assert session.phase() is phase
    return session, tag


PHASE_CELLS = [(phase, opcode) for phase in Phase for opcode in OPCODES if opcode in PHASES[phase]]
PHASE_GAPS = [
    (phase, opcode)
    for phase in Phase
    for opcode in OPCODES
    if opcode not in PHASES[phase] and phase is not Phase.FAILED
]
TASK_CELLS = [(kind, opcode) for kind in TaskKind for opcode in OPCODES if opcode in TASKS[kind]]
TASK_GAPS = [
    (kind, opcode)
    for kind in TaskKind
    for opcode in OPCODES
    if opcode not in TASKS[kind] and opcode not in (*WITHOUT_TASK, Opcode.LOGIN_RESPONSE)
]


def names(value: object) -> str:
    return value.name if isinstance(value, Phase | TaskKind | Opcode) else str(value)


def test_the_tables_know_everything() -> None:
    assert set(PHASES) == set(Phase)
    assert set(TASKS) == set(TaskKind)
    assert {action for row in TASKS.values() for action in row.values()} == set(Action)
    assert set(Reactions(Session().machine._state).by_action) == set(Action)
    assert {cell.handling for row in PHASES.values() for cell in row.values()} == set(Handling)
    reached = {phase for row in PHASES.values() for cell in row.values() for phase in cell.leads_to}
    assert reached == set(Phase) - {Phase.FAILED}
    taken = {opcode for row in TASKS.values() for opcode in row}
    assert taken == {opcode for row in PHASES.values() for opcode in row} == set(OPCODES) - {Opcode.LOGIN_RESPONSE}


@pytest.mark.parametrize(("phase", "opcode"), PHASE_CELLS, ids=names)
def test_every_cell_of_the_phases(phase: Phase, opcode: Opcode) -> None:
    session, tag = in_phase(phase, opcode)
    cell = PHASES[phase][opcode]
    before = session.machine._state.status.expected
    session.give(*pdu(opcode, tag))
    assert session.phase() in cell.leads_to
    assert session.machine._state.status.expected == session.statsn
    assert (before != session.statsn) == (opcode not in (Opcode.NOP_IN, Opcode.READY_TO_TRANSFER, Opcode.DATA_IN))
    if cell.handling is Handling.COUNT:
        assert (session.events(), session.sent()) == ([], [])


@pytest.mark.parametrize("phase", [Phase.FULL_FEATURE, Phase.LOGGING_OUT], ids=names)
@pytest.mark.parametrize("how", ["cold reset", "session drop"])
def test_the_cells_that_lead_to_more_than_one_phase(phase: Phase, how: str) -> None:
    opcode = Opcode.TASK_MANAGEMENT_RESPONSE if how == "cold reset" else Opcode.ASYNC_MESSAGE
    assert PHASES[phase][opcode].leads_to == {phase, Phase.DROPPED}
    session = Session()
    tag = session.machine.manage_task(TaskFunction.TARGET_COLD_RESET, now=0)
    session.sent()
    if phase is Phase.LOGGING_OUT:
        session.machine.logout(0)
        session.sent()
    session.give(TaskManagementResponse(itt=tag) if how == "cold reset" else AsyncMessage(event=3))
    assert session.phase() is Phase.DROPPED


@pytest.mark.parametrize(("phase", "opcode"), PHASE_GAPS, ids=names)
def test_every_gap_of_the_phases(phase: Phase, opcode: Opcode) -> None:
    session, tag = in_phase(phase, opcode)
    with pytest.raises(SessionError, match=rf"it has no place here: the session {phase.value}"):
        session.give(*pdu(opcode, tag))
    assert session.phase() is Phase.FAILED


def test_the_gaps_are_those_we_mean() -> None:
    assert set(PHASE_GAPS) == {
        *((phase, Opcode.LOGIN_RESPONSE) for phase in Phase if phase is not Phase.FAILED),
        (Phase.FULL_FEATURE, Opcode.LOGOUT_RESPONSE),
        *((Phase.LOGGED_OUT, opcode) for opcode in OPCODES),
    }
    for row in (PHASES[Phase.FAILED], TASKS[TaskKind.NEVER], TASKS[TaskKind.WAITING]):
        assert not row


@pytest.mark.parametrize("first", range(256))
def test_in_failed_nothing_is_taken(first: int) -> None:
    session = Session()
    with pytest.raises(SessionError):
        session.give(ScsiResponse(itt=9))
    with pytest.raises(Misuse):
        session.machine.receive(RawPdu(bytes([first]) + bytes(47)), 0)


@pytest.mark.parametrize("opcode", sorted(set(range(64)) - set(TARGET_PDUS)), ids=hex)
def test_no_opcode_beyond_the_tables_is_taken(opcode: int) -> None:
    session = Session()
    with pytest.raises(SessionError, match="is nothing a target sends"):
        session.machine.receive(RawPdu(bytes([opcode]) + bytes(47)), 0)
    assert session.phase() is Phase.FAILED


@pytest.mark.parametrize(("kind", "opcode"), TASK_CELLS, ids=names)
def test_every_cell_of_the_tasks(kind: TaskKind, opcode: Opcode, monkeypatch: pytest.MonkeyPatch) -> None:
    session, tag = with_task(kind, opcode)
    action = TASKS[kind][opcode]
    called = []
    honest = session.machine._reactions.by_action[action]

    def watched(*given: Any) -> None:
        called.append(given[0])
        honest(*given)

    monkeypatch.setitem(session.machine._reactions.by_action, action, watched)
    task = session.machine._state.tasks.get(tag)
    session.give(*pdu(opcode, tag))
    assert called == [task]
    assert (task is None) == (kind in (TaskKind.NONE, TaskKind.ENDED))
    assert session.phase() is (Phase.LOGGED_OUT if action is Action.CLOSE else Phase.FULL_FEATURE)


@pytest.mark.parametrize(("kind", "opcode"), TASK_GAPS, ids=names)
def test_every_gap_of_the_tasks(kind: TaskKind, opcode: Opcode) -> None:
    session, tag = with_task(kind, opcode)
    if opcode is Opcode.LOGOUT_RESPONSE:
        # Outside of a logout the table of phases would refuse it first.
        session.machine._state.phase = Phase.LOGGING_OUT
    with pytest.raises(SessionError, match=f"it came for {kind.value}"):
        session.give(*pdu(opcode, tag))
    assert session.phase() is Phase.FAILED


@pytest.mark.parametrize("phase", [Phase.LOGGED_OUT, Phase.DROPPED], ids=names)
def test_timers_do_not_run_in_phases_that_are_over(phase: Phase) -> None:
    session = Session(timers=Timers(ping_interval=5))
    session.machine.manage_task(TaskFunction.TARGET_WARM_RESET, now=0)
    session.sent()
    assert session.machine.next_deadline() == 5
    if phase is Phase.DROPPED:
        session.give(AsyncMessage(event=3))
    else:
        tag = session.machine.logout(0)
        session.sent()
        session.give(LogoutResponse(itt=tag))
    assert session.machine.next_deadline() is None
    session.machine.handle_timer(1e6)
    assert session.phase() is phase
    assert session.sent() == []
