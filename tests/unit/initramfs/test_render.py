# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bytecode, and writing a tree into places that are empty, begun, or hostile."""

from __future__ import annotations

import importlib.util
import marshal
import subprocess
from pathlib import Path

import pytest

from iscsiboot.errors import IscsiBootError, Stage
from iscsiboot.initramfs.entries import Entry, Kind, Part, with_directories
from iscsiboot.initramfs.render import bytecode, content, mode_and_type, stage_tree
from iscsiboot.initramfs.sysroot import Sysroot
from tests.unit.initramfs.elfmaker import link

SOURCE = b'# -*- coding: latin-1 -*-\n"""Doc."""\nNAME = "\xe9"\nassert NAME\n'


def entry(path: str, kind: Kind = Kind.FILE, **changes: object) -> Entry:
    values: dict[str, object] = {"part": Part.STDLIB, "why": "test"}
    if kind in (Kind.FILE, Kind.BYTECODE):
        values["source"] = "/source.py"
    return Entry(path=path, kind=kind, **(values | changes))  # type: ignore[arg-type]  # a test's shorthand


@pytest.fixture
def source(tmp_path: Path) -> Sysroot:
    tree = tmp_path / "source"
    tree.mkdir()
    (tree / "source.py").write_bytes(SOURCE)
    return Sysroot(tree)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    place = tmp_path / "tree"
    place.mkdir()
    return place


def test_bytecode_has_an_unchecked_hash_and_the_hosts_file_name() -> None:
    data = bytecode(SOURCE, "/usr/lib/x.py")
    assert data[:4] == importlib.util.MAGIC_NUMBER
    assert data[4:8] == b"\1\0\0\0"
    assert data[8:16] == importlib.util.source_hash(SOURCE)
    code = marshal.loads(data[16:])
    assert code.co_filename == "/usr/lib/x.py"
    namespace: dict[str, object] = {}
    exec(code, namespace)
    assert (namespace["NAME"], namespace["__doc__"]) == ("é", "Doc.")


def test_bytecode_alone_is_importable(tmp_path: Path) -> None:
    (tmp_path / "mod.pyc").write_bytes(bytecode(b"value = 7\n", "/nowhere/mod.py"))
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import mod; print(mod.value)"
    run = subprocess.run(["/usr/bin/python3", "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "7\n"


@pytest.mark.parametrize("bad", [b"def (:\n", b"x = '\0'\n", b"# coding: nonsense\n"])
def test_a_source_that_does_not_compile(bad: bytes) -> None:
    with pytest.raises(IscsiBootError, match=r"/x\.py: does not compile"):
        bytecode(bad, "/x.py")


def test_a_source_that_is_gone(source: Sysroot) -> None:
    with pytest.raises(IscsiBootError, match="cannot be read") as caught:
        content(entry("/x", source="/gone"), source)
    assert caught.value.stage is Stage.IMAGE


def test_modes_as_an_archive_holds_them() -> None:
    assert mode_and_type(entry("/x", mode=0o755)) == 0o100755
    assert mode_and_type(entry("/x", Kind.BYTECODE)) == 0o100644
    assert mode_and_type(entry("/x", Kind.DIRECTORY, mode=0o755)) == 0o040755
    assert mode_and_type(entry("/x", Kind.SYMLINK, target="y")) == 0o120777


WHOLE = with_directories(
    [
        entry("/lib", Kind.SYMLINK, target="usr/lib"),
        entry("/usr/lib/a.pyc", Kind.BYTECODE),
        entry("/usr/lib/a.so"),
        entry("/usr/lib/b.so", Kind.SYMLINK, target="a.so"),
        entry("/usr/sbin/prog", mode=0o755),
    ]
)


def test_an_empty_tree_gets_everything(source: Sysroot, tree: Path) -> None:
    assert stage_tree(WHOLE, source, tree) == len(WHOLE)
    assert (tree / "lib/a.so").read_bytes() == SOURCE
    assert (tree / "usr/lib/a.pyc").read_bytes() == bytecode(SOURCE, "/source.py")
    assert (tree / "usr/lib/b.so").readlink() == Path("a.so")
    assert (tree / "usr/sbin/prog").stat().st_mode & 0o7777 == 0o755
    assert (tree / "usr/lib/a.so").stat().st_mode & 0o7777 == 0o644


def test_a_second_time_writes_nothing(source: Sysroot, tree: Path) -> None:
    stage_tree(WHOLE, source, tree)
    assert stage_tree(WHOLE, source, tree) == 0


def test_links_of_the_tree_never_lead_out_of_it(source: Sysroot, tree: Path, tmp_path: Path) -> None:
    """A builder's tree may have an absolute ``/usr -> /system``: that is the tree's own, not the host's."""
    outside = tmp_path / "outside"
    outside.mkdir()
    link(tree, "/usr", str(outside))
    inside = tree / str(outside).lstrip("/")
    inside.mkdir(parents=True)
    entries = tuple(item for item in WHOLE if item.path != "/lib")
    stage_tree(entries, source, tree)
    assert list(outside.iterdir()) == []
    assert (inside / "lib/a.so").read_bytes() == SOURCE


def test_a_hard_link_to_the_host_is_not_written_through(source: Sysroot, tree: Path, tmp_path: Path) -> None:
    host = tmp_path / "host.so"
    host.write_bytes(b"the host's")
    (tree / "usr/lib").mkdir(parents=True)
    (tree / "usr/lib/a.so").hardlink_to(host)
    stage_tree(WHOLE, source, tree)
    assert host.read_bytes() == b"the host's"
    assert (tree / "usr/lib/a.so").read_bytes() == SOURCE


@pytest.mark.parametrize(
    "taken",
    [
        lambda tree: (tree / "lib").mkdir(),
        lambda tree: link(tree, "/lib", "elsewhere"),
        lambda tree: (tree / "usr/lib/a.so").mkdir(parents=True),
        lambda tree: link(tree, "/usr/lib/a.so", "c.so"),
    ],
    ids=["directory-for-link", "other-link", "directory-for-file", "link-for-file"],
)
def test_a_path_taken_by_something_else_is_an_error(source: Sysroot, tree: Path, taken: object) -> None:
    assert callable(taken)
    taken(tree)
    with pytest.raises(IscsiBootError, match="is taken"):
        stage_tree(WHOLE, source, tree)


def test_a_tree_that_cannot_be_written(source: Sysroot, tree: Path) -> None:
    (tree / "usr").write_text("a file")
    with pytest.raises(IscsiBootError, match="cannot be written"):
        stage_tree(WHOLE, source, tree)
