# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a logical unit answers with: statuses, sense data, and who it says it is (SAM-5, SPC-4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

GOOD = 0x00
CHECK_CONDITION = 0x02
BUSY = 0x08
RESERVATION_CONFLICT = 0x18
TASK_SET_FULL = 0x28
ACA_ACTIVE = 0x30
TASK_ABORTED = 0x40

NOT_READY, MEDIUM_ERROR, ILLEGAL_REQUEST, UNIT_ATTENTION, DATA_PROTECT = 0x2, 0x3, 0x5, 0x6, 0x7


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command comes to."""

    status: int = GOOD
    data: bytes = b""
    """Everything the CDB asked for, whatever the initiator has room for."""
    sense: bytes = b""
    wanted: int = 0
    """Bytes of data the command takes before it can be carried out."""
    commit: Callable[[bytes], Outcome] | None = None
    """Carries it out once they are there."""
    dead: bool = False
    """No answer, ever."""


def sense(key: int, code: int, qualifier: int = 0, *, information: int | None = None) -> bytes:
    """Fixed format sense data (SPC-4 section 4.5.3), 18 bytes."""
    data = bytearray(18)
    data[0] = 0x70 | (0x80 if information is not None else 0)
    data[2], data[7], data[12], data[13] = key, 10, code, qualifier
    data[3:7] = (information or 0).to_bytes(4, "big")
    return bytes(data)


def check_condition(key: int, code: int, qualifier: int = 0, *, information: int | None = None) -> Outcome:
    """CHECK CONDITION with its reason."""
    return Outcome(status=CHECK_CONDITION, sense=sense(key, code, qualifier, information=information))


def only_status(status: int) -> Outcome:
    """A status that says everything by itself."""
    return Outcome(status=status)


POWER_ON = check_condition(UNIT_ATTENTION, 0x29)
"""POWER ON, RESET, OR BUS DEVICE RESET OCCURRED."""
LUNS_CHANGED = check_condition(UNIT_ATTENTION, 0x3F, 0x0E)
"""REPORTED LUNS DATA HAS CHANGED."""
BECOMING_READY = check_condition(NOT_READY, 0x04, 0x01)
"""LOGICAL UNIT IS IN PROCESS OF BECOMING READY."""
UNKNOWN_COMMAND = check_condition(ILLEGAL_REQUEST, 0x20)
OUT_OF_RANGE = check_condition(ILLEGAL_REQUEST, 0x21)
BAD_FIELD = check_condition(ILLEGAL_REQUEST, 0x24)
NO_SUCH_UNIT = check_condition(ILLEGAL_REQUEST, 0x25)
WRITE_PROTECTED = check_condition(DATA_PROTECT, 0x27)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """How a unit introduces itself."""

    device_type: int = 0
    qualifier: int = 0
    """3: there is no device here."""
    vendor: str = "EXAMPLE"
    product: str = "SCRIPTED DISK"
    revision: str = "1"
    serial: str = "SN0001"
    naa: bytes = bytes.fromhex("5000000123456789")

    def inquiry(self) -> bytes:
        """Standard INQUIRY data (SPC-4 section 6.4.2), 36 bytes."""
        names = f"{self.vendor:<8.8}{self.product:<16.16}{self.revision:<4.4}".encode()
        return bytes([self.qualifier << 5 | self.device_type, 0, 0x06, 0x12, 31, 0, 0, 0x02]) + names

    def page(self, code: int) -> bytes | None:
        """A page of vital product data; None when there is no such page."""
        bodies = {
            0x00: bytes([0x00, 0x80, 0x83]),
            0x80: self.serial.encode(),
            0x83: self._designators(),
        }
        if code not in bodies:
            return None
        body = bodies[code]
        return bytes([self.qualifier << 5 | self.device_type, code]) + len(body).to_bytes(2, "big") + body

    def _designators(self) -> bytes:
        """An NAA and a T10 vendor designator of the logical unit (SPC-4 section 7.8.6)."""
        vendor = f"{self.vendor:<8.8}{self.serial}".encode()
        return bytes([0x01, 0x03, 0, len(self.naa)]) + self.naa + bytes([0x02, 0x01, 0, len(vendor)]) + vendor
