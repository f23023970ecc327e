# SPDX-License-Identifier: LGPL-2.1-or-later
"""An initramfs archive ("newc" cpio, Documentation/driver-api/early-userspace/buffer-format.rst) of entries.

Used to measure what the entries cost; image builders write their own.
"""

from __future__ import annotations

import gzip
import shutil
import subprocess
from collections.abc import Iterable

from iscsiboot.errors import IscsiBootError, Stage

TRAILER = "TRAILER!!!"


def archive(members: Iterable[tuple[str, int, bytes]]) -> bytes:
    """The archive of (path, st_mode, content or link text); paths are absolute and lose their slash."""
    parts = [_member(path.lstrip("/"), mode, data, inode) for inode, (path, mode, data) in enumerate(members, start=1)]
    return b"".join([*parts, _member(TRAILER, 0, b"", 0)])


def _member(name: str, mode: int, data: bytes, inode: int) -> bytes:
    raw = name.encode("utf-8", "surrogateescape") + b"\0"
    # ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
    numbers = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw), 0)
    header = b"070701" + b"".join(b"%08X" % number for number in numbers)
    return _padded(header + raw) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def gzip_size(data: bytes) -> int:
    """Bytes after ``gzip -n -9``, what dracut takes when nothing else is configured."""
    return len(gzip.compress(data, 9, mtime=0))


def zstd_size(data: bytes) -> int | None:
    """Bytes after ``zstd -15``, dracut's choice of level; None when there is no zstd here."""
    program = shutil.which("zstd")
    if program is None:
        return None
    run = subprocess.run([program, "-15", "-q", "-c", "-T0"], input=data, capture_output=True, check=False)
    if run.returncode:
        words = run.stderr.decode("utf-8", "replace").strip()
        raise IscsiBootError(f"failed: {words}", stage=Stage.IMAGE, subject=program)
    return len(run.stdout)
