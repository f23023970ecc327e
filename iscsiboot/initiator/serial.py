# SPDX-License-Identifier: LGPL-2.1-or-later
"""Serial number arithmetic for CmdSN, StatSN and their kin (RFC 1982 with 32 bits, as RFC 7143 section 4.2.2.1 asks).

Numbers go round: 0 follows 0xffffffff. Two numbers that are half a circle apart have no order.
"""

from __future__ import annotations

SERIAL_MAX = 0xFFFFFFFF
"""The last number before 0."""
ADD_MAX = 0x7FFFFFFF
"""The most that may be added, so that the sum is after the number (RFC 1982 section 3.1)."""


def add(number: int, count: int) -> int:
    """The serial number ``count`` after ``number``, before it for a negative count; OverflowError beyond ADD_MAX."""
    if not -ADD_MAX <= count <= ADD_MAX:
        raise OverflowError(f"{count} is too much to add to a serial number")
    return number + count & SERIAL_MAX


def distance(first: int, second: int) -> int:
    """How far ``second`` is after ``first``: negative when it is before, -2**31 when they have no order."""
    return (second - first + ADD_MAX + 1 & SERIAL_MAX) - ADD_MAX - 1


def before(first: int, second: int) -> bool:
    """Whether ``first`` comes before ``second``; False both ways when they are equal or have no order."""
    return distance(first, second) > 0


def window(first: int, last: int) -> int:
    """How many numbers there are from ``first`` to ``last``, both counted; 0 for an empty or a backward window.

    That is the command window with ExpCmdSN (or the next CmdSN) and MaxCmdSN: a target closes it by a MaxCmdSN one
    before ExpCmdSN (section 4.2.2.1).
    """
    return max(0, distance(first, last) + 1)
