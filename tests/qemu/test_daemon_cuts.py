# SPDX-License-Identifier: LGPL-2.1-or-later
"""Targets that go and come: at no moment is a session without a guard, no write is lost, no log is filled."""

from __future__ import annotations

from typing import Any

import pytest

from tests.qemu.daemon.guest import Seen, wants_long
from tests.qemu.daemon.judge import RETURN_SECONDS, clean, said

pytestmark = [pytest.mark.boot, pytest.mark.root]

REFUSED_SECONDS = 35.0
"""A target that is there and refuses is asked again after at most thirty seconds."""
MOMENTS = ("up", "dead", "handed_over", "stopped")
LINES_PER_BREAK = 6
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
        late = max(cut["healed"], cut["resumed"])
        assert late < (REFUSED_SECONDS if name.endswith("refusing") else RETURN_SECONDS), name


@pytest.mark.parametrize("name", ["while_up_and_dead", "before_the_first_daemon"])
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
    assert max(found["healed"] + found["resumed"]) < RETURN_SECONDS
    assert len(found["lines"]) <= LINES_PER_BREAK * found["times"] + 10, found["lines"][-20:]


def test_a_secret_that_changed_is_told_and_healed(daemon_seen: Seen) -> None:
    """By the target's old secret when that is back, by the record's new one after SIGHUP."""
    found = said(daemon_seen, "secrets")
    assert found["denied"]["healthy"] == 0
    assert any("authentication" in line for line in found["denied"]["lines"]), found["denied"]["lines"]
    assert found["back"] < REFUSED_SECONDS
    assert found["update"] == 0
    assert found["new"] < REFUSED_SECONDS
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
