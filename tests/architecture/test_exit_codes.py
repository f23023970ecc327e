# SPDX-License-Identifier: LGPL-2.1-or-later
"""docs/exit-codes.md is complete and true: every number with its name and words, and tests that exist behind it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from iscsiboot.errors import EXIT_TEXT, ExitCode

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/exit-codes.md"
COLUMNS = 6
OPEN = re.compile(r"impossible while [^:|]+: [^|]+ \(issue [57]\)")
NEVER = re.compile(r"never: \w")


def table() -> dict[int, list[str]]:
    """Cells of each row, under the number it begins with."""
    found: dict[int, list[str]] = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if cells and cells[0].isdigit():
            assert len(cells) == COLUMNS, line
            assert int(cells[0]) not in found, line
            found[int(cells[0])] = cells
    return found


def named_tests(cells: list[str]) -> list[tuple[Path, str]]:
    """File and function of each test a row names."""
    return [(ROOT / "tests" / path, name) for path, _, name in (word.partition("::") for word in cells[5].split())]


def uses(code: ExitCode) -> list[str]:
    """Modules of the package that name the code, other than the one that defines it."""
    word = re.compile(rf"\bExitCode\.{code.name}\b")
    return [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "iscsiboot").rglob("*.py"))
        if path.name != "errors.py" and word.search(path.read_text())
    ]


def test_every_number_has_one_row_with_its_name_and_words() -> None:
    rows = table()
    assert list(rows) == list(range(len(ExitCode)))
    for code in ExitCode:
        assert rows[code][1:3] == [code.name, EXIT_TEXT[code]]


@pytest.mark.parametrize("code", ExitCode, ids=lambda code: code.name)
def test_a_row_names_tests_that_exist_or_says_why_there_is_none(code: ExitCode) -> None:
    cells = table()[code]
    named = named_tests(cells)
    for path, name in named:
        functions = {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}
        assert name in functions, f"{path}::{name}"
    if not named:
        assert all(OPEN.match(cell) or NEVER.match(cell) for cell in cells[3:5]), cells
    assert all(cells[3:5])


@pytest.mark.parametrize("code", ExitCode, ids=lambda code: code.name)
def test_a_code_that_can_happen_is_in_the_sources_and_one_that_cannot_is_not(code: ExitCode) -> None:
    """A row that says "never" or "impossible" for every program stands against code that raises it, and the reverse."""
    happens = any(not OPEN.match(cell) and not NEVER.match(cell) for cell in table()[code][3:5])
    found = [path for path in uses(code) if path.startswith(("iscsiboot/admin", "iscsiboot/boot", *_LIBRARIES))]
    if happens:
        assert found, code.name
    else:
        assert found == [], code.name


_LIBRARIES = tuple(
    f"iscsiboot/{part}" for part in ("database", "session", "network", "netlink", "sysfs", "initiator", "ipc", "orders")
)
