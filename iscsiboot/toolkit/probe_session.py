# SPDX-License-Identifier: LGPL-2.1-or-later
"""The network behind a probe: sessions and discoveries over TCP, by the driver every program shares.

Sessions are made to be no trouble to anybody: a random ISID never takes a session over, and DefaultTime2Retain 0 makes
the target end the session with its connection, so even a run that is killed leaves nothing there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from iscsiboot.errors import ExitCode, IscsiBootError
from iscsiboot.initiator.config import LoginConfig
from iscsiboot.initiator.connection import ConnectionPhase, Event
from iscsiboot.initiator.discovery import ALL
from iscsiboot.initiator.errors import SessionError
from iscsiboot.initiator.events import LoginSucceeded
from iscsiboot.initiator.pdu.reject import Reject
from iscsiboot.initiator.scsi import Request
from iscsiboot.initiator.scsi_unit import Answer, ScsiError
from iscsiboot.initiator.session_events import (
    CommandFailed,
    CommandFinished,
    ConnectionDropped,
    LoggedOut,
    LogoutRequested,
    Rejected,
    Remark,
    SessionDropped,
)
from iscsiboot.initiator.timers import Timers
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.discovered import DiscoveredTarget
from iscsiboot.model.lun import Lun
from iscsiboot.model.params import SessionParams
from iscsiboot.model.portal import Portal
from iscsiboot.model.timeline import Mark
from iscsiboot.session.discover import DISCOVERY_PARAMS, discover, discovery_config
from iscsiboot.session.open_link import LinkEnvironment, open_link
from iscsiboot.session.resolve import resolve_all
from iscsiboot.session.tcp import TcpLink
from iscsiboot.toolkit.probe_options import Options
from iscsiboot.toolkit.probe_path import Environment, Session, Stopwatch
from iscsiboot.toolkit.probe_secrets import Logins
from iscsiboot.toolkit.probe_words import lun_text

LOGOUT_SECONDS = 2.0
"""For the answer to a Logout: all is known by then."""
DISCOVERY_STEPS = 6.0
"""How many times the patience of one step a discovery may take: an answer can be long."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _StepReport:
    """Makes steps and remarks of what the driver reports."""

    watch: Stopwatch

    def note(self, text: str) -> None:
        """A remark; a second session of the same path would say it again."""
        if text not in self.watch.remarks:
            self.watch.remarks.append(text)

    def mark(self, mark: Mark, detail: str = "") -> None:  # noqa: ARG002  (where to is known from the errors)
        """The end of a step."""
        if mark is Mark.CONNECTED:
            self.watch.lap("connect")


class LinkSession:
    """A session on a :class:`TcpLink`: one command at a time."""

    def __init__(
        self, link: TcpLink, outcome: LoginSucceeded, *, timeout: float, now: Callable[[], float], watch: Stopwatch
    ) -> None:
        self._link = link
        self._outcome = outcome
        self._timeout = timeout
        self._now = now
        self._watch = watch

    @property
    def portal(self) -> Portal:
        """Where the login ended."""
        portal = self._link.connection.config.portal
        if portal is None:
            raise RuntimeError("a connection without a portal")
        return portal

    @property
    def tpgt(self) -> int | None:
        """The portal group."""
        return self._outcome.tpgt

    @property
    def alias(self) -> str:
        """The target's alias."""
        return self._outcome.target_alias or ""

    @property
    def authentication(self) -> str:
        """``none``, ``CHAP SHA256``, ``mutual CHAP MD5``."""
        if self._outcome.algorithm is None:
            return "none"
        return f"{'mutual ' if self._outcome.mutual else ''}CHAP {self._outcome.algorithm.name}"

    def execute(self, lun: Lun, request: Request[Any]) -> Answer:
        """Send a command and wait for its status."""
        connection = self._link.session()
        where = f"{connection.subject}, LUN {lun_text(lun)}"
        tag = connection.command(lun, request.cdb, now=self._now(), read_length=request.length)
        deadline = self._deadline(self._timeout, f"the answer to {request.name}")
        while True:
            match self._next_event(deadline, where):
                case CommandFinished(tag=finished, result=result) if finished == tag:
                    return result
                case CommandFailed(tag=failed, cause=cause) if failed == tag:
                    # A session that ends takes its commands with it, and tells them first.
                    self._link.session()
                    raise ScsiError(f"{request.name}: {cause}", subject=where, hint="try again", retryable=True)
                case ConnectionDropped() | SessionDropped():
                    self._link.session()
                case Rejected(reason=reason, tag=refused) if refused != tag:
                    self._remark(f"the target rejected a PDU of ours: {Reject(reason=reason).words}")
                case LogoutRequested():
                    self._remark("the target asked us to log out")
                case Remark(text=text):
                    self._remark(text)

    def _next_event(self, deadline: Deadline, where: str) -> Event:
        """What comes next. A unit that is late is told from a target that is: its connection is in good order."""
        try:
            return self._link.next_event(deadline)
        except SessionError as error:
            if error.exit_code is not ExitCode.PDU_TIMEOUT or not deadline.passed(self._now()):
                raise
            raise SessionError(
                error.cause,
                subject=where,
                hint="look at this LUN at the target: is what backs it alive? --timeout gives it longer",
                exit_code=error.exit_code,
                retryable=True,
            ) from error

    def logout(self) -> None:
        """Log out and wait for the answer."""
        self._link.session().logout(self._now())
        deadline = self._deadline(min(LOGOUT_SECONDS, self._timeout), "the answer to our logout")
        while not isinstance(self._link.next_event(deadline), LoggedOut):
            pass

    def _remark(self, text: str) -> None:
        if text not in self._watch.remarks:
            self._watch.remarks.append(text)

    def _deadline(self, seconds: float, reason: str) -> Deadline:
        return Deadline.after(seconds, now=self._now(), reason=reason)


