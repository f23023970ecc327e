# SPDX-License-Identifier: LGPL-2.1-or-later
"""FAT volumes of all three widths: layouts, the way to EFI/BOOT, and directories that lead nowhere."""

from __future__ import annotations

import pytest

from iscsiboot.toolkit.media_fat import DIRECTORY_MAX, VENDORS_MAX, fat_layout, find_efi_files
from iscsiboot.toolkit.media_values import Disk, EfiFiles, Extent, Volume
from tests.unit.toolkit.media_support import Fat, esp, place


def files_of(data: bytes) -> tuple[EfiFiles, list[Extent]]:
    layout = fat_layout(data[:512])
    assert layout is not None
    reads = find_efi_files(Volume(Disk(len(data), 512), 0, len(data)), layout)
    extents: list[Extent] = []
    try:
        wanted = next(reads)
        while True:
            extents.append(wanted)
            wanted = reads.send(data[wanted.offset : wanted.offset + wanted.length])
    except StopIteration as done:
        files: EfiFiles = done.value
        return files, extents


@pytest.mark.parametrize("bits", [12, 16, 32])
def test_layouts(bits: int) -> None:
    layout = fat_layout(bytes(Fat(bits, label="A LABEL").data[:512]))
    assert layout is not None
    assert (layout.bits, layout.label, layout.serial) == (bits, "A LABEL", "1234-ABCD")
    assert (layout.root_cluster, bool(layout.root_size)) == ((2, False) if bits == 32 else (0, True))


def test_no_name_is_no_label() -> None:
    layout = fat_layout(bytes(Fat(16, label="NO NAME").data[:512]))
    assert layout is not None
    assert layout.label == ""


def test_a_volume_without_the_extended_signature_has_no_label() -> None:
    data = Fat(16).data
    data[38] = 0
    layout = fat_layout(bytes(data[:512]))
    assert layout is not None
    assert (layout.label, layout.serial) == ("", "")


@pytest.mark.parametrize(
    ("offset", "raw"),
    [
        pytest.param(0, b"\0", id="no-jump"),
        pytest.param(11, b"\x01\x02", id="sector-size"),
        pytest.param(13, b"\x03", id="cluster-size"),
        pytest.param(14, b"\0\0", id="no-reserved-sector"),
        pytest.param(16, b"\0", id="no-fat"),
        pytest.param(16, b"\x09", id="nine-fats"),
        pytest.param(21, b"\x12", id="media"),
        pytest.param(32, b"\x02\0\0\0", id="smaller-than-its-own-fats"),
        pytest.param(22, b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", id="no-fat-size"),
    ],
)
def test_what_is_no_fat_volume(offset: int, raw: bytes) -> None:
    data = Fat(16).data
    place(data, offset, raw)
    assert fat_layout(bytes(data[:512])) is None
    assert fat_layout(bytes(Fat(16).data[:100])) is None


@pytest.mark.parametrize("bits", [12, 16, 32])
def test_loaders_are_found(bits: int) -> None:
    found, _ = files_of(esp(bits, "BOOTAA64.EFI", "FOO.EFI", "BOOTX64.EFI", "BOOTRI~1.EFI", vendor="DEBIAN"))
    assert found.loaders == ("BOOTX64.EFI", "BOOTAA64.EFI", "BOOTRISCV64.EFI")
    assert found.vendors == ("DEBIAN",)


@pytest.mark.parametrize("bits", [12, 16, 32])
def test_directories_of_several_clusters(bits: int) -> None:
    fat = Fat(bits)
    efi = fat.directory(fat.root, 0, "EFI")
    boot = fat.directory(efi, 0, "BOOT", clusters=3)
    for slot in range(47):
        fat.file(boot, slot, f"F{slot}.TXT")
    fat.file(boot, 47, "BOOTX64.EFI")
    assert files_of(bytes(fat.data))[0].loaders == ("BOOTX64.EFI",)


@pytest.mark.parametrize("make", ["empty-file", "directory", "deleted", "long-name", "after-the-end"])
def test_entries_that_are_no_loader(make: str) -> None:
    fat = Fat(16)
    efi = fat.directory(fat.root, 0, "EFI")
    boot = fat.directory(efi, 0, "BOOT")
    slot = 1 if make == "after-the-end" else 0
    attributes = {"directory": 0x10, "long-name": 0x0F}.get(make, 0x20)
    fat.entry(boot, slot, "BOOTX64.EFI", cluster=9, attributes=attributes, size=0 if make == "empty-file" else 1)
    if make == "deleted":
        fat.data[fat.place_of(boot)] = 0xE5
    assert files_of(bytes(fat.data))[0] == EfiFiles()


@pytest.mark.parametrize(
    "data", [bytes(Fat(16).data), esp(16), bytes(Fat(32).data)], ids=["empty", "no-boot-directory", "empty-32"]
)
def test_volumes_without_loaders(data: bytes) -> None:
    assert files_of(data)[0] == EfiFiles()


@pytest.mark.parametrize("bits", [12, 16, 32])
@pytest.mark.parametrize("target", ["itself", "zero", "one", "beyond"])
def test_chains_that_lead_nowhere(bits: int, target: str) -> None:
    fat = Fat(bits)
    efi = fat.directory(fat.root, 0, "EFI")
    for slot in range(16):
        fat.file(efi, slot, f"F{slot}.TXT")
    fat.link(efi, {"itself": efi, "zero": 0, "one": 1, "beyond": (1 << min(bits, 28)) - 20}[target])
    found, extents = files_of(bytes(fat.data))
    assert found == EfiFiles()
    assert len(extents) < 8


def test_a_directory_beyond_the_volume() -> None:
    fat = Fat(32)
    fat.entry(fat.root, 0, "EFI", cluster=0x0FFFFFF0, attributes=0x10)
    assert files_of(bytes(fat.data))[0] == EfiFiles()


def test_a_fat_that_ends_before_its_clusters() -> None:
    """Its size is smaller than its clusters need: entries beyond it are not read from what lies behind."""
    fat = Fat(32)
    place(fat.data, 36, (1).to_bytes(4, "little"))
    layout = fat_layout(bytes(fat.data[:512]))
    assert layout is not None
    at = layout.data_at + (200 - 2) * 512
    for slot in range(16):
        place(fat.data, at + 32 * slot, b"FILE    TXT\x20".ljust(32, b"\0"))
    fat_root = layout.data_at
    place(fat.data, fat_root, b"EFI        \x10" + bytes(14) + (200).to_bytes(2, "little") + bytes(4))
    assert files_of(bytes(fat.data))[0] == EfiFiles()


def test_directories_without_end_are_cut() -> None:
    fat = Fat(16, per_cluster=8)
    efi = fat.directory(fat.root, 0, "EFI", clusters=100)
    for slot in range(100 * 128):
        fat.entry(efi, slot, f"F{slot}", cluster=0, attributes=0x10)
    found, extents = files_of(bytes(fat.data))
    assert len(found.vendors) == VENDORS_MAX
    assert sum(extent.length for extent in extents if extent.length > 4) <= DIRECTORY_MAX + 4 * 512


def test_names_of_a_volume_are_printable() -> None:
    fat = Fat(16)
    efi = fat.directory(fat.root, 0, "EFI")
    fat.entry(efi, 0, "X", cluster=9, attributes=0x10)
    place(fat.data, fat.place_of(efi), b"\x1b[31m\xff\n ")
    assert files_of(bytes(fat.data))[0].vendors == ("\\x1b[31m\\xff",)
