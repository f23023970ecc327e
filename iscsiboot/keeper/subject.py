# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a guard and the work it has done share about one session, and what all guards of a keeper share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from iscsiboot.keeper.attempt import Told, Tools
from iscsiboot.keeper.crowd import Crowd
from iscsiboot.keeper.live import Retries
from iscsiboot.keeper.log import Level
from iscsiboot.keeper.role import timers
from iscsiboot.keeper.situation import Line
from iscsiboot.keeper.values import Known, Role, Timers
from iscsiboot.model.portal import Portal
from iscsiboot.session.values import AttachRequest

NOTE_APART_SECONDS = 3600.0
"""Between two remarks of the same words: some belong to every attempt, and a target may be away for days."""
NOTES_MAX = 32
"""Different ones within that time: a target may send us to another address at every attempt."""

Renew = Callable[[Known], Awaitable[Known | None]]
"""Reads the record of a session again; None when there is none. May raise IscsiBootError."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shared:
    """What the guards of one keeper have in common."""

    tools: Tools
    """Its ``note`` has no session to name; each guard puts its own in place."""
    crowd: Crowd
    """The log."""
    renew: Renew | None
    chance: Callable[[], float]
    """In [0, 1)."""


@dataclass(kw_only=True, slots=True)
class Subject:
    """One session. Mutable: each field has one writer, its guard."""

    sid: int
    known: Known
    role: Role
    shared: Shared
    connected: Portal | None = None
    """Where the connection leads or last led."""
    told: Told = field(default_factory=dict, repr=False)
    """What the kernel was told of it by us."""
    retries: Retries = field(default_factory=dict, repr=False)
    """Of its disks, from before they retried for ever."""
    tools: Tools = field(init=False, repr=False)
    """The common ones, with remarks that name the session."""
    _noted: dict[str, float] = field(default_factory=dict, repr=False)
    """When a remark was made last."""

    def __post_init__(self) -> None:
        self.tools = replace(self.shared.tools, note=self.note)
        self.retries.update(self.known.retries or ())

    @property
    def timers(self) -> Timers:
        """The live values it has to have."""
        return self.known.pinned or timers(self.role, self.known.request.params)

    def request(self) -> AttachRequest:
        """What a login is made with: the record's values, the times of the role."""
        now = self.timers
        params = replace(
            self.known.request.params,
            replacement_timeout=now.recovery,
            noop_out_interval=now.noop_interval,
            noop_out_timeout=now.noop_timeout,
        )
        return replace(self.known.request, params=params)

    def note(self, text: str) -> None:
        """A remark for the log; the same words once an hour, and so many at most."""
        now = self.shared.tools.environment.now()
        self._noted = {said: at for said, at in self._noted.items() if now < at + NOTE_APART_SECONDS}
        if text not in self._noted and len(self._noted) < NOTES_MAX:
            self._noted[text] = now
            self.say(Level.INFO, text)

    def say(self, level: Level, text: str) -> None:
        """A line for the log that begins with the session's name."""
        self.tell(Line(level, text))

    def tell(self, line: Line) -> None:
        """A line for the log. The system's sessions are told each by itself, however many others there are."""
        request, record = self.known.request, self.known.record
        place = request.portal if record is None else record
        head = line.head.format(
            sid=self.sid,
            place=f"[target: {request.target_name}, portal: {place.address},{place.port}]",
            iface=request.iface_name,
        )
        text = f"{head}: {line.text}" if line.text else head
        kind = "" if self.role.system else line.kind or line.text
        self.shared.crowd.say(line.level, text, kind=kind, sid=self.sid)
