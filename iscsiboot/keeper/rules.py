# SPDX-License-Identifier: LGPL-2.1-or-later
"""What each cell of :mod:`iscsiboot.keeper.policy` does, one pure function a rule.

A rule takes the situation, what happened and the moment, and returns what follows. Lines are thin on purpose
(:mod:`iscsiboot.keeper.telling`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from iscsiboot.keeper import telling
from iscsiboot.keeper.backoff import OWED_MAX, SOON, STEADY, may_give_up, pause
from iscsiboot.keeper.break_words import Cause, break_cause, wish_cause
from iscsiboot.keeper.log import Level
from iscsiboot.keeper.situation import (
    Action,
    Asked,
    Broke,
    Decision,
    Failed,
    Failure,
    Happening,
    LeavingFailed,
    Line,
    OrderedToLeave,
    Phase,
    RoleChanged,
    Situation,
    StopFailed,
    Succeeded,
    TargetWish,
)
from iscsiboot.netlink.uapi import IscsiErr

_NETWORK_HELPS = frozenset({None, Failure.UNREACHABLE, Failure.BROKEN, Failure.KERNEL})
"""Failures a change of our network may end; what a target answered it answers again."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What a decision needs beside the situation."""

    now: float
    chance: float
    """In [0, 1); spreads what many sessions would else do at once."""


def nothing(situation: Situation, _: Happening, __: Moment) -> Decision:
    """It changes nothing here."""
    return Decision(situation)


# A break. -------------------------------------------------------------------------------------------------------------


def broke(situation: Situation, happening: Broke, moment: Moment) -> Decision:
    """A working connection is gone: stop it, so that the kernel queues what comes."""
    if happening.error == IscsiErr.ISCSI_ERR_INVALID_HOST:
        return host_gone(situation, happening, moment)
    return _recover(situation, moment, (Action.STOP,), break_cause(happening.error), Level.WARNING)


def broke_meanwhile(situation: Situation, happening: Broke, moment: Moment) -> Decision:
    """An error while an attempt is at work: its own, which ends it, or that of the connection it just started.

    Without a number it is only sysfs that says so, and a connection being made always looks down there.
    """
    if happening.error == IscsiErr.ISCSI_ERR_INVALID_HOST:
        return host_gone(situation, happening, moment)
    return Decision(replace(situation, broke=happening.error or situation.broke))


def broke_again(situation: Situation, happening: Broke, moment: Moment) -> Decision:
    """A late word about the connection that is given up already."""
    if happening.error == IscsiErr.ISCSI_ERR_INVALID_HOST:
        return host_gone(situation, happening, moment)
    return Decision(situation)


def host_gone(situation: Situation, happening: Broke, moment: Moment) -> Decision:
    """The SCSI host is being removed: there is nothing to recover into."""
    line = Line(Level.ERROR, "the session cannot be kept", break_cause(happening.error).head)
    return _leave(situation, moment, force=True, line=line)


def asked(situation: Situation, happening: Asked, moment: Moment) -> Decision:
    """The target wants the connection away: at once, in good order where it asks for that, and back when it may."""
    logout = happening.wish in (TargetWish.LOGOUT, TargetWish.RENEGOTIATE)
    owed = max(happening.wait, situation.time2wait if happening.wish is TargetWish.LOGOUT else 0.0)
    actions = (Action.SAY_GOODBYE, Action.STOP) if logout else (Action.STOP,)
    situation = replace(situation, owed_wait=_bounded(owed))
    return _recover(situation, moment, actions, wish_cause(happening), Level.NOTICE)


def asked_late(situation: Situation, happening: Asked, _: Moment) -> Decision:
    """The connection is being given up already; only how long to stay away is news."""
    return Decision(replace(situation, owed_wait=max(situation.owed_wait, _bounded(happening.wait))))


