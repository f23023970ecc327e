# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsiadm -m iface``: which action a command line means.

Interfaces of adapters that carry iSCSI by themselves get a record the first time this mode runs beside them, as with
open-iscsi (:mod:`iscsiboot.admin.iface_offload`).
"""

from __future__ import annotations

from iscsiboot.admin.iface_list import list_ifaces, show_iface, show_users
from iscsiboot.admin.iface_offload import make_records
from iscsiboot.admin.node_mode import open_database
from iscsiboot.errors import ExitCode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from iscsiboot.admin.context import Context
    from iscsiboot.admin.options import Options
    from iscsiboot.database.store import Database

RAW_EINVAL = 22
"""The peer lets errno EINVAL out as its exit status here, where everything else is 7."""


def run(options: Options, context: Context) -> int:
    """The command; returns its exit status."""
    context.about("iface")
    database = open_database(context)
    make_records(database, context)
    name = options.interfaces[0] if options.interfaces else None
    if len(options.interfaces) > 1:
        context.error(f"iface mode only accepts one interface. Using the first one {name}.")
    if options.submode == "ping":
        from iscsiboot.admin.iface_apply import ping

        return ping(database, context, name, options)
    if options.ops in (frozenset(), {"show"}):
        return _look(database, context, name, options.print_level)
    if len(options.ops) > 1:
        # The peer says nothing here.
        return ExitCode.INVAL
    (operation,) = options.ops
    return _act(operation, database, context, name, options)


def _look(database: Database, context: Context, name: str | None, level: int) -> int:
    if level not in (-1, 0, 1):
        context.error(f"Invalid info level {level}. Try 0 - 1.")
        return ExitCode.INVAL
    if level == 1:
        return show_users(database, context, name)
    return list_ifaces(database, context) if name is None else show_iface(database, context, name)


def _act(operation: str, database: Database, context: Context, name: str | None, options: Options) -> int:
    from iscsiboot.admin import iface_apply, iface_change

    if operation == "applyall":
        return iface_apply.apply_all(database, context, int(options.host or 0))
    missing = {
        "new": ("Could not add interface. No interface passed in.", RAW_EINVAL),
        "update": ("Update requires name, value, and iface.", ExitCode.INVAL),
        "delete": ("Could not delete interface. No interface passed in.", ExitCode.INVAL),
        "apply": ("Apply requires iface.", ExitCode.INVAL),
    }
    if operation not in missing:
        return ExitCode.INVAL
    if name is None or (operation == "update" and not options.params):
        line, status = missing[operation]
        context.error(line)
        return status
    if operation == "new":
        return iface_change.new_iface(database, context, name, options.params)
    if operation == "update":
        return iface_change.update_iface(database, context, name, options.params)
    if operation == "delete":
        return iface_change.delete_iface(database, context, name)
    return iface_apply.apply(database, context, name)
