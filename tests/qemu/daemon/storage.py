# SPDX-License-Identifier: LGPL-2.1-or-later
"""In the guest: the storage machine. LIO's targets, its login counter, and the cable to it with what can go wrong.

LIO is the kernel's, and configured by mkdir, write and symlink in configfs. A portal listens in the network namespace
of the process that makes it, so that one step runs there.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

IQN = "iqn.2026-01.org.example:"
ADDRESS = "10.2.0.2"
PORTS = {"one": 3260, "two": 3261, "chap": 3262, "left": 3263, "right": 3264}
CROWD_PORT = 3265
"""Each target has a port of its own, so that closing one closes its port; a crowd shares one."""
LIO = Path("/sys/kernel/config/target")
NAMESPACE = Path("/run/netns/storage")
PAGE = 4096
USER, SECRET, OTHER_SECRET = "machine", "initiator-secret", "another-secret-1"
"""Throw-aways of these trials."""
_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


def port_of(name: str) -> int:
    """The port of a target, named without :data:`IQN`."""
    return PORTS.get(name, CROWD_PORT)


@contextmanager
def there() -> Iterator[None]:
    """Be in the storage machine's network for the time of the block."""
    with Path("/proc/self/ns/net").open("rb") as home, NAMESPACE.open("rb") as storage:
        _enter(storage.fileno())
        try:
            yield
        finally:
            _enter(home.fileno())


def _enter(descriptor: int) -> None:
    if _LIBC.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "setns")


def command(*argv: str) -> str:
    """A preparation; RuntimeError with the command's words when it does not succeed."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


class Disk:
    """A disk in memory that any number of targets may show; its content outlives them."""

    def __init__(self, number: int, mib: int) -> None:
        self.path = LIO / f"core/rd_mcp_{number}/disk"
        self.path.mkdir(parents=True)
        (self.path / "control").write_text(f"rd_pages={(mib << 20) // PAGE}")
        (self.path / "enable").write_text("1")
        (self.path / "wwn/vpd_unit_serial").write_text(f"disk-{number}")


class Target:
    """One target with one portal and one disk as LUN 0; any initiator may log in. It does not listen until open."""

    def __init__(self, name: str, disk: Disk, *, secret: str = "") -> None:
        self.name = IQN + name
        self._top = LIO / "iscsi" / self.name
        self._group = self._top / "tpgt_1"
        self._portal = self._group / f"np/{ADDRESS}:{port_of(name)}"
        self._group.mkdir(parents=True)
        (self._group / "lun/lun_0").mkdir()
        (self._group / "lun/lun_0/disk").symlink_to(disk.path)
        self._set("attrib/generate_node_acls", "1")
        self._set("attrib/demo_mode_write_protect", "0")
        self._set("attrib/authentication", "1" if secret else "0")
        if secret:
            self._set("auth/userid", USER)
            self.take(secret)

    def _set(self, name: str, text: str) -> None:
        (self._group / name).write_text(text)

    def add_unit(self, disk: Disk) -> None:
        """One disk more, as LUN 1; sessions there are are told by a unit attention."""
        (self._group / "lun/lun_1").mkdir()
        (self._group / "lun/lun_1/disk").symlink_to(disk.path)

    def drop_unit(self) -> None:
        """LUN 1 is gone again; nothing happens when there is none."""
        with suppress(FileNotFoundError):
            (self._group / "lun/lun_1/disk").unlink()
            (self._group / "lun/lun_1").rmdir()

    def take(self, secret: str) -> None:
        """From now on a login needs this secret; sessions there are stay."""
        self._set("auth/password", secret)

    def open(self) -> None:
        """Listen, take logins."""
        with there(), suppress(FileExistsError):
            self._portal.mkdir()
        self._set("enable", "1")

    def close(self) -> None:
        """End every session and connection; nobody listens any more, unless another target has the same portal."""
        self._set("enable", "0")
        self.close_port()

    def close_port(self) -> None:
        """Nobody listens any more; connections there are stay."""
        with suppress(FileNotFoundError):
            self._portal.rmdir()

    def refuse(self) -> None:
        """End every session; who logs in is told "service unavailable" (status 03/01)."""
        self._set("enable", "0")

    def logins(self) -> int:
        """Logins it has granted since it was made."""
        return int((self._top / "fabric_statistics/iscsi_login_stats/accepts").read_text())


def logins(targets: Sequence[Target]) -> int:
    """Logins granted by all of them."""
    return sum(target.logins() for target in targets)


def link(up: bool) -> None:
    """The far end of the cable: without it there is no carrier on either."""
    command("ip", "-n", "storage", "link", "set", "port", "up" if up else "down")


@contextmanager
def cable_out() -> Iterator[None]:
    """No carrier until the end of the block."""
    link(False)
    try:
        yield
    finally:
        link(True)


@contextmanager
def losing(percent: int) -> Iterator[None]:
    """So many of a hundred packets get lost, either way; 100 is a dark network whose links are up."""
    for where in (("tc", "qdisc"), ("tc", "-n", "storage", "qdisc")):
        device = "cable" if len(where) == 2 else "port"
        command(*where, "replace", "dev", device, "root", "netem", "loss", f"{percent}%")
    try:
        yield
    finally:
        command("tc", "qdisc", "del", "dev", "cable", "root")
        command("tc", "-n", "storage", "qdisc", "del", "dev", "port", "root")
