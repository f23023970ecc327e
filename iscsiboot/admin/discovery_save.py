# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a discovery does to the node records: one change of the database, whatever the number of targets.

``-o new`` adds what is missing. ``-o update`` writes every record anew from iscsid.conf. ``-o delete`` removes what
came from this server and is not in its answer any more. Without ``-o`` the peer does all three, so each discovery
throws away what an administrator has set; here it does the first and the last, and keeps what is set in records that
are there. Such a record still learns what the discovery knows better: its portal group tag, which server names it, and
what its interface is bound to.

Whether somebody has set a value cannot be seen from the record alone. So a discovery remembers the settings it wrote
(:meth:`~iscsiboot.database.change.Change.remember`): what is in a record as it was written follows iscsid.conf when
that file changes, a new CHAP secret above all; what is not was set by somebody and stays.

A record is found again although its address is spelled in another way (``FD00:0::1``), and although it was made without
a tag: one portal never gets two records.
"""

from __future__ import annotations

from iscsiboot.admin.discovery_list import NODE_TYPES, came_from, source_of
from iscsiboot.admin.matching import Addresses, pattern_of, rows_of, transport_of
from iscsiboot.database.names import NodeKey, Pattern, Source
from iscsiboot.database.store import DatabaseError
from iscsiboot.model.portal import parse_ip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from iscsiboot.database.change import Change
    from iscsiboot.database.record import Record
    from iscsiboot.database.store import Database
    from iscsiboot.sysfs.listing import SessionRow

FIXED = ("static", "fw")
"""Types of records that are no server's: whoever made them keeps them. Others are the server's that named them last."""
TRANSPORT_KEY = "iface.transport_name"
NOT_SETTINGS = ("node.name", "node.tpgt", "node.conn[0].address", "node.conn[0].port", "node.discovery_")
"""Beginnings of names that say which record it is and where it came from."""


class Plan:
    """What ``-o`` asks a discovery to do with the records."""

    __slots__ = ("add", "keep", "remove", "rewrite")

    def __init__(self, ops: Collection[str]) -> None:
        self.add = not ops or "new" in ops or "update" in ops
        self.rewrite = "update" in ops
        """Records that are there get the settings of iscsid.conf."""
        self.keep = not ops
        """Records that are there keep their settings and learn the rest."""
        self.remove = not ops or "delete" in ops

    @property
    def changes(self) -> bool:
        """Whether anything may be written at all."""
        return self.add or self.remove


class Saved:
    """Where each found record is now, what it says, and what was worth telling."""

    __slots__ = ("kept", "nodes")

    def __init__(self) -> None:
        self.nodes: list[tuple[NodeKey, Record]] = []
        """In the order of the answer."""
        self.kept: dict[str, None] = {}
        """Names of settings in which records were left as they are, other than iscsid.conf has them."""


class Saver:
    """One discovery's way into the database. ``rows`` lists the sessions, when records would be removed."""

    def __init__(
        self,
        database: Database,
        source: Source,
        plan: Plan,
        *,
        tell: Callable[[str], None],
        rows: Callable[[], Sequence[SessionRow]],
        settings: Record,
        known_better: Collection[str] = (),
        linked: bool = True,
    ) -> None:
        self._database = database
        self._source = source
        self._plan = plan
        self._settings = settings
        """What a new record of this discovery has, apart from what was found."""
        self._known_better = known_better
        """Names of settings that come from this source and not from iscsid.conf: kept records take them too."""
        self._tell = tell
        """Takes a line about each record that could not be stored or removed."""
        self._rows = rows
        self._linked = linked
        self._known: dict[str, dict[tuple[str, int, str], list[NodeKey]]] = {}
        self._saved = Saved()
        self._memory = f"{source.address},{source.port}" if source.address else source.kind
        self._before: Record | None = None
        """The settings the discovery before this one wrote; None when nobody knows them."""

    def save(self, records: Sequence[Record], *, complete: bool = True) -> Saved:
        """Store what was found, all of it or nothing; DatabaseError when the database cannot be written.

        ``complete`` is False when an interface got no answer: then nothing is removed, since nobody knows what that
        answer would have named.
        """
        saved = self._saved
        if not self._plan.changes:
            saved.nodes = [(record.node_key, record) for record in records]
            return saved
        with self._database.change() as change:
            self._before = self._database.recall(self._memory)
            wanted = set()
            for record in records:
                try:
                    key, stored = self._store(record, change)
                except DatabaseError as error:
                    # Names the database cannot hold are this record's fault; the others are stored.
                    self._tell(error.line())
                    wanted.add(record.node_key)
                    continue
                wanted.add(key)
                # A tag the target told is told on, also where `new` leaves a record without it alone.
                told = key if key.tpgt >= 0 else NodeKey(key.target, key.address, key.port, _tag(record), key.iface)
                saved.nodes.append((told, stored))
            if self._plan.remove and complete:
                self._remove_others(wanted, change)
            # With `new` alone the records that were there still have the settings of before.
            everywhere = complete and (self._plan.keep or self._plan.rewrite)
            if self._before is None or (everywhere and self._before.values != self._settings.values):
                change.remember(self._memory, self._settings)
        return saved

    def _store(self, record: Record, change: Change) -> tuple[NodeKey, Record]:
        """Bring one record in; its place and what is there now."""
        fresh = record.node_key.checked()
        found = self._find(fresh)
        if not found:
            if self._plan.add:
                self._put(record, self._source, change)
                self._places(fresh.target).setdefault(_place(fresh), []).append(fresh)
            return fresh, record
        there, *doubles = found
        old = _readable(change, there)
        if not (self._plan.rewrite or self._plan.keep):
            return there, old or record
        for double in doubles:
            change.delete_node(double)
        tpgt = there.tpgt if there.tpgt >= 0 else fresh.tpgt
        # The place keeps its spelling: programs may have it in their own configuration.
        record = record.changed({"node.conn[0].address": there.address, "node.tpgt": str(tpgt)})
        if old is None:
            return self._put(record, self._source, change), record
        if self._plan.rewrite:
            return self._replace(there, record, self._source, change), record
        return self._keep(there, old, record, change)

    def _keep(self, there: NodeKey, old: Record, record: Record, change: Change) -> tuple[NodeKey, Record]:
        """Leave an administrator's settings as they are, and bring in what the discovery knows better."""
        fixed = source_of(old)[0] in FIXED and source_of(old)[0] != self._source.kind
        learnt = {name: record.get(name) for name in ("node.tpgt", *self._known_better)}
        if not fixed:
            learnt |= {
                name: value
                for name, value in record.values.items()
                # The one of them that a node record may have for itself.
                if name.startswith("iface.") and name != TRANSPORT_KEY
            }
            if _came_from(old, self._source):
                learnt |= self._changed_since(old)
        kept = old.changed(learnt)
        self._saved.kept.update(dict.fromkeys(_settings_that_differ(kept, record)))
        source = Source(source_of(old)[0]) if fixed else self._source
        if kept != old or not (fixed or _came_from(old, source)):
            return self._replace(there, kept, source, change), kept
        return there, kept

    def _changed_since(self, old: Record) -> dict[str, str]:
        """Settings of iscsid.conf that are others than before, where the record still has what was written then."""
        before = self._before
        if before is None:
            return {}
        return {
            name: value
            for name, value in self._settings.values.items()
            if not name.startswith(("iface.", *NOT_SETTINGS))
            and before.get(name) != value
            and old.get(name) == before.get(name)
        }

    def _replace(self, there: NodeKey, record: Record, source: Source, change: Change) -> NodeKey:
        """Write a record over one that is there: with it go links from other discoveries."""
        change.delete_node(there)
        return self._put(record, source, change)

    def _put(self, record: Record, source: Source, change: Change) -> NodeKey:
        """Write a record that says where it came from, with a link from there when that discovery has a record."""
        if self._linked:
            return change.put_node(record, source=source)
        named = {
            "node.discovery_type": NODE_TYPES[source.kind],
            "node.discovery_address": source.address,
            "node.discovery_port": str(source.port),
        }
        return change.put_node(record.changed(named), source=None)

    def _remove_others(self, wanted: Collection[NodeKey], change: Change) -> None:
        """Remove what came from this server earlier, unless a session uses it."""
        source = self._source
        if source.kind == "fw":
            before = self._database.linked_fw()
        else:
            before = came_from(self._database, source.kind, source.address, source.port)
        stale = [key for key in before if key not in wanted]
        if not stale:
            return
        rows, addresses = self._rows(), Addresses()
        for key in stale:
            record = _readable(change, key)
            if record is not None and not _came_from(record, source):
                continue
            transport = transport_of(record) if record is not None else ""
            near = [row for row in rows if row.target == key.target]
            if near and rows_of(pattern_of(key, transport), near, addresses=addresses):
                self._tell(
                    f"This command will remove the record [iface: {key.iface}, target: {key.target}, "
                    f"portal: {key.address},{key.port}], but a session is using it. "
                    "Logout session then rerun command to remove record."
                )
                continue
            try:
                change.delete_node(key)
            except DatabaseError as error:
                self._tell(error.line())

    def _find(self, fresh: NodeKey) -> list[NodeKey]:
        """The records that are there for a portal and interface, whichever way the address is spelled, best first.

        Without a tag on one side any tag on the other is meant.
        """
        there = self._places(fresh.target).get(_place(fresh), [])
        exact = [key for key in there if key == fresh] or [key for key in there if key.tpgt == fresh.tpgt]
        loose = [key for key in there if -1 in (key.tpgt, fresh.tpgt)]
        return list(dict.fromkeys(exact + loose))

    def _places(self, target: str) -> dict[tuple[str, int, str], list[NodeKey]]:
        """The records of one target by place; the target's folder is read once."""
        if target not in self._known:
            places: dict[tuple[str, int, str], list[NodeKey]] = {}
            for key in self._database.node_keys(Pattern(target=target)):
                places.setdefault(_place(key), []).append(key)
            self._known[target] = places
        return self._known[target]


def _tag(record: Record) -> int:
    return record.number("node.tpgt")


def _place(key: NodeKey) -> tuple[str, int, str]:
    """Address in its one spelling, port, interface."""
    address = key.address
    if ":" in address:
        try:
            address = str(parse_ip(address))
        except ValueError:
            pass  # Somebody's own text; it is compared as it is.
    return address, key.port, key.iface


def _readable(change: Change, key: NodeKey) -> Record | None:
    """The record, None for one that is damaged: whoever found it again replaces it."""
    try:
        return change.read_node(key)
    except DatabaseError:
        return None


def _came_from(record: Record, source: Source) -> bool:
    if source.kind == "fw":
        return source_of(record)[0] == "fw"
    kinds = {"sendtargets": ("send_targets", "offload_send_targets")}.get(source.kind, (source.kind,))
    kind, address, port = source_of(record)
    return kind in kinds and (address, port) == (source.address, source.port)


def _settings_that_differ(kept: Record, fresh: Record) -> Iterator[str]:
    for name, value in fresh.values.items():
        if kept.values.get(name) != value and not name.startswith(NOT_SETTINGS):
            yield name
