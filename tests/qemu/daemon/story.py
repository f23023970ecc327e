# SPDX-License-Identifier: LGPL-2.1-or-later
"""A boot of a root on iSCSI as facts on one clock, for the picture of docs/daemon.md (``python3 -m tools.guards``).

``python3 -m tests.qemu.daemon.story`` boots, kills the daemon once, cuts its target off twice, and records it.

Seconds since power-on. The host's clock counts logins, cuts and writes; the guest's own times are moved to it by the
quickest of the words the two have exchanged, so they are late by some milliseconds at most.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from iscsiboot.model.timeline import Mark
from tests.qemu.daemon.root import Conversation, trial
from tests.qemu.harness.cache import default_root
from tests.qemu.harness.errors import CHECKOUT, HarnessError
from tests.qemu.harness.process import tell_stderr
from tests.qemu.harness.run import BootResult, Laboratory

BIN_SECONDS = 0.25
RECORD = CHECKOUT / "docs/guards.json"


def story(result: BootResult, talk: Conversation) -> dict[str, Any]:
    """The facts. HarnessError when the trial failed in the guest."""
    if talk.cable is None or "failed" in talk.result:
        raise HarnessError(f"there is nothing to tell: {talk.result}")
    log, said = talk.cable.log, talk.result
    shift = talk.clock - talk.power_on

    def host(moment: float) -> float:
        return round(moment - talk.power_on, 2)

    def guest(moment: float) -> float:
        return round(moment + shift, 2)

    marks = {entry.mark: entry.at for entry in result.verdict.timeline()}
    end = guest(said["load"]["ended"])
    counts = [0] * (int(end / BIN_SECONDS) + 1)
    for moment in log.writes:
        if host(moment) < end:
            counts[int(host(moment) / BIN_SECONDS)] += 1
    return {
        "kernel": guest(0.0),
        "root": guest(marks[Mark.ROOT_MOUNTED]),
        "switched": host(log.cuts[0][0]) if talk.switched else None,
        "multi-user": guest(marks[Mark.MULTI_USER]),
        "keeper": guest(marks[Mark.KEEPER]),
        "ready": guest(said["ready"]),
        "killed": guest(said["killed"]),
        "ready again": guest(said["ready again"]),
        "end": end,
        "logins": [host(moment) for moment in log.logins if host(moment) < end],
        "cuts": [[host(began), host(ended)] for began, ended in log.cuts if host(began) < end],
        "writes": {"seconds": BIN_SECONDS, "counts": counts},
        "stood": [[guest(began), guest(ended)] for began, ended in said["load"]["gaps"]],
        "errors": said["load"]["errors"] + said["load"]["wrong"],
    }


def main() -> int:
    """Make the boot and record it."""
    result, talk = trial(Laboratory.at(default_root(), tell_stderr), "iscsiboot.story", credentials=None)
    lines = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in story(result, talk).items())
    RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
