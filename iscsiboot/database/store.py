# SPDX-License-Identifier: LGPL-2.1-or-later
"""The database as the rest of the program sees it: open-iscsi's tree below one root.

Reading takes no lock and works on a read-only root; a root that does not exist has no records. Writing goes through
:meth:`Database.change`, which holds the lock and makes what it does durable (:mod:`iscsiboot.database.change`).
"""

from __future__ import annotations

from iscsiboot.database import nodes, reading
from iscsiboot.database.failure import DatabaseError
from iscsiboot.database.names import NodeKey, Pattern, Source
from iscsiboot.database.record import SPECIAL_IFACES, Record, iface_defaults
from iscsiboot.database.tree import Folder, open_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from iscsiboot.database.change import Change
    from iscsiboot.database.files import Files

__all__ = ["SPECIAL_IFACES", "Database", "DatabaseError", "NodeKey", "Pattern", "Source"]


def ignore(_: str) -> None:
    """A notice nobody wants."""


class Database:
    """open-iscsi's records below ``root``. Making one does nothing.

    Every method raises DatabaseError (one line: what, where, what next) when the tree cannot be read; a record that is
    damaged is passed over by the methods that give several, and told through ``notice``.
    """

    __slots__ = ("_told", "notice", "proc", "root")

    def __init__(self, root: str, *, notice: Callable[[str], None] = ignore, proc: str = "/proc") -> None:
        self.root = root
        self.notice = notice
        self.proc = proc
        """Where the holder of the lock is looked up for a message."""
        self._told: set[str] = set()

    def tell(self, notice: str) -> None:
        """Hand on what is worth knowing, once."""
        if notice not in self._told:
            self._told.add(notice)
            self.notice(notice)

    def tell_contents(self, notices: list[str]) -> None:
        """Hand on what records say, each thing once for however many records say it."""
        for notice in notices:
            about = notice.partition(": ")[2]
            if about not in self._told:
                self._told.add(about)
                self.notice(notice)

    def _open(self) -> Folder | None:
        return open_root(self.root)

    def _tell_all(self, found: tuple[Record, list[str]] | None) -> Record | None:
        if found is None:
            return None
        record, notices = found
        self.tell_contents(notices)
        return record

    def _tell_found(self, found: nodes.Found | None) -> Record | None:
        return None if found is None else self._tell_all((found.record, found.notices))

    # Nodes

    def node_keys(self, pattern: Pattern | None = None) -> list[NodeKey]:
        """The places of the records ``pattern`` matches (all by default) in open-iscsi's order.

        With a target given no other target's records are looked at. ``pattern.transport`` is not known to a place and
        is not compared here.
        """
        root = self._open()
        if root is None:
            return []
        with root:
            return nodes.node_keys(root, pattern or Pattern(), self.tell)

    def read_node(self, key: NodeKey) -> Record | None:
        """The record at ``key``, None when there is none; DatabaseError when it is damaged."""
        root = self._open()
        if root is None:
            return None
        with root:
            return self._tell_found(nodes.read_node(root, key))

    def nodes(self, pattern: Pattern | None = None) -> Iterator[tuple[NodeKey, Record]]:
        """The records ``pattern`` matches, one after the other, in the same order."""
        wanted = pattern or Pattern()
        root = self._open()
        if root is None:
            return
        with root:
            folder = root.sub(nodes.NODES)
            if folder is None:
                return
            with folder:
                for key in nodes.node_keys(root, wanted, self.tell):
                    try:
                        record = self._tell_found(nodes.read_below(folder, key))
                    except DatabaseError as error:
                        self.tell(error.line())
                        continue
                    # None: somebody removed it since the folders were read.
                    if record is not None and wanted.transport in ("", record.get("iface.transport_name")):
                        yield key, record

    # Interfaces

    def iface_names(self) -> list[str]:
        """Names of the stored interface records, sorted; the special ones are not among them."""
        root = self._open()
        if root is None:
            return []
        with root:
            return reading.iface_names(root, self.tell)

    def read_iface(self, name: str) -> Record | None:
        """The record of one interface, stored or special; None when there is none."""
        if name in SPECIAL_IFACES:
            return iface_defaults(name, SPECIAL_IFACES[name])
        root = self._open()
        if root is None:
            return None
        with root:
            return self._tell_all(reading.read_iface(root, name))

    def ifaces(self, *, stored_only: bool = False) -> list[Record]:
        """The stored interface records by name, then the special ones: as open-iscsi lists them."""
        records = []
        for name in self.iface_names():
            try:
                record = self.read_iface(name)
            except DatabaseError as error:
                self.tell(error.line())
                continue
            if record is not None and name not in SPECIAL_IFACES:
                records.append(record)
        if not stored_only:
            records += [iface_defaults(name, transport) for name, transport in SPECIAL_IFACES.items()]
        return records

    # Discoveries

    def discoveries(self, kind: str) -> list[tuple[str, int]]:
        """Address and port of the servers a ``sendtargets`` or ``isns`` record is kept for, sorted."""
        root = self._open()
        if root is None:
            return []
        with root:
            return reading.discoveries(root, kind, self.tell)

    def read_discovery(self, kind: str, address: str, port: int) -> Record | None:
        """The record of one server, None when there is none."""
        root = self._open()
        if root is None:
            return None
        with root:
            return self._tell_all(reading.read_discovery(root, kind, address, port))

    def linked(self, kind: str, address: str = "", port: int = 0) -> list[NodeKey]:
        """The node records found through one server; an iSNS record of old releases is under no server's address."""
        folder = reading.DISCOVERY[kind][0]
        return self._linked(*([folder, f"{address},{port}"] if address else [folder]))

    def linked_static(self) -> list[NodeKey]:
        """The node records an administrator made."""
        return self._linked(reading.STATIC)

    def linked_fw(self) -> list[NodeKey]:
        """The node records made from firmware."""
        return self._linked(reading.FIRMWARE)

    def _linked(self, *where: str) -> list[NodeKey]:
        root = self._open()
        if root is None:
            return []
        with root:
            return [key for key in reading.links(root, *where) if self._is_there(root, key)]

    def _is_there(self, root: Folder, key: NodeKey) -> bool:
        """Whether a link leads to a record; a damaged one counts."""
        try:
            return nodes.read_node(root, key) is not None
        except DatabaseError as error:
            self.tell(error.line())
            return True

    def recall(self, name: str) -> Record | None:
        """What :meth:`Change.remember` kept, None when there is nothing or it is damaged: it is only a memory."""
        root = self._open()
        if root is None:
            return None
        with root:
            try:
                return reading.read_remembered(root, name)
            except DatabaseError:
                return None

    # Changes

    def change(self, *, timeout: float = 30.0, files: Files | None = None) -> Change:
        """A ``with`` block that changes records: locked while it lasts, all or nothing when an exception leaves it.

        ``timeout`` is how many seconds to wait for another process's change. ``files`` is for tests.
        """
        # Listing never needs the writing half.
        from iscsiboot.database.change import Change

        return Change(self, timeout=timeout, files=files)
