# SPDX-License-Identifier: LGPL-2.1-or-later
"""From a portal to a session over TCP: connect and log in, where the target sends us and with what it can do.

Which attempt follows which is the policy of :class:`~iscsiboot.initiator.route.LoginRoute`; here each attempt is made,
and its socket is closed before the next one begins, so that a target never sees two of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace

from iscsiboot.errors import Stage
from iscsiboot.initiator.config import LoginConfig
from iscsiboot.initiator.connection import Connection
from iscsiboot.initiator.errors import AlgorithmsRejected
from iscsiboot.initiator.events import LoginRedirected, LoginSucceeded
from iscsiboot.initiator.route import LoginRoute
from iscsiboot.initiator.timers import Timers
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.portal import NamedPortal, Portal
from iscsiboot.model.report import NullReport, Report
from iscsiboot.model.timeline import Mark
from iscsiboot.session.cancel import Cancellation
from iscsiboot.session.connector import connect
from iscsiboot.session.resolve import resolve
from iscsiboot.session.tcp import TcpLink


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkEnvironment:
    """The machine a link is made on: everything that would need a network, a clock or chance."""

    now: Callable[[], float] = time.monotonic
    entropy: Callable[[int], bytes] = os.urandom
    resolve: Callable[[NamedPortal], Portal] = resolve
    """For redirects to a host name; its own time-outs bound it."""
    cancellation: Cancellation | None = None
    """Ends every wait, connecting included, with :class:`~iscsiboot.session.cancel.Cancelled`."""
    netdev: str | None = None
    """Bind connections to this network interface."""


THIS_MACHINE = LinkEnvironment()
"""The machine this runs on, without a way to cancel."""


def open_link(
    portal: Portal,
    config: LoginConfig,
    *,
    deadline: Deadline,
    environment: LinkEnvironment = THIS_MACHINE,
    report: Report | None = None,
    timers: Timers | None = None,
    route: LoginRoute | None = None,
) -> tuple[TcpLink, LoginSucceeded]:
    """Log in, beginning at ``portal``; the link is the caller's to close, and its session in full feature phase.

    Where the session is in the end stands in ``link.connection.config.portal``. A caller who wants to know which portal
    to remember makes the ``route`` and reads its ``final``. ``deadline`` covers everything; each attempt takes
    ``config.params.login_timeout`` seconds at most, connecting included.

    Raises :class:`~iscsiboot.session.connector.ConnectError`, :class:`~iscsiboot.initiator.errors.LoginError` or
    :class:`~iscsiboot.session.cancel.Cancelled`; no socket is left open by any of them.
    """
    told = report or NullReport()
    way = route or LoginRoute(portal, subject=config.target_name or portal.endpoint)
    while True:
        here = way.portal
        try:
            outcome = _attempt(way, config, deadline, environment, timers or Timers(), told)
        except AlgorithmsRejected as rejected:
            way.rejected(rejected)
            alone = ", ".join(algorithm.name for algorithm in way.algorithms or ())
            told.note(f"{here.endpoint}: {rejected.cause}; trying {alone} alone")
            continue
        if not isinstance(outcome, LoginRedirected):
            for remark in outcome[1].remarks:
                told.note(f"{here.endpoint}: {remark}")
            return outcome
        there = outcome.portal
        way.redirected(outcome, environment.resolve(there) if isinstance(there, NamedPortal) else there)
        told.note(f"{here.endpoint}: the target is at {way.portal.endpoint} now")


def _authenticated(timers: Timers, limit: Deadline, portal: Portal, now: float) -> Deadline | None:
    """When the security stage of a login that begins now has to be over; None when only the whole has a limit."""
    if not timers.auth_timeout:
        return None
    return limit.within(timers.auth_timeout, now=now, reason=f"the authentication at {portal.endpoint}")


def _attempt(
    route: LoginRoute,
    config: LoginConfig,
    deadline: Deadline,
    environment: LinkEnvironment,
    timers: Timers,
    report: Report,
) -> tuple[TcpLink, LoginSucceeded] | LoginRedirected:
    """One connection, left open only when the login succeeded on it."""
    portal, now, cancellation = route.portal, environment.now, environment.cancellation
    if cancellation is not None:
        cancellation.check(stage=Stage.CONNECT, subject=portal.endpoint)
    algorithms = route.algorithms or config.chap_algorithms
    here = replace(config, portal=portal, chap_algorithms=algorithms)
    connection = Connection(here, entropy=environment.entropy, timers=timers)
    limit = deadline.within(config.params.login_timeout, now=now(), reason=f"a login at {portal.endpoint}")
    with ExitStack() as stack:
        sock = stack.enter_context(
            connect(
                portal,
                deadline=limit,
                now=now,
                window_size=config.params.tcp_window_size,
                netdev=environment.netdev,
                cancellation=cancellation,
            )
        )
        report.mark(Mark.CONNECTED, portal.endpoint)
        link = TcpLink(sock, connection, now=now, cancellation=cancellation)
        link.start()
        outcome = link.next_event(limit, authenticated=_authenticated(timers, limit, portal, now()))
        if isinstance(outcome, LoginSucceeded):
            stack.pop_all()
            return link, outcome
    if not isinstance(outcome, LoginRedirected):
        raise RuntimeError(f"a login ended with {type(outcome).__name__}")
    return outcome
