# SPDX-License-Identifier: LGPL-2.1-or-later
"""The network interface an iSCSI interface is bound to by its hardware address."""

from __future__ import annotations

import os


def netdev_of(mac: str, sysfs: str) -> str | None:
    """The network interface with this hardware address, by name; None when there is none.

    A VLAN, bridge or bond has the address of what it lies on; the one that is a device itself is meant.
    """
    wanted = mac.lower()
    directory = f"{sysfs}/class/net"
    try:
        names = sorted(os.listdir(directory))  # noqa: PTH208  # names alone are wanted
    except OSError:
        return None
    found = [name for name in names if _address(f"{directory}/{name}/address") == wanted]
    devices = [name for name in found if os.access(f"{directory}/{name}/device", os.F_OK)]
    return next(iter(devices or found), None)


def _address(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:  # noqa: PTH123
            return file.read().strip().lower()
    except OSError:
        return ""
