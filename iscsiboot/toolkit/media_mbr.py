# SPDX-License-Identifier: LGPL-2.1-or-later
"""The first sector as a BIOS sees it, and the MBR partition table with its chain of logical partitions."""

from __future__ import annotations

from dataclasses import dataclass

from iscsiboot.toolkit.media_types import EXTENDED_TYPES, PROTECTIVE_TYPE, mbr_type
from iscsiboot.toolkit.media_values import BootSector, Disk, Partition, Reads, Table

SECTOR = 512
"""The size of an MBR on every disk: with larger blocks the rest of block 0 is unused."""
LOGICAL_MAX = 60
"""Logical partitions that are followed; Linux has no names for more."""
_CODE_END = 440
_TABLE = 446

_PROGRAMS = (
    (b"GRUB", "GRUB"),
    (b"LILO", "LILO"),
    (b"isolinux", "isolinux"),
    (b"This is not a bootable disk", "a message only"),
    (b"BOOTMGR", "Windows"),
    (b"Invalid partition table", "Windows"),
    (b"Missing operating system", "syslinux"),
)
"""Words in boot code, by whose it is; the first that matches counts."""


@dataclass(frozen=True, slots=True)
class _Entry:
    status: int
    type: int
    first: int
    count: int


def boot_sector(sector: bytes) -> BootSector:
    """What a BIOS would do with these 512 bytes."""
    signature = len(sector) >= SECTOR and sector[510:512] == b"\x55\xaa"
    code = any(sector[:_CODE_END])
    program = next((name for words, name in _PROGRAMS if words in sector[:SECTOR]), "") if code else ""
    return BootSector(signature=signature, code=code, program=program)


def _entries(sector: bytes) -> list[_Entry] | None:
    """The four entries, or None when these bytes cannot be a table: no signature, or a status that is no status."""
    if len(sector) < SECTOR or sector[510:512] != b"\x55\xaa":
        return None
    raw = [sector[at : at + 16] for at in range(_TABLE, 510, 16)]
    entries = [
        _Entry(item[0], item[4], int.from_bytes(item[8:12], "little"), int.from_bytes(item[12:16], "little"))
        for item in raw
    ]
    # The boot code of a FAT or NTFS volume reaches into these bytes; no status but 0 and 80h is ever written.
    if any(entry.status not in (0x00, 0x80) for entry in entries):
        return None
    return entries


def is_protective(sector: bytes) -> bool:
    """Whether it says that the disk has a GPT."""
    entries = _entries(sector)
    return entries is not None and any(entry.type == PROTECTIVE_TYPE for entry in entries)


def read_mbr(disk: Disk, findings: list[str]) -> Reads[Table | None]:
    """The table with its logical partitions; None when there is none or it is empty."""
    sector = yield from disk.read(0, SECTOR)
    entries = _entries(sector)
    if entries is None or not any(entry.type and entry.count for entry in entries):
        return None
    partitions: list[Partition] = []
    for number, entry in enumerate(entries, start=1):
        if entry.type and entry.count:
            partitions.append(_partition(number, entry, 0, disk))
    extended = next((entry for entry in entries if entry.type in EXTENDED_TYPES and entry.count), None)
    if extended is not None:
        partitions += yield from _logical(disk, extended, findings)
    active = [partition.number for partition in partitions if partition.active]
    if len(active) > 1:
        findings.append(f"partitions {', '.join(map(str, active))} are all active: boot code takes one at most")
    signature = int.from_bytes(sector[_CODE_END : _CODE_END + 4], "little")
    return Table(
        kind="mbr", uuid=f"{signature:08x}" if signature else "", partitions=tuple(partitions), unit=disk.block_size
    )


def _partition(number: int, entry: _Entry, base: int, disk: Disk) -> Partition:
    name, role = mbr_type(entry.type)
    return Partition(
        number=number,
        start=(base + entry.first) * disk.block_size,
        size=entry.count * disk.block_size,
        type_id=f"{entry.type:#04x}",
        type_name=name,
        role=role,
        active=entry.status == 0x80,
    )


def _logical(disk: Disk, extended: _Entry, findings: list[str]) -> Reads[list[Partition]]:
    """Follow the chain: each link is a sector with one partition and the place of the next link."""
    found: list[Partition] = []
    link, visited = 0, set[int]()
    for _ in range(LOGICAL_MAX):
        if link in visited or link >= max(extended.count, 1):
            findings.append("the chain of logical partitions leads outside or back: its end was not read")
            return found
        visited.add(link)
        at = extended.first + link
        entries = _entries((yield from disk.read(at * disk.block_size, SECTOR)))
        if entries is None:
            findings.append(f"the chain of logical partitions is broken at block {at}")
            return found
        if entries[0].type and entries[0].count:
            found.append(_partition(5 + len(found), entries[0], at, disk))
        if entries[1].type not in EXTENDED_TYPES or not entries[1].count:
            return found
        link = entries[1].first
    findings.append(f"more than {LOGICAL_MAX} logical partitions: the rest was not read")
    return found
