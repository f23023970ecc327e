# SPDX-License-Identifier: LGPL-2.1-or-later
"""A login whose PDUs the kernel carries: requests out, events in, no waiting.

How one waits for the next event is the caller's: the boot path blocks on its socket, a guard has an event loop. What
is made of what the kernel says is here for both.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import replace

from iscsiboot.errors import ExitCode
from iscsiboot.initiator.chap import ChapAlgorithm
from iscsiboot.initiator.config import LoginConfig
from iscsiboot.initiator.errors import LoginError
from iscsiboot.initiator.events import LoginRedirected, LoginSucceeded
from iscsiboot.initiator.login import LoginMachine
from iscsiboot.model.portal import Portal
from iscsiboot.netlink import messages
from iscsiboot.netlink.messages import ConnError, Event, EventsLost, RecvPdu, Reply, Request
from iscsiboot.netlink.uapi import IscsiErr, name_of
from iscsiboot.session import parameters
from iscsiboot.session.steps import CID, check_retcode
from iscsiboot.session.values import AttachRequest


def login_config(
    request: AttachRequest,
    *,
    sid: int,
    portal: Portal,
    exp_statsn: int | None,
    algorithms: tuple[ChapAlgorithm, ...] | None,
) -> LoginConfig:
    """What the login of session ``sid`` at ``portal`` begins with.

    The ISID follows from ``sid`` and TSIH is 0, so on a session that has been there before the login reinstates it
    (RFC 7143 section 6.3.5). ``exp_statsn`` is the kernel's; ``algorithms`` None: the engine's own choice.
    """
    config = LoginConfig(
        initiator_name=request.initiator_name,
        target_name=request.target_name,
        initiator_alias=request.initiator_alias,
        isid=parameters.isid(sid),
        params=request.params,
        credentials=request.credentials,
        cmdsn=request.params.initial_cmdsn,
        exp_statsn=(exp_statsn or 0) & 0xFFFFFFFF,
        portal=portal,
    )
    return config if algorithms is None else replace(config, chap_algorithms=algorithms)


PAUSES = (0.002, 0.006, 0.018, 0.054, 0.162, 0.486)
"""Seconds before a request is given to the kernel again that still holds the one before. Each try is a line in its log
("Login/Text in progress"), so they are few."""


class KernelLogin:
    """One login on a bound connection, used once. After each of :meth:`take` send what :meth:`requests` gives."""

    def __init__(self, config: LoginConfig, *, handle: int, sid: int, entropy: Callable[[int], bytes]) -> None:
        self._machine = LoginMachine(config, entropy=entropy)
        self._handle = handle
        self._sid = sid
        self._pauses: Iterator[float] = iter(())
        """Those left for the request that is being sent."""
        self._machine.start()

    @property
    def outcome(self) -> LoginSucceeded | LoginRedirected | None:
        """The good end; None while it goes on."""
        return self._machine.outcome

    def requests(self) -> Iterator[Request]:
        """The PDUs to send now; give each one's answer to :meth:`sent`."""
        while (pdu := self._machine.next_request()) is not None:
            bhs, data = pdu
            yield messages.send_pdu(self._handle, sid=self._sid, cid=CID, bhs=bhs, data=data)

    def sent(self, request: Request, reply: Reply) -> float:
        """The kernel's answer to a SEND_PDU: 0 when the PDU is out, else the seconds after which to give it once more.

        An event that comes meanwhile is for :meth:`take`. LoginError or RequestRefused when it will not go out.

        libiscsi answers EPERM to every PDU it cannot take (iscsi_conn_send_pdu). The connection may have failed; the
        event that tells is behind this answer then. Or the last login request is still in its place: the kernel hands
        us the response first and puts the request away behind that (__iscsi_complete_pdu), on another processor, while
        we send the next. Nothing tells when it is done. Who lacks the right hears it as an error of the request itself.
        """
        if reply.retcode != -errno.EPERM:
            self._pauses = iter(PAUSES)
            check_retcode(request, reply)
            return 0.0
        # Before the first response there is nothing to put away.
        pause = next(self._pauses, None)
        if pause is None:
            raise self._machine.abandon(
                "the kernel gave the connection up before the request could go out",
                hint="read the target's log for why it ends connections",
                exit_code=ExitCode.LOGIN,
            )
        return pause

    def take(self, event: Event) -> None:
        """Take an event of the kernel; those of other sessions are none of ours. LoginError when it ends the login."""
        if isinstance(event, RecvPdu) and (event.sid, event.cid) == (self._sid, CID):
            self._machine.receive(event.bhs, event.data)
        elif isinstance(event, ConnError) and (event.sid, event.cid) == (self._sid, CID):
            name = name_of(IscsiErr, event.error).removeprefix("ISCSI_ERR_")
            raise self._machine.abandon(
                f"the kernel gave the connection up ({name})",
                hint="read the target's log for why it ends connections",
                exit_code=ExitCode.LOGIN,
            )
        elif isinstance(event, EventsLost):
            # One of the lost events may have been our answer: begin anew rather than wait the whole time for it.
            raise self._machine.abandon(
                "the kernel had more events than the socket could hold", exit_code=ExitCode.LOGIN
            )

    def late(self, reason: str) -> LoginError:
        """The error to raise when the time for the login is over; ``reason`` is the deadline's."""
        return self._machine.abandon(
            f"no answer in time ({reason})",
            hint="check that the target is alive; its port took the connection",
            exit_code=ExitCode.PDU_TIMEOUT,
        )
