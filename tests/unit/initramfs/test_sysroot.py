# SPDX-License-Identifier: LGPL-2.1-or-later
"""Paths inside a tree, seen as a process in that tree would see them."""

from __future__ import annotations

from pathlib import Path

import pytest

from iscsiboot.errors import IscsiBootError
from iscsiboot.initramfs.sysroot import Link, LinkLoop, Sysroot
from tests.unit.initramfs.elfmaker import link


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "usr/lib/deep").mkdir(parents=True)
    (tmp_path / "usr/lib/deep/file").write_text("x")
    link(tmp_path, "/lib", "usr/lib")
    link(tmp_path, "/abs", "/usr/lib")
    link(tmp_path, "/usr/up", "../../../../usr/lib")
    link(tmp_path, "/chain", "abs")
    link(tmp_path, "/usr/lib/name", "deep/file")
    return tmp_path


@pytest.mark.parametrize(
    ("asked", "real", "links"),
    [
        ("/usr/lib/deep/file", "/usr/lib/deep/file", []),
        ("/lib/deep/file", "/usr/lib/deep/file", ["/lib"]),
        ("/abs/deep/file", "/usr/lib/deep/file", ["/abs"]),
        ("/usr/up/deep/file", "/usr/lib/deep/file", ["/usr/up"]),
        ("/chain/name", "/usr/lib/deep/file", ["/chain", "/abs", "/usr/lib/name"]),
        ("/lib/../etc/passwd", "/usr/etc/passwd", ["/lib"]),
        ("/../../etc", "/etc", []),
        ("/lib/absent/more", "/usr/lib/absent/more", ["/lib"]),
        ("/", "/", []),
    ],
)
def test_every_link_is_followed_inside_the_tree_and_reported(
    root: Path, asked: str, real: str, links: list[str]
) -> None:
    located = Sysroot(root).locate(asked)
    assert located.real == real
    assert [entry.path for entry in located.links] == links


def test_the_last_part_can_be_left_alone(root: Path) -> None:
    located = Sysroot(root).locate("/lib/name", follow_last=False)
    assert (located.real, located.links) == ("/usr/lib/name", (Link("/lib", "usr/lib"),))


def test_circles_end(tmp_path: Path) -> None:
    link(tmp_path, "/a", "b")
    link(tmp_path, "/b", "a")
    with pytest.raises(LinkLoop, match="circle"):
        Sysroot(tmp_path).locate("/a/x")


def test_an_absolute_link_never_reads_the_host(tmp_path: Path) -> None:
    link(tmp_path, "/etc/passwd", "/etc/shadow-of-the-tree")
    assert Sysroot(tmp_path).read("/etc/passwd", 100) is None
    (tmp_path / "etc/shadow-of-the-tree").write_text("inside")
    assert Sysroot(tmp_path).read("/etc/passwd", 100) == b"inside"
    assert Sysroot(tmp_path).is_file("/etc/passwd")


def test_reading_has_a_limit(root: Path) -> None:
    assert Sysroot(root).read("/lib/name", 1) == b"x"
    with pytest.raises(IscsiBootError, match="larger than 0 bytes"):
        Sysroot(root).read("/lib/name", 0)
    with pytest.raises(IscsiBootError, match="cannot be read"):
        Sysroot(root).read("/lib", 10)


def test_glob_is_sorted_and_inside(root: Path) -> None:
    (root / "usr/lib/b.conf").write_text("")
    (root / "usr/lib/a.conf").write_text("")
    assert Sysroot(root).glob("/abs/*.conf") == ["/usr/lib/a.conf", "/usr/lib/b.conf"]
    assert Sysroot(root).glob("/absent/*") == []
