# SPDX-License-Identifier: LGPL-2.1-or-later
"""Setting the same values in thousands of node records by their bytes.

Records of one machine differ in target, tag, address and port and in little else (:mod:`iscsiboot.database.body`). So
what a change makes of the rest is worked out once, from a record that was read and written the long way, and put in
place of the same bytes from then on. This is only a shorter way to the same result, and a test compares the two ways.
"""

from __future__ import annotations

from iscsiboot.database.body import ADDRESS, BODIES_MAX, NAME, PORT, TAG, is_simple
from iscsiboot.database.record import BEGIN, FIRST_LINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from iscsiboot.database.body import Body
    from iscsiboot.database.names import NodeKey
    from iscsiboot.database.record import Record

_BEGIN = BEGIN.encode()


class Replacing:
    """What one change makes of the files of node records, as far as it was seen."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[tuple[str, bytes, bytes], Body] = {}
        """Interface by the record's place and both stretches of its file -> what they become."""

    def text(self, key: NodeKey, data: bytes) -> bytes | None:
        """What ``data``, the file of the record at ``key``, becomes; None when it has to be read the long way.

        It has to unless, but for the four values that its place tells as well, it is byte by byte a file that was
        learned: then it says nothing that is not understood, contradicts its place nowhere, and nothing is to be told.
        """
        port, tag = str(key.port), str(key.tpgt)
        # Which release wrote the first line is not asked (Record.parse does not either), and ours replaces it.
        head_at = data.find(b"\n")
        head = b"".join((NAME, key.target.encode("utf-8", "surrogateescape"), TAG, tag.encode()))
        address = key.address.encode("utf-8", "surrogateescape")
        place = b"".join((ADDRESS, address, PORT, port.encode()))
        middle_at = head_at + len(head)
        at = data.find(place, middle_at)
        if at < 0 or not data.startswith(head, head_at) or not data.startswith(_BEGIN):
            return None
        new = self._known.get((key.iface, data[middle_at:at], data[at + len(place) :]))
        if new is None or not is_simple((key.target, tag, key.address, port)):
            return None
        return b"".join((FIRST_LINE, head, new.middle, place, new.tail))

    def learn(self, key: NodeKey, old: Record, new: Record) -> None:
        """Remember what the change made of the record at ``key``."""
        if old.body is not None and new.body is not None and len(self._known) < BODIES_MAX:
            self._known[(key.iface, old.body.middle, old.body.tail)] = new.body
