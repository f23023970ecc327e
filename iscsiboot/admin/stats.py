# SPDX-License-Identifier: LGPL-2.1-or-later
"""``-s``: the kernel's counters of each session, in the layout scripts read."""

from __future__ import annotations

from iscsiboot.admin.logout import label
from iscsiboot.admin.runner import the_runner
from iscsiboot.errors import EXIT_TEXT, ExitCode, IscsiBootError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from iscsiboot.admin.context import Context
    from iscsiboot.admin.runner import Runner
    from iscsiboot.sysfs.listing import SessionRow


def print_stats(rows: Iterable[SessionRow], context: Context, *, runner: Runner | None = None) -> int:
    """Print each session's counters; the first error's exit code. A session that has none does not hide the others."""
    code: int = ExitCode.SUCCESS
    does = runner or the_runner(context)
    objects = []
    for row in rows:
        try:
            found = does.statistics(row)
        except IscsiBootError as error:
            context.error(f"{label(row)}: {error.line()}", error)
            code = code or error.exit_code
            continue
        if context.json:
            from iscsiboot.admin.json_objects import statistics_object

            objects.append(statistics_object(row, dict(found.counters), dict(found.custom)))
            continue
        context.say(f"Stats for session {label(row)}")
        context.say("iSCSI SNMP:")
        for name, value in found.counters:
            context.say(f"\t{name}: {value}")
        if found.custom:
            context.say("iSCSI Extended:")
            for name, value in found.custom:
                context.say(f"\t{name}: {value}")
    if code:
        context.error(f"Could not execute operation on all sessions: {EXIT_TEXT[ExitCode(code)]}")
    if context.json:
        from iscsiboot.admin.json_out import emit

        emit(context, "statistics", objects)
    return code
