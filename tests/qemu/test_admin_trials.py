# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bad moments of our iscsiadm with a real kernel: signals, a pulled cable, a dead target, disks in use."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.qemu.admin.trials import SECONDS, Seen, run_trials
from tests.qemu.admin.trials_agent import IQN, PORTAL, TRIALS
from tests.qemu.harness.process import tell_stderr
from tests.qemu.harness.run import Laboratory
from tests.unit.admin.json_documents import check

pytestmark = [pytest.mark.boot, pytest.mark.root]

NOTHING = {"sessions": [], "hosts": 0, "connections": 0, "disks": []}
HALF = {"sessions": [f"{IQN}one FREE"], "hosts": 1, "connections": 1, "disks": []}
WHOLE = {"sessions": [f"{IQN}one LOGGED_IN"], "hosts": 1, "connections": 1, "disks": ["sda"]}
BY_PATH = f"/dev/disk/by-path/ip-{PORTAL}-iscsi-{IQN}"
UNDO_SECONDS = 10.0
"""A half-made login is taken back within this, emulated on a busy machine."""
LOGOUT_SECONDS = 40.0
"""Start-up of the program, pings that are missed for four seconds and the kernel's own clean-up."""


def place(name: str) -> str:
    """A login as messages name it."""
    address, port = PORTAL.split(":")
    return f"[iface: default, target: {IQN}{name}, portal: {address},{port}]"


@pytest.fixture(scope="module")
def seen(laboratory: Laboratory) -> Seen:
    """One guest for all trials."""
    return run_trials(laboratory.cache, seconds=SECONDS, log=laboratory.log_path("admin-trials"), tell=tell_stderr)


def said(seen: Seen, name: str) -> dict[str, Any]:
    """What the guest saw in a trial; its own words when the trial could not be made."""
    assert "failed" not in seen[name], seen[name]["failed"]
    return seen[name]


def succeeded(run: dict[str, Any]) -> bool:
    """Status 0 and nothing on standard error."""
    return (run["status"], run["err"]) == (0, "")


def test_every_trial_was_made(seen: Seen) -> None:
    assert list(seen) == [trial.__name__ for trial in TRIALS]


# -- signals in the middle of a login ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "status", "line"),
    [("ctrl_c", 1, "iscsiadm: caught SIGINT, exiting...\n"), ("hangup", -1, "")],
)
def test_a_login_that_is_interrupted_leaves_nothing(seen: Seen, name: str, status: int, line: str) -> None:
    """The target holds its answer back all the while, so the session was half made and nobody else took it away."""
    found = said(seen, name)
    assert found["during"] == HALF
    assert (found["status"], found["err"]) == (status, line)
    assert found["out"] == f"Logging in to {place('one')}\n"
    assert found["gone"] < UNDO_SECONDS
    assert found["after"] == NOTHING


def test_what_kill_9_leaves_is_settled_by_the_next_login(seen: Seen) -> None:
    """The control of the test above: nobody was left to clean up, and half a session is there indeed."""
    found = said(seen, "killed_whole")
    assert (found["during"], found["status"]) == (HALF, -9)
    assert found["after"] == HALF
    assert "one (non-flash)" in found["listed"]["out"]


@pytest.mark.parametrize("name", ["ctrl_c", "hangup", "killed_whole"])
def test_the_next_login_works(seen: Seen, name: str) -> None:
    found = said(seen, name)
    assert succeeded(found["again"]), found["again"]
    assert found["then"] == WHOLE
    assert succeeded(found["logout"])
    assert found["last"] == NOTHING


def test_a_login_goes_on_without_its_command(seen: Seen) -> None:
    """SIGKILL for the command alone: open-iscsi's daemon would go on as well. The next login finds the session."""
    found = said(seen, "killed_command")
    assert (found["during"], found["status"]) == (HALF, -9)
    assert found["after"]["sessions"] == WHOLE["sessions"]
    assert found["again"]["status"] == 15
    assert found["then"] == WHOLE
    assert found["last"] == NOTHING


def test_ctrl_c_leaves_other_sessions_and_a_document(seen: Seen) -> None:
    found = said(seen, "ctrl_c_of_two")
    assert found["status"] == 1
    assert [name.partition(" ")[0] for name in found["after"]["sessions"]] == [f"{IQN}two"]
    document = check(found["out"])
    assert {item["target"].removeprefix(IQN): (item["result"], item["exit_code"]) for item in document["objects"]} == {
        "empty": ("failed", 1),
        "one": ("failed", 1),
        "two": ("present", 15),
    }
    assert document["exit_code"] == 1
    assert found["err"].endswith("iscsiadm: caught SIGINT, exiting...\n")


# -- a target that is not there any more ------------------------------------------------------------------------------


def test_a_logout_without_cable_ends_by_the_pings(seen: Seen) -> None:
    found = said(seen, "logout_without_cable")
    assert found["pings"]["status"] == 0
    assert found["pings"]["seconds"] < LOGOUT_SECONDS
    assert found["after pings"] == NOTHING
    lost = r"iscsiadm: session \d+: the connection broke as its disks were removed \(NOP_TIMEDOUT\); data may be lost\n"
    assert re.search(lost, found["pings"]["err"]), found["pings"]["err"]


def test_a_logout_without_cable_and_pings_ends_by_its_timeout(seen: Seen) -> None:
    """Nothing tells the kernel that the cable is out: what ends is the command's patience, and with it the session."""
    found = said(seen, "logout_without_cable")
    assert found["bounded"]["status"] == 0
    assert found["bounded"]["seconds"] < LOGOUT_SECONDS
    assert "ended without waiting for its disks and its target any longer; data may be lost" in found["bounded"]["err"]
    assert found["after bounded"] == NOTHING
    assert succeeded(found["again"])
    assert succeeded(found["logout"])


