# SPDX-License-Identifier: LGPL-2.1-or-later
"""Node records in the tree: which there are, and one of them. No lock: a file is whole whenever it is opened.

A record is what its place says: target, portal, tag and interface come from the path. Where the file says otherwise
the path counts and it is told, since the path is what a command finds the record by.

Whatever stands in the tree and is no record is passed over and told, so that one bad file does not hide the others.
"""

from __future__ import annotations

import os

from iscsiboot.database.failure import DatabaseError
from iscsiboot.database.names import UNKNOWN_TAG, NodeKey, Pattern, parse_portal_dir, usable
from iscsiboot.database.record import Record
from iscsiboot.database.tree import Entry, Folder
from iscsiboot.errors import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from iscsiboot.database.commit import Path

NODES = "nodes"


class Found:
    """A record as it was read."""

    __slots__ = ("notices", "old_style", "path", "record")

    def __init__(self, record: Record, notices: list[str], path: Path, *, old_style: bool) -> None:
        self.record = record
        self.notices = notices
        """What to tell about it."""
        self.path = path
        """Names below the root."""
        self.old_style = old_style
        """Whether it is a file in the portal's place, whose path tells neither tag nor interface."""


def node_keys(root: Folder, pattern: Pattern, tell: Callable[[str], None]) -> list[NodeKey]:
    """The places of all records ``pattern`` matches, in the peer's order."""
    keys: list[NodeKey] = []
    if pattern.target and not usable(pattern.target):
        return keys
    nodes = root.sub(NODES)
    if nodes is None:
        return keys
    with nodes:
        for target in [pattern.target] if pattern.target else _folders(nodes, tell):
            below = nodes.sub(target)
            if below is not None:
                with below:
                    keys += _portals(below, target, pattern, tell)
    return keys


def _folders(folder: Folder, tell: Callable[[str], None]) -> Iterator[str]:
    """The names of the folders in one; anything else is told."""
    for entry in folder.entries():
        if entry.kind == "folder":
            yield entry.name
        else:
            tell(f"{folder.path}/{entry.name}: a {entry.kind} has no place here and is passed over")


def _portals(folder: Folder, target: str, pattern: Pattern, tell: Callable[[str], None]) -> list[NodeKey]:
    """The records of one target, which ``folder`` is for."""
    keys: list[NodeKey] = []
    for entry in folder.entries():
        portal = parse_portal_dir(entry.name)
        if portal is None or entry.kind not in ("folder", "file") or (entry.kind == "file" and portal[2] >= 0):
            tell(f"{folder.path}/{entry.name}: this is no portal and is passed over")
            continue
        if pattern.address not in ("", portal[0]) or pattern.port not in (-1, portal[1]):
            continue
        if entry.kind == "folder":
            keys += _bindings(folder, entry, target, portal, pattern, tell)
            continue
        key = _old_style_key(folder, target, entry.name, tell)
        # A run that was killed while it gave the record its tag leaves both: the new one is complete and counts.
        if key is not None and pattern.matches(key) and not _is_binding(folder, key):
            keys.append(key)
    return keys


def _bindings(
    folder: Folder,
    entry: Entry,
    target: str,
    portal: tuple[str, int, int],
    pattern: Pattern,
    tell: Callable[[str], None],
) -> Iterator[NodeKey]:
    """One record for each interface file in a portal's folder."""
    below = folder.sub(entry.name)
    if below is None:
        return
    with below:
        for file in below.entries():
            if file.kind != "file":
                tell(f"{below.path}/{file.name}: a {file.kind} is no record and is passed over")
            elif pattern.iface in ("", file.name):
                yield NodeKey(target, *portal, file.name)


def _is_binding(folder: Folder, key: NodeKey) -> bool:
    """Whether the target's folder has the record in the new style as well."""
    if key.tpgt < 0:
        return False
    below = folder.sub(key.portal_dir)
    if below is None:
        return False
    with below:
        return below.kind_of(key.iface) == "file"


def _old_style_key(folder: Folder, target: str, name: str, tell: Callable[[str], None]) -> NodeKey | None:
    """The key of a record that is a file in the portal's place: what its path leaves open is inside."""
    portal = parse_portal_dir(name)
    try:
        data = folder.read(name)
        if data is None or portal is None:
            return None
        record, _ = Record.parse("node", data, path=f"{folder.path}/{name}")
    except DatabaseError as error:
        tell(error.line())
        return None
    tag, iface = record.number("node.tpgt"), record.get("iface.iscsi_ifacename")
    if not usable(iface):
        iface = "default"
    return NodeKey(target, portal[0], portal[1], tag if tag >= 0 else UNKNOWN_TAG, iface)


