# SPDX-License-Identifier: LGPL-2.1-or-later
"""Root on iSCSI under load: cut at switch-root, its daemon killed, replaced, hung, stopped; cut, starved, frozen."""

from __future__ import annotations

from typing import Any

import pytest

from tests.qemu.daemon.guest import wants_long
from tests.qemu.daemon.judge import STALL_SECONDS, clean
from tests.qemu.daemon.load import after
from tests.qemu.daemon.root import LAST_MOMENTS, Conversation, trial
from tests.qemu.daemon.root_disk import NOBODY
from tests.qemu.guest.daemon_root import LAST_LINES
from tests.qemu.harness.errors import BootFailed
from tests.qemu.harness.run import BootResult, Laboratory

pytestmark = [pytest.mark.boot, pytest.mark.root]

CUTS = ("cut_while_up", "cut_while_dead", "cut_in_hand_over", "stall", "frozen")
REPLACED = ("there", "back")
RETURN_SECONDS = 2.0
"""From the end of a cut, by the host's clock, until a new connection logs in: that is the guard's, on any machine."""
ANSWER_SECONDS, RESUMED_SECONDS = RETURN_SECONDS if wants_long() else 8.0, 10.0
"""Until the disk answers a command, and until the guest has noticed: the login itself is as slow as an emulated
processor that others share. The long form wants a machine of its own, where the disk answers within 0.3 to 1.9 s."""
CONTROL_SECONDS = 480.0
UNREACHABLE_SECONDS = 60.0
"""For iscsi.service's order to be taken by a daemon that starts beside everything else of a boot, emulated. Eight
attempts of 15 s at the node nobody answers for are two minutes."""
LINES = 160
"""In the journal, of everything that happened, a line a start or a stop of the unit beside them."""
FIRST_LOGINS = 2
"""tgt refuses a list of CHAP algorithms; the one it knows is remembered from then on."""


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


def check_recovery(booted: tuple[BootResult, Conversation], cut: dict[str, Any]) -> None:
    """Somebody came at once when the target was there again, and its disk went on."""
    cable, number = booted[1].cable, int(cut["cut"])
    assert cable is not None
    came, answered = cable.log.returns()[number], cable.log.recoveries()[number]
    assert came is not None
    assert came < RETURN_SECONDS
    assert answered is not None, "the disk was never heard of again"
    assert answered < ANSWER_SECONDS


def test_a_cut_at_switch_root_is_healed_by_the_keeper(booted: tuple[BootResult, Conversation]) -> None:
    """No daemon can be there yet: the boot itself went on, by one login more, and the cut did happen."""
    result, talk = booted
    assert talk.switched
    assert result.verdict.session["state"] == "LOGGED_IN"
    assert talk.result["logins"] == FIRST_LOGINS + 1


def test_the_target_sees_nothing_of_kills_and_restarts(seen: dict[str, Any]) -> None:
    assert seen["logins after"] == seen["logins"]
    assert [text.rsplit(" ", 1)[0] for text in seen["state"]] == ["LOGGED_IN up"]
    assert seen["restarted"]["kills"]["by systemd"] == len(seen["restarted"]["kills"]["starts"])
    assert seen["restarted"]["restarts"]["ready"]


def test_no_write_waits_for_them(seen: dict[str, Any]) -> None:
    """At most twice as long as undisturbed, where the same program was started beside it and touched nothing."""
    assert set(seen["restarted"]["bystanders"]["statuses"]) == {1}, "there was a daemon already"
    quiet, beside, restarted = seen["restarted"]["load"]["phases"]
    assert min(quiet["done"], beside["done"], restarted["done"]) > 0
    assert restarted["worst"] < max(2 * quiet["worst"], 2 * beside["worst"], STALL_SECONDS)


def test_an_upgrade_costs_no_login_and_a_cut_in_it_is_healed(
    booted: tuple[BootResult, Conversation], seen: dict[str, Any]
) -> None:
    """Under the old one and the new files; the daemon that stood on them wanted none of them."""
    upgrade = seen["replaced"]["upgrade"]
    assert upgrade["there"]["version"] == "9." + upgrade["back"]["version"]
    assert not upgrade["refused"]
    for name in REPLACED:
        check_recovery(booted, upgrade[name]["cut"])
    assert seen["logins replaced"] == seen["logins after"] + len(REPLACED)


def test_a_daemon_that_hangs_is_replaced(seen: dict[str, Any]) -> None:
    """Who started it hears its signs of life, and ends it when they stay away."""
    hung = seen["replaced"]["hung"]
    assert hung["fed"] > 0
    assert len(hung["words"]) == 1


@pytest.mark.parametrize("name", CUTS)
def test_root_goes_on_after_each_cut(booted: tuple[BootResult, Conversation], seen: dict[str, Any], name: str) -> None:
    cut = seen["cut"][name]
    check_recovery(booted, cut)
    assert cut["healed"] < RESUMED_SECONDS
    assert after(seen["cut"]["load"]["gaps"], cut["returned"]) < RESUMED_SECONDS


def test_each_cut_costs_one_login(seen: dict[str, Any]) -> None:
    assert seen["logins at last"] == seen["logins replaced"] + len(CUTS)


def test_while_the_daemon_was_stopped_its_standby_was_there(seen: dict[str, Any]) -> None:
    assert len(seen["cut"]["cut_while_dead"]["guards"]) == 1


