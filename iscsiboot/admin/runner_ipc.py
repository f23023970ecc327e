# SPDX-License-Identifier: LGPL-2.1-or-later
"""The runner that has the daemon do it.

Who does it is found out when there is something to do:

* a daemon of ours listens, or whoever keeps its socket for it: the daemon does it;
* nobody listens, and iscsid.conf says how to start one (``iscsid.startup``): that is run once, then as above. When
  nobody listens after it, the command fails with the peer's exit code 20: an administrator who wants a daemon does not
  want sessions without one;
* nobody listens and nothing says how to start one (a rescue shell, an initramfs, a container): the command does it
  itself, see :mod:`iscsiboot.admin.runner_local`;
* open-iscsi's daemon listens: the same, as long as there is none of ours.

An interrupted command has the daemon take back what is not done, and waits for that. A killed one leaves it at work.
"""

from __future__ import annotations

import time
from contextlib import closing

from iscsiboot.admin import runner
from iscsiboot.admin.node_startup import record_of
from iscsiboot.admin.runner import LoginOrder, Result, local_runner, logout_timeout
from iscsiboot.database.store import Database
from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.ipc.client import NobodyListens, OtherDaemon, connect
from iscsiboot.ipc.protocol import SECONDS_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from typing import Any

    from iscsiboot.admin.context import Context
    from iscsiboot.admin.runner import Runner
    from iscsiboot.database.names import NodeKey
    from iscsiboot.database.record import Record
    from iscsiboot.ipc.client import Client
    from iscsiboot.ipc.protocol import Answer
    from iscsiboot.netlink.statistics import ConnectionStatistics
    from iscsiboot.sysfs.listing import SessionRow

SCAN_SECONDS = 60.0
"""For the scan of a host, and for what else follows a login."""
LOGOUT_SECONDS = 90.0
"""For a logout, beside the record's timeout: flushing the disks and the kernel's own clean-up."""
SETTLE_AT_ONCE = 16
"""Records in one request: each has some 6 KiB."""
_LATE = {"login": ExitCode.TRANS_TIMEOUT, "logout": ExitCode.LOGOUT}
"""What the command says when the time it was given is over, with a daemon as without."""


