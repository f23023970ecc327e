# SPDX-License-Identifier: LGPL-2.1-or-later
"""Invariant: whatever a target sends in full feature phase, each PDU gives events or one SessionError, never another
exception; after it the machine takes and sends nothing. What we send stays inside the command window, the negotiated
limits and the data of its command, and nothing follows a Logout Request. Memory is bounded: data kept is data that was
asked for and came, and every queue has a limit. No message can move a terminal's cursor.

Bytes are read as a play: calls of ours, time, and PDUs of a target that mostly carries the right numbers and tags,
which random PDUs hardly do.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from itertools import islice

from iscsiboot.initiator.errors import Misuse, SessionError
from iscsiboot.initiator.fullfeature_states import OVER, Phase
from iscsiboot.initiator.pdu.control import AsyncMessage, LogoutRequest, LogoutResponse, NopIn, TextResponse
from iscsiboot.initiator.pdu.header import RESERVED_TAG, Pdu
from iscsiboot.initiator.pdu.registry import TARGET_PDUS
from iscsiboot.initiator.pdu.reject import Reject
from iscsiboot.initiator.pdu.scsi import (
    DataIn,
    DataOut,
    ReadyToTransfer,
    ScsiCommand,
    ScsiResponse,
    TaskFunction,
    TaskManagementResponse,
)
from iscsiboot.initiator.sending import ANSWERS_MAX
from iscsiboot.initiator.session_events import CommandFailed, CommandFinished, Remark, ScsiResult
from iscsiboot.initiator.session_state import REMARKS_MAX
from iscsiboot.initiator.stream import RawPdu
from iscsiboot.initiator.tasks import ENDED_MAX, CommandTask, LogoutTask, ManagementTask, PingTask, TextTask
from iscsiboot.initiator.text import TEXT_MAX
from iscsiboot.initiator.timers import Timers
from iscsiboot.initiator.transfer import SENSE_MAX
from tests.unit.initiator.fullfeature_kit import LUN, OTHER_LUN, Sent, Session, pattern

STEPS_MAX = 400
READ_MAX = 5000
OPCODES = sorted(TARGET_PDUS)
TEXTS = (b"", b"A=1\0", b"MaxRecvDataSegmentLength=1024\0", b"A=", b"=\0", b"\xff\0", b"MaxRecvDataSegmentLength=1\0")
"""The first three are legal."""


class Bytes:
    """The script of a play; zero for ever when it is used up."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> bool:
        """Whether there is more."""
        return self._at < len(self._data)

    def number(self, width: int = 1) -> int:
        """The next ``width`` bytes."""
        self._at += width
        return int.from_bytes(self._data[self._at - width : self._at], "big")

    def below(self, limit: int) -> int:
        """A number from 0 to ``limit`` - 1."""
        return self.number(1 if limit <= 256 else 2) % limit

    def rarely(self) -> bool:
        """True once in sixteen times."""
        return self.below(16) == 15


