# SPDX-License-Identifier: LGPL-2.1-or-later
"""A directory that looks like ``/sys`` of a machine with iSCSI sessions, for our code and for open-iscsi's alike.

The layout is that of kernel 6.1: objects live once below ``devices``, classes and buses hold relative links to them,
and each object has ``device`` and ``subsystem`` links, because open-iscsi walks up them to the host of a session.
Values are those read in a guest from sessions with tgt. A test changes any of them by keyword:

* text or bytes is written with the line end the kernel puts behind it;
* None leaves the attribute out, as older kernels and offload drivers do;
* :data:`UNREADABLE` makes one that exists and cannot be read, as ``address`` of a connection without a socket.

Bind mounted over ``/sys`` in a namespace of its own (``tests/interop``) the peer takes it for the kernel's.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from types import MappingProxyType


class Special(Enum):
    """Values that are no text."""

    UNREADABLE = "unreadable"


UNREADABLE = Special.UNREADABLE

Value = str | bytes | Special | None
Values = Mapping[str, Value]

SESSION: Values = {
    "initial_r2t": "0",
    "max_outstanding_r2t": "1",
    "immediate_data": "1",
    "first_burst_len": "65536",
    "max_burst_len": "262144",
    "data_pdu_in_order": "1",
    "data_seq_in_order": "1",
    "erl": "0",
    "targetname": "iqn.2026-01.org.example:kernel",
    "tpgt": "1",
    "password": "(null)",
    "password_in": "(null)",
    "username": "(null)",
    "username_in": "(null)",
    "fast_abort": "1",
    "abort_tmo": "15",
    "lu_reset_tmo": "30",
    "tgt_reset_tmo": "30",
    "ifacename": "default",
    "initiatorname": "iqn.2026-01.org.example:guest",
    "recovery_tmo": "120",
    "state": "LOGGED_IN",
    "target_state": "SCANNED",
    "creator": "286",
    "target_id": "0",
}
CONNECTION: Values = {
    "max_recv_dlength": "262144",
    "max_xmit_dlength": "8192",
    "header_digest": "0",
    "data_digest": "0",
    "address": "10.0.2.2",
    "port": "3260",
    "exp_statsn": "147",
    "persistent_address": "10.0.2.2",
    "persistent_port": "3260",
    "ping_tmo": "5",
    "recv_tmo": "5",
    "local_port": "51544",
    "state": "up",
}
"""Both are in the order of drivers/scsi/scsi_transport_iscsi.c, which is the one they are removed in."""
ISCSI_HOST: Values = {
    "hwaddress": "(null)",
    "initiatorname": "(null)",
    "ipaddress": "10.0.2.15",
    "netdev": "(null)",
}
SCSI_HOST: Values = {"proc_name": "iscsi_tcp", "scan": "", "state": "running", "unique_id": "0"}
UNIT: Values = {
    "delete": "",
    "model": "VIRTUAL-DISK    ",
    "queue_depth": "32",
    "rescan": "",
    "rev": "0001",
    "scsi_level": "6",
    "state": "running",
    "type": "0",
    "vendor": "IET     ",
}
_UNCHANGED: Values = MappingProxyType({})
BLOCK: Values = {"dev": "8:0", "removable": "0", "ro": "0", "size": "131072"}


class SysfsTree:
    """The tree below ``root``; making it lays the classes of a machine that has loaded ``iscsi_tcp``.

    ``version`` is that of scsi_transport_iscsi; None is a kernel whose module has none.
    """

    def __init__(self, root: Path, *, version: str | None = "2.0-870") -> None:
        self.root = root
        self._hosts: dict[int, int] = {}
        for name in ("iscsi_session", "iscsi_connection", "iscsi_host", "iscsi_transport", "scsi_host", "block"):
            (root / "class" / name).mkdir(parents=True, exist_ok=True)
        for path in ("block", "bus/scsi/devices", "module/scsi_transport_iscsi", "devices/platform"):
            (root / path).mkdir(parents=True, exist_ok=True)
        write(root / "module" / "scsi_transport_iscsi", {"version": version})
        self.add_transport("tcp")

    def __str__(self) -> str:
        return str(self.root)

    def add_transport(self, name: str, *, handle: int = 0xFFFFFFFFC0800000, caps: int = 0x39) -> None:
        """A loaded driver: ``class/iscsi_transport/NAME``."""
        path = self.root / "devices" / "virtual" / "iscsi_transport" / name
        write(path, {"handle": str(handle), "caps": hex(caps)})
        self._classify(path, "iscsi_transport", device=None)

    def add_host(
        self, number: int, *, scsi: Values | None = None, parent: str = "platform", bare: bool = False, **changes: Value
    ) -> Path:
        """SCSI host ``number``; ``scsi`` changes its scsi_host attributes, ``bare`` leaves iscsi_host out.

        The transport of its driver is there with it.
        """
        base = self.root / "devices" / parent / f"host{number}"
        attributes = {**SCSI_HOST, **(scsi or {})}
        driver = attributes["proc_name"]
        if isinstance(driver, str) and driver not in ("", "(null)"):
            self.add_transport(driver.removeprefix("iscsi_"))
        write(base / "scsi_host" / f"host{number}", attributes)
        self._classify(base / "scsi_host" / f"host{number}", "scsi_host", device=base)
        if not bare:
            write(base / "iscsi_host" / f"host{number}", {**ISCSI_HOST, **changes})
            self._classify(base / "iscsi_host" / f"host{number}", "iscsi_host", device=base)
        link(self.root / "bus" / "scsi" / "devices" / f"host{number}", base)
        link(base / "subsystem", self.root / "bus" / "scsi")
        return base

    def add_session(
        self, sid: int, *, host: int | None = None, connection: Values | None = _UNCHANGED, **changes: Value
    ) -> Path:
        """Session ``sid`` on ``host`` (``sid + 1``, made when it is not there) with connection 0.

        ``connection`` changes that connection's attributes; None is a session whose connection is not made yet.
        Returns the session's device directory.
        """
        number = sid + 1 if host is None else host
        base = self.host_path(number) or self.add_host(number)
        device = base / f"session{sid}"
        view = device / "iscsi_session" / f"session{sid}"
        write(view, {**SESSION, **changes})
        self._classify(view, "iscsi_session", device=device)
        self._hosts[sid] = number
        if connection is not None:
            self.add_connection(sid, **connection)
        return device

    def add_connection(self, sid: int, cid: int = 0, /, **changes: Value) -> Path:
        """Connection ``cid`` of a session; returns the directory of its attributes."""
        device = self.session_path(sid) / f"connection{sid}:{cid}"
        view = device / "iscsi_connection" / f"connection{sid}:{cid}"
        write(view, {**CONNECTION, **changes})
        self._classify(view, "iscsi_connection", device=device)
        return view

    def add_unit(
        self,
        sid: int,
        lun: int,
        *,
        block: str | None = None,
        partitions: int = 0,
        target: int = 0,
        channel: int = 0,
        **changes: Value,
    ) -> Path:
        """Logical unit ``lun`` of a session; with ``block`` it has that block device and its partitions."""
        host = self._hosts[sid]
        above = self.session_path(sid) / f"target{host}:{channel}:{target}"
        device = above / f"{host}:{channel}:{target}:{lun}"
        write(device, {**UNIT, **changes})
        for path in (above, device):
            link(path / "subsystem", self.root / "bus" / "scsi")
            link(self.root / "bus" / "scsi" / "devices" / path.name, path)
        view = device / "scsi_device" / device.name
        view.mkdir(parents=True, exist_ok=True)
        self._classify(view, "scsi_device", device=device)
        if block is not None:
            disk = device / "block" / block
            write(disk, BLOCK)
            self._classify(disk, "block", device=device)
            link(self.root / "block" / block, disk)
            for number in range(1, partitions + 1):
                write(disk / f"{block}{number}", {"partition": str(number), "size": "2048", "start": "2048"})
                self._classify(disk / f"{block}{number}", "block", device=None)
        return device

    def remove_session(self, sid: int) -> None:
        """The session with everything below it, and the links to it, are gone; its host stays."""
        for _ in self.removal(sid):
            pass

    def removal(self, sid: int) -> Iterator[None]:
        """The same step by step, as the kernel does it: of the connection, then of the session, first the attributes
        one by one, then the link in the class, then the directory. One step is done each time the iterator is asked.
        """
        device = self.session_path(sid)
        connections = sorted(device.glob("connection*/iscsi_connection/connection*"))
        for view, values in (*((path, CONNECTION) for path in connections), (self.view_path(sid), SESSION)):
            for name in values:
                path = view / name
                if path.is_dir():
                    path.rmdir()
                else:
                    path.unlink(missing_ok=True)
                yield
            (self.root / "class" / view.parent.name / view.name).unlink(missing_ok=True)
            yield
            shutil.rmtree(view)
            yield
        shutil.rmtree(device)
        for folder in ("scsi_device", "block"):
            self._prune(self.root / "class" / folder)
        for folder in ("block", "bus/scsi/devices"):
            self._prune(self.root / folder)
        del self._hosts[sid]
        yield

    def host_path(self, number: int) -> Path | None:
        """The directory of a host, or None when it was not made."""
        path = self.root / "bus" / "scsi" / "devices" / f"host{number}"
        return path.resolve() if path.exists() else None

    def session_path(self, sid: int) -> Path:
        """The device directory of a session. KeyError when there is none."""
        base = self.host_path(self._hosts[sid])
        if base is None:
            raise KeyError(sid)
        return base / f"session{sid}"

    def view_path(self, sid: int) -> Path:
        """The directory of a session's attributes."""
        return self.session_path(sid) / "iscsi_session" / f"session{sid}"

    def _classify(self, path: Path, name: str, *, device: Path | None) -> None:
        """What the kernel adds for a class: the link into it, and the links back to class and parent."""
        folder = self.root / "class" / name
        folder.mkdir(parents=True, exist_ok=True)
        link(folder / path.name, path)
        link(path / "subsystem", folder)
        (path / "uevent").touch()
        if device is not None:
            # As the kernel spells it: up past the device and down to it again.
            (path / "device").unlink(missing_ok=True)
            (path / "device").symlink_to(f"../../../{device.name}")
            (device / "uevent").touch()

    @staticmethod
    def _prune(folder: Path) -> None:
        if folder.is_dir():
            for entry in folder.iterdir():
                if entry.is_symlink() and not entry.exists():
                    entry.unlink()


def write(directory: Path, values: Values) -> None:
    """Attributes into a directory, which is made; one that is there already is replaced."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        path = directory / name
        if path.is_dir():
            path.rmdir()
        if value is UNREADABLE:
            # read(2) of a directory fails for root as well, which no mode bits could do.
            path.unlink(missing_ok=True)
            path.mkdir()
        elif value is None:
            path.unlink(missing_ok=True)
        else:
            assert not isinstance(value, Special)
            data = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
            path.write_bytes(data + b"\n")


def link(path: Path, target: Path) -> None:
    """A relative link as sysfs has them, so that the tree works under any mount point."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(os.path.relpath(target, path.parent))
