# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is done about a session, as a table: phase x happening -> rule. Drawn in docs/recovery-states.md.

RULE 1: every cell is there, also where nothing is done; it says why. A gap is a mistake of ours and raises KeyError.
RULE 2: a rule leads to no phase that its cell does not list. Tests walk every cell and hold it.
RULE 3: nothing else decides. :mod:`iscsiboot.keeper.guard` carries out :class:`~.situation.Action` and reports.

The table has no time of its own: a situation says when to send Due. In no phase but UP and GONE does a session stand
without work under way or such a time, so none is ever forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from iscsiboot.keeper import rules
from iscsiboot.keeper.rules import Moment
from iscsiboot.keeper.situation import (
    Asked,
    Broke,
    Decision,
    Due,
    Failed,
    Failure,
    Happening,
    LeavingFailed,
    NetworkChanged,
    OrderedToLeave,
    OrderedToReconnect,
    Phase,
    RoleChanged,
    SecretsChanged,
    Situation,
    StopFailed,
    Stopped,
    Succeeded,
    Vanished,
)
from iscsiboot.keeper.values import Role

H_contra = TypeVar("H_contra", bound=Happening, contravariant=True)
H = TypeVar("H", bound=Happening)


@dataclass(frozen=True, slots=True)
class Cell(Generic[H_contra]):
    """One cell of the table."""

    rule: Callable[[Situation, H_contra, Moment], Decision]
    what: str
    """For people: what is done."""
    leads_to: frozenset[Phase]
    """The other phases it may lead to."""


@dataclass(frozen=True, slots=True)
class Column(Generic[H_contra]):
    """What one happening means in each phase."""

    what: str
    """For people: what happened."""
    cells: Mapping[Phase, Cell[H_contra]]

    def decide(self, situation: Situation, happening: H_contra, moment: Moment) -> Decision:
        """What follows."""
        return self.cells[situation.phase].rule(situation, happening, moment)


class ShownCell(Protocol):
    """What people are shown of a cell, whatever its happening is."""

    @property
    def what(self) -> str:
        """What is done."""

    @property
    def leads_to(self) -> frozenset[Phase]:
        """The other phases it may lead to."""


class ShownColumn(Protocol):
    """What people are shown of a column."""

    @property
    def what(self) -> str:
        """What happened."""

    @property
    def cells(self) -> Mapping[Phase, ShownCell]:
        """By phase."""


def _cell(rule: Callable[[Situation, H, Moment], Decision], what: str, *leads_to: Phase) -> Cell[H]:
    return Cell(rule, what, frozenset(leads_to))


def _none(why: str) -> Cell[Happening]:
    return Cell(rules.nothing, f"nothing: {why}", frozenset())


_UP, _STOPPING, _WAITING, _TRYING, _LEAVING, _GONE = Phase
_OVER = _none("it is over")
_LATE = _none("late, that work is over")
_AT_ONCE_GONE = "remove the session when its host is going away (error 1018)"

