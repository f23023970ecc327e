# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsiadm -m node -o new``, ``update`` and ``delete``.

Every name and value of an update is checked before the first record is touched, and all records change in one
:class:`~iscsiboot.database.store.Change`. What is wrong is told once for each record it would have gone into, because
that is what open-iscsi prints. A delete goes on with the records no session uses, as there.
"""

from __future__ import annotations

from iscsiboot.admin.matching import Addresses, pattern_of, records_of, rows_of, transport_of
from iscsiboot.admin.node_list import NO_RECORDS
from iscsiboot.database.failure import DatabaseError
from iscsiboot.database.names import NodeKey, Pattern, Source
from iscsiboot.errors import EXIT_TEXT, ExitCode
from iscsiboot.sysfs.listing import list_rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from iscsiboot.admin.context import Context
    from iscsiboot.database.record import Record
    from iscsiboot.database.store import Database
    from iscsiboot.sysfs.listing import SessionRow

TRANSPORT_KEY = "iface.transport_name"


def add_nodes(database: Database, context: Context, pattern: Pattern) -> int:
    """``-o new``: make the record of a target and portal, or make those again that are there. Returns the exit status.

    A pattern with target and portal is one record. With one of them it stands for every portal the database has for it,
    and each gets a record for the interface with the settings of iscsid.conf, as if it were new.
    """
    keys = _keys_to_make(database, pattern)
    if not keys:
        # The peer ends this line without a reason, and exits with 0.
        context.error(f"Error while adding record: {EXIT_TEXT[ExitCode.NO_OBJS_FOUND]}")
        return ExitCode.NO_OBJS_FOUND
    # iscsid.conf is read by what makes records, not by what lists or changes them.
    from iscsiboot.database.config import read_config

    base = read_config(context.paths.iscsid_conf, notice=context.notice).node()
    base = base.changed(_bound_to(database, pattern.iface))
    made: list[tuple[NodeKey, Record]] = []
    with database.change() as change:
        for key in keys:
            record = base.changed(
                {
                    "node.name": key.target,
                    "node.tpgt": str(key.tpgt),
                    "node.conn[0].address": key.address,
                    "node.conn[0].port": str(key.port),
                    "node.discovery_address": "",
                    "node.discovery_port": "0",
                    "node.discovery_type": "static",
                }
            )
            change.put_node(record, source=Source("static"))
            made.append((key, record))
    for key, record in made:
        context.say(f"New iSCSI node [{iface_text(record)} {key.address},{key.port},{key.tpgt} {key.target}] added")
    _emit(context, [key for key, _ in made])
    return ExitCode.SUCCESS


def _keys_to_make(database: Database, pattern: Pattern) -> list[NodeKey]:
    iface = pattern.iface or "default"
    if pattern.target and pattern.address:
        # Names come from outside; those that cannot be part of a path end here.
        return [NodeKey(pattern.target, pattern.address, pattern.port, pattern.tpgt, iface).checked()]
    wanted = Pattern(target=pattern.target, address=pattern.address, port=pattern.port)
    keys = [NodeKey(key.target, key.address, key.port, key.tpgt, iface) for key in database.node_keys(wanted)]
    # A portal with records for several interfaces was listed once for each.
    return list(dict.fromkeys(keys))


def _bound_to(database: Database, name: str) -> dict[str, str]:
    """What an interface sets in a record that is made for it: everything it has a value for."""
    iface = database.read_iface(name or "default")
    if iface is None:
        return {}
    return {key: value for key, value in iface.values.items() if value not in ("", "0")}


def iface_text(record: Record) -> str:
    """The interface of a record as open-iscsi's messages name it: ``tcp:[hw=,ip=,net_if=,iscsi_if=default]``."""
    fields = (
        ("hw", "iface.hwaddress"),
        ("ip", "iface.ipaddress"),
        ("net_if", "iface.net_ifacename"),
        ("iscsi_if", "iface.iscsi_ifacename"),
    )
    return f"{transport_of(record)}:[{','.join(f'{word}={record.get(name)}' for word, name in fields)}]"


