# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every PDU of RFC 7143 chapter 11 once, with bytes written out by hand from its figure, and what the figure reserves.

Each field has a value no other field of its PDU has, so that a swap shows. ``reserved`` has a one for each bit that
carries nothing: reserved ones, those with a fixed value, and the reserved words of the figure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from iscsiboot.initiator.pdu.control import (
    AsyncMessage,
    LogoutRequest,
    LogoutResponse,
    NopIn,
    NopOut,
    TextRequest,
    TextResponse,
)
from iscsiboot.initiator.pdu.header import Pdu
from iscsiboot.initiator.pdu.login import LoginRequest, LoginResponse
from iscsiboot.initiator.pdu.reject import Reject
from iscsiboot.initiator.pdu.scsi import (
    DataIn,
    DataOut,
    ReadyToTransfer,
    ScsiCommand,
    ScsiResponse,
    SnackRequest,
    TaskManagementRequest,
    TaskManagementResponse,
)


@dataclass(frozen=True)
class Figure:
    """One figure: 48 bytes, four words of the RFC's drawing a row."""

    name: str
    value: Pdu
    wire: str
    reserved: str

    @property
    def bhs(self) -> bytes:
        """The 48 bytes."""
        return bytes.fromhex(self.wire)

    @property
    def ignored(self) -> bytes:
        """A mask of the same size."""
        return bytes.fromhex(self.reserved)


LUN = bytes.fromhex("4001020304050607")
ISID = bytes.fromhex("80aabbccddee")
COMMAND: dict[str, Any] = {"cmdsn": 0x11121314, "exp_statsn": 0x21222324}
STATUS: dict[str, Any] = {"statsn": 0x31323334, "exp_cmdsn": 0x41424344, "max_cmdsn": 0x51525354}
LENGTHS: dict[str, Any] = {"ahs_length": 8, "data_length": 0x0A0B0C}
ITT: dict[str, Any] = {"itt": 0x61626364}
TTT: dict[str, Any] = {"ttt": 0x71727374}

# The rows: bytes 0-15 (opcode, flags, lengths, LUN or the like), 16-31 (tags, numbers), 32-47 (the rest).

