# SPDX-License-Identifier: LGPL-2.1-or-later
"""What each session carries, found anew whenever it may have changed.

Reasons to look: block devices that come, go or change (a multipath device gets or loses a path by such a change), the
mount table, swap, sessions. The kernel announces all of them; nothing is polled, and a machine at rest is not looked
at. Looking is a hand's work, since it opens files; the answer comes back as plain values.

Mounts are those of this process and of process 1: a service with a mount namespace of its own does not hear of the
system's.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable, Mapping
from pathlib import Path

from iscsiboot.daemon.debounce import Debounced
from iscsiboot.keeper.document import read_role, role_values
from iscsiboot.keeper.errand import Errand
from iscsiboot.keeper.fields import Fields
from iscsiboot.keeper.log import Level, Log
from iscsiboot.keeper.port import Hands
from iscsiboot.keeper.role import roles
from iscsiboot.keeper.values import Role
from iscsiboot.session.workers import Answer
from iscsiboot.sysfs.block_stack import BlockStack
from iscsiboot.sysfs.disks import session_disks
from iscsiboot.sysfs.listing import Sessions
from iscsiboot.sysfs.multipath import multipath_disks
from iscsiboot.sysfs.uevent import Uevent, UeventsLost

LOOK_SECONDS = 30.0
"""For one look: sysfs and /proc of a machine with a thousand disks take two; more means that something hangs."""
AGAIN_SECONDS = 60.0
"""After a look that failed."""
TABLES = ("self/mountinfo", "1/mountinfo", "swaps")
"""Below /proc; each has an event (POLLPRI) when it changes (proc_pid_mountinfo(5), mm/swapfile.c)."""


class RoleWatch:
    """Calls ``set_roles`` with the roles of all sessions after each look. Belongs to one loop.

    ``sysfs``, ``proc`` and ``run`` are the roots to read below.
    """

    def __init__(
        self,
        *,
        sysfs: str,
        proc: str,
        run: str,
        hands: Hands,
        log: Log,
        set_roles: Callable[[Mapping[int, Role]], None],
    ) -> None:
        self._roots = (sysfs, proc, run)
        self._hands = hands
        self._log = log
        self._set_roles = set_roles
        self._looking = Debounced(self._look)
        self._tables: Tables | None = None
        self._again: asyncio.TimerHandle | None = None
        self._troubled = False

    async def start(self) -> None:
        """Listen from now on, and look once; returns when the roles are known, or could not be found."""
        loop = asyncio.get_running_loop()
        self._tables = Tables(self._roots[1])
        loop.add_reader(self._tables.fileno(), self._table_changed)
        await self._look()

    def uevent(self, event: Uevent | UeventsLost) -> None:
        """A listener of :class:`iscsiboot.daemon.uevents.Uevents`."""
        if isinstance(event, UeventsLost) or event.subsystem == "block":
            self._looking.ask()

    def sessions_changed(self) -> None:
        """A session came or went."""
        self._looking.ask()

    def close(self) -> None:
        """Look no more."""
        self._looking.close()
        if self._again is not None:
            self._again.cancel()
        if self._tables is not None:
            asyncio.get_running_loop().remove_reader(self._tables.fileno())
            self._tables.close()
            self._tables = None

    def _table_changed(self) -> None:
        if self._tables is not None:
            self._tables.take()
        self._looking.ask()

    async def _look(self) -> None:
        ended = await self._hands.run(
            Errand(find_roles, self._roots), seconds=LOOK_SECONDS, what="looking what stands on which disk"
        )
        if ended.answer is None:
            if not self._troubled:
                self._log(
                    Level.WARNING, f"what stands on which disk is not known: {ended.problem}; roles stay as they are"
                )
            self._troubled = True
            if self._again is not None:
                self._again.cancel()
            self._again = asyncio.get_running_loop().call_later(AGAIN_SECONDS, self._looking.ask)
            return
        self._troubled = False
        self._set_roles(roles_from(ended.answer))


class Tables:
    """The mount tables and the table of swap areas as one descriptor that becomes readable when one of them changes.

    They are always readable for themselves; what tells a change is POLLPRI, which asyncio does not ask for. So they are
    in an epoll instance of their own, and that is what the loop waits on. Looking takes the event: a change is seen
    once. Those that cannot be opened are left out.
    """

    def __init__(self, proc: str) -> None:
        self._epoll = select.epoll(flags=select.EPOLL_CLOEXEC)
        self._open: list[int] = []
        for name in TABLES:
            try:
                descriptor = os.open(f"{proc}/{name}", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                self._epoll.register(descriptor, select.EPOLLPRI | select.EPOLLERR)
            except OSError:
                os.close(descriptor)  # no file of /proc: a test's
            else:
                self._open.append(descriptor)

    def fileno(self) -> int:
        """To wait on."""
        return self._epoll.fileno()

    def take(self) -> None:
        """Take what is there: the loop has been told."""
        self._epoll.poll(0)

    def close(self) -> None:
        """Close them."""
        self._epoll.close()
        for descriptor in self._open:
            os.close(descriptor)


def find_roles(sysfs: str, proc: str, run: str) -> Answer:
    """The roles of all sessions, as JSON holds them: ``{"roles": {"1": {"system": [...], ...}}}``. A hand's job."""
    disks: dict[int, tuple[str, ...]] = {}
    try:
        with Sessions(sysfs) as sessions:
            numbers = sessions.numbers()
    except OSError:
        numbers = []
    for sid in numbers:
        disks[sid] = session_disks(Path(sysfs), sid)
    if not disks:
        return {"roles": {}}
    uses = BlockStack(sysfs, proc, run).uses()
    found = roles(uses, disks, multipath_disks(sysfs))
    return {"roles": {str(sid): role_values(role) for sid, role in found.items()}}


def roles_from(answer: Answer) -> dict[int, Role]:
    """The other way round."""
    return {int(sid): read_role(Fields(values)) for sid, values in answer["roles"].items()}
