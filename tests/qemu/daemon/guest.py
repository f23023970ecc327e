# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guest of the daemon's trials. By hand: ``-m tests.qemu.daemon.guest [TRIAL]...``, ISCSIBOOT_CHECK_ALL=1 for long.

Debian's kernel with both initiators and with LIO, whose login counter tells every login, in a network namespace at the
other end of a cable. Each trial is a JSON object on the harness's port; the run's nonce ends them.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.qemu.admin.clients import follow, read
from tests.qemu.admin.guest import compiled, installed
from tests.qemu.harness.archive import Recipe, base, initrd, process_1
from tests.qemu.harness.cache import Cache, default_root
from tests.qemu.harness.errors import CHECKOUT
from tests.qemu.harness.kvm import accelerator
from tests.qemu.harness.machine import ONE, TWO, Machine, MachineSpec
from tests.qemu.harness.process import Tell, tell_stderr
from tests.qemu.harness.run import Laboratory

HERE = Path(__file__).resolve().parent
MEMORY_MIB = 2048
RECIPE = Recipe(
    name="daemon",
    packages=(
        *("kmod", "iproute2", "linux-image-amd64", "python3", "python3-pyroute2", "python3-pyudev"),
        *("python3-pyelftools", "open-iscsi", "udev", "dmsetup", "e2fsprogs"),
    ),
    modules=(
        *("virtio_pci", "virtio_console", "virtio_rng", "iscsi_tcp", "sd_mod", "crc32c_generic", "ext4", "veth"),
        *("sch_netem", "dm_mod", "dm_multipath", "dm_round_robin", "target_core_mod", "iscsi_target_mod"),
        "sha3_generic",
    ),
)
AGENT = "tests.qemu.daemon.agent"
LONG = "long"
GROUPS: tuple[tuple[str, ...], ...] = (
    (
        *("of_our_iscsiadm", "of_our_daemon", "of_our_iscsistart", "of_peers_iscsistart", "of_peers_daemon"),
        *("peer_takes_ours", "upgrade", "hostile", "outage", "found_down"),
    ),
    (
        *("while_up_and_dead", "killed_around", "before_the_first_daemon", "nobody", "restarts", "flapping"),
        *("port_closed", "secrets", "new_unit", "adopted", "multipath"),
    ),
)
"""Which trials share a guest; about the same time for each."""
SHORT_SECONDS, LONG_SECONDS = 900.0, 5400.0
"""Bounds for a guest; a short one takes five to six minutes emulated on a quiet machine of two processors."""

Seen = dict[str, dict[str, Any]]
"""What each trial saw, by name."""


def wants_long() -> bool:
    """Whether the long forms are asked for (``make check-all``)."""
    return os.environ.get("ISCSIBOOT_CHECK_ALL") == "1"


def stage(directory: Path, nonce: str) -> None:
    """The files of the guest that are ours: our programs below /ours, the agent and its trials below /harness."""
    installed(directory)
    for part in ("tests/qemu/admin", "tests/qemu/daemon", "benchmarks", "benchmarks/daemon"):
        package = directory / "harness" / part
        package.mkdir(parents=True, exist_ok=True)
        for file in (CHECKOUT / part).glob("*.py"):
            shutil.copyfile(file, package / file.name)
    (directory / "harness/nonce").write_text(nonce)
    compiled(directory)
    process_1(directory, HERE / "init.sh")


def run_trials(
    cache: Cache,
    names: Sequence[str] = (),
    *,
    long: bool,
    seconds: float,
    log: Path,
    tell: Tell,
    agent: str = AGENT,
    processors: int | None = None,
) -> Seen:
    """Boot the guest and make the trials, all without ``names``. HarnessError when it did not finish in time.

    The guest has two ``processors`` for the long forms, one for the short ones, if not told otherwise.
    """
    found = base(RECIPE, cache, tell)
    nonce = secrets.token_hex(16)
    with cache.scratch() as work:
        (work / "stage").mkdir()
        stage(work / "stage", nonce)
        initrd([found.archive], work / "stage", work / "initrd")
        words = [*(f"trial.{name}" for name in names), *(["trial." + LONG] if long else [])]
        spec = MachineSpec(
            accel=accelerator(cache.root, work),
            processors=processors or (TWO if long else ONE),
            memory_mib=MEMORY_MIB,
            kernel=found.kernel,
            initrd=work / "initrd",
            append=("console=ttyS0", "quiet", "panic=-1", "net.ifnames=0", f"agent.{agent}", *words),
        )
        with Machine(spec, runtime=work, log=log) as machine:
            return read(follow(machine, seconds, tell, keep=log.with_suffix(".json")), nonce)


def run_at_once(laboratory: Laboratory, groups: Sequence[Sequence[str]], *, long: bool) -> Seen:
    """Each group of trials in a guest of its own, two guests side by side; what all of them saw."""
    base(RECIPE, laboratory.cache, laboratory.tell)  # made once, before two ask for it

    def one(numbered: tuple[int, Sequence[str]]) -> Seen:
        log = laboratory.log_path(f"daemon-{numbered[0]}")
        seconds = LONG_SECONDS if long else SHORT_SECONDS
        return run_trials(laboratory.cache, numbered[1], long=long, seconds=seconds, log=log, tell=laboratory.tell)

    with ThreadPoolExecutor(max_workers=2) as pool:
        return {name: said for seen in pool.map(one, enumerate(groups, 1)) for name, said in seen.items()}


def main(argv: Sequence[str]) -> int:
    """Make the trials and print what they saw."""
    laboratory = Laboratory.at(default_root(), tell_stderr)
    log = laboratory.log_path("daemon")
    seconds = LONG_SECONDS if wants_long() else SHORT_SECONDS
    seen = run_trials(laboratory.cache, argv, long=wants_long(), seconds=seconds, log=log, tell=tell_stderr)
    sys.stdout.write(json.dumps(seen, indent=1) + "\n")
    return 1 if any("failed" in said for said in seen.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
