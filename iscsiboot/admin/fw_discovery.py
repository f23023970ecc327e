# SPDX-License-Identifier: LGPL-2.1-or-later
"""``-m discovery -t fw``: the targets of the boot table as node records.

Nothing is asked of any target. Each gets a record for each interface, marked as what this machine boots from.
"""

from __future__ import annotations

from iscsiboot.admin.discovery_config import read_settings
from iscsiboot.admin.discovery_ifaces import bound_ifaces, default_iface, read_named
from iscsiboot.admin.discovery_run import log_in_found, print_found, store_found
from iscsiboot.admin.fw_records import FROM_TABLE, ONBOOT, firmware_nodes, no_table_code, read_table
from iscsiboot.database.names import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from iscsiboot.admin.context import Context
    from iscsiboot.admin.options import Options
    from iscsiboot.database.record import Record
    from iscsiboot.database.store import Database


def discover_firmware(options: Options, context: Context, database: Database) -> int:
    """Read the table, store, print, log in; the exit status."""
    table = read_table(context)
    if table is None:
        return no_table_code(context)
    base = read_settings(context).node().changed(ONBOOT)
    nodes: list[Record] = []
    for iface in _ifaces(options, context, database):
        nodes += [node.record for node in firmware_nodes(table, base, iface)]
    found = store_found(nodes, Source("fw"), base, options, context, database, known_better=FROM_TABLE)
    print_found(found, "fw", options, context)
    return log_in_found(found, options, context)


def _ifaces(options: Options, context: Context, database: Database) -> list[Record]:
    """Those of ``-I`` that are there, else every stored one over tcp; the default one when that is none."""
    if options.interfaces:
        named = [read_named(name, context, database) for name in options.interfaces]
        chosen = [iface for iface in named if iface is not None]
    else:
        chosen = bound_ifaces(database)
    return chosen or [default_iface(database)]