def old_style_key(root: Folder, key: NodeKey) -> NodeKey | None:
    """What the old-style file at ``key``'s portal is the record of, None when there is none that can be read."""
    nodes = root.sub(NODES)
    if nodes is None:
        return None
    with nodes:
        target = nodes.sub(key.target)
    if target is None:
        return None
    with target:
        return _old_style_key(target, key.target, f"{key.address},{key.port}", lambda _: None)


def read_node(root: Folder, key: NodeKey) -> Found | None:
    """The record at ``key``, None when there is none; DatabaseError when it is damaged."""
    nodes = root.sub(NODES)
    if nodes is None:
        return None
    with nodes:
        return read_below(nodes, key)


class NodeFiles:
    """The files of many records, for who holds the writers' lock. One open folder serves all records of a target.

    Paths are ``nodes/target/portal/interface``, which is where records with a tag belong. What is anywhere else, or no
    plain file, is left to the functions below, which take longer and tell what is wrong.
    """

    __slots__ = ("_name", "_nodes", "_target")

    def __init__(self, root: Folder) -> None:
        self._nodes = root.sub(NODES)
        self._target: Folder | None = None
        self._name = ""

    def close(self) -> None:
        """Let go of the folders."""
        self._leave()
        nodes, self._nodes = self._nodes, None
        if nodes is not None:
            os.close(nodes.fd)

    def _leave(self) -> None:
        # Forgotten first: an interruption between the two must not have it closed twice.
        target, self._target = self._target, None
        if target is not None:
            os.close(target.fd)

    def _enter(self, path: Path) -> Folder | None:
        """The open folder of a target, None when there is none or the path cannot be any record's."""
        _, target, portal_dir, iface = path
        if target != self._name:
            self._leave()
            self._name = target
            self._target = None if self._nodes is None or not usable(target) else self._nodes.sub(target)
        return self._target if usable(portal_dir) and usable(iface) else None

    def read(self, path: Path) -> bytes | None:
        """The file of a record, None when there is none."""
        target = self._enter(path)
        portal = None if target is None else target.sub(path[2])
        if portal is None:
            return None
        try:
            return portal.read(path[3], locked=True)
        finally:
            os.close(portal.fd)

    def is_plain(self, path: Path) -> bool:
        """Whether there is such a file and nothing of the old style in its portal's place."""
        target = self._enter(path)
        if target is None or target.kind_of(path[2].rpartition(",")[0]) or target.kind_of(path[2]) != "folder":
            return False
        portal = target.sub(path[2])
        if portal is None:
            return False
        with portal:
            return portal.kind_of(path[3]) == "file"


def read_below(nodes: Folder, key: NodeKey) -> Found | None:
    """The same with ``nodes/`` open already, for who reads thousands."""
    portal_dir = key.portal_dir
    if not (usable(key.target) and usable(portal_dir) and usable(key.iface)):
        return None
    target = nodes.sub(key.target)
    if target is None:
        return None
    with target:
        at_portal = "folder" if key.tpgt >= 0 else target.kind_of(portal_dir)
        portal = target.sub(portal_dir) if at_portal == "folder" else None
        if portal is not None:
            try:
                data = portal.read(key.iface)
            finally:
                os.close(portal.fd)
            if data is not None:
                return _found(data, key, portal.path, (NODES, key.target, portal_dir, key.iface), old_style=False)
        return _read_old_style(target, key)


def _read_old_style(target: Folder, key: NodeKey) -> Found | None:
    """The record at ``key`` where a file has the portal's place."""
    name = f"{key.address},{key.port}"
    data = target.read(name) if target.kind_of(name) not in ("", "folder") else None
    return None if data is None else _found(data, key, target.path, (NODES, key.target, name), old_style=True)


def _found(data: bytes, key: NodeKey, folder: str, path: Path, *, old_style: bool) -> Found | None:
    record, notices = Record.parse("node", data, path=f"{folder}/{path[-1]}")
    if record.node_key != key:
        if old_style and (record.number("node.tpgt"), record.get("iface.iscsi_ifacename")) != (key.tpgt, key.iface):
            return None
        record = _placed(record, key, f"{folder}/{path[-1]}", notices)
    return Found(record, notices, path, old_style=old_style)


def _placed(record: Record, key: NodeKey, path: str, notices: list[str]) -> Record:
    """The record with the names of its place; what contradicted it is told."""
    place = {
        "node.name": key.target,
        "node.conn[0].address": key.address,
        "node.conn[0].port": str(key.port),
        "node.tpgt": str(key.tpgt),
        "iface.iscsi_ifacename": key.iface,
    }
    for name, value in place.items():
        said = record.raw.get(name) or record.get(name)
        if said != value and said not in ("", "-1"):
            notices.append(f"{path}: {name} says {quoted(said)}, its place says {quoted(value)}, which counts")
    raw = {name: text for name, text in record.raw.items() if name not in place}
    return Record("node", {**record.values, **place}, record.unknown, raw)
