# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel's log so far, for causes only the kernel knows (why iscsi_ibft refused a table)."""

from __future__ import annotations

import os
from pathlib import Path

KMSG = Path("/dev/kmsg")
_RECORD_MAX = 8192
_RECORDS_MAX = 20000
_GAPS_MAX = 100


def read_kernel_log(path: Path = KMSG) -> tuple[str, ...]:
    """The messages without their prefix, oldest first; empty where the log may not be read.

    ``/dev/kmsg`` gives one record a read (Documentation/ABI/testing/dev-kmsg): ``level,seq,time,flags;text`` and
    continuation lines. EPIPE says that records were overwritten meanwhile: the next read goes on after the gap.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ()
    lines: list[str] = []
    try:
        for _ in range(_RECORDS_MAX):
            record = _next_record(descriptor)
            if not record:
                break
            text = record.split(b";", 1)[-1].split(b"\n", 1)[0]
            lines.append(text.decode("utf-8", "replace"))
    finally:
        os.close(descriptor)
    return tuple(lines)


def _next_record(descriptor: int) -> bytes:
    """One record, empty at the end of the log."""
    for _ in range(_GAPS_MAX):
        try:
            return os.read(descriptor, _RECORD_MAX)
        except BrokenPipeError:
            continue
        except OSError:
            break
    return b""
