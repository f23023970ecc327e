# SPDX-License-Identifier: LGPL-2.1-or-later
"""The SCSI commands probe needs: CDBs, and what comes back as values (SPC-4, SBC-3).

Each command is a :class:`Request`: the bytes to send, how much may come back, and the parser of that. A parser takes
whatever a target sent, cut or too long, and gives a value or :class:`~iscsiboot.initiator.errors.ProtocolViolation`;
lengths inside an answer are only ever used after they are cut to what came. Text of a target is printable when it
leaves here. How a command is retried and answers make facts about a unit is :mod:`iscsiboot.initiator.scsi_unit`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, TypeVar

from iscsiboot.errors import printable
from iscsiboot.initiator.errors import ProtocolViolation
from iscsiboot.model.lun import Lun

T_co = TypeVar("T_co", covariant=True)

LUNS_MAX = 16384
"""LUNs of one target that are looked at: as many as single-level addressing can name (SAM-5 section 4.7)."""
INQUIRY_LENGTH = 252
"""A multiple of four below 256: old targets misread the upper byte of the allocation length (SPC-2 had none)."""
BLOCK_MIN, BLOCK_MAX = 512, 65536
READ_MAX = 64 * 1024
"""Bytes one READ asks for: below what any target takes in one command."""
_LUN_ENTRY = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Request(Generic[T_co]):
    """A command that reads, or moves no data."""

    name: str
    """SPC's name of it, for messages and timings: ``READ CAPACITY(10)``."""
    cdb: bytes
    length: int
    """Bytes that may come back at most: the expected data transfer length."""
    parse: Callable[[bytes], T_co]
    """Makes the answer's value; raises ProtocolViolation."""


class DeviceType(IntEnum):
    """Peripheral device types (SPC-4 table 148)."""

    DISK = 0x00
    TAPE = 0x01
    PROCESSOR = 0x03
    OPTICAL = 0x05
    OPTICAL_MEMORY = 0x07
    CHANGER = 0x08
    CONTROLLER = 0x0C
    ENCLOSURE = 0x0D
    SIMPLE_DISK = 0x0E
    OBJECT_STORE = 0x11
    ZONED = 0x14
    WELL_KNOWN = 0x1E
    NONE = 0x1F

    @staticmethod
    def words(value: int) -> str:
        """``disk``, ``optical memory``, or ``device type 0x19`` for one that is not assigned."""
        try:
            return DeviceType(value).name.lower().replace("_", " ")
        except ValueError:
            return f"device type {value:#04x}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Inquiry:
    """Standard INQUIRY data (SPC-4 section 6.6.2)."""

    qualifier: int
    """0: a device is there; 1: supported and absent; 3: this LUN cannot have one."""
    device_type: int
    removable: bool
    version: int
    vendor: str
    product: str
    revision: str

    @property
    def present(self) -> bool:
        """Whether there is a device behind the LUN."""
        return self.qualifier == 0 and self.device_type != DeviceType.NONE


@dataclass(frozen=True, kw_only=True, slots=True)
class Identifier:
    """One designator of a logical unit (SPC-4 section 7.8.6)."""

    kind: str
    """``naa``, ``eui``, ``t10``, ``name``."""
    text: str
    """Hexadecimal digits, or printable text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LunList:
    """An answer to REPORT LUNS."""

    luns: tuple[Lun, ...]
    needed: int
    """Bytes the whole list takes; more than was asked for means that this one is cut."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity:
    """How large a block device is."""

    blocks: int
    block_size: int
    """Bytes, a power of two."""
    physical_block_size: int
    thin: bool = False
    """Thinly provisioned: it says it can unmap blocks (LBPME)."""

    @property
    def size(self) -> int:
        """Bytes."""
        return self.blocks * self.block_size


def device_text(raw: bytes) -> str:
    """A text field of a target: padding gone, everything that is not printable ASCII escaped."""
    return printable(raw.strip(b"\0 ").decode("ascii", "backslashreplace"))


# INQUIRY


def inquiry() -> Request[Inquiry]:
    """Standard INQUIRY data."""
    return Request(name="INQUIRY", cdb=_inquiry_cdb(None), length=INQUIRY_LENGTH, parse=parse_inquiry)


