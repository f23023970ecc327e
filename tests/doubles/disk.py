# SPDX-License-Identifier: LGPL-2.1-or-later
"""Disks in memory behind a target: commands in, outcomes out (SPC-4, SBC-3), in good health or any kind of bad."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from tests.doubles.scsi import (
    BAD_FIELD,
    BECOMING_READY,
    MEDIUM_ERROR,
    NO_SUCH_UNIT,
    OUT_OF_RANGE,
    POWER_ON,
    UNKNOWN_COMMAND,
    WRITE_PROTECTED,
    Identity,
    Outcome,
    check_condition,
    sense,
)


class Command(IntEnum):
    """Operation codes this disk knows."""

    TEST_UNIT_READY = 0x00
    REQUEST_SENSE = 0x03
    INQUIRY = 0x12
    MODE_SENSE_6 = 0x1A
    READ_CAPACITY_10 = 0x25
    READ_10 = 0x28
    WRITE_10 = 0x2A
    SYNCHRONIZE_CACHE_10 = 0x35
    READ_16 = 0x88
    WRITE_16 = 0x8A
    SYNCHRONIZE_CACHE_16 = 0x91
    SERVICE_ACTION_IN_16 = 0x9E
    REPORT_LUNS = 0xA0


ALWAYS_ANSWERED = frozenset({Command.INQUIRY, Command.REPORT_LUNS, Command.REQUEST_SENSE})
"""Carried out whatever attention is pending (SAM-5 section 5.14) and whether the medium is ready."""


def number(cdb: bytes, start: int, width: int) -> int:
    """A big endian field of a CDB."""
    return int.from_bytes(cdb[start : start + width], "big")


@dataclass
class LogicalUnit:
    """One disk. The image is what was on it first; writes are kept beside it, so a huge disk costs nothing."""

    image: bytes = b""
    block: int = 512
    """Bytes of a logical block."""
    blocks: int = 0
    """Its size; 0: that of the image."""
    identity: Identity = field(default_factory=Identity)
    pending: deque[Outcome] = field(default_factory=deque)
    """Unit attentions, or any other outcomes, for the commands that come next."""
    ready: bool = True
    writable: bool = True
    bad: frozenset[int] = frozenset()
    """Blocks that cannot be read or written."""
    dead: bool = False
    """Takes commands and answers none."""
    instead: dict[int, Outcome] = field(default_factory=dict)
    """By operation code: what comes instead of the honest outcome, each time."""
    written: dict[int, bytes] = field(default_factory=dict)
    seen: list[bytes] = field(default_factory=list)
    """Every CDB it got."""
    flushed: int = 0
    """How often a cache flush was asked for."""

    @property
    def size(self) -> int:
        """Blocks."""
        return self.blocks or len(self.image) // self.block

    def execute(self, cdb: bytes) -> Outcome:
        """One command, up to its status or to the data it waits for."""
        self.seen.append(cdb)
        code = cdb[0]
        if self.dead:
            return Outcome(dead=True)
        if code in self.instead:
            return self.instead[code]
        if code not in ALWAYS_ANSWERED:
            if self.pending:
                return self.pending.popleft()
            if not self.ready:
                return BECOMING_READY
        handler = self._handlers().get(code)
        return handler(cdb) if handler else UNKNOWN_COMMAND

    def contents(self, lba: int, count: int) -> bytes:
        """What the blocks hold now."""
        return b"".join(self._block(at) for at in range(lba, lba + count))

    def _block(self, at: int) -> bytes:
        kept = self.written.get(at)
        start = at * self.block
        return kept if kept is not None else self.image[start : start + self.block].ljust(self.block, b"\0")

    def _handlers(self) -> Mapping[int, Callable[[bytes], Outcome]]:
        return {
            Command.TEST_UNIT_READY: lambda cdb: Outcome(),
            Command.REQUEST_SENSE: self._request_sense,
            Command.INQUIRY: self._inquiry,
            Command.MODE_SENSE_6: self._mode_sense,
            Command.READ_CAPACITY_10: self._capacity_10,
            Command.SERVICE_ACTION_IN_16: self._capacity_16,
            Command.READ_10: lambda cdb: self._transfer(self._read, cdb, number(cdb, 2, 4), number(cdb, 7, 2)),
            Command.READ_16: lambda cdb: self._transfer(self._read, cdb, number(cdb, 2, 8), number(cdb, 10, 4)),
            Command.WRITE_10: lambda cdb: self._transfer(self._write, cdb, number(cdb, 2, 4), number(cdb, 7, 2)),
            Command.WRITE_16: lambda cdb: self._transfer(self._write, cdb, number(cdb, 2, 8), number(cdb, 10, 4)),
            Command.SYNCHRONIZE_CACHE_10: self._flush,
            Command.SYNCHRONIZE_CACHE_16: self._flush,
        }

    def _request_sense(self, cdb: bytes) -> Outcome:
        waiting = self.pending.popleft().sense if self.pending else b""
        return Outcome(data=(waiting or sense(0, 0))[: cdb[4]])

    def _inquiry(self, cdb: bytes) -> Outcome:
        vital, code = cdb[1] & 1, cdb[2]
        if not vital and code:
            return BAD_FIELD
        data = self.identity.page(code) if vital else self.identity.inquiry()
        return BAD_FIELD if data is None else Outcome(data=data[: number(cdb, 3, 2)])

    def _mode_sense(self, cdb: bytes) -> Outcome:
        """The caching page alone (SBC-3 section 6.4.5), without block descriptors."""
        if cdb[2] & 0x3F not in (0x08, 0x3F):
            return BAD_FIELD
        page = bytes([0x08, 0x12, 0x04]) + bytes(17)
        header = bytes([3 + len(page), 0, 0 if self.writable else 0x80, 0])
        return Outcome(data=(header + page)[: cdb[4]])

    def _capacity_10(self, cdb: bytes) -> Outcome:
        last = min(self.size - 1, 0xFFFFFFFF)
        return Outcome(data=last.to_bytes(4, "big") + self.block.to_bytes(4, "big"))

    def _capacity_16(self, cdb: bytes) -> Outcome:
        if cdb[1] & 0x1F != 0x10:
            return BAD_FIELD
        data = (self.size - 1).to_bytes(8, "big") + self.block.to_bytes(4, "big") + bytes(20)
        return Outcome(data=data[: number(cdb, 10, 4)])

    def _flush(self, cdb: bytes) -> Outcome:
        self.flushed += 1
        return Outcome()

    def _failing(self, lba: int, count: int, code: int, qualifier: int) -> Outcome | None:
        if lba + count > self.size:
            return OUT_OF_RANGE
        hit = sorted(at for at in self.bad if lba <= at < lba + count)
        return check_condition(MEDIUM_ERROR, code, qualifier, information=hit[0]) if hit else None

    def _transfer(self, move: Callable[[int, int], Outcome], cdb: bytes, lba: int, count: int) -> Outcome:
        """Protection information, DPO and FUA are not for this disk (SBC-3 sections 5.11 and 5.40)."""
        return BAD_FIELD if cdb[1] & 0xF8 else move(lba, count)

    def _read(self, lba: int, count: int) -> Outcome:
        failing = self._failing(lba, count, 0x11, 0)
        return failing or Outcome(data=self.contents(lba, count))

    def _write(self, lba: int, count: int) -> Outcome:
        if not self.writable:
            return WRITE_PROTECTED
        failing = self._failing(lba, count, 0x0C, 0x02)

        def commit(data: bytes) -> Outcome:
            for at in range(len(data) // self.block):
                self.written[lba + at] = data[at * self.block : (at + 1) * self.block]
            return Outcome()

        return failing or Outcome(wanted=count * self.block, commit=commit)


def lun_bytes(number: int) -> bytes:
    """A LUN on the wire: peripheral addressing below 256, flat above (SAM-5 section 4.7)."""
    return (number if number < 256 else 0x4000 | number).to_bytes(2, "big") + bytes(6)


class Device:
    """The SCSI target device: its logical units by number."""

    def __init__(self, units: Mapping[int, LogicalUnit] | None = None) -> None:
        self.units = {lun_bytes(number): unit for number, unit in (units or {}).items()}

    def execute(self, lun: bytes, cdb: bytes) -> Outcome:
        """One command to the unit of these eight bytes; there may be none."""
        unit = self.units.get(lun)
        if cdb[0] == Command.REPORT_LUNS and (unit is None or not (unit.dead or cdb[0] in unit.instead)):
            return self._report_luns(cdb)
        if unit is not None:
            return unit.execute(cdb)
        if cdb[0] == Command.INQUIRY:
            return LogicalUnit(identity=Identity(device_type=0x1F, qualifier=3)).execute(cdb)
        return NO_SUCH_UNIT

    def reset(self, luns: Sequence[bytes]) -> None:
        """What a reset leaves for each initiator that comes next."""
        for lun in luns:
            self.units[lun].pending.append(POWER_ON)

    def _report_luns(self, cdb: bytes) -> Outcome:
        listed = b"".join(self.units) if cdb[2] in (0, 2) else b""
        return Outcome(data=(len(listed).to_bytes(4, "big") + bytes(4) + listed)[: number(cdb, 6, 4)])