class DaemonRunner:
    """See :class:`iscsiboot.admin.runner.Runner`."""

    def __init__(self, context: Context, *, now: Callable[[], float] = time.monotonic) -> None:
        self._context = context
        self._now = now
        self._local: Runner | None = None
        """Set when the command has to do it itself."""
        self._started = False

    def settle(self, pairs: Sequence[tuple[NodeKey, Record]]) -> Sequence[str]:
        """Remove what is left over; see :meth:`iscsiboot.admin.runner.Runner.settle`."""
        lines: list[str] = []
        try:
            client = self._open()
            if client is None:
                return self._itself().settle(pairs)
            with client:
                for at in range(0, len(pairs), SETTLE_AT_ONCE):
                    records = [_members(record) for _, record in pairs[at : at + SETTLE_AT_ONCE]]
                    lines += map(str, client.ask("settle", {"records": records}).get("lines", ()))
        except IscsiBootError as error:
            lines.append(error.line())  # the login that follows fails with it
        return lines

    def login(
        self, orders: Sequence[LoginOrder], *, seconds: float | None = None, tick: Callable[[], None] | None = None
    ) -> Generator[tuple[int, Result], None, None]:
        """Make the sessions; see :meth:`iscsiboot.admin.runner.Runner.login`."""
        client = yield from self._opened(len(orders))
        if client is not None:
            bound = max((_bound(order.record) for order in orders), default=0.0)
            # Who gives the command a time means all of it.
            requests = [("login", {**self._order(order), "patient": seconds is None}) for order in orders]
            yield from self._follow(client, requests, _at_most(bound, seconds), tick)
        elif self._local is not None:
            yield from self._local.login(orders, seconds=seconds, tick=tick)

    def login_later(self, orders: Sequence[LoginOrder]) -> None:
        """The same behind this command's back; the daemon's log has the results."""
        client = self._open()
        if client is None:
            self._itself().login_later(orders)
            return
        bound = max((_bound(order.record) for order in orders), default=0.0)
        requests = [("login", {**self._order(order), "patient": True, "detach": True}) for order in orders]
        with client:
            failures = [answer.failure for _, answer in client.ask_all(requests, seconds=_at_most(bound, None))]
        for failure in failures:
            if failure is not None:
                raise failure

    def logout(
        self, rows: Sequence[SessionRow], *, insist: bool = False, seconds: float | None = None
    ) -> Generator[tuple[int, Result], None, None]:
        """End the sessions; see :meth:`iscsiboot.admin.runner.Runner.logout`."""
        client = yield from self._opened(len(rows))
        if client is not None:
            timeouts = [self._logout_timeout(row) for row in rows]
            if self._context.debug > 0:
                for row, timeout in zip(rows, timeouts, strict=True):
                    words = f"session {row.sid} of {row.target}, {timeout:g} s for the target's answer"
                    self._context.trace(1, f"logout: {words}")
            requests = [
                ("logout", {"sid": row.sid, "insist": insist, "logout_timeout": timeout, **self._traced()})
                for row, timeout in zip(rows, timeouts, strict=True)
            ]
            bound = LOGOUT_SECONDS + max(timeouts, default=0.0)
            for index, result in self._follow(client, requests, _at_most(bound, seconds), None):
                result.sid = rows[index].sid
                yield index, result
        elif self._local is not None:
            yield from self._local.logout(rows, insist=insist, seconds=seconds)

    def statistics(self, row: SessionRow) -> ConnectionStatistics:
        """The counters of a session; see :meth:`iscsiboot.admin.runner.Runner.statistics`."""
        client = self._open()
        if client is None:
            return self._itself().statistics(row)
        try:
            with client:
                return _statistics(client.ask("stats", {"sid": row.sid}))
        except IscsiBootError as error:
            if error.exit_code is not ExitCode.SESS_NOT_FOUND:
                raise
        # It guards software sessions; an adapter's has counters too.
        return local_runner(self._context).statistics(row)

    def state(self, row: SessionRow) -> tuple[str, str]:
        """What the kernel knows; see :meth:`iscsiboot.admin.runner.Runner.state`."""
        return runner.state(row)

    # Who does it. -----------------------------------------------------------------------------------------------------

    def _itself(self) -> Runner:
        if self._local is None:
            self._local = local_runner(self._context)
        return self._local

    def _open(self) -> Client | None:
        """A connection to the daemon, which is started if need be; None when the command does it itself.

        IscsiBootError when neither is right.
        """
        if self._local is not None:
            return None
        try:
            return self._connect()
        except NobodyListens as absent:
            return self._start(absent)
        except OtherDaemon as other:
            self._context.notice(f"{other.subject}: {other.cause}: the command does it itself")
            self._itself()
            return None

    def _connect(self) -> Client:
        client = connect(self._context.paths.daemon, now=self._now)
        self._context.trace(1, f"daemon: iscsid {client.version}, whose socket is of process {client.pid}, does it")
        return client

    def _start(self, absent: NobodyListens) -> Client | None:
        from iscsiboot.database.config import read_config  # only where no daemon is

        path = self._context.paths.iscsid_conf
        command = read_config(path).iscsid("iscsid.startup")
        if not command:
            self._context.trace(1, f"daemon: none listens and {path} has no iscsid.startup: the command does it itself")
            self._itself()
            return None
        if self._started:
            raise absent
        from iscsiboot.admin.daemon_start import start_daemon  # as above

        self._started = True
        self._context.trace(1, f"daemon: none listens, {path} starts it by {command}")
        self._context.out.flush()
        ended = start_daemon(command, lambda: self._listens(), now=self._now)
        try:
            return self._connect()
        except NobodyListens as error:
            raise IscsiBootError(
                f"{error.cause} {ended}",
                stage=Stage.DAEMON,
                subject="iscsid",
                hint=f"start it and see its log, or correct iscsid.startup in {path}",
                exit_code=ExitCode.ISCSID_NOTCONN,
                retryable=True,
            ) from error

    def _listens(self) -> bool:
        from iscsiboot.ipc.client import who_listens  # as above

        return who_listens(self._context.paths.daemon) is not None

    def _opened(self, count: int) -> Generator[tuple[int, Result], None, Client | None]:
        """:meth:`_open`; what keeps it from being right is the result of each of ``count`` orders."""
        if not count:
            return None
        try:
            return self._open()
        except IscsiBootError as error:
            for index in range(count):
                yield index, Result(failure=error)
            return None

    # What is said to it. ----------------------------------------------------------------------------------------------

    def _follow(
        self,
        client: Client,
        requests: Sequence[tuple[str, Mapping[str, Any]]],
        seconds: float,
        tick: Callable[[], None] | None,
    ) -> Generator[tuple[int, Result], None, None]:
        began = self._now()
        waiting = set(range(len(requests)))
        with client, closing(client.ask_all(requests, seconds=seconds, tick=tick)) as answers:
            while True:
                try:
                    index, answer = next(answers)
                except StopIteration:
                    return
                except IscsiBootError as error:
                    # The daemon is gone or stands still. What it has done by then, the list of sessions shows.
                    for index in sorted(waiting):
                        yield index, Result(failure=error, seconds=self._now() - began)
                    return
                waiting.discard(index)
                yield index, _result(requests[index][0], answer, self._now() - began)

    def _order(self, order: LoginOrder) -> dict[str, Any]:
        key = order.key
        if self._context.debug > 0:
            self._context.trace(1, f"login: {key.target} at {key.address}:{key.port} through {key.iface}")
        members = {"record": _members(order.record), "boot": list(order.boot), "wanted": order.wanted}
        return {**members, **self._traced()}

    def _traced(self) -> dict[str, bool]:
        return {"trace": True} if self._context.debug > 0 else {}

    def _logout_timeout(self, row: SessionRow) -> float:
        try:
            record = record_of(row, Database(self._context.paths.database))
        except IscsiBootError:
            record = None  # a session without a readable record can be ended as well
        return logout_timeout(record)


