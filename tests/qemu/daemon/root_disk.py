# SPDX-License-Identifier: LGPL-2.1-or-later
"""The root disk of the daemon's trials, on the host: what is put into it before the boot, what it is like after it.

debugfs(8) reads and writes an ext4 image without mounting it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from tests.qemu.harness.errors import HarnessError
from tests.qemu.harness.firmware import NOBODY_ADDRESS

ENABLED = (
    ("sysinit.target.wants", "iscsid.service"),
    ("sockets.target.wants", "iscsid.socket"),
    ("remote-fs.target.wants", "iscsi.service"),
)
"""What ``systemctl enable`` makes of the units' [Install]."""
NOBODY = "iqn.2025-01.org.example:nobody"
RECORD = f"""\
# BEGIN RECORD 2.1.8
node.name = {NOBODY}
node.tpgt = 1
node.startup = automatic
iface.iscsi_ifacename = default
iface.transport_name = tcp
node.conn[0].address = {NOBODY_ADDRESS}
node.conn[0].port = 3260
node.conn[0].startup = automatic
# END RECORD
"""
"""An automatic node at an address nobody has."""
LAST = "/root/last"


def with_units_enabled(disk: Path) -> None:
    """Enable the units as ``systemctl enable`` does, and have an automatic node that cannot be reached."""
    record = disk.with_name("record")
    record.write_text(RECORD)
    record.chmod(0o600)
    commands = []
    for wants, unit in ENABLED:
        commands += [f"mkdir /etc/systemd/system/{wants}"]
        commands += [f"symlink /etc/systemd/system/{wants}/{unit} /usr/lib/systemd/system/{unit}"]
    place = "/etc/iscsi/nodes"
    for part in ("", f"/{NOBODY}", f"/{NOBODY}/{NOBODY_ADDRESS},3260,1"):
        commands += [f"mkdir {place}{part}", f"sif {place}{part} mode 040700"]
    there = f"{place}/{NOBODY}/{NOBODY_ADDRESS},3260,1/default"
    # A "mkdir" of what is there already is no failure; what matters is looked at.
    _run("debugfs", "-w", "-f", "-", str(disk), text="\n".join([*commands, f"write {record} {there}"]) + "\n")
    made = [f"/etc/systemd/system/{wants}/{unit}" for wants, unit in ENABLED]
    for path in (*made, there):
        if "Inode:" not in _run("debugfs", "-R", f"stat {path}", str(disk)).stdout:
            raise HarnessError(f"{path} could not be put into the root disk")


def examined(disk: Path) -> dict[str, Any]:
    """The disk of a machine that is off: its mark, what the check finds, and what was written last."""
    header = _run("dumpe2fs", "-h", str(disk)).stdout
    lines = dict(line.split(":", 1) for line in header.splitlines() if ":" in line)
    check = _run("e2fsck", "-f", "-n", str(disk))
    return {
        "state": lines["Filesystem state"].strip(),
        "features": lines["Filesystem features"].split(),
        "check": check.returncode,
        "said": check.stdout[-600:],
        "last": _run("debugfs", "-R", f"cat {LAST}", str(disk)).stdout,
    }


def _run(*argv: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
