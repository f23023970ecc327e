# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the commands need done to sessions, whoever does it: values in, values out, nothing printed.

Behind :class:`Runner` the daemon does it (:mod:`iscsiboot.admin.runner_ipc`) or, where there is none,
:mod:`iscsiboot.admin.runner_local` inside the command. Which sessions and records are meant, every word of the output,
the guard of the running system and the wait for block devices are the commands' own, whoever does it.

Imported by listings (for :meth:`Runner.state`), so it imports nothing that costs.
"""

from __future__ import annotations

from iscsiboot.admin.session_state import states
from iscsiboot.errors import ExitCode, IscsiBootError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from typing import Protocol

    from iscsiboot.admin.context import Context
    from iscsiboot.database.names import NodeKey
    from iscsiboot.database.record import Record
    from iscsiboot.netlink.statistics import ConnectionStatistics
    from iscsiboot.sysfs.listing import SessionRow

    class Runner(Protocol):
        """Does what the commands ask. Results come as they are ready, each with the index of its order."""

        def settle(self, pairs: Sequence[tuple[NodeKey, Record]]) -> Sequence[str]:
            """Remove sessions of these records that nobody will complete or recover; a line for each.

            What somebody is at work on, and what has a disk in use or open, stays. Never fails: what cannot go stays.
            """

        def login(
            self,
            orders: Sequence[LoginOrder],
            *,
            seconds: float | None = None,
            tick: Callable[[], None] | None = None,
        ) -> Generator[tuple[int, Result], None, None]:
            """Make the sessions, all at once as far as the machine bears it; each at most ``seconds``.

            Leaving the iteration early, also by an exception, takes back every login that is not done.
            """

        def login_later(self, orders: Sequence[LoginOrder]) -> None:
            """The same behind this command's back: returns at once, results go to the system's log."""

        def logout(
            self, rows: Sequence[SessionRow], *, insist: bool = False, seconds: float | None = None
        ) -> Generator[tuple[int, Result], None, None]:
            """End the sessions; ``insist`` also when another program may be looking after them."""

        def statistics(self, row: SessionRow) -> ConnectionStatistics:
            """The counters of a session's connection. IscsiBootError when it has none."""

        def state(self, row: SessionRow) -> tuple[str, str]:
            """State of the connection and internal state of the daemon, in the words of ``session -P 1``."""


LOGOUT_TIMEOUT_DEFAULT = 15


class LoginOrder:
    """One session to be made."""

    __slots__ = ("boot", "key", "record", "wanted")

    def __init__(
        self, key: NodeKey, record: Record, wanted: int = 1, *, boot: tuple[str, str, str] = ("", "", "")
    ) -> None:
        self.key = key
        self.record = record
        self.wanted = wanted
        """How many sessions there may be to this record in all; 0 for one more, however many there are."""
        self.boot = boot
        """Firmware's root, NIC and target (``ibft``, ``ethernet0``, ``target0``) when the record is from its table."""

    @property
    def multiple(self) -> bool:
        """Whether the session may stand beside others of its kind, open-iscsi's ``multiple`` flag."""
        return self.wanted != 1


class Result:
    """How one order ended."""

    __slots__ = ("failure", "notes", "seconds", "sid", "steps")

    def __init__(
        self,
        *,
        failure: IscsiBootError | None = None,
        sid: int | None = None,
        seconds: float = 0.0,
        notes: tuple[str, ...] = (),
        steps: tuple[str, ...] = (),
    ) -> None:
        self.failure = failure
        """None is success; its exit code is the one open-iscsi's client is told."""
        self.sid = sid
        """The session that was made or ended, as far as it is known."""
        self.seconds = seconds
        self.notes = notes
        """What is worth knowing although it failed nothing."""
        self.steps = steps
        """What was done on the way and when, for ``-d``."""

    @property
    def code(self) -> ExitCode:
        """The exit code."""
        return ExitCode.SUCCESS if self.failure is None else self.failure.exit_code


def logout_timeout(record: Record | None) -> float:
    """Seconds the target's answer to a logout is waited for; the peer's 15 without a record, or when it says none."""
    seconds = 0 if record is None else record.number("node.conn[0].timeo.logout_timeout")
    return float(min(seconds, 3600) if seconds > 0 else LOGOUT_TIMEOUT_DEFAULT)


def the_runner(context: Context) -> Runner:
    """Who does it on this machine; a daemon is looked for when there is something to do."""
    if context.paths.daemon:
        from iscsiboot.admin.runner_ipc import DaemonRunner  # sockets: only for commands that change or count something

        return DaemonRunner(context)
    return local_runner(context)


def local_runner(context: Context) -> Runner:
    """The command itself."""
    # Processes, netlink and the login engine.
    from iscsiboot.admin.runner_local import LocalRunner

    return LocalRunner(context.paths, trace=context.trace if context.debug > 0 else None)


def state(row: SessionRow) -> tuple[str, str]:
    """:meth:`Runner.state`: what the kernel's own states say. A daemon that is at work knows no more."""
    return states(row.state, row.connection_state)
