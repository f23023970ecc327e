# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the sessions of this machine lead, so that none is made twice: guarded ones, orders at work, others' ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from iscsiboot.keeper import refusals
from iscsiboot.keeper.values import Place
from iscsiboot.sysfs.sessions import read_session

STRANGERS_MAX = 256
"""Sessions of others remembered before those that are gone again are forgotten."""


class Places:
    """The places that are taken. ``is_there`` says whether the kernel has a session."""

    def __init__(self, sysfs: Path, is_there: Callable[[int], bool]) -> None:
        self._sysfs = sysfs
        self._is_there = is_there
        self._taken: Counter[Place] = Counter()
        self._strangers: set[int] = set()

    @property
    def count(self) -> int:
        """How many are taken."""
        return len(self._taken)

    @contextmanager
    def taken(self, place: Place, *, alone: bool) -> Iterator[None]:
        """Hold a place while a login is under way; ``alone``: IscsiBootError (exit code 15) when somebody is there."""
        if alone and self._is_taken(place):
            raise refusals.second_session(place)
        self.add(place)
        try:
            yield
        finally:
            self.remove(place)

    def add(self, place: Place) -> None:
        """A session is guarded there from now on."""
        self._taken[place] += 1

    def remove(self, place: Place) -> None:
        """It is gone."""
        self._taken[place] -= 1
        if self._taken[place] <= 0:
            del self._taken[place]

    def stranger(self, sid: int) -> None:
        """Another program has made a session; where it leads is read when that matters."""
        if len(self._strangers) > STRANGERS_MAX:
            self._strangers = {other for other in self._strangers if self._is_there(other)}
        self._strangers.add(sid)

    def no_stranger(self, sid: int) -> None:
        """It is guarded now."""
        self._strangers.discard(sid)

    def _is_taken(self, place: Place) -> bool:
        """Whether a session leads there already, is being made, or was made by another program meanwhile."""
        if place in self._taken:
            return True
        target, portal, iface, initiator = place
        for sid in tuple(self._strangers):
            session = read_session(self._sysfs, sid)
            if session is None:
                self._strangers.discard(sid)
                continue
            portals = {known.endpoint for view in session.connections for known in view.portals}
            same = (session.target_name, session.iface_name, session.initiator_name) == (target, iface, initiator)
            if same and portal in portals:
                return True
        return False
