# SPDX-License-Identifier: LGPL-2.1-or-later
"""From the PCI device of an ``ethernetN`` directory to its network device.

iscsi_ibft links ``device`` to the PCI function of the table. The network device is a child of it, or of a bus in
between (virtio: ``0000:00:03.0/virtio0/net/eth0``). One function may carry several (some dual-port adapters do).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from iscsiboot.firmware.files import ATTRIBUTE_MAX, list_directory, read_file

_PCI = re.compile(r"0000:([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])")
_SUBDEVICE = re.compile(r"virtio[0-9]+")


def pci_number(device: Path) -> int:
    """Bus, device and function as the table packs them, 0 when the link is missing or leads to something else."""
    try:
        match = _PCI.fullmatch(os.path.basename(os.readlink(device)))  # noqa: PTH115, PTH119
    except OSError:
        return 0
    if match is None or int(match[2], 16) > 0x1F:
        return 0
    return int(match[1], 16) << 8 | int(match[2], 16) << 3 | int(match[3])


def find_netdev(device: Path, mac: bytes | None) -> Path | None:
    """The sysfs directory of the network device, None when there is none yet or it is not clear which.

    With several, the one with the table's MAC; a single one is taken whatever its MAC is now (a bond changes it).
    """
    try:
        parents = [device] + [device / name for name in list_directory(device) if _SUBDEVICE.fullmatch(name)]
        found = [parent / "net" / name for parent in parents for name in list_directory(parent / "net")]
        if len(found) > 1:
            found = [netdev for netdev in found if mac is not None and _mac_of(netdev) == mac.hex(":")]
    except OSError:
        return None
    return found[0] if len(found) == 1 else None


def _mac_of(netdev: Path) -> str:
    return (read_file(netdev / "address", ATTRIBUTE_MAX) or b"").decode("ascii", "replace").strip()
