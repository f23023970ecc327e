# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the session does with a PDU of its target: one method for each action of the tables in ``fullfeature_states``.

Every method raises :class:`ProtocolViolation` when the PDU breaks a rule. The PDU has passed the tables already, so a
method knows which kinds of PDU and task it gets.
"""

from __future__ import annotations

from collections.abc import Callable

from iscsiboot.initiator import notices, requests
from iscsiboot.initiator.errors import ProtocolViolation
from iscsiboot.initiator.fullfeature_states import Action, Phase
from iscsiboot.initiator.keys import KEYS
from iscsiboot.initiator.negotiation import check_value
from iscsiboot.initiator.pdu.control import AsyncMessage, LogoutResponse, NopIn, TextResponse
from iscsiboot.initiator.pdu.header import RESERVED_TAG
from iscsiboot.initiator.pdu.reject import Reject
from iscsiboot.initiator.pdu.scsi_codes import ScsiAnswer, TaskAnswer, TaskFunction
from iscsiboot.initiator.sending import slot_of
from iscsiboot.initiator.session_events import (
    CommandFailed,
    CommandFinished,
    LoggedOut,
    Pong,
    TaskManaged,
    TextAnswered,
    TextPart,
)
from iscsiboot.initiator.session_state import SessionState
from iscsiboot.initiator.tasks import CommandTask, LogoutTask, ManagementTask, PingTask, TextTask
from iscsiboot.initiator.text import parse_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from iscsiboot.initiator.pdu.scsi import DataIn, ReadyToTransfer, ScsiResponse, TaskManagementResponse
else:
    Any = object

# The task and the PDU are of the kinds the cell of the table stands for.
Reaction = Callable[[Any, Any, bytes, float], None]

SEGMENT_KEY = "MaxRecvDataSegmentLength"


class Reactions:
    """The methods, by action; each takes the task (None for a PDU of no task), the PDU, its data and the time."""

    def __init__(self, state: SessionState) -> None:
        self._state = state
        self.by_action: dict[Action, Reaction] = {
            Action.DATA: self._data,
            Action.READY: self._ready,
            Action.STATUS: self._status,
            Action.PONG: self._pong,
            Action.PING: self._ping,
            Action.TEXT: self._text,
            Action.MANAGED: self._managed,
            Action.CLOSE: self._close,
            Action.NOTICE: self._notice,
            Action.REJECTED: self._rejected,
            Action.DROP: self._drop,
        }

    # SCSI commands.

    def _data(self, task: CommandTask, pdu: DataIn, data: bytes, now: float) -> None:
        self._state.remark(task.transfer.take_data(pdu, data))
        if pdu.acknowledge:
            self._state.remark("the target asks for data acknowledgement, which belongs to error recovery level 1")
        if pdu.status_present:
            self._finish(task, pdu, b"", now)

    def _ready(self, task: CommandTask, pdu: ReadyToTransfer, _: bytes, __: float) -> None:
        self._state.sender.data(task, task.transfer.take_ready(pdu))

    def _status(self, task: CommandTask, pdu: ScsiResponse, data: bytes, now: float) -> None:
        if pdu.response != ScsiAnswer.COMPLETED:
            self._state.end(task, now)
            self._state.tell(CommandFailed(tag=task.itt, cause=_no_status(pdu.response)))
            return
        from iscsiboot.initiator.transfer import parse_sense  # it came with the command

        sense, remark = parse_sense(data)
        self._state.remark(remark)
        self._finish(task, pdu, sense, now)

    def _finish(self, task: CommandTask, pdu: ScsiResponse | DataIn, sense: bytes, now: float) -> None:
        result, remark = task.transfer.result(pdu, sense)
        self._state.remark(remark)
        self._state.end(task, now)
        self._state.tell(CommandFinished(tag=task.itt, result=result))

    def _drop(self, _: None, __: Any, ___: bytes, ____: float) -> None:
        """An answer to a command that was aborted: it was under way when the task ended."""

    # Pings of both sides.

    def _pong(self, task: PingTask, pdu: NopIn, data: bytes, now: float) -> None:
        if pdu.ttt != RESERVED_TAG:
            self._state.remark("the target answered a ping and asks for an answer to that (TTT is not reserved)")
        echo = task.data[: self._state.negotiated.max_recv_data_segment_length]
        if data != echo:
            raise ProtocolViolation(
                f"the target answered a ping with {len(data)} bytes other than the {len(echo)} sent"
            )
        self._state.end(task, now)
        if not task.ours:
            self._state.tell(Pong(tag=task.itt, data=data))

    def _ping(self, _: None, pdu: NopIn, data: bytes, __: float) -> None:
        if pdu.ttt == RESERVED_TAG:
            return
        echo = data[: self._state.sender.limit]
        self._state.sender.answer(requests.pong(pdu.lun, pdu.ttt, len(echo)), echo)

    # Text.

    def say(self, task: TextTask, now: float, *, first: bool = False) -> None:
        """Send the next Text Request of a negotiation."""
        turn, sender = task.exchange.turn(), self._state.sender
        make = requests.text(task.itt, turn)
        if first:
            sender.request(slot_of(task), task, make, turn.data, now)
        else:
            sender.go_on(task, make, turn.data, now)

    def _text(self, task: TextTask, pdu: TextResponse, data: bytes, now: float) -> None:
        exchange = task.exchange
        heard = exchange.take(pdu, data)
        self._state.remark(heard.remark)
        if heard.final:
            self._state.end(task, now)
        else:
            self.say(task, now)
        if exchange.stream and not exchange.given_up:
            if heard.data or heard.final:
                self._state.tell(TextPart(tag=task.itt, data=heard.data, final=heard.final))
        elif heard.final:
            self._adopt(dict(exchange.pairs))
            self._state.tell(TextAnswered(tag=task.itt, pairs=exchange.pairs))

    def _adopt(self, pairs: dict[str, str]) -> None:
        """What the target declares anew holds from the next PDU on (section 13.12).

        Never more than after login, where the caller's own limit went in as well: sending less is always allowed.
        """
        value = pairs.get(SEGMENT_KEY)
        if value is not None:
            check_value(KEYS[SEGMENT_KEY], value)
            most = self._state.negotiated.max_xmit_data_segment_length
            self._state.sender.limit = min(parse_number(value), most)

    # Task management, logout.

    def _managed(self, task: ManagementTask, pdu: TaskManagementResponse, _: bytes, now: float) -> None:
        state, function = self._state, task.function
        state.end(task, now)
        if pdu.response == TaskAnswer.COMPLETE:
            words = function.name.replace("_", " ")
            state.fail_commands(f"the command was ended by {words}", now, task.ends)
        elif pdu.response == TaskAnswer.NO_TASK and function is TaskFunction.ABORT_TASK:
            state.fail_commands("the target does not know the command", now, task.ends)
        state.tell(TaskManaged(tag=task.itt, response=pdu.response))
        if pdu.response == TaskAnswer.COMPLETE and function is TaskFunction.TARGET_COLD_RESET:
            state.close(Phase.DROPPED, "the target was reset", now)

    def _close(self, task: LogoutTask, pdu: LogoutResponse, _: bytes, now: float) -> None:
        self._state.close(Phase.LOGGED_OUT, "the session was logged out", now)
        self._state.tell(
            LoggedOut(tag=task.itt, response=pdu.response, time2wait=pdu.time2wait, time2retain=pdu.time2retain)
        )

    # What names no task.

    def _notice(self, _: None, pdu: AsyncMessage, data: bytes, now: float) -> None:
        notices.notice(self._state, pdu, data, now)

    def _rejected(self, _: None, pdu: Reject, data: bytes, now: float) -> None:
        notices.rejected(self._state, pdu, data, now)


def _no_status(response: int) -> str:
    """Section 11.4.3: why there is no status."""
    if response == ScsiAnswer.TARGET_FAILURE:
        return "the target failed before the command came to an end (target failure)"
    kind = "a response of the vendor's own" if response >= 0x80 else "a response the RFC does not assign"
    return f"the command has no status: {kind}, {response:#04x}"
