# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reject (RFC 7143 section 11.17); its data segment is the header of the PDU that was refused."""

from __future__ import annotations

from dataclasses import dataclass

from iscsiboot.initiator.pdu.header import STATUS_NUMBERS, Number, Opcode, Pdu

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
    0x0B: "negotiation reset",
    0x0C: "waiting for logout",
}
"""Section 11.17.1; 0x0b is RFC 3720's and deprecated, older targets send it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reject(Pdu):
    """The target refuses a PDU of ours."""

    OPCODE = Opcode.REJECT
    ALWAYS = ((1, 0x80), *((offset, 0xFF) for offset in range(16, 20)))
    FIELDS = (Number("reason", 2, 1), *STATUS_NUMBERS, Number("datasn", 36, 4))

    reason: int
    statsn: int = 0
    exp_cmdsn: int = 0
    max_cmdsn: int = 0
    datasn: int = 0
    """DataSN or R2TSN of the refused PDU; meant only for some reasons (section 11.17.3)."""

    @property
    def words(self) -> str:
        """The reason in the RFC's words."""
        return REJECT_REASONS.get(self.reason, f"unknown reason {self.reason:#04x}")
