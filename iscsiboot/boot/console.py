# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a boot tells: lines on the console as they happen, and the timeline file when it is over.

The timeline is JSON Lines in ``/run/iscsiboot/timeline.jsonl``, one object a mark: ``{"mark", "at", "detail"}``, ``at``
in seconds since the kernel started (CLOCK_BOOTTIME). ``/run`` survives switch-root, so the running system can draw it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from iscsiboot.errors import printable
from iscsiboot.model.timeline import Mark, TimelineEntry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

TIMELINE = Path("iscsiboot/timeline.jsonl")
"""Below /run."""


def boottime() -> float:
    """Seconds since the kernel started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def process_start(proc: Path) -> float | None:
    """When this process began, on the same clock, to a hundredth of a second; None without ``proc``.

    Field 22 of ``/proc/self/stat`` counts clock ticks, the 20th after the command's closing parenthesis (proc(5)).
    """
    try:
        fields = (proc / "self/stat").read_text().rpartition(")")[2].split()
        return int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return None


class ConsoleReport:
    """Notes go to a stream at once, each as one line after the program's name; marks are kept for :meth:`save`."""

    def __init__(self, stream: TextIO, *, program: str, clock: Callable[[], float] = boottime) -> None:
        self._stream = stream
        self._program = program
        self._clock = clock
        self.verbose = False
        """Tell of marks as they are reached (``-d``)."""
        self.entries: list[TimelineEntry] = []

    def note(self, text: str) -> None:
        """Print the line; a console that is gone must not end a boot."""
        try:
            self._stream.write(f"{self._program}: {printable(text)}\n")
            self._stream.flush()
        except OSError:
            pass

    def mark(self, mark: Mark, detail: str = "") -> None:
        """Keep the mark with the present time."""
        self.mark_at(mark, self._clock(), detail)

    def mark_at(self, mark: Mark, at: float, detail: str = "") -> None:
        """Keep a mark of the past, ``at`` seconds since the kernel started."""
        self.entries.append(TimelineEntry(mark=mark, at=at, detail=detail))
        if self.verbose:
            self.note(f"{at:.3f} s: {mark.value}: {detail}")

    def save(self, run: Path) -> None:
        """Append the marks to the timeline file below ``run``; a file system that refuses is only worth a note."""
        if not self.entries:
            return
        path = run / TIMELINE
        try:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            with os.fdopen(os.open(path, flags, 0o644), "w", encoding="utf-8") as file:
                file.write("".join(json_line(entry) for entry in self.entries))
        except OSError as error:
            self.note(f"the timeline is not kept: {path}: {error.strerror}")
        self.entries.clear()


def json_line(entry: TimelineEntry) -> str:
    """The entry as one JSON object and a line break."""
    import json  # only at the end of a run: 10 ms on hardware, ten times that under emulation

    return json.dumps({"mark": entry.mark.value, "at": round(entry.at, 3), "detail": entry.detail}) + "\n"
