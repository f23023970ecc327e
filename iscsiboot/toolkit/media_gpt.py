# SPDX-License-Identifier: LGPL-2.1-or-later
"""The GUID partition table (UEFI specification, chapter 5): header and entries under their checksums, and the backup.

A primary table that is damaged is replaced by its backup, as firmware does, and told. A table written for another
block size than the unit's is found too: it happens when an image of a disk is exported with other blocks, no firmware
and no kernel sees its partitions then, and nothing else tells.
"""

from __future__ import annotations

import uuid
import zlib
from dataclasses import dataclass

from iscsiboot.toolkit.media_types import gpt_type
from iscsiboot.toolkit.media_values import Disk, Partition, Reads, Table, medium_text

SIGNATURE = b"EFI PART"
PARTITIONS_MAX = 256
"""Partitions that are listed; tables have 128 entries."""
ENTRIES_MAX = 256 * 1024
"""Bytes of the array of entries; a table has 16 KiB. Larger ones are refused, not read."""
_HEADER_MIN = 92
_HEADER_MAX = 512
_ENTRY_MIN, _ENTRY_MAX = 128, 4096
_LEGACY_BIOS_BOOTABLE = 1 << 2


@dataclass(frozen=True, kw_only=True, slots=True)
class _Header:
    own: int
    disk: str
    entries_at: int
    count: int
    entry_size: int
    entries_crc: int


def read_gpt(disk: Disk, findings: list[str]) -> Reads[Table | None]:
    """The table, None when there is none. What is wrong with it goes to ``findings``."""
    for unit in dict.fromkeys((disk.block_size, 512, 4096)):
        primary: list[str] = []
        table = yield from _read_at(disk, unit, 1, primary)
        last = disk.size // unit - 1
        if table is None and not primary and unit != disk.block_size:
            continue
        if table is not None and unit == disk.block_size:
            backup = yield from _read_at(disk, unit, last, [])
            if backup is None:
                findings.append("the backup GPT is not at the end of the disk (was it resized?), or is damaged")
        if table is None:
            table = yield from _read_at(disk, unit, last, [])
            if table is not None:
                findings.append(f"the primary GPT {primary[0] if primary else 'is missing'}: this is the backup")
        if table is not None:
            if unit != disk.block_size:
                findings.append(
                    f"the GPT was written for blocks of {unit} bytes, the unit has {disk.block_size}: "
                    "nobody will see its partitions"
                )
            return table
        if primary:
            findings.append(f"the primary GPT {primary[0]}, and there is no good backup")
    return None


def _read_at(disk: Disk, unit: int, lba: int, problems: list[str]) -> Reads[Table | None]:
    """The table whose header is in block ``lba``; without a signature there None and no problem."""
    raw = yield from disk.read(lba * unit, _HEADER_MAX)
    if not raw.startswith(SIGNATURE):
        return None
    header = _header(raw, lba, problems)
    if header is None:
        return None
    length = header.count * header.entry_size
    entries = yield from disk.read(header.entries_at * unit, length)
    if len(entries) < length:
        problems.append("has its entries outside the disk")
        return None
    if zlib.crc32(entries) != header.entries_crc:
        problems.append("has entries with a wrong checksum")
        return None
    return _table(header, entries, unit)


def _header(raw: bytes, lba: int, problems: list[str]) -> _Header | None:
    def number(offset: int, width: int) -> int:
        return int.from_bytes(raw[offset : offset + width], "little")

    length = number(12, 4)
    if len(raw) < _HEADER_MAX or not _HEADER_MIN <= length <= _HEADER_MAX:
        problems.append(f"has a header of {length} bytes")
        return None
    if zlib.crc32(raw[:16] + bytes(4) + raw[20:length]) != number(16, 4):
        problems.append("has a header with a wrong checksum")
        return None
    header = _Header(
        own=number(24, 8),
        disk=str(uuid.UUID(bytes_le=raw[56:72])),
        entries_at=number(72, 8),
        count=number(80, 4),
        entry_size=number(84, 4),
        entries_crc=number(88, 4),
    )
    if header.own != lba:
        problems.append(f"says it is at block {header.own} and is at {lba}")
        return None
    size = header.entry_size
    if not _ENTRY_MIN <= size <= _ENTRY_MAX or size & (size - 1) or header.count * size > ENTRIES_MAX:
        problems.append(f"has {header.count} entries of {size} bytes")
        return None
    return header


def _table(header: _Header, entries: bytes, unit: int) -> Table:
    partitions: list[Partition] = []
    for index in range(header.count):
        raw = entries[index * header.entry_size : index * header.entry_size + _ENTRY_MIN]
        if not any(raw[:16]) or len(partitions) == PARTITIONS_MAX:
            continue
        first, last = int.from_bytes(raw[32:40], "little"), int.from_bytes(raw[40:48], "little")
        guid = str(uuid.UUID(bytes_le=raw[:16]))
        name, role = gpt_type(guid)
        partitions.append(
            Partition(
                number=index + 1,
                start=first * unit,
                size=max(0, last + 1 - first) * unit,
                type_id=guid,
                type_name=name,
                role=role,
                name=medium_text(raw[56:128], "utf-16-le"),
                uuid=str(uuid.UUID(bytes_le=raw[16:32])),
                active=bool(int.from_bytes(raw[48:56], "little") & _LEGACY_BIOS_BOOTABLE),
            )
        )
    return Table(kind="gpt", uuid=header.disk, partitions=tuple(partitions), unit=unit)
