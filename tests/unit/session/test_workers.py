# SPDX-License-Identifier: LGPL-2.1-or-later
"""Jobs in child processes: results, faults, signals, lateness, and what is left when the loop is left."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import pytest

from iscsiboot.session import workers
from iscsiboot.session.workers import Answer, Ended, Job, Workers


def wait_for_ever() -> Answer:
    """What a job does that waits for a target: until a signal ends it."""
    threading.Event().wait(60)
    return {}


def run(jobs: list[Job], *, seconds: float = 20.0, width: int = 8) -> dict[int, Ended]:
    with Workers(now=time.monotonic, seconds=seconds, width=width) as pool:
        return dict(pool.run(jobs))


@pytest.fixture(autouse=True)
def no_child_left() -> Iterator[None]:
    yield
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_every_job_hands_its_answer_back() -> None:
    ended = run([partial(dict, number=number) for number in range(20)], width=3)
    assert {index: item.answer for index, item in ended.items()} == {number: {"number": number} for number in range(20)}


@pytest.mark.parametrize("text", [b"{", b'{"x": "aaa', b"\xff\xfe", b"aaa}", b'{"x": 1}{"x": 1}'])
def test_an_answer_that_is_damaged_is_a_problem_and_no_exception(text: bytes) -> None:
    assert workers.ended(text, 0, False, 1.0) == Ended(answer=None, problem="its answer is damaged")


def test_a_large_answer_comes_whole() -> None:
    assert run([lambda: {"text": "x" * 1_000_000}])[0].answer == {"text": "x" * 1_000_000}


def test_width_is_kept(tmp_path: Path) -> None:
    """At most two are at work at a time: each looks how many have begun and not ended."""

    def job(number: int) -> Answer:
        mine = tmp_path / str(number)
        mine.touch()
        threading.Event().wait(0.05)
        count = len(list(tmp_path.iterdir()))
        mine.unlink()
        return {"count": count}

    ended = run([partial(job, number) for number in range(6)], width=2)
    assert max(item.answer["count"] for item in ended.values() if item.answer) <= 2


def at_places(folder: Path, number: int, place: str, seconds: float) -> Answer:
    """How many were at work at its place when it began."""
    mine = folder / f"{place}-{number}"
    mine.touch()
    count = len(list(folder.glob(f"{place}-*")))
    threading.Event().wait(seconds)
    mine.unlink()
    return {"count": count}


def test_so_many_at_a_place_and_those_elsewhere_do_not_wait(tmp_path: Path) -> None:
    places = ["slow"] * 12 + ["fast"] * 4
    jobs = [partial(at_places, tmp_path, number, place, 0.05) for number, place in enumerate(places)]
    with Workers(now=time.monotonic, seconds=20, width=16, room=2) as pool:
        ended = list(pool.run(jobs, places=places))
    counts = [item.answer["count"] for _, item in ended if item.answer]
    assert len(counts) == 16
    assert max(counts) <= 2
    # Those of the other place are behind twelve in the line and do not wait for them.
    assert {index for index, _ in ended[:8]} >= {12, 13, 14, 15}


def test_whose_turn_comes_late_has_all_its_time(tmp_path: Path) -> None:
    jobs = [partial(at_places, tmp_path, number, "p", 0.6) for number in range(5)]
    with Workers(now=time.monotonic, seconds=2.0, room=1) as pool:
        ended = dict(pool.run(jobs, places=["p"] * 5))
    assert [ended[index].late for index in range(5)] == [False] * 5


def test_a_place_that_is_held_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the four ends before all of them have begun."""
    monkeypatch.setattr(workers, "PLACE_SECONDS", 0.2)

    def job(number: int) -> Answer:
        (tmp_path / str(number)).touch()
        while len(list(tmp_path.iterdir())) < 4:
            threading.Event().wait(0.01)
        return {}

    began = time.monotonic()
    with Workers(now=time.monotonic, seconds=60, room=1) as pool:
        ended = dict(pool.run([partial(job, number) for number in range(4)], places=["dead"] * 4))
    assert [item.answer for item in ended.values()] == [{}] * 4
    assert time.monotonic() - began >= 0.6, "and none before its time"


