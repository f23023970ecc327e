# SPDX-License-Identifier: LGPL-2.1-or-later
"""Network interfaces by their hardware address: iSCSI interfaces are bound by one, boot tables name NICs by it."""

from __future__ import annotations

import os

from iscsiboot.sysfs.attributes import names, read_text


def netdevs_of(mac: str, sysfs: str) -> list[str]:
    """Every network interface with this hardware address, by name."""
    wanted = mac.lower()
    directory = f"{sysfs}/class/net"
    return [name for name in names(directory) if (read_text(f"{directory}/{name}/address") or "").lower() == wanted]


def netdev_of(mac: str, sysfs: str) -> str | None:
    """The network interface with this hardware address, by name; None when there is none.

    A VLAN, bridge or bond has the address of what it lies on; the one that is a device itself is meant.
    """
    found = netdevs_of(mac, sysfs)
    devices = [name for name in found if os.access(f"{sysfs}/class/net/{name}/device", os.F_OK)]
    return next(iter(devices or found), None)
