# SPDX-License-Identifier: LGPL-2.1-or-later
"""What iscsistart knows of its sessions, as the keeper wants it and as a daemon finds it below ``/run``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from iscsiboot.boot.keeper import FOLDER, Session
from iscsiboot.keeper import state_files
from iscsiboot.keeper.values import Known, Source


def known_sessions(sessions: Sequence[Session]) -> dict[int, Known]:
    """By sid."""
    return {
        session.sid: Known(
            request=session.request, source=Source.ORDER, tpgt=session.tpgt, algorithm=session.algorithm, retries=()
        )
        for session in sessions
    }


def save(known: dict[int, Known], run: Path, note: Callable[[str], None]) -> None:
    """Write the state files. A refusal costs a daemon that finds no guard the parameters, and nothing else: a note."""
    for sid, one in known.items():
        try:
            state_files.write(run / FOLDER, sid, one)
        except OSError as error:
            note(f"what session {sid} was made with is not kept for the daemon: {error.strerror}")
