# SPDX-License-Identifier: LGPL-2.1-or-later
"""The steps a kernel session is made of, as values: each knows how to do itself and how to take itself back.

An undo assumes nothing about how far its step got: it may run after a refusal, after an interruption before the answer
was read, or after success. "There is no such thing" is success for it.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from iscsiboot.model.deadline import Deadline
from iscsiboot.netlink import messages
from iscsiboot.netlink.messages import EventsLost, Reply, Request, SessionEvent
from iscsiboot.netlink.socket import IscsiNetlink, RequestRefused
from iscsiboot.netlink.uapi import HostParam, KEvent, StopFlag
from iscsiboot.sysfs.sessions import TransportView, list_sessions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from iscsiboot.initiator.events import LoginRedirected, LoginSucceeded
    from iscsiboot.model.portal import Portal
    from iscsiboot.session.parameters import Values
else:
    Protocol = object

CID = 0
"""A software session has one connection."""

UNDO_SECONDS = 10.0
"""For one undo, whatever the deadline of the login says: that one may be over."""

GONE = frozenset({errno.EINVAL, errno.ENODEV, errno.ENOENT})
"""How the kernel says that there is no such session or connection (its look-up failed)."""


@dataclass(kw_only=True, slots=True)
class Live:
    """What the steps of one attempt share; the only mutable thing here."""

    netlink: IscsiNetlink
    transport: TransportView
    sysfs: Path
    sock: socket.socket
    portal: Portal
    deadline: Deadline
    now: Callable[[], float]
    entropy: Callable[[int], bytes]
    sid: int | None = None
    host: int | None = None
    outcome: LoginSucceeded | None = None
    redirected: LoginRedirected | None = None

    @property
    def session_id(self) -> int:
        """The session's number; every step after the first has one."""
        if self.sid is None:
            raise RuntimeError("the plan has no CREATE_SESSION before this step")
        return self.sid

    def ask(self, request: Request) -> Reply:
        """One request within the deadline of the attempt."""
        return self.netlink.request(request, self.deadline)


class Step(Protocol):
    """One step of the plan."""

    def describe(self) -> str:
        """What it does, in kernel terms, without secrets."""

    def run(self, live: Live) -> None:
        """Do it, or raise."""

    def undo(self, live: Live) -> None:
        """Take it back, as far as it got; nothing to do is fine."""


def take_back(netlink: IscsiNetlink, request: Request, now: Callable[[], float]) -> None:
    """Send a request that removes something; that it is gone already is success."""
    try:
        netlink.request(request, Deadline.after(UNDO_SECONDS, now=now(), reason="the kernel's clean-up"))
    except RequestRefused as refusal:
        if refusal.errno not in GONE:
            raise


def check_retcode(request: Request, reply: Reply) -> None:
    """BIND_CONN, START_CONN and SEND_PDU fail in ``r.retcode`` although the request itself was taken."""
    if reply.retcode:
        raise RequestRefused(request, -reply.retcode)


@dataclass(frozen=True, kw_only=True, slots=True)
class CreateSession:
    """A SCSI host and a session on it."""

    initial_cmdsn: int
    cmds_max: int
    queue_depth: int

    def describe(self) -> str:
        """The request's name."""
        return "CREATE_SESSION"

    def run(self, live: Live) -> None:
        """Learn the session's and the host's number."""
        reply = live.ask(
            messages.create_session(
                live.transport.handle,
                initial_cmdsn=self.initial_cmdsn,
                cmds_max=self.cmds_max,
                queue_depth=self.queue_depth,
            )
        )
        live.sid, live.host = reply.first, reply.second

    def undo(self, live: Live) -> None:
        """DESTROY_SESSION; interrupted before the number was read, the session is found by its creator: us."""
        sids = [live.sid] if live.sid is not None else self._created_here(live)
        for sid in sids:
            take_back(live.netlink, messages.destroy_session(live.transport.handle, sid=sid), live.now)

    def _created_here(self, live: Live) -> list[int]:
        views = list_sessions(live.sysfs)
        return [view.sid for view in views if view.creator == live.netlink.port and not view.connections]


