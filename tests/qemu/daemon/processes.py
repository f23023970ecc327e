# SPDX-License-Identifier: LGPL-2.1-or-later
"""In a guest: the processes there are. Goes onto the disk of the root trials as well, so it needs nothing of ours."""

from __future__ import annotations

from pathlib import Path


def command_lines() -> dict[int, str]:
    """Process id -> command line, with blanks between its words; empty for the kernel's own threads."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes()
        except OSError:
            continue  # it has ended meanwhile
        found[int(path.name)] = words.replace(b"\0", b" ").decode(errors="replace").strip()
    return found
