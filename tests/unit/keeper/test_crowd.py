# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lines of many sessions that say the same, on a clock by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from iscsiboot.keeper.crowd import FEW, KINDS_MAX, NUMBERS_CHARACTERS, SECONDS, Crowd, numbers
from iscsiboot.keeper.log import Level
from tests.doubles.virtual_time import run_virtually


class Written:
    """A log with a crowd before it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.crowd = Crowd(lambda level, text: self.lines.append(f"{level.name} {text}"))

    def say(self, sid: int, *, kind: str = "break", level: Level = Level.WARNING) -> None:
        self.crowd.say(level, f"{kind} {sid}", kind=kind, sid=sid)


Test = Callable[[Written], Coroutine[None, None, None]]


def play(test: Test) -> None:
    run_virtually(test(Written()))


def test_few_sessions_are_written_each_at_once() -> None:
    async def test(log: Written) -> None:
        for sid in range(1, FEW + 1):
            log.say(sid)
        assert log.lines == [f"WARNING break {sid}" for sid in range(1, FEW + 1)]
        await asyncio.sleep(10 * SECONDS)
        assert len(log.lines) == FEW

    play(test)


def test_of_many_the_others_are_one_line() -> None:
    async def test(log: Written) -> None:
        for sid in range(1, 201):
            log.say(sid, level=Level.ERROR if sid == 150 else Level.WARNING)
        assert len(log.lines) == FEW
        await asyncio.sleep(SECONDS + 0.1)
        assert log.lines[FEW:] == ["ERROR 192 more sessions (9-200) likewise; the last: break 200"]

    play(test)


def test_one_more_is_one() -> None:
    async def test(log: Written) -> None:
        for sid in [*range(1, FEW + 1), 40, 40]:
            log.say(sid)
        log.crowd.flush()
        assert log.lines[FEW:] == ["WARNING 1 more session (40) likewise; the last: break 40"]
        await asyncio.sleep(2 * SECONDS)
        assert len(log.lines) == FEW + 1, "nothing is told twice"

    play(test)


def test_a_storm_that_goes_on_is_a_line_each_time_and_ends() -> None:
    async def test(log: Written) -> None:
        for sid in range(1, 301):
            log.say(sid)
            await asyncio.sleep(SECONDS / 100)
        await asyncio.sleep(3 * SECONDS)
        assert len(log.lines) == FEW + 3
        told = {number for line in log.lines[FEW:] for number in range(*_range(line))}
        assert told == set(range(FEW + 1, 301)), "each session is in a line, and in one only"
        log.say(1)
        assert log.lines[-1] == "WARNING break 1", "afterwards lines are written at once again"

    def _range(line: str) -> tuple[int, int]:
        first, _, last = line.partition("(")[2].partition(")")[0].partition("-")
        return int(first), int(last) + 1

    play(test)


def test_kinds_are_counted_apart_and_what_is_of_no_kind_not_at_all() -> None:
    async def test(log: Written) -> None:
        for sid in range(1, FEW + 1):
            log.say(sid)
            log.say(sid, kind="back")
        for sid in range(1, 101):
            log.say(sid, kind="")
        assert len(log.lines) == 2 * FEW + 100

    play(test)


def test_lines_of_more_kinds_than_are_remembered_are_written() -> None:
    async def test(log: Written) -> None:
        for kind in range(10 * KINDS_MAX):
            log.say(1, kind=f"kind {kind}")
        assert len(log.lines) == 10 * KINDS_MAX
        await asyncio.sleep(SECONDS + 0.1)
        for sid in range(1, FEW + 3):
            log.say(sid, kind="new")
        assert len(log.lines) == 10 * KINDS_MAX + FEW, "what is over is forgotten"

    play(test)


def test_nothing_wakes_the_loop_unless_something_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(log: Written) -> None:
        timers: list[float] = []
        loop = asyncio.get_running_loop()
        at = loop.call_at

        def counted(when: float, callback: Callable[..., object], *values: Any) -> asyncio.TimerHandle:
            timers.append(when)
            return at(when, callback, *values)

        monkeypatch.setattr(loop, "call_at", counted)
        for sid in range(1, FEW + 1):
            log.say(sid)
        assert not timers
        log.say(FEW + 1)
        log.say(FEW + 2)
        assert len(timers) == 1

    play(test)


def test_numbers_are_ranges_and_no_more_than_a_line_takes() -> None:
    assert numbers({4, 1, 2, 3, 7, 9, 10}) == "1-4, 7, 9-10"
    text = numbers(range(1, 1000, 2))
    assert len(text) <= NUMBERS_CHARACTERS + 5
    assert text.endswith(", ...")
    assert text.startswith("1, 3, 5, ")
