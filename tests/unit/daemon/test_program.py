# SPDX-License-Identifier: LGPL-2.1-or-later
"""The program around the daemon: however early it fails, it says so."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("before", "told"),
    [
        (
            "sys.modules['iscsiboot.daemon.iscsid'] = None",
            "ModuleNotFoundError: import of iscsiboot.daemon.iscsid halted; None in sys.modules; next: install it anew",
        ),
        (
            "sys.modules['iscsiboot.daemon.iscsid'] = types.SimpleNamespace(main=lambda *_, **__: 1 // 0)",
            "ZeroDivisionError: integer division or modulo by zero; next: report this",
        ),
    ],
    ids=["an installation that is not whole", "a fault of ours"],
)
def test_a_fault_before_there_is_a_log_is_one_line(before: str, told: str) -> None:
    script = f"import sys, types; {before}; from iscsiboot.daemon.program import run; run()"
    done = subprocess.run(
        ["/usr/bin/python3", "-B", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"iscsid: a fault of this program ends it: {told}\n"


def test_nothing_is_collected_while_modules_are_loaded() -> None:
    """A twentieth of the start; what harden() is for begins with a collection of everything and starts it again."""
    script = (
        "import gc, sys\n"
        "class Door:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'iscsiboot.daemon.iscsid':\n"
        "            print(gc.isenabled())\n"
        "sys.meta_path.insert(0, Door()); sys.argv[1:] = ['-v']\n"
        "from iscsiboot.daemon.program import run; run()"
    )
    done = subprocess.run(
        ["/usr/bin/python3", "-B", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines()[0] == "False", done.stderr
