# SPDX-License-Identifier: LGPL-2.1-or-later
"""The protocol engine is covered by its own unit tests: statements and branches, without sockets or peers to help."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "iscsiboot.initiator"
TESTS = "tests/unit/initiator"
LEAST_PERCENT = 98.0


def gaps(report: dict[str, Any]) -> list[str]:
    """``module.py: lines 12, 30; branches 14->16`` for each file with something left out."""
    found = []
    for name, entry in sorted(report["files"].items()):
        lines = ", ".join(str(line) for line in entry["missing_lines"])
        branches = ", ".join(f"{start}->{end}" for start, end in entry["missing_branches"])
        parts = [part for part in (lines and f"lines {lines}", branches and f"branches {branches}") if part]
        if parts:
            found.append(f"{name}: {'; '.join(parts)}")
    return found


def test_unit_tests_cover_the_initiator(tmp_path: Path) -> None:
    data = tmp_path / "coverage"
    env = {**os.environ, "COVERAGE_FILE": str(data)}
    run = [sys.executable, "-m", "coverage", "run", "--branch", f"--source={PACKAGE}", "-m", "pytest", "-q", TESTS]
    done = subprocess.run(run, cwd=ROOT, env=env, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    target = tmp_path / "coverage.json"
    subprocess.run([sys.executable, "-m", "coverage", "json", "-q", "-o", str(target)], cwd=ROOT, env=env, check=True)
    report = json.loads(target.read_text())
    missing = gaps(report)
    # Seen with `pytest -s`, or when the test fails.
    sys.stdout.write(
        "\n  ".join([f"{report['totals']['percent_covered']:.2f} % of {PACKAGE}; not covered:", *missing]) + "\n"
    )
    # Every module of the package is in the report, also one that no test imports.
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / PACKAGE.replace(".", "/")).rglob("*.py")}
    assert modules <= set(report["files"])
    assert report["totals"]["percent_covered"] >= LEAST_PERCENT, "\n".join(missing)
