# SPDX-License-Identifier: LGPL-2.1-or-later
"""What docs/daemon.md promises to programs of others is held by tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEADING = "## What others look for"


def rows() -> list[str]:
    """The rows of the table, without its head."""
    _, found, section = (ROOT / "docs/daemon.md").read_text().partition(f"{HEADING}\n")
    assert found
    return [line for line in section.split("\n## ")[0].splitlines() if line.startswith("| ")][1:]


def test_every_promise_names_a_test_that_is_there() -> None:
    assert len(rows()) > 10
    missing = []
    for row in rows():
        path = ""
        held = re.findall(r"`((?:[\w/]+\.py)?(?:::\w+)?)`", row.rsplit("|", 2)[1])
        assert held, row
        for item in held:
            file, _, name = item.partition("::")
            path = file or path
            source = ROOT / "tests" / path
            if not source.is_file() or (name and f"def {name}(" not in source.read_text()):
                missing.append(f"{path}::{name}")
    assert not missing
