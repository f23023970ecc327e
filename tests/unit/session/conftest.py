# SPDX-License-Identifier: LGPL-2.1-or-later
"""A whole fake machine for attaching: kernel in memory, a TCP port that accepts, udev by decree, a clock by hand."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from iscsiboot.model.deadline import Deadline
from iscsiboot.model.lun import Lun
from iscsiboot.model.portal import Portal, parse_ip
from iscsiboot.model.timeline import Mark
from iscsiboot.netlink.socket import IscsiNetlink
from iscsiboot.session.values import Attached, AttachRequest, Environment
from tests.doubles.iscsi_kernel import FakeKernel

INITIATOR = "iqn.2026-01.org.example:guest"
TARGET = "iqn.2026-01.org.example:disk"


class RecordingReport:
    """Keeps everything."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.marks: list[tuple[Mark, str]] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def mark(self, mark: Mark, detail: str = "") -> None:
        self.marks.append((mark, detail))


class FakeMonitor:
    """udev: ``ready`` devices are handled; each wait runs the next of ``steps``, none left is a time-out."""

    def __init__(self) -> None:
        self.ready = {"sda"}
        self.steps: list[object] = []
        self.opened = self.closed = 0

    def open(self) -> FakeMonitor:
        self.opened += 1
        return self

    def wait(self, deadline: Deadline) -> bool:
        if not self.steps:
            return False
        step = self.steps.pop(0)
        if callable(step):
            step()
        return True

    def settled(self, name: str) -> bool:
        return name in self.ready

    def close(self) -> None:
        self.closed += 1


@dataclass
class Machine:
    """What a test talks to."""

    kernel: FakeKernel
    environment: Environment
    request: AttachRequest
    monitor: FakeMonitor
    report: RecordingReport
    listener: socket.socket
    clock: list[float]
    pauses: list[float] = field(default_factory=list)

    def attach(self, request: AttachRequest | None = None, *, seconds: float = 5.0) -> Attached:
        from iscsiboot.session.attach import attach

        deadline = Deadline.after(seconds, now=self.clock[0], reason="the disk")
        return attach(request or self.request, environment=self.environment, deadline=deadline, report=self.report)

    def login_requests(self) -> list[str]:
        """The names of the requests so far."""
        return self.kernel.names


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    kernel, monitor, report = FakeKernel(tmp_path), FakeMonitor(), RecordingReport()
    monkeypatch.setattr("iscsiboot.session.devices.scan_host", kernel.scan)
    clock = [100.0]
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        environment = Environment(
            open_netlink=lambda: IscsiNetlink(kernel.transport(), now=lambda: clock[0]),
            open_monitor=monitor.open,
            sysfs=kernel.sysfs,
            proc=kernel.proc,
            now=lambda: clock[0],
            entropy=bytes,
        )
        portal = Portal(address=parse_ip("127.0.0.1"), port=listener.getsockname()[1])
        request = AttachRequest(initiator_name=INITIATOR, target_name=TARGET, portal=portal, lun=Lun.from_number(1))
        made = Machine(kernel, environment, request, monitor, report, listener, clock)

        def pause(_: object, seconds: float) -> bool:
            made.pauses.append(seconds)
            clock[0] += seconds
            return environment.cancelled.is_set()

        made.environment = replace(environment, pause=pause)
        yield made
    assert all(transport.closed for transport in kernel.sockets), "a netlink socket was left open"
    assert monitor.opened == monitor.closed, "a udev monitor was left open"
