# SPDX-License-Identifier: LGPL-2.1-or-later
"""What ``-m discovery`` and ``-m discoverydb`` show: the servers that were asked, what came of it, one record in full.

The tree of ``-P 1`` is made from names: a discovery has a link for each record it made. Records whose portal group is
unknown have no link; they are found by what they say of themselves, which is why those few are opened.
"""

from __future__ import annotations

from iscsiboot.admin.node_list import portal_text
from iscsiboot.errors import ExitCode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from iscsiboot.admin.context import Context
    from iscsiboot.database.names import NodeKey
    from iscsiboot.database.record import Record
    from iscsiboot.database.store import Database

KINDS = ("sendtargets", "isns")
NODE_TYPES = {"sendtargets": "send_targets", "isns": "isns", "static": "static", "fw": "fw"}
"""What a node record says in ``node.discovery_type`` about each kind of source."""
TREE = 1
NOTHING = "No targets found."


def list_discoveries(database: Database, context: Context, level: int) -> int:
    """Every stored discovery record, or with ``-P 1`` and above everything that was ever found. The exit status.

    Nothing is said when there is none, as in the peer: 21 is all a script gets.
    """
    if level >= TREE:
        return _tree(database, context)
    found = [(kind, address, port) for kind in KINDS for address, port in database.discoveries(kind)]
    if context.json:
        from iscsiboot.admin.json_objects import discovery_object
        from iscsiboot.admin.json_out import emit

        emit(context, "discovery", [discovery_object(*server) for server in found])
    elif found:
        # The one list of the peer that has no brackets around IPv6.
        context.say("\n".join(f"{address}:{port} via {kind}" for kind, address, port in found))
    return ExitCode.SUCCESS if found else ExitCode.NO_OBJS_FOUND


def show_discovery(context: Context, record: Record, *, reveal: bool) -> int:
    """One discovery record; ``reveal`` prints its secrets. The exit status."""
    if context.json:
        from iscsiboot.admin.json_objects import discovery_object
        from iscsiboot.admin.json_out import emit

        address = record.get("discovery.sendtargets.address")
        port = record.number("discovery.sendtargets.port")
        emit(context, "discovery", [discovery_object(record.kind, address, port, record=record, reveal=reveal)])
    else:
        context.say(record.display(reveal=reveal))
    return ExitCode.SUCCESS


def _tree(database: Database, context: Context) -> int:
    untagged = _Untagged(database)
    sections: list[tuple[str, list[tuple[str, str, int, list[NodeKey]]]]] = []
    for title, kind in (("SENDTARGETS", "sendtargets"), ("iSNS", "isns")):
        servers = [
            (kind, address, port, sorted([*database.linked(kind, address, port), *untagged.of(kind, address, port)]))
            for address, port in database.discoveries(kind)
        ]
        # Old releases kept an iSNS server's links beside the folders of the servers.
        loose = database.linked(kind) if kind == "isns" else []
        sections.append((title, servers + ([(kind, "", 0, loose)] if loose else [])))
    for title, kind, linked in (
        ("STATIC", "static", database.linked_static()),
        ("FIRMWARE", "fw", database.linked_fw()),
    ):
        keys = sorted([*linked, *untagged.of(kind)])
        sections.append((title, [(kind, "", 0, keys)] if keys else []))
    if context.json:
        from iscsiboot.admin.json_objects import discovery_object
        from iscsiboot.admin.json_out import emit

        parts = [part for _, servers in sections for part in servers]
        emit(context, "discovery", [discovery_object(*part[:3], nodes=part[3]) for part in parts])
    else:
        context.say("\n".join(_section_lines(sections)))
    return ExitCode.SUCCESS if any(servers for _, servers in sections) else ExitCode.NO_OBJS_FOUND


def _section_lines(sections: Iterable[tuple[str, list[tuple[str, str, int, list[NodeKey]]]]]) -> list[str]:
    lines: list[str] = []
    for title, servers in sections:
        lines.append(f"{title}:")
        for _, address, port, keys in servers:
            if address:
                lines.append(f"DiscoveryAddress: {address},{port}")
            lines += grouped_lines(keys)
        if not servers:
            lines.append(NOTHING)
    return lines


def grouped_lines(keys: Iterable[NodeKey]) -> list[str]:
    """The tree of sorted records: a target once, each of its portals once, and under it the interfaces."""
    lines: list[str] = []
    target = portal = None
    for key in keys:
        if key.target != target:
            lines.append(f"Target: {key.target}")
            target, portal = key.target, None
        if key.portal_dir != portal:
            lines.append(f"\tPortal: {portal_text(key.address, key.port)},{key.tpgt}")
            portal = key.portal_dir
        lines.append(f"\t\tIface Name: {key.iface}")
    return lines


class _Untagged:
    """Records without a portal group tag, by the source they name; read once, and only when somebody asks."""

    __slots__ = ("_by_source", "_database")

    def __init__(self, database: Database) -> None:
        self._database = database
        self._by_source: dict[tuple[str, str, int], list[NodeKey]] | None = None

    def of(self, kind: str, address: str = "", port: int = 0) -> list[NodeKey]:
        """Those of one source."""
        if self._by_source is None:
            self._by_source = {}
            for key in self._database.node_keys():
                record = self._database.read_node(key) if key.tpgt < 0 else None
                if record is not None:
                    self._by_source.setdefault(source_of(record), []).append(key)
        # Nobody looks at the address of a source that is no server.
        return self._by_source.get((NODE_TYPES[kind], address, port), [])


def source_of(record: Record) -> tuple[str, str, int]:
    """Type, address and port of the discovery a node record came from; without address and port unless a server's."""
    kind = record.get("node.discovery_type")
    if kind not in ("send_targets", "isns", "offload_send_targets"):
        return kind, "", 0
    return kind, record.get("node.discovery_address"), record.number("node.discovery_port")


def came_from(database: Database, kind: str, address: str, port: int) -> list[NodeKey]:
    """Every node record that came from one server, sorted: those with a link and those that can have none."""
    return sorted([*database.linked(kind, address, port), *_Untagged(database).of(kind, address, port)])
