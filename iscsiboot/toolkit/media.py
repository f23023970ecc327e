# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is on a disk, from its first and last blocks, and who can boot from it. Pure: reads are asked for, not made.

Theory of operation: :func:`examine` is a generator that yields each :class:`Extent` it wants and takes the bytes. It
reads the first 128 KiB and the end of the disk, the partition table, the first 128 KiB of the first
:data:`LOOKED_INTO` partitions, and in FAT volumes the few directories that lead to ``EFI/BOOT``. Whatever the bytes
are, it ends with a value: reads are bounded by :data:`~iscsiboot.toolkit.media_values.BUDGET`, chains by their length,
and what is wrong becomes a finding in words.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

from iscsiboot.toolkit.media_fat import fat_layout, find_efi_files
from iscsiboot.toolkit.media_gpt import read_gpt
from iscsiboot.toolkit.media_iso import read_el_torito
from iscsiboot.toolkit.media_mbr import SECTOR, boot_sector, is_protective, read_mbr
from iscsiboot.toolkit.media_signatures import HEAD, TAIL, by_head, by_tail
from iscsiboot.toolkit.media_values import (
    Content,
    Disk,
    EfiFiles,
    Found,
    Media,
    Partition,
    PartitionRole,
    Reads,
    Table,
    Volume,
)
from iscsiboot.toolkit.media_verdict import by_bios, by_kernel, by_uefi

LOOKED_INTO = 16
"""Partitions whose content is read; further ones are listed only."""
_NO_CONTENT = frozenset({PartitionRole.EXTENDED, PartitionRole.PROTECTIVE, PartitionRole.BIOS_BOOT})


def examine(size: int, block_size: int, *, optical: bool = False) -> Reads[Media]:
    """Examine a medium of ``size`` bytes in blocks of ``block_size``; ``optical`` when the unit is a CD drive."""
    disk = Disk(size, block_size)
    findings: list[str] = []
    head = yield from disk.read(0, HEAD, keep=True)
    tail = yield from disk.read(max(0, size - TAIL), TAIL, keep=True)
    whole = Volume(disk, 0, size)
    content = by_head(head) or by_tail(tail, size)
    table = yield from _table(disk, head[:SECTOR], content, findings)
    if table is not None:
        _check_places(table.partitions, size, findings)
        table = yield from _fill(disk, table, findings)
        # Other signatures beside a table are remains of what was there before; a hybrid CD image has both.
        if content is not None and content.kind != "iso9660":
            content = None
    cd = (yield from read_el_torito(whole)) if content and content.kind == "iso9660" else None
    efi = yield from _efi(whole, content, head)
    found = Found(
        size=size,
        block_size=block_size,
        optical=optical,
        sector=boot_sector(head[:SECTOR]),
        table=table,
        content=content,
        efi=efi,
        cd=cd,
        findings=tuple(findings),
    )
    return Media(found=found, bios=by_bios(found), uefi=by_uefi(found), kernel=by_kernel(found))


def _table(disk: Disk, sector: bytes, content: Content | None, findings: list[str]) -> Reads[Table | None]:
    """GPT or MBR. A GPT counts only behind a protective MBR, as firmware and the kernel have it."""
    gpt = yield from read_gpt(disk, findings)
    mbr = yield from read_mbr(disk, findings)
    if is_protective(sector):
        if gpt is None:
            findings.append("the MBR says that there is a GPT, and there is none that can be read")
        return gpt or mbr
    if gpt is not None:
        findings.append("there is a GPT without a protective MBR: firmware and Linux do not look at it")
    # A FAT or NTFS volume's own first sector can pass for a table by accident; its parameter block cannot.
    if content is not None and content.kind in ("vfat", "ntfs", "exfat"):
        return None
    return mbr


def _check_places(partitions: Iterable[Partition], size: int, findings: list[str]) -> None:
    """Partitions outside the disk (a truncated image) and over each other."""
    ordered = sorted(
        (item for item in partitions if item.role not in (PartitionRole.EXTENDED, PartitionRole.PROTECTIVE)),
        key=lambda item: item.start,
    )
    for item in ordered:
        if item.size <= 0:
            findings.append(f"partition {item.number} ends before it begins")
        elif item.start + item.size > size:
            findings.append(f"partition {item.number} reaches beyond the end of the disk")
    for before, after in pairwise(ordered):
        if before.start + before.size > after.start:
            findings.append(f"partitions {before.number} and {after.number} overlap")


def _fill(disk: Disk, table: Table, findings: list[str]) -> Reads[Table]:
    """The table with what its partitions hold."""
    filled: list[Partition] = []
    looked = 0
    for partition in table.partitions:
        if partition.role in _NO_CONTENT or looked == LOOKED_INTO:
            filled.append(partition)
            continue
        looked += 1
        filled.append((yield from _look_into(disk, partition)))
    if looked == LOOKED_INTO < len(filled):
        findings.append(f"the content of {LOOKED_INTO} partitions was looked at, not of all {len(filled)}")
    return replace(table, partitions=tuple(filled))


def _look_into(disk: Disk, partition: Partition) -> Reads[Partition]:
    volume = Volume(disk, partition.start, min(partition.size, disk.size - partition.start))
    head = yield from volume.read(0, HEAD)
    content = by_head(head)
    # A mirror with its metadata at the end shows a plain file system at its beginning.
    if content is None or partition.role is PartitionRole.RAID:
        tail = yield from volume.read(max(0, volume.size - TAIL), TAIL)
        content = by_tail(tail, volume.size) or content
    return replace(
        partition,
        content=content,
        boot_sector=boot_sector(head[:SECTOR]).signature,
        efi=(yield from _efi(volume, content, head)),
    )


def _efi(volume: Volume, content: Content | None, head: bytes) -> Reads[EfiFiles | None]:
    layout = fat_layout(head[:SECTOR]) if content is not None and content.kind == "vfat" else None
    return None if layout is None else (yield from find_efi_files(volume, layout))
