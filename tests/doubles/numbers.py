# SPDX-License-Identifier: LGPL-2.1-or-later
"""The target's counters (RFC 7143 section 4.2.2): what it hands out, and whether the initiator keeps to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from iscsiboot.initiator.pdu.control import NopIn
from iscsiboot.initiator.pdu.header import RESERVED_TAG, Pdu
from iscsiboot.initiator.pdu.scsi import DataIn, ReadyToTransfer

MODULUS = 1 << 32


def behind(later: int, earlier: int) -> int:
    """How far ``earlier`` is behind ``later``; negative when it is ahead (RFC 1982 on 32 bits)."""
    difference = (later - earlier) % MODULUS
    return difference - MODULUS if difference >= MODULUS // 2 else difference


def takes_statsn(pdu: Pdu) -> bool:
    """Whether the PDU uses a StatSN up."""
    if isinstance(pdu, DataIn):
        return pdu.status_present
    if isinstance(pdu, NopIn):
        return pdu.itt != RESERVED_TAG
    return not isinstance(pdu, ReadyToTransfer)


class Numbers:
    """StatSN and the command window of one connection; ``active`` says how many commands the target works on."""

    def __init__(
        self, *, cmdsn: int, statsn: int, depth: int, active: Callable[[], int], note: Callable[[str], None]
    ) -> None:
        self._exp_cmdsn = cmdsn
        self._statsn = statsn
        self._depth = depth
        self._active = active
        self._note = note
        self._acknowledged = statsn
        self._max_cmdsn = cmdsn + depth - 1 & MODULUS - 1

    @property
    def statsn(self) -> int:
        """StatSN of the next response."""
        return self._statsn

    @property
    def exp_cmdsn(self) -> int:
        """CmdSN of the next command."""
        return self._exp_cmdsn

    @property
    def max_cmdsn(self) -> int:
        """The last CmdSN the initiator may use, as it was told."""
        return self._max_cmdsn

    def stamp(self, pdu: Pdu) -> Pdu:
        """The PDU with its numbers; the window opens by what has ended meanwhile and never shrinks."""
        fresh = self._exp_cmdsn + self._depth - self._active() - 1
        if behind(fresh, self._max_cmdsn) > 0:
            self._max_cmdsn = fresh % MODULUS
        plain_data = isinstance(pdu, DataIn) and not pdu.status_present
        numbers = {
            "statsn": 0 if plain_data else self._statsn,
            "exp_cmdsn": self._exp_cmdsn,
            "max_cmdsn": self._max_cmdsn,
        }
        numbered = replace(pdu, **numbers)
        if takes_statsn(pdu):
            self._statsn = (self._statsn + 1) % MODULUS
        return numbered

    def command(self, kind: str, *, cmdsn: int, immediate: bool) -> bool:
        """Check the CmdSN of a request and count it; False when the target would ignore it (section 4.2.2.1)."""
        if cmdsn != self._exp_cmdsn:
            self._note(f"{kind}: CmdSN {cmdsn}, {self._exp_cmdsn} was due{' (immediate)' if immediate else ''}")
        if immediate:
            return True
        if behind(cmdsn, self._max_cmdsn) > 0:
            self._note(f"{kind}: CmdSN {cmdsn} is beyond MaxCmdSN {self._max_cmdsn}")
            return False
        if behind(cmdsn, self._exp_cmdsn) < 0:
            return False
        self._exp_cmdsn = (cmdsn + 1) % MODULUS
        return True

    def acknowledged(self, kind: str, exp_statsn: int) -> None:
        """Check an ExpStatSN: it never goes back and never runs ahead of what was sent."""
        if behind(exp_statsn, self._statsn) > 0:
            self._note(f"{kind}: ExpStatSN {exp_statsn} acknowledges what was not sent, {self._statsn} is next")
        elif behind(exp_statsn, self._acknowledged) < 0:
            self._note(f"{kind}: ExpStatSN went back from {self._acknowledged} to {exp_statsn}")
        else:
            self._acknowledged = exp_statsn

    def caught_up(self) -> bool:
        """Whether the initiator has acknowledged everything sent."""
        return self._acknowledged == self._statsn
