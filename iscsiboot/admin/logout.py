# SPDX-License-Identifier: LGPL-2.1-or-later
"""``-u`` and ``-U``: log out of sessions, all at once, and tell of each in open-iscsi's order.

That order puts sessions to one place behind the first of them, the youngest first, and the other portals of a target
behind those; 2.1.8 does so, and reports the *last* error as exit code, unlike a login (both seen with the program).
"""

from __future__ import annotations

from contextlib import closing

from iscsiboot.admin.guard import refusals
from iscsiboot.admin.progress import Progress
from iscsiboot.admin.runner import Result, the_runner
from iscsiboot.errors import EXIT_TEXT, ExitCode, IscsiBootError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from iscsiboot.admin.context import Context
    from iscsiboot.admin.options import Options
    from iscsiboot.admin.runner import Runner
    from iscsiboot.sysfs.listing import SessionRow

SUMMARY = "Could not logout of all requested sessions"


def label(row: SessionRow) -> str:
    """A session as every message names it: the stored address with the port it has now, as open-iscsi has it."""
    return f"[sid: {row.sid}, target: {row.target}, portal: {row.persistent_address},{row.port}]"


def logout_sessions(
    rows: Sequence[SessionRow], context: Context, options: Options | None, *, runner: Runner | None = None
) -> int:
    """Log out of each session and print everything; those the system stands on are kept unless ``--force``."""
    ordered = in_order(rows)
    force = bool(options and options.force)
    kept = {} if force else refusals(ordered, context)
    for row in ordered:
        _say(context, f"Logout sid {row.sid}." if row.flash else f"Logging out of session {label(row)}")
    context.out.flush()
    code: int = ExitCode.SUCCESS
    results = {sid: Result(failure=failure, sid=sid) for sid, failure in kept.items()}
    wanted = [row for row in ordered if row.sid not in kept]
    progress = Progress(context.err, "Logging out", len(wanted))
    told = 0
    try:
        progress.show()
        timeout = options.timeout if options else None
        doing = (runner or the_runner(context)).logout(wanted, insist=force, seconds=timeout)
        with closing(doing) as ended:
            for index, result in ended:
                results[wanted[index].sid] = result
                progress.count(failed=result.failure is not None)
                progress.clear()
                while told < len(ordered) and ordered[told].sid in results:
                    code = _tell(ordered[told], results[ordered[told].sid], context) or code
                    told += 1
                progress.show()
    finally:
        progress.clear()
        # Those kept at the end; of an interrupted run also what is done behind one that is not.
        for row in ordered[told:]:
            if row.sid in results:
                code = _tell(row, results[row.sid], context) or code
        if context.json:
            _emit(ordered, results, kept, context)
    if code:
        context.error(SUMMARY)
    return code


def in_order(rows: Iterable[SessionRow]) -> list[SessionRow]:
    """The rows as 2.1.8 goes through them: see the module."""
    ordered: list[SessionRow] = []
    for row in rows:
        place = (row.target, row.address, row.port)
        same = [at for at, other in enumerate(ordered) if (other.target, other.address, other.port) == place]
        target = [at for at, other in enumerate(ordered) if other.target == row.target]
        if same:
            ordered.insert(same[0] + 1, row)
        elif target:
            ordered.insert(target[-1] + 1, row)
        else:
            ordered.append(row)
    return ordered


def _tell(row: SessionRow, result: Result, context: Context) -> int:
    """One result in open-iscsi's words and ours; its exit code."""
    for step in result.steps:
        context.trace(1, f"logout: session {row.sid}: {step}")
    for note in result.notes:
        context.notice(note)
    if result.failure is None:
        _say(context, f"Logout of sid {row.sid} successful." if row.flash else f"Logout of {label(row)} successful.")
        context.out.flush()
        return ExitCode.SUCCESS
    if row.flash:
        context.error(f"Logout of sid {row.sid} failed.")
        context.error(result.failure.line(), result.failure)
        return ExitCode.LOGOUT
    context.error(f"Could not logout of {label(row)}.")
    context.error(f"initiator reported error ({int(result.code)} - {EXIT_TEXT[result.code]})")
    context.error(result.failure.line(), result.failure)
    return result.code


def _say(context: Context, line: str) -> None:
    # With --json the object tells it.
    if not context.json:
        context.say(line)


def _emit(
    rows: Sequence[SessionRow], results: dict[int, Result], kept: dict[int, IscsiBootError], context: Context
) -> None:
    from iscsiboot.admin.json_objects import logout_object
    from iscsiboot.admin.json_out import emit

    objects = []
    for row in rows:
        result = results.get(row.sid)
        if result is None:  # interrupted: how far it is, -m session tells
            objects.append(logout_object(row, "failed", exit_code=ExitCode.ERR))
            continue
        word = "kept" if row.sid in kept else "done" if result.failure is None else "failed"
        objects.append(logout_object(row, word, exit_code=result.code, failure=result.failure))
    emit(context, "logout", objects)