INITIATOR_FIGURES = (
    Figure(
        "NopOut",
        NopOut(immediate=True, lun=LUN, **ITT, **TTT, **COMMAND, **LENGTHS),
        "40 80 0000 02 0a0b0c 4001020304050607 61626364 71727374 11121314 21222324 00000000 00000000 00000000 00000000",
        "80 ff ffff 00 000000 0000000000000000 00000000 00000000 00000000 00000000 ffffffff ffffffff ffffffff ffffffff",
    ),
    Figure(
        "ScsiCommand",
        ScsiCommand(
            final=True,
            write=True,
            attribute=4,
            lun=LUN,
            expected_length=0x81828384,
            cdb=bytes(range(0xA0, 0xB0)),
            **ITT,
            **COMMAND,
            **LENGTHS,
        ),
        "01 a4 0000 02 0a0b0c 4001020304050607 61626364 81828384 11121314 21222324 a0a1a2a3 a4a5a6a7 a8a9aaab acadaeaf",
        "80 18 ffff 00 000000 0000000000000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000",
    ),
    Figure(
        "ScsiCommand-read",
        ScsiCommand(immediate=True, final=False, read=True, attribute=1, lun=LUN, cdb=bytes(16), **ITT, **COMMAND),
        "41 41 0000 00 000000 4001020304050607 61626364 00000000 11121314 21222324 00000000 00000000 00000000 00000000",
        "80 18 ffff 00 000000 0000000000000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000",
    ),
    Figure(
        "TaskManagementRequest",
        TaskManagementRequest(
            function=5,
            lun=LUN,
            referenced_tag=0x81828384,
            ref_cmdsn=0x91929394,
            exp_datasn=0xA1A2A3A4,
            **ITT,
            **COMMAND,
        ),
        "42 85 0000 00 000000 4001020304050607 61626364 81828384 11121314 21222324 91929394 a1a2a3a4 00000000 00000000",
        "80 80 ffff 00 000000 0000000000000000 00000000 00000000 00000000 00000000 00000000 00000000 ffffffff ffffffff",
    ),
    Figure(
        "LoginRequest",
        LoginRequest(
            transit=True,
            csg=1,
            nsg=3,
            version_max=2,
            version_min=1,
            isid=ISID,
            tsih=0x0708,
            cid=0x0506,
            **ITT,
            **COMMAND,
            **LENGTHS,
        ),
        "43 87 0201 02 0a0b0c 80aabbccddee0708 61626364 05060000 11121314 21222324 00000000 00000000 00000000 00000000",
        "c0 30 0000 00 000000 0000000000000000 00000000 0000ffff 00000000 00000000 ffffffff ffffffff ffffffff ffffffff",
    ),
    Figure(
        "TextRequest",
        TextRequest(immediate=True, final=False, cont=True, lun=LUN, **ITT, **TTT, **COMMAND, **LENGTHS),
        "44 40 0000 02 0a0b0c 4001020304050607 61626364 71727374 11121314 21222324 00000000 00000000 00000000 00000000",
        "80 3f ffff 00 000000 0000000000000000 00000000 00000000 00000000 00000000 ffffffff ffffffff ffffffff ffffffff",
    ),
    Figure(
        "DataOut",
        DataOut(
            final=True,
            lun=LUN,
            exp_statsn=0x21222324,
            datasn=0x81828384,
            buffer_offset=0x91929394,
            **ITT,
            **TTT,
            **LENGTHS,
        ),
        "05 80 0000 02 0a0b0c 4001020304050607 61626364 71727374 00000000 21222324 00000000 81828384 91929394 00000000",
        "c0 7f ffff 00 000000 0000000000000000 00000000 00000000 ffffffff 00000000 ffffffff 00000000 00000000 ffffffff",
    ),
    Figure(
        "LogoutRequest",
        LogoutRequest(reason=2, cid=0x0506, **ITT, **COMMAND),
        "06 82 0000 00 000000 0000000000000000 61626364 05060000 11121314 21222324 00000000 00000000 00000000 00000000",
        "80 80 ffff 00 000000 ffffffffffffffff 00000000 0000ffff 00000000 00000000 ffffffff ffffffff ffffffff ffffffff",
    ),
    Figure(
        "SnackRequest",
        SnackRequest(type=3, lun=LUN, exp_statsn=0x21222324, begrun=0x81828384, runlength=0x91929394, **ITT, **TTT),
        "10 83 0000 00 000000 4001020304050607 61626364 71727374 00000000 21222324 00000000 00000000 81828384 91929394",
        "c0 f0 ffff 00 000000 0000000000000000 00000000 00000000 ffffffff 00000000 ffffffff ffffffff 00000000 00000000",
    ),
)
"""What an initiator sends (sections 11.18, 11.3, 11.5, 11.12, 11.10, 11.7, 11.14, 11.16)."""

