# SPDX-License-Identifier: LGPL-2.1-or-later
"""CmdSN and StatSN: the update rules of section 4.2.2.1 around zero and far from it, and what a gap means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.initiator import serial
from iscsiboot.initiator.errors import Misuse, ProtocolViolation
from iscsiboot.initiator.windows import CommandWindow, StatusSequence

STARTS = [0, 1, 1000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF]
numbers = st.integers(0, serial.SERIAL_MAX)


def window(start: int, *, exp: int = 0, room: int = 4) -> CommandWindow:
    first = serial.add(start, exp)
    return CommandWindow(cmdsn=start, exp_cmdsn=first, max_cmdsn=serial.add(first, room - 1))


@pytest.mark.parametrize("start", STARTS, ids=hex)
def test_as_many_commands_as_there_is_room_for(start: int) -> None:
    some = window(start, room=3)
    assert [some.take() for _ in range(3)] == [serial.add(start, count) for count in range(3)]
    assert not some.open
    assert some.cmdsn == serial.add(start, 3)
    with pytest.raises(Misuse, match="beyond the window"):
        some.take()


@pytest.mark.parametrize("start", STARTS, ids=hex)
def test_a_window_that_opens(start: int) -> None:
    some = window(start, room=1)
    some.take()
    assert not some.open
    assert some.update(serial.add(start, 1), serial.add(start, 2)) == ""
    assert (some.exp_cmdsn, some.max_cmdsn) == (serial.add(start, 1), serial.add(start, 2))
    assert some.open


@pytest.mark.parametrize("start", STARTS, ids=hex)
def test_a_closed_window_is_legal(start: int) -> None:
    some = window(start, room=0)
    assert not some.open
    assert some.update(start, serial.add(start, -1)) == ""
    assert not some.open


@pytest.mark.parametrize("start", STARTS, ids=hex)
def test_what_is_not_greater_is_ignored(start: int) -> None:
    some = window(start, room=4)
    some.take()
    some.take()
    assert some.update(serial.add(start, 2), serial.add(start, 5)) == ""
    assert some.update(serial.add(start, 1), serial.add(start, 4)) == ""
    assert (some.exp_cmdsn, some.max_cmdsn) == (serial.add(start, 2), serial.add(start, 5))


def test_each_number_by_itself() -> None:
    some = window(10, room=4)
    some.take()
    assert some.update(11, 12) == ""
    assert (some.exp_cmdsn, some.max_cmdsn) == (11, 13)
    assert some.update(10, 20) == ""
    assert (some.exp_cmdsn, some.max_cmdsn) == (11, 20)


@pytest.mark.parametrize("start", STARTS, ids=hex)
def test_a_pair_that_contradicts_itself_is_ignored_whole(start: int) -> None:
    some = window(start, room=4)
    some.take()
    remark = some.update(serial.add(start, 1), serial.add(start, -1))
    assert "both are ignored" in remark
    assert (some.exp_cmdsn, some.max_cmdsn) == (start, serial.add(start, 3))


def test_a_target_that_expects_commands_not_sent_opens_the_window_alone() -> None:
    some = window(10, room=4)
    assert "expects CmdSN 12, and the next command has 10" in some.update(12, 30)
    assert (some.exp_cmdsn, some.max_cmdsn) == (10, 30)


def test_a_login_that_says_nothing_sensible_leaves_the_window_closed() -> None:
    some = CommandWindow(cmdsn=10, exp_cmdsn=50, max_cmdsn=5)
    assert not some.open
    some.update(10, 11)
    assert some.open


@given(numbers, st.lists(st.tuples(numbers, numbers), max_size=20))
def test_the_window_never_shrinks_and_never_lets_more_through(start: int, updates: list[tuple[int, int]]) -> None:
    some = CommandWindow(cmdsn=start, exp_cmdsn=start, max_cmdsn=start)
    for exp, most in updates:
        before = some.max_cmdsn
        some.update(exp, most)
        assert not serial.before(some.max_cmdsn, before)
        if some.open:
            number = some.take()
            assert not serial.before(some.max_cmdsn, number)
        assert not serial.before(some.cmdsn, some.exp_cmdsn)


@pytest.mark.parametrize("last", STARTS, ids=hex)
def test_answers_in_sequence(last: int) -> None:
    status = StatusSequence(last)
    for count in range(1, 4):
        assert status.expected == serial.add(last, count)
        status.advance(status.expected)


@pytest.mark.parametrize("last", STARTS, ids=hex)
@pytest.mark.parametrize(
    ("off", "words"), [(1, "answers missing: 1"), (9, "answers missing: 9"), (-1, "answered before")]
)
def test_an_answer_out_of_sequence(last: int, off: int, words: str) -> None:
    status = StatusSequence(last)
    with pytest.raises(ProtocolViolation, match=words) as caught:
        status.advance(serial.add(last, 1 + off))
    assert "log in again" in caught.value.hint
    assert status.expected == serial.add(last, 1)


def test_a_number_only_repeated_is_looked_at() -> None:
    status = StatusSequence(4)
    assert status.glance(5) == ""
    assert "StatSN 9" in status.glance(9)
    assert status.expected == 5
