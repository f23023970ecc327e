# SPDX-License-Identifier: LGPL-2.1-or-later
"""The runner inside the command: what the daemon does, done by child processes of this one.

What it keeps of the daemon's ways (reference 4.2, 4.5): one session for each place unless more are wanted, retries as
the record says, the exit code a client is told. What it cannot do is recover a session later: for that a daemon is
needed, and one that starts takes these sessions over as it would its own.

Interplay: a place somebody else logs in to at this moment is "session exists" (:mod:`iscsiboot.admin.login_lock`); what
a killed command left half made is removed before the next one counts (:func:`iscsiboot.session.leftovers.clear`);
sessions of another living program are never touched.
"""

from __future__ import annotations

import os
import signal
import syslog
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence, Set
from functools import partial
from pathlib import Path

from iscsiboot.admin import runner
from iscsiboot.admin.context import Paths
from iscsiboot.admin.login_lock import LoginLocks
from iscsiboot.admin.login_result import failure_of, result_of, to_answer
from iscsiboot.admin.node_startup import record_of
from iscsiboot.admin.runner import LoginOrder, Result, logout_timeout
from iscsiboot.admin.runner_steps import Notes, trace_login
from iscsiboot.database.initiator_name import InitiatorName
from iscsiboot.database.names import NodeKey
from iscsiboot.database.record import Record
from iscsiboot.database.store import Database
from iscsiboot.errors import EXIT_TEXT, ExitCode, IscsiBootError, Stage
from iscsiboot.model.deadline import Deadline
from iscsiboot.netlink.messages import get_stats
from iscsiboot.netlink.statistics import ConnectionStatistics, decode_statistics
from iscsiboot.orders.client_failure import client_failure, failure_like
from iscsiboot.orders.initiator import read_initiator_name
from iscsiboot.session.forking import fork
from iscsiboot.session.machine import no_transport, this_machine
from iscsiboot.session.steps import CID
from iscsiboot.session.values import Environment
from iscsiboot.session.workers import Answer, Ended, Job, Workers, keep_ended_children, leave_standard_files
from iscsiboot.sysfs.listing import SessionRow, list_rows
from iscsiboot.sysfs.sessions import has_session, read_transport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from iscsiboot.session import login as engine
else:
    NoReturn = object

SCAN_SECONDS = 60.0
"""For the scan of a host, and for what else follows a login."""
LOGOUT_SECONDS = 90.0
"""For a logout, beside the record's timeout: flushing the disks and the kernel's own clean-up."""
AT_ONE_PORTAL = 8
"""Logins at once there. A target may take them one after the other (LIO has one thread a portal), and one that waits in
its queue has its login timeout running. Logouts need no such turn: each is answered on a connection of its own."""
STATISTICS_SECONDS = 5.0
MODULE_SECONDS = 60.0
SYSLOG_NAME = "iscsid"
"""Logins behind the command's back are told where open-iscsi's daemon tells them."""