def test_a_fault_is_told_with_its_place() -> None:
    def job() -> Answer:
        raise RuntimeError("odd")

    ended = run([job, dict])
    assert ended[0].answer is None
    assert "RuntimeError: odd" in ended[0].problem
    assert ended[1].answer == {}


def test_a_killed_child_is_told() -> None:
    def job() -> Answer:
        os.kill(os.getpid(), signal.SIGKILL)
        return {}

    ended = run([job, lambda: {"ok": True}])
    assert "killed by signal 9" in ended[0].problem
    assert ended[1].answer == {"ok": True}


def test_a_late_child_takes_itself_back(tmp_path: Path) -> None:
    def job() -> Answer:
        try:
            return wait_for_ever()
        finally:
            (tmp_path / "undone").touch()

    ended = run([job], seconds=1.5)
    assert ended[0] == Ended(answer=None, problem="it was not done after 1.5 s", late=True)
    assert (tmp_path / "undone").exists()


def test_a_child_that_ignores_the_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "UNDO_SECONDS", 0.2)

    def job() -> Answer:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return wait_for_ever()

    assert run([job], seconds=0.1)[0].late


def test_a_child_that_hangs_in_the_kernel_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing ends such a process, so signals are made to do nothing here; it must not be waited for."""
    monkeypatch.setattr(workers, "UNDO_SECONDS", 0.1)
    monkeypatch.setattr(workers, "KILL_SECONDS", 0.1)
    sent: list[tuple[int, int]] = []
    real = os.kill
    monkeypatch.setattr("iscsiboot.session.workers.os.kill", lambda pid, number: sent.append((pid, number)))
    ended = run([wait_for_ever], seconds=0.1)
    assert ended[0].problem == "it hangs in the kernel and cannot be ended"
    assert [number for _, number in sent] == [signal.SIGTERM, signal.SIGKILL]
    real(sent[0][0], signal.SIGKILL)
    os.waitpid(sent[0][0], 0)


def test_leaving_the_loop_ends_all_and_each_cleans_up(tmp_path: Path) -> None:
    def job(number: int) -> Answer:
        try:
            (tmp_path / f"began{number}").touch()
            return wait_for_ever()
        finally:
            (tmp_path / f"undone{number}").touch()

    def first() -> Answer:
        while len(list(tmp_path.glob("began*"))) < 3:
            os.sched_yield()
        return {}

    jobs: list[Job] = [partial(job, number) for number in range(3)]
    with (
        suppress(KeyboardInterrupt),
        Workers(now=time.monotonic, seconds=30) as pool,
        closing(pool.run([*jobs, first])) as ended,
    ):
        next(ended)
        raise KeyboardInterrupt
    assert sorted(path.name for path in tmp_path.glob("undone*")) == ["undone0", "undone1", "undone2"]


def test_a_second_signal_does_not_disturb_the_clean_up(tmp_path: Path) -> None:
    def job() -> Answer:
        (tmp_path / "began").touch()
        try:
            return wait_for_ever()
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            (tmp_path / "undone").touch()

    run([job], seconds=1.5)
    assert (tmp_path / "undone").exists()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM], ids=lambda number: str(number.name))
def test_every_signal_that_ends_a_job_lets_it_clean_up(number: signal.Signals, tmp_path: Path) -> None:
    """A connection to the machine that breaks (SIGHUP) leaves no half-made session either."""

    def job() -> Answer:
        try:
            os.kill(os.getpid(), number)
            return wait_for_ever()
        finally:
            (tmp_path / "undone").touch()

    assert "exit status 2" in run([job])[0].problem
    assert (tmp_path / "undone").exists()


def test_what_the_caller_ignores_is_ignored() -> None:
    def job() -> Answer:
        os.kill(os.getpid(), signal.SIGHUP)
        return {"still": "here"}

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run([job])[0].answer == {"still": "here"}
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_caller_that_ignores_ended_children() -> None:
    """Some supervisors do, and every program below them inherits it."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert run([dict, lambda: {"ok": True}])[1].answer == {"ok": True}
    finally:
        signal.signal(signal.SIGCHLD, before)


