# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sessions of every origin pass to our daemon with nothing on the wire; hostile clients change nothing of that."""

from __future__ import annotations

from itertools import chain

import pytest

from tests.qemu.daemon.guest import GROUPS, Seen
from tests.qemu.daemon.judge import STALL_SECONDS, clean, no_stall, said

pytestmark = [pytest.mark.boot, pytest.mark.root]

ORIGINS = ("of_our_iscsiadm", "of_our_daemon", "of_our_iscsistart", "of_peers_iscsistart", "of_peers_daemon")
ANSWER_SECONDS = 15.0
"""One iscsiadm, or an answer of the daemon's, emulated on a busy machine."""
OUTAGE_LINES = 60
GROWTH_KIB = 8192
"""What the daemon may have grown by after all attacks: buffers of its 64 clients, no more."""


def test_every_trial_was_made(daemon_seen: Seen) -> None:
    assert set(daemon_seen) == set(chain(*GROUPS))


@pytest.mark.parametrize("name", ORIGINS)
def test_nothing_is_on_the_wire(daemon_seen: Seen, name: str) -> None:
    """Killed and started again and again, then ended: the target saw one login, and writes went on."""
    found = said(daemon_seen, name)
    assert found["logins after"] == found["logins"]
    assert found["identity after"] == found["identity"]
    assert [text.rpartition(" ")[2] for text in found["sessions"].values()] == ["up"]
    clean(found["load"])
    no_stall(found["load"])


def test_a_session_of_the_initramfs_brings_its_guard(daemon_seen: Seen) -> None:
    """One guard before the daemon; the trial itself waits until it has handed over and is gone."""
    assert len(said(daemon_seen, "of_our_iscsistart")["guards"]) == 1


def test_the_peer_takes_ours(daemon_seen: Seen) -> None:
    """The control: its start is a login, so the counter the others rely on does count. It can end what it took."""
    found = said(daemon_seen, "peer_takes_ours")
    assert found["logins"] >= 1
    assert [text.rpartition(" ")[2] for text in found["during"].values()] == ["up"]
    assert (found["logout"]["status"], found["left"]) == (0, {})
    clean(found["load"])
    assert found["load"]["worst"] > STALL_SECONDS, "the limit of the others would not show a login"


def test_our_iscsiadm_does_not_end_the_peers_daemon(daemon_seen: Seen) -> None:
    """It is not understood and says so; the peer's daemon stays, as its logout afterwards shows."""
    asked = said(daemon_seen, "peer_takes_ours")["ours asks"]
    assert asked["status"] == 0
    assert "18 - could not communicate to iscsid" in asked["out"] + asked["err"]
    assert asked["seconds"] < ANSWER_SECONDS


def test_an_upgrade_is_not_seen_by_the_target(daemon_seen: Seen) -> None:
    found = said(daemon_seen, "upgrade")
    assert found["logins"] == 0
    assert len(found["sessions"]) == 2
    clean(found["load"])


def test_a_second_daemon_says_who_runs(daemon_seen: Seen) -> None:
    second = said(daemon_seen, "upgrade")["second"]
    assert second["status"] == 1
    assert any("process" in line or "pid" in line.lower() for line in second["lines"]), second["lines"]


ATTACKS = ("garbage", "half_requests", "a_thousand", "slow_readers", "leavers", "stranger")


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_clients_harm_nobody(daemon_seen: Seen, attack: str) -> None:
    found = said(daemon_seen, "hostile")
    after = found[attack]
    assert after["pid"] == found["pid"]
    assert after["healthy"] == 1
    assert after["then"]
    assert after["then seconds"] < ANSWER_SECONDS
    assert after.get("ok", True)
    assert after["memory"]["VmRSS"] < found["memory"]["VmRSS"] + GROWTH_KIB


def test_nothing_of_it_reached_the_session(daemon_seen: Seen) -> None:
    found = said(daemon_seen, "hostile")
    assert found["logins"] == 0
    clean(found["load"])
    assert found["logout"]["status"] == 0, "the daemon still does what root asks for"


def test_only_root_is_heard(daemon_seen: Seen) -> None:
    stranger = said(daemon_seen, "hostile")["stranger"]
    assert '"ok":false' in stranger["stop"].replace(" ", "")
    assert "root" in stranger["stop"]


@pytest.mark.parametrize("name", ["outage", "adopted", "found_down"])
def test_many_sessions_come_back_together(daemon_seen: Seen, name: str) -> None:
    """Each by one login, and with the disks it had."""
    found = said(daemon_seen, name)
    if name == "found_down":
        assert found["logins"] == found["sessions"]
        return
    back = found["return"]
    assert back["logins"] == found["sessions"]
    assert found["readable"] == found["sessions"]
    assert found["identity"][0] == found["identity"][1]


def test_many_sessions_are_adopted_without_a_login(daemon_seen: Seen) -> None:
    found = said(daemon_seen, "adopted")
    assert (found["logins"], found["logins again"]) == (0, 0)


def test_an_outage_of_many_fills_no_log(daemon_seen: Seen) -> None:
    """A few lines of each kind, and one for all other sessions, however many those are and however long it takes."""
    found = said(daemon_seen, "outage")
    assert len(found["lines"]) <= OUTAGE_LINES, found["lines"][-20:]
