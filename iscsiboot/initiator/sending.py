# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is sent next, and with which numbers (RFC 7143 sections 4.2.2.1 and 4.2.5).

PDUs get CmdSN and ExpStatSN when they leave, not when they are asked for: what waits must not acknowledge less than is
known, and numbers must be in the order of sending. In this order:

1. immediate requests and answers to pings;
2. Data-Out, sequence by sequence in the order the sequences became due. Before any further command, because
   unsolicited data has to follow the commands it belongs to in their order;
3. commands, one for each number the window is open for. What does not fit waits, at most :data:`WAITING_MAX`.

A target has to have room for one immediate task management function and one other immediate request at a time
(section 4.2.2.1.1), so no more than that are under way; the others wait for their :class:`Slot`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from iscsiboot.initiator.errors import Misuse, ProtocolViolation
from iscsiboot.initiator.requests import Make
from iscsiboot.initiator.stream import RawPdu
from iscsiboot.initiator.tasks import AnyTask, CommandTask, ManagementTask
from iscsiboot.initiator.windows import CommandWindow, StatusSequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from iscsiboot.initiator.transfer import Sequence

WAITING_MAX = 1024
"""Commands, and immediate requests of each slot, that may wait."""
ANSWERS_MAX = 16
"""Answers to pings that may wait to be sent. A target that has more under way does not read what it asks for."""


class Slot(Enum):
    """Of which immediate requests there may be one at a time."""

    MANAGEMENT = "task management"
    OTHER = "NOP-Out and Text"


@dataclass(frozen=True, slots=True)
class _Outgoing:
    make: Make
    data: bytes
    immediate: bool
    task: AnyTask | None
    """None for an answer to a ping."""


