# SPDX-License-Identifier: LGPL-2.1-or-later
"""A whole discovery over TCP: connect, log in, SendTargets, log out; again when it may help (RFC 7143 appendix C).

Targets are told as they come, so an array with ten thousand of them takes no more memory than one with ten. That has a
price when an attempt breaks off and another follows: what was told is told once more, and the caller is told so first.
open-iscsi ends a discovery by resetting the connection; here the target is told with a Logout, for a bounded time.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.initiator.chap import STRONGEST_FIRST, ChapAlgorithm
from iscsiboot.initiator.config import LoginConfig, SessionType
from iscsiboot.initiator.connection import Connection
from iscsiboot.initiator.discovery import ALL, DiscoveryFinished, RecordRefused, TargetFound
from iscsiboot.initiator.pdu.reject import Reject
from iscsiboot.initiator.session_events import ConnectionDropped, LoggedOut, Rejected, Remark, SessionDropped
from iscsiboot.initiator.timers import Timers
from iscsiboot.model.credentials import Credentials
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.discovered import DiscoveredTarget
from iscsiboot.model.params import SessionParams
from iscsiboot.model.portal import Portal
from iscsiboot.model.report import NullReport, Report
from iscsiboot.session.cancel import Cancellation, Cancelled
from iscsiboot.session.open_link import THIS_MACHINE, LinkEnvironment, open_link
from iscsiboot.session.tcp import TcpLink

LOGOUT_SECONDS = 5.0
"""For the target to answer the Logout: by then everything is known, so it is not worth more."""

DISCOVERY_PARAMS = SessionParams(max_recv_data_segment_length=32768)
"""open-iscsi's segment length for discovery; the other values have no meaning in such a session."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """How often a discovery is tried, and with which pauses. ValueError for values that make no sense."""

    attempts: int = 6
    """open-iscsi's ``discovery.sendtargets.reopen_max`` and one more."""
    pauses: tuple[float, ...] = (0.0, 1.0)
    """Seconds after the first failure, the second, and so on; the last one repeats."""

    def __post_init__(self) -> None:
        if self.attempts < 1 or not self.pauses or any(pause < 0 for pause in self.pauses):
            raise ValueError("a discovery has at least one attempt, and pauses are not negative")

    def pause_after(self, attempt: int) -> float:
        """Seconds to wait after this attempt (from 1) has failed."""
        return self.pauses[min(attempt, len(self.pauses)) - 1]


