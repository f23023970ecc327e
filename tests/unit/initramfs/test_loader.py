# SPDX-License-Identifier: LGPL-2.1-or-later
"""The search rules of ld.so(8), one by one in trees made for the test, and the result of the real loader."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from iscsiboot.errors import IscsiBootError
from iscsiboot.initramfs.loader import MissingLibrary, Process
from iscsiboot.initramfs.sysroot import Sysroot
from tests.unit.initramfs.elfmaker import EM_386, Elf, cache, link, put

PROGRAM = "/usr/bin/program"


def found(root: Path, *, dlopen: str | None = None) -> dict[str, str]:
    """Canonical paths of the closure by file name."""
    process = Process(Sysroot(root), PROGRAM)
    if dlopen is not None:
        process.open(dlopen, "the test")
    return {library.place.asked.rsplit("/", 1)[-1]: library.place.real for library in process.libraries}


def program(root: Path, **fields: object) -> None:
    put(root, PROGRAM, Elf(needed=("liba.so",), **fields))  # type: ignore[arg-type]  # a test's shorthand


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"rpath": "/r", "runpath": ""}, "/r/liba.so"),
        ({"rpath": "", "runpath": "/u"}, "/u/liba.so"),
        ({"rpath": "/r", "runpath": "/u"}, "/u/liba.so"),
        ({"rpath": "/nowhere"}, "/cached/liba.so"),
        ({}, "/cached/liba.so"),
        ({"flags_1": 0x800}, "/cached/liba.so"),
    ],
    ids=["rpath", "runpath", "runpath-silences-rpath", "rpath-misses", "cache", "nodeflib-keeps-cache"],
)
def test_order_of_places(tmp_path: Path, fields: dict[str, object], expected: str) -> None:
    for directory in ("/r", "/u", "/cached", "/lib", "/usr/lib"):
        put(tmp_path, f"{directory}/liba.so", Elf())
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/ld.so.cache").write_bytes(cache([("liba.so", "/cached/liba.so", 0)]))
    program(tmp_path, **fields)
    assert found(tmp_path) == {"liba.so": expected}


def test_default_directories_without_a_cache(tmp_path: Path) -> None:
    put(tmp_path, "/usr/lib/liba.so", Elf())
    program(tmp_path)
    assert found(tmp_path) == {"liba.so": "/usr/lib/liba.so"}
    put(tmp_path, "/lib/x86_64-linux-gnu/liba.so", Elf())
    assert found(tmp_path) == {"liba.so": "/lib/x86_64-linux-gnu/liba.so"}


def test_conf_stands_in_for_a_missing_cache(tmp_path: Path) -> None:
    put(tmp_path, "/opt/lib/liba.so", Elf())
    put(tmp_path, "/usr/lib/liba.so", Elf())
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/ld.so.conf").write_text("/opt/lib\n")
    program(tmp_path)
    assert found(tmp_path) == {"liba.so": "/opt/lib/liba.so"}


def test_nodeflib_looks_in_no_default_directory(tmp_path: Path) -> None:
    put(tmp_path, "/usr/lib/liba.so", Elf())
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/ld.so.cache").write_bytes(cache([("liba.so", "/usr/lib/liba.so", 0)]))
    program(tmp_path, flags_1=0x800)
    with pytest.raises(MissingLibrary):
        found(tmp_path)


def test_rpath_is_inherited_and_runpath_is_not(tmp_path: Path) -> None:
    put(tmp_path, "/x/liba.so", Elf(needed=("libb.so",)))
    put(tmp_path, "/x/libb.so", Elf())
    program(tmp_path, rpath="/x")
    assert found(tmp_path) == {"liba.so": "/x/liba.so", "libb.so": "/x/libb.so"}
    program(tmp_path, runpath="/x")
    with pytest.raises(MissingLibrary, match=r"libb\.so"):
        found(tmp_path)


def test_a_runpath_on_the_way_stops_inheritance_for_that_file_only(tmp_path: Path) -> None:
    put(tmp_path, "/x/liba.so", Elf(needed=("libb.so",), runpath="/elsewhere"))
    put(tmp_path, "/x/libb.so", Elf())
    put(tmp_path, "/usr/lib/libb.so", Elf(needed=("libc.so",)))
    put(tmp_path, "/x/libc.so", Elf())
    program(tmp_path, rpath="/x")
    assert found(tmp_path) == {"liba.so": "/x/liba.so", "libb.so": "/usr/lib/libb.so", "libc.so": "/x/libc.so"}


@pytest.mark.parametrize(
    ("rpath", "library"),
    [
        ("$ORIGIN/../lib/own", "/usr/lib/own/liba.so"),
        ("${ORIGIN}/own", "/usr/bin/own/liba.so"),
        ("/opt/$LIB", "/opt/lib/x86_64-linux-gnu/liba.so"),
        ("/opt/${LIB}", "/opt/lib64/liba.so"),
        ("/opt/$PLATFORM", "/opt/x86_64/liba.so"),
        ("/opt/$LIBRARY", "/opt/$LIBRARY/liba.so"),
    ],
    ids=["origin", "origin-braces", "lib-multiarch", "lib-lib64", "platform", "longer-name-is-no-token"],
)
def test_dynamic_string_tokens(tmp_path: Path, rpath: str, library: str) -> None:
    put(tmp_path, library, Elf())
    program(tmp_path, rpath=rpath)
    assert found(tmp_path) == {"liba.so": library}


def test_origin_is_the_file_behind_the_link(tmp_path: Path) -> None:
    put(tmp_path, "/opt/real/liba.so.1", Elf(needed=("libb.so",), runpath="$ORIGIN"))
    put(tmp_path, "/opt/real/libb.so", Elf())
    link(tmp_path, "/usr/lib/liba.so", "/opt/real/liba.so.1")
    program(tmp_path)
    assert found(tmp_path)["libb.so"] == "/opt/real/libb.so"


@pytest.mark.parametrize(
    "wrong",
    [Elf(bits=32, machine=EM_386).build(), Elf(bits=32).build(), b"INPUT(libreal.so)\n"],
    ids=["other-machine", "other-class", "linker-script"],
)
def test_files_that_do_not_fit_are_passed_over(tmp_path: Path, wrong: bytes) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r/liba.so").write_bytes(wrong)
    put(tmp_path, "/usr/lib/liba.so", Elf())
    program(tmp_path, rpath="/r")
    assert found(tmp_path) == {"liba.so": "/usr/lib/liba.so"}


def test_cpu_specific_libraries_of_the_cache_are_not_taken(tmp_path: Path) -> None:
    fast = "/usr/lib/glibc-hwcaps/x86-64-v3/liba.so"
    put(tmp_path, fast, Elf())
    put(tmp_path, "/usr/lib/liba.so", Elf())
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/ld.so.cache").write_bytes(cache([("liba.so", fast, 1 << 62), ("liba.so", "/usr/lib/liba.so", 0)]))
    program(tmp_path)
    assert found(tmp_path) == {"liba.so": "/usr/lib/liba.so"}


def test_links_to_a_library_are_kept(tmp_path: Path) -> None:
    put(tmp_path, "/usr/lib/liba.so.1.2", Elf())
    link(tmp_path, "/usr/lib/liba.so", "liba.so.1.2")
    link(tmp_path, "/lib", "usr/lib")
    program(tmp_path)
    (library,) = Process(Sysroot(tmp_path), PROGRAM).libraries
    assert library.place.real == "/usr/lib/liba.so.1.2"
    assert [(entry.path, entry.target) for entry in library.place.links] == [
        ("/lib", "usr/lib"),
        ("/usr/lib/liba.so", "liba.so.1.2"),
    ]


def test_circles_of_need_end(tmp_path: Path) -> None:
    put(tmp_path, "/lib/liba.so", Elf(needed=("libb.so",)))
    put(tmp_path, "/lib/libb.so", Elf(needed=("liba.so", "libb.so")))
    program(tmp_path)
    assert set(found(tmp_path)) == {"liba.so", "libb.so"}


def test_a_loaded_soname_is_not_searched_again(tmp_path: Path) -> None:
    put(tmp_path, "/lib/liba.so", Elf(soname="libother.so", needed=("libother.so",)))
    program(tmp_path)
    assert set(found(tmp_path)) == {"liba.so"}


def test_the_loader_meets_the_need_for_itself(tmp_path: Path) -> None:
    put(tmp_path, "/lib64/ld.so.2", Elf(soname="ld.so.2"))
    put(tmp_path, "/lib/liba.so", Elf(needed=("ld.so.2",)))
    program(tmp_path, interpreter="/lib64/ld.so.2")
    libraries = Process(Sysroot(tmp_path), PROGRAM).libraries
    assert [(library.place.real, library.is_loader) for library in libraries] == [
        ("/lib64/ld.so.2", True),
        ("/lib/liba.so", False),
    ]


def test_dlopen_by_soname_and_by_path(tmp_path: Path) -> None:
    put(tmp_path, PROGRAM, Elf(rpath="/r"))
    put(tmp_path, "/r/libplug.so", Elf(needed=("libdeep.so",)))
    put(tmp_path, "/r/libdeep.so", Elf())
    assert found(tmp_path, dlopen="libplug.so") == {"libplug.so": "/r/libplug.so", "libdeep.so": "/r/libdeep.so"}
    put(tmp_path, "/ext/mod.so", Elf(needed=("libdeep.so",)))
    assert found(tmp_path, dlopen="/ext/mod.so") == {"mod.so": "/ext/mod.so", "libdeep.so": "/r/libdeep.so"}


def test_what_is_missing_is_named_with_who_needs_it(tmp_path: Path) -> None:
    put(tmp_path, "/lib/liba.so", Elf(needed=("libgone.so.9",)))
    program(tmp_path)
    with pytest.raises(MissingLibrary) as caught:
        found(tmp_path)
    assert caught.value.line().startswith("image: /lib/liba.so: needs libgone.so.9")


def test_a_missing_loader_is_named(tmp_path: Path) -> None:
    put(tmp_path, "/lib/liba.so", Elf())
    program(tmp_path, interpreter="/lib64/ld.so.2")
    with pytest.raises(MissingLibrary, match=r"ld\.so\.2"):
        found(tmp_path)


def test_a_broken_cache_is_told_not_guessed_around(tmp_path: Path) -> None:
    program(tmp_path)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/ld.so.cache").write_bytes(b"glibc-ld.so.cache1.1")
    with pytest.raises(IscsiBootError, match="run ldconfig"):
        found(tmp_path)


def test_the_closure_of_this_interpreter_is_what_the_loader_itself_opens() -> None:
    python = str(Path(sys.executable).resolve())
    listed = subprocess.run(["ldd", python], capture_output=True, text=True, check=True).stdout
    theirs = {str(Path(path).resolve()) for path in re.findall(r"(/\S+) \(0x", listed)}
    ours = {library.place.real for library in Process(Sysroot(Path("/")), python).libraries}
    assert ours == theirs
