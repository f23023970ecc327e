# SPDX-License-Identifier: LGPL-2.1-or-later
"""A fork and the signals around it, where the parent's handler raises: nothing stays blocked, no child is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator, Set
from typing import NoReturn

import pytest

from iscsiboot.session.forking import ENDING_SIGNALS, fork


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    def interrupt(number: int, _: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    yield
    signal.signal(signal.SIGTERM, before)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)


def live(mask: Set[int]) -> NoReturn:
    """Until SIGTERM comes; not for ever."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.alarm(5)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    while True:
        signal.pause()


def blocked() -> set[int]:
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def test_a_parent_that_is_ended_while_it_forks_takes_the_child_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its exception goes on without the child's number."""
    made = os.fork

    def bear() -> int:
        pid = made()
        if pid:
            os.kill(os.getpid(), signal.SIGTERM)
        return pid

    monkeypatch.setattr(os, "fork", bear)
    with pytest.raises(KeyboardInterrupt):
        fork(live)
    _, status = os.waitpid(-1, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM
    assert not blocked()


def test_a_child_the_parent_knows_of_is_the_parents_to_end() -> None:
    """It is known before the exception, and nobody else ends it."""
    known: list[int] = []

    def born(pid: int) -> None:
        known.append(pid)
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        fork(live, born)
    (pid,) = known
    assert not blocked()
    assert os.waitpid(pid, os.WNOHANG) == (0, 0), "it was told to end"
    os.kill(pid, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM


def test_a_signal_just_before_leaves_nothing_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python runs its handler at the end of the call that blocks."""
    ask = signal.pthread_sigmask

    def interrupted(how: int, mask: Iterable[int]) -> set[int | signal.Signals]:
        numbers = set(mask)
        before = ask(how, numbers)
        if how == signal.SIG_BLOCK and numbers:
            raise KeyboardInterrupt
        return before

    with monkeypatch.context() as patch:
        patch.setattr(signal, "pthread_sigmask", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fork(live)
    assert not blocked()
