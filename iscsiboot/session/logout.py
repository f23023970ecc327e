# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ending a session: its disks go, the target is told, then the kernel forgets connection and session.

The order is open-iscsi's (reference 4.6) and each part is bounded:

1. UNBIND_SESSION; the kernel flushes and removes the disks and says when it is done;
2. a Logout PDU through the kernel, and its answer, the end of the connection or the record's logout timeout;
3. STOP_CONN for good, DESTROY_CONN, DESTROY_SESSION: nothing of these waits for the target.

A session that is not logged in has only the third. Whatever interrupts the first two, a signal or an error, the third
is done: a session without its disks serves nobody. That the target does not answer is no failure of the logout.

Sessions another living program made are not ours to end: its daemon would take the end for a failure and recover it.
"""

from __future__ import annotations

from iscsiboot.errors import ExitCode, IscsiBootError, Stage, quoted
from iscsiboot.initiator.pdu.control import LogoutAnswer, LogoutReason, LogoutRequest, LogoutResponse
from iscsiboot.initiator.pdu.header import Opcode
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.report import Report
from iscsiboot.netlink import messages
from iscsiboot.netlink.messages import ConnError, EventsLost, RecvPdu, SessionEvent
from iscsiboot.netlink.ports import open_ports
from iscsiboot.netlink.socket import IscsiNetlink
from iscsiboot.netlink.uapi import IscsiErr, KEvent, name_of
from iscsiboot.session.leftovers import remove
from iscsiboot.session.machine import no_transport
from iscsiboot.session.steps import CID, check_retcode, take_back
from iscsiboot.session.values import Environment
from iscsiboot.sysfs.sessions import LOGGED_IN, SessionView, TransportView, read_session, read_transport

UNBIND_SECONDS = 60.0
"""For the kernel to flush and remove the disks of a session whose target answers."""

DAEMON = "iscsid"
"""The name (``/proc/PID/comm``) of open-iscsi's daemon, whose socket has its process id for a port id."""


def log_out(
    sid: int, *, environment: Environment, report: Report, logout_timeout: float = 15.0, insist: bool = False
) -> None:
    """End session ``sid``; returns when the kernel has forgotten it.

    ``logout_timeout`` is how long the target's answer is waited for, in seconds; ``insist`` ends the session even when
    another program may be looking after it. IscsiBootError with open-iscsi's exit code when the session stays.
    """
    session = _read(sid, environment)
    transport = read_transport(environment.sysfs, session.transport or "")
    if transport is None:
        raise no_transport(environment)
    if session.creator is None:
        raise _refusal(sid, "the adapter's firmware made it", "end it with the adapter's tool", ExitCode.OP_NOT_SUPP)
    if not insist:
        _refuse_if_owned(session, environment)
    with environment.open_netlink() as netlink:
        try:
            if session.state == LOGGED_IN and _unbind(sid, netlink, transport, environment, report):
                _say_goodbye(sid, netlink, transport, environment, report, logout_timeout)
        finally:
            current = read_session(environment.sysfs, sid) or session
            remove(current, netlink=netlink, transport=transport, now=environment.now)


def _read(sid: int, environment: Environment) -> SessionView:
    session = read_session(environment.sysfs, sid)
    if session is None:
        raise _refusal(sid, "there is no such session", "list them: iscsiadm -m session", ExitCode.SESS_NOT_FOUND)
    return session


def _refusal(sid: int, cause: str, hint: str, code: ExitCode) -> IscsiBootError:
    return IscsiBootError(cause, stage=Stage.SESSION, subject=f"session {sid}", hint=hint, exit_code=code)


def _refuse_if_owned(session: SessionView, environment: Environment) -> None:
    """Raise when another program's daemon made the session, or may have taken it over when it started."""
    try:
        ports = open_ports(environment.proc)
    except OSError:
        return  # a system without that table has no such daemon either
    for port in ports:
        if port.ours or not port.hears_events:
            continue
        try:
            name = (environment.proc / str(port.port) / "comm").read_text("utf-8", "replace").strip()
        except OSError:
            name = ""
        if name == DAEMON:
            raise _refusal(
                session.sid,
                f"open-iscsi's iscsid (process {port.port}) is running and may be looking after it",
                "stop it first (systemctl stop iscsid.socket iscsid.service), or insist with --force",
                ExitCode.BUSY,
            )
        if port.port == session.creator:
            raise _refusal(
                session.sid,
                f"the program that made it {f'({quoted(name)}) ' if name else ''}is still at work on it",
                "wait until it is done, or insist with --force",
                ExitCode.BUSY,
            )


def _unbind(
    sid: int, netlink: IscsiNetlink, transport: TransportView, environment: Environment, report: Report
) -> bool:
    """Have the disks removed; False when the connection broke meanwhile, so that there is nobody to say good-bye to.

    A broken connection is not waited for: nobody recovers it here, and ending it is what lets the removal go on.
    """
    take_back(netlink, messages.unbind_session(transport.handle, sid=sid), environment.now)
    deadline = Deadline.after(UNBIND_SECONDS, now=environment.now(), reason="the removal of the session's disks")
    while (event := netlink.next_event(deadline)) is not None:
        if isinstance(event, SessionEvent) and (event.sid, event.kind) == (sid, KEvent.ISCSI_KEVENT_UNBIND_SESSION):
            return True
        if isinstance(event, ConnError) and (event.sid, event.cid) == (sid, CID):
            name = name_of(IscsiErr, event.error).removeprefix("ISCSI_ERR_")
            report.note(f"session {sid}: the connection broke as its disks were removed ({name}); data may be lost")
            return False
        if isinstance(event, EventsLost):
            report.note(f"session {sid}: the kernel's word about its disks was lost")
            return True
    report.note(f"session {sid}: its disks were not gone after {UNBIND_SECONDS:g} s; unwritten data may be lost")
    return True


def _say_goodbye(
    sid: int,
    netlink: IscsiNetlink,
    transport: TransportView,
    environment: Environment,
    report: Report,
    seconds: float,
) -> None:
    """Logout Request and Response; the kernel fills in tag and numbers of the request."""
    request = LogoutRequest(immediate=True, reason=LogoutReason.CLOSE_SESSION, itt=0, cmdsn=0, exp_statsn=0)
    message = messages.send_pdu(transport.handle, sid=sid, cid=CID, bhs=request.encode(), data=b"")
    deadline = Deadline.after(seconds, now=environment.now(), reason="the target's answer to the logout")
    try:
        check_retcode(message, netlink.request(message, deadline))
    except IscsiBootError as error:
        report.note(f"session {sid}: the target could not be told: {error.cause}")
        return
    while (event := netlink.next_event(deadline)) is not None:
        if isinstance(event, RecvPdu) and (event.sid, event.cid) == (sid, CID):
            if event.bhs[0] == Opcode.LOGOUT_RESPONSE:
                _judge(sid, event, report)
                return
        elif isinstance(event, ConnError) and (event.sid, event.cid) == (sid, CID):
            name = name_of(IscsiErr, event.error).removeprefix("ISCSI_ERR_")
            report.note(f"session {sid}: the connection ended before the target answered the logout ({name})")
            return
        elif isinstance(event, EventsLost):
            return
    report.note(f"session {sid}: the target did not answer the logout within {seconds:g} s")


def _judge(sid: int, event: RecvPdu, report: Report) -> None:
    answer = LogoutResponse.decode(event.bhs).response
    if answer != LogoutAnswer.CLOSED:
        names = {item.value: item.name for item in LogoutAnswer}
        report.note(f"session {sid}: the target answered the logout with {names.get(answer, answer)}")
