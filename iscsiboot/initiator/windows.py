# SPDX-License-Identifier: LGPL-2.1-or-later
"""The two numberings of a session: commands we number (CmdSN), answers the target numbers (StatSN); section 4.2.2.

All arithmetic is RFC 1982's on 32 bits. On one TCP connection nothing is lost and nothing overtakes, so at error
recovery level 0 an answer out of sequence means that the two sides no longer speak of the same thing: the session ends.
"""

from __future__ import annotations

from iscsiboot.initiator import serial
from iscsiboot.initiator.errors import Misuse, ProtocolViolation


class CommandWindow:
    """Which CmdSN comes next, and up to which the target takes commands."""

    def __init__(self, *, cmdsn: int, exp_cmdsn: int, max_cmdsn: int) -> None:
        self._cmdsn = cmdsn
        # Closed until the target's own numbers, which a Login Response already carries, say more.
        self._exp_cmdsn = cmdsn
        self._max_cmdsn = serial.add(cmdsn, -1)
        self.update(exp_cmdsn, max_cmdsn)

    @property
    def cmdsn(self) -> int:
        """What the next PDU carries: as its own number, or, when it is immediate, as that of the command after it."""
        return self._cmdsn

    @property
    def exp_cmdsn(self) -> int:
        """The first command that the target has not acknowledged."""
        return self._exp_cmdsn

    @property
    def max_cmdsn(self) -> int:
        """The last CmdSN the target has room for."""
        return self._max_cmdsn

    @property
    def open(self) -> bool:
        """Whether one more command may be sent."""
        return serial.window(self._cmdsn, self._max_cmdsn) > 0

    def take(self) -> int:
        """The CmdSN for a command that is sent now; :class:`Misuse` when the window is closed."""
        if not self.open:
            raise Misuse(f"CmdSN {self._cmdsn} is beyond the window, which ends at {self._max_cmdsn}")
        number = self._cmdsn
        self._cmdsn = serial.add(number, 1)
        return number

    def update(self, exp_cmdsn: int, max_cmdsn: int) -> str:
        """Take the numbers of a PDU by the rules of section 4.2.2.1; a clause for a remark, empty when all is well.

        A pair with MaxCmdSN below ExpCmdSN - 1 is ignored, and each number by itself when it is not greater than what
        is known: the window never shrinks.
        """
        if serial.before(max_cmdsn, serial.add(exp_cmdsn, -1)):
            return f"the target sent MaxCmdSN {max_cmdsn} below ExpCmdSN {exp_cmdsn}: both are ignored"
        if serial.before(self._max_cmdsn, max_cmdsn):
            self._max_cmdsn = max_cmdsn
        if serial.before(self._cmdsn, exp_cmdsn):
            # istgt counts a Logout Request although it is immediate.
            return f"the target expects CmdSN {exp_cmdsn}, and the next command has {self._cmdsn}: ignored"
        if serial.before(self._exp_cmdsn, exp_cmdsn):
            self._exp_cmdsn = exp_cmdsn
        return ""


class StatusSequence:
    """Which StatSN is due; what is acknowledged in each PDU of ours as ExpStatSN."""

    def __init__(self, last: int) -> None:
        self._expected = serial.add(last, 1)

    @property
    def expected(self) -> int:
        """The StatSN of the next answer."""
        return self._expected

    def advance(self, statsn: int) -> None:
        """Count an answer that uses a StatSN up; :class:`ProtocolViolation` when it is not the one that is due."""
        if statsn != self._expected:
            missing = serial.distance(self._expected, statsn)
            what = f"answers missing: {missing}" if missing > 0 else "that one was answered before"
            raise ProtocolViolation(
                f"the target sent StatSN {statsn}, {self._expected} was due ({what})",
                hint="log in again: at error recovery level 0 a lost answer ends the session",
                retryable=True,
            )
        self._expected = serial.add(statsn, 1)

    def glance(self, statsn: int) -> str:
        """Look at the StatSN of a PDU that uses none up (R2T, a NOP-In without task): a clause for a remark, or empty.

        No error: on one connection a lost answer is found by the next one, and these fields are filled carelessly.
        """
        if statsn == self._expected:
            return ""
        return f"the target sent StatSN {statsn} in a PDU that only repeats it, {self._expected} was due"
