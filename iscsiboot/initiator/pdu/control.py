# SPDX-License-Identifier: LGPL-2.1-or-later
"""PDUs without SCSI: NOP, Text, Logout, Asynchronous Message (RFC 7143 11.9 to 11.11, 11.14, 11.15, 11.18, 11.19)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

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
)

_FINAL = (1, 0x80)
_CONTINUE = Flag("cont", 1, 0x40)


@dataclass(frozen=True, kw_only=True, slots=True)
class NopOut(Pdu):
    """NOP-Out (section 11.18): a ping (``itt`` set) or the answer to one (``ttt`` set)."""

    OPCODE = Opcode.NOP_OUT
    ALWAYS = (_FINAL,)
    FIELDS = (IMMEDIATE, LUN, ITT, TTT, *COMMAND_NUMBERS)

    immediate: bool = False
    lun: bytes = NO_LUN
    """Copied from the NOP-In that is answered."""
    itt: int = RESERVED_TAG
    """RESERVED_TAG: no answer is wanted."""
    ttt: int = RESERVED_TAG
    cmdsn: int
    exp_statsn: int


@dataclass(frozen=True, kw_only=True, slots=True)
class NopIn(Pdu):
    """NOP-In (section 11.19): a ping (``ttt`` set), the answer to one (``itt`` set), or numbers alone (neither)."""

    OPCODE = Opcode.NOP_IN
    ALWAYS = (_FINAL,)
    FIELDS = (LUN, ITT, TTT, *STATUS_NUMBERS)

    lun: bytes = NO_LUN
    itt: int = RESERVED_TAG
    ttt: int = RESERVED_TAG
    statsn: int = 0
    exp_cmdsn: int = 0
    max_cmdsn: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class TextRequest(Pdu):
    """Text Request (section 11.10)."""

    OPCODE = Opcode.TEXT_REQUEST
    FIELDS = (IMMEDIATE, Flag("final", 1, 0x80), _CONTINUE, LUN, ITT, TTT, *COMMAND_NUMBERS)

    immediate: bool = False
    final: bool = True
    """The whole negotiation's text has been sent."""
    cont: bool = False
    """This text goes on in the next request; never together with ``final``."""
    lun: bytes = NO_LUN
    itt: int
    ttt: int = RESERVED_TAG
    """Copied from the Text Response that is continued."""
    cmdsn: int
    exp_statsn: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TextResponse(Pdu):
    """Text Response (section 11.11)."""

    OPCODE = Opcode.TEXT_RESPONSE
    FIELDS = (Flag("final", 1, 0x80), _CONTINUE, LUN, ITT, TTT, *STATUS_NUMBERS)

    final: bool = True
    cont: bool = False
    lun: bytes = NO_LUN
    itt: int
    ttt: int = RESERVED_TAG
    """Not RESERVED_TAG exactly when more is to come."""
    statsn: int = 0
    exp_cmdsn: int = 0
    max_cmdsn: int = 0


class LogoutReason(IntEnum):
    """Why a Logout Request is sent (section 11.14.1)."""

    CLOSE_SESSION = 0
    CLOSE_CONNECTION = 1
    REMOVE_FOR_RECOVERY = 2
    """Error recovery level 2 alone."""


class LogoutAnswer(IntEnum):
    """How the target took it (section 11.15.1)."""

    CLOSED = 0
    CID_NOT_FOUND = 1
    RECOVERY_NOT_SUPPORTED = 2
    CLEANUP_FAILED = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class LogoutRequest(Pdu):
    """Logout Request (section 11.14)."""

    OPCODE = Opcode.LOGOUT_REQUEST
    ALWAYS = (_FINAL,)
    FIELDS = (IMMEDIATE, Bits("reason", 1, 0, 7), ITT, Number("cid", 20, 2), *COMMAND_NUMBERS)

    immediate: bool = False
    reason: int = LogoutReason.CLOSE_SESSION
    itt: int
    cid: int = 0
    """Reserved for CLOSE_SESSION."""
    cmdsn: int
    exp_statsn: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LogoutResponse(Pdu):
    """Logout Response (section 11.15)."""

    OPCODE = Opcode.LOGOUT_RESPONSE
    ALWAYS = (_FINAL,)
    FIELDS = (
        Number("response", 2, 1),
        ITT,
        *STATUS_NUMBERS,
        Number("time2wait", 40, 2),
        Number("time2retain", 42, 2),
    )

    response: int = LogoutAnswer.CLOSED
    itt: int
    statsn: int = 0
    exp_cmdsn: int = 0
    max_cmdsn: int = 0
    time2wait: int = 0
    """Seconds, as the next."""
    time2retain: int = 0


class AsyncEvent(IntEnum):
    """What an Asynchronous Message is about (section 11.9.1)."""

    SCSI = 0
    """The data segment holds sense data."""
    LOGOUT_REQUESTED = 1
    """``parameter3``: seconds within which to send the Logout Request."""
    CONNECTION_DROP = 2
    """``parameter1``: CID; ``parameter2``, ``parameter3``: time to wait, time to retain."""
    SESSION_DROP = 3
    """``parameter2``, ``parameter3`` as above."""
    NEGOTIATION_REQUESTED = 4
    """``parameter3``: seconds within which to send a Text Request."""
    TASKS_TERMINATED = 5
    """FastAbort (RFC 7143 section 4.2.3.4)."""
    VENDOR = 255


@dataclass(frozen=True, kw_only=True, slots=True)
class AsyncMessage(Pdu):
    """Asynchronous Message (section 11.9)."""

    OPCODE = Opcode.ASYNC_MESSAGE
    ALWAYS = (_FINAL, *((offset, 0xFF) for offset in range(16, 20)))
    FIELDS = (
        LUN,
        *STATUS_NUMBERS,
        Number("event", 36, 1),
        Number("vcode", 37, 1),
        Number("parameter1", 38, 2),
        Number("parameter2", 40, 2),
        Number("parameter3", 42, 2),
    )

    lun: bytes = NO_LUN
    statsn: int = 0
    exp_cmdsn: int = 0
    max_cmdsn: int = 0
    event: int
    vcode: int = 0
    parameter1: int = 0
    parameter2: int = 0
    parameter3: int = 0
