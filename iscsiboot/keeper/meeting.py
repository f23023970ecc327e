# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a guard is asked for its sessions: an abstract socket, and a second one in /run should somebody sit on that.

The abstract name needs no file system in common, so a keeper of the initramfs is found from the real root whatever was
mounted meanwhile. But anybody may bind any abstract name. Who meets a stranger there passes on to ``keeper.sock`` in
the run folder, mode 0600, which only root can connect to, and says so.

One guard process listens (:attr:`~.rights.Right.PLACE`); another one waits for its end.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from pathlib import Path

from iscsiboot.keeper.channel import peer_of, trusted
from iscsiboot.keeper.endings import process_end
from iscsiboot.keeper.log import Level, Log
from iscsiboot.keeper.rights import Right, Rights

NAME = "ISCSIBOOT_KEEPER"
"""Of the abstract socket, without its leading NUL."""
SOCKET = "keeper.sock"
BACKLOG = 16
AGAIN_SECONDS = 1.0
"""Until a connection is looked at again for which there was no room."""

Arrived = Callable[[socket.socket, int], None]


class Place:
    """A guard's side: listens once it is its turn, and hands each connection of root's on with the peer's process."""

    def __init__(self, *, rights: Rights, run: Path, name: str, log: Log, arrived: Arrived) -> None:
        self._rights = rights
        self._path = run / SOCKET
        self._name = name
        self._log = log
        self._arrived = arrived
        self._listeners: list[socket.socket] = []
        self._strangers: set[int] = set()

    def take_now(self) -> bool:
        """Begin to listen if nobody else does; whether it is so."""
        if self._try() is not None:
            return False
        self._listen()
        return True

    async def take(self) -> None:
        """Wait for the turn and begin to listen; each guard before us is waited for by its end."""
        while (blocker := self._try()) is not None:
            await process_end(blocker)
        self._listen()

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            loop.add_reader(listener, self._accept, listener)
        if not self._listeners:
            self._log(Level.ERROR, "this guard can be asked nowhere; iscsid will begin from /run and sysfs instead")

    def close(self) -> None:
        """Listen no more, and let the next one have the place."""
        for listener in self._listeners:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
        self._listeners.clear()
        self._rights.release(Right.PLACE)

    def _try(self) -> int | None:
        """Listen, or the process whose end is to be waited for first (0: it cannot be told which)."""
        if not self._rights.claim(Right.PLACE):
            return self._rights.holder(Right.PLACE) or 0
        blocker = self._take_name()
        if blocker is not None:
            return blocker
        if self._rights.kept:
            try:
                # Ours is the place, so whatever is left of that name is of a dead one.
                self._path.unlink(missing_ok=True)
                self._listeners.append(_listening(str(self._path)))
            except OSError as error:
                self._log(Level.WARNING, f"{self._path}: no second socket there: {error.strerror or error}")
        return None

    def _take_name(self) -> int | None:
        """Listen at the abstract name; the process to wait for when it is one of root's that has it (0: it cannot be
        told which). None also when somebody else has it: then the folder has to do, and it is said.
        """
        who = "somebody"
        # Twice: a guard on its way out may have had the name when we wanted it and lost it when we asked who has it.
        for _ in range(2):
            try:
                self._listeners.append(_listening(f"\0{self._name}"))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    self._log(
                        Level.WARNING, f"no abstract socket @{self._name}: {error.strerror}; {self._path} has to do"
                    )
                    return None
            else:
                return None
            try:
                with _connected(f"\0{self._name}") as sock:
                    pid, user = peer_of(sock)
            except OSError:
                continue  # bound, and nobody listens
            if trusted(user):
                return pid
            who = f"process {pid} of user {user}"
            break
        if who == "somebody" and not self._rights.kept:
            return 0
        self._log(
            Level.WARNING,
            f"{who} sits on the abstract socket @{self._name}; this guard listens at {self._path} instead;"
            " next: end that process",
        )
        return None

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError, InterruptedError):
            return
        except OSError as error:
            # No descriptor or no memory left. The connection stays, so the loop would come back at once for ever.
            self._log(Level.WARNING, f"a connection cannot be taken: {error.strerror}; again in {AGAIN_SECONDS:g} s")
            loop = asyncio.get_running_loop()
            loop.remove_reader(listener)
            loop.call_later(AGAIN_SECONDS, self._listen_again, listener)
            return
        pid, user = peer_of(sock)
        if trusted(user):
            self._arrived(sock, pid)
            return
        sock.close()
        if user not in self._strangers and len(self._strangers) < BACKLOG:
            self._strangers.add(user)
            self._log(Level.WARNING, f"process {pid} of user {user} asked for the sessions and got no answer")

    def _listen_again(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)


def reach(*, run: Path, name: str, log: Log) -> tuple[socket.socket, int] | None:
    """A connection to the guard that listens, and its process; None when there is none."""
    for address in (f"\0{name}", str(run / SOCKET)):
        try:
            sock = _connected(address)
        except (ConnectionRefusedError, FileNotFoundError):
            continue
        except OSError as error:
            # EAGAIN: its queue is full of others' connections.
            log(Level.WARNING, f"{_shown(address)}: {error.strerror or error}")
            continue
        pid, user = peer_of(sock)
        if trusted(user):
            return sock, pid
        sock.close()
        log(
            Level.WARNING,
            f"process {pid} of user {user} sits on {_shown(address)}, where root's guard should be; it is not asked",
        )
    return None


def _connected(address: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


def _listening(address: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.bind(address)
        if not address.startswith("\0"):
            # Before listen(): nobody connects to a socket that does not listen.
            Path(address).chmod(0o600)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _shown(address: str) -> str:
    return f"@{address[1:]}" if address.startswith("\0") else address
