# SPDX-License-Identifier: LGPL-2.1-or-later
"""The states of ``session -P 1``: the words are open-iscsi's, and nothing is said that the kernel does not say."""

from __future__ import annotations

import pytest

from iscsiboot.admin.session_state import STATES, states

CONNECTION_WORDS = {
    "FREE",
    "TRANSPORT WAIT",
    "IN LOGIN",
    "LOGGED IN",
    "IN LOGOUT",
    "LOGOUT REQUESTED",
    "CLEANUP WAIT",
    "Unknown",
}
INTERNAL_WORDS = {"NO CHANGE", "CLEANUP", "REOPEN", "REDIRECT", "Unknown"}
SESSIONS = ("LOGGED_IN", "FAILED", "FREE")
CONNECTIONS = ("up", "bound", "down", "failed", "")
"""drivers/scsi/scsi_transport_iscsi.c of kernel 6.1; the last for kernels before 5.14."""


@pytest.mark.parametrize("connection", CONNECTIONS)
@pytest.mark.parametrize("session", SESSIONS)
def test_every_pair_has_open_iscsis_words(session: str, connection: str) -> None:
    words = states(session, connection)
    assert words[0] in CONNECTION_WORDS
    assert words[1] in INTERNAL_WORDS
    assert (words[0] == "LOGGED IN") == (session == "LOGGED_IN" and connection in ("up", ""))
    assert (words == ("Unknown", "Unknown")) == ((session, connection) == ("FREE", ""))


def test_the_table_holds_only_what_the_kernel_says() -> None:
    assert set(STATES) <= {(session, connection) for session in SESSIONS for connection in CONNECTIONS}


@pytest.mark.parametrize("session", ["", "LOGGED IN", "logged_in", "\x1b"])
def test_other_words_are_unknown(session: str) -> None:
    assert states(session, "up") == ("Unknown", "Unknown")
    assert states("LOGGED_IN", session or "odd") == ("Unknown", "Unknown")
