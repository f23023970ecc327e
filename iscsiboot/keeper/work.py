# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is done about one session, by order of the policy: each action, and the tasks that are at work on it.

Actions are done in their order by a task that lives only while there are any. What takes long, an attempt, a logout,
work on units, is a task of its own, so that the next order is heard meanwhile. An attempt or a logout that was ended
reports nothing any more, also when it came to an end in that very moment.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from iscsiboot.errors import IscsiBootError
from iscsiboot.initiator.errors import LoginError
from iscsiboot.keeper import units
from iscsiboot.keeper.attempt import Attempt, Made, failure_of
from iscsiboot.keeper.errand import Errand
from iscsiboot.keeper.leave import is_there, leave, say_goodbye
from iscsiboot.keeper.log import Level
from iscsiboot.keeper.seal import fault_words
from iscsiboot.keeper.situation import (
    Action,
    Failed,
    Failure,
    Happening,
    LeavingFailed,
    StopFailed,
    Stopped,
    Vanished,
)
from iscsiboot.keeper.subject import Renew, Subject
from iscsiboot.keeper.values import Known
from iscsiboot.netlink import messages
from iscsiboot.netlink.socket import NetlinkError, RequestRefused
from iscsiboot.netlink.uapi import StopFlag
from iscsiboot.session.steps import CID, GONE
from iscsiboot.sysfs.sessions import read_session_host

UNITS_SECONDS = 120.0
"""For the work on the units of one session: SCSI's own retries of a dead unit take that long."""
CROWD_SECONDS = 5.0
"""So long units wait for the logins of other sessions at their portal. The kernel itself has woken those it blocked."""

Task = asyncio.Task[None]


