# SPDX-License-Identifier: LGPL-2.1-or-later
"""Serial numbers: the examples of RFC 1982 section 5 carried over to 32 bits, and its rules as properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.initiator.serial import ADD_MAX, SERIAL_MAX, add, before, distance, window

HALF = 1 << 31
numbers = st.integers(0, SERIAL_MAX) | st.sampled_from([0, 1, ADD_MAX, HALF, HALF + 1, SERIAL_MAX - 1, SERIAL_MAX])


@pytest.mark.parametrize(
    ("number", "count", "total"),
    [(0, 0, 0), (0, 1, 1), (SERIAL_MAX, 1, 0), (0, -1, SERIAL_MAX), (SERIAL_MAX, ADD_MAX, ADD_MAX - 1), (5, -5, 0)],
)
def test_addition_goes_round(number: int, count: int, total: int) -> None:
    assert add(number, count) == total


@pytest.mark.parametrize("count", [HALF, -HALF, 1 << 40])
def test_too_much_is_refused(count: int) -> None:
    with pytest.raises(OverflowError, match="too much to add"):
        add(1, count)


@pytest.mark.parametrize(
    ("first", "second", "apart"),
    [
        (0, 0, 0),
        (0, 1, 1),
        (1, 0, -1),
        (SERIAL_MAX, 0, 1),
        (0, SERIAL_MAX, -1),
        (0, ADD_MAX, ADD_MAX),
        (0, HALF + 1, -ADD_MAX),
        (0xFFFFFF00, 0x100, 0x200),
        (0, HALF, -HALF),
        (HALF, 0, -HALF),
    ],
)
def test_distance(first: int, second: int, apart: int) -> None:
    assert distance(first, second) == apart
    assert before(first, second) is (apart > 0)


@pytest.mark.parametrize(
    ("first", "last", "size"),
    [(1, 1, 1), (1, 0, 0), (0, SERIAL_MAX, 0), (SERIAL_MAX, 1, 3), (1, 128, 128), (5, 1, 0), (0, HALF, 0)],
)
def test_window(first: int, last: int, size: int) -> None:
    assert window(first, last) == size


@given(numbers, st.integers(1, ADD_MAX))
def test_a_sum_is_after_its_number(number: int, count: int) -> None:
    assert 0 <= add(number, count) <= SERIAL_MAX
    assert before(number, add(number, count))
    assert not before(add(number, count), number)
    assert distance(number, add(number, count)) == count
    assert add(add(number, count), -count) == number


@given(numbers, numbers)
def test_an_order_has_one_direction(first: int, second: int) -> None:
    comparable = first != second and abs(first - second) != HALF
    assert before(first, second) + before(second, first) == comparable
    # RFC 1982 section 3.2, as it is written there.
    less = (first < second and second - first < HALF) or (first > second and first - second > HALF)
    assert before(first, second) is less
