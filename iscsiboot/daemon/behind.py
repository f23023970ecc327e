# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is there when this daemon is not: the state files in /run, and the guard process that stands behind it.

Both are kept up with what is guarded, and follow events: nothing here wakes an idle daemon.

* A state file for each session, so that the next daemon knows what this one knew however it ended.
* A standby while any session carries the system. It sleeps until this process is gone, then guards in its place until
  the next daemon comes. Data sessions alone need none: the next daemon recovers them, and the disk of Python with them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from iscsiboot.keeper import state_files
from iscsiboot.keeper.log import Level, Log
from iscsiboot.keeper.standby import Standby
from iscsiboot.keeper.values import Known, Role

READY_SECONDS = 10.0
"""For a standby to be a process that has taken in what it would guard."""
SETTLE_SECONDS = 0.2
"""Changes come in flocks (32 sessions broken by one switch); written once for all of them."""
AGAIN_SECONDS = 5.0
"""After a standby that ended or could not be made: before the next one."""


class Behind:
    """Keeps both up to date. To be used in the loop's thread."""

    def __init__(
        self,
        *,
        run: Path,
        fork: Callable[[], Standby],
        guarded: Callable[[], Mapping[int, Known]],
        roles: Callable[[], Mapping[int, Role]],
        log: Log,
    ) -> None:
        """``run`` is /run/iscsiboot; ``fork`` makes a standby, OSError when the system does not let it."""
        self._run = run
        self._fork = fork
        self._guarded = guarded
        self._roles = roles
        self._log = log
        self._written: dict[int, tuple[Known, Role | None]] = {}
        self._standby: Standby | None = None
        self._mourner: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._told_files = False
        self._closed = False

    async def begin(self) -> bool:
        """The first word; whether a standby stands ready, or none is needed."""
        self._refresh()
        standby = self._standby
        return not self.needed if standby is None else await standby.ready(READY_SECONDS)

    @property
    def needed(self) -> bool:
        """Whether anything guarded carries the system."""
        roles = self._roles()
        return any(sid in roles and roles[sid].system for sid in self._guarded())

    @property
    def pid(self) -> int | None:
        """The standby's process."""
        return None if self._standby is None else self._standby.pid

    def changed(self) -> None:
        """What is guarded, or what it carries, may be something else now."""
        if self._timer is None and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(SETTLE_SECONDS, self._refresh)

    async def take_over(self, seconds: float) -> bool:
        """The daemon ends: the standby guards from now on; whether it says so. True where nobody is needed."""
        self._refresh()
        self._closed = True
        if self._mourner is not None:
            self._mourner.cancel()
        if self._standby is None:
            return not self.needed
        return await self._standby.take_over(seconds)

    def close(self) -> None:
        """Follow no more. The files stay for the next daemon."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._mourner is not None:
            self._mourner.cancel()

    def _refresh(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._closed:
            return
        known, roles = dict(self._guarded()), dict(self._roles())
        self._write(known, roles)
        if self.needed and self._standby is None:
            self._make()
        elif not self.needed and self._standby is not None:
            self._dismiss()
        if self._standby is not None:
            self._standby.update(known, {sid: role for sid, role in roles.items() if sid in known})

    def _write(self, known: Mapping[int, Known], roles: Mapping[int, Role]) -> None:
        """Files of what changed. A tmpfs: nothing here waits for a disk."""
        try:
            for sid, item in known.items():
                state = (item, roles.get(sid))
                if self._written.get(sid) != state:
                    state_files.write(self._run, sid, *state)
                    self._written[sid] = state
            for sid in self._written.keys() - known.keys():
                state_files.remove(self._run, sid)
                del self._written[sid]
        except OSError as error:
            if not self._told_files:
                self._log(
                    Level.WARNING, f"{self._run}: {error.strerror}: the next daemon will know less of the sessions"
                )
            self._told_files = True
        else:
            self._told_files = False

    def _make(self) -> None:
        try:
            self._standby = self._fork()
        except OSError as error:
            self._log(
                Level.WARNING, f"no standby guard can be made: {error.strerror}; tried again with the next change"
            )
            return
        self._mourner = asyncio.get_running_loop().create_task(self._mourn(self._standby))

    def _dismiss(self) -> None:
        if self._mourner is not None:
            self._mourner.cancel()
        if self._standby is not None:
            self._standby.leave()
        self._standby = self._mourner = None

    async def _mourn(self, standby: Standby) -> None:
        """A standby that ends while it is needed (somebody killed it) is replaced, after a pause."""
        await standby.ended()
        self._standby = self._mourner = None
        if not self._closed:
            self._log(Level.WARNING, f"the standby guard (process {standby.pid}) has ended; another one is made")
            asyncio.get_running_loop().call_later(AGAIN_SECONDS, self.changed)
