# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whole media: partition tables in good and bad order, what is in them, and who can boot from them."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from iscsiboot.toolkit.media import LOOKED_INTO, examine
from iscsiboot.toolkit.media_gpt import PARTITIONS_MAX
from iscsiboot.toolkit.media_mbr import LOGICAL_MAX
from iscsiboot.toolkit.media_signatures import HEAD, TAIL
from iscsiboot.toolkit.media_values import (
    BUDGET,
    BootSector,
    Content,
    Disk,
    EfiFiles,
    ElTorito,
    Found,
    Outcome,
    Partition,
    PartitionRole,
    Role,
    Table,
    Verdict,
)
from iscsiboot.toolkit.media_verdict import by_bios, by_kernel, by_uefi
from tests.unit.toolkit.media_support import (
    ESP,
    LINUX,
    RAID,
    Part,
    drive,
    esp,
    examined,
    ext4,
    gpt_disk,
    gpt_header,
    mbr,
    mbr_entry,
    over,
    place,
)

GRUB = b"\xeb\x63\x90GRUB \0Geom\0Hard Disk\0Read\0 Error"
ACTIVE_CODE = b"\xfa\x33\xc0 Missing operating system."
UNKNOWN_CODE = b"\xfa\x31\xc0\x8e"


def partitions(data: bytes | bytearray, *, block_size: int = 512) -> tuple[Partition, ...]:
    table = examined(bytes(data), block_size=block_size).found.table
    assert table is not None
    return table.partitions


def test_an_empty_disk() -> None:
    media = examined(bytes(1 << 20))
    assert (media.found.table, media.found.content, media.found.findings) == (None, None, ())
    assert media.bios.reason == "the first sector has no boot signature (55 AA)"
    assert media.uefi.reason == "there is no partition table"
    assert media.kernel.reason == "there is no file system of Linux"
    assert {media.bios.outcome, media.uefi.outcome, media.kernel.outcome} == {Outcome.NO}


@pytest.mark.parametrize("size", [0, 1, 511, 512, 1024, 4096])
def test_a_disk_too_small_for_anything(size: int) -> None:
    assert examined(b"\x55" * size).found.table is None


@pytest.mark.parametrize("unit", [512, 4096])
def test_gpt(unit: int) -> None:
    data = gpt_disk(
        Part(ESP, 512, 1023, "EFI \x1b[31m"), Part(LINUX, 64, 127, "über", attributes=4), size=8 << 20, unit=unit
    )
    media = examined(bytes(data), block_size=unit)
    table = media.found.table
    assert table is not None
    assert (table.kind, table.unit, table.uuid) == ("gpt", unit, "00000000-0000-0000-0000-00000000d15c")
    first, second = table.partitions
    assert (first.number, first.start, first.size) == (1, 512 * unit, 512 * unit)
    assert (first.role, first.name, first.active) == (PartitionRole.EFI_SYSTEM, "EFI \\x1b[31m", False)
    assert (second.name, second.active, second.type_name) == ("über", True, "Linux")
    assert media.found.findings == ()


def corrupt(data: bytearray, offset: int) -> None:
    data[offset] ^= 0xFF


@pytest.mark.parametrize(
    ("offset", "words"),
    [
        pytest.param(512 + 60, "has a header with a wrong checksum", id="header"),
        pytest.param(512 + 12, "has a header of 163 bytes", id="length"),
        pytest.param(1024 + 40, "has entries with a wrong checksum", id="entries"),
        pytest.param(512, "is missing", id="signature"),
    ],
)
def test_a_damaged_primary_gpt_is_replaced_by_its_backup(offset: int, words: str) -> None:
    data = gpt_disk(Part(LINUX, 64, 127))
    corrupt(data, offset)
    found = examined(bytes(data)).found
    assert found.table is not None
    assert found.table.partitions[0].start == 64 * 512
    assert (
        found.findings[0].startswith(f"the primary GPT {words}") or "header with a wrong checksum" in found.findings[0]
    )
    assert "this is the backup" in found.findings[0]


def test_a_damaged_backup_is_told() -> None:
    data = gpt_disk(Part(LINUX, 64, 127))
    corrupt(data, len(data) - 512)
    found = examined(bytes(data)).found
    assert found.table is not None
    assert "backup GPT is not at the end" in found.findings[0]