@dataclass(frozen=True, slots=True)
class CreateConnection:
    """The session's connection, without a socket yet."""

    def describe(self) -> str:
        """The request's name."""
        return "CREATE_CONN"

    def run(self, live: Live) -> None:
        """Ask for it; a cid that is not ours is how the kernel fails here."""
        request = messages.create_conn(live.transport.handle, sid=live.session_id, cid=CID)
        if live.ask(request).second != CID:
            raise RequestRefused(request, errno.ENOMEM)

    def undo(self, live: Live) -> None:
        """DESTROY_CONN."""
        if live.sid is not None:
            take_back(live.netlink, messages.destroy_conn(live.transport.handle, sid=live.sid, cid=CID), live.now)


@dataclass(frozen=True, slots=True)
class BindConnection:
    """Give the connection our TCP socket; the kernel takes a reference of its own."""

    def describe(self) -> str:
        """The request's name."""
        return "BIND_CONN"

    def run(self, live: Live) -> None:
        """Ask for it."""
        request = messages.bind_conn(live.transport.handle, sid=live.session_id, cid=CID, endpoint=live.sock.fileno())
        check_retcode(request, live.ask(request))

    def undo(self, live: Live) -> None:
        """STOP_CONN for good: the kernel fails what is queued and lets the socket go."""
        if live.sid is not None:
            flag = StopFlag.STOP_CONN_TERM
            take_back(
                live.netlink, messages.stop_conn(live.transport.handle, sid=live.sid, cid=CID, flag=flag), live.now
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class SetParameters:
    """A block of parameters; they go with the session, so there is nothing to take back."""

    block: str
    values: Callable[[Live], Values]

    def describe(self) -> str:
        """The request's name and the block."""
        return f"SET_PARAM ({self.block})"

    def run(self, live: Live) -> None:
        """Set each; a kernel that does not know one (ENOSYS) does without it, as open-iscsi has it."""
        for param, value in self.values(live):
            request = messages.set_param(live.transport.handle, sid=live.session_id, cid=CID, param=param, value=value)
            try:
                live.ask(request)
            except RequestRefused as refusal:
                if refusal.errno != errno.ENOSYS:
                    raise

    def undo(self, live: Live) -> None:
        """Nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SetHostParameter:
    """Tell the host which interface it is bound to, for people who look at sysfs."""

    param: HostParam
    value: str

    def describe(self) -> str:
        """The request's name."""
        return f"SET_HOST_PARAM ({self.param.name.removeprefix('ISCSI_HOST_PARAM_')})"

    def run(self, live: Live) -> None:
        """Set it; a kernel without it (ENOSYS, EINVAL) does without."""
        if live.host is None:
            raise RuntimeError("the plan has no CREATE_SESSION before this step")
        request = messages.set_host_param(live.transport.handle, host=live.host, param=self.param, value=self.value)
        try:
            live.ask(request)
        except RequestRefused as refusal:
            if refusal.errno not in (errno.ENOSYS, errno.EINVAL):
                raise

    def undo(self, live: Live) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class StartConnection:
    """The session takes SCSI commands from here on."""

    def describe(self) -> str:
        """The request's name."""
        return "START_CONN"

    def run(self, live: Live) -> None:
        """Ask for it."""
        request = messages.start_conn(live.transport.handle, sid=live.session_id, cid=CID)
        check_retcode(request, live.ask(request))

    def undo(self, live: Live) -> None:
        """UNBIND_SESSION: remove the disks, if any, while the connection can still flush their caches."""
        if live.sid is not None:
            unbind(live.netlink, live.transport, live.sid, live.now)


def unbind(netlink: IscsiNetlink, transport: TransportView, sid: int, now: Callable[[], float]) -> None:
    """UNBIND_SESSION and wait for its event; not getting one in time is no reason to leave the rest undone."""
    take_back(netlink, messages.unbind_session(transport.handle, sid=sid), now)
    deadline = Deadline.after(UNDO_SECONDS, now=now(), reason="the removal of the session's disks")
    while (event := netlink.next_event(deadline)) is not None:
        if (
            isinstance(event, SessionEvent)
            and event.sid == sid
            and event.kind is not KEvent.ISCSI_KEVENT_CREATE_SESSION
        ):
            return
        if isinstance(event, EventsLost):
            return
