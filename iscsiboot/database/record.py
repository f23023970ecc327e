# SPDX-License-Identifier: LGPL-2.1-or-later
"""One record: its values, its text on the terminal and in its file, and reading it back.

A record keeps what it cannot use. Keys of another release and lines that cannot be read go back into the file as they
were; a value that is none of its key's (a misspelt word, no number) stays in the file while the default is in effect.
The first is told once, the second each time it is read.

Reading and writing thousands of records is what the commands wait for, so the text both programs write is read
without looking at its lines one by one: see :func:`_read_plain`.
"""

from __future__ import annotations

from functools import cache

from iscsiboot.database.body import BODIES_MAX, OWN, Body, take_apart
from iscsiboot.database.failure import DatabaseError
from iscsiboot.database.key import Key, check_value
from iscsiboot.database.keys import BY_KIND, HIDDEN, KINDS, shown, stored
from iscsiboot.database.lines import judge, read_lines
from iscsiboot.database.names import NodeKey
from iscsiboot.errors import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

COMPATIBLE = "2.1.8"
"""The open-iscsi release we behave as: what ``-V`` says and records carry in their first line."""

BEGIN = "# BEGIN RECORD"
END = "# END RECORD"
FIRST_LINE = f"{BEGIN} {COMPATIBLE}".encode()
EMPTY = "<empty>"
MASK = "********"

SPECIAL_IFACES = {"default": "tcp", "iser": "iser"}
"""Interfaces that exist in code alone, with their transport; none of them is ever stored."""

_CACHED_TEXT = 64
_CACHED_PAIRS = 4096
_good: dict[str, set[tuple[str, str]]] = {kind: set() for kind in KINDS}
"""Names with values found canonical before: thousands of records say the same. Never a secret, bounded in both ways."""

_bodies: dict[tuple[bytes, bytes], Body] = {}
"""Node records without their names, by their bytes."""


