# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cancelling: from another thread, from a signal handler, before, after, and for many waiters."""

from __future__ import annotations

import fcntl
import os
import selectors
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from iscsiboot.errors import Stage
from iscsiboot.model.deadline import Deadline
from iscsiboot.session.cancel import Cancellation, Cancelled
from tests.unit.session.links import LONG, descriptors, in_a_moment, nothing_left_open, within


@pytest.fixture
def cancellation() -> Iterator[Cancellation]:
    with nothing_left_open(), Cancellation() as made:
        yield made


def test_the_descriptor_is_not_inherited_and_never_blocks(cancellation: Cancellation) -> None:
    assert fcntl.fcntl(cancellation, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    assert not os.get_blocking(cancellation.fileno())


def test_a_wait_without_a_cancellation_lasts_until_the_deadline(cancellation: Cancellation) -> None:
    began = time.monotonic()
    assert not cancellation.wait(within(0.1), time.monotonic)
    assert 0.09 < time.monotonic() - began < 5
    assert not cancellation.cancelled
    cancellation.check(stage=Stage.LOGIN)


def test_a_clock_that_lags_behind_makes_no_wait_shorter(cancellation: Cancellation) -> None:
    """select() returns by the kernel's clock; only the caller's says that the time is up."""
    ticks = iter([0.0, 0.0, 0.04, 0.04, 0.1, 0.1, 9.0])
    assert not cancellation.wait(Deadline(at=0.05, reason="a test"), lambda: next(ticks))
    assert list(ticks) == [9.0], "looked three times"


def test_cancelled_from_another_thread(cancellation: Cancellation) -> None:
    with in_a_moment(cancellation.cancel) as began:
        assert cancellation.wait(within(), time.monotonic)
    assert time.monotonic() - began < LONG / 2
    with pytest.raises(Cancelled) as caught:
        cancellation.check(stage=Stage.LOGIN, subject="a target")
    assert caught.value.line() == "login: a target: cancelled"
    assert not caught.value.retryable


def test_cancelled_before_anybody_waits_and_twice(cancellation: Cancellation) -> None:
    cancellation.cancel()
    cancellation.cancel()
    for _ in range(2):
        assert cancellation.wait(within(), time.monotonic)
    assert cancellation.wait(within(0), time.monotonic), "the deadline does not hide it"


def test_every_waiter_is_told(cancellation: Cancellation) -> None:
    told: list[bool] = []
    threads = [
        threading.Thread(target=lambda: told.append(cancellation.wait(within(), time.monotonic))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    cancellation.cancel()
    for thread in threads:
        thread.join(LONG)
    assert told == [True] * 4


def test_cancelled_by_a_signal_handler(cancellation: Cancellation) -> None:
    """Also one that interrupts cancel() and close() themselves, which hold the lock in the same thread."""
    before = signal.signal(signal.SIGUSR1, lambda *_: cancellation.cancel())
    try:
        with in_a_moment(lambda: os.kill(os.getpid(), signal.SIGUSR1)):
            assert cancellation.wait(within(), time.monotonic)
        with cancellation._lock:
            os.kill(os.getpid(), signal.SIGUSR1)
            cancellation.cancel()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_it_can_be_waited_for_beside_others(cancellation: Cancellation) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(cancellation, selectors.EVENT_READ)
        assert not selector.select(0)
        cancellation.cancel()
        assert selector.select(LONG)
        assert selector.select(LONG), "it stays so"


def test_after_close_nothing_is_written_anywhere() -> None:
    """The number belongs to somebody else by then: a pipe whose other end would see eight bytes."""
    before = descriptors()
    reader, writer = os.pipe()
    cancellation = Cancellation()
    number = cancellation.fileno()
    cancellation.close()
    cancellation.close()
    try:
        os.dup2(writer, number)
        cancellation.cancel()
        assert cancellation.cancelled
        os.set_blocking(reader, False)
        with pytest.raises(BlockingIOError):
            os.read(reader, 8)
    finally:
        for fd in {reader, writer, number}:
            os.close(fd)
    assert cancellation.fileno() == -1
    assert descriptors() == before
