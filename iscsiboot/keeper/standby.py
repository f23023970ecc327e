# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the daemon holds of the guard process that stands behind it.

The standby is a fork of the daemon: it has what it needs in memory already and reads nothing from a disk. It sleeps on
a descriptor of the daemon's process, so it learns of every end, kill -9 and the kernel's included, and then guards. It
listens from the beginning: an iscsid that is started a millisecond after another was killed finds it and waits for it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

from iscsiboot.keeper import document, endings, hygiene, meeting, seal
from iscsiboot.keeper.channel import Channel, Garbage
from iscsiboot.keeper.engine import Engine, KeeperEngine
from iscsiboot.keeper.guardian import RUN, guard
from iscsiboot.keeper.log import Level, Log
from iscsiboot.keeper.values import Known, Role
from iscsiboot.session import forking
from iscsiboot.session.values import Environment

COMM = "iscsiboot-keeper"
TITLE = ("@iscsiboot-keeper",)
"""systemd leaves processes alone whose title begins so when it ends what is left at shutdown."""
UPDATE_SECONDS = 0.05
"""Between two updates: a hundred logins at once need not be told of one by one."""


class Standby:
    """A guard process that sleeps while this process lives. To be used in the loop's thread; nothing here blocks."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        """Of a process just made; :meth:`fork` makes it."""
        self.pid = pid
        self._channel = Channel(connection)
        self._process = endings.watch(pid)
        loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[bool] = loop.create_future()
        self._guarding: asyncio.Future[bool] = loop.create_future()
        self._gone: asyncio.Future[None] = loop.create_future()
        self._writer = document.Writer()
        self._newest: tuple[dict[int, Known], dict[int, Role]] | None = None
        self._resting: asyncio.TimerHandle | None = None
        self._reading = loop.create_task(self._read())
        if self._process is not None:
            loop.add_reader(self._process, self._ended)

    @classmethod
    def fork(
        cls,
        *,
        environment: Environment,
        open_log: Callable[[], Log],
        run: Path = RUN,
        name: str = meeting.NAME,
        engine: Callable[[Environment, Log, Path], Engine] = KeeperEngine,
    ) -> Standby:
        """Make it. OSError when the system lets no process be made. ``open_log`` is called in the new process, where
        every descriptor of ours but standard error is closed.
        """
        # Of ourselves, before the fork: a child that asked for its parent could be too late.
        ourselves = endings.watch(os.getpid())
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        parent = os.getpid()

        def live(mask: Set[int]) -> None:
            ours.close()
            keep = {its.fileno()} if ourselves is None else {its.fileno(), ourselves}
            log = _settle_in(keep, open_log, mask)
            guard(
                {},
                environment=environment,
                log=log,
                wait_for=ourselves,
                parent=parent,
                updates=its,
                run=run,
                name=name,
                engine=engine,
            )

        try:
            pid = forking.fork(partial(_child, live))
        except OSError:
            ours.close()
            raise
        finally:
            its.close()
            if ourselves is not None:
                os.close(ourselves)
        return cls(pid, ours)

    def update(self, known: Mapping[int, Known], roles: Mapping[int, Role]) -> None:
        """Tell it what it would have to guard: at once, or :data:`UPDATE_SECONDS` after the last time. Only the newest
        word waits, also when it does not read.
        """
        self._newest = (dict(known), dict(roles))
        if self._resting is None:
            self._tell()

    def _tell(self) -> None:
        self._resting = None
        if self._newest is None:
            return
        known, roles = self._newest
        self._newest = None
        self._channel.send_json(b'{"document":%s}' % self._writer.dump(known, roles), replaces="document")
        self._resting = asyncio.get_running_loop().call_later(UPDATE_SECONDS, self._tell)

    async def ready(self, seconds: float) -> bool:
        """Wait until it has taken in the first :meth:`update`: then the guard before us may leave."""
        return await _within(self._ready, seconds)

    async def take_over(self, seconds: float) -> bool:
        """Have it guard from now on (Keeper.stop_acting and Takeover.release first); True when it says that it does."""
        if self._resting is not None:
            self._resting.cancel()
        self._tell()
        self._channel.send({"guard": True})
        return await _within(self._guarding, seconds)

    def leave(self) -> None:
        """It may end: there is nothing to guard any more."""
        self._channel.send({"leave": True})

    async def ended(self) -> None:
        """Wait until the process is gone, also killed: make another one then."""
        await asyncio.shield(self._gone)

    async def _read(self) -> None:
        try:
            while (message := await self._channel.receive()) is not None:
                if message.get("ready") is True:
                    _answer(self._ready, True)
                if "guarding" in message:
                    _answer(self._guarding, message["guarding"] is True)
        except Garbage:
            pass
        _answer(self._ready, False)
        _answer(self._guarding, False)
        self._channel.close()
        if self._process is None:
            self._ended()

    def _ended(self) -> None:
        if self._process is not None:
            asyncio.get_running_loop().remove_reader(self._process)
            os.close(self._process)
            self._process = None
        with suppress(ChildProcessError):
            # It has ended, so this does not wait; without a pidfd it has closed its connection as the last thing.
            os.waitpid(self.pid, os.WNOHANG)
        if not self._gone.done():
            self._gone.set_result(None)


def _answer(future: asyncio.Future[bool], value: bool) -> None:
    if not future.done():
        future.set_result(value)


async def _within(future: asyncio.Future[bool], seconds: float) -> bool:
    try:
        return await asyncio.wait_for(asyncio.shield(future), seconds)
    except TimeoutError:
        return False


def _child(live: Callable[[Set[int]], None], mask: Set[int]) -> NoReturn:
    """The whole life of the process; never returns into the daemon's code."""
    status = 1
    try:
        live(mask)
        status = 0
    except BaseException:  # noqa: BLE001 - told where such things go (the log, once sealed), and the process ends
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def _settle_in(keep: set[int], open_log: Callable[[], Log], mask: Set[int]) -> Log:
    """Become a process of its own: nothing of the daemon's but memory, standard error and ``keep``."""
    # Nothing of the daemon's may be collected here: its sockets would be closed under numbers that are ours by then.
    gc.freeze()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in forking.ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    # A session of its own: it shall not end with the daemon's terminal or process group.
    os.setsid()
    # And nowhere in particular: where somebody started a daemon by hand, that file system could never be unmounted.
    os.chdir("/")
    hygiene.close_descriptors({2, *keep})
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    if nothing > 2:
        os.close(nothing)
    # It may fork a child that writes the log: before memory is locked.
    log = open_log()
    hygiene.set_comm(COMM)
    try:
        hygiene.set_title(TITLE)
    except (OSError, ValueError) as error:
        log(Level.WARNING, f"no title that begins with @: {error}; systemd may end this guard at shutdown")
    hygiene.again(log)
    seal.seal(log)
    return log
