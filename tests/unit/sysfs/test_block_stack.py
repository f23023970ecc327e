# SPDX-License-Identifier: LGPL-2.1-or-later
"""From mounts and swap down to disks through everything that may lie between, on made-up machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from iscsiboot.sysfs.block_stack import BlockStack, Use


class Tree:
    """A /sys and a /proc of block devices."""

    def __init__(self, root: Path) -> None:
        self.sysfs, self.proc, self.run = root / "sys", root / "proc", root / "run"
        (self.run / "udev" / "data").mkdir(parents=True)
        (self.sysfs / "class" / "block").mkdir(parents=True)
        (self.proc / "self").mkdir(parents=True)
        self.mounts: list[str] = []

    def device(self, name: str, number: str, *, below: tuple[str, ...] = (), dm: str = "", loop: str = "") -> None:
        self._link(name, self.sysfs / "devices" / name, number)
        base = self.sysfs / "devices" / name
        for other in below:
            (base / "slaves").mkdir(exist_ok=True)
            (base / "slaves" / other).symlink_to(self.sysfs / "class" / "block" / other)
        if dm:
            (base / "dm").mkdir()
            (base / "dm" / "name").write_text(f"{dm}\n")
        if loop:
            (base / "loop").mkdir()
            (base / "loop" / "backing_file").write_text(f"{loop}\n")

    def partition(self, disk: str, name: str, number: str) -> None:
        self._link(name, self.sysfs / "devices" / disk / name, number)
        (self.sysfs / "devices" / disk / name / "partition").write_text("1\n")

    def _link(self, name: str, place: Path, number: str) -> None:
        place.mkdir(parents=True)
        (place / "dev").write_text(f"{number}\n")
        (self.sysfs / "class" / "block" / name).symlink_to(place)

    def mount(self, number: str, point: str, kind: str = "ext4", source: str = "none", options: str = "rw") -> None:
        self.mounts.append(f"36 35 {number} / {point} rw,relatime shared:1 - {kind} {source} {options}")
        (self.proc / "self" / "mountinfo").write_text("\n".join(self.mounts) + "\n")

    def swap(self, *names: str) -> None:
        lines = ["Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority"]
        lines += [f"{name}                              partition\t1048572\t\t0\t\t-2" for name in names]
        (self.proc / "swaps").write_text("\n".join(lines) + "\n")

    def words(self) -> list[str]:
        return [use.words for use in BlockStack(str(self.sysfs), str(self.proc), str(self.run)).uses()]

    def zfs_member(self, number: str, pool: str) -> None:
        (self.run / "udev" / "data" / f"b{number}").write_text(
            f"S:disk/by-id/x\nI:123\nE:ID_FS_LABEL={pool}\nE:ID_FS_TYPE=zfs_member\nG:systemd\n"
        )


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_a_disk_and_a_partition(tree: Tree) -> None:
    tree.device("sda", "8:0")
    tree.partition("sda", "sda2", "8:2")
    tree.device("sdb", "8:16")
    tree.mount("8:2", "/")
    tree.mount("8:16", "/srv")
    tree.mount("0:22", "/proc", "proc", "proc")
    assert tree.words() == ["sda2 on sda is mounted on /", "sdb is mounted on /srv"]


def test_lvm_over_crypt_over_two_disks(tree: Tree) -> None:
    for name, number in (("sda", "8:0"), ("sdb", "8:16")):
        tree.device(name, number)
        tree.partition(name, f"{name}1", f"{number}1")
    tree.device("dm-0", "254:0", below=("sda1",), dm="crypt")
    tree.device("dm-1", "254:1", below=("dm-0", "sdb1"), dm="vg-root")
    tree.mount("254:1", "/", "xfs", "/dev/mapper/vg-root")
    assert tree.words() == [
        "dm-1 on dm-0 on sda1 on sda is mounted on /",
        "dm-1 on sdb1 on sdb is mounted on /",
    ]


def test_raid_and_multipath(tree: Tree) -> None:
    for name, number in (("sda", "8:0"), ("sdb", "8:16"), ("sdc", "8:32")):
        tree.device(name, number)
    tree.device("dm-0", "254:0", below=("sda", "sdb"), dm="mpatha")
    tree.device("md127", "9:127", below=("dm-0", "sdc"))
    tree.mount("9:127", "/usr")
    assert [use.disk for use in BlockStack(str(tree.sysfs), str(tree.proc)).uses()] == ["sda", "sdb", "sdc"]


def test_btrfs_on_several_devices(tree: Tree) -> None:
    tree.device("sda", "8:0")
    tree.device("sdb", "8:16")
    devices = tree.sysfs / "fs" / "btrfs" / "7b1c-uuid" / "devices"
    devices.mkdir(parents=True)
    for name in ("sda", "sdb"):
        (devices / name).symlink_to(tree.sysfs / "class" / "block" / name)
    (tree.sysfs / "fs" / "btrfs" / "features").mkdir()
    tree.mount("0:31", "/", "btrfs", "/dev/sdb", "rw,subvol=/@")
    assert tree.words() == ["sdb is mounted on /", "sda is mounted on /"]


def test_btrfs_on_a_mapped_device(tree: Tree) -> None:
    tree.device("sda", "8:0")
    tree.device("dm-3", "254:3", below=("sda",), dm="luks-root")
    tree.mount("0:31", "/", "btrfs", "/dev/mapper/luks-root")
    assert tree.words() == ["dm-3 on sda is mounted on /"]


def test_bcachefs_names_all_its_devices(tree: Tree) -> None:
    tree.device("sda", "8:0")
    tree.device("sdb", "8:16")
    tree.mount("0:31", "/srv", "bcachefs", "/dev/sda:/dev/sdb")
    assert tree.words() == ["sda is mounted on /srv", "sdb is mounted on /srv"]


def test_zfs_leads_to_every_device_of_its_pool(tree: Tree) -> None:
    for name, number in (("sda", "8:0"), ("sdb", "8:16"), ("sdc", "8:32"), ("zd0", "230:0")):
        tree.device(name, number)
    tree.partition("sda", "sda1", "8:1")
    tree.zfs_member("8:1", "rpool")
    tree.zfs_member("8:16", "rpool")
    tree.zfs_member("8:32", "tank")
    tree.mount("0:50", "/", "zfs", "rpool/ROOT/debian")
    tree.swap("/dev/zd0")
    assert sorted(tree.words()) == [
        "sda1 on sda is mounted on /",
        "sdb is mounted on /",
        "zd0 on sda1 on sda is swap",
        "zd0 on sdb is swap",
        "zd0 on sdc is swap",
    ]


def test_a_loop_device_leads_to_the_file_system_of_its_file(tree: Tree) -> None:
    tree.device("sda", "8:0")
    tree.device("loop0", "7:0", loop="/run/live/medium/root.squashfs")
    tree.mount("0:20", "/run", "tmpfs", "tmpfs")
    tree.mount("8:0", "/run/live/medium", "iso9660", "/dev/sda")
    tree.mount("7:0", "/", "squashfs", "/dev/loop0")
    assert tree.words() == ["sda is mounted on /run/live/medium", "loop0 on sda is mounted on /"]


def test_an_overlay_leads_to_its_layers(tree: Tree) -> None:
    tree.device("sda", "8:0")
    tree.device("sdb", "8:16")
    tree.mount("0:20", "/run", "tmpfs", "tmpfs")
    tree.mount("8:0", "/run/base", "squashfs", "/dev/sda")
    tree.mount("8:16", "/run/rw", "ext4", "/dev/sdb")
    tree.mount(
        "0:40", "/", "overlay", "overlay", "rw,lowerdir=/run/base:/run/tmp,upperdir=/run/rw/up,workdir=/run/rw/work"
    )
    assert tree.words()[2:] == ["sda is mounted on /", "sdb is mounted on /"]


def test_each_layer_of_an_overlay_may_have_an_option_of_its_own(tree: Tree) -> None:
    tree.device("sda", "8:0")
    tree.device("sdb", "8:16")
    tree.mount("8:0", "/run/base", "squashfs", "/dev/sda")
    tree.mount("8:16", "/run/a,b", "squashfs", "/dev/sdb")
    tree.mount("0:40", "/usr", "overlay", "overlay", "rw,lowerdir+=/run/base,lowerdir+=/run/a\\054b,datadir+=/none")
    assert tree.words()[2:] == ["sda is mounted on /usr", "sdb is mounted on /usr"]


def test_in_a_container_every_layer_seems_to_lie_in_the_root_itself(tree: Tree) -> None:
    """The layers' paths are the host's: here they fall into the overlay, forty times, and must not multiply."""
    tree.device("sda", "8:0")
    layers = ":".join(f"/var/lib/containers/{number}" for number in range(40))
    tree.mount("0:60", "/", "overlay", "overlay", f"rw,lowerdir={layers},upperdir=/var/lib/u,workdir=/var/lib/w")
    tree.mount("8:0", "/mnt")
    assert tree.words() == ["sda is mounted on /mnt"]


def test_rings_end(tree: Tree) -> None:
    """An overlay whose layer lies in itself, and a device below itself."""
    tree.device("sda", "8:0", below=("sda",))
    tree.mount("0:40", "/", "overlay", "overlay", "rw,lowerdir=/run/base")
    tree.mount("8:0", "/mnt")
    assert tree.words() == []


def test_swap_on_a_partition_a_mapped_device_and_a_file(tree: Tree) -> None:
    tree.device("sda", "8:0")
    tree.partition("sda", "sda1", "8:1")
    tree.device("dm-0", "254:0", below=("sda",), dm="vg-swap")
    tree.device("sdb", "8:16")
    tree.mount("8:16", "/srv")
    tree.swap("/dev/sda1", "/dev/mapper/vg-swap", r"/srv/swap\040file")
    assert tree.words() == [
        "sdb is mounted on /srv",
        "sda1 on sda is swap",
        "dm-0 on sda is swap",
        "sdb is swap",
    ]


def test_the_mounts_of_process_1_count(tree: Tree) -> None:
    """A command in a container, or in a namespace of its own, sees other mounts than the system has."""
    tree.device("sda", "8:0")
    tree.device("sdb", "8:16")
    tree.mount("8:16", "/")
    (tree.proc / "1").mkdir()
    (tree.proc / "1" / "mountinfo").write_text("36 35 8:0 / / rw - ext4 /dev/sda rw\n")
    assert tree.words() == ["sdb is mounted on /", "sda is mounted on /"]


def test_blanks_in_mount_points(tree: Tree) -> None:
    tree.device("sda", "8:0")
    tree.mount("8:0", r"/mnt/my\040disk")
    assert tree.words() == ["sda is mounted on /mnt/my disk"]


def test_a_cciss_like_name_has_its_slash_back(tree: Tree) -> None:
    tree.device("cciss!c0d0", "104:0")
    tree.swap("/dev/cciss/c0d0")
    assert tree.words() == ["cciss!c0d0 is swap"]


@pytest.mark.parametrize(
    "line", ["", "garbage", "36 35 8:0 / / rw", "36 35 8:0 / / rw - ", "36 35 8:0 - ext4 /dev/sda rw"], ids=repr
)
def test_lines_that_are_none_lead_nowhere(tree: Tree, line: str) -> None:
    tree.device("sda", "8:0")
    (tree.proc / "self" / "mountinfo").write_text(f"{line}\n")
    assert tree.words() == []


def test_nothing_there_at_all(tmp_path: Path) -> None:
    assert BlockStack(str(tmp_path / "a"), str(tmp_path / "b")).uses() == ()


def test_this_machine() -> None:
    """Whatever it is made of: no exception, and every use ends at a device that has no device below."""
    for use in BlockStack("/sys", "/proc").uses():
        assert not list((Path("/sys/class/block") / use.disk / "slaves").iterdir())


@pytest.mark.parametrize(
    "point", ["/", "/usr", "/boot/efi", "/var/lib", "/sysroot", "/sysroot/usr", "/root/var", "/new_root/etc"]
)
def test_what_the_system_is_made_of_now_or_after_the_initramfs(point: str) -> None:
    assert Use("sda", "mount", point, ("sda",)).is_system


@pytest.mark.parametrize("point", ["/home", "/srv", "/sysroot/home", "/var/lib/kubelet/pods/x", "/data/usr", ""])
def test_other_mounts_are_data(point: str) -> None:
    assert not Use("sda", "mount", point, ("sda",)).is_system


def test_swap_is_the_systems_wherever_it_lies() -> None:
    assert Use("sda", "swap", "/srv/swapfile", ("sda",)).is_system


@pytest.mark.parametrize("letter", ["\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_a_path_may_hold_what_python_takes_for_the_end_of_a_line(tree: Tree, letter: str) -> None:
    """The kernel writes blanks, tabs, line feeds and backslashes in octal, and nothing else."""
    tree.device("sda", "8:0")
    tree.device("sdb", "8:16")
    tree.mount("8:0", f"/srv/a{letter}b")
    (tree.proc / "swaps").write_bytes(f"Filename Type\n/srv/a{letter}b/file file\n".encode())
    (tree.proc / "self" / "mountinfo").write_bytes(f"{tree.mounts[0]}\n".encode())
    uses = BlockStack(str(tree.sysfs), str(tree.proc), str(tree.run)).uses()
    assert [(use.kind, use.where) for use in uses] == [("mount", f"/srv/a{letter}b"), ("swap", f"/srv/a{letter}b/file")]