class Network:
    """Makes the sessions of one run."""

    def __init__(
        self, options: Options, initiator_name: str, logins: Logins, link_environment: LinkEnvironment
    ) -> None:
        self._options = options
        self._name = initiator_name
        self._logins = logins
        self._environment = link_environment
        self._now = link_environment.now

    def environment(self, cancel: Callable[[], None]) -> Environment:
        """What a run needs."""
        return Environment(
            now=self._now,
            resolve=resolve_all,
            discover=self.discover,
            open_session=self.open_session,
            cancel=cancel,
        )

    def discover(
        self, portal: Portal, target: str | None, watch: Stopwatch
    ) -> tuple[list[DiscoveredTarget], list[str]]:
        """Targets of a portal."""
        found: list[DiscoveredTarget] = []
        refused: list[str] = []
        config = discovery_config(
            initiator_name=self._name,
            entropy=self._environment.entropy,
            credentials=self._logins.discovery,
            params=replace(DISCOVERY_PARAMS, login_timeout=self._login_seconds()),
        )
        discover(
            portal,
            config,
            deadline=self._deadline(DISCOVERY_STEPS, f"the targets of {portal.endpoint}"),
            on_target=found.append,
            on_refused=refused.append,
            what=target or ALL,
            timers=self._timers(),
            environment=self._environment,
            report=_StepReport(watch=watch),
        )
        watch.lap("discovery")
        return found, refused

    def open_session(self, portal: Portal, target: str, watch: Stopwatch) -> AbstractContextManager[Session]:
        """A session with one target, logged out at the end of the block where it still can be."""
        return self._session(portal, target, watch)

    @contextmanager
    def _session(self, portal: Portal, target: str, watch: Stopwatch) -> Iterator[Session]:
        config = LoginConfig(
            initiator_name=self._name,
            target_name=target,
            # RFC 7143 section 11.12.5: type 10b, random.
            isid=b"\x80" + self._environment.entropy(5),
            params=self._params(),
            credentials=self._logins.session,
            portal=portal,
        )
        watch.start()
        link, outcome = open_link(
            portal,
            config,
            deadline=self._deadline(1.0, f"a login at {portal.endpoint}"),
            environment=self._environment,
            report=_StepReport(watch=watch),
            timers=self._timers(),
        )
        with link:
            watch.lap("login")
            session = LinkSession(link, outcome, timeout=self._options.timeout, now=self._now, watch=watch)
            try:
                yield session
            finally:
                if link.connection.phase is ConnectionPhase.FULL_FEATURE:
                    with suppress(IscsiBootError):
                        session.logout()

    def _params(self) -> SessionParams:
        digest = self._options.digest
        return SessionParams(header_digest=digest, data_digest=digest, login_timeout=self._login_seconds())

    def _login_seconds(self) -> int:
        """One attempt of a login, in whole seconds."""
        return max(1, math.ceil(self._options.timeout))

    def _timers(self) -> Timers:
        return Timers(text_timeout=self._options.timeout)

    def _deadline(self, steps: float, reason: str) -> Deadline:
        return Deadline.after(steps * self._options.timeout, now=self._now(), reason=reason)
