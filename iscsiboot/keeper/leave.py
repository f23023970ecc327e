# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ending a session on the event loop: its disks go, the target is told, then the kernel forgets it.

The order and the bounds are those of :mod:`iscsiboot.session.logout`. Different here: the kernel is asked to destroy
the session in its own time (DESTROY_SESSION_ASYNC, Linux 5.6), because what it waits for meanwhile, a flush, a scan
that hangs, would otherwise hold every request of every guard.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.initiator.pdu.control import LogoutAnswer, LogoutReason, LogoutRequest, LogoutResponse
from iscsiboot.initiator.pdu.header import Opcode
from iscsiboot.keeper.port import Inbox, KernelPort
from iscsiboot.model.deadline import Deadline
from iscsiboot.netlink import messages
from iscsiboot.netlink.messages import ConnError, Event, EventsLost, RecvPdu, SessionEvent
from iscsiboot.netlink.socket import RequestRefused
from iscsiboot.netlink.uapi import IscsiErr, KEvent, StopFlag, name_of
from iscsiboot.session.logout import UNBIND_SECONDS
from iscsiboot.session.steps import CID, GONE, check_retcode
from iscsiboot.sysfs.attributes import read_text
from iscsiboot.sysfs.sessions import LOGGED_IN, has_session

LOGOUT_SECONDS = 15.0
"""For the target's answer to a logout: open-iscsi's ``logout_timeout``."""
GOODBYE_SECONDS = 2.0
"""For the answer to a logout that is only polite: the connection is given up in any case."""
REMOVE_SECONDS = 30.0
"""For the kernel to destroy a session whose connection is stopped; none of it waits for the target."""

Note = Callable[[str], None]
"""Takes what happened on the way, without the session's name."""


def is_there(port: KernelPort, sid: int) -> bool:
    """Whether the kernel has the session."""
    return has_session(port.sysfs, sid)


def is_healthy(port: KernelPort, sid: int) -> bool:
    """Whether the session works, as sysfs has it. Kernels before 5.14 do not show the connection's state."""
    classes = port.sysfs / "class"
    if read_text(classes / "iscsi_session" / f"session{sid}" / "state") != LOGGED_IN:
        return False
    connection = classes / "iscsi_connection" / f"connection{sid}:{CID}"
    return connection.exists() and read_text(connection / "state") in (None, "up")


async def leave(sid: int, *, port: KernelPort, now: Callable[[], float], gently: bool, note: Note) -> None:
    """End the session; returns when the kernel has forgotten it, raises IscsiBootError when it stays.

    ``gently``: have the disks flushed and tell the target, if the connection works. Cancelled before the last part,
    the session stays without its disks, for who ends it at once.
    """
    with port.inbox(sid) as inbox:
        if gently and is_healthy(port, sid) and await _unbind(sid, port, inbox, now, note):
            await _say_goodbye(sid, LogoutReason.CLOSE_SESSION, port, inbox, now, LOGOUT_SECONDS, note)
        connection = {"sid": sid, "cid": CID}
        for request in (
            messages.stop_conn(port.handle, **connection, flag=StopFlag.STOP_CONN_TERM),
            messages.destroy_conn(port.handle, **connection),
        ):
            try:
                port.take_away(request)
            except IscsiBootError as error:
                # The last request decides: without a connection there is nothing left to refuse.
                if gently:
                    raise
                note(error.cause)
        if _destroy(sid, port):
            await _destroyed(sid, port, inbox, now)


async def say_goodbye(sid: int, *, port: KernelPort, now: Callable[[], float], note: Note) -> None:
    """Send a Logout for the connection, which the target asked for, and wait briefly for its answer."""
    with port.inbox(sid) as inbox:
        await _say_goodbye(sid, LogoutReason.CLOSE_CONNECTION, port, inbox, now, GOODBYE_SECONDS, note)


async def _unbind(sid: int, port: KernelPort, inbox: Inbox, now: Callable[[], float], note: Note) -> bool:
    """Have the disks removed; False when the connection broke meanwhile, so that there is nobody to say good-bye to."""
    port.take_away(messages.unbind_session(port.handle, sid=sid))
    deadline = Deadline.after(UNBIND_SECONDS, now=now(), reason="the removal of the session's disks")
    while (event := await inbox.next(deadline)) is not None:
        if _is(event, sid, KEvent.ISCSI_KEVENT_UNBIND_SESSION):
            return True
        if isinstance(event, ConnError):
            note(f"the connection broke as its disks were removed ({_name(event)}); data may be lost")
            return False
        if isinstance(event, EventsLost):
            note("the kernel's word about its disks was lost")
            return True
    note(f"its disks were not gone after {UNBIND_SECONDS:g} s; unwritten data may be lost")
    return True


async def _say_goodbye(
    sid: int,
    reason: LogoutReason,
    port: KernelPort,
    inbox: Inbox,
    now: Callable[[], float],
    seconds: float,
    note: Note,
) -> None:
    """Logout Request and Response; the kernel fills in tag and numbers of the request."""
    request = LogoutRequest(immediate=True, reason=reason, itt=0, cmdsn=0, exp_statsn=0)
    message = messages.send_pdu(port.handle, sid=sid, cid=CID, bhs=request.encode(), data=b"")
    deadline = Deadline.after(seconds, now=now(), reason="the target's answer to the logout")
    try:
        check_retcode(message, port.ask(message))
    except IscsiBootError as error:
        note(f"the target could not be told: {error.cause}")
        return
    while (event := await inbox.next(deadline)) is not None:
        if isinstance(event, RecvPdu) and event.bhs[0] & 0x3F == Opcode.LOGOUT_RESPONSE:
            answer = LogoutResponse.decode(event.bhs).response
            if answer != LogoutAnswer.CLOSED:
                names = {item.value: item.name for item in LogoutAnswer}
                note(f"the target answered the logout with {names.get(answer, answer)}")
            return
        if isinstance(event, ConnError):
            note(f"the connection ended before the target answered the logout ({_name(event)})")
            return
        if isinstance(event, EventsLost):
            return
    note(f"the target did not answer the logout within {seconds:g} s")


def _destroy(sid: int, port: KernelPort) -> bool:
    """Have the session destroyed; whether its end is still to come."""
    try:
        port.ask(messages.destroy_session_async(port.handle, sid=sid))
    except RequestRefused as refusal:
        if refusal.errno in GONE and not is_there(port, sid):
            return False
        if refusal.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, *GONE):
            raise
        port.take_away(messages.destroy_session(port.handle, sid=sid))
        return False
    return True


async def _destroyed(sid: int, port: KernelPort, inbox: Inbox, now: Callable[[], float]) -> None:
    deadline = Deadline.after(REMOVE_SECONDS, now=now(), reason="the removal of the session")
    while (event := await inbox.next(deadline)) is not None:
        if _is(event, sid, KEvent.ISCSI_KEVENT_DESTROY_SESSION):
            return
        if isinstance(event, EventsLost):
            break
    if is_there(port, sid):
        raise IscsiBootError(
            f"the kernel has not removed it after {REMOVE_SECONDS:g} s",
            stage=Stage.SESSION,
            subject=f"session {sid}",
            hint="something still uses its disks; see dmesg",
            exit_code=ExitCode.LOGOUT,
        )


def _is(event: Event, sid: int, kind: KEvent) -> bool:
    return isinstance(event, SessionEvent) and (event.sid, event.kind) == (sid, kind)


def _name(event: ConnError) -> str:
    return name_of(IscsiErr, event.error).removeprefix("ISCSI_ERR_")
