# SPDX-License-Identifier: LGPL-2.1-or-later
"""The right to act on its way from process to process: real ones, killed and stopped at every step of it."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from iscsiboot.keeper import handover
from iscsiboot.keeper.values import Role
from tests.unit.keeper.guard_kit import (
    WANT,
    Daemon,
    Stage,
    Talker,
    for_ever,
    idle,
    known,
    leave_and_idle,
    only_by_events,
    pause,
)


def order(stage: Stage) -> list[tuple[str, int]]:
    return [(line["what"], line["pid"]) for line in stage.lines() if line["what"] in ("begin", "end")]


# One guard, one taker. ------------------------------------------------------------------------------------------------


def test_a_guard_hands_over_and_ends_when_told_to(stage: Stage) -> None:
    guard = stage.guard({1: known(), 7: known(7)}, roles={1: Role(system=("sda1 is mounted on /",))})
    stage.wait_acting(guard)
    daemon = stage.daemon(leave_and_idle)
    stage.wait_acting(daemon)
    stage.wait_end(guard)
    assert order(stage) == [("begin", guard), ("end", guard), ("begin", daemon)]
    told = stage.lines("begin")[-1]
    assert told["sids"] == [1, 7]
    assert told["secrets"] == [True, True]
    assert told["told"] == {"1": ["sda1 is mounted on /"]}
    assert stage.actor() == daemon
    assert not any("twelve" in line["text"] for line in stage.lines("log"))


def test_the_first_process_of_a_machine_just_begins(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    only_by_events(monkeypatch)
    daemon = stage.daemon(idle, seconds=3600.0)
    stage.wait_acting(daemon)
    assert stage.lines("begin")[0]["sids"] == []


def test_between_two_guards_there_is_no_gap_worth_the_name(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """No wait of either is in it but for the other's word."""
    only_by_events(monkeypatch)
    guard = stage.guard()
    stage.wait_acting(guard)
    daemon = stage.daemon(leave_and_idle, seconds=3600.0)
    stage.wait_acting(daemon)
    stage.wait_end(guard)


@pytest.mark.parametrize("words", [[], [WANT]], ids=["before-it-asked", "before-it-took"])
def test_a_taker_that_breaks_off_early_changes_nothing(stage: Stage, words: list[object]) -> None:
    guard = stage.guard()
    stage.wait_acting(guard)
    for _ in range(3):
        talker = Talker(stage)
        for word in words:
            talker.say(word)
            assert "document" in talker.hear()
        talker.close()
    daemon = stage.daemon(idle)
    stage.wait_acting(daemon)
    # It acted all the time: one spell, ended by the true taker alone.
    assert order(stage) == [("begin", guard), ("end", guard), ("begin", daemon)]


def test_a_taker_that_says_it_has_not_taken_has_not(stage: Stage) -> None:
    guard = stage.guard()
    stage.wait_acting(guard)
    talker = Talker(stage)
    talker.say(WANT)
    assert "document" in talker.hear()
    talker.say({"taken": "yes"})
    assert talker.hear() is None
    talker.close()
    assert order(stage) == [("begin", guard)]


def test_a_taker_killed_between_taken_and_done_leaves_a_guard_that_acts_again(stage: Stage) -> None:
    guard = stage.guard(stop_seconds=0.2)
    stage.wait_acting(guard)

    def die() -> None:
        talker = Talker(stage)
        talker.say(WANT)
        talker.hear()
        talker.say({"taken": True})
        os.kill(os.getpid(), signal.SIGKILL)

    taker = stage.spawn(die)
    stage.wait_acting(guard, times=2)
    stage.wait_end(taker)
    assert order(stage) == [("begin", guard), ("end", guard), ("begin", guard)]
    # The dead one was in nobody's way.
    daemon = stage.daemon(leave_and_idle)
    stage.wait_acting(daemon)
    assert stage.lines("begin")[-1]["sids"] == [1]


def test_a_taker_killed_after_done_and_before_it_acts(stage: Stage) -> None:
    guard = stage.guard()
    stage.wait_acting(guard)

    def die() -> None:
        talker = Talker(stage)
        talker.say(WANT)
        talker.hear()
        talker.say({"taken": True})
        assert talker.hear() == {"done": True}
        os.kill(os.getpid(), signal.SIGKILL)

    stage.spawn(die)
    stage.wait_acting(guard, times=2)


