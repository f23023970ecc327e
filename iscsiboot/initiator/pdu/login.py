# SPDX-License-Identifier: LGPL-2.1-or-later
"""Login Request and Login Response (RFC 7143 sections 11.12 and 11.13)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from iscsiboot.initiator.pdu.header import (
    COMMAND_NUMBERS,
    ITT,
    STATUS_NUMBERS,
    Bits,
    Fields,
    Flag,
    Number,
    Opcode,
    Pdu,
    Raw,
)

LOGIN_DATA_MAX = 8192
"""Bytes a data segment may have during login: MaxRecvDataSegmentLength has its default until full feature phase."""


class LoginStage(IntEnum):
    """The CSG and NSG fields (section 11.12.3); 2 is not assigned."""

    SECURITY = 0
    OPERATIONAL = 1
    FULL_FEATURE = 3


_STAGES: Fields = (Flag("transit", 1, 0x80), Flag("cont", 1, 0x40), Bits("csg", 1, 2, 2), Bits("nsg", 1, 0, 2))
_ISID = Raw("isid", 8, 6)
_TSIH = Number("tsih", 14, 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class LoginRequest(Pdu):
    """Login Request (section 11.12). Always immediate."""

    OPCODE = Opcode.LOGIN_REQUEST
    ALWAYS = ((0, 0x40),)
    FIELDS = (
        *_STAGES,
        Number("version_max", 2, 1),
        Number("version_min", 3, 1),
        _ISID,
        _TSIH,
        ITT,
        Number("cid", 20, 2),
        *COMMAND_NUMBERS,
    )

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


@dataclass(frozen=True, kw_only=True, slots=True)
class LoginResponse(Pdu):
    """Login Response (section 11.13)."""

    OPCODE = Opcode.LOGIN_RESPONSE
    FIELDS = (
        *_STAGES,
        Number("version_max", 2, 1),
        Number("version_active", 3, 1),
        _ISID,
        _TSIH,
        ITT,
        *STATUS_NUMBERS,
        Number("status_class", 36, 1),
        Number("status_detail", 37, 1),
    )

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