def test_nothing_was_lost_and_nobody_saw_an_error(seen: dict[str, Any]) -> None:
    for load in (*(seen[name]["load"] for name in ("restarted", "replaced", "cut")), seen["cut"]["frozen"]["load"]):
        clean(load)
    assert seen["trouble"] == []
    assert not [name for name in seen["stuck"] if name.startswith("iscsi")]


def test_root_waits_for_ever(seen: dict[str, Any]) -> None:
    """The role of its session: no replacement timeout once the daemon has seen what it carries."""
    assert [text.rsplit(" ", 1)[1] for text in seen["state"]] == ["off"]


def test_the_log_is_not_filled(seen: dict[str, Any]) -> None:
    lines = LINES + 8 * (len(seen["restarted"]["kills"]["starts"]) if wants_long() else 0)
    assert 0 < seen["journal"] < lines


# The units, as make install puts them. --------------------------------------------------------------------------------


def test_the_units_come_up_in_their_sandbox(seen: dict[str, Any]) -> None:
    units = seen["units"]
    daemon = units["iscsid.service"]
    assert (daemon["ActiveState"], daemon["SubState"], daemon["NRestarts"]) == ("active", "running", "0")
    assert daemon["StatusText"].startswith("Guarding sessions: 1")
    assert (units["iscsid.socket"]["ActiveState"], units["iscsid.socket"]["SubState"]) == ("active", "running")
    process = units["process"]
    assert (process["Seccomp"], process["NoNewPrivs"]) == ("2", "1")
    assert int(process["VmLck"].split()[0]) >= 0.9 * int(process["VmRSS"].split()[0])
    assert (units["verify"], units["cycles"], units["denied"]) == ([], [], [])


def test_the_boot_waits_for_no_node_that_cannot_be_reached(seen: dict[str, Any]) -> None:
    """Nor for the daemon, at whose socket iscsi.service leaves its order; the order is given and is no failure."""
    unit, times = seen["units"]["iscsi.service"], seen["units"]["automatic"]
    assert (unit["ActiveState"], unit["Result"], unit["ExecMainStatus"]) == ("active", "success", "0")
    # It is up before its order is given, so nothing behind it waits for that.
    assert times["began"] < times["active"] < times["ordered"]
    assert times["ordered"] - times["began"] < UNREACHABLE_SECONDS
    assert NOBODY in seen["automatic"]["nodes"]


def test_the_first_client_starts_the_daemon(seen: dict[str, Any]) -> None:
    first = seen["first client"]
    assert first["new"]["status"] == 0
    assert (first["stopped"]["ActiveState"], first["stopped"]["Result"]) == ("inactive", "success")
    assert len(first["guards"]) == 1
    assert first["login"]["status"] == 0, first["login"]["said"]
    assert first["after"]["ActiveState"] == "active"
    assert [text.rsplit(" ", 1)[0] for text in first["state"]] == ["LOGGED_IN up"] * 2


def test_automatic_nodes_are_logged_in_beside_one_that_is_not_there_and_root_stays(seen: dict[str, Any]) -> None:
    automatic = seen["automatic"]
    assert automatic["start"]["status"] == 0
    assert automatic["start"]["took"] < UNREACHABLE_SECONDS
    assert [len(automatic[name]) for name in ("left", "during", "after")] == [1, 2, 1]
    assert automatic["stop"]["status"] == 0
    assert automatic["unit"]["Result"] == "success"
    assert [text.rsplit(" ", 1)[0] for text in seen["state at last"]] == ["LOGGED_IN up"]


# The end of the machine. ----------------------------------------------------------------------------------------------


def test_the_shutdown_ends_and_everything_is_on_the_disk(booted: tuple[BootResult, Conversation]) -> None:
    """With the target away after every unit has stopped, and again while every process is ended."""
    result, talk = booted
    assert talk.cable is not None
    assert talk.status == 0, "the machine did not power off by itself"
    assert talk.last_cuts == [moment.pattern for moment in LAST_MOMENTS]
    assert None not in talk.cable.log.recoveries()[-len(LAST_MOMENTS) :]
    assert talk.after["state"] == "clean"
    assert "needs_recovery" not in talk.after["features"]
    assert talk.after["check"] == 0, talk.after["said"]
    nonce = result.verdict.said["nonce"]
    assert talk.after["last"] == "".join(f"line {number} of {nonce}\n" for number in range(LAST_LINES))
    assert talk.cable.log.logouts == [], "nobody ended root's session"


@pytest.mark.skipif(not wants_long(), reason="a boot that must not end; make check-all")
def test_without_keeper_and_daemon_the_same_cut_ends_the_boot(laboratory: Laboratory) -> None:
    """The control: nobody makes root's connection anew, and after the kernel's two minutes nothing is read any more."""
    talk = Conversation()
    with pytest.raises(BootFailed, match="no verdict: QEMU ended") as failed:
        trial(laboratory, "rd.iscsiboot.keeper=0", "systemd.mask=iscsid.service", seconds=CONTROL_SECONDS, talk=talk)
    assert any("rejecting I/O to offline device" in line for line in failed.value.evidence.lines)
    assert talk.switched
    assert talk.cable is not None
    assert talk.cable.log.recoveries() == [None], "the target was there again, and nobody came"
    assert len(talk.cable.log.logins) == FIRST_LOGINS
