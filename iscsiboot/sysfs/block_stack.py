# SPDX-License-Identifier: LGPL-2.1-or-later
"""What of this system stands on which disk: mounts and swap, followed down to the disks they live on.

From the top down, because that is where the question is asked ("what would be lost with this disk?") and because it is
the only way through what has no holders in sysfs:

* a partition leads to its disk, device mapper and md to their ``slaves`` (LVM, dm-crypt, multipath, RAID), a loop
  device to the file system its file lies in;
* btrfs has device numbers of its own; its devices stand in ``/sys/fs/btrfs/<uuid>/devices``, and the source names one;
* an overlay leads to the file systems its layers lie in; a live system's root is one;
* bcachefs names its devices as source;
* ZFS names its pool, and nothing in sysfs tells a pool's devices: udev's database does, by what it read from the disk.

Mounts are those of this process and of process 1: a container or a rescue shell has others than the system. Swap is the
same for all. Everything read may vanish meanwhile; what cannot be read leads nowhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from iscsiboot.sysfs.attributes import names, read_text
from iscsiboot.sysfs.tables import read_lines, unescaped

_ZFS_VOLUME = re.compile(r"zd[0-9]+(p[0-9]+)?")
_LAYERS = frozenset({"lowerdir", "lowerdir+", "datadir+", "upperdir", "workdir"})
"""Options of an overlay that name paths; those with a plus stand once for each layer (Linux 6.8)."""

_SYSTEM = frozenset(
    {"/", "/usr", "/usr/local", "/etc", "/opt", "/var", "/var/lib", "/var/log", "/var/tmp", "/var/cache", "/tmp"}  # noqa: S108
    | {"/boot", "/boot/efi", "/efi", "/root", "/nix", "/nix/store", "/gnu", "/gnu/store", "/ostree"}
)
_ROOT_TO_COME = ("/sysroot", "/root", "/new_root", "/mnt-root")
"""Where an initramfs mounts the root it goes over to: dracut and mkosi, initramfs-tools, mkinitcpio, NixOS."""
_LIVE = frozenset({"/run/rootfsbase", "/run/initramfs/live"})
"""What a live system's root is made of."""
SYSTEM_MOUNTS = _SYSTEM | _LIVE | {f"{root}{point}".rstrip("/") for root in _ROOT_TO_COME for point in _SYSTEM}
"""Mount points the running system is made of. Each counts exactly: a volume somewhere below /var/lib is a container's.

One table for two questions, because they have one answer. The kernel queues for ever for such a session, since an I/O
error would make a file system read-only that nobody can unmount and mend; a logout is that error at once, for good, so
none is made by a slip. And what may not be logged out may not fail after two minutes of outage either.
"""


@dataclass(frozen=True, slots=True)
class Use:
    """One use of a disk."""

    disk: str
    """``sda``: the whole disk at the bottom."""
    kind: str
    """``mount`` or ``swap``."""
    where: str
    """The mount point; for swap the device or file."""
    way: tuple[str, ...]
    """The devices between, from the mounted one down to the disk: ``("dm-0", "sda2", "sda")``."""

    @property
    def words(self) -> str:
        """``dm-0 on sda2 on sda is mounted on /``."""
        what = "is swap" if self.kind == "swap" else f"is mounted on {self.where}"
        return f"{' on '.join(self.way)} {what}"

    @property
    def is_system(self) -> bool:
        """Whether the running system stands on it: it has to wait for the disk, and nobody takes it away by a slip."""
        return self.kind == "swap" or self.where in SYSTEM_MOUNTS


@dataclass(frozen=True, slots=True)
class _Mount:
    number: str
    """``8:1``; ``0:31`` has no block device of its own."""
    point: str
    kind: str
    source: str
    options: tuple[tuple[str, str], ...]
    """Name and value of each."""


_Passed = tuple[_Mount | str, ...]
"""Mounts and devices on the way down so far: what is among them already is a ring and leads nowhere."""


