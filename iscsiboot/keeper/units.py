# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is done to a session's units: a unit that does not answer holds a write for minutes.

Each function is an errand for a hand (:mod:`iscsiboot.keeper.errand`), so it takes plain values; ``root`` is sysfs's.
"""

from __future__ import annotations

from pathlib import Path

from iscsiboot.errors import printable
from iscsiboot.session.workers import Answer
from iscsiboot.sysfs.attributes import write_attribute
from iscsiboot.sysfs.disks import UnitView, list_units
from iscsiboot.sysfs.units import rescan_unit, scan_whole_host, set_queue_depth, set_transmit_priority

OFFLINE = frozenset({"offline", "transport-offline"})
"""States the SCSI error handler, or a recovery timeout that passed, leaves a unit in."""


def bring_back(root: str, sid: int) -> Answer:
    """After a recovery: units that were given up work again, and all are asked for size and abilities.

    The kernel itself wakes those it blocked, not those its error handler gave up.
    """
    sysfs, lines = Path(root), []
    for unit in list_units(sysfs, sid):
        if unit.state in OFFLINE:
            try:
                write_attribute(sysfs / "bus" / "scsi" / "devices" / unit.address / "state", "running")
                lines.append(f"{unit.address} was {unit.state} and is running again")
            except OSError as error:
                lines.append(f"{unit.address} stays {unit.state}: {error.strerror}")
        _rescan(sysfs, unit, lines)
    return {"lines": lines}


def rescan(root: str, sid: int, host: int) -> Answer:
    """Each known unit is asked again, then the target for its units."""
    sysfs = Path(root)
    lines: list[str] = []
    for unit in list_units(sysfs, sid):
        _rescan(sysfs, unit, lines)
    _scan(sysfs, host, lines)
    return {"lines": lines}


def first_scan(root: str, sid: int, host: int, scan: bool, queue_depth: int, nice: int) -> Answer:
    """After a login: the priority of the sending threads, and with ``scan`` the units and their queues.

    What fails here fails nothing: the session works, and it can be scanned again.
    """
    sysfs = Path(root)
    lines: list[str] = []
    if nice and not set_transmit_priority(sysfs, host, nice):
        lines.append("this kernel takes no priority for its sending threads")
    if scan:
        _scan(sysfs, host, lines)
        for unit in list_units(sysfs, sid):
            try:
                set_queue_depth(sysfs, unit, queue_depth)
            except OSError as error:
                lines.append(f"{unit.address}: no queue depth of {queue_depth}: {error.strerror}")
    return {"lines": lines}


def _rescan(sysfs: Path, unit: UnitView, lines: list[str]) -> None:
    try:
        rescan_unit(sysfs, unit)
    except OSError as error:
        lines.append(f"{unit.address} cannot be rescanned: {printable(error.strerror or str(error))}")


def _scan(sysfs: Path, host: int, lines: list[str]) -> None:
    try:
        scan_whole_host(sysfs, host)
    except OSError as error:
        lines.append(f"scanning host{host} failed: {printable(error.strerror or str(error))}")
