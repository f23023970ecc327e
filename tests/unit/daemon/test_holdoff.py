# SPDX-License-Identifier: LGPL-2.1-or-later
"""A daemon that fails again and again: how long it waits, what it remembers, and what ends the series."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.daemon import holdoff, iscsid
from iscsiboot.daemon.holdoff import LONGEST_SECONDS, SOUND_SECONDS, Lasting, Series, after, hold
from iscsiboot.daemon.notify import Notifier
from iscsiboot.daemon.settings import Places
from iscsiboot.keeper.rights import Right, Rights

RESTART_SECONDS = 1.0
"""RestartSec= of the unit."""


def failures(seconds: float, run: float = 0.5) -> list[float]:
    """When a daemon fails that can never start, in so many seconds of a service manager's restarts."""
    times: list[float] = []
    series: Series | None = None
    now = 1000.0
    while now < 1000.0 + seconds:
        began, now = now, now + run
        times.append(now)
        series = after(series, began=began, now=now)
        now = series.last + RESTART_SECONDS
    return times


def test_a_daemon_that_can_never_start_fails_ever_more_seldom() -> None:
    times = failures(86400)
    assert len([at for at in times if at < 1000 + 240]) < 25
    assert len(times) < 1500, "one a minute, of six lines each"
    assert times[1] - times[0] < 3, "what passes quickly is not waited for"
    gaps = [late - early for early, late in pairwise(times)]
    assert gaps == sorted(gaps)
    assert gaps[-1] == LONGEST_SECONDS + RESTART_SECONDS + 0.5


def test_the_first_failure_is_told_at_once() -> None:
    assert after(None, began=5.0, now=5.2) == Series(5.2, 5.2)


def test_a_run_that_worked_for_a_while_begins_anew() -> None:
    failing = Series(100.0, 200.0)
    assert after(failing, began=201.0, now=201.0 + SOUND_SECONDS).last == 201.0 + SOUND_SECONDS
    assert after(failing, began=200.0 + SOUND_SECONDS, now=261.0) == Series(261.0, 261.0)
    assert after(failing, began=201.0, now=220.0) == Series(100.0, 220.0 + 30.0)


@given(st.floats(0, 1e7), st.floats(0, 1e5), st.floats(0, 1e5), st.floats(0, 1e5))
def test_no_wait_is_longer_than_the_longest(first: float, failing: float, pause: float, run: float) -> None:
    began = first + failing + pause
    now = began + run
    series = after(Series(first, first + failing), began=began, now=now)
    assert series.first <= now <= series.last <= now + LONGEST_SECONDS


class Manager(Notifier):
    """What it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, float]] = []

    def extended(self, text: str, seconds: float) -> None:
        self.told.append((text, seconds))


def remember(run: Path, first: float, last: float) -> Path:
    path = run / "iscsiboot" / holdoff.FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"first": first, "last": last}))
    return path


@pytest.fixture(autouse=True)
def mask() -> object:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_the_second_failure_waits_and_the_manager_is_told(tmp_path: Path) -> None:
    now = time.monotonic()
    path = remember(tmp_path, now - 2, now)
    manager = Manager()
    hold(str(tmp_path), now, manager)
    assert time.monotonic() - now >= 0.5
    ((text, seconds),) = manager.told
    assert text == "It failed, see the log. The next try is in 1 s"
    assert 0.5 <= seconds <= holdoff.SHARE * (time.monotonic() - now + 2), "a quarter of the time it has failed"
    assert json.loads(path.read_text())["first"] == now - 2


def test_the_first_failure_does_not_wait(tmp_path: Path) -> None:
    manager = Manager()
    hold(str(tmp_path), time.monotonic(), manager)
    assert manager.told == []
    assert (tmp_path / "iscsiboot" / holdoff.FILE).exists()


def test_a_stop_ends_the_wait_and_the_series(tmp_path: Path) -> None:
    now = time.monotonic()
    path = remember(tmp_path, now - 200, now)
    killer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    signal.pthread_sigmask(signal.SIG_BLOCK, holdoff.ENDING)  # for the thread, which has to leave it to us
    killer.start()
    hold(str(tmp_path), now, Manager())
    killer.join()
    assert time.monotonic() - now < 40, "it would have been 50"
    assert not path.exists()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"first": "x", "last": 1}', '{"first": 9, "last": 1}', '{"first": 0, "last": 1e300}']
)
def test_what_cannot_be_read_is_no_series(tmp_path: Path, text: str) -> None:
    remember(tmp_path, 0, 0).write_text(text)
    manager = Manager()
    hold(str(tmp_path), time.monotonic(), manager)
    assert manager.told == []


def test_where_nothing_can_be_remembered_it_waits_a_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holdoff, "BLIND_SECONDS", 0.2)
    manager = Manager()
    hold(str(tmp_path / "none"), time.monotonic(), manager)
    assert len(manager.told) == 1


@pytest.mark.parametrize(
    ("argv", "environ", "lasting"),
    [
        (["-x"], {}, Lasting.USAGE),
        (["-f"], {"LISTEN_FDS": "2", "LISTEN_PID": str(os.getpid())}, Lasting.CONFIG),
        (["-f"], {}, Lasting.NOPERM),
    ],
)
def test_what_only_a_change_of_the_unit_mends_has_a_status_of_its_own(
    argv: list[str],
    environ: dict[str, str],
    lasting: Lasting,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000 if lasting is Lasting.NOPERM else 0)
    monkeypatch.setattr(iscsid, "let_go", lambda run: None)  # the descriptors are pytest's here
    places = Places(run=str(tmp_path))
    assert iscsid.main(argv, environ=dict(environ), places=places) == 1, "as open-iscsi's"
    supervised = {**environ, "NOTIFY_SOCKET": str(tmp_path / "nobody")}
    assert iscsid.main(argv, environ=supervised, places=places) == lasting
    assert capsys.readouterr().err


def test_whoever_stands_behind_a_daemon_that_waits_does_not_wait_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it failed: it may hold the right to act, and a guard's connection, until the process ends."""
    remember(tmp_path, time.monotonic() - 200, time.monotonic())
    ours, its = socket.socketpair()

    def fails(*_: object, **__: object) -> int:
        rights = Rights.open(tmp_path / "iscsiboot", lambda level, text: None)
        assert rights.claim(Right.ACT)
        its.send(b"acts")
        held.append(rights)
        return 1

    held: list[Rights] = []
    monkeypatch.setattr(iscsid, "_run", fails)
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            environ = {"NOTIFY_SOCKET": str(tmp_path / "nobody")}
            iscsid.main(["-f"], environ=environ, places=Places(run=str(tmp_path)))
        finally:
            os._exit(3)
    its.close()
    try:
        with ours:
            ours.settimeout(60)
            assert ours.recv(16) == b"acts"
            assert ours.recv(16) == b"", "what stands behind it hears of its end"
        rights = Rights.open(tmp_path / "iscsiboot", lambda level, text: None)
        assert rights.claim(Right.ACT)
        rights.close()
        assert os.waitpid(pid, os.WNOHANG) == (0, 0), "it waits"
    finally:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
