# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lines of many sessions that say the same: the first few as they are, the others in one line.

A portal that goes away takes all its sessions with it, hundreds perhaps, and each has the same to say. Whoever reads
the log then wants to know what happened and to how many, and a ring that such a storm overflows has lost the lines that
were different. So of each kind of line :data:`FEW` are written within :data:`SECONDS`; those that follow are counted
and named by their numbers in one line when that time is over. While a storm goes on there is one line each such time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field

from iscsiboot.keeper.log import Level, Log

FEW = 8
"""More than a server usually has paths to one array, whose lines one wants to see each."""
SECONDS = 10.0
"""How late a line may come: no longer than people take to look."""
NUMBERS_CHARACTERS = 400
"""Of the sessions' numbers in one line; what they say needs room, too."""
KINDS_MAX = 64
"""Different kinds remembered; lines of more than that are written as they are."""


class Crowd:
    """A log for lines about sessions; belongs to the thread of the running loop. No timer unless something waits."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._spells: dict[str, _Spell] = {}

    def say(self, level: Level, text: str, *, kind: str, sid: int) -> None:
        """One line about session ``sid``; ``kind`` is what it has in common with others, empty: nothing."""
        spell = self._spell(kind) if kind else None
        if spell is None:
            self._log(level, text)
            return
        if spell.left:
            spell.left -= 1
            self._log(level, text)
            return
        spell.sids.add(sid)
        spell.level, spell.text = min(level, spell.level), text
        if spell.timer is None:
            loop = asyncio.get_running_loop()
            spell.timer = loop.call_at(max(spell.ends, loop.time()), self._over, kind)

    def flush(self) -> None:
        """Write what waits, at once."""
        for kind in tuple(self._spells):
            self._tell(self._spells.pop(kind))

    def _spell(self, kind: str) -> _Spell | None:
        """What is remembered of lines of this kind; None when that would be too much."""
        now = asyncio.get_running_loop().time()
        spell = self._spells.get(kind)
        if spell is not None and (spell.timer is not None or now < spell.ends):
            return spell
        if spell is None and len(self._spells) >= KINDS_MAX:
            self._spells = {name: item for name, item in self._spells.items() if item.timer or now < item.ends}
            if len(self._spells) >= KINDS_MAX:
                return None
        spell = self._spells[kind] = _Spell(left=FEW, ends=now + SECONDS)
        return spell

    def _over(self, kind: str) -> None:
        spell = self._spells.pop(kind)
        self._tell(spell)
        # The storm may go on, and then it needs no examples any more.
        self._spells[kind] = _Spell(left=0, ends=spell.ends + SECONDS)

    def _tell(self, spell: _Spell) -> None:
        if spell.timer is not None:
            spell.timer.cancel()
            count = len(spell.sids)
            others = f"{count} more sessions" if count > 1 else "1 more session"
            self._log(spell.level, f"{others} ({numbers(spell.sids)}) likewise; the last: {spell.text}")


@dataclass(kw_only=True, slots=True)
class _Spell:
    """Lines of one kind within :data:`SECONDS`."""

    left: int
    """Lines to be written as they are."""
    ends: float
    sids: set[int] = field(default_factory=set)
    level: Level = Level.DEBUG
    text: str = ""
    timer: asyncio.TimerHandle | None = None
    """There is something to tell when it is over."""


def numbers(sids: Collection[int]) -> str:
    """``1-4, 7, 9-12``; what does not fit into :data:`NUMBERS_CHARACTERS` is ``...``."""
    ranges: list[list[int]] = []
    for sid in sorted(sids):
        if ranges and sid == ranges[-1][1] + 1:
            ranges[-1][1] = sid
        else:
            ranges.append([sid, sid])
    text = ", ".join(f"{first}-{last}" if first < last else str(first) for first, last in ranges)
    return text if len(text) <= NUMBERS_CHARACTERS else f"{text[:NUMBERS_CHARACTERS].rpartition(',')[0]}, ..."
