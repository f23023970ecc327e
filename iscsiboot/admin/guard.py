# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which sessions are not logged out, and why: those the running system stands on, and those the administrator protects.

A machine that loses the disk under its root, /usr, /var or swap does not fail at once: it hangs, cannot even be told to
restart, and loses what was not written. So a session the system stands on is kept, whoever asks, until ``--force``
(:mod:`iscsiboot.orders.stays`). Debian's scripts go out of their way to leave these sessions out; here nobody has to.

``iscsid.safe_logout = Yes`` protects every session with a mounted file system or swap, as in open-iscsi.
"""

from __future__ import annotations

from iscsiboot.admin.context import Context
from iscsiboot.database.config import read_config
from iscsiboot.errors import IscsiBootError
from iscsiboot.orders.stays import look, refusal
from iscsiboot.sysfs.listing import SessionRow


def refusals(rows: list[SessionRow], context: Context) -> dict[int, IscsiBootError]:
    """The sessions to keep, by sid, each with the reason; exit code 28."""
    paths = context.paths
    found = look([row.sid for row in rows], sysfs=paths.sysfs, proc=paths.proc, run=paths.run)
    if not any(uses["any"] for uses in found.values()):
        return {}
    safe = read_config(paths.iscsid_conf, notice=context.notice).iscsid("iscsid.safe_logout") == "Yes"
    kept = {}
    for row in rows:
        refused = refusal(f"session {row.sid} to {row.target}", found[row.sid], safe_logout=safe)
        if refused is not None:
            kept[row.sid] = refused
    return kept
