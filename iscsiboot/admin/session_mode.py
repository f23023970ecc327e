# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsiadm -m session``: lists what is running, and does to one session or all what node mode does to records.

Without ``-r`` there are a list and three actions on every session (``-u``, ``-R``, ``-s``). With ``-r`` everything but
the tree of one session is node mode with a pattern made from the session. Which of several actions is done is decided
there, so that both modes decide it alike.
"""

from __future__ import annotations

from iscsiboot.errors import ExitCode
from iscsiboot.sysfs.listing import list_rows, read_attribute, read_row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from iscsiboot.admin.context import Context
    from iscsiboot.admin.options import Options
    from iscsiboot.sysfs.listing import SessionRow

LEVEL_MAX = 3


def run(options: Options, context: Context) -> int:
    """The command; returns its exit status."""
    if options.sid is not None:
        return _one(int(options.sid), options, context)
    if options.ops == {"new"}:
        context.about("login")
        context.error("session mode: Operation 'new' only allowed with specific session IDs")
        return ExitCode.INVAL
    if options.logout or options.rescan or options.stats:
        # Node mode brings the database with it, which a list does not need.
        from iscsiboot.admin.node_mode import execute

        return execute(None, options, context)
    context.about("session")
    rows = list_rows(context.paths.sysfs)
    context.trace(1, f"session: sessions in {context.paths.sysfs}: {len(rows)}")
    if not rows:
        return _none(context)
    return _show(rows, options, context)


def _one(sid: int, options: Options, context: Context) -> int:
    """``-r``: one session, whatever is asked for it."""
    sysfs = context.paths.sysfs
    context.about(_kind(options))
    row = read_row(sysfs, sid, whole=False)
    # A session whose target was never named has no record and no portal: nothing here could mean it.
    if row is None or not row.target:
        # Error 5 is what the peer's reader of sysfs says when the attribute is not there; programs match both lines.
        context.error("could not read session targetname: 5")
        context.error(f"Could not get session info for sid {sid}")
        return ExitCode.SYSFS_LOOKUP
    acting = options.ops or options.on_sessions
    if options.print_level > 0 and not acting:
        if read_row(sysfs, sid) is None:
            context.error(f"Failed to query iSCSI session {sid}, error 2: Specified iSCSI session not found")
            return ExitCode.INVAL
        return _show([row], options, context)
    from iscsiboot.admin.node_mode import execute
    from iscsiboot.database.names import Pattern

    if not row.persistent_address and not (options.logout or options.rescan or options.stats):
        # Half built: an empty address in a pattern means any, so the records of all portals would be its own.
        context.error("No records found")
        return ExitCode.NO_OBJS_FOUND

    pattern = Pattern(
        target=row.target,
        address=row.persistent_address,
        port=row.persistent_port,
        tpgt=row.tpgt,
        iface=row.iface_name,
        transport=row.transport,
    )
    # A new session beside this one: a login from its record that does not count the sessions there are.
    another = options.ops == {"new"}
    return execute(
        pattern,
        options,
        context,
        row=row,
        ops=frozenset() if another else None,
        login=True if another else None,
        multiple=another,
    )


def _kind(options: Options) -> str:
    """What ``-r`` makes objects of; node mode decides by the same order once the session is found."""
    if options.ops == {"new"}:
        return "login"
    shown = "session" if options.print_level > 0 and not options.ops else "node"
    return options.on_sessions or shown


def _show(rows: list[SessionRow], options: Options, context: Context) -> int:
    """The sessions at the level that was asked for."""
    level = 0 if options.print_level == -1 else options.print_level
    if not 0 <= level <= LEVEL_MAX:
        context.error(f"Invalid info level {level}. Try 0 - {LEVEL_MAX}.")
        return ExitCode.INVAL
    sysfs = context.paths.sysfs
    if context.json:
        from iscsiboot.admin.json_out import emit
        from iscsiboot.admin.session_json import session_objects

        emit(context, "session", session_objects(rows, sysfs, level, reveal=options.show))
        return ExitCode.SUCCESS
    from iscsiboot.admin import session_tree

    if level == 0:
        context.say("\n".join(session_tree.flat_lines(rows)))
        return ExitCode.SUCCESS
    from iscsiboot.admin.runner import state

    lines = session_tree.tree_lines(rows, sysfs, level, state, reveal=options.show)
    if not lines:
        # All of them went away after they were listed.
        return _none(context)
    if level == LEVEL_MAX:
        lines[:0] = session_tree.version_lines(read_attribute(f"{sysfs}/module/scsi_transport_iscsi/version"))
    context.say("\n".join(lines))
    return ExitCode.SUCCESS


def _none(context: Context) -> int:
    context.error("No active sessions.")
    return ExitCode.NO_OBJS_FOUND
