# SPDX-License-Identifier: LGPL-2.1-or-later
"""Drives a login over a connected TCP socket: reads, writes and watches the time; every decision is the machine's."""

from __future__ import annotations

import socket
from collections.abc import Callable

from iscsiboot.errors import ExitCode
from iscsiboot.initiator.events import LoginRedirected, LoginSucceeded
from iscsiboot.initiator.login import LoginMachine
from iscsiboot.initiator.pdu.header import BHS_LENGTH
from iscsiboot.model.deadline import Deadline

_SHORTEST_WAIT = 0.001
"""Seconds; a socket timeout of zero would mean "do not block" and turn the last wait into an error of its own."""


def login_over_tcp(
    sock: socket.socket, machine: LoginMachine, *, deadline: Deadline, now: Callable[[], float]
) -> LoginSucceeded | LoginRedirected:
    """Start ``machine`` and run it to its end over ``sock``; ``deadline`` covers everything.

    The socket stays open and gets its own timeout back, whatever happens; after a failure or a redirect the caller
    closes it. Raises :class:`~iscsiboot.initiator.errors.LoginError`: the machine's own, or a retryable one when the
    time is up (exit code 11) or the connection ends (5).
    """
    driver = _Driver(sock, machine, deadline, now)
    timeout = sock.gettimeout()
    try:
        return driver.run()
    except TimeoutError:
        waited = now() - driver.started
        raise machine.abandon(
            f"waited {waited:.0f} s for {deadline.reason}",
            hint="check that the target is alive; its port took the connection",
            exit_code=ExitCode.PDU_TIMEOUT,
        ) from None
    except OSError as error:
        raise machine.abandon(
            f"the connection failed: {error.strerror or error}",
            hint="read the target's log for why it ends connections",
            exit_code=ExitCode.LOGIN,
        ) from error
    finally:
        sock.settimeout(timeout)


class _Driver:
    def __init__(
        self, sock: socket.socket, machine: LoginMachine, deadline: Deadline, now: Callable[[], float]
    ) -> None:
        self._sock = sock
        self._machine = machine
        self._deadline = deadline
        self._now = now
        self.started = now()

    def run(self) -> LoginSucceeded | LoginRedirected:
        self._machine.start()
        while True:
            while (request := self._machine.next_request()) is not None:
                self._arm()
                self._sock.sendall(b"".join(request))
            if (outcome := self._machine.outcome) is not None:
                return outcome
            bhs = self._read(BHS_LENGTH)
            self._machine.receive(bhs, self._read(self._machine.following(bhs)))

    def _read(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            self._arm()
            chunk = self._sock.recv(length - len(data))
            if not chunk:
                raise ConnectionResetError("the target closed the connection")
            data += chunk
        return bytes(data)

    def _arm(self) -> None:
        """Let the next call on the socket take no longer than the deadline allows."""
        now = self._now()
        if self._deadline.passed(now):
            raise TimeoutError
        self._sock.settimeout(max(_SHORTEST_WAIT, self._deadline.remaining(now)))
