# SPDX-License-Identifier: LGPL-2.1-or-later
"""State files and standby follow what is guarded, and nothing else wakes anybody."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from iscsiboot.daemon import behind as behind_module
from iscsiboot.daemon.behind import Behind
from iscsiboot.keeper import state_files
from iscsiboot.keeper.log import Level
from iscsiboot.keeper.standby import Standby
from iscsiboot.keeper.values import Known, Role, Source
from iscsiboot.model.portal import Portal, parse_ip
from iscsiboot.session.values import AttachRequest
from tests.doubles.virtual_time import run_virtually

ROOT = Role(system=("sda is mounted on /",), carries=("/",))
DATA = Role()


def known(number: int) -> Known:
    request = AttachRequest(
        initiator_name="iqn.2001-04.com.example:this",
        target_name=f"iqn.2001-04.com.example:disk{number}",
        portal=Portal(address=parse_ip("10.0.0.1")),
        lun=None,
    )
    return Known(request=request, source=Source.ORDER)


class FakeStandby(Standby):
    """A process that is none."""

    def __init__(self, pid: int, *, ready: bool = True, takes: bool = True) -> None:
        self.pid = pid
        self.updates: list[tuple[dict[int, Known], dict[int, Role]]] = []
        self.left = 0
        self.over = asyncio.Event()
        self.is_ready = ready
        self.takes = takes
        self.took = 0

    def update(self, known: Mapping[int, Known], roles: Mapping[int, Role]) -> None:
        self.updates.append((dict(known), dict(roles)))

    async def ready(self, seconds: float) -> bool:
        return self.is_ready

    async def take_over(self, seconds: float) -> bool:
        self.took += 1
        return self.takes

    def leave(self) -> None:
        self.left += 1

    async def ended(self) -> None:
        await self.over.wait()


class Lab:
    """One daemon's behind."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.guarded: dict[int, Known] = {}
        self.roles: dict[int, Role] = {}
        self.standbys: list[FakeStandby] = []
        self.refuse: OSError | None = None
        self.ready = True
        self.lines: list[tuple[Level, str]] = []
        self.behind = Behind(
            run=run,
            fork=self.fork,
            guarded=lambda: self.guarded,
            roles=lambda: self.roles,
            log=lambda level, text: self.lines.append((level, text)),
        )

    def fork(self) -> Standby:
        if self.refuse is not None:
            raise self.refuse
        self.standbys.append(FakeStandby(100 + len(self.standbys), ready=self.ready))
        return self.standbys[-1]

    def files(self) -> set[int]:
        return set(state_files.read(self.run).known)

    async def settled(self) -> None:
        await asyncio.sleep(behind_module.SETTLE_SECONDS + 0.05)


Play = Callable[[Callable[[Lab], Coroutine[Any, Any, None]]], None]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    monkeypatch.setattr(behind_module, "SETTLE_SECONDS", 0.02)
    monkeypatch.setattr(behind_module, "AGAIN_SECONDS", 0.02)

    def play(test: Callable[[Lab], Coroutine[Any, Any, None]]) -> None:
        async def inside() -> None:
            lab = Lab(tmp_path / "iscsiboot")
            await test(lab)
            lab.behind.close()

        run_virtually(inside())

    return play


def test_data_alone_needs_files_and_no_standby(play: Play) -> None:
    async def test(lab: Lab) -> None:
        lab.guarded, lab.roles = {1: known(1), 2: known(2)}, {1: DATA}
        assert await lab.behind.begin()
        assert lab.files() == {1, 2}
        assert lab.standbys == []
        assert lab.behind.pid is None
        assert await lab.behind.take_over(1)

    play(test)


def test_the_systems_session_has_a_standby_that_knows_everything(play: Play) -> None:
    async def test(lab: Lab) -> None:
        lab.guarded, lab.roles = {1: known(1), 2: known(2)}, {1: ROOT, 2: DATA, 9: ROOT}
        assert await lab.behind.begin()
        (standby,) = lab.standbys
        assert standby.updates == [({1: known(1), 2: known(2)}, {1: ROOT, 2: DATA})]
        assert lab.behind.pid == standby.pid
        assert state_files.read(lab.run).roles == {1: ROOT, 2: DATA}
        assert await lab.behind.take_over(1)
        assert standby.took == 1

    play(test)


