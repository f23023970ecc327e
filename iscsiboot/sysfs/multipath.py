# SPDX-License-Identifier: LGPL-2.1-or-later
"""Disks that are paths of a multipath device, as device mapper shows them."""

from __future__ import annotations

import os

_MULTIPATH = "mpath-"
"""Begins the device mapper UUID of every map multipathd makes."""


def multipath_disks(sysfs: str) -> frozenset[str]:
    """The disks (``sda``) below a multipath device that has another path besides.

    A map with a single path counts for nothing: who fails fast there has no path left to go on with. multipathd makes
    such maps where it is told to take every disk.
    """
    found: set[str] = set()
    for name in _listing(f"{sysfs}/class/block"):
        base = f"{sysfs}/class/block/{name}"
        if name.startswith("dm-") and _text(f"{base}/dm/uuid").startswith(_MULTIPATH):
            paths = _listing(f"{base}/slaves")
            if len(paths) > 1:
                found.update(paths)
    return frozenset(found)


def _listing(directory: str) -> list[str]:
    """Empty for what is gone meanwhile."""
    try:
        return os.listdir(directory)  # noqa: PTH208  # names alone are wanted
    except OSError:
        return []


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return file.read()
    except OSError:
        return ""
