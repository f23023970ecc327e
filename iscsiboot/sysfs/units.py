# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes to what a session already has: look at each logical unit anew, at the whole host, set queue depths.

Kept apart from :mod:`iscsiboot.sysfs.disks`, which is part of every boot image.
"""

from __future__ import annotations

from pathlib import Path

from iscsiboot.sysfs.attributes import read_text, write_attribute
from iscsiboot.sysfs.disks import WHOLE_HOST, UnitView


def rescan_unit(sysfs: Path, unit: UnitView) -> None:
    """Ask the unit for its size and abilities again; OSError when the kernel says no."""
    write_attribute(sysfs / "bus" / "scsi" / "devices" / unit.address / "rescan", "1")


def scan_whole_host(sysfs: Path, host: int) -> None:
    """Ask the target for its units and add the new ones; OSError when the host is gone."""
    write_attribute(sysfs / "class" / "scsi_host" / f"host{host}" / "scan", WHOLE_HOST)


def set_queue_depth(sysfs: Path, unit: UnitView, depth: int) -> None:
    """How many commands the unit is given at a time; OSError when its driver has no say in that."""
    write_attribute(sysfs / "bus" / "scsi" / "devices" / unit.address / "queue_depth", str(depth))


def set_transmit_priority(sysfs: Path, host: int, nice: int) -> bool:
    """Give the threads that send for a host a nice value (-20 to 19); False when this kernel lets nobody do that.

    libiscsi makes one work queue per host, ``iscsi_q_<host>``, unbound and shown in sysfs: its workers come out of a
    pool, so it is the queue that has the priority and not a thread.
    """
    path = sysfs / "devices" / "virtual" / "workqueue" / f"iscsi_q_{host}" / "nice"
    if read_text(path) is None:
        return False
    try:
        write_attribute(path, str(nice))
    except OSError:
        return False
    return True
