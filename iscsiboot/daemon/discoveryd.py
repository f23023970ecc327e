# SPDX-License-Identifier: LGPL-2.1-or-later
"""The discovery daemon: servers with ``use_discoveryd`` are asked again and again, and sessions follow what they name.

New portals are logged in to. Of those that are not named any more the sessions are logged out that were made here, and
of these never one that has anything mounted: a server's list is no reason to take a disk away. A round that fails
changes nothing. What was made is remembered in /run, so that a restart of the daemon changes nothing either; open-iscsi
logs out of all of it when it ends.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from iscsiboot.daemon.login_room import Place, place_of
from iscsiboot.daemon.settings import Places, Settings
from iscsiboot.database.record import Record
from iscsiboot.database.store import Database
from iscsiboot.errors import ExitCode, IscsiBootError, quoted
from iscsiboot.keeper.log import Level, Log
from iscsiboot.keeper.port import Hands
from iscsiboot.keeper.seal import fault_words
from iscsiboot.keeper.values import Known
from iscsiboot.session.workers import Answer

INTERVAL_DEFAULT = 30.0
"""Seconds between rounds when the record says a negative number."""
LIST_SECONDS = 30.0
ROUND_SECONDS = 600.0
"""For one round through every interface."""
LOGIN_SECONDS = 600.0
LOGOUT_SECONDS = 60.0
MEMORY = "discoveryd.json"
KIND = "sendtargets"
PREFIX = "discovery.sendtargets."

LogIn = Callable[[Record, float], Awaitable[int]]
"""Makes the session of a record unless it is there; its number. IscsiBootError."""
LogOut = Callable[[int, float], Awaitable[None]]
"""Ends a session nothing is mounted on. IscsiBootError when something is, or it stays."""


class Discoveryd:
    """All servers. To be used in the loop's thread."""

    def __init__(
        self,
        *,
        places: Places,
        settings: Callable[[], Settings],
        guarded: Callable[[], Mapping[int, Known]],
        log_in: LogIn,
        log_out: LogOut,
        hands: Hands,
        log: Log,
    ) -> None:
        self._places = places
        self._settings = settings
        self._guarded = guarded
        self._log_in = log_in
        self._log_out = log_out
        self._hands = hands
        self._log = log
        self._memory = Path(places.run) / "iscsiboot" / MEMORY
        self._made: dict[str, set[Place]] = {}
        self._servers: dict[tuple[str, int], _Server] = {}
        self._failed: dict[str, str] = {}
        self._faults: dict[str, str] = {}

    async def run(self) -> None:
        """Begin with every stored server; again after :meth:`close` and when records changed: new intervals count from
        then on, servers that are asked once only are asked once more. Returns when all are begun.
        """
        self._made = self._made or _remembered(self._memory)
        ended = await self._hands.run(
            partial(wanted_servers, self._places), seconds=LIST_SECONDS, what="reading the discovery records"
        )
        if ended.answer is None:
            self._log(Level.WARNING, f"no discovery by the daemon: {ended.problem}")
            return
        for note in ended.answer["notes"]:
            self._log(Level.NOTICE, note)
        wanted = {(str(address), int(port)): float(inval) for address, port, inval in ended.answer["servers"]}
        for server in self._servers.keys() - wanted.keys():
            self._servers.pop(server).task.cancel()
        for server, inval in wanted.items():
            polled = self._servers.get(server)
            if polled is None or polled.task.done():
                pace = _Pace(inval)
                task = asyncio.get_running_loop().create_task(self._poll(*server, pace))
                self._servers[server] = _Server(task, pace)
            else:
                polled.pace.change(inval)

    def close(self) -> None:
        """End; the sessions stay."""
        for server in self._servers.values():
            server.task.cancel()
        self._servers.clear()

    async def _poll(self, address: str, port: int, pace: _Pace) -> None:
        """Round after round; one alone when the interval is 0."""
        again = True
        while again:
            try:
                await self._round(address, port)
            except Exception as error:  # noqa: BLE001 - a fault in one round is told, and the next one goes on
                self._tell_fault(f"{address}:{port}", fault_words(error))
            else:
                self._faults.pop(f"{address}:{port}", None)
            again = await pace.next_round()

    def _tell_fault(self, server: str, words: str) -> None:
        """A line for each new fault; a round that fails in the same way each time fills no log."""
        if self._faults.get(server) != words:
            self._faults[server] = words
            self._log(Level.ERROR, f"discovery at {server}: a fault of this program: {words}; the next round goes on")

    async def _round(self, address: str, port: int) -> None:
        server = f"{address}:{port}"
        job = partial(_round, address, port, self._settings(), self._places)
        ended = await self._hands.run(job, seconds=ROUND_SECONDS, what=f"discovery at {server}")
        answer: Answer = ended.answer or {"records": [], "failures": [ended.problem], "notes": []}
        for note in answer["notes"]:
            self._log(Level.DEBUG, f"discovery at {server}: {note}")
        self._tell_failures(server, answer["failures"])
        records = [Record("node", values) for values in answer["records"]]
        await self._follow(server, records, complete=not answer["failures"])

    def _tell_failures(self, server: str, failures: list[str]) -> None:
        """A line when it begins to fail, or fails in another way, and one when it works again."""
        words = "; ".join(failures)
        before = self._failed.pop(server, "")
        if words:
            self._failed[server] = words
            if words != before:
                self._log(Level.ERROR, f"Could not perform SendTargets to {server}. {words}")
        elif before:
            self._log(Level.NOTICE, f"SendTargets to {server} works again")

    async def _follow(self, server: str, records: list[Record], *, complete: bool) -> None:
        """Log in to what is named and not there; log out of what was made here and is not named any more."""
        there = {place_of(known): sid for sid, known in self._guarded().items()}
        made = self._made.setdefault(server, set())
        before = set(made)
        named = {_place(record): record for record in records}
        entered, faults = await _done(self._enter(place, named[place]) for place in named if place not in there)
        made.update(entered)
        if complete:
            vanished = {place for place in made if place not in named}
            made -= vanished - there.keys()
            left, more = await _done(self._leave(place, there[place]) for place in vanished & there.keys())
            made -= set(left)
            faults += more
        if made != before:
            self._remember()
        for fault in faults:
            raise fault

    async def _enter(self, place: Place, record: Record) -> Place | None:
        try:
            sid = await self._log_in(record, LOGIN_SECONDS)
        except IscsiBootError as error:
            # The next round tries again; a line for each new reason.
            if error.exit_code is not ExitCode.SESS_EXISTS and self._failed.get(repr(place)) != error.cause:
                self._log(Level.ERROR, f"discovered {_words(place)}: {error.line()}")
                self._failed[repr(place)] = error.cause
            return None
        self._failed.pop(repr(place), None)
        self._log(Level.NOTICE, f"discovered {_words(place)}: session {sid}")
        return place

    async def _leave(self, place: Place, sid: int) -> Place | None:
        try:
            await self._log_out(sid, LOGOUT_SECONDS)
        except IscsiBootError as error:
            if self._failed.get(repr(place)) != error.cause:
                self._log(Level.WARNING, f"{_words(place)} is not offered any more: {error.line()}")
                self._failed[repr(place)] = error.cause
            return None
        self._log(Level.NOTICE, f"{_words(place)} is not offered any more: session {sid} was logged out")
        return place

    def _remember(self) -> None:
        """A tmpfs: nothing here waits for a disk."""
        text = json.dumps({server: sorted(places) for server, places in self._made.items() if places})
        beside = self._memory.with_suffix(".new")
        try:
            beside.write_text(text)
            beside.replace(self._memory)
        except OSError as error:
            self._log(Level.WARNING, f"{self._memory}: {error.strerror}: a restart forgets what discovery has made")