class Record:
    """The values of one record by their names. Frozen by convention; :meth:`changed` makes another.

    ``kind`` is ``node``, ``iface``, ``sendtargets`` or ``isns``.
    """

    __slots__ = ("body", "kind", "raw", "unknown", "values")

    def __init__(
        self,
        kind: str,
        values: Mapping[str, str],
        unknown: tuple[str, ...] = (),
        raw: Mapping[str, str] | None = None,
        *,
        body: Body | None = None,
    ) -> None:
        self.kind = kind
        self.values = values
        """What is in effect: every key of the kind but those newer than COMPATIBLE, and those too where stored."""
        self.unknown = unknown
        """Lines kept for whoever understands them."""
        self.raw = raw or {}
        """Stored texts that are not in effect, by name."""
        self.body = body
        """What the record shares with others and needs no second look, where it is known."""

    def get(self, name: str) -> str:
        """The value in effect, "" when empty; KeyError for a name this kind of record does not have."""
        value = self.values.get(name)
        return BY_KIND[self.kind][name].default if value is None else value

    def number(self, name: str) -> int:
        """The value of a key whose type is a number."""
        return int(self.get(name))

    @property
    def family(self) -> int:
        """4 or 6: which settings of its interface a record has. libopeniscsiusr goes by the interface's name alone."""
        return 6 if "ipv6" in self.values.get("iface.iscsi_ifacename", "") else 4

    @property
    def node_key(self) -> NodeKey:
        """Where a node record belongs by what it says."""
        return NodeKey(
            self.get("node.name"),
            self.get("node.conn[0].address"),
            self.number("node.conn[0].port"),
            self.number("node.tpgt"),
            self.get("iface.iscsi_ifacename"),
        )

    def changed(self, values: Mapping[str, str]) -> Record:
        """Another record with these values. KeyError for a name it does not have, ValueError for a text that does not
        fit, which says what would; lookup keys can be set (who may do so is the caller's business).
        """
        keys = BY_KIND[self.kind]
        new = {name: check_value(keys[name], text) for name, text in values.items()}
        raw = {name: text for name, text in self.raw.items() if name not in new}
        body = None if self.body is None or not new.keys().isdisjoint(OWN) else _changed_body(self.body, new)
        return Record(self.kind, {**self.values, **new}, self.unknown, raw, body=body)

    def display(self, *, reveal: bool = False) -> str:
        """The record as open-iscsi shows it; secrets are stars unless ``reveal``. No line end behind the last line."""
        values = self.values
        names, newer, secrets = _shown(self.kind, self.family)
        if not newer.isdisjoint(values):
            # A key newer than COMPATIBLE is shown where somebody set it.
            names = tuple(key.name for key in shown(self.kind, self.family) if not key.since or key.name in values)
        if not reveal:
            values = {**values, **{name: MASK for name in secrets if values.get(name)}}
        lines = [f"{name} = {values.get(name) or EMPTY}" for name in names]
        return "\n".join((f"{BEGIN} {COMPATIBLE}", *lines, END))

    def file_text(self) -> bytes:
        """The record as it is stored: no empty values, secrets in clear, what was not understood at the end."""
        if self.body is not None:
            return self.body.text(FIRST_LINE, self.values)
        values, raw = {**self.values, **self.raw}, self.raw
        names = _stored_names(self.kind, self.family)
        lines = [f"{BEGIN} {COMPATIBLE}"]
        lines += [f"{name} = {value}" for name in names if (value := values.get(name))]
        keys = BY_KIND[self.kind]
        # Settings of the other IP version are not this interface's, yet somebody may have written them by hand.
        for name in values.keys() - _stored_set(self.kind, self.family):
            if values[name] != keys[name].default or name in raw:
                lines.append(f"{name} = {values[name]}")
        lines += self.unknown
        lines.append(END)
        text = "\n".join(lines)
        if text.count("\n") != len(lines) - 1:
            raise DatabaseError("a value of the record contains a line break and cannot be stored")
        return f"{text}\n".encode("utf-8", "surrogateescape")

    @classmethod
    def parse(
        cls, kind: str, data: bytes, *, path: str = "", defaults: Mapping[str, str] | None = None
    ) -> tuple[Record, list[str]]:
        """The record ``data`` is the file of, and what to tell about it: texts that begin with ``path`` and a line.

        Any bytes are read, except what cannot be a record at all (nothing in it, or NUL bytes): DatabaseError.
        ``defaults`` is what lines that are missing mean, by default what is compiled in.
        """
        parts = take_apart(data, BEGIN.encode()) if kind == "node" and defaults is None else None
        body = None if parts is None else _bodies.get((parts.middle, parts.tail))
        if parts is not None and body is not None:
            return cls(kind, {**body.values, **dict(zip(OWN, parts.own, strict=True))}, body=body), []
        text = data.decode("utf-8", "surrogateescape")
        base = compiled(kind) if defaults is None else defaults
        plain = _read_plain(kind, text)
        if plain is not None:
            record = cls(kind, {**base, **plain})
            if parts is not None and len(_bodies) < BODIES_MAX:
                body = _body_of(record)
                # Lines in another order, or missing ones, are not written back as they are.
                if body is not None and (body.middle, body.tail) == (parts.middle, parts.tail):
                    _bodies[(parts.middle, parts.tail)] = body
            return record, []
        if "\0" in text or not text.strip():
            cause = "it is empty" if not text.strip() else "it is not text"
            raise DatabaseError(
                f"this is no record: {cause}", subject=path, hint="`iscsiboot db check --fix` puts it aside"
            )
        return _read_carefully(kind, text, path, base)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record):
            return NotImplemented
        return (self.kind, self.values, self.unknown, self.raw) == (other.kind, other.values, other.unknown, other.raw)

    def __repr__(self) -> str:
        # Values hold secrets.
        return f"Record({self.kind!r}, {len(self.values)} values)"


def _body_of(record: Record) -> Body | None:
    """What a record shares with others, from the text it would be stored as."""
    parts = take_apart(record.file_text(), BEGIN.encode())
    return None if parts is None else Body(parts.middle, parts.tail, record.values)


def _changed_body(body: Body, new: Mapping[str, str]) -> Body | None:
    """The body of records with ``body`` after ``new`` is set."""
    changes = tuple(new.items())
    if changes not in body.changed:
        body.changed[changes] = _body_of(Record("node", {**body.values, **new}))
    return body.changed[changes]