BROKE: Column[Broke] = Column(
    "the kernel reports the connection broken",
    {
        _UP: _cell(rules.broke, f"stop the connection; {_AT_ONCE_GONE}", _STOPPING, _LEAVING),
        _STOPPING: _cell(rules.broke_again, f"known; {_AT_ONCE_GONE}", _LEAVING),
        _WAITING: _cell(rules.broke_again, f"known; {_AT_ONCE_GONE}", _LEAVING),
        _TRYING: _cell(
            rules.broke_meanwhile, f"remember it, the attempt may have just succeeded; {_AT_ONCE_GONE}", _LEAVING
        ),
        _LEAVING: _none("who leaves hears it, too"),
        _GONE: _OVER,
    },
)
STOPPED: Column[Stopped] = Column(
    "the broken connection is stopped",
    {
        _UP: _LATE,
        _STOPPING: _cell(
            rules.stopped,
            "try; first wait if the target asked for it or drops us again and again; leave if that was ordered",
            _TRYING,
            _WAITING,
            _LEAVING,
        ),
        _WAITING: _LATE,
        _TRYING: _LATE,
        _LEAVING: _none("who leaves stops it again"),
        _GONE: _OVER,
    },
)
STOP_FAILED: Column[StopFailed] = Column(
    "the kernel refused to stop it",
    {
        _UP: _LATE,
        _STOPPING: _cell(rules.stop_failed, "ask it again later; leave if that was ordered", _LEAVING),
        _WAITING: _LATE,
        _TRYING: _LATE,
        _LEAVING: _none("who leaves asks it again"),
        _GONE: _OVER,
    },
)
DUE: Column[Due] = Column(
    "the time the situation named is here",
    {
        _UP: _cell(rules.steady, "tell that the connection holds again"),
        _STOPPING: _cell(rules.stop_again, "stop the connection"),
        _WAITING: _cell(rules.attempt, "try", _TRYING),
        _TRYING: _none("an attempt has its own deadlines"),
        _LEAVING: _cell(rules.leave_again, "remove the session"),
        _GONE: _OVER,
    },
)
SUCCEEDED: Column[Succeeded] = Column(
    "an attempt succeeded",
    {
        _UP: _LATE,
        _STOPPING: _LATE,
        _WAITING: _LATE,
        _TRYING: _cell(
            rules.succeeded,
            "set the timers, bring units back; stop the connection if it broke again meanwhile",
            _UP,
            _STOPPING,
        ),
        _LEAVING: _none("it is to go all the same"),
        _GONE: _OVER,
    },
)
FAILED: Column[Failed] = Column(
    "an attempt failed",
    {
        _UP: _LATE,
        _STOPPING: _LATE,
        _WAITING: _LATE,
        _TRYING: _cell(
            rules.failed,
            "wait; read the record again after a refusal; remove a data session after `reopen_max` attempts",
            _WAITING,
            _LEAVING,
        ),
        _LEAVING: _none("it is to go anyway"),
        _GONE: _OVER,
    },
)
ASKED: Column[Asked] = Column(
    "the target asks by an Async Message",
    {
        _UP: _cell(rules.asked, "log out if it asks for that, stop the connection", _STOPPING),
        _STOPPING: _cell(rules.asked_late, "stay away as long as it asks for"),
        _WAITING: _none("there is no connection"),
        _TRYING: _none("the connection is not ours yet; who means it ends it"),
        _LEAVING: _none("who leaves logs out"),
        _GONE: _OVER,
    },
)
NETWORK_CHANGED: Column[NetworkChanged] = Column(
    "a link, an address or a route changed, or the portal serves another session again",
    {
        _UP: _none("pings tell whether it matters"),
        _STOPPING: _none("an attempt follows"),
        _WAITING: _cell(
            rules.network_changed, "try at once, unless the target answered or asked us to stay away", _TRYING
        ),
        _TRYING: _none("an attempt connects anew every second"),
        _LEAVING: _none("it is to go anyway"),
        _GONE: _OVER,
    },
)
SECRETS_CHANGED: Column[SecretsChanged] = Column(
    "the record says something else than before",
    {
        _UP: _none("the next login uses it"),
        _STOPPING: _none("an attempt follows"),
        _WAITING: _cell(rules.secrets_changed, "try at once, unless the target asked us to stay away", _TRYING),
        _TRYING: _cell(rules.secrets_changed_meanwhile, "try again soon if this attempt fails"),
        _LEAVING: _none("it is to go anyway"),
        _GONE: _OVER,
    },
)
ORDERED_TO_LEAVE: Column[OrderedToLeave] = Column(
    "somebody wants it logged out",
    {
        _UP: _cell(rules.leave, "log out and remove the session", _LEAVING),
        _STOPPING: _cell(rules.leave_when_stopped, "remove the session, by force at once, else when stopped", _LEAVING),
        _WAITING: _cell(rules.leave, "remove the session", _LEAVING),
        _TRYING: _cell(rules.leave, "end the attempt, remove the session", _LEAVING),
        _LEAVING: _cell(rules.leave_harder, "by force: at once; else it is being done"),
        _GONE: _OVER,
    },
)
ORDERED_TO_RECONNECT: Column[OrderedToReconnect] = Column(
    "somebody wants a new connection",
    {
        _UP: _cell(rules.reconnect, "stop the connection", _STOPPING),
        _STOPPING: _cell(rules.no_more_waiting, "try as soon as it is stopped"),
        _WAITING: _cell(rules.attempt_now, "try", _TRYING),
        _TRYING: _cell(rules.attempt_anew, "end the attempt, try anew"),
        _LEAVING: _none("it is to go anyway"),
        _GONE: _OVER,
    },
)
LEAVING_FAILED: Column[LeavingFailed] = Column(
    "the session could not be removed",
    {
        _UP: _LATE,
        _STOPPING: _LATE,
        _WAITING: _LATE,
        _TRYING: _LATE,
        _LEAVING: _cell(rules.leaving_failed, "wait, then remove it by force"),
        _GONE: _OVER,
    },
)
VANISHED: Column[Vanished] = Column(
    "the session is no longer in the kernel",
    {
        _UP: _cell(rules.vanished, "tell who guards it that it is over", _GONE),
        _STOPPING: _cell(rules.vanished, "tell it", _GONE),
        _WAITING: _cell(rules.vanished, "tell it", _GONE),
        _TRYING: _cell(rules.vanished, "end the attempt, tell it", _GONE),
        _LEAVING: _cell(rules.left, "tell that it is done", _GONE),
        _GONE: _OVER,
    },
)
ROLE_CHANGED: Column[RoleChanged] = Column(
    "the session carries something else",
    {
        _UP: _cell(rules.role_while_up, "set the timers"),
        _STOPPING: _cell(rules.role_later, "set the timers after the recovery"),
        _WAITING: _cell(rules.role_while_waiting, "wait no longer than the new role does; timers after the recovery"),
        _TRYING: _cell(rules.role_later, "set the timers after the recovery"),
        _LEAVING: _cell(rules.role_later, "remember it"),
        _GONE: _OVER,
    },
)

