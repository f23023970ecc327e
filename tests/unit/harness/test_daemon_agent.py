# SPDX-License-Identifier: LGPL-2.1-or-later
"""The agent of the daemon's trials: every trial is made by ``make check``, and a failure says what came first."""

from __future__ import annotations

from itertools import chain

import pytest

from tests.qemu.daemon.agent import TRIALS, words_of
from tests.qemu.daemon.guest import GROUPS


def test_every_trial_has_its_guest() -> None:
    """None is left out of ``make check``, none is made twice."""
    assert sorted(chain(*GROUPS)) == sorted(trial.__name__ for trial in TRIALS)


def test_a_failure_says_what_came_before_it() -> None:
    with pytest.raises(RuntimeError) as caught:
        _in_vain()
    assert words_of(caught.value) == "RuntimeError: no answer; after TimeoutError: late; after ValueError: no session"


def _in_vain() -> None:
    try:
        raise ValueError("no session")
    finally:
        _end()


def _end() -> None:
    try:
        raise TimeoutError("late")
    except TimeoutError as late:
        raise RuntimeError("no answer") from late