class BlockStack:
    """The stack of one moment; ``sysfs``, ``proc`` and ``run`` are the roots to read below."""

    def __init__(self, sysfs: str, proc: str, run: str = "/run") -> None:
        self._sysfs = sysfs
        self._proc = proc
        self._run = run
        self._mounts = list(dict.fromkeys(self._read_mounts()))
        self._names = {self._text(f"class/block/{name}/dev"): name for name in names(f"{sysfs}/class/block")}
        self._btrfs = self._read_btrfs()

    def uses(self) -> tuple[Use, ...]:
        """Every mount and swap area with the disks below it, in the order of the mount table; equal ones once."""
        found: dict[Use, None] = {}
        for mount in self._mounts:
            for way in self._below_mount(mount, ()):
                found[Use(way[-1], "mount", mount.point, way)] = None
        for source in self._swaps():
            ways = self._below_device(source) if source.startswith("/dev/") else self._below_paths([source], ())
            for way in ways:
                found[Use(way[-1], "swap", source, way)] = None
        return tuple(found)

    # From a mount down.

    def _below_mount(self, mount: _Mount, passed: _Passed) -> Iterator[tuple[str, ...]]:
        """Every way from a mount to a disk."""
        if mount in passed:
            return
        passed = (*passed, mount)
        name = self._names.get(mount.number)
        if name is not None:
            yield from self._below(name, passed)
        elif mount.kind == "overlay":
            layers = [path for option, value in mount.options if option in _LAYERS for path in value.split(":")]
            yield from self._below_paths([path for path in layers if path.startswith("/")], passed)
        elif mount.kind == "zfs":
            for name in self._zfs_members(mount.source.partition("/")[0]):
                yield from self._below(name, passed)
        else:
            # btrfs, bcachefs: the source names one device or several; btrfs knows its others.
            told = [found for part in mount.source.split(":") if (found := self._device_name(part)) is not None]
            others = [other for name in told for other in self._btrfs.get(name, ())]
            for name in dict.fromkeys([*told, *others]):
                yield from self._below(name, passed)

    def _below_paths(self, paths: Sequence[str], passed: _Passed) -> Iterator[tuple[str, ...]]:
        """The ways below the file systems some paths lie in, each file system once."""
        found: dict[_Mount, None] = {}
        for path in paths:
            fitting = [mount for mount in self._mounts if _covers(mount.point, path)]
            longest = max((len(mount.point) for mount in fitting), default=0)
            found.update(dict.fromkeys(mount for mount in fitting if len(mount.point) == longest))
        for mount in found:
            yield from self._below_mount(mount, passed)

    def _below_device(self, source: str) -> Iterator[tuple[str, ...]]:
        name = self._device_name(source)
        if name is not None:
            yield from self._below(name, ())

    def _below(self, name: str, passed: _Passed) -> Iterator[tuple[str, ...]]:
        """Every way from a block device to a disk; the device stands first."""
        if name in passed:
            return
        passed = (*passed, name)
        base = f"{self._sysfs}/class/block/{name}"
        below = list(names(f"{base}/slaves"))
        if os.path.exists(f"{base}/partition"):  # noqa: PTH110
            below = [os.path.basename(os.path.dirname(os.path.realpath(base)))]  # noqa: PTH119, PTH120
        if _ZFS_VOLUME.fullmatch(name):
            # Which pool it is in is not told; every one it may be in counts.
            below = self._zfs_members("")
        backing = self._text(f"class/block/{name}/loop/backing_file")
        if backing:
            for way in self._below_paths([backing.removesuffix(" (deleted)")], passed):
                yield name, *way
        elif not below:
            yield (name,)
        for other in below:
            for way in self._below(other, passed):
                yield name, *way

    def _zfs_members(self, pool: str) -> list[str]:
        """The devices a pool lies on, those of every pool for an empty name."""
        found = []
        for number, name in self._names.items():
            lines = read_lines(f"{self._run}/udev/data/b{number}")
            if "E:ID_FS_TYPE=zfs_member" in lines and (not pool or f"E:ID_FS_LABEL={pool}" in lines):
                found.append(name)
        return found

    def _device_name(self, source: str) -> str | None:
        """The kernel's name of ``/dev/sda1`` or ``/dev/mapper/root``; None when it is no block device."""
        if not source.startswith("/dev/"):
            return None
        name = source.removeprefix("/dev/").replace("/", "!")
        if os.path.exists(f"{self._sysfs}/class/block/{name}"):  # noqa: PTH110
            return name
        mapped = source.rsplit("/", 1)[-1]
        for other in self._names.values():
            if self._text(f"class/block/{other}/dm/name") == mapped:
                return other
        return None

    # Reading.

    def _read_mounts(self) -> Iterator[_Mount]:
        for process in ("self", "1"):
            for line in self._lines(f"{process}/mountinfo"):
                # 36 35 8:1 / /mnt rw shared:1 - ext4 /dev/sda1 rw,lowerdir=/a: see proc_pid_mountinfo(5)
                head, _, tail = line.partition(" - ")
                words, rest = head.split(" "), tail.split(" ")
                if len(words) < 6 or len(rest) < 2:
                    continue
                # A comma that is part of a path is written in octal.
                pairs = (option.partition("=") for option in " ".join(rest[2:]).split(","))
                options = tuple((name, unescaped(value)) for name, _, value in pairs)
                yield _Mount(words[2], unescaped(words[4]), rest[0], unescaped(rest[1]), options)

    def _swaps(self) -> list[str]:
        # The path ends at the first blank: its own are written in octal.
        found = [line.partition(" ")[0] for line in self._lines("swaps")[1:]]
        return [unescaped(path).removesuffix(" (deleted)") for path in found if path]

    def _read_btrfs(self) -> dict[str, tuple[str, ...]]:
        """Device name to every device of its btrfs."""
        found: dict[str, tuple[str, ...]] = {}
        for uuid in names(f"{self._sysfs}/fs/btrfs"):
            devices = names(f"{self._sysfs}/fs/btrfs/{uuid}/devices")
            found |= dict.fromkeys(devices, devices)
        return found

    def _lines(self, path: str) -> list[str]:
        return read_lines(f"{self._proc}/{path}")

    def _text(self, path: str) -> str:
        return read_text(f"{self._sysfs}/{path}") or ""


def _covers(point: str, path: str) -> bool:
    """Whether ``path`` lies at or below the mount point."""
    return point in ("/", path) or path.startswith(f"{point}/")
