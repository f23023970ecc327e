# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsiadm -m iface`` without an operation, and ``-o show``: lists, one in full, or their users."""

from __future__ import annotations

from iscsiboot.admin.node_list import tree_lines
from iscsiboot.errors import ExitCode, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from iscsiboot.admin.context import Context
    from iscsiboot.database.names import NodeKey
    from iscsiboot.database.record import Record
    from iscsiboot.database.store import Database

BUILT_IN = ("default", "iser")
"""Interfaces without a file; the peer lists them after the stored ones, in this order."""
_COLUMNS = (
    "iface.transport_name",
    "iface.hwaddress",
    "iface.ipaddress",
    "iface.net_ifacename",
    "iface.initiatorname",
)


def list_ifaces(database: Database, context: Context) -> int:
    """``-m iface``: every interface that can be used, one line each. Returns the exit status."""
    records = all_ifaces(database)
    if context.json:
        from iscsiboot.admin.json_objects import iface_object
        from iscsiboot.admin.json_out import emit

        emit(context, "iface", [iface_object(record) for record in records])
    else:
        for record in records:
            columns = ",".join(record.get(name) or "<empty>" for name in _COLUMNS)
            context.say(f"{record.get('iface.iscsi_ifacename')} {columns}")
    return ExitCode.SUCCESS


def all_ifaces(database: Database) -> list[Record]:
    """The stored interfaces by name, then those without a file. One without a transport is no interface."""
    return [record for record in database.ifaces() if record.get("iface.transport_name")]


def show_iface(database: Database, context: Context, name: str) -> int:
    """``-m iface -I NAME``: the record in full. Returns the exit status."""
    record = database.read_iface(name)
    if record is None:
        return _no_such_file(context, name)
    if context.json:
        from iscsiboot.admin.json_objects import iface_object
        from iscsiboot.admin.json_out import emit

        emit(context, "iface", [iface_object(record, shown=True)])
    else:
        context.say(record.display())
    return ExitCode.SUCCESS


def _no_such_file(context: Context, name: str) -> int:
    """The line of libopeniscsiusr, without the place in its sources it ends with."""
    path = f"{context.paths.database}/ifaces/{name}"
    library_error(context, f"Failed to open {path} using read mode: 2 No such file or directory")
    return ExitCode.IDBM


def library_error(context: Context, line: str) -> None:
    """A failure that libopeniscsiusr tells in the peer: it begins with other words than the program's name."""
    if context.json:
        context.failures.append((line, None))
    context.out.flush()
    context.err.write(f"iSCSI ERROR: {printable(line)}\n")


def show_users(database: Database, context: Context, name: str | None) -> int:
    """``-P 1``: each interface, or the one of ``-I``, with the node records bound to it. Returns the exit status.

    The peer looks at records first: without any it says nothing at all, not even that the interface is unknown.
    """
    keys = database.node_keys()
    if not keys:
        return ExitCode.SUCCESS
    if name is None:
        records = all_ifaces(database)
    else:
        record = database.read_iface(name)
        if record is None:
            return _no_such_file(context, name)
        records = [record]
    bound: dict[str, list[NodeKey]] = {}
    for key in keys:
        bound.setdefault(key.iface, []).append(key)
    pairs = [(record, bound.get(record.get("iface.iscsi_ifacename"), [])) for record in records]
    if context.json:
        from iscsiboot.admin.json_objects import iface_object
        from iscsiboot.admin.json_out import emit

        emit(context, "iface", [iface_object(record, nodes=nodes) for record, nodes in pairs])
    else:
        for record, nodes in pairs:
            lines = [f"Iface: {record.get('iface.iscsi_ifacename')}", *tree_lines(nodes, prefix="\t", ifaces=False)]
            context.say("\n".join(lines))
    return ExitCode.SUCCESS