def _read_plain(kind: str, text: str) -> dict[str, str] | None:
    """The values of a text just as both programs write it, None when it is anything else.

    The common case is that every pair was seen before: then one set difference replaces a look at each of 70 lines.
    """
    lines = text.split("\n")
    if len(lines) < 4 or lines[-1] or lines[-2] != END or not lines[0].startswith(BEGIN):
        return None
    good = _good[kind]
    try:
        pairs = dict([line.split(" = ", 1) for line in lines[1:-2]])
    except ValueError:
        return None
    keys = BY_KIND[kind]
    for pair in pairs.items() - good:
        key = keys.get(pair[0])
        if key is None or judge(key, pair[1]) != (pair[1], "") or not pair[1] or pair[1] != pair[1].strip():
            return None
        if len(pair[1]) <= _CACHED_TEXT and len(good) < _CACHED_PAIRS and not key.secret:
            good.add(pair)
    return pairs


def _read_carefully(kind: str, text: str, path: str, base: Mapping[str, str]) -> tuple[Record, list[str]]:
    """Any text, line by line."""
    keys = BY_KIND[kind]
    values, raw, unknown, notices = dict(base), dict[str, str](), list[str](), list[str]()
    for line in read_lines(text):
        key = keys.get(line.name)
        problem = line.problem
        if key is not None:
            raw.pop(line.name, None)
            problem = _take(key, line.value, values, raw, base) or problem
        elif line.name not in HIDDEN:
            unknown.append(line.text)
            problem = problem or f"unknown key {quoted(line.name)} is kept as it is"
        if problem:
            notices.append(f"{path} line {line.number}: {problem}")
    if text.startswith(BEGIN) and END not in text:
        notices.append(f"{path}: it has no end line and may have been cut short")
    return Record(kind, values, tuple(unknown), raw), notices


def _take(key: Key, text: str, values: dict[str, str], raw: dict[str, str], base: Mapping[str, str]) -> str:
    """Put one stored text where it belongs; what to tell about it. The last of several lines counts, as in the peer."""
    if not text:
        return f"{key.name} has no value"
    value, problem = judge(key, text)
    if value is None:
        value = base.get(key.name, key.default)
        problem = f"{problem}; {quoted(value) if not key.secret else 'none'} is used"
    if problem and value != text:
        raw[key.name] = text
    values[key.name] = value
    return problem


@cache
def compiled(kind: str) -> Mapping[str, str]:
    """The values of a record that says nothing."""
    values = {name: key.default for name, key in BY_KIND[kind].items() if not key.since}
    if kind == "node":
        values["iface.iscsi_ifacename"] = "default"
    elif kind == "isns":
        values["discovery.type"] = "isns"
    return values


@cache
def _shown(kind: str, family: int) -> tuple[tuple[str, ...], frozenset[str], tuple[str, ...]]:
    """Names in the order of the terminal, those newer than COMPATIBLE apart, and which are secret."""
    keys = shown(kind, family)
    return (
        tuple(key.name for key in keys if not key.since),
        frozenset(key.name for key in keys if key.since),
        tuple(key.name for key in keys if key.secret),
    )


@cache
def _stored_names(kind: str, family: int) -> tuple[str, ...]:
    return tuple(key.name for key in stored(kind, family))


@cache
def _stored_set(kind: str, family: int) -> frozenset[str]:
    return frozenset(_stored_names(kind, family))


def node_defaults() -> Record:
    """A node record as compiled in; ``Config.node()`` has what iscsid.conf makes of it."""
    return Record("node", compiled("node"))


def iface_defaults(name: str, transport: str = "tcp") -> Record:
    """An interface record that binds nothing. ``default`` and ``iser`` (with its transport) exist in code alone."""
    values = {**compiled("iface"), "iface.iscsi_ifacename": name, "iface.transport_name": transport}
    return Record("iface", values)


def discovery_defaults(kind: str) -> Record:
    """A discovery record (``sendtargets`` or ``isns``) as compiled in."""
    return Record(kind, compiled(kind))
