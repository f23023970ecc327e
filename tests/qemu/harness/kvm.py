# SPDX-License-Identifier: LGPL-2.1-or-later
"""KVM only where it is proven: a probe guest has to finish its work before a deadline.

``/dev/kvm`` may exist and be writable and still hang a guest in its first instructions (nested virtualisation without
support for it), so its presence proves nothing. The probe is a boot sector that a whole firmware loads; it writes one
byte to QEMU's debug-exit port. The answer holds until the host restarts and is kept under that boot's id.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.qemu.harness.process import tied

TCG = ("-accel", "tcg,thread=multi", "-cpu", "max")
KVM = ("-accel", "kvm", "-cpu", "host")
PROBE_SECONDS = 10.0
_EXIT_VALUE = 0x2A
_EXIT_STATUS = (_EXIT_VALUE << 1) | 1
"""isa-debug-exit ends QEMU with (value << 1) | 1."""


def boot_sector() -> bytes:
    """``mov al, 0x2a; out 0xf4, al; hlt; jmp $-1`` and the signature firmware looks for, 512 bytes."""
    code = bytes((0xB0, _EXIT_VALUE, 0xE6, 0xF4, 0xF4, 0xEB, 0xFD))
    return code.ljust(510, b"\0") + b"\x55\xaa"


def probe_command(sector: Path, accel: tuple[str, ...] = KVM) -> list[str]:
    """QEMU's command line for the probe guest."""
    drive = f"file={str(sector).replace(',', ',,')},format=raw,if=floppy,snapshot=on"
    exit_port = "isa-debug-exit,iobase=0xf4,iosize=1"
    quiet = ["-nodefaults", "-display", "none", "-no-reboot"]
    return ["qemu-system-x86_64", *accel, "-m", "64", *quiet, "-device", exit_port, "-drive", drive, "-boot", "a"]


def probe(runtime: Path, *, accel: tuple[str, ...] = KVM, seconds: float = PROBE_SECONDS) -> bool:
    """Whether the probe guest finishes in time."""
    sector = runtime / "probe.img"
    sector.write_bytes(boot_sector())
    try:
        ended = subprocess.run(
            tied(probe_command(sector, accel)), stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return False
    return ended.returncode == _EXIT_STATUS


def accelerator(
    cache: Path,
    runtime: Path,
    *,
    device: Path = Path("/dev/kvm"),
    boot_id: Path = Path("/proc/sys/kernel/random/boot_id"),
) -> tuple[str, ...]:
    """The processor options to run with: :data:`KVM` if the probe proves it, else :data:`TCG`."""
    if not os.access(device, os.R_OK | os.W_OK):
        return TCG
    note = cache / f"kvm-{boot_id.read_text().strip()}"
    if not note.exists():
        answer = "yes" if probe(runtime) else "no"
        for old in cache.glob("kvm-*"):
            old.unlink(missing_ok=True)
        note.write_text(answer)
    return KVM if note.read_text() == "yes" else TCG
