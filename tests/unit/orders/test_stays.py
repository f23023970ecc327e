# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which sessions are not logged out: what stands on them, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from iscsiboot.errors import ExitCode
from iscsiboot.orders.stays import SAFE_LOGOUT, Uses, kept, look, refusal
from tests.doubles.sysfs_tree import SysfsTree


class Machine:
    """Three sessions with a disk each."""

    def __init__(self, root: Path) -> None:
        self.root = root
        tree = SysfsTree(root / "sys")
        for sid, disk in ((1, "sda"), (2, "sdb"), (3, "sdc")):
            tree.add_session(sid)
            (tree.add_unit(sid, 1, block=disk) / "block" / disk / "dev").write_text(f"8:{16 * (sid - 1)}\n")
        for process in ("self", "1"):
            (root / "proc" / process).mkdir(parents=True)

    def mounts(self, process: str, *lines: str) -> None:
        text = "".join(f"36 35 {line} rw - ext4 none rw\n" for line in lines)
        (self.root / "proc" / process / "mountinfo").write_text(text)

    def look(self, *sids: int) -> dict[int, Uses]:
        return look(sids, sysfs=f"{self.root}/sys", proc=f"{self.root}/proc", run=f"{self.root}/run")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_what_is_on_each_session(machine: Machine) -> None:
    machine.mounts("self", "8:0 / /", "8:0 / /srv", "8:16 / /srv/data")
    machine.mounts("1", "8:0 / /", "8:16 / /boot")
    assert machine.look(1, 2, 3, 9) == {
        1: {"system": ["sda is mounted on /"], "any": ["sda is mounted on /", "sda is mounted on /srv"]},
        2: {"system": ["sdb is mounted on /boot"], "any": ["sdb is mounted on /srv/data", "sdb is mounted on /boot"]},
        3: {"system": [], "any": []},
        9: {"system": [], "any": []},
    }


def test_without_disks_no_mount_is_looked_at(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most sessions that are ended have none any more, and a machine may have thousands of mounts."""
    monkeypatch.setattr("iscsiboot.orders.stays.BlockStack", None)
    assert machine.look(9) == {9: {"system": [], "any": []}}


SYSTEM: Uses = {"system": ["sda is mounted on /"], "any": ["sda is mounted on /", "sda is mounted on /srv"]}
DATA: Uses = {"system": [], "any": ["sdb is mounted on /srv"]}
NOTHING: Uses = {"system": [], "any": []}


@pytest.mark.parametrize(
    ("uses", "safe_logout", "cause"),
    [
        (SYSTEM, False, "the running system stands on it: sda is mounted on /"),
        (SYSTEM, True, "the running system stands on it: sda is mounted on /"),
        (DATA, False, ""),
        (DATA, True, f"{SAFE_LOGOUT}: sdb is mounted on /srv"),
        (NOTHING, True, ""),
    ],
)
def test_why_one_stays(uses: Uses, safe_logout: bool, cause: str) -> None:
    refused = refusal("session 3", uses, safe_logout=safe_logout)
    assert ("" if refused is None else refused.cause) == cause


def test_the_failure_of_one_that_stays() -> None:
    error = kept("session 3", "nobody knows what is on it")
    assert error.exit_code is ExitCode.BUSY
    assert error.line() == (
        "session: session 3 is kept: nobody knows what is on it; next: move it elsewhere first, or insist with --force"
    )
