# SPDX-License-Identifier: LGPL-2.1-or-later
"""Blocking jobs beside a loop: answers, faults, lateness, what hangs, cancellation, and what a child gets of us."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from iscsiboot.keeper import hand, hands, seal
from iscsiboot.keeper.hands import Hands
from iscsiboot.keeper.log import Level
from iscsiboot.keeper.logring import LogRing
from iscsiboot.keeper.sinks import StreamSink
from iscsiboot.session.workers import UNDO_SECONDS, Answer, Ended

PATIENCE = 60.0
"""Seconds for anything that has to happen; a machine with every core taken needs some."""


class Lines(list[tuple[Level, str]]):
    """A log."""

    def __call__(self, level: Level, text: str) -> None:
        self.append((level, text))


def forever() -> Answer:
    """Until a signal ends it."""
    threading.Event().wait(10 * PATIENCE)
    return {}


def stubborn(mark: Path) -> Answer:
    """What hangs in the kernel, as far as SIGTERM goes."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    mark.touch()
    while True:
        threading.Event().wait(10 * PATIENCE)


def descriptors() -> list[str]:
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture(autouse=True)
def no_child_left() -> Iterator[None]:
    yield
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.fixture(autouse=True)
def no_descriptor_left() -> Iterator[None]:
    gc.collect()
    before = descriptors()
    yield
    gc.collect()
    assert descriptors() == before


async def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Let the loop work until it is so."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def late(begin: Callable[[float], Awaitable[Ended]], begun: Path) -> tuple[Ended, float]:
    """How a job ended that had begun when its time was over, however slow the machine is; and the seconds it had."""
    for seconds in (0.2, 2.0, 20.0):
        ended = await begin(seconds)
        if begun.exists():
            return ended, seconds
    raise AssertionError("it never began in its time")


def test_answers_come_back_and_the_loop_goes_on(lines: Lines, tmp_path: Path) -> None:
    """Four jobs at a time wait for a sign that only the loop can give while they are at work."""

    async def main() -> list[Ended]:
        pool = Hands(log=lines, width=4)

        def job(number: int) -> Answer:
            (tmp_path / f"begun {number}").touch()
            while not (tmp_path / f"go on {number}").exists():
                threading.Event().wait(0.005)
            return {"number": number, "pid": os.getpid()}

        async def give_signs() -> None:
            for number in range(12):
                await until((tmp_path / f"begun {number}").exists)
                assert pool.at_work
                (tmp_path / f"go on {number}").touch()

        signs = asyncio.create_task(give_signs())
        results = await asyncio.gather(
            *(pool.run(partial(job, number), seconds=PATIENCE, what=f"job {number}") for number in range(12))
        )
        await signs
        assert pool.at_work == 0
        return results

    results = asyncio.run(main())
    answers = [result.answer for result in results]
    assert [answer["number"] for answer in answers if answer] == list(range(12))
    assert len({answer["pid"] for answer in answers if answer} | {os.getpid()}) == 13
    assert not lines


def test_width_is_kept(lines: Lines, tmp_path: Path) -> None:
    """Each job waits for another one beside it, unless all others are over, and then for a third."""

    def at_work() -> int:
        return len(list(tmp_path.glob("begun*"))) - len(list(tmp_path.glob("over*")))

    def job(number: int) -> Answer:
        (tmp_path / f"begun{number}").touch()
        while at_work() < 2 and len(list(tmp_path.glob("over*"))) < 7:
            threading.Event().wait(0.005)
        threading.Event().wait(0.05)
        count = at_work()
        (tmp_path / f"over{number}").touch()
        return {"count": count}

    async def main() -> list[Ended]:
        pool = Hands(log=lines, width=2)
        return await asyncio.gather(*(pool.run(partial(job, n), seconds=PATIENCE, what=str(n)) for n in range(8)))

    assert max(result.answer["count"] for result in asyncio.run(main()) if result.answer) == 2


