# SPDX-License-Identifier: LGPL-2.1-or-later
"""The 48-byte basic header segment (BHS): opcodes, the login PDUs, Reject (RFC 7143 section 11).

Values and bytes only. A decoded header keeps every field as it stood on the wire, legal or not; which values are legal
at which moment is the login machine's knowledge. Reserved bits are sent as zero and ignored when received, as section
11.1 asks. All integers are big endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from iscsiboot.initiator.errors import ProtocolViolation

BHS_LENGTH = 48
LOGIN_DATA_MAX = 8192
"""Bytes a data segment may have during login: MaxRecvDataSegmentLength has its default until full feature phase."""
RESERVED_TAG = 0xFFFFFFFF

_OPCODE_MASK = 0x3F
_IMMEDIATE = 0x40
_TRANSIT = 0x80
_CONTINUE = 0x40


class Opcode(IntEnum):
    """Opcodes of both directions (sections 11.2.1.2)."""

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
        try:
            return Opcode(value).name.replace("_", " ").title()
        except ValueError:
            return f"unknown opcode {value:#04x}"


class LoginStage(IntEnum):
    """The CSG and NSG fields (section 11.12.3); 2 is not assigned."""

    SECURITY = 0
    OPERATIONAL = 1
    FULL_FEATURE = 3


REJECT_REASONS = {
    0x01: "reserved",
    0x02: "data digest error",
    0x03: "SNACK reject",
    0x04: "protocol error",
    0x05: "command not supported",
    0x06: "too many immediate commands",
    0x07: "task in progress",
    0x08: "invalid data acknowledgement",
    0x09: "invalid PDU field",
    0x0A: "out of resources for a long operation",
    0x0C: "waiting for logout",
}
"""Section 11.17.1."""


def padded_length(length: int) -> int:
    """``length`` rounded up to the four-byte boundary each segment ends on (section 11.1)."""
    return -(-length // 4) * 4


def pad(data: bytes) -> bytes:
    """``data`` with NUL bytes up to the next four-byte boundary."""
    return data.ljust(padded_length(len(data)), b"\0")


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What every BHS has in common: enough to know how many bytes follow and whom to give them to."""

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


def _lengths(data_length: int) -> bytes:
    """TotalAHSLength 0 and the three bytes of DataSegmentLength."""
    return data_length.to_bytes(4, "big")


def _login_flags(transit: bool, cont: bool, csg: int, nsg: int) -> int:
    return (_TRANSIT if transit else 0) | (_CONTINUE if cont else 0) | csg << 2 | nsg


