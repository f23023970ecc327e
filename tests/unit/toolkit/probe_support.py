# SPDX-License-Identifier: LGPL-2.1-or-later
"""A network in memory for probe: portals with targets and disks behind them, or with nothing alive at all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.initiator.scsi import Request
from iscsiboot.initiator.session_events import ScsiResult
from iscsiboot.model.discovered import DiscoveredTarget
from iscsiboot.model.lun import Lun
from iscsiboot.model.portal import NamedPortal, Portal, parse_ip
from iscsiboot.toolkit.probe_options import Options, parse
from iscsiboot.toolkit.probe_path import Environment, Session, Stopwatch
from iscsiboot.toolkit.probe_report import ProbeReport
from iscsiboot.toolkit.probe_run import run
from tests.doubles.disk import Device, LogicalUnit
from tests.unit.toolkit.media_support import ESP, LINUX, Part, esp, ext4, gpt_disk, place

NAME = "iqn.2026-11.example:disk"
OTHER = "iqn.2026-11.example:other"
ME = "iqn.2026-11.example:me"


def at(address: str, port: int = 3260, tpgt: int | None = None) -> Portal:
    return Portal(address=parse_ip(address), port=port, tpgt=tpgt)


def found(name: str, *portals: Portal | NamedPortal) -> DiscoveredTarget:
    return DiscoveredTarget(name=name, portals=portals)


def bootable() -> bytes:
    """A disk of 4 MiB that UEFI and a kernel can boot from."""
    data = gpt_disk(Part(ESP, 64, 3000, "EFI"), Part(LINUX, 4096, 5000, "root"))
    place(data, 64 * 512, esp(12, "BOOTX64.EFI"))
    place(data, 4096 * 512, ext4("root"))
    return bytes(data)


def options(*argv: str) -> Options:
    made = parse(argv)
    assert made is not None
    return made


class Clock:
    """A millisecond passes each time somebody looks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ticks = 0

    def __call__(self) -> float:
        with self._lock:
            self._ticks += 1
            return self._ticks / 1000


@dataclass
class FakeSession:
    """A session whose target answers from memory."""

    portal: Portal
    device: Device
    dead_luns: frozenset[int]
    tpgt: int | None = 1
    alias: str = ""
    authentication: str = "none"
    log: list[str] = field(default_factory=list)
    mute: bool = False

    def execute(self, lun: Lun, request: Request[Any]) -> ScsiResult:
        self.log.append(f"{lun} {request.name}")
        if lun.kernel in self.dead_luns:
            raise failure(Stage.SESSION, f"waited 10 s for LUN {lun}", ExitCode.PDU_TIMEOUT)
        outcome = self.device.execute(lun.wire, request.cdb)
        return ScsiResult(status=outcome.status, data=outcome.data[: request.length], sense=outcome.sense)

    def logout(self) -> None:
        self.log.append("logout")
        if self.mute:
            raise failure(Stage.SESSION, "no answer to our logout", ExitCode.PDU_TIMEOUT)


def failure(stage: Stage, cause: str, code: ExitCode) -> IscsiBootError:
    return IscsiBootError(cause, stage=stage, subject="there", hint="look there", exit_code=code, retryable=True)


@dataclass
class World:
    """Everything there is."""

    units: dict[int, LogicalUnit] = field(default_factory=lambda: {1: LogicalUnit(image=bootable())})
    targets: Sequence[DiscoveredTarget] = ()
    refused: Sequence[str] = ()
    names: Mapping[str, Sequence[Portal]] = field(default_factory=dict)
    broken: Mapping[str, IscsiBootError] = field(default_factory=dict)
    """By address: why nothing works there."""
    dead_luns: frozenset[int] = frozenset()
    mute: bool = False
    redirect: Portal | None = None
    hook: Callable[[], None] = lambda: None
    """Called when a session is opened."""
    sessions: list[FakeSession] = field(default_factory=list)
    discoveries: list[tuple[str, str | None]] = field(default_factory=list)
    cancelled: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def environment(self) -> Environment:
        return Environment(
            now=Clock(),
            resolve=self.resolve,
            discover=self.discover,
            open_session=self.open_session,
            cancel=self.cancel,
        )

    def run(self, *argv: str) -> ProbeReport:
        return run(options(*argv), ME, environment=self.environment(), progress=Silence())

    def resolve(self, named: NamedPortal) -> Sequence[Portal]:
        if named.host not in self.names:
            raise failure(Stage.CONNECT, "the name has no address", ExitCode.TRANS)
        return self.names[named.host]

    def discover(
        self, portal: Portal, target: str | None, watch: Stopwatch
    ) -> tuple[list[DiscoveredTarget], list[str]]:
        self.discoveries.append((portal.endpoint, target))
        if str(portal.address) in self.broken:
            raise self.broken[str(portal.address)]
        watch.lap("connect")
        watch.lap("discovery")
        watch.remarks.append("an odd number")
        return [item for item in self.targets if target in (None, item.name)], list(self.refused)

    def open_session(self, portal: Portal, target: str, watch: Stopwatch) -> AbstractContextManager[Session]:
        return self._session(portal, watch)

    @contextmanager
    def _session(self, portal: Portal, watch: Stopwatch) -> Iterator[Session]:
        self.hook()
        if str(portal.address) in self.broken:
            raise self.broken[str(portal.address)]
        watch.lap("connect")
        watch.lap("login")
        session = FakeSession(self.redirect or portal, Device(self.units), self.dead_luns, mute=self.mute)
        with self.lock:
            self.sessions.append(session)
        yield session

    def cancel(self) -> None:
        self.cancelled += 1


class Silence:
    """Nobody watches."""

    def stage(self, text: str) -> None:
        pass

    def paths(self, done: int, total: int, failed: int) -> None:
        pass
