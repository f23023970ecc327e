# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether anything of this system uses a session's disks: asked before a session is taken away.

Two looks, since neither sees everything. From mounts and swap down (:mod:`iscsiboot.sysfs.block_stack`): every member
of a btrfs or a ZFS pool, LVM, loop devices, the mounts of process 1. From the disk up (:func:`~.disks.disk_user`):
devices above it that nobody has mounted.

A boot asks it only about a session that broke, so it is imported there and not before.

A disk that a process has open and nobody has mounted (a virtual machine's, a database's) is seen by neither:
:func:`opener_of_disks` looks for that.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from iscsiboot.sysfs.attributes import names, read_text
from iscsiboot.sysfs.block_stack import BlockStack
from iscsiboot.sysfs.disks import disk_user


def user_of_disks(sysfs: Path, proc: Path, blocks: Iterable[str]) -> str | None:
    """What uses one of these disks (``sda``), in words (``dm-0 on sda is mounted on /``); None when nothing does."""
    disks = dict.fromkeys(blocks)
    if not disks:
        return None
    for use in BlockStack(str(sysfs), str(proc)).uses():
        if use.disk in disks:
            return use.words
    return next((user for block in disks if (user := disk_user(sysfs, proc, block))), None)


def opener_of_disks(sysfs: Path, proc: Path, blocks: Iterable[str]) -> str | None:
    """Which process has one of these disks or a partition open, in words (``sda is open in process 123``), or None.

    The kernel keeps no list of it: the descriptors of every process are looked at. Those of processes that end
    meanwhile, or that are not ours to see, are passed over.
    """
    numbers: dict[str, str] = {}
    for block in dict.fromkeys(blocks):
        base = sysfs / "class" / "block" / block
        for path in (base / "dev", *base.glob(f"{block}*/dev")):
            number = read_text(path)
            if number is not None:
                numbers[number] = path.parent.name
    if not numbers:
        return None
    for process in names(proc):
        if process.isdigit():
            folder = proc / process / "fd"
            for descriptor in names(folder):
                name = numbers.get(_block_number(folder / descriptor))
                if name is not None:
                    return f"{name} is open in process {process}"
    return None


def _block_number(path: Path) -> str:
    """``8:0`` of a block device, "" for anything else. The name it was opened by may mean nothing here."""
    try:
        state = path.stat()
    except OSError:
        return ""
    return f"{os.major(state.st_rdev)}:{os.minor(state.st_rdev)}" if stat.S_ISBLK(state.st_mode) else ""