def test_a_taker_killed_while_it_acts_and_before_its_own_standby_is_there(stage: Stage) -> None:
    guard = stage.guard()
    stage.wait_acting(guard)
    for times in (2, 3, 4):
        daemon = stage.daemon(idle)
        stage.wait_acting(daemon)
        stage.kill(daemon)
        stage.wait_acting(guard, times=times)
    assert stage.actor() == guard


def test_a_taker_that_only_drops_the_connection_still_acts_alone(stage: Stage) -> None:
    """Its connection is gone, it is not: whoever has the right to act acts."""
    guard = stage.guard()
    stage.wait_acting(guard)

    async def drop(daemon: Daemon) -> None:
        assert daemon.taken._channel is not None
        daemon.taken._channel.close()
        await for_ever()

    daemon = stage.daemon(drop)
    stage.wait_acting(daemon)
    time.sleep(0.2)
    assert order(stage) == [("begin", guard), ("end", guard), ("begin", daemon)]
    stage.kill(daemon)
    stage.wait_acting(guard, times=2)


# The guard dies. ------------------------------------------------------------------------------------------------------


def test_a_guard_killed_before_it_was_asked_leaves_the_way_free(stage: Stage) -> None:
    guard = stage.guard()
    stage.wait_acting(guard)
    stage.kill(guard)
    stage.wait_end(guard)
    daemon = stage.daemon(idle)
    stage.wait_acting(daemon)


def test_a_guard_killed_between_taken_and_done(stage: Stage) -> None:
    guard = stage.guard(stop_hangs=True)
    stage.wait_acting(guard)
    daemon = stage.daemon(idle)
    stage.until(lambda: stage.lines("stopping"), told="the guard was told that it is taken")
    stage.kill(guard)
    stage.wait_acting(daemon)
    assert stage.lines("begin")[-1]["sids"] == [1], "what it told before is not lost"


def test_a_guard_killed_with_a_taker_in_its_queue(stage: Stage) -> None:
    guard = stage.guard()
    stage.wait_acting(guard)
    stage.kill(guard, signal.SIGSTOP)
    daemon = stage.daemon(idle, seconds=60.0)
    time.sleep(0.2)
    stage.kill(guard)
    stage.wait_acting(daemon)


def test_a_guard_that_stands_still_is_ended(stage: Stage) -> None:
    guard = stage.guard()
    stage.wait_acting(guard)
    stage.kill(guard, signal.SIGSTOP)
    daemon = stage.daemon(idle, seconds=0.3)
    stage.wait_acting(daemon)
    stage.wait_end(guard)
    assert stage.logged(f"process {guard}, the guard before us, does not answer and is ended")


# Several. -------------------------------------------------------------------------------------------------------------


def test_of_two_takers_at_once_one_takes_and_the_other_is_told_who(stage: Stage) -> None:
    guard = stage.guard()
    stage.wait_acting(guard)

    async def life(_: Daemon) -> None:
        await for_ever()

    daemons = [stage.daemon(life, seconds=0.5) for _ in range(2)]
    stage.until(lambda: stage.lines("fault"), told="one of them is refused")
    stage.until(lambda: any(stage.begun(pid) for pid in daemons), told="the other acts")
    winner = next(pid for pid in daemons if stage.begun(pid))
    fault = stage.lines("fault")
    assert len(fault) == 1
    assert fault[0]["pid"] != winner
    assert f"process {winner} guards the sessions of this machine" in fault[0]["text"]
    assert stage.actor() == winner
    stage.forget("fault")


def test_a_second_taker_gets_it_when_the_first_dies_on_the_way(stage: Stage) -> None:
    guard = stage.guard(stop_seconds=0.1)
    stage.wait_acting(guard)
    first = Talker(stage)
    first.say(WANT)
    assert "document" in first.hear()
    second = stage.daemon(idle)
    time.sleep(0.1)
    assert stage.begun() == 1, "the guard deals with one at a time and acts meanwhile"
    first.close()
    stage.wait_acting(second)


