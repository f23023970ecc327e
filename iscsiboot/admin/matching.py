# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which sessions and which records a pattern means: the match rules of open-iscsi (reference 1.2), in one place.

A pattern is a :class:`iscsiboot.database.names.Pattern`; an empty field, and port -1, match everything. The portal
group tag is never compared. An interface matches by name, and by its transport as well unless the name is ``default``,
which older tools let stand for any transport. Sessions are compared by the portal that was asked for, not by where a
redirect led.

Addresses are the same when their text is, when they are two spellings of one number, or when the resolver says so:
``-p localhost`` means the record of 127.0.0.1. The resolver comes last, and only for names.
"""

from __future__ import annotations

from iscsiboot.database.names import Pattern

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from iscsiboot.database.names import NodeKey
    from iscsiboot.database.record import Record
    from iscsiboot.database.store import Database
    from iscsiboot.sysfs.listing import SessionRow

DEFAULT_IFACE = "default"
_DIGITS_AND_DOTS = frozenset("0123456789.")


class Addresses:
    """Compares addresses; asks the resolver for a name once, however many records there are."""

    __slots__ = ("_numbers",)

    def __init__(self) -> None:
        self._numbers: dict[str, object] = {}

    def same(self, wanted: str, address: str) -> bool:
        """Whether ``address`` is what ``wanted`` asks for; an empty ``wanted`` asks for any."""
        if not wanted or wanted == address:
            return True
        if _is_quad(wanted) and _is_quad(address):
            return False
        number = self._number(wanted)
        return number is not None and number == self._number(address)

    def _number(self, address: str) -> object:
        if address not in self._numbers:
            self._numbers[address] = _resolve(address)
        return self._numbers[address]


def _is_quad(address: str) -> bool:
    """Four numbers without leading zeros: two such texts that differ are two addresses, no resolver needed."""
    if not _DIGITS_AND_DOTS.issuperset(address):
        return False
    parts = address.split(".")
    return len(parts) == 4 and all(part and (part[0] != "0" or part == "0") for part in parts)


def _resolve(address: str) -> object:
    """Family and number of the first address a text stands for, or None. Never raises."""
    # socket costs more than a whole listing; only an address that is spelled in another way gets here.
    import socket

    try:
        found = socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return None
    family, _, _, _, place = found[0]
    return family, place


def rows_of(
    pattern: Pattern | None, rows: Iterable[SessionRow], *, addresses: Addresses | None = None
) -> list[SessionRow]:
    """The sessions a pattern means, in their order; no pattern means all of them."""
    if pattern is None:
        return list(rows)
    known = addresses or Addresses()
    return [row for row in rows if _row_matches(pattern, row, known)]


def _row_matches(pattern: Pattern, row: SessionRow, addresses: Addresses) -> bool:
    return (
        pattern.target in ("", row.target)
        and pattern.port in (-1, row.persistent_port)
        and iface_matches(pattern, row.iface_name, row.transport)
        and addresses.same(pattern.address, row.persistent_address)
    )


def iface_matches(pattern: Pattern, iface: str, transport: str) -> bool:
    """Whether an interface is the pattern's: the name, and the transport of every name but ``default``."""
    if not pattern.iface:
        return True
    if pattern.iface != iface:
        return False
    return iface == DEFAULT_IFACE or pattern.transport in ("", transport)


def pattern_of(key: NodeKey, transport: str) -> Pattern:
    """The pattern that means the sessions of one record."""
    return Pattern(target=key.target, address=key.address, port=key.port, iface=key.iface, transport=transport)


def uses_portal(key: NodeKey, row: SessionRow, addresses: Addresses) -> bool:
    """Whether a session goes to the portal of a record, through whichever interface."""
    return (
        row.target == key.target
        and row.persistent_port == key.port
        and addresses.same(key.address, row.persistent_address)
    )


def records_of(database: Database, pattern: Pattern) -> list[NodeKey]:
    """The keys of the records a pattern means, in the database's order.

    Names are compared first, because they stand in the tree; records are read only where a transport decides.
    """
    addresses = Addresses()
    wanted = Pattern(target=pattern.target, port=pattern.port, iface=pattern.iface)
    if pattern.iface not in ("", DEFAULT_IFACE):
        wanted.transport = pattern.transport
    keys = [key for key, _ in database.nodes(wanted)] if wanted.transport else database.node_keys(wanted)
    return [key for key in keys if addresses.same(pattern.address, key.address)]


def transport_of(record: Record) -> str:
    """The transport a record's session goes through."""
    return record.get("iface.transport_name")
