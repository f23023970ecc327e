# SPDX-License-Identifier: LGPL-2.1-or-later
"""One path to one target, from nothing to a disk: the whole of L3's work for a boot, and the only place that retries.

Rules:

* An attempt leaves either a working session or nothing: whatever ends it, its steps are taken back in reverse order.
* A healthy session to the same place is used as it is; a second login would only disturb it.
* Errors marked retryable are tried again with growing pauses until the deadline; the last one is the one that goes out.
  All others go out at once.
* Every thread calls this for its own path: nothing is shared but the kernel, whose events are filtered by session.

Theory of operation: :func:`attach` loops over :func:`_attempt`; an attempt settles leftovers, logs in following
redirects (per portal: connect, hand over to the kernel), then finds the disks. Undos of the login stay armed until the
disks are found.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace

from iscsiboot.errors import IscsiBootError
from iscsiboot.initiator.chap import ChapAlgorithm
from iscsiboot.initiator.errors import AlgorithmsRejected
from iscsiboot.initiator.route import LoginRoute
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.portal import NamedPortal, Portal
from iscsiboot.model.report import Report
from iscsiboot.model.timeline import Mark
from iscsiboot.netlink.socket import IscsiNetlink
from iscsiboot.session.connector import connect
from iscsiboot.session.devices import find_disks
from iscsiboot.session.handoff import carry_out, plan
from iscsiboot.session.leftovers import settle
from iscsiboot.session.machine import TRANSPORT, no_transport, this_machine
from iscsiboot.session.steps import Live
from iscsiboot.session.undo import UndoStack
from iscsiboot.session.values import Attached, AttachRequest, BlockDevice, Environment
from iscsiboot.sysfs.sessions import SessionView, TransportView, read_transport

__all__ = ["AttachRequest", "Attached", "BlockDevice", "Environment", "attach", "this_machine"]

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 8.0


def attach(request: AttachRequest, *, environment: Environment, deadline: Deadline, report: Report) -> Attached:
    """Attach the target, or raise the :class:`IscsiBootError` that says what stood in the way; see the module's rules.

    ``deadline`` covers everything; one attempt takes ``request.params.login_timeout`` seconds at most until the login
    is done. Whatever is raised, also by a signal handler, no half-made session of ours stays in the kernel.
    """
    pause = FIRST_PAUSE
    number = 1
    while True:
        try:
            return _attempt(request, environment, deadline, report)
        except IscsiBootError as error:
            if not error.retryable or deadline.remaining(environment.now()) <= pause:
                raise
            report.note(f"attempt {number}: {error.line()}; again in {pause:g} s")
            if environment.pause(environment.cancelled, pause):
                raise
        pause = min(2 * pause, LONGEST_PAUSE)
        number += 1


def _attempt(request: AttachRequest, environment: Environment, deadline: Deadline, report: Report) -> Attached:
    transport = read_transport(environment.sysfs, TRANSPORT)
    if transport is None:
        raise no_transport(environment)
    with environment.open_netlink() as netlink, UndoStack(report) as undo:
        found = settle(request, netlink=netlink, transport=transport, environment=environment, report=report)
        if found is not None:
            report.note(f"session {found.sid} to {request.target_name} is already there and healthy: using it")
            session = _existing(found, request)
        else:
            session = Attempt(request, environment, deadline, report, netlink, transport, undo).follow()
        report.mark(Mark.LOGIN, f"{request.target_name} at {session.portal.endpoint}, session {session.sid}")
        # udev's word about the disk may come at any time after the scan: listen before it.
        with closing(environment.open_monitor()) as monitor:
            devices = find_disks(
                sysfs=environment.sysfs,
                sid=session.sid,
                host=session.host,
                lun=request.lun,
                target_name=request.target_name,
                monitor=monitor,
                deadline=deadline,
                now=environment.now,
                report=report,
            )
        report.mark(Mark.DISK, ", ".join(device.path for device in devices))
        undo.keep()
    return replace(session, devices=devices)


def _existing(found: SessionView, request: AttachRequest) -> Attached:
    """A healthy session as the result of this attempt; the last of its known portals is where its socket leads."""
    portal = next((view.portals[-1] for view in found.connections if view.portals), request.portal)
    return Attached(sid=found.sid, host=found.host, portal=portal, tpgt=found.tpgt, reused=True, devices=())


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt's login, redirects included; ``undo`` collects what takes it back."""

    request: AttachRequest
    environment: Environment
    deadline: Deadline
    report: Report
    netlink: IscsiNetlink
    transport: TransportView
    undo: UndoStack

    def follow(self) -> Attached:
        """Log in where the target is, beginning at the portal asked for."""
        route = LoginRoute(self.request.portal, subject=self.request.target_name)
        while True:
            here = route.portal.endpoint
            try:
                live = self._at(route.portal, route.algorithms or self.request.chap_algorithms)
            except AlgorithmsRejected as rejected:
                route.rejected(rejected)
                self.undo.take_back()
                names = ", ".join(algorithm.name for algorithm in route.algorithms or ())
                self.report.note(f"{here}: {rejected.cause}; trying {names} alone")
                continue
            if live.redirected is None:
                return self._result(live, route.algorithms[0] if route.algorithms else None)
            self.undo.take_back()
            there = live.redirected.portal
            portal = self.environment.resolve(there) if isinstance(there, NamedPortal) else there
            self.report.note(f"{here}: the target is at {portal.endpoint} now")
            route.redirected(live.redirected, portal)

    def _at(self, portal: Portal, algorithms: tuple[ChapAlgorithm, ...] | None) -> Live:
        """Connect to one portal and carry the plan out there."""
        request, now = self.request, self.environment.now
        seconds = request.params.login_timeout
        limit = self.deadline.within(seconds, now=now(), reason=f"a login at {portal.endpoint}")
        window = request.params.tcp_window_size
        # The kernel takes its own reference at BIND_CONN: ours may go when the plan is through.
        with connect(portal, deadline=limit, now=now, window_size=window, netdev=request.netdev) as sock:
            self.report.mark(Mark.CONNECTED, portal.endpoint)
            live = Live(
                netlink=self.netlink,
                transport=self.transport,
                sysfs=self.environment.sysfs,
                sock=sock,
                portal=portal,
                deadline=limit,
                now=now,
                entropy=self.environment.entropy,
            )
            carry_out(plan(request, caps=self.transport.caps, algorithms=algorithms), live, self.undo)
        return live

    def _result(self, live: Live, algorithm: ChapAlgorithm | None) -> Attached:
        if live.outcome is None or live.host is None:
            raise RuntimeError("the plan ended without a login")
        for remark in live.outcome.remarks:
            self.report.note(f"{live.portal.endpoint}: {remark}")
        return Attached(
            sid=live.session_id,
            host=live.host,
            portal=live.portal,
            tpgt=live.outcome.tpgt,
            reused=False,
            devices=(),
            algorithm=algorithm,
        )