def test_a_standby_that_is_not_ready_is_told_so(play: Play) -> None:
    async def test(lab: Lab) -> None:
        lab.guarded, lab.roles, lab.ready = {1: known(1)}, {1: ROOT}, False
        assert not await lab.behind.begin()

    play(test)


def test_a_flock_of_changes_is_one_update(play: Play) -> None:
    async def test(lab: Lab) -> None:
        lab.guarded, lab.roles = {1: known(1)}, {1: ROOT}
        await lab.behind.begin()
        for number in range(2, 40):
            lab.guarded[number] = known(number)
            lab.behind.changed()
        await lab.settled()
        assert len(lab.standbys[0].updates) == 2
        assert lab.files() == set(range(1, 40))

    play(test)


def test_files_go_with_their_sessions_and_are_written_when_they_change(play: Play) -> None:
    async def test(lab: Lab) -> None:
        lab.guarded = {1: known(1), 2: known(2)}
        await lab.behind.begin()
        before = (lab.run / "sessions/1.json").stat().st_ino
        del lab.guarded[2]
        lab.behind.changed()
        await lab.settled()
        assert lab.files() == {1}
        assert (lab.run / "sessions/1.json").stat().st_ino == before, "what is the same is not written again"
        lab.guarded[1] = replace(known(1), time2wait=7.0)
        lab.behind.changed()
        await lab.settled()
        assert state_files.read(lab.run).known[1].time2wait == 7.0

    play(test)


def test_the_standby_comes_and_goes_with_the_need(play: Play) -> None:
    async def test(lab: Lab) -> None:
        lab.guarded = {1: known(1)}
        await lab.behind.begin()
        lab.roles = {1: ROOT}
        lab.behind.changed()
        await lab.settled()
        (standby,) = lab.standbys
        lab.roles = {1: DATA}
        lab.behind.changed()
        await lab.settled()
        assert standby.left == 1
        assert lab.behind.pid is None

    play(test)


def test_a_standby_that_was_killed_is_replaced_and_told_of(play: Play) -> None:
    async def test(lab: Lab) -> None:
        lab.guarded, lab.roles = {1: known(1)}, {1: ROOT}
        await lab.behind.begin()
        lab.standbys[0].over.set()
        await asyncio.sleep(0.2)
        assert len(lab.standbys) == 2
        assert lab.standbys[1].updates[-1][0] == {1: known(1)}
        assert [text for _, text in lab.lines] == ["the standby guard (process 100) has ended; another one is made"]

    play(test)


def test_where_no_process_can_be_made_it_is_said_and_tried_again(play: Play) -> None:
    async def test(lab: Lab) -> None:
        lab.guarded, lab.roles = {1: known(1)}, {1: ROOT}
        lab.refuse = OSError(errno.EAGAIN, "Resource temporarily unavailable")
        assert not await lab.behind.begin()
        lab.refuse = None
        lab.behind.changed()
        await lab.settled()
        assert len(lab.standbys) == 1
        assert len(lab.lines) == 1

    play(test)


def test_a_run_that_cannot_be_written_is_told_once_and_stops_nothing(play: Play) -> None:
    async def test(lab: Lab) -> None:
        lab.run.write_text("in the way")
        lab.guarded, lab.roles = {1: known(1)}, {1: ROOT}
        assert await lab.behind.begin()
        lab.guarded[2] = known(2)
        lab.behind.changed()
        await lab.settled()
        assert len([text for level, text in lab.lines if level is Level.WARNING]) == 1
        assert lab.standbys[0].updates[-1][0].keys() == {1, 2}

    play(test)


def test_after_the_end_nothing_is_followed(play: Play) -> None:
    async def test(lab: Lab) -> None:
        lab.guarded, lab.roles = {1: known(1)}, {1: ROOT}
        await lab.behind.begin()
        await lab.behind.take_over(1)
        lab.guarded.clear()
        lab.behind.changed()
        lab.standbys[0].over.set()
        await lab.settled()
        assert lab.files() == {1}, "the next daemon reads them"
        assert len(lab.standbys) == 1

    play(test)
