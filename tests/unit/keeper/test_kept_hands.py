# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hands that are kept for the next errand: used again, alone with what they do, gone when nobody needs them."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path

import pytest

from iscsiboot.keeper import hand, hands, seal
from iscsiboot.keeper.errand import PART_BYTES, Errand
from iscsiboot.keeper.hands import Hands
from iscsiboot.keeper.log import Level
from iscsiboot.session.workers import Answer, Ended

PATIENCE = 60.0
"""Seconds for anything that has to happen; a machine with every core taken needs some."""


def who(word: str = "") -> Answer:
    """Which process did it."""
    return {"pid": os.getpid(), "word": word}


def forever(mark: str) -> Answer:
    """Until a signal ends it; the clean-up leaves a mark."""
    try:
        Path(mark).touch()
        threading.Event().wait(10 * PATIENCE)
    finally:
        Path(mark + " undone").touch()
    return {}


def stubborn(mark: str) -> Answer:
    """What hangs in the kernel, as far as SIGTERM goes."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(mark).touch()
    while True:
        threading.Event().wait(10 * PATIENCE)


def obliging(mark: str) -> Answer:
    """Is told to end as it is done, and answers all the same."""
    try:
        return forever(mark)
    except KeyboardInterrupt:
        return who("done")


def told_as_it_answers() -> Answer:
    """Its process is told to end as the answer is being written."""
    dumps = json.dumps

    def told(answer: Answer) -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        return dumps(answer)

    vars(json)["dumps"] = told
    return {"done": True}


def imports() -> Answer:
    import colorsys

    return {"name": colorsys.__name__}


def slowly(word: str) -> Answer:
    threading.Event().wait(0.2)
    return who(word)


def long_words(size: int) -> Answer:
    return {"text": "x" * size}


def fault() -> Answer:
    raise ValueError("a fault")


def dies(status: int) -> Answer:
    os._exit(status)


def met(barrier: str, count: int) -> Answer:
    """Returns when so many have come."""
    Path(barrier, str(os.getpid())).touch()
    while len(list(Path(barrier).iterdir())) < count:
        threading.Event().wait(0.005)
    return who()


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    before = sorted(path.name for path in Path("/proc/self/fd").iterdir())
    yield
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert sorted(path.name for path in Path("/proc/self/fd").iterdir()) == before


class Lab:
    """Hands with their log, closed at the end."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.hands = Hands(log=self._log)

    def _log(self, _level: Level, text: str) -> None:
        self.lines.append(text)

    async def do(self, function: Callable[..., Answer], *values: object, seconds: float = PATIENCE) -> Ended:
        errand = Errand(function, values)  # type: ignore[arg-type]
        return await self.hands.run(errand, seconds=seconds, what=function.__name__)

    async def late(self, function: Callable[..., Answer], begun: Path) -> tuple[int, Ended, float]:
        """A job that had begun when its time was over, however slow the machine is: its process, how it ended, and the
        seconds it had.
        """
        for seconds in (0.2, 2.0, 20.0):
            kept = await self.pid()
            ended = await self.do(function, str(begun), seconds=seconds)
            if begun.exists():
                return kept, ended, seconds
        raise AssertionError("it never began in its time")

    async def pid(self) -> int:
        answer = (await self.do(who)).answer
        assert answer is not None
        number: int = answer["pid"]
        return number


def run(test: Callable[[Lab], Coroutine[None, None, None]]) -> None:
    async def inside() -> None:
        lab = Lab()
        try:
            await test(lab)
        finally:
            await lab.hands.close()

    asyncio.run(inside())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


def test_one_child_does_what_follows_each_other() -> None:
    async def test(lab: Lab) -> None:
        first = await lab.pid()
        assert first != os.getpid()
        assert [(await lab.do(who, word)).answer for word in ("a", "b")] == [
            {"pid": first, "word": "a"},
            {"pid": first, "word": "b"},
        ]
        assert lab.hands.at_work == 1

    run(test)


