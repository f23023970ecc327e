# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bounded reads of sysfs, procfs and the device tree."""

from __future__ import annotations

import errno
import os
from pathlib import Path

TABLE_MAX = 64 * 1024
"""Bytes of an ACPI table: its 16-bit offsets reach no further."""
ATTRIBUTE_MAX = 4096
"""Bytes of an attribute: sysfs gives one page at most."""


def read_file(path: Path, limit: int) -> bytes | None:
    """The content of ``path``, None when there is no such file.

    OSError for everything else that can go wrong, EFBIG for more than ``limit`` bytes.
    """
    try:
        with path.open("rb", buffering=0) as file:
            content = bytearray()
            # One read may give less than there is: the kernel hands out ACPI tables page by page.
            while len(content) <= limit and (chunk := file.read(limit + 1 - len(content))):
                content += chunk
    except (FileNotFoundError, NotADirectoryError):
        return None
    if len(content) > limit:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return bytes(content)


def list_directory(path: Path) -> list[str]:
    """The names in a directory, sorted; empty when there is no such directory. OSError otherwise."""
    try:
        return sorted(os.listdir(path))  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return []


def why_not(error: OSError) -> str:
    """An OSError in words for a report, without the path that stands beside it."""
    reason = error.strerror or type(error).__name__
    return f"{reason} (only root can read it)" if isinstance(error, PermissionError) else reason