def vital_pages() -> Request[frozenset[int]]:
    """Which vital product data pages there are (page 00h)."""
    return Request(name="INQUIRY page 00h", cdb=_inquiry_cdb(0x00), length=INQUIRY_LENGTH, parse=parse_vital_pages)


def serial_number() -> Request[str]:
    """The unit's serial number (page 80h)."""
    return Request(name="INQUIRY page 80h", cdb=_inquiry_cdb(0x80), length=INQUIRY_LENGTH, parse=parse_serial_number)


def identification() -> Request[tuple[Identifier, ...]]:
    """The names of the logical unit that are the same on every path (page 83h)."""
    return Request(name="INQUIRY page 83h", cdb=_inquiry_cdb(0x83), length=INQUIRY_LENGTH, parse=parse_identification)


def _inquiry_cdb(page: int | None) -> bytes:
    return bytes([0x12, page is not None, page or 0, *INQUIRY_LENGTH.to_bytes(2, "big"), 0])


def parse_inquiry(data: bytes) -> Inquiry:
    """At least the first five bytes; text a target did not send is empty."""
    if len(data) < 5:
        raise ProtocolViolation(f"INQUIRY data has {len(data)} bytes, at least 5 are due")
    data = data[: 5 + data[4]]
    return Inquiry(
        qualifier=data[0] >> 5,
        device_type=data[0] & 0x1F,
        removable=bool(data[1] & 0x80),
        version=data[2],
        vendor=device_text(data[8:16]),
        product=device_text(data[16:32]),
        revision=device_text(data[32:36]),
    )


def _vital_page(data: bytes, page: int) -> bytes:
    """The body of a vital product data page."""
    if len(data) < 4:
        raise ProtocolViolation(f"vital product data has {len(data)} bytes, at least 4 are due")
    if data[1] != page:
        raise ProtocolViolation(f"page {data[1]:02x}h came, {page:02x}h was asked for")
    return data[4 : 4 + int.from_bytes(data[2:4], "big")]


def parse_vital_pages(data: bytes) -> frozenset[int]:
    """The page codes in page 00h."""
    return frozenset(_vital_page(data, 0x00))


def parse_serial_number(data: bytes) -> str:
    """The text of page 80h."""
    return device_text(_vital_page(data, 0x80))


_DESIGNATORS = {1: "t10", 2: "eui", 3: "naa", 8: "name"}


def parse_identification(data: bytes) -> tuple[Identifier, ...]:
    """Designators of the logical unit in page 83h, without those of ports and of the target and unknown kinds."""
    body = _vital_page(data, 0x83)
    found: list[Identifier] = []
    at = 0
    while at + 4 <= len(body):
        code_set, kind, length = body[at] & 0x0F, body[at + 1], body[at + 3]
        value = body[at + 4 : at + 4 + length]
        at += 4 + length
        name = _DESIGNATORS.get(kind & 0x0F)
        if kind & 0x30 or name is None or len(value) < length or not value:
            continue
        text = value.hex() if code_set == 1 else device_text(value)
        found.append(Identifier(kind=name, text=text))
    return tuple(found)


# LUNs


def report_luns(length: int = 4096) -> Request[LunList]:
    """All LUNs this initiator may use; ``length`` bytes of answer, at most :data:`LUNS_MAX` entries."""
    length = max(16, min(length, LUNS_MAX * _LUN_ENTRY + 8))
    cdb = bytes([0xA0, 0, 0, 0, 0, 0, *length.to_bytes(4, "big"), 0, 0])
    return Request(name="REPORT LUNS", cdb=cdb, length=length, parse=parse_report_luns)


def parse_report_luns(data: bytes) -> LunList:
    """Whole entries only, each LUN once; well-known logical units (C1h) hold no data and are left out."""
    if len(data) < 8:
        raise ProtocolViolation(f"the list of LUNs has {len(data)} bytes, at least 8 are due")
    announced = int.from_bytes(data[:4], "big")
    body = data[8 : 8 + announced]
    entries = [body[at : at + _LUN_ENTRY] for at in range(0, len(body) - _LUN_ENTRY + 1, _LUN_ENTRY)]
    luns = {entry: Lun(entry) for entry in entries if entry[0] != 0xC1}
    return LunList(luns=tuple(luns.values()), needed=8 + announced)


