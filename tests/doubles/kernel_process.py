# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel double as a process, so that daemons and guards that are killed one after the other have one kernel.

Each netlink socket is a SOCK_SEQPACKET connection to it; a datagram of the kernel's is one packet: an errno (0 for
none), then the bytes. A target's TCP port is in the same process. :class:`Remote` asks for what a test needs to know.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import struct
from collections import Counter
from pathlib import Path
from typing import Any

from iscsiboot.netlink.uapi import Param
from tests.doubles import iscsi_kernel
from tests.doubles.iscsi_kernel import FakeKernel, FakeTransport

INITIATOR = "iqn.2026-01.org.example:guest"
TARGET = "iqn.2026-01.org.example:disk"
_HEAD = struct.Struct("=i")
_PACKET_MAX = 1 << 16


class KernelProcess:
    """What runs in the process; :meth:`serve` never returns."""

    def __init__(self, root: Path, *, sessions: int) -> None:
        _let_foreign_descriptors_pass()
        _show_attributes_at_once(root / "fresh")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._selector = selectors.DefaultSelector()
        self._clients: dict[socket.socket, FakeTransport] = {}
        self._target = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._connections: list[socket.socket] = []
        self._breaks = 0
        self._kernel = FakeKernel(root)
        for _ in range(sessions):
            self._kernel.leftover(creator=991, connection="up", state="LOGGED_IN", params=self._params())
        # Last: who sees it finds everything in place.
        self._listener.bind(str(root / "kernel"))
        self._listener.listen(64)

    def _params(self) -> dict[Param, str]:
        return {
            Param.ISCSI_PARAM_TARGET_NAME: TARGET,
            Param.ISCSI_PARAM_INITIATOR_NAME: INITIATOR,
            Param.ISCSI_PARAM_IFACE_NAME: "default",
            Param.ISCSI_PARAM_PERSISTENT_ADDRESS: "127.0.0.1",
            Param.ISCSI_PARAM_PERSISTENT_PORT: str(self._target.getsockname()[1]),
            Param.ISCSI_PARAM_TPGT: "1",
        }

    def serve(self) -> None:
        """For ever."""
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._target, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj is self._target:
                    self._connections = [*self._connections[-1000:], self._target.accept()[0]]
                else:
                    self._hear(key.fileobj)
            for client, transport in tuple(self._clients.items()):
                self._deliver(client, transport)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        pid = struct.unpack("=iII", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        self._clients[client] = self._kernel.transport(pid)
        self._selector.register(client, selectors.EVENT_READ)

    def _hear(self, client: Any) -> None:
        try:
            packet = client.recv(_PACKET_MAX)
        except ConnectionResetError:
            packet = b""
        if not packet:
            self._selector.unregister(client)
            self._clients.pop(client).close()
            client.close()
        elif packet.startswith(b"{"):
            client.send(_HEAD.pack(0) + json.dumps(self._command(json.loads(packet))).encode())
        else:
            self._kernel.handle(packet, self._clients[client])

    def _deliver(self, client: socket.socket, transport: FakeTransport) -> None:
        while True:
            try:
                data, _ = transport.recvfrom(_PACKET_MAX, 0)
            except BlockingIOError:
                return
            try:
                client.send(_HEAD.pack(0) + data, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
            except OSError:
                continue  # dead, or it does not read: as netlink, the kernel drops

    def _command(self, command: dict[str, Any]) -> dict[str, Any]:
        if "break" in command:
            session = self._kernel.sessions[command["break"]]
            self._breaks += session.connection in ("bound", "up")
            self._kernel.break_connection(session.sid)
        count = Counter(request.type.name.removeprefix("ISCSI_UEVENT_") for request in self._kernel.requests)
        return {
            "breaks": self._breaks,
            "requests": dict(count),
            "sessions": {sid: [item.state, item.connection] for sid, item in self._kernel.sessions.items()},
        }


def _let_foreign_descriptors_pass() -> None:
    """BIND_CONN names a descriptor of the process that asks; the double looks for it in its own."""
    real = os.fstat

    def fstat(number: int) -> os.stat_result:
        try:
            return real(number)
        except OSError:
            return real(0)

    os.fstat = fstat  # type: ignore[assignment]  # in this process only


def _show_attributes_at_once(fresh: Path) -> None:
    """Nobody reads half an attribute of the kernel's; files have to be replaced for that."""

    def write(directory: Path, **attributes: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        for name, value in attributes.items():
            fresh.write_text(f"{value}\n")
            fresh.replace(directory / name)

    iscsi_kernel._write = write  # in this process only


class RemoteTransport:
    """A netlink socket to that kernel: the Transport of :class:`iscsiboot.netlink.socket.IscsiNetlink`."""

    def __init__(self, root: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        self._socket.connect(str(root / "kernel"))

    def fileno(self) -> int:
        return self._socket.fileno()

    def getsockname(self) -> tuple[int, int]:
        return os.getpid(), 1

    def sendto(self, data: bytes, address: tuple[int, int], /) -> int:
        assert address == (0, 0)
        return self._socket.send(data)

    def recvfrom(self, size: int, flags: int, /) -> tuple[bytes, tuple[int, int]]:
        packet = self._socket.recv(_PACKET_MAX, socket.MSG_DONTWAIT)
        if not packet:
            raise ConnectionRefusedError(111, "the kernel double is gone")
        return packet[_HEAD.size :][:size], (0, 0)

    def close(self) -> None:
        self._socket.close()


def ask_kernel(root: Path, **command: Any) -> dict[str, Any]:
    """How things are in that kernel, after ``command``: ``break`` = the session whose connection ends."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(str(root / "kernel"))
        sock.sendall(json.dumps(command or {"how": "are things"}).encode())
        while True:
            packet = sock.recv(_PACKET_MAX)[_HEAD.size :]
            if packet.startswith(b"{"):
                return dict(json.loads(packet))
