# SPDX-License-Identifier: LGPL-2.1-or-later
"""One session by an administrator's order: a login with the retries of a node record, the scan, the queue depths.

Differences from :mod:`iscsiboot.session.attach`, the boot's way: a session that is there already is an error here and
not the result, the record says when to give up, whether the host is scanned and how deep the queues are, and no disk is
waited for.

Retries are open-iscsi's (reference 4.5, and both counted in one guest). A connection that fails is tried again after
three seconds, one that was waited for in vain for the whole login timeout at once, whatever follows a connection after
DefaultTime2Wait, which also goes once before the first repetition; nothing is tried again that could not begin before
``give_up`` seconds are over. So a port that refuses is tried at 0, 5, 8, 11, ... seconds, and an address that swallows
everything, with a login timeout of 3 seconds, at the same times.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.initiator.route import REDIRECTS_MAX
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.portal import NamedPortal, Portal
from iscsiboot.model.report import Report
from iscsiboot.session.attach import Attempt
from iscsiboot.session.connector import ConnectError
from iscsiboot.session.machine import TRANSPORT, no_transport
from iscsiboot.session.undo import UndoStack
from iscsiboot.session.values import Attached, AttachRequest, Environment
from iscsiboot.sysfs.disks import list_units
from iscsiboot.sysfs.sessions import read_transport
from iscsiboot.sysfs.units import scan_whole_host, set_queue_depth, set_transmit_priority

CONNECT_PAUSE = 3.0
"""Seconds after a connection that failed before its time was over."""

UNRESOLVED = IPv4Address(0)
"""Stands in ``LoginOrder.request.portal`` for the address of a name nobody has resolved yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoginOrder:
    """What a record asks for beyond the session itself."""

    request: AttachRequest
    """``lun`` is None: the whole host is scanned or nothing of it."""
    portal: Portal | NamedPortal
    """As the record has it; a name is resolved when the login begins, and takes the place of ``request.portal``."""
    scan: bool
    """False leaves the units to whoever scans for them (``node.session.scan = manual``), and their queues alone."""
    give_up: float
    """Seconds from the first attempt after which no further one begins."""
    thread_priority: int = 0
    """Nice value of the kernel's sending threads; 0 leaves it."""
    reopen_max: int = 0
    """For who guards the session: attempts after a break until it is given up, 0 for never."""


class Retries:
    """When a first login is tried again, by the rule of this module: asked after each attempt that failed."""

    def __init__(self, order: LoginOrder, time2wait: float, began: float) -> None:
        """``time2wait`` is DefaultTime2Wait as the record asks for it; ``began`` the time of the first attempt."""
        self._time2wait = self._owed = time2wait
        self._end = began + order.give_up
        self.number = 1
        """Of the attempt at work."""

    def pause(self, error: IscsiBootError, now: float) -> float | None:
        """Seconds before the next attempt; None when there shall be none."""
        unconnected = isinstance(error, ConnectError)
        # Waited for in vain, it has had its pause.
        swallowed = isinstance(error, ConnectError) and error.number == errno.ETIMEDOUT
        after = CONNECT_PAUSE if unconnected and not swallowed else 0.0
        if not error.retryable or now + after > self._end:
            return None
        if not unconnected:
            self._owed = self._time2wait
        pause, self._owed = after + self._owed, 0.0
        self.number += 1
        return pause


def log_in(order: LoginOrder, *, environment: Environment, report: Report) -> Attached:
    """Make the session, or raise the :class:`IscsiBootError` of the last attempt; no half-made session stays."""
    request = replace(order.request, portal=_address(order.portal, environment))
    retries = Retries(order, request.params.default_time2wait, environment.now())
    while True:
        number = retries.number
        try:
            return _attempt(replace(order, request=request), environment, report)
        except IscsiBootError as error:
            pause = retries.pause(error, environment.now())
            if pause is None:
                raise
            report.note(f"attempt {number}: {error.line()}; again in {pause:g} s")
            if environment.pause(environment.cancelled, pause):
                raise


def _address(portal: Portal | NamedPortal, environment: Environment) -> Portal:
    if isinstance(portal, Portal):
        return portal
    try:
        return environment.resolve(portal)
    except IscsiBootError as error:
        raise unresolved(portal, error) from error


def unresolved(portal: NamedPortal, error: IscsiBootError) -> IscsiBootError:
    """The resolver's error as one of the record; exit code 4."""
    # The resolver's words fit a redirect; this name stands in a record.
    cause = error.cause.rpartition("has no address: ")[2]
    return IscsiBootError(
        f"the portal's name has no address: {cause}",
        stage=Stage.CONNECT,
        subject=str(portal),
        hint="check the name and DNS, or discover again",
        exit_code=ExitCode.TRANS,
    )


def _attempt(order: LoginOrder, environment: Environment, report: Report) -> Attached:
    request, now = order.request, environment.now
    transport = read_transport(environment.sysfs, TRANSPORT)
    if transport is None:
        raise no_transport(environment)
    # Each portal a redirect leads to has the record's login timeout for itself; Attempt sees to that.
    seconds = request.params.login_timeout * (REDIRECTS_MAX + 2)
    limit = Deadline.after(seconds, now=now(), reason=f"a login at {request.portal.endpoint}")
    with environment.open_netlink() as netlink, UndoStack(report) as undo:
        session = Attempt(request, environment, limit, report, netlink, transport, undo).follow()
        if order.thread_priority and not set_transmit_priority(environment.sysfs, session.host, order.thread_priority):
            report.note(f"session {session.sid}: this kernel takes no priority for its sending threads")
        if order.scan:
            _scan(order, session, environment, report)
        undo.keep()
    return session


def _scan(order: LoginOrder, session: Attached, environment: Environment, report: Report) -> None:
    """What fails here is told and fails nothing: the session works, and it can be scanned again."""
    try:
        scan_whole_host(environment.sysfs, session.host)
    except OSError as error:
        report.note(f"session {session.sid}: scanning host{session.host} failed: {error.strerror}")
    for unit in list_units(environment.sysfs, session.sid):
        try:
            set_queue_depth(environment.sysfs, unit, order.request.params.queue_depth)
        except OSError as error:
            report.note(f"{unit.address}: no queue depth of {order.request.params.queue_depth}: {error.strerror}")
