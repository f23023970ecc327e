# SPDX-License-Identifier: LGPL-2.1-or-later
"""The serial console as values: bytes in, lines out, and the words that mean a boot is lost.

Pure: sockets and clocks are :mod:`.machine`'s. The whole log is kept by QEMU itself (``logfile=``), so nothing is lost
when the harness dies.
"""

from __future__ import annotations

import re
from collections import deque

TAIL_LINES = 25
LINE_LIMIT = 4096
"""Bytes without a line break that are kept: firmware draws screens without one."""

_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()].|[@-Z\\-_])|[\x00-\x08\x0b-\x1f\x7f]"
)

FATAL = re.compile(
    r"Kernel panic - not syncing"
    r"|You are in (?:emergency|rescue) mode|Entering emergency mode|Cannot open access to console, the root account"
    r"|Started .*(?:Emergency Shell|emergency\.service)|Generating \"/run/initramfs/rdsosreport\.txt\""
    r"|VFS: Unable to mount root fs|dracut: (?:FATAL|Refusing to continue)"
)
"""Console text after which no verdict can come. dracut's and systemd's own words, both with and without systemd."""


def plain(text: str) -> str:
    """``text`` without terminal escapes and control characters (tabs stay)."""
    return _ESCAPES.sub("", text)


class LineSplitter:
    """Turns chunks of any size into complete lines; an unfinished one (a login prompt) stays in :attr:`partial`.

    ``\\r\\n``, ``\\n`` and a bare ``\\r`` (firmware) all end a line; empty lines are dropped.
    """

    def __init__(self) -> None:
        self._rest = b""
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)

    @property
    def partial(self) -> str:
        """The line under way."""
        return plain(self._rest.decode("utf-8", "replace"))

    def feed(self, chunk: bytes) -> list[str]:
        """The lines this chunk completed."""
        pieces = re.split(rb"[\r\n]+", self._rest + chunk)
        self._rest = pieces.pop()
        if len(self._rest) > LINE_LIMIT:
            pieces.append(self._rest)
            self._rest = b""
        lines = [line for line in (plain(piece.decode("utf-8", "replace")).rstrip() for piece in pieces) if line]
        self.tail.extend(lines)
        return lines

    def last_lines(self) -> tuple[str, ...]:
        """The tail with the unfinished line, for a report."""
        return (*self.tail, self.partial) if self.partial else tuple(self.tail)