ONCE = RetryPolicy(attempts=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Discovery:
    """How a discovery ended."""

    portal: Portal
    """Where the answer came from: after redirects, perhaps not the portal that was asked for."""
    found: int
    """Targets told in the last attempt, which is the one that counts."""
    refused: int
    """What was wrong in its answer and is not among them."""
    attempts: int
    logged_out: bool
    """Whether the target answered the Logout; everything else is complete either way."""


def discovery_config(
    *,
    initiator_name: str,
    entropy: Callable[[int], bytes],
    credentials: Credentials | None = None,
    chap_algorithms: tuple[ChapAlgorithm, ...] = STRONGEST_FIRST,
    initiator_alias: str = "",
    params: SessionParams = DISCOVERY_PARAMS,
) -> LoginConfig:
    """The login of a discovery session, which is with no target.

    Its ISID is drawn by chance (type 10b, section 11.12.5): targets that take all their portals for one group end a
    session when another logs in with the same ISID, and discoveries of several portals run at the same time.
    """
    return LoginConfig(
        session_type=SessionType.DISCOVERY,
        initiator_name=initiator_name,
        target_name="",
        initiator_alias=initiator_alias,
        isid=b"\x80" + entropy(5),
        params=params,
        credentials=credentials,
        chap_algorithms=chap_algorithms,
    )


def discover(
    portal: Portal,
    config: LoginConfig,
    *,
    deadline: Deadline,
    on_target: Callable[[DiscoveredTarget], None],
    on_refused: Callable[[str], None] | None = None,
    on_restart: Callable[[], None] | None = None,
    what: str = ALL,
    retry: RetryPolicy = ONCE,
    timers: Timers | None = None,
    environment: LinkEnvironment = THIS_MACHINE,
    report: Report | None = None,
) -> Discovery:
    """Ask ``portal`` for its targets (``what``: All, or a name) and tell each to ``on_target`` as it comes.

    ``on_refused`` gets what is wrong in the answer, a clause each, safe to print. ``on_restart`` is called before an
    attempt that follows one in which something was told: all of that is void then. ``deadline`` covers everything.

    Raises the :class:`IscsiBootError` of the last attempt, an error that is not retryable at once.
    """
    told = report or NullReport()
    attempt = 0
    while True:
        attempt += 1
        run = _Attempt(portal, config, what, deadline, timers or Timers(), environment, told, on_target, on_refused)
        try:
            return run.carry_out(attempt)
        except IscsiBootError as error:
            pause = retry.pause_after(attempt)
            late = deadline.remaining(environment.now()) <= pause
            if not error.retryable or late or attempt == retry.attempts:
                raise
            told.note(f"discovery at {portal.endpoint}, attempt {attempt}: {error.line()}; again in {pause:g} s")
        _pause(environment, pause, portal)
        if run.told and on_restart is not None:
            on_restart()


def _pause(environment: LinkEnvironment, seconds: float, portal: Portal) -> None:
    with ExitStack() as stack:
        cancellation = environment.cancellation or stack.enter_context(Cancellation())
        until = Deadline.after(seconds, now=environment.now(), reason="the next attempt")
        if cancellation.wait(until, environment.now):
            raise Cancelled(stage=Stage.DISCOVERY, subject=portal.endpoint)


@dataclass(slots=True)
class _Attempt:
    """One attempt."""

    portal: Portal
    config: LoginConfig
    what: str
    deadline: Deadline
    timers: Timers
    environment: LinkEnvironment
    report: Report
    on_target: Callable[[DiscoveredTarget], None]
    on_refused: Callable[[str], None] | None
    told: bool = False
    """Whether the caller was told anything."""

    def carry_out(self, attempt: int) -> Discovery:
        link, _ = open_link(
            self.portal,
            self.config,
            deadline=self.deadline,
            environment=self.environment,
            report=self.report,
            timers=self.timers,
        )
        with link:
            finished = self._ask(link)
            logged_out = self._leave(link)
            return Discovery(
                portal=link.connection.config.portal or self.portal,
                found=finished.found,
                refused=finished.refused,
                attempts=attempt,
                logged_out=logged_out,
            )

    def _ask(self, link: TcpLink) -> DiscoveryFinished:
        connection = link.session()
        tag = connection.discover(self.environment.now(), self.what)
        while True:
            event = link.next_event(self.deadline)
            match event:
                case TargetFound():
                    self.told = True
                    self.on_target(event.target)
                case RecordRefused():
                    self.told = True
                    if self.on_refused is not None:
                        self.on_refused(event.cause)
                case DiscoveryFinished():
                    return event
                case Rejected(tag=refused) if refused == tag:
                    raise _rejected(connection, event.reason)
                case ConnectionDropped() | SessionDropped():
                    raise _dropped(connection)
                case Remark():
                    self.report.note(f"{connection.subject}: {event.text}")

    def _leave(self, link: TcpLink) -> bool:
        """Log out; that it fails is told and costs nothing, since the answer is complete."""
        now = self.environment.now
        limit = self.deadline.within(LOGOUT_SECONDS, now=now(), reason="the end of the discovery session")
        try:
            link.session().logout(now())
            while not isinstance(link.next_event(limit), LoggedOut):
                pass
        except IscsiBootError as error:
            self.report.note(f"{error.line()} (all targets were told)")
            return False
        return True


def _rejected(connection: Connection, reason: int) -> IscsiBootError:
    return connection.abandon(
        f"the target rejected the request for its targets: {Reject(reason=reason).words}",
        hint="find out how its targets can be learnt; log in by name if one is known",
        exit_code=ExitCode.TRANS,
        retryable=False,
    )


def _dropped(connection: Connection) -> IscsiBootError:
    return connection.abandon(
        "the target said that it drops the connection",
        hint="read the target's log for why",
        exit_code=ExitCode.TRANS,
        retryable=True,
    )
