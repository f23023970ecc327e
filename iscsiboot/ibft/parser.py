# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bytes to an :class:`IbftTable` and findings. Never raises for what the bytes hold, never reads outside the table.

How it stays inside: the table's end is the smaller of the header's length and the bytes there are; every structure
and every string is checked against it before a byte is read; the control structure is read once, front to back, and
no structure leads to another, so there is nothing to loop on. A byte belongs to one structure only: what overlaps an
earlier structure is not read.

How lenient it is (each case is known from the field or accepted by the kernel's iscsi_ibft):

* bytes behind the table's end (a memory dump) are no error;
* a structure in another slot than its kind's is taken for what its own header says;
* a structure longer than the specification's is read as far as it is known (a later version may append);
* a string's length that counts the NUL, and strings without one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from iscsiboot.errors import quoted
from iscsiboot.ibft import layout
from iscsiboot.ibft.checks import check_values
from iscsiboot.ibft.findings import Finding, FindingLog, Severity
from iscsiboot.ibft.layout import Field, Kind, Layout, StructureId
from iscsiboot.ibft.structures import (
    STRING_MAX,
    IbftControl,
    IbftExtensions,
    IbftInitiator,
    IbftNic,
    IbftTable,
    IbftTarget,
    Structure,
    decode_address,
)
from iscsiboot.model.credentials import SECRET_MAX_BYTES, Secret
from iscsiboot.model.lun import Lun

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_PAIR = struct.Struct("<HH")
_HEADER = struct.Struct("<BBHBB")
_STRUCTURES: dict[StructureId, type[IbftInitiator] | type[IbftNic] | type[IbftTarget]] = {
    StructureId.INITIATOR: IbftInitiator,
    StructureId.NIC: IbftNic,
    StructureId.TARGET: IbftTarget,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ParseResult:
    """What became of some bytes."""

    table: IbftTable | None
    """None when the bytes are no iBFT, or one whose layout is unknown."""
    findings: tuple[Finding, ...]
    intact: bool
    """Signature, revision, length and checksum are right: only then may anything act on the table."""

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that made the parser leave something out."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.ERROR)


@dataclass(frozen=True, slots=True)
class _Place:
    """A structure that was found and lies where nothing else does."""

    layout: Layout
    offset: int
    length: int
    index: int
    flags: int

    @property
    def name(self) -> str:
        return f"{self.layout.name} {self.index}"


class _Image:
    """The bytes of a table, and which of them belong to a structure."""

    def __init__(self, data: bytes, log: FindingLog) -> None:
        self.data = data
        self.log = log
        self._taken = bytearray(len(data))

    def free(self, start: int, length: int) -> bool:
        """Whether no structure has any of these bytes, all of which are inside the table."""
        return self._taken.find(1, start, start + length) < 0

    def take(self, start: int, length: int) -> None:
        """Give the bytes to a structure."""
        self._taken[start : start + length] = b"\1" * length

    def u16(self, offset: int) -> int:
        """Two bytes that are known to be inside."""
        number: int = _U16.unpack_from(self.data, offset)[0]
        return number


def parse(data: bytes) -> ParseResult:
    """Read a table. ``data`` may be longer than it (a dump of memory) or anything at all."""
    log = FindingLog()
    end, intact = _check_header(data, log)
    if end is None:
        return ParseResult(table=None, findings=log.result(), intact=False)
    image = _Image(bytes(data[:end]), log)
    places = _locate(image)
    if places is None:
        return ParseResult(table=None, findings=log.result(), intact=False)
    structures = [_read(image, place) for place in places]
    nics = tuple(item for item in structures if isinstance(item, IbftNic))
    targets = tuple(item for item in structures if isinstance(item, IbftTarget))
    table = IbftTable(
        signature=image.data[:4],
        oem_id=_padded(image.data, layout.OEM_ID_OFFSET, layout.OEM_ID_SIZE),
        oem_table_id=_padded(image.data, layout.OEM_TABLE_ID_OFFSET, layout.OEM_TABLE_ID_SIZE),
        reserved=image.data[layout.RESERVED_OFFSET : layout.RESERVED_OFFSET + layout.RESERVED_SIZE],
        control=IbftControl(flags=image.data[layout.CONTROL_OFFSET + layout.FLAGS_OFFSET]),
        initiator=next((item for item in structures if isinstance(item, IbftInitiator)), None),
        nics=nics,
        targets=targets,
        extensions=next((item for item in structures if isinstance(item, IbftExtensions)), None),
    )
    check_values(table, log)
    return ParseResult(table=table, findings=log.result(), intact=intact)


def _padded(data: bytes, offset: int, size: int) -> bytes:
    return data[offset : offset + size].rstrip(b"\0")


def _check_header(data: bytes, log: FindingLog) -> tuple[int | None, bool]:
    """Where the table ends (None when there is none to read) and whether header, length and checksum are right."""
    smallest = layout.ACPI_HEADER_SIZE + layout.CONTROL_SIZE
    if data[:4] not in layout.SIGNATURES:
        log.error("header", "signature", f"{quoted(bytes(data[:4]))} is not the signature of an iBFT", 0)
        return None, False
    if len(data) < smallest:
        log.error("header", "length", f"only {len(data)} bytes; header and control structure alone are {smallest}", 4)
        return None, False
    (length,) = _U32.unpack_from(data, layout.LENGTH_OFFSET)
    revision = data[layout.REVISION_OFFSET]
    if revision != layout.REVISION:
        # The kernel's iscsi_ibft refuses these too; another revision may have its fields elsewhere.
        log.error("header", "revision", f"revision {revision}, only 1 is known", layout.REVISION_OFFSET)
        return None, False
    if not smallest <= length <= layout.TABLE_MAX:
        problem = f"the length says {length} bytes, possible are {smallest} to {layout.TABLE_MAX}"
        log.error("header", "length", problem, layout.LENGTH_OFFSET)
        return min(len(data), layout.TABLE_MAX), False
    if length > len(data):
        problem = f"the length says {length} bytes, there are {len(data)}: the table is cut off"
        log.error("header", "length", problem, layout.LENGTH_OFFSET)
        return len(data), False
    if length < len(data):
        log.info("header", "length", f"{len(data) - length} bytes follow the table", layout.LENGTH_OFFSET)
    total = sum(data[:length]) & 0xFF
    if total:
        problem = f"checksum is wrong: all bytes together give {total:#04x} instead of 0"
        log.error("header", "checksum", problem, layout.CHECKSUM_OFFSET)
    return length, total == 0


def _locate(image: _Image) -> list[_Place] | None:
    """Every structure the control structure leads to, in its order; None without a control structure."""
    base = layout.CONTROL_OFFSET
    id_, version, length, index, _flags = _HEADER.unpack_from(image.data, base)
    log = image.log
    if id_ != StructureId.CONTROL:
        log.error("control", "id", f"structure id {id_} where the control structure (1) must be", base)
        return None
    if version != layout.STRUCTURE_VERSION:
        log.warning("control", "version", f"version {version}, only 1 is known", base + layout.VERSION_OFFSET)
    if index != 0:
        # The kernel refuses the whole table for it; nothing depends on the number.
        log.warning("control", "index", f"index {index} instead of 0", base + layout.INDEX_OFFSET)
    at = base + layout.STRUCTURE_LENGTH_OFFSET
    if length < layout.CONTROL_SIZE or base + length > len(image.data):
        log.error("control", "length", f"length {length}; taken for {layout.CONTROL_SIZE}, the specification's", at)
        length = layout.CONTROL_SIZE
    elif (length - layout.PAIRS_OFFSET) % layout.PAIR_SIZE:
        log.warning("control", "length", f"length {length} ends inside a pair of offsets", at)
    image.take(0, base + length)
    # Structures are placed in two rounds: a string is only good where no structure lies, so all must be known first.
    places = []
    for label, where, expected in _slots(length):
        place = _place(image, label, where, expected)
        if place is not None:
            places.append(place)
    return _without_duplicates(places, log)


def _slots(length: int) -> list[tuple[str, int, StructureId]]:
    """The control structure's offset fields: label, where they lie in the table, what they should lead to."""
    base = layout.CONTROL_OFFSET
    slots = [("initiator offset", base + layout.INITIATOR_OFFSET, StructureId.INITIATOR)]
    for pair in range((length - layout.PAIRS_OFFSET) // layout.PAIR_SIZE):
        at = base + layout.PAIRS_OFFSET + pair * layout.PAIR_SIZE
        slots.append((f"NIC {pair} offset", at, StructureId.NIC))
        slots.append((f"target {pair} offset", at + 2, StructureId.TARGET))
    slots.append(("extensions offset", base + layout.EXTENSIONS_OFFSET, StructureId.EXTENSIONS))
    return slots


def _place(image: _Image, label: str, where: int, expected: StructureId) -> _Place | None:
    """Check one offset and the header it leads to; the structure's bytes are taken when all is well."""
    start, log = image.u16(where), image.log
    if start == 0:
        return None
    if start + layout.STRUCTURE_HEADER_SIZE > len(image.data):
        log.error("control", label, f"{start:#x} is outside the table of {len(image.data)} bytes", where)
        return None
    if start % layout.ALIGNMENT:
        log.warning("control", label, f"{start:#x} is no multiple of {layout.ALIGNMENT}", where)
    id_, version, length, index, flags = _HEADER.unpack_from(image.data, start)
    own = layout.LAYOUTS.get(id_)
    if own is None:
        log.error("control", label, f"leads to a structure with id {id_} at {start:#x}", where)
        return None
    if id_ != expected:
        log.warning("control", label, f"leads to {own.name} {index} at {start:#x}", where)
    name = f"{own.name} {index}"
    if version != layout.STRUCTURE_VERSION:
        log.warning(name, "version", f"version {version}, only 1 is known", start + layout.VERSION_OFFSET)
    at = start + layout.STRUCTURE_LENGTH_OFFSET
    if length < own.size:
        log.error(name, "length", f"length {length}, the structure has {own.size} bytes; not read", at)
        return None
    if start + length > len(image.data):
        log.error(name, "length", f"{length} bytes from {start:#x} reach beyond the table; not read", at)
        return None
    if not image.free(start, length):
        log.error("control", label, f"{name} at {start:#x} overlaps another structure; not read", where)
        return None
    if length > own.size and own.id is not StructureId.EXTENSIONS:
        log.warning(name, "length", f"length {length}, the specification has {own.size}; the rest is not read", at)
    image.take(start, length)
    return _Place(own, start, length, index, flags)


def _without_duplicates(places: list[_Place], log: FindingLog) -> list[_Place]:
    """One initiator, one extensions structure, and one NIC or target for an index: a reference names exactly one."""
    seen: set[tuple[StructureId, int]] = set()
    kept = []
    for place in places:
        single = place.layout.id in (StructureId.INITIATOR, StructureId.EXTENSIONS)
        key = (place.layout.id, 0 if single else place.index)
        if key in seen:
            problem = f"there is another {place.layout.name}{'' if single else f' {place.index}'} before; not read"
            log.error(place.name, "index", problem, place.offset + layout.INDEX_OFFSET)
            continue
        seen.add(key)
        kept.append(place)
    return kept


def _read(image: _Image, place: _Place) -> Structure:
    """The values of a structure whose place was checked."""
    if place.layout.id is StructureId.EXTENSIONS:
        body = image.data[place.offset + layout.STRUCTURE_HEADER_SIZE : place.offset + place.length]
        return IbftExtensions(index=place.index, flags=place.flags, offset=place.offset, body=body)
    values: dict[str, Any] = {spec.attribute: _value(image, place, spec) for spec in place.layout.fields}
    return _STRUCTURES[place.layout.id](index=place.index, flags=place.flags, offset=place.offset, **values)


def _value(image: _Image, place: _Place, spec: Field) -> Any:
    """One field, in the type the structure has for it; a string that cannot be read is empty, with a finding."""
    at = place.offset + spec.offset
    raw = image.data[at : at + spec.kind.size]
    if spec.kind is Kind.U8:
        return raw[0]
    if spec.kind is Kind.U16:
        return image.u16(at)
    if spec.kind is Kind.ADDRESS:
        return decode_address(raw)
    if spec.kind is Kind.MAC:
        return None if raw == bytes(6) else raw
    if spec.kind is Kind.LUN:
        return Lun(raw)
    content = _heap(image, place, spec, at)
    if spec.kind is Kind.SECRET:
        return _secret(content, image, place, spec, at)
    return _text(content, image, place, spec, at)


def _heap(image: _Image, place: _Place, spec: Field, at: int) -> bytes:
    """The bytes of a string or secret up to its first NUL; empty when not set or not readable."""
    length, start = _PAIR.unpack_from(image.data, at)
    log = image.log
    if length == 0:
        return b""
    if start == 0:
        log.error(place.name, spec.label, f"{length} bytes long, but without an offset", at)
        return b""
    if start + length > len(image.data):
        problem = f"{length} bytes at {start:#x} reach beyond the table of {len(image.data)} bytes"
        log.error(place.name, spec.label, problem, at)
        return b""
    if not image.free(start, length):
        log.error(place.name, spec.label, f"{length} bytes at {start:#x} lie inside a structure", at)
        return b""
    if length > STRING_MAX:
        log.error(place.name, spec.label, f"{length} bytes long, at most {STRING_MAX} make sense", at)
        return b""
    content = image.data[start : start + length]
    if b"\0" in content:
        # Some firmware counts the NUL. The kernel prints with "%.*s", which stops at it as well.
        content = content[: content.index(b"\0")]
        log.info(place.name, spec.label, f"the length {length} counts a NUL, which ends the string", at)
    return content


def _text(content: bytes, image: _Image, place: _Place, spec: Field, at: int) -> str:
    """A string that can be shown and used, else empty."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        image.log.error(place.name, spec.label, f"{quoted(content)} is not UTF-8", at)
        return ""
    if not text.isprintable():
        image.log.error(place.name, spec.label, f"{quoted(text)} has control characters", at)
        return ""
    return text


def _secret(content: bytes, image: _Image, place: _Place, spec: Field, at: int) -> Secret | None:
    """A secret, None when there is none. Nothing about its bytes but their number enters a finding."""
    if not content:
        return None
    if len(content) > SECRET_MAX_BYTES:
        problem = f"{len(content)} bytes long, at most {SECRET_MAX_BYTES} are possible"
        image.log.error(place.name, spec.label, problem, at)
        return None
    return Secret(content)
