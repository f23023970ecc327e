# SPDX-License-Identifier: LGPL-2.1-or-later
"""How the daemon adopts sessions: those that are there when it begins, and those that somebody else makes later.

What can be guarded at once is. Removals of what was left half made, and names that have to be looked up, take up to
half a minute and go on behind it, one at a time for each session. What is known of a session that waits for its name
counts as the daemon's meanwhile, and as long as it is there without one: the standby and the state files have it too.
Its name is looked up again at growing intervals: the name server may be behind the link that is down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from iscsiboot.errors import IscsiBootError
from iscsiboot.keeper import adoption, state_files
from iscsiboot.keeper.keeper import Keeper
from iscsiboot.keeper.log import Level, Log
from iscsiboot.keeper.port import Hands
from iscsiboot.keeper.seal import fault_words
from iscsiboot.keeper.values import Known
from iscsiboot.session.values import Environment
from iscsiboot.sysfs.sessions import has_session

STRANGER_SECONDS = (5.0, 30.0, 180.0)
"""After a session was made by somebody else: its maker, an iscsistart perhaps, is at work on it for a while."""
NAMES_AGAIN_SECONDS, NAMES_AGAIN_MAX = 30.0, 3600.0
"""After a look-up in vain; each time twice as long."""


class Adopting:
    """Has ``keeper`` guard what is found. Belongs to one loop."""

    def __init__(
        self,
        *,
        environment: Environment,
        run: Path,
        keeper: Keeper,
        records: adoption.Records,
        hands: Hands,
        changed: Callable[[], None],
        log: Log,
    ) -> None:
        """``run`` is /run/iscsiboot. ``changed`` is called when :meth:`known` says something else that is not the
        keeper's.
        """
        self._environment = environment
        self._run = run
        self._keeper = keeper
        self._records = records
        self._hands = hands
        self._changed = changed
        self._log = log
        self._nameless: dict[int, Known] = {}
        """What is known of those that wait for the address of their portal, or have found none."""
        self._left_alone: dict[int, str] = {}
        """Why, as people were told of each that is not ours."""
        self._settling: set[int] = set()
        """Those with a removal or a look-up under way."""
        self._about_to_look = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._names_again: asyncio.TimerHandle | None = None
        self._pause = NAMES_AGAIN_SECONDS
        self._closed = False

    def known(self) -> dict[int, Known]:
        """What is known of the sessions that are guarded or are to be, by number."""
        nameless = {sid: known for sid, known in self._nameless.items() if self._is_there(sid)}
        return {**nameless, **self._keeper.guarded()}

    async def adopt(self, handed: Mapping[int, Known], state: Mapping[int, Known]) -> None:
        """Everything that is there and not guarded; ``handed`` is what the guard before us knows, ``state`` what the
        files say. Returns when all is guarded that can be at once.
        """
        guarded = self._keeper.guarded()
        found = adoption.look(self._environment, handed=handed, state=state)
        await self._keeper.adopt(adoption.at_once(found))
        found = await adoption.complete(found, self._environment, self._records)
        fresh = tuple(item for item in found if item.sid not in guarded and item.sid not in self._settling)
        await self._keeper.adopt(adoption.at_once(fresh))
        waiting = adoption.waiting(fresh)
        self._nameless.update(waiting)
        sids = waiting.keys() | {item.sid for item in fresh if item.to_be_removed}
        self._settling |= sids
        self._begin(self._settle(fresh)).add_done_callback(lambda _: self._settling.difference_update(sids))

    def stranger(self, sid: int) -> None:
        """Somebody else has made a session: look at it when its maker has had the time to finish, and again later."""
        loop = asyncio.get_running_loop()
        for seconds in STRANGER_SECONDS:
            loop.call_later(seconds, self._look_at_stranger, sid)

    async def close(self) -> None:
        """Begin nothing any more, and end what is under way; :meth:`known` still answers."""
        self._closed = True
        if self._names_again is not None:
            self._names_again.cancel()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _is_there(self, sid: int) -> bool:
        return has_session(self._environment.sysfs, sid)

    async def _settle(self, found: tuple[adoption.Adopted, ...]) -> None:
        news = self._news(found)
        known = await adoption.settle(news, environment=self._environment, hands=self._hands, log=self._log)
        await self._keeper.adopt(known)
        for sid in known:
            self._nameless.pop(sid, None)
        self._nameless = {sid: known for sid, known in self._nameless.items() if self._is_there(sid)}
        self._changed()
        if not self._nameless:
            self._pause = NAMES_AGAIN_SECONDS
        elif self._names_again is None:
            self._names_again = asyncio.get_running_loop().call_later(self._pause, self._look_up_again)
            self._pause = min(2 * self._pause, NAMES_AGAIN_MAX)

    def _news(self, found: tuple[adoption.Adopted, ...]) -> tuple[adoption.Adopted, ...]:
        """Without those left alone for the reason people were told before: any stranger has all be looked at anew."""
        before = self._left_alone
        self._left_alone = {item.sid: item.words for item in found if not item.is_ours}
        return tuple(item for item in found if item.is_ours or before.get(item.sid) != item.words)

    def _look_up_again(self) -> None:
        self._names_again = None
        self._begin_look()

    def _look_at_stranger(self, sid: int) -> None:
        if sid not in self._keeper.guarded():
            self._begin_look()

    def _begin_look(self) -> None:
        # One look sees all there is: hundreds made in one moment are not hundreds of looks at hundreds.
        if not self._closed and not self._about_to_look:
            self._about_to_look = True
            self._begin(self._adopt_strangers())

    async def _adopt_strangers(self) -> None:
        self._about_to_look = False
        try:
            await self.adopt(self._nameless, state_files.read(self._run).known)
        except IscsiBootError as error:
            self._log(Level.WARNING, error.line())

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._log(Level.ERROR, f"what was found is not all guarded: a fault of this program: {fault_words(error)}")
