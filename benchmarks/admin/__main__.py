# SPDX-License-Identifier: LGPL-2.1-or-later
"""``python3 -m benchmarks.admin``: iscsiadm beside open-iscsi's, as ratios. As root.

Prints the tables and the raw figures as JSON, writes a picture, and renews its part of docs/performance.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.admin import report, trees
from benchmarks.admin.contest import BARE, OURS, PEER, START, Run, contest, record_works, session_works
from benchmarks.charts import render_svg
from benchmarks.document import renewed
from benchmarks.initiator.__main__ import farms
from benchmarks.initiator.contest import OPEN_ISCSI_RECORDS, OURS_RECORDS, Case
from benchmarks.initiator.guest import guest_contest
from tests.interop.peer_admin import Program, our_program, peer_program, unavailable
from tests.qemu.harness.cache import Cache, default_root
from tests.qemu.harness.errors import CHECKOUT, HarnessError
from tests.qemu.harness.process import tell_stderr

PICTURE = "admin.svg"
RECORDS = (10, 100, 1000, 5000)
SESSIONS = (10, 100, 500)
START_ROUNDS = 25
TARGETS = (10, 100, 1000)
GUEST_SECONDS = 3600.0


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.admin", description="iscsiadm beside open-iscsi's")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each command (default 5)")
    parser.add_argument("--records", type=numbers, default=RECORDS, help="numbers of node records, 10,100,...")
    parser.add_argument("--sessions", type=numbers, default=SESSIONS, help="numbers of sessions")
    parser.add_argument("--targets", type=numbers, default=TARGETS, help="numbers of targets to discover, in a guest")
    parser.add_argument("--guest-rounds", type=int, default=3, help="rounds in the guest (default 3, 0: none)")
    parser.add_argument("--dry", action="store_true", help="print only, leave docs/ as it is")
    return parser.parse_args(argv)


def numbers(text: str) -> tuple[int, ...]:
    """``10,1000``; ValueError otherwise."""
    return tuple(int(part) for part in text.split(","))


def bare(work: Path) -> Program:
    """An ``iscsiadm`` that is nothing but the start of the interpreter: what no program of ours can be faster than."""
    folder = work / "bare"
    folder.mkdir()
    script = folder / "iscsiadm"
    script.write_text("#!/usr/bin/python3 -I\nraise SystemExit(21)\n")
    script.chmod(0o755)
    return Program(name=BARE, directory=folder)


def measure(options: argparse.Namespace, work: Path) -> dict[str, list[Run]]:
    """Start, records and sessions, each a list of runs."""
    peer = peer_program(tell_stderr)
    ours = our_program(work / "prefix")
    programs = [
        Program(name=OURS, directory=ours.directory, environment=ours.environment),
        Program(name=PEER, directory=peer.directory, environment=peer.environment),
    ]
    figures: dict[str, list[Run]] = {"start": [], "records": [], "sessions": []}
    figures["start"] = list(_told(contest([*programs, bare(work)], [START], 0, rounds=START_ROUNDS)))
    for size in options.records:
        tree = trees.records(work / f"records-{size}", size)
        figures["records"] += _told(contest(programs, record_works(size), size, rounds=options.rounds, tree=tree))
    for size in options.sessions:
        sysfs = trees.machine(work / f"sys-{size}", size)
        figures["sessions"] += _told(contest(programs, session_works(size), size, rounds=options.rounds, sysfs=sysfs))
    figures["discoveries"] = discoveries(options)
    return figures


def discoveries(options: argparse.Namespace) -> list[Run]:
    """Discovery with a record for every target. open-iscsi wants its daemon for that, so both run in a guest."""
    if not options.guest_rounds:
        return []
    cache = Cache(default_root(), tell_stderr)
    with farms(options.targets) as known:
        cases = [Case(family="tgt", size=farm.size, port=farm.port) for farm in known]
        found = guest_contest(
            cache, cases, rounds=options.guest_rounds, seconds=GUEST_SECONDS, tell=tell_stderr, records=True
        )
    names = {OURS_RECORDS: OURS, OPEN_ISCSI_RECORDS: PEER}
    return [
        Run(
            work="discovery, in a guest",
            size=run.size,
            contestant=names[run.contestant],
            seconds=run.seconds,
            failure=run.failure,
        )
        for run in found
    ]


def _told(runs: Iterator[Run]) -> Iterator[Run]:
    for run in runs:
        note = f"  {run.failure}" if run.failure else ""
        tell_stderr(f"{run.work} {run.size} {run.contestant}: {run.seconds * 1000:.1f} ms{note}")
        yield run


def describe(figures: dict[str, list[Run]], command: str) -> str:
    """The text between the markers."""
    everything = [run for runs in figures.values() for run in runs]
    out = ["### Start of a command that finds nothing\n", report.start_table(figures["start"])]
    out += ["### Records, sessions and targets\n", report.work_table(everything[len(figures["start"]) :])]
    told = report.failures(everything)
    if told:
        out += ["Could not be done:\n", told]
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    kernel = platform.release().partition("-")[0]
    out.append(f"{today}, {platform.machine()} host with Linux {kernel}, `{command}`.\n")
    out.append(f"![time against the number of records and sessions]({PICTURE})\n")
    return "\n".join(out)


def picture(figures: dict[str, list[Run]]) -> str:
    """A chart for each kind of object."""
    across = {"records": "records", "sessions": "sessions", "discoveries": "targets"}
    return render_svg(
        [report.chart(figures[name], title=name.capitalize(), across=what) for name, what in across.items()]
    )


def main(argv: Sequence[str]) -> int:
    """Run it; 2 when it could not be run."""
    options = arguments(argv)
    reason = unavailable()
    if reason:
        tell_stderr(reason)
        return 2
    try:
        with tempfile.TemporaryDirectory(prefix="benchmark-admin-", dir="/tmp") as name:
            figures = measure(options, Path(name))
    except HarnessError as error:
        tell_stderr(str(error))
        return 2
    text = describe(figures, " ".join(["python3 -m benchmarks.admin", *argv]))
    if not options.dry:
        docs = CHECKOUT / "docs"
        (docs / PICTURE).write_text(picture(figures))
        document = docs / "performance.md"
        document.write_text(renewed(document.read_text(), "benchmarks.admin", text))
    print(json.dumps({name: [asdict(run) for run in runs] for name, runs in figures.items()}))
    print(text)
    return 0


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main(sys.argv[1:]))
