# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel's own announcements of what changes in sysfs (NETLINK_KOBJECT_UEVENT), without udev between.

A guard must hear them while udevd hangs on the disk that is gone. Each is one datagram
(lib/kobject_uevent.c)::

    change@/devices/platform/host2/session1/target2:0:0/2:0:0:1\\0ACTION=change\\0DEVPATH=...\\0SUBSYSTEM=scsi\\0...

:func:`parse` is pure; :class:`UeventSocket` reads.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from dataclasses import dataclass

NETLINK_KOBJECT_UEVENT = 15
GROUP_KERNEL = 1
"""Of the two groups this is the kernel's; in the other udev repeats them when its rules have run."""
RECEIVE_BUFFER = 1 << 20
"""Bytes asked of SO_RCVBUFFORCE: the devices of some hundred sessions, added at once."""
DATAGRAM_BYTES = 8192
"""The kernel's are at most 2048 bytes and the path (UEVENT_BUFFER_SIZE)."""
AT_ONCE = 256
"""Datagrams of one :meth:`UeventSocket.read`: who calls it has other work too."""


@dataclass(frozen=True, slots=True)
class Uevent:
    """One announcement; text as the kernel has it, bytes that are no UTF-8 as surrogates."""

    action: str
    """``add``, ``remove``, ``change``, ``move``, ``online``, ``offline``, ``bind``, ``unbind``."""
    path: str
    """Below /sys, with its slash: ``/devices/.../block/sda``."""
    subsystem: str
    """``block``, ``scsi``, ``iscsi_session``; "" when it has none."""
    values: Mapping[str, str]
    """Everything, those above included."""


@dataclass(frozen=True, slots=True)
class UeventsLost:
    """The socket was full and the kernel dropped some: what depends on them has to be read again."""


def parse(datagram: bytes) -> Uevent | None:
    """A datagram as a value; None when it is none of the kernel's."""
    head, *fields = datagram.split(b"\0")
    action, at, path = _text(head).partition("@")
    if not at or not action or not path.startswith("/"):
        return None
    values: dict[str, str] = {}
    for field in fields:
        name, equals, value = _text(field).partition("=")
        if equals and name:
            values.setdefault(name, value)
    return Uevent(action, path, values.get("SUBSYSTEM", ""), values)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


class UeventSocket:
    """A non-blocking socket in the kernel's group. OSError where the kernel has none (a container may refuse it)."""

    def __init__(self, transport: socket.socket) -> None:
        self._socket = transport
        transport.setblocking(False)

    @classmethod
    def open(cls) -> UeventSocket:
        """One to this machine's kernel; hears everything from now on."""
        made = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT)
        try:
            try:
                made.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_RCVBUFFORCE", 33), RECEIVE_BUFFER)
            except PermissionError:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            made.bind((0, GROUP_KERNEL))
        except OSError:
            made.close()
            raise
        return cls(made)

    def fileno(self) -> int:
        """To wait on."""
        return self._socket.fileno()

    def read(self) -> list[Uevent | UeventsLost]:
        """What is there, oldest first, without waiting; some may be left. OSError when the socket fails."""
        found: list[Uevent | UeventsLost] = []
        for _ in range(AT_ONCE):
            try:
                datagram, sender = self._socket.recvfrom(DATAGRAM_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                found.append(UeventsLost())
                continue
            # Any process of root may write to the group; the kernel alone has port id 0.
            if isinstance(sender, tuple) and sender[0] != 0:
                continue
            event = parse(datagram)
            if event is not None:
                found.append(event)
        return found

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


def unit_of(path: str) -> tuple[int, str] | None:
    """Session id and ``H:C:T:L`` of an iSCSI unit's path in sysfs, also of what is below it; None for anything else.

    ``/devices/platform/host2/session1/target2:0:0/2:0:0:1`` -> (1, "2:0:0:1"); an offload adapter's path begins with
    its PCI devices.
    """
    parts = path.split("/")
    for at, part in enumerate(parts[:-2]):
        number = part.removeprefix("session")
        if part.startswith("session") and number.isascii() and number.isdigit() and parts[at + 1].startswith("target"):
            address = parts[at + 2]
            if address.count(":") == 3 and all(text.isascii() and text.isdigit() for text in address.split(":")):
                return int(number), address
    return None
