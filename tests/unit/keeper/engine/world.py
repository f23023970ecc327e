# SPDX-License-Identifier: LGPL-2.1-or-later
"""A machine with sessions to guard: the kernel double, a portal over loopback that can go away, time by hand."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from iscsiboot.keeper.keeper import Keeper
from iscsiboot.keeper.log import Level
from iscsiboot.keeper.situation import Phase
from iscsiboot.keeper.values import Known, Role, Source, Status
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.params import SessionParams
from iscsiboot.model.portal import NamedPortal, Portal, parse_ip
from iscsiboot.netlink.messages import Request
from iscsiboot.netlink.socket import IscsiNetlink
from iscsiboot.netlink.uapi import Param, UEvent
from iscsiboot.session.login import LoginOrder
from iscsiboot.session.values import AttachRequest, DiskMonitor, Environment
from iscsiboot.session.workers import Ended, Job
from tests.doubles.iscsi_kernel import FakeKernel, FakeSession
from tests.doubles.virtual_time import virtual_loop

INITIATOR = "iqn.2026-01.org.example:guest"
TARGET = "iqn.2026-01.org.example:disk"
SYSTEM = Role(system=("sda is mounted on /",), carries=("/",))
SETTLED = 5.0
"""Virtual seconds after which an adoption does not look a second time any more."""
STEP = 0.05
"""Virtual seconds between two looks of :meth:`World.until`."""


class InlineHands:
    """Does jobs at once; those whose name is in ``late`` take all their time and end without a result."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.late: set[str] = set()
        self.at_work = 0

    async def run(self, job: Job, *, seconds: float, what: str) -> Ended:
        self.at_work += 1
        try:
            if what in self.late:
                await asyncio.sleep(seconds)
                return Ended(answer=None, problem=f"{what} was not done after {seconds:g} s", late=True)
            await asyncio.sleep(0)
            self.done.append(what)
            return Ended(answer=job())
        finally:
            self.at_work -= 1


class PortalServer:
    """A port that takes connections and says nothing (the kernel double is the target), or refuses, or is silent."""

    def __init__(self) -> None:
        self._listener: socket.socket | None = None
        self._held: list[socket.socket] = []
        self.taken: list[socket.socket] = []
        self.port = 0
        self.open()

    def open(self, backlog: int = 1024) -> None:
        """Take connections."""
        self.close()
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(backlog)
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._listener = listener

    def close(self) -> None:
        """Refuse connections."""
        for sock in (*self._held, *self.taken):
            sock.close()
        self._held.clear()
        self.taken.clear()
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def swallow(self) -> None:
        """Answer nothing: the queue of the listener is full, and Linux drops a SYN then."""
        self.open(backlog=0)
        for _ in range(3):
            held = socket.socket()
            held.setblocking(False)
            held.connect_ex(("127.0.0.1", self.port))
            self._held.append(held)

    def accept(self) -> int:
        """Take what waits; how many connections of those taken are open still."""
        assert self._listener is not None
        while True:
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                break
            sock.setblocking(False)
            self.taken.append(sock)
        return sum(map(_is_open, self.taken))

    @property
    def portal(self) -> Portal:
        return Portal(address=parse_ip("127.0.0.1"), port=self.port)


