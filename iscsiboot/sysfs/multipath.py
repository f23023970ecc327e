# SPDX-License-Identifier: LGPL-2.1-or-later
"""Disks that are paths of a multipath device, as device mapper shows them."""

from __future__ import annotations

from iscsiboot.sysfs.attributes import names, read_text

_MULTIPATH = "mpath-"
"""Begins the device mapper UUID of every map multipathd makes."""


def multipath_disks(sysfs: str) -> frozenset[str]:
    """The disks (``sda``) below a multipath device that has another path besides.

    A map with a single path counts for nothing: who fails fast there has no path left to go on with. multipathd makes
    such maps where it is told to take every disk.
    """
    found: set[str] = set()
    for name in names(f"{sysfs}/class/block"):
        base = f"{sysfs}/class/block/{name}"
        if name.startswith("dm-") and (read_text(f"{base}/dm/uuid") or "").startswith(_MULTIPATH):
            paths = names(f"{base}/slaves")
            if len(paths) > 1:
                found.update(paths)
    return frozenset(found)