TARGET_FIGURES = (
    Figure(
        "NopIn",
        NopIn(lun=LUN, **ITT, **TTT, **STATUS, **LENGTHS),
        "20 80 0000 02 0a0b0c 4001020304050607 61626364 71727374 31323334 41424344 51525354 00000000 00000000 00000000",
        "c0 ff ffff 00 000000 0000000000000000 00000000 00000000 00000000 00000000 00000000 ffffffff ffffffff ffffffff",
    ),
    Figure(
        "ScsiResponse",
        ScsiResponse(
            bidi_overflow=True,
            underflow=True,
            response=0x80,
            status=2,
            snack_tag=0x71727374,
            exp_datasn=0x81828384,
            bidi_residual=0x91929394,
            residual=0xA1A2A3A4,
            **ITT,
            **STATUS,
            **LENGTHS,
        ),
        "21 92 8002 02 0a0b0c 0000000000000000 61626364 71727374 31323334 41424344 51525354 81828384 91929394 a1a2a3a4",
        "c0 e1 0000 00 000000 ffffffffffffffff 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000",
    ),
    Figure(
        "ScsiResponse-flags",
        ScsiResponse(bidi_underflow=True, overflow=True, itt=0),
        "21 8c 0000 00 000000 0000000000000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000",
        "c0 e1 0000 00 000000 ffffffffffffffff 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000",
    ),
    Figure(
        "TaskManagementResponse",
        TaskManagementResponse(response=6, **ITT, **STATUS),
        "22 80 0600 00 000000 0000000000000000 61626364 00000000 31323334 41424344 51525354 00000000 00000000 00000000",
        "c0 ff 00ff 00 000000 ffffffffffffffff 00000000 ffffffff 00000000 00000000 00000000 ffffffff ffffffff ffffffff",
    ),
    Figure(
        "LoginResponse",
        LoginResponse(
            cont=True,
            csg=1,
            version_max=3,
            version_active=4,
            isid=ISID,
            tsih=0x0708,
            status_class=2,
            status_detail=0x0B,
            **ITT,
            **STATUS,
            **LENGTHS,
        ),
        "23 44 0304 02 0a0b0c 80aabbccddee0708 61626364 00000000 31323334 41424344 51525354 020b0000 00000000 00000000",
        "c0 30 0000 00 000000 0000000000000000 00000000 ffffffff 00000000 00000000 00000000 0000ffff ffffffff ffffffff",
    ),
    Figure(
        "TextResponse",
        TextResponse(lun=LUN, **ITT, **TTT, **STATUS, **LENGTHS),
        "24 80 0000 02 0a0b0c 4001020304050607 61626364 71727374 31323334 41424344 51525354 00000000 00000000 00000000",
        "c0 3f ffff 00 000000 0000000000000000 00000000 00000000 00000000 00000000 00000000 ffffffff ffffffff ffffffff",
    ),
    Figure(
        "DataIn",
        DataIn(
            final=True,
            overflow=True,
            status_present=True,
            status=0x18,
            lun=LUN,
            datasn=0x81828384,
            buffer_offset=0x91929394,
            residual=0xA1A2A3A4,
            **ITT,
            **TTT,
            **STATUS,
            **LENGTHS,
        ),
        "25 85 0018 02 0a0b0c 4001020304050607 61626364 71727374 31323334 41424344 51525354 81828384 91929394 a1a2a3a4",
        "c0 38 ff00 00 000000 0000000000000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000",
    ),
    Figure(
        "DataIn-flags",
        DataIn(acknowledge=True, underflow=True, itt=0),
        "25 42 0000 00 000000 0000000000000000 00000000 ffffffff 00000000 00000000 00000000 00000000 00000000 00000000",
        "c0 38 ff00 00 000000 0000000000000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000",
    ),
    Figure(
        "LogoutResponse",
        LogoutResponse(response=3, time2wait=0x8182, time2retain=0x9192, **ITT, **STATUS),
        "26 80 0300 00 000000 0000000000000000 61626364 00000000 31323334 41424344 51525354 00000000 81829192 00000000",
        "c0 ff 00ff 00 000000 ffffffffffffffff 00000000 ffffffff 00000000 00000000 00000000 ffffffff 00000000 ffffffff",
    ),
    Figure(
        "ReadyToTransfer",
        ReadyToTransfer(
            lun=LUN,
            r2tsn=0x81828384,
            buffer_offset=0x91929394,
            desired_length=0xA1A2A3A4,
            **ITT,
            **TTT,
            **STATUS,
        ),
        "31 80 0000 00 000000 4001020304050607 61626364 71727374 31323334 41424344 51525354 81828384 91929394 a1a2a3a4",
        "c0 ff ffff 00 000000 0000000000000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000",
    ),
    Figure(
        "AsyncMessage",
        AsyncMessage(
            lun=LUN, event=2, vcode=0x81, parameter1=0x8283, parameter2=0x9192, parameter3=0xA1A2, **STATUS, **LENGTHS
        ),
        "32 80 0000 02 0a0b0c 4001020304050607 ffffffff 00000000 31323334 41424344 51525354 02818283 9192a1a2 00000000",
        "c0 ff ffff 00 000000 0000000000000000 ffffffff ffffffff 00000000 00000000 00000000 00000000 00000000 ffffffff",
    ),
    Figure(
        "Reject",
        Reject(reason=9, datasn=0x81828384, **STATUS, **LENGTHS),
        "3f 80 0900 02 0a0b0c 0000000000000000 ffffffff 00000000 31323334 41424344 51525354 81828384 00000000 00000000",
        "c0 ff 00ff 00 000000 ffffffffffffffff ffffffff ffffffff 00000000 00000000 00000000 00000000 ffffffff ffffffff",
    ),
)
"""What a target sends (sections 11.19, 11.4, 11.6, 11.13, 11.11, 11.7, 11.15, 11.8, 11.9, 11.17)."""

FIGURES = INITIATOR_FIGURES + TARGET_FIGURES
