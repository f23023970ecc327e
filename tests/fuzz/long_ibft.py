# SPDX-License-Identifier: LGPL-2.1-or-later
"""Throws mutated and random tables at the iBFT parser for as long as wanted, and says what became of them.

``python3 -m tests.fuzz.long_ibft [--inputs N] [--seed S]``; by hand, not by ``make check`` (test_fuzz_ibft.py is). The
same seed gives the same inputs; a failure prints the input as hexadecimal digits and ends with status 1.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter

from tests.fuzz.fuzz_ibft_invariant import check, mutate
from tests.vectors.ibft.make import HERE

REBUILD_EVERY = 16
"""The invariants that parse twice more are held for every so many inputs."""


def run(inputs: int, seed: int) -> int:
    """Try ``inputs`` tables; 0 when every one kept the invariant."""
    rng = random.Random(seed)
    seeds = [path.read_bytes() for path in sorted(HERE.glob("*.bin")) if path.stat().st_size > 120]
    outcome: Counter[str] = Counter()
    slowest, started = 0.0, time.perf_counter()
    for number in range(inputs):
        data = rng.randbytes(rng.randrange(700)) if number % 20 == 0 else mutate(rng.choice(seeds), rng)
        if number % 40 == 0:
            data = b"iBFT" + data
        before = time.process_time()
        try:
            result = check(data, rebuild=number % REBUILD_EVERY == 0)
        except Exception:
            sys.stderr.write(f"input {number} of seed {seed}: {data.hex()}\n")
            raise
        slowest = max(slowest, time.process_time() - before)
        outcome[
            "intact, no finding" if result.intact and not result.findings else _outcome(result.intact, result.table)
        ] += 1
    seconds = time.perf_counter() - started
    sys.stdout.write(f"{inputs} inputs, seed {seed}: {seconds:.0f} s, {inputs / seconds:.0f}/s, ")
    sys.stdout.write(f"slowest {slowest * 1000:.1f} ms of processor time, 0 failures\n")
    for name, count in outcome.most_common():
        sys.stdout.write(f"  {name:<32} {count:>9}  {100 * count / inputs:5.1f} %\n")
    return 0


def _outcome(intact: bool, table: object) -> str:
    if intact:
        return "intact, with findings"
    return "refused as a whole" if table is None else "read, not intact"


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=2)
    options = parser.parse_args()
    return run(options.inputs, options.seed)


if __name__ == "__main__":
    sys.exit(main())
