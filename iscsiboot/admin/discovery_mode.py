# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsiadm -m discovery``: ask a server for its targets, and what is kept about servers that were asked.

With ``-t`` a discovery is run with the settings of iscsid.conf. Without it the stored record of a server is shown, used
(``-D``, ``-l``) or deleted; ``-m discoverydb`` is the newer mode that can also change it.

What is imported here is what a listing needs; a discovery brings its own when it is run.
"""

from __future__ import annotations

from iscsiboot.admin.arguments import parse_portal
from iscsiboot.admin.discovery_list import list_discoveries, show_discovery
from iscsiboot.database.store import Database
from iscsiboot.errors import ExitCode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from iscsiboot.admin.context import Context
    from iscsiboot.admin.options import Options

SENDTARGETS_PORT = 3260
ISNS_PORT = 3205
PLEASE = {
    "sendtargets": "Please specify portal as <ipaddr>[:<ipport>]",
    "isns": "Please specify portal as <ipaddr>:[<ipport>]",
}
NO_SLP = "SLP discovery is not fully implemented yet."


def run(options: Options, context: Context) -> int:
    """One command of this mode; the exit status."""
    database = Database(context.paths.database, notice=context.notice, proc=context.paths.proc)
    runs = options.type is not None or (options.portal is not None and (options.discover or options.login))
    context.about("target" if runs else "discovery")
    if options.type is not None:
        return run_type(options, context, database)
    if options.portal is None:
        if options.ops - {"show"}:
            return invalid(context, "Invalid operation.")
        return list_discoveries(database, context, options.print_level)
    return _stored(options, context, database)


def invalid(context: Context, line: str) -> int:
    """Say why the command line cannot be meant; the exit status of that."""
    context.error(line)
    return ExitCode.INVAL


def server_of(options: Options, kind: str) -> tuple[str, int]:
    """Host and port of ``-p``; a tag means nothing here, and a port that is not given is the kind's."""
    host, port, _ = parse_portal(options.portal or "")
    default = ISNS_PORT if kind == "isns" else SENDTARGETS_PORT
    return host, default if port < 0 else port


def run_type(options: Options, context: Context, database: Database) -> int:
    """``-t TYPE``: run that discovery; the exit status."""
    kind = options.type
    if kind == "slp":
        return invalid(context, NO_SLP)
    if kind == "fw":
        from iscsiboot.admin.fw_discovery import discover_firmware

        return discover_firmware(options, context, database)
    if kind is not None and options.portal is None:
        return invalid(context, PLEASE[kind])
    if kind == "isns":
        return no_isns(context)
    # The engine, the resolver and sockets cost more than a listing; only a discovery needs them.
    from iscsiboot.admin.discovery_run import discover_anew

    address, port = server_of(options, "sendtargets")
    if not address:
        return invalid(context, PLEASE["sendtargets"])
    return discover_anew(address, port, options, context, database)


def no_isns(context: Context) -> int:
    """Say that there are no iSNS queries yet; the exit status says so as well."""
    context.error("Could not perform iSNS discovery: iSNS service not supported")
    context.error("this release asks no iSNS server yet; next: ask each portal with -t sendtargets -p PORTAL")
    return ExitCode.ISNS_UNAVAILABLE


def emit_changed(context: Context, kind: str, address: str, port: int) -> None:
    """The discovery record that was made, changed or deleted, for ``--json``."""
    if context.json:
        from iscsiboot.admin.json_objects import discovery_object
        from iscsiboot.admin.json_out import emit

        emit(context, "discovery", [discovery_object(kind, address, port)])


def _stored(options: Options, context: Context, database: Database) -> int:
    """``-p PORTAL`` alone: act on the record of a SendTargets server."""
    address, port = server_of(options, "sendtargets")
    record = database.read_discovery("sendtargets", address, port)
    if record is None:
        return invalid(context, f"Discovery record [{address},{port}] not found!")
    if options.discover or options.login:
        from iscsiboot.admin.discovery_run import discover_stored

        return discover_stored(record, options, context, database)
    if "new" in options.ops or "update" in options.ops:
        return invalid(context, "Operations new and update for discovery mode is not supported. Use discoverydb mode.")
    if "delete" in options.ops:
        with database.change() as change:
            change.delete_discovery("sendtargets", address, port)
        emit_changed(context, "sendtargets", address, port)
        return ExitCode.SUCCESS
    if options.ops - {"show"}:
        return invalid(context, "Invalid operation.")
    return show_discovery(context, record, reveal=options.show)
