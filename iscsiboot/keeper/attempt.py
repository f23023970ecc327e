# SPDX-License-Identifier: LGPL-2.1-or-later
"""One attempt to make the connection of a session work: connect, give it to the kernel, log in, start.

The same for a session that broke and for a new one; only that the new one is created after its first TCP connection
stands. Whatever ends an attempt, also a cancellation, it leaves a working session or what was there before: a stopped
connection, or no session. So it never has to be asked how far one got.

Facts it rests on (Linux 6.1, drivers/scsi/scsi_transport_iscsi.c, libiscsi.c):

* A connection that fails on its own is stopped by a work queue of the kernel. From the failure until somebody sends
  STOP_CONN, which waits for that work, BIND_CONN, SEND_PDU and START_CONN answer ENOTCONN. So each failed attempt ends
  with STOP_CONN, and a BIND_CONN that is told so sends it and asks once more.
* The kernel fills in the CmdSN of login requests; ExpStatSN is ours to fill in and is read before BIND_CONN.
* Digests are switched off when a connection stops. All else that was set stays with the session and its connection,
  and is not set again when it is the same: it would be more than half of a recovery's requests.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.initiator.chap import ChapAlgorithm
from iscsiboot.initiator.errors import AlgorithmsRejected, LoginError
from iscsiboot.initiator.events import LoginRedirected, LoginSucceeded
from iscsiboot.initiator.route import LoginRoute
from iscsiboot.keeper.connecting import connect
from iscsiboot.keeper.patience import Patience
from iscsiboot.keeper.port import Hands, Inbox, KernelPort
from iscsiboot.keeper.situation import Failure
from iscsiboot.keeper.turns import Turns
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.portal import NamedPortal, Portal, parse_ip
from iscsiboot.netlink import messages
from iscsiboot.netlink.socket import NetlinkError, RequestRefused
from iscsiboot.netlink.uapi import HostParam, Param, StopFlag
from iscsiboot.session import parameters
from iscsiboot.session.connector import ConnectError
from iscsiboot.session.kernel_login import KernelLogin, login_config
from iscsiboot.session.steps import CID, check_retcode
from iscsiboot.session.values import AttachRequest, Environment
from iscsiboot.session.workers import Answer
from iscsiboot.sysfs.sessions import list_sessions, read_login_start

RESOLVE_SECONDS = 20.0
"""For the name a redirect leads to: more than the resolver's own patience with three servers."""
UNDO_TRIES = 3
_TARGET_ERROR = 3
"""Status class of a login response (RFC 7143 11.13.5)."""
_OUT_OF_RESOURCES = (_TARGET_ERROR, 2)
_CLEANING_UP = frozenset({errno.ENOTCONN, errno.EAGAIN})

