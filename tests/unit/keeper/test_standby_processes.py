# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guard process behind the daemon: every way the daemon may end, and what the next one finds."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from iscsiboot.keeper import guardian, handover
from iscsiboot.keeper.standby import Standby
from iscsiboot.keeper.values import Role
from tests.unit.keeper.guard_kit import (
    PATIENCE,
    SECRET,
    Daemon,
    Stage,
    Talker,
    for_ever,
    idle,
    known,
    only_by_events,
    pause,
    with_standby,
)


def started(stage: Stage) -> tuple[int, int]:
    """A daemon with its standby in place: the process numbers of both."""
    daemon = stage.daemon(with_standby)
    stage.until(lambda: any(line["pid"] == daemon for line in stage.lines("settled")), told="it has its standby")
    standby = stage.adopt(stage.lines("standby")[-1]["standby"])
    until_listens(stage, standby)
    return daemon, standby


def until_listens(stage: Stage, pid: int) -> None:
    stage.until(lambda: listens(stage, pid), told=f"{pid} listens")


def listens(stage: Stage, pid: int) -> bool:
    status = handover.ask_status(run=stage.run, log=stage.log, name=stage.name)
    return status is not None and status["pid"] == pid


def test_the_standby_sleeps_while_its_daemon_lives(stage: Stage) -> None:
    daemon, standby = started(stage)
    stage.until(lambda: asleep(standby), told="it has closed the connection that asked how it is, and sleeps")
    before = switches(standby)
    time.sleep(0.5)
    assert switches(standby) == before, "it was not woken up once"
    assert stage.actor() == daemon
    assert stage.begun(standby) == 0


OWN_SOCKETS = 5
"""Its line to the daemon, asyncio's pair, and the two it listens at."""


