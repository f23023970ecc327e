# SPDX-License-Identifier: LGPL-2.1-or-later
"""Scripted targets on a loopback port: one thread for each connection, any number of them at once.

A late answer waits on a condition, not on a clock alone: :meth:`TargetServer.release` lets it go, and so does the end
of the test. Nothing outlives the ``with`` block.
"""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from types import TracebackType

from tests.doubles.session import FullTarget
from tests.doubles.target import ScriptedTarget
from tests.doubles.wire import Action, Close, Item, Send, Wait

JOIN_SECONDS = 5.0
CONNECTIONS_MAX = 256
Servable = ScriptedTarget | FullTarget


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


@contextmanager
def refusing_port(host: str = "127.0.0.1") -> Iterator[int]:
    """A port that refuses connections, and goes on doing so: it is taken and nobody listens."""
    with socket.socket(_family(host)) as taken:
        taken.bind((host, 0))
        yield taken.getsockname()[1]


def _joined(actions: Sequence[Action]) -> list[Action]:
    joined: list[Action] = []
    for action in actions:
        if isinstance(action, Send) and joined and isinstance(joined[-1], Send):
            joined[-1] = Send(joined[-1].data + action.data)
        else:
            joined.append(action)
    return joined


class _Served:
    """One connection."""

    def __init__(self, sock: socket.socket, target: FullTarget, *, piece: int, told: Callable[[], None]) -> None:
        self.sock = sock
        self.target = target
        self._piece = piece
        self._told = told
        self.turn = threading.Condition()
        """Held while the target acts; given up while it waits, so that a test may make it say something meanwhile."""
        self.released = False

    def talk(self) -> None:
        """Until either side ends the connection."""
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError):
            while data := self.sock.recv(65536):
                with self.turn:
                    actions = self.target.receive(data)
                    self._told()
                    self.perform(actions)

    def perform(self, actions: Sequence[Action]) -> None:
        """Carry them out; the caller has the turn. What is sent in succession goes out as one segment."""
        for action in _joined(actions):
            match action:
                case Send(data):
                    step = self._piece or len(data) or 1
                    for start in range(0, len(data), step):
                        self.sock.sendall(data[start : start + step])
                case Wait(seconds):
                    self.turn.wait_for(lambda: self.released, None if math.isinf(seconds) else seconds)
                case Close():
                    self.hang_up()

    def release(self) -> None:
        """No wait lasts any longer, now and later."""
        with self.turn:
            self.released = True
            self.turn.notify_all()

    def hang_up(self) -> None:
        """shutdown() wakes the thread out of recv(); close() alone would leave it there."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)


class TargetServer:
    """Serves ``make_target()`` to each connection.

    ``piece`` is how many bytes go out at a time (0: all). With ``accept=False`` the kernel takes connections and
    nobody ever looks at them.
    """

    def __init__(
        self,
        make_target: Callable[[], Servable] = FullTarget,
        *,
        piece: int = 0,
        host: str = "127.0.0.1",
        accept: bool = True,
    ) -> None:
        self._make_target = make_target
        self._piece = piece
        self._accept = accept
        self._listener = socket.create_server((host, 0), family=_family(host), backlog=256)
        self.host = host
        self.port: int = self._listener.getsockname()[1]
        self.targets: list[Servable] = []
        """What was made for each connection, in order."""
        self._served: list[_Served] = []
        self._known = threading.Condition()
        self._ending = False
        self._pool = ThreadPoolExecutor(max_workers=CONNECTIONS_MAX + 1, thread_name_prefix="scripted-target")
        self._jobs: list[Future[None]] = []

    def __enter__(self) -> TargetServer:
        if self._accept:
            self._run(self._serve, self._listener.close)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._known:
            self._ending = True
            served = list(self._served)
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for connection in served:
            connection.hang_up()
            connection.release()
        ended, hanging = wait(self._jobs, JOIN_SECONDS)
        self._pool.shutdown(wait=not hanging)
        self._listener.close()
        for connection in served:
            connection.sock.close()
        assert not hanging, "the scripted target hangs"
        mistakes = [job for job in ended if job.exception() is not None]
        if mistakes:
            # Whatever the test saw, this was its cause.
            mistakes[0].result()

    @property
    def violations(self) -> list[str]:
        """What initiators did wrong, over all connections."""
        return [text for connection in self._served for text in connection.target.violations]

    def connect(self) -> socket.socket:
        """A client socket."""
        return socket.create_connection((self.host, self.port), timeout=JOIN_SECONDS)

    def release(self) -> None:
        """Let every late answer go."""
        for connection in self._served:
            connection.release()

    def push(self, *items: Item, connection: int = -1) -> None:
        """Make a target in full feature phase say something nobody asked for."""
        served = self._served[connection]
        with served.turn:
            served.perform(served.target.push(*items))

    @property
    def full_targets(self) -> list[FullTarget]:
        """What serves each connection, in order."""
        return [connection.target for connection in self._served]

    def wait(self, holds: Callable[[], bool], seconds: float = JOIN_SECONDS) -> None:
        """Until it holds; looked at whenever a connection or data of one has come."""
        with self._known:
            assert self._known.wait_for(holds, seconds), f"waited {seconds} s for the initiators"

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            target = self._make_target()
            full = target if isinstance(target, FullTarget) else FullTarget(login=target)
            served = _Served(sock, full, piece=self._piece, told=self._notify)
            with self._known:
                if self._ending:
                    sock.close()
                    return
                self.targets.append(target)
                self._served.append(served)
                self._run(served.talk, served.hang_up)
                self._known.notify_all()

    def _notify(self) -> None:
        with self._known:
            self._known.notify_all()

    def _run(self, job: Callable[[], None], failed: Callable[[], None]) -> None:
        """A mistake of the double must fail the test, not end a thread nobody looks at: the future keeps it."""
        future = self._pool.submit(job)
        self._jobs.append(future)
        future.add_done_callback(lambda done: failed() if done.exception() else None)