def test_those_that_take_long_give_their_place_to_the_next(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit that never answers holds up nobody: nor do as many as there are places."""
    monkeypatch.setattr(hands, "PLACE_SECONDS", 0.2)
    monkeypatch.setattr(hands, "MOST", 5)

    async def main() -> None:
        pool = Hands(log=lines, width=2)

        def stick(name: str) -> list[asyncio.Task[Ended]]:
            jobs = [pool.run(forever, seconds=5 * PATIENCE, what=f"{name} {number}") for number in range(4)]
            return [asyncio.create_task(job) for job in jobs]

        stuck = stick("unit")
        await asyncio.sleep(0)
        began = time.monotonic()
        ended = await pool.run(lambda: {"fine": True}, seconds=PATIENCE, what="another")
        assert ended.answer == {"fine": True}
        assert 0.2 <= time.monotonic() - began < PATIENCE, "none of the stuck ones was waited for to its end"
        assert pool.at_work == 4
        # But not without end.
        stuck += stick("more")
        await asyncio.sleep(1)
        assert pool.at_work <= 7
        for task in stuck:
            task.cancel()
        await asyncio.wait(stuck)
        await until(lambda: pool.at_work == 0)
        assert (await pool.run(lambda: {"fine": True}, seconds=PATIENCE, what="last")).answer

    asyncio.run(main())


def test_a_large_answer_comes_whole_and_a_monstrous_one_is_refused(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(size: int) -> Ended:
        return await Hands(log=lines).run(lambda: {"text": "x" * size}, seconds=PATIENCE, what="talk")

    assert asyncio.run(main(1_000_000)).answer == {"text": "x" * 1_000_000}
    monkeypatch.setattr(hand, "ANSWER_BYTES", 1000)
    refused = asyncio.run(main(1_000_000))
    assert refused.answer is None
    assert refused.problem


@pytest.mark.parametrize("size", [990, 1_000, 30_000, 60_000, 100_000])
def test_an_answer_that_is_too_long_is_refused_also_when_its_child_is_over(
    lines: Lines, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """The rest of it is read from the pipe of a child that has ended well: nothing is made of a half."""
    monkeypatch.setattr(hand, "ANSWER_BYTES", 1000)

    async def main() -> Ended:
        async with asyncio.timeout(PATIENCE):
            return await Hands(log=lines).run(lambda: {"text": "x" * size}, seconds=PATIENCE, what="talk")

    assert asyncio.run(main()) == Ended(answer=None, problem="its answer has more than 1000 bytes")


def test_a_fault_of_a_job_is_told_and_costs_only_itself(lines: Lines) -> None:
    def faulty() -> Answer:
        raise KeyError("no such thing")

    async def main() -> Ended:
        return await Hands(log=lines).run(faulty, seconds=PATIENCE, what="fault")

    ended = asyncio.run(main())
    assert ended.answer is None
    assert "no such thing" in ended.problem


@pytest.mark.parametrize(("job", "words"), [(lambda: os._exit(7), "exit status 7"), (os.abort, "killed by signal 6")])
def test_a_child_that_dies_is_told(lines: Lines, job: Callable[[], Answer], words: str) -> None:
    async def main() -> Ended:
        return await Hands(log=lines).run(job, seconds=PATIENCE, what="death")

    ended = asyncio.run(main())
    assert ended.answer is None
    assert words in ended.problem


def test_a_late_one_is_told_to_end_and_undoes_its_work(lines: Lines, tmp_path: Path) -> None:
    def job() -> Answer:
        try:
            (tmp_path / "on").touch()
            return forever()
        finally:
            (tmp_path / "undone").touch()

    async def main() -> tuple[Ended, float]:
        return await late(lambda seconds: Hands(log=lines).run(job, seconds=seconds, what="slow"), tmp_path / "on")

    ended, seconds = asyncio.run(main())
    assert (ended.answer, ended.late) == (None, True)
    assert f"{seconds:g} s" in ended.problem
    assert (tmp_path / "undone").exists()


def test_what_does_not_end_is_killed(lines: Lines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hand, "UNDO_SECONDS", 0.1)

    async def main() -> tuple[Ended, float]:
        on = tmp_path / "on"
        return await late(lambda seconds: Hands(log=lines).run(partial(stubborn, on), seconds=seconds, what="it"), on)

    ended, _ = asyncio.run(main())
    assert ended.late


def test_what_hangs_in_the_kernel_is_left_alone_and_takes_no_place(
    lines: Lines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped process that no signal of ours reaches stands for one in state D."""
    monkeypatch.setattr(hand, "UNDO_SECONDS", 0.05)
    monkeypatch.setattr(hand, "KILL_SECONDS", 0.05)
    kill = os.kill
    monkeypatch.setattr(os, "kill", lambda pid, number: None)

    async def main() -> None:
        pool = Hands(log=lines, width=1)
        hung = await pool.run(partial(stubborn, tmp_path / "on"), seconds=0.3, what="the scan of host3")
        assert hung == Ended(answer=None, problem=hand.HANGS, late=True)
        assert pool.hanging == ("the scan of host3",)
        pid = int(lines[0][1].split("process ")[1].split()[0])
        assert lines[0][0] is Level.WARNING
        # Its place is free, its name is not.
        other = await pool.run(lambda: {"fine": True}, seconds=PATIENCE, what="the scan of host4")
        assert other.answer == {"fine": True}
        again = await pool.run(lambda: {"fine": True}, seconds=PATIENCE, what="the scan of host3")
        assert again.answer is None
        assert f"process {pid}" in again.problem
        # When the kernel lets it go after all, it is reaped and told of.
        kill(pid, signal.SIGKILL)
        await until(lambda: pool.at_work == 0)
        assert pool.hanging == ()
        assert "has ended now" in lines[-1][1]
        assert (await pool.run(lambda: {"fine": True}, seconds=PATIENCE, what="the scan of host3")).answer

    asyncio.run(main())


def test_who_is_cancelled_leaves_a_child_that_ends(lines: Lines, tmp_path: Path) -> None:
    def job() -> Answer:
        try:
            (tmp_path / "on").touch()
            return forever()
        finally:
            (tmp_path / "undone").touch()

    async def main() -> None:
        pool = Hands(log=lines)
        task = asyncio.create_task(pool.run(job, seconds=5 * PATIENCE, what="cancelled"))
        await until((tmp_path / "on").exists)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: pool.at_work == 0)
        assert (tmp_path / "undone").exists()

    asyncio.run(main())


