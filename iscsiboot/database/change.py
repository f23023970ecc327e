# SPDX-License-Identifier: LGPL-2.1-or-later
"""Changing records: collected while the ``with`` block lasts, put on the disk when it ends, dropped when it fails."""

from __future__ import annotations

import os

from iscsiboot.database import nodes, reading
from iscsiboot.database.bulk import Replacing
from iscsiboot.database.commit import Commit, Path, Plan
from iscsiboot.database.failure import DatabaseError, failure
from iscsiboot.database.files import Files
from iscsiboot.database.key import check_value
from iscsiboot.database.keys import BY_KIND
from iscsiboot.database.lock import lock
from iscsiboot.database.names import NodeKey, Source, check_component
from iscsiboot.database.record import SPECIAL_IFACES, Record
from iscsiboot.database.temps import Syncing
from iscsiboot.database.tree import Folder, descend, open_root
from iscsiboot.errors import ExitCode, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from typing import Self

    from iscsiboot.database.store import Database

DISCOVERY_TYPE = {"sendtargets": "send_targets", "isns": "isns", "static": "static", "fw": "fw"}
"""Kind of a Source -> ``node.discovery_type`` of its records."""

AHEAD = 100
"""Records of one update from which on the disk is set to work before they are read."""

LINK_FOLDERS = {"static": reading.STATIC, "fw": reading.FIRMWARE}


