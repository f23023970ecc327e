# SPDX-License-Identifier: LGPL-2.1-or-later
"""The dispatcher as a process: where its output cannot go, it says so in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_full_disk_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "iscsiboot", "--help"],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "iscsiboot: output: No space left on device; next: make room where the output goes\n"


def test_a_reader_that_has_gone_is_no_complaint() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "iscsiboot", "--help"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