def test_one_that_waits_for_its_place_can_be_cancelled(lines: Lines) -> None:
    async def main() -> None:
        pool = Hands(log=lines, width=1)
        first = asyncio.create_task(pool.run(forever, seconds=5 * PATIENCE, what="first"))
        await until(lambda: pool.at_work == 1)
        second = asyncio.create_task(pool.run(forever, seconds=5 * PATIENCE, what="second"))
        await asyncio.sleep(0.05)
        second.cancel()
        first.cancel()
        await asyncio.wait([first, second])
        assert (await pool.run(lambda: {"fine": True}, seconds=PATIENCE, what="third")).answer == {"fine": True}
        await pool.close()

    asyncio.run(main())


def test_close_ends_all_in_time_and_nothing_begins_after_it(lines: Lines, tmp_path: Path) -> None:
    async def main() -> None:
        pool = Hands(log=lines, width=2)
        tasks = [
            asyncio.create_task(pool.run(forever, seconds=5 * PATIENCE, what="waits")),
            asyncio.create_task(pool.run(partial(stubborn, tmp_path / "on"), seconds=5 * PATIENCE, what="stubborn")),
            asyncio.create_task(pool.run(forever, seconds=5 * PATIENCE, what="queued")),
        ]
        await until((tmp_path / "on").exists)
        began = time.monotonic()
        await pool.close(0.5)
        assert time.monotonic() - began < UNDO_SECONDS, "it was not given the time it may take by itself"
        results = await asyncio.gather(*tasks)
        assert all(result.answer is None for result in results)
        assert "was not begun" in results[2].problem
        # The one that was killed at the end belongs to process 1 in a daemon; here it is ours.
        os.waitpid(-1, 0)

    asyncio.run(main())


