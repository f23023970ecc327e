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

from dataclasses import dataclass
from functools import partial

from iscsiboot.initiator.chap import ChapAlgorithm
from iscsiboot.initiator.events import LoginRedirected
from iscsiboot.model.deadline import Deadline
from iscsiboot.netlink.uapi import HostParam
from iscsiboot.session import parameters
from iscsiboot.session.kernel_login import KernelLogin, login_config
from iscsiboot.session.parameters import Values
from iscsiboot.session.steps import (
    BindConnection,
    CreateConnection,
    CreateSession,
    Live,
    SetHostParameter,
    SetParameters,
    StartConnection,
    Step,
)
from iscsiboot.session.undo import UndoStack
from iscsiboot.session.values import AttachRequest
from iscsiboot.sysfs.sessions import read_login_start


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
        """Drive the login to its end: success, a redirect (no error), or an exception."""
        sid = live.session_id
        start = read_login_start(live.sysfs, sid)
        config = login_config(
            self.request,
            sid=sid,
            portal=live.portal,
            exp_statsn=None if start is None else start.exp_statsn,
            algorithms=self.algorithms,
        )
        login = KernelLogin(config, handle=live.transport.handle, sid=sid, entropy=live.entropy)
        while (outcome := login.outcome) is None:
            for request in login.requests():
                while pause := login.sent(request, live.ask(request)):
                    soon = Deadline.after(pause, now=live.now(), reason="the kernel to put the last request away")
                    # To its end: the events of other sessions are no reason to ask again.
                    while (event := live.netlink.next_event(soon)) is not None:
                        login.take(event)
            event = live.netlink.next_event(live.deadline)
            if event is None:
                raise login.late(live.deadline.reason)
            login.take(event)
        if isinstance(outcome, LoginRedirected):
            live.redirected = outcome
        else:
            live.outcome = outcome

    def undo(self, live: Live) -> None:
        """Nothing: STOP_CONN ends the connection."""


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
    start = read_login_start(live.sysfs, live.session_id)
    return parameters.before_login(request, has_ping=start is not None and start.has_ping)


def _block_b(caps: int, live: Live) -> Values:
    if live.outcome is None:
        raise RuntimeError("the plan has no login before this step")
    return parameters.after_login(live.outcome, caps=caps)
