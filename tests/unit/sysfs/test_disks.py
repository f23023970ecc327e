# SPDX-License-Identifier: LGPL-2.1-or-later
"""Units and block devices of a session, the two writes, and who uses a disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from iscsiboot.errors import IscsiBootError, Stage
from iscsiboot.model.lun import Lun
from iscsiboot.sysfs.disks import delete_unit, disk_user, list_units, scan_host
from tests.unit.sysfs.test_sessions import add_session, write


def add_unit(sysfs: Path, lun: int, *, kind: str = "0", block: str | None = None, target: int = 0) -> Path:
    """A unit of session 1 on host 2."""
    name = f"2:0:{target}:{lun}"
    unit = sysfs / "devices/platform/host2/session1" / f"target2:0:{target}" / name
    write(unit, {"type": kind, "state": "running", "vendor": "IET     ", "model": "VIRTUAL-DISK    ", "delete": ""})
    if block:
        (unit / "block" / block).mkdir(parents=True)
    link = sysfs / "class/iscsi_session/session1/device"
    if not link.is_symlink():
        link.symlink_to(sysfs / "devices/platform/host2/session1")
    by_bus = sysfs / "bus/scsi/devices" / name
    by_bus.parent.mkdir(parents=True, exist_ok=True)
    by_bus.symlink_to(unit)
    return unit


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    root = tmp_path / "sys"
    add_session(root)
    return root


def test_units_come_by_lun_with_their_disks(sysfs: Path) -> None:
    add_unit(sysfs, 16385, block="sdb")
    add_unit(sysfs, 1, block="sda")
    add_unit(sysfs, 0, kind="12")
    controller, disk, other = list_units(sysfs, 1)
    assert (controller.lun, controller.kind, controller.makes_block_device) == (
        Lun.from_number(0),
        "array controller",
        False,
    )
    assert (disk.address, disk.blocks, disk.kind, disk.makes_block_device) == ("2:0:0:1", ("sda",), "disk", True)
    assert (disk.vendor, disk.model, disk.state) == ("IET", "VIRTUAL-DISK", "running")
    assert other.lun == Lun.from_kernel(16385)


def test_a_disk_the_driver_has_not_looked_at_yet_has_no_block_device(sysfs: Path) -> None:
    add_unit(sysfs, 1)
    (unit,) = list_units(sysfs, 1)
    assert unit.blocks == ()


@pytest.mark.parametrize(("kind", "words"), [("99", "SCSI type 99"), ("x", "unit of unknown type")])
def test_types_nobody_knows(sysfs: Path, kind: str, words: str) -> None:
    add_unit(sysfs, 1, kind=kind)
    (unit,) = list_units(sysfs, 1)
    assert unit.kind == words
    assert not unit.makes_block_device


def test_a_session_that_is_gone_has_no_units(tmp_path: Path) -> None:
    assert list_units(tmp_path, 4) == ()


@pytest.mark.parametrize(
    ("lun", "written"),
    [
        (None, "- - -"),
        (Lun.from_number(1), "0 0 1"),
        (Lun.from_number(300), "0 0 16684"),
        (Lun.parse("4752-3A4F-6b7e-2F99"), f"0 0 {Lun.parse('4752-3A4F-6b7e-2F99').kernel}"),
    ],
    ids=["all", "one", "flat", "four-levels"],
)
def test_scan(sysfs: Path, lun: Lun | None, written: str) -> None:
    path = sysfs / "class/scsi_host/host2/scan"
    path.write_text("")
    scan_host(sysfs, 2, lun)
    assert path.read_text() == written


def test_scanning_a_host_that_is_gone(sysfs: Path) -> None:
    with pytest.raises(IscsiBootError) as caught:
        scan_host(sysfs, 77, None)
    assert (caught.value.stage, caught.value.subject, caught.value.retryable) == (Stage.SCAN, "host77", True)


def test_a_write_the_kernel_refuses(sysfs: Path) -> None:
    (sysfs / "class/scsi_host/host2/scan").symlink_to("/dev/full")
    with pytest.raises(IscsiBootError, match="No space left") as caught:
        scan_host(sysfs, 2, None)
    assert not caught.value.retryable


def test_delete(sysfs: Path) -> None:
    path = add_unit(sysfs, 1)
    delete_unit(sysfs, list_units(sysfs, 1)[0])
    assert (path / "delete").read_text() == "1"


MOUNTED = "36 25 {} / /mnt rw,relatime shared:1 - ext4 {} rw\n"


@pytest.mark.parametrize(
    ("mountinfo", "swaps", "holder", "words"),
    [
        pytest.param("", "", None, None, id="free"),
        pytest.param(MOUNTED.format("8:0", "/dev/sda"), "", None, "sda is mounted on /mnt", id="disk-mounted"),
        pytest.param(MOUNTED.format("8:1", "/dev/root"), "", None, "sda1 is mounted on /mnt", id="partition-mounted"),
        pytest.param(MOUNTED.format("0:45", "/dev/sda1"), "", None, "sda1 is mounted on /mnt", id="btrfs"),
        pytest.param(MOUNTED.format("8:16", "/dev/sdb"), "", None, None, id="another-disk"),
        pytest.param("garbage\n\n1 2 8:0 / /x\n", "", None, None, id="strange-lines"),
        pytest.param("", "/dev/sda1 partition 1 0 -2\n\n", None, "sda1 is swap", id="swap"),
        pytest.param("", "", ("sda", "dm-0"), "sda is held by dm-0", id="device-mapper"),
        pytest.param("", "", ("sda/sda1", "md127"), "sda1 is held by md127", id="raid-on-partition"),
    ],
)
def test_who_uses_a_disk(
    tmp_path: Path, mountinfo: str, swaps: str, holder: tuple[str, str] | None, words: str | None
) -> None:
    sysfs, proc = tmp_path / "sys", tmp_path / "proc"
    write(sysfs / "block/sda", {"dev": "8:0"})
    write(sysfs / "block/sda/sda1", {"dev": "8:1", "partition": "1"})
    (sysfs / "block/sda/queue").mkdir()
    (proc / "self").mkdir(parents=True)
    (proc / "self/mountinfo").write_text(mountinfo)
    (proc / "swaps").write_text("Filename Type Size Used Priority\n" + swaps)
    if holder:
        (sysfs / "block" / holder[0] / "holders" / holder[1]).mkdir(parents=True)
    assert disk_user(sysfs, proc, "sda") == words


def test_nothing_to_read_is_nothing_known(tmp_path: Path) -> None:
    assert disk_user(tmp_path, tmp_path, "sda") is None