class Play:
    """One session and what is done to it."""

    def __init__(self, script: bytes) -> None:
        self.script = Bytes(script)
        small = self.script.number()
        self.session = Session(
            timers=Timers(ping_interval=5),
            window=small & 7,
            initial_r2t=bool(small & 8),
            immediate_data=bool(small & 16),
            max_outstanding_r2t=1 + (small >> 5 & 3),
        )
        self.asked: dict[int, int] = {}
        """Bytes that each command reads."""
        self.written: dict[int, bytes] = {}
        self.tags = [RESERVED_TAG]
        self.refused: list[bytes] = []
        """Headers we sent, for a target that rejects."""
        self.logged_out = False
        self.remarks = 0
        self.ended: set[int] = set()
        self.calls: list[Callable[[], int | None]] = [
            self._read,
            self._write,
            lambda: self.session.machine.ping(self.session.now, bytes(self.script.below(64))),
            lambda: self.session.machine.send_text((("X-a", "b" * self.script.below(700)),), self.session.now),
            lambda: self.session.machine.send_text((("X-a", "b"),), self.session.now, stream=True),
            lambda: self.session.machine.reset_text(self._tag(), self.session.now),
            self._manage,
            self._logout,
        ]

    def run(self) -> str:
        """The whole play; AssertionError when the invariant is broken."""
        for _ in range(STEPS_MAX):
            if not self.script.left:
                break
            try:
                self._step()
            except SessionError as error:
                self._check_failed(error)
                return "refused"
            self._check()
        return "accepted"

    def _step(self) -> None:
        what = self.script.below(10)
        if what < 3:
            self._call()
        elif what == 3 and self.script.rarely():
            self.session.now += self.script.below(40)
            self.session.machine.handle_timer(self.session.now)
        elif what == 4 and self.script.rarely() and self.script.rarely():
            self.session.machine.connection_ended(self.session.now)
        else:
            if not self.script.rarely():
                self._send()
            self._receive()

    # Ours.

    def _call(self) -> None:
        call = self.calls[self.script.below(len(self.calls))]
        try:
            tag = call()
        except Misuse:
            return
        if tag is not None:
            assert self.session.phase() in (Phase.FULL_FEATURE, Phase.LOGGING_OUT)
            assert tag not in self.tags
            self.tags.append(tag)

    def _read(self) -> int:
        length = self.script.below(READ_MAX)
        tag = self.session.read(length)
        self.asked[tag] = length
        return tag

    def _write(self) -> int:
        data = pattern(self.script.below(READ_MAX))
        tag = self.session.write(data, lun=OTHER_LUN)
        self.written[tag] = data
        return tag

    def _manage(self) -> int:
        function = TaskFunction(1 + self.script.below(8))
        if function is TaskFunction.ABORT_TASK:
            return self.session.machine.manage_task(function, now=self.session.now, task=self._tag())
        lun = (None, LUN, OTHER_LUN)[self.script.below(3)]
        return self.session.machine.manage_task(function, now=self.session.now, lun=lun)

    def _logout(self) -> int | None:
        if not self.script.rarely():
            return None
        return self.session.machine.logout(self.session.now, self.script.below(3))

    def _send(self) -> None:
        expected = self.session.machine._state.status.expected
        for sent in self.session.sent():
            assert not self.logged_out, "something follows a Logout Request"
            assert sent.pdu.exp_statsn == expected
            self.logged_out = isinstance(sent.pdu, LogoutRequest)
            self.refused = [*self.refused[-8:], sent.pdu.encode()]
            self._check_sent(sent)

    def _check_sent(self, sent: Sent) -> None:
        pdu = sent.pdu
        assert len(sent.data) <= 1024
        if isinstance(pdu, ScsiCommand):
            room = self.session.machine._state.window.max_cmdsn
            assert (room - pdu.cmdsn) % (1 << 32) < 1 << 31, "the command window is exceeded"
            assert not pdu.write or sent.data == self.written[pdu.itt][: len(sent.data)]
        elif isinstance(pdu, DataOut):
            at = pdu.buffer_offset
            assert sent.data
            assert sent.data == self.written[pdu.itt][at : at + len(sent.data)]

    # The target's.

    def _tag(self) -> int:
        """Of a living task, mostly."""
        living = [*self.session.machine._state.tasks._tasks]
        if living and not self.script.rarely():
            return living[self.script.below(len(living))]
        return self.tags[self.script.below(len(self.tags))] if self.script.below(2) else self.script.number(4)

    def _receive(self) -> None:
        pdu, data = self._pdu()
        lies: dict[str, int] = {}
        if self.script.rarely() and self.script.rarely():
            name = ("statsn", "exp_cmdsn", "max_cmdsn", "data_length")[self.script.below(4)]
            lies[name] = self.script.number(3 if name == "data_length" else 4)
        else:
            self.session.max_cmdsn += self.script.below(3)
        try:
            self.session.give(pdu, data, **lies)
        except Misuse as misuse:
            raise AssertionError("the machine calls a PDU a mistake of the caller") from misuse

    def _pdu(self) -> tuple[Pdu, bytes]:
        """What an honest target might send next, or now and then anything."""
        if self.script.rarely() and self.script.rarely():
            return self._anything()
        sent = [task for task in self.session.machine._state.tasks._tasks.values() if task.sent]
        task = sent[self.script.below(len(sent))] if sent and self.script.below(4) else None
        match task:
            case CommandTask():
                return self._for_command(task)
            case PingTask():
                return NopIn(itt=task.itt), task.data if not self.script.rarely() else b"x"
            case TextTask():
                return self._text(task.itt)
            case ManagementTask():
                response = self.script.number() if self.script.rarely() else self.script.below(2)
                return TaskManagementResponse(itt=task.itt, response=response), b""
            case LogoutTask():
                return LogoutResponse(itt=task.itt, response=self.script.below(5)), b""
        what = self.script.below(8)
        if what < 5:
            ttt = RESERVED_TAG if what < 2 else self.script.number(2)
            return NopIn(ttt=ttt), bytes(self.script.below(100))
        if what < 7:
            event = AsyncMessage(event=self._event(), lun=LUN.wire, parameter1=self.script.below(2))
            return event, bytes(self.script.below(4))
        return self._reject()

    def _anything(self) -> tuple[Pdu, bytes]:
        bhs = bytearray(48)
        bhs[0], bhs[1], bhs[2] = OPCODES[self.script.below(len(OPCODES))], self.script.number(), self.script.number()
        bhs[16:20] = self._tag().to_bytes(4, "big")
        bhs[20:24] = self.script.number(4).to_bytes(4, "big")
        bhs[36:48] = self.script.number(12).to_bytes(12, "big")
        return TARGET_PDUS[bhs[0]].decode(bytes(bhs)), bytes(self.script.below(64))

    def _event(self) -> int:
        return self.script.number() if self.script.rarely() else (0, 1, 4, 5, 255)[self.script.below(5)]

    def _for_command(self, task: CommandTask) -> tuple[Pdu, bytes]:
        transfer, what = task.transfer, self.script.below(8)
        wrong = self.script.rarely() and self.script.rarely()
        number = transfer._next_sn + (wrong and self.script.below(2))
        missing = transfer.read_length - transfer.received
        if what < 5 and missing:
            size = min(self.script.below(1025), missing + wrong)
            end = self.script.below(4) == 0
            pdu = DataIn(
                itt=task.itt,
                final=end,
                status_present=(end and self.script.below(2) == 0) or wrong,
                datasn=number,
                buffer_offset=transfer.received + (wrong and self.script.below(2)),
            )
            return pdu, pattern(transfer.received + size)[transfer.received :]
        written = self.written.get(task.itt, b"")
        room = len(written) - transfer._sent
        busy = sum(not sequence.done for sequence in transfer._asked)
        if what < 7 and (wrong or (room > 0 and busy < self.session.machine._state.negotiated.max_outstanding_r2t)):
            length = 1 + self.script.below(min(max(room, 1), 4096))
            offset = max(0, transfer._sent - self.script.below(3) * wrong)
            ready = ReadyToTransfer(
                itt=task.itt,
                ttt=self.script.number(),
                lun=OTHER_LUN.wire,
                r2tsn=number,
                buffer_offset=offset,
                desired_length=length + wrong,
            )
            return ready, b""
        flags = self.script.number()
        response = ScsiResponse(
            itt=task.itt,
            underflow=bool(flags & 1) and missing > 0,
            overflow=flags & 31 == 30,
            residual=min(self.script.number(), missing) + wrong,
            status=2 * (flags >> 7),
            response=int(self.script.rarely()),
        )
        return response, bytes(self.script.below(300))

    def _text(self, tag: int) -> tuple[Pdu, bytes]:
        exchange = getattr(self.session.machine._state.tasks.get(tag), "exchange", None)
        flags = self.script.below(8)
        wrong = self.script.rarely() and self.script.rarely()
        due = exchange is None or exchange._said_all
        final = bool(flags & 1) if due or wrong else False
        ttt = RESERVED_TAG if final ^ wrong else self.script.number(2)
        text = TEXTS[self.script.below(len(TEXTS) if wrong else 3)] if due or wrong else b""
        return TextResponse(itt=tag, final=final, cont=not final and due and flags & 6 == 6, ttt=ttt), text

    def _reject(self) -> tuple[Pdu, bytes]:
        header = self.refused[-1 - self.script.below(len(self.refused))] if self.refused else bytes(48)
        return Reject(reason=self.script.number()), header[:40] if self.script.rarely() else header

    # The invariant.

    def _check(self) -> None:
        state = self.session.machine._state
        for event in self.session.events():
            if isinstance(event, Remark):
                self.remarks += 1
                assert event.text.isprintable()
            elif isinstance(event, CommandFinished | CommandFailed):
                assert event.tag not in self.ended, "a command ended twice"
                self.ended.add(event.tag)
                if isinstance(event, CommandFinished):
                    self._check_result(event.tag, event.result)
        assert self.remarks <= REMARKS_MAX
        for command in state.tasks.commands():
            assert command.transfer.received <= self.asked.get(command.itt, 0)
            assert len(command.transfer._asked) <= state.negotiated.max_outstanding_r2t + 1
        assert len(state.tasks._ended) <= ENDED_MAX
        assert state.sender._answers <= ANSWERS_MAX
        assert len(state.sender._ready) <= ANSWERS_MAX + 3
        for task in state.sender.timed:
            exchange = getattr(task, "exchange", None)
            assert exchange is None or exchange._heard <= TEXT_MAX
        if self.session.phase() in OVER:
            assert (len(state.tasks), self.session.sent(), self.session.machine.next_deadline()) == (0, [], None)

    def _check_result(self, tag: int, result: ScsiResult) -> None:
        assert len(result.data) <= self.asked.get(tag, 0)
        assert len(result.sense) <= SENSE_MAX
        assert not (result.overflow and result.underflow)
        if result.status == 0 and not result.underflow:
            assert len(result.data) == self.asked.get(tag, 0)

    def _check_failed(self, error: SessionError) -> None:
        line = error.line()
        assert line.isprintable()
        assert len(line) < 1000
        assert self.session.phase() is Phase.FAILED
        assert (self.session.sent(), self.session.machine.active) == ([], 0)
        assert self.session.machine.next_deadline() is None
        self.session.machine.handle_timer(self.session.now + 1000)
        try:
            self.session.machine.receive(RawPdu(NopIn().encode()), self.session.now)
        except Misuse:
            return
        raise AssertionError("a failed session takes a PDU")


def play(script: bytes) -> str:
    """``accepted`` or ``refused``; AssertionError when the invariant is broken."""
    return Play(script).run()


@cache
def corpus() -> tuple[bytes, ...]:
    """Plays of chance that a session survived to their end."""
    scripts = (random.Random(seed).randbytes(600) for seed in range(200))
    return tuple(islice((script for script in scripts if play(script) == "accepted"), 24))