def test_a_second_guard_takes_the_first_ones_sessions_too(stage: Stage) -> None:
    first = stage.guard({1: known(1)})
    stage.wait_acting(first)
    second = stage.guard({2: known(2)})
    stage.wait_acting(second)
    stage.wait_end(first)
    assert stage.lines("begin")[-1]["sids"] == [1, 2]
    # And is found in the first one's place.
    daemon = stage.daemon(leave_and_idle)
    stage.wait_acting(daemon)
    assert stage.lines("begin")[-1]["sids"] == [1, 2]


def test_two_guards_that_begin_at_the_same_instant(stage: Stage) -> None:
    guards = [stage.guard({number: known(number)}) for number in (1, 2)]
    stage.until(lambda: all(stage.begun(pid) for pid in guards), told="one after the other acts")
    assert stage.lines("begin")[-1]["sids"] == [1, 2]
    stage.wait_end(stage.lines("begin")[0]["pid"])


def test_a_guard_that_comes_while_a_daemon_acts_is_one_too_many(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "SECONDS", 0.2)
    daemon = stage.daemon(idle)
    stage.wait_acting(daemon)
    guard = stage.guard()
    stage.wait_end(guard)
    assert order(stage) == [("begin", daemon)]
    assert stage.logged(f"no guard is needed here: process {daemon} guards")


# Its own end, and what must not end it. -------------------------------------------------------------------------------


def test_a_guard_ends_with_the_last_session(stage: Stage) -> None:
    guard = stage.guard()
    stage.wait_acting(guard)
    stage.kill(guard, signal.SIGUSR1)
    stage.wait_end(guard)
    assert stage.lines("left")
    assert stage.logged("the last session is gone; this guard ends")


def test_a_guard_with_nothing_to_guard_ends_at_once(stage: Stage) -> None:
    guard = stage.guard({}, empty=True)
    stage.wait_end(guard)
    assert stage.lines("left")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_meant_for_the_daemon_do_not_end_it(stage: Stage, number: signal.Signals) -> None:
    guard = stage.guard()
    stage.wait_acting(guard)
    stage.kill(guard, number)
    stage.until(lambda: stage.logged(f"{number.name} is passed over"), told="it says so")
    daemon = stage.daemon(idle)
    stage.wait_acting(daemon)


def test_an_engine_that_fails_is_tried_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iscsiboot.keeper.guardian.AGAIN_SECONDS", (0.05, 0.1))
    guard = stage.guard(fails=3)
    stage.wait_acting(guard)
    assert len(stage.lines("failed")) == 3
    assert stage.logged("guarding failed: a fault of ours: RuntimeError: this engine does not start")


def test_a_guard_whose_engine_fails_still_hands_over(stage: Stage) -> None:
    stage.guard(fails=1000)
    stage.until(lambda: stage.lines("failed"), told="the engine failed")
    daemon = stage.daemon(leave_and_idle)
    stage.wait_acting(daemon)
    assert stage.lines("begin")[-1]["sids"] == [1]


def test_an_old_ones_last_session_does_not_end_the_next_spell(stage: Stage) -> None:
    """The word that nothing is left may stand in the queue behind a taker: it is about the spell that is over."""
    guard = stage.guard(stop_seconds=0.2)
    stage.wait_acting(guard)
    talker = Talker(stage)
    talker.say(WANT)
    talker.hear()
    talker.say({"taken": True})
    stage.until(lambda: stage.lines("stopping"), told="it stops")
    stage.kill(guard, signal.SIGUSR1)
    assert talker.hear() == {"done": True}
    talker.say({"guard": True})
    assert talker.hear() == {"guarding": True}
    talker.close()
    assert stage.begun(guard) == 2
    time.sleep(0.1)
    assert stage.actor() == guard


# Those who speak something else. -------------------------------------------------------------------------------------


GARBAGE = [
    b"\n",
    b"\0" * 100 + b"\n",
    b"[1, 2]\n",
    b"null\n",
    b'{"iscsiboot-keeper": 0, "want": "sessions"}\n',
    b'{"iscsiboot-keeper": true, "want": "sessions"}\n',
    b'{"iscsiboot-keeper": 1, "want": "everything"}\n',
    b'{"want": "sessions"}\n',
    b"[" * 100_000 + b"\n",
    b"\xff\xfe\n",
]


