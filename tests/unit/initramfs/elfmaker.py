# SPDX-License-Identifier: LGPL-2.1-or-later
"""Minimal ELF files with a dynamic section, written from the gABI so that no compiler is needed.

One PT_LOAD maps the file at address 0, so addresses are file offsets; DT_STRTAB and DT_STRSZ point at the strings.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

EM_386, EM_X86_64, EM_AARCH64 = 3, 62, 183
PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
DT_NULL, DT_NEEDED, DT_STRTAB, DT_SYMTAB, DT_STRSZ, DT_SONAME, DT_RPATH, DT_RUNPATH = 0, 1, 5, 6, 10, 14, 15, 29
DT_FLAGS_1 = 0x6FFFFFFB


@dataclass(frozen=True, kw_only=True)
class Elf:
    needed: tuple[str, ...] = ()
    soname: str = ""
    rpath: str = ""
    runpath: str = ""
    interpreter: str = ""
    machine: int = EM_X86_64
    bits: int = 64
    flags_1: int = 0

    def build(self) -> bytes:
        strings = bytearray(b"\0")

        def text(value: str) -> int:
            at = len(strings)
            strings.extend(value.encode() + b"\0")
            return at

        tags = [(DT_NEEDED, text(name)) for name in self.needed]
        for tag, value in ((DT_SONAME, self.soname), (DT_RPATH, self.rpath), (DT_RUNPATH, self.runpath)):
            if value:
                tags.append((tag, text(value)))
        if self.flags_1:
            tags.append((DT_FLAGS_1, self.flags_1))
        wide = self.bits == 64
        head, entry, word = (64, 56, "<QQ") if wide else (52, 32, "<II")
        segments = 3 if self.interpreter else 2
        interp_at = head + entry * segments
        interp = self.interpreter.encode() + b"\0" if self.interpreter else b""
        strings_at = interp_at + len(interp)
        strings_at += -strings_at % 8
        dynamic_at = strings_at + len(strings)
        dynamic_at += -dynamic_at % 8
        tags += [(DT_STRTAB, strings_at), (DT_STRSZ, len(strings)), (DT_SYMTAB, dynamic_at), (DT_NULL, 0)]
        dynamic = b"".join(struct.pack(word, *tag) for tag in tags)
        size = dynamic_at + len(dynamic)
        table = self._segment(PT_LOAD, 0, size) + self._segment(PT_DYNAMIC, dynamic_at, len(dynamic))
        if self.interpreter:
            table += self._segment(PT_INTERP, interp_at, len(interp))
        image = bytearray(size)
        image[:head] = self._header(head, entry, segments)
        image[head : head + len(table)] = table
        image[interp_at : interp_at + len(interp)] = interp
        image[strings_at : strings_at + len(strings)] = strings
        image[dynamic_at:] = dynamic
        return bytes(image)

    def _header(self, head: int, entry: int, segments: int) -> bytes:
        ident = b"\x7fELF" + bytes((2 if self.bits == 64 else 1, 1, 1)) + bytes(9)
        shape = "<HHIQQQIHHHHHH" if self.bits == 64 else "<HHIIIIIHHHHHH"
        return ident + struct.pack(shape, 3, self.machine, 1, 0, head, 0, 0, head, entry, segments, 0, 0, 0)

    def _segment(self, kind: int, at: int, size: int) -> bytes:
        if self.bits == 64:
            return struct.pack("<IIQQQQQQ", kind, 5, at, at, at, size, size, 8)
        return struct.pack("<IIIIIIII", kind, at, at, at, size, size, 5, 4)


def put(root: Path, path: str, elf: Elf) -> None:
    """Write the file at ``path`` inside the tree ``root``."""
    place = root / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(elf.build())


def link(root: Path, path: str, target: str) -> None:
    """Write a symbolic link at ``path`` inside the tree ``root``."""
    place = root / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


def cache(entries: list[tuple[str, str, int]], *, old_format_first: bool = False, order: str = "<") -> bytes:
    """An ld.so.cache of (soname, path, hwcap), glibc 2.33 style, optionally behind an old-format table."""
    strings = bytearray()
    table = b""
    strings_at = 48 + 24 * len(entries)
    for soname, path, hwcap in entries:
        key = strings_at + len(strings)
        strings += soname.encode() + b"\0"
        value = strings_at + len(strings)
        strings += path.encode() + b"\0"
        table += struct.pack(f"{order}iIIIQ", 0x0303, key, value, 0, hwcap)
    flag = 2 if order == "<" else 3
    head = b"glibc-ld.so.cache1.1" + struct.pack(f"{order}IIB3xI12x", len(entries), len(strings), flag, 0)
    new = head + table + bytes(strings)
    if not old_format_first:
        return new
    old = b"ld.so-1.7.0\0" + struct.pack(f"{order}I", 1) + struct.pack(f"{order}iII", 3, 0, 0)
    return old + bytes(-len(old) % 8) + new
