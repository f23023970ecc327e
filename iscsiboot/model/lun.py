# SPDX-License-Identifier: LGPL-2.1-or-later
"""Logical unit numbers in every form a boot meets (SAM-5 section 4.7, RFC 4173 section 5, the kernel's ``scsi_lun``).

Three spellings of the same eight bytes:

* the wire: eight bytes, four levels of two bytes each, big endian;
* text (RFC 4173, iPXE): ``4752-3A4F-6b7e-2F99``, trailing zero levels left out, or a plain number for one level;
* the kernel's integer (``scsilun_to_int``): level N shifted left by 16 * N, which is what sysfs and ``scan`` use.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LEVELS = re.compile(r"[0-9A-Fa-f]{1,4}(?:-[0-9A-Fa-f]{1,4}){0,3}")


@dataclass(frozen=True, slots=True)
class Lun:
    """A logical unit number, kept as its eight wire bytes."""

    wire: bytes

    def __post_init__(self) -> None:
        if len(self.wire) != 8:
            raise ValueError(f"a LUN has 8 bytes, not {len(self.wire)}")

    @classmethod
    def from_number(cls, number: int) -> Lun:
        """A single-level LUN: peripheral addressing up to 255, flat space addressing (method 01b) up to 16383."""
        if not 0 <= number <= 16383:
            raise ValueError(f"LUN {number} is outside 0 to 16383")
        first = number if number <= 255 else 0x4000 | number
        return cls(first.to_bytes(2, "big") + bytes(6))

    @classmethod
    def from_kernel(cls, number: int) -> Lun:
        """The inverse of :attr:`kernel`."""
        if not 0 <= number < 1 << 64:
            raise ValueError(f"kernel LUN {number} does not fit 64 bits")
        return cls(b"".join(((number >> 16 * level) & 0xFFFF).to_bytes(2, "big") for level in range(4)))

    @classmethod
    def parse(cls, text: str) -> Lun:
        """RFC 4173: hexadecimal levels joined by ``-``; without a dash one hexadecimal level. ValueError otherwise."""
        if not _LEVELS.fullmatch(text):
            raise ValueError("a LUN is one to four groups of one to four hexadecimal digits, joined by '-'")
        levels = [int(level, 16).to_bytes(2, "big") for level in text.split("-")]
        return cls(b"".join(levels).ljust(8, b"\0"))

    @property
    def kernel(self) -> int:
        """The number sysfs shows and ``scan`` takes (``scsilun_to_int``, drivers/scsi/scsi_common.c)."""
        return sum(int.from_bytes(self.wire[2 * level : 2 * level + 2], "big") << 16 * level for level in range(4))

    def __str__(self) -> str:
        """The RFC 4173 text; a plain decimal number for the everyday single-level case below 10."""
        levels = [self.wire[2 * level : 2 * level + 2].hex() for level in range(4)]
        while len(levels) > 1 and levels[-1] == "0000":
            levels.pop()
        return levels[0].lstrip("0") or "0" if len(levels) == 1 else "-".join(levels)
