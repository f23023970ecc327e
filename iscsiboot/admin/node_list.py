# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsiadm -m node`` without an operation, and ``-o show``: lists from names alone, records from their files.

A list needs target, portal, tag and interface, and all four are the names of directories and files, so no record is
opened for it: that is what makes five thousand of them cheap. Showing by target and portal opens nothing but the
records it shows.
"""

from __future__ import annotations

from iscsiboot.database.names import Pattern
from iscsiboot.errors import ExitCode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from iscsiboot.admin.context import Context
    from iscsiboot.database.names import NodeKey
    from iscsiboot.database.store import Database

NO_RECORDS = "No records found"
_UNKNOWN_TAG = 0xFFFFFFFF
"""How the flat list prints tag -1: the peer drops the sign, and parsers read the text behind the comma."""


def portal_text(address: str, port: int) -> str:
    """``address:port``, in brackets whatever has no dot: that is the peer's test for IPv6."""
    return f"{address}:{port}" if "." in address else f"[{address}]:{port}"


def list_nodes(database: Database, context: Context, level: int) -> int:
    """``-m node``: one line for each record, or with ``-P 1`` the tree. Returns the exit status."""
    if level not in (-1, 0, 1):
        context.error(f"Invalid info level {level}. Try 0 or 1.")
        return ExitCode.INVAL
    keys = database.node_keys()
    context.trace(1, f"node: records in {database.root}: {len(keys)}")
    if not keys:
        context.error(NO_RECORDS)
        return ExitCode.NO_OBJS_FOUND
    if context.json:
        from iscsiboot.admin.json_objects import node_object
        from iscsiboot.admin.json_out import emit

        emit(context, "node", [node_object(key) for key in keys])
    else:
        context.say("\n".join(tree_lines(keys) if level == 1 else map(_flat_line, keys)))
    return ExitCode.SUCCESS


def _flat_line(key: NodeKey) -> str:
    tag = _UNKNOWN_TAG if key.tpgt == -1 else key.tpgt
    return f"{portal_text(key.address, key.port)},{tag} {key.target}"


def tree_lines(keys: Iterable[NodeKey], *, prefix: str = "", ifaces: bool = True) -> list[str]:
    """The tree of ``-P 1``: a target once in a row, its portals each time, even when only the interface differs."""
    lines: list[str] = []
    target = None
    for key in keys:
        if key.target != target:
            target = key.target
            lines.append(f"{prefix}Target: {target}")
        lines.append(f"{prefix}\tPortal: {portal_text(key.address, key.port)},{key.tpgt}")
        if ifaces:
            lines.append(f"{prefix}\t\tIface Name: {key.iface}")
    return lines


def show_records(database: Database, context: Context, pattern: Pattern, *, reveal: bool) -> int:
    """Every record of the pattern, in full. Addresses are compared by their text here, as the peer does.

    ``reveal`` prints CHAP secrets instead of stars. Returns the exit status.
    """
    # The peer does not look at the transport here: an interface is its name.
    wanted = Pattern(pattern.target, pattern.address, pattern.port, iface=pattern.iface)
    objects: list[dict[str, Any]] = []
    found = False
    for key, record in database.nodes(wanted):
        found = True
        if context.json:
            from iscsiboot.admin.json_objects import node_object

            objects.append(node_object(key, record, reveal))
        else:
            context.say(record.display(reveal=reveal))
    if not found:
        for key in database.node_keys(wanted):
            # There is a record and it cannot be read: this raises what is wrong with it.
            database.read_node(key)
        context.error(NO_RECORDS)
        return ExitCode.NO_OBJS_FOUND
    if context.json:
        from iscsiboot.admin.json_out import emit

        emit(context, "node", objects)
    return ExitCode.SUCCESS
