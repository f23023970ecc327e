# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guest where real clients of iscsiadm run: os-brick from PyPI and libvirt from Debian, with ours and no other.

Ours is installed as ``make install PREFIX=/usr`` does it. open-iscsi is not in this guest; only the scripts it brings
for shutdown are, because Debian's units run them.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from iscsiboot.model.deadline import Deadline
from tests.qemu.admin.guest import HERE, installed
from tests.qemu.harness.archive import Recipe, base, initrd, process_1
from tests.qemu.harness.cache import Cache, digest
from tests.qemu.harness.errors import HarnessError
from tests.qemu.harness.kvm import accelerator
from tests.qemu.harness.machine import ConsoleLine, Ended, Machine, MachineSpec, VerdictBytes
from tests.qemu.harness.process import Tell, run_long

OS_BRICK = "os-brick==7.1.1"
PIP_SECONDS = 600.0
MEMORY_MIB = 3072
RECIPE = Recipe(
    name="admin-clients",
    packages=(
        *("kmod", "iproute2", "linux-image-amd64", "python3", "python3-pyroute2", "python3-pyudev"),
        *("python3-pyelftools", "tgt", "udev", "util-linux", "procps", "sg3-utils", "multipath-tools"),
        *("libvirt-daemon", "libvirt-clients"),
    ),
    modules=(
        *("virtio_pci", "virtio_net", "virtio_console", "virtio_rng", "iscsi_tcp", "sd_mod", "crc32c_generic"),
        *("dummy", "dm_multipath", "dm_round_robin", "sg"),
    ),
    # Nobody gets a machine or reads these there, and an emulated processor has to unpack them.
    finish="rm -rf /usr/lib/x86_64-linux-gnu/dri /usr/lib/x86_64-linux-gnu/libLLVM* /usr/share/doc /usr/share/locale",
)
_WORTH_TELLING = re.compile(r"^guest:|Traceback|Error")


def os_brick(cache: Cache, tell: Tell) -> Path:
    """A directory with os-brick and what it needs, for the guest's Python, from the cache or from PyPI."""

    def build(work: Path) -> None:
        argv = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-compile"]
        argv += ["--target", str(work / "site"), OS_BRICK]
        run_long(argv, what=OS_BRICK, log=work / "pip.log", seconds=PIP_SECONDS, tell=tell)

    return cache.entry("os-brick", digest(OS_BRICK, sys.version), build) / "site"


def stage(directory: Path, site: Path, nonce: str) -> None:
    """The files of the guest that are not Debian's: our installation, the clients, the agent."""
    installed(directory, "/usr")
    package = directory / "harness/tests/qemu/admin"
    package.mkdir(parents=True)
    for name in ("__init__.py", "clients_agent.py"):
        shutil.copyfile(HERE / name, package / name)
    shutil.copyfile(HERE / "targets.sh", directory / "harness/targets.sh")
    (directory / "harness/nonce").write_text(nonce)
    shutil.copytree(site, directory / "clients", symlinks=True)
    for part in ("usr/lib/iscsiboot", "harness", "clients"):
        compiled = [sys.executable, "-I", "-m", "compileall", "-q", "-s", str(directory), str(directory / part)]
        subprocess.run(compiled, check=False)  # a template among a client's files need not be Python
    process_1(directory, HERE / "clients-init.sh")


def run_clients(cache: Cache, *, seconds: float, log: Path, tell: Tell) -> dict[str, dict[str, Any]]:
    """Boot the guest and let the clients work; what each check saw. HarnessError when it did not finish in time."""
    found, site = base(RECIPE, cache, tell), os_brick(cache, tell)
    nonce = secrets.token_hex(16)
    with cache.scratch() as work:
        (work / "stage").mkdir()
        stage(work / "stage", site, nonce)
        initrd([found.archive], work / "stage", work / "initrd")
        spec = MachineSpec(
            accel=accelerator(cache.root, work),
            memory_mib=MEMORY_MIB,
            kernel=found.kernel,
            initrd=work / "initrd",
            append=("console=ttyS0", "quiet", "panic=-1", "net.ifnames=0"),
        )
        with Machine(spec, runtime=work, log=log) as machine:
            return read(follow(machine, seconds, tell), nonce)


def follow(machine: Machine, seconds: float, tell: Tell, *, keep: Path | None = None) -> Sequence[str]:
    """The lines the guest sent until it ended; HarnessError when its agent failed or it is late.

    In ``keep`` they are found also when it failed.
    """
    deadline = Deadline.after(seconds, now=time.monotonic(), reason="the agent in the guest")
    data = bytearray()
    for event in machine.events(deadline):
        if isinstance(event, VerdictBytes):
            data += event.data
            if keep is not None:
                keep.write_bytes(data)
        elif isinstance(event, ConsoleLine):
            if _WORTH_TELLING.search(event.text):
                tell(f"{event.at:.0f} s: {event.text.strip()}")
            if "guest: the agent failed" in event.text or "Kernel panic" in event.text:
                raise HarnessError(f"the guest failed: {' | '.join(machine.lines.last_lines())}")
        elif isinstance(event, Ended):
            return data.decode().splitlines()
    raise HarnessError(f"the guest did not finish in {seconds:.0f} s: {' | '.join(machine.lines.last_lines())}")


def read(lines: Sequence[str], nonce: str) -> dict[str, dict[str, Any]]:
    """The checks by name; HarnessError unless the guest went through all of them and it is this run's."""
    checks: dict[str, dict[str, Any]] = {}
    ended = ""
    for line in lines:
        said = json.loads(line)
        if "end" in said:
            ended = said["end"]
        else:
            checks[said.pop("check")] = said
    if ended != nonce:
        raise HarnessError("the guest stopped before the end")
    return checks
