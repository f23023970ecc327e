# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which sessions are not logged out because of what is mounted on them: one answer for command and daemon.

Both look: the command before it asks anybody, the daemon because others than our command ask it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.sysfs.block_stack import BlockStack, Use
from iscsiboot.sysfs.disks import session_disks

SAFE_LOGOUT = "Session is actively in use for mounted storage, and iscsid.safe_logout is configured"
"""open-iscsi's words for it."""

Uses = dict[str, list[str]]
"""Uses of a session's disks in words: ``system``, those of the running system, and ``any``. JSON can hold it."""


def look(sids: Sequence[int], *, sysfs: str, proc: str, run: str) -> dict[int, Uses]:
    """What stands on each session now. Reads every mount and every disk of the machine, once for all of them."""
    disks = {sid: session_disks(Path(sysfs), sid) for sid in sids}
    uses = BlockStack(sysfs, proc, run).uses() if any(disks.values()) else ()
    found = {}
    for sid in sids:
        on_it = [use for use in uses if use.disk in disks[sid]]
        found[sid] = {"system": _words([use for use in on_it if use.is_system]), "any": _words(on_it)}
    return found


def refusal(session: str, uses: Uses, *, safe_logout: bool) -> IscsiBootError | None:
    """Why ``session`` (in words) has to stay, None when it may go; see :mod:`iscsiboot.sysfs.block_stack`.

    ``safe_logout`` keeps every session that has anything mounted on it, as in open-iscsi.
    """
    if uses["system"]:
        return kept(session, f"the running system stands on it: {'; '.join(uses['system'])}")
    if safe_logout and uses["any"]:
        return kept(session, f"{SAFE_LOGOUT}: {'; '.join(uses['any'])}")
    return None


def kept(session: str, why: str) -> IscsiBootError:
    """A session that stays; exit code 28, which open-iscsi's safe_logout has too."""
    return IscsiBootError(
        why,
        stage=Stage.SESSION,
        subject=f"{session} is kept",
        hint="move it elsewhere first, or insist with --force",
        exit_code=ExitCode.BUSY,
    )


def _words(uses: Sequence[Use]) -> list[str]:
    return list(dict.fromkeys(use.words for use in uses))
