# SPDX-License-Identifier: LGPL-2.1-or-later
"""An :class:`IbftTable` to bytes, and tools to bend those bytes for tests.

:func:`build` places header, control structure, initiator, then NIC and target of each pair, extensions, and the string
heap behind them, every structure at a multiple of 8. With more than two NICs or targets the control structure grows,
as EDK II's does (Linux's iscsi_ibft refuses such a table; this package reads it).

A deliberately wrong table is built in two steps, from a right one::

    image = build(table)
    nic = parse(image).table.nics[0]
    odd = poke(image, nic.offset + layout.NIC.field("vlan").offset, b"\\xff\\xff")

:func:`poke` makes length and checksum right again unless told not to.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import zip_longest

from iscsiboot.ibft import layout
from iscsiboot.ibft.layout import Kind, Layout, StructureId
from iscsiboot.ibft.structures import (
    IbftExtensions,
    IbftInitiator,
    IbftNic,
    IbftTable,
    IbftTarget,
    Structure,
    encode_address,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HEADER = struct.Struct("<BBHBB")
_STRUCTURE_LAYOUTS: dict[type, Layout] = {
    IbftInitiator: layout.INITIATOR,
    IbftNic: layout.NIC,
    IbftTarget: layout.TARGET,
}


class Heap:
    """The strings of a table, each with a NUL behind it; the first lies at ``start`` in the table."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.content = bytearray()

    def add(self, text: bytes) -> bytes:
        """The length and offset that refer to ``text``, as a field holds them; all zero for an empty one."""
        if not text:
            return bytes(4)
        pair = struct.pack("<HH", len(text), self.start + len(self.content))
        self.content += text + b"\0"
        return pair


def build(table: IbftTable) -> bytes:
    """The table as firmware would leave it in memory. ValueError when it does not fit 64 KiB."""
    pairs = max(2, len(table.nics), len(table.targets))
    control_size = layout.PAIRS_OFFSET + layout.PAIR_SIZE * pairs
    placed = list(_placed(table, layout.CONTROL_OFFSET + control_size))
    end = max((start + _size(structure) for structure, start in placed), default=layout.CONTROL_OFFSET + control_size)
    heap = Heap(_aligned(end))
    try:
        blocks = [(start, encode(structure, heap)) for structure, start in placed]
        control = _control(table, placed, control_size, pairs)
    except struct.error as error:
        raise ValueError("the table is larger than 16-bit offsets reach") from error
    size = heap.start + len(heap.content)
    if size > layout.TABLE_MAX:
        raise ValueError(f"the table has {size} bytes, at most {layout.TABLE_MAX} are possible")
    image = bytearray(size)
    image[: layout.ACPI_HEADER_SIZE] = _acpi_header(table)
    image[layout.CONTROL_OFFSET : layout.CONTROL_OFFSET + control_size] = control
    for start, block in blocks:
        image[start : start + len(block)] = block
    image[heap.start :] = heap.content
    return seal(image)


def seal(image: bytes | bytearray) -> bytes:
    """``image`` with the length field and the checksum made right."""
    sealed = bytearray(image)
    struct.pack_into("<I", sealed, layout.LENGTH_OFFSET, len(sealed))
    sealed[layout.CHECKSUM_OFFSET] = 0
    sealed[layout.CHECKSUM_OFFSET] = -sum(sealed) & 0xFF
    return bytes(sealed)


def poke(image: bytes, offset: int, raw: bytes, *, sealed: bool = True) -> bytes:
    """``image`` with ``raw`` written at ``offset``; with ``sealed=False`` length and checksum stay as they fall."""
    if not 0 <= offset <= len(image) - len(raw):
        raise ValueError(f"{len(raw)} bytes at {offset} are not inside the table's {len(image)}")
    changed = bytearray(image)
    changed[offset : offset + len(raw)] = raw
    return seal(changed) if sealed else bytes(changed)


def encode(structure: Structure, heap: Heap) -> bytes:
    """One structure with its header; its strings go to ``heap``."""
    if isinstance(structure, IbftExtensions):
        return _header(StructureId.EXTENSIONS, _size(structure), structure.index, structure.flags) + structure.body
    own = _STRUCTURE_LAYOUTS[type(structure)]
    block = bytearray(own.size)
    block[: layout.STRUCTURE_HEADER_SIZE] = _header(own.id, own.size, structure.index, structure.flags)
    for spec in own.fields:
        raw = _field(spec.kind, getattr(structure, spec.attribute), heap)
        block[spec.offset : spec.offset + len(raw)] = raw
    return bytes(block)


def _field(kind: Kind, value: Any, heap: Heap) -> bytes:
    if kind in (Kind.U8, Kind.U16):
        return int(value).to_bytes(kind.size, "little")
    if kind is Kind.ADDRESS:
        return encode_address(value)
    if kind is Kind.MAC:
        return bytes(6) if value is None else bytes(value)
    if kind is Kind.LUN:
        return bytes(value.wire)
    if kind is Kind.SECRET:
        return heap.add(b"" if value is None else value.reveal())
    return heap.add(value.encode("utf-8"))


def _header(id_: StructureId, size: int, index: int, flags: int) -> bytes:
    return _HEADER.pack(id_, layout.STRUCTURE_VERSION, size, index, flags)


def _acpi_header(table: IbftTable) -> bytes:
    """Length and checksum stay zero for :func:`seal`."""
    return (
        table.signature
        + bytes(4)
        + bytes((layout.REVISION, 0))
        + table.oem_id.ljust(layout.OEM_ID_SIZE, b"\0")
        + table.oem_table_id.ljust(layout.OEM_TABLE_ID_SIZE, b"\0")
        + table.reserved
    )


def _aligned(offset: int) -> int:
    return -(-offset // layout.ALIGNMENT) * layout.ALIGNMENT


def _size(structure: Structure) -> int:
    if isinstance(structure, IbftExtensions):
        return layout.STRUCTURE_HEADER_SIZE + len(structure.body)
    return _STRUCTURE_LAYOUTS[type(structure)].size


def _placed(table: IbftTable, start: int) -> Iterator[tuple[Structure, int]]:
    """Every structure with its place, in the order firmware writes them."""
    order: list[Structure | None] = [table.initiator]
    for nic, target in zip_longest(table.nics, table.targets):
        order += [nic, target]
    order.append(table.extensions)
    for structure in order:
        if structure is not None:
            start = _aligned(start)
            yield structure, start
            start += _size(structure)


def _control(table: IbftTable, placed: list[tuple[Structure, int]], size: int, pairs: int) -> bytes:
    offsets: dict[type, list[int]] = {IbftInitiator: [], IbftNic: [], IbftTarget: [], IbftExtensions: []}
    for structure, start in placed:
        offsets[type(structure)].append(start)
    numbers = [(offsets[IbftExtensions] or [0])[0], (offsets[IbftInitiator] or [0])[0]]
    for pair in range(pairs):
        for kind in (IbftNic, IbftTarget):
            numbers.append(offsets[kind][pair] if pair < len(offsets[kind]) else 0)
    header = _header(StructureId.CONTROL, size, 0, table.control.flags)
    return header + struct.pack(f"<{len(numbers)}H", *numbers)
