# SPDX-License-Identifier: LGPL-2.1-or-later
"""From a session to its logical units and block devices; host scan and device removal; who uses a disk."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.model.lun import Lun
from iscsiboot.sysfs.attributes import names, numbered, read_int, read_text, write_attribute
from iscsiboot.sysfs.tables import read_lines

_TARGET = re.compile(r"target(\d+):(\d+):(\d+)")
_UNIT = re.compile(r"(\d+):(\d+):(\d+):(\d+)")

TYPE_DISK = 0
WHOLE_HOST = "- - -"
"""Every channel, target and LUN, in the words of ``scan``."""
_TYPES = {
    0: "disk",
    1: "tape",
    3: "processor",
    4: "write-once disk",
    5: "CD/DVD",
    8: "medium changer",
    12: "array controller",
    13: "enclosure",
    14: "simplified disk",
    17: "object store",
    20: "zoned disk",
    30: "well-known unit",
}
_BLOCK_TYPES = frozenset({0, 4, 5, 7, 14, 20})
"""SCSI types ``sd`` and ``sr`` make block devices of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitView:
    """A logical unit the kernel has found."""

    host: int
    channel: int
    target: int
    lun: Lun
    type: int | None
    """SCSI peripheral device type; 0 is a disk."""
    state: str | None
    """``running``, ``blocked``, ``transport-offline``, ..."""
    vendor: str | None
    model: str | None
    blocks: tuple[str, ...]
    """Names of its block devices (``sda``); none yet while the disk driver is still looking at it."""
    driven: bool = False
    """A driver has it. The link is made before the driver looks (drivers/base/dd.c, really_probe)."""

    @property
    def address(self) -> str:
        """``2:0:0:1`` as everywhere in sysfs."""
        return f"{self.host}:{self.channel}:{self.target}:{self.lun.kernel}"

    @property
    def makes_block_device(self) -> bool:
        """Whether a block device is to be expected of it."""
        return self.type in _BLOCK_TYPES

    @property
    def kind(self) -> str:
        """The type in words."""
        return "unit of unknown type" if self.type is None else _TYPES.get(self.type, f"SCSI type {self.type}")


def list_units(sysfs: Path, sid: int) -> tuple[UnitView, ...]:
    """The logical units of a session, by target and LUN; none when the session is gone."""
    device = sysfs / "class" / "iscsi_session" / f"session{sid}" / "device"
    units = []
    for _, target in numbered(device, _TARGET):
        for (host, channel, number, lun), path in numbered(target, _UNIT):
            units.append(
                UnitView(
                    host=host,
                    channel=channel,
                    target=number,
                    lun=Lun.from_kernel(lun),
                    type=read_int(path / "type"),
                    state=read_text(path / "state"),
                    vendor=_stripped(path / "vendor"),
                    model=_stripped(path / "model"),
                    blocks=names(path / "block"),
                    driven=(path / "driver").is_symlink(),
                )
            )
    return tuple(units)


def session_disks(sysfs: Path, sid: int) -> tuple[str, ...]:
    """The block devices of a session by kernel name (``sda``), by target and LUN; none when it is gone."""
    return tuple(block for unit in list_units(sysfs, sid) for block in unit.blocks)


def scan_host(sysfs: Path, host: int, lun: Lun | None) -> None:
    """Probe one LUN of the host (or report and probe all); returns after the kernel has asked the target.

    An absent LUN is no error of this write: it just does not appear. :class:`IscsiBootError` when the host is gone.
    """
    where = WHOLE_HOST if lun is None else f"0 0 {lun.kernel}"
    _write(sysfs / "class" / "scsi_host" / f"host{host}" / "scan", where, f"host{host}")


def delete_unit(sysfs: Path, unit: UnitView) -> None:
    """Remove a logical unit from the kernel, flushing its cache. :class:`IscsiBootError` when that fails."""
    _write(sysfs / "bus" / "scsi" / "devices" / unit.address / "delete", "1", unit.address)


def disk_user(sysfs: Path, proc: Path, block: str) -> str | None:
    """What uses a disk or one of its partitions, in words, or None: a device above it, a mount, swap.

    A mount is recognised by device number and, for file systems with a number of their own (btrfs), by source name.
    """
    base = sysfs / "block" / block
    nodes = {block: base} | {name: base / name for name in names(base) if (base / name / "partition").exists()}
    for name, path in nodes.items():
        holders = names(path / "holders")
        if holders:
            return f"{name} is held by {holders[0]}"
    numbers = {read_text(path / "dev"): name for name, path in nodes.items()}
    for line in read_lines(proc / "self" / "mountinfo"):
        # 36 35 8:1 / /mnt rw - ext4 /dev/sda1 rw: see proc_pid_mountinfo(5)
        words = line.split()
        if len(words) < 7 or "-" not in words[6:-2]:
            continue
        source = Path(words[words.index("-", 6) + 2]).name
        name = numbers.get(words[2], source)
        if name in nodes:
            return f"{name} is mounted on {words[4]}"
    for line in read_lines(proc / "swaps")[1:]:
        name = Path(line.split()[0]).name if line.split() else ""
        if name in nodes:
            return f"{name} is swap"
    return None


def _stripped(path: Path) -> str | None:
    text = read_text(path)
    return None if text is None else text.strip()


def _write(path: Path, text: str, subject: str) -> None:
    try:
        write_attribute(path, text)
    except OSError as error:
        raise IscsiBootError(
            f"writing {path.name} failed: {error.strerror}",
            stage=Stage.SCAN,
            subject=subject,
            hint="the session may have ended meanwhile; see dmesg",
            exit_code=ExitCode.SYSFS_LOOKUP,
            # A host that vanished took its session along: the login can be tried again.
            retryable=isinstance(error, FileNotFoundError),
        ) from error
