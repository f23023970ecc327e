# SPDX-License-Identifier: LGPL-2.1-or-later
"""In the guest: the trials of the daemon one after the other, a JSON object each on standard output, then the nonce.

Arguments are the only trials to make; "long" asks for their long forms.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Iterable
from pathlib import Path

from tests.qemu.admin.agent import emit, note
from tests.qemu.daemon import adoption, crowds, cuts, hostile, multipath, targets
from tests.qemu.daemon.bench import Bench, Trial
from tests.qemu.daemon.daemons import LOG, end_guards
from tests.qemu.daemon.processes import command_lines
from tests.qemu.daemon.sessions import OURS, end_all, forget, kernel_log, sessions
from tests.qemu.daemon.storage import SECRET, Disk, Target, command

TRIALS: tuple[Trial, ...] = (
    *adoption.TRIALS,
    *cuts.TRIALS,
    *targets.TRIALS,
    *hostile.TRIALS,
    *multipath.TRIALS,
    *crowds.TRIALS,
)
DISK_MIB, CROWD_MIB = 64, 8


def storage(long: bool) -> Bench:
    """The storage machine, every target but the crowd open."""
    shared = Disk(4, DISK_MIB)
    bench = Bench(
        long=long,
        one=Target("one", Disk(0, DISK_MIB)),
        two=Target("two", Disk(1, DISK_MIB)),
        chap=Target("chap", Disk(2, DISK_MIB), secret=SECRET),
        left=Target("left", shared),
        right=Target("right", shared),
        crowd_disk=Disk(3, CROWD_MIB),
    )
    bench.reset()
    return bench


def clean(bench: Bench) -> None:
    """Nobody guards, no session, no record; every target is there."""
    for pid, line in command_lines().items():
        if f"{OURS}iscsid " in line:
            note(f"iscsid {pid} was left behind")
    end_guards()
    end_all()
    bench.reset()
    forget()


def words_of(error: BaseException) -> str:
    """What went wrong, and what had before it: the disk that does not answer is only the end of it."""
    words, each = [], error
    while True:
        words.append(f"{type(each).__name__}: {each}")
        before = each.__cause__ or each.__context__
        if before is None:
            return "; after ".join(words)
        each = before


def last_lines() -> list[str]:
    """What the daemon and its standby said at last."""
    return LOG.read_text(errors="replace").splitlines()[-30:] if LOG.exists() else []


def make(trial: Trial, bench: Bench) -> None:
    """One trial, what it saw to the host; its failure too, so that the trials after it are made."""
    command("dmesg", "--clear")  # what the kernel says from now on is of this trial
    started = time.monotonic()
    try:
        said = trial(bench)
    except Exception as error:  # noqa: BLE001  # the trials after it shall run, and its fault is the finding
        traceback.print_exc()
        said = {"failed": words_of(error), "kernel": kernel_log()[:20], "daemon": last_lines()}
    spent = time.monotonic() - started
    try:
        clean(bench)
    except Exception as error:  # noqa: BLE001  # as above
        traceback.print_exc()
        said.setdefault("failed", f"it cannot be cleaned up: {type(error).__name__}: {error}; {sessions()}")
    note(f"{trial.__name__}: {'failed' if 'failed' in said else 'done'} in {spent:.0f} s")
    emit({"check": trial.__name__, "took": round(spent, 1), **said})


def main(words: Iterable[str]) -> int:
    """The trials."""
    names = set(words)
    bench = storage("long" in names)
    wanted = names - {"long"}
    for trial in TRIALS:
        if not wanted or trial.__name__ in wanted:
            make(trial, bench)
    emit({"end": Path("/harness/nonce").read_text()})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