def reconnect(situation: Situation, _: Happening, moment: Moment) -> Decision:
    """By order: no waiting, and no good-bye to a target that may not answer; the new login ends the old session."""
    situation = replace(
        telling.new_trouble(situation, moment.now),
        broken_at=moment.now,
        owed_wait=0.0,
        attempts=0,
        repeats=0,
        failure=None,
    )
    line = Line(Level.NOTICE, "connecting anew, by order")
    return Decision(_enter(situation, Phase.STOPPING, moment), (Action.STOP,), (line,))


def no_more_waiting(situation: Situation, _: Happening, __: Moment) -> Decision:
    """By order: the attempt that follows is not put off."""
    return Decision(replace(situation, owed_wait=0.0))


def _recover(situation: Situation, moment: Moment, actions: tuple[Action, ...], cause: Cause, level: Level) -> Decision:
    """From a working connection into a recovery; several in quick succession are one trouble."""
    short = situation.recoveries > 0 and moment.now - situation.since < STEADY
    situation = replace(
        situation,
        broken_at=moment.now,
        attempts=0,
        repeats=0,
        failure=None,
        # Who logs us in and drops us at once is not logged in to without end.
        owed_wait=max(situation.owed_wait, _after_short_life(situation, moment)) if short else situation.owed_wait,
    )
    situation, lines = telling.broken(situation, moment.now, cause, level)
    return Decision(_enter(situation, Phase.STOPPING, moment), actions, lines)


def _after_short_life(situation: Situation, moment: Moment) -> float:
    system = bool(situation.role.system)
    return pause(Failure.BROKEN, situation.short_lives + 1, system=system, chance=moment.chance)


# The way back. --------------------------------------------------------------------------------------------------------


def stopped(situation: Situation, _: Happening, moment: Moment) -> Decision:
    """Try at once, unless somebody wants it gone or the target asked us to stay away for a while."""
    if not _at_work(situation):
        return Decision(situation)
    if situation.leaving:
        return _leave(situation, moment, force=False)
    if situation.owed_wait > 0:
        return Decision(_enter(situation, Phase.WAITING, moment, wake=moment.now + situation.owed_wait))
    return _try(situation, moment)


def stop_failed(situation: Situation, happening: StopFailed, moment: Moment) -> Decision:
    """Ask the kernel again later; without a stop there is no new connection."""
    if not _at_work(situation):
        return Decision(situation)
    if situation.leaving:
        return _leave(situation, moment, force=False)
    words = f"the kernel did not stop the broken connection ({telling.errno_words(happening.errno)})"
    return _failed(situation, Failed(Failure.KERNEL, words), moment, Phase.STOPPING)


def stop_again(situation: Situation, _: Happening, moment: Moment) -> Decision:
    """The stop was refused before."""
    if not _is_due(situation, moment):
        return Decision(situation)
    return Decision(_enter(situation, Phase.STOPPING, moment), (Action.STOP,))


def attempt(situation: Situation, _: Happening, moment: Moment) -> Decision:
    """The next attempt."""
    return _try(situation, moment) if _is_due(situation, moment) else Decision(situation)


def attempt_now(situation: Situation, _: Happening, moment: Moment) -> Decision:
    """By order: whatever is waited for."""
    return _try(situation, moment)


def attempt_anew(situation: Situation, _: Happening, moment: Moment) -> Decision:
    """By order: the attempt at work may hang on what has changed since it began."""
    return _try(situation, moment, Action.CANCEL)


def network_changed(situation: Situation, _: Happening, moment: Moment) -> Decision:
    """What was unreachable may be reachable now; a target that asked us to stay away is left alone."""
    if situation.owed_wait or situation.failure not in _NETWORK_HELPS:
        return Decision(situation)
    return _sooner(situation, moment, situation.since + SOON)


def secrets_changed(situation: Situation, _: Happening, moment: Moment) -> Decision:
    """Whatever failed, it was with the old ones."""
    return Decision(situation) if situation.owed_wait else _sooner(situation, moment, situation.since + SOON)


def secrets_changed_meanwhile(situation: Situation, _: Happening, __: Moment) -> Decision:
    """The attempt at work has the old ones; should it fail, the next one comes soon."""
    return Decision(replace(situation, renewed=True))


