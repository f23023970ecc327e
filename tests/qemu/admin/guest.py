# SPDX-License-Identifier: LGPL-2.1-or-later
"""Build and run the guest that plays the script; hand back what it wrote as :class:`Result` values by round."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import BinaryIO

from iscsiboot.model.credentials import Chap, Credentials, Secret
from iscsiboot.model.deadline import Deadline
from tests.qemu.harness.archive import Recipe, base, initrd, process_1
from tests.qemu.harness.cache import Cache
from tests.qemu.harness.errors import CHECKOUT, HarnessError
from tests.qemu.harness.firmware import FirmwareSpec, table_bytes
from tests.qemu.harness.kvm import accelerator
from tests.qemu.harness.machine import DEFAULT_MAC, ONE, ConsoleLine, Ended, Machine, MachineSpec, VerdictBytes
from tests.qemu.harness.process import Tell

HERE = Path(__file__).resolve().parent
SCRIPT = HERE / "script.txt"
INITIATOR = "iqn.1993-08.org.debian:01:admin"
MEMORY_MIB = 2048
DATABASE_MIB = 16
HASH_SEED = "00000000-0000-4000-8000-000010b7bc31"
"""Of the file system the database lies on: the order of its directories depends on it."""
RECIPE = Recipe(
    name="admin",
    packages=(
        *("kmod", "iproute2", "linux-image-amd64", "python3", "python3-pyroute2", "python3-pyudev"),
        *("python3-pyelftools", "open-iscsi", "tgt", "udev"),
    ),
    modules=(
        *("virtio_pci", "virtio_net", "virtio_console", "virtio_rng", "iscsi_tcp", "sd_mod", "crc32c_generic"),
        *("iscsi_ibft", "dummy", "loop", "ext4", "veth"),
    ),
)
FIRMWARE = FirmwareSpec(
    initiator="iqn.2026-01.org.example:firmware",
    target="iqn.2026-01.org.example:mutual",
    address=IPv4Address("10.1.0.1"),
    port=3260,
    lun=1,
    mac=DEFAULT_MAC,
    credentials=Credentials(
        outgoing=Chap(name="machine", secret=Secret(b"initiator-secret")),
        incoming=Chap(name="storage", secret=Secret(b"target-secret-1")),
    ),
)
"""What the machine's iBFT says: a target of targets.sh."""
OURS = "ours"
PEER = "peer"
CONTROL = "control"
_WORTH_TELLING = re.compile(r"^guest:|Traceback|Error")


@dataclass(frozen=True, slots=True)
class Result:
    """What a step did in one round."""

    words: str = ""
    stdout: str = ""
    stderr: str = ""
    status: int | str = 0
    seconds: float = 0.0
    tree: dict[str, list[str] | None] = field(default_factory=dict)
    """What it changed in the database: path -> [kind, mode, content], None for removed."""
    sessions: dict[str, list[object]] = field(default_factory=dict)
    """What there is after it, see :data:`.identity.Sessions`."""
    failed: str = ""
    """Why the section could not go on, empty when it could."""


Transcript = dict[int, Result]
"""By line number of the script."""


