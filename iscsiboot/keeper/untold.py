# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a session carries when nobody has said it: the system, until the daemon knows better.

A guard process cannot look: the keeper of the initramfs lives among mounts of its own. To wait for ever is right for
root and costs a data session nothing but patience. With multipath it is wrong even for root: another path takes over
only when this one fails. And that can be seen, in sysfs, as soon as multipathd has made its device, which is often
after the keeper has begun; the kernel announces it (a uevent of ``dm-N``). A disk that comes later is announced, too:
who guards its session sees to it when it is told the role again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from iscsiboot.keeper.log import Level, Log
from iscsiboot.keeper.values import Role
from iscsiboot.sysfs.disks import session_disks
from iscsiboot.sysfs.multipath import multipath_disks
from iscsiboot.sysfs.uevent import Uevent, UeventsLost, UeventSocket

UNTOLD = Role(system=("nobody said what it carries, so it counts as the system's",))
SETTLE_SECONDS = 0.5
"""multipathd adds the paths of a device one by one."""


class Untold:
    """Keeps the roles of such sessions; :meth:`close` ends it."""

    def __init__(
        self,
        sysfs: Path,
        sids: frozenset[int],
        *,
        set_roles: Callable[[Mapping[int, Role]], None],
        log: Log,
        open_uevents: Callable[[], UeventSocket] = UeventSocket.open,
    ) -> None:
        self._sysfs = sysfs
        self._sids = sids
        self._set_roles = set_roles
        self._timer: asyncio.TimerHandle | None = None
        self._socket: UeventSocket | None = None
        self._roles: dict[int, Role] = {}
        self._disks_came = False
        try:
            # Before the first look: what changes after it is announced.
            self._socket = open_uevents()
            asyncio.get_running_loop().add_reader(self._socket, self._heard)
        except OSError as error:
            log(Level.INFO, f"changes of multipath devices are not heard of: {error.strerror}")
        self._look()

    def close(self) -> None:
        """Hear of nothing more. Twice is fine."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _heard(self) -> None:
        if self._socket is None:
            return
        try:
            events = self._socket.read()
        except OSError:
            self.close()
            return
        came = any(map(_is_new_disk, events))
        self._disks_came |= came
        if self._timer is None and (came or any(map(_is_about_multipath, events))):
            self._timer = asyncio.get_running_loop().call_later(SETTLE_SECONDS, self._look)

    def _look(self) -> None:
        self._timer = None
        paths = multipath_disks(str(self._sysfs))
        roles = {sid: replace(UNTOLD, multipath=self._is_path(sid, paths)) for sid in self._sids}
        if roles != self._roles or self._disks_came:
            self._roles, self._disks_came = roles, False
            self._set_roles(roles)

    def _is_path(self, sid: int, paths: frozenset[str]) -> bool:
        """Whether every disk of the session has another path."""
        disks = session_disks(self._sysfs, sid)
        return bool(disks) and paths.issuperset(disks)


def _is_about_multipath(event: Uevent | UeventsLost) -> bool:
    if isinstance(event, UeventsLost):
        return True
    return event.subsystem == "block" and event.path.rpartition("/")[2].startswith("dm-")


def _is_new_disk(event: Uevent | UeventsLost) -> bool:
    if isinstance(event, UeventsLost):
        return True
    return event.subsystem == "block" and event.action == "add" and event.values.get("DEVTYPE") == "disk"
