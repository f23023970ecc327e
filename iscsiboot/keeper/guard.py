# SPDX-License-Identifier: LGPL-2.1-or-later
"""One guarded session: what happens to it goes through the policy, what the policy says goes to :mod:`.work`.

Nothing is decided here. :meth:`Guard.tell` folds at once, so the situation is always the newest. While the session is
up there is no task and no timer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from iscsiboot.initiator.pdu.header import Opcode
from iscsiboot.keeper import live, policy
from iscsiboot.keeper.async_message import UnitsChanged, read_async_message
from iscsiboot.keeper.attempt import Made
from iscsiboot.keeper.backoff import SOON
from iscsiboot.keeper.leave import is_healthy, is_there
from iscsiboot.keeper.role import role_words
from iscsiboot.keeper.situation import (
    DOWN,
    Broke,
    Due,
    Failed,
    Happening,
    LeavingFailed,
    Phase,
    RoleChanged,
    SecretsChanged,
    Situation,
    Succeeded,
    Vanished,
)
from iscsiboot.keeper.subject import Shared, Subject
from iscsiboot.keeper.values import Known, Place, Role, Status, Timers
from iscsiboot.keeper.work import Work
from iscsiboot.netlink.messages import ConnError, Event, EventsLost, RecvPdu, SessionEvent
from iscsiboot.netlink.uapi import IscsiErr, KEvent
from iscsiboot.sysfs.sessions import read_connection

OWN_ANSWER_SECONDS = 5.0
"""After an attempt its target's late answer may still be on its way to us through a loop that has much to do."""


