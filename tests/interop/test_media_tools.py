# SPDX-License-Identifier: LGPL-2.1-or-later
"""Media made by the tools that define them: partition tables, file systems, containers, CD images.

Each test is skipped when its tool is not on PATH; `blkid` is the second opinion on labels and UUIDs where it is there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from iscsiboot.toolkit.media_values import Content, Media, Outcome
from tests.unit.toolkit.media_support import examined_file

pytestmark = [pytest.mark.interop]

MIB = 1 << 20
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
UUID = "11111111-2222-3333-4444-555555555555"


def run(*argv: str | Path, stdin: str | bytes = b"") -> str:
    """Run a tool; skip without it, fail with what it printed when it fails."""
    program = shutil.which(str(argv[0]), path=PATH)
    if program is None:
        pytest.skip(f"{argv[0]} is not installed")
    done = subprocess.run(
        [program, *map(str, argv[1:])],
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode(errors="replace")


def image(tmp_path: Path, mib: int, name: str = "disk.img") -> Path:
    path = tmp_path / name
    with path.open("wb") as file:
        file.truncate(mib * MIB)
    return path


def content_of(path: Path) -> Content:
    content = examined_file(path).found.content
    assert content is not None
    return content


def second_opinion(path: Path) -> dict[str, str]:
    """What blkid says."""
    program = shutil.which("blkid", path=PATH)
    if program is None:
        pytest.skip("blkid is not installed")
    done = subprocess.run([program, "-p", "-o", "export", str(path)], capture_output=True, text=True, check=False)
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


@pytest.mark.parametrize(
    ("kind", "mib", "argv"),
    [
        pytest.param("ext2", 4, ["mkfs.ext2", "-q", "-L", "a label", "-U", UUID, "DISK"], id="ext2"),
        pytest.param("ext3", 16, ["mkfs.ext3", "-q", "-L", "a label", "-U", UUID, "DISK"], id="ext3"),
        pytest.param("ext4", 16, ["mkfs.ext4", "-q", "-L", "a label", "-U", UUID, "DISK"], id="ext4"),
        pytest.param("xfs", 320, ["mkfs.xfs", "-q", "-L", "a label", "-m", f"uuid={UUID}", "DISK"], id="xfs"),
        pytest.param("btrfs", 128, ["mkfs.btrfs", "-q", "-L", "a label", "-U", UUID, "DISK"], id="btrfs"),
        pytest.param("f2fs", 64, ["mkfs.f2fs", "-q", "-l", "a label", "DISK"], id="f2fs"),
        pytest.param("vfat", 2, ["mkfs.fat", "-F", "12", "-n", "A LABEL", "DISK"], id="fat12"),
        pytest.param("vfat", 32, ["mkfs.fat", "-F", "16", "-n", "A LABEL", "DISK"], id="fat16"),
        pytest.param("vfat", 64, ["mkfs.fat", "-F", "32", "-n", "A LABEL", "DISK"], id="fat32"),
        pytest.param(
            "ntfs", 16, ["mkfs.ntfs", "-q", "-F", "-s", "512", "-p", "0", "-H", "0", "-S", "0", "DISK"], id="ntfs"
        ),
        pytest.param("swap", 4, ["mkswap", "-L", "a label", "-U", UUID, "DISK"], id="swap"),
        pytest.param("swap", 4, ["mkswap", "-p", "65536", "-L", "a label", "-U", UUID, "DISK"], id="swap-64k-pages"),
    ],
)
def test_file_systems(tmp_path: Path, kind: str, mib: int, argv: list[str]) -> None:
    disk = image(tmp_path, mib)
    run(*(disk if word == "DISK" else word for word in argv))
    content, told = content_of(disk), second_opinion(disk)
    assert content.kind == kind == told["TYPE"]
    assert content.uuid == told["UUID"]
    if kind != "ntfs":  # its label is in a file, which nobody here reads
        assert content.label.lower() == "a label"


@pytest.mark.parametrize("version", ["1", "2"])
def test_luks(tmp_path: Path, version: str) -> None:
    disk = image(tmp_path, 20)
    run(
        *("cryptsetup", "luksFormat", "-q", "--type", f"luks{version}", "--uuid", UUID, "--pbkdf", "pbkdf2"),
        *("--pbkdf-force-iterations", "1000", disk, "-"),
        stdin="a passphrase",
    )
    content = content_of(disk)
    assert (content.kind, content.uuid, content.detail) == ("LUKS", UUID, f"version {version}")


def test_squashfs(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(os.urandom(200_000))
    run("mksquashfs", tmp_path / "tree", tmp_path / "image", "-quiet", "-no-progress")
    assert content_of(tmp_path / "image").kind == "squashfs"
    assert content_of(tmp_path / "image").detail == "version 4.0"


def test_erofs(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(os.urandom(20_000))
    run("mkfs.erofs", "-U", UUID, tmp_path / "image", tmp_path / "tree")
    assert (content_of(tmp_path / "image").kind, content_of(tmp_path / "image").uuid) == ("erofs", UUID)


SFDISK_GPT = f"""label: gpt
label-id: {UUID}
start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649, name="core"
start=4096, size=98304, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name="EFI of the disk"
start=102400, size=32768, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, name="root"
"""


def gpt_with_esp(tmp_path: Path) -> Path:
    """A disk as an installer leaves it, by sfdisk, mkfs.fat, mtools and mkfs.ext4."""
    disk, esp, root = image(tmp_path, 96), image(tmp_path, 48, "esp"), image(tmp_path, 16, "root")
    run("sfdisk", "-q", disk, stdin=SFDISK_GPT)
    run("mkfs.fat", "-F", "32", "-s", "1", "-n", "EFI", esp)
    loader = tmp_path / "loader"
    loader.write_bytes(b"MZ")
    run("mmd", "-i", esp, "::EFI", "::EFI/BOOT", "::EFI/debian")
    # More entries than one cluster holds: the directory goes on in a second one.
    for number in range(40):
        run("mcopy", "-i", esp, loader, f"::EFI/BOOT/file{number}.txt")
    run("mcopy", "-i", esp, loader, "::EFI/BOOT/bootx64.efi")
    run("mkfs.ext4", "-q", "-L", "root", root)
    with disk.open("r+b") as file:
        for at, part in ((4096, esp), (102400, root)):
            file.seek(at * 512)
            file.write(part.read_bytes())
    return disk


def test_a_disk_as_an_installer_leaves_it(tmp_path: Path) -> None:
    media = examined_file(gpt_with_esp(tmp_path))
    table = media.found.table
    assert table is not None
    assert (table.kind, table.uuid, media.found.findings) == ("gpt", UUID, ())
    assert [(item.number, item.type_name, item.name) for item in table.partitions] == [
        (1, "BIOS boot", "core"),
        (2, "EFI system", "EFI of the disk"),
        (3, "Linux", "root"),
    ]
    assert [item.content and item.content.kind for item in table.partitions] == [None, "vfat", "ext4"]
    assert media.uefi.outcome is Outcome.YES
    assert media.uefi.reason == "EFI/BOOT/BOOTX64.EFI (x64) in EFI system partition 2"
    assert media.bios.outcome is Outcome.NO
    assert media.kernel.reason == 'ext4 "root" in partition 3'


def test_gpt_by_sgdisk_whose_disk_has_grown(tmp_path: Path) -> None:
    disk = image(tmp_path, 16)
    run("sgdisk", "-n", "1:2048:+4M", "-t", "1:8300", "-A", "1:set:2", disk)
    assert examined_file(disk).found.findings == ()
    with disk.open("r+b") as file:
        file.truncate(32 * MIB)
    found = examined_file(disk).found
    assert found.table is not None
    assert found.table.partitions[0].active
    assert found.findings == ("the backup GPT is not at the end of the disk (was it resized?), or is damaged",)


def test_a_gpt_for_larger_blocks(tmp_path: Path) -> None:
    disk = image(tmp_path, 16)
    run("fdisk", "-b", "4096", disk, stdin="g\nn\n1\n256\n767\nw\n")
    found = examined_file(disk, block_size=4096).found
    assert found.table is not None
    assert (found.table.unit, found.table.partitions[0].start, found.findings) == (4096, MIB, ())
    wrong = examined_file(disk, block_size=512)
    assert wrong.found.table is not None
    assert wrong.uefi.outcome is Outcome.NO
    assert "blocks of 4096 bytes, the unit has 512" in wrong.found.findings[0]


def test_mbr_with_logical_partitions(tmp_path: Path) -> None:
    disk = image(tmp_path, 64)
    script = (
        "label: dos\nlabel-id: 0xcafe0001\nstart=2048, size=8192, type=83, bootable\nstart=10240, type=5\n"
        "start=12288, size=4096, type=82\nstart=20480, size=4096, type=ef\nstart=28672, size=4096, type=8e\n"
    )
    run("sfdisk", "-q", disk, stdin=script)
    table = examined_file(disk).found.table
    assert table is not None
    assert (table.kind, table.uuid) == ("mbr", "cafe0001")
    assert [(item.number, item.start // 512, item.type_name) for item in table.partitions] == [
        (1, 2048, "Linux"),
        (2, 10240, "extended"),
        (5, 12288, "Linux swap"),
        (6, 20480, "EFI system"),
        (7, 28672, "Linux LVM"),
    ]
    assert [item.number for item in table.partitions if item.active] == [1]


def with_code(disk: Path, name: str) -> Media:
    """The disk with boot code of a package in its first sector; packages lie beside the programs on PATH."""
    places = [Path(folder).parent / "lib" / name for folder in PATH.split(":")]
    source = next((path for path in places if path.is_file()), None)
    if source is None:
        pytest.skip(f"{name} is not installed")
    with disk.open("r+b") as file:
        file.write(source.read_bytes()[:440])
    return examined_file(disk)


def test_grub_on_a_gpt_disk(tmp_path: Path) -> None:
    media = with_code(gpt_with_esp(tmp_path), "grub/i386-pc/boot.img")
    assert (media.bios.outcome, media.bios.reason) == (Outcome.YES, "boot code (GRUB) and BIOS boot partition 1")


def test_syslinux_looks_for_an_active_partition(tmp_path: Path) -> None:
    disk = image(tmp_path, 16)
    run("sfdisk", "-q", disk, stdin="label: dos\nstart=2048, size=8192, type=83\n")
    media = with_code(disk, "syslinux/mbr/mbr.bin")
    assert (media.bios.outcome, media.found.sector.program) == (Outcome.NO, "syslinux")
    assert "looks for an active partition, and none is" in media.bios.reason


def test_an_unpartitioned_fat_volume_is_no_boot_disk(tmp_path: Path) -> None:
    disk = image(tmp_path, 32)
    run("mkfs.fat", "-F", "16", disk)
    media = examined_file(disk)
    assert media.found.table is None
    assert media.bios.reason == "the code in the first sector only prints that the disk is not bootable"


@pytest.mark.parametrize("optical", [False, True], ids=["disk", "drive"])
def test_a_hybrid_cd_image(tmp_path: Path, optical: bool) -> None:
    tree, esp = tmp_path / "tree", image(tmp_path, 2, "esp")
    tree.mkdir()
    (tree / "loader").write_bytes(bytes(2048))
    run("mkfs.fat", "-F", "12", esp)
    (tree / "efi.img").write_bytes(esp.read_bytes())
    disk = tmp_path / "cd.iso"
    run(
        *("xorriso", "-as", "mkisofs", "-quiet", "-V", "A CD", "-o", disk, "-b", "loader", "-no-emul-boot"),
        *("-boot-load-size", "4", "-eltorito-alt-boot", "-e", "efi.img", "-no-emul-boot", tree),
    )
    media = examined_file(disk, block_size=2048 if optical else 512, optical=optical)
    assert media.found.content is not None
    assert (media.found.content.kind, media.found.content.label) == ("iso9660", "A CD")
    assert media.found.cd is not None
    assert (media.found.cd.bios, media.found.cd.efi) == (True, True)
    expected = Outcome.YES if optical else Outcome.NO
    assert (media.bios.outcome, media.uefi.outcome) == (expected, expected)
