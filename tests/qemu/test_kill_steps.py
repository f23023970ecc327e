# SPDX-License-Identifier: LGPL-2.1-or-later
"""Logins killed at every step, in a real kernel; and the same image stepping aside on a machine without a table.

The machine boots our ordinary image from a local disk and has no boot table: that iscsistart never ran there is part of
the verdict. Then kill_steps.py (see there for what it judges) runs against a target on the host.
"""

from __future__ import annotations

import json
import secrets
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from iscsiboot.model.deadline import Deadline
from tests.doubles.tgt import TargetSpec, Tgtd
from tests.qemu.harness.disk import Variant
from tests.qemu.harness.firmware import HOST_ADDRESS
from tests.qemu.harness.kvm import accelerator
from tests.qemu.harness.machine import ConsoleLine, Machine, MachineSpec, VerdictBytes
from tests.qemu.harness.run import Laboratory, common_arguments

pytestmark = [pytest.mark.boot, pytest.mark.root]

TARGET = "iqn.2025-01.org.example:killed"
SECONDS = 900.0
"""About 150 s on a quiet machine; a boot and twice the work on a busy one."""


def test_a_login_killed_anywhere_leaves_no_half_session(laboratory: Laboratory) -> None:
    files = laboratory.builder.files(Variant.SYSTEMD)
    nonce = secrets.token_hex(16)
    with ExitStack() as stack:
        runtime = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="iscsiboot-", dir="/tmp")))
        unit = runtime / "unit.img"
        with unit.open("wb") as image:
            image.truncate(64 << 20)
        target = stack.enter_context(Tgtd(TargetSpec(name=TARGET, disk=unit), runtime=runtime))
        spec = MachineSpec(
            accel=accelerator(laboratory.cache.root, runtime),
            kernel=files.kernel,
            initrd=files.initramfs,
            disk=files.disk,
            append=(
                *common_arguments(nonce),
                f"iscsiboot.kill-steps={HOST_ADDRESS}:{target.port}",
                f"iscsiboot.target={TARGET}",
            ),
        )
        log = laboratory.log_path("kill-steps")
        machine = stack.enter_context(Machine(spec, runtime=runtime, log=log))
        said, lines = follow(machine)
    assert said.endswith(b"\n"), f"no verdict; the console said {lines[-15:]}, see {log}"
    verdict = json.loads(said)
    assert verdict["nonce"] == nonce
    assert verdict["iscsistart_ran"] == "no", "without a table the image leaves the boot alone"
    assert verdict["kill_steps"] is not None, f"kill_steps.py gave none, see {log}"
    assert verdict["kill_steps"]["failures"] == []
    assert verdict["kill_steps"]["ok"] is True
    assert verdict["kill_steps"]["steps"] >= 30


def follow(machine: Machine) -> tuple[bytes, list[str]]:
    """What came over the verdict port until the machine ended or its line was complete, and the console's lines."""
    said, lines = b"", []
    for event in machine.events(Deadline.after(SECONDS, now=time.monotonic(), reason="the verdict")):
        if isinstance(event, VerdictBytes):
            said += event.data
            if said.endswith(b"\n"):
                break
        elif isinstance(event, ConsoleLine):
            lines.append(event.text)
    return said, lines
