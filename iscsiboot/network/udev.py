# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether udev is done with a network device: before that it must not be set up.

udev renames devices by its .link files, and the kernel refuses to rename one that is up (EBUSY; kernels before 6.2). A
boot that is faster than udev would freeze the name the kernel gave, ``eth0``, and the running system would look for
``ens4`` in vain. udev writes ``/run/udev/data/n<ifindex>`` after the renaming (systemd's udev-event.c: rename_netif,
then device_update_db) and broadcasts then; the broadcast is only a reason to look again.
"""

from __future__ import annotations

import socket
from pathlib import Path

from iscsiboot.network.drain import drain

_NETLINK_KOBJECT_UEVENT = 15
"""include/uapi/linux/netlink.h; the socket module has no name for it."""
_UDEV_GROUP = 2
"""Multicast group of processed events (systemd, monitor-private: MONITOR_GROUP_UDEV); 1 is the kernel's own."""


class Udev:
    """The listener. Without a running udevd every device counts as done with."""

    def __init__(self, run: Path) -> None:
        """Listen from now on. OSError when the kernel refuses."""
        self._run = run / "udev"
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kind, _NETLINK_KOBJECT_UEVENT)
        try:
            self._socket.bind((0, _UDEV_GROUP))
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Readable when udev has handled some device."""
        return self._socket.fileno()

    def drain(self) -> None:
        """Read all messages away."""
        drain(self._socket)

    def done_with(self, index: int) -> bool:
        """Whether udev has handled the device with this ifindex, or there is no udevd that could."""
        return not (self._run / "control").exists() or (self._run / "data" / f"n{index}").exists()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
