# SPDX-License-Identifier: LGPL-2.1-or-later
"""Making a kernel session of a TCP connection: a plan of steps, each with what takes it back.

The order is the kernel's: a connection needs a session, a parameter needs a bound connection (else ENOTCONN), the login
PDUs go through the kernel because it numbers them, the negotiated values must be in place before START_CONN lets SCSI
commands out, and a session cannot go while it has connections (EBUSY).

The plan is a tuple of frozen values (:func:`plan`); :func:`carry_out` runs it over one
:class:`~iscsiboot.session.steps.Live`, pushing each undo before its step, so that an exception, also one thrown by a
signal handler, never falls between the two.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, replace
from functools import partial

from iscsiboot.errors import ExitCode
from iscsiboot.initiator.chap import ChapAlgorithm
from iscsiboot.initiator.config import LoginConfig
from iscsiboot.initiator.events import LoginRedirected
from iscsiboot.initiator.login import LoginMachine
from iscsiboot.netlink import messages
from iscsiboot.netlink.messages import ConnError, EventsLost, RecvPdu
from iscsiboot.netlink.uapi import HostParam, IscsiErr, name_of
from iscsiboot.session import parameters
from iscsiboot.session.parameters import Values
from iscsiboot.session.steps import (
    CID,
    BindConnection,
    CreateConnection,
    CreateSession,
    Live,
    SetHostParameter,
    SetParameters,
    StartConnection,
    Step,
    check_retcode,
)
from iscsiboot.session.undo import UndoStack
from iscsiboot.session.values import AttachRequest
from iscsiboot.sysfs.sessions import list_connections


@dataclass(frozen=True, kw_only=True, slots=True)
class Login:
    """The login PDUs, sent and received through the kernel."""

    request: AttachRequest
    algorithms: tuple[ChapAlgorithm, ...] | None
    """The CHAP algorithms to offer; None for the engine's own choice."""

    def describe(self) -> str:
        """The requests' names."""
        return "SEND_PDU, RECV_PDU (login)"

    def run(self, live: Live) -> None:
        """Drive the login machine to its end: success, a redirect (no error), or an exception."""
        machine = LoginMachine(self._config(live), entropy=live.entropy)
        machine.start()
        while (outcome := machine.outcome) is None:
            while (pdu := machine.next_request()) is not None:
                self._send(live, machine, *pdu)
            answer = self._next_pdu(live, machine)
            machine.receive(answer.bhs, answer.data)
        if isinstance(outcome, LoginRedirected):
            live.redirected = outcome
        else:
            live.outcome = outcome

    def undo(self, live: Live) -> None:
        """Nothing: STOP_CONN ends the connection."""

    def _config(self, live: Live) -> LoginConfig:
        connections = [view for view in list_connections(live.sysfs, live.session_id) if view.cid == CID]
        exp_statsn = connections[0].exp_statsn if connections else None
        config = LoginConfig(
            initiator_name=self.request.initiator_name,
            target_name=self.request.target_name,
            initiator_alias=self.request.initiator_alias,
            isid=parameters.isid(live.session_id),
            params=self.request.params,
            credentials=self.request.credentials,
            cmdsn=self.request.params.initial_cmdsn,
            exp_statsn=(exp_statsn or 0) & 0xFFFFFFFF,
            portal=live.portal,
        )
        return config if self.algorithms is None else replace(config, chap_algorithms=self.algorithms)

    def _send(self, live: Live, machine: LoginMachine, bhs: bytes, data: bytes) -> None:
        request = messages.send_pdu(live.transport.handle, sid=live.session_id, cid=CID, bhs=bhs, data=data)
        reply = live.ask(request)
        if reply.retcode == -errno.EPERM:
            # libiscsi says so of every PDU it cannot take (iscsi_conn_send_pdu): the connection has failed, and the
            # event that tells is behind this answer. Who lacks the right hears it as an error of the request itself.
            raise machine.abandon(
                "the kernel gave the connection up before the request could go out",
                hint="read the target's log for why it ends connections",
                exit_code=ExitCode.LOGIN,
            )
        check_retcode(request, reply)

    def _next_pdu(self, live: Live, machine: LoginMachine) -> RecvPdu:
        """The next PDU of our connection; events of other sessions are theirs to read, from their own sockets."""
        while True:
            event = live.netlink.next_event(live.deadline)
            if event is None:
                raise machine.abandon(
                    f"no answer in time ({live.deadline.reason})",
                    hint="check that the target is alive; its port took the connection",
                    exit_code=ExitCode.PDU_TIMEOUT,
                )
            if isinstance(event, RecvPdu) and (event.sid, event.cid) == (live.sid, CID):
                return event
            if isinstance(event, ConnError) and (event.sid, event.cid) == (live.sid, CID):
                name = name_of(IscsiErr, event.error).removeprefix("ISCSI_ERR_")
                raise machine.abandon(
                    f"the kernel gave the connection up ({name})",
                    hint="read the target's log for why it ends connections",
                    exit_code=ExitCode.LOGIN,
                )
            if isinstance(event, EventsLost):
                # One of the lost events may have been our answer: begin anew rather than wait the whole time for it.
                raise machine.abandon("the kernel had more events than the socket could hold", exit_code=ExitCode.LOGIN)


def plan(request: AttachRequest, *, caps: int, algorithms: tuple[ChapAlgorithm, ...] | None = None) -> tuple[Step, ...]:
    """The steps of one login; after the last one the session works (or ``live.redirected`` is set: undo it)."""
    params = request.params
    block_a: Step = SetParameters(block="identity, timers", values=lambda live: _block_a(request, live))
    block_b: Step = SetParameters(block="negotiated", values=lambda live: _block_b(caps, live))
    about_host = (
        (HostParam.ISCSI_HOST_PARAM_NETDEV_NAME, request.netdev or ""),
        (HostParam.ISCSI_HOST_PARAM_HWADDRESS, request.hwaddress),
    )
    host: tuple[Step, ...] = tuple(SetHostParameter(param=param, value=value) for param, value in about_host if value)
    return (
        CreateSession(initial_cmdsn=params.initial_cmdsn, cmds_max=params.cmds_max, queue_depth=params.queue_depth),
        CreateConnection(),
        BindConnection(),
        block_a,
        *host,
        Login(request=request, algorithms=algorithms),
        block_b,
        StartConnection(),
    )


def carry_out(steps: tuple[Step, ...], live: Live, undo: UndoStack) -> None:
    """Run the steps in order; stops early, without an error, at a redirect."""
    for step in steps:
        undo.push(f"taking back {step.describe()}", partial(step.undo, live))
        step.run(live)
        if live.redirected is not None:
            return


def _block_a(request: AttachRequest, live: Live) -> Values:
    has_ping = any(view.ping_tmo is not None for view in list_connections(live.sysfs, live.session_id))
    return parameters.before_login(request, has_ping=has_ping)


def _block_b(caps: int, live: Live) -> Values:
    if live.outcome is None:
        raise RuntimeError("the plan has no login before this step")
    return parameters.after_login(live.outcome, caps=caps)
