# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where log lines can go without waiting: syslog's socket, standard error whatever it is, the kernel's log.

Each sink takes a line or says that it does not now, or that it is not there. None blocks:

* syslog: a datagram with MSG_DONTWAIT. No time in it: syslogd puts its own, and ours would need /etc/localtime.
* a stream that is a socket (systemd's journal): MSG_DONTWAIT. A pipe or terminal: opened a second time, non-blocking,
  since O_NONBLOCK on the descriptor we were given would change it for those we share it with. A regular file knows no
  such thing and may lie on the disk that is gone: a child writes it and waits in our place.
* ``/dev/kmsg`` knows no such thing either. Who writes there may have to print to the consoles what everybody has
  written (vprintk_emit, console_unlock; consoles with a thread of their own are few), and a serial line held by its
  flow control takes up to a second a character (wait_for_xmitr of the 8250). So a child writes there, too.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import stat
from collections.abc import Container, Set
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import NoReturn, Protocol

from iscsiboot.keeper.hygiene import close_descriptors, set_comm, set_title
from iscsiboot.keeper.log import Level
from iscsiboot.session.forking import ENDING_SIGNALS, fork

SYSLOG = Path("/dev/log")
KMSG = Path("/dev/kmsg")
_FACILITY_DAEMON = 3 << 3
_KMSG_BYTES = 976
"""LOG_LINE_MAX of kernel/printk: one more is EINVAL."""
_STREAM_BYTES = 4000
"""Below PIPE_BUF: a pipe takes such a line whole or not at all."""
ALL_LEVELS = frozenset(Level)
SCRIBE = "@iscsiboot-log"
"""Who writes to the kernel's log for a guard. It holds no disk, so it may stay as long as the guard at a shutdown."""


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
    """The kernel's log, for who is up before syslog: ``ident: text``, cut to what a record holds.

    Forks: to be made while that costs nothing, and before memory is locked, which gives each of the two its own. A
    child that was killed is made anew when a line is offered again.
    """

    def __init__(self, ident: str, *, path: Path = KMSG) -> None:
        self._ident = ident
        self._child = 0
        self._out: int | None = None
        self._descriptor: int | None
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self._descriptor = None
        else:
            os.set_blocking(self._descriptor, True)
            self._hire()

    def write(self, level: Level, line: str) -> Took:
        """One record; where the kernel's log may not be written, lines are taken and forgotten."""
        if self._descriptor is None:
            return Took.YES
        if self._out is None:
            self._hire()
        if self._out is None:
            return Took.GONE
        text = f"<{_FACILITY_DAEMON | level}>{self._ident}: {line}"
        try:
            _send(self._out, text.encode("utf-8", "replace")[:_KMSG_BYTES])
        except BlockingIOError:
            return Took.NOT_NOW
        except OSError:
            self._dismiss()
            return Took.GONE
        return Took.YES

    def fileno(self) -> int | None:
        """The way to the child, when there is one."""
        return self._out

    def close(self) -> None:
        """The child writes what it has been given, and ends."""
        self._dismiss()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _hire(self) -> None:
        self._reap()
        if self._descriptor is not None and not self._child:
            self._out, self._child = _scribe(self._descriptor, title=SCRIBE)

    def _dismiss(self) -> None:
        if self._out is not None:
            os.close(self._out)
            self._out = None
        self._reap()

    def _reap(self) -> None:
        """Without waiting: one that hangs in a console ends when that lets it go, and no second one hangs beside it."""
        if self._child:
            try:
                ended, _ = os.waitpid(self._child, os.WNOHANG)
            except ChildProcessError:
                ended = self._child  # of the process we were forked from
            if ended:
                self._child = 0


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
    return _scribe(descriptor)[0], True


def _scribe(descriptor: int, *, title: str = "") -> tuple[int | None, int]:
    """A child that writes to ``descriptor`` what it is sent, and ends with the last who could send.

    The way to it and its number; None and 0 when no process can be made. ``title``: what it is called in ``ps``.
    """
    try:
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError:
        return None, 0

    def live(_: Set[int]) -> NoReturn:
        ours.close()
        _write_for_ever(its, descriptor, title)

    with its:
        try:
            pid = fork(live)
        except OSError:
            ours.close()
            return None, 0
    return ours.detach(), pid


def _write_for_ever(source: socket.socket, descriptor: int, title: str) -> NoReturn:
    """The whole life of the child. What ends its parent does not end it: the last lines are the ones that matter."""
    try:
        # It shares its parent's heap: a collection would make a copy of all of it.
        gc.disable()
        for number in ENDING_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
        if title:
            with suppress(OSError, ValueError):
                set_comm(title.removeprefix("@"))
                set_title((title,))
        close_descriptors({descriptor, source.fileno()})
        while data := source.recv(1 << 16):
            # A file system that is full, a record the kernel does not take: the line is lost, and the next one counts.
            with suppress(OSError):
                os.write(descriptor, data)
    finally:
        os._exit(0)
