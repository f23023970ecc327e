# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two lanes for the tests of ``make check``: what a processor takes next, where pytest-xdist has two of them.

A file is never divided, so its fixtures are made once. The guests with the daemon and with both initiators are one
piece: most of them are a pair of machines already, and two pairs at once would be four machines on two processors.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from xdist.scheduler import LoadScopeScheduling

PAIRS = (
    *("tests/qemu/test_daemon_adoption.py", "tests/qemu/test_daemon_cuts.py", "tests/qemu/test_daemon_root.py"),
    *("tests/qemu/test_admin.py", "tests/qemu/test_admin_clients.py", "tests/qemu/test_admin_trials.py"),
)
"""The first piece, about half of the whole."""
MACHINES = "tests/qemu/"

Item = TypeVar("Item")


def piece(name: str) -> str:
    """What the test called ``name`` (pytest's node id) is handed out with."""
    file = name.partition("::")[0]
    return "pairs of machines" if file in PAIRS else file


def rank(name: str) -> int:
    """0 for what begins first: a long piece at the end would have one processor wait for the other."""
    file = name.partition("::")[0]
    return 0 if file in PAIRS else 1 if file.startswith(MACHINES) else 2


def ordered(named: Iterable[tuple[str, Item]]) -> list[Item]:
    """The items by rank, else as they were."""
    return [item for _, item in sorted(named, key=lambda pair: rank(pair[0]))]


class Lanes(LoadScopeScheduling):  # type: ignore[misc]  # it comes without types
    """pytest-xdist's own scheduler with our pieces."""

    def _split_scope(self, nodeid: str) -> str:
        return piece(nodeid)
