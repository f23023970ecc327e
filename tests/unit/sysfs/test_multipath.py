# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which disks are paths of a multipath device that has others."""

from __future__ import annotations

from pathlib import Path

import pytest

from iscsiboot.sysfs.multipath import multipath_disks


def add(sysfs: Path, name: str, uuid: str | None, *slaves: str) -> None:
    base = sysfs / "class/block" / name
    (base / "slaves").mkdir(parents=True)
    for slave in slaves:
        (base / "slaves" / slave).mkdir()
    if uuid is not None:
        (base / "dm").mkdir()
        (base / "dm/uuid").write_text(f"{uuid}\n")


def test_the_paths_of_every_map(tmp_path: Path) -> None:
    add(tmp_path, "sda", None)
    add(tmp_path, "dm-0", "mpath-36001405", "sda", "sdb")
    add(tmp_path, "dm-1", "LVM-abcdef", "dm-0")
    add(tmp_path, "dm-2", "mpath-36001406", "sdc", "sdd", "sde")
    add(tmp_path, "dm-3", "LVM-two", "sdx", "sdy")
    add(tmp_path, "dm-4", "part1-mpath-36001405", "dm-0")
    assert multipath_disks(str(tmp_path)) == {"sda", "sdb", "sdc", "sdd", "sde"}


def test_a_map_with_one_path_has_no_other_to_go_on_with(tmp_path: Path) -> None:
    add(tmp_path, "dm-0", "mpath-36001405", "sda")
    assert multipath_disks(str(tmp_path)) == frozenset()


def test_only_device_mapper_makes_them(tmp_path: Path) -> None:
    add(tmp_path, "md0", "mpath-odd", "sda", "sdb")
    assert multipath_disks(str(tmp_path)) == frozenset()


@pytest.mark.parametrize("missing", ["dm", "slaves"])
def test_a_map_that_goes_meanwhile_is_none(tmp_path: Path, missing: str) -> None:
    add(tmp_path, "dm-0", "mpath-36001405", "sda", "sdb")
    (tmp_path / "class/block/dm-0" / missing).rename(tmp_path / "gone")
    assert multipath_disks(str(tmp_path)) == frozenset()


def test_a_system_without_block_devices(tmp_path: Path) -> None:
    assert multipath_disks(str(tmp_path)) == frozenset()
