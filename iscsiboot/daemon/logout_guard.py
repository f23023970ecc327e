# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which sessions are not logged out because of what is mounted on them, looked at when somebody asks.

iscsiadm asks the same before it asks the daemon. But the daemon is also told by others, open-iscsi's own command among
them, and a root that loses its disk takes the machine with it. The roles the timers go by are not enough: they follow a
mount after a moment, and a logout would come in between.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from iscsiboot.daemon.settings import Places
from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.keeper.port import Hands
from iscsiboot.keeper.role import is_system
from iscsiboot.session.workers import Answer
from iscsiboot.sysfs.block_stack import BlockStack, Use
from iscsiboot.sysfs.disks import session_disks

LOOK_SECONDS = 15.0
_SAFE_LOGOUT = "Session is actively in use for mounted storage, and iscsid.safe_logout is configured"


async def refuse_in_use(sid: int, *, places: Places, hands: Hands, safe_logout: bool) -> None:
    """IscsiBootError (exit code 28) when the session has to stay: the system stands on it, or it has anything mounted
    and ``safe_logout`` is set. A look that fails refuses too: nobody knows then what would be lost.
    """
    what = f"looking at what is mounted on session {sid}"
    ended = await hands.run(partial(_look, sid, places), seconds=LOOK_SECONDS, what=what)
    if ended.answer is None:
        raise _kept(sid, f"{what} failed: {ended.problem}")
    if ended.answer["system"]:
        raise _kept(sid, f"the running system stands on it: {'; '.join(ended.answer['system'])}")
    if safe_logout and ended.answer["any"]:
        raise _kept(sid, f"{_SAFE_LOGOUT}: {'; '.join(ended.answer['any'])}")


def _look(sid: int, places: Places) -> Answer:
    """A hand's job: uses of the session's disks in words, the system's and all."""
    disks = session_disks(Path(places.sysfs), sid)
    if not disks:
        return {"system": [], "any": []}
    uses = [use for use in BlockStack(places.sysfs, places.proc, places.run).uses() if use.disk in disks]
    return {"system": _words([use for use in uses if is_system(use)]), "any": _words(uses)}


def _words(uses: list[Use]) -> list[str]:
    return list(dict.fromkeys(use.words for use in uses))


def _kept(sid: int, why: str) -> IscsiBootError:
    return IscsiBootError(
        why,
        stage=Stage.SESSION,
        subject=f"session {sid} is kept",
        hint="move it elsewhere first, or insist with --force",
        exit_code=ExitCode.BUSY,
    )
