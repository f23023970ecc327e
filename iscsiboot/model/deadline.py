# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every wait has a deadline and a reason; this is the value that carries both."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Deadline:
    """A point on the monotonic clock, and what is being waited for (for the message when it passes)."""

    at: float
    """Seconds on the clock the caller passes as ``now``."""
    reason: str
    """``a login answer from 10.0.2.2:3260``: completes the sentence "waited N s for ..."."""

    @classmethod
    def after(cls, seconds: float, *, now: float, reason: str) -> Deadline:
        """The deadline ``seconds`` from ``now``."""
        return cls(at=now + seconds, reason=reason)

    def remaining(self, now: float) -> float:
        """Seconds left, never negative: what a ``select`` takes as its timeout."""
        return max(0.0, self.at - now)

    def passed(self, now: float) -> bool:
        """Whether the time is up."""
        return now >= self.at

    def within(self, seconds: float, *, now: float, reason: str) -> Deadline:
        """The earlier of this deadline and ``seconds`` from now, for one step of a longer wait."""
        return Deadline(at=min(self.at, now + seconds), reason=reason)
