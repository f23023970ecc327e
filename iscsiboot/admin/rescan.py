# SPDX-License-Identifier: LGPL-2.1-or-later
"""``-R``: ask each unit of a session for its size again, then the target for units that are new.

A child process for each session, as in open-iscsi: a unit that does not answer holds the write for minutes, and delays
no session but its own. A session that is not done in time ends with exit code 31, open-iscsi's for a lost child.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from iscsiboot.admin.context import Context
from iscsiboot.admin.logout import label
from iscsiboot.errors import EXIT_TEXT, ExitCode
from iscsiboot.session.workers import Answer, Workers
from iscsiboot.sysfs.disks import list_units
from iscsiboot.sysfs.listing import SessionRow
from iscsiboot.sysfs.units import rescan_unit, scan_whole_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from iscsiboot.admin.options import Options

RESCAN_SECONDS = 120.0
"""For one session, when ``--timeout`` does not say: SCSI's own retries of a dead unit take that long."""


def rescan_sessions(rows: Sequence[SessionRow], context: Context, options: Options | None = None) -> int:
    """Rescan each session and print everything; the first error's exit code."""
    for row in rows:
        if not context.json:
            context.say(f"Rescanning session {label(row)}")
    context.out.flush()
    seconds = options.timeout if options is not None and options.timeout is not None else RESCAN_SECONDS
    codes: dict[int, ExitCode] = {}
    lines: dict[int, list[str]] = {}
    sysfs = Path(context.paths.sysfs)
    with Workers(now=time.monotonic, seconds=seconds) as workers:
        for index, ended in workers.run([partial(_rescan, sysfs, row) for row in rows]):
            context.trace(1, f"rescan: session {rows[index].sid} on host{rows[index].host}: {ended.problem or 'done'}")
            codes[index] = ExitCode.SUCCESS if ended.answer is not None else ExitCode.CHILD_TERMINATED
            problem = (
                f"session {rows[index].sid}: rescan: {ended.problem}; next: see dmesg for a unit that does not answer"
            )
            lines[index] = [problem] if ended.answer is None else ended.answer["lines"]
    for index in range(len(rows)):
        for line in lines[index]:
            context.error(line)
    code = next((codes[index] for index in range(len(rows)) if codes[index]), ExitCode.SUCCESS)
    if code:
        context.error(f"Could not execute operation on all sessions: {EXIT_TEXT[code]}")
    if context.json:
        from iscsiboot.admin.json_objects import rescan_object
        from iscsiboot.admin.json_out import emit

        emit(context, "rescan", [rescan_object(row, codes[index]) for index, row in enumerate(rows)])
    return code


def _rescan(sysfs: Path, row: SessionRow) -> Answer:
    """In a child: one session. What the kernel refuses is told and fails nothing, as in open-iscsi."""
    lines = []
    for unit in list_units(sysfs, row.sid):
        try:
            rescan_unit(sysfs, unit)
        except OSError as error:
            lines.append(_words(error, f"{sysfs}/bus/scsi/devices/{unit.address}/rescan"))
    try:
        scan_whole_host(sysfs, row.host)
    except OSError as error:
        lines.append(_words(error, f"{sysfs}/class/scsi_host/host{row.host}/scan"))
    return {"lines": lines}


def _words(error: OSError, path: str) -> str:
    """Open-iscsi's: a file name is in the error when the file could not be opened."""
    return f"Could not {'open' if error.filename else 'write to'} {path} err {error.errno}"
