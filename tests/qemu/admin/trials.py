# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guest of the trials: signals, pulled cables, disks in use. By hand: ``-m tests.qemu.admin.trials [TRIAL]...``.

Made as the comparison's guest is, with another process 1; each trial is a JSON object, and the run's nonce ends them.
"""

from __future__ import annotations

import json
import secrets
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.qemu.admin.clients import follow, read
from tests.qemu.admin.guest import HERE, MEMORY_MIB, RECIPE, compiled, installed
from tests.qemu.harness.archive import base, initrd, process_1
from tests.qemu.harness.cache import Cache, default_root
from tests.qemu.harness.kvm import accelerator
from tests.qemu.harness.machine import Machine, MachineSpec
from tests.qemu.harness.process import Tell, tell_stderr
from tests.qemu.harness.run import Laboratory

SECONDS = 900.0
"""About two and a half minutes emulated on a quiet machine of two processors."""

Seen = dict[str, dict[str, Any]]
"""What each trial saw, by name."""


def stage(directory: Path, nonce: str) -> None:
    """The files of the guest that are ours: our programs below /ours, the agent below /harness."""
    installed(directory)
    package = directory / "harness/tests/qemu/admin"
    package.mkdir(parents=True)
    for name in ("__init__.py", "agent.py", "steps.py", "trials_agent.py"):
        shutil.copyfile(HERE / name, package / name)
    (directory / "harness/nonce").write_text(nonce)
    compiled(directory)
    process_1(directory, HERE / "trials-init.sh")


def run_trials(cache: Cache, names: Sequence[str] = (), *, seconds: float, log: Path, tell: Tell) -> Seen:
    """Boot the guest and make the trials, all without ``names``. HarnessError when it did not finish in time."""
    found = base(RECIPE, cache, tell)
    nonce = secrets.token_hex(16)
    with cache.scratch() as work:
        (work / "stage").mkdir()
        stage(work / "stage", nonce)
        initrd([found.archive], work / "stage", work / "initrd")
        spec = MachineSpec(
            accel=accelerator(cache.root, work),
            memory_mib=MEMORY_MIB,
            kernel=found.kernel,
            initrd=work / "initrd",
            append=("console=ttyS0", "quiet", "panic=-1", "net.ifnames=0", *(f"trial.{name}" for name in names)),
        )
        with Machine(spec, runtime=work, log=log) as machine:
            return read(follow(machine, seconds, tell), nonce)


def main(argv: Sequence[str]) -> int:
    """Make the trials and print what they saw."""
    laboratory = Laboratory.at(default_root(), tell_stderr)
    log = laboratory.log_path("admin-trials")
    seen = run_trials(laboratory.cache, argv, seconds=SECONDS, log=log, tell=tell_stderr)
    sys.stdout.write(json.dumps(seen, indent=1) + "\n")
    return 1 if any("failed" in said for said in seen.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
