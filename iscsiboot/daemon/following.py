# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sessions follow what discovery servers name: which are made and ended after a round, and whose they are.

A server is not trusted with more than that. It may name portals nobody answers at: logins go on behind the rounds, so
that one that takes minutes delays no other portal and no round. It may name others each time: lines are counted, and
told at growing intervals.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from iscsiboot.daemon.told import Told
from iscsiboot.database.record import Record
from iscsiboot.errors import ExitCode, IscsiBootError, quoted
from iscsiboot.keeper.log import Level, Log
from iscsiboot.keeper.seal import fault_words
from iscsiboot.keeper.values import Known, Place, place_of

LOGIN_SECONDS = 600.0
LOGOUT_SECONDS = 60.0
LOGINS_AT_ONCE = 32
LINES_MAX = 20
"""About single portals of one server, from one round to the next."""
LIST = "list"
"""What is told of a server's list, beside its places."""
ROUND = "round"
"""What is told of faults in its rounds, beside those at its places."""

LogIn = Callable[[Record, float], Awaitable[int]]
"""Makes the session of a record unless it is there; its number. IscsiBootError."""
LogOut = Callable[[int, float], Awaitable[None]]
"""Ends a session nothing is mounted on. IscsiBootError when something is, or it stays."""


@dataclass(frozen=True, slots=True)
class _Entering:
    """A login under way."""

    server: str
    task: asyncio.Task[None]