def _members(record: Record) -> dict[str, str]:
    return dict(record.values)


def _bound(record: Record) -> float:
    """Seconds a login can take: its attempts, one more that began in time, the scan."""
    attempt = max(1, record.number("node.conn[0].timeo.login_timeout"))
    attempts = max(0, record.number("node.session.initial_login_retry_max"))
    return (attempts + 2.0) * attempt + SCAN_SECONDS


def _at_most(bound: float, seconds: float | None) -> float:
    """What the operation may take: its own bound, what was asked for, the longest a daemon takes an order for."""
    return min(bound if seconds is None else min(seconds, bound), SECONDS_MAX)


def _result(action: str, answer: Answer, seconds: float) -> Result:
    failure = answer.failure
    if failure is not None and failure.exit_code is ExitCode.REQ_TIMEDOUT:
        failure = IscsiBootError(
            failure.cause,
            stage=failure.stage,
            subject=failure.subject,
            hint=failure.hint,
            exit_code=_LATE[action],
            retryable=failure.retryable,
        )
    sid = answer.result.get("sid")
    return Result(
        failure=failure,
        sid=sid if isinstance(sid, int) else None,
        seconds=seconds,
        notes=answer.notes,
        steps=answer.steps,
    )


def _statistics(result: Mapping[str, Any]) -> ConnectionStatistics:
    from iscsiboot.netlink.statistics import ConnectionStatistics  # dataclasses: no login needs it

    try:
        counters, custom = (
            tuple((str(name), int(value)) for name, value in result[part]) for part in ("counters", "custom")
        )
    except (KeyError, TypeError, ValueError) as error:
        raise IscsiBootError(
            "the daemon's counters cannot be read",
            stage=Stage.DAEMON,
            hint="iscsiadm and iscsid should be of one version",
            exit_code=ExitCode.ISCSID_COMM_ERR,
        ) from error
    return ConnectionStatistics(counters=counters, custom=custom)
