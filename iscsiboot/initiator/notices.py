# SPDX-License-Identifier: LGPL-2.1-or-later
"""The two PDUs a target sends without being asked and that name no task: Asynchronous Message and Reject.

What a Reject means for the task it concerns (RFC 7143 section 11.17): a refused SCSI Command was never begun and gets
no answer; for a refused Data-Out the target owes the command its SCSI Response, so the command goes on; any other
refused request ends its task. A refused Logout leaves only the end of the connection.
"""

from __future__ import annotations

from iscsiboot.initiator.errors import ProtocolViolation
from iscsiboot.initiator.fullfeature_states import Phase, TaskKind
from iscsiboot.initiator.pdu.control import AsyncEvent, AsyncMessage
from iscsiboot.initiator.pdu.header import BHS_LENGTH, ITT, Header, Opcode
from iscsiboot.initiator.pdu.reject import Reject
from iscsiboot.initiator.session_events import (
    CommandFailed,
    ConnectionDropped,
    LogoutRequested,
    NegotiationRequested,
    Rejected,
    ScsiAsync,
    SessionDropped,
    TasksTerminated,
    TextAnswered,
    VendorAsync,
)
from iscsiboot.initiator.session_state import SessionState
from iscsiboot.initiator.tasks import PingTask, TextTask

VENDOR_EVENTS = range(248, 256)


class LogoutRefused(ProtocolViolation):
    """The target rejected the Logout Request; the machine gives the error its own exit code."""


_KIND_OF: dict[int, TaskKind] = {
    Opcode.NOP_OUT: TaskKind.PING,
    Opcode.SCSI_COMMAND: TaskKind.COMMAND,
    Opcode.TASK_MANAGEMENT_REQUEST: TaskKind.MANAGEMENT,
    Opcode.TEXT_REQUEST: TaskKind.TEXT,
    Opcode.DATA_OUT: TaskKind.COMMAND,
    Opcode.LOGOUT_REQUEST: TaskKind.LOGOUT,
}
"""What this machine sends, and the kind of task it belongs to."""


def notice(state: SessionState, pdu: AsyncMessage, data: bytes, now: float) -> None:
    """An Asynchronous Message (section 11.9)."""
    if pdu.event == AsyncEvent.SCSI:
        from iscsiboot.initiator.transfer import parse_sense  # a session without disks never hears this
        from iscsiboot.model.lun import Lun

        sense, remark = parse_sense(data)
        state.remark(remark)
        state.tell(ScsiAsync(lun=Lun(pdu.lun), sense=sense))
    elif pdu.event == AsyncEvent.LOGOUT_REQUESTED:
        state.tell(LogoutRequested(seconds=pdu.parameter3))
    elif pdu.event == AsyncEvent.CONNECTION_DROP:
        if pdu.parameter1 == state.cid:
            state.close(Phase.DROPPED, "the target drops the connection", now)
        else:
            state.remark(f"the target drops connection {pdu.parameter1}, which this session does not have")
        state.tell(ConnectionDropped(cid=pdu.parameter1, time2wait=pdu.parameter2, time2retain=pdu.parameter3))
    elif pdu.event == AsyncEvent.SESSION_DROP:
        state.close(Phase.DROPPED, "the target drops the session", now)
        state.tell(SessionDropped(time2wait=pdu.parameter2, time2retain=pdu.parameter3))
    elif pdu.event == AsyncEvent.NEGOTIATION_REQUESTED:
        state.tell(NegotiationRequested(seconds=pdu.parameter3))
    elif pdu.event == AsyncEvent.TASKS_TERMINATED:
        from iscsiboot.model.lun import Lun

        lun = Lun(pdu.lun)
        state.fail_commands("the target ended all commands of the LUN", now, lambda task: task.sent and task.lun == lun)
        state.tell(TasksTerminated(lun=lun))
    elif pdu.event in VENDOR_EVENTS:
        state.tell(VendorAsync(vcode=pdu.vcode, data=data))
    else:
        state.remark(f"the target sent an asynchronous message the RFC does not assign: event {pdu.event}")


def rejected(state: SessionState, pdu: Reject, data: bytes, now: float) -> None:
    """A Reject (section 11.17); its data is the header of the refused PDU."""
    if len(data) < BHS_LENGTH:
        raise ProtocolViolation(
            f"the target rejected a PDU ({pdu.words}) and does not say which: {len(data)} bytes of its header came"
        )
    header = data[:BHS_LENGTH]
    opcode = Header.decode(header).opcode
    kind = _KIND_OF.get(opcode)
    if kind is None:
        raise ProtocolViolation(f"the target rejected a PDU that was not sent: {Opcode.words(opcode)} ({pdu.words})")
    itt = int.from_bytes(header[ITT.offset : ITT.offset + ITT.width], "big")
    what = state.tasks.kind(itt)
    if what in (TaskKind.NONE, TaskKind.NEVER, TaskKind.ENDED):
        # Answers to pings have no task; a task may have ended before the Reject of one of its PDUs came.
        state.tell(Rejected(reason=pdu.reason, header=header))
        return
    if what is not kind:
        raise ProtocolViolation(f"the target rejected {Opcode.words(opcode)} for {what.value} ({pdu.words})")
    if opcode == Opcode.LOGOUT_REQUEST:
        raise LogoutRefused(f"the target refuses to log us out: {pdu.words}", hint="close the connection")
    _end(state, itt, opcode, pdu, header, now)


def _end(state: SessionState, itt: int, opcode: int, pdu: Reject, header: bytes, now: float) -> None:
    task = state.tasks.get(itt)
    if task is None or opcode == Opcode.DATA_OUT:
        state.tell(Rejected(reason=pdu.reason, header=header))
        return
    state.end(task, now, remember=opcode == Opcode.SCSI_COMMAND)
    if isinstance(task, PingTask) and task.ours:
        state.remark(f"the target rejected a ping: {pdu.words}")
        return
    if isinstance(task, TextTask) and task.exchange.given_up:
        state.tell(TextAnswered(tag=itt, pairs=()))
        return
    state.tell(Rejected(reason=pdu.reason, header=header, tag=itt))
    if opcode == Opcode.SCSI_COMMAND:
        state.tell(CommandFailed(tag=itt, cause=f"the target rejected the command: {pdu.words}"))