@pytest.mark.parametrize("data", GARBAGE, ids=range(len(GARBAGE)))
def test_a_guard_turns_garbage_away_and_goes_on(stage: Stage, data: bytes) -> None:
    guard = stage.guard()
    stage.wait_acting(guard)
    talker = Talker(stage)
    talker.sock.sendall(data)
    try:
        assert talker.hear() is None
    except ConnectionResetError:
        pass  # it closed with something of ours unread
    talker.close()
    daemon = stage.daemon(idle)
    stage.wait_acting(daemon)


def test_half_a_request_does_not_hold_up_others(stage: Stage) -> None:
    guard = stage.guard()
    stage.wait_acting(guard)
    talkers = [Talker(stage) for _ in range(5)]
    for talker in talkers:
        talker.sock.sendall(b'{"iscsiboot-keeper"')
    daemon = stage.daemon(idle)
    stage.wait_acting(daemon)
    for talker in talkers:
        talker.close()


def test_a_later_version_is_answered_in_ours(stage: Stage) -> None:
    guard = stage.guard()
    stage.wait_acting(guard)
    talker = Talker(stage)
    talker.say({"iscsiboot-keeper": 9, "want": "sessions", "by": "something newer"})
    answer = talker.hear()
    assert answer["iscsiboot-keeper"] == 1
    assert "document" in answer
    talker.close()


def test_status_is_told_to_who_asks(stage: Stage) -> None:
    assert handover.ask_status(run=stage.run, log=stage.log, name=stage.name) is None
    guard = stage.guard({1: known(), 2: known(2)})
    stage.wait_acting(guard)
    status = handover.ask_status(run=stage.run, log=stage.log, name=stage.name)
    assert status == {
        "iscsiboot-keeper": 1,
        "pid": guard,
        "acts": True,
        "behind": None,
        "status": [{"sid": 1}, {"sid": 2}],
    }
    daemon = stage.daemon(idle)
    stage.wait_acting(daemon)
    status = handover.ask_status(run=stage.run, log=stage.log, name=stage.name)
    assert status == {"iscsiboot-keeper": 1, "pid": guard, "acts": False, "behind": daemon, "status": []}


def test_a_run_folder_others_may_write_to_is_not_used_and_nothing_stands_still(stage: Stage) -> None:
    stage.run.mkdir()
    stage.run.chmod(0o777)
    guard = stage.guard()
    stage.wait_acting(guard)
    assert stage.logged("others may write to it (mode 0777): nothing keeps two guards from acting at once")
    daemon = stage.daemon(leave_and_idle)
    stage.wait_acting(daemon)
    stage.wait_end(guard)
    assert list(stage.run.iterdir()) == []


def test_without_the_lock_a_dead_taker_is_still_noticed(stage: Stage) -> None:
    stage.run.mkdir()
    stage.run.chmod(0o777)
    guard = stage.guard()
    stage.wait_acting(guard)
    daemon = stage.daemon(idle)
    stage.wait_acting(daemon)
    stage.kill(daemon)
    stage.wait_acting(guard, times=2)


def test_the_places_are_closed_to_others(stage: Stage) -> None:
    guard = stage.guard()
    stage.wait_acting(guard)
    stage.until(lambda: (stage.run / "keeper.sock").exists(), told="it listens")
    assert stage.run.stat().st_mode & 0o777 == 0o755
    assert (stage.run / "guard.lock").stat().st_mode & 0o777 == 0o600
    assert (stage.run / "keeper.sock").stat().st_mode & 0o777 == 0o600


def test_taking_over_can_be_cancelled(stage: Stage) -> None:
    guard = stage.guard()
    stage.wait_acting(guard)
    stage.kill(guard, signal.SIGSTOP)

    def life() -> None:
        async def give_up() -> None:
            taking = asyncio.ensure_future(
                handover.take_over(run=stage.run, log=stage.log, now=time.monotonic, seconds=60, name=stage.name)
            )
            await pause(0.1)
            taking.cancel()
            try:
                await taking
            except asyncio.CancelledError:
                stage.note("cancelled")

        asyncio.run(give_up())

    stage.wait_end(stage.spawn(life))
    assert stage.lines("cancelled")
    stage.kill(guard, signal.SIGCONT)
    daemon = stage.daemon(idle)
    stage.wait_acting(daemon)