def test_where_no_process_can_be_made_it_waits_for_one_of_ours(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    fork = os.fork
    refusals = iter([False, True, True, False])

    def sparing() -> int:
        if next(refusals, False):
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return fork()

    monkeypatch.setattr(os, "fork", sparing)

    async def main() -> tuple[Ended, Ended]:
        pool = Hands(log=lines)
        return await asyncio.gather(
            pool.run(lambda: {"n": threading.Event().wait(0.2)}, seconds=PATIENCE, what="a"),
            pool.run(lambda: {"n": 2}, seconds=PATIENCE, what="b"),
        )

    first, second = asyncio.run(main())
    assert first.answer == {"n": False}
    # Refused once beside the first, and once more with none at work: then it fails.
    assert "was not begun" in second.problem


def test_who_waits_for_a_process_begins_none_after_the_close(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the last child is what it waited for; a child made then would outlive us."""
    fork = os.fork
    ours: list[int] = []

    def sparing() -> int:
        if ours and Path(f"/proc/{ours[0]}").exists():
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        pid = fork()
        ours.append(pid)
        return pid

    monkeypatch.setattr(os, "fork", sparing)

    async def main() -> Ended:
        pool = Hands(log=lines)
        first = asyncio.create_task(pool.run(forever, seconds=5 * PATIENCE, what="first"))
        await until(lambda: pool.at_work == 1)
        second = asyncio.create_task(pool.run(forever, seconds=5 * PATIENCE, what="second"))
        await asyncio.sleep(0.02)
        await pool.close()
        await first
        async with asyncio.timeout(PATIENCE):
            return await second

    assert asyncio.run(main()).problem == "second was not begun: this program is ending"
    assert len(ours) == 1


def test_two_of_one_name_that_hang_are_counted_as_two(
    lines: Lines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients ask for the same rescan at once: who waits for a process must not wait for those that hang."""
    monkeypatch.setattr(hand, "UNDO_SECONDS", 0.05)
    monkeypatch.setattr(hand, "KILL_SECONDS", 0.05)
    kill = os.kill
    pids: list[int] = []

    def refused() -> int:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    async def main() -> None:
        pool = Hands(log=lines)
        with monkeypatch.context() as patch:
            patch.setattr(os, "kill", lambda pid, _: pids.append(pid))
            jobs = [pool.run(partial(stubborn, tmp_path / str(n)), seconds=0.3, what="the rescan") for n in range(2)]
            await asyncio.gather(*jobs)
            assert pool.hanging == ("the rescan",)
            patch.setattr(os, "fork", refused)
            async with asyncio.timeout(PATIENCE):
                other = await pool.run(dict, seconds=PATIENCE, what="another")
            assert "was not begun" in other.problem
        first, second = dict.fromkeys(pids)
        kill(second, signal.SIGKILL)
        await until(lambda: pool.at_work == 1)
        assert f"process {first}" in (await pool.run(dict, seconds=PATIENCE, what="the rescan")).problem
        kill(first, signal.SIGKILL)
        await until(lambda: pool.at_work == 0)
        assert pool.hanging == ()

    asyncio.run(main())


def test_a_child_holds_nothing_of_ours(lines: Lines) -> None:
    def job() -> Answer:
        links = [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        return {"open": [str(path.readlink()) for path in links], "wakeup": signal.set_wakeup_fd(-1)}

    async def main() -> Ended:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            return await Hands(log=lines).run(job, seconds=PATIENCE, what="look")

    answer = asyncio.run(main()).answer
    assert answer is not None
    kinds = sorted(link.split(":")[0] for link in answer["open"])
    assert kinds == ["/dev/null", "/dev/null", "/dev/null", "pipe"]
    assert answer["wakeup"] == -1


def test_garbage_of_ours_closes_no_file_of_a_child(lines: Lines, tmp_path: Path) -> None:
    """A socket in a ring of objects that nobody has collected yet: its number is the child's file by then."""

    class Ring:
        def __init__(self, sock: socket.socket) -> None:
            self.sock, self.me = sock, self

    def job(number: int) -> Answer:
        while (mine := os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)) < number:
            pass
        gc.collect()
        return {"same": mine == number, "wrote": os.write(mine, b"whole")}

    async def main() -> Ended:
        ring = Ring(socket.socket())
        number = ring.sock.fileno()
        del ring
        return await Hands(log=lines).run(partial(job, number), seconds=10, what="write")

    gc.collect()
    gc.disable()
    try:
        ended = asyncio.run(main())
        with pytest.warns(ResourceWarning):
            gc.collect()
    finally:
        gc.enable()
    assert ended.answer == {"same": True, "wrote": 5}, ended.problem


def test_a_child_that_logs_writes_nowhere(tmp_path: Path) -> None:
    """The numbers of a log's descriptors are a child's own files: a line in a record would be the end of it."""
    reading, writing = os.pipe()
    ring = LogRing(StreamSink(writing))

    def job() -> Answer:
        files = [os.open(tmp_path / "record", os.O_WRONLY | os.O_CREAT) for _ in range(64)]
        ring(Level.ERROR, "a line from the child")
        ring.flush()
        return {"files": len(files)}

    async def main() -> Ended:
        ring.attach(asyncio.get_running_loop())
        ended = await Hands(log=ring).run(job, seconds=10, what="log")
        ring(Level.INFO, "a line of ours")
        ring.detach()
        return ended

    assert asyncio.run(main()).answer == {"files": 64}
    assert (tmp_path / "record").read_bytes() == b""
    assert os.read(reading, 1000) == b"a line of ours\n"
    ring.close()
    os.close(reading)
    os.close(writing)


def test_a_signal_to_a_child_is_not_taken_for_one_to_us(lines: Lines) -> None:
    """Asyncio hears of signals by a socket that a fork shares."""

    async def main() -> int:
        loop = asyncio.get_running_loop()
        heard = 0

        def hear() -> None:
            nonlocal heard
            heard += 1

        loop.add_signal_handler(signal.SIGTERM, hear)
        pool = Hands(log=lines)
        for _ in range(5):
            await pool.run(forever, seconds=0.05, what="told")
        await asyncio.sleep(0.05)
        loop.remove_signal_handler(signal.SIGTERM)
        return heard

    assert asyncio.run(main()) == 0


def test_a_child_may_import_though_we_are_sealed(lines: Lines) -> None:
    assert "colorsys" not in sys.modules

    def job() -> Answer:
        import colorsys

        return {"name": colorsys.__name__}

    async def main() -> Ended:
        return await Hands(log=lines).run(job, seconds=PATIENCE, what="import")

    hooks = (sys.excepthook, sys.unraisablehook)
    seal.seal(lines)
    try:
        assert asyncio.run(main()).answer == {"name": "colorsys"}
        assert seal.is_sealed()
    finally:
        seal.lift()
        sys.excepthook, sys.unraisablehook = hooks
    assert "colorsys" not in sys.modules


def test_without_process_descriptors_the_end_of_the_pipe_is_the_end(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(pid: int, flags: int = 0) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", unknown)

    async def main() -> list[Ended]:
        pool = Hands(log=lines)
        ended = [
            await pool.run(lambda: {"n": 1}, seconds=PATIENCE, what="a"),
            await pool.run(lambda: os._exit(3), seconds=PATIENCE, what="b"),
            await pool.run(forever, seconds=0.1, what="c"),
        ]
        assert pool.at_work == 0
        return ended

    fine, dead, late = asyncio.run(main())
    assert fine.answer == {"n": 1}
    assert "exit status 3" in dead.problem
    assert late.late


def test_a_grandchild_that_holds_the_pipe_delays_nobody(lines: Lines, tmp_path: Path) -> None:
    def job() -> Answer:
        if os.fork() == 0:
            (tmp_path / "pid").write_text(str(os.getpid()))
            threading.Event().wait(2 * PATIENCE)
            os._exit(0)
        return {"fine": True}

    async def main() -> Ended:
        return await Hands(log=lines).run(job, seconds=PATIENCE, what="parent")

    began = time.monotonic()
    assert asyncio.run(main()).answer == {"fine": True}
    assert time.monotonic() - began < PATIENCE
    grandchild = tmp_path / "pid"
    asyncio.run(until(lambda: grandchild.exists() and bool(grandchild.read_text())))
    os.kill(int(grandchild.read_text()), signal.SIGKILL)
