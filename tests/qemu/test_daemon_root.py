# SPDX-License-Identifier: LGPL-2.1-or-later
"""Root on iSCSI under load: cut at switch-root, its daemon killed, restarted, stopped; cut, starved, frozen."""

from __future__ import annotations

from typing import Any

import pytest

from tests.qemu.daemon.guest import wants_long
from tests.qemu.daemon.judge import RETURN_SECONDS, STALL_SECONDS, clean
from tests.qemu.daemon.load import after
from tests.qemu.daemon.root import Conversation, trial
from tests.qemu.harness.errors import BootFailed
from tests.qemu.harness.run import BootResult, Laboratory

pytestmark = [pytest.mark.boot, pytest.mark.root]

CUTS = ("cut_while_up", "cut_while_dead", "cut_in_hand_over", "stall", "frozen")
CONTROL_SECONDS = 240.0
LINES = 120
"""In the journal, of everything that happened."""


@pytest.fixture(scope="module")
def booted(laboratory: Laboratory) -> tuple[BootResult, Conversation]:
    """One boot for all."""
    return trial(laboratory)


@pytest.fixture(scope="module")
def seen(booted: tuple[BootResult, Conversation]) -> dict[str, Any]:
    """What the agent in the root saw; its own words when it could not go on."""
    found = booted[1].result
    assert "failed" not in found, found
    return found


def test_a_cut_at_switch_root_is_healed_by_the_keeper(booted: tuple[BootResult, Conversation]) -> None:
    """No daemon can be there yet: the boot itself went on, by one login more, and the cut did happen."""
    result, talk = booted
    assert talk.switched
    assert result.verdict.session["state"] == "LOGGED_IN"
    assert talk.result["logins"] == 2


def test_the_target_sees_nothing_of_kills_and_restarts(seen: dict[str, Any]) -> None:
    assert seen["logins after"] == seen["logins"]
    assert [text.rsplit(" ", 1)[0] for text in seen["state after"]] == ["LOGGED_IN up"]
    assert seen["load"]["worst"] < max(2 * seen["undisturbed"]["worst"], STALL_SECONDS)


@pytest.mark.parametrize("name", CUTS)
def test_root_goes_on_after_each_cut(seen: dict[str, Any], name: str) -> None:
    """Within two seconds of the target's return, emulated."""
    cut = seen[name]
    assert cut["healed"] < RETURN_SECONDS
    resumed = after(seen["load in cuts"]["gaps"], cut["returned"])
    assert resumed < RETURN_SECONDS


def test_each_cut_costs_one_login(seen: dict[str, Any]) -> None:
    assert seen["logins at last"] == seen["logins after"] + len(CUTS)


def test_while_the_daemon_was_stopped_its_standby_was_there(seen: dict[str, Any]) -> None:
    assert len(seen["cut_while_dead"]["guards"]) == 1


def test_nothing_was_lost_and_nobody_saw_an_error(seen: dict[str, Any]) -> None:
    for name in ("load", "load in cuts"):
        clean(seen[name])
    assert seen["trouble"] == []


def test_root_waits_for_ever(seen: dict[str, Any]) -> None:
    """The role of its session: no replacement timeout once the daemon has seen what it carries."""
    assert [text.rsplit(" ", 1)[1] for text in seen["state after"]] == ["off"]


def test_the_log_is_not_filled(seen: dict[str, Any]) -> None:
    assert 0 < seen["journal"] < LINES


@pytest.mark.skipif(not wants_long(), reason="a boot that must not end; make check-all")
def test_without_keeper_and_daemon_the_same_cut_ends_the_boot(laboratory: Laboratory) -> None:
    """The control: nobody makes root's connection anew, so nothing is read from it any more."""
    with pytest.raises(BootFailed, match="no verdict"):
        trial(laboratory, "rd.iscsiboot.keeper=0", "systemd.mask=iscsid.service", seconds=CONTROL_SECONDS)
