# SPDX-License-Identifier: LGPL-2.1-or-later
"""A connection over a TCP socket: moves bytes, watches the time, lets itself be cancelled.

No decision about the protocol is made here: what the bytes mean, what is sent, what is late and what the end of the
stream means is the business of :class:`~iscsiboot.initiator.connection.Connection`. Decided here is only what a socket
and a clock raise: that the caller's own deadline has passed and that somebody cancelled, both of which end the
connection, since a request that nobody waits for any more cannot be taken back.

A failed send is no end yet: a target that refuses us and closes at once has its answer in our receive buffer, and that
answer is the better explanation. So what remains is read first.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable
from types import TracebackType

from iscsiboot.errors import ExitCode, IscsiBootError
from iscsiboot.initiator.connection import CLOSED, Connection, ConnectionPhase, Event
from iscsiboot.model.deadline import Deadline
from iscsiboot.session.cancel import Cancellation, Cancelled

RECEIVE_BYTES = 256 * 1024
"""Read at once, at most."""


class TcpLink:
    """A :class:`Connection` on a connected socket, which it owns from here on: leaving the ``with`` block closes it.

    Requests are made at :meth:`session`; they go out, and answers come in, while :meth:`next_event` waits.
    """

    def __init__(
        self,
        sock: socket.socket,
        connection: Connection,
        *,
        now: Callable[[], float],
        cancellation: Cancellation | None = None,
    ) -> None:
        self._sock = sock
        self._connection = connection
        self._now = now
        self._cancellation = cancellation
        self._unsent = memoryview(b"")
        self._send_failure = ""
        self._error: IscsiBootError | None = None
        self._ended = False
        sock.setblocking(False)

    def __enter__(self) -> TcpLink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def connection(self) -> Connection:
        """The protocol, whatever has become of it."""
        return self._connection

    def session(self) -> Connection:
        """The same to make a request at; raises what has ended it, of which the caller need not have heard yet.

        A target's last words may come in one segment with the event that was handed out before them, and a request
        would then be taken for a mistake of the caller's.
        """
        if self._error is not None:
            raise self._error
        if self._connection.phase is ConnectionPhase.DROPPED:
            self._error = self._exhausted()
            raise self._error
        return self._connection

    @property
    def ended(self) -> bool:
        """Whether the stream has come to its end."""
        return self._ended

    def close(self) -> None:
        """Close the socket, whatever stands; a second call does nothing."""
        self._sock.close()

    def start(self) -> None:
        """Begin the login; its bytes go out with the first :meth:`next_event`."""
        self._connection.start()

    def next_event(self, deadline: Deadline, *, authenticated: Deadline | None = None) -> Event:
        """Move bytes until something has happened; ``authenticated`` holds beside ``deadline`` while a login is in its
        security stage.

        What happened before an error is handed out before the error is raised. Raises what the connection raises; its
        error with exit code 11, retryable, when ``deadline`` passes; :class:`Cancelled`. After an error the link is of
        no use any more.
        """
        began = self._now()
        while True:
            if (event := self._connection.next_event()) is not None:
                return event
            if self._error is not None:
                raise self._error
            if self._ended:
                self._error = self._exhausted()
                continue
            try:
                self._step(self._sooner(deadline, authenticated), began)
            except IscsiBootError as error:
                self._error = error

    def _sooner(self, deadline: Deadline, authenticated: Deadline | None) -> Deadline:
        """The one of the two that holds now, asked anew in each step: the security stage may be over meanwhile."""
        if authenticated is None or authenticated.at >= deadline.at or not self._connection.authenticating:
            return deadline
        return authenticated

    def _step(self, deadline: Deadline, began: float) -> None:
        """One wait, and whatever became possible by it."""
        now = self._now()
        self._check(deadline, began, now)
        due = self._connection.next_deadline()
        if due is not None and due <= now:
            self._run_timer()
            return
        self._push()
        until = deadline.at if due is None else min(deadline.at, due)
        ready = self._wait(max(0.0, until - now))
        if ready & selectors.EVENT_READ:
            self._receive()

    def _run_timer(self) -> None:
        """Something is late, unless it lies in the socket: this process may have slept, and not the target."""
        if self._wait(0.0) & selectors.EVENT_READ:
            self._receive()
        self._connection.handle_timer(self._now())

    def _check(self, deadline: Deadline, began: float, now: float) -> None:
        """End everything when the caller's patience has; looked at in each step, so that no drip of bytes delays it."""
        if self._cancellation is not None and self._cancellation.cancelled:
            ended = self._connection.abandon("cancelled", hint="", exit_code=ExitCode.ERR, retryable=False)
            raise Cancelled(stage=ended.stage, subject=ended.subject)
        if deadline.passed(now):
            raise self._connection.abandon(
                f"waited {round(now - began, 1):g} s for {deadline.reason}",
                hint="check that the target is alive; its port took the connection",
                exit_code=ExitCode.PDU_TIMEOUT,
                retryable=True,
            )

    def _exhausted(self) -> IscsiBootError:
        """The stream ended when it was due, and somebody still waits for something."""
        return self._connection.abandon(
            f"the connection {self._connection.phase.value}: nothing more can come",
            hint="read the target's log for why it ends connections",
            exit_code=ExitCode.TRANS,
            retryable=True,
        )

    def _push(self) -> None:
        """Send what the socket takes, which is nearly always all of it: waiting for it first would cost a call."""
        while not self._send_failure:
            if not self._unsent:
                self._unsent = memoryview(self._connection.data_to_send())
            if not self._unsent:
                return
            self._send()
            if self._unsent:
                return

    def _wait(self, seconds: float) -> int:
        """What the socket is ready for; 0 when the time is up or somebody cancelled."""
        with selectors.PollSelector() as selector:
            write = selectors.EVENT_WRITE if self._unsent else 0
            selector.register(self._sock, selectors.EVENT_READ | write)
            if self._cancellation is not None:
                selector.register(self._cancellation, selectors.EVENT_READ)
            return sum(events for key, events in selector.select(seconds) if key.fileobj is self._sock)

    def _send(self) -> None:
        try:
            sent = self._sock.send(self._unsent)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._send_failure = f"the connection failed: {error.strerror or error}"
            self._unsent = memoryview(b"")
            return
        self._unsent = self._unsent[sent:]

    def _receive(self) -> None:
        try:
            data = self._sock.recv(RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lost(f"the connection failed: {error.strerror or error}")
            return
        if data:
            self._connection.receive(data, self._now())
        else:
            self._lost(self._send_failure or CLOSED)

    def _lost(self, cause: str) -> None:
        self._connection.connection_lost(cause, self._now())
        self._ended = True