class Forks:
    """A system that lets one process be made at a time, or none at all."""

    def __init__(self, pool: Workers, limit: int) -> None:
        self._pool = pool
        self._limit = limit
        self._fork = os.fork

    def __call__(self) -> int:
        if len(self._pool._children) >= self._limit:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return self._fork()


@pytest.mark.parametrize("limit", [1, 0])
def test_where_no_more_processes_can_be_made(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs wait for those at work; the last resort is a result that says why."""
    files = set(Path("/proc/self/fd").iterdir())
    with Workers(now=time.monotonic, seconds=20) as pool:
        monkeypatch.setattr(os, "fork", Forks(pool, limit))
        ended = dict(pool.run([partial(dict, number=number) for number in range(4)]))
    if limit:
        assert [ended[number].answer for number in range(4)] == [{"number": number} for number in range(4)]
    else:
        assert {item.problem for item in ended.values()} == {
            "no process can be made for it: Resource temporarily unavailable"
        }
    assert sorted(ended) == [0, 1, 2, 3]
    assert set(Path("/proc/self/fd").iterdir()) <= files


def test_children_hold_no_standard_file() -> None:
    """A program that reads our output from a pipe sees its end although a child lives on."""
    ended = run([lambda: {"files": open_files()}])
    assert ended[0].answer is not None
    assert ended[0].answer["files"][:3] == ["/dev/null"] * 3


@pytest.mark.parametrize("closed", ["0<&- 1>&- 2>&-", "1>&-", "2>&-", "0<&-", ""])
def test_standard_files_that_are_closed_are_held(closed: str) -> None:
    """Else the next socket is one of them; and Python has no stream to write a failure to."""
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); from iscsiboot.session.workers import hold_standard_files;"
        "hold_standard_files(); sys.stdout.write('out'); sys.stderr.write('err'); sys.stdout.flush();"
        "sys.stderr.flush();"
        "free = os.open('/', os.O_RDONLY);"
        "os._exit(42 if free > 2 and all(os.get_inheritable(number) for number in range(3)) else 1)"
    )
    root = str(Path(workers.__file__).parents[2])
    command = ["sh", "-c", f'"$@" {closed}', "sh", "/usr/bin/python3", "-IS", "-c", code, root]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 42
    assert (ended.stdout, ended.stderr) == ("" if "1>" in closed else "out", "" if "2>" in closed else "err")


def test_children_do_not_hold_each_others_pipes() -> None:
    def pipes() -> Answer:
        return {"pipes": sum(name.startswith("pipe:") for name in open_files()[3:])}

    before = sum(name.startswith("pipe:") for name in open_files()[3:])
    assert [item.answer for item in run([pipes] * 5).values()] == [{"pipes": before + 1}] * 5


def open_files() -> list[str]:
    """What this process has open, by descriptor."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found[int(entry.name)] = str(entry.readlink())
    return [found[number] for number in sorted(found)]


def test_the_parents_handlers_are_not_run_in_a_child(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, lambda *_: sys.exit(99))
    try:

        def job() -> Answer:
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt:
                return {"interrupted": True}
            return {"interrupted": False}

        assert run([job])[0].answer == {"interrupted": True}
    finally:
        signal.signal(signal.SIGINT, before)


def test_tick_is_called_while_nothing_happens() -> None:
    def job() -> Answer:
        threading.Event().wait(1.2)
        return {}

    ticks: list[float] = []
    began = time.monotonic()
    with Workers(now=time.monotonic, seconds=20) as pool:
        list(pool.run([job], tick=lambda: ticks.append(time.monotonic() - began)))
    assert ticks[0] > 0.9, "a busy machine may be late, never early"
