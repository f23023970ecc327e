# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every PDU has in common: opcodes, lengths, padding, and the codec that reads a class's table of fields.

Values and bytes only. A decoded PDU keeps every field as it stood on the wire, legal or not; which values are legal at
which moment is the knowledge of the machines above. Reserved bits are sent as zero and ignored when received, as
the chapter asks at its beginning. All integers are big endian.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from iscsiboot.initiator.errors import ProtocolViolation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar, Self

BHS_LENGTH = 48
DATA_LENGTH_MAX = (1 << 24) - 1
"""DataSegmentLength has three bytes."""
AHS_LENGTH_MAX = 255 * 4
"""TotalAHSLength counts four-byte words in one byte."""
RESERVED_TAG = 0xFFFFFFFF
"""The tag that belongs to no task and no transfer (sections 11.2.1.8 and 11.7.4)."""

_OPCODE_MASK = 0x3F
_IMMEDIATE = 0x40


class Opcode(IntEnum):
    """Opcodes of both directions (section 11.2.1.2)."""

    NOP_OUT = 0x00
    SCSI_COMMAND = 0x01
    TASK_MANAGEMENT_REQUEST = 0x02
    LOGIN_REQUEST = 0x03
    TEXT_REQUEST = 0x04
    DATA_OUT = 0x05
    LOGOUT_REQUEST = 0x06
    SNACK_REQUEST = 0x10
    NOP_IN = 0x20
    SCSI_RESPONSE = 0x21
    TASK_MANAGEMENT_RESPONSE = 0x22
    LOGIN_RESPONSE = 0x23
    TEXT_RESPONSE = 0x24
    DATA_IN = 0x25
    LOGOUT_RESPONSE = 0x26
    READY_TO_TRANSFER = 0x31
    ASYNC_MESSAGE = 0x32
    REJECT = 0x3F

    @staticmethod
    def words(value: int) -> str:
        """``Login Response``, or ``unknown opcode 0x2a`` for a number the RFC does not assign."""
        return _WORDS.get(value) or f"unknown opcode {value:#04x}"


_WORDS: dict[int, str] = {
    Opcode.NOP_OUT: "NOP-Out",
    Opcode.SCSI_COMMAND: "SCSI Command",
    Opcode.TASK_MANAGEMENT_REQUEST: "Task Management Function Request",
    Opcode.LOGIN_REQUEST: "Login Request",
    Opcode.TEXT_REQUEST: "Text Request",
    Opcode.DATA_OUT: "SCSI Data-Out",
    Opcode.LOGOUT_REQUEST: "Logout Request",
    Opcode.SNACK_REQUEST: "SNACK Request",
    Opcode.NOP_IN: "NOP-In",
    Opcode.SCSI_RESPONSE: "SCSI Response",
    Opcode.TASK_MANAGEMENT_RESPONSE: "Task Management Function Response",
    Opcode.LOGIN_RESPONSE: "Login Response",
    Opcode.TEXT_RESPONSE: "Text Response",
    Opcode.DATA_IN: "SCSI Data-In",
    Opcode.LOGOUT_RESPONSE: "Logout Response",
    Opcode.READY_TO_TRANSFER: "Ready To Transfer",
    Opcode.ASYNC_MESSAGE: "Asynchronous Message",
    Opcode.REJECT: "Reject",
}
"""The RFC's names, as a message shows them."""


