# SPDX-License-Identifier: LGPL-2.1-or-later
"""The judge of the daemon's trials says no where it has to: what it lets pass would be found by nobody else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.qemu.daemon.judge import clean, in_time, no_stall, said


def load(undisturbed: float, disturbed: float, late: float) -> dict[str, Any]:
    """A load of two phases."""
    return {"phases": [{"worst": undisturbed, "late": 0.0}, {"worst": disturbed, "late": late}]}


@pytest.mark.parametrize(("undisturbed", "disturbed", "late"), [(0.01, 0.29, 0.0), (0.3, 0.55, 0.0), (0.01, 0.7, 0.2)])
def test_what_the_machine_does_to_everybody_is_no_stall(undisturbed: float, disturbed: float, late: float) -> None:
    no_stall(load(undisturbed, disturbed, late))


@pytest.mark.parametrize(("undisturbed", "disturbed", "late"), [(0.01, 0.35, 0.01), (0.3, 0.65, 0.0), (0.1, 1.1, 0.2)])
def test_a_gap_of_more_than_twice_is_one(undisturbed: float, disturbed: float, late: float) -> None:
    with pytest.raises(AssertionError):
        no_stall(load(undisturbed, disturbed, late))


@pytest.mark.parametrize(("healed", "resumed", "control"), [(1.9, 0.0, 0.0), (0.0, 2.3, 0.1)])
def test_two_seconds_and_what_logins_cost_here(healed: float, resumed: float, control: float) -> None:
    in_time("a cut", healed, resumed, control)


@pytest.mark.parametrize(("healed", "resumed", "control"), [(2.1, 0.0, 0.01), (0.5, 2.6, 0.1)])
def test_later_is_too_late(healed: float, resumed: float, control: float) -> None:
    with pytest.raises(AssertionError, match="a cut"):
        in_time("a cut", healed, resumed, control)


@pytest.mark.parametrize("fault", [{"errors": ["write of block 1: Input/output error"]}, {"wrong": ["block 1"]}])
def test_a_fault_of_the_disk_is_one(fault: dict[str, list[str]]) -> None:
    whole: dict[str, Any] = {"errors": [], "wrong": [], "writes": 1, "reads": 1}
    clean(whole)
    with pytest.raises(AssertionError):
        clean(whole | fault)
    with pytest.raises(AssertionError):
        clean(whole | {"reads": 0})


def test_a_trial_that_failed_is_told_in_its_words() -> None:
    with pytest.raises(AssertionError, match="no session"):
        said({"one": {"failed": "TrialFailed: no session"}}, "one")