PHASES: Mapping[Phase, str] = {
    _UP: "works",
    _STOPPING: "is broken, and the kernel is asked to stop its connection; it queues commands meanwhile",
    _WAITING: "waits for the next attempt",
    _TRYING: "is being connected and logged in",
    _LEAVING: "is being logged out and removed",
    _GONE: "is no longer in the kernel",
}
"""The phases, for people; completes "the session ..."."""

FAILURES: Mapping[Failure, str] = {
    Failure.UNREACHABLE: "no TCP connection: refused, no route, no answer",
    Failure.BROKEN: "the connection ended, or fell silent, while logging in",
    Failure.UNAVAILABLE: "the target is not ready for anybody (03/00, 03/01): it starts, or is in trouble",
    Failure.BUSY: "the target has no room for us (03/02, out of resources)",
    Failure.DENIED: "authentication or authorization failed, on either side",
    Failure.REFUSED: "the target gave an answer that will hardly change: no such name, a broken rule",
    Failure.KERNEL: "the kernel refused a request",
}
"""Why attempts fail, for people."""

COLUMNS: Mapping[type[Happening], ShownColumn] = {
    Broke: BROKE,
    Stopped: STOPPED,
    StopFailed: STOP_FAILED,
    Due: DUE,
    Succeeded: SUCCEEDED,
    Failed: FAILED,
    Asked: ASKED,
    NetworkChanged: NETWORK_CHANGED,
    SecretsChanged: SECRETS_CHANGED,
    OrderedToLeave: ORDERED_TO_LEAVE,
    OrderedToReconnect: ORDERED_TO_RECONNECT,
    LeavingFailed: LEAVING_FAILED,
    Vanished: VANISHED,
    RoleChanged: ROLE_CHANGED,
}
"""The whole table, for who shows it."""


def begin(*, now: float, role: Role | None = None, time2wait: float = 2.0, reopen_max: int = 0) -> Situation:
    """The situation of a session that works. One that is down gets a :class:`Broke` at once."""
    return Situation(phase=Phase.UP, role=role or Role(), since=now, time2wait=time2wait, reopen_max=reopen_max)


def decide(situation: Situation, happening: Happening, *, now: float, chance: float) -> Decision:
    """What follows from ``happening``. ``now``: monotonic seconds; ``chance``: a random number in [0, 1)."""
    moment = Moment(now, chance)
    match happening:
        case Broke():
            return BROKE.decide(situation, happening, moment)
        case Stopped():
            return STOPPED.decide(situation, happening, moment)
        case StopFailed():
            return STOP_FAILED.decide(situation, happening, moment)
        case Due():
            return DUE.decide(situation, happening, moment)
        case Succeeded():
            return SUCCEEDED.decide(situation, happening, moment)
        case Failed():
            return FAILED.decide(situation, happening, moment)
        case Asked():
            return ASKED.decide(situation, happening, moment)
        case NetworkChanged():
            return NETWORK_CHANGED.decide(situation, happening, moment)
        case SecretsChanged():
            return SECRETS_CHANGED.decide(situation, happening, moment)
        case OrderedToLeave():
            return ORDERED_TO_LEAVE.decide(situation, happening, moment)
        case OrderedToReconnect():
            return ORDERED_TO_RECONNECT.decide(situation, happening, moment)
        case LeavingFailed():
            return LEAVING_FAILED.decide(situation, happening, moment)
        case Vanished():
            return VANISHED.decide(situation, happening, moment)
        case RoleChanged():
            return ROLE_CHANGED.decide(situation, happening, moment)
