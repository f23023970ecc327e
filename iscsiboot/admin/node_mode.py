# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsiadm -m node``: which action a command line means, for which records and sessions.

The order in which open-iscsi looks at its options decides what a mixture means: ``-L`` and ``-U``, then ``-o new``,
then ``-R``, ``-s``, then the mixtures it refuses, then listing, ``-l``, ``-u`` and the other operations. Session mode
with ``-r`` comes down to the same actions through :func:`execute`, with a pattern made from the session.

Records are looked up here; logging in and out, scanning and counting are engines of their own.
"""

from __future__ import annotations

from iscsiboot.admin.arguments import parse_portal
from iscsiboot.admin.node_list import NO_RECORDS, list_nodes, show_records
from iscsiboot.database.names import Pattern
from iscsiboot.database.store import Database
from iscsiboot.errors import ExitCode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from iscsiboot.admin.context import Context
    from iscsiboot.admin.options import Options
    from iscsiboot.database.record import Record
    from iscsiboot.sysfs.listing import SessionRow

ISCSI_PORT = 3260
"""What ``-p`` without a port means here (IANA)."""


def run(options: Options, context: Context) -> int:
    """The command; returns its exit status."""
    if options.loginall is not None or options.logoutall is not None:
        from iscsiboot.admin import node_startup

        if options.loginall is not None:
            context.about("login")
            return node_startup.login_all(options.loginall, options, context)
        assert options.logoutall is not None
        context.about("logout")
        return node_startup.logout_all(options.logoutall, options, context)
    if len(options.interfaces) > 1:
        # The peer prints three fields of an interface it has not read yet, so they are always empty.
        context.error("NODE mode only accepts one interface. Using the first one driver  hwaddress  ipaddress .")
    pattern = Pattern(target=options.target or "")
    if options.portal is not None:
        host, port, pattern.tpgt = parse_portal(options.portal)
        pattern.address, pattern.port = host, ISCSI_PORT if port == -1 else port
    database = open_database(context)
    if options.interfaces:
        iface = read_iface(database, context, options.interfaces[0])
        if iface is None:
            context.error(f"Could not read iface info for {options.interfaces[0]}.")
            # What the peer takes for lack of memory.
            return ExitCode.NOMEM
        pattern.iface = options.interfaces[0]
        pattern.transport = iface.get("iface.transport_name")
    return execute(pattern, options, context, database=database)


def execute(
    pattern: Pattern | None,
    options: Options,
    context: Context,
    *,
    database: Database | None = None,
    row: SessionRow | None = None,
    ops: frozenset[str] | None = None,
    login: bool | None = None,
    multiple: bool = False,
) -> int:
    """The action of the options for what a pattern means; returns the exit status.

    Session mode gives ``row``, the session of ``-r``, which is then the only one that is looked at; without ``-r`` it
    gives no pattern, and every session is meant. ``ops`` and ``login`` stand for those of the options; ``multiple``
    logs in beside sessions that are there.
    """
    asked = options.ops if ops is None else ops
    log_in = options.login if login is None else login
    if context.debug > 0:
        _trace(pattern, asked, context)
    context.about(_kind(options, asked, log_in=log_in))
    if asked == {"new"} and pattern is not None:
        from iscsiboot.admin.node_change import add_nodes

        return add_nodes(database or open_database(context), context, pattern)
    if options.rescan or options.stats:
        return _on_sessions(pattern, options, context, row)
    if log_in and options.logout:
        context.error("Invalid parameters. Both login and logout passed in")
        return ExitCode.INVAL
    if (log_in or options.logout) and asked:
        context.error("Invalid parameters. Login/logout and op passed in")
        return ExitCode.INVAL
    if options.logout:
        return _log_out(pattern, options, context, row)
    records = database or open_database(context)
    if log_in:
        return _log_in(pattern or Pattern(), options, context, records, multiple=multiple)
    return _on_records(pattern or Pattern(), options, context, records, asked)


def _trace(pattern: Pattern | None, ops: frozenset[str], context: Context) -> None:
    """What is looked for."""
    if pattern is None:
        context.trace(1, "node: every session")
        return
    port = "any" if pattern.port < 0 else pattern.port
    # Somebody may have put a user and a secret before the host.
    address = pattern.address.rpartition("@")[2] or "any"
    looked = f"target {pattern.target or 'any'}, address {address}, port {port}"
    context.trace(1, f"node: {looked}, interface {pattern.iface or 'any'}, operation {' '.join(sorted(ops)) or 'none'}")


def _kind(options: Options, ops: frozenset[str], *, log_in: bool) -> str:
    """What :func:`execute` makes objects of, in its own order."""
    if ops == {"new"}:
        return "node"
    return options.on_sessions or ("login" if log_in else "node")


def _on_records(pattern: Pattern, options: Options, context: Context, database: Database, ops: frozenset[str]) -> int:
    """What is left: looking at records, and changing them."""
    if not ops and not (pattern.target or pattern.address or pattern.iface):
        return list_nodes(database, context, options.print_level)
    if ops in (frozenset(), {"show"}):
        return show_records(database, context, pattern, reveal=options.show)
    if ops == {"update"}:
        from iscsiboot.admin.node_change import update_nodes

        return update_nodes(database, context, pattern, options.params)
    if ops == {"delete"}:
        from iscsiboot.admin.node_change import delete_nodes

        return delete_nodes(database, context, pattern)
    context.error("operation is not supported.")
    return ExitCode.INVAL


def _log_in(pattern: Pattern, options: Options, context: Context, database: Database, *, multiple: bool) -> int:
    from iscsiboot.admin.matching import records_of

    pairs = [(key, record) for key in records_of(database, pattern) if (record := database.read_node(key)) is not None]
    context.trace(1, f"node: records to log in to: {len(pairs)}")
    if context.debug > 1:
        for key, _ in pairs:
            context.trace(2, f"node: {key.target} at {key.address}:{key.port},{key.tpgt} through {key.iface}")
    if not pairs:
        context.error(NO_RECORDS)
        return ExitCode.NO_OBJS_FOUND
    # The login engine and all it stands on is for those who log in.
    from iscsiboot.admin.login import login_nodes

    return login_nodes(pairs, context, options, wait=not options.no_wait, multiple=multiple)


def _log_out(pattern: Pattern | None, options: Options, context: Context, row: SessionRow | None) -> int:
    rows = _sessions(pattern, context, row)
    if not rows:
        context.error("No matching sessions found")
        return ExitCode.NO_OBJS_FOUND
    from iscsiboot.admin.logout import logout_sessions

    return logout_sessions(rows, context, options)


def _on_sessions(pattern: Pattern | None, options: Options, context: Context, row: SessionRow | None) -> int:
    """``-R``, and ``-s`` where it is not given too."""
    rows = _sessions(pattern, context, row)
    if not rows:
        context.error("No session found.")
        return ExitCode.NO_OBJS_FOUND
    if options.rescan:
        from iscsiboot.admin.rescan import rescan_sessions

        return rescan_sessions(rows, context, options)
    from iscsiboot.admin.stats import print_stats

    return print_stats(rows, context)


def _sessions(pattern: Pattern | None, context: Context, row: SessionRow | None) -> list[SessionRow]:
    if row is not None:
        return [row]
    from iscsiboot.admin.matching import rows_of
    from iscsiboot.sysfs.listing import list_rows

    rows = list_rows(context.paths.sysfs)
    found = rows_of(pattern, rows)
    context.trace(1, f"node: {len(found)} of {len(rows)} sessions in {context.paths.sysfs}")
    if context.debug > 2:
        for row in rows:
            place = f"{row.target} at {row.persistent_address}:{row.persistent_port} through {row.iface_name}"
            context.trace(3, f"node: session {row.sid}: {place}: {'meant' if row in found else 'not meant'}")
    return found


def read_iface(database: Database, context: Context, name: str) -> Record | None:
    """An interface somebody named; one of an offload adapter gets its record now if it has none."""
    record = database.read_iface(name)
    if record is None:
        from iscsiboot.admin.iface_offload import make_records

        make_records(database, context, wanted=name)
        record = database.read_iface(name)
    return record


def open_database(context: Context) -> Database:
    """The database of this run; what is odd in a record is worth knowing, not worth failing for."""
    return Database(context.paths.database, notice=context.notice)
