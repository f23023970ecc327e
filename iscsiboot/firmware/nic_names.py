# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel's names for the NICs of a boot table that ties them to no device, as open-iscsi looks for them.

For what is shown and recorded (``iscsistart -f``, ``iscsiadm -m fw``). The network of a boot finds its NIC by itself:
it waits for one that is not there yet and knows the address burnt in (:mod:`iscsiboot.network`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from iscsiboot.model.boot import BootConfig, BootNic, Source, Sourced
from iscsiboot.sysfs.netdevs import netdevs_of


def with_netdevs(config: BootConfig, sysfs: Path) -> BootConfig:
    """The table with the kernel's name for each NIC: where sysfs ties none to the structure (the table gives no PCI
    address), the one network interface that has its MAC; none where several have it.
    """
    return replace(config, nics=tuple(_named(nic, sysfs) for nic in config.nics))


def _named(nic: BootNic, sysfs: Path) -> BootNic:
    found = netdevs_of(nic.mac.value, str(sysfs)) if nic.mac is not None and nic.netdev is None else []
    if len(found) != 1:
        return nic
    where = str(sysfs / "class/net" / found[0] / "address")
    return replace(nic, netdev=Sourced(found[0], Source(kind="sysfs", where=where)))