def succeeded(situation: Situation, happening: Succeeded, moment: Moment) -> Decision:
    """The session works again; unless the kernel gave the new connection up before this word arrived."""
    situation = replace(situation, time2wait=happening.time2wait, recoveries=situation.recoveries + 1)
    if situation.broke is not None:
        error, situation = situation.broke, replace(situation, broke=None)
        up = _enter(situation, Phase.UP, moment)
        return _recover(up, moment, (Action.STOP,), break_cause(error), Level.WARNING)
    situation, lines = telling.back(situation, moment.now, happening)
    # Only breaks in quick succession need a word once they are over; nothing wakes up for anything else.
    wake = moment.now + telling.holds_after(situation) if situation.short_lives else None
    situation = replace(
        _enter(situation, Phase.UP, moment, wake=wake),
        broken_at=None,
        attempts=0,
        repeats=0,
        failure=None,
        renewed=False,
    )
    return Decision(situation, (Action.SET_TIMERS, Action.BRING_UNITS_BACK), lines)


def steady(situation: Situation, _: Happening, moment: Moment) -> Decision:
    """It holds again after breaks in quick succession."""
    if not _is_due(situation, moment):
        return Decision(situation)
    situation, lines = telling.steady(situation, moment.now)
    return Decision(replace(situation, wake=None, short_lives=0), (), lines)


def failed(situation: Situation, happening: Failed, moment: Moment) -> Decision:
    """Wait and try again, for ever; only a data session whose record says so is given up."""
    if may_give_up(situation, moment.now):
        text = f"given up after {situation.attempts} attempts, as node.session.reopen_max says: {happening.words}"
        line = Line(Level.ERROR, text, kind="given up")
        # Its attempt is over, so there is none to cancel.
        situation = replace(situation, phase=Phase.WAITING, failure=happening.failure, words=happening.words)
        return _leave(situation, moment, force=True, line=line)
    return _failed(situation, happening, moment, Phase.WAITING)


def _failed(situation: Situation, happening: Failed, moment: Moment, phase: Phase) -> Decision:
    repeats = situation.repeats + 1 if happening.failure is situation.failure else 1
    seconds = pause(happening.failure, repeats, system=bool(situation.role.system), chance=moment.chance)
    if situation.renewed:
        seconds = min(seconds, SOON)
    situation = replace(
        situation, failure=happening.failure, words=happening.words, repeats=repeats, broke=None, renewed=False
    )
    situation, lines = telling.failing(situation, moment.now, happening)
    renew = happening.failure in (Failure.DENIED, Failure.REFUSED)
    return Decision(
        _enter(situation, phase, moment, wake=moment.now + seconds), (Action.RENEW,) if renew else (), lines
    )


def _sooner(situation: Situation, moment: Moment, when: float) -> Decision:
    """Bring the next attempt forward to ``when``."""
    if when <= moment.now:
        return _try(situation, moment)
    wake = when if situation.wake is None else min(situation.wake, when)
    return Decision(replace(situation, wake=wake))


def _try(situation: Situation, moment: Moment, *before: Action) -> Decision:
    situation = replace(situation, attempts=situation.attempts + 1, owed_wait=0.0, broke=None, renewed=False)
    return Decision(_enter(situation, Phase.TRYING, moment), (*before, Action.TRY))


# Leaving. -------------------------------------------------------------------------------------------------------------


def leave(situation: Situation, happening: OrderedToLeave, moment: Moment) -> Decision:
    """By order."""
    return _leave(situation, moment, force=happening.force)


def leave_when_stopped(situation: Situation, happening: OrderedToLeave, moment: Moment) -> Decision:
    """By order; the stop at work ends first, unless it was refused or nothing is to be waited for."""
    if happening.force or situation.wake is not None:
        return _leave(situation, moment, force=happening.force)
    return Decision(replace(situation, leaving=True))


