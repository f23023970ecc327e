# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guest where all three contestants run: a Debian kernel, since open-iscsi wants kernel modules the host lacks.

The guest is one initramfs and no disk: Debian's packages (kept in the cache under a key of their names), over them this
checkout and the guest's process 1. Whatever open-iscsi writes to its database it writes to memory there, which is the
best case for it. The target is the host's, seen as 10.0.2.2 through QEMU's user network.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.initiator.contest import Case, Run
from iscsiboot.model.deadline import Deadline
from tests.qemu.harness.archive import process_1
from tests.qemu.harness.cache import Cache, digest
from tests.qemu.harness.disk import PRIVATE, SUITE, apt_proxy, apt_sources, mmdebstrap_command, one
from tests.qemu.harness.errors import CHECKOUT, HarnessError
from tests.qemu.harness.kvm import accelerator
from tests.qemu.harness.machine import TWO, ConsoleLine, Ended, Machine, MachineSpec, VerdictBytes
from tests.qemu.harness.process import Tell, run_long

HOST_IN_GUEST = "10.0.2.2"
"""The host's loopback, as QEMU's user network shows it."""
PACKAGES = (
    *("kmod", "iproute2", "linux-image-amd64", "python3", "time"),
    *("open-iscsi", "libiscsi-bin"),
)
MODULES = ("virtio_pci", "virtio_net", "virtio_console", "virtio_rng", "iscsi_tcp")
MEMORY_MIB = 2048
INITIATOR = "iqn.1993-08.org.debian:01:benchmark"
_HERE = Path(__file__).resolve().parent

_ARCHIVE = """
set -eu
tree=$1 output=$2 name=$3; shift 3
release=$(basename "$tree"/boot/vmlinuz-* | sed s/vmlinuz-//)
cp "$tree/boot/vmlinuz-$release" "$output/"
printf 'InitiatorName=%s\\n' "$name" >"$tree/etc/iscsi/initiatorname.iscsi"
for module in "$@"; do chroot "$tree" modprobe -S "$release" --show-depends "$module"; done >"$output/modules"
cd "$tree"
{
    find . -xdev \\( -path ./boot -o -path ./usr/lib/modules -o -path ./var/cache -o -path ./var/lib/apt \\
        -o -name 'perl*' -o -name 'hwdb*' -o -path ./usr/lib/x86_64-linux-gnu/gconv \\) -prune -o -print
    printf '%s\\n' ./usr/lib/modules "./usr/lib/modules/$release"
    find "./usr/lib/modules/$release" -maxdepth 1 -name 'modules.*'
    sed -n 's,^insmod .*/lib/modules/,./usr/lib/modules/,p' "$output/modules" | sort -u | while read -r file; do
        until [ "$file" = ./usr/lib/modules ]; do echo "$file"; file=${file%/*}; done
    done
} | sort -u | cpio --quiet -o -H newc >"$output/base.cpio"
"""


def base_archive(cache: Cache, tell: Tell) -> Path:
    """Directory with the guest's kernel (``vmlinuz-*``) and ``base.cpio``, from the cache or made now."""

    def build(work: Path) -> None:
        tree = work / "tree"
        argv = mmdebstrap_command(tree, apt_sources(Path("/etc/apt")), apt_proxy(), packages=PACKAGES)
        run_long([*PRIVATE, *argv], what="Debian tree of peers", log=work / "build.log", seconds=1800, tell=tell)
        pack = ["/bin/sh", "-c", _ARCHIVE, "sh", str(tree), str(work), INITIATOR, *MODULES]
        run_long([*PRIVATE, *pack], what="guest archive", log=work / "build.log", seconds=300, tell=tell)
        shutil.rmtree(tree)

    return cache.entry("initiator-bench", digest(SUITE, *PACKAGES, *MODULES, INITIATOR, _ARCHIVE), build)


def overlay(work: Path) -> Path:
    """A cpio archive of what this checkout adds: package and benchmark, compiled as by ``make install``; process 1."""
    stage = work / "overlay"
    for package in ("iscsiboot", "benchmarks/initiator"):
        shutil.copytree(CHECKOUT / package, stage / "bench" / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(CHECKOUT / "benchmarks/__init__.py", stage / "bench/benchmarks/__init__.py")
    subprocess.run([sys.executable, "-I", "-m", "compileall", "-q", "-s", str(stage), str(stage)], check=True)
    process_1(stage, _HERE / "guest-init.sh")
    archive = work / "overlay.cpio"
    pack = 'cd "$1" && find . | cpio --quiet -o -H newc -R 0:0 >"$2"'
    subprocess.run(["/bin/sh", "-c", pack, "sh", str(stage), str(archive)], check=True)
    return archive


def kernel_words(cases: Sequence[Case], rounds: int, *, records: bool = False) -> tuple[str, ...]:
    """The kernel's command line: what the contest in the guest is started with."""
    contest = (
        "--records" if records else "--open-iscsi",
        f"--host={HOST_IN_GUEST}",
        f"--rounds={rounds}",
        *map(str, cases),
    )
    return ("console=ttyS0", "quiet", "panic=-1", "net.ifnames=0", *(f"bench.{word}" for word in contest))


def read_runs(data: bytes) -> list[Run]:
    """The runs in what the guest wrote: one JSON object a line; HarnessError for anything else."""
    try:
        return [Run(**json.loads(line)) for line in data.decode().splitlines()]
    except (ValueError, TypeError) as error:
        raise HarnessError(f"the guest's result cannot be read: {error}") from error


def guest_contest(
    cache: Cache, cases: Sequence[Case], *, rounds: int, seconds: float, tell: Tell, records: bool = False
) -> list[Run]:
    """Boot the guest, let it run the contest, hand back its runs; HarnessError when it did not finish in time."""
    base = base_archive(cache, tell)
    with cache.scratch() as work:
        initrd = work / "initrd"
        with initrd.open("wb") as joined:
            for part in (base / "base.cpio", overlay(work)):
                with part.open("rb") as archive:
                    shutil.copyfileobj(archive, joined)
        spec = MachineSpec(
            accel=accelerator(cache.root, work),
            processors=TWO,
            memory_mib=MEMORY_MIB,
            kernel=one(base, "vmlinuz-*"),
            initrd=initrd,
            append=kernel_words(cases, rounds, records=records),
        )
        with Machine(spec, runtime=work, log=work / "console.log") as machine:
            return _follow(machine, seconds, tell)


def _follow(machine: Machine, seconds: float, tell: Tell) -> list[Run]:
    deadline = Deadline.after(seconds, now=time.monotonic(), reason="the contest in the guest")
    data = bytearray()
    for event in machine.events(deadline):
        if isinstance(event, VerdictBytes):
            data += event.data
        elif isinstance(event, ConsoleLine):
            if _WORTH_TELLING.search(event.text):
                tell(f"guest, {event.at:.0f} s: {event.text.strip()}")
            if "guest: the agent failed" in event.text or "Kernel panic" in event.text:
                raise HarnessError(f"the guest failed: {' | '.join(machine.lines.last_lines())}")
        elif isinstance(event, Ended):
            return read_runs(bytes(data))
    raise HarnessError(f"the guest did not finish in {seconds:.0f} s: {' | '.join(machine.lines.last_lines())}")


_WORTH_TELLING = re.compile(r"^(guest:|tgt |generated )|Error|Traceback")
