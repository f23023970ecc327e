# SPDX-License-Identifier: LGPL-2.1-or-later
"""All paths at once: the first boot disk decides, a dead path delays nobody, an ended one undoes itself."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from iscsiboot.boot import paths
from iscsiboot.boot.iscsistart import Interrupted
from iscsiboot.boot.keeper import Session
from iscsiboot.boot.plan import PlannedPath
from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.initiator.chap import ChapAlgorithm
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.params import SessionParams
from iscsiboot.model.portal import Portal, parse_ip
from iscsiboot.model.report import Report
from iscsiboot.model.timeline import Mark
from iscsiboot.session.attach import AttachRequest


def path(number: int, *, boot: bool = True) -> PlannedPath:
    return PlannedPath(
        request=AttachRequest(
            initiator_name="iqn.2001-04.com.example:i",
            target_name=f"iqn.2001-04.com.example:t{number}",
            portal=Portal(address=parse_ip(f"10.0.0.{number}")),
            lun=None,
            params=SessionParams(),
            credentials=None,
        ),
        boot_selected=boot,
    )


class Recorder:
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.marks: list[tuple[Mark, str]] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def mark(self, mark: Mark, detail: str = "") -> None:
        self.marks.append((mark, detail))


def run(
    planned: list[PlannedPath], attach: paths.AttachPath, seconds: float = 20
) -> tuple[tuple[paths.PathResult, ...], Recorder]:
    recorder = Recorder()
    deadline = Deadline.after(seconds, now=time.monotonic(), reason="test")
    results = paths.run_all(planned, attach, report=recorder, deadline=deadline, now=time.monotonic)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    return results, recorder


def forever() -> None:
    """Wait for a signal, as an attach waits in its selector."""
    signal.pause()


@pytest.fixture(autouse=True)
def _signals() -> object:
    def interrupt(number: int, _frame: object) -> None:
        raise Interrupted(number)

    before = signal.signal(signal.SIGTERM, interrupt)
    yield
    signal.signal(signal.SIGTERM, before)


def test_one_path_runs_in_this_process() -> None:
    seen: list[int] = []
    results, _ = run([path(1)], lambda planned, report: seen.append(os.getpid()))
    assert seen == [os.getpid()]
    assert results[0].error is None


def test_results_keep_their_order_and_reports_arrive() -> None:
    def attach(planned: PlannedPath, report: Report) -> None:
        report.note(f"{planned.subject}\nsecond line")
        report.mark(Mark.LOGIN, planned.subject)
        if planned.request.target_name.endswith("2"):
            raise IscsiBootError(
                "no", stage=Stage.LOGIN, subject=planned.subject, exit_code=ExitCode.LOGIN_AUTH_FAILED, hint="x"
            )

    results, recorder = run([path(1), path(2), path(3)], attach)
    assert [result.path.request.target_name[-1] for result in results] == ["1", "2", "3"]
    assert [result.error is None for result in results] == [True, False, True]
    assert results[1].exit_code is ExitCode.LOGIN_AUTH_FAILED
    assert results[1].error == "login: iqn.2001-04.com.example:t2 at 10.0.0.2:3260: no; next: x"
    assert sorted(recorder.notes)[0] == "iqn.2001-04.com.example:t1 at 10.0.0.1:3260\\nsecond line"
    assert {mark for mark, _ in recorder.marks} == {Mark.LOGIN}
    assert len(recorder.marks) == 3


def test_sessions_come_from_the_children(capfd: pytest.CaptureFixture[str]) -> None:
    """Each with the request it was planned with, which has the secrets: those go through no pipe."""
    planned = [path(1), path(2), path(3), path(4)]

    def attach(one: PlannedPath, report: Report) -> Session | None:
        number = int(one.request.target_name[-1])
        if number == 4:
            raise IscsiBootError("no", stage=Stage.LOGIN, subject=one.subject)
        if number == 3:
            return None
        tpgt, algorithm = [(None, ChapAlgorithm.MD5), (65535, None)][number - 1]
        return Session(sid=number + 40, tpgt=tpgt, request=path(9).request, algorithm=algorithm)

    results, recorder = run(planned, attach)
    assert [result.session for result in results] == [
        Session(sid=41, tpgt=None, request=planned[0].request, algorithm=ChapAlgorithm.MD5),
        Session(sid=42, tpgt=65535, request=planned[1].request),
        None,
        None,
    ]
    assert not recorder.notes


def test_a_dead_path_delays_the_boot_by_the_grace_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "GRACE", 0.2)

    def attach(planned: PlannedPath, report: Report) -> None:
        if planned.request.target_name.endswith("1"):
            try:
                (tmp_path / "begun").touch()
                forever()
            finally:
                (tmp_path / "undone").touch()
        while not (tmp_path / "begun").exists():
            signal.sigtimedwait([], 0.01)

    results, _ = run([path(1), path(2)], attach, seconds=60)
    assert results[1].error is None
    assert results[0].error is not None
    assert "the boot goes on with another path" in results[0].error
    assert (tmp_path / "undone").exists()


def test_a_data_disk_is_no_boot_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The grace starts with a disk firmware booted from, not with any disk."""
    monkeypatch.setattr(paths, "GRACE", 0.0)

    def attach(planned: PlannedPath, report: Report) -> None:
        if planned.boot_selected:
            signal.sigtimedwait([], 0.5)

    results, _ = run([path(1), path(2, boot=False)], attach)
    assert [result.error for result in results] == [None, None]