class Sender:
    """Everything that waits to be sent on one connection."""

    def __init__(self, window: CommandWindow, status: StatusSequence, *, limit: int) -> None:
        self._window = window
        self._status = status
        self.limit = limit
        """MaxRecvDataSegmentLength of the target, in bytes."""
        self._ready: deque[_Outgoing] = deque()
        self._answers = 0
        self._sequences: deque[tuple[CommandTask, Sequence]] = deque()
        self._commands: deque[CommandTask] = deque()
        self._closed = False
        self._held: dict[Slot, AnyTask] = {}
        self._queued: dict[Slot, deque[tuple[AnyTask, _Outgoing]]] = {slot: deque() for slot in Slot}

    @property
    def timed(self) -> Iterator[AnyTask]:
        """The tasks whose answers are waited for."""
        return iter(self._held.values())

    def free(self, slot: Slot) -> bool:
        """Whether no request holds the slot."""
        return slot not in self._held

    def answer(self, make: Make, data: bytes) -> None:
        """Send the answer to a ping; :class:`ProtocolViolation` when too many wait already."""
        if self._closed:
            return
        if self._answers >= ANSWERS_MAX:
            raise ProtocolViolation(f"the target sent {ANSWERS_MAX + 1} pings without reading the answers")
        self._answers += 1
        self._ready.append(_Outgoing(make, data, True, None))

    def request(self, slot: Slot, task: AnyTask, make: Make, data: bytes, now: float) -> None:
        """Send an immediate request as soon as its slot is free; its time runs from then."""
        self._check_room(len(self._queued[slot]))
        self._queued[slot].append((task, _Outgoing(make, data, True, task)))
        self._move_up(slot, now)

    def go_on(self, task: AnyTask, make: Make, data: bytes, now: float) -> None:
        """Send a further request of the task that holds a slot; until it left the target has nothing to answer."""
        task.started = now
        task.sent = False
        if not self._closed:
            self._ready.append(_Outgoing(make, data, True, task))

    def last(self, task: AnyTask, make: Make, *, immediate: bool) -> None:
        """Send this and nothing else ever."""
        self.close()
        self._held[Slot.OTHER] = task
        self._ready.append(_Outgoing(make, b"", immediate, task))

    def command(self, task: CommandTask) -> None:
        """Send a command when the window is open."""
        self._check_room(len(self._commands))
        self._commands.append(task)

    def data(self, task: CommandTask, sequence: Sequence) -> None:
        """Send a sequence of data."""
        if not self._closed:
            self._sequences.append((task, sequence))

    def forget(self, task: AnyTask, now: float) -> None:
        """Send nothing more of a task, and let the next one have its slot."""
        self._ready = deque(item for item in self._ready if item.task is not task)
        if isinstance(task, CommandTask):
            self._sequences = deque(item for item in self._sequences if item[0] is not task)
            if not task.sent:
                self._commands.remove(task)
            return
        slot = slot_of(task)
        if self._held.get(slot) is task:
            del self._held[slot]
            self._move_up(slot, now)
        else:
            self._queued[slot] = deque(item for item in self._queued[slot] if item[0] is not task)

    def close(self) -> None:
        """Send nothing more, whatever is still asked for."""
        self._closed = True
        self._ready.clear()
        self._sequences.clear()
        self._commands.clear()
        self._held.clear()
        for queue in self._queued.values():
            queue.clear()

    def next_pdu(self) -> RawPdu | None:
        """The next PDU with its numbers; None when nothing may be sent now."""
        if self._ready:
            return self._request(self._ready.popleft())
        if self._sequences:
            return self._data_out()
        if self._commands and self._window.open:
            return self._command(self._commands.popleft())
        return None

    def _request(self, item: _Outgoing) -> RawPdu:
        cmdsn = self._window.cmdsn if item.immediate else self._window.take()
        pdu = item.make(cmdsn, self._status.expected)
        if item.task is None:
            self._answers -= 1
        else:
            item.task.sent = True
            if isinstance(item.task, ManagementTask):
                item.task.cmdsn = cmdsn
        return RawPdu(pdu.encode(), b"", item.data)

    def _data_out(self) -> RawPdu:
        task, sequence = self._sequences[0]
        pdu, data = task.transfer.next_data(sequence, itt=task.itt, exp_statsn=self._status.expected, limit=self.limit)
        if sequence.done:
            self._sequences.popleft()
        return RawPdu(pdu.encode(), b"", data)

    def _command(self, task: CommandTask) -> RawPdu:
        # Not for discoveries, which send no command and wait for every import.
        from iscsiboot.initiator.pdu.ahs import encode_list, read_length, split_cdb
        from iscsiboot.initiator.pdu.scsi import ScsiCommand

        transfer = task.transfer
        head, headers = split_cdb(task.cdb)
        if transfer.bidirectional:
            headers = (*headers, read_length(transfer.read_length))
        ahs = encode_list(headers)
        immediate, unsolicited = transfer.begin(self.limit)
        task.sent = True
        task.cmdsn = self._window.take()
        pdu = ScsiCommand(
            final=unsolicited is None,
            read=transfer.read_length > 0,
            write=transfer.writes,
            attribute=task.attribute,
            lun=task.lun.wire,
            itt=task.itt,
            expected_length=transfer.expected_length,
            cmdsn=task.cmdsn,
            exp_statsn=self._status.expected,
            cdb=head,
            ahs_length=len(ahs),
            data_length=len(immediate),
        )
        if unsolicited is not None:
            self._sequences.append((task, unsolicited))
        return RawPdu(pdu.encode(), ahs, immediate)

    def _move_up(self, slot: Slot, now: float) -> None:
        if slot in self._held or not self._queued[slot]:
            return
        task, item = self._queued[slot].popleft()
        task.started = now
        self._held[slot] = task
        self._ready.append(item)

    def _check_room(self, waiting: int) -> None:
        if waiting >= WAITING_MAX:
            raise Misuse(f"{WAITING_MAX} requests wait already: wait until the target took some")


def slot_of(task: AnyTask) -> Slot:
    """The slot an immediate request needs."""
    return Slot.MANAGEMENT if isinstance(task, ManagementTask) else Slot.OTHER
