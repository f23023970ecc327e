# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether there is room for one more session at a place: ``nr_sessions`` of them, logins under way included.

Two clients that count before either has logged in would both find room; here the second is told what the first is at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from iscsiboot.database.names import NodeKey
from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.keeper.values import Known

Place = tuple[str, str, int, str]
"""Target, address as the record spells it, port, interface."""


class LoginRoom:
    """The places of guarded sessions and of logins under way."""

    def __init__(self, guarded: Callable[[], Mapping[int, Known]]) -> None:
        self._guarded = guarded
        self._under_way: Counter[Place] = Counter()

    @contextmanager
    def taken(self, key: NodeKey, wanted: int) -> Iterator[None]:
        """Hold a place while a login is under way; ``wanted`` sessions may be there in all, 0 for one more in any case.

        IscsiBootError (exit code 15) when there is no room.
        """
        place = (key.target, key.address, key.port, key.iface)
        if wanted:
            coming = self._under_way[place]
            there = sum(place_of(known) == place for known in self._guarded().values())
            if coming and there + coming >= wanted:
                raise _exists(key, "another command is logging in to it at this moment")
            if there >= wanted:
                raise _exists(key, "there is a session already")
        self._under_way[place] += 1
        try:
            yield
        finally:
            self._under_way[place] -= 1
            if not self._under_way[place]:
                del self._under_way[place]


def place_of(known: Known) -> Place:
    """Where a session is logged in, in the words of its record."""
    request = known.request
    return (
        request.target_name,
        request.stored_address or str(request.portal.address),
        request.portal.port,
        request.iface_name,
    )


def _exists(key: NodeKey, cause: str) -> IscsiBootError:
    return IscsiBootError(
        cause,
        stage=Stage.SESSION,
        subject=f"{key.target} at {key.address}:{key.port} through {key.iface}",
        hint="iscsiadm -m session lists what is there",
        exit_code=ExitCode.SESS_EXISTS,
    )
