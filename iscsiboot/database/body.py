# SPDX-License-Identifier: LGPL-2.1-or-later
"""What thousands of node records have in common: everything but target, tag, address and port.

A machine with 5,000 records has a handful of different ones if their names are left out. So the text between the
names is understood once (:class:`Body`) and recognized by its bytes from then on, both when records are read and when
a changed one is written. This is only a shorter way to the same result, and a test compares the two ways.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

BODIES_MAX = 256
"""How many are remembered; a database with more different records is read the long way."""

OWN = ("node.name", "node.tpgt", "node.conn[0].address", "node.conn[0].port")
"""What a record does not share."""

NAME, TAG = b"\nnode.name = ", b"\nnode.tpgt = "
ADDRESS, PORT = b"\nnode.conn[0].address = ", b"\nnode.conn[0].port = "


class Body:
    """The shared part of node records: two stretches of their file, and the values these say."""

    __slots__ = ("changed", "middle", "tail", "values")

    def __init__(self, middle: bytes, tail: bytes, values: Mapping[str, str]) -> None:
        self.middle = middle
        self.tail = tail
        self.values = values
        """All values; those of OWN are some record's."""
        self.changed: dict[tuple[tuple[str, str], ...], Body | None] = {}
        """The body with these values set, None where the text is not simple any more."""

    def text(self, begin: bytes, values: Mapping[str, str]) -> bytes:
        """The file of the record with this body whose own values are in ``values``; ``begin`` is its first line."""
        name, tag, address, port = (values[key].encode("utf-8", "surrogateescape") for key in OWN)
        parts = (begin, NAME, name, TAG, tag, self.middle, ADDRESS, address, PORT, port, self.tail)
        return b"".join(parts)


class Parts:
    """A file taken apart: the four own values as they stand there, and the stretches between."""

    __slots__ = ("middle", "own", "tail")

    def __init__(self, own: tuple[str, str, str, str], middle: bytes, tail: bytes) -> None:
        self.own = own
        self.middle = middle
        """From behind the tag to before the address; begins with a line end."""
        self.tail = tail
        """From behind the port to the end of the file; begins with a line end."""


def take_apart(data: bytes, begin: bytes) -> Parts | None:
    """The parts of a file that begins with ``begin`` and is laid out as both programs do; None for any other.

    Only values that need no second look are accepted: printable ASCII without blanks, numbers in digits.
    """
    name_at = data.find(b"\n")
    if not data.startswith(begin) or not data.startswith(NAME, name_at):
        return None
    tag_at = data.find(b"\n", name_at + 1)
    address_at = data.find(ADDRESS)
    port_at = data.find(b"\n", address_at + 1)
    middle_at, tail_at = data.find(b"\n", tag_at + 1), data.find(b"\n", port_at + 1)
    if address_at < middle_at or not data.startswith(TAG, tag_at) or not data.startswith(PORT, port_at):
        return None
    own = (
        data[name_at + len(NAME) : tag_at].decode("ascii", "replace"),
        data[tag_at + len(TAG) : middle_at].decode("ascii", "replace"),
        data[address_at + len(ADDRESS) : port_at].decode("ascii", "replace"),
        data[port_at + len(PORT) : tail_at].decode("ascii", "replace"),
    )
    if tail_at < 0 or not is_simple(own):
        return None
    return Parts(own, data[middle_at:address_at], data[tail_at:])


def is_simple(own: tuple[str, str, str, str]) -> bool:
    """Whether the four values are certainly canonical."""
    name, tag, address, port = own
    words = name.isascii() and name.isprintable() and " " not in name and address.isascii() and address.isprintable()
    return words and " " not in address and 0 < len(name) <= 255 and 0 < len(address) <= 255 and _digits(tag, port)


def _digits(tag: str, port: str) -> bool:
    tag_is_good = tag == "-1" or (tag.isdigit() and len(tag) <= 4 and (tag[0] != "0" or tag == "0"))
    return tag_is_good and port.isdigit() and len(port) <= 4 and port[0] != "0"
