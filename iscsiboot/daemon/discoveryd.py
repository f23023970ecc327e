# SPDX-License-Identifier: LGPL-2.1-or-later
"""The discovery daemon: servers with ``use_discoveryd`` are asked again and again, and sessions follow what they name.

New portals are logged in to. Of those that no server names any more the sessions are logged out that were made here,
and of these never one that has anything mounted: a server's list is no reason to take a disk away. A round that fails
changes nothing. What was made is remembered in /run, so that a restart of the daemon changes nothing either; open-iscsi
logs out of all of it when it ends.

A server is not trusted with more than that: see :mod:`iscsiboot.daemon.following`. It may name very many portals: so
many are used (:mod:`iscsiboot.daemon.discovery_round`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from iscsiboot.daemon.following import LIST, ROUND, Following, LogIn, LogOut
from iscsiboot.daemon.settings import Places, Settings
from iscsiboot.daemon.told import Told
from iscsiboot.database.record import Record
from iscsiboot.database.store import Database
from iscsiboot.errors import IscsiBootError
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
AGAIN_SECONDS = 60.0
"""After stored servers that could not be read, on a disk that does not answer perhaps."""
ROUNDS_AT_ONCE = 8
"""Each is a child process that may wait for a server for minutes."""
MEMORY = "discoveryd.json"
KIND = "sendtargets"
PREFIX = "discovery.sendtargets."


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
        self._hands = hands
        self._log = log
        self._rounds = asyncio.Semaphore(ROUNDS_AT_ONCE)
        self._again: asyncio.TimerHandle | None = None
        self._beginning: asyncio.Task[None] | None = None
        self._servers: dict[tuple[str, int], _Server] = {}
        self._told = Told(time.monotonic)
        self._following = Following(
            memory=Path(places.run) / "iscsiboot" / MEMORY,
            guarded=guarded,
            log_in=log_in,
            log_out=log_out,
            told=self._told,
            log=log,
        )

    async def run(self) -> None:
        """Begin with every stored server; again after :meth:`close` and when records changed: new intervals count from
        then on, servers that are asked once only are asked once more. Returns when all are begun.
        """
        self._following.recall()
        ended = await self._hands.run(
            partial(wanted_servers, self._places), seconds=LIST_SECONDS, what="reading the discovery records"
        )
        if ended.answer is None:
            self._try_again(ended.problem)
            return
        self._told.over("", LIST)
        for note in ended.answer["notes"]:
            self._log(Level.NOTICE, note)
        wanted = {(str(address), int(port)): float(inval) for address, port, inval in ended.answer["servers"]}
        for server in self._servers.keys() - wanted.keys():
            self._drop(server)
        for server, inval in wanted.items():
            polled = self._servers.get(server)
            if polled is None or polled.task.done():
                pace = _Pace(inval)
                self._log(Level.NOTICE, f"discovery at {_server_name(*server)}: {pace.words}")
                task = asyncio.get_running_loop().create_task(self._poll(*server, pace))
                self._servers[server] = _Server(task, pace)
            else:
                polled.pace.change(inval)

    def _try_again(self, problem: str) -> None:
        if self._told.fresh("", LIST, problem):
            self._log(Level.WARNING, f"no discovery by the daemon yet: {problem}; tried again")
        if self._again is None:
            self._again = asyncio.get_running_loop().call_later(AGAIN_SECONDS, self._begin)

    def _begin(self) -> None:
        self._again = None
        self._beginning = asyncio.get_running_loop().create_task(self.run())

    def _drop(self, server: tuple[str, int]) -> None:
        """It is not to be asked any more; what was made of it stays."""
        self._servers.pop(server).task.cancel()
        self._following.forget(_server_name(*server))

    def close(self) -> None:
        """End; the sessions stay."""
        if self._again is not None:
            self._again.cancel()
        if self._beginning is not None:
            self._beginning.cancel()
        for server in self._servers.values():
            server.task.cancel()
        self._servers.clear()
        self._following.close()

    async def _poll(self, address: str, port: int, pace: _Pace) -> None:
        """Round after round; one alone when the interval is 0."""
        server = _server_name(address, port)
        again = True
        while again:
            try:
                async with self._rounds:
                    await self._round(address, port)
            except Exception as error:  # noqa: BLE001 - a fault in one round is told, and the next one goes on
                self._following.fault(server, ROUND, fault_words(error))
            else:
                self._following.no_fault(server, ROUND)
            again = await pace.next_round()

    async def _round(self, address: str, port: int) -> None:
        server, settings = _server_name(address, port), self._settings()
        self._following.begin_round(server)
        job = partial(_round, address, port, settings, self._places)
        ended = await self._hands.run(job, seconds=ROUND_SECONDS, what=f"discovery at {server}")
        answer: Answer = ended.answer or {"records": [], "failures": [ended.problem], "notes": []}
        for note in answer["notes"]:
            self._log(Level.DEBUG, f"discovery at {server}: {note}")
        self._tell_failures(server, answer["failures"])
        base = settings.config.node().values
        records = [Record("node", {**base, **values}) for values in answer["records"]]
        await self._following.follow(server, records, complete=not answer["failures"])

    def _tell_failures(self, server: str, failures: list[str]) -> None:
        """A line when it begins to fail, or fails in another way, and one when it works again."""
        if failures:
            words = "; ".join(failures)
            if self._told.fresh(server, LIST, words):
                self._log(Level.ERROR, f"Could not perform SendTargets to {server}. {words}")
        elif self._told.over(server, LIST):
            self._log(Level.NOTICE, f"SendTargets to {server} works again")


class _Pace:
    """How often a server is asked; the interval may change while rounds go on."""

    def __init__(self, inval: float) -> None:
        self._inval = inval
        self._changed = asyncio.Event()

    @property
    def words(self) -> str:
        """For the log."""
        return f"every {self._seconds:g} s" if self._inval else "once"

    @property
    def _seconds(self) -> float:
        return INTERVAL_DEFAULT if self._inval < 0 else self._inval

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
            await asyncio.wait_for(self._changed.wait(), self._seconds)
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


def _server_name(address: str, port: int) -> str:
    return f"{address}:{port}"
