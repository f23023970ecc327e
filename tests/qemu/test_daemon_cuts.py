# SPDX-License-Identifier: LGPL-2.1-or-later
"""Targets that go and come: at no moment is a session without a guard, no write is lost, no log is filled."""

from __future__ import annotations

from typing import Any

import pytest

from tests.qemu.daemon.guest import Seen, wants_long
from tests.qemu.daemon.judge import clean, in_time, said
from tests.qemu.daemon.multipath import FAST

pytestmark = [pytest.mark.boot, pytest.mark.root]

DENIED_SECONDS = 35.0
"""A target that refuses a secret is asked again after at most thirty seconds."""
MOMENTS = ("up", "dead", "handed_over", "stopped")
LINES_PER_BREAK = 6
FAIL_OVER_SECONDS = 10.0
"""Five of the kernel's patience with a path, after a break it hears of at once; the rest is emulation."""
IO_FLUSHER = 0x00180000
"""PF_MEMALLOC_NOIO and PF_LOCAL_THROTTLE in /proc/PID/stat: what PR_SET_IO_FLUSHER sets."""


@pytest.mark.parametrize("moment", [*MOMENTS, "alone"])
def test_every_cut_is_healed_at_any_moment(daemon_seen: Seen, moment: str) -> None:
    """By one login each, and soon after the target's return; in the short form one way of cutting at each moment."""
    trial = "before_the_first_daemon" if moment == "alone" else "while_up_and_dead"
    cuts: dict[str, dict[str, Any]] = said(daemon_seen, trial)["cuts"]
    mine = {name: cut for name, cut in cuts.items() if name.startswith(f"{moment}: ")}
    assert len(mine) == (3 if wants_long() else 1)
    for name, cut in mine.items():
        assert cut["logins"] == 1, name
        in_time(name, cut["healed"], cut["resumed"], cut["control"])


def test_a_daemon_that_is_killed_around_a_cut_leaves_no_gap(daemon_seen: Seen) -> None:
    """Each falls anywhere into the other's work; whoever guards then, one login heals it."""
    for name, cut in said(daemon_seen, "killed_around")["cuts"].items():
        assert cut["logins"] == 1, name
        in_time(name, cut["healed"], cut["resumed"], cut["control"])


@pytest.mark.parametrize("name", ["while_up_and_dead", "killed_around", "before_the_first_daemon"])
def test_the_system_saw_no_error(daemon_seen: Seen, name: str) -> None:
    found = said(daemon_seen, name)
    clean(found["load"])
    assert found["errors"] == []


def test_a_guard_was_there_when_the_daemon_was_not(daemon_seen: Seen) -> None:
    for name, cut in said(daemon_seen, "while_up_and_dead")["cuts"].items():
        if name.startswith(("dead: ", "stopped: ")):
            assert len(cut["guards"]) == 1, name


def test_without_a_guard_nothing_is_healed(daemon_seen: Seen) -> None:
    """The control: the target is back for long and nobody logs in; the next daemon does, once."""
    found = said(daemon_seen, "nobody")
    assert found["logins alone"] == 0
    assert not [text for text in found["alone"].values() if text.endswith(" up")]
    assert found["logins"] == 1


@pytest.mark.parametrize("name", ["restarts", "flapping", "port_closed", "secrets"])
def test_data_is_whole_and_no_session_was_lost(daemon_seen: Seen, name: str) -> None:
    found = said(daemon_seen, name)
    clean(found["load"])
    assert found["identity"][0] == found["identity"][1]
    assert found["errors"] == []


def test_a_target_that_restarts_is_back_within_two_seconds(daemon_seen: Seen) -> None:
    found = said(daemon_seen, "restarts")
    assert len(found["healed"]) == found["times"]
    for times in zip(found["healed"], found["resumed"], found["control"], strict=True):
        in_time("a restart", *times)
    assert len(found["lines"]) <= LINES_PER_BREAK * found["times"] + 10, found["lines"][-20:]


def test_a_port_that_opens_again_is_found_within_two_seconds(daemon_seen: Seen) -> None:
    found = said(daemon_seen, "port_closed")
    in_time("the port", found["cut"]["healed"], found["resumed"], found["cut"]["control"])


def test_a_network_that_swallowed_everything_is_back_within_two_seconds(daemon_seen: Seen) -> None:
    """After a link that came and went, a fifth of all packets lost, and then every one."""
    found = said(daemon_seen, "flapping")
    in_time("the network", found["healed"], found["resumed"], found["control"])
    assert len(found["lines"]) <= LINES_PER_BREAK * found["breaks"] + 10, found["lines"][-20:]


def test_two_paths_are_failed_fast_and_one_is_not(daemon_seen: Seen) -> None:
    """The trial itself waits for each step's time-outs in the kernel; the system's only path waits for ever."""
    found = said(daemon_seen, "multipath")
    told = {step: set(found[step]["roles"].values()) for step in ("no map", "a map", "no map any more")}
    assert told == {"no map": {"data"}, "a map": {"data, multipath"}, "no map any more": {"data"}}
    assert set(found["the system on a map"]["recoveries"].values()) == {FAST}
    assert found["the system on one path"]["roles"] == {"left": "data", "right": "/var"}


def test_a_dead_path_is_no_error_while_another_works(daemon_seen: Seen) -> None:
    """Device mapper goes on within ten seconds, the session is made anew with its disk, both paths are used again."""
    found = said(daemon_seen, "multipath")
    clean(found["load"])
    assert found["failed over"] < FAIL_OVER_SECONDS
    assert found["failed at last"] == 0
    assert found["identity"][0] == found["identity"][1]
    assert not [line for line in found["errors"] if "dm-" in line or "EXT4" in line], found["errors"]


def test_a_secret_that_changed_is_told_and_healed(daemon_seen: Seen) -> None:
    """By the target's old secret when that is back, by the record's new one after SIGHUP."""
    found = said(daemon_seen, "secrets")
    assert found["denied"]["healthy"] == 0
    assert any("authentication" in line for line in found["denied"]["lines"]), found["denied"]["lines"]
    assert found["back"] < DENIED_SECONDS
    assert found["update"] == 0
    assert found["new"] < DENIED_SECONDS
    assert "another-secret-1" not in " ".join(found["lines"])


def test_a_disk_the_target_tells_of_is_there(daemon_seen: Seen) -> None:
    found = said(daemon_seen, "new_unit")
    clean(found["load"])
    assert any("rescanned" in line for line in found["lines"]), found["lines"]


def test_the_daemon_needs_no_disk_and_is_never_killed_for_memory(daemon_seen: Seen) -> None:
    outside = said(daemon_seen, "new_unit")["outside"]
    assert (outside["name"], outside["out of memory"]) == ("iscsid", -1000)
    assert outside["nice"] < 0
    assert outside["flags"] & IO_FLUSHER == IO_FLUSHER
    assert outside["memory"]["VmLck"] > 0
