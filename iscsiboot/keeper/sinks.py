# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where log lines can go without waiting: syslog's socket, standard error whatever it is, the kernel's log.

Each sink takes a line or says that it does not now, or that it is not there. None blocks:

* syslog: a datagram with MSG_DONTWAIT. No time in it: syslogd puts its own, and ours would need /etc/localtime.
* a stream that is a socket (systemd's journal): MSG_DONTWAIT. A pipe or terminal: opened a second time, non-blocking,
  since O_NONBLOCK on the descriptor we were given would change it for those we share it with. A regular file knows no
  such thing and may lie on the disk that is gone: a child writes it and waits in our place.
* ``/dev/kmsg`` never waits (Documentation/ABI/testing/dev-kmsg).
"""

from __future__ import annotations

import os
import signal
import socket
import stat
from collections.abc import Container
from enum import Enum
from pathlib import Path
from typing import Protocol

from iscsiboot.keeper.hygiene import close_descriptors
from iscsiboot.keeper.log import Level

SYSLOG = Path("/dev/log")
KMSG = Path("/dev/kmsg")
_FACILITY_DAEMON = 3 << 3
_KMSG_BYTES = 976
"""LOG_LINE_MAX of kernel/printk: one more is EINVAL."""
_STREAM_BYTES = 4000
"""Below PIPE_BUF: a pipe takes such a line whole or not at all."""
ALL_LEVELS = frozenset(Level)


class Took(Enum):
    """What a sink says to a line."""

    YES = "yes"
    NOT_NOW = "not now"
    """When its descriptor is writable, if it has one."""
    GONE = "gone"
    """Nobody is there, or it failed; after a while."""


class Sink(Protocol):
    """Takes lines, never blocks, never raises."""

    def write(self, level: Level, line: str) -> Took:
        """One printable line."""

    def fileno(self) -> int | None:
        """What to wait on after NOT_NOW."""

    def close(self) -> None:
        """Close what was opened."""


class SyslogSink:
    """``/dev/log``: facility daemon, ``ident[pid]:``. Connects when it is written to, and again after a failure."""

    def __init__(self, ident: str, *, path: Path = SYSLOG) -> None:
        self._ident = ident
        self._path = path
        self._socket: socket.socket | None = None

    def write(self, level: Level, line: str) -> Took:
        """One datagram."""
        text = f"<{_FACILITY_DAEMON | level}>{self._ident}[{os.getpid()}]: {line}"
        try:
            if self._socket is None:
                self._socket = _connected(self._path)
            self._socket.send(text.encode("utf-8", "replace"), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return Took.NOT_NOW
        except OSError:
            self.close()
            return Took.GONE
        return Took.YES

    def fileno(self) -> int | None:
        """The socket, when connected."""
        return None if self._socket is None else self._socket.fileno()

    def close(self) -> None:
        """Disconnect."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class KmsgSink:
    """The kernel's log, for who is up before syslog: ``ident: text``, cut to what a record holds."""

    def __init__(self, ident: str, *, path: Path = KMSG) -> None:
        self._ident = ident
        self._descriptor: int | None
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self._descriptor = None

    def write(self, level: Level, line: str) -> Took:
        """One record; where the kernel's log may not be written, lines are taken and forgotten."""
        if self._descriptor is None:
            return Took.YES
        text = f"<{_FACILITY_DAEMON | level}>{self._ident}: {line}"
        try:
            os.write(self._descriptor, text.encode("utf-8", "replace")[:_KMSG_BYTES])
        except OSError:
            return Took.GONE
        return Took.YES

    def fileno(self) -> int | None:
        """Nothing to wait on."""
        return None

    def close(self) -> None:
        """Close it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class StreamSink:
    """Standard error or output. ``journal``: levels as systemd's journal reads them from a stream, ``<3>text``.

    Lines of other ``levels`` than its own are taken and forgotten, so that two streams can share a ring. May fork, for
    a regular file: to be made while that costs nothing.
    """

    def __init__(
        self, descriptor: int = 2, *, ident: str = "", journal: bool = False, levels: Container[Level] = ALL_LEVELS
    ) -> None:
        self._prefix = f"{ident}: " if ident else ""
        self._journal = journal
        self._levels = levels
        self._rest = b""
        self._out, self._is_socket = _without_waiting(descriptor)

    def write(self, level: Level, line: str) -> Took:
        """One line. A terminal may take half of it: the rest goes first next time."""
        if level not in self._levels:
            return Took.YES
        if self._out is None:
            return Took.YES
        took = self._put(self._rest) if self._rest else Took.YES
        if took is not Took.YES or self._rest:
            return Took.NOT_NOW if took is Took.YES else took
        text = (f"<{level:d}>" if self._journal else "") + self._prefix + line
        return self._put(text.encode("utf-8", "replace")[:_STREAM_BYTES] + b"\n")

    def fileno(self) -> int | None:
        """What to wait on."""
        return self._out

    def close(self) -> None:
        """Close what was opened here; the stream itself stays."""
        if self._out is not None:
            os.close(self._out)
            self._out = None

    def _put(self, data: bytes) -> Took:
        if self._out is None:
            return Took.YES
        try:
            if self._is_socket:
                sent = _send(self._out, data)
            else:
                sent = os.write(self._out, data)
        except BlockingIOError:
            return Took.NOT_NOW
        except OSError:
            self._rest = b""
            return Took.GONE
        self._rest = data[sent:]
        return Took.YES


def _connected(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        made.connect(str(path))
    except OSError:
        made.close()
        raise
    return made


def _send(descriptor: int, data: bytes) -> int:
    """send(2) with MSG_DONTWAIT on a descriptor that stays ours."""
    borrowed = socket.socket(fileno=descriptor)
    try:
        return borrowed.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    finally:
        borrowed.detach()


def _without_waiting(descriptor: int) -> tuple[int | None, bool]:
    """A descriptor that leads to the same place and can be written without waiting, and whether it is a socket.

    None where there is no such place at all.
    """
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return None, False
    if stat.S_ISSOCK(mode):
        return os.dup(descriptor), True
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        try:
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
            return os.open(f"/proc/self/fd/{descriptor}", flags), False
        except OSError:
            pass  # another user's terminal, no /proc
    return _scribe(descriptor), True


def _scribe(descriptor: int) -> int | None:
    """A child that writes to ``descriptor`` what it is sent, and ends with the last who could send."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            return None
        if pid == 0:
            ours.close()
            _write_for_ever(its, descriptor)
    return ours.detach()


def _write_for_ever(source: socket.socket, descriptor: int) -> None:
    """The whole life of the child. What ends its parent does not end it: the last lines are the ones that matter."""
    try:
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        close_descriptors({descriptor, source.fileno()})
        while data := source.recv(1 << 16):
            os.write(descriptor, data)
    finally:
        os._exit(0)
