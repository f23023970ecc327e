# SPDX-License-Identifier: LGPL-2.1-or-later
"""The service manager's side: readiness and watchdog (sd_notify(3)), sockets it opened for us (sd_listen_fds(3)).

Nothing here waits. The manager may itself hang on the disk that is gone; what it cannot take now is kept, the newest
value of each variable, and sent when it can.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Mapping, MutableMapping

from iscsiboot.errors import ExitCode, IscsiBootError, Stage, printable

FIRST_DESCRIPTOR = 3
"""SD_LISTEN_FDS_START."""
_STATUS_CHARACTERS = 200


class Notifier:
    """Tells the service manager; without one, nothing is sent."""

    def __init__(self, address: str = "", *, watchdog_seconds: float | None = None) -> None:
        self.watchdog_seconds = watchdog_seconds
        """A sign of life is due at least this often; None when nobody waits for one."""
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket: socket.socket | None = None
        self._pending: dict[str, str] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waits = False
        self._last_status = ""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Notifier:
        """NOTIFY_SOCKET, WATCHDOG_USEC and, when it names somebody else, WATCHDOG_PID."""
        seconds: float | None = None
        usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        if _is_number(usec) and int(usec) > 0 and pid in ("", str(os.getpid())):
            seconds = int(usec) / 1e6
        return cls(environ.get("NOTIFY_SOCKET", ""), watchdog_seconds=seconds)

    @property
    def supervised(self) -> bool:
        """Whether somebody waits to be told."""
        return self._address.startswith(("/", "\0"))

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Send what could not be sent as soon as it can be; give signs of life from now on, at half the time."""
        self._loop = loop
        if self.watchdog_seconds is not None and self.supervised:
            self._live()
        self._send()

    def detach(self) -> None:
        """The loop ends."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wait(False)
        self._loop = None

    def ready(self, status: str = "") -> None:
        """The start, or the reading of the settings, is over."""
        self._put({"READY": "1", **self._status(status)})

    def status(self, text: str) -> None:
        """One line for ``systemctl status``; the same one again is not sent."""
        words = self._status(text)
        if words["STATUS"] != self._last_status:
            self._put(words)

    def reloading(self) -> None:
        """The settings are being read again; :meth:`ready` ends it. ``Type=notify-reload`` wants the time."""
        self._put({"RELOADING": "1", "MONOTONIC_USEC": str(time.monotonic_ns() // 1000)})

    def stopping(self) -> None:
        """The end begins."""
        self._put({"STOPPING": "1"})

    def extended(self, text: str, seconds: float) -> None:
        """Whatever is under way, a start or an end, takes ``seconds`` more; ``text`` as for :meth:`status`."""
        self._put({**self._status(text), "EXTEND_TIMEOUT_USEC": str(int((seconds + 5) * 1e6))})

    def main_process(self, pid: int) -> None:
        """Another process is the service now."""
        self._put({"MAINPID": str(pid)})

    def close(self) -> None:
        """Send nothing any more."""
        self.detach()
        self._disconnect()
        self._address = ""

    def _status(self, text: str) -> dict[str, str]:
        return {"STATUS": printable(text[:_STATUS_CHARACTERS])} if text else {}

    def _live(self) -> None:
        if self._loop is not None and self.watchdog_seconds is not None:
            self._timer = self._loop.call_later(self.watchdog_seconds / 2, self._live)
            self._put({"WATCHDOG": "1"})

    def _put(self, values: Mapping[str, str]) -> None:
        if "READY" in values:
            self._pending.pop("RELOADING", None)
        self._last_status = values.get("STATUS", self._last_status)
        self._pending |= values
        self._send()

    def _send(self) -> None:
        if not self.supervised or not self._pending:
            self._wait(False)
            return
        text = "\n".join(f"{name}={value}" for name, value in self._pending.items())
        try:
            self._connected().send(text.encode())
        except BlockingIOError:
            self._wait(True)
        except OSError:
            # Nobody is there (a manager that starts itself anew): what is pending goes with the next message.
            self._wait(False)
            self._disconnect()
        else:
            self._pending.clear()
            self._wait(False)

    def _connected(self) -> socket.socket:
        """Connected, since only then the socket tells when its receiver has room."""
        if self._socket is None:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
            try:
                made.connect(self._address)
            except OSError:
                made.close()
                raise
            self._socket = made
        return self._socket

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _wait(self, wanted: bool) -> None:
        """The loop calls :meth:`_send` when the socket can be written to, or does not any more."""
        if self._loop is None or self._socket is None or wanted == self._waits:
            return
        if wanted:
            self._loop.add_writer(self._socket.fileno(), self._send)
        else:
            self._loop.remove_writer(self._socket.fileno())
        self._waits = wanted


def listening_socket(environ: Mapping[str, str]) -> socket.socket | None:
    """The one socket a service manager listens on for us; None when it hands over none.

    IscsiBootError when it hands over another number of sockets, or something else than a listening stream socket.
    """
    count, pid = environ.get("LISTEN_FDS", ""), environ.get("LISTEN_PID", "")
    if not count or pid != str(os.getpid()):
        return None
    if count != "1":
        raise _unfit("Did not receive exactly one IPC socket from systemd")
    try:
        handed = socket.socket(fileno=FIRST_DESCRIPTOR)
    except OSError as error:
        raise _unfit(f"the socket of the service manager cannot be used: {error.strerror}") from error
    kind = (handed.family, handed.type)
    if kind != (socket.AF_UNIX, socket.SOCK_STREAM) or not handed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        handed.detach()
        raise _unfit("the service manager's socket is no listening stream socket of AF_UNIX")
    handed.set_inheritable(False)
    handed.setblocking(False)
    return handed


def forget(environ: MutableMapping[str, str]) -> None:
    """Take the manager's variables out: a program we start is not the service."""
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
        environ.pop(name, None)


def _unfit(cause: str) -> IscsiBootError:
    return IscsiBootError(
        cause,
        stage=Stage.DAEMON,
        subject="socket activation",
        hint="iscsid.socket has one ListenStream=@ISCSIADM_ABSTRACT_NAMESPACE",
        exit_code=ExitCode.ERR,
    )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