# Readiness and size


def test_unit_ready() -> Request[None]:
    """Whether the unit answers commands; also takes the unit attentions of a fresh nexus out of the way."""
    return Request(name="TEST UNIT READY", cdb=bytes(6), length=0, parse=_nothing)


def _nothing(data: bytes) -> None:
    """A command without data has no answer to parse; what a target sends all the same is dropped."""
    del data


def request_sense(length: int = 252) -> Request[bytes]:
    """The sense data a target kept back; for those that send none with CHECK CONDITION. Raw, for ``parse_sense``."""
    cdb = bytes([0x03, 0, 0, 0, length, 0])
    return Request(name="REQUEST SENSE", cdb=cdb, length=length, parse=lambda data: data[:length])


def read_capacity_10() -> Request[Capacity | None]:
    """The size of a disk below 2 TiB; None when READ CAPACITY(16) has to be asked."""
    return Request(name="READ CAPACITY(10)", cdb=bytes([0x25, *bytes(9)]), length=8, parse=parse_read_capacity_10)


def read_capacity_16() -> Request[Capacity]:
    """The size of a disk of any size (SERVICE ACTION IN(16), action 10h)."""
    cdb = bytes([0x9E, 0x10, *bytes(8), *(32).to_bytes(4, "big"), 0, 0])
    return Request(name="READ CAPACITY(16)", cdb=cdb, length=32, parse=parse_read_capacity_16)


def _block_size(value: int) -> int:
    if not BLOCK_MIN <= value <= BLOCK_MAX or value & (value - 1):
        raise ProtocolViolation(
            f"the unit has blocks of {value} bytes",
            hint=f"format it with blocks of a power of two from {BLOCK_MIN} to {BLOCK_MAX} bytes",
        )
    return value


def parse_read_capacity_10(data: bytes) -> Capacity | None:
    """Eight bytes: last block and block size. A last block of FFFFFFFFh says that it does not fit."""
    if len(data) < 8:
        raise ProtocolViolation(f"capacity data has {len(data)} bytes, 8 are due")
    last, size = int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big")
    if last == 0xFFFFFFFF:
        return None
    size = _block_size(size)
    return Capacity(blocks=last + 1, block_size=size, physical_block_size=size)


def parse_read_capacity_16(data: bytes) -> Capacity:
    """At least twelve bytes; SBC-2 had no more, the rest is then what it means when zero."""
    if len(data) < 12:
        raise ProtocolViolation(f"capacity data has {len(data)} bytes, at least 12 are due")
    last, size = int.from_bytes(data[:8], "big"), _block_size(int.from_bytes(data[8:12], "big"))
    exponent = data[13] & 0x0F if len(data) > 13 else 0
    return Capacity(
        blocks=last + 1,
        block_size=size,
        physical_block_size=size << exponent,
        thin=len(data) > 14 and bool(data[14] & 0x80),
    )


# Data


def read(lba: int, blocks: int, block_size: int) -> Request[bytes]:
    """``blocks`` blocks from ``lba``: READ(10) where it reaches, READ(16) beyond. ValueError outside its fields.

    Exactly the bytes asked for come back, or ProtocolViolation.
    """
    length = blocks * block_size
    if not 1 <= blocks <= 0xFFFF or not 0 <= lba < 1 << 64:
        raise ValueError(f"no READ takes {blocks} blocks from {lba}")
    if lba + blocks <= 1 << 32:
        name, cdb = "READ(10)", bytes([0x28, 0, *lba.to_bytes(4, "big"), 0, *blocks.to_bytes(2, "big"), 0])
    else:
        name, cdb = "READ(16)", bytes([0x88, 0, *lba.to_bytes(8, "big"), *blocks.to_bytes(4, "big"), 0, 0])

    def whole(data: bytes) -> bytes:
        if len(data) < length:
            raise ProtocolViolation(f"{len(data)} bytes came, {length} were asked for")
        return data[:length]

    return Request(name=name, cdb=cdb, length=length, parse=whole)
