# SPDX-License-Identifier: LGPL-2.1-or-later
"""The root disk of the daemon's trials: what is put into an ext4 image, and what is read from one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.qemu.daemon.root_disk import ENABLED, LAST, NOBODY, RECORD, examined, with_units_enabled
from tests.qemu.harness.errors import HarnessError
from tests.qemu.harness.firmware import NOBODY_ADDRESS

pytestmark = pytest.mark.skipif(
    not all(shutil.which(name, path="/usr/sbin:/sbin") for name in ("mke2fs", "debugfs")), reason="needs e2fsprogs"
)


def image(place: Path, *folders: str) -> Path:
    """A small ext4 image with these folders, and a file as the agent writes it last."""
    tree = place / "tree"
    for folder in ("root", *folders):
        (tree / folder).mkdir(parents=True)
    (tree / LAST[1:]).write_text("line 0 of this\n")
    disk = place / "disk.img"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", str(tree), str(disk), "8M"], check=True)
    return disk


def shown(disk: Path, command: str) -> str:
    """What debugfs shows."""
    return subprocess.run(["debugfs", "-R", command, str(disk)], capture_output=True, text=True, check=True).stdout


def test_units_are_enabled_and_a_private_record_is_there(tmp_path: Path) -> None:
    disk = image(tmp_path, "etc/iscsi", "etc/systemd/system/sysinit.target.wants")
    with_units_enabled(disk)
    for wants, unit in ENABLED:
        link = shown(disk, f"stat /etc/systemd/system/{wants}/{unit}")
        assert f'Fast link dest: "/usr/lib/systemd/system/{unit}"' in link
    record = f"/etc/iscsi/nodes/{NOBODY}/{NOBODY_ADDRESS},3260,1/default"
    assert shown(disk, f"cat {record}") == RECORD
    assert "Mode:  0600" in shown(disk, f"stat {record}")
    seen = examined(disk)
    assert (seen["state"], seen["check"], seen["last"]) == ("clean", 0, "line 0 of this\n"), seen["said"]


def test_what_could_not_be_put_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="could not be put into the root disk"):
        with_units_enabled(image(tmp_path, "etc"))


def test_a_disk_that_was_not_unmounted_shows(tmp_path: Path) -> None:
    disk = image(tmp_path, "etc")
    subprocess.run(["debugfs", "-w", "-R", "ssv state 0", str(disk)], capture_output=True, check=True)
    assert examined(disk)["state"] == "not clean"