def test_what_is_at_once_is_done_at_once(tmp_path: Path) -> None:
    async def test(lab: Lab) -> None:
        ends = await asyncio.gather(*(lab.do(met, str(tmp_path), 5) for _ in range(5)))
        assert len({end.answer["pid"] for end in ends if end.answer}) == 5
        ends = await asyncio.gather(*(lab.do(who) for _ in range(5)))
        assert {int(path.name) for path in tmp_path.iterdir()} == {end.answer["pid"] for end in ends if end.answer}

    run(test)


def test_another_job_has_a_fork_of_its_own_and_sees_this_moment() -> None:
    async def test(lab: Lab) -> None:
        kept = await lab.pid()
        moment = "now"
        ended = await lab.hands.run(lambda: {**who(moment)}, seconds=5 * PATIENCE, what="a job")
        assert ended.answer is not None
        assert ended.answer["word"] == "now"
        assert ended.answer["pid"] != kept
        assert await lab.pid() == kept

    run(test)


def test_an_idle_one_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hand, "KEPT_SECONDS", 0.05)

    async def test(lab: Lab) -> None:
        first = await lab.pid()
        await until(lambda: lab.hands.at_work == 0)
        assert not Path(f"/proc/{first}").exists()
        assert await lab.pid() != first

    run(test)


def test_one_that_was_killed_while_idle_is_replaced() -> None:
    async def test(lab: Lab) -> None:
        first = await lab.pid()
        os.kill(first, signal.SIGKILL)
        os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
        assert await lab.pid() != first

    run(test)


@pytest.mark.parametrize("size", [0, PART_BYTES - 12, PART_BYTES, 10 * PART_BYTES])
def test_an_answer_of_any_length_comes_whole(size: int) -> None:
    async def test(lab: Lab) -> None:
        for _ in range(2):
            assert (await lab.do(long_words, size)).answer == {"text": "x" * size}

    run(test)


def test_a_monstrous_answer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hand, "ANSWER_BYTES", 3 * PART_BYTES)

    async def test(lab: Lab) -> None:
        ended = await lab.do(long_words, 100 * PART_BYTES)
        assert ended == Ended(answer=None, problem=f"its answer has more than {3 * PART_BYTES} bytes")
        assert (await lab.do(who)).answer

    run(test)


def test_an_errand_that_is_too_long_is_a_job() -> None:
    async def test(lab: Lab) -> None:
        kept = await lab.pid()
        answer = (await lab.do(who, "x" * 100_000)).answer
        assert answer is not None
        assert (len(answer["word"]), answer["pid"] != kept) == (100_000, True)

    run(test)


def test_a_fault_is_told_and_the_child_is_kept() -> None:
    async def test(lab: Lab) -> None:
        kept = await lab.pid()
        ended = await lab.do(fault)
        assert ended.answer is None
        assert "ValueError: a fault" in ended.problem
        assert await lab.pid() == kept

    run(test)


def test_one_that_dies_at_work_is_told() -> None:
    async def test(lab: Lab) -> None:
        ended = await lab.do(dies, 3)
        assert ended == Ended(answer=None, problem="its process ended without a result (exit status 3)")
        assert (await lab.do(who)).answer

    run(test)


def test_a_late_one_undoes_its_work_and_is_not_used_again(tmp_path: Path) -> None:
    async def test(lab: Lab) -> None:
        kept, ended, seconds = await lab.late(forever, tmp_path / "on")
        assert ended == Ended(answer=None, problem=f"it was not done after {seconds:g} s", late=True)
        assert (tmp_path / "on undone").exists()
        assert await lab.pid() != kept

    run(test)


def test_a_late_one_that_answers_is_heard_and_not_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hand, "UNDO_SECONDS", 3.0)

    async def test(lab: Lab) -> None:
        kept, ended, _ = await lab.late(obliging, tmp_path / "on")
        assert ended.answer == {"pid": kept, "word": "done"}
        assert await lab.pid() != kept
        await until(lambda: lab.hands.at_work == 1)

    run(test)


