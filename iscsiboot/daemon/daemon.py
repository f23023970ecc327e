# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon at work: every part joined, in the order in which nothing is lost.

1. Requests are taken from the first moment and wait (:meth:`Service.open`): a client does not see the start.
2. The netlink socket is opened: from here on no event is missed.
3. Whoever guards now hands over (:mod:`iscsiboot.keeper.handover`) and from then on stands behind us.
4. sysfs is read, sessions are adopted: nothing is sent for those that work, the others are recovered at once.
5. A standby of our own is made; the guard before us may leave.
6. Ready.

The end is the same backwards: attempts end, the standby is told to guard, the process ends. Sessions are never touched.

A kernel without iSCSI is no reason to end: the daemon says so, and tries again when somebody wants a session.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import iscsiboot
from iscsiboot.daemon.adopting import Adopting
from iscsiboot.daemon.behind import Behind
from iscsiboot.daemon.discoveryd import Discoveryd
from iscsiboot.daemon.notify import Notifier
from iscsiboot.daemon.records import Records
from iscsiboot.daemon.roles import RoleWatch
from iscsiboot.daemon.service import Service
from iscsiboot.daemon.settings import Places, Settings, read_files, settings_from
from iscsiboot.daemon.squatter import serve_when_free
from iscsiboot.daemon.uevents import Uevents
from iscsiboot.daemon.unit_attention import UnitAttention
from iscsiboot.database.record import Record
from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.ipc.server import Server
from iscsiboot.keeper import state_files
from iscsiboot.keeper.handover import Takeover, take_over
from iscsiboot.keeper.hands import Hands
from iscsiboot.keeper.keeper import Keeper
from iscsiboot.keeper.log import Level, Log
from iscsiboot.keeper.standby import Standby
from iscsiboot.keeper.untold import UNTOLD
from iscsiboot.keeper.values import Role
from iscsiboot.model.deadline import Deadline
from iscsiboot.session.modules import ISCSI_TCP, Loading
from iscsiboot.session.values import Environment
from iscsiboot.session.workers import Answer
from iscsiboot.sysfs.sessions import has_session

MODULE_SECONDS = 60.0
TAKEOVER_SECONDS = 10.0
"""For the guard before us to hand over; it cancels its attempts meanwhile."""
GIVE_SECONDS = 5.0
"""For our standby to say that it guards."""
END_SECONDS = 2.0
"""For children that do something blocking to end with the daemon."""
SETTINGS_SECONDS = 15.0