Told = dict[Param, str | bytes]
"""What the kernel was told of a session, before its logins and after."""
_ANEW = frozenset({Param.ISCSI_PARAM_HDRDGST_EN, Param.ISCSI_PARAM_DATADGST_EN, Param.ISCSI_PARAM_EXP_STATSN})
"""What belongs to one login; the kernel has changed it since."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tools:
    """What attempts share."""

    port: KernelPort
    environment: Environment
    hands: Hands
    note: Callable[[str], None]
    """Takes a remark for the log; told once, of no consequence."""
    turns: Turns = field(default_factory=Turns)


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """A connection that works."""

    sid: int
    host: int | None
    """Of a new session."""
    portal: Portal
    """Where it leads."""
    outcome: LoginSucceeded
    algorithm: ChapAlgorithm | None = None
    """Of CHAP, when it had to be offered alone."""


@dataclass(kw_only=True, slots=True)
class Attempt:
    """Used once: :meth:`run`. ``sid`` None makes a new session."""

    tools: Tools
    request: AttachRequest
    sid: int | None = None
    told: Told = field(default_factory=dict, repr=False)
    progress: Callable[[str], None] = lambda _: None
    """Is told what is being done, in words for people who watch."""
    urgent: bool = False
    """It waits for no turn: the system stands on the session."""
    algorithm: ChapAlgorithm | None = None
    """What an earlier attempt had to offer alone (:attr:`Made.algorithm`)."""
    patience: Patience | None = None
    """The time of the order it belongs to."""
    began: float | None = None
    """When it was its turn, at the first portal."""
    connected: float | None = None
    """Since when it has a connection, to the portal it is at."""
    _host: int | None = None
    _created: bool = False
    _bound: bool = False

    async def run(self) -> Made:
        """The working session. IscsiBootError says why there is none; :func:`failure_of` what to make of it.

        Each portal has ``login_timeout`` seconds, connecting included, from when it is this login's turn there.
        """
        route = LoginRoute(self.request.portal, subject=self.request.target_name, algorithm=self.algorithm)
        try:
            while True:
                here = route.portal
                try:
                    outcome = await self._in_turn(here, route)
                except AlgorithmsRejected as rejected:
                    route.rejected(rejected)
                    then = f"{route.algorithms[0].name} alone" if route.algorithms else "all that are allowed"
                    self.tools.note(f"{here.endpoint}: {rejected.cause}; trying {then}")
                    self._stop(StopFlag.STOP_CONN_RECOVER)
                    continue
                if isinstance(outcome, LoginSucceeded):
                    alone = route.algorithms[0] if route.algorithms else None
                    return Made(sid=self._session, host=self._host, portal=here, outcome=outcome, algorithm=alone)
                self._stop(StopFlag.STOP_CONN_RECOVER)
                there = outcome.portal
                portal = await self._resolve(there) if isinstance(there, NamedPortal) else there
                route.redirected(outcome, portal)
                self.tools.note(f"{here.endpoint}: the target is at {route.portal.endpoint} now")
        except BaseException:
            self._take_back()
            raise

    @property
    def _session(self) -> int:
        if self.sid is None:
            raise RuntimeError("the session is not created yet")
        return self.sid

    async def _in_turn(self, portal: Portal, route: LoginRoute) -> LoginSucceeded | LoginRedirected:
        if self.urgent:
            return await self._at(portal, route)
        self.progress(f"waiting for its turn at {portal.endpoint}")
        async with self.tools.turns.at(portal.endpoint, self.patience):
            return await self._at(portal, route)

    async def _at(self, portal: Portal, route: LoginRoute) -> LoginSucceeded | LoginRedirected:
        """Everything at one portal."""
        request, environment = self.request, self.tools.environment
        if self.began is None:
            self.began = environment.now()
        self.connected = None
        seconds = request.params.login_timeout
        deadline = Deadline.after(seconds, now=environment.now(), reason=f"a login at {portal.endpoint}")
        self.progress(f"connecting to {portal.endpoint}")
        sock = await connect(
            portal,
            deadline=deadline,
            now=environment.now,
            window_size=request.params.tcp_window_size,
            netdev=request.netdev,
        )
        self.connected = environment.now()
        # The kernel takes a reference of its own at BIND_CONN; ours may go when the connection is started.
        with closing(sock):
            self.progress(f"logging in at {portal.endpoint}")
            if self.sid is None:
                self._create()
            else:
                # A break that sysfs told of first: its event is about the connection before, not the one to be made.
                self.tools.port.hear()
            with self.tools.port.inbox(self._session) as inbox:
                outcome = await self._hand_over(sock.fileno(), portal, route, inbox, deadline)
                if isinstance(outcome, LoginSucceeded):
                    self._start(outcome)
        return outcome

    async def _hand_over(
        self, descriptor: int, portal: Portal, route: LoginRoute, inbox: Inbox, deadline: Deadline
    ) -> LoginSucceeded | LoginRedirected:
        """Bind, tell the kernel who is who, and log in."""
        start = read_login_start(self.tools.port.sysfs, self._session)
        if start is None:
            raise IscsiBootError(
                "the session has no connection in the kernel any more",
                stage=Stage.HANDOFF,
                subject=f"session {self.sid}",
                hint="log it out and in again",
                exit_code=ExitCode.SESS_NOT_FOUND,
            )
        self._bind(descriptor)
        self._set(parameters.before_login(self.request, has_ping=start.has_ping))
        if self._created:
            self._tell_host()
        try:
            config = login_config(
                self.request,
                sid=self._session,
                portal=portal,
                exp_statsn=start.exp_statsn,
                algorithms=route.algorithms or self.request.chap_algorithms,
            )
        except ValueError as error:
            raise IscsiBootError(
                f"the login cannot be made: {error}",
                stage=Stage.LOGIN,
                subject=self.request.target_name,
                hint="put the session's record right",
                exit_code=ExitCode.INVAL,
            ) from error
        login = KernelLogin(config, handle=self.tools.port.handle, sid=self._session, entropy=self._entropy)
        now = self.tools.environment.now
        while (outcome := login.outcome) is None:
            for request in login.requests():
                while pause := login.sent(request, self.tools.port.ask(request)):
                    soon = Deadline.after(pause, now=now(), reason="the kernel to put the last request away")
                    if (event := await inbox.next(soon)) is not None:
                        login.take(event)
            event = await inbox.next(deadline)
            if event is None:
                raise login.late(deadline.reason)
            login.take(event)
        for remark in outcome.remarks if isinstance(outcome, LoginSucceeded) else ():
            self.tools.note(f"{portal.endpoint}: {remark}")
        return outcome

    def _entropy(self, size: int) -> bytes:
        return self.tools.environment.entropy(size)

    def _create(self) -> None:
        """A session with its connection. What the kernel made although its answer was lost is found by its creator."""
        port, params = self.tools.port, self.request.params
        self._created = True
        try:
            reply = port.ask(
                messages.create_session(
                    port.handle,
                    initial_cmdsn=params.initial_cmdsn,
                    cmds_max=params.cmds_max,
                    queue_depth=params.queue_depth,
                )
            )
        except NetlinkError:
            for view in list_sessions(port.sysfs):
                if view.creator == port.number and not view.connections and not port.has_listener(view.sid):
                    port.take_away(messages.destroy_session(port.handle, sid=view.sid))
            raise
        self.sid, self._host = reply.first, reply.second
        request = messages.create_conn(port.handle, sid=self.sid, cid=CID)
        if port.ask(request).second != CID:
            raise RequestRefused(request, errno.ENOMEM)

    def _bind(self, descriptor: int) -> None:
        port = self.tools.port
        request = messages.bind_conn(port.handle, sid=self._session, cid=CID, endpoint=descriptor)
        self._bound = True
        for again in (True, False):
            try:
                check_retcode(request, port.ask(request))
                return
            except RequestRefused as refusal:
                if not again or refusal.errno not in _CLEANING_UP:
                    raise
            self._stop(StopFlag.STOP_CONN_RECOVER)
            self._bound = True

    def _set(self, values: parameters.Values) -> None:
        """Tell the kernel what it was not told yet; one that does not know a parameter (ENOSYS) does without it."""
        port = self.tools.port
        for param, value in values:
            if self.told.get(param) == value and param not in _ANEW:
                continue
            try:
                port.ask(messages.set_param(port.handle, sid=self._session, cid=CID, param=param, value=value))
            except RequestRefused as refusal:
                if refusal.errno != errno.ENOSYS:
                    raise
            self.told[param] = value

    def _tell_host(self) -> None:
        """Which interface the host is bound to, for people who look at sysfs; a kernel may do without."""
        port, request = self.tools.port, self.request
        for param, value in (
            (HostParam.ISCSI_HOST_PARAM_NETDEV_NAME, request.netdev or ""),
            (HostParam.ISCSI_HOST_PARAM_HWADDRESS, request.hwaddress),
        ):
            if value and self._host is not None:
                try:
                    port.ask(messages.set_host_param(port.handle, host=self._host, param=param, value=value))
                except RequestRefused as refusal:
                    if refusal.errno not in (errno.ENOSYS, errno.EINVAL):
                        raise

    def _start(self, outcome: LoginSucceeded) -> None:
        port = self.tools.port
        self._set(parameters.after_login(outcome, caps=port.transport().caps))
        request = messages.start_conn(port.handle, sid=self._session, cid=CID)
        check_retcode(request, port.ask(request))

    def _stop(self, flag: StopFlag) -> None:
        """End what a BIND_CONN began, also one that the kernel has begun to end itself."""
        if self._bound and self.sid is not None:
            port = self.tools.port
            port.take_away(messages.stop_conn(port.handle, sid=self.sid, cid=CID, flag=flag))
            self._bound = False

    def _take_back(self) -> None:
        """As if nothing had been; a request that fails is told and the next is made."""
        port, sid = self.tools.port, self.sid
        if sid is None:
            return
        if not self._created:
            self._try(partial(self._stop, StopFlag.STOP_CONN_RECOVER))
            return
        self._try(partial(self._stop, StopFlag.STOP_CONN_TERM))
        self._try(partial(port.take_away, messages.destroy_conn(port.handle, sid=sid, cid=CID)))
        self._try(partial(port.take_away, messages.destroy_session(port.handle, sid=sid)))
        port.forget(sid)

    def _try(self, undo: Callable[[], None]) -> None:
        """Some times: the kernel refuses a removal only for want of memory, and what stays nobody would look after."""
        for left in reversed(range(UNDO_TRIES)):
            try:
                undo()
            except IscsiBootError as error:
                if not left:
                    self.tools.note(f"session {self.sid}: clean-up: {error.line()}")
            else:
                return

    async def _resolve(self, there: NamedPortal) -> Portal:
        return await resolve(there, self.tools)


async def resolve(there: NamedPortal, tools: Tools) -> Portal:
    """The address of a name, in a hand: the resolver blocks, and may read files. IscsiBootError when it has none."""
    ended = await tools.hands.run(
        partial(_look_up, tools.environment, there), seconds=RESOLVE_SECONDS, what=f"the look-up of {there.host}"
    )
    answer = ended.answer
    if answer is None or "address" not in answer:
        raise IscsiBootError(
            ended.problem if answer is None else answer["cause"],
            stage=Stage.CONNECT,
            subject=str(there),
            hint="check the name and DNS, or give an address",
            exit_code=ExitCode.TRANS,
            retryable=True,
        )
    return Portal(address=parse_ip(answer["address"]), port=there.port, tpgt=there.tpgt)


def _look_up(environment: Environment, there: NamedPortal) -> Answer:
    try:
        return {"address": str(environment.resolve(there).address)}
    except IscsiBootError as error:
        return {"cause": error.cause}


def failure_of(error: IscsiBootError) -> Failure:
    """What kind of failure an attempt ended with, for the policy."""
    if isinstance(error, LoginError):
        status = error.status[0] if error.status else None
        if status == _TARGET_ERROR:
            return Failure.BUSY if error.status == _OUT_OF_RESOURCES else Failure.UNAVAILABLE
        if error.exit_code is ExitCode.LOGIN_AUTH_FAILED:
            return Failure.DENIED
        if error.retryable:
            return Failure.BROKEN
        # Not a status but our own judgement of what the target proved.
        return Failure.DENIED if status is None and error.phase == "security negotiation" else Failure.REFUSED
    if isinstance(error, RequestRefused):
        return Failure.BROKEN if error.errno == errno.ENOTCONN else Failure.KERNEL
    if isinstance(error, NetlinkError):
        return Failure.KERNEL
    if isinstance(error, ConnectError) or error.stage is Stage.CONNECT:
        return Failure.UNREACHABLE
    return Failure.KERNEL if error.stage is Stage.HANDOFF else Failure.REFUSED
