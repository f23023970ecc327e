# SPDX-License-Identifier: LGPL-2.1-or-later
"""Listing discovery records loads nothing a discovery needs: programs ask for the list often and wait for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.admin.discovery_kit import Machine

ROOT = Path(__file__).resolve().parents[3]
HEAVY = ("dataclasses", "typing", "socket", "json", "logging", "ipaddress", "pathlib", "subprocess", "contextlib")
RUN = """
import io, sys
sys.path[:0] = [sys.argv.pop(1)]
from iscsiboot.admin.context import Paths
from iscsiboot.admin.main import main
root = sys.argv.pop(1)
paths = Paths(config=root + "/iscsi", database=root + "/iscsi", sysfs=root + "/sys", proc=root + "/proc")
main(sys.argv[1:], io.StringIO(), io.StringIO(), paths)
print("\\n".join(sys.modules))
"""


@pytest.mark.parametrize(
    "line",
    [
        "-m discovery",
        "-m discovery -P 1",
        "-m discoverydb",
        "-m discovery -p 10.0.0.1",
        "-m discoverydb -t st -p 10.0.0.1",
        "-m discoverydb -t st -p 10.0.0.1 -o update -n discovery.sendtargets.reopen_max -v 3",
    ],
)
def test_modules(tmp_path: Path, line: str) -> None:
    machine = Machine(tmp_path)
    machine("-m discoverydb -t st -p 10.0.0.1 -o new")
    command = [sys.executable, "-I", "-S", "-c", RUN, str(ROOT), str(tmp_path), *line.split()]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "iscsiboot.admin.discovery_mode" in loaded
    assert [name for name in HEAVY if name in loaded] == []
    ours = [
        name for name in loaded if name.startswith(("iscsiboot.session", "iscsiboot.initiator", "iscsiboot.firmware"))
    ]
    assert ours == []
