# SPDX-License-Identifier: LGPL-2.1-or-later
"""Builds the kernel's file trees in a temporary directory, from captured listings or by hand."""

from __future__ import annotations

import json
from pathlib import Path

from iscsiboot.firmware.report import FirmwareRoots

VECTORS = Path(__file__).parents[2] / "vectors" / "ibft"
PCI = "devices/pci0000:00/0000:00:08.0"

TARGET = {
    "index": "0\n",
    "flags": "3\n",
    "ip-addr": "10.0.2.2\n",
    "port": "3260\n",
    "lun": "01000000\n",
    "chap-type": "0\n",
    "nic-assoc": "0\n",
    "target-name": "iqn.2026-11.org.example:disk\n",
}
NIC = {
    "index": "0\n",
    "flags": "3\n",
    "ip-addr": "10.0.2.15\n",
    "prefix-len": "24\n",
    "subnet-mask": "255.255.255.0",
    "origin": "1\n",
    "vlan": "0\n",
    "mac": "52:54:00:12:34:56\n",
}
INITIATOR = {"index": "0\n", "flags": "3\n", "initiator-name": "iqn.2026-11.org.example:initiator\n"}


class Tree:
    """A sysfs and a proc to fill."""

    def __init__(self, base: Path) -> None:
        self.roots = FirmwareRoots(sysfs=base / "sys", proc=base / "proc")

    def write(self, path: str, content: str | bytes) -> Path:
        """A file of sysfs."""
        return _write(self.roots.sysfs / path, content)

    def property(self, path: str, content: bytes) -> Path:
        """A property of the device tree."""
        return _write(self.roots.proc / "device-tree" / path, content)

    def acpi(self, table: bytes, name: str = "iBFT") -> Path:
        """The raw table."""
        return self.write(f"firmware/acpi/tables/{name}", table)

    def view(self, directory: str, values: dict[str, str], view: str = "ibft") -> None:
        """One structure of the kernel's view."""
        for name, text in values.items():
            self.write(f"firmware/{view}/{directory}/{name}", text)

    def plain_view(self, view: str = "ibft") -> None:
        """A whole view: initiator, one NIC, one target."""
        self.view("initiator", INITIATOR, view)
        self.view("ethernet0", NIC, view)
        self.view("target0", TARGET, view)

    def captured(self, name: str) -> None:
        """A view that a real kernel showed of iPXE's table, with the NIC's device behind it."""
        self.listing(f"captured-{name}")
        self.netdev("virtio2/net/eth0", "52:54:00:12:34:56")

    def listing(self, name: str) -> None:
        """A view that a real kernel showed (``NAME.sysfs.json``)."""
        listing = json.loads((VECTORS / f"{name}.sysfs.json").read_text())
        for path, entry in listing.items():
            place = self.roots.sysfs / Path(path).relative_to("/sys")
            if "link" in entry:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(entry["link"])
            else:
                _write(place, entry["text"])

    def netdev(self, below: str, mac: str) -> None:
        """A network device below the PCI function."""
        self.write(f"{PCI}/{below}/address", f"{mac}\n")


def _write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode("latin-1") if isinstance(content, str) else content)
    return path
