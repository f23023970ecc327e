# SPDX-License-Identifier: LGPL-2.1-or-later
"""The LUN as iscsi_ibft prints it: eight bytes by ``%x`` without padding, so ``0x10 0x01`` and ``0x1 0x00 0x1`` meet.

drivers/firmware/iscsi_ibft.c, ibft_attr_show_target: LUN 1 (``00 01 00 00 00 00 00 00``) is ``01000000``. Eight digits
and sixteen digits have one reading; between them it is searched for, and more than one sensible reading is none.
"""

from __future__ import annotations

import re

from iscsiboot.model.lun import Lun

_DIGITS = re.compile(r"[0-9a-f]{8,16}")


def parse_kernel_lun(text: str) -> Lun:
    """The LUN, when one reading is left. ValueError otherwise.

    Among several readings the likeliest form counts, and only if it is one: LUN 256 is ``410000000``, which could be
    the bytes 41 00 or 04 10. First come single-level LUNs on bus 0 or in flat space (SAM-5 4.7.7.2 and 4.7.7.3),
    what targets give their disks; then any single-level LUN; then everything.
    """
    if not _DIGITS.fullmatch(text):
        raise ValueError("eight bytes as hexadecimal digits are expected")
    readings = _readings(text, 8)
    single_level = [reading for reading in readings if not any(reading[2:])]
    usual = [reading for reading in single_level if reading[0] == 0 or reading[0] >> 6 == 1]
    for candidates in (usual, single_level, readings):
        if len(candidates) == 1:
            return Lun(candidates[0])
    raise ValueError(f"the kernel prints bytes without padding, and this has {len(readings)} readings")


def _readings(text: str, count: int) -> list[bytes]:
    """Every way to cut ``text`` into ``count`` bytes, two digits only where the first is not 0 (at most 70)."""
    if count == 0:
        return [b""] if not text else []
    if not count <= len(text) <= 2 * count:
        return []
    found = [bytes([int(text[0], 16)]) + rest for rest in _readings(text[1:], count - 1)]
    if text[0] != "0" and len(text) > 1:
        found += [bytes([int(text[:2], 16)]) + rest for rest in _readings(text[2:], count - 1)]
    return found
