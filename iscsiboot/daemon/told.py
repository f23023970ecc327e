# SPDX-License-Identifier: LGPL-2.1-or-later
"""What was said of each thing, so that no log is filled by what others make up: a target names its portals itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass

FIRST_SECONDS = 60.0
"""After a line, until another reason for the same is told; doubled with each line."""
LONGEST_SECONDS = 3600.0
THINGS_MAX = 4096
"""Of all groups; the one spoken of first is forgotten first."""


@dataclass(slots=True)
class _Line:
    words: str
    not_before: float
    pause: float


class Told:
    """The last line about each of a group's things. Who uses it forgets what is no longer there (:meth:`keep`)."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lines: dict[tuple[str, Hashable], _Line] = {}

    def fresh(self, group: str, thing: Hashable, words: str) -> bool:
        """Whether to say it: the first time, and for other words at growing intervals; the same never again."""
        now = self._now()
        line = self._lines.get((group, thing))
        if line is None:
            if len(self._lines) == THINGS_MAX:
                del self._lines[next(iter(self._lines))]
            self._lines[group, thing] = _Line(words, now + FIRST_SECONDS, FIRST_SECONDS)
            return True
        if line.words == words or now < line.not_before:
            return False
        pause = min(LONGEST_SECONDS, line.pause * 2)
        self._lines[group, thing] = _Line(words, now + pause, pause)
        return True

    def over(self, group: str, thing: Hashable) -> bool:
        """It is as it should be; whether something else was said before."""
        return self._lines.pop((group, thing), None) is not None

    def keep(self, group: str, things: Collection[Hashable]) -> None:
        """Forget those of the group that are not among ``things``."""
        for key in [key for key in self._lines if key[0] == group and key[1] not in things]:
            del self._lines[key]
