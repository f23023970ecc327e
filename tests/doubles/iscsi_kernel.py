# SPDX-License-Identifier: LGPL-2.1-or-later
"""The iSCSI side of a kernel, in memory: answers NETLINK_ISCSI requests and shows its sessions in a tree like sysfs.

It keeps the order the real one insists on (what that one answers EINVAL, EBUSY or ENOTCONN, this one does too), so a
plan in the wrong order fails here as it would there. The login is answered by a :class:`LoginTarget`, disks appear by
:meth:`FakeKernel.scan`. Faults are injected by the number of the request, counted from 1.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from iscsiboot.model.lun import Lun
from iscsiboot.netlink.messages import Request
from iscsiboot.netlink.uapi import (
    BHS_SIZE,
    NLMSGHDR,
    UEVENT_HEAD,
    KEvent,
    Param,
    StopFlag,
    UEvent,
)

HANDLE = 0xFFFFFFFFC0AB1230
PORT = 4045484847
"""A port id the kernel made up: above 2**31, so it shows as a negative number in sysfs."""

Pdu = tuple[bytes, bytes]

_USES = frozenset(
    {UEvent.ISCSI_UEVENT_BIND_CONN, UEvent.ISCSI_UEVENT_START_CONN, UEvent.ISCSI_UEVENT_SEND_PDU},
)
"""What a connection that is being cleaned up is not used for."""

_SHOWN = frozenset(
    {
        Param.ISCSI_PARAM_TARGET_NAME,
        Param.ISCSI_PARAM_INITIATOR_NAME,
        Param.ISCSI_PARAM_IFACE_NAME,
        Param.ISCSI_PARAM_TPGT,
        Param.ISCSI_PARAM_PERSISTENT_ADDRESS,
        Param.ISCSI_PARAM_PERSISTENT_PORT,
        Param.ISCSI_PARAM_SESS_RECOVERY_TMO,
        Param.ISCSI_PARAM_PING_TMO,
        Param.ISCSI_PARAM_RECV_TMO,
    }
)
"""The parameters the tree shows; only they are worth writing it anew."""


def login_response(
    request: bytes, text: bytes = b"", *, status: tuple[int, int] = (0, 0), flags: int | None = None, statsn: int = 7
) -> Pdu:
    """A Login Response (RFC 7143 section 11.13) to the header ``request``; by default it grants what was asked."""
    bhs = bytearray(BHS_SIZE)
    bhs[0], bhs[1] = 0x23, request[1] if flags is None else flags
    bhs[5:8] = len(text).to_bytes(3, "big")
    bhs[8:14] = request[8:14]
    bhs[14:16] = (1).to_bytes(2, "big")
    bhs[16:20] = request[16:20]
    bhs[24:36] = struct.pack(">III", statsn, 1, 32)
    bhs[36:38] = bytes(status)
    return bytes(bhs), text + bytes(-len(text) % 4)


def granting(bhs: bytes, data: bytes) -> list[Pdu]:
    """A target that lets everybody in."""
    return [login_response(bhs, b"TargetPortalGroupTag=3\0MaxRecvDataSegmentLength=8192\0")]


def hesitating() -> Callable[[bytes, bytes], list[Pdu]]:
    """A target that asks for one request more before it lets anybody in (the T bit stays off at first)."""
    asked: set[bytes] = set()

    def answer(bhs: bytes, _: bytes) -> list[Pdu]:
        if bhs[16:20] in asked:
            return [login_response(bhs, statsn=8)]
        asked.add(bhs[16:20])
        text = b"TargetPortalGroupTag=3\0MaxRecvDataSegmentLength=8192\0"
        return [login_response(bhs, text, flags=bhs[1] & 0x7C)]

    return answer


def logout_response(response: int = 0) -> Pdu:
    """A Logout Response (RFC 7143 section 11.15)."""
    bhs = bytearray(BHS_SIZE)
    bhs[0], bhs[1], bhs[2] = 0x26, 0x80, response
    return bytes(bhs), b""


def async_message(event: int, p1: int = 0, p2: int = 0, p3: int = 0, data: bytes = b"") -> Pdu:
    """An Asynchronous Message (RFC 7143 section 11.9)."""
    bhs = bytearray(BHS_SIZE)
    bhs[0], bhs[1] = 0x32, 0x80
    bhs[5:8] = len(data).to_bytes(3, "big")
    bhs[16:20] = b"\xff" * 4
    bhs[36] = event
    bhs[38:44] = struct.pack(">HHH", p1, p2, p3)
    return bytes(bhs), data + bytes(-len(data) % 4)


def redirecting(address: str) -> Callable[[bytes, bytes], list[Pdu]]:
    """A target that sends everybody to ``address``."""
    return lambda bhs, data: [login_response(bhs, f"TargetAddress={address}\0".encode(), status=(1, 1))]


def refusing(status: tuple[int, int]) -> Callable[[bytes, bytes], list[Pdu]]:
    """A target that refuses every login."""
    return lambda bhs, data: [login_response(bhs, status=status)]


@dataclass
class FakeSession:
    """A session of the fake."""

    sid: int
    host: int
    creator: int
    state: str = "FREE"
    connection: str | None = None
    """None, ``down``, ``failed``, ``bound`` or ``up``."""
    cleaning: bool = False
    """The kernel has begun to clean a failed connection up (ISCSI_CLS_CONN_BIT_CLEANUP): until STOP_CONN, nothing
    that would use the connection is taken."""
    exp_statsn: int = 0
    logged: bool = False
    """A login request went out on this connection."""
    set_by_hand: bool = False
    """``recovery_tmo`` was written in sysfs: SET_PARAM does not change it any more."""
    params: dict[Param, str] = field(default_factory=dict)
    units: dict[Lun, tuple[int, str | None]] = field(default_factory=dict)
    """LUN to SCSI type and block device."""


class FakeKernel:
    """Everything; :meth:`transport` gives one socket to it."""

    def __init__(self, root: Path) -> None:
        self.sysfs, self.proc = root / "sys", root / "proc"
        self.sessions: dict[int, FakeSession] = {}
        self.requests: list[Request] = []
        self.target: Callable[[bytes, bytes], list[Pdu] | int] = granting
        """Answers a login PDU with PDUs, or with the number of a connection error."""
        self.logout: Callable[[bytes], list[Pdu] | int] = lambda bhs: [logout_response()]
        """Answers a Logout Request with PDUs (none: silence), or with the number of a connection error."""
        self.statistics: bytes = b""
        """What GET_STATS gives."""
        self.unbinds = True
        """Whether UNBIND_SESSION comes to its end."""
        self.on_unbind: list[bytes] = []
        """Events that come between."""
        self.luns: dict[Lun, tuple[int, str | None]] = {Lun.from_number(1): (0, "sda")}
        """What the target has: LUN to SCSI type and the block device the kernel makes."""
        self.unsent = 0
        """So many PDUs are not taken, because the connection failed a moment ago and its event is on the way."""
        self.held = 0
        """So many times the last login request is still in its place when the next one comes: it is not taken."""
        self.refuse: dict[int, int] = {}
        """Request number to the errno it is refused with, unseen by the kernel's logic."""
        self.interrupt: dict[int, BaseException] = {}
        """Request number to what is raised after the kernel has done it and before anybody reads the answer."""
        self.unknown_params: set[Param] = set()
        self.destroys_async = True
        """Whether this kernel knows DESTROY_SESSION_ASYNC (Linux 5.6)."""
        self.destroys = True
        """Whether such a removal comes to its end."""
        self.bind_answers: deque[int] = deque()
        """What the next BIND_CONNs answer in ``r.retcode``, as positive errnos; 0 does it."""
        self.stop_refusals: deque[int] = deque()
        """Errnos the next STOP_CONNs are refused with."""
        self.sockets: list[FakeTransport] = []
        self.foreign: tuple[int, ...] = ()
        """Port ids of other processes whose sockets stay open."""
        self._shown: dict[int, dict[Path, dict[str, str]]] = {}
        """What the tree shows of each session."""
        self._next_sid = 1
        self.lock = threading.RLock()
        """The kernel's own mutex: one request, one change of the tree at a time, whichever thread it comes from."""
        transport = self.sysfs / "class" / "iscsi_transport" / "tcp"
        transport.mkdir(parents=True)
        (transport / "handle").write_text(f"{HANDLE}\n")
        (transport / "caps").write_text("0x39\n")
        (self.proc / "net").mkdir(parents=True)
        (self.proc / "self" / "fd").mkdir(parents=True)
        self.show_ports()

    @property
    def names(self) -> list[str]:
        """The names of the requests so far, SET_PARAMs in a row as one."""
        names: list[str] = []
        for request in self.requests:
            name = request.type.name.removeprefix("ISCSI_UEVENT_")
            if not (names and names[-1] == name == "SET_PARAM"):
                names.append(name)
        return names

    def transport(self, port: int = PORT) -> FakeTransport:
        """A socket with this port id."""
        with self.lock:
            made = FakeTransport(self, port)
            self.sockets.append(made)
            self.show_ports()
        return made

    def show_ports(self, *foreign: int) -> None:
        """Write ``net/netlink``: the open sockets of ours, and ``foreign`` ones of other processes."""
        with self.lock:
            lines = ["sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode"]
            own = [(made.port, made.inode) for made in self.sockets if not made.closed]
            # Forked processes share this tree: each shows its own sockets under names of its own.
            for entry in (self.proc / "self" / "fd").glob(f"{os.getpid()}-*"):
                entry.unlink()
            for number, (_, inode) in enumerate(own):
                (self.proc / "self" / "fd" / f"{os.getpid()}-{number}").symlink_to(f"socket:[{inode}]")
            for port, inode in [(0, 1), *own, *((port, 9000) for port in (*self.foreign, *foreign))]:
                groups = "00000001" if port else "00000000"
                lines.append(
                    f"0000000047234a66 8   {port:<10} {groups} 0        0        0     2        0        {inode}"
                )
            fresh = self.proc / "net" / f"fresh{os.getpid()}"
            fresh.write_text("\n".join(lines) + "\n")
            fresh.rename(self.proc / "net" / "netlink")

    def leftover(self, *, creator: int, **changes: object) -> FakeSession:
        """A session a process left behind."""
        session = self._create(creator)
        for name, value in changes.items():
            setattr(session, name, value)
        self.show(session)
        return session

    # The kernel's side of the requests.

    def handle(self, message: bytes, sender: FakeTransport) -> None:
        """Do one request and queue its answer."""
        with self.lock:
            self._handle(message, sender)

    def _handle(self, message: bytes, sender: FakeTransport) -> None:
        request = Request.unpack(message)
        self.requests.append(request)
        number = len(self.requests)
        refusal = self.refuse.get(number)
        if refusal is None:
            try:
                first, second, after = self._do(request, sender.port)
            except OSError as error:
                refusal = error.errno
            else:
                if request.type is not UEvent.ISCSI_UEVENT_GET_STATS:
                    sender.answer(request, first, second)
                for event in after:
                    self.multicast(event)
        if refusal is not None:
            sender.refuse(request, refusal)
        if number in self.interrupt:
            raise self.interrupt[number]

    def _do(self, request: Request, port: int) -> tuple[int, int, list[bytes]]:
        if request.handle != HANDLE:
            raise OSError(errno.EINVAL, "no such transport")
        if request.type is UEvent.ISCSI_UEVENT_CREATE_SESSION:
            made = self._create(port)
            return made.sid, made.host, [kernel_event(KEvent.ISCSI_KEVENT_CREATE_SESSION, made.sid, made.host)]
        if request.type is UEvent.ISCSI_UEVENT_SET_HOST_PARAM:
            return 0, 0, []
        session = self.sessions.get(request.args[0])
        if session is None:
            raise OSError(errno.EINVAL, "no such session")
        if request.type is UEvent.ISCSI_UEVENT_CREATE_CONN:
            session.connection = "down"
            self.show(session)
            return session.sid, request.args[1], []
        if request.type in (UEvent.ISCSI_UEVENT_DESTROY_SESSION, UEvent.ISCSI_UEVENT_DESTROY_SESSION_ASYNC):
            if request.type is UEvent.ISCSI_UEVENT_DESTROY_SESSION_ASYNC and not self.destroys_async:
                raise OSError(errno.ENOSYS, "unknown")
            if session.connection is not None:
                raise OSError(errno.EBUSY, "it has a connection")
            if not self.destroys:
                return 0, 0, []
            return 0, 0, [self._remove(session)]
        if request.type is UEvent.ISCSI_UEVENT_UNBIND_SESSION:
            session.units.clear()
            self.show(session)
            ended = kernel_event(KEvent.ISCSI_KEVENT_UNBIND_SESSION, session.sid, session.host)
            return 0, 0, [*self.on_unbind, *([ended] if self.unbinds else [])]
        if session.connection is None:
            raise OSError(errno.EINVAL, "no such connection")
        return self._do_connection(request, session)

    def _remove(self, session: FakeSession) -> bytes:
        del self.sessions[session.sid]
        self._hide(session)
        return kernel_event(KEvent.ISCSI_KEVENT_DESTROY_SESSION, session.host, session.sid)

    def _do_connection(self, request: Request, session: FakeSession) -> tuple[int, int, list[bytes]]:
        bound = session.connection in ("bound", "up")
        if session.cleaning and request.type in _USES:
            return -errno.ENOTCONN & 0xFFFFFFFF, 0, []
        match request.type:
            case UEvent.ISCSI_UEVENT_BIND_CONN:
                if answer := self.bind_answers.popleft() if self.bind_answers else 0:
                    return -answer & 0xFFFFFFFF, 0, []
                os.fstat(request.args[2])
                session.connection = "bound"
                session.logged = False
            case UEvent.ISCSI_UEVENT_SET_PARAM:
                param = Param(request.args[2])
                if param in self.unknown_params:
                    raise OSError(errno.ENOSYS, "unknown")
                if not bound and param is not Param.ISCSI_PARAM_SESS_RECOVERY_TMO:
                    raise OSError(errno.ENOTCONN, "not bound")
                value = request.data[:-1].decode()
                if param is Param.ISCSI_PARAM_SESS_RECOVERY_TMO and session.set_by_hand:
                    return 0, 0, []
                before = session.params.get(param)
                session.params[param] = value
                if param not in _SHOWN or value == before:
                    return 0, 0, []
            case UEvent.ISCSI_UEVENT_GET_STATS:
                return 0, 0, [statistics_event(session.sid, request.args[1], self.statistics)]
            case UEvent.ISCSI_UEVENT_SEND_PDU if session.logged and self.held:
                self.held -= 1
                return -errno.EPERM & 0xFFFFFFFF, 0, []
            case UEvent.ISCSI_UEVENT_SEND_PDU if self.unsent:
                self.unsent -= 1
                return -errno.EPERM & 0xFFFFFFFF, 0, []
            case UEvent.ISCSI_UEVENT_SEND_PDU:
                session.logged = bound
                return 0 if bound else -errno.ENOTCONN & 0xFFFFFFFF, 0, self._login(request, session)
            case UEvent.ISCSI_UEVENT_START_CONN:
                if Param.ISCSI_PARAM_MAX_XMIT_DLENGTH not in session.params:
                    return -errno.EINVAL & 0xFFFFFFFF, 0, []
                session.connection, session.state = "up", "LOGGED_IN"
            case UEvent.ISCSI_UEVENT_STOP_CONN:
                if self.stop_refusals:
                    raise OSError(self.stop_refusals.popleft(), "refused")
                recover = request.args[3] == StopFlag.STOP_CONN_RECOVER
                session.connection = "failed" if recover else "down"
                session.cleaning = session.cleaning and not recover
                if session.state == "LOGGED_IN" and recover:
                    session.state = "FAILED"
            case UEvent.ISCSI_UEVENT_DESTROY_CONN:
                session.connection = None
        self.show(session)
        return 0, 0, []

    def _login(self, request: Request, session: FakeSession) -> list[bytes]:
        bhs, data = request.data[:BHS_SIZE], request.data[BHS_SIZE:]
        answer = self.logout(bhs) if bhs[0] & 0x3F == 0x06 else self.target(bhs, data)
        if isinstance(answer, int):
            return [kernel_event(KEvent.ISCSI_KEVENT_CONN_ERROR, session.sid, 0, answer)]
        return [
            kernel_event(KEvent.ISCSI_KEVENT_RECV_PDU, session.sid, 0, data=header + text) for header, text in answer
        ]

    # What happens by itself.

    def break_connection(self, sid: int, error: int = 1020, *, told: bool = True, shown: bool = True) -> None:
        """The kernel gives a connection up. ``told``: by its event. ``shown``: in sysfs, which is later than the event
        (:meth:`show_break` does it then).
        """
        with self.lock:
            session = self.sessions[sid]
            if session.connection not in ("bound", "up"):
                return
            session.cleaning = True
            if shown:
                self.show_break(sid)
            if told:
                self.multicast(kernel_event(KEvent.ISCSI_KEVENT_CONN_ERROR, sid, 0, error))

    def show_break(self, sid: int) -> None:
        """The work queue has stopped the connection that failed."""
        with self.lock:
            session = self.sessions[sid]
            session.state = "FAILED" if session.state == "LOGGED_IN" else session.state
            session.connection = "failed"
            self.show(session)

    def say(self, sid: int, *pdus: Pdu) -> None:
        """The target sends PDUs that user space gets to see."""
        for header, text in pdus:
            self.multicast(kernel_event(KEvent.ISCSI_KEVENT_RECV_PDU, sid, 0, data=header + text))

    def vanish(self, sid: int, *, told: bool = True) -> None:
        """Somebody else removes a session."""
        with self.lock:
            event = self._remove(self.sessions[sid])
            if told:
                self.multicast(event)

    def overflow(self) -> None:
        """Every open socket has lost events."""
        for made in self.sockets:
            made.deliver(errno.ENOBUFS)

    def multicast(self, event: bytes) -> None:
        """Tell every open socket."""
        for made in self.sockets:
            made.deliver(event)

    def scan(self, sysfs: Path, host: int, lun: Lun | None) -> None:
        """What writing to ``scan`` does; stands in for :func:`iscsiboot.sysfs.disks.scan_host`."""
        with self.lock:
            for session in self.sessions.values():
                if session.host == host and session.state == "LOGGED_IN":
                    session.units |= {found: unit for found, unit in self.luns.items() if lun in (None, found)}
                    self.show(session)

    # The tree.

    def _create(self, creator: int) -> FakeSession:
        session = FakeSession(sid=self._next_sid, host=self._next_sid + 10, creator=creator)
        self._next_sid += 1
        self.sessions[session.sid] = session
        self.show(session)
        return session

    def _paths(self, session: FakeSession) -> tuple[Path, Path, Path, Path]:
        device = self.sysfs / "devices" / "platform" / f"host{session.host}" / f"session{session.sid}"
        name = f"connection{session.sid}:0"
        classes = self.sysfs / "class"
        return (
            device,
            classes / "iscsi_session" / f"session{session.sid}",
            classes / "iscsi_connection" / name,
            classes / "scsi_host" / f"host{session.host}",
        )

    def show(self, session: FakeSession) -> None:
        """Bring the tree up to date for one session: what changed is written, all of it when its parts are others."""
        tree = self._tree(session)
        before = self._shown.get(session.sid, {})
        if tree.keys() != before.keys() or not all(path.exists() for path in tree):
            self._hide(session)
            before = {}
            self._lay_out(session)
        for folder, attributes in tree.items():
            if before.get(folder) != attributes:
                _write(folder, **attributes)
        self._shown[session.sid] = tree

    def _tree(self, session: FakeSession) -> dict[Path, dict[str, str]]:
        """Folders and their attributes."""
        device, link, connection, host = self._paths(session)
        params = session.params
        tree = {
            device / "iscsi_session" / link.name: {
                "targetname": params.get(Param.ISCSI_PARAM_TARGET_NAME, "(null)"),
                "initiatorname": params.get(Param.ISCSI_PARAM_INITIATOR_NAME, "(null)"),
                "ifacename": params.get(Param.ISCSI_PARAM_IFACE_NAME, "(null)"),
                "tpgt": params.get(Param.ISCSI_PARAM_TPGT, "0"),
                "username": params.get(Param.ISCSI_PARAM_USERNAME, "(null)"),
                "state": session.state,
                "creator": str(session.creator - (1 << 32) if session.creator >= 1 << 31 else session.creator),
                "recovery_tmo": _tmo(params.get(Param.ISCSI_PARAM_SESS_RECOVERY_TMO, "120")),
                "initial_r2t": "0",
            },
            host: {"proc_name": "iscsi_tcp", "state": "running", "scan": ""},
        }
        for lun, (kind, block) in session.units.items():
            if block:
                tree[self._unit(session, lun) / "block" / block] = {}
            tree[self._unit(session, lun)] = {
                "type": str(kind),
                "state": "running",
                "vendor": "IET     ",
                "model": "VIRTUAL-DISK    ",
                "rescan": "",
                "queue_depth": "1",
            }
        if session.connection is not None:
            tree[connection] = {
                "state": session.connection,
                "persistent_address": params.get(Param.ISCSI_PARAM_PERSISTENT_ADDRESS, "(null)"),
                "persistent_port": params.get(Param.ISCSI_PARAM_PERSISTENT_PORT, "0"),
                "exp_statsn": str(session.exp_statsn),
                "ping_tmo": params.get(Param.ISCSI_PARAM_PING_TMO, "0"),
                "recv_tmo": params.get(Param.ISCSI_PARAM_RECV_TMO, "0"),
                "max_recv_dlength": "262144",
                # What the kernel answers ENOTCONN to reads as nothing known.
                "address": "127.0.0.1" if session.connection in ("bound", "up") else "",
            }
        return tree

    def _unit(self, session: FakeSession, lun: Lun) -> Path:
        device = self._paths(session)[0]
        return device / f"target{session.host}:0:0" / f"{session.host}:0:0:{lun.kernel}"

    def _lay_out(self, session: FakeSession) -> None:
        """Links, and the folders of block devices."""
        device, link, _, _ = self._paths(session)
        attributes = device / "iscsi_session" / link.name
        attributes.mkdir(parents=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(attributes)
        (attributes / "device").symlink_to(device)
        for lun in session.units:
            unit = self._unit(session, lun)
            unit.mkdir(parents=True)
            by_address = self.sysfs / "bus" / "scsi" / "devices" / unit.name
            by_address.parent.mkdir(parents=True, exist_ok=True)
            by_address.unlink(missing_ok=True)
            by_address.symlink_to(unit)

    def _hide(self, session: FakeSession) -> None:
        device, link, connection, host = self._paths(session)
        for path in (device, connection, host):
            shutil.rmtree(path, ignore_errors=True)
        link.unlink(missing_ok=True)
        self._shown.pop(session.sid, None)


class FakeTransport:
    """A netlink socket of the fake kernel: answers wait in a queue, a socketpair makes it selectable."""

    def __init__(self, kernel: FakeKernel, port: int) -> None:
        self._kernel = kernel
        self.port = port
        self.closed = False
        self._queue: deque[tuple[bytes | int, int]] = deque()
        self._reader, self._writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.inode = os.fstat(self._reader.fileno()).st_ino

    def fileno(self) -> int:
        return self._reader.fileno()

    def getsockname(self) -> tuple[int, int]:
        return self.port, 1

    def sendto(self, data: bytes, address: tuple[int, int], /) -> int:
        assert address == (0, 0)
        self._kernel.handle(data, self)
        return len(data)

    def recvfrom(self, size: int, flags: int, /) -> tuple[bytes, tuple[int, int]]:
        if not self._queue:
            raise BlockingIOError(errno.EAGAIN, "empty")
        item, sender = self._queue.popleft()
        if not self._queue:
            self._reader.recv(1)
        if isinstance(item, int):
            raise OSError(item, os.strerror(item))
        return item[:size], (sender, 0)

    def deliver(self, item: bytes | int, sender: int = 0) -> None:
        """Queue a datagram, or an errno ``recvfrom`` fails with."""
        if not self.closed:
            # One byte stands for any number: a socketpair holds few.
            if not self._queue:
                self._writer.send(b"!")
            self._queue.append((item, sender))

    def answer(self, request: Request, first: int = 0, second: int = 0) -> None:
        self.deliver(_message(request.type, request.type, 0, first, second))

    def refuse(self, request: Request, number: int) -> None:
        self.deliver(_message(request.type, KEvent.ISCSI_KEVENT_IF_ERROR, -number & 0xFFFFFFFF, 0, 0))

    def close(self) -> None:
        with self._kernel.lock:
            self.closed = True
            self._reader.close()
            self._writer.close()
            self._kernel.show_ports()


def kernel_event(kind: int, first: int, second: int, third: int = 0, *, data: bytes = b"") -> bytes:
    """An event as the kernel sends it: nlmsg_type 0."""
    return _message(0, kind, 0, first, second, third, data)


def statistics_event(sid: int, cid: int, data: bytes) -> bytes:
    """The answer to GET_STATS, which goes to everybody and names its session in the request's half of the union."""
    body = UEVENT_HEAD.pack(UEvent.ISCSI_UEVENT_GET_STATS, 0, HANDLE)
    body += struct.pack("=II", sid, cid) + bytes(16) + bytes(16) + data
    return NLMSGHDR.pack(NLMSGHDR.size + len(body), 0, 0, 0, 0) + body


def _message(
    nlmsg_type: int, kind: int, iferror: int, first: int, second: int, third: int = 0, data: bytes = b""
) -> bytes:
    body = UEVENT_HEAD.pack(kind, iferror, HANDLE) + bytes(24) + struct.pack("=IIII", first, second, third, 0) + data
    body += bytes(-len(body) % 4)
    return NLMSGHDR.pack(NLMSGHDR.size + len(body), nlmsg_type, 0, 0, 0) + body


def _tmo(text: str) -> str:
    """As the kernel prints it."""
    return "off" if text == "-1" else text


def _write(directory: Path, **attributes: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, value in attributes.items():
        (directory / name).write_text(f"{value}\n")