def update_nodes(database: Database, context: Context, pattern: Pattern, pairs: Sequence[tuple[str, str]]) -> int:
    """``-o update``: set values in every record of the pattern. Returns the exit status."""
    from iscsiboot.admin.node_values import check_pairs
    from iscsiboot.database.keys import BY_KIND, NODE_ALIASES

    if not pairs:
        context.error("update requires name and value")
        return ExitCode.INVAL
    for name, _ in pairs:
        if name.startswith("iface.") and name != TRANSPORT_KEY:
            context.error(f"Cannot modify {name}. Use iface mode to update this value.")
            return ExitCode.INVAL
        if NODE_ALIASES.get(name, name) == TRANSPORT_KEY and rows_of(pattern, list_rows(context.paths.sysfs)):
            context.error(
                "Cannot modify node/iface transport name while a session is using it. "
                "Log out the session then update record."
            )
            return ExitCode.SESS_EXISTS
    keys = records_of(database, pattern)
    if not keys:
        context.error(NO_RECORDS)
        return ExitCode.NO_OBJS_FOUND
    if context.debug > 0:
        _trace(keys, pairs, context)
    checked = check_pairs([(NODE_ALIASES.get(name, name), text) for name, text in pairs], BY_KIND["node"])
    for _ in keys:
        for line in checked.lines:
            context.error(line)
    if checked.refused:
        status = _not_all(context, ExitCode.INVAL)
        checked.explain("node", context)
        return status
    for line in checked.advice:
        context.notice(line)
    with database.change() as change:
        change.update_nodes(keys, checked.values)
    _emit(context, keys)
    return ExitCode.SUCCESS


def _trace(keys: Sequence[NodeKey], pairs: Sequence[tuple[str, str]], context: Context) -> None:
    """Which records, and which settings by name; a value may be a secret."""
    # A name that holds a value is a slip, and the value may be a secret.
    names = ", ".join(name.partition("=")[0] for name, _ in pairs)
    context.trace(1, f"node: records that get new values of {names}: {len(keys)}")
    for key in keys:
        context.trace(2, f"node: {key.target} at {key.address}:{key.port},{key.tpgt} through {key.iface}")


def delete_nodes(database: Database, context: Context, pattern: Pattern) -> int:
    """``-o delete``: remove every record of the pattern that no session uses. Returns the exit status."""
    keys = records_of(database, pattern)
    if not keys:
        context.error(NO_RECORDS)
        return ExitCode.NO_OBJS_FOUND
    free = unused(database, context, keys)
    with database.change() as change:
        for key in free:
            change.delete_node(key)
    _emit(context, free)
    return ExitCode.SUCCESS if len(free) == len(keys) else _not_all(context, ExitCode.SESS_EXISTS)


def unused(database: Database, context: Context, keys: Sequence[NodeKey]) -> list[NodeKey]:
    """Those of the records no session uses, which can be deleted; the others are told."""
    rows = list_rows(context.paths.sysfs)
    addresses = Addresses()
    free = []
    for key in keys:
        if not _in_use(database, key, rows, addresses):
            free.append(key)
            continue
        context.error(
            f"This command will remove the record [iface: {key.iface}, target: {key.target}, portal: {key.address},"
            f"{key.port}], but a session is using it. Logout session then rerun command to remove record."
        )
    return free


def _in_use(database: Database, key: NodeKey, rows: Sequence[SessionRow], addresses: Addresses) -> bool:
    # Most records have no session at all, and need not be read.
    near = [row for row in rows if row.target == key.target and row.iface_name == key.iface]
    if not near:
        return False
    try:
        record = database.read_node(key)
    except DatabaseError:
        # A damaged record can be deleted like any other; the session's transport is then not compared.
        transport = ""
    else:
        if record is None:
            return False
        transport = transport_of(record)
    return bool(rows_of(pattern_of(key, transport), near, addresses=addresses))


def _not_all(context: Context, status: ExitCode) -> int:
    context.error(f"Could not execute operation on all records: {EXIT_TEXT[status]}")
    return status


def _emit(context: Context, keys: Sequence[NodeKey]) -> None:
    """The records that were changed, for ``--json``."""
    if context.json:
        from iscsiboot.admin.json_objects import node_object
        from iscsiboot.admin.json_out import emit

        emit(context, "node", [node_object(key) for key in keys])