def test_both_copies_damaged() -> None:
    data = gpt_disk(Part(LINUX, 64, 127))
    corrupt(data, 1024)
    corrupt(data, len(data) - 512)
    found = examined(bytes(data)).found
    assert found.table is not None
    assert found.table.kind == "mbr"
    assert found.table.partitions[0].role is PartitionRole.PROTECTIVE
    assert "and there is no good backup" in found.findings[0]
    assert "says that there is a GPT, and there is none" in found.findings[1]


@pytest.mark.parametrize(
    ("count", "entry_size"), [(1 << 20, 128), (128, 64), (128, 192), (64, 8192), (0xFFFFFFFF, 4096)]
)
def test_gpt_sizes_nobody_needs_are_refused_before_anything_is_read(count: int, entry_size: int) -> None:
    data = gpt_disk()
    place(data, 512, gpt_header(1, 8191, 2, b"", count=count, entry_size=entry_size))
    corrupt(data, len(data) - 512)
    driven = drive(examine(len(data), 512), over(bytes(data)))
    assert f"has {count} entries of {entry_size} bytes" in driven.media.found.findings[0]
    assert sum(extent.length for extent in driven.extents) < 1 << 20


def test_gpt_header_in_the_wrong_place() -> None:
    data = gpt_disk()
    place(data, 512, gpt_header(7, 8191, 2, bytes(128 * 128)))
    assert "says it is at block 7 and is at 1" in examined(bytes(data)).found.findings[0]


@pytest.mark.parametrize("length", [0, 91, 513, 0xFFFFFFFF])
def test_gpt_header_lengths_that_are_none(length: int) -> None:
    data = gpt_disk()
    place(data, 512 + 12, struct.pack("<I", length))
    assert f"has a header of {length} bytes" in examined(bytes(data)).found.findings[0]


def test_gpt_entries_outside_the_disk() -> None:
    data = gpt_disk()
    place(data, 512, gpt_header(1, 8191, 1 << 40, bytes(128 * 128)))
    assert "has its entries outside the disk" in examined(bytes(data)).found.findings[0]


def test_gpt_for_another_block_size_is_found_and_of_no_use() -> None:
    data = gpt_disk(Part(ESP, 256, 1023), Part(LINUX, 1024, 1535), size=8 << 20, unit=512)
    place(data, 1024 * 512, ext4())
    media = examined(bytes(data), block_size=4096)
    assert media.found.table is not None
    assert media.found.table.unit == 512
    assert "nobody will see its partitions" in media.found.findings[-1]
    assert (media.uefi.outcome, media.kernel.outcome) == (Outcome.NO, Outcome.NO)


def test_gpt_without_a_protective_mbr_is_not_used() -> None:
    found = examined(bytes(gpt_disk(Part(LINUX, 64, 127), protective=False))).found
    assert found.table is None
    assert "without a protective MBR" in found.findings[0]


def test_places_of_partitions_are_checked() -> None:
    data = gpt_disk(Part(LINUX, 64, 127), Part(LINUX, 100, 200), Part(LINUX, 300, 1 << 50), Part(LINUX, 500, 40))
    found = examined(bytes(data)).found
    assert set(found.findings) == {
        "partitions 1 and 2 overlap",
        "partition 3 reaches beyond the end of the disk",
        "partitions 3 and 4 overlap",
        "partition 4 ends before it begins",
    }


