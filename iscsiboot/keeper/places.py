# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the sessions of this machine lead, and whether there is room for one more: guarded ones, logins under way,
others' ones.

Two clients that count before either has logged in would both find room; here the second is told what the first is at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from iscsiboot.keeper import refusals
from iscsiboot.keeper.values import Place
from iscsiboot.sysfs.sessions import SessionView, read_session

STRANGERS_MAX = 256
"""Sessions of others remembered before those that are gone again are forgotten."""


class Places:
    """The places that are taken. ``is_there`` says whether the kernel has a session."""

    def __init__(self, sysfs: Path, is_there: Callable[[int], bool]) -> None:
        self._sysfs = sysfs
        self._is_there = is_there
        self._guarded: Counter[Place] = Counter()
        self._under_way: Counter[Place] = Counter()
        self._strangers: set[int] = set()

    @property
    def count(self) -> int:
        """How many are taken."""
        return len(self._guarded.keys() | self._under_way.keys())

    @contextmanager
    def taken(self, place: Place, wanted: int) -> Iterator[None]:
        """Hold a place while a login is under way; ``wanted`` sessions may be there in all, 0 for one more in any case.

        IscsiBootError (exit code 15) when there is no room.
        """
        if wanted:
            there = self._guarded[place] + self._of_strangers(place)
            if there >= wanted:
                raise refusals.no_room(place, "there is a session already")
            if there + self._under_way[place] >= wanted:
                raise refusals.no_room(place, "another command is logging in to it at this moment")
        self._under_way[place] += 1
        try:
            yield
        finally:
            _one_less(self._under_way, place)

    def add(self, place: Place) -> None:
        """A session is guarded there from now on."""
        self._guarded[place] += 1

    def remove(self, place: Place) -> None:
        """It is gone."""
        _one_less(self._guarded, place)

    def stranger(self, sid: int) -> None:
        """Another program has made a session; where it leads is read when that matters."""
        if len(self._strangers) > STRANGERS_MAX:
            self._strangers = {other for other in self._strangers if self._is_there(other)}
        self._strangers.add(sid)

    def no_stranger(self, sid: int) -> None:
        """It is guarded now."""
        self._strangers.discard(sid)

    def _of_strangers(self, place: Place) -> int:
        """How many sessions other programs have made there meanwhile."""
        count = 0
        for sid in tuple(self._strangers):
            session = read_session(self._sysfs, sid)
            if session is None:
                self._strangers.discard(sid)
            elif _leads_to(session, place):
                count += 1
        return count


def _leads_to(session: SessionView, place: Place) -> bool:
    """By the portal it was asked for, as that is spelled, or the one it has reached."""
    target, address, port, iface = place
    if (session.target_name, session.iface_name or "default") != (target, iface):
        return False
    spelled = {(view.persistent_address, view.persistent_port) for view in session.connections}
    portals = {(str(portal.address), portal.port) for view in session.connections for portal in view.portals}
    return (address, port) in spelled | portals


def _one_less(counts: Counter[Place], place: Place) -> None:
    counts[place] -= 1
    if counts[place] <= 0:
        del counts[place]
