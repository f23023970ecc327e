# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands that list a portal's targets, run in turn and measured by the same instruments.

``python3 -m benchmarks.initiator.contest --host H --rounds N FAMILY:SIZE:PORT...`` prints one JSON object a run. It is
imported on the host and runs as a program in the guest, so it needs nothing but the standard library.

Time is from before a command is started to its end, the interpreter's start included. Memory is the kernel's own peak
of the process, read by GNU time: a child's ``ru_maxrss`` begins with the memory of the process that forked it, so
Python must not do the forking (GNU time has 2 MiB). A run counts only when the command ended well and printed one line
for each target.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

OURS, LIBISCSI, OPEN_ISCSI, OPEN_ISCSI_RECORDS = "iscsiboot", "iscsi-ls", "open-iscsi", "open-iscsi, records kept"
OURS_RECORDS = "iscsiboot, records kept"
LISTER = Path(__file__).resolve().parent / "list_targets.py"
KEEPER = Path(__file__).resolve().parent / "keep_targets.py"
DATABASES = {OPEN_ISCSI_RECORDS: Path("/etc/iscsi"), OURS_RECORDS: Path("/tmp/iscsiboot-database")}
"""Where those that keep records keep them. They begin each run with none: a second discovery finds less to do."""
RUN_SECONDS = 600.0
SAID_MAX = 200
"""Characters kept of what a failed command says."""
RECORDS_MAX = 1000
"""Targets up to which open-iscsi is also measured with its database: beyond, a run takes minutes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A portal and how many targets it has."""

    family: str
    """Whose answer it is: ``tgt`` or ``generated``."""
    size: int
    port: int

    @classmethod
    def parse(cls, text: str) -> Case:
        """``FAMILY:SIZE:PORT``; ValueError otherwise."""
        family, size, port = text.split(":")
        return cls(family=family, size=int(size), port=int(port))

    def __str__(self) -> str:
        return f"{self.family}:{self.size}:{self.port}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One command, once."""

    family: str
    size: int
    contestant: str
    seconds: float
    peak_kib: int
    listed: int
    """Targets printed."""
    failure: str = ""
    """Why it does not count; empty when it does."""


def commands(host: str, case: Case, *, open_iscsi: bool) -> dict[str, list[str]]:
    """The contestants and their command lines. Ours is started as ``make install`` starts our programs."""
    portal = f"{host}:{case.port}"
    argvs = {
        OURS: [sys.executable, "-IS", str(LISTER), host, str(case.port)],
        LIBISCSI: ["iscsi-ls", f"iscsi://{portal}"],
    }
    if open_iscsi:
        discovery = ["iscsiadm", "-m", "discovery", "-t", "sendtargets", "-p", portal]
        # Listing without writing one file a target is what the other two do; keeping records is what people run.
        argvs[OPEN_ISCSI] = [*discovery, "-o", "nonpersistent"]
        if case.size <= RECORDS_MAX and case.family == "tgt":
            argvs[OPEN_ISCSI_RECORDS] = discovery
    return argvs


def keeping_commands(host: str, case: Case) -> dict[str, list[str]]:
    """The two programs called ``iscsiadm``, each writing a record for every target."""
    discovery = ["-m", "discovery", "-t", "sendtargets", "-p", f"{host}:{case.port}"]
    return {
        OURS_RECORDS: [sys.executable, "-IS", str(KEEPER), str(DATABASES[OURS_RECORDS]), *discovery],
        OPEN_ISCSI_RECORDS: ["iscsiadm", *discovery],
    }


def forget(contestant: str) -> None:
    """Remove the records of who keeps some."""
    if contestant in DATABASES:
        for name in ("nodes", "send_targets"):
            shutil.rmtree(DATABASES[contestant] / name, ignore_errors=True)


def rotated(names: Sequence[str], number: int) -> list[str]:
    """The order of round ``number``: each contestant goes first in its turn."""
    at = number % max(1, len(names))
    return [*names[at:], *names[:at]]