class _Pace:
    """How often a server is asked; the interval may change while rounds go on."""

    def __init__(self, inval: float) -> None:
        self._inval = inval
        self._changed = asyncio.Event()

    def change(self, inval: float) -> None:
        """Another interval; it begins with a round."""
        if inval != self._inval:
            self._inval = inval
            self._changed.set()

    async def next_round(self) -> bool:
        """Wait for the interval, or for another one; False when there is no next round."""
        if self._inval == 0 and not self._changed.is_set():
            return False
        try:
            await asyncio.wait_for(self._changed.wait(), INTERVAL_DEFAULT if self._inval < 0 else self._inval)
        except TimeoutError:
            return True
        self._changed.clear()
        return True


@dataclass(frozen=True, slots=True)
class _Server:
    """One that is asked."""

    task: asyncio.Task[None]
    pace: _Pace


def wanted_servers(places: Places) -> Answer:
    """A hand's job: every stored server with ``use_discoveryd``: address, port, seconds between rounds (0: once)."""
    notes: list[str] = []
    servers = []
    try:
        database = Database(places.database, notice=notes.append)
        for address, port in database.discoveries(KIND):
            record = database.read_discovery(KIND, address, port)
            if record is not None and record.get(f"{PREFIX}use_discoveryd") == "Yes":
                servers.append([address, port, record.number(f"{PREFIX}discoveryd_poll_inval")])
        for address, port in database.discoveries("isns"):
            record = database.read_discovery("isns", address, port)
            if record is not None and record.get("discovery.isns.use_discoveryd") == "Yes":
                notes.append(f"discovery by iSNS ({address}:{port}) is not supported yet and is left out")
    except IscsiBootError as error:
        notes.append(error.line())
    return {"servers": servers, "notes": notes}


def _round(address: str, port: int, settings: Settings, places: Places) -> Answer:
    """A hand's job: see :func:`iscsiboot.daemon.discovery_round.discovery_round`."""
    # The full feature phase and all it stands on: few machines have a server to be asked, and all would lock it.
    from iscsiboot.daemon.discovery_round import discovery_round

    return discovery_round(address, port, settings, places)


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
