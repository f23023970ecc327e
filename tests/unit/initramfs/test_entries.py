# SPDX-License-Identifier: LGPL-2.1-or-later
"""Entries and lists of them."""

from __future__ import annotations

import pytest

from iscsiboot.initramfs.entries import Entry, Kind, Part, with_directories


def file(path: str, **changes: object) -> Entry:
    values: dict[str, object] = {"kind": Kind.FILE, "part": Part.STDLIB, "why": f"why {path}", "source": path}
    return Entry(path=path, **(values | changes))  # type: ignore[arg-type]  # a test's shorthand


@pytest.mark.parametrize("path", ["", "usr", "/usr/", "/usr//lib", "/usr/../etc", "/./usr"])
def test_paths_are_absolute_and_canonical(path: str) -> None:
    with pytest.raises(ValueError, match="not an absolute canonical path"):
        file(path, source="/x")


@pytest.mark.parametrize(
    "changes",
    [
        {"source": ""},
        {"target": "/x"},
        {"kind": Kind.BYTECODE, "source": ""},
        {"kind": Kind.DIRECTORY},
        {"kind": Kind.SYMLINK, "source": ""},
        {"kind": Kind.SYMLINK, "target": "/x"},
    ],
)
def test_source_and_target_belong_to_their_kinds(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="/usr/x"):
        file("/usr/x", **changes)


def test_directories_come_before_what_they_hold() -> None:
    entries = with_directories([file("/usr/lib/b"), file("/usr/bin/a"), file("/usr/lib/a")])
    assert [entry.path for entry in entries] == [
        "/usr",
        "/usr/bin",
        "/usr/bin/a",
        "/usr/lib",
        "/usr/lib/a",
        "/usr/lib/b",
    ]
    assert {entry.mode for entry in entries if entry.kind is Kind.DIRECTORY} == {0o755}


def test_the_same_entry_twice_is_one_and_the_first_reason_stays() -> None:
    first, second = file("/a"), file("/a", why="another reason")
    assert with_directories([first, second]) == (first,)


def test_contradictions_are_found() -> None:
    with pytest.raises(ValueError, match="planned twice"):
        with_directories([file("/a"), file("/a", source="/b")])
    with pytest.raises(ValueError, match="below /a, which is a file"):
        with_directories([file("/a"), file("/a/b")])
