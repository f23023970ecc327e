# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which sessions are not logged out, and why: those the running system stands on, and those the administrator protects.

A machine that loses the disk under its root, /usr, /var or swap does not fail at once: it hangs, cannot even be told to
restart, and loses what was not written. So a session that carries one of them is kept, whoever asks, until ``--force``.
Debian's scripts go out of their way to leave these sessions out; here nobody has to.

``iscsid.safe_logout = Yes`` protects every session with a mounted file system or swap, as in open-iscsi.
"""

from __future__ import annotations

from pathlib import Path

from iscsiboot.admin.context import Context
from iscsiboot.database.config import read_config
from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.sysfs.block_stack import BlockStack, Use
from iscsiboot.sysfs.disks import session_disks
from iscsiboot.sysfs.listing import SessionRow

VITAL = frozenset({"/", "/usr", "/var", "/sysroot", "/sysroot/usr", "/sysroot/var"})
"""Mount points a system cannot lose; in an initramfs the root to come is at /sysroot."""
SAFE_LOGOUT = "Session is actively in use for mounted storage, and iscsid.safe_logout is configured."
_FORCE = "move it elsewhere first, or insist with --force"


def refusals(rows: list[SessionRow], context: Context) -> dict[int, IscsiBootError]:
    """The sessions to keep, by sid, each with the reason; exit code 28, which open-iscsi's safe_logout has too."""
    paths = context.paths
    disks = {row.sid: session_disks(Path(paths.sysfs), row.sid) for row in rows}
    if not any(disks.values()):
        return {}
    uses = BlockStack(paths.sysfs, paths.proc, paths.run).uses()
    safe = _safe_logout(context)
    kept = {}
    for row in rows:
        on_it = [use for use in uses if use.disk in disks[row.sid]]
        vital = [use for use in on_it if use.kind == "swap" or use.where in VITAL]
        if vital:
            kept[row.sid] = _refusal(row, "the running system stands on it", vital)
        elif on_it and safe:
            kept[row.sid] = _refusal(row, SAFE_LOGOUT.rstrip("."), on_it)
    return kept


def _safe_logout(context: Context) -> bool:
    return read_config(context.paths.iscsid_conf, notice=context.notice).iscsid("iscsid.safe_logout") == "Yes"


def _refusal(row: SessionRow, why: str, uses: list[Use]) -> IscsiBootError:
    words = dict.fromkeys(use.words for use in uses)
    return IscsiBootError(
        f"{why}: {'; '.join(words)}",
        stage=Stage.SESSION,
        subject=f"session {row.sid} to {row.target} is kept",
        hint=_FORCE,
        exit_code=ExitCode.BUSY,
    )
