# SPDX-License-Identifier: LGPL-2.1-or-later
"""Takers and guards that stand still in the middle of a hand-over (SIGSTOP), and several that come at once."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress

import pytest

from iscsiboot.keeper import actor, guardian, handover
from tests.unit.keeper.guard_kit import WANT, Daemon, Stage, Talker, idle, leave_and_idle, with_standby


def stopped(stage: Stage, *words: object, hears: bool = True) -> int:
    """A taker that says these words, hears the answer to each, and stands still."""

    def life() -> None:
        talker = Talker(stage)
        for word in words:
            talker.say(word)
            if hears:
                talker.hear()
        stage.note("still")
        signal.raise_signal(signal.SIGSTOP)

    count = len(stage.lines("still"))
    pid = stage.spawn(life)
    stage.until_lines("still", count + 1)
    return pid


def test_takers_that_stand_still_before_they_took_do_not_cost_the_guard_its_life(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of them would use up the patience of a third, who would end a guard that is healthy."""
    monkeypatch.setattr(guardian, "TAKEN_SECONDS", guardian.TAKEN_SECONDS / 2)
    guard = stage.guard()
    stage.wait_acting(guard)
    for _ in range(2):
        stopped(stage, WANT, hears=False)
    daemon = stage.daemon(leave_and_idle, seconds=handover.SECONDS / 2)
    stage.wait_acting(daemon)
    stage.wait_end(guard)
    assert stage.lines("begin")[-1]["sids"] == [1], "it was told what there is"
    assert stage.logged("asked for the sessions and did not take them")
    assert not stage.logged("is ended")


def test_a_taker_that_was_only_slow_gets_the_sessions_all_the_same(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guardian, "TAKEN_SECONDS", 0.3)
    guard = stage.guard()
    stage.wait_acting(guard)
    daemon = stage.daemon(leave_and_idle)
    stage.kill(daemon, signal.SIGSTOP)  # somewhere in its start or its asking
    time.sleep(0.6)
    stage.kill(daemon, signal.SIGCONT)
    stage.wait_acting(daemon)
    assert stage.actor() == daemon


def test_a_taker_that_stands_still_after_it_took_is_relieved_when_it_is_ended(stage: Stage) -> None:
    guard = stage.guard()
    stage.wait_acting(guard)
    taker = stopped(stage, WANT, {"taken": True})
    time.sleep(0.3)
    assert stage.begun(guard) == 1, "it has the sessions"
    stage.kill(taker)
    stage.wait_acting(guard, times=2)


def test_the_next_daemon_need_not_wait_for_the_end_of_one_that_stands_still_before_it_acts(stage: Stage) -> None:
    guard = stage.guard()
    stage.wait_acting(guard)
    stopped(stage, WANT, {"taken": True})
    daemon = stage.daemon(idle, seconds=0.5)
    stage.wait_acting(daemon)
    assert stage.actor() == daemon


def test_a_guard_that_stands_still_in_the_middle_of_it_is_ended(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "STOP_SECONDS", 0.5)
    guard = stage.guard(stop_hangs=True)
    stage.wait_acting(guard)
    # It has to be asked and to answer within this time, however busy the machine is.
    daemon = stage.daemon(idle, seconds=3.0)
    stage.until_lines("stopping", 1)
    stage.kill(guard, signal.SIGSTOP)
    stage.wait_acting(daemon)
    stage.wait_end(guard)
    assert stage.actor() == daemon