class Change:
    """One change of the database. It reads what is there under its lock, and what it was told itself before.

    Methods raise DatabaseError, KeyError for a name a record does not have, ValueError for a text it does not take.
    """

    def __init__(self, database: Database, *, timeout: float, files: Files | None) -> None:
        self._database = database
        self._timeout = timeout
        self._files = files or Files()
        self._plan = Plan()
        self._root: Folder | None = None
        self._links: dict[Path, set[str]] | None = None
        self._before: Syncing | None = None
        self._nodes: nodes.NodeFiles | None = None

    def __enter__(self) -> Self:
        root = self._open()
        try:
            lock(root.fd, root.path, timeout=self._timeout, proc=self._database.proc)
            with Commit(root, self._files) as commit:
                commit.clean()
        except OSError as error:
            os.close(root.fd)
            raise failure(error, root.path, "preparing the database") from error
        except BaseException:
            os.close(root.fd)
            raise
        self._root = root
        return self

    def _open(self) -> Folder:
        path = self._database.root
        root = open_root(path)
        if root is not None:
            return root
        above, _, name = path.rstrip("/").rpartition("/")
        folder = open_root(above or "/")
        if folder is None:
            raise DatabaseError(
                "the folder above the database does not exist", subject=path, hint=f"make {above} first"
            )
        with folder:
            try:
                self._files.mkdir(folder.fd, name)
            except FileExistsError:
                pass
            except OSError as error:
                raise failure(error, path, "making the database's folder") from error
        root = open_root(path)
        if root is None:
            raise DatabaseError("the folder went away as soon as it was made", subject=path)
        return root

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        root = self._root
        self._root = None
        if root is None:
            return
        try:
            if self._before is not None:
                # It was for others: what becomes of it is not ours to tell.
                self._before.settle()
            if kind is None and self._plan:
                with Commit(root, self._files) as commit:
                    commit.run(self._plan)
        finally:
            if self._nodes is not None:
                self._nodes.close()
                self._nodes = None
            # The lock ends with the descriptor.
            os.close(root.fd)

    def _locked(self) -> Folder:
        if self._root is None:
            raise DatabaseError("a change is used outside its block", exit_code=ExitCode.INTERNAL)
        return self._root

    # Nodes

    def read_node(self, key: NodeKey) -> Record | None:
        """The record as this change leaves it so far."""
        path = _node_path(key)
        if path in self._plan.writes:
            return Record.parse("node", self._plan.writes[path])[0]
        if path in self._plan.removals:
            return None
        return self._told(nodes.read_node(self._locked(), key))

    def _told(self, found: nodes.Found | None) -> Record | None:
        if found is None:
            return None
        self._database.tell_contents(found.notices)
        return found.record

    def put_node(self, record: Record, *, source: Source | None = None) -> NodeKey:
        """Store a node record at the place its values name, over what is there; the key of that place.

        With a ``source`` the record says that it came from there, and a link leads to it from that discovery (none
        without a tag). DatabaseError (exit status 7) for names that cannot be a path.
        """
        if source is not None:
            found_by = {
                "node.discovery_type": DISCOVERY_TYPE[source.kind],
                "node.discovery_address": source.address,
                "node.discovery_port": str(source.port),
            }
            record = Record("node", {**record.values, **found_by}, record.unknown, record.raw)
        key = record.node_key.checked()
        self._write_node(key, record)
        if source is not None and key.tpgt >= 0:
            target = f"{self._locked().path}/{nodes.NODES}/{key.target}/{key.portal_dir}"
            name = check_component(key.link_name, "link name")
            # A record came from one discovery: the last.
            for folder, names in self._link_names().items():
                if name in names:
                    self._plan.remove((*folder, name))
            self._plan.link((*self._link_folder(source), name), target)
        return key

    def _write_node(self, key: NodeKey, record: Record) -> None:
        path = _node_path(key)
        old_style = (nodes.NODES, key.target, f"{key.address},{key.port}")
        if key.tpgt < 0 and self._kind(old_style) == "folder":
            # Some releases made a folder without a tag; a record that is in it stays there.
            path = (*old_style, key.iface)
            if self._kind(path) != "file":
                raise DatabaseError(
                    "a folder has the place of a record without a portal group tag",
                    subject="/".join((self._database.root, *old_style)),
                    hint="give the tag: -p address:port,tag",
                    exit_code=ExitCode.INVAL,
                )
        elif key.tpgt >= 0 and self._kind(old_style) == "file":
            self._plan.remove(old_style)
        self._plan.write(path, record.file_text())

    def _kind(self, path: Path) -> str:
        """What stands at ``path`` on the disk."""
        folder = descend(self._locked(), *path[:-1])
        if folder is None:
            return ""
        with folder:
            return folder.kind_of(path[-1])

    def update_nodes(self, keys: Iterable[NodeKey], values: Mapping[str, str]) -> int:
        """Set ``values`` in each of these records; how many there were. A bad name or text changes none of them."""
        known = BY_KIND["node"]
        checked = {name: check_value(known[name], text) for name, text in values.items()}
        root = self._locked()
        wanted = list(keys)
        if len(wanted) >= AHEAD and self._before is None:
            # What others left in memory need not wait until our first batch does: it goes while records are read.
            self._before = Syncing(self._files, root.fd)
        replacing = Replacing()
        return sum(self._update(key, checked, replacing) for key in wanted)

    def _update(self, key: NodeKey, values: Mapping[str, str], replacing: Replacing) -> bool:
        """One record, written where it was found; whether there was one."""
        path = _node_path(key)
        if path in self._plan.writes or path in self._plan.removals:
            record = self.read_node(key)
            if record is not None:
                self._plan.write(path, record.changed(values).file_text())
            return record is not None
        data = self._files_of_nodes().read(path) if key.tpgt >= 0 else None
        text = None if data is None else replacing.text(key, data)
        if text is not None:
            self._plan.write(path, text, there=True)
            return True
        found = nodes.read_node(self._locked(), key)
        record = self._told(found)
        if found is None or record is None:
            return False
        if found.old_style and key.tpgt >= 0:
            self._write_node(key, record.changed(values))
        else:
            new = record.changed(values)
            replacing.learn(key, record, new)
            self._plan.write(found.path, new.file_text(), there=True)
        return True

    def _files_of_nodes(self) -> nodes.NodeFiles:
        if self._nodes is None:
            self._nodes = nodes.NodeFiles(self._locked())
        return self._nodes

    def delete_node(self, key: NodeKey) -> bool:
        """Remove a record, even a damaged one, its links, and the folders it leaves empty; whether there was one."""
        path = _node_path(key)
        untouched = key.tpgt >= 0 and path not in self._plan.writes and path not in self._plan.removals
        if untouched and self._files_of_nodes().is_plain(path):
            # Thousands are deleted at once, and what a record says does not matter then.
            self._plan.remove(path)
            self._remove_around(key)
            return True
        try:
            there = self.read_node(key) is not None
        except DatabaseError:
            there = True
        if there:
            self._remove_node(key)
        return there

    def _remove_node(self, key: NodeKey) -> None:
        target = (nodes.NODES, key.target)
        portal, old_style = (*target, key.portal_dir), (*target, f"{key.address},{key.port}")
        at_portal = self._kind(old_style)
        if (key.tpgt >= 0 or at_portal == "folder") and self._kind((*portal, key.iface)) == "file":
            self._plan.remove((*portal, key.iface))
        if at_portal == "file" and nodes.old_style_key(self._locked(), key) == key:
            self._plan.remove(old_style)
        self._plan.writes.pop(_node_path(key), None)
        self._remove_around(key)

    def _remove_around(self, key: NodeKey) -> None:
        """The links to a record, and the folders it leaves empty."""
        name, target = key.link_name, (nodes.NODES, key.target)
        portal = (*target, key.portal_dir)
        for folder, names in self._link_names().items():
            if name in names or (*folder, name) in self._plan.links:
                self._plan.remove((*folder, name))
        # A folder comes after those in it, also when more records of its target go later in this change.
        self._plan.folders.pop(target, None)
        self._plan.folders.update({portal: None, target: None})

    def _link_names(self) -> dict[Path, set[str]]:
        """The links that are on the disk, by folder; read once, for the lock keeps them."""
        if self._links is None:
            root = self._locked()
            self._links = {folder: _links_in(root, folder) for folder in [(reading.STATIC,), (reading.FIRMWARE,)]}
            for name, _ in reading.DISCOVERY.values():
                self._links[(name,)] = _links_in(root, (name,))
                above = root.sub(name)
                if above is not None:
                    with above:
                        servers = [entry.name for entry in above.entries() if entry.kind == "folder"]
                    self._links.update({(name, server): _links_in(root, (name, server)) for server in servers})
        return self._links

    # Interfaces

    def put_iface(self, record: Record) -> None:
        """Store an interface record under its own name; ``default`` and ``iser`` are never stored (exit status 7)."""
        name = check_component(record.get("iface.iscsi_ifacename"), "interface name")
        if name in SPECIAL_IFACES:
            raise DatabaseError(f"interface {quoted(name)} is built in and is not stored", exit_code=ExitCode.INVAL)
        self._plan.write((reading.IFACES, name), record.file_text())

    def delete_iface(self, name: str) -> bool:
        """Remove an interface record, not the node records bound to it; whether there was one."""
        path = (reading.IFACES, check_component(name, "interface name"))
        there = path in self._plan.writes or (path not in self._plan.removals and self._kind(path) != "")
        self._plan.remove(path)
        return there

    # Discoveries

    def put_discovery(self, record: Record) -> None:
        """Store a ``sendtargets`` or ``isns`` record for its server, over what is there."""
        where, config = reading.DISCOVERY[record.kind]
        server = f"{record.get('discovery.sendtargets.address')},{record.number('discovery.sendtargets.port')}"
        path = (where, check_component(server, "discovery address"))
        if self._kind(path) == "file":
            self._plan.unfold[path] = None
        self._plan.write((*path, config), record.file_text())

    def _link_folder(self, source: Source) -> Path:
        """The folder of the links of one discovery. The first releases kept a server's record where it is now."""
        if source.kind in LINK_FOLDERS:
            return (LINK_FOLDERS[source.kind],)
        where, _ = reading.DISCOVERY[source.kind]
        if not source.address:
            return (where,)
        path = (where, check_component(f"{source.address},{source.port}", "discovery address"))
        if path not in self._plan.unfold and self._kind(path) == "file":
            found = reading.read_discovery(self._locked(), source.kind, source.address, source.port)
            if found is not None:
                self.put_discovery(found[0])
        return path

    def delete_discovery(
        self, kind: str, address: str, port: int, *, keep: Collection[NodeKey] = ()
    ) -> list[NodeKey] | None:
        """Remove a discovery record with the node records found through it; their keys, None when there was no record.

        Node records in ``keep`` (a session uses them) stay, with their links, and so does the folder of these.
        """
        where, config = reading.DISCOVERY[kind]
        server = (where, check_component(f"{address},{port}", "discovery address"))
        there = self._kind(server)
        if not there:
            return None
        if there == "file":
            self._plan.remove(server)
            return []
        gone = []
        for key in reading.links(self._locked(), *server):
            if key not in keep:
                if self.read_node(key) is not None:
                    self._remove_node(key)
                    gone.append(key)
                self._plan.remove((*server, key.link_name))
        self._plan.remove((*server, config))
        self._plan.remove((reading.WORK, reading.REMEMBERED, f"{address},{port}"))
        self._plan.folders[server] = None
        return gone

    def remember(self, name: str, record: Record) -> None:
        """Keep a record that is no part of the peer's tree, for :meth:`Database.recall`."""
        self._plan.write((reading.WORK, reading.REMEMBERED, check_component(name, "name")), record.file_text())


def _node_path(key: NodeKey) -> Path:
    """Where a node record is written: a file in its portal's folder, or in the folder's place without a tag."""
    portal = (nodes.NODES, key.target, key.portal_dir)
    return portal if key.tpgt < 0 else (*portal, key.iface)


def _links_in(root: Folder, path: Path) -> set[str]:
    folder = descend(root, *path)
    if folder is None:
        return set()
    with folder:
        return {entry.name for entry in folder.entries() if entry.kind == "link"}