class Following:
    """What was made here, for each server by its name. To be used in the loop's thread."""

    def __init__(
        self,
        *,
        memory: Path,
        guarded: Callable[[], Mapping[int, Known]],
        log_in: LogIn,
        log_out: LogOut,
        told: Told,
        log: Log,
    ) -> None:
        """``memory`` is the file in /run that outlives the daemon."""
        self._memory = memory
        self._guarded = guarded
        self._log_in = log_in
        self._log_out = log_out
        self._told = told
        self._log = log
        self._made: dict[str, set[Place]] = {}
        self._named: dict[str, frozenset[Place]] = {}
        """What each server has named in its last whole answer."""
        self._emptied: set[str] = set()
        """Those whose last answer was whole and empty."""
        self._entering: dict[Place, _Entering] = {}
        self._logins = asyncio.Semaphore(LOGINS_AT_ONCE)
        self._lines: Counter[str] = Counter()

    def recall(self) -> None:
        """What the daemon before this one has made is ours."""
        self._made = self._made or _remembered(self._memory)

    def begin_round(self, server: str) -> None:
        """Lines are counted anew."""
        left_out = self._lines.pop(server, 0) - LINES_MAX
        if left_out > 0:
            self._log(Level.NOTICE, f"discovery at {server}: {left_out} more lines about its portals were left out")

    def forget(self, server: str) -> None:
        """It is not asked any more. Sessions made of it stay."""
        for entering in self._entering.values():
            if entering.server == server:
                entering.task.cancel()
        self._named.pop(server, None)
        self._told.keep(server, ())

    def close(self) -> None:
        """Logins under way end; sessions stay."""
        for entering in self._entering.values():
            entering.task.cancel()

    def fault(self, server: str, where: Hashable, words: str) -> None:
        """A line for each new fault of ours; what fails in the same way each time fills no log."""
        if self._told.fresh(server, ("fault", where), words):
            self._log(Level.ERROR, f"discovery at {server}: a fault of this program: {words}; the next round goes on")

    def no_fault(self, server: str, where: Hashable) -> None:
        """There was none this time."""
        self._told.over(server, ("fault", where))

    async def follow(self, server: str, records: list[Record], *, complete: bool) -> None:
        """Log in to what is named and not there; log out of what was made here and is not named any more."""
        there = {place_of(known.request): sid for sid, known in self._guarded().items()}
        made = self._made.setdefault(server, set())
        named = {_place(record): record for record in records}
        for place in [place for place in named if place not in there and place not in self._entering]:
            self._enter_behind(server, place, named[place])
        if not complete or self._empty_at_first(server, named):
            return
        self._told.keep(server, {LIST, ("fault", ROUND), *named, *made, *(("fault", place) for place in named)})
        self._named[server] = frozenset(named)
        self._hand_on(server)
        before = set(made)
        vanished = made - named.keys()
        made -= vanished - there.keys()
        left, faults = await _done(self._leave(server, place, there[place]) for place in vanished & there.keys())
        made -= set(left)
        if made != before:
            self._remember()
        for fault in faults:
            raise fault

    def _empty_at_first(self, server: str, named: Collection[Place]) -> bool:
        """A server that names nothing may have begun a moment ago, before it has its targets: its next word counts."""
        if named:
            self._emptied.discard(server)
        elif server not in self._emptied:
            self._emptied.add(server)
            return True
        return False

    def _hand_on(self, server: str) -> None:
        """What this server does not name any more and another one does is the other's now; what nobody names is not
        logged in to any longer.
        """
        others = {place: other for other, places in self._named.items() if other != server for place in sorted(places)}
        for place in [place for place in self._made[server] if place not in self._named[server] and place in others]:
            self._made[server].discard(place)
            self._made.setdefault(others[place], set()).add(place)
        for place, entering in self._entering.items():
            if entering.server == server and place not in self._named[server] and place not in others:
                entering.task.cancel()

    def _enter_behind(self, server: str, place: Place, record: Record) -> None:
        """Begin a login; the round goes on."""
        task = asyncio.get_running_loop().create_task(self._enter(server, place, record))
        self._entering[place] = _Entering(server, task)
        task.add_done_callback(partial(self._entered, place))

    def _entered(self, place: Place, task: asyncio.Task[None]) -> None:
        """Also one that was cancelled before it began."""
        if self._entering[place].task is task:
            del self._entering[place]

    async def _enter(self, server: str, place: Place, record: Record) -> None:
        try:
            async with self._logins:
                sid = await self._log_in(record, LOGIN_SECONDS)
        except IscsiBootError as error:
            # The next round tries again.
            if error.exit_code is not ExitCode.SESS_EXISTS:
                self._tell(server, place, Level.ERROR, f"discovered {_words(place)}: {error.line()}", error.cause)
        except Exception as error:  # noqa: BLE001 - a fault costs its own place only, and is told
            self.fault(server, place, fault_words(error))
        else:
            self._told.over(server, place)
            self.no_fault(server, place)
            self._log(Level.NOTICE, f"discovered {_words(place)}: session {sid}")
            self._made.setdefault(server, set()).add(place)
            self._remember()

    async def _leave(self, server: str, place: Place, sid: int) -> Place | None:
        try:
            await self._log_out(sid, LOGOUT_SECONDS)
        except IscsiBootError as error:
            line = f"{_words(place)} is not offered any more: {error.line()}"
            self._tell(server, place, Level.WARNING, line, error.cause)
            return None
        self._told.over(server, place)
        self._log(Level.NOTICE, f"{_words(place)} is not offered any more: session {sid} was logged out")
        return place

    def _tell(self, server: str, place: Place, level: Level, line: str, cause: str) -> None:
        """A line for each new reason, so many from one round to the next."""
        if self._told.fresh(server, place, cause):
            self._lines[server] += 1
            if self._lines[server] <= LINES_MAX:
                self._log(level, line)

    def _remember(self) -> None:
        """A tmpfs: nothing here waits for a disk."""
        text = json.dumps({server: sorted(places) for server, places in self._made.items() if places})
        beside = self._memory.with_suffix(".new")
        try:
            beside.write_text(text)
            beside.replace(self._memory)
        except OSError as error:
            self._log(Level.WARNING, f"{self._memory}: {error.strerror}: a restart forgets what discovery has made")


async def _done(works: Iterable[Awaitable[Place | None]]) -> tuple[list[Place], list[Exception]]:
    """All at once; the places where it was done, and faults of ours, which cost their own place only."""
    results = await asyncio.gather(*works, return_exceptions=True)
    places = [result for result in results if result is not None and not isinstance(result, BaseException)]
    return places, [result for result in results if isinstance(result, Exception)]


def _place(record: Record) -> Place:
    key = record.node_key
    return key.target, key.address, key.port, key.iface


def _words(place: Place) -> str:
    target, address, port, iface = place
    return quoted(f"{target} at {address}:{port} through {iface}", 400)


def _remembered(path: Path) -> dict[str, set[Place]]:
    """What an earlier daemon made; nothing when there was none, or what it wrote is not to be read."""
    try:
        item = json.loads(path.read_text())
        return {
            str(server): {(str(target), str(address), int(port), str(iface)) for target, address, port, iface in places}
            for server, places in item.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
