# SPDX-License-Identifier: LGPL-2.1-or-later
"""The full feature phase of a session with one connection, as a machine without I/O (RFC 7143 chapters 4, 7 and 11).

Driven by exactly three things: calls, PDUs given to :meth:`FullFeature.receive`, and time (``now``, seconds on any
clock that does not go back). After each of them the caller sends what :meth:`FullFeature.next_pdu` hands out, takes the
events of :meth:`FullFeature.next_event`, and calls :meth:`FullFeature.handle_timer` at
:meth:`FullFeature.next_deadline`.

Theory of operation: what a PDU may do is in the tables of :mod:`iscsiboot.initiator.fullfeature_states`, what it does
in :mod:`iscsiboot.initiator.reactions`, when something is sent and with which numbers in
:mod:`iscsiboot.initiator.sending`. This file has the calls, the timers, and the one place where a broken rule becomes a
:class:`SessionError`.

Error recovery level 0: whatever goes wrong on the connection ends the session, and a new login is the only recovery.
"""

from __future__ import annotations

from collections.abc import Iterable

from iscsiboot.errors import ExitCode
from iscsiboot.initiator import requests
from iscsiboot.initiator.config import SessionType
from iscsiboot.initiator.errors import REPORT_IT, Misuse, ProtocolViolation, SessionError
from iscsiboot.initiator.events import LoginSucceeded
from iscsiboot.initiator.fullfeature_states import OVER, PHASES, TASKS, Handling, Phase, TaskKind
from iscsiboot.initiator.notices import LogoutRefused
from iscsiboot.initiator.pdu.answers import decode_answer
from iscsiboot.initiator.pdu.control import LogoutReason, NopIn
from iscsiboot.initiator.pdu.header import RESERVED_TAG, Opcode, Pdu
from iscsiboot.initiator.pdu.scsi_codes import CDB_LENGTH_MAX, Attribute, TaskAnswer, TaskFunction
from iscsiboot.initiator.reactions import SEGMENT_KEY, Reactions
from iscsiboot.initiator.sending import Slot, slot_of
from iscsiboot.initiator.session_events import CommandFailed, LoggedOut, SessionEvent, TaskManaged, TextAnswered
from iscsiboot.initiator.session_state import SessionState
from iscsiboot.initiator.stream import RawPdu
from iscsiboot.initiator.tasks import (
    NEEDS_LUN,
    RESETS,
    TASKS_MAX,
    AnyTask,
    CommandTask,
    LogoutTask,
    ManagementTask,
    PingTask,
    TextTask,
)
from iscsiboot.initiator.text_exchange import TextExchange
from iscsiboot.initiator.timers import Timers
from iscsiboot.initiator.watch import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from iscsiboot.model.lun import Lun

_STATUS_PRESENT = 0x01
"""The S bit of a Data-In (section 11.7.3)."""

LENGTH_MAX = 0xFFFFFFFF
"""Bytes one command can move in one direction (Expected Data Transfer Length)."""


