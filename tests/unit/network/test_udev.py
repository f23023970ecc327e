# SPDX-License-Identifier: LGPL-2.1-or-later
"""A NIC is not set up before udev is done with it, and a udev that never answers costs its time and no more."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from iscsiboot.model.deadline import Deadline
from iscsiboot.network.bringup import bring_up
from iscsiboot.network.facts import IFF_UP, NetworkFacts
from iscsiboot.network.steps import LinkUp
from iscsiboot.network.udev import Udev
from tests.unit.network.support import FakeKernel, Lines, link, request, world


class FakeUdev:
    """udev in memory: ``handle`` is its broadcast about one device."""

    def __init__(self) -> None:
        self.handled: set[int] = set()
        self.closed = False
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ours.setblocking(False)

    def handle(self, index: int) -> None:
        self.handled.add(index)
        self._theirs.send(b"libudev")

    def fileno(self) -> int:
        return self._ours.fileno()

    def drain(self) -> None:
        self._ours.recv(64)

    def done_with(self, index: int) -> bool:
        return index in self.handled

    def close(self) -> None:
        self.closed = True
        self._ours.close()
        self._theirs.close()


def test_the_name_udev_gives_is_waited_for(tmp_path: Path) -> None:
    kernel, udev, lines = FakeKernel(NetworkFacts(links=(link(flags=0),))), FakeUdev(), Lines()
    steps_before: list[int] = []

    def rename() -> None:
        steps_before.append(len(kernel.steps))
        kernel.change(NetworkFacts(links=(link(name="ens4", flags=0),)))
        udev.handle(2)

    environment, clock, _ = world(tmp_path, kernel, script=[(103.0, rename)])
    environment = replace(environment, open_udev=lambda run: udev)
    deadline = Deadline.after(60, now=clock(), reason="the network")
    wanted = request(address="10.0.0.9", prefix_len=24)
    (result,) = bring_up((wanted,), environment=environment, deadline=deadline, report=lines)
    assert (result.error, result.netdev) == (None, "ens4")
    assert steps_before == [0]
    assert isinstance(kernel.steps[0], LinkUp)
    assert clock() < 104
    assert udev.closed


def test_a_udev_that_never_answers_costs_its_time_only(tmp_path: Path) -> None:
    kernel, udev, lines = FakeKernel(NetworkFacts(links=(link(flags=0),))), FakeUdev(), Lines()
    environment, clock, _ = world(tmp_path, kernel)
    environment = replace(environment, open_udev=lambda run: udev, udev_seconds=5.0)
    deadline = Deadline.after(60, now=clock(), reason="the network")
    wanted = request(address="10.0.0.9", prefix_len=24)
    (result,) = bring_up((wanted,), environment=environment, deadline=deadline, report=lines)
    assert (result.error, result.netdev) == (None, "eth0")
    assert 105 <= clock() < 106
    assert any("udev has not handled it in time" in text for text in lines.notes)


def test_a_nic_that_is_up_is_not_waited_for(tmp_path: Path) -> None:
    """It cannot be renamed any more; whoever set it up has decided."""
    kernel, udev = FakeKernel(NetworkFacts(links=(link(flags=IFF_UP),))), FakeUdev()
    environment, clock, _ = world(tmp_path, kernel)
    environment = replace(environment, open_udev=lambda run: udev)
    deadline = Deadline.after(0.5, now=clock(), reason="the network")
    bring_up((request(address="10.0.0.9", prefix_len=24),), environment=environment, deadline=deadline, report=Lines())
    assert clock() <= 100.5


@pytest.mark.parametrize(
    ("control", "data", "done"),
    [(False, False, True), (True, False, False), (True, True, True), (False, True, True)],
    ids=["no udevd", "not yet", "handled", "udevd gone"],
)
def test_what_the_files_say(tmp_path: Path, control: bool, data: bool, done: bool) -> None:
    (tmp_path / "udev/data").mkdir(parents=True)
    if control:
        (tmp_path / "udev/control").touch()
    if data:
        (tmp_path / "udev/data/n7").touch()
    udev = Udev(tmp_path)
    try:
        assert udev.done_with(7) is done
        assert udev.fileno() >= 0
        udev.drain()
    finally:
        udev.close()
