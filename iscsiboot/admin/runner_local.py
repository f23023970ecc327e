# SPDX-License-Identifier: LGPL-2.1-or-later
"""The runner inside the command: what the daemon does, done by child processes of this one.

What it keeps of the daemon's ways (reference 4.2, 4.5): one session for each place unless more are wanted, retries as
the record says, the exit code a client is told. What it cannot do is recover a session later: for that a daemon is
needed, and one that starts takes these sessions over as it would its own.

Interplay: a place somebody else logs in to at this moment is "session exists" (:mod:`iscsiboot.admin.login_lock`); what
a killed command left half made is removed by the next login (:func:`iscsiboot.session.login.clear_leftovers`); sessions
of another living program are never touched.
"""

from __future__ import annotations

import os
import syslog
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from pathlib import Path

from iscsiboot.admin import runner
from iscsiboot.admin.context import Paths
from iscsiboot.admin.initiator import read_initiator_name
from iscsiboot.admin.login_lock import LoginLocks
from iscsiboot.admin.login_request import login_order, logout_timeout
from iscsiboot.admin.login_result import client_failure, failure_like, failure_of, from_answer, to_answer
from iscsiboot.admin.node_startup import record_of
from iscsiboot.admin.runner import LoginOrder, Result
from iscsiboot.database.initiator_name import InitiatorName
from iscsiboot.database.names import NodeKey
from iscsiboot.database.store import Database
from iscsiboot.errors import EXIT_TEXT, ExitCode, IscsiBootError, Stage
from iscsiboot.model.deadline import Deadline
from iscsiboot.netlink.messages import get_stats
from iscsiboot.netlink.statistics import ConnectionStatistics, decode_statistics
from iscsiboot.session import login as engine
from iscsiboot.session.attach import no_transport, this_machine
from iscsiboot.session.modules import ISCSI_TCP, Loading
from iscsiboot.session.steps import CID
from iscsiboot.session.values import Environment
from iscsiboot.session.workers import Answer, Ended, Job, Workers, keep_ended_children, leave_standard_files
from iscsiboot.sysfs.listing import SessionRow, list_rows
from iscsiboot.sysfs.sessions import read_transport

SCAN_SECONDS = 60.0
"""For the scan of a host, and for what else follows a login."""
LOGOUT_SECONDS = 90.0
"""For a logout, beside the record's timeout: flushing the disks and the kernel's own clean-up."""
STATISTICS_SECONDS = 5.0
MODULE_SECONDS = 60.0
SYSLOG_NAME = "iscsid"
"""Logins behind the command's back are told where open-iscsi's daemon tells them."""


class Notes:
    """Keeps what is told, for the answer; nobody hears it in a child process."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        """Keep the line."""
        self.lines.append(text)

    def mark(self, *_: object) -> None:
        """Nobody draws this login."""


class LocalRunner:
    """See :class:`iscsiboot.admin.runner.Runner`. ``environment`` is the machine; tests give another one."""

    def __init__(self, paths: Paths, environment: Environment | None = None) -> None:
        self._paths = paths
        self._machine = environment
        self._identity: InitiatorName | None = None

    @property
    def _environment(self) -> Environment:
        if self._machine is None:
            self._machine = this_machine(sysfs=Path(self._paths.sysfs), proc=Path(self._paths.proc))
        return self._machine

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
            notes = Notes()
            requests = [order.request for order in prepared.values()]
            engine.clear_leftovers(requests, environment=self._environment, report=notes)
            for index, result in self._log_in_where_free(orders, prepared, seconds, tick):
                result.notes = (*notes.lines, *remarks[index], *result.notes)
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
            work = [partial(_log_in, prepared[index], self._environment) for index in jobs]
            bound = max((_bound(order) for order in prepared.values()), default=0.0)
            unfinished = Counter(orders[index].key for index in jobs)
            for number, ended in self._run(work, bound if seconds is None else min(seconds, bound), tick):
                order = orders[jobs[number]]
                unfinished[order.key] -= 1
                if order.wanted and not unfinished[order.key]:
                    locks.release(order.key)
                yield jobs[number], _result(ended, order.key.target)
        finally:
            locks.close()

    def _run(
        self, jobs: Sequence[Job], seconds: float, tick: Callable[[], None] | None = None
    ) -> Iterator[tuple[int, Ended]]:
        with Workers(now=self._environment.now, seconds=seconds) as workers:
            yield from workers.run(jobs, tick=tick)

    def _load_transport(self) -> None:
        """iscsi_tcp is there afterwards; ModuleError (exit code 12) with modprobe's words when it cannot be."""
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
        name = self._name()
        remarks += name.notes
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
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            return
        try:
            os.setsid()
            if os.fork() == 0:
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
        work = [
            partial(
                _log_out, partial(log_out, row.sid, logout_timeout=timeout, insist=insist), row.sid, self._environment
            )
            for row, timeout in zip(rows, timeouts, strict=True)
        ]
        bound = LOGOUT_SECONDS + max(timeouts, default=0.0)
        for index, ended in self._run(work, bound if seconds is None else min(seconds, bound)):
            yield index, _result(ended, f"session {rows[index].sid}", ExitCode.LOGOUT)

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
            if (environment.sysfs / "class" / "iscsi_session" / f"session{row.sid}").exists():
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


def _log_in(order: engine.LoginOrder, environment: Environment) -> Answer:
    """In a child: one login."""
    began = environment.now()
    notes = Notes()
    try:
        session = engine.log_in(order, environment=environment, report=notes)
    except IscsiBootError as error:
        return to_answer(client_failure(error), None, environment.now() - began, notes.lines)
    return to_answer(None, session.sid, environment.now() - began, notes.lines)


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


def _result(ended: Ended, subject: str, late: ExitCode = ExitCode.TRANS_TIMEOUT) -> Result:
    """What a child told, or what became of it."""
    if ended.answer is not None:
        return from_answer(ended.answer)
    failure = IscsiBootError(
        ended.problem,
        stage=Stage.SESSION,
        subject=subject,
        hint="see dmesg for what the kernel says; give it more time with --timeout",
        exit_code=late if ended.late else ExitCode.CHILD_TERMINATED,
    )
    return Result(failure=failure)