class LocalRunner:
    """See :class:`iscsiboot.admin.runner.Runner`. ``environment`` is the machine; tests give another one."""

    def __init__(
        self,
        paths: Paths,
        environment: Environment | None = None,
        *,
        trace: Callable[[int, str], None] | None = None,
    ) -> None:
        self._paths = paths
        self._machine = environment
        self._identity: InitiatorName | None = None
        self._trace = trace
        """Takes each step with its level of ``-d``; None when nobody does."""

    @property
    def _environment(self) -> Environment:
        if self._machine is None:
            self._machine = this_machine(sysfs=Path(self._paths.sysfs), proc=Path(self._paths.proc))
        return self._machine

    def settle(self, pairs: Sequence[tuple[NodeKey, Record]]) -> Sequence[str]:
        """Remove what a killed command left; see :meth:`iscsiboot.admin.runner.Runner.settle`."""
        from iscsiboot.session.leftovers import clear  # PDUs and netlink, which the login that follows needs too

        requests = []
        notes = Notes()
        for key, record in pairs:
            try:
                requests.append(self._prepare(LoginOrder(key, record), []).request)
            except IscsiBootError:
                continue  # its login says what is wrong with it
        try:
            clear(requests, environment=self._environment, report=notes)
        except IscsiBootError as error:
            notes.note(error.line())
        return notes.lines

    def login(
        self, orders: Sequence[LoginOrder], *, seconds: float | None = None, tick: Callable[[], None] | None = None
    ) -> Generator[tuple[int, Result], None, None]:
        """Make the sessions; see :meth:`iscsiboot.admin.runner.Runner.login`."""
        remarks: list[list[str]] = [[] for _ in orders]
        prepared: dict[int, engine.LoginOrder] = {}
        failed: dict[int, IscsiBootError] = {}
        for index, order in enumerate(orders):
            try:
                prepared[index] = self._prepare(order, remarks[index])
            except IscsiBootError as error:
                failed[index] = client_failure(error)
        try:
            if prepared:
                self._load_transport()
        except IscsiBootError as error:
            failed |= dict.fromkeys(prepared, error)
            prepared.clear()
        for index, failure in failed.items():
            yield index, Result(failure=failure, notes=tuple(remarks[index]))
        if prepared:
            for index, result in self._log_in_where_free(orders, prepared, seconds, tick):
                result.notes = (*remarks[index], *result.notes)
                yield index, result

    def _log_in_where_free(
        self,
        orders: Sequence[LoginOrder],
        prepared: dict[int, engine.LoginOrder],
        seconds: float | None,
        tick: Callable[[], None] | None,
    ) -> Iterator[tuple[int, Result]]:
        """Take the places, log in to those that are free, give each back when its last login is over."""
        locks = LoginLocks(self._paths.run)
        try:
            taken = dict(self._occupied(orders, list(prepared), locks))
            for index, failure in taken.items():
                yield index, Result(failure=failure)
            jobs = [index for index in prepared if index not in taken]
            if self._trace:
                for index in jobs:
                    trace_login(prepared[index], self._trace)
            traced = self._trace is not None
            work = [partial(_log_in, prepared[index], self._environment, traced=traced) for index in jobs]
            bound = max((_bound(order) for order in prepared.values()), default=0.0)
            unfinished = Counter(orders[index].key for index in jobs)
            places = [str(prepared[index].portal).partition(",")[0] for index in jobs]  # without the portal group
            for number, ended in self._run(work, bound if seconds is None else min(seconds, bound), tick, places):
                order = orders[jobs[number]]
                unfinished[order.key] -= 1
                if order.wanted and not unfinished[order.key]:
                    locks.release(order.key)
                yield jobs[number], result_of(ended, order.key.target)
        finally:
            locks.close()

    def _run(
        self,
        jobs: Sequence[Job],
        seconds: float,
        tick: Callable[[], None] | None = None,
        places: Sequence[str] = (),
    ) -> Iterator[tuple[int, Ended]]:
        with Workers(now=self._environment.now, seconds=seconds, room=AT_ONE_PORTAL) as workers:
            yield from workers.run(jobs, places=places, tick=tick)

    def _load_transport(self) -> None:
        """iscsi_tcp is there afterwards; ModuleError (exit code 12) with modprobe's words when it cannot be."""
        from iscsiboot.session.modules import ISCSI_TCP, Loading  # a logout needs none

        now = self._environment.now
        keep_ended_children()
        loading = Loading(ISCSI_TCP, sysfs=self._environment.sysfs, in_image=False)
        loading.wait(Deadline.after(MODULE_SECONDS, now=now(), reason="modprobe iscsi_tcp"), now)

    def _name(self) -> InitiatorName:
        if self._identity is None:
            try:
                self._identity = read_initiator_name(self._paths)
            except IscsiBootError as error:
                # The daemon says 5 when it has no name.
                raise failure_like(error, ExitCode.LOGIN) from error
        return self._identity

    def _prepare(self, order: LoginOrder, remarks: list[str]) -> engine.LoginOrder:
        from iscsiboot.orders.login_request import login_order  # and the whole login engine; a logout needs neither

        name = self._name()
        remarks += name.notes
        if self._trace:
            self._trace(1, f"login: initiator {name.name} (from {name.source})")
        return login_order(
            order.record,
            initiator_name=name.name,
            initiator_alias=name.alias,
            boot=order.boot,
            sysfs=self._paths.sysfs,
            remark=remarks.append,
        )

    def _occupied(
        self, orders: Sequence[LoginOrder], wanted: Sequence[int], locks: LoginLocks
    ) -> Iterator[tuple[int, IscsiBootError]]:
        """Take the places; the orders for which there is no room, and why. Two that counted before it would count 0."""
        places: dict[NodeKey, list[int]] = {}
        for index in wanted:
            if orders[index].wanted:
                places.setdefault(orders[index].key, []).append(index)
        taken = {key: locks.take(key) for key in places}
        there = Counter(_place(row) for row in list_rows(self._paths.sysfs)) if places else Counter()
        for key, indexes in places.items():
            if not taken[key]:
                for index in indexes:
                    yield index, _exists(key, "another command is logging in to it at this moment")
                continue
            room = orders[indexes[0]].wanted - there[key.target, key.address, key.port, key.iface]
            for index in indexes[max(0, room) :]:
                yield index, _exists(key, "somebody else has made the session meanwhile")

    def login_later(self, orders: Sequence[LoginOrder]) -> None:
        """Log in behind the command: a process of its own session, without our files, that writes to syslog."""
        keep_ended_children()
        os.waitpid(fork(partial(self._be_behind, orders)), 0)

    def _be_behind(self, orders: Sequence[LoginOrder], mask: Set[int]) -> NoReturn:
        """A child that makes another one and ends, so that nobody has to wait for that."""
        try:
            os.setsid()
            if os.fork() == 0:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                leave_standard_files()
                # A lock or a pipe of the caller's would be held until the last login is over. Ours come later.
                os.closerange(3, os.sysconf("SC_OPEN_MAX"))
                syslog.openlog(SYSLOG_NAME, syslog.LOG_PID, syslog.LOG_DAEMON)
                self._log_in_silently(orders)
        except Exception:  # noqa: BLE001 - nobody sees this process; the log is where its faults are looked for
            import traceback  # never in a run that goes well

            syslog.syslog(syslog.LOG_ERR, f"logins without waiting ended: {traceback.format_exc(limit=-6)}")
        finally:
            # Never back into the command's code.
            os._exit(0)

    def _log_in_silently(self, orders: Sequence[LoginOrder]) -> None:
        for index, result in self.login(orders):
            key = orders[index].key
            place = f"[target: {key.target}, portal: {key.address},{key.port}] through [iface: {key.iface}]"
            for note in result.notes:
                syslog.syslog(syslog.LOG_INFO, note)
            if result.failure is None:
                syslog.syslog(syslog.LOG_WARNING, f"Connection{result.sid}:0 to {place} is operational now")
            else:
                words = f"{int(result.code)} - {EXIT_TEXT[result.code]}"
                syslog.syslog(syslog.LOG_ERR, f"login to {place} failed ({words}): {result.failure.line()}")

    def logout(
        self, rows: Sequence[SessionRow], *, insist: bool = False, seconds: float | None = None
    ) -> Generator[tuple[int, Result], None, None]:
        """End the sessions; see :meth:`iscsiboot.admin.runner.Runner.logout`."""
        # Here and not in each child: it brings PDUs along that a login does not need.
        from iscsiboot.session.logout import log_out

        timeouts = [self._logout_timeout(row) for row in rows]
        if self._trace:
            for row, timeout in zip(rows, timeouts, strict=True):
                self._trace(1, f"logout: session {row.sid} of {row.target}, {timeout:g} s for the target's answer")
        work = [
            partial(
                _log_out, partial(log_out, row.sid, logout_timeout=timeout, insist=insist), row.sid, self._environment
            )
            for row, timeout in zip(rows, timeouts, strict=True)
        ]
        bound = LOGOUT_SECONDS + max(timeouts, default=0.0)
        for index, ended in self._run(work, bound if seconds is None else min(seconds, bound)):
            sid = rows[index].sid
            if ended.late and not self._there(sid):
                # Told to end, it left out what it waited for and ended the session.
                words = (
                    f"session {sid}: ended without waiting for its disks and its target any longer; data may be lost"
                )
                yield index, Result(sid=sid, notes=(words,))
            else:
                yield index, result_of(ended, f"session {sid}", ExitCode.LOGOUT)

    def _there(self, sid: int) -> bool:
        return has_session(self._environment.sysfs, sid)

    def _logout_timeout(self, row: SessionRow) -> float:
        try:
            record = record_of(row, Database(self._paths.database))
        except IscsiBootError:
            record = None  # a session without a readable record can be ended as well
        return logout_timeout(record)

    def statistics(self, row: SessionRow) -> ConnectionStatistics:
        """The counters of a session; see :meth:`iscsiboot.admin.runner.Runner.statistics`."""
        environment = self._environment
        transport = read_transport(environment.sysfs, row.transport)
        if transport is None:
            raise no_transport(environment)
        deadline = Deadline.after(STATISTICS_SECONDS, now=environment.now(), reason="the kernel's counters")
        request = get_stats(transport.handle, sid=row.sid, cid=CID)
        try:
            with environment.open_netlink() as netlink:
                answer = netlink.statistics(request, deadline)
            return decode_statistics(answer.data)
        except ValueError as error:
            raise failure_of(row.sid, f"the kernel's counters cannot be read: {error}", ExitCode.INTERNAL) from error
        except IscsiBootError as error:
            if self._there(row.sid):
                raise
            raise failure_of(row.sid, "the session is gone", ExitCode.SESS_NOT_FOUND) from error

    def state(self, row: SessionRow) -> tuple[str, str]:
        """What the kernel knows; see :meth:`iscsiboot.admin.runner.Runner.state`."""
        return runner.state(row)


