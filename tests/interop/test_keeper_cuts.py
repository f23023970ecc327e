# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sessions on their way from the initramfs to daemon after daemon, with the connection cut at every moment of it.

Everything is real but the kernel, which is a double in a process of its own: the keeper, daemons and standbys are
processes, killed as they come. The kernel counts: a hand-over of healthy sessions sends it nothing at all.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from iscsiboot.keeper import adoption, guardian, handover, state_files
from iscsiboot.keeper.hands import Hands
from iscsiboot.keeper.keeper import Keeper
from iscsiboot.keeper.standby import Standby
from iscsiboot.keeper.values import Role
from iscsiboot.netlink.socket import IscsiNetlink
from iscsiboot.session.values import Environment
from tests.doubles.kernel_process import KernelProcess, RemoteTransport, ask_kernel
from tests.unit.keeper.guard_kit import PATIENCE, Stage, new_stage, no_kernel

pytestmark = [pytest.mark.interop, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

SYSTEM = Role(system=("sda1 is mounted on /",))
SESSIONS = 3
ROUNDS = int(os.environ.get("ISCSIBOOT_CUTS", "12"))
"""Of the random test; ``make check-all`` takes more."""
SOON = 15.0
"""Seconds for what takes a fraction of one on a machine with nothing else to do. Whoever waited here for another's time
to be over would need twice as long.
"""


class Machine:
    """The stage with its kernel."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.root = stage.journal.parent / "kernel"
        self.root.mkdir()
        stage.spawn(lambda: KernelProcess(self.root, sessions=SESSIONS).serve())
        stage.until(self._is_there, told="the kernel is there")
        self.environment = Environment(
            open_netlink=lambda: IscsiNetlink(RemoteTransport(self.root), now=time.monotonic),
            open_monitor=no_kernel,
            sysfs=self.root / "sys",
            proc=self.root / "proc",
        )

    def _is_there(self) -> bool:
        try:
            ask_kernel(self.root)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        return True

    def keeper(self) -> int:
        """What iscsistart leaves."""

        def life() -> None:
            guardian.guard(
                {}, environment=self.environment, log=self.stage.log, run=self.stage.run, name=self.stage.name
            )
            self.stage.note("left")

        return self.stage.spawn(life)

    def daemon(self) -> int:
        """What iscsid does of it, without its socket and its records."""
        return self.stage.spawn(lambda: asyncio.run(self._daemon()))

    async def _daemon(self) -> None:
        stage = self.stage
        hands = Hands(log=stage.log)
        keeper = Keeper(self.environment, hands=hands, log=stage.log, renew=None, chance=random.random)
        await keeper.start()
        taken = await handover.take_over(
            run=stage.run, log=stage.log, now=time.monotonic, seconds=2 * SOON, name=stage.name
        )
        state = state_files.read(stage.run)
        found = adoption.look(self.environment, handed=taken.known, state=state.known)
        found = await adoption.complete(found, self.environment)
        known = await adoption.settle(found, environment=self.environment, hands=hands, log=stage.log)
        roles = dict.fromkeys(known, SYSTEM)
        keeper.set_roles(roles)
        await keeper.adopt(known)
        stage.note("guards", sids=sorted(keeper.guarded()))
        standby = Standby.fork(environment=self.environment, open_log=lambda: stage.log, run=stage.run, name=stage.name)
        stage.note("standby", standby=standby.pid)
        standby.update(keeper.guarded(), roles)
        if await standby.ready(PATIENCE):
            taken.leave()
            stage.note("settled")
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        await ended.wait()
        await keeper.stop_acting()
        taken.release()
        stage.note("handed back", guarding=await standby.take_over(PATIENCE))

    def cut(self, sid: int = 1) -> None:
        ask_kernel(self.root, **{"break": sid})

    def requests(self) -> dict[str, int]:
        return dict(ask_kernel(self.root)["requests"])

    def healthy(self) -> bool:
        sessions = ask_kernel(self.root)["sessions"]
        assert len(sessions) == SESSIONS, "no session was lost"
        return all(item == ["LOGGED_IN", "up"] for item in sessions.values())

    def until_healthy(self) -> float:
        """Until every session works; the seconds it took."""
        began = time.monotonic()
        self.stage.until(self.healthy, told="every session works again")
        return time.monotonic() - began

    def until_settled(self, count: int) -> None:
        self.stage.until_lines("settled", count)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setattr(guardian, "TAKEN_SECONDS", 2 * SOON)
    monkeypatch.setattr(handover, "STOP_SECONDS", 2 * SOON)
    with new_stage() as stage:
        made = Machine(stage)
        yield made
        # Real engines have no journal of acting; the kernel would see two: a STOP_CONN of a session that works.
        assert not [line for line in stage.lines("log") if "fault" in line["text"]], stage.journal.read_text()


def guarding(machine: Machine, pid: int) -> bool:
    return any(line["pid"] == pid and "guards 3 sessions" in line["text"] for line in machine.stage.lines("log"))


def until_guarding(machine: Machine, pid: int) -> None:
    machine.stage.until(lambda: guarding(machine, pid), told=f"{pid} guards")


def test_ten_daemons_and_not_one_request_to_the_kernel_but_the_timers(machine: Machine) -> None:
    keeper = machine.keeper()
    until_guarding(machine, keeper)
    for count in range(1, 11):
        daemon = machine.daemon()
        machine.until_settled(count)
        machine.stage.kill(daemon, signal.SIGTERM if count % 2 else signal.SIGKILL)
        standby = machine.stage.lines("standby")[-1]["standby"]
        until_guarding(machine, standby)
    assert set(machine.requests()) <= {"SET_PARAM"}, "a healthy session is not touched"
    assert machine.healthy()
    assert all(line["guarding"] for line in machine.stage.lines("handed back"))


def test_a_cut_before_the_daemon_is_there(machine: Machine) -> None:
    keeper = machine.keeper()
    until_guarding(machine, keeper)
    for sid in range(1, SESSIONS + 1):
        machine.cut(sid)
    assert machine.until_healthy() < SOON
    assert machine.requests()["START_CONN"] == SESSIONS


def test_a_cut_while_nobody_is_there_is_healed_by_who_comes(machine: Machine) -> None:
    machine.cut(2)
    time.sleep(0.2)
    machine.keeper()
    assert machine.until_healthy() < SOON
    assert machine.requests()["START_CONN"] == 1


def test_a_cut_while_the_daemon_is_dead(machine: Machine) -> None:
    machine.keeper()
    daemon = machine.daemon()
    machine.until_settled(1)
    machine.stage.kill(daemon)
    machine.cut(1)
    assert machine.until_healthy() < SOON


def test_a_cut_at_the_instant_of_a_hand_over(machine: Machine) -> None:
    """Before, in and after the milliseconds in which the right to act changes hands."""
    keeper = machine.keeper()
    until_guarding(machine, keeper)
    for count in range(1, 9):
        daemon = machine.daemon()
        time.sleep(0.004 * count)
        machine.cut(1 + count % SESSIONS)
        machine.until_settled(count)
        machine.until_healthy()
        machine.stage.kill(daemon)
    told = ask_kernel(machine.root)
    # One login a cut: two that act would make two of it, and the later one would break the earlier one's.
    assert (told["requests"]["START_CONN"], told["breaks"]) == (8, 8), machine.stage.journal.read_text()


def test_daemons_killed_and_connections_cut_at_random(machine: Machine) -> None:
    chance = random.Random(7)
    machine.keeper()
    for _ in range(ROUNDS):
        daemon = machine.daemon()
        for _ in range(chance.randrange(3)):
            time.sleep(chance.random() * 0.1)
            machine.cut(chance.randrange(SESSIONS) + 1)
        time.sleep(chance.random() * 0.15)
        machine.stage.kill(daemon, chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)))
    machine.until_healthy()
    told = ask_kernel(machine.root)
    assert told["breaks"] > 0
    # Each cut is a login; one that was killed in the middle of it is another.
    assert told["breaks"] <= told["requests"]["START_CONN"] + told["requests"]["BIND_CONN"]
    assert Path(machine.stage.run / "guard.lock").exists()
