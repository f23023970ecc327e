# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a SCSI status and its sense data mean, in words, and whether the same command is worth sending again.

Statuses are SAM-5 section 5.3.1, sense data SPC-4 section 4.5 in both its formats, additional sense codes SPC-4 annex
D.2. Values in, values out: the command that failed and the LUN it went to are the caller's knowledge.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum


class Status(IntEnum):
    """SAM-5 table 31."""

    GOOD = 0x00
    CHECK_CONDITION = 0x02
    CONDITION_MET = 0x04
    BUSY = 0x08
    RESERVATION_CONFLICT = 0x18
    TASK_SET_FULL = 0x28
    ACA_ACTIVE = 0x30
    TASK_ABORTED = 0x40

    @staticmethod
    def words(value: int) -> str:
        """``RESERVATION CONFLICT``, or ``status 0x55`` for a number SAM-5 does not assign."""
        try:
            return Status(value).name.replace("_", " ")
        except ValueError:
            return f"status {value:#04x}"


class SenseKey(IntEnum):
    """SPC-4 table 48."""

    NO_SENSE = 0x0
    RECOVERED_ERROR = 0x1
    NOT_READY = 0x2
    MEDIUM_ERROR = 0x3
    HARDWARE_ERROR = 0x4
    ILLEGAL_REQUEST = 0x5
    UNIT_ATTENTION = 0x6
    DATA_PROTECT = 0x7
    BLANK_CHECK = 0x8
    VENDOR_SPECIFIC = 0x9
    COPY_ABORTED = 0xA
    ABORTED_COMMAND = 0xB
    RESERVED = 0xC
    VOLUME_OVERFLOW = 0xD
    MISCOMPARE = 0xE
    COMPLETED = 0xF


ADDITIONAL: dict[tuple[int, int], str] = {
    (0x00, 0x00): "no additional sense information",
    (0x04, 0x00): "logical unit not ready, cause not reportable",
    (0x04, 0x01): "logical unit is becoming ready",
    (0x04, 0x02): "logical unit not ready, it waits for START UNIT",
    (0x04, 0x03): "logical unit not ready, manual intervention required",
    (0x04, 0x04): "logical unit not ready, format in progress",
    (0x04, 0x09): "logical unit not ready, self-test in progress",
    (0x04, 0x0A): "logical unit not accessible, asymmetric access state transition",
    (0x04, 0x0B): "logical unit not accessible, target port in standby state",
    (0x04, 0x0C): "logical unit not accessible, target port in unavailable state",
    (0x04, 0x12): "logical unit not ready, offline",
    (0x05, 0x00): "logical unit does not respond to selection",
    (0x08, 0x00): "logical unit communication failure",
    (0x08, 0x01): "logical unit communication time-out",
    (0x0C, 0x00): "write error",
    (0x10, 0x00): "ID CRC or ECC error",
    (0x11, 0x00): "unrecovered read error",
    (0x14, 0x01): "record not found",
    (0x1A, 0x00): "parameter list length error",
    (0x20, 0x00): "invalid command operation code",
    (0x20, 0x02): "access denied, no access rights",
    (0x21, 0x00): "logical block address out of range",
    (0x24, 0x00): "invalid field in CDB",
    (0x25, 0x00): "logical unit not supported",
    (0x26, 0x00): "invalid field in parameter list",
    (0x27, 0x00): "write protected",
    (0x27, 0x07): "space allocation failed write protect",
    (0x28, 0x00): "not ready to ready change, medium may have changed",
    (0x29, 0x00): "power on, reset, or bus device reset occurred",
    (0x29, 0x01): "power on occurred",
    (0x29, 0x02): "SCSI bus reset occurred",
    (0x29, 0x03): "bus device reset function occurred",
    (0x29, 0x04): "device internal reset",
    (0x29, 0x07): "I_T nexus loss occurred",
    (0x2A, 0x01): "mode parameters changed",
    (0x2A, 0x03): "reservations preempted",
    (0x2A, 0x04): "reservations released",
    (0x2A, 0x05): "registrations preempted",
    (0x2A, 0x06): "asymmetric access state changed",
    (0x2A, 0x09): "capacity data has changed",
    (0x2C, 0x00): "command sequence error",
    (0x2F, 0x00): "commands cleared by another initiator",
    (0x31, 0x00): "medium format corrupted",
    (0x38, 0x07): "thin provisioning soft threshold reached",
    (0x3A, 0x00): "medium not present",
    (0x3A, 0x01): "medium not present, tray closed",
    (0x3A, 0x02): "medium not present, tray open",
    (0x3E, 0x00): "logical unit has not self-configured yet",
    (0x3E, 0x01): "logical unit failure",
    (0x3F, 0x0E): "reported LUNs data has changed",
    (0x3F, 0x03): "INQUIRY data has changed",
    (0x44, 0x00): "internal target failure",
    (0x47, 0x00): "SCSI parity error",
    (0x4B, 0x00): "data phase error",
    (0x4E, 0x00): "overlapped commands attempted",
    (0x55, 0x03): "insufficient resources",
    (0x5D, 0x00): "failure prediction threshold exceeded",
}
"""The additional sense codes a disk over iSCSI is seen to give."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sense:
    """Decoded sense data."""

    key: int
    asc: int = 0
    ascq: int = 0
    deferred: bool = False
    """It tells of an earlier command; the one it came with was not carried out."""

    @property
    def words(self) -> str:
        """``NOT READY: medium not present (2/3a/00)``: the numbers are what vendors' manuals are searched by."""
        name = SenseKey(self.key).name.replace("_", " ")
        more = ADDITIONAL.get((self.asc, self.ascq))
        text = f"{name}: {more}" if more and (self.asc or self.ascq) else name
        return f"{text} ({self.key:x}/{self.asc:02x}/{self.ascq:02x}{', deferred' if self.deferred else ''})"


