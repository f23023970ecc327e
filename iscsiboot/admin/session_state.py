# SPDX-License-Identifier: LGPL-2.1-or-later
"""The two states of ``session -P 1`` that are the daemon's, told from what the kernel says.

open-iscsi asks iscsid for "iSCSI Connection State" and "Internal iscsid Session State", and prints ``Unknown`` for both
when no daemon answers. The kernel knows nearly as much: the connection's own state says whether there is a socket, a
login or full feature phase, and a session that lost its connection is FAILED until the recovery timeout has passed and
FREE after it. With a daemon that does its work the words are the same (seen in a guest with open-iscsi 2.1.8, kernel
6.1: the rows marked so); without one ``REOPEN`` says what has to happen, and not that somebody is at it.
"""

from __future__ import annotations

UNKNOWN = "Unknown"
LOGGED_IN = "LOGGED_IN"
"""The kernel's word for a session that works."""

_UP = ("LOGGED IN", "NO CHANGE")
_FIRST_LOGIN = ("IN LOGIN", "NO CHANGE")
_LOGIN_AGAIN = ("IN LOGIN", "REOPEN")
_LOST = ("TRANSPORT WAIT", "REOPEN")

STATES: dict[tuple[str, str], tuple[str, str]] = {
    ("LOGGED_IN", "up"): _UP,  # seen
    ("LOGGED_IN", ""): _UP,
    # The connection's state changes first, the session's when the error handler has run.
    ("LOGGED_IN", "failed"): _LOST,
    ("LOGGED_IN", "down"): _LOST,
    ("LOGGED_IN", "bound"): _LOGIN_AGAIN,
    ("FAILED", "failed"): _LOST,  # seen: cable out, recovery timeout running
    ("FAILED", "down"): _LOST,
    ("FAILED", ""): _LOST,
    ("FAILED", "bound"): _LOGIN_AGAIN,
    ("FAILED", "up"): _LOGIN_AGAIN,
    ("FREE", "failed"): _LOST,  # seen: the recovery timeout has passed, iscsid goes on trying
    ("FREE", "bound"): _FIRST_LOGIN,
    ("FREE", "up"): _FIRST_LOGIN,
    ("FREE", "down"): ("FREE", "NO CHANGE"),  # created, no socket yet
}
"""(state of the session, of its connection) -> (connection, internal). ``""`` is a kernel before 5.14, which has no
state of connections; FREE alone could then be a session before its first login or long after its last."""


def states(session: str, connection: str) -> tuple[str, str]:
    """Connection state and internal state in open-iscsi's words; ``Unknown`` where the kernel's leave it open."""
    return STATES.get((session, connection), (UNKNOWN, UNKNOWN))