def installed(directory: Path, prefix: str = "/ours") -> None:
    """Our programs as ``make install`` puts them there, and the machine's name."""
    argv = ["make", "-s", "-C", str(CHECKOUT), "install", f"DESTDIR={directory}", f"PREFIX={prefix}"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HarnessError(f"make install: {' | '.join(done.stderr.splitlines()[-4:])}")
    (directory / "etc/iscsi").mkdir(parents=True, exist_ok=True)
    (directory / "etc/iscsi/initiatorname.iscsi").write_text(f"InitiatorName={INITIATOR}\n")


def compiled(directory: Path) -> None:
    """Byte code of every module, which an emulated processor would take seconds for, at each start."""
    argv = [sys.executable, "-I", "-m", "compileall", "-q", "-s", str(directory), str(directory)]
    subprocess.run(argv, check=True)


def database_image(image: Path) -> None:
    """The file system the database lies on, empty."""
    image.write_bytes(b"")
    os.truncate(image, DATABASE_MIB << 20)
    subprocess.run(["mke2fs", "-F", "-q", "-t", "ext4", "-E", f"hash_seed={HASH_SEED}", str(image)], check=True)


def stage(directory: Path, script: str, nonce: str) -> None:
    """The files of the guest that are ours: our programs below /ours, the agent and its script below /harness."""
    installed(directory)
    package = directory / "harness/tests/qemu/admin"
    package.mkdir(parents=True)
    for name in ("__init__.py", "agent.py", "steps.py"):
        shutil.copyfile(HERE / name, package / name)
    for name in ("targets.sh",):
        shutil.copyfile(HERE / name, directory / "harness" / name)
    (directory / "harness/script.txt").write_text(script)
    (directory / "harness/nonce").write_text(nonce)
    database_image(directory / "harness/database.img")
    compiled(directory)
    process_1(directory, HERE / "init.sh")


def play(
    cache: Cache,
    script: str,
    words: Sequence[str],
    *,
    seconds: float,
    log: Path,
    tell: Tell,
    processors: int = ONE,
) -> dict[str, Transcript]:
    """Boot the guest, let it play ``script``; the transcripts by round. HarnessError when it did not finish in time.

    ``words`` are the agent's arguments.
    """
    found = base(RECIPE, cache, tell)
    nonce = secrets.token_hex(16)
    with cache.scratch() as work:
        (work / "stage").mkdir()
        stage(work / "stage", script, nonce)
        initrd([found.archive], work / "stage", work / "initrd")
        (work / "ibft.bin").write_bytes(table_bytes(FIRMWARE))
        spec = MachineSpec(
            accel=accelerator(cache.root, work),
            processors=processors,
            memory_mib=MEMORY_MIB,
            kernel=found.kernel,
            initrd=work / "initrd",
            acpi_table=work / "ibft.bin",
            append=("console=ttyS0", "quiet", "panic=-1", "net.ifnames=0", *(f"admin.{word}" for word in words)),
        )
        raw = log.with_suffix(".json")
        with raw.open("wb") as transcript, Machine(spec, runtime=work, log=log) as machine:
            _follow(machine, transcript, seconds, tell)
        return read(raw.read_bytes(), nonce)


def play_at_once(
    cache: Cache,
    script: str,
    rounds: Sequence[str],
    sections: Sequence[str],
    *,
    seconds: float,
    log: Path,
    tell: Tell,
) -> dict[str, Transcript]:
    """:func:`play` of these sections in two guests side by side: each section has everything anew, in any guest.

    An emulated machine keeps little more than one processor busy, and this is the longest of the tests.
    """
    base(RECIPE, cache, tell)  # made once, before two ask for it

    def half(first: int) -> dict[str, Transcript]:
        words = [*rounds, "--", *(section.replace(" ", "_") for section in sections[first::2])]
        place = log.with_name(f"{log.stem}-{first + 1}{log.suffix}")
        return play(cache, script, words, seconds=seconds, log=place, tell=tell)

    with ThreadPoolExecutor(max_workers=2) as pool:
        one, other = pool.map(half, range(2))
    return {name: {**one[name], **other[name]} for name in rounds}


def _follow(machine: Machine, transcript: BinaryIO, seconds: float, tell: Tell) -> None:
    deadline = Deadline.after(seconds, now=time.monotonic(), reason="the script in the guest")
    for event in machine.events(deadline):
        if isinstance(event, VerdictBytes):
            transcript.write(event.data)
        elif isinstance(event, ConsoleLine):
            if _WORTH_TELLING.search(event.text):
                tell(f"{event.at:.0f} s: {event.text.strip()}")
            if "guest: the agent failed" in event.text or "Kernel panic" in event.text:
                raise HarnessError(f"the guest failed: {' | '.join(machine.lines.last_lines())}")
        elif isinstance(event, Ended):
            return
    raise HarnessError(f"the guest did not finish in {seconds:.0f} s: {' | '.join(machine.lines.last_lines())}")


def read(data: bytes, nonce: str) -> dict[str, Transcript]:
    """The transcripts in what the guest wrote; HarnessError unless it is complete and this run's."""
    rounds: dict[str, Transcript] = {}
    ended = ""
    for line in data.decode().splitlines():
        said = json.loads(line)
        if "end" in said:
            ended = said["end"]
            continue
        name, number = said.pop("round"), said.pop("line")
        rounds.setdefault(name, {})[number] = Result(**said)
    if ended != nonce:
        raise HarnessError("the guest stopped in the middle of the script")
    return rounds
