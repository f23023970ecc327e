# SPDX-License-Identifier: LGPL-2.1-or-later
"""Network interfaces by their hardware address: iSCSI interfaces are bound by one, boot tables name NICs by it."""

from __future__ import annotations

import os


def netdevs_of(mac: str, sysfs: str) -> list[str]:
    """Every network interface with this hardware address, by name."""
    wanted = mac.lower()
    directory = f"{sysfs}/class/net"
    try:
        names = sorted(os.listdir(directory))  # noqa: PTH208  # names alone are wanted
    except OSError:
        return []
    return [name for name in names if _address(f"{directory}/{name}/address") == wanted]


def netdev_of(mac: str, sysfs: str) -> str | None:
    """The network interface with this hardware address, by name; None when there is none.

    A VLAN, bridge or bond has the address of what it lies on; the one that is a device itself is meant.
    """
    found = netdevs_of(mac, sysfs)
    devices = [name for name in found if os.access(f"{sysfs}/class/net/{name}/device", os.F_OK)]
    return next(iter(devices or found), None)


def _address(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:  # noqa: PTH123
            return file.read().strip().lower()
    except OSError:
        return ""
