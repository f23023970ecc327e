# SPDX-License-Identifier: LGPL-2.1-or-later
"""In a guest: writes to a disk or file without end, reads back, and knows each block's content. A process of its own.

Each write is one block of :data:`BLOCK` bytes past the page cache, filled with its place and its number, so a block
that is lost, old, torn or somewhere else shows. Until SIGTERM; then every block is read and the result is one line of
JSON on standard output: writes, I/O errors, wrong blocks, and when nothing went on (monotonic seconds, as everywhere).
SIGUSR1 ends a phase, so that what happened can be compared with what was before it, in the same minute.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

BLOCK = 4096
BLOCKS = 256
"""Few, because all of them are read at the end, which an emulated processor takes seconds for."""
READ_EVERY = 8
"""Writes between two blocks that are read back at once."""
PAUSE_SECONDS = 0.01
"""Between two writes: without it one emulated processor of two has nothing else to do, and everything waits for it."""
GAP_SECONDS = 0.25
"""A write or read that is worth telling: nothing went on meanwhile. An emulated processor alone makes a tenth of it."""
GAPS = 400
ERRORS = 20
SEED = 7143
START_SECONDS, END_SECONDS = 60.0, 90.0
_WORD = 16


@dataclass(kw_only=True, slots=True)
class Phase:
    """A part of the time: from one mark to the next."""

    done: int = 0
    """Writes and reads."""
    worst: float = 0.0
    """The longest one of them took."""
    late: float = 0.0
    """The longest the writer came late to its next write: what the machine makes a process wait without any disk."""


@dataclass(kw_only=True, slots=True)
class Result:
    """What became of the writes."""

    writes: int = 0
    reads: int = 0
    errors: list[str] = field(default_factory=list)
    """The first of them, in the kernel's words."""
    wrong: list[str] = field(default_factory=list)
    """Blocks whose content is not what was written last."""
    phases: list[Phase] = field(default_factory=lambda: [Phase()])
    gaps: list[list[float]] = field(default_factory=list)
    """When a gap began and when it ended."""
    worst: float = 0.0
    ended: float = 0.0
    """When the last write or read was done."""


class Writer:
    """The blocks of one disk or file."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_DIRECT | os.O_DSYNC | os.O_CLOEXEC)
        self._buffer = mmap.mmap(-1, BLOCK)  # past the page cache only aligned memory will do
        self._numbers: dict[int, int] = {}
        self._random = random.Random(SEED)
        self._stop = False
        self._marked = False
        self.result = Result()

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Let the write at hand be the last."""
        self._stop = True

    def mark(self, number: int, frame: FrameType | None) -> None:
        """End the phase with the write at hand, and say so on standard output."""
        self._marked = True

    def run(self) -> None:
        """Write until told to stop, then check everything."""
        result = self.result
        while not self._stop:
            block = self._random.randrange(BLOCKS)
            before = time.monotonic()
            self._write(block, result.writes + 1)
            self._timed(before)
            if result.writes % READ_EVERY == 0 and block in self._numbers:
                before = time.monotonic()
                self.check(block)
                self._timed(before)
            if self._marked:
                self._marked = False
                result.phases.append(Phase())
                say("marked")
            asleep = time.monotonic()
            time.sleep(PAUSE_SECONDS)
            late = time.monotonic() - asleep - PAUSE_SECONDS
            result.phases[-1].late = max(result.phases[-1].late, late)
        for block in self._numbers:
            self.check(block)

    def _timed(self, before: float) -> None:
        """A write or a read that began then is over."""
        result, phase = self.result, self.result.phases[-1]
        result.ended = time.monotonic()
        spent = result.ended - before
        if spent > GAP_SECONDS and len(result.gaps) < GAPS:
            result.gaps.append([before, result.ended])
        result.worst = max(result.worst, spent)
        phase.worst = max(phase.worst, spent)
        phase.done += 1

    def _write(self, block: int, number: int) -> None:
        self._buffer[:] = content(block, number)
        try:
            os.pwritev(self._descriptor, [self._buffer], block * BLOCK)
        except OSError as error:
            self._failed("write", block, error)
            self._numbers.pop(block, None)  # what it holds now nobody can know
            return
        self._numbers[block] = number
        self.result.writes += 1

    def check(self, block: int) -> None:
        """Read a block and compare it with what was written to it last."""
        try:
            os.preadv(self._descriptor, [self._buffer], block * BLOCK)
        except OSError as error:
            self._failed("read", block, error)
            return
        self.result.reads += 1
        if self._buffer[:] != content(block, self._numbers[block]):
            held = self._buffer[:_WORD].hex()
            self.result.wrong.append(f"block {block}, write {self._numbers[block]}: it begins with {held}")

    def _failed(self, what: str, block: int, error: OSError) -> None:
        if len(self.result.errors) < ERRORS:
            self.result.errors.append(f"{what} of block {block}: {error.strerror}")
        time.sleep(0.01)  # a disk that fails at once would be asked a hundred thousand times


def say(line: str) -> None:
    """A line for whoever started the writes."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def content(block: int, number: int) -> bytes:
    """What a block holds after write ``number``."""
    return (block.to_bytes(8, "big") + number.to_bytes(8, "big")) * (BLOCK // _WORD)


class Load:
    """The writes at work in a process of their own; :meth:`end` tells what became of them."""

    def __init__(self, path: str) -> None:
        argv = [sys.executable, "-m", "tests.qemu.daemon.load", path]
        self._child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        if self._line() != "ready":
            raise RuntimeError(f"the load on {path} does not start")

    def _line(self) -> str:
        return "" if self._child.stdout is None else self._child.stdout.readline().rstrip("\n")

    def mark(self) -> None:
        """A new phase begins; RuntimeError when the writes do not go on to hear of it."""
        self._child.send_signal(signal.SIGUSR1)
        if self._line() != "marked":
            raise RuntimeError("the load has ended")

    def end(self) -> dict[str, Any]:
        """Stop, check every block; RuntimeError when that does not end: the disk does not answer."""
        self._child.send_signal(signal.SIGTERM)
        try:
            said = self._child.communicate(timeout=END_SECONDS)[0]
        except subprocess.TimeoutExpired as late:
            raise RuntimeError("the load does not end: its disk does not answer") from late
        found: dict[str, Any] = json.loads(said)
        return found


@contextmanager
def load(path: str, seen: dict[str, Any], name: str = "load") -> Iterator[Load]:
    """Writes to ``path`` for the time of the block; what became of them goes to ``seen`` under ``name``."""
    running = Load(path)
    try:
        yield running
    finally:
        seen[name] = running.end()


def after(gaps: list[list[float]], moment: float) -> float:
    """Seconds from ``moment`` until writes went on: 0 when no gap was open then."""
    return max((round(end - moment, 2) for begin, end in gaps if begin <= moment <= end), default=0.0)


def main(path: str) -> int:
    """Write to ``path`` until SIGTERM."""
    writer = Writer(Path(path))
    signal.signal(signal.SIGTERM, writer.stop)
    signal.signal(signal.SIGUSR1, writer.mark)
    say("ready")
    writer.run()
    say(json.dumps(asdict(writer.result)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