class Work:
    """Does actions for one session and tells what comes of them."""

    def __init__(
        self,
        subject: Subject,
        *,
        tell: Callable[[Happening], None],
        made: Callable[[Made], None],
        renewed: Callable[[Known], None],
        progress: Callable[[str], None],
        set_timers: Callable[[], None],
        see_to_disks: Callable[[], None],
    ) -> None:
        """``made``: an attempt succeeded. ``renewed``: the record was read. ``progress``: what an attempt does now.
        ``see_to_disks``: there may be new ones.
        """
        self._subject = subject
        self._tell = tell
        self._made = made
        self._renewed = renewed
        self._progress = progress
        self._set_timers = set_timers
        self._see_to_disks = see_to_disks
        self._todo: deque[Action] = deque()
        self._worker: Task | None = None
        self._attempt: Task | None = None
        self._tried: Attempt | None = None
        """The attempt at work, or the last one."""
        self._leaving: Task | None = None
        self._renewal: Task | None = None
        self._units: Task | None = None
        self._units_due: dict[str, Errand] = {}
        """By what people call it: the same twice before it begins is once."""
        self._ending: set[Task] = set()

    @property
    def connected_since(self) -> float | None:
        """Since when the attempt at work has a connection; None when there is no attempt, or it has none yet."""
        return None if self._attempt is None or self._tried is None else self._tried.connected

    def do(self, actions: Sequence[Action]) -> None:
        """Have them done, after those that are still to do."""
        if Action.CANCEL in actions:
            self._end(self._attempt)
            self._attempt = None
        if Action.LEAVE in actions or Action.LEAVE_AT_ONCE in actions:
            self._end(self._leaving)
            self._leaving = None
        self._todo.extend(actions)
        if self._todo and self._worker is None:
            self._worker = self._task(self._work(), self._worker_fault)

    def drop(self) -> None:
        """End everything at work: the session is gone, or somebody else has it."""
        self._todo.clear()
        self._units_due.clear()
        current = asyncio.current_task()
        for task in (self._worker, self._attempt, self._leaving, self._renewal, self._units):
            if task is not current:
                self._end(task)
        self._worker = self._attempt = self._leaving = None

    async def ended(self) -> None:
        """Wait for what :meth:`drop` has ended; each takes back what it began before it goes."""
        if self._ending:
            await asyncio.gather(*self._ending, return_exceptions=True)

    def renew(self) -> None:
        """Read the record again, unless that is being done."""
        if self._subject.shared.renew is not None and self._renewal is None:
            self._renewal = self._task(self._read_record(self._subject.shared.renew))

    def rescan(self) -> None:
        """Look for the units there are now."""
        sysfs, sid = self._subject.tools.port.sysfs, self._subject.sid
        host = read_session_host(sysfs, sid)
        if host is not None:
            self._work_on_units(f"the rescan of session {sid}", Errand(units.rescan, (str(sysfs), sid, host)))

    async def _work(self) -> None:
        try:
            # What was ended before takes back what it began before anything else begins.
            await self.ended()
            while self._todo:
                await self._act(self._todo.popleft())
        finally:
            if self._is_mine(self._worker):
                self._worker = None

    async def _act(self, action: Action) -> None:
        subject = self._subject
        tools = subject.tools
        match action:
            case Action.STOP:
                self._stop()
            case Action.TRY:
                self._attempt = self._task(self._try(), self._attempt_fault)
            case Action.CANCEL:
                await self.ended()
            case Action.SAY_GOODBYE:
                await say_goodbye(subject.sid, port=tools.port, now=tools.environment.now, note=subject.note)
            case Action.LEAVE | Action.LEAVE_AT_ONCE:
                await self.ended()
                self._leaving = self._task(self._leave(gently=action is Action.LEAVE), self._leaving_fault)
            case Action.RENEW:
                self.renew()
            case Action.SET_TIMERS:
                self._set_timers()
            case Action.BRING_UNITS_BACK:
                sid = subject.sid
                errand = Errand(units.bring_back, (str(tools.port.sysfs), sid))
                self._work_on_units(f"the units of session {sid}", errand)

    def _stop(self) -> None:
        port, sid = self._subject.tools.port, self._subject.sid
        try:
            port.ask(messages.stop_conn(port.handle, sid=sid, cid=CID, flag=StopFlag.STOP_CONN_RECOVER))
        except RequestRefused as refusal:
            gone = refusal.errno in GONE and not is_there(port, sid)
            self._tell(Vanished() if gone else StopFailed(refusal.errno))
        except NetlinkError:
            self._tell(StopFailed(0))
        else:
            self._tell(Stopped())

    async def _try(self) -> None:
        subject = self._subject
        attempt = self._tried = Attempt(
            tools=subject.tools,
            request=subject.request(),
            sid=subject.sid,
            told=subject.told,
            progress=self._progress,
            urgent=bool(subject.role.system),
            algorithm=subject.known.algorithm,
        )
        try:
            made = await attempt.run()
        except IscsiBootError as error:
            if self._is_mine(self._attempt):
                self._attempt = None
                there = is_there(subject.tools.port, subject.sid)
                rejected = isinstance(error, LoginError) and error.status is not None
                self._tell(Failed(failure_of(error), error.line(), rejected) if there else Vanished())
        else:
            # Not ended by anybody: there is no await between the success and here.
            self._attempt = None
            self._made(made)

    async def _leave(self, *, gently: bool) -> None:
        tools = self._subject.tools
        try:
            await leave(
                self._subject.sid,
                port=tools.port,
                now=tools.environment.now,
                gently=gently,
                note=self._subject.note,
            )
        except IscsiBootError as error:
            if self._is_mine(self._leaving):
                self._leaving = None
                self._tell(LeavingFailed(error.line()))
        else:
            self._leaving = None
            self._tell(Vanished())

    async def _read_record(self, renew: Renew) -> None:
        try:
            fresh = await renew(self._subject.known)
        except IscsiBootError as error:
            self._subject.note(f"its record cannot be read: {error.line()}")
            return
        finally:
            self._renewal = None
        if fresh is not None:
            self._renewed(fresh)

    def _work_on_units(self, what: str, errand: Errand) -> None:
        self._units_due[what] = errand
        if self._units is None:
            self._units = self._task(self._in_a_hand())

    async def _in_a_hand(self) -> None:
        subject = self._subject
        try:
            if subject.connected is not None and not subject.role.system:
                # A hundred sessions that come back are all whole before the first is asked for its size.
                with suppress(TimeoutError):
                    async with asyncio.timeout(CROWD_SECONDS):
                        await subject.tools.turns.quiet(subject.connected.endpoint)
            while self._units_due:
                what = next(iter(self._units_due))
                errand = self._units_due.pop(what)
                ended = await subject.tools.hands.run(errand, seconds=UNITS_SECONDS, what=what)
                for line in [ended.problem] if ended.answer is None else ended.answer.get("lines", []):
                    subject.note(str(line))
                self._see_to_disks()
        finally:
            self._units = None

    def _is_mine(self, task: Task | None) -> bool:
        return task is not None and task is asyncio.current_task()

    def _task(self, work: Coroutine[Any, Any, None], fault: Callable[[str], None] | None = None) -> Task:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(partial(self._done, fault))
        return task

    def _end(self, task: Task | None) -> None:
        if task is not None and not task.done():
            task.cancel()
            self._ending.add(task)

    def _done(self, fault: Callable[[str], None] | None, task: Task) -> None:
        """A fault of this program in one session is told and counts as a failure; no other session feels it."""
        self._ending.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            text = f"a fault of this program: {fault_words(error)}"
            self._subject.say(Level.ERROR, text)
            if fault is not None:
                fault(text)

    def _worker_fault(self, text: str) -> None:
        """Whatever it was at is not done. Each phase takes its own word of these and passes over the others."""
        self._todo.clear()
        self._leaving_fault(text)
        self._attempt_fault(text)
        self._tell(StopFailed(0))

    def _attempt_fault(self, text: str) -> None:
        self._attempt = None
        self._tell(Failed(Failure.KERNEL, text))

    def _leaving_fault(self, text: str) -> None:
        self._leaving = None
        self._tell(LeavingFailed(text))
