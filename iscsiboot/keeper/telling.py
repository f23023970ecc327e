# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which lines a guard writes about a session: transitions, and what goes on at growing intervals.

A *trouble* begins with a break and ends when the connection has held for a while, so a connection that comes and goes
is one trouble. Within it a line is written

* for the break and for the recovery; not for those that follow quickly, but when the connection holds again;
* for each new kind of failure, once: at once when the target gave an answer, else when it came twice in a row, because
  a target that restarts goes through several kinds within a second;
* after 15 minutes, 1 hour, 4 hours, 16 hours, then daily.

So ten minutes without a target are three lines a session. A connection that breaks again and again makes few troubles:
each that follows within an hour of the last doubles the time the next has to hold for its break to be told as a new
one. However it flaps, a session has at most eight troubles in an hour, and at first two lines each.

Lines open-iscsi has, too, begin with its words, because people and scripts look for those. Every line says what comes
next. Lines alike of many sessions are gathered by :mod:`.crowd`.
"""

from __future__ import annotations

import errno
import os
from dataclasses import replace

from iscsiboot.keeper.backoff import STEADY
from iscsiboot.keeper.break_words import Cause, duration
from iscsiboot.keeper.log import Level
from iscsiboot.keeper.situation import SESSION, Failed, Failure, Line, Situation, Succeeded

FIRST_REMINDER = 900.0
GROWTH = 4
REMINDER_MAX = 86400.0
"""Seconds from the trouble's beginning to the first reminder, how the intervals grow, and where that ends."""

HOUR = 3600.0
"""Seconds a connection holds before what was is forgotten."""

_REJECTED = "connection{sid}:0 login rejected {place}"
_RECOVERED = "connection{sid}:0 is operational after recovery"
SHUTDOWN = "Connection{sid}:0 to {place} through [iface: {iface}] is shutdown."
"""Heads of lines in open-iscsi's words."""

_ANSWERS = frozenset({Failure.DENIED, Failure.REFUSED})
"""Told at once: only a change at the target or here ends them."""

_OUTLOOK = {
    Failure.DENIED: "the record is read again and tried every half minute",
    Failure.REFUSED: "tried again every half minute",
}

Told = tuple[Situation, tuple[Line, ...]]


def new_trouble(situation: Situation, now: float) -> Situation:
    """Nothing was told yet of what begins now."""
    later = now + FIRST_REMINDER
    return replace(
        situation,
        trouble_since=now,
        told=frozenset(),
        lines=0,
        say_after=later,
        fail_after=later,
        outage_told=True,
        short_lives=0,
    )


def holds_after(situation: Situation) -> float:
    """Seconds from a recovery to when the connection counts as one that holds."""
    return min(STEADY * 2.0**situation.troubles, HOUR)


def broken(situation: Situation, now: float, cause: Cause, level: Level) -> Told:
    """A break of a connection that is up since ``situation.since``."""
    held = now - situation.since
    if not situation.recoveries or held >= holds_after(situation):
        troubles = situation.troubles + 1 if situation.recoveries and held < HOUR else 0
        situation = replace(new_trouble(situation, now), troubles=troubles)
        text = _joined(cause.words, "connecting again", _next(cause))
        return _said(situation), (Line(level, text, cause.head, f"break {cause.head}{cause.words}"),)
    situation = replace(
        situation, short_lives=situation.short_lives + 1, fail_after=now + FIRST_REMINDER, outage_told=False
    )
    if now < situation.say_after:
        return situation, ()
    text = f"the connection does not hold ({_breaks(situation, now)})"
    text = _joined(text, cause.words, "connecting again", _next(cause))
    line = Line(Level.WARNING, text, cause.head, f"again {cause.head}{cause.words}")
    return _said(_remind_later(situation, now)), (line,)


def failing(situation: Situation, now: float, happening: Failed) -> Told:
    """An attempt failed: ``failure``, ``repeats`` and ``words`` of the situation are about it."""
    failure = happening.failure
    new = failure not in situation.told and (failure in _ANSWERS or situation.repeats > 1)
    if not new and now < situation.fail_after:
        return situation, ()
    began = now if situation.broken_at is None else situation.broken_at
    if not new:
        situation = replace(situation, fail_after=now + _interval(now - began))
    tries = {0: "no attempt", 1: "1 attempt"}.get(situation.attempts, f"{situation.attempts} attempts")
    outlook = _OUTLOOK.get(failure, "trying on")
    text = f"no connection for {duration(now - began)}, {tries}: {situation.words}; {outlook}"
    level = Level.ERROR if failure in _ANSWERS else Level.WARNING
    line = Line(level, text, _REJECTED if happening.rejected else SESSION, f"failing {failure.value}")
    return _said(replace(situation, told=situation.told | {failure}, outage_told=True)), (line,)


def back(situation: Situation, now: float, success: Succeeded) -> Told:
    """A recovery; silent when the break before it was, and everything between."""
    if not situation.outage_told:
        return situation, ()
    began = now if situation.broken_at is None else situation.broken_at
    head = f"{_RECOVERED} ({situation.attempts} attempts) {{place}}"
    where = "the target has another address now" if success.address_changed else ""
    text = _joined(f"it took {duration(now - began)}", where)
    return _said(situation), (Line(Level.NOTICE, text, head, "back"),)


def steady(situation: Situation, now: float) -> Told:
    """The end of breaks in quick succession."""
    if not situation.short_lives:
        return situation, ()
    text = f"the connection holds again ({_breaks(situation, now)})"
    return _said(situation), (Line(Level.NOTICE, text, kind="steady"),)


def staying(situation: Situation, now: float) -> Told:
    """A session that should go does not."""
    if Failure.KERNEL in situation.told and now < situation.say_after:
        return situation, ()
    if Failure.KERNEL in situation.told:
        situation = _remind_later(situation, now)
    text = f"the session is not gone yet: {situation.words}; trying on"
    line = Line(Level.WARNING, text, kind="staying")
    return _said(replace(situation, told=situation.told | {Failure.KERNEL})), (line,)


def errno_words(number: int) -> str:
    """``EINVAL: Invalid argument``."""
    return f"{errno.errorcode.get(number, str(number))}: {os.strerror(number)}"


def _breaks(situation: Situation, now: float) -> str:
    """``4 breaks in 12 min``."""
    since = now if situation.trouble_since is None else situation.trouble_since
    return f"{situation.short_lives + 1} breaks in {duration(now - since)}"


def _joined(*parts: str) -> str:
    return "; ".join(filter(None, parts))


def _next(cause: Cause) -> str:
    return f"next: {cause.hint}" if cause.hint else ""


def _remind_later(situation: Situation, now: float) -> Situation:
    since = now if situation.trouble_since is None else situation.trouble_since
    return replace(situation, say_after=now + _interval(now - since))


def _interval(age: float) -> float:
    """Until the next reminder of what goes on for ``age``."""
    return min(max(FIRST_REMINDER, age * (GROWTH - 1)), REMINDER_MAX)


def _said(situation: Situation) -> Situation:
    return replace(situation, lines=situation.lines + 1)
