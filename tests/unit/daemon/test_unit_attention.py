# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a target says about its units, from the kernel's announcement to the write that rescans."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from iscsiboot.daemon.unit_attention import CAPACITY_CHANGED, LUNS_CHANGED, TOLD_MAX, UnitAttention
from iscsiboot.keeper.crowd import FEW
from iscsiboot.keeper.log import Level
from iscsiboot.keeper.values import Known
from iscsiboot.session.workers import Ended, Job
from iscsiboot.sysfs.uevent import Uevent, UeventsLost, parse
from tests.doubles.virtual_time import run_virtually
from tests.unit.keeper.guard_kit import known


def by_hand() -> Known:
    """A session whose record says that nobody scans but its administrator."""
    return replace(known(), scan=False)


class Inline:
    """Hands that do it here and now, remember what, and hang where they are told to."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.hang: set[str] = set()

    async def run(self, job: Job, *, seconds: float, what: str) -> Ended:
        self.done.append(what)
        if what in self.hang:
            await asyncio.sleep(seconds)
            return Ended(answer=None, problem="it hangs", late=True)
        return Ended(answer=job())


def announcement(
    sid: int = 1, unit: str = "2:0:0:1", what: str = LUNS_CHANGED, *, action: str = "change", subsystem: str = "scsi"
) -> Uevent:
    host, _, rest = unit.partition(":")
    path = f"/devices/platform/host{host}/session{sid}/target{host}:{rest.rpartition(':')[0]}/{unit}"
    event = parse(f"{action}@{path}\0SUBSYSTEM={subsystem}\0SDEV_UA={what}\0".encode())
    assert event is not None
    return event


class Machine:
    """A sysfs that can be written to, and the attention of a daemon on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.hands = Inline()
        self.lines: list[tuple[Level, str]] = []
        self.sessions: dict[int, Known] = {1: known()}
        for host in (2, 3):
            (root / "class" / "scsi_host" / f"host{host}").mkdir(parents=True)
            (root / "class" / "scsi_host" / f"host{host}" / "scan").touch()
        for unit in ("2:0:0:1", "2:0:0:2", "3:0:0:1"):
            (root / "bus" / "scsi" / "devices" / unit).mkdir(parents=True)
            (root / "bus" / "scsi" / "devices" / unit / "rescan").touch()
        self.attention = UnitAttention(
            sysfs=str(root),
            hands=self.hands,
            log=lambda level, text: self.lines.append((level, text)),
            guarded=lambda: self.sessions,
        )

    def scan(self, host: int) -> str:
        return (self.root / "class" / "scsi_host" / f"host{host}" / "scan").read_text()

    def rescan(self, unit: str) -> str:
        return (self.root / "bus" / "scsi" / "devices" / unit / "rescan").read_text()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def told(
    machine: Machine, *events: Uevent | UeventsLost, seconds: float = 30, then: Callable[[], None] | None = None
) -> None:
    async def main() -> None:
        for event in events:
            machine.attention.uevent(event)
        await asyncio.sleep(seconds)
        if then is not None:
            then()
        machine.attention.close()

    run_virtually(main())


def test_new_units_are_looked_for_on_the_whole_host(machine: Machine) -> None:
    told(machine, announcement())
    assert machine.scan(2) == "- - -"
    assert machine.scan(3) == ""
    assert machine.rescan("2:0:0:1") == ""
    assert machine.lines == [
        (Level.NOTICE, "session 1: host2 was rescanned, because the target said that it changed"),
    ]


def test_a_unit_that_grew_is_asked_for_its_size(machine: Machine) -> None:
    told(machine, announcement(unit="2:0:0:2", what=CAPACITY_CHANGED))
    assert machine.rescan("2:0:0:2") == "1"
    assert machine.rescan("2:0:0:1") == machine.scan(2) == ""


def test_every_unit_of_a_target_says_it_and_it_is_looked_once(machine: Machine) -> None:
    told(machine, *(announcement(unit=f"2:0:0:{lun}") for lun in range(100)))
    assert machine.hands.done == ["the rescan of host2"]


def test_a_target_that_says_it_for_hours_is_asked_at_intervals(machine: Machine) -> None:
    async def main() -> None:
        for _ in range(100):
            machine.attention.uevent(announcement())
            await asyncio.sleep(0.6)
        machine.attention.close()

    run_virtually(main())
    assert 8 <= len(machine.hands.done) <= 14


