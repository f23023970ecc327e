# SPDX-License-Identifier: LGPL-2.1-or-later
"""Databases and machines of a given size, the same for every contestant."""

from __future__ import annotations

from pathlib import Path

from iscsiboot.database.record import node_defaults
from tests.doubles.sysfs_tree import SysfsTree

PORTALS_PER_TARGET = 4
UNITS_PER_SESSION = 2


def target(number: int) -> str:
    """The name of target ``number``."""
    return f"iqn.2026-11.org.example:array.volume-{number:05}"


def portal(number: int) -> tuple[str, int, int]:
    """Address, port and tag of portal ``number`` of a target."""
    return f"10.64.{number // 250}.{number % 250 + 1}", 3260, number + 1


def records(root: Path, count: int) -> Path:
    """An /etc/iscsi with ``count`` node records, four portals a target, and a configuration."""
    (root / "nodes").mkdir(parents=True)
    (root / "ifaces").mkdir()
    (root / "iscsid.conf").write_text("node.startup = manual\n")
    (root / "initiatorname.iscsi").write_text("InitiatorName=iqn.2026-11.org.example:benchmark\n")
    base = node_defaults()
    for number in range(count):
        name = target(number // PORTALS_PER_TARGET)
        address, port, tag = portal(number % PORTALS_PER_TARGET)
        values = {
            "node.name": name,
            "node.tpgt": str(tag),
            "node.conn[0].address": address,
            "node.conn[0].port": str(port),
        }
        place = root / "nodes" / name / f"{address},{port},{tag}"
        place.mkdir(parents=True)
        (place / "default").write_bytes(base.changed(values).file_text())
    return root


def machine(root: Path, count: int) -> Path:
    """A /sys with ``count`` sessions of two disks each."""
    made = SysfsTree(root)
    for sid in range(1, count + 1):
        address, port, tag = portal((sid - 1) % PORTALS_PER_TARGET)
        place = {"address": address, "persistent_address": address, "port": str(port), "persistent_port": str(port)}
        name = target((sid - 1) // PORTALS_PER_TARGET)
        made.add_session(sid, connection=place, targetname=name, tpgt=str(tag))
        for lun in range(UNITS_PER_SESSION):
            made.add_unit(sid, lun, block=f"sd{sid}x{lun}")
    return made.root
