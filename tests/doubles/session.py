# SPDX-License-Identifier: LGPL-2.1-or-later
"""A whole target without I/O: bytes of one connection in, actions out; honest unless its plan has faults.

Theory of operation: a :class:`~tests.doubles.wire.Framer` cuts the bytes, :class:`ScriptedTarget` does the login, then
each PDU goes to the method of its opcode, which answers with PDUs still without numbers. Those pass the plan's faults,
get their numbers, and become bytes. What the initiator does wrong is written down in ``violations`` and then handled as
leniently as possible, so that one run shows all of it: a test of an honest conversation asserts that there is nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from iscsiboot.initiator.errors import ProtocolViolation
from iscsiboot.initiator.pdu.control import (
    LogoutReason,
    LogoutRequest,
    LogoutResponse,
    NopIn,
    NopOut,
    TextRequest,
)
from iscsiboot.initiator.pdu.header import RESERVED_TAG, Header, Opcode, Pdu, padded_length
from iscsiboot.initiator.pdu.registry import INITIATOR_PDUS, decode
from iscsiboot.initiator.pdu.reject import Reject
from iscsiboot.initiator.pdu.scsi import (
    DataOut,
    ScsiCommand,
    TaskAnswer,
    TaskFunction,
    TaskManagementRequest,
    TaskManagementResponse,
)
from tests.doubles.directory import Records, directory
from tests.doubles.disk import Device
from tests.doubles.limits import Agreed
from tests.doubles.numbers import Numbers
from tests.doubles.target import FULL_FEATURE, Reply, Script, ScriptedTarget
from tests.doubles.tasks import Tasks
from tests.doubles.text import TextExchange
from tests.doubles.wire import Action, Close, Frame, Framer, Item, Outgoing, Send

DIGEST_ERROR, PROTOCOL_ERROR, NOT_SUPPORTED = 0x02, 0x04, 0x05
"""Reasons of a Reject (section 11.17.1)."""

SessionFault = Callable[[Sequence[Item]], Sequence[Item]]
"""What becomes of everything one PDU of the initiator (or the entry into full feature phase) is answered with."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the target is and how it misbehaves."""

    login: Script = field(default_factory=Script)
    device: Device = field(default_factory=Device)
    records: Records = field(default_factory=lambda: directory(()))
    """Answers to SendTargets."""
    text_segment: int = 0
    """Longest data segment of a Text Response; 0: what the initiator takes."""
    whole_pairs: bool = False
    """Whether an answer of many PDUs is cut between pairs and goes on by F=0 alone; else anywhere, with the C bit."""
    depth: int = 32
    """Commands it works on at once."""
    r2t_length: int = 0
    """Bytes it asks for at once; 0: MaxBurstLength."""
    collapse_status: bool = True
    """Whether a good status comes with the last Data-In."""
    deaf_to: frozenset[int] = frozenset()
    """Opcodes it takes and never answers."""
    task_answers: Mapping[int, int] = field(default_factory=dict)
    """Task management function to the response it gets instead of being carried out."""
    logout_answer: int = 0
    time2wait: int = 2
    time2retain: int = 0
    greeting: tuple[Item, ...] = ()
    """Sent when full feature phase begins, before anything is asked."""
    faults: Sequence[Callable[[], SessionFault]] = ()
    """Makers of faults: each connection counts for itself."""