def test_one_that_hangs_is_left_alone_and_the_next_has_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hand, "UNDO_SECONDS", 0.05)
    monkeypatch.setattr(hand, "KILL_SECONDS", 0.05)
    kill = os.kill
    pids: list[int] = []

    async def test(lab: Lab) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(os, "kill", lambda pid, number: pids.append(pid))
            hung = await lab.do(stubborn, str(tmp_path / "on"), seconds=0.3)
            assert hung == Ended(answer=None, problem=hand.HANGS, late=True)
            assert lab.hands.hanging == ("stubborn",)
            assert (await lab.do(stubborn, str(tmp_path / "on"))).late
            assert (await lab.do(who)).answer
        kill(pids[0], signal.SIGKILL)
        await until(lambda: not lab.hands.hanging)
        assert lab.lines[-1].endswith("hung in the kernel and has ended now")

    run(test)


def test_who_is_cancelled_ends_his_errand_and_no_other(tmp_path: Path) -> None:
    async def test(lab: Lab) -> None:
        kept = await lab.pid()
        task = asyncio.create_task(lab.do(forever, str(tmp_path / "on")))
        await until((tmp_path / "on").exists)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until((tmp_path / "on undone").exists)
        assert await lab.pid() != kept

    run(test)


def test_who_is_cancelled_as_his_answer_comes_ends_nobody_elses_work() -> None:
    """The child is at the next errand already when the one that was cancelled looks after it."""

    async def test(lab: Lab) -> None:
        for _ in range(50):
            first = asyncio.create_task(lab.do(who, "first"))
            await asyncio.sleep(0.001 * (_ % 7))
            others = [asyncio.create_task(lab.do(who, f"other {number}")) for number in range(3)]
            first.cancel()
            ends = await asyncio.gather(first, *others, return_exceptions=True)
            assert all(isinstance(end, Ended) and end.answer for end in ends[1:]), ends

    run(test)


def test_what_has_been_done_is_not_denied_by_an_end_in_that_moment() -> None:
    async def test(lab: Lab) -> None:
        assert (await lab.do(told_as_it_answers)).answer == {"done": True}
        await until(lambda: lab.hands.at_work == 0)

    run(test)


def test_the_idle_take_no_room_from_those_that_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of three are idle and two hang: the next one still gets its turn."""
    monkeypatch.setattr(hands, "PLACE_SECONDS", 0.1)
    monkeypatch.setattr(hands, "MOST", 3)

    async def test(lab: Lab) -> None:
        lab.hands = Hands(log=lambda _level, _text: None, width=2)
        await asyncio.gather(*(lab.do(met, str(tmp_path), 2) for _ in range(2)))
        jobs = [partial(forever, str(tmp_path / name)) for name in "ab"]
        slow = [asyncio.create_task(lab.hands.run(job, seconds=5 * PATIENCE, what="slow")) for job in jobs]
        await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE):
            assert (await lab.do(who)).answer
        await lab.hands.close()
        await asyncio.wait(slow)

    run(test)


def test_an_errand_may_wait_for_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process takes the flusher mark back, as that of a job does."""
    monkeypatch.setattr("iscsiboot.keeper.hygiene.set_io_flusher", lambda on: (tmp_path / str(on)).touch())

    async def test(lab: Lab) -> None:
        assert (await lab.do(who)).answer
        assert [path.name for path in tmp_path.iterdir()] == ["False"]

    run(test)


def test_an_errand_may_import_though_we_are_sealed() -> None:
    async def test(lab: Lab) -> None:
        assert (await lab.do(imports)).answer == {"name": "colorsys"}

    hooks = (sys.excepthook, sys.unraisablehook)
    seal.seal(lambda _level, _text: None)
    try:
        run(test)
    finally:
        seal.lift()
        sys.excepthook, sys.unraisablehook = hooks


