# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsiadm -m discoverydb``: make, show, change, use and delete the record of one discovery server."""

from __future__ import annotations

from iscsiboot.admin.discovery_list import list_discoveries, show_discovery
from iscsiboot.admin.discovery_mode import NO_SLP, PLEASE, emit_changed, invalid, no_isns, server_of
from iscsiboot.database.store import Database
from iscsiboot.errors import ExitCode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from iscsiboot.admin.context import Context
    from iscsiboot.admin.options import Options
    from iscsiboot.database.record import Record


def run(options: Options, context: Context) -> int:
    """One command of this mode; the exit status."""
    database = Database(context.paths.database, notice=context.notice, proc=context.paths.proc)
    kind = options.type
    context.about("target" if kind is not None and options.discover else "discovery")
    if kind == "slp":
        return invalid(context, NO_SLP)
    if kind == "fw":
        return _firmware(options, context, database)
    if kind is None:
        return _without_type(options, context, database)
    if options.portal is None:
        return invalid(context, PLEASE["sendtargets"])
    return _one_server(kind, options, context, database)


def _without_type(options: Options, context: Context, database: Database) -> int:
    other = options.ops - {"show"}
    if options.portal is None:
        if other:
            return invalid(context, "Invalid operation. Operation not supported.")
        return list_discoveries(database, context, options.print_level)
    if options.ops:
        return invalid(context, "Invalid command. Possibly missing discovery --type.")
    return invalid(context, "Invalid command. Portal not needed or Possibly missing discovery --type.")


def _firmware(options: Options, context: Context, database: Database) -> int:
    if not options.discover:
        return invalid(context, "Invalid command. Possibly missing --discover argument.")
    from iscsiboot.admin.fw_discovery import discover_firmware

    return discover_firmware(options, context, database)


def _one_server(kind: str, options: Options, context: Context, database: Database) -> int:
    address, port = server_of(options, kind)
    if not address:
        return invalid(context, PLEASE["sendtargets"])
    record = database.read_discovery(kind, address, port)
    if options.discover:
        return _discover(kind, address, port, record, options, context, database)
    if "new" in options.ops:
        return _add(kind, address, port, context, database)
    if record is None:
        context.error(f"Discovery record [{address},{port}] not found.")
        return ExitCode.IDBM
    if not options.ops or "show" in options.ops:
        return show_discovery(context, record, reveal=options.show)
    if "update" in options.ops:
        return _update(record, options, context, database)
    if "delete" in options.ops:
        with database.change() as change:
            change.delete_discovery(kind, address, port)
        emit_changed(context, kind, address, port)
        return ExitCode.SUCCESS
    return invalid(context, "Operation is not supported.")


def _discover(
    kind: str, address: str, port: int, record: Record | None, options: Options, context: Context, database: Database
) -> int:
    """``-D``: with the stored record; the first time it is made from iscsid.conf."""
    if kind == "isns":
        return no_isns(context)
    # A discovery's modules cost more than everything else of this mode.
    from iscsiboot.admin.discovery_run import discover_anew, discover_stored

    if record is None:
        return discover_anew(address, port, options, context, database)
    return discover_stored(record, options, context, database)


def _add(kind: str, address: str, port: int, context: Context, database: Database) -> int:
    """``-o new``: a record with the settings of iscsid.conf, in place of one that may be there."""
    from iscsiboot.admin.discovery_config import fresh_record, read_settings

    record = fresh_record(read_settings(context), kind, address, port)
    with database.change() as change:
        change.put_discovery(record)
    context.say(f"New discovery record for [{address},{port}] added.")
    emit_changed(context, kind, address, port)
    return ExitCode.SUCCESS


def _update(record: Record, options: Options, context: Context, database: Database) -> int:
    from iscsiboot.admin.node_values import check_pairs
    from iscsiboot.database.keys import BY_KIND

    if not options.params:
        return invalid(context, "Update requires name and value.")
    checked = check_pairs(options.params, BY_KIND[record.kind], closing=False)
    for line in checked.lines:
        context.error(line)
    if checked.refused:
        checked.explain(record.kind, context)
        return ExitCode.INVAL
    for line in checked.advice:
        context.notice(line)
    with database.change() as change:
        # Read again under the lock: another update may have come between.
        address, port = record.get("discovery.sendtargets.address"), record.number("discovery.sendtargets.port")
        now = database.read_discovery(record.kind, address, port) or record
        change.put_discovery(now.changed(checked.values))
    emit_changed(context, record.kind, address, port)
    return ExitCode.SUCCESS