def _bound(order: engine.LoginOrder) -> float:
    """Seconds a login can take: its attempts, one more that began in time, the scan."""
    return order.give_up + 2.0 * order.request.params.login_timeout + SCAN_SECONDS


def _place(row: SessionRow) -> tuple[str, str, int, str]:
    """What a record's key says of it: target, stored portal, interface."""
    return row.target, row.persistent_address, row.persistent_port, row.iface_name


def _exists(key: NodeKey, cause: str) -> IscsiBootError:
    return IscsiBootError(
        cause,
        stage=Stage.LOGIN,
        subject=key.target,
        hint="look at it: iscsiadm -m session",
        exit_code=ExitCode.SESS_EXISTS,
    )


def _log_in(order: engine.LoginOrder, environment: Environment, *, traced: bool = False) -> Answer:
    """In a child: one login."""
    from iscsiboot.session import login as engine  # the parent has it

    began = environment.now()
    notes = Notes(environment.now if traced else None)
    try:
        session = engine.log_in(order, environment=environment, report=notes)
    except IscsiBootError as error:
        notes.step(f"failed: {error.line()}")
        return to_answer(client_failure(error), None, environment.now() - began, notes.lines, notes.steps)
    notes.step(f"session {session.sid} at {session.portal.endpoint}")
    return to_answer(None, session.sid, environment.now() - began, notes.lines, notes.steps)


def _log_out(log_out: Callable[..., None], sid: int, environment: Environment) -> Answer:
    """In a child: one logout."""
    began = environment.now()
    notes = Notes()
    failure: IscsiBootError | None = None
    try:
        log_out(environment=environment, report=notes)
    except IscsiBootError as error:
        failure = error
    return to_answer(failure, sid, environment.now() - began, notes.lines)
