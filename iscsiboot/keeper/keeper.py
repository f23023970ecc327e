# SPDX-License-Identifier: LGPL-2.1-or-later
"""All guarded sessions of this machine: events in, guards at work, orders of people; the heart of every guard process.

Theory of operation: one loop, one thread, one netlink socket. :class:`~iscsiboot.keeper.port.KernelPort` hands each
event to the session it names; the session's :class:`~iscsiboot.keeper.guard.Guard` folds it through the policy and does
what the policy says. While every connection is up nothing is awaited but sockets: no timer, no task, no wake-up.

Order of a start: :meth:`Keeper.start` (from here on no event is lost), reading sysfs
(:mod:`iscsiboot.keeper.adoption`), :meth:`Keeper.adopt`. A connection that broke between the reading and the adoption
is known by its event, kept meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from iscsiboot.keeper import refusals, units
from iscsiboot.keeper.attempt import Tools
from iscsiboot.keeper.crowd import Crowd
from iscsiboot.keeper.errand import Errand
from iscsiboot.keeper.guard import Guard, subject_of
from iscsiboot.keeper.leave import is_there
from iscsiboot.keeper.log import Level, Log
from iscsiboot.keeper.login import LoggedIn, addressed, log_in
from iscsiboot.keeper.network_watch import NetworkWatch
from iscsiboot.keeper.patience import Patience
from iscsiboot.keeper.places import STRANGERS_MAX, Places
from iscsiboot.keeper.port import Hands, KernelPort, apart
from iscsiboot.keeper.situation import DOWN, Failure, NetworkChanged, OrderedToLeave, OrderedToReconnect, Phase
from iscsiboot.keeper.subject import Renew, Shared, Subject
from iscsiboot.keeper.values import Known, RecordName, Role, Status, Timers, place_of
from iscsiboot.keeper.watchers import Watchers
from iscsiboot.netlink.statistics import ConnectionStatistics
from iscsiboot.session.login import LoginOrder
from iscsiboot.session.values import Attached, Environment
from iscsiboot.sysfs.sessions import read_session_host

LOOK_AGAIN_SECONDS = 2.0
"""After an adoption. The kernel tells of a break before sysfs shows it: who subscribed in between saw neither."""


class Keeper:
    """Guards sessions. All methods belong to the thread of the running loop."""

    def __init__(
        self,
        environment: Environment,
        *,
        hands: Hands,
        log: Log,
        renew: Renew | None,
        chance: Callable[[], float],
        strangers: Callable[[int], None] | None = None,
        intruder: Callable[[int], None] | None = None,
    ) -> None:
        """``renew`` reads the record of a session again. ``chance`` is in [0, 1), for the jitter.

        ``strangers`` is told the number of a session that appears without having been asked of us (a rescue shell's
        iscsistart): whoever adopts may look at it, some seconds later. ``intruder`` is told the number of a guarded
        session that another program logs in: that one has taken it.
        """
        self._environment = environment
        self._log = log
        self._tell_stranger = strangers
        self._tell_intruder = intruder
        self._port = KernelPort(environment, log=log, strangers=self._stranger)
        tools = Tools(port=self._port, environment=environment, hands=hands, note=partial(log, Level.INFO))
        self._shared = Shared(tools=tools, crowd=Crowd(log), renew=renew, chance=chance)
        self._guards: dict[int, Guard] = {}
        self._places = Places(environment.sysfs, partial(is_there, self._port))
        self._roles: dict[int, Role] = {}
        self._down: set[int] = set()
        self._waiting: set[int] = set()
        """Those of them between two attempts."""
        self._refused: dict[str, float] = {}
        """Portals at which nobody listened, and when that was seen last; until one serves again."""
        self._network = NetworkWatch(self.network_changed, log=log)
        self._watchers = Watchers()
        self._second_look: asyncio.TimerHandle | None = None
        self._unadopted: dict[int, Known] = {}  # by a fault of ours; tried once more at the second look
        self._acting = True
        self._ending = False
        self._turn = asyncio.Lock()
        """Handing over and going on follow each other, they never mix."""
        self._logins: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Open the netlink socket; from here on every event counts. NetlinkError when this kernel has no iSCSI."""
        self._port.open()

    async def adopt(self, known: Mapping[int, Known]) -> None:
        """Guard these sessions. Each is read from sysfs now: one that works is left alone, one that is down is
        recovered at once; one that is gone is forgotten. Returns when all recoveries have begun, not ended.
        """
        # A break that the guard before us has healed: the word of the new login may wait behind it in the socket.
        self._port.hear()
        for sid, what in known.items():
            if not apart(self._log, sid, partial(self._adopt, sid, what)):
                self._unadopted[sid] = what
        if self._second_look is None and known:
            self._second_look = asyncio.get_running_loop().call_later(LOOK_AGAIN_SECONDS, self._look_again)

    def _adopt(self, sid: int, known: Known) -> None:
        if sid in self._guards or not is_there(self._port, sid):
            return
        role = self._roles.get(sid, Role())
        guard = self._guard(subject_of(sid, known, role, self._shared))
        guard.look()
        if guard.situation.phase is Phase.UP and (role != Role() or known.pinned is not None):
            guard.set_timers()

    def _look_again(self) -> None:
        self._second_look = None
        again, self._unadopted = self._unadopted, {}
        for sid, known in again.items():
            apart(self._log, sid, partial(self._adopt, sid, known))
        for sid, guard in list(self._guards.items()):
            apart(self._log, sid, guard.look)

    def guarded(self) -> dict[int, Known]:
        """What is known of each guarded session, by number: what a hand-over and the state files need."""
        return {sid: self._guards[sid].subject.known for sid in sorted(self._guards)}

    def statuses(self, *sids: int) -> tuple[Status, ...]:
        """Every guarded session by number, or those of ``sids`` that are; the kernel's values of each are read."""
        return tuple(self._guards[sid].status() for sid in sorted(self._guards.keys() & sids if sids else self._guards))

    def counts(self) -> tuple[int, int]:
        """How many sessions are guarded, and how many of those have no connection; asks the kernel nothing."""
        return len(self._guards), len(self._down)

    # Orders.

    async def login(
        self,
        order: LoginOrder,
        *,
        record: RecordName | None,
        seconds: float,
        wanted: int,
        prolonged: Callable[[], None] | None = None,
    ) -> Attached:
        """Make a session by a record's order, with the retries of :mod:`iscsiboot.session.login`, and guard it.

        ``seconds`` covers everything, the scan included; with ``prolonged`` it does not count while others get through
        before it (:mod:`.patience`), which is told by a call. ``wanted`` sessions may be at the record's place in all,
        0 for one more in any case. IscsiBootError with open-iscsi's exit code; no half-made session stays, also when
        the waiting task is cancelled.
        """
        self._refuse_when_over()
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("an order is given by a task")
        self._logins.add(task)
        try:
            return await self._login(order, record, seconds, wanted, Patience(seconds, prolonged))
        finally:
            self._logins.discard(task)

    async def _login(
        self, order: LoginOrder, record: RecordName | None, seconds: float, wanted: int, patience: Patience
    ) -> Attached:
        self._port.forget_transport()
        remarks: list[str] = []
        tools = replace(self._shared.tools, note=remarks.append)
        try:
            async with patience:
                request = await addressed(order, tools)
                with self._places.taken(place_of(request), wanted):
                    logged_in = await log_in(request, order, record, tools, patience)
                    guard = self._guard_new(logged_in)
        except TimeoutError as error:
            raise refusals.late(order, seconds, remarks[-1] if remarks else patience.words) from error
        for line in remarks:
            guard.subject.note(line)
        # A hand counts from when its turn comes.
        patience.prolong()
        try:
            await self._first_scan(guard, order, max(1.0, patience.left))
        except asyncio.CancelledError:
            if self._acting and not self._ending:  # else who guards next has the session
                guard.tell(OrderedToLeave())
            raise
        made = logged_in.made
        return Attached(
            sid=made.sid, host=guard.host or 0, portal=made.portal, tpgt=made.outcome.tpgt, reused=False, devices=()
        )

    async def _first_scan(self, guard: Guard, order: LoginOrder, seconds: float) -> None:
        """What fails here is told and fails nothing: the session works, and it can be scanned again."""
        nice, host = order.thread_priority, guard.host
        if host is None or not (order.scan or nice):
            return
        depth = order.request.params.queue_depth
        errand = Errand(
            units.first_scan, (str(self._environment.sysfs), guard.subject.sid, host, order.scan, depth, nice)
        )
        ended = await self._shared.tools.hands.run(errand, seconds=seconds, what=f"the first scan of host{host}")
        for line in [f"the scan: {ended.problem}"] if ended.answer is None else ended.answer["lines"]:
            guard.subject.note(line)

    async def logout(self, sid: int, *, force: bool, seconds: float) -> None:
        """End a session; returns when the kernel has forgotten it. ``force``: whatever state it is in, and without a
        word to the target. IscsiBootError: no such session (2), it stays (10), not done in ``seconds`` (33).
        """
        guard = self._find(sid)
        words: list[str] = []
        over = asyncio.Event()

        def heard(reason: str | None) -> None:
            words.extend(() if reason is None else (reason,))
            if reason is None or not force:  # by force it is tried again until it is gone
                over.set()

        guard.leavers.append(heard)
        try:
            guard.tell(OrderedToLeave(force))
            async with asyncio.timeout(seconds):
                await over.wait()
        except TimeoutError:
            pass
        finally:
            guard.leavers.remove(heard)
        if not guard.gone:
            raise refusals.stays(sid, words[-1] if words else "", seconds)

    async def rescan(self, sid: int, seconds: float) -> tuple[str, ...]:
        """Ask each unit for its size and the target for new units, in a hand; what was refused, in words.

        IscsiBootError: no such session (2), not done in time (31).
        """
        self._find(sid)
        host = read_session_host(self._environment.sysfs, sid)
        if host is None:
            raise refusals.unknown(sid)
        errand = Errand(units.rescan, (str(self._environment.sysfs), sid, host))
        ended = await self._shared.tools.hands.run(errand, seconds=seconds, what=f"the rescan of session {sid}")
        if ended.answer is None:
            raise refusals.no_rescan(sid, ended.problem)
        return tuple(str(line) for line in ended.answer["lines"])

    async def reconnect(self, sid: int) -> None:
        """Begin to make the connection of a session anew; IscsiBootError when there is no such session (2)."""
        self._find(sid).tell(OrderedToReconnect())

    async def set_timers(self, sid: int, timers: Timers) -> None:
        """Set live values in place of those of the session's role, from now on. IscsiBootError: no such session (2)."""
        self._find(sid).pin(timers)

    async def statistics(self, sid: int) -> ConnectionStatistics:
        """The counters of a session's connection. IscsiBootError: no such session (2), the kernel refuses (9)."""
        self._find(sid)
        try:
            return self._port.statistics(sid)
        except ValueError as error:
            raise refusals.no_counters(sid, str(error)) from error

    async def renew(self, sid: int | None = None) -> None:
        """Read the record of a session again, or those of all; what differs is used from the next attempt on."""
        for guard in list(self._guards.values()) if sid is None else [self._find(sid)]:
            guard.renew()

    def set_roles(self, roles: Mapping[int, Role]) -> None:
        """What sessions carry now, also those to be adopted later; those not named keep their role."""
        self._roles.update(roles)
        if len(self._roles) > len(self._guards) + STRANGERS_MAX:
            self._roles = {sid: role for sid, role in self._roles.items() if is_there(self._port, sid)}
        for sid, role in roles.items():
            if sid in self._guards:
                apart(self._log, sid, partial(self._guards[sid].set_role, role))

    def network_changed(self) -> None:
        """A link, an address or a route has changed: sessions that wait are tried again."""
        for sid in list(self._down):
            apart(self._log, sid, partial(self._guards[sid].tell, NetworkChanged()))

    def changes(self) -> AsyncGenerator[Status, None]:
        """Every status that changes from now on; a slow reader gets the newest of each. Close it by ``aclose``."""
        return self._watchers.read()

    def changed(self) -> AsyncGenerator[frozenset[int], None]:
        """As :meth:`changes`, but only the numbers: no status is made."""
        return self._watchers.numbers()

    # Hand-over and end.

    def end_soon(self) -> None:
        """Logins that are ended from here on keep the session they have made; the guards act on."""
        self._ending = True

    async def stop_acting(self) -> None:
        """For a hand-over: attempts end and leave nothing, events are no longer acted on, sessions stay as they are.

        :meth:`guarded` still answers; :meth:`resume` undoes it when the hand-over fails.
        """
        async with self._turn:
            self._acting = False
            self._network.watch(False)
            if self._second_look is not None:
                self._second_look.cancel()
                self._second_look = None
            logins = self._logins - {asyncio.current_task()}
            for task in logins:
                task.cancel()
            await asyncio.gather(*logins, return_exceptions=True)  # before the guards: a login makes one at its end
            for guard in list(self._guards.values()):
                await guard.stop()
            self._shared.crowd.flush()  # also of sessions that are gone: nobody else tells what waits

    async def resume(self) -> None:
        """Act again after :meth:`stop_acting`, as after an adoption of everything guarded."""
        async with self._turn:
            self._acting = True
            for sid, guard in list(self._guards.items()):
                apart(self._log, sid, guard.resume)

    async def close(self) -> None:
        """Stop acting and close the socket; the kernel's sessions live on."""
        await self.stop_acting()
        self._port.close()

    # Guards.

    def _guard(self, subject: Subject) -> Guard:
        sid, place = subject.sid, place_of(subject.known.request)
        self._places.no_stranger(sid)
        self._places.add(place)
        host = read_session_host(self._environment.sysfs, sid)
        guard = Guard(subject, place=place, host=host, changed=self._changed, intruder=self._intruder)
        self._guards[sid] = guard
        return guard

    def _guard_new(self, logged_in: LoggedIn) -> Guard:
        """Guard what a login has just made; between its START_CONN and this nothing else has run."""
        sid = logged_in.made.sid
        subject = Subject(
            sid=sid,
            known=logged_in.known,
            role=self._roles.get(sid, Role()),
            shared=self._shared,
            connected=logged_in.made.portal,
            told=logged_in.attempt.told,
        )
        guard = self._guard(subject)
        self._changed(guard)
        return guard

    def _changed(self, guard: Guard) -> None:
        sid, phase = guard.subject.sid, guard.situation.phase
        healed = phase is Phase.UP and sid in self._down
        (self._down.add if phase in DOWN else self._down.discard)(sid)
        if phase is Phase.WAITING and sid not in self._waiting and guard.situation.failure is Failure.UNREACHABLE:
            self._refused[guard.portal] = guard.situation.since
        (self._waiting.add if phase is Phase.WAITING else self._waiting.discard)(sid)
        if phase is Phase.GONE and self._guards.pop(sid, None) is not None:
            self._roles.pop(sid, None)
            self._places.remove(guard.place)
            self._refused.pop(guard.portal, None)
        self._network.watch(bool(self._down) and self._acting)
        self._watchers.tell(sid, guard.status)
        if healed:
            self._serves_again(guard.portal)

    def _serves_again(self, portal: str) -> None:
        """A portal has taken one session back: those others there that could not reach it need not wait any longer, nor
        an attempt that was connected before nobody listened there, whom nobody will answer.
        """
        for guard in [self._guards[sid] for sid in self._waiting]:
            if guard.portal == portal and guard.waits_long:
                apart(self._log, guard.subject.sid, partial(guard.tell, NetworkChanged()))
        refused = self._refused.pop(portal, 0.0)
        for guard in [self._guards[sid] for sid in self._down] if refused else ():
            if guard.portal == portal and guard.connected_before(refused):
                apart(self._log, guard.subject.sid, partial(guard.tell, OrderedToReconnect()))

    def _refuse_when_over(self) -> None:
        if not self._acting:
            raise refusals.handed_over()

    def _find(self, sid: int) -> Guard:
        self._refuse_when_over()
        guard = self._guards.get(sid)
        if guard is None:
            raise refusals.unknown(sid)
        return guard

    def _stranger(self, sid: int) -> None:
        if sid not in self._guards and self._acting:
            self._places.stranger(sid)
            if self._tell_stranger is not None:
                self._tell_stranger(sid)

    def _intruder(self, sid: int) -> None:
        if self._tell_intruder is not None and self._acting:
            self._tell_intruder(sid)
