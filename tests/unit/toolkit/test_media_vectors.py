# SPDX-License-Identifier: LGPL-2.1-or-later
"""Media made by the tools that define them, as recorded in tests/vectors/media."""

from __future__ import annotations

import json
from typing import Any

import pytest

from iscsiboot.toolkit.media import examine
from iscsiboot.toolkit.media_values import Content, Media, Outcome
from tests.unit.toolkit.media_support import drive
from tests.vectors.media.make import FILE, RECIPES, load

RECORDED: dict[str, Any] = json.loads(FILE.read_text())
UUID = "11111111-2222-3333-4444-555555555555"


def media(name: str) -> Media:
    entry = RECORDED[name]
    return drive(examine(entry["size"], entry["block_size"], optical=entry["optical"]), load(entry)).media


@pytest.mark.parametrize(
    ("name", "kind", "label", "uuid"),
    [
        ("ext4", "ext4", "a label", UUID),
        ("xfs", "xfs", "a label", UUID),
        ("btrfs", "btrfs", "a label", UUID),
        ("f2fs", "f2fs", "a label", None),
        ("swap", "swap", "a label", UUID),
        ("fat12", "vfat", "A LABEL", None),
        ("ntfs", "ntfs", "", None),
        ("luks1", "LUKS", "", UUID),
        ("luks2", "LUKS", "", UUID),
        ("cd", "iso9660", "A CD", None),
    ],
)
def test_contents(name: str, kind: str, label: str, uuid: str | None) -> None:
    content = media(name).found.content
    assert isinstance(content, Content)
    assert (content.kind, content.label) == (kind, label)
    assert content.uuid == uuid or (uuid is None and (content.uuid or kind == "iso9660"))


def test_a_disk_as_an_installer_leaves_it() -> None:
    made = media("gpt-installed")
    table = made.found.table
    assert table is not None
    assert (table.kind, table.uuid, made.found.findings) == ("gpt", UUID, ())
    assert [(item.type_name, item.name) for item in table.partitions] == [
        ("BIOS boot", "core"),
        ("EFI system", "EFI of the disk"),
        ("Linux", "root"),
    ]
    assert made.uefi.reason == "EFI/BOOT/BOOTX64.EFI (x64) in EFI system partition 2"
    assert made.kernel.reason == 'ext4 "root" in partition 3'
    assert made.bios.outcome is Outcome.NO


def test_gpt_in_large_blocks() -> None:
    table = media("gpt-4096").found.table
    assert table is not None
    assert (table.unit, table.partitions[0].start, table.partitions[0].size) == (4096, 1 << 20, 2 << 20)


def test_mbr_with_logical_partitions() -> None:
    table = media("mbr-logical").found.table
    assert table is not None
    assert (table.kind, table.uuid) == ("mbr", "cafe0001")
    assert [(item.number, item.start // 512) for item in table.partitions] == [
        (1, 2048),
        (2, 10240),
        (5, 12288),
        (6, 20480),
    ]


def test_a_cd() -> None:
    made = media("cd")
    assert (made.bios.outcome, made.uefi.outcome) == (Outcome.YES, Outcome.YES)


def test_every_recipe_is_recorded_with_what_made_it() -> None:
    assert set(RECORDED) == set(RECIPES)
    assert all(any(char.isdigit() for char in entry["made_by"]) for entry in RECORDED.values())
