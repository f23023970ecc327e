# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tables of /proc: lines and escaped paths, whatever stands in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.sysfs.tables import lines_of, read_lines, unescaped


@pytest.mark.parametrize(
    ("table", "lines"),
    [
        (b"", []),
        (b"a\n", ["a"]),
        (b"a\nb", ["a", "b"]),
        (b"a\n\nb\n", ["a", "", "b"]),
        (b"a\rb\x0bc\x1cd\xc2\x85e\n", ["a\rb\x0bc\x1cd\x85e"]),
        (b"\xff\n", ["\udcff"]),
    ],
)
def test_only_a_line_feed_ends_a_line(table: bytes, lines: list[str]) -> None:
    assert lines_of(table) == lines


def test_a_table_that_is_not_there_has_no_lines(tmp_path: Path) -> None:
    assert read_lines(tmp_path / "none") == []
    assert read_lines(tmp_path) == []
    (tmp_path / "table").write_bytes(b"a\r\nb\n")
    assert read_lines(str(tmp_path / "table")) == ["a\r", "b"]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/plain", "/plain"),
        ("/a\\040b\\011c\\012d\\134e", "/a b\tc\nd\\e"),
        ("\\134040", "\\040"),
        ("not\\octal\\08", "not\\octal\\08"),
        ("\\", "\\"),
        ("\\04", "\\04"),
        ("\\0\u0664\u0660", "\\0\u0664\u0660"),
    ],
)
def test_octal_is_what_the_kernel_writes_and_nothing_else(text: str, path: str) -> None:
    assert unescaped(text) == path


@given(st.text())
def test_what_the_kernel_writes_is_what_it_meant(path: str) -> None:
    written = "".join(f"\\{ord(char):03o}" if char in " \t\n\\" else char for char in path)
    assert unescaped(written) == path