def test_a_guard_that_was_let_go_does_not_act_again_for_a_daemon_that_dies_the_next_moment(stage: Stage) -> None:
    """It finds its last word and its end at the same time; who stands behind the daemon now is another one."""
    guard = stage.guard()
    stage.wait_acting(guard)

    async def life(daemon: Daemon) -> None:
        await daemon.fork_standby()
        assert daemon.standby is not None
        for pid in (guard, daemon.standby.pid):
            os.kill(pid, signal.SIGSTOP)
        daemon.taken.leave()
        signal.raise_signal(signal.SIGKILL)

    stage.wait_end(stage.daemon(life))
    standby = stage.adopt(stage.lines("standby")[-1]["standby"])
    stage.kill(guard, signal.SIGCONT)
    stage.until(lambda: stage.begun(guard) > 1 or not stage.is_alive(guard), told="the guard has heard of it")
    assert stage.begun(guard) == 1
    stage.kill(standby, signal.SIGCONT)
    stage.wait_acting(standby)


def arrived(stage: Stage, talkers: list[Talker]) -> bool:
    """Whether one more could connect."""
    with suppress(BlockingIOError):
        talkers.append(Talker(stage))
        return True
    return False


def test_more_takers_than_can_wait_are_turned_away_and_none_of_them_stays(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred ask while the guard is busy with one that stands still."""
    monkeypatch.setattr(guardian, "TAKEN_SECONDS", 60.0)
    guard = stage.guard()
    stage.wait_acting(guard)
    still = stopped(stage, WANT)
    talkers: list[Talker] = []
    for _ in range(100):
        stage.until(lambda: arrived(stage, talkers), told="a place in its queue")
        talkers[-1].say(WANT)
    # One is being dealt with; those that wait are as many as may.
    assert all(talker.hear() is None for talker in talkers[actor.EVENTS_MAX + 1 :])
    for talker in talkers:
        talker.close()
    stage.kill(still)
    stage.wait_acting(stage.daemon(leave_and_idle))


@pytest.mark.parametrize("seed", range(3))
def test_three_daemons_at_once_while_a_guard_acts(stage: Stage, seed: int) -> None:
    """One has the sessions, the others are told who; whichever is killed meanwhile, somebody acts in the end."""
    chance = random.Random(seed)
    guard = stage.guard()
    stage.wait_acting(guard)

    daemons = [stage.daemon(with_standby, seconds=0.5) for _ in range(3)]
    time.sleep(chance.random() * 0.2)
    stage.kill(chance.choice(daemons))
    stage.until(lambda: any(stage.begun(pid) for pid in daemons) or stage.begun(guard) > 1, told="somebody acts")
    last = stage.daemon(with_standby)
    time.sleep(0.7)
    for pid in daemons:
        stage.kill(pid)
    stage.wait_acting(last)
    assert stage.actor() == last
    assert all("guards the sessions of this machine" in line["text"] for line in stage.lines("fault"))
    stage.forget("fault")


@pytest.mark.parametrize("seed", range(3))
def test_stopped_and_killed_at_random_moments_somebody_acts_in_the_end_and_never_two(stage: Stage, seed: int) -> None:
    """As a machine whose control groups are frozen and thawed: daemons and guards stand still for a while or die."""
    chance = random.Random(seed)
    stage.wait_acting(stage.guard())

    for _ in range(8):
        daemon = stage.daemon(with_standby)
        time.sleep(chance.choice((0.0, 0.01, 0.02, 0.04, 0.08, 0.15)) * (0.5 + chance.random()))
        stage.kill(daemon, signal.SIGSTOP)
        time.sleep(chance.random() * 0.1)
        standbys = [stage.adopt(line["standby"]) for line in stage.lines("standby")]
        alive = [pid for pid in standbys if stage.is_alive(pid)]
        if alive and chance.random() < 0.5:
            still = chance.choice(alive)
            stage.kill(still, signal.SIGSTOP)
            time.sleep(chance.random() * 0.1)
            if stage.is_alive(still):
                stage.kill(still, signal.SIGCONT)
        if chance.random() < 0.5:
            stage.kill(daemon, signal.SIGCONT)
            time.sleep(chance.random() * 0.1)
        stage.kill(daemon)
    final = stage.daemon(with_standby)
    stage.wait_acting(final)
    assert stage.actor() == final
