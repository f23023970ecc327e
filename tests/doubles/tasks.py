# SPDX-License-Identifier: LGPL-2.1-or-later
"""SCSI tasks of one connection: how data moves (RFC 7143 sections 4.2.5, 11.3 to 11.8), checked against every rule.

What a command means is the device's business (:mod:`tests.doubles.disk`); here it becomes Data-In, R2T and a response,
and what the initiator sends becomes the data the device waits for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from iscsiboot.initiator.pdu.header import RESERVED_TAG
from iscsiboot.initiator.pdu.scsi import DataIn, DataOut, ReadyToTransfer, ScsiCommand, ScsiResponse
from tests.doubles.disk import Device
from tests.doubles.limits import Agreed
from tests.doubles.scsi import GOOD, Outcome
from tests.doubles.wire import Outgoing


@dataclass
class Burst:
    """A sequence of Data-Out that is under way: one R2T's, or the unsolicited one."""

    ttt: int
    offset: int
    end: int
    """Where it must end; for unsolicited data, where it may."""
    datasn: int = 0


@dataclass
class Task:
    """One command the target works on."""

    command: ScsiCommand
    outcome: Outcome
    data: bytearray = field(default_factory=bytearray)
    unsolicited: Burst | None = None
    granted: deque[Burst] = field(default_factory=deque)
    asked: int = 0
    """Up to where R2Ts have asked for data."""
    pdus: int = 0
    """Data-In and R2T PDUs sent: the next DataSN or R2TSN, and ExpDataSN of the response."""

    @property
    def wanted(self) -> int:
        """Bytes that will be taken: what the command means, or less when the initiator announced less."""
        return min(self.outcome.wanted, self.command.expected_length if self.command.write else 0)


