# SPDX-License-Identifier: LGPL-2.1-or-later
"""Drives the readers of media over bytes, and builds the structures of disks that tests look at."""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from iscsiboot.toolkit.media import examine
from iscsiboot.toolkit.media_values import Extent, Media, Reads

ReadFunction = Callable[[int, int], bytes]

ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
BIOS_BOOT = "21686148-6449-6e6f-744e-656564454649"
LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"
RAID = "a19d880f-05fc-4d3b-a006-743f0f84911e"


@dataclass
class Driven:
    """What a reader returned and what it asked for."""

    media: Media
    extents: list[Extent] = field(default_factory=list)


def drive(reads: Reads[Media], source: ReadFunction) -> Driven:
    """Run a reader to its end over ``source``."""
    extents: list[Extent] = []
    try:
        wanted = next(reads)
        while True:
            extents.append(wanted)
            wanted = reads.send(source(wanted.offset, wanted.length))
    except StopIteration as done:
        return Driven(done.value, extents)


def over(data: bytes) -> ReadFunction:
    return lambda offset, length: data[offset : offset + length]


def examined(data: bytes, *, block_size: int = 512, optical: bool = False) -> Media:
    return drive(examine(len(data), block_size, optical=optical), over(data)).media


def examined_file(path: Path, *, block_size: int = 512, optical: bool = False) -> Media:
    with path.open("rb") as file:

        def read(offset: int, length: int) -> bytes:
            file.seek(offset)
            return file.read(length)

        return drive(examine(path.stat().st_size, block_size, optical=optical), read).media


def place(data: bytearray, offset: int, raw: bytes) -> None:
    """Put bytes into an image without changing its length."""
    assert 0 <= offset <= len(data) - len(raw)
    data[offset : offset + len(raw)] = raw


def mbr_entry(kind: int, first: int, count: int, *, active: bool = False) -> bytes:
    return struct.pack("<B3xB3xII", 0x80 if active else 0, kind, first, count)


def mbr(*entries: bytes, code: bytes = b"", signature: bool = True) -> bytes:
    """One sector."""
    table = b"".join(entries).ljust(64, b"\0")
    return code.ljust(446, b"\0")[:446] + table + (b"\x55\xaa" if signature else b"\0\0")


@dataclass
class Part:
    """One entry of a GPT, places in blocks."""

    kind: str
    first: int
    last: int
    name: str = ""
    attributes: int = 0

    def encode(self, size: int) -> bytes:
        raw = uuid.UUID(self.kind).bytes_le + uuid.UUID(int=self.first + 1).bytes_le
        raw += struct.pack("<QQQ", self.first, self.last, self.attributes) + self.name.encode("utf-16-le").ljust(
            72, b"\0"
        )
        return raw.ljust(size, b"\0")


def gpt_header(
    own: int, other: int, entries_at: int, entries: bytes, *, count: int = 128, entry_size: int = 128, blocks: int = 0
) -> bytes:
    """A header of 92 bytes, under its checksum."""

    def packed(crc: int) -> bytes:
        return struct.pack(
            "<8sIIIIQQQQ16sQIII",
            b"EFI PART",
            0x10000,
            92,
            crc,
            0,
            own,
            other,
            34,
            blocks,
            uuid.UUID(int=0xD15C).bytes_le,
            entries_at,
            count,
            entry_size,
            zlib.crc32(entries),
        )

    return packed(zlib.crc32(packed(0)))


