# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a guard process does while it acts: adopt what is there, have the Keeper guard it, notice when it is done."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from iscsiboot.keeper import adoption, state_files
from iscsiboot.keeper.actor import Event
from iscsiboot.keeper.channel import Message
from iscsiboot.keeper.hands import Hands
from iscsiboot.keeper.keeper import Keeper
from iscsiboot.keeper.log import Level, Log
from iscsiboot.keeper.situation import Phase
from iscsiboot.keeper.untold import Untold
from iscsiboot.keeper.values import Known, Role
from iscsiboot.session.values import Environment


@dataclass(frozen=True, slots=True)
class NothingLeft(Event):
    """There is nothing to guard any more, or nothing we may."""

    words: str
    spell: Engine
    """Whose end it is: an older one's says nothing of the one at work."""


class Engine(Protocol):
    """One spell of acting, from :meth:`start` to :meth:`stop`."""

    async def start(self, known: Mapping[int, Known], roles: Mapping[int, Role], events: asyncio.Queue[Event]) -> None:
        """Begin; :class:`NothingLeft` comes into ``events`` at the end. Returns when everything found is guarded."""

    def guarded(self) -> dict[int, Known]:
        """What is known of the sessions, also after :meth:`stop`."""

    def up(self) -> frozenset[int]:
        """The sessions that worked at :meth:`stop`, every event before it looked at."""

    def status(self) -> list[Message]:
        """What people are told, a dictionary a session."""

    async def stop(self) -> None:
        """Act no more: attempts are taken back, sessions stay as they are. Twice is fine, also without a start."""


class KeeperEngine:
    """The real one."""

    def __init__(self, environment: Environment, log: Log, run: Path) -> None:
        self._environment = environment
        self._log = log
        self._run = run
        self._hands = Hands(log=log)
        self._keeper: Keeper | None = None
        self._watching: asyncio.Task[None] | None = None
        self._untold: Untold | None = None
        self._last: dict[int, Known] = {}
        self._up: frozenset[int] = frozenset()

    async def start(self, known: Mapping[int, Known], roles: Mapping[int, Role], events: asyncio.Queue[Event]) -> None:
        """As :class:`Engine` says. IscsiBootError when the kernel cannot be talked to."""
        self._last = dict(known)

        def intruded(sid: int) -> None:
            events.put_nowait(NothingLeft(f"session {sid} was logged in by another program, which guards it now", self))

        self._keeper = keeper = Keeper(
            self._environment,
            hands=self._hands,
            log=self._log,
            renew=None,
            # For the jitter of pauses; nobody gains by guessing it.
            chance=random.random,
            intruder=intruded,
        )
        await keeper.start()
        state = state_files.read(self._run)
        for problem in state.problems:
            self._log(Level.WARNING, problem)
        found = adoption.look(self._environment, handed=known, state=state.known)
        ours = frozenset(item.sid for item in found if item.is_ours and not item.to_be_removed)
        told = {sid: role for sid, role in {**state.roles, **roles}.items() if sid in ours}
        keeper.set_roles(told)
        untold = ours - told.keys()
        if untold:
            self._untold = Untold(self._environment.sysfs, untold, set_roles=keeper.set_roles, log=self._log)
        self._watching = asyncio.get_running_loop().create_task(self._watch(keeper, events))
        await keeper.adopt(adoption.at_once(found))
        found = await adoption.complete(found, self._environment)
        await keeper.adopt(
            await adoption.settle(found, environment=self._environment, hands=self._hands, log=self._log)
        )
        self._log(Level.NOTICE, f"guards {_count(len(keeper.guarded()))}")
        if not keeper.guarded():
            events.put_nowait(NothingLeft("there is no session to guard", self))

    def guarded(self) -> dict[int, Known]:
        """As :class:`Engine` says."""
        return self._last if self._keeper is None else self._keeper.guarded()

    def up(self) -> frozenset[int]:
        """As :class:`Engine` says."""
        return self._up

    def status(self) -> list[Message]:
        """As :class:`Engine` says."""
        return [] if self._keeper is None else [dataclasses.asdict(item) for item in self._keeper.statuses()]

    async def stop(self) -> None:
        """As :class:`Engine` says."""
        keeper, watching = self._keeper, self._watching
        if keeper is None:
            return
        if self._untold is not None:
            self._untold.close()
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        await keeper.stop_acting()
        self._last = keeper.guarded()
        self._up = frozenset(item.sid for item in keeper.statuses() if item.phase == Phase.UP.value)
        self._keeper = None
        await keeper.close()
        await self._hands.close()

    async def _watch(self, keeper: Keeper, events: asyncio.Queue[Event]) -> None:
        async with aclosing(keeper.changes()) as changes:
            async for _ in changes:
                if not keeper.guarded():
                    events.put_nowait(NothingLeft("the last session is gone", self))
                    return


def _count(number: int) -> str:
    return "1 session" if number == 1 else f"{number} sessions"
