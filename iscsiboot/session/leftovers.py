# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sessions that are already there when a login begins: use them, remove them, or keep off.

A process can be killed between any two netlink requests, and the kernel keeps what it had made. What an existing
session is to us follows from what sysfs says of it and from who still holds a NETLINK_ISCSI socket:

====================  ======================================  ==========================================
state of the session  who                                     verdict
====================  ======================================  ==========================================
logged in             same target, initiator, iface, portal   reuse: nothing else to do
never logged in       its creator's socket is open            busy when it may be ours, else none of ours
never logged in       its creator's socket is closed          remove: nobody can complete it
was logged in, broke  somebody else may be recovering it      busy
was logged in, broke  nobody, its disk is in use              refuse: removing it would take the disk away
was logged in, broke  nobody, and nothing uses its disk       remove
====================  ======================================  ==========================================

A session without a target name was cut off before its parameters were set; it counts as never logged in. Sessions of
other targets, portals (once logged in) and initiators are not looked at twice.

A boot asks for one path (:func:`settle`: also which session to use, or why there is none to have), a command once for
all its records, before it counts sessions (:func:`clear`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.model.report import Report
from iscsiboot.netlink import messages
from iscsiboot.netlink.ports import OpenPort, open_ports
from iscsiboot.netlink.socket import IscsiNetlink
from iscsiboot.netlink.uapi import StopFlag
from iscsiboot.session.machine import TRANSPORT
from iscsiboot.session.steps import take_back
from iscsiboot.session.values import AttachRequest, Environment
from iscsiboot.sysfs.disks import UnitView, list_units
from iscsiboot.sysfs.sessions import (
    LOGGED_IN,
    SessionView,
    TransportView,
    list_sessions,
    read_session,
    read_transport,
)


class Verdict(Enum):
    """What an existing session is to us."""

    FOREIGN = "foreign"
    REUSE = "reuse"
    BUSY = "busy"
    REMOVE = "remove"
    BROKEN = "broken"
    """Remove it, unless its disk is in use."""


def judge(
    session: SessionView, request: AttachRequest, *, transport: str, ports: tuple[OpenPort, ...], has_units: bool
) -> Verdict:
    """The table above, as a function of values. ``has_units``: the session has logical units, so it did work once."""
    # A state that cannot be read is none to remove a session for.
    unknown = session.state is None or (session.creator is None and session.state != LOGGED_IN)
    if session.transport != transport or unknown:
        return Verdict.FOREIGN
    owner = next((port for port in ports if port.port == session.creator), None)
    working_on_it = owner is not None
    if session.target_name is None:
        return Verdict.FOREIGN if working_on_it or session.state == LOGGED_IN or has_units else Verdict.REMOVE
    if not _same_identity(session, request):
        return Verdict.FOREIGN
    portals = {portal.endpoint for connection in session.connections for portal in connection.portals}
    same_portal = request.portal.endpoint in portals
    if session.state == LOGGED_IN:
        if not same_portal:
            return Verdict.FOREIGN
        healthy = all(connection.state in (None, "up") for connection in session.connections)
        return Verdict.REUSE if healthy else Verdict.BUSY
    if session.state == "FREE" and not has_units:
        if owner is None:
            return Verdict.REMOVE
        if owner.ours:
            # A thread of ours has another path, by its caller's plan; what it has not set yet says nothing.
            return Verdict.BUSY if same_portal and session.iface_name is not None else Verdict.FOREIGN
        return Verdict.BUSY if same_portal or not portals else Verdict.FOREIGN
    if not same_portal:
        return Verdict.FOREIGN
    recovering = working_on_it or any(port.hears_events and not port.ours for port in ports)
    return Verdict.BUSY if recovering else Verdict.BROKEN


def settle(
    request: AttachRequest,
    *,
    netlink: IscsiNetlink,
    transport: TransportView,
    environment: Environment,
    report: Report,
) -> SessionView | None:
    """Remove what nobody will complete; the session to reuse, or None when a login is to be made.

    :class:`IscsiBootError`, retryable, while somebody else works on the session; not retryable when a broken session
    cannot be removed because its disk is in use.
    """
    reuse: SessionView | None = None
    # The order matters: sessions, then sockets, then each session again. A creator that finished and closed its socket
    # between the first two reads has left a state that only the third one shows.
    listed = list_sessions(environment.sysfs)
    if not listed:
        return None
    try:
        ports = _other_ports(netlink, environment)
    except OSError as error:
        raise _failure(
            f"cannot tell whose sessions exist: /proc/net/netlink: {error.strerror}", listed[0], retryable=False
        ) from error
    for first in listed:
        session = read_session(environment.sysfs, first.sid)
        if session is None:
            continue
        has_units = bool(list_units(environment.sysfs, session.sid))
        verdict = judge(session, request, transport=transport.name, ports=ports, has_units=has_units)
        if verdict is Verdict.REUSE:
            reuse = session
        elif verdict is Verdict.BUSY:
            raise _failure("another process is working on this session", session, retryable=True)
        elif verdict is Verdict.BROKEN:
            _refuse_if_used(session, environment)
        if verdict in (Verdict.REMOVE, Verdict.BROKEN):
            report.note(f"removing session {session.sid}, left over by a process that is gone (state {session.state})")
            remove(session, netlink=netlink, transport=transport, now=environment.now)
    return reuse


def clear(requests: Sequence[AttachRequest], *, environment: Environment, report: Report) -> None:
    """Remove sessions of these requests that a killed process left half made, or broken with nobody to recover them.

    What somebody may be at work on, and what has a disk in use or open, stays: the login that follows finds it there
    and says so. IscsiBootError when the kernel cannot be talked to.
    """
    # In the order of settle(), for its reason.
    suspects = [view for view in list_sessions(environment.sysfs) if view.state != LOGGED_IN]
    transport = read_transport(environment.sysfs, TRANSPORT)
    if not suspects or transport is None:
        return
    with environment.open_netlink() as netlink:
        try:
            ports = _other_ports(netlink, environment)
        except OSError:
            return  # whose they are cannot be told: leave them
        for first in suspects:
            session = read_session(environment.sysfs, first.sid)
            if session is not None and _abandoned(session, requests, ports, environment):
                report.note(f"removing session {session.sid}, left over by a process that is gone")
                remove(session, netlink=netlink, transport=transport, now=environment.now)


def _other_ports(netlink: IscsiNetlink, environment: Environment) -> tuple[OpenPort, ...]:
    """Who has a socket to the kernel. OSError when that cannot be told."""
    # Our own is younger than every session listed, but may have the port id (our pid) of one we closed.
    return tuple(port for port in open_ports(environment.proc) if port.port != netlink.port)


def _abandoned(
    session: SessionView, requests: Sequence[AttachRequest], ports: tuple[OpenPort, ...], environment: Environment
) -> bool:
    """Whether nobody will complete it or recover it, and nothing of this system is on it."""
    units = list_units(environment.sysfs, session.sid)
    for request in requests:
        verdict = judge(session, request, transport=TRANSPORT, ports=ports, has_units=bool(units))
        if verdict is Verdict.REMOVE:
            return True
        if verdict is Verdict.BROKEN:
            return _user_of(units, environment) is None and not _is_open(units, environment)
    return False


def remove(session: SessionView, *, netlink: IscsiNetlink, transport: TransportView, now: Callable[[], float]) -> None:
    """Stop and destroy a session, whatever is there of it. That it goes meanwhile is success."""
    for connection in session.connections:
        flag = StopFlag.STOP_CONN_TERM
        numbers = {"sid": session.sid, "cid": connection.cid}
        take_back(netlink, messages.stop_conn(transport.handle, **numbers, flag=flag), now)
        take_back(netlink, messages.destroy_conn(transport.handle, **numbers), now)
    take_back(netlink, messages.destroy_session(transport.handle, sid=session.sid), now)


def _same_identity(session: SessionView, request: AttachRequest) -> bool:
    """Target equal; initiator and iface equal as far as they were set before the creator was cut off."""
    return (
        session.target_name == request.target_name
        and session.initiator_name in (None, request.initiator_name)
        and session.iface_name in (None, request.iface_name)
    )


def _user_of(units: Sequence[UnitView], environment: Environment) -> str | None:
    """What uses a disk of the session, in words; None: it can go without a loss."""
    # A broken session is rare, and what looks through the block devices is not small.
    from iscsiboot.sysfs.disk_use import user_of_disks

    return user_of_disks(environment.sysfs, environment.proc, _disks(units))


def _is_open(units: Sequence[UnitView], environment: Environment) -> bool:
    """Whether a process has a disk open. A boot does not ask: there it can only be udev, that waits for the disk."""
    from iscsiboot.sysfs.disk_use import opener_of_disks

    return opener_of_disks(environment.sysfs, environment.proc, _disks(units)) is not None


def _disks(units: Sequence[UnitView]) -> list[str]:
    return [block for unit in units for block in unit.blocks]


def _refuse_if_used(session: SessionView, environment: Environment) -> None:
    user = _user_of(list_units(environment.sysfs, session.sid), environment)
    if user is not None:
        raise _failure(
            f"the session is broken (state {session.state}) and nobody recovers it, but {user}",
            session,
            retryable=False,
        )


def _failure(cause: str, session: SessionView, *, retryable: bool) -> IscsiBootError:
    return IscsiBootError(
        cause,
        stage=Stage.LOGIN,
        subject=f"session {session.sid}",
        hint="wait for it" if retryable else "start iscsid, or unmount the disk and log the session out",
        exit_code=ExitCode.SESS_EXISTS,
        retryable=retryable,
    )
