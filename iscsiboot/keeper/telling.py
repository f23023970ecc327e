# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which lines a guard writes about a session: transitions, and what goes on at growing intervals.

A *trouble* begins with a break and ends when the connection has held for a while, so a connection that comes and goes
is one trouble. Within it a line is written

* for the break and for the recovery; not for those that follow quickly, but when the connection holds again;
* for each new kind of failure, once: at once when the target gave an answer, else when it came twice in a row, because
  a target that restarts goes through several kinds within a second;
* after 15 minutes, 1 hour, 4 hours, 16 hours, then daily.

So ten minutes without a target are three lines a session. Every line says what comes next.
"""

from __future__ import annotations

import errno
import os
from dataclasses import replace

from iscsiboot.keeper.break_words import duration
from iscsiboot.keeper.log import Level
from iscsiboot.keeper.situation import Failure, Line, Situation, Succeeded

FIRST_REMINDER = 900.0
GROWTH = 4
REMINDER_MAX = 86400.0
"""Seconds from the trouble's beginning to the first reminder, how the intervals grow, and where that ends."""

_ANSWERS = frozenset({Failure.DENIED, Failure.REFUSED})
"""Told at once: only a change at the target or here ends them."""

_OUTLOOK = {
    Failure.DENIED: "the record is read again and tried every half minute",
    Failure.REFUSED: "tried again every half minute",
}

Told = tuple[Situation, tuple[Line, ...]]


def new_trouble(situation: Situation, now: float) -> Situation:
    """Nothing was told yet of what begins now."""
    return replace(situation, trouble_since=now, told=frozenset(), lines=0, say_after=now + FIRST_REMINDER)


def broken(situation: Situation, now: float, cause: str, level: Level, *, again: bool) -> Told:
    """A break; ``again``: soon after a recovery."""
    if not again:
        return _said(new_trouble(situation, now)), (Line(level, f"{cause}; connecting again"),)
    if now < situation.say_after:
        return situation, ()
    text = f"the connection does not hold ({_breaks(situation, now)}): {cause}; connecting again"
    return _said(_remind_later(situation, now)), (Line(Level.WARNING, text),)


def failing(situation: Situation, now: float) -> Told:
    """An attempt failed: ``failure``, ``repeats`` and ``words`` of the situation are about it."""
    failure = situation.failure
    if failure is None:
        return situation, ()
    new = failure not in situation.told and (failure in _ANSWERS or situation.repeats > 1)
    if not new and now < situation.say_after:
        return situation, ()
    if not new:
        situation = _remind_later(situation, now)
    began = now if situation.broken_at is None else situation.broken_at
    tries = {0: "no attempt", 1: "1 attempt"}.get(situation.attempts, f"{situation.attempts} attempts")
    outlook = _OUTLOOK.get(failure, "trying on")
    text = f"no connection for {duration(now - began)}, {tries}: {situation.words}; {outlook}"
    level = Level.ERROR if failure in _ANSWERS else Level.WARNING
    return _said(replace(situation, told=situation.told | {failure})), (Line(level, text),)


def back(situation: Situation, now: float, success: Succeeded) -> Told:
    """A recovery; silent when the break before it was."""
    if situation.short_lives:
        return situation, ()
    began = now if situation.broken_at is None else situation.broken_at
    tries = "" if situation.attempts < 2 else f", {situation.attempts} attempts"
    where = "; the target has another address now" if success.address_changed else ""
    return _said(situation), (Line(Level.NOTICE, f"connected again after {duration(now - began)}{tries}{where}"),)


def steady(situation: Situation, now: float) -> Told:
    """The end of breaks in quick succession."""
    if not situation.short_lives:
        return situation, ()
    text = f"the connection holds again ({_breaks(situation, now)})"
    return _said(situation), (Line(Level.NOTICE, text),)


def staying(situation: Situation, now: float) -> Told:
    """A session that should go does not."""
    if Failure.KERNEL in situation.told and now < situation.say_after:
        return situation, ()
    if Failure.KERNEL in situation.told:
        situation = _remind_later(situation, now)
    text = f"the session is not gone yet: {situation.words}; trying on"
    return _said(replace(situation, told=situation.told | {Failure.KERNEL})), (Line(Level.WARNING, text),)


def errno_words(number: int) -> str:
    """``EINVAL: Invalid argument``."""
    return f"{errno.errorcode.get(number, str(number))}: {os.strerror(number)}"


def _breaks(situation: Situation, now: float) -> str:
    """``4 breaks in 12 min``."""
    since = now if situation.trouble_since is None else situation.trouble_since
    return f"{situation.short_lives + 1} breaks in {duration(now - since)}"


def _remind_later(situation: Situation, now: float) -> Situation:
    since = now if situation.trouble_since is None else situation.trouble_since
    interval = min(max(FIRST_REMINDER, (now - since) * (GROWTH - 1)), REMINDER_MAX)
    return replace(situation, say_after=now + interval)


def _said(situation: Situation) -> Situation:
    return replace(situation, lines=situation.lines + 1)