def test_the_deadline_ends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    results, _ = run([path(1), path(2)], lambda planned, report: forever(), seconds=0.2)
    assert all(result.error is not None for result in results)
    assert all(result.exit_code is ExitCode.TRANS_TIMEOUT for result in results)


def test_a_path_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "UNDO_TIME", 0.2)

    def attach(planned: PlannedPath, report: Report) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        report.note("deaf")
        forever()

    recorder = Recorder()

    def now() -> float:
        """The time is over when both are deaf, and not before."""
        return time.monotonic() + (60 if recorder.notes.count("deaf") == 2 else 0)

    deadline = Deadline.after(60, now=now(), reason="test")
    paths.run_all([path(1), path(2)], attach, report=recorder, deadline=deadline, now=now)
    assert sum("killed" in note for note in recorder.notes) == 2


@pytest.mark.parametrize("how", ["exit", "signal", "exception"])
def test_a_path_that_breaks_down_takes_nobody_along(how: str, capfd: pytest.CaptureFixture[str]) -> None:
    def attach(planned: PlannedPath, report: Report) -> None:
        if not planned.request.target_name.endswith("1"):
            return
        if how == "exit":
            os._exit(7)
        if how == "signal":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ZeroDivisionError("a bug")

    results, _ = run([path(1), path(2)], attach)
    assert results[0].exit_code is ExitCode.CHILD_TERMINATED
    assert results[0].error is not None
    assert "without a result" in results[0].error
    assert results[1].error is None
    if how == "exception":
        assert "a bug" in capfd.readouterr().err


def end_each_child_at_its_birth(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM comes when a child is made and has run nothing yet."""
    fork = os.fork

    def bear() -> int:
        pid = fork()
        if pid == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return pid

    monkeypatch.setattr(os, "fork", bear)


@contextmanager
def nowhere_else(escaped: Path) -> Iterator[None]:
    """A child that comes back into our code ends here, and there is a file then."""
    ourselves = os.getpid()
    try:
        yield
    finally:
        if os.getpid() != ourselves:
            escaped.touch()
            os._exit(1)


def test_a_child_that_is_ended_at_its_birth_does_not_come_back_as_a_second_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parent's handler raises in it; its exception must not leave the child's own code."""
    end_each_child_at_its_birth(monkeypatch)
    with nowhere_else(tmp_path / "escaped"):
        results, _ = run([path(1), path(2)], lambda planned, report: None)
    assert [result.exit_code for result in results] == [ExitCode.CHILD_TERMINATED] * 2
    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_session_that_stands_is_told_whatever_comes_then(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parent would not know of it otherwise, and nobody would guard it."""
    send = paths._PipeReport.send

    def disturbed(pipe: paths._PipeReport, kind: str, text: str) -> None:
        os.kill(os.getpid(), number)
        send(pipe, kind, text)

    def attach(planned: PlannedPath, report: Report) -> Session:
        return Session(sid=1, tpgt=1, request=planned.request)

    monkeypatch.setattr(paths._PipeReport, "send", disturbed)
    before = signal.signal(number, signal.getsignal(signal.SIGTERM))
    try:
        results, _ = run([path(1), path(2)], attach)
    finally:
        signal.signal(number, before)
    assert [result.session is not None for result in results] == [True, True]


def test_a_signal_to_the_parent_undoes_every_path(tmp_path: Path) -> None:
    def attach(planned: PlannedPath, report: Report) -> None:
        try:
            report.note("running")
            forever()
        finally:
            (tmp_path / planned.request.target_name[-1]).touch()

    class Killer(Recorder):
        def note(self, text: str) -> None:
            super().note(text)
            if len(self.notes) == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    deadline = Deadline.after(20, now=time.monotonic(), reason="test")
    with pytest.raises(Interrupted):
        paths.run_all([path(1), path(2)], attach, report=Killer(), deadline=deadline, now=time.monotonic)
    assert (tmp_path / "1").exists()
    assert (tmp_path / "2").exists()


def test_paths_are_values() -> None:
    assert replace(path(1), boot_selected=False) == path(1, boot=False)