def padded_length(length: int) -> int:
    """``length`` rounded up to the four-byte boundary each segment ends on (section 11.1)."""
    return -(-length // 4) * 4


def pad(data: bytes) -> bytes:
    """``data`` with NUL bytes up to the next four-byte boundary."""
    return data.ljust(padded_length(len(data)), b"\0")


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """Enough of a BHS to know how many bytes follow and whom to give them to."""

    opcode: int
    """0 to 0x3f; an unassigned number survives."""
    immediate: bool
    ahs_length: int
    """Additional header segments, in bytes."""
    data_length: int
    """DataSegmentLength, in bytes, padding not counted."""

    @classmethod
    def decode(cls, bhs: bytes) -> Header:
        """The common fields of 48 bytes; :class:`ProtocolViolation` for another length."""
        if len(bhs) != BHS_LENGTH:
            raise ProtocolViolation(f"a header has {BHS_LENGTH} bytes, {len(bhs)} came")
        return cls(
            opcode=bhs[0] & _OPCODE_MASK,
            immediate=bool(bhs[0] & _IMMEDIATE),
            ahs_length=bhs[4] * 4,
            data_length=int.from_bytes(bhs[5:8], "big"),
        )

    @property
    def following(self) -> int:
        """Bytes after the BHS on a stream without digests: additional headers, data, padding."""
        return self.ahs_length + padded_length(self.data_length)


# The kinds of field a table may hold. Each knows its attribute's name and its place, and reads and writes it. They are
# no dataclasses because four more of those would be two milliseconds at the start of every login and discovery.


class Number:
    """An unsigned integer of whole bytes."""

    __slots__ = ("name", "offset", "width")

    def __init__(self, name: str, offset: int, width: int) -> None:
        self.name = name
        self.offset = offset
        self.width = width

    def read(self, bhs: bytes) -> int:
        """The value in 48 bytes."""
        return int.from_bytes(bhs[self.offset : self.offset + self.width], "big")

    def write(self, bhs: bytearray, value: int) -> None:
        """Put ``value`` into 48 bytes; OverflowError when it does not fit."""
        bhs[self.offset : self.offset + self.width] = value.to_bytes(self.width, "big")


class Bits:
    """An unsigned integer of ``width`` bits within one byte, ``shift`` bits from its least significant one."""

    __slots__ = ("name", "offset", "shift", "width")

    def __init__(self, name: str, offset: int, shift: int, width: int) -> None:
        self.name = name
        self.offset = offset
        self.shift = shift
        self.width = width

    def read(self, bhs: bytes) -> int:
        """The value in 48 bytes."""
        return bhs[self.offset] >> self.shift & (1 << self.width) - 1

    def write(self, bhs: bytearray, value: int) -> None:
        """Put ``value`` into 48 bytes; OverflowError when it does not fit."""
        if not 0 <= value < 1 << self.width:
            raise OverflowError(f"{self.name} {value} does not fit {self.width} bits")
        bhs[self.offset] |= value << self.shift


class Flag:
    """One bit as a bool."""

    __slots__ = ("mask", "name", "offset")

    def __init__(self, name: str, offset: int, mask: int) -> None:
        self.name = name
        self.offset = offset
        self.mask = mask

    def read(self, bhs: bytes) -> bool:
        """The value in 48 bytes."""
        return bool(bhs[self.offset] & self.mask)

    def write(self, bhs: bytearray, value: bool) -> None:
        """Put ``value`` into 48 bytes."""
        if value:
            bhs[self.offset] |= self.mask


class Raw:
    """Bytes as they are."""

    __slots__ = ("name", "offset", "width")

    def __init__(self, name: str, offset: int, width: int) -> None:
        self.name = name
        self.offset = offset
        self.width = width

    def read(self, bhs: bytes) -> bytes:
        """The value in 48 bytes."""
        return bhs[self.offset : self.offset + self.width]

    def write(self, bhs: bytearray, value: bytes) -> None:
        """Put ``value`` into 48 bytes; OverflowError when it has another length."""
        if len(value) != self.width:
            raise OverflowError(f"{self.name} has {len(value)} bytes, not {self.width}")
        bhs[self.offset : self.offset + self.width] = value


Field = Number | Bits | Flag | Raw
Fields = tuple[Field, ...]

IMMEDIATE = Flag("immediate", 0, _IMMEDIATE)
"""The I bit of requests: the target acts on it at once and it takes no command number (section 11.2.1.1)."""
ITT = Number("itt", 16, 4)
TTT = Number("ttt", 20, 4)
LUN = Raw("lun", 8, 8)
NO_LUN = bytes(8)

COMMAND_NUMBERS: Fields = (Number("cmdsn", 24, 4), Number("exp_statsn", 28, 4))
"""In every request that takes a command number."""
STATUS_NUMBERS: Fields = (Number("statsn", 24, 4), Number("exp_cmdsn", 28, 4), Number("max_cmdsn", 32, 4))
"""In every PDU of a target."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pdu:
    """The base of all PDUs: a subclass adds its fields and says in ``FIELDS`` where they are."""

    if TYPE_CHECKING:
        # For dataclasses what has no annotation is no field, and ClassVar would bring typing along.
        OPCODE: ClassVar[Opcode]
        FIELDS: ClassVar[Fields]
        ALWAYS: ClassVar[tuple[tuple[int, int], ...]]
    ALWAYS = ()
    """Bits that are always set: byte and mask. Not looked at when a PDU is decoded."""

    ahs_length: int = 0
    """Additional header segments after the BHS, in bytes, a multiple of four."""
    data_length: int = 0
    """Bytes of the data segment, padding not counted."""

    def encode(self) -> bytes:
        """The 48 bytes. OverflowError when a value does not fit its field: a mistake of the caller."""
        bhs = bytearray(BHS_LENGTH)
        bhs[0] = self.OPCODE
        for offset, mask in self.ALWAYS:
            bhs[offset] |= mask
        if self.ahs_length % 4:
            raise OverflowError(f"additional headers have whole words, not {self.ahs_length} bytes")
        bhs[4:5] = (self.ahs_length // 4).to_bytes(1, "big")
        bhs[5:8] = self.data_length.to_bytes(3, "big")
        for field in self.FIELDS:
            field.write(bhs, getattr(self, field.name))
        return bytes(bhs)

    @classmethod
    def decode(cls, bhs: bytes) -> Self:
        """The inverse of :meth:`encode`; :class:`ProtocolViolation` when ``bhs`` is no such PDU or not 48 bytes."""
        header = Header.decode(bhs)
        if header.opcode != cls.OPCODE:
            raise ProtocolViolation(f"{Opcode.words(cls.OPCODE)} was expected, {Opcode.words(header.opcode)} came")
        values = {field.name: field.read(bhs) for field in cls.FIELDS}
        return cls(ahs_length=header.ahs_length, data_length=header.data_length, **values)