def leave_harder(situation: Situation, happening: OrderedToLeave, moment: Moment) -> Decision:
    """It is being left; force ends the gentle way."""
    return _leave(situation, moment, force=True) if happening.force else Decision(situation)


def leave_again(situation: Situation, _: Happening, moment: Moment) -> Decision:
    """The kernel refused before."""
    return _leave(situation, moment, force=True) if _is_due(situation, moment) else Decision(situation)


def leaving_failed(situation: Situation, happening: LeavingFailed, moment: Moment) -> Decision:
    """Go on until it is gone: what somebody gave up is not logged in to again, nor does it stay half there."""
    if not _at_work(situation):
        return Decision(situation)
    repeats = situation.repeats + 1 if situation.failure is Failure.KERNEL else 1
    seconds = pause(Failure.KERNEL, repeats, system=False, chance=moment.chance)
    situation = replace(situation, failure=Failure.KERNEL, words=happening.words, repeats=repeats)
    situation, lines = telling.staying(situation, moment.now)
    return Decision(_enter(situation, Phase.LEAVING, moment, wake=moment.now + seconds), (), lines)


def _leave(situation: Situation, moment: Moment, *, force: bool, line: Line | None = None) -> Decision:
    cancel = (Action.CANCEL,) if situation.phase is Phase.TRYING else ()
    situation = situation if situation.phase is Phase.LEAVING else telling.new_trouble(situation, moment.now)
    return Decision(
        replace(_enter(situation, Phase.LEAVING, moment), leaving=True, broke=None),
        (*cancel, Action.LEAVE_AT_ONCE if force else Action.LEAVE),
        () if line is None else (line,),
    )


def left(situation: Situation, _: Happening, moment: Moment) -> Decision:
    """It is gone, as somebody wanted."""
    line = Line(Level.NOTICE, "", telling.SHUTDOWN, "shutdown")
    return Decision(_enter(situation, Phase.GONE, moment), (), (line,))


def vanished(situation: Situation, _: Happening, moment: Moment) -> Decision:
    """Somebody else removed it."""
    cancel = (Action.CANCEL,) if situation.phase is Phase.TRYING else ()
    level = Level.ERROR if situation.role.system else Level.WARNING
    text = "the session is no longer in the kernel: another program removed it"
    return Decision(_enter(situation, Phase.GONE, moment), cancel, (Line(level, text),))


# The role. ------------------------------------------------------------------------------------------------------------


def role_while_up(situation: Situation, happening: RoleChanged, _: Moment) -> Decision:
    """The live timers follow; the kernel takes them for the next break."""
    if happening.role == situation.role:
        return Decision(situation)
    return Decision(replace(situation, role=happening.role), (Action.SET_TIMERS,))


def role_while_waiting(situation: Situation, happening: RoleChanged, moment: Moment) -> Decision:
    """The timers follow after the recovery; what the system turns out to stand on waits no longer than such do."""
    situation = replace(situation, role=happening.role)
    if (
        situation.role.system
        and situation.failure is not None
        and situation.wake is not None
        and not situation.owed_wait
    ):
        seconds = pause(situation.failure, situation.repeats, system=True, chance=moment.chance)
        situation = replace(situation, wake=min(situation.wake, moment.now + seconds))
    return Decision(situation)


def role_later(situation: Situation, happening: RoleChanged, _: Moment) -> Decision:
    """The timers follow when the connection works."""
    return Decision(replace(situation, role=happening.role))


def _at_work(situation: Situation) -> bool:
    """In STOPPING and LEAVING: whether the kernel is at work; else it will be asked again, and reports come late."""
    return situation.wake is None


def _is_due(situation: Situation, moment: Moment) -> bool:
    """Whether the time is here; a timer that was armed for an earlier one is late."""
    return situation.wake is not None and moment.now >= situation.wake


def _enter(situation: Situation, phase: Phase, moment: Moment, wake: float | None = None) -> Situation:
    return replace(situation, phase=phase, since=moment.now, wake=wake)


def _bounded(wait: float) -> float:
    return min(max(0.0, wait), OWED_MAX)