class FullTarget:
    """One connection's worth of target."""

    def __init__(self, plan: Plan | None = None, *, login: ScriptedTarget | None = None) -> None:
        self.plan = plan or Plan()
        self.login = login or ScriptedTarget(self.plan.login, depth=self.plan.depth)
        self.violations: list[str] = []
        self.received: list[Pdu] = []
        """Everything decoded, in order, login included."""
        self.pings: set[int] = set()
        """Transfer tags of NOP-Ins that want an answer and have none yet."""
        self._ping_luns: dict[int, bytes] = {}
        self.logged_out = False
        self.numbers: Numbers | None = None
        """None during login."""
        self.tasks: Tasks | None = None
        self._framer = Framer()
        self._faults = [make() for make in self.plan.faults]
        self._agreed: Agreed | None = None
        self._closed = False
        self._text: TextExchange | None = None
        self._handlers: dict[int, Callable[[Pdu, Frame], list[Outgoing]]] = {
            Opcode.NOP_OUT: self._nop,
            Opcode.SCSI_COMMAND: self._command,
            Opcode.TASK_MANAGEMENT_REQUEST: self._manage,
            Opcode.TEXT_REQUEST: self._text_request,
            Opcode.DATA_OUT: self._data_out,
            Opcode.LOGOUT_REQUEST: self._logout,
        }

    @property
    def agreed(self) -> Agreed:
        """What holds since login."""
        assert self._agreed is not None, "the login is not over"
        return self._agreed

    @property
    def closed(self) -> bool:
        """Whether the target has ended the connection."""
        return self._closed

    def receive(self, data: bytes) -> list[Action]:
        """Bytes in any portions in, everything due for them out."""
        self._framer.feed(data)
        done: list[Action] = []
        while not self._closed and (frame := self._framer.next()) is not None:
            done += self._login_step(frame) if self.numbers is None else self._step(frame)
        return done

    def push(self, *items: Item) -> list[Action]:
        """Items nobody asked for, at any time in full feature phase."""
        return self._emit(items)

    # Login.

    def _login_step(self, frame: Frame) -> list[Action]:
        pdu = self._decode(frame)
        if pdu is None or pdu.OPCODE != Opcode.LOGIN_REQUEST:
            self._note(f"login: {'a PDU that cannot be read' if pdu is None else type(pdu).__name__}")
            self._closed = True
            return [Close()]
        if len(frame.data) > 8192:
            self._note(f"Login Request: {len(frame.data)} bytes of data, at most 8192 (section 7.1)")
        reply = self.login.receive(frame.bhs, frame.data)
        done: list[Action] = [Send(reply.wire())] if reply.wire() else []
        if reply.close:
            self._closed = True
            return [*done, Close()]
        return [*done, *self._enter()] if _ends_login(reply) else done

    def _enter(self) -> list[Action]:
        request = self.login.requests[-1]
        self._agreed = agreed = self.login.agreed
        self._framer.header_digest = agreed.header_digest
        self._framer.data_digest = agreed.data_digest
        self.tasks = tasks = Tasks(
            self.plan.device,
            agreed,
            note=self._note,
            r2t_length=self.plan.r2t_length,
            collapse_status=self.plan.collapse_status,
        )
        limit = agreed.initiator_takes
        self._text = TextExchange(
            self.plan.records,
            session=None if self.login.discovery else dict(self.login.received).get("TargetName", ""),
            limit=min(self.plan.text_segment or limit, limit),
            we_take=agreed.we_take,
            whole_pairs=self.plan.whole_pairs,
            note=self._note,
        )
        # Login requests are immediate: the first command still has their CmdSN (section 4.2.2.1).
        self.numbers = Numbers(
            cmdsn=request.cmdsn,
            statsn=self.login.next_statsn,
            depth=self.plan.depth,
            active=lambda: sum(not task.command.immediate for task in tasks.active.values()),
            note=self._note,
        )
        return self._emit(self.plan.greeting)

    # Full feature phase.

    def _step(self, frame: Frame) -> list[Action]:
        if not frame.header_intact:
            # Nothing after it can be found any more (section 7.8).
            self._note("header digest is wrong")
            self._closed = True
            return [Close()]
        if not frame.data_intact:
            self._note("data digest is wrong")
            return self._emit(self._reject(frame, DIGEST_ERROR))
        pdu = self._decode(frame)
        handler = self._handlers.get(Header.decode(frame.bhs).opcode)
        if pdu is None or handler is None:
            self._note(f"{Opcode.words(Header.decode(frame.bhs).opcode)}: not taken in full feature phase")
            return self._emit(self._reject(frame, NOT_SUPPORTED))
        if not self._allowed(pdu, frame):
            return self._emit(self._reject(frame, PROTOCOL_ERROR))
        # A command outside the window is ignored silently (section 4.2.2.1).
        if not self._counted(pdu) or pdu.OPCODE in self.plan.deaf_to:
            return []
        answers: list[Item] = [*handler(pdu, frame)]
        if self.logged_out:
            answers.append(Close())
        return self._emit(answers)

    def _decode(self, frame: Frame) -> Pdu | None:
        """The PDU, with everything noted that no PDU may have."""
        try:
            pdu = decode(frame.bhs, INITIATOR_PDUS)
        except ProtocolViolation as violation:
            self._note(violation.cause)
            return None
        kind = type(pdu).__name__
        if pdu.encode() != frame.bhs:
            self._note(f"{kind}: reserved bits are set in {frame.bhs.hex()}")
        if any(frame.padding):
            self._note(f"{kind}: padding {frame.padding.hex()} is not zero")
        self.received.append(pdu)
        return pdu

    def _allowed(self, pdu: Pdu, frame: Frame) -> bool:
        """The rules for every request: size, order, kind of session; False when it is to be rejected."""
        kind = type(pdu).__name__
        if len(frame.data) > self.agreed.we_take:
            self._note(f"{kind}: {len(frame.data)} bytes of data, we take {self.agreed.we_take}")
        if frame.ahs and not isinstance(pdu, ScsiCommand):
            self._note(f"{kind}: additional headers")
        if self.logged_out:
            self._note(f"{kind}: after the logout")
        # A target that pings in a discovery session, as some do, has to take the answer.
        pong = isinstance(pdu, NopOut) and pdu.ttt in self.pings
        if self.login.discovery and not pong and not isinstance(pdu, TextRequest | LogoutRequest):
            self._note(f"{kind}: in a discovery session (section 4.3)")
            return False
        return True

    def _counted(self, pdu: Pdu) -> bool:
        """Check its numbers; False when a target takes no notice of it."""
        kind, numbers = type(pdu).__name__, self.numbers
        assert numbers is not None
        numbers.acknowledged(kind, getattr(pdu, "exp_statsn"))  # noqa: B009 (every request has it, Pdu does not say so)
        if isinstance(pdu, DataOut):
            return True
        cmdsn, immediate = getattr(pdu, "cmdsn"), getattr(pdu, "immediate")  # noqa: B009
        return numbers.command(kind, cmdsn=cmdsn, immediate=immediate)

    def _nop(self, pdu: Pdu, frame: Frame) -> list[Outgoing]:
        assert isinstance(pdu, NopOut)
        if pdu.ttt != RESERVED_TAG:
            if pdu.ttt not in self.pings:
                self._note(f"NopOut: answers a ping {pdu.ttt:#x} nobody sent")
            self.pings.discard(pdu.ttt)
            lun = self._ping_luns.get(pdu.ttt, pdu.lun)
            self._must(pdu.lun == lun, f"NopOut: LUN {pdu.lun.hex()}, {lun.hex()} was due")
        if pdu.itt == RESERVED_TAG:
            self._must(pdu.immediate, "NopOut: wants no answer and is not immediate (section 11.18)")
            return []
        self._must(pdu.ttt == RESERVED_TAG, "NopOut: is a ping and an answer at once")
        return [Outgoing(pdu=NopIn(itt=pdu.itt), data=frame.data[: self.agreed.initiator_takes])]

    def _command(self, pdu: Pdu, frame: Frame) -> list[Outgoing]:
        assert isinstance(pdu, ScsiCommand)
        assert self.tasks is not None
        cdb = pdu.cdb
        if frame.ahs:
            length, kind = int.from_bytes(frame.ahs[:2], "big"), frame.ahs[2]
            self._must(kind == 1, f"ScsiCommand: an additional header of kind {kind}")
            whole = padded_length(length + 3)
            self._must(len(frame.ahs) == whole, f"ScsiCommand: additional header of {whole} bytes in {len(frame.ahs)}")
            cdb += frame.ahs[4 : 3 + length]
        return self.tasks.command(pdu, cdb, frame.data)

    def _data_out(self, pdu: Pdu, frame: Frame) -> list[Outgoing]:
        assert isinstance(pdu, DataOut)
        assert self.tasks is not None
        return self.tasks.data_out(pdu, frame.data)

    def _manage(self, pdu: Pdu, frame: Frame) -> list[Outgoing]:
        assert isinstance(pdu, TaskManagementRequest)
        assert self.tasks is not None
        function, active = pdu.function, self.tasks.active
        if function not in (TaskFunction.ABORT_TASK, TaskFunction.TASK_REASSIGN):
            self._must(pdu.referenced_tag == RESERVED_TAG, "TaskManagementRequest: names a task and means none")
        if function in self.plan.task_answers:
            answer = self.plan.task_answers[function]
        elif function == TaskFunction.ABORT_TASK:
            answer = self._abort(pdu)
        elif function in (TaskFunction.TARGET_WARM_RESET, TaskFunction.TARGET_COLD_RESET):
            self.tasks.abort(active)
            self.plan.device.reset(list(self.plan.device.units))
            answer = TaskAnswer.COMPLETE
        elif function == TaskFunction.TASK_REASSIGN:
            answer = TaskAnswer.REASSIGN_NOT_SUPPORTED
        elif pdu.lun not in self.plan.device.units:
            answer = TaskAnswer.NO_LUN
        else:
            if function != TaskFunction.CLEAR_ACA:
                self.tasks.abort([itt for itt, task in active.items() if task.command.lun == pdu.lun])
            if function == TaskFunction.LOGICAL_UNIT_RESET:
                self.plan.device.reset([pdu.lun])
            answer = TaskAnswer.COMPLETE
        return [Outgoing(pdu=TaskManagementResponse(itt=pdu.itt, response=answer))]

    def _abort(self, pdu: TaskManagementRequest) -> int:
        assert self.tasks is not None
        task = self.tasks.active.get(pdu.referenced_tag)
        if task is None:
            return TaskAnswer.NO_TASK
        self._must(pdu.lun == task.command.lun, "TaskManagementRequest: aborts a task of another LUN")
        due = task.command.cmdsn
        self._must(pdu.ref_cmdsn == due, f"TaskManagementRequest: RefCmdSN {pdu.ref_cmdsn}, {due} was due")
        self.tasks.abort([pdu.referenced_tag])
        return TaskAnswer.COMPLETE

    def _logout(self, pdu: Pdu, frame: Frame) -> list[Outgoing]:
        assert isinstance(pdu, LogoutRequest)
        self._must(pdu.reason != LogoutReason.CLOSE_SESSION or pdu.cid == 0, "LogoutRequest: a CID that means nothing")
        if self.login.discovery:
            self._must(pdu.reason == LogoutReason.CLOSE_SESSION, "LogoutRequest: not of the session (section 4.3)")
        self.logged_out = True
        answer = LogoutResponse(
            response=self.plan.logout_answer,
            itt=pdu.itt,
            time2wait=self.plan.time2wait,
            time2retain=self.plan.time2retain,
        )
        return [Outgoing(pdu=answer)]

    def _text_request(self, pdu: Pdu, frame: Frame) -> list[Outgoing]:
        assert isinstance(pdu, TextRequest)
        assert self._text is not None
        return [self._text.request(pdu, frame.data)]

    # Out.

    def _reject(self, frame: Frame, reason: int) -> list[Item]:
        return [Outgoing(pdu=Reject(reason=reason), data=frame.bhs)]

    def _emit(self, items: Sequence[Item]) -> list[Action]:
        assert self.numbers is not None, "full feature phase has not begun"
        for fault in self._faults:
            items = fault(items)
        done: list[Action] = []
        for item in items:
            if isinstance(item, Outgoing):
                numbered = self.numbers.stamp(item.pdu)
                if isinstance(numbered, NopIn) and numbered.ttt != RESERVED_TAG:
                    self.pings.add(numbered.ttt)
                    self._ping_luns[numbered.ttt] = numbered.lun
                digests = {"header_digest": self.agreed.header_digest, "data_digest": self.agreed.data_digest}
                done += item.actions(numbered, **digests)
            else:
                done.append(item)
            if done and isinstance(done[-1], Close):
                self._closed = True
                break
        return done

    def _note(self, text: str) -> None:
        self.violations.append(text)

    def _must(self, holds: bool, text: str) -> None:
        if not holds:
            self._note(text)


def _ends_login(reply: Reply) -> bool:
    response = reply.response
    spoken = reply.pdu is None and not reply.silent
    return spoken and response.status_class == 0 and response.transit and response.nsg == FULL_FEATURE