class Daemon:
    """One run. Its methods belong to the loop's thread."""

    def __init__(
        self,
        *,
        places: Places,
        settings: Settings,
        environment: Environment,
        log: Log,
        open_log: Callable[[], Log],
        notifier: Notifier,
    ) -> None:
        """``open_log`` makes a log for a process of its own, the standby."""
        self.settings = settings
        self.roles: dict[int, Role] = {}
        self._places = places
        self._environment = environment
        self._log = log
        self._notifier = notifier
        self._run = Path(places.run) / "iscsiboot"
        self._began = time.time()
        self._ready = False
        self._listening = False
        self._kernel = False
        self._broken = False
        self._opening: asyncio.Task[None] | None = None
        self._stopped = asyncio.Event()
        self._takeover: Takeover | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._guarded: frozenset[int] = frozenset()
        self._told_intruders: set[int] = set()
        self.hands = Hands(log=log)
        self._records = Records(places, lambda: self.settings, hands=self.hands, log=log)
        self.keeper = self._make_keeper()
        self._adopting = self._make_adopting()
        self._behind = self._make_behind(open_log)
        self._service = Service(self.keeper, self, places, hands=self.hands, log=log)
        self._server = Server(self._service, self._say, environment.now, capabilities=self._service.actions)
        self._watch = self._make_watch()
        self._attention = UnitAttention(sysfs=places.sysfs, hands=self.hands, log=log, guarded=self.keeper.guarded)
        self._uevents = Uevents(log, self._watch.uevent, self._attention.uevent)
        self._discoveryd = self._make_discoveryd()

    def _make_keeper(self) -> Keeper:
        return Keeper(
            self._environment,
            hands=self.hands,
            log=self._log,
            renew=self._records.renew,
            chance=random.random,
            strangers=lambda sid: self._adopting.stranger(sid),
            intruder=self._intruder,
        )

    def _make_adopting(self) -> Adopting:
        return Adopting(
            environment=self._environment,
            run=self._run,
            keeper=self.keeper,
            records=self._records.of_sessions,
            hands=self.hands,
            changed=lambda: self._behind.changed(),
            log=self._log,
        )

    def _make_behind(self, open_log: Callable[[], Log]) -> Behind:
        return Behind(
            run=self._run,
            fork=partial(Standby.fork, environment=self._environment, open_log=open_log, run=self._run),
            guarded=self._adopting.known,
            roles=lambda: self.roles,
            log=self._log,
        )

    def _make_watch(self) -> RoleWatch:
        return RoleWatch(
            sysfs=self._places.sysfs,
            proc=self._places.proc,
            run=self._places.run,
            hands=self.hands,
            log=self._log,
            set_roles=self._set_roles,
        )

    def _make_discoveryd(self) -> Discoveryd:
        return Discoveryd(
            places=self._places,
            settings=lambda: self.settings,
            guarded=self.keeper.guarded,
            log_in=self._log_in_discovered,
            log_out=self._service.log_out_unused,
            hands=self.hands,
            log=self._log,
        )

    # From the start to the end. ---------------------------------------------------------------------------------------

    async def start(self, listener: socket.socket | None) -> None:
        """Everything up to being ready; without a listener, orders are taken as soon as there can be one.

        IscsiBootError when another daemon guards here.
        """
        self._notifier.status("Taking over the sessions that are there")
        if listener is None:
            self._spawn(serve_when_free(self._server, self._log))
        else:
            await self._server.start(listener)
        try:
            await self.kernel()
        except IscsiBootError as error:
            if self._takeover is not None or error.exit_code is ExitCode.BUSY:
                raise
            self._log(Level.NOTICE, f"{error.line()}; the daemon tries again when a session is asked for")

    def ready(self) -> None:
        """Begin with the requests that wait, and tell the service manager."""
        self._spawn(self._discoveryd.run())
        self._service.open()
        self._ready = True
        self._notifier.ready(self._status())

    async def until_stopped(self) -> None:
        """Return when :meth:`stop` was called; IscsiBootError when the daemon cannot go on."""
        await self._stopped.wait()
        if self._broken:
            raise IscsiBootError(
                "the sessions that are there could not be taken over",
                stage=Stage.DAEMON,
                hint="the log says why; the guard before this daemon goes on",
            )

    def stop(self) -> None:
        """Begin to end."""
        self._stopped.set()

    async def end(self) -> None:
        """End; the standby guards from here on, and no session is touched."""
        self._notifier.stopping()
        self._discoveryd.close()
        self.keeper.end_soon()
        await self._server.close()
        tasks = [*self._tasks, *([] if self._opening is None else [self._opening])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._adopting.close()
        self._uevents.close()
        self._attention.close()
        self._watch.close()
        if self._listening:
            await self.keeper.stop_acting()
            if self._takeover is not None:
                self._takeover.release()
            if not await self._behind.take_over(GIVE_SECONDS):
                self._log(Level.WARNING, "no standby guards the sessions until the next daemon is there")
            await self.keeper.close()
        self._behind.close()
        await self.hands.close(END_SECONDS)
        self._log(Level.NOTICE, "iscsid shutting down.")

    # The kernel, and what is there. -----------------------------------------------------------------------------------

    async def kernel(self) -> None:
        """The kernel's iSCSI is there and listened to, its sessions are guarded; see :class:`~.service.Host`."""
        if self._kernel:
            return
        if self._opening is None or self._opening.done():
            self._opening = asyncio.get_running_loop().create_task(self._open_kernel())
        # Whoever asks may go away; what has begun goes on.
        await asyncio.shield(self._opening)

    async def _open_kernel(self) -> None:
        if not self._listening:
            await self._load_transport()
            await self.keeper.start()
            self._listening = True
        self._takeover = await take_over(
            run=self._run,
            log=self._log,
            now=self._environment.now,
            seconds=TAKEOVER_SECONDS,
        )
        self._broken = True
        try:
            await self._adopt(self._takeover)
            self._broken = False
        finally:
            if self._broken:
                # Who has the right to act and does not use it keeps everybody else from guarding.
                self.stop()
        self._kernel = True

    async def _load_transport(self) -> None:
        """The module is loaded here and not when it is wanted: then modprobe may lie on a disk that is gone."""
        if (self._environment.sysfs / ISCSI_TCP.shows_at).exists():
            return
        ended = await self.hands.run(
            partial(_load, self._environment), seconds=MODULE_SECONDS, what="loading iscsi_tcp"
        )
        problem = ended.problem or (ended.answer or {}).get("problem", "")
        if problem:
            self._log(Level.INFO, problem)

    async def _adopt(self, before: Takeover) -> None:
        state = state_files.read(self._run)
        for problem in state.problems:
            self._log(Level.WARNING, problem)
        # What a guard had is the system's until we have looked: should the look fail, it must not be without one.
        self._set_roles({**dict.fromkeys(before.known, UNTOLD), **state.roles, **before.roles})
        await self._adopting.adopt(before.known, state.known)
        # Not those either that are there and not guarded, for want of their portal's address perhaps: what is known of
        # them is known nowhere else.
        there = {sid for sid in state.known if has_session(self._environment.sysfs, sid)}
        state_files.prune(self._run, there.union(self._adopting.known()))
        self._uevents.attach(asyncio.get_running_loop())
        await self._watch.start()
        guarded, down = self.keeper.counts()
        if guarded:
            self._log(Level.NOTICE, f"sessions taken over: {guarded}, not connected: {down}")
        self._spawn(self._follow())
        if await self._behind.begin():
            before.leave()
        else:
            self._log(Level.WARNING, "the standby guard is not ready; the guard before this daemon stays")

    def _intruder(self, sid: int) -> None:
        """Two programs that both heal a session break it for each other: somebody has to choose."""
        if sid not in self._told_intruders:
            self._told_intruders &= self.keeper.guarded().keys()
            self._told_intruders.add(sid)
            self._log(
                Level.ERROR,
                f"session {sid}: another program has logged it in, perhaps open-iscsi's iscsid;"
                " next: let only one of them run",
            )

    async def _log_in_discovered(self, record: Record, seconds: float) -> int:
        attached = await self._service.log_in(record, seconds=seconds, remark=partial(self._log, Level.DEBUG))
        return attached.sid

    # What changes. ----------------------------------------------------------------------------------------------------

    def reload(self) -> None:
        """SIGHUP: the settings again, and the secrets of every record."""
        self._spawn(self._reload())

    async def _reload(self) -> None:
        self._notifier.reloading()
        what = "reading the settings"
        ended = await self.hands.run(partial(read_files, self._places), seconds=SETTINGS_SECONDS, what=what)
        if ended.answer is None:
            self._log(Level.WARNING, f"{what}: {ended.problem}; the old ones stay")
        else:
            notice, warn = partial(self._log, Level.NOTICE), partial(self._log, Level.WARNING)
            self.settings = settings_from(ended.answer, self._places, notice, warn)
            await self.keeper.renew()
            await self._discoveryd.run()
            self._log(Level.NOTICE, "settings and secrets were read again")
        self._notifier.ready(self._status())

    def _set_roles(self, roles: Mapping[int, Role]) -> None:
        self.roles = dict(roles)
        self.keeper.set_roles(roles)
        self._behind.changed()

    async def _follow(self) -> None:
        """After each change of a session: the files, the standby, the roles of new ones, the status text."""
        async with aclosing(self.keeper.changed()) as changed:
            async for _ in changed:
                self._behind.changed()
                guarded = frozenset(self.keeper.guarded())
                if guarded != self._guarded:
                    self._guarded = guarded
                    self._watch.sessions_changed()
                self._notifier.status(self._status())

    def _status(self) -> str:
        """One line for ``systemctl status``."""
        if not self._kernel:
            return "No iSCSI in the kernel yet; waiting for orders"
        guarded, down = self.keeper.counts()
        return f"Guarding sessions: {guarded}, not connected: {down}"

    def about(self) -> dict[str, Any]:
        """The daemon itself, for ``status``."""
        return {
            "pid": os.getpid(),
            "version": iscsiboot.__version__,
            "since": self._began,
            "ready": self._ready,
            "kernel": self._kernel,
            "standby": self._behind.pid,
            "hanging": list(self.hands.hanging),
        }

    def _say(self, level: int, text: str) -> None:
        self._log(Level(level), text)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _load(environment: Environment) -> Answer:
    """A hand's job."""
    now = environment.now
    try:
        loading = Loading(ISCSI_TCP, sysfs=environment.sysfs, in_image=False)
        loading.wait(Deadline.after(MODULE_SECONDS, now=now(), reason="modprobe iscsi_tcp"), now)
    except IscsiBootError as error:
        return {"problem": error.line()}
    return {}
