# SPDX-License-Identifier: LGPL-2.1-or-later
"""PDUs of SCSI tasks: command, data, R2T, response, task management, SNACK (RFC 7143 sections 11.3 to 11.8, 11.16)."""

from __future__ import annotations

from dataclasses import dataclass

from iscsiboot.initiator.pdu.header import (
    COMMAND_NUMBERS,
    IMMEDIATE,
    ITT,
    LUN,
    NO_LUN,
    RESERVED_TAG,
    STATUS_NUMBERS,
    TTT,
    Bits,
    Flag,
    Number,
    Opcode,
    Pdu,
    Raw,
)
from iscsiboot.initiator.pdu.scsi_codes import CDB_LENGTH as CDB_LENGTH
from iscsiboot.initiator.pdu.scsi_codes import Attribute as Attribute
from iscsiboot.initiator.pdu.scsi_codes import ScsiAnswer as ScsiAnswer
from iscsiboot.initiator.pdu.scsi_codes import SnackType as SnackType
from iscsiboot.initiator.pdu.scsi_codes import TaskAnswer as TaskAnswer
from iscsiboot.initiator.pdu.scsi_codes import TaskFunction as TaskFunction

_FINAL = Flag("final", 1, 0x80)
_OVERFLOW = Flag("overflow", 1, 0x04)
_UNDERFLOW = Flag("underflow", 1, 0x02)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScsiCommand(Pdu):
    """SCSI Command (section 11.3); its data segment is immediate data."""

    OPCODE = Opcode.SCSI_COMMAND
    FIELDS = (
        IMMEDIATE,
        _FINAL,
        Flag("read", 1, 0x40),
        Flag("write", 1, 0x20),
        Bits("attribute", 1, 0, 3),
        LUN,
        ITT,
        Number("expected_length", 20, 4),
        *COMMAND_NUMBERS,
        Raw("cdb", 32, CDB_LENGTH),
    )

    immediate: bool = False
    final: bool = True
    """No unsolicited Data-Out follows."""
    read: bool = False
    write: bool = False
    attribute: int = Attribute.SIMPLE
    lun: bytes
    itt: int
    expected_length: int = 0
    """Expected Data Transfer Length: bytes of the whole transfer, in the write direction for a bidirectional one."""
    cmdsn: int
    exp_statsn: int
    cdb: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class ScsiResponse(Pdu):
    """SCSI Response (section 11.4); its data segment is SenseLength (two bytes), sense data, response data."""

    OPCODE = Opcode.SCSI_RESPONSE
    ALWAYS = ((1, 0x80),)
    FIELDS = (
        Flag("bidi_overflow", 1, 0x10),
        Flag("bidi_underflow", 1, 0x08),
        _OVERFLOW,
        _UNDERFLOW,
        Number("response", 2, 1),
        Number("status", 3, 1),
        ITT,
        Number("snack_tag", 20, 4),
        *STATUS_NUMBERS,
        Number("exp_datasn", 36, 4),
        Number("bidi_residual", 40, 4),
        Number("residual", 44, 4),
    )

    bidi_overflow: bool = False
    bidi_underflow: bool = False
    overflow: bool = False
    underflow: bool = False
    response: int = ScsiAnswer.COMPLETED
    status: int = 0
    """SAM status; meant only with response COMPLETED."""
    itt: int
    snack_tag: int = 0
    statsn: int = 0
    exp_cmdsn: int = 0
    max_cmdsn: int = 0
    exp_datasn: int = 0
    """How many Data-In and R2T PDUs the task had."""
    bidi_residual: int = 0
    residual: int = 0
    """Bytes, as the one before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataOut(Pdu):
    """SCSI Data-Out (section 11.7)."""

    OPCODE = Opcode.DATA_OUT
    FIELDS = (
        _FINAL,
        LUN,
        ITT,
        TTT,
        Number("exp_statsn", 28, 4),
        Number("datasn", 36, 4),
        Number("buffer_offset", 40, 4),
    )

    final: bool
    """The last of its sequence."""
    lun: bytes = NO_LUN
    """Copied from the R2T; reserved in unsolicited data."""
    itt: int
    ttt: int = RESERVED_TAG
    """Copied from the R2T; RESERVED_TAG for unsolicited data."""
    exp_statsn: int
    datasn: int
    """Counts from 0 within the sequence."""
    buffer_offset: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DataIn(Pdu):
    """SCSI Data-In (section 11.7)."""

    OPCODE = Opcode.DATA_IN
    FIELDS = (
        _FINAL,
        Flag("acknowledge", 1, 0x40),
        _OVERFLOW,
        _UNDERFLOW,
        Flag("status_present", 1, 0x01),
        Number("status", 3, 1),
        LUN,
        ITT,
        TTT,
        *STATUS_NUMBERS,
        Number("datasn", 36, 4),
        Number("buffer_offset", 40, 4),
        Number("residual", 44, 4),
    )

    final: bool = False
    acknowledge: bool = False
    overflow: bool = False
    underflow: bool = False
    status_present: bool = False
    """The S bit: status, StatSN and residual are meant, and no SCSI Response follows."""
    status: int = 0
    lun: bytes = NO_LUN
    itt: int
    ttt: int = RESERVED_TAG
    statsn: int = 0
    exp_cmdsn: int = 0
    max_cmdsn: int = 0
    datasn: int = 0
    buffer_offset: int = 0
    residual: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadyToTransfer(Pdu):
    """R2T (section 11.8): the target asks for a part of the data."""

    OPCODE = Opcode.READY_TO_TRANSFER
    ALWAYS = ((1, 0x80),)
    FIELDS = (
        LUN,
        ITT,
        TTT,
        *STATUS_NUMBERS,
        Number("r2tsn", 36, 4),
        Number("buffer_offset", 40, 4),
        Number("desired_length", 44, 4),
    )

    lun: bytes = NO_LUN
    itt: int
    ttt: int
    statsn: int = 0
    """The next StatSN; an R2T uses none up."""
    exp_cmdsn: int = 0
    max_cmdsn: int = 0
    r2tsn: int = 0
    buffer_offset: int = 0
    desired_length: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskManagementRequest(Pdu):
    """Task Management Function Request (section 11.5)."""

    OPCODE = Opcode.TASK_MANAGEMENT_REQUEST
    ALWAYS = ((1, 0x80),)
    FIELDS = (
        IMMEDIATE,
        Bits("function", 1, 0, 7),
        LUN,
        ITT,
        Number("referenced_tag", 20, 4),
        *COMMAND_NUMBERS,
        Number("ref_cmdsn", 32, 4),
        Number("exp_datasn", 36, 4),
    )

    immediate: bool = True
    function: int
    lun: bytes = NO_LUN
    itt: int
    referenced_tag: int = RESERVED_TAG
    cmdsn: int
    exp_statsn: int
    ref_cmdsn: int = 0
    """CmdSN of the task to abort."""
    exp_datasn: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskManagementResponse(Pdu):
    """Task Management Function Response (section 11.6)."""

    OPCODE = Opcode.TASK_MANAGEMENT_RESPONSE
    ALWAYS = ((1, 0x80),)
    FIELDS = (Number("response", 2, 1), ITT, *STATUS_NUMBERS)

    response: int = TaskAnswer.COMPLETE
    itt: int
    statsn: int = 0
    exp_cmdsn: int = 0
    max_cmdsn: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class SnackRequest(Pdu):
    """SNACK Request (section 11.16): error recovery level 1 and above, so never sent by this initiator."""

    OPCODE = Opcode.SNACK_REQUEST
    ALWAYS = ((1, 0x80),)
    FIELDS = (
        Bits("type", 1, 0, 4),
        LUN,
        ITT,
        TTT,
        Number("exp_statsn", 28, 4),
        Number("begrun", 40, 4),
        Number("runlength", 44, 4),
    )

    type: int
    lun: bytes = NO_LUN
    itt: int = RESERVED_TAG
    ttt: int = RESERVED_TAG
    exp_statsn: int
    begrun: int = 0
    runlength: int = 0
