# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which sessions are not logged out because of what is mounted on them, looked at when somebody asks.

iscsiadm asks the same before it asks the daemon. But the daemon is also told by others, open-iscsi's own command among
them, and a root that loses its disk takes the machine with it. The roles the timers go by are not enough: they follow a
mount after a moment, and a logout would come in between.

A look reads every mount and every disk of the machine, so a hundred logouts at once share one. A look that had begun
before a question came is no answer to it: what was mounted since would not be seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from iscsiboot.daemon.settings import Places
from iscsiboot.keeper.errand import Errand
from iscsiboot.keeper.port import Hands
from iscsiboot.orders.stays import kept, look, refusal
from iscsiboot.session.workers import Answer, Ended

LOOK_SECONDS = 15.0
_WHAT = "looking at what is mounted"


class LogoutGuard:
    """Says no to logouts; belongs to one loop."""

    def __init__(self, *, places: Places, hands: Hands) -> None:
        self._places = places
        self._hands = hands
        self._last: asyncio.Task[Ended] | None = None
        """The look that was asked for last; it may not have begun."""
        self._questions: set[int] = set()
        """Sessions it will be about when it begins."""

    async def refuse_in_use(self, sid: int, *, safe_logout: bool) -> None:
        """IscsiBootError (exit code 28) when the session has to stay: the system stands on it, or it has anything
        mounted and ``safe_logout`` is set. A look that fails refuses too: nobody knows then what would be lost.
        """
        ended = await self._answer(sid)
        if ended.answer is None:
            raise kept(f"session {sid}", f"{_WHAT} failed: {ended.problem}")
        refused = refusal(f"session {sid}", ended.answer[str(sid)], safe_logout=safe_logout)
        if refused is not None:
            raise refused

    async def _answer(self, sid: int) -> Ended:
        """Of the first look that begins from now on; it goes on when who asked is gone, for the others."""
        if not self._questions or self._last is None:
            self._last = asyncio.create_task(self._look(self._last))
        self._questions.add(sid)
        return await asyncio.shield(self._last)

    async def _look(self, before: asyncio.Task[Ended] | None) -> Ended:
        if before is not None:
            # Two at a time would read the same twice; and a look that hangs keeps its name from a second one.
            await asyncio.wait({before})
        sids, self._questions = sorted(self._questions), set()
        places = self._places
        errand = Errand(_look, (sids, places.sysfs, places.proc, places.run))
        return await self._hands.run(errand, seconds=LOOK_SECONDS, what=_WHAT)


def _look(sids: Sequence[int], sysfs: str, proc: str, run: str) -> Answer:
    """A hand's errand: :func:`iscsiboot.orders.stays.look` with names JSON can hold."""
    return {str(sid): uses for sid, uses in look(sids, sysfs=sysfs, proc=proc, run=run).items()}
