# SPDX-License-Identifier: LGPL-2.1-or-later
"""``/etc/ld.so.cache`` and ``/etc/ld.so.conf``: where the dynamic loader looks for a library by its name.

The cache's layout is glibc's ``sysdeps/generic/dl-cache.h``. Three files are met in the field: the old format alone
(before glibc 2.2, useless today), the old format followed by the new one, and the new one alone (since 2.32). Numbers
have the byte order of the machine the cache was made for, little endian on everything we boot but s390x and big-endian
PowerPC; the order is recognised, since glibc before 2.33 did not record it.

Everything is bounds-checked: the cache is a file of a sysroot somebody else made.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import PurePosixPath

from iscsiboot.initramfs.sysroot import Sysroot

OLD_MAGIC = b"ld.so-1.7.0"
NEW_MAGIC = b"glibc-ld.so.cache1.1"
_OLD_HEADER = 16
_OLD_ENTRY = 12
_NEW_HEADER = 48
_NEW_ENTRY = 24
_CONF_LIMIT = 1 << 20
_CONF_DEPTH = 10


class BrokenCache(ValueError):
    """The bytes are not a loader cache; the message names offset and field."""


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One library of the cache."""

    soname: str
    path: str
    hwcap: int
    """0 for the library every CPU can run; otherwise it is built for a newer CPU (glibc-hwcaps)."""


def parse_cache(data: bytes) -> tuple[CacheEntry, ...]:
    """All libraries in the cache's own order; :class:`BrokenCache` when the bytes contradict themselves."""
    start = _new_header_offset(data)
    if len(data) - start < _NEW_HEADER:
        raise BrokenCache(f"header at offset {start:#x} is cut short")
    order = _byte_order(data, start)
    count, strings = struct.unpack_from(f"{order}II", data, start + len(NEW_MAGIC))
    table_end = start + _NEW_HEADER + count * _NEW_ENTRY
    if table_end + strings > len(data):
        raise BrokenCache(
            f"header at offset {start:#x} announces {count} libraries and {strings} bytes of text, "
            f"the file has {len(data)} bytes"
        )
    entries = []
    for index in range(count):
        place = start + _NEW_HEADER + index * _NEW_ENTRY
        _flags, key, value, _os, hwcap = struct.unpack_from(f"{order}iIIIQ", data, place)
        name = _text(data, start + key, f"name of library {index}")
        entries.append(CacheEntry(name, _text(data, start + value, f"path of library {index}"), hwcap))
    return tuple(entries)


def _new_header_offset(data: bytes) -> int:
    """Where the new header starts: at 0, or behind an old table, aligned to eight bytes."""
    if data.startswith(NEW_MAGIC):
        return 0
    if not data.startswith(OLD_MAGIC) or len(data) < _OLD_HEADER:
        raise BrokenCache("neither magic text is found at offset 0")
    for order in "<>":
        (count,) = struct.unpack_from(f"{order}I", data, 12)
        start: int = (_OLD_HEADER + count * _OLD_ENTRY + 7) & ~7
        if data[start : start + len(NEW_MAGIC)] == NEW_MAGIC:
            return start
    raise BrokenCache("no new format behind the old one: the cache was made by a glibc before 2.2")


def _byte_order(data: bytes, start: int) -> str:
    """``<`` or ``>``. The flag byte (glibc 2.33: 2 little, 3 big) decides; else the order in which the table fits."""
    flag = data[start + len(NEW_MAGIC) + 8] & 3
    if flag in (2, 3):
        return "<" if flag == 2 else ">"
    (little,) = struct.unpack_from("<I", data, start + len(NEW_MAGIC))
    return "<" if little * _NEW_ENTRY <= len(data) else ">"


def _text(data: bytes, offset: int, what: str) -> str:
    end = data.find(b"\0", offset)
    if offset >= len(data) or end < 0:
        raise BrokenCache(f"{what} at offset {offset:#x} has no end inside the file")
    return data[offset:end].decode("utf-8", "surrogateescape")


def conf_directories(sysroot: Sysroot, conf: str = "/etc/ld.so.conf") -> tuple[str, ...]:
    """Directories of ld.so.conf and the files it includes, in order, each once.

    ``include`` takes shell patterns, relative to the including file (ldconfig(8)). ``hwcap`` lines are history and do
    nothing since glibc 2.33. Files that include each other end at a depth no real configuration reaches.
    """
    found: dict[str, None] = {}
    _read_conf(sysroot, conf, found, _CONF_DEPTH)
    return tuple(found)


def _read_conf(sysroot: Sysroot, conf: str, found: dict[str, None], depth: int) -> None:
    data = sysroot.read(conf, _CONF_LIMIT)
    if data is None or depth == 0:
        return
    for raw in data.decode("utf-8", "surrogateescape").splitlines():
        words = raw.split("#", 1)[0].replace(",", " ").replace(":", " ").split()
        if not words or words[0] == "hwcap":
            continue
        if words[0] == "include":
            for pattern in words[1:]:
                for path in sysroot.glob(str(PurePosixPath(conf).parent / pattern)):
                    _read_conf(sysroot, path, found, depth - 1)
            continue
        found.update((f"/{word.strip('/')}", None) for word in words if word.startswith("/"))
