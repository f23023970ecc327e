# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the first blocks of a disk tell, as values; and how a reader without I/O asks for blocks.

Every text here was checked or escaped where it was read from the medium: all of it is printable.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from iscsiboot.errors import printable

T = TypeVar("T")

BUDGET = 8 << 20
"""Bytes one medium may make us read: a disk with a window for each of its partitions stays far below."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes that are wanted. What is sent back may be shorter: then the rest cannot be read."""

    offset: int
    length: int


Reads = Generator[Extent, bytes, T]
"""A reader: yields what it wants, takes the bytes, returns a value."""


class Disk:
    """Reads of one medium: kept windows are served from memory, and all others count against :data:`BUDGET`."""

    def __init__(self, size: int, block_size: int) -> None:
        self.size = size
        self.block_size = block_size
        self.left = BUDGET
        self._kept: list[tuple[int, bytes]] = []

    def read(self, offset: int, length: int, *, keep: bool = False) -> Reads[bytes]:
        """Bytes at ``offset``, cut at the end of the disk and at the budget; ``keep`` serves later reads from these."""
        length = min(length, self.size - offset)
        if offset < 0 or length <= 0:
            return b""
        for start, data in self._kept:
            if start <= offset and offset + length <= start + len(data):
                return data[offset - start : offset - start + length]
        if length > self.left:
            return b""
        self.left -= length
        data = (yield Extent(offset, length))[:length]
        if keep:
            self._kept.append((offset, data))
        return data


@dataclass(frozen=True, slots=True)
class Volume:
    """A part of a disk that is looked at as if it were one: a partition, or the whole."""

    disk: Disk
    start: int
    size: int
    """Bytes, as ``start``."""

    def read(self, offset: int, length: int, *, keep: bool = False) -> Reads[bytes]:
        """Bytes of the volume, cut at its end."""
        length = min(length, self.size - offset)
        if offset < 0 or length <= 0:
            return b""
        return (yield from self.disk.read(self.start + offset, length, keep=keep))


class Role(Enum):
    """What a signature promises."""

    FILE_SYSTEM = "file system"
    CONTAINER = "container"
    """Something else is inside: LUKS, LVM, RAID, ZFS."""
    SWAP = "swap"


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """What a volume holds, by its signature."""

    kind: str
    """``ext4``, ``vfat``, ``LVM2``: the words blkid and mount use where there is one."""
    role: Role = Role.FILE_SYSTEM
    label: str = ""
    uuid: str = ""
    detail: str = ""
    """``FAT32``, ``level 1``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EfiFiles:
    """What a FAT volume has for UEFI."""

    loaders: tuple[str, ...] = ()
    """Files of ``EFI/BOOT`` that firmware starts by itself, as ``BOOTX64.EFI``."""
    vendors: tuple[str, ...] = ()
    """Other directories of ``EFI``, as ``DEBIAN``: started by a boot entry of the firmware only."""


class PartitionRole(Enum):
    """What a partition's type means to firmware."""

    EFI_SYSTEM = "EFI system"
    BIOS_BOOT = "BIOS boot"
    EXTENDED = "extended"
    PROTECTIVE = "protective"
    RAID = "RAID"
    OTHER = "other"


@dataclass(frozen=True, kw_only=True, slots=True)
class Partition:
    """One partition. Sizes and offsets in bytes."""

    number: int
    start: int
    size: int
    type_id: str
    """``0x83``, or a GUID in lower case."""
    type_name: str
    role: PartitionRole = PartitionRole.OTHER
    name: str = ""
    """GPT only."""
    uuid: str = ""
    active: bool = False
    """MBR: status 80h; GPT: the attribute "legacy BIOS bootable"."""
    content: Content | None = None
    boot_sector: bool = False
    """Its first sector ends in 55 AA."""
    efi: EfiFiles | None = None
    """None: no FAT volume, or not looked at."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A partition table."""

    kind: str
    """``mbr`` or ``gpt``."""
    uuid: str = ""
    """GPT's disk GUID, or MBR's disk signature as eight hexadecimal digits."""
    partitions: tuple[Partition, ...] = ()
    unit: int
    """Bytes of the blocks it counts in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BootSector:
    """The first 512 bytes, seen by a BIOS."""

    signature: bool
    """They end in 55 AA."""
    code: bool
    """There is boot code."""
    program: str = ""
    """Whose code it is, when it says so: ``GRUB``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ElTorito:
    """The boot catalogue of a CD image."""

    bios: bool = False
    efi: bool = False


class Outcome(Enum):
    """Whether it boots that way."""

    YES = "yes"
    MAYBE = "maybe"
    NO = "no"


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """An outcome, and what it rests on."""

    outcome: Outcome
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """All that was read, before anybody judges it."""

    size: int
    block_size: int
    optical: bool
    sector: BootSector
    table: Table | None = None
    content: Content | None = None
    """Of the whole disk: without a partition table, or a CD image that has both."""
    efi: EfiFiles | None = None
    """Of a FAT volume without a partition table."""
    cd: ElTorito | None = None
    findings: tuple[str, ...] = ()
    """What is wrong or odd, in words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Media:
    """The answer: what is there, and who can boot from it."""

    found: Found
    bios: Verdict
    uefi: Verdict
    kernel: Verdict
    """A kernel that came from elsewhere (PXE, iPXE, the hypervisor) and wants its root here."""


def medium_text(raw: bytes, encoding: str = "utf-8") -> str:
    """A label of a medium: up to the first NUL, blanks at its ends gone, every other odd character escaped."""
    text = raw.decode(encoding, "backslashreplace") if encoding == "utf-8" else raw.decode(encoding, "replace")
    return printable(text.partition("\0")[0].strip())
