# SPDX-License-Identifier: LGPL-2.1-or-later
"""Additional header segments: what a header of 48 bytes has no room for (RFC 7143 section 11.2.2).

Two kinds exist, both of the SCSI Command: the rest of a CDB longer than 16 bytes, and the read length of a command
that transfers in both directions. A kind the RFC does not assign survives decoding, so that its owner can refuse it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from iscsiboot.initiator.errors import ProtocolViolation
from iscsiboot.initiator.pdu.header import AHS_LENGTH_MAX, pad, padded_length
from iscsiboot.initiator.pdu.scsi_codes import CDB_LENGTH
from iscsiboot.initiator.pdu.scsi_codes import CDB_LENGTH_MAX as CDB_LENGTH_MAX

_PREFIX = 3
"""Bytes before the specific ones: length and type."""
_KIND_MASK = 0x3F


class AhsKind(IntEnum):
    """The AHS code (section 11.2.2.1)."""

    EXTENDED_CDB = 1
    READ_LENGTH = 2


@dataclass(frozen=True, slots=True)
class Ahs:
    """One segment, whatever it means."""

    kind: int
    """0 to 63; :class:`AhsKind` has the assigned ones."""
    specific: bytes
    """Everything after the type: AHSLength counts these bytes, the first of which is reserved in both kinds."""

    def encode(self) -> bytes:
        """The segment padded to whole words; OverflowError when it has no place behind a header."""
        if not 0 <= self.kind <= _KIND_MASK:
            raise OverflowError(f"kind {self.kind} of additional header does not fit 6 bits")
        if padded_length(_PREFIX + len(self.specific)) > AHS_LENGTH_MAX:
            raise OverflowError(f"an additional header of {len(self.specific)} bytes is too long")
        return pad(len(self.specific).to_bytes(2, "big") + bytes([self.kind]) + self.specific)


def encode_list(headers: Iterable[Ahs]) -> bytes:
    """All segments in their order; OverflowError when they are more than TotalAHSLength can say."""
    wire = b"".join(header.encode() for header in headers)
    if len(wire) > AHS_LENGTH_MAX:
        raise OverflowError(f"additional headers of {len(wire)} bytes are more than {AHS_LENGTH_MAX}")
    return wire


def decode_list(wire: bytes) -> tuple[Ahs, ...]:
    """The inverse of :func:`encode_list`; :class:`ProtocolViolation` when a segment goes beyond the end."""
    if len(wire) % 4 or len(wire) > AHS_LENGTH_MAX:
        raise ProtocolViolation(f"additional headers have {len(wire)} bytes: not whole words, or too many")
    headers: list[Ahs] = []
    position = 0
    while position < len(wire):
        length = int.from_bytes(wire[position : position + 2], "big")
        start = position + _PREFIX
        # Each turn goes at least one word on, as the prefix alone is padded to one.
        position += padded_length(_PREFIX + length)
        if position > len(wire):
            raise ProtocolViolation(f"an additional header announces {length} bytes, {len(wire) - start} are left")
        headers.append(Ahs(wire[start - 1] & _KIND_MASK, wire[start : start + length]))
    return tuple(headers)


def split_cdb(cdb: bytes) -> tuple[bytes, tuple[Ahs, ...]]:
    """The 16 bytes for the header, filled up with zeros, and the segment for the rest when there is one."""
    if len(cdb) > CDB_LENGTH_MAX:
        raise OverflowError(f"a CDB of {len(cdb)} bytes is longer than {CDB_LENGTH_MAX}")
    head, rest = cdb[:CDB_LENGTH].ljust(CDB_LENGTH, b"\0"), cdb[CDB_LENGTH:]
    return head, (Ahs(AhsKind.EXTENDED_CDB, b"\0" + rest),) if rest else ()


def join_cdb(head: bytes, headers: Iterable[Ahs]) -> bytes:
    """The inverse of :func:`split_cdb`, except for the zeros; :class:`ProtocolViolation` for a segment it cannot be."""
    found = _only(AhsKind.EXTENDED_CDB, headers)
    if found is None:
        return head
    # AHSLength is CDBLength - 15, and a CDB of 16 bytes or less has no business here (section 11.2.2.3).
    if not 2 <= len(found.specific) <= CDB_LENGTH_MAX - CDB_LENGTH + 1:
        raise ProtocolViolation(f"an extended CDB has {len(found.specific)} bytes")
    return head + found.specific[1:]


def read_length(length: int) -> Ahs:
    """The segment that carries the expected length, in bytes, of the read half of a bidirectional command."""
    return Ahs(AhsKind.READ_LENGTH, b"\0" + length.to_bytes(4, "big"))


def find_read_length(headers: Iterable[Ahs]) -> int | None:
    """The inverse of :func:`read_length`, None when there is no such segment; :class:`ProtocolViolation`."""
    found = _only(AhsKind.READ_LENGTH, headers)
    if found is None:
        return None
    if len(found.specific) != 5:
        raise ProtocolViolation(f"a bidirectional read length has {len(found.specific)} bytes, not 5")
    return int.from_bytes(found.specific[1:], "big")


def _only(kind: AhsKind, headers: Iterable[Ahs]) -> Ahs | None:
    found = [header for header in headers if header.kind == kind]
    if len(found) > 1:
        raise ProtocolViolation(f"{len(found)} additional headers of kind {int(kind)} came, one is allowed")
    return found[0] if found else None
