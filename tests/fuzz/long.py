# SPDX-License-Identifier: LGPL-2.1-or-later
"""Throws mutated inputs at a parser for as long as wanted, and says what became of them.

``/usr/bin/python3 -m tests.fuzz.long TARGET|all [--inputs N] [--seed N]``; by hand, not by ``make check``, which runs
the same table shortly (test_fuzz_long.py). The same seed gives the same inputs. A broken invariant, an input that takes
more than ten seconds of processor time, or a process that grows beyond its limit ends the run with status 1 and leaves
the input in a file, which ``--replay FILE`` runs once more.
"""

from __future__ import annotations

import argparse
import random
import resource
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from tests.fuzz.targets import TARGETS, Target

INPUT_SECONDS = 10.0
"""Processor time one input may take: beyond it a loop makes no progress. Not the clock, so a busy machine is no bug."""
GROWTH_MAX = 64 << 20
"""Bytes the process may grow during a run: what one input needs is gone before the next, whatever it announced."""
_CHECK_EVERY = 256


class Broken(Exception):
    """An input broke its target's invariant; the cause says how."""

    def __init__(self, name: str, number: int, seed: int, data: bytes) -> None:
        super().__init__(f"{name}: input {number} of seed {seed} broke the invariant")
        self.name = name
        self.data = data
        self.seed = f"{seed}/{number}"

    def save(self, folder: Path) -> Path:
        """Write the input where :func:`replay` finds it: name, seed of the chance, hexadecimal digits."""
        path = folder / f"fuzz-{self.name}-{self.seed.replace('/', '-')}.hex"
        path.write_text(f"{self.name} {self.seed} {self.data.hex()}\n")
        return path


@dataclass
class Figures:
    """What became of the inputs."""

    name: str
    inputs: int = 0
    seconds: float = 0.0
    growth: int = 0
    """Bytes by which the process grew."""
    peak: int = 0
    """Bytes the process had at most."""
    outcomes: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        shares = ", ".join(f"{count} {word}" for word, count in sorted(self.outcomes.items()))
        rate = self.inputs / max(self.seconds, 1e-9)
        return (
            f"{self.name}: {self.inputs} inputs in {self.seconds:.0f} s, {rate:.0f}/s: "
            f"{shares}; peak memory {self.peak >> 20} MiB, grown by {self.growth >> 10} KiB; 0 failures"
        )


def _memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _too_long(_signal: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"one input took {INPUT_SECONDS:.0f} s of processor time: a loop makes no progress")


def try_one(target: Target, chance: str, data: bytes) -> str:
    """One input; ``chance`` seeds the target's own decisions, so that the input can be run again alone."""
    signal.setitimer(signal.ITIMER_VIRTUAL, INPUT_SECONDS)
    try:
        return target.run(random.Random(chance), data)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def run(name: str, target: Target, *, inputs: int, seed: int, progress: bool = True) -> Figures:
    """Try ``inputs`` inputs; :class:`Broken` at the first that breaks the invariant."""
    rng = random.Random(seed)
    corpus = target.corpus()
    figures = Figures(name)
    before = signal.signal(signal.SIGVTALRM, _too_long)
    try:
        # The corpus itself first: imports and caches are not growth.
        for number, data in enumerate(corpus):
            _held(name, target, number, -1, data)
        at_start, started, told = _memory(), time.perf_counter(), time.perf_counter()
        for number in range(inputs):
            data = target.mutate(corpus, rng)
            figures.outcomes[_held(name, target, number, seed, data)] += 1
            if number % _CHECK_EVERY == 0:
                figures.growth = _memory() - at_start
                if figures.growth > GROWTH_MAX:
                    raise Broken(name, number, seed, data) from MemoryError(f"grown by {figures.growth} bytes")
                if progress and time.perf_counter() - told > 5:
                    told = time.perf_counter()
                    sys.stderr.write(f"{name}: {number} of {inputs}, {number / (told - started):.0f}/s\n")
        figures.inputs, figures.seconds = inputs, time.perf_counter() - started
        figures.growth, figures.peak = _memory() - at_start, _memory()
    finally:
        signal.signal(signal.SIGVTALRM, before)
    return figures


def _held(name: str, target: Target, number: int, seed: int, data: bytes) -> str:
    try:
        return try_one(target, f"{seed}/{number}", data)
    except Exception as error:
        raise Broken(name, number, seed, data) from error


def replay(path: Path) -> str:
    """Run a saved input again; whatever broke is raised as it is."""
    name, chance, *digits = path.read_text().split()
    before = signal.signal(signal.SIGVTALRM, _too_long)
    try:
        return try_one(TARGETS[name], chance, bytes.fromhex("".join(digits)))
    finally:
        signal.signal(signal.SIGVTALRM, before)


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.fuzz.long", description=__doc__)
    parser.add_argument("target", nargs="?", choices=[*TARGETS, "all"], default="all")
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run one saved input and nothing else")
    parser.add_argument("--save", type=Path, metavar="FOLDER", default=Path(), help="where a failing input is left")
    options = parser.parse_args(argv)
    if options.replay is not None:
        sys.stdout.write(f"{replay(options.replay)}\n")
        return 0
    for name in TARGETS if options.target == "all" else [options.target]:
        try:
            figures = run(name, TARGETS[name], inputs=options.inputs, seed=options.seed)
        except Broken as broken:
            path = broken.save(options.save)
            sys.stderr.write(f"{broken}: {broken.__cause__!r}\n{broken.data.hex()}\n")
            sys.stderr.write(f"again: {sys.executable} -m tests.fuzz.long --replay {path}\n")
            return 1
        sys.stdout.write(f"{figures}\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
