# SPDX-License-Identifier: LGPL-2.1-or-later
"""The invariant of everything that reads a medium, as a function: both fuzzers hold the same.

Whatever is on a medium, examining it ends with a value; all its texts are printable, every read lies inside the medium,
and together the reads stay below the budget.

An input of the long runner is a sparse medium, since whole ones of some MiB would be too slow a million times over:
a byte of choices, then pieces, each with its place and length before it; everywhere else are zeros. One choice is that
the checksums of a GPT are made right, as damage alone never gets behind them.
"""

from __future__ import annotations

import dataclasses
import re
import zlib
from collections.abc import Iterator, Sequence
from enum import Enum
from functools import cache
from typing import Any

from iscsiboot.toolkit.media import examine
from iscsiboot.toolkit.media_gpt import ENTRIES_MAX, SIGNATURE
from iscsiboot.toolkit.media_values import BUDGET, Media
from tests.fuzz.wire_invariants import ACCEPTED, REFUSED
from tests.unit.toolkit.media_support import (
    BIOS_BOOT,
    ESP,
    LINUX,
    RAID,
    Part,
    ReadFunction,
    drive,
    esp,
    ext4,
    gpt_disk,
    mbr,
    mbr_entry,
    place,
)
from tests.unit.toolkit.test_media import BOOTABLE, EFI_SECTION, iso

SIZE = 4 << 20
"""Bytes of most media of the long runner."""
SIZES = (SIZE, SIZE, SIZE, 1 << 62, SIZE // 2, 4096)
BLOCKS = (512, 512, 2048, 4096, 65536)
_SEALED, _OPTICAL = 0x80, 0x40
_PLACE, _LENGTH = 4, 2
"""Bytes of a piece's place and length."""
_GAP = 24
"""Zeros that end a piece of a corpus: fewer are cheaper to keep."""


def texts(value: object) -> Iterator[str]:
    """Every string in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (int, Enum)) or value is None:
        return
    elif isinstance(value, tuple):
        for item in value:
            yield from texts(item)
    else:
        kind: Any = type(value)
        for name in _fields(kind):
            yield from texts(getattr(value, name))


@cache
def _fields(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))


def check(read: ReadFunction, size: int, block_size: int, optical: bool) -> Media:
    """Hold the invariant for one medium."""
    driven = drive(examine(size, block_size, optical=optical), read)
    assert isinstance(driven.media, Media)
    assert all(text.isprintable() for text in texts(driven.media))
    assert all(0 <= extent.offset < extent.offset + extent.length <= size for extent in driven.extents)
    assert sum(extent.length for extent in driven.extents) <= BUDGET
    return driven.media


def whole_media() -> list[bytes]:
    """Media with something of everything, to be damaged."""
    disk = gpt_disk(
        Part(BIOS_BOOT, 34, 63), Part(ESP, 64, 6000), Part(LINUX, 6001, 7000), Part(RAID, 7001, 8000), code=b"GRUB"
    )
    place(disk, 64 * 512, esp(12, "BOOTX64.EFI", vendor="DEBIAN"))
    place(disk, 6001 * 512, ext4())
    chain = bytearray(1 << 20)
    place(chain, 0, mbr(mbr_entry(0x05, 100, 400), mbr_entry(0xEF, 600, 100, active=True), code=b"code"))
    place(chain, 100 * 512, mbr(mbr_entry(0x83, 8, 20), mbr_entry(0x05, 200, 100)))
    place(chain, 300 * 512, mbr(mbr_entry(0x82, 8, 20)))
    return [bytes(disk), bytes(chain), esp(12, "BOOTX64.EFI"), iso(BOOTABLE, EFI_SECTION, BOOTABLE), ext4()]


# For the long runner: sparse media.


class Sparse:
    """Pieces in zeros; of two at the same place the later one counts."""

    def __init__(self, pieces: Sequence[tuple[int, bytes]]) -> None:
        self.pieces = list(pieces)

    def read(self, offset: int, length: int) -> bytes:
        """A :data:`ReadFunction`."""
        data = bytearray(length)
        for start, piece in self.pieces:
            begin, end = max(start, offset), min(start + len(piece), offset + length)
            if begin < end:
                data[begin - offset : end - offset] = piece[begin - start : end - start]
        return bytes(data)

    def seal(self, block: int, size: int) -> None:
        """Make the checksums of the GPT's two copies right, where there is something like them."""
        for at in (block, (size // block - 1) * block):
            header = self.read(at, 512)
            length = int.from_bytes(header[12:16], "little")
            if not header.startswith(SIGNATURE) or not 92 <= length <= 512:
                continue
            entries_at, count, width = (
                int.from_bytes(header[start : start + bytes_], "little")
                for start, bytes_ in ((72, 8), (80, 4), (84, 4))
            )
            if count * width <= ENTRIES_MAX:
                entries = self.read(entries_at * block, count * width)
                header = header[:88] + zlib.crc32(entries).to_bytes(4, "little") + header[92:]
            checksum = zlib.crc32(header[:16] + bytes(4) + header[20:length])
            self.pieces.append((at, header[:16] + checksum.to_bytes(4, "little") + header[20:92]))


def sparse(data: bytes, *, choices: int = 0) -> bytes:
    """A medium as an input, without its zeros."""
    pieces = [
        match.start().to_bytes(_PLACE, "big") + len(match[0]).to_bytes(_LENGTH, "big") + match[0]
        for match in re.finditer(rb"[^\0](?:\0{0,%d}[^\0]){0,30000}" % _GAP, data)
    ]
    return bytes([choices]) + b"".join(pieces)


def pieces_in(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The pieces of any input."""
    at, head = 1, _PLACE + _LENGTH
    while at + head <= len(data):
        length = int.from_bytes(data[at + _PLACE : at + head], "big")
        yield int.from_bytes(data[at : at + _PLACE], "big"), data[at + head : at + head + length]
        at += head + length


def medium(data: bytes) -> str:
    """One input of the long runner; accepted is where something was found."""
    choices = data[0] if data else 0
    size, block = SIZES[choices % len(SIZES)], BLOCKS[(choices & 0x3F) // len(SIZES) % len(BLOCKS)]
    disk = Sparse(tuple(pieces_in(data)))
    if choices & _SEALED:
        disk.seal(512, size)
    found = check(disk.read, size, block, bool(choices & _OPTICAL)).found
    return ACCEPTED if found.table is not None or found.content is not None else REFUSED


def media() -> list[bytes]:
    """The whole media as inputs: as they are, with a GPT's checksums kept right, as CDs."""
    whole = whole_media()
    return [
        *(sparse(one) for one in whole),
        *[sparse(whole[0], choices=_SEALED)] * 2,
        sparse(whole[3], choices=_OPTICAL | 2 * len(SIZES)),
    ]
