# SPDX-License-Identifier: LGPL-2.1-or-later
"""What :func:`iscsiboot.keeper.policy.decide` folds: the situation of one session, what happens to it, what to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from iscsiboot.keeper.log import Level
from iscsiboot.keeper.values import Role

SESSION = "session {sid} {place}"
"""How most lines about a session begin."""


class Phase(Enum):
    """Where a guarded session stands."""

    UP = "up"
    STOPPING = "stopping"
    """The broken connection is being stopped (STOP_CONN); the kernel queues the session's commands."""
    WAITING = "waiting"
    """For the next attempt."""
    TRYING = "trying"
    """Connecting, logging in, starting the connection."""
    LEAVING = "leaving"
    """Being logged out and removed, by order."""
    GONE = "gone"
    """No longer in the kernel; the end."""


DOWN = frozenset({Phase.STOPPING, Phase.WAITING, Phase.TRYING})
"""The session has no connection, and is to have one again."""


class Failure(Enum):
    """Why an attempt failed, as far as the policy must tell."""

    UNREACHABLE = "unreachable"
    """No TCP connection: refused, unreachable, timed out, no address."""
    BROKEN = "broken"
    """The connection ended, or nothing came in time, while logging in."""
    UNAVAILABLE = "unavailable"
    """A target that is not ready for anybody: 03/00 and 03/01 (RFC 7143 11.13.5), what one says while it starts."""
    BUSY = "busy"
    """One that has no room for us: 03/02, out of resources."""
    DENIED = "denied"
    """Authentication or authorization failed (02/01, 02/02), also ours of the target."""
    REFUSED = "refused"
    """Any other answer that will be the same next time: 02/03 not found, 02/04 removed, a protocol error."""
    KERNEL = "kernel"
    """The kernel refused a request."""


# What happens. --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Broke:
    """CONN_ERROR of the kernel (``error``: an IscsiErr number, 0 when only sysfs tells that it is down)."""

    error: int = 0


@dataclass(frozen=True, slots=True)
class Stopped:
    """STOP_CONN is done."""


@dataclass(frozen=True, slots=True)
class StopFailed:
    """STOP_CONN was refused with this errno."""

    errno: int


@dataclass(frozen=True, slots=True)
class Due:
    """The time of ``Situation.wake`` is here."""