def parse_sense(data: bytes) -> Sense | None:
    """Sense data in fixed (70h, 71h) or descriptor format (72h, 73h); None when it is neither or too short for a key.

    Codes that are cut off count as zero, which SPC-4 gives the same meaning: no additional information.
    """
    if not data:
        return None
    code = data[0] & 0x7F
    if code in (0x70, 0x71) and len(data) >= 3:
        # Byte 7 says how many bytes follow it; a target that says less has not filled the codes in.
        end = min(len(data), 8 + data[7]) if len(data) >= 8 else 0
        asc, ascq = (data[12], data[13]) if end >= 14 else (0, 0)
        return Sense(key=data[2] & 0x0F, asc=asc, ascq=ascq, deferred=code == 0x71)
    if code in (0x72, 0x73) and len(data) >= 4:
        return Sense(key=data[1] & 0x0F, asc=data[2], ascq=data[3], deferred=code == 0x73)
    return None


class Decision(Enum):
    """What becomes of a command that was answered."""

    DONE = "done"
    AGAIN = "again"
    """Send the same command again at once."""
    FAILED = "failed"


ATTEMPTS_MAX = 8
"""A unit attention is reported once for each event, and a fresh nexus has several: power on, LUNs changed, mode
parameters changed. More than this many in a row is a target that will not stop."""

_AGAIN_KEYS = frozenset({SenseKey.UNIT_ATTENTION, SenseKey.ABORTED_COMMAND})
_HARMLESS_KEYS = frozenset({SenseKey.NO_SENSE, SenseKey.RECOVERED_ERROR, SenseKey.COMPLETED})


def decide(status: int, sense: Sense | None, *, attempt: int) -> Decision:
    """What to do after attempt number ``attempt`` (from 1) of a command that changes nothing at the target.

    BUSY and TASK SET FULL are not tried again: without a pause the answer would be the same, and how long to wait is
    the caller's business (:func:`may_pass`).
    """
    if status in (Status.GOOD, Status.CONDITION_MET):
        return Decision.DONE
    again = status == Status.TASK_ABORTED
    if status == Status.CHECK_CONDITION and sense is not None:
        if sense.key in _HARMLESS_KEYS and not sense.deferred:
            return Decision.DONE
        again = sense.deferred or sense.key in _AGAIN_KEYS
    return Decision.AGAIN if again and attempt < ATTEMPTS_MAX else Decision.FAILED


def may_pass(status: int, sense: Sense | None) -> bool:
    """Whether time alone may cure it: a busy target, a unit becoming ready or changing its access state."""
    if status in (Status.BUSY, Status.TASK_SET_FULL, Status.ACA_ACTIVE):
        return True
    if status != Status.CHECK_CONDITION or sense is None:
        return False
    if sense.key == SenseKey.NOT_READY:
        return (sense.asc, sense.ascq) in ((0x04, 0x01), (0x04, 0x04), (0x04, 0x09), (0x04, 0x0A), (0x3E, 0x00))
    return sense.key in _AGAIN_KEYS


def hint(status: int, sense: Sense | None) -> str:
    """The next step for a person; never empty."""
    if status == Status.RESERVATION_CONFLICT:
        return "another initiator holds a reservation: find out which (sg_persist -r), and release it there"
    if may_pass(status, sense):
        return "wait until the unit is ready, then try again"
    if sense is not None and (sense.key, sense.asc) == (SenseKey.NOT_READY, 0x04) and sense.ascq in (0x0B, 0x0C):
        return "use another path: the target serves this unit through other portals at the moment (ALUA)"
    if sense is not None and sense.key == SenseKey.NOT_READY and sense.asc == 0x3A:
        return "insert a medium, or attach a backing file at the target"
    if sense is not None and sense.key == SenseKey.ILLEGAL_REQUEST and sense.asc == 0x25:
        return "check which LUNs the target maps to this initiator"
    return "read the target's log: it knows what is wrong with this unit"