class Tasks:
    """All tasks of a connection; every method gives the PDUs that are due."""

    def __init__(
        self,
        device: Device,
        agreed: Agreed,
        *,
        note: Callable[[str], None],
        r2t_length: int = 0,
        collapse_status: bool = True,
    ) -> None:
        self._device = device
        self._agreed = agreed
        self._note = note
        self._r2t_length = min(r2t_length or agreed.max_burst_length, agreed.max_burst_length)
        self._collapse = collapse_status
        self._tags = 0x1000
        self.active: dict[int, Task] = {}
        """By ITT."""

    def command(self, command: ScsiCommand, cdb: bytes, data: bytes) -> list[Outgoing]:
        """A SCSI Command with its immediate data; ``cdb`` is whole."""
        if command.itt in self.active or command.itt == RESERVED_TAG:
            self._note(f"SCSI Command: task tag {command.itt:#x} is in use or reserved")
            return []
        self._check_flags(command)
        task = Task(command=command, outcome=self._device.execute(command.lun, cdb))
        self.active[command.itt] = task
        self._take_immediate(task, data)
        return [] if task.unsolicited is not None else self._proceed(task)

    def data_out(self, pdu: DataOut, data: bytes) -> list[Outgoing]:
        """One Data-Out PDU."""
        task = self.active.get(pdu.itt)
        if task is None:
            self._note(f"Data-Out: no task has the tag {pdu.itt:#x}")
            return []
        burst = task.unsolicited if pdu.ttt == RESERVED_TAG else (task.granted[0] if task.granted else None)
        if burst is None or burst.ttt != pdu.ttt:
            self._note(f"Data-Out: no data is due for transfer tag {pdu.ttt:#x}")
            return []
        lun = task.command.lun if pdu.ttt != RESERVED_TAG else bytes(8)
        self._must(pdu.lun == lun, f"Data-Out: LUN {pdu.lun.hex()}, {lun.hex()} was due")
        self._must(pdu.datasn == burst.datasn, f"Data-Out: DataSN {pdu.datasn}, {burst.datasn} was due")
        self._must(
            pdu.buffer_offset == burst.offset, f"Data-Out: buffer offset {pdu.buffer_offset}, {burst.offset} was due"
        )
        self._must(bool(data), "Data-Out: without data")
        burst.datasn += 1
        burst.offset += len(data)
        if burst.offset > burst.end:
            self._note(f"Data-Out: data up to {burst.offset}, the sequence ends at {burst.end}")
        task.data[pdu.buffer_offset : pdu.buffer_offset + len(data)] = data
        if not pdu.final:
            self._must(burst.offset < burst.end, "Data-Out: the sequence is complete and the F bit not set")
            return []
        self._must(burst.offset == burst.end, f"Data-Out: F at {burst.offset}, the sequence ends at {burst.end}")
        if pdu.ttt == RESERVED_TAG:
            task.unsolicited = None
        else:
            task.granted.popleft()
        return self._proceed(task)

    def abort(self, itts: Iterable[int]) -> None:
        """Forget these tasks."""
        for itt in list(itts):
            self.active.pop(itt, None)

    # How a command begins.

    def _check_flags(self, command: ScsiCommand) -> None:
        moves = command.read or command.write
        self._must(
            moves or not command.expected_length,
            f"SCSI Command: {command.expected_length} bytes expected and neither R nor W set",
        )
        self._must(command.final or command.write, "SCSI Command: F not set although nothing is written")
        if self._agreed.initial_r2t:
            self._must(command.final, "SCSI Command: F not set although InitialR2T=Yes")

    def _take_immediate(self, task: Task, data: bytes) -> None:
        command, first = task.command, min(self._agreed.first_burst_length, task.command.expected_length)
        if data:
            self._must(self._agreed.immediate_data, "SCSI Command: immediate data although ImmediateData=No")
            self._must(command.write, "SCSI Command: immediate data without W")
            self._must(len(data) <= first, f"SCSI Command: {len(data)} bytes of immediate data, at most {first}")
        task.data[: len(data)] = data
        task.asked = len(data)
        if not command.final:
            # Section 11.3.4: once there is unsolicited Data-Out at all, it fills the first burst or ends the data.
            self._must(len(data) < first, "SCSI Command: F not set and no unsolicited data is left to send")
            task.unsolicited = Burst(ttt=RESERVED_TAG, offset=len(data), end=first)
            task.asked = first

    # How it goes on.

    def _proceed(self, task: Task) -> list[Outgoing]:
        """R2Ts for what is missing, or the end of the command."""
        if task.outcome.dead:
            # It stays a task, and uses up its place in the window, until task management ends it.
            return []
        wanted = task.wanted
        due: list[Outgoing] = []
        while task.asked < wanted and len(task.granted) < self._agreed.max_outstanding_r2t:
            due.append(self._ask(task, min(self._r2t_length, wanted - task.asked)))
        if due or task.granted:
            return due
        outcome = task.outcome
        if outcome.commit is not None:
            outcome = outcome.commit(bytes(task.data[:wanted]))
        return self._finish(task, outcome)

    def _ask(self, task: Task, length: int) -> Outgoing:
        command = task.command
        burst = Burst(ttt=self._next_tag(), offset=task.asked, end=task.asked + length)
        task.granted.append(burst)
        task.asked = burst.end
        task.pdus += 1
        return Outgoing(
            pdu=ReadyToTransfer(
                lun=command.lun,
                itt=command.itt,
                ttt=burst.ttt,
                r2tsn=task.pdus - 1,
                buffer_offset=burst.offset,
                desired_length=length,
            )
        )

    def _next_tag(self) -> int:
        self._tags += 1
        return self._tags

    def _finish(self, task: Task, outcome: Outcome) -> list[Outgoing]:
        command = task.command
        del self.active[command.itt]
        room = command.expected_length if command.read else 0
        moved = min(len(outcome.data), room)
        meant = task.outcome.wanted if command.write else len(outcome.data)
        over, under = max(0, meant - command.expected_length), max(0, command.expected_length - meant)
        residual: dict[str, bool | int] = {"overflow": over > 0, "underflow": under > 0, "residual": over + under}
        due = self._data_in(task, outcome.data[:moved])
        if due and self._collapse and outcome.status == GOOD:
            last = due[-1].pdu
            return [*due[:-1], Outgoing(pdu=_with_status(last, residual), data=due[-1].data)]
        response = ScsiResponse(
            itt=command.itt,
            status=outcome.status,
            exp_datasn=task.pdus,
            **residual,  # type: ignore[arg-type]  # three fields of their own types
        )
        segment = len(outcome.sense).to_bytes(2, "big") + outcome.sense if outcome.sense else b""
        return [*due, Outgoing(pdu=response, data=segment)]

    def _data_in(self, task: Task, data: bytes) -> list[Outgoing]:
        """The data cut into PDUs the initiator takes, with F at the end of each burst."""
        due, at, burst = [], 0, self._agreed.max_burst_length
        while at < len(data):
            end = min(at + self._agreed.initiator_takes, len(data), (at // burst + 1) * burst)
            pdu = DataIn(
                final=end == len(data) or end % burst == 0,
                itt=task.command.itt,
                datasn=task.pdus,
                buffer_offset=at,
            )
            due.append(Outgoing(pdu=pdu, data=data[at:end]))
            task.pdus += 1
            at = end
        return due

    def _must(self, holds: bool, text: str) -> None:
        if not holds:
            self._note(text)


def _with_status(pdu: object, residual: dict[str, bool | int]) -> DataIn:
    assert isinstance(pdu, DataIn)
    return DataIn(
        final=True,
        status_present=True,
        status=GOOD,
        itt=pdu.itt,
        datasn=pdu.datasn,
        buffer_offset=pdu.buffer_offset,
        **residual,  # type: ignore[arg-type]  # three fields of their own types
    )