class FullFeature:
    """One session from the end of its login to the end of its connection.

    Calls raise :class:`Misuse` when the phase or the session's type does not allow them, or too much waits already.
    """

    def __init__(
        self,
        login: LoginSucceeded,
        *,
        subject: str,
        cmdsn: int,
        now: float,
        timers: Timers | None = None,
        session_type: SessionType = SessionType.NORMAL,
        cid: int = 0,
    ) -> None:
        """``subject`` is "target at portal", for errors; ``cmdsn`` and ``cid`` are those of the login."""
        agreed = login.negotiated
        if agreed.error_recovery_level or not (agreed.data_pdu_in_order and agreed.data_sequence_in_order):
            raise Misuse("only error recovery level 0 with data in order is implemented, and nothing else is offered")
        self._subject = subject
        self._discovery = session_type is SessionType.DISCOVERY
        self._timers = timers or Timers()
        self._state = SessionState(login, cmdsn=cmdsn, cid=cid)
        self._reactions = Reactions(self._state)
        self._watch = Watch(self._state, self._timers, pings=not self._discovery, now=now)

    @property
    def phase(self) -> Phase:
        """Where the connection stands."""
        return self._state.phase

    @property
    def active(self) -> int:
        """Tasks that have not ended."""
        return len(self._state.tasks)

    # Calls.

    def command(
        self,
        lun: Lun,
        cdb: bytes,
        *,
        now: float,
        read_length: int = 0,
        data_out: bytes = b"",
        attribute: int = Attribute.SIMPLE,
    ) -> int:
        """Send a SCSI command that reads up to ``read_length`` bytes and writes ``data_out``; gives its tag.

        Ends with CommandFinished or CommandFailed. It waits while the command window is closed.
        """
        self._require("command()", normal=True)
        if not 1 <= len(cdb) <= CDB_LENGTH_MAX:
            raise Misuse(f"command(): a CDB has 1 to {CDB_LENGTH_MAX} bytes, not {len(cdb)}")
        if not (0 <= read_length <= LENGTH_MAX and len(data_out) <= LENGTH_MAX):
            raise Misuse("command(): the transfer is longer than a SCSI Command can say")
        if attribute not in frozenset(Attribute):
            raise Misuse(f"command(): {attribute} is no task attribute")
        state = self._state
        if len(state.tasks) >= TASKS_MAX:
            raise Misuse(f"command(): there are {TASKS_MAX} tasks already: wait until some have ended")
        from iscsiboot.initiator.transfer import Transfer  # for sessions with disks alone

        transfer = Transfer(read_length=read_length, data_out=data_out, negotiated=state.negotiated)
        task = CommandTask(
            itt=state.tasks.new_tag(), lun=lun, cdb=cdb, attribute=attribute, transfer=transfer, started=now
        )
        state.sender.command(task)
        state.tasks.add(task)
        return task.itt

    def ping(self, now: float, data: bytes = b"") -> int:
        """Send a NOP-Out with ``data``, which the target has to send back; ends with Pong."""
        self._require("ping()", normal=True)
        if len(data) > self._state.sender.limit:
            raise Misuse(f"ping(): the target takes {self._state.sender.limit} bytes, not {len(data)}")
        return self._ping(now, data)

    def send_text(self, pairs: Iterable[tuple[str, str]], now: float, *, stream: bool = False) -> int:
        """Send a text; ends with TextAnswered, or with the TextPart that is final when ``stream`` asks for parts.

        This is also the answer to NegotiationRequested: declare MaxRecvDataSegmentLength again, as it was negotiated;
        what the target declares in return is heeded.
        """
        self._require("send_text()")
        state, pairs = self._state, tuple(pairs)
        ours = str(state.negotiated.max_recv_data_segment_length)
        if dict(pairs).get(SEGMENT_KEY, ours) != ours:
            raise Misuse(f"send_text(): {SEGMENT_KEY} is {ours} and does not change within a session")
        exchange = TextExchange(pairs, limit=state.sender.limit, stream=stream)
        task = TextTask(itt=state.tasks.new_tag(), exchange=exchange, timeout=self._timers.text_timeout)
        self._reactions.say(task, now, first=True)
        state.tasks.add(task)
        return task.itt

    def reset_text(self, tag: int, now: float) -> None:
        """Give a text negotiation up: what the target still had to say is not heard. Ends with an empty TextAnswered.

        Nothing happens when it has ended already, which the caller may not have seen yet.
        """
        self._require("reset_text()")
        task = self._state.tasks.get(tag)
        if not isinstance(task, TextTask):
            return
        task.exchange.give_up()
        if not (task.sent or task.exchange.answered):
            self._state.end(task, now)
            self._state.tell(TextAnswered(tag=tag, pairs=()))

    def manage_task(
        self, function: TaskFunction, *, now: float, lun: Lun | None = None, task: int | None = None
    ) -> int:
        """Send a task management function; ends with TaskManaged, before which the tasks it ended are told.

        ABORT_TASK takes the ``task``, functions of a logical unit the ``lun``, those of the target neither. Until the
        answer the tasks go on, as section 4.2.3.3 demands, and may end by themselves.
        """
        self._require("manage_task()", normal=True)
        if function is TaskFunction.TASK_REASSIGN:
            raise Misuse("manage_task(): TASK_REASSIGN belongs to error recovery level 2")
        if (lun is not None) != (function in NEEDS_LUN) or (task is not None) != (function is TaskFunction.ABORT_TASK):
            raise Misuse(f"manage_task(): wrong arguments for {function.name}")
        state = self._state
        tag = state.tasks.new_tag()
        timeout = self._timers.reset_timeout if function in RESETS else self._timers.abort_timeout
        managing = ManagementTask(itt=tag, function=function, lun=lun, timeout=timeout)
        ref_cmdsn = 0
        if task is not None:
            aborted = state.tasks.get(task)
            if not isinstance(aborted, CommandTask) or not aborted.sent:
                self._abort_here(aborted, tag, now)
                return tag
            managing.lun, managing.referenced, ref_cmdsn = aborted.lun, task, aborted.cmdsn

        state.sender.request(slot_of(managing), managing, requests.management(managing, ref_cmdsn), b"", now)
        state.tasks.add(managing)
        return tag

    def logout(self, now: float, reason: int = LogoutReason.CLOSE_SESSION) -> int:
        """Send a Logout Request, and nothing after it; ends with LoggedOut, before which commands end.

        Commands not sent yet end at once. Others may still get their status before the target's answer.
        """
        self._require("logout()")
        if reason not in frozenset(LogoutReason):
            raise Misuse(f"logout(): {reason} is no reason of a Logout Request")
        state = self._state
        tag = state.tasks.new_tag()
        cid = 0 if reason == LogoutReason.CLOSE_SESSION else state.cid
        # Immediate, so that a closed window cannot hold it back. A target needs to have room for one such request
        # only; when that one is taken and the window is open, a numbered Logout is the safer one.
        immediate = state.sender.free(Slot.OTHER) or not state.window.open

        state.fail_commands("the session is being logged out", now, lambda task: not task.sent)
        task = LogoutTask(itt=tag, timeout=self._timers.logout_timeout, started=now)
        state.sender.last(task, requests.logout(tag, reason, cid, immediate=immediate), immediate=immediate)
        state.tasks.add(task)
        state.phase = Phase.LOGGING_OUT
        return tag

    # What comes in.

    def receive(self, raw: RawPdu, now: float) -> None:
        """Take one PDU of the target. :class:`SessionError` when it ends the session, :class:`Misuse` after that."""
        if self._state.phase is Phase.FAILED:
            raise Misuse("receive(): the session has failed")
        self._watch.heard(now)
        try:
            pdu = decode_answer(raw.bhs)
        except ProtocolViolation as violation:
            raise self.abandon(violation.cause, hint=REPORT_IT) from violation
        try:
            self._take(pdu, raw, now)
        except LogoutRefused as refused:
            raise self.abandon(refused.cause, hint=refused.hint, exit_code=ExitCode.LOGOUT) from refused
        except ProtocolViolation as violation:
            cause = f"{_name(pdu, raw.bhs)}: {violation.cause}"
            raise self.abandon(cause, hint=violation.hint or REPORT_IT, retryable=violation.retryable) from violation

    def _take(self, pdu: Pdu, raw: RawPdu, now: float) -> None:
        state = self._state
        cell = PHASES[state.phase].get(pdu.OPCODE)
        if cell is None:
            raise ProtocolViolation(f"it has no place here: the session {state.phase.value}")
        if raw.ahs or pdu.ahs_length:
            raise ProtocolViolation(f"it has {pdu.ahs_length} bytes of additional headers, which only commands have")
        limit = state.negotiated.max_recv_data_segment_length
        if len(raw.data) != pdu.data_length or pdu.data_length > limit:
            raise ProtocolViolation(f"{len(raw.data)} of {pdu.data_length} bytes of data came, at most {limit} may")
        itt = _tag(pdu, raw.bhs)
        self._take_numbers(raw.bhs, pdu)
        if cell.handling is Handling.COUNT:
            return
        kind = state.tasks.kind(itt)
        action = TASKS[kind].get(pdu.OPCODE)
        if action is None:
            raise ProtocolViolation(f"it came for {kind.value}")
        self._reactions.by_action[action](state.tasks.get(itt), pdu, raw.data, now)

    def _take_numbers(self, bhs: bytes, pdu: Pdu) -> None:
        """StatSN, ExpCmdSN and MaxCmdSN, which stand at the same place in every PDU of a target."""
        state = self._state
        statsn, exp_cmdsn, max_cmdsn = (int.from_bytes(bhs[at : at + 4], "big") for at in (24, 28, 32))
        if pdu.OPCODE == Opcode.DATA_IN and not bhs[1] & _STATUS_PRESENT:
            pass  # StatSN is reserved in it.
        elif pdu.OPCODE == Opcode.READY_TO_TRANSFER or (isinstance(pdu, NopIn) and pdu.itt == RESERVED_TAG):
            state.remark(state.status.glance(statsn))
        else:
            state.status.advance(statsn)
        state.remark(state.window.update(exp_cmdsn, max_cmdsn))

    def connection_ended(self, now: float) -> None:
        """The byte stream has ended. :class:`SessionError` unless that was due: after a logout, or when dropped.

        A target that closes instead of answering a Logout Request has done what it was asked: LoggedOut follows.
        """
        state = self._state
        if state.phase in OVER:
            return
        if state.phase is Phase.FAILED:
            raise Misuse("connection_ended(): the session has failed")
        logout = next((task for task in state.sender.timed if isinstance(task, LogoutTask)), None)
        if logout is None or not logout.sent:
            raise self.abandon(
                "the target closed the connection",
                hint="read the target's log for why it ends connections",
                retryable=True,
            )
        state.close(Phase.LOGGED_OUT, "the session was logged out", now)
        state.tell(LoggedOut(tag=logout.itt, response=None))

    def abandon(
        self, cause: str, *, hint: str = "", exit_code: ExitCode = ExitCode.TRANS, retryable: bool = False
    ) -> SessionError:
        """End the session because of something outside of it, or inside; gives the error to raise."""
        state = self._state
        state.phase = Phase.FAILED
        state.sender.close()
        state.tasks.clear()
        return SessionError(
            cause,
            subject=self._subject,
            discovery=self._discovery,
            hint=hint,
            exit_code=exit_code,
            retryable=retryable,
        )

    # What goes out.

    def next_pdu(self) -> RawPdu | None:
        """The next PDU to send, numbered now; None when there is none, or none may be sent now."""
        return self._state.sender.next_pdu()

    def next_event(self) -> SessionEvent | None:
        """What happened, oldest first."""
        return self._state.events.popleft() if self._state.events else None

    # Time.

    def next_deadline(self) -> float | None:
        """When to call :meth:`handle_timer`; None while nothing is waited for."""
        return self._watch.next_deadline()

    def handle_timer(self, now: float) -> None:
        """What is due at ``now``: a ping, or a :class:`SessionError` because an answer did not come."""
        task = self._watch.late(now)
        if task is not None:
            raise self._late(task)
        if self._watch.ping_due(now):
            self._ping(now, b"", ours=True)

    def _late(self, task: AnyTask) -> SessionError:
        logout = task.KIND is TaskKind.LOGOUT
        return self.abandon(
            f"the target did not answer {task.KIND.value} within {task.timeout:g} s",
            hint="close the connection" if logout else "check the network and whether the target is overloaded",
            exit_code=ExitCode.LOGOUT if logout else ExitCode.PDU_TIMEOUT,
            retryable=not logout,
        )

    # What the calls share.

    def _ping(self, now: float, data: bytes, *, ours: bool = False) -> int:
        state = self._state
        tag = state.tasks.new_tag()
        task = PingTask(itt=tag, data=data, ours=ours, timeout=self._timers.ping_timeout)

        state.sender.request(slot_of(task), task, requests.ping(tag, len(data)), data, now)
        state.tasks.add(task)
        return tag

    def _abort_here(self, task: AnyTask | None, tag: int, now: float) -> None:
        """Abort a command that was not sent, or one that has ended meanwhile: the target has nothing to do with it."""
        if isinstance(task, CommandTask):
            self._state.end(task, now)
            self._state.tell(CommandFailed(tag=task.itt, cause="the command was aborted before it was sent"))
            self._state.tell(TaskManaged(tag=tag, response=TaskAnswer.COMPLETE))
        else:
            self._state.tell(TaskManaged(tag=tag, response=TaskAnswer.NO_TASK))

    def _require(self, call: str, *, normal: bool = False) -> None:
        if self._state.phase is not Phase.FULL_FEATURE:
            raise Misuse(f"{call}: the session {self._state.phase.value}")
        if normal and self._discovery:
            raise Misuse(f"{call}: a discovery session takes Text and Logout alone (RFC 7143 section 4.3)")


_WITHOUT_TASK = frozenset({Opcode.ASYNC_MESSAGE, Opcode.REJECT})
"""PDUs whose task tag is reserved, whatever stands there."""


def _name(pdu: Pdu, bhs: bytes) -> str:
    """Which PDU it was, for a message."""
    name, tag = Opcode.words(pdu.OPCODE), _tag(pdu, bhs)
    return name if tag == RESERVED_TAG else f"{name} of task {tag:#x}"


def _tag(pdu: Pdu, bhs: bytes) -> int:
    return RESERVED_TAG if pdu.OPCODE in _WITHOUT_TASK else int.from_bytes(bhs[16:20], "big")