@dataclass(frozen=True, slots=True)
class Succeeded:
    """START_CONN is done: the session works again. ``time2wait``: as negotiated now."""

    time2wait: float
    address_changed: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt is over without a connection, and what it made of it is taken back."""

    failure: Failure
    words: str
    """One line: stage, subject, cause, next step."""
    rejected: bool = False
    """The target answered the login with a status."""


class TargetWish(Enum):
    """Async Message (RFC 7143 11.9.1), by AsyncEvent."""

    LOGOUT = 1
    DROP_CONNECTION = 2
    DROP_ALL = 3
    RENEGOTIATE = 4


@dataclass(frozen=True, slots=True)
class Asked:
    """The target asks by an Async Message. ``within`` and ``retain``: Parameter2 and 3 as seconds (0 when none)."""

    wish: TargetWish
    wait: float = 0.0
    within: float = 0.0


@dataclass(frozen=True, slots=True)
class NetworkChanged:
    """A link came up, an address or a route appeared, or the portal serves another session again: what was unreachable
    may be reachable now.
    """


@dataclass(frozen=True, slots=True)
class SecretsChanged:
    """The record was read again and says something else than before."""


@dataclass(frozen=True, slots=True)
class OrderedToLeave:
    """Somebody wants it logged out; ``force``: whatever state it is in."""

    force: bool = False


@dataclass(frozen=True, slots=True)
class OrderedToReconnect:
    """Somebody wants the connection made anew at once."""


@dataclass(frozen=True, slots=True)
class LeavingFailed:
    """The logout could not be finished; the session is still there."""

    words: str


@dataclass(frozen=True, slots=True)
class Vanished:
    """The session is not in the kernel any more (DESTROY_SESSION event, or sysfs)."""


@dataclass(frozen=True, slots=True)
class RoleChanged:
    """What the session carries is something else now."""

    role: Role


Happening = (
    Broke
    | Stopped
    | StopFailed
    | Due
    | Succeeded
    | Failed
    | Asked
    | NetworkChanged
    | SecretsChanged
    | OrderedToLeave
    | OrderedToReconnect
    | LeavingFailed
    | Vanished
    | RoleChanged
)


# What to do. ----------------------------------------------------------------------------------------------------------


class Action(Enum):
    """What the driver does, in the order given. Each ends in a happening or needs none."""

    STOP = "stop"
    """STOP_CONN (RECOVER), ends in Stopped or StopFailed."""
    TRY = "try"
    """An attempt, ends in Succeeded or Failed."""
    CANCEL = "cancel"
    """End the attempt at work without a happening; its TCP sockets are closed, the kernel's connection is stopped."""
    SAY_GOODBYE = "say goodbye"
    """Send a Logout PDU for the connection (the target asked for it), wait briefly, no happening."""
    LEAVE = "leave"
    """Unbind, log out if the connection works, destroy; ends in Vanished or LeavingFailed."""
    LEAVE_AT_ONCE = "leave at once"
    """The same without a word to the target, and whatever refuses."""
    RENEW = "renew"
    """Read the record again; SecretsChanged when it differs, else nothing."""
    SET_TIMERS = "set timers"
    """Set the live values of the role."""
    BRING_UNITS_BACK = "bring units back"
    """Units the kernel set offline go to running, then are rescanned; in a worker, no happening."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line for the log about one session: how it begins, and what comes after it."""

    level: Level
    text: str
    head: str = SESSION
    """A template of :meth:`iscsiboot.keeper.subject.Subject.say`; open-iscsi's words where people look for those."""
    kind: str = ""
    """What it has in common with the lines of other sessions; empty: its text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Situation:
    """Everything the policy knows of one session. Times are monotonic seconds."""

    phase: Phase
    role: Role = field(default_factory=Role)
    since: float = 0.0
    """When the phase began."""
    wake: float | None = None
    """When to send Due; None for never."""
    broken_at: float | None = None
    """When the recovery at hand began; None while up."""
    attempts: int = 0
    """Of the recovery at hand."""
    time2wait: float = 2.0
    owed_wait: float = 0.0
    """Seconds the target asked for before the next connection; consumed once."""
    reopen_max: int = 0
    failure: Failure | None = None
    words: str = ""
    """The last failure in words; stays after a recovery."""
    lines: int = 0
    """Lines said about the recovery at hand: the intervals between them grow."""
    say_after: float = 0.0
    """No line of one more break in this trouble before this time."""
    fail_after: float = 0.0
    """No line of a repeated failure before this time: however little was told, what lasts is told."""
    outage_told: bool = False
    """There was a line about the recovery at hand, so its end has one, too."""
    recoveries: int = 0
    leaving: bool = False
    """The order to leave came while the connection was being stopped."""
    repeats: int = 0
    """Failures of the same kind in a row, for the back-off."""
    broke: int | None = None
    """What the kernel reported while an attempt was at work; counts when the attempt succeeds all the same."""
    renewed: bool = False
    """The record changed while an attempt with the old one was at work."""
    short_lives: int = 0
    """Breaks in a row soon after a recovery: they are one trouble, and silent but for reminders."""
    troubles: int = 0
    """Troubles that each began within an hour of the recovery from the one before: the longer a connection then has to
    hold for a break to be a new one."""
    trouble_since: float | None = None
    """When what the lines are about began: the break, or the first of several in quick succession."""
    told: frozenset[Failure] = frozenset()
    """The kinds of failure there was a line about in this trouble."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from one happening."""

    situation: Situation
    actions: tuple[Action, ...] = ()
    lines: tuple[Line, ...] = ()
