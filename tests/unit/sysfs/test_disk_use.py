# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who uses a session's disks: what is seen from the mounts down, and what only from the disk up."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from iscsiboot.sysfs.disk_use import opener_of_disks, user_of_disks
from tests.unit.sysfs.test_block_stack import Tree


def mounted(tree: Tree) -> None:
    tree.device("sda", "8:0")
    tree.partition("sda", "sda2", "8:2")
    tree.mount("8:2", "/srv")


def volume(tree: Tree) -> None:
    tree.device("sda", "8:0")
    tree.device("dm-0", "254:0", below=("sda",), dm="vg-root")
    tree.mount("254:0", "/", "xfs", "/dev/mapper/vg-root")


def member(tree: Tree) -> None:
    for name, number in (("sda", "8:0"), ("sdb", "8:16")):
        tree.device(name, number)
        (tree.sysfs / "fs/btrfs/12-34/devices" / name).mkdir(parents=True)
    tree.mount("0:31", "/", "btrfs", "/dev/sdb")


def swap(tree: Tree) -> None:
    tree.device("sda", "8:0")
    tree.swap("/dev/sda")


def held(tree: Tree) -> None:
    """A volume group somebody has activated and not mounted."""
    (tree.sysfs / "block/sda/holders/dm-0").mkdir(parents=True)


def another(tree: Tree) -> None:
    tree.device("sda", "8:0")
    tree.device("sdb", "8:16")
    tree.mount("8:16", "/")


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (mounted, "sda2 on sda is mounted on /srv"),
        (volume, "dm-0 on sda is mounted on /"),
        (member, "sda is mounted on /"),
        (swap, "sda is swap"),
        (held, "sda is held by dm-0"),
        (another, None),
    ],
)
def test_who_uses_it(prepare: Callable[[Tree], None], words: str | None, tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    prepare(tree)
    assert user_of_disks(tree.sysfs, tree.proc, ["sdz", "sda"]) == words


def test_no_disk_is_used_by_nobody(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    mounted(tree)
    assert user_of_disks(tree.sysfs, tree.proc, []) is None


def test_nothing_to_read_is_nobody(tmp_path: Path) -> None:
    assert user_of_disks(tmp_path / "a", tmp_path / "b", ["sda"]) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device nodes")
@pytest.mark.parametrize(
    ("number", "words"),
    [
        ((8, 0), "sda is open in process 321"),
        ((8, 2), "sda2 is open in process 321"),
        ((8, 16), None),
    ],
)
def test_who_has_it_open(tmp_path: Path, number: tuple[int, int], words: str | None) -> None:
    """By its number: a process elsewhere may have opened it by another name."""
    tree = Tree(tmp_path)
    mounted(tree)
    os.mknod(tmp_path / "vm-disk", stat.S_IFBLK | 0o600, os.makedev(*number))
    os.mknod(tmp_path / "terminal", stat.S_IFCHR | 0o600, os.makedev(8, 0))
    for process, place in (("7", "terminal"), ("8", "gone"), ("321", "vm-disk"), ("self", "vm-disk")):
        (tree.proc / process / "fd").mkdir(parents=True)
        (tree.proc / process / "fd" / "3").symlink_to(tmp_path / place)
    # A process that has ended by the time it is looked at.
    (tree.proc / "9").mkdir()
    assert opener_of_disks(tree.sysfs, tree.proc, ["sdz", "sda", "sda"]) == words


def test_a_disk_nobody_can_be_asked_about_is_open_nowhere(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    mounted(tree)
    assert opener_of_disks(tree.sysfs, tmp_path / "no-proc", ["sda"]) is None
    assert opener_of_disks(tree.sysfs, tree.proc, []) is None