class Guard:
    """Guards one session; made when it is known to be there, in phase UP."""

    def __init__(
        self,
        subject: Subject,
        *,
        place: Place,
        host: int | None,
        changed: Callable[[Guard], None],
        intruder: Callable[[int], None],
    ) -> None:
        """``changed`` is called after every change people are told of; ``intruder`` when another program logs it in."""
        self.subject = subject
        self.place = place
        """Where it led when it was first guarded: what a second login to the same place is known by."""
        self.host = host
        self.leavers: list[Callable[[str | None], None]] = []
        """Are told in words when a logout fails, and None when the session is gone."""
        self._changed = changed
        self._intruder = intruder
        self._now = subject.tools.environment.now
        self._detail = ""
        self._last_error_at = 0.0
        self._tried = float("-inf")
        """When the last attempt ended."""
        self._timer: asyncio.TimerHandle | None = None
        self._acting = True
        self._look_again = False
        self._work = Work(
            subject,
            tell=self.tell,
            made=self._made,
            renewed=self._renewed,
            progress=self._on_progress,
            set_timers=self.set_timers,
            see_to_disks=self._see_to_disks,
        )
        self.situation: Situation = self._begin()
        subject.tools.port.listen(subject.sid, self.on_event)

    @property
    def gone(self) -> bool:
        """Whether the session is no longer in the kernel, and nothing guarded any more."""
        return self.situation.phase is Phase.GONE

    @property
    def waits_long(self) -> bool:
        """It waits for its next attempt, and not only for a moment."""
        wake = self.situation.wake
        return self.situation.phase is Phase.WAITING and wake is not None and wake - self._now() > SOON

    @property
    def portal(self) -> str:
        """Where it is to lead, ``address:port``."""
        return self.subject.known.request.portal.endpoint

    def connected_before(self, when: float) -> bool:
        """Whether the attempt at work has had its connection since before this moment."""
        since = self._work.connected_since
        return self.situation.phase is Phase.TRYING and since is not None and since < when

    def _begin(self) -> Situation:
        known = self.subject.known
        return policy.begin(
            now=self._now(), role=self.subject.role, time2wait=known.time2wait, reopen_max=known.reopen_max
        )

    # What happens.

    def tell(self, happening: Happening) -> None:
        """Fold one happening; its actions are begun by the loop."""
        if not self._acting:
            return
        before = self.situation
        decision = policy.decide(before, happening, now=self._now(), chance=self.subject.shared.chance())
        self.situation = after = decision.situation
        if isinstance(happening, Failed | LeavingFailed):
            self._last_error_at = time.time()
        for line in decision.lines:
            self.subject.tell(line)
        self._arm()
        if after.phase is not before.phase:
            self._detail = ""
            if before.phase is Phase.TRYING:
                self._tried = self._now()
        if after.phase is Phase.GONE and before.phase is not Phase.GONE:
            self._end()
        else:
            self._work.do(decision.actions)
        if isinstance(happening, LeavingFailed):
            self._tell_leavers(happening.words)
        if after != before:
            self._changed(self)

    def on_event(self, event: Event) -> None:
        """The kernel's word about the session while nobody else works on it."""
        if isinstance(event, ConnError):
            # Errors of the connection an attempt makes go to the attempt. This one, while there is none yet, is a late
            # word about the connection before, which is stopped.
            stale = self.situation.phase is Phase.TRYING and event.error != IscsiErr.ISCSI_ERR_INVALID_HOST
            if not stale:
                self.tell(Broke(event.error))
        elif isinstance(event, SessionEvent):
            if event.kind is KEvent.ISCSI_KEVENT_DESTROY_SESSION:
                self.tell(Vanished())
        elif isinstance(event, EventsLost):
            self.look()
        elif isinstance(event, RecvPdu):
            self._on_pdu(event)

    def _on_pdu(self, event: RecvPdu) -> None:
        opcode = event.bhs[0] & 0x3F
        if opcode == Opcode.LOGIN_RESPONSE:
            # Whoever logs it in beside us has told the kernel values of his own.
            self.subject.told.clear()
            trying = self.situation.phase is Phase.TRYING or self._now() < self._tried + OWN_ANSWER_SECONDS
            if not trying and self._acting:
                # We wait for none: another program works on this session, and one of the two has to yield.
                self._intruder(self.subject.sid)
        elif opcode == Opcode.ASYNC_MESSAGE:
            meant = read_async_message(event)
            if isinstance(meant, UnitsChanged):
                if self._acting and self.subject.known.scan:
                    self._work.rescan()
            elif meant is not None:
                self.tell(meant)

    def look(self) -> None:
        """Ask sysfs how the session stands: events may be missing."""
        port, sid = self.subject.tools.port, self.subject.sid
        if not is_there(port, sid):
            self.tell(Vanished())
        elif self.situation.phase is not Phase.UP:
            # A connection being made looks down; whether it broke again is seen when it is made.
            self._look_again = True
        elif not is_healthy(port, sid):
            self.tell(Broke(0))

    def set_role(self, role: Role) -> None:
        """What the session carries now."""
        if role != self.situation.role:
            self.subject.role = role
            self.tell(RoleChanged(role))
        else:
            # Perhaps it was looked at for a new disk.
            self._see_to_disks()

    def set_timers(self, *, insist: bool = False) -> None:
        """Have the kernel know the values of role or order."""
        subject = self.subject
        known, wanted = subject.known, subject.timers
        live.set_timers(
            subject.tools.port,
            subject.sid,
            wanted,
            subject.told,
            subject.retries,
            untold=known.retries is None,
            insist=insist,
        )
        retries = tuple(sorted(subject.retries.items()))
        looked = known.retries is not None or wanted.recovery < 0
        if looked and retries != known.retries:
            subject.known = replace(known, retries=retries)
            self._changed(self)

    def _see_to_disks(self) -> None:
        """New ones are to wait as long as the others of the session."""
        if self._acting and self.situation.phase is Phase.UP and self.subject.timers.recovery < 0:
            self.set_timers()

    def pin(self, wanted: Timers) -> None:
        """Set timers by order."""
        self.subject.known = replace(self.subject.known, pinned=wanted)
        self.set_timers(insist=True)
        self._changed(self)

    def renew(self) -> None:
        """Read the record again."""
        if self._acting:
            self._work.renew()

    # What comes of the work.

    def _made(self, made: Made) -> None:
        subject = self.subject
        moved = subject.connected is not None and made.portal.endpoint != subject.connected.endpoint
        subject.connected = made.portal
        time2wait, tpgt = float(made.outcome.negotiated.default_time2wait), made.outcome.tpgt
        before = subject.known.tpgt
        if tpgt is not None and before is not None and tpgt != before:
            subject.note(f"the target answers in portal group {tpgt} now, before it was {before}")
        tpgt = before if tpgt is None else tpgt
        subject.known = replace(subject.known, tpgt=tpgt, time2wait=time2wait, algorithm=made.algorithm)
        self.tell(Succeeded(time2wait, moved))
        if self._look_again:
            self._look_again = False
            self.look()

    def _renewed(self, fresh: Known) -> None:
        before = self.subject.known
        # What was found out about the target holds for the request it was found out with.
        algorithm = before.algorithm if fresh.request == before.request else None
        after = replace(
            fresh,
            pinned=before.pinned,
            tpgt=before.tpgt,
            time2wait=before.time2wait,
            algorithm=algorithm,
            retries=before.retries,
        )
        if after == before:
            return
        self.subject.known = after
        self.situation = replace(self.situation, reopen_max=after.reopen_max)
        if after.request != before.request:
            self.tell(SecretsChanged())
        self._changed(self)

    def _on_progress(self, text: str) -> None:
        self._detail = f"{text}, attempt {self.situation.attempts}"
        self._changed(self)

    # Its time.

    def _arm(self) -> None:
        self._disarm()
        wake = self.situation.wake
        if wake is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, wake - self._now()), self._due)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        wake = self.situation.wake
        if wake is not None and self._now() < wake:
            self._arm()
        elif wake is not None:
            self.tell(Due())

    def _end(self) -> None:
        """The session is gone, and so is everything for it."""
        self._disarm()
        self._acting = False
        self._work.drop()
        self.subject.tools.port.forget(self.subject.sid)
        self._tell_leavers(None)

    def _tell_leavers(self, words: str | None) -> None:
        for leaver in tuple(self.leavers):
            leaver(words)

    async def stop(self) -> None:
        """Act no more: what is at work ends and leaves the session as it would be found."""
        self._acting = False
        self._disarm()
        self._work.drop()
        await self._work.ended()

    def resume(self) -> None:
        """Act again, as if it had just been adopted."""
        self._acting = True
        before = self.situation
        self.situation = replace(self._begin(), recoveries=before.recoveries, words=before.words)
        self.look()
        self._changed(self)

    # What people are told.

    def status(self) -> Status:
        """Everything, the live values as the kernel has them now."""
        subject, situation = self.subject, self.situation
        request = subject.known.request
        recovery, interval, timeout = live.read_timers(subject.tools.port, subject.sid)
        now = self._now()
        detail = self._detail
        if situation.phase is Phase.WAITING and situation.wake is not None:
            detail = f"next attempt in {max(0.0, situation.wake - now):.1f} s, {situation.attempts} so far"
        down = situation.phase in DOWN
        began = situation.broken_at if down and situation.broken_at is not None else situation.since
        return Status(
            sid=subject.sid,
            host=self.host,
            target=request.target_name,
            portal=request.portal.endpoint,
            connected=subject.connected.endpoint if subject.connected is not None else "",
            iface=request.iface_name,
            initiator=request.initiator_name,
            role=role_words(situation.role),
            uses=situation.role.system,
            phase=situation.phase.value,
            detail=detail,
            since=time.time() - (now - began),
            source=subject.known.source.value,
            unknown=subject.known.unknown,
            recoveries=situation.recoveries,
            attempts=situation.attempts,
            last_error=situation.words,
            last_error_at=self._last_error_at,
            recovery_tmo=recovery,
            noop_interval=interval,
            noop_timeout=timeout,
        )


def subject_of(sid: int, known: Known, role: Role, shared: Shared) -> Subject:
    """The session as it is found; where its connection leads is read from sysfs."""
    connection = read_connection(shared.tools.port.sysfs, sid)
    connected = connection.portals[-1] if connection is not None and connection.portals else None
    return Subject(sid=sid, known=known, role=role, shared=shared, connected=connected)