def test_a_dead_target_keeps_nobody(seen: Seen) -> None:
    found = said(seen, "target_killed")
    assert found["logout"]["status"] == 0
    assert found["logout"]["seconds"] < LOGOUT_SECONDS
    assert found["after"] == NOTHING
    document = check(found["login"]["out"])
    (login,) = document["objects"]
    assert (login["result"], login["exit_code"], document["exit_code"]) == ("failed", 8, 8)
    assert "nobody listens on that port" in login["failure"]["cause"]
    assert found["last"] == NOTHING


# -- devices, documents, logins nobody waits for ----------------------------------------------------------------------


def test_the_names_of_the_disks_are_there_when_the_command_is_over(seen: Seen) -> None:
    found = said(seen, "wait_device")
    assert succeeded(found["login"])
    names = [f"{BY_PATH}two-lun-{lun}" for lun in (1, 2)]
    assert found["names"] == names
    lines = found["login"]["out"].splitlines()[2:]
    assert [re.sub(r"/dev/sd[a-z]", "/dev/sdX", line) for line in lines] == [
        f"Device of {place('two')}: /dev/sdX {name}" for name in names
    ]


def test_a_target_without_disks_is_21_and_its_session_stays(seen: Seen) -> None:
    found = said(seen, "wait_device")
    assert found["empty"]["status"] == 21
    assert f"Login to {place('empty')} successful.\n" in found["empty"]["out"]
    assert "the target has no disk, only LUN 0" in found["empty"]["err"]
    assert found["left"] == [f"{IQN}empty LOGGED_IN", f"{IQN}two LOGGED_IN"]
    assert succeeded(found["logout"])


@pytest.mark.parametrize(
    ("name", "kind", "code", "results"),
    [
        ("login", "login", 0, {"two": "done"}),
        ("all", "login", 15, {"two": "present", "one": "done", "empty": "done"}),
        ("rescan", "rescan", 0, {"two": None}),
        ("rescan all", "rescan", 0, {"two": None, "one": None, "empty": None}),
        ("logout", "logout", 0, {"two": "done"}),
        ("logout all", "logout", 0, {"one": "done", "empty": "done"}),
    ],
)
def test_documents(seen: Seen, name: str, kind: str, code: int, results: dict[str, str | None]) -> None:
    run = said(seen, "documents")[name]
    document = check(run["out"])
    assert (document["kind"], document["exit_code"], run["status"]) == (kind, code, code)
    assert {item["target"].removeprefix(IQN): item.get("result") for item in document["objects"]} == results


def test_documents_name_the_devices(seen: Seen) -> None:
    found = said(seen, "documents")
    (login,) = check(found["login"]["out"])["objects"]
    assert len(login["devices"]) == 2
    assert all(re.fullmatch(r"/dev/sd[a-z]", device) for device in login["devices"])
    devices = {item["target"]: item["devices"] for item in check(found["all"]["out"])["objects"]}
    assert len(devices[f"{IQN}one"]) == 1
    assert not devices[f"{IQN}empty"]


def test_a_document_of_nothing(seen: Seen) -> None:
    document = check(said(seen, "documents")["nothing"]["out"])
    assert (document["objects"], document["exit_code"]) == ([], 21)


def test_a_login_nobody_waits_for(seen: Seen) -> None:
    """The target answers only after the command is over, so it cannot have waited."""
    found = said(seen, "no_wait")
    assert succeeded(found["login"])
    assert found["login"]["out"] == f"Logging in to {place('one')}\n"
    (sent,) = check(found["sent"]["out"])["objects"]
    assert (sent["result"], sent["sid"], found["sent"]["status"]) == ("sent", None, 0)
    assert succeeded(found["logout"])
    assert found["last"] == NOTHING


# -- what the system stands on ----------------------------------------------------------------------------------------


def test_var_and_swap_are_kept_and_the_rest_is_ended(seen: Seen) -> None:
    found = said(seen, "guard")
    assert found["all"]["status"] == 28
    objects = check(found["all"]["out"])["objects"]
    assert {item["target"].removeprefix(IQN): (item["result"], item["exit_code"]) for item in objects} == {
        "one": ("kept", 28),
        "two": ("kept", 28),
        "empty": ("done", 0),
    }
    assert found["left"] == found["still"] == [f"{IQN}one LOGGED_IN", f"{IQN}two LOGGED_IN"]


@pytest.mark.parametrize(("name", "reason"), [("var", r"sd\w is mounted on /var"), ("swap", r"sd\w is swap")])
def test_the_reason_is_told(seen: Seen, name: str, reason: str) -> None:
    run = said(seen, "guard")[name]
    assert run["status"] == 28
    assert re.search(rf"is kept: the running system stands on it: {reason}; next: .*--force\n", run["err"])


def test_force_insists_and_without_swap_nothing_has_to(seen: Seen) -> None:
    found = said(seen, "guard")
    assert succeeded(found["no swap"])
    assert succeeded(found["force"])
    assert found["after force"] == NOTHING


def test_safe_logout_keeps_any_mounted_disk(seen: Seen) -> None:
    """And without it a mount that is no part of the system keeps nothing."""
    found = said(seen, "safe_logout")
    assert found["kept"]["status"] == 28
    assert "iscsid.safe_logout is configured" in found["kept"]["err"]
    assert found["left"] == [f"{IQN}one LOGGED_IN"]
    assert succeeded(found["ended"])
    assert found["after"] == NOTHING
