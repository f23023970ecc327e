# SPDX-License-Identifier: LGPL-2.1-or-later
"""``python3 -m benchmarks.daemon``: iscsid beside open-iscsi's 2.1.8 in one guest, as ratios. As root.

Prints the table and the raw figures as JSON, and renews its part of docs/performance.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence

from benchmarks.daemon import report
from benchmarks.document import renewed
from tests.qemu.daemon.guest import run_trials
from tests.qemu.harness.cache import default_root
from tests.qemu.harness.errors import CHECKOUT, HarnessError
from tests.qemu.harness.kvm import accelerator
from tests.qemu.harness.machine import TWO
from tests.qemu.harness.process import tell_stderr
from tests.qemu.harness.run import Laboratory

GUEST_SECONDS = 3600.0


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.daemon", description="iscsid beside open-iscsi's")
    parser.add_argument("--sessions", type=int, default=100, help="how many (default 100)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (default 3)")
    parser.add_argument("--idle", type=int, default=60, help="seconds in which wake-ups are counted (default 60)")
    parser.add_argument("--dry", action="store_true", help="print only, leave docs/ as it is")
    return parser.parse_args(argv)


def describe(options: argparse.Namespace, seen: Mapping[str, report.Turn], accel: str, command: str) -> str:
    """The text between the markers."""
    out = [report.work_table(seen, options.sessions, options.idle)]
    told = report.failures(seen)
    if told:
        out += ["Could not be done:\n", told]
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    out.append(f"{today}, QEMU with {accel}, {platform.machine()} host, `{command}`.\n")
    return "\n".join(out)


def main(argv: Sequence[str]) -> int:
    """Run it; 2 when it could not be run."""
    options = arguments(argv)
    laboratory = Laboratory.at(default_root(), tell_stderr)
    words = [f"sessions-{options.sessions}", f"rounds-{options.rounds}", f"idle-{options.idle}"]
    try:
        with laboratory.cache.scratch() as work:
            accel = "software emulation" if "tcg" in " ".join(accelerator(laboratory.cache.root, work)) else "KVM"
        seen = run_trials(
            laboratory.cache,
            words,
            long=False,
            seconds=GUEST_SECONDS,
            log=laboratory.log_path("daemon-benchmark"),
            tell=tell_stderr,
            agent="benchmarks.daemon.agent",
            processors=TWO,
        )
    except HarnessError as error:
        tell_stderr(str(error))
        return 2
    text = describe(options, seen, accel, " ".join(["python3 -m benchmarks.daemon", *argv]))
    if not options.dry:
        document = CHECKOUT / "docs/performance.md"
        document.write_text(renewed(document.read_text(), "benchmarks.daemon", text))
    print(json.dumps(seen))
    print(text)
    return 0


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main(sys.argv[1:]))