def test_who_takes_his_answer_late_ends_nobody_elses_work() -> None:
    """The child is at the next errand when the one whose answer it gave comes to his turn of the loop."""

    async def test(lab: Lab) -> None:
        kept = await lab.pid()
        others: list[asyncio.Task[Ended]] = []
        first = asyncio.create_task(lab.do(who, "first"))
        await asyncio.sleep(0)
        threading.Event().wait(0.1)  # the answer is there, the loop has not seen it
        begin = partial(lab.do, slowly, "other")
        asyncio.get_running_loop().call_soon(lambda: others.append(asyncio.create_task(begin())))
        assert (await first).answer == {"pid": kept, "word": "first"}
        assert (await others[0]).answer == {"pid": kept, "word": "other"}

    run(test)


def test_one_that_ends_before_it_reads_its_errand_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is cancelled at once ends a child that has not read yet; a socket tells that as an error."""
    faults: list[object] = []
    monkeypatch.setattr(hand, "keep_working", lambda link: [select.select([link], [], [], 10), dies(2)])

    async def test(lab: Lab) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        for _ in range(3):
            ended = await lab.do(who)
            assert ended == Ended(answer=None, problem="its process ended without a result (exit status 2)")
        await until(lambda: lab.hands.at_work == 0)

    run(test)
    assert faults == []


def test_one_that_cannot_be_told_its_errand_does_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is short for a moment: the errand is done all the same, and no child waits for ever for one."""

    def short(*_: object) -> int:
        raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))

    async def test(lab: Lab) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(socket.socket, "send", short)
            assert (await lab.do(who)).answer
        await until(lambda: lab.hands.at_work == 0)

    run(test)


def test_without_process_descriptors_the_end_of_the_wire_is_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(pid: int, flags: int = 0) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", unknown)
    monkeypatch.setattr(hand, "KEPT_SECONDS", 0.2)

    async def test(lab: Lab) -> None:
        assert await lab.pid() == await lab.pid()
        assert "exit status 3" in (await lab.do(dies, 3)).problem
        assert (await lab.do(forever, str(tmp_path / "on"), seconds=0.2)).late
        assert (await lab.do(who)).answer
        await until(lambda: lab.hands.at_work == 0)

    run(test)


def test_close_ends_the_idle_and_the_working(tmp_path: Path) -> None:
    async def test(lab: Lab) -> None:
        await asyncio.gather(*(lab.do(met, str(tmp_path), 3) for _ in range(3)))
        task = asyncio.create_task(lab.do(forever, str(tmp_path / "on")))
        await until((tmp_path / "on").exists)
        await lab.hands.close()
        assert (await task).answer is None
        assert (tmp_path / "on undone").exists()
        assert lab.hands.at_work == 0
        assert "this program is ending" in (await lab.do(who)).problem

    run(test)


def test_where_no_process_can_be_made_the_idle_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as may be are kept idle: a job that needs a fork has them end first."""
    monkeypatch.setattr(hand, "KEPT_SECONDS", 60.0)
    fork = os.fork

    async def test(lab: Lab) -> None:
        kept = await lab.pid()

        def sparing() -> int:
            if Path(f"/proc/{kept}").exists() and Path(f"/proc/{kept}/stat").read_text().split()[2] != "Z":
                raise BlockingIOError(11, "Resource temporarily unavailable")
            return fork()

        monkeypatch.setattr(os, "fork", sparing)
        async with asyncio.timeout(PATIENCE):
            ended = await lab.hands.run(partial(who, "job"), seconds=5 * PATIENCE, what="a job")
        assert ended.answer is not None
        assert ended.answer["word"] == "job"

    run(test)


def test_a_parent_that_is_killed_leaves_nobody(tmp_path: Path) -> None:
    """Its idle hands see the end of their wire."""
    pid = os.fork()
    if pid == 0:
        try:
            lab = Lab()

            async def leave() -> None:
                (tmp_path / "pid").write_text(str(await lab.pid()))
                (tmp_path / "there").touch()
                await asyncio.sleep(60)

            asyncio.run(leave())
        finally:
            os._exit(1)
    asyncio.run(until((tmp_path / "there").exists))
    kept = int((tmp_path / "pid").read_text())
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    asyncio.run(until(lambda: not Path(f"/proc/{kept}/fd/0").exists()))
