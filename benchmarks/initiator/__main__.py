# SPDX-License-Identifier: LGPL-2.1-or-later
"""``python3 -m benchmarks.initiator``: login, discovery and probe beside libiscsi and open-iscsi, as ratios.

Prints the tables and the raw figures as JSON, writes a picture, and renews its part of docs/performance.md. As root.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field

from benchmarks.charts import Chart, render_svg
from benchmarks.document import renewed
from benchmarks.initiator import report
from benchmarks.initiator.blackholes import Probe, in_namespace
from benchmarks.initiator.contest import LIBISCSI, OPEN_ISCSI, OURS, Case, Run, contest
from benchmarks.initiator.farm import LOOPBACK, Farm
from benchmarks.initiator.guest import guest_contest
from benchmarks.initiator.libiscsi import LibIscsi, LibIscsiError
from benchmarks.initiator.rates import Rate, discovery_works, login_works, rates
from tests.doubles.directory import numbered
from tests.doubles.server import TargetServer
from tests.doubles.session import FullTarget, Plan
from tests.qemu.harness.cache import Cache, default_root
from tests.qemu.harness.errors import CHECKOUT, HarnessError
from tests.qemu.harness.kvm import accelerator
from tests.qemu.harness.process import tell_stderr

PICTURE = "initiator.svg"
PARTS = ("rates", "native", "guest", "memory", "probe")
SIZES = (1, 100, 1000, 3000, 10_000)
"""3,000 is near the most iscsi-ls can list: it takes one PDU of an answer, 262,144 bytes."""
MEMORY_SIZES = (100, 1000, 10_000, 100_000)
PORTALS = 64
GUEST_SECONDS = 3600.0


@dataclass(kw_only=True, slots=True)
class Figures:
    """Everything measured in one run."""

    rates: list[Rate] = field(default_factory=list)
    native: list[Run] = field(default_factory=list)
    guest: list[Run] = field(default_factory=list)
    memory: list[Run] = field(default_factory=list)
    probe: list[Probe] = field(default_factory=list)


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.initiator", description="the initiator beside its peers")
    parser.add_argument("--rounds", type=int, default=5, help="rounds on this host (default 5)")
    parser.add_argument("--guest-rounds", type=int, default=3, help="rounds in the guest (default 3)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each pace in one process (default 2)")
    parser.add_argument("--timeout", type=float, default=5.0, help="connect timeout of the probe (default 5)")
    parser.add_argument("--sizes", type=numbers, default=SIZES, help="numbers of targets, 1,1000,... ")
    parser.add_argument("--memory-sizes", type=numbers, default=MEMORY_SIZES, help="the same, generated answers")
    parser.add_argument("--parts", type=parts, default=PARTS, help=f"some of {','.join(PARTS)} (default all)")
    parser.add_argument("--dry", action="store_true", help="print only, leave docs/ as it is")
    return parser.parse_args(argv)


def numbers(text: str) -> tuple[int, ...]:
    """``1,1000``; ValueError otherwise."""
    return tuple(int(part) for part in text.split(","))


def parts(text: str) -> tuple[str, ...]:
    """Names of :data:`PARTS`; ValueError otherwise."""
    names = tuple(text.split(","))
    if not set(names) <= set(PARTS):
        raise ValueError(f"{text} is not some of {','.join(PARTS)}")
    return names


def measure(options: argparse.Namespace) -> Figures:
    """The parts that were asked for."""
    figures = Figures()
    if {"rates", "native", "guest"} & set(options.parts):
        with farms(options.sizes) as known:
            _against_tgt(options, known, figures)
    if "memory" in options.parts:
        with ExitStack() as stack:
            cases = [generated(stack, size) for size in options.memory_sizes]
            figures.memory = list(_told(contest(LOOPBACK, cases, rounds=options.rounds, open_iscsi=False)))
    if "probe" in options.parts:
        for dark in (0, PORTALS // 2):
            figures.probe.append(in_namespace(PORTALS, dark, options.timeout))
            tell_stderr(f"probe of {PORTALS} portals, {dark} dark: {figures.probe[-1].seconds:.2f} s")
    return figures


def _against_tgt(options: argparse.Namespace, known: Sequence[Farm], figures: Figures) -> None:
    cases = [Case(family="tgt", size=farm.size, port=farm.port) for farm in known]
    if "rates" in options.parts:
        library = LibIscsi()
        with Farm(2, tell=tell_stderr, chap=True) as two:
            works = {**login_works(two, library)}
            for farm in known:
                works.update(discovery_works(farm, library))
            figures.rates = rates(works, rounds=options.rounds, seconds=options.seconds, tell=tell_stderr)
    if "native" in options.parts:
        figures.native = list(_told(contest(LOOPBACK, cases, rounds=options.rounds, open_iscsi=False)))
    if "guest" in options.parts:
        cache = Cache(default_root(), tell_stderr)
        figures.guest = guest_contest(
            cache, cases, rounds=options.guest_rounds, seconds=GUEST_SECONDS, tell=tell_stderr
        )


@contextmanager
def farms(sizes: Sequence[int]) -> Iterator[list[Farm]]:
    """One tgtd for each size."""
    with ExitStack() as stack:
        yield [stack.enter_context(Farm(size, tell=tell_stderr)) for size in sizes]


def generated(stack: ExitStack, size: int) -> Case:
    """A scripted target that makes up ``size`` records as it sends them: nothing limits its answer but ours."""
    plan = Plan(records=numbered(size))
    server = stack.enter_context(TargetServer(lambda: FullTarget(plan)))
    return Case(family="generated", size=size, port=server.port)


def _told(runs: Iterator[Run]) -> Iterator[Run]:
    for run in runs:
        note = f"  {run.failure}" if run.failure else ""
        tell_stderr(f"{run.family} {run.size} {run.contestant}: {run.seconds:.3f} s, {run.peak_kib} KiB{note}")
        yield run


def describe(figures: Figures, accel: str, command: str) -> str:
    """The text between the markers."""
    out = []
    if figures.rates:
        out += ["### Paces in one process\n", report.rates_table(figures.rates)]
    if figures.native:
        out += ["### Discovery as a command, on the host: time\n", report.times_table(figures.native)]
    if figures.guest:
        out += [f"### Discovery as a command, in a guest ({accel}): time\n", report.times_table(figures.guest)]
        out += ["Peak memory of the same runs:\n", report.memory_table(figures.guest)]
    if figures.memory:
        out += ["### Peak memory as a generated answer grows, on the host\n", report.memory_table(figures.memory)]
        out += ["Time of the same runs:\n", report.times_table(figures.memory)]
    if figures.probe:
        out += ["### Probe of many portals\n", report.probes_table(figures.probe)]
    told = report.failures([*figures.native, *figures.guest, *figures.memory], figures.rates)
    if told:
        out += ["Could not be done:\n", told]
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    kernel = platform.release().partition("-")[0]
    out.append(f"{today}, {platform.machine()} host with Linux {kernel}, `{command}`.\n")
    out.append(f"![time and memory against the number of targets]({PICTURE})\n")
    return "\n".join(out)


def charts(figures: Figures) -> list[Chart]:
    """Time in the guest, where all three run; memory on the host and, for open-iscsi, in the guest."""
    time_lines = {
        name: report.points(figures.guest, name, lambda run: run.seconds) for name in (OURS, LIBISCSI, OPEN_ISCSI)
    }
    memory_lines = {name: report.points(figures.memory, name, _mebibytes) for name in (OURS, LIBISCSI)}
    memory_lines[OPEN_ISCSI] = report.points(figures.guest, OPEN_ISCSI, _mebibytes)
    return [
        Chart(title="Discovery, in the guest", unit="s", lines=time_lines),
        Chart(title="Peak memory", unit="MiB", lines=memory_lines),
    ]


def _mebibytes(run: Run) -> float:
    return run.peak_kib / 1024


def main(argv: Sequence[str]) -> int:
    """Run it; 2 when it could not be run."""
    options = arguments(argv)
    if os.geteuid() != 0:
        tell_stderr("tgtd and the namespace need root")
        return 2
    try:
        figures = measure(options)
    except (HarnessError, LibIscsiError) as error:
        tell_stderr(str(error))
        return 2
    docs = CHECKOUT / "docs"
    accel = "KVM" if "kvm" in accelerator(default_root(), docs) else "software emulation"
    text = describe(figures, accel, " ".join(["python3 -m benchmarks.initiator", *argv]))
    if not options.dry:
        (docs / PICTURE).write_text(render_svg(charts(figures)))
        document = docs / "performance.md"
        document.write_text(renewed(document.read_text(), "benchmarks.initiator", text))
    print(json.dumps(asdict(figures)))
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