def _is_open(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


@dataclass
class World:
    """Everything a test talks to."""

    kernel: FakeKernel
    server: PortalServer
    hands: InlineHands
    keeper: Keeper
    lines: list[tuple[Level, str]]
    chance: list[float]
    renewals: list[Callable[[Known], Known | None]]
    """What reading a record gives, one after the other; the last one for ever."""
    resolved: dict[str, str] = field(default_factory=dict)
    strangers: list[int] = field(default_factory=list)
    intruders: list[int] = field(default_factory=list)

    def request(self, **changes: object) -> AttachRequest:
        params = SessionParams(login_timeout=15, replacement_timeout=120)
        request = AttachRequest(
            initiator_name=INITIATOR, target_name=TARGET, portal=self.server.portal, lun=None, params=params
        )
        return replace(request, **changes)  # type: ignore[arg-type]

    def order(self, *, request: AttachRequest | None = None, **changes: object) -> LoginOrder:
        wanted = request or self.request()
        return replace(
            LoginOrder(request=wanted, portal=wanted.portal, scan=True, give_up=60),
            **changes,  # type: ignore[arg-type]
        )

    def known(self, request: AttachRequest | None = None, **changes: object) -> Known:
        return replace(Known(request=request or self.request(), source=Source.STATE, tpgt=3), **changes)  # type: ignore[arg-type]

    def session(self, *, connection: str = "up", state: str = "LOGGED_IN", **changes: object) -> FakeSession:
        """A session that was there before the keeper."""
        request = self.request()
        params = {
            Param.ISCSI_PARAM_TARGET_NAME: request.target_name,
            Param.ISCSI_PARAM_INITIATOR_NAME: request.initiator_name,
            Param.ISCSI_PARAM_IFACE_NAME: request.iface_name,
            Param.ISCSI_PARAM_PERSISTENT_ADDRESS: str(request.portal.address),
            Param.ISCSI_PARAM_PERSISTENT_PORT: str(request.portal.port),
            Param.ISCSI_PARAM_TPGT: "3",
        }
        return self.kernel.leftover(creator=991, connection=connection, state=state, params=params, **changes)

    async def adopt(self, *sids: int, role: Role | None = None, known: Known | None = None) -> None:
        if role is not None:
            self.keeper.set_roles(dict.fromkeys(sids, role))
        await self.keeper.adopt(dict.fromkeys(sids, known or self.known()))

    async def guarded(self, role: Role | None = None, *, scan: bool = True) -> None:
        """One session, up and guarded; requests are counted from here on."""
        self.session()
        await self.adopt(1, role=role, known=self.known(scan=scan))
        self.kernel.requests.clear()

    async def pair(self) -> list[int]:
        """Two sessions of one portal, up and guarded."""
        sids = [self.session().sid for _ in range(2)]
        await self.adopt(*sids)
        return sids

    def hinder(self, when: str) -> None:
        """Have the next recovery stay at ``when``: waiting, connecting, logging in; with anything else it succeeds."""
        if when == "waiting":
            self.server.close()
        elif when == "connecting":
            self.server.swallow()
        elif when == "logging in":
            self.kernel.target = lambda bhs, data: []

    def asked(self, kind: UEvent) -> list[Request]:
        """What the kernel was asked of this kind."""
        return [request for request in self.kernel.requests if request.type is kind]

    def status(self, sid: int = 1) -> Status:
        return next(status for status in self.keeper.statuses() if status.sid == sid)

    def phase(self, sid: int = 1) -> Phase | None:
        """None when it is not guarded (any more)."""
        return next((Phase(status.phase) for status in self.keeper.statuses() if status.sid == sid), None)

    async def until(self, is_so: Callable[[], bool], *, seconds: float = 60.0) -> float:
        """Let time pass until it is so; the virtual seconds it took."""
        loop = virtual_loop()
        began = loop.time()
        while not is_so():
            assert loop.time() < began + seconds, f"not so after {seconds:g} s: {self.keeper.statuses()} {self.lines}"
            await asyncio.sleep(STEP)
        return loop.time() - began

    async def until_up(self, *sids: int, seconds: float = 60.0) -> float:
        wanted = sids or (1,)
        return await self.until(lambda: all(self.phase(sid) is Phase.UP for sid in wanted), seconds=seconds)

    async def until_healed(self, sid: int = 1, *, times: int = 1, seconds: float = 60.0) -> float:
        """Until so many breaks are healed and it is up."""
        return await self.until(
            lambda: self.phase(sid) is Phase.UP and self.status(sid).recoveries >= times, seconds=seconds
        )

    def said(self, *, least: Level = Level.NOTICE) -> list[str]:
        """The lines for the log of at least this severity."""
        return [text for level, text in self.lines if level <= least]

    def resolve(self, there: NamedPortal) -> Portal:
        return Portal(address=parse_ip(self.resolved[there.host]), port=there.port, tpgt=there.tpgt)


class _NoMonitor:
    """No disk is waited for here."""

    def wait(self, deadline: Deadline) -> bool:
        raise AssertionError

    def settled(self, name: str) -> bool:
        raise AssertionError

    def close(self) -> None:
        raise AssertionError


def _no_monitor() -> DiskMonitor:
    return _NoMonitor()


@asynccontextmanager
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A keeper that has started. When it is closed nothing of it may be left."""
    kernel, server, hands = FakeKernel(tmp_path), PortalServer(), InlineHands()
    lines: list[tuple[Level, str]] = []
    chance = [0.5]
    renewals: list[Callable[[Known], Known | None]] = []
    loop = virtual_loop()

    def resolve(there: NamedPortal) -> Portal:
        return made.resolve(there)

    environment = Environment(
        open_netlink=lambda: IscsiNetlink(kernel.transport(), now=loop.time),
        open_monitor=_no_monitor,
        resolve=resolve,
        sysfs=kernel.sysfs,
        proc=kernel.proc,
        now=loop.time,
        entropy=bytes,
    )

    async def renew(known: Known) -> Known | None:
        if not renewals:
            return None
        return (renewals.pop(0) if len(renewals) > 1 else renewals[0])(known)

    keeper = Keeper(
        environment,
        hands=hands,
        log=lambda level, text: lines.append((level, text)),
        renew=renew,
        chance=lambda: chance[0],
        strangers=lambda sid: made.strangers.append(sid),
        intruder=lambda sid: made.intruders.append(sid),
    )
    made = World(kernel, server, hands, keeper, lines, chance, renewals)
    await keeper.start()
    try:
        yield made
    finally:
        await keeper.close()
        server.close()
    assert all(transport.closed for transport in kernel.sockets), "a netlink socket was left open"
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"tasks were left: {left}"
    assert not hands.at_work
