# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reading what the dynamic loader reads, from files built to the gABI and from the host's own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iscsiboot.errors import Stage
from iscsiboot.initramfs.elf import BrokenElf, ElfInfo, is_elf, read_elf
from tests.unit.initramfs.elfmaker import EM_386, EM_AARCH64, Elf, put


def written(tmp_path: Path, elf: Elf) -> ElfInfo:
    put(tmp_path, "file", elf)
    return read_elf(tmp_path / "file")


def test_every_field_is_read(tmp_path: Path) -> None:
    elf = Elf(needed=("liba.so.1", "libb.so.2"), soname="libx.so", interpreter="/lib64/ld.so", rpath="/r:/s")
    assert written(tmp_path, elf) == ElfInfo(
        bits=64,
        machine="EM_X86_64",
        interpreter="/lib64/ld.so",
        soname="libx.so",
        needed=("liba.so.1", "libb.so.2"),
        rpath=("/r", "/s"),
    )


@pytest.mark.parametrize(
    ("elf", "rpath", "runpath"),
    [
        pytest.param(Elf(), (), None, id="neither"),
        pytest.param(Elf(rpath="/r"), ("/r",), None, id="rpath"),
        pytest.param(Elf(runpath="/u"), (), ("/u",), id="runpath"),
        pytest.param(Elf(rpath="/r", runpath="/u"), (), ("/u",), id="runpath-silences-rpath"),
        pytest.param(Elf(rpath=":/r::/s:"), ("/r", "/s"), None, id="empty-parts-dropped"),
    ],
)
def test_rpath_and_runpath(tmp_path: Path, elf: Elf, rpath: tuple[str, ...], runpath: tuple[str, ...] | None) -> None:
    info = written(tmp_path, elf)
    assert (info.rpath, info.runpath) == (rpath, runpath)


def test_no_default_directories_flag(tmp_path: Path) -> None:
    assert written(tmp_path, Elf(flags_1=0x800)).nodeflib
    assert not written(tmp_path, Elf(flags_1=0x1)).nodeflib


def test_class_and_machine_decide_who_fits(tmp_path: Path) -> None:
    ours = written(tmp_path, Elf())
    assert ours.fits(written(tmp_path, Elf(soname="other")))
    assert not ours.fits(written(tmp_path, Elf(bits=32)))
    assert not ours.fits(written(tmp_path, Elf(bits=32, machine=EM_386)))
    assert not ours.fits(written(tmp_path, Elf(machine=EM_AARCH64)))


def test_the_running_interpreter_is_read() -> None:
    info = read_elf(Path(sys.executable).resolve())
    assert info.interpreter.startswith("/lib")
    assert "libc.so.6" in info.needed
    assert info.bits == 64


@pytest.mark.parametrize(
    "data",
    [b"", b"\x7fEL", b"\x7fELF", b"#!/bin/sh\n", b"\x7fELF" + bytes(60), b"\x7fELF\x02\x01\x01" + b"\xff" * 57],
    ids=["empty", "short-magic", "magic-only", "script", "zeros", "ones"],
)
def test_what_is_no_elf_file_says_so(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(BrokenElf) as caught:
        read_elf(tmp_path / "file")
    assert caught.value.stage is Stage.IMAGE
    assert str(tmp_path / "file") in caught.value.line()


def test_a_missing_file_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(BrokenElf, match="No such file"):
        read_elf(tmp_path / "absent")
    assert not is_elf(tmp_path / "absent")
    assert not is_elf(tmp_path)


@pytest.mark.parametrize(
    ("offset", "value"),
    [(54, 0), (54, 1), (56, 0xFFFF), (60, 0xFFFF)],
    ids=["header-size-0", "header-size-1", "headers-65535", "sections-65535"],
)
def test_lies_about_sizes_and_numbers_end_at_once(tmp_path: Path, offset: int, value: int) -> None:
    data = bytearray(Elf(needed=("liba.so.1",)).build())
    data[offset : offset + 2] = value.to_bytes(2, "little")
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(BrokenElf, match=r"program headers|sections"):
        read_elf(tmp_path / "file")


WHOLE = Elf(needed=("liba.so.1",), soname="libx.so", interpreter="/lib64/ld.so", runpath="$ORIGIN/x").build()


def test_cut_at_every_length(tmp_path: Path) -> None:
    file = tmp_path / "file"
    for length in range(len(WHOLE)):
        file.write_bytes(WHOLE[:length])
        try:
            read_elf(file)
        except BrokenElf:
            continue


def test_a_lying_number_of_sections_is_refused_at_once(tmp_path: Path) -> None:
    """e_shnum 0 puts the number into section 0's size: a hostile one kept pyelftools reading for hours (fuzzing)."""
    data = bytearray(WHOLE)
    data[40:48] = (64).to_bytes(8, "little")  # e_shoff: any place inside the file
    data[60:62] = bytes(2)  # e_shnum
    data[64 + 32 : 64 + 40] = b"\xff" * 7 + b"\x0f"  # sh_size of section 0
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(BrokenElf, match="more sections than any program"):
        read_elf(tmp_path / "file")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.integers(0, len(WHOLE) - 1), st.integers(0, 255), max_size=6))
def test_changed_bytes_never_escape_as_another_error(tmp_path: Path, changes: dict[int, int]) -> None:
    data = bytearray(WHOLE)
    for offset, value in changes.items():
        data[offset] = value
    (tmp_path / "file").write_bytes(data)
    try:
        read_elf(tmp_path / "file")
    except BrokenElf:
        pass
