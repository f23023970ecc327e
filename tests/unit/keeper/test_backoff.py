# SPDX-License-Identifier: LGPL-2.1-or-later
"""The pauses between attempts: bounds, growth, spread."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.keeper.backoff import DATA, SYSTEM, Curve, may_give_up, pause
from iscsiboot.keeper.situation import Failure, Phase, Situation
from iscsiboot.keeper.values import Role

LONGEST = {
    Failure.UNREACHABLE: (1.0, 8.0),
    Failure.BROKEN: (1.0, 8.0),
    Failure.KERNEL: (5.0, 5.0),
    Failure.UNAVAILABLE: (1.0, 8.0),
    Failure.BUSY: (8.0, 30.0),
    Failure.DENIED: (30.0, 30.0),
    Failure.REFUSED: (8.0, 30.0),
}
"""Of a system session and of another."""


@pytest.mark.parametrize("failure", Failure)
@pytest.mark.parametrize("system", [True, False])
def test_every_pause_is_bounded_and_reaches_its_ceiling(failure: Failure, system: bool) -> None:
    longest = [pause(failure, repeats, system=system, chance=1.0) for repeats in range(1, 500)]
    assert longest[-1] == pytest.approx(LONGEST[failure][0 if system else 1])
    assert longest == sorted(longest)
    assert min(pause(failure, repeats, system=system, chance=0.0) for repeats in range(1, 500)) > 0.3


@given(st.sampled_from(list(Failure)), st.integers(1, 10**9), st.booleans(), st.floats(0, 1, exclude_max=True))
def test_a_pause_is_spread_by_a_quarter(failure: Failure, repeats: int, system: bool, chance: float) -> None:
    middle = pause(failure, repeats, system=system, chance=0.5)
    seconds = pause(failure, repeats, system=system, chance=chance)
    assert middle * 0.75 <= seconds * 1.000001
    assert seconds <= middle * 1.250001


def test_data_is_tried_as_often_as_open_iscsi_does_for_the_first_minutes() -> None:
    assert sum(pause(Failure.UNREACHABLE, repeats, system=False, chance=0.5) for repeats in range(1, 63)) > 140
    assert all(pause(Failure.UNREACHABLE, repeats, system=False, chance=1.0) <= 3.0 for repeats in range(1, 63))


def test_a_wrong_secret_is_not_hammered() -> None:
    assert all(pause(Failure.DENIED, repeats, system=True, chance=0.0) >= 10 for repeats in range(1, 50))


@pytest.mark.parametrize("failure", [Failure.REFUSED, Failure.UNAVAILABLE])
def test_what_a_target_says_while_it_starts_is_asked_for_again_soon(failure: Failure) -> None:
    """A root goes on within two seconds of the target's return, data within three, after half a minute's outage."""
    for system, longest in ((True, 2.0), (False, 3.0)):
        waited, repeats = 0.0, 0
        while waited < 24.0:
            repeats += 1
            waited += pause(failure, repeats, system=system, chance=0.5)
            assert pause(failure, repeats, system=system, chance=1.0) <= longest


def test_a_name_that_stays_unknown_is_asked_for_less_often() -> None:
    assert pause(Failure.REFUSED, 200, system=False, chance=0.0) >= 15
    assert pause(Failure.REFUSED, 200, system=True, chance=0.0) >= 4


def test_a_curve() -> None:
    curve = Curve(((1, 1.0), (2, 2.0)), 4.0)
    assert [curve.at(number) for number in range(1, 7)] == [1.0, 2.0, 2.0, 4.0, 4.0, 4.0]
    assert curve.words == "0.75-1.25, 2 times 1.5-2.5, then 3-5 s"
    assert Curve((), 0.8).words == "0.6-1 s"
    assert set(SYSTEM) == set(DATA) == set(Failure)


@pytest.mark.parametrize(
    ("reopen_max", "attempts", "seconds", "role", "given_up"),
    [
        (0, 10**6, 1e9, Role(), False),
        (5, 4, 1e9, Role(), False),
        (5, 5, 14.9, Role(), False),
        (5, 5, 15.0, Role(), True),
        (5, 50, 15.0, Role(multipath=True), True),
        (5, 50, 1e9, Role(system=("sda is swap",)), False),
        (5, 50, 1e9, Role(system=("sda is swap",), multipath=True), False),
        (-1, 50, 1e9, Role(), False),
    ],
)
def test_when_a_session_is_given_up(reopen_max: int, attempts: int, seconds: float, role: Role, given_up: bool) -> None:
    situation = Situation(phase=Phase.TRYING, role=role, broken_at=100.0, attempts=attempts, reopen_max=reopen_max)
    assert may_give_up(situation, 100.0 + seconds) is given_up