def asleep(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return len(sockets_of(pid)) == OWN_SOCKETS and state == "S"


def sockets_of(pid: int) -> list[str]:
    links = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
    return [link for link in links if link.startswith("socket:")]


def switches(pid: int) -> int:
    """How often that process gave the processor back by itself: each wait that ended."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def test_a_daemon_that_is_killed_is_followed_at_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's word is enough: nothing is looked at again after a time."""
    only_by_events(monkeypatch)
    daemon, standby = started(stage)
    stage.kill(daemon)
    stage.wait_acting(standby)
    told = stage.lines("begin")[-1]
    assert told["sids"] == [1]
    assert told["roles"] == [["the root"]]


def test_the_next_daemon_takes_over_and_the_standby_ends(stage: Stage) -> None:
    daemon, standby = started(stage)
    stage.kill(daemon)
    stage.wait_acting(standby)
    _, second = started(stage)
    stage.wait_end(standby)
    assert second != standby
    assert stage.begun(second) == 0


def test_the_next_daemon_may_come_before_the_standby_has_noticed(stage: Stage) -> None:
    """The next one is started milliseconds after the death of the last."""
    daemon, standby = started(stage)
    stage.kill(standby, signal.SIGSTOP)
    stage.kill(daemon)
    stage.wait_end(daemon)
    following = stage.daemon(with_standby)
    time.sleep(0.1)
    assert stage.begun(following) == 0, "the standby has not answered yet"
    stage.kill(standby, signal.SIGCONT)
    stage.wait_acting(following)
    assert stage.lines("begin")[-1]["sids"] == [1]
    assert stage.lines("begin")[-1]["secrets"] == [True]


def test_a_second_daemon_is_kept_waiting_while_the_first_lives(stage: Stage) -> None:
    daemon, standby = started(stage)
    second = stage.daemon(with_standby, seconds=30.0)
    time.sleep(0.2)
    assert stage.begun(second) == 0
    stage.kill(daemon)
    stage.wait_acting(second)
    assert [line["pid"] for line in stage.lines("begin")] == [daemon, standby, second]


def test_a_second_daemon_is_told_who_acts(stage: Stage) -> None:
    daemon, _ = started(stage)
    stage.wait_end(stage.daemon(with_standby, seconds=0.2))
    fault = stage.lines("fault")
    assert len(fault) == 1
    assert f"process {daemon} guards the sessions of this machine and does not hand them over" in fault[0]["text"]
    assert stage.actor() == daemon
    stage.forget("fault")


def test_at_shutdown_the_guard_acts_before_the_daemon_ends(stage: Stage) -> None:
    async def shut_down(daemon: Daemon) -> None:
        await daemon.fork_standby()
        daemon.taken.leave()
        daemon.stop()
        assert daemon.standby is not None
        assert await daemon.standby.take_over(PATIENCE)
        daemon.stage.note("handed back")

    daemon = stage.daemon(shut_down)
    stage.wait_end(daemon)
    standby = stage.adopt(stage.lines("standby")[0]["standby"])
    what = [(line["what"], line["pid"]) for line in stage.lines() if line["what"] in ("begin", "end", "handed back")]
    assert what == [("begin", daemon), ("end", daemon), ("begin", standby), ("handed back", daemon)]
    time.sleep(0.1)
    assert stage.actor() == standby, "the daemon's end did not end it"


def test_a_daemon_that_still_acts_is_not_relieved(stage: Stage) -> None:
    """Told to guard by a daemon that has not given the right back: it says no, and stands behind it as before."""

    async def muddle(daemon: Daemon) -> None:
        await daemon.fork_standby()
        assert daemon.standby is not None
        daemon.stage.note("answer", guarding=await daemon.standby.take_over(PATIENCE))
        await for_ever()

    daemon = stage.daemon(muddle)
    stage.until(lambda: stage.lines("answer"), told="the standby answered")
    assert stage.lines("answer")[0]["guarding"] is False
    standby = stage.adopt(stage.lines("standby")[0]["standby"])
    assert stage.begun(standby) == 0
    stage.kill(daemon)
    stage.wait_acting(standby)


def test_a_standby_that_may_leave_ends(stage: Stage) -> None:
    async def dismiss(daemon: Daemon) -> None:
        await daemon.fork_standby()
        assert daemon.standby is not None
        daemon.standby.leave()
        await daemon.standby.ended()
        daemon.stage.note("ended")
        await for_ever()

    daemon = stage.daemon(dismiss)
    stage.until(lambda: stage.lines("ended"), told="it has left")
    assert stage.actor() == daemon


def test_a_standby_that_is_killed_is_noticed_and_replaced(stage: Stage) -> None:
    async def replace(daemon: Daemon) -> None:
        for _ in range(3):
            await daemon.fork_standby()
            daemon.taken.leave()
            assert daemon.standby is not None
            await daemon.standby.ended()
            daemon.stage.note("gone")
        await daemon.fork_standby()
        await for_ever()

    daemon = stage.daemon(replace)
    for count in (1, 2, 3):
        stage.until_lines("ready", count)
        stage.kill(stage.adopt(stage.lines("standby")[-1]["standby"]))
        stage.until_lines("gone", count)
    stage.until_lines("ready", 4)
    stage.kill(daemon)
    stage.wait_acting(stage.lines("standby")[-1]["standby"])


def test_a_standby_that_stands_still_costs_the_daemon_nothing(stage: Stage) -> None:
    """A hundred updates to one that does not read: the daemon's loop goes on, and the newest word wins."""

    async def update(daemon: Daemon) -> None:
        await daemon.fork_standby()
        assert daemon.standby is not None
        os.kill(daemon.standby.pid, signal.SIGSTOP)
        for count in range(100):
            sessions = {sid: known(sid) for sid in range(1, 30 + count)}
            daemon.standby.update(sessions, {})
        await pause(0.2)
        os.kill(daemon.standby.pid, signal.SIGCONT)
        while daemon.standby._newest is not None:
            await pause(0.01)
        await daemon.standby._channel.sent()
        daemon.stage.note("settled")
        await for_ever()

    daemon = stage.daemon(update)
    stage.until(lambda: stage.lines("settled"), told="all is sent")
    standby = stage.adopt(stage.lines("standby")[0]["standby"])
    stage.kill(daemon)
    stage.wait_acting(standby)
    assert stage.lines("begin")[-1]["sids"] == list(range(1, 129))


def test_the_guard_before_and_the_new_standby_both_stand_behind_a_daemon_that_dies(stage: Stage) -> None:
    """The daemon dies after its standby is ready and before the guard before it was told to leave."""
    guard = stage.guard()
    stage.wait_acting(guard)

    async def not_yet(daemon: Daemon) -> None:
        await daemon.fork_standby()
        await for_ever()

    for _ in range(5):
        count = len(stage.lines("ready"))
        daemon = stage.daemon(not_yet)
        stage.until_lines("ready", count + 1)
        standby = stage.adopt(stage.lines("standby")[-1]["standby"])
        begun = stage.begun()
        stage.kill(daemon)
        stage.until_lines("begin", begun + 1)
        acting = stage.lines("begin")[-1]["pid"]
        assert acting in (guard, standby)
        # The other is one too many and ends; the one that acts is found.
        stage.wait_end(standby if acting == guard else guard)
        until_listens(stage, acting)
        guard = acting


def test_a_daemon_that_dies_between_two_guards_that_listen(stage: Stage) -> None:
    """Its word to leave is out, the new standby does not listen yet: who starts now finds nobody."""
    guard = stage.guard()
    stage.wait_acting(guard)

    async def leave_and_die(daemon: Daemon) -> None:
        await daemon.fork_standby()
        daemon.taken.leave()
        await pause(0)
        os.kill(os.getpid(), signal.SIGKILL)

    first = stage.daemon(leave_and_die)
    stage.until(lambda: stage.lines("ready"), told="its standby is ready")
    second = stage.daemon(with_standby)
    stage.wait_acting(second)
    stage.wait_end(first)
    stage.wait_end(guard)


def test_the_standby_is_a_process_of_its_own(stage: Stage) -> None:
    """Its own session, so that no terminal takes it along, with none of the daemon's descriptors."""
    reading, writing = os.pipe()

    daemon = stage.daemon(with_standby)
    os.close(reading)
    os.close(writing)
    stage.until(lambda: stage.lines("settled"), told="it is there")
    standby = stage.adopt(stage.lines("standby")[0]["standby"])
    assert os.getsid(standby) == standby
    assert Path(f"/proc/{standby}/cwd").readlink() == Path("/"), "it keeps no file system busy"
    assert Path(f"/proc/{standby}/comm").read_text() == "iscsiboot-keepe\n"
    assert Path(f"/proc/{standby}/cmdline").read_bytes().startswith(b"@iscsiboot-keeper\0")
    links = {int(path.name): str(path.readlink()) for path in Path(f"/proc/{standby}/fd").iterdir()}
    assert len(sockets_of(standby)) == OWN_SOCKETS
    assert not [number for number, link in links.items() if "pipe" in link and number > 2]
    stage.kill(daemon)


def test_signals_to_the_whole_group_do_not_end_the_standby(stage: Stage) -> None:
    daemon, standby = started(stage)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        stage.kill(standby, number)
    stage.until(lambda: stage.logged("SIGHUP is passed over"), told="it says so")
    stage.kill(daemon)
    stage.wait_acting(standby)


def test_a_standby_whose_first_word_never_came_guards_what_it_finds(stage: Stage) -> None:
    async def silent(daemon: Daemon) -> None:
        standby = Standby.fork(
            environment=None,  # type: ignore[arg-type]  # nothing looks at it here
            open_log=lambda: daemon.stage.log,
            run=daemon.stage.run,
            name=daemon.stage.name,
            engine=daemon.stage.engine(),
        )
        daemon.stage.note("standby", standby=standby.pid)
        daemon.stage.note("answer", ready=await standby.ready(0.05))
        await for_ever()

    daemon = stage.daemon(silent)
    stage.until(lambda: stage.lines("answer"), told="it was not ready in time")
    assert stage.lines("answer")[0]["ready"] is False
    stage.kill(daemon)
    stage.wait_acting(stage.lines("standby")[0]["standby"])


def test_what_the_daemon_says_may_be_partly_unusable(stage: Stage) -> None:
    """A daemon of another version: what can be used is used, what cannot is told."""
    guard = stage.guard()
    stage.wait_acting(guard)
    talker = Talker(stage)
    talker.say({"iscsiboot-keeper": 1, "want": "sessions"})
    whole = talker.hear()["document"]
    talker.say({"taken": True})
    assert talker.hear() == {"done": True}
    whole["sessions"]["2"] = {"request": {"portal": 5}}
    whole["sessions"]["3"] = whole["sessions"]["1"] | {"something": "newer"}
    talker.say({"document": whole})
    assert talker.hear() == {"ready": True}
    talker.say({"guard": True})
    assert talker.hear() == {"guarding": True}
    assert stage.lines("begin")[-1]["sids"] == [1, 3]
    assert stage.logged("session '2' cannot be used")
    assert not stage.logged(SECRET.decode())
    talker.close()


GAP_SECONDS = 15.0
"""For what takes milliseconds on a machine with nothing else to do."""


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_moments_somebody_always_acts_and_never_two(
    stage: Stage, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Daemons come and go as systemd would have them, each killed at some moment of its start or later."""
    chance = random.Random(seed)
    # Whoever waited for somebody's time to be over would wait for longer than the gap that is let pass below.
    monkeypatch.setattr(guardian, "TAKEN_SECONDS", 2 * GAP_SECONDS)
    monkeypatch.setattr(handover, "STOP_SECONDS", 2 * GAP_SECONDS)
    guard = stage.guard()
    stage.wait_acting(guard)

    for _ in range(12):
        daemon = stage.daemon(with_standby)
        time.sleep(chance.choice((0.0, 0.01, 0.02, 0.04, 0.08, 0.15)) * (0.5 + chance.random()))
        stage.kill(daemon)
    final, _ = started(stage)
    assert stage.actor() == final
    assert gaps(stage) < GAP_SECONDS


def gaps(stage: Stage) -> float:
    """The longest time nobody acted; who was killed acted until the line of the next."""
    longest, ended = 0.0, None
    for line in stage.lines():
        if line["what"] == "end":
            ended = line["at"]
        elif line["what"] == "begin":
            if ended is not None:
                longest = max(longest, line["at"] - ended)
            ended = None
    return longest


def test_a_kernel_without_process_descriptors(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Linux 5.3 the end of the connection is the sign of the daemon's end; its children hold no copy of it."""

    def unheard_of(pid: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", unheard_of)
    guard = stage.guard()
    stage.wait_acting(guard)
    for _ in range(2):
        daemon = stage.daemon(idle)
        begun = stage.begun()
        stage.wait_acting(daemon)
        stage.kill(daemon)
        stage.until_lines("begin", begun + 2)
    assert stage.actor() == guard
    daemon, standby = started(stage)
    stage.wait_end(guard)
    stage.kill(daemon)
    stage.wait_acting(standby)
    _, third = started(stage)
    assert third != standby


def test_a_guard_that_stands_still_on_such_a_kernel_is_not_ended(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def unheard_of(pid: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", unheard_of)
    guard = stage.guard()
    stage.wait_acting(guard)
    stage.kill(guard, signal.SIGSTOP)
    stage.wait_end(stage.daemon(idle, seconds=0.2))
    assert f"process {guard} guards the sessions of this machine" in stage.lines("fault")[0]["text"]
    stage.forget("fault")
    stage.kill(guard, signal.SIGCONT)
    assert stage.actor() == guard


def test_a_standby_that_cannot_act_at_once_tries_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has heard of its daemon's end already: it must not wait for that a second time."""
    monkeypatch.setattr("iscsiboot.keeper.guardian.AGAIN_SECONDS", (0.05, 0.1))

    async def life(daemon: Daemon) -> None:
        await daemon.fork_standby(fails=2)
        daemon.taken.leave()
        daemon.stage.note("settled")
        await for_ever()

    daemon = stage.daemon(life)
    stage.until_lines("settled", 1)
    standby = stage.adopt(stage.lines("standby")[-1]["standby"])
    stage.kill(daemon)
    stage.wait_acting(standby)
    assert len(stage.lines("failed")) == 2


def test_the_role_of_a_session_comes_back_from_the_standby(stage: Stage) -> None:
    daemon, standby = started(stage)
    stage.kill(daemon)
    stage.wait_acting(standby)
    second = stage.daemon(with_standby)
    stage.wait_acting(second)
    assert stage.lines("begin")[-1]["told"] == {"1": list(Role(system=("the root",)).system)}
