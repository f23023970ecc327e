# SPDX-License-Identifier: LGPL-2.1-or-later
"""The comparison by hand: ``python3 -m tests.qemu.admin [SECTION]...`` (all without; "_" or quotes for blanks).

Prints every difference the table does not explain, what each round took, and where the transcript is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

from tests.qemu.admin.compare import differences
from tests.qemu.admin.differences import judge
from tests.qemu.admin.guest import OURS, PEER, SCRIPT, Result, play
from tests.qemu.admin.steps import Step, parse
from tests.qemu.harness.cache import default_root
from tests.qemu.harness.machine import TWO
from tests.qemu.harness.process import tell_stderr
from tests.qemu.harness.run import Laboratory

SECONDS = 3600.0


def main(argv: Sequence[str]) -> int:
    """Play the sections and print what differs; 1 when something does."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.qemu.admin", description="iscsiadm beside open-iscsi's")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help="a title of script.txt; all without")
    sections = [section.replace("_", " ") for section in parser.parse_args(argv).sections]
    script = SCRIPT.read_text()
    steps = parse(script)
    if unknown := set(sections) - {step.section for step in steps}:
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    laboratory = Laboratory.at(default_root(), tell_stderr)
    log = laboratory.log_path("admin")
    words = [PEER, OURS]
    if sections:
        words += ["--", *(section.replace(" ", "_") for section in sections)]
    rounds = play(laboratory.cache, script, words, seconds=SECONDS, log=log, tell=tell_stderr, processors=TWO)
    return report(steps, rounds[PEER], rounds[OURS], str(log.with_suffix(".json")))


def report(steps: Sequence[Step], peer: Mapping[int, Result], ours: Mapping[int, Result], transcript: str) -> int:
    """Print the judgement; 1 when a difference is left."""
    judgement = judge(differences(steps, peer, ours))
    for difference in judgement.unexplained:
        sys.stdout.write(f"{difference}\n\n")
    for name, results in ((PEER, peer), (OURS, ours)):
        spent = sum(result.seconds for result in results.values())
        sys.stdout.write(f"{name}: {len(results)} steps, {spent:.0f} s in commands\n")
    unexplained = len(judgement.unexplained)
    sys.stdout.write(f"{judgement.explained} differences explained, {unexplained} not; transcript: {transcript}\n")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