def gpt_disk(
    *parts: Part, size: int = 4 << 20, unit: int = 512, code: bytes = b"", protective: bool = True
) -> bytearray:
    """A disk with both copies of a GPT and nothing in its partitions."""
    data = bytearray(size)
    blocks = size // unit
    entries = b"".join(part.encode(128) for part in parts).ljust(128 * 128, b"\0")
    span = -(-len(entries) // unit)
    first = mbr(mbr_entry(0xEE, 1, blocks - 1), code=code) if protective else mbr(code=code, signature=False)
    place(data, 0, first)
    place(data, unit, gpt_header(1, blocks - 1, 2, entries))
    place(data, 2 * unit, entries)
    place(data, (blocks - 1 - span) * unit, entries)
    place(data, (blocks - 1) * unit, gpt_header(blocks - 1, 1, blocks - 1 - span, entries))
    return data


def ext4(label: str = "root", *, size: int = 128 * 1024, compatible: int = 0x4, incompatible: int = 0x40) -> bytes:
    """The superblock of an ext file system in zeros."""
    data = bytearray(size)
    block = bytearray(1024)
    place(block, 56, b"\x53\xef")
    place(block, 92, struct.pack("<II", compatible, incompatible))
    place(block, 104, uuid.UUID(int=0xE4).bytes)
    place(block, 120, label.encode())
    place(data, 1024, bytes(block))
    return bytes(data)


class Fat:
    """A FAT volume: files by path, in directories of one cluster or more. Clusters are given out in order."""

    def __init__(self, bits: int = 16, *, sectors: int = 0, label: str = "ESP", per_cluster: int = 1) -> None:
        self.bits = bits
        clusters = {12: 2000, 16: 5000, 32: 66000}[bits]
        self.per_cluster = per_cluster
        self.fat_sectors = -(-(clusters + 2) * bits // 8 // 512) + 1
        self.root_sectors = 0 if bits == 32 else 4
        self.reserved = 32 if bits == 32 else 1
        self.first = self.reserved + 2 * self.fat_sectors + self.root_sectors
        self.sectors = sectors or self.first + clusters * per_cluster
        self.data = bytearray(self.sectors * 512)
        self.next = 3 if bits == 32 else 2
        self.label = label
        self._boot_sector()
        self.root: int = 2 if bits == 32 else 0
        if bits == 32:
            self.link(2, 0x0FFFFFFF)

    def _boot_sector(self) -> None:
        wide = self.bits == 32
        place(self.data, 0, b"\xeb\x3c\x90mkfs.fat")
        place(
            self.data,
            11,
            struct.pack(
                "<HBHBHHBH",
                512,
                self.per_cluster,
                self.reserved,
                2,
                0 if wide else self.root_sectors * 16,
                0,
                0xF8,
                0 if wide else self.fat_sectors,
            ),
        )
        place(self.data, 32, struct.pack("<I", self.sectors))
        if wide:
            place(self.data, 36, struct.pack("<I", self.fat_sectors))
            place(self.data, 44, struct.pack("<I", 2))
        extended = 64 if wide else 36
        place(self.data, extended + 2, b"\x29" + struct.pack("<I", 0x1234ABCD) + self.label.encode().ljust(11))
        place(self.data, 510, b"\x55\xaa")

    def link(self, cluster: int, value: int) -> None:
        """Write one entry of the first FAT."""
        at = self.reserved * 512 + cluster * self.bits // 8
        if self.bits == 12:
            old = int.from_bytes(self.data[at : at + 2], "little")
            new = (old & 0x000F) | (value & 0xFFF) << 4 if cluster & 1 else (old & 0xF000) | value & 0xFFF
            place(self.data, at, new.to_bytes(2, "little"))
        else:
            place(self.data, at, (value & ((1 << self.bits) - 1)).to_bytes(self.bits // 8, "little"))

    def place_of(self, cluster: int) -> int:
        """The byte offset of a directory or file."""
        if cluster == 0:
            return (self.first - self.root_sectors) * 512
        return (self.first + (cluster - 2) * self.per_cluster) * 512

    def entry(self, directory: int, slot: int, name: str, *, cluster: int, attributes: int, size: int = 0) -> None:
        """Write an entry of 32 bytes."""
        base, _, extension = (name, "", "") if name in (".", "..") else name.partition(".")
        raw = base.ljust(8).encode() + extension.ljust(3).encode() + bytes([attributes]) + bytes(8)
        raw += struct.pack("<HIHI", cluster >> 16, 0, cluster & 0xFFFF, size)
        place(self.data, self.place_of(directory) + 32 * slot, raw)

    def directory(self, parent: int, slot: int, name: str, *, clusters: int = 1) -> int:
        """A new directory; its first cluster."""
        chain = list(range(self.next, self.next + clusters))
        self.next += clusters
        for here, there in zip(chain, [*chain[1:], (1 << self.bits) - 1], strict=True):
            self.link(here, there)
        self.entry(parent, slot, name, cluster=chain[0], attributes=0x10)
        return chain[0]

    def file(self, parent: int, slot: int, name: str, *, size: int = 1) -> None:
        """A file that is named only."""
        self.entry(parent, slot, name, cluster=self.next, attributes=0x20, size=size)
        self.next += 1


def esp(bits: int = 16, *names: str, vendor: str = "") -> bytes:
    """A FAT volume with EFI/BOOT and these files in it."""
    fat = Fat(bits)
    efi = fat.directory(fat.root, 1, "EFI")
    if vendor:
        fat.directory(efi, 2, vendor)
    if names:
        boot = fat.directory(efi, 3 if vendor else 2, "BOOT")
        fat.entry(efi, 0, ".", cluster=efi, attributes=0x10)
        fat.entry(efi, 1, "..", cluster=0, attributes=0x10)
        for slot, name in enumerate(names):
            fat.file(boot, slot, name)
    else:
        fat.entry(efi, 0, ".", cluster=efi, attributes=0x10)
        fat.entry(efi, 1, "..", cluster=0, attributes=0x10)
    fat.entry(fat.root, 0, "ESP", cluster=0, attributes=0x08)
    return bytes(fat.data)