def test_a_target_that_says_it_for_hours_fills_no_log(machine: Machine) -> None:
    async def main() -> None:
        for _ in range(3 * 3600 // 20):
            machine.attention.uevent(announcement())
            await asyncio.sleep(20)
        machine.attention.close()

    run_virtually(main())
    assert len(machine.hands.done) > 500
    assert 20 <= len(machine.lines) <= 3 * TOLD_MAX
    assert machine.lines[TOLD_MAX - 1][1].endswith("; this is told no more within the hour")


def test_hundreds_of_sessions_whose_units_changed_share_a_line(machine: Machine) -> None:
    machine.sessions |= {sid: known() for sid in range(1, 201)}
    told(machine, *(announcement(sid=sid) for sid in range(1, 201)))
    assert len(machine.hands.done) == 200
    assert len(machine.lines) == FEW + 1
    assert re.match(
        r"192 more sessions \([-, 0-9]+\) likewise; the last: session \d+: host2 was ", machine.lines[FEW][1]
    )


def test_a_unit_that_never_answers_holds_up_nobody_else(machine: Machine) -> None:
    machine.sessions[2] = known()
    machine.hands.hang = {"the rescan of 2:0:0:1"}
    told(
        machine,
        announcement(unit="2:0:0:1", what=CAPACITY_CHANGED),
        announcement(unit="2:0:0:2", what=CAPACITY_CHANGED),
        announcement(),
        announcement(sid=2, unit="3:0:0:1", what=CAPACITY_CHANGED),
        seconds=2,
    )
    assert machine.rescan("2:0:0:1") == ""
    assert machine.rescan("2:0:0:2") == machine.rescan("3:0:0:1") == "1"
    assert machine.scan(2) == "- - -"


def test_one_that_hangs_is_told(machine: Machine) -> None:
    machine.hands.hang = {"the rescan of host2"}
    told(machine, announcement(), seconds=100)
    words = "the rescan of host2 failed: it hangs; next: iscsiadm -m session -r 1 --rescan"
    assert machine.lines == [(Level.WARNING, f"session 1: {words}")]


def test_a_host_that_is_gone_is_told(machine: Machine) -> None:
    machine.sessions[9] = known()
    told(machine, announcement(sid=9, unit="9:0:0:0"))
    assert machine.lines[0][0] is Level.WARNING
    assert "No such file" in machine.lines[0][1]


def test_a_record_that_says_manual_is_obeyed_and_told_once(machine: Machine) -> None:
    machine.sessions[1] = by_hand()
    told(machine, announcement(), announcement(), announcement(what=CAPACITY_CHANGED))
    assert not machine.hands.done
    assert len(machine.lines) == 1
    assert "node.session.scan is manual" in machine.lines[0][1]


def test_a_session_that_comes_back_is_told_of_again(machine: Machine) -> None:
    machine.sessions[1] = by_hand()

    async def main() -> None:
        machine.attention.uevent(announcement())
        machine.sessions.clear()
        machine.attention.uevent(announcement())
        machine.sessions[1] = by_hand()
        machine.attention.uevent(announcement())

    run_virtually(main())
    assert len(machine.lines) == 2


@pytest.mark.parametrize(
    "event",
    [
        announcement(sid=7),
        announcement(what="MODE_PARAMETERS_CHANGED"),
        announcement(what=""),
        announcement(action="add"),
        announcement(subsystem="block"),
        Uevent("change", "/devices/pci0000:00/host2/target2:0:0/2:0:0:1", "scsi", {"SDEV_UA": LUNS_CHANGED}),
        UeventsLost(),
    ],
)
def test_what_is_not_for_us_does_nothing(machine: Machine, event: Uevent | UeventsLost) -> None:
    told(machine, event)
    assert not machine.hands.done
    assert not machine.lines


def test_what_was_asked_for_gone_sessions_is_forgotten(machine: Machine) -> None:
    def look() -> None:
        machine.sessions.pop(1)
        machine.sessions[2] = known()
        machine.attention.units_changed(2, 3)
        assert list(machine.attention._asked) == [(2, "host3")]

    told(machine, announcement(), announcement(what=CAPACITY_CHANGED), then=look)


def test_a_target_with_ever_new_units_fills_no_memory(machine: Machine) -> None:
    async def main() -> None:
        for number in range(50):
            machine.attention.uevent(announcement(unit=f"2:0:0:{number}", what=CAPACITY_CHANGED))
            await asyncio.sleep(10)
        assert len(machine.attention._asked) == 1
        # One that has to wait keeps its place and its pause.
        for number in (1, 2, 1, 2):
            machine.attention.uevent(announcement(unit=f"2:0:0:{number}", what=CAPACITY_CHANGED))
        assert len(machine.attention._asked) == 2
        machine.attention.close()

    run_virtually(main())


def test_closed_it_does_nothing_more(machine: Machine) -> None:
    told(machine, announcement(), seconds=0.1)
    assert not machine.hands.done