def measure(case: Case, contestant: str, argv: Sequence[str], *, seconds: float = RUN_SECONDS) -> Run:
    """Run one command. A failure of the command is a result, not an error here."""
    with tempfile.TemporaryDirectory(prefix="contest-") as name:
        usage, out, err = (Path(name) / part for part in ("usage", "out", "err"))
        timed = ["time", "--quiet", "--format=%M", f"--output={usage}", *argv]
        with out.open("wb") as stdout, err.open("wb") as stderr:
            started = time.perf_counter()
            # A session of its own, so that the command itself ends with the one that times it.
            with subprocess.Popen(
                timed, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True
            ) as child:
                if not _ended(child.pid, seconds):
                    os.killpg(child.pid, signal.SIGKILL)
            spent = time.perf_counter() - started
        if child.returncode == -signal.SIGKILL:
            failure = f"not finished after {seconds:g} s"
        else:
            failure = f"exit status {child.returncode}" if child.returncode else ""
        listed = out.read_bytes().count(b"iqn.")
        said = " ".join(err.read_text(errors="replace").split())[:SAID_MAX]
        peak = int(usage.read_text().split()[-1]) if usage.exists() and usage.stat().st_size else 0
    if not failure and listed != case.size:
        failure = f"{listed} of {case.size} targets listed"
    return Run(
        family=case.family,
        size=case.size,
        contestant=contestant,
        seconds=spent,
        peak_kib=peak,
        listed=listed,
        failure=f"{failure}: {said}" if failure and said else failure,
    )


def _ended(pid: int, seconds: float) -> bool:
    """Whether the child ends in time, told at once: ``Popen.wait`` with a timeout would look every 50 ms."""
    descriptor = os.pidfd_open(pid)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            return bool(selector.select(seconds))
    finally:
        os.close(descriptor)


def contest(host: str, cases: Sequence[Case], *, rounds: int, open_iscsi: bool, records: bool = False) -> Iterator[Run]:
    """Every case ``rounds`` times, contestants in turn, after one run of each that does not count (files in memory).

    A contestant that fails has told what there is to tell: it is not run again in that case. With ``records`` the
    contestants are those of :func:`keeping_commands`.
    """

    def of(case: Case) -> dict[str, list[str]]:
        return keeping_commands(host, case) if records else commands(host, case, open_iscsi=open_iscsi)

    for argv in of(cases[0]).values():
        measure(cases[0], "", argv)
    for case in cases:
        argvs = of(case)
        for number in range(rounds):
            for name in rotated(list(argvs), number):
                forget(name)
                run = measure(case, name, argvs[name])
                if run.failure:
                    del argvs[name]
                yield run


def main(argv: Sequence[str]) -> int:
    """One JSON line a run on standard output, progress on standard error."""
    parser = argparse.ArgumentParser(prog="benchmarks.initiator.contest", description="discovery by command, in turn")
    parser.add_argument("--host", required=True, help="address of the portals")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each command that count (default 3)")
    parser.add_argument("--open-iscsi", action="store_true", help="also iscsiadm: needs iscsid and kernel modules")
    parser.add_argument("--records", action="store_true", help="only the two iscsiadm, each keeping records")
    parser.add_argument("cases", nargs="+", type=Case.parse, metavar="FAMILY:SIZE:PORT")
    options = parser.parse_args(argv)
    asked = {"rounds": options.rounds, "open_iscsi": options.open_iscsi, "records": options.records}
    for run in contest(options.host, options.cases, **asked):
        sys.stdout.write(json.dumps(asdict(run)) + "\n")
        sys.stdout.flush()
        note = f"  {run.failure}" if run.failure else ""
        sys.stderr.write(f"{run.family} {run.size} {run.contestant}: {run.seconds:.3f} s, {run.peak_kib} KiB{note}\n")
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