def test_an_entry_size_of_a_later_specification() -> None:
    data = gpt_disk()
    entries = b"".join(Part(LINUX, 64 + 8 * n, 71 + 8 * n).encode(256) for n in range(64))
    place(data, 512, gpt_header(1, 8191, 2, entries, count=64, entry_size=256))
    place(data, 1024, entries)
    assert [item.start // 512 for item in partitions(data)] == [64 + 8 * n for n in range(64)]


def test_more_partitions_than_anybody_has_are_not_listed() -> None:
    data = gpt_disk()
    entries = b"".join(Part(LINUX, 1000 + n, 1000 + n).encode(128) for n in range(1000))
    place(data, 512, gpt_header(1, 8191, 2, entries, count=1000))
    place(data, 1024, entries)
    assert len(partitions(data)) == PARTITIONS_MAX


def test_only_so_many_partitions_are_looked_into() -> None:
    parts = [Part(LINUX, 64 + 8 * number, 71 + 8 * number) for number in range(100)]
    data = gpt_disk(*parts)
    driven = drive(examine(len(data), 512), over(bytes(data)))
    table = driven.media.found.table
    assert table is not None
    assert len(table.partitions) == 100
    assert len(driven.extents) < 3 * LOOKED_INTO
    assert driven.media.found.findings == ("the content of 16 partitions was looked at, not of all 100",)


def test_partition_contents() -> None:
    data = gpt_disk(Part(LINUX, 64, 2047), Part(ESP, 2048, 18000), Part(RAID, 20000, 25000), size=16 << 20)
    place(data, 64 * 512, ext4("r\x07oot"))
    place(data, 2048 * 512, esp(16, "BOOTX64.EFI", vendor="DEBIAN"))
    raid = bytearray(5001 * 512)
    place(raid, 0, ext4())
    superblock = struct.pack("<II8x16s32s8xi", 0xA92B4EFC, 1, b"u" * 16, b"host:0", 1)
    place(raid, (5001 - 16) // 8 * 8 * 512, superblock)
    place(data, 20000 * 512, bytes(raid))
    media = examined(bytes(data))
    assert media.found.table is not None
    root, efi, mirror = media.found.table.partitions
    assert root.content == Content(kind="ext4", label="r\\x07oot", uuid="00000000-0000-0000-0000-0000000000e4")
    assert efi.efi == EfiFiles(loaders=("BOOTX64.EFI",), vendors=("DEBIAN",))
    assert mirror.content is not None
    assert (mirror.content.kind, mirror.content.label, mirror.content.detail) == ("Linux RAID", "host:0", "level 1")
    assert media.uefi.outcome is Outcome.YES


def test_mbr() -> None:
    data = bytearray(4 << 20)
    place(data, 0, mbr(mbr_entry(0x83, 64, 1024, active=True), mbr_entry(0x99, 2048, 16), code=ACTIVE_CODE))
    place(data, 440, b"\xef\xbe\xad\xde")
    place(data, 64 * 512, ext4())
    media = examined(bytes(data))
    table = media.found.table
    assert table is not None
    assert (table.kind, table.uuid) == ("mbr", "deadbeef")
    assert [(item.type_id, item.type_name, item.active) for item in table.partitions] == [
        ("0x83", "Linux", True),
        ("0x99", "unknown", False),
    ]
    assert media.bios.reason == "partition 1 is active and has no boot sector"
    place(data, 64 * 512 + 510, b"\x55\xaa")
    assert examined(bytes(data)).bios.reason == "boot code (syslinux) and active partition 1"


@pytest.mark.parametrize(
    "sector",
    [
        pytest.param(mbr(mbr_entry(0x83, 64, 10), signature=False), id="no-signature"),
        pytest.param(mbr(), id="no-entries"),
        pytest.param(mbr(mbr_entry(0x83, 64, 0)), id="entry-without-blocks"),
        pytest.param(mbr(b"\x42" + mbr_entry(0x83, 64, 10)[1:]), id="status-that-is-none"),
    ],
)
def test_what_is_no_mbr(sector: bytes) -> None:
    assert examined(sector + bytes(100_000)).found.table is None


def test_two_active_partitions_are_told() -> None:
    data = mbr(mbr_entry(0x83, 64, 10, active=True), mbr_entry(0x83, 80, 10, active=True)) + bytes(100_000)
    assert "partitions 1, 2 are all active" in examined(data).found.findings[0]


def chain(*links: tuple[int, bytes], extended: int = 100, count: int = 4000) -> bytes:
    data = bytearray(4 << 20)
    place(data, 0, mbr(mbr_entry(0x05, extended, count)))
    for at, sector in links:
        place(data, at * 512, sector)
    return bytes(data)


def test_logical_partitions() -> None:
    data = chain(
        (100, mbr(mbr_entry(0x83, 8, 20), mbr_entry(0x05, 200, 100))),
        (300, mbr(mbr_entry(0x82, 8, 20))),
    )
    assert [(item.number, item.start // 512) for item in partitions(data)] == [(1, 100), (5, 108), (6, 308)]


@pytest.mark.parametrize(
    ("links", "words"),
    [
        pytest.param(((100, mbr(mbr_entry(0x83, 8, 20), mbr_entry(0x05, 0, 100))),), "outside or back", id="ring"),
        pytest.param(((100, mbr(mbr_entry(0x83, 8, 20), mbr_entry(0x05, 1 << 31, 9))),), "outside", id="outside"),
        pytest.param(((100, mbr(mbr_entry(0x83, 8, 20), mbr_entry(0x05, 50, 9))),), "broken at block 150", id="hole"),
        pytest.param((), "broken at block 100", id="nothing"),
    ],
)
def test_chains_that_are_broken(links: tuple[tuple[int, bytes], ...], words: str) -> None:
    assert words in examined(chain(*links)).found.findings[0]


def test_a_link_of_the_chain_may_be_empty() -> None:
    data = chain((100, mbr(mbr_entry(0, 0, 0), mbr_entry(0x05, 200, 100))), (300, mbr(mbr_entry(0x82, 8, 20))))
    assert [(item.number, item.start // 512) for item in partitions(data)] == [(1, 100), (5, 308)]


def test_a_chain_without_end_is_cut() -> None:
    links = [(100 + n, mbr(mbr_entry(0x83, 1, 1), mbr_entry(0x05, n + 1, 1))) for n in range(200)]
    found = examined(chain(*links)).found
    assert f"more than {LOGICAL_MAX} logical partitions: the rest was not read" in found.findings
    assert found.table is not None
    assert len(found.table.partitions) == 1 + LOGICAL_MAX


def test_a_fat_volume_is_no_partition_table() -> None:
    data = bytearray(esp(16, "BOOTX64.EFI"))
    place(data, 446, mbr_entry(0x83, 64, 10))
    media = examined(bytes(data))
    assert media.found.table is None
    assert media.found.content is not None
    assert media.found.content.kind == "vfat"
    assert media.uefi.reason == "EFI/BOOT/BOOTX64.EFI (x64) in a FAT volume without partition table"


def test_a_table_makes_other_signatures_remains() -> None:
    data = bytearray(4 << 20)
    place(data, 0, ext4())
    place(data, 0, mbr(mbr_entry(0x83, 1024, 16)))
    assert examined(bytes(data)).found.content is None


def iso(*entries: bytes, platform: int = 0) -> bytes:
    """A CD image with a boot catalogue."""
    data = bytearray(64 * 2048)
    place(data, 16 * 2048, b"\x01CD001\x01" + bytes(33) + b"A CD".ljust(32))
    place(data, 17 * 2048, b"\x00CD001\x01" + b"EL TORITO SPECIFICATION".ljust(64, b"\0") + struct.pack("<I", 20))
    validation = bytearray(bytes([1, platform]) + bytes(28) + b"\x55\xaa")
    total = sum(struct.unpack("<16H", bytes(validation)))
    place(validation, 28, struct.pack("<H", -total & 0xFFFF))
    place(data, 20 * 2048, bytes(validation) + b"".join(entries))
    return bytes(data)


BOOTABLE = b"\x88" + bytes(31)
PLAIN = bytes(32)
EFI_SECTION = bytes([0x91, 0xEF, 1, 0]) + bytes(28)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(iso(BOOTABLE), ElTorito(bios=True), id="bios"),
        pytest.param(iso(BOOTABLE, EFI_SECTION, BOOTABLE), ElTorito(bios=True, efi=True), id="both"),
        pytest.param(iso(BOOTABLE, platform=0xEF), ElTorito(efi=True), id="efi-alone"),
        pytest.param(iso(PLAIN, EFI_SECTION, PLAIN), ElTorito(), id="nothing-bootable"),
        pytest.param(iso(BOOTABLE, PLAIN, EFI_SECTION, BOOTABLE), ElTorito(bios=True), id="ended-early"),
        pytest.param(
            iso(BOOTABLE, bytes([0x90, 0, 255, 0]) + bytes(28), *[BOOTABLE] * 61), ElTorito(bios=True), id="full-block"
        ),
    ],
)
def test_boot_catalogues(data: bytes, expected: ElTorito) -> None:
    assert examined(data, block_size=2048, optical=True).found.cd == expected


@pytest.mark.parametrize(
    "offset", [17 * 2048 + 1, 17 * 2048 + 8, 20 * 2048, 20 * 2048 + 30, 20 * 2048 + 5, 17 * 2048 + 74]
)
def test_a_broken_boot_catalogue_is_none(offset: int) -> None:
    data = bytearray(iso(BOOTABLE))
    corrupt(data, offset)
    media = examined(bytes(data), block_size=2048, optical=True)
    assert media.found.cd is None
    assert (media.bios.outcome, media.uefi.outcome) == (Outcome.NO, Outcome.NO)


def test_what_is_read_of_a_large_disk_is_little() -> None:
    image = bytes(gpt_disk(Part(LINUX, 64, 127)))
    size = 16 << 40
    driven = drive(examine(size, 512), over(image))
    assert driven.extents[0].length == HEAD
    assert sum(extent.length for extent in driven.extents) <= 2 * HEAD + TAIL
    assert driven.media.found.table is not None


def test_a_disk_that_gives_nothing_back() -> None:
    driven = drive(examine(1 << 30, 512), lambda offset, length: b"")
    assert driven.media.found.table is None
    assert sum(extent.length for extent in driven.extents) <= BUDGET


def test_the_budget_ends_all_reading() -> None:
    disk = Disk(1 << 40, 512)
    reads = disk.read(0, BUDGET)
    assert next(reads).length == BUDGET
    with pytest.raises(StopIteration):
        reads.send(b"")
    with pytest.raises(StopIteration) as done:
        next(disk.read(0, 1))
    assert done.value.value == b""


# Verdicts, each on the facts alone.

YES, MAYBE, NO = Outcome.YES, Outcome.MAYBE, Outcome.NO
_GRUB = BootSector(signature=True, code=True, program="GRUB")
_MBR_CODE = BootSector(signature=True, code=True, program="syslinux")
_SOME_CODE = BootSector(signature=True, code=True)
_NO_CODE = BootSector(signature=True, code=False)


def part(
    role: PartitionRole = PartitionRole.OTHER,
    *,
    active: bool = False,
    content: Content | None = None,
    boot_sector: bool = False,
    efi: EfiFiles | None = None,
) -> Partition:
    return Partition(
        number=1,
        start=1 << 20,
        size=1 << 20,
        type_id="x",
        type_name="x",
        role=role,
        active=active,
        content=content,
        boot_sector=boot_sector,
        efi=efi,
    )


def facts(
    sector: BootSector, kind: str = "", *parts: Partition, block_size: int = 512, content: Content | None = None
) -> Found:
    table = Table(kind=kind, partitions=parts, unit=512) if kind else None
    return Found(size=1 << 30, block_size=block_size, optical=False, sector=sector, table=table, content=content)


CORE = part(PartitionRole.BIOS_BOOT)
NTFS = Content(kind="ntfs")


@pytest.mark.parametrize(
    ("found", "outcome", "words"),
    [
        pytest.param(facts(_NO_CODE, "mbr", part(active=True)), NO, "no boot code", id="no-code"),
        pytest.param(facts(_GRUB, "gpt", CORE), YES, "BIOS boot partition 1", id="grub-gpt"),
        pytest.param(facts(_GRUB, "gpt", part()), MAYBE, "no BIOS boot partition", id="grub-gpt-without-core"),
        pytest.param(facts(_MBR_CODE, "gpt", part(active=True)), YES, "legacy BIOS bootable", id="gptmbr"),
        pytest.param(facts(_SOME_CODE, "gpt", CORE), MAYBE, "unknown make", id="unknown-gpt"),
        pytest.param(facts(_MBR_CODE, "gpt", part()), NO, "neither", id="gpt-nothing"),
        pytest.param(facts(_GRUB, "mbr", part()), YES, "GRUB", id="grub-mbr"),
        pytest.param(facts(_MBR_CODE, "mbr", part()), NO, "none is", id="mbr-none-active"),
        pytest.param(facts(_MBR_CODE, "mbr", part(active=True)), NO, "no boot sector", id="mbr-empty-active"),
        pytest.param(
            facts(_MBR_CODE, "mbr", part(active=True, boot_sector=True)), YES, "active partition 1", id="mbr-active"
        ),
        pytest.param(facts(_GRUB), YES, "no partition table", id="grub-no-table"),
        pytest.param(facts(_SOME_CODE), MAYBE, "no partition table", id="unknown-no-table"),
        pytest.param(facts(_SOME_CODE, content=NTFS), MAYBE, "ntfs volume", id="volume"),
        pytest.param(facts(_GRUB, "gpt", CORE, block_size=4096), MAYBE, "blocks of 512 bytes", id="large-blocks"),
        pytest.param(
            facts(BootSector(signature=True, code=True, program="a message only")), NO, "only prints", id="message"
        ),
        pytest.param(facts(BootSector(signature=False, code=True)), NO, "55 AA", id="no-signature"),
    ],
)
def test_by_bios(found: Found, outcome: Outcome, words: str) -> None:
    verdict = by_bios(found)
    assert verdict.outcome is outcome
    assert words in verdict.reason


VFAT = Content(kind="vfat")
LOADER = EfiFiles(loaders=("BOOTX64.EFI", "BOOTAA64.EFI"))


@pytest.mark.parametrize(
    ("found", "outcome", "words"),
    [
        pytest.param(
            facts(_NO_CODE, "gpt", part(PartitionRole.EFI_SYSTEM, content=VFAT, efi=LOADER)),
            YES,
            "EFI/BOOT/BOOTX64.EFI (x64, aa64) in EFI system partition 1",
            id="loader",
        ),
        pytest.param(
            facts(
                _NO_CODE, "gpt", part(PartitionRole.EFI_SYSTEM, content=VFAT, efi=EfiFiles(vendors=("DEBIAN", "MS")))
            ),
            MAYBE,
            "EFI/DEBIAN, EFI/MS but no EFI/BOOT: it takes a boot entry",
            id="vendor",
        ),
        pytest.param(
            facts(_NO_CODE, "mbr", part(PartitionRole.EFI_SYSTEM, content=VFAT, efi=EfiFiles())),
            NO,
            "no boot loader",
            id="empty",
        ),
        pytest.param(
            facts(_NO_CODE, "gpt", part(PartitionRole.EFI_SYSTEM, content=VFAT)), MAYBE, "not looked", id="unseen"
        ),
        pytest.param(
            facts(_NO_CODE, "gpt", part(PartitionRole.EFI_SYSTEM, content=NTFS)), NO, "ntfs, not FAT", id="not-fat"
        ),
        pytest.param(facts(_NO_CODE, "gpt", part(PartitionRole.EFI_SYSTEM)), NO, "nothing known", id="unknown"),
        pytest.param(facts(_NO_CODE, "gpt", part(content=VFAT, efi=LOADER)), MAYBE, "not marked", id="stray"),
        pytest.param(facts(_NO_CODE, "gpt", part()), NO, "no EFI system partition", id="none"),
        pytest.param(
            facts(_NO_CODE, "gpt", part(PartitionRole.EFI_SYSTEM, content=VFAT, efi=LOADER), block_size=4096),
            NO,
            "counts in blocks of 512 bytes, not 4096",
            id="other-blocks",
        ),
        pytest.param(facts(_NO_CODE), NO, "no partition table", id="no-table"),
    ],
)
def test_by_uefi(found: Found, outcome: Outcome, words: str) -> None:
    verdict = by_uefi(found)
    assert verdict.outcome is outcome
    assert words in verdict.reason


@pytest.mark.parametrize(
    ("found", "outcome", "words"),
    [
        pytest.param(facts(_NO_CODE, content=Content(kind="xfs")), YES, "xfs on the whole disk", id="whole-disk"),
        pytest.param(
            facts(_NO_CODE, "gpt", part(content=Content(kind="ext4", label="root"))),
            YES,
            'ext4 "root" in partition 1',
            id="partition",
        ),
        pytest.param(
            facts(
                _NO_CODE,
                "gpt",
                part(content=Content(kind="LVM2", role=Role.CONTAINER)),
                part(content=Content(kind="LUKS", role=Role.CONTAINER)),
            ),
            MAYBE,
            "LVM2 in partition 1, which the initramfs has to open",
            id="container",
        ),
        pytest.param(
            facts(_NO_CODE, "gpt", part(content=Content(kind="swap", role=Role.SWAP)), part(content=NTFS)),
            NO,
            "no file system of Linux",
            id="swap-and-ntfs",
        ),
    ],
)
def test_by_kernel(found: Found, outcome: Outcome, words: str) -> None:
    verdict = by_kernel(found)
    assert verdict.outcome is outcome
    assert words in verdict.reason


@pytest.mark.parametrize("cd", [ElTorito(bios=True), ElTorito(efi=True)], ids=["bios", "efi"])
def test_a_cd_drive_is_booted_by_its_catalogue_alone(cd: ElTorito) -> None:
    found = replace(facts(_GRUB, "gpt", CORE), optical=True, cd=cd)
    assert by_bios(found).outcome is (YES if cd.bios else NO)
    assert by_uefi(found).outcome is (YES if cd.efi else NO)
    assert isinstance(by_bios(found), Verdict)
