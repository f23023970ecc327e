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
from iscsiboot.keeper.seal import fault_words
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
        """Begin; :class:`NothingLeft` comes into ``events`` at the end.

        Returns when everything is guarded that can be at once. Whatever waits for the kernel or a name service goes on
        behind it: who asks for the sessions meanwhile is answered.
        """

    def guarded(self) -> dict[int, Known]:
        """What is known of the sessions, those not guarded yet included, also after :meth:`stop`."""

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
        self._settling: asyncio.Task[None] | None = None
        self._unsettled: dict[int, Known] = {}
        """What is known of those that wait for an address; empty when :attr:`_settling` is done."""
        self._untold: Untold | None = None
        self._last: dict[int, Known] = {}

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
        await keeper.adopt(adoption.at_once(found))
        found = await adoption.complete(found, self._environment)
        # And those only sysfs tells of: none of them waits for the removals and names of others.
        await keeper.adopt(adoption.at_once(found))
        self._unsettled = adoption.waiting(found)
        loop = asyncio.get_running_loop()
        self._settling = loop.create_task(self._settle(keeper, found, events))
        self._watching = loop.create_task(self._watch(keeper, events))

    async def _settle(self, keeper: Keeper, found: tuple[adoption.Adopted, ...], events: asyncio.Queue[Event]) -> None:
        """Removals and names, up to half a minute of both. A stop ends it, and the next one begins it anew."""
        try:
            known = await adoption.settle(found, environment=self._environment, hands=self._hands, log=self._log)
            await keeper.adopt(known)
        except Exception as error:  # noqa: BLE001 - what is guarded already must not be given up for it
            self._log(Level.ERROR, f"what was found is not all guarded: a fault of ours: {fault_words(error)}")
        self._unsettled = {}
        self._settling = None
        self._log(Level.NOTICE, f"guards {_count(len(keeper.guarded()))}")
        if not keeper.guarded():
            events.put_nowait(NothingLeft("there is no session to guard", self))

    def guarded(self) -> dict[int, Known]:
        """As :class:`Engine` says."""
        return self._last if self._keeper is None else {**self._unsettled, **self._keeper.guarded()}

    def status(self) -> list[Message]:
        """As :class:`Engine` says."""
        return [] if self._keeper is None else [dataclasses.asdict(item) for item in self._keeper.statuses()]

    async def stop(self) -> None:
        """As :class:`Engine` says."""
        keeper = self._keeper
        if keeper is None:
            return
        if self._untold is not None:
            self._untold.close()
        tasks = [task for task in (self._settling, self._watching) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await keeper.stop_acting()
        self._last = self.guarded()
        self._keeper = None
        await keeper.close()
        await self._hands.close()

    async def _watch(self, keeper: Keeper, events: asyncio.Queue[Event]) -> None:
        async with aclosing(keeper.changed()) as changed:
            async for _ in changed:
                if self._settling is None and not keeper.guarded():
                    events.put_nowait(NothingLeft("the last session is gone", self))
                    return


def _count(number: int) -> str:
    return "1 session" if number == 1 else f"{number} sessions"