_REQUEST = struct.Struct(">BBBB4s6sHIH2xII16x")
_RESPONSE = struct.Struct(">BBBB4s6sHI4xIIIBB10x")
_REJECT = struct.Struct(">BBBx4s8xI4xIII12x")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoginRequest:
    """Login Request (section 11.12). Always immediate."""

    transit: bool
    cont: bool = False
    csg: int
    nsg: int = 0
    """Reserved, so zero, unless ``transit``."""
    version_max: int = 0
    version_min: int = 0
    isid: bytes
    tsih: int = 0
    itt: int = 0
    cid: int = 0
    cmdsn: int
    exp_statsn: int
    data_length: int = 0

    def encode(self) -> bytes:
        """The 48 bytes."""
        return _REQUEST.pack(
            Opcode.LOGIN_REQUEST | _IMMEDIATE,
            _login_flags(self.transit, self.cont, self.csg, self.nsg),
            self.version_max,
            self.version_min,
            _lengths(self.data_length),
            self.isid,
            self.tsih,
            self.itt,
            self.cid,
            self.cmdsn,
            self.exp_statsn,
        )

    @classmethod
    def decode(cls, bhs: bytes) -> LoginRequest:
        """The inverse of :meth:`encode`; :class:`ProtocolViolation` when it is no Login Request."""
        header = _expect(bhs, Opcode.LOGIN_REQUEST)
        _, flags, version_max, version_min, _, isid, tsih, itt, cid, cmdsn, exp_statsn = _REQUEST.unpack(bhs)
        return cls(
            transit=bool(flags & _TRANSIT),
            cont=bool(flags & _CONTINUE),
            csg=flags >> 2 & 3,
            nsg=flags & 3,
            version_max=version_max,
            version_min=version_min,
            isid=isid,
            tsih=tsih,
            itt=itt,
            cid=cid,
            cmdsn=cmdsn,
            exp_statsn=exp_statsn,
            data_length=header.data_length,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LoginResponse:
    """Login Response (section 11.13)."""

    transit: bool = False
    cont: bool = False
    csg: int = 0
    nsg: int = 0
    version_max: int = 0
    version_active: int = 0
    isid: bytes = bytes(6)
    tsih: int = 0
    itt: int = 0
    statsn: int = 0
    exp_cmdsn: int = 0
    max_cmdsn: int = 0
    status_class: int = 0
    status_detail: int = 0
    data_length: int = 0

    def encode(self) -> bytes:
        """The 48 bytes."""
        return _RESPONSE.pack(
            Opcode.LOGIN_RESPONSE,
            _login_flags(self.transit, self.cont, self.csg, self.nsg),
            self.version_max,
            self.version_active,
            _lengths(self.data_length),
            self.isid,
            self.tsih,
            self.itt,
            self.statsn,
            self.exp_cmdsn,
            self.max_cmdsn,
            self.status_class,
            self.status_detail,
        )

    @classmethod
    def decode(cls, bhs: bytes) -> LoginResponse:
        """The inverse of :meth:`encode`; :class:`ProtocolViolation` when it is no Login Response."""
        header = _expect(bhs, Opcode.LOGIN_RESPONSE)
        _, flags, *fields = _RESPONSE.unpack(bhs)
        version_max, version_active, _, isid, tsih, itt, statsn, exp_cmdsn, max_cmdsn, status, detail = fields
        return cls(
            transit=bool(flags & _TRANSIT),
            cont=bool(flags & _CONTINUE),
            csg=flags >> 2 & 3,
            nsg=flags & 3,
            version_max=version_max,
            version_active=version_active,
            isid=isid,
            tsih=tsih,
            itt=itt,
            statsn=statsn,
            exp_cmdsn=exp_cmdsn,
            max_cmdsn=max_cmdsn,
            status_class=status,
            status_detail=detail,
            data_length=header.data_length,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Reject:
    """Reject (section 11.17); its data segment is the header of the PDU that was refused."""

    reason: int
    statsn: int = 0
    exp_cmdsn: int = 0
    max_cmdsn: int = 0
    data_length: int = 0

    def encode(self) -> bytes:
        """The 48 bytes."""
        lengths = _lengths(self.data_length)
        return _REJECT.pack(
            Opcode.REJECT, 0x80, self.reason, lengths, RESERVED_TAG, self.statsn, self.exp_cmdsn, self.max_cmdsn
        )

    @classmethod
    def decode(cls, bhs: bytes) -> Reject:
        """The inverse of :meth:`encode`; :class:`ProtocolViolation` when it is no Reject."""
        header = _expect(bhs, Opcode.REJECT)
        _, _, reason, _, _, statsn, exp_cmdsn, max_cmdsn = _REJECT.unpack(bhs)
        return cls(
            reason=reason,
            statsn=statsn,
            exp_cmdsn=exp_cmdsn,
            max_cmdsn=max_cmdsn,
            data_length=header.data_length,
        )

    @property
    def words(self) -> str:
        """The reason in the RFC's words."""
        return REJECT_REASONS.get(self.reason, f"unknown reason {self.reason:#04x}")


def _expect(bhs: bytes, opcode: Opcode) -> Header:
    header = Header.decode(bhs)
    if header.opcode != opcode:
        raise ProtocolViolation(f"{Opcode.words(opcode)} was expected, {Opcode.words(header.opcode)} came")
    return header
