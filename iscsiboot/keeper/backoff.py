# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long to wait after a failed attempt: by what failed, how often in a row, and what the session carries.

A session of the system is tried every second while its target cannot be reached, for ever: an attempt costs a few
packets, a second of a standing root costs more. Data can wait longer, but in the first minutes no longer than
open-iscsi waits (3 s after a refused connection). A target that says it is not ready is as good as one that cannot be
reached: it says so while it starts. A name it does not know is another thing it says then, so that is asked for again
soon in the first half minute; after it, what a target says by itself it will say again, and is asked for less often.

Every figure is spread by a quarter to either side, so that a hundred sessions of one target do not knock together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from iscsiboot.keeper.situation import Failure, Situation

SPREAD = 0.25
"""Of each figure, to either side."""

SOON = 0.5
"""Seconds at least between two attempts when something outside says "try again": a link that flaps says so often."""

OWED_MAX = 60.0
"""Seconds a target may keep us away by asking; after that an attempt does no harm, it can refuse."""

STEADY = 30.0
"""Seconds a connection holds before a break is a new trouble and not the old one going on."""

_PEER_PAUSE = 3.0
"""Seconds between two attempts of open-iscsi; ``reopen_max`` counts those."""


@dataclass(frozen=True, slots=True)
class Curve:
    """The pauses after one kind of failure; seconds, before they are spread."""

    first: tuple[tuple[int, float], ...]
    """How many times, which pause."""
    then: float
    """For ever after."""

    def at(self, repeats: int) -> float:
        """The pause after the failure came ``repeats`` times in a row (from 1)."""
        left = repeats
        for times, seconds in self.first:
            if left <= times:
                return seconds
            left -= times
        return self.then

    @property
    def words(self) -> str:
        """``0.375-0.625, 60 times 1.8-3, then 4.8-8 s``: spread, as people are told."""
        first = [f"{f'{times} times ' if times > 1 else ''}{_span(seconds)}" for times, seconds in self.first]
        return f"{', '.join(first)}, then {_span(self.then)} s" if first else f"{_span(self.then)} s"


def _span(seconds: float) -> str:
    return f"{seconds * (1 - SPREAD):.3g}-{seconds * (1 + SPREAD):.3g}"


_ALIKE: Mapping[Failure, Curve] = {
    # Arrays lock accounts after some wrong secrets.
    Failure.DENIED: Curve(((1, 14.0), (1, 20.0)), 24.0),
    Failure.KERNEL: Curve(((1, 0.5), (1, 1.0), (1, 2.0)), 4.0),
}
_EVERY_SECOND = Curve((), 0.8)
_GROWING = Curve(((1, 0.5), (1, 1.0), (60, 2.4), (60, 4.8)), 6.4)

SYSTEM: Mapping[Failure, Curve] = {
    Failure.UNREACHABLE: _EVERY_SECOND,
    Failure.BROKEN: _EVERY_SECOND,
    Failure.UNAVAILABLE: _EVERY_SECOND,
    Failure.BUSY: Curve(((1, 0.5), (60, 1.1)), 6.4),
    Failure.REFUSED: Curve(((1, 0.5), (60, 1.1)), 6.4),
    **_ALIKE,
}
"""The pauses of a session the system stands on."""

DATA: Mapping[Failure, Curve] = {
    Failure.UNREACHABLE: _GROWING,
    Failure.BROKEN: _GROWING,
    Failure.UNAVAILABLE: _GROWING,
    Failure.BUSY: Curve(((1, 0.5), (1, 1.0), (1, 2.0), (1, 4.0), (1, 8.0), (1, 16.0)), 24.0),
    Failure.REFUSED: Curve(((1, 1.0), (10, 2.4), (1, 6.7), (1, 13.0)), 24.0),
    **_ALIKE,
}
"""The pauses of any other."""


def pause(failure: Failure, repeats: int, *, system: bool, chance: float) -> float:
    """Seconds until the next attempt after ``failure`` came ``repeats`` times in a row; ``chance`` in [0, 1)."""
    return (SYSTEM if system else DATA)[failure].at(repeats) * (1 - SPREAD + 2 * SPREAD * chance)


def may_give_up(situation: Situation, now: float) -> bool:
    """Whether a session has had its ``reopen_max`` attempts, and as much time as open-iscsi would have taken for them.

    What the system stands on is never given up.
    """
    limit = situation.reopen_max
    if limit <= 0 or situation.role.system or situation.broken_at is None:
        return False
    return situation.attempts >= limit and now - situation.broken_at >= limit * _PEER_PAUSE
