# SPDX-License-Identifier: LGPL-2.1-or-later
"""``-u`` and ``-U``: the order and words of 2.1.8, the exit code it takes, and which sessions are kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from iscsiboot.admin.json_out import finish
from iscsiboot.admin.logout import in_order, label, logout_sessions
from iscsiboot.errors import ExitCode
from iscsiboot.sysfs.listing import SessionRow, list_rows
from tests.doubles.sysfs_tree import SysfsTree
from tests.unit.admin.json_documents import check
from tests.unit.admin.scripted_runner import ScriptedRunner, Streams, wishes

WHY = "login: 10.0.0.1:3260: the target does not want us; next: ask it why"


def row(sid: int, target: str, address: str = "10.0.0.1", port: int = 3260, *, flash: bool = False) -> SessionRow:
    return SessionRow(
        sid=sid,
        host=sid + 1,
        transport="tcp",
        target=target,
        tpgt=1,
        persistent_address=address,
        persistent_port=port,
        address=address,
        port=port,
        flash=flash,
    )


@pytest.fixture
def streams(tmp_path: Path) -> Streams:
    return Streams(tmp_path)


def test_the_order_seen_from_the_program() -> None:
    """Nine sessions, logged out by 2.1.8 in this order: 1 8 4 3 5 6 2 7 9."""
    rows = [
        row(1, "t1"),
        row(2, "t2"),
        row(3, "t1", "10.0.0.2"),
        row(4, "t1"),
        row(5, "t1", "10.0.0.2"),
        row(6, "t1", port=3261),
        row(7, "t2", "10.0.0.2"),
        row(8, "t1"),
        row(9, "t3"),
    ]
    assert [item.sid for item in in_order(rows)] == [1, 8, 4, 3, 5, 6, 2, 7, 9]


def test_the_order_goes_by_where_a_session_is_now() -> None:
    """Three sessions asked for at one portal, two of them redirected: 2.1.8 leaves them 1 2 3."""
    rows = [row(sid, "t1") for sid in (1, 2, 3)]
    rows[1].address = rows[2].address = "10.0.0.9"
    assert [item.sid for item in in_order(rows)] == [1, 2, 3]


def test_the_label_has_the_stored_address_and_the_port_of_now() -> None:
    made = row(4, "t1")
    made.address, made.port = "10.0.0.9", 3299
    assert label(made) == "[sid: 4, target: t1, portal: 10.0.0.1,3299]"


def test_words_and_the_last_error(streams: Streams) -> None:
    """2.1.8 with a scripted daemon that answers 0, 10, 9 ends with 9."""
    runner = ScriptedRunner(ExitCode.SUCCESS, ExitCode.LOGOUT, ExitCode.INTERNAL, finish=[2, 1, 0])
    rows = [row(1, "t1"), row(2, "t2"), row(3, "t3")]
    assert logout_sessions(rows, streams.context, None, runner=runner) == 9
    assert streams.lines == [
        *(f"Logging out of session {label(item)}" for item in rows),
        f"Logout of {label(rows[0])} successful.",
        f"E iscsiadm: Could not logout of {label(rows[1])}.",
        "E iscsiadm: initiator reported error (10 - encountered iSCSI logout failure)",
        f"E iscsiadm: {WHY}",
        f"E iscsiadm: Could not logout of {label(rows[2])}.",
        "E iscsiadm: initiator reported error (9 - internal error)",
        f"E iscsiadm: {WHY}",
        "E iscsiadm: Could not logout of all requested sessions",
    ]


def test_an_error_before_a_success_counts(streams: Streams) -> None:
    runner = ScriptedRunner(ExitCode.LOGOUT, ExitCode.SUCCESS)
    assert logout_sessions([row(1, "t1"), row(2, "t2")], streams.context, None, runner=runner) == 10


def test_what_was_done_before_an_interruption_is_told(streams: Streams) -> None:
    runner = ScriptedRunner(finish=(2, 1, 0))

    def interrupt(index: int) -> None:
        if index == 0:
            raise KeyboardInterrupt

    runner.before_each = interrupt
    rows = [row(1, "a"), row(2, "b"), row(3, "c")]
    with pytest.raises(KeyboardInterrupt):
        logout_sessions(rows, streams.context, None, runner=runner)
    assert streams.lines[3:] == [f"Logout of {label(item)} successful." for item in rows[1:]]


def test_an_interruption_has_its_document(tmp_path: Path) -> None:
    streams = Streams(tmp_path, json=True)
    runner = ScriptedRunner(finish=(1, 0))

    def interrupt(index: int) -> None:
        if index == 0:
            raise KeyboardInterrupt

    runner.before_each = interrupt
    with pytest.raises(KeyboardInterrupt):
        logout_sessions([row(1, "a"), row(2, "b")], streams.context, None, runner=runner)
    finish(streams.context, 1)
    document = check(streams.out.getvalue())
    assert [(item["result"], item["exit_code"]) for item in document["objects"]] == [("failed", 1), ("done", 0)]


def test_success_is_silent_on_stderr(streams: Streams) -> None:
    assert logout_sessions([row(1, "t1")], streams.context, wishes(timeout=5), runner=ScriptedRunner()) == 0
    assert streams.err.getvalue() == ""


def test_firmware_sessions_have_words_of_their_own(streams: Streams) -> None:
    runner = ScriptedRunner(ExitCode.OP_NOT_SUPP, ExitCode.SUCCESS)
    rows = [row(1, "t1", flash=True), row(2, "t2", flash=True)]
    assert logout_sessions(rows, streams.context, None, runner=runner) == 10
    assert streams.lines == [
        "Logout sid 1.",
        "Logout sid 2.",
        "E iscsiadm: Logout of sid 1 failed.",
        f"E iscsiadm: {WHY}",
        "Logout of sid 2 successful.",
        "E iscsiadm: Could not logout of all requested sessions",
    ]


# What the system stands on.


class Machine:
    """Sessions with disks; the first disk is what a test mounts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tree = SysfsTree(root / "sys")
        (root / "proc" / "self").mkdir(parents=True)
        for sid, block, number in ((1, "sda", "8:0"), (2, "sdb", "8:16")):
            self.tree.add_session(sid, targetname=f"iqn.2026-01.org.example:t{sid}")
            self.tree.add_unit(sid, 1, block=block)
            (root / "sys" / "class" / "block" / block / "dev").write_text(f"{number}\n")

    def mount(self, number: str, point: str) -> None:
        (self.root / "proc" / "self" / "mountinfo").write_text(f"36 35 {number} / {point} rw - ext4 /dev/x rw\n")

    def swap(self, device: str) -> None:
        (self.root / "proc" / "swaps").write_text(f"Filename Type Size Used Priority\n{device} partition 8 0 -2\n")

    def conf(self, text: str) -> None:
        (self.root / "etc" / "iscsid.conf").write_text(text)

    def logout(self, streams: Streams, *, force: bool = False) -> tuple[int, list[int]]:
        runner = ScriptedRunner()
        code = logout_sessions(
            list_rows(streams.context.paths.sysfs), streams.context, wishes(force=force), runner=runner
        )
        assert runner.insisted is force
        return code, [item.sid for item in runner.rows]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("point", ["/", "/usr", "/var", "/boot", "/usr/local", "/sysroot", "/sysroot/usr"])
def test_a_session_under_the_system_is_kept_and_told(streams: Streams, machine: Machine, point: str) -> None:
    machine.mount("8:0", point)
    assert machine.logout(streams) == (28, [2])
    place = "[sid: 1, target: iqn.2026-01.org.example:t1, portal: 10.0.2.2,3260]"
    assert [line for line in streams.lines if line.startswith("E")] == [
        f"E iscsiadm: Could not logout of {place}.",
        "E iscsiadm: initiator reported error (28 - device or resource in use)",
        "E iscsiadm: session: session 1 to iqn.2026-01.org.example:t1 is kept: the running system stands on it: "
        f"sda is mounted on {point}; next: move it elsewhere first, or insist with --force",
        "E iscsiadm: Could not logout of all requested sessions",
    ]


def test_swap_keeps_a_session(streams: Streams, machine: Machine) -> None:
    machine.swap("/dev/sdb")
    assert machine.logout(streams) == (28, [1])


def test_force_insists(streams: Streams, machine: Machine) -> None:
    machine.mount("8:0", "/")
    assert machine.logout(streams, force=True) == (0, [1, 2])


@pytest.mark.parametrize("point", ["/home", "/mnt", "/var/lib/kubelet", "/usr/share/data", "/sysroot/home"])
def test_other_mounts_do_not_hinder(streams: Streams, machine: Machine, point: str) -> None:
    machine.mount("8:0", point)
    assert machine.logout(streams) == (0, [1, 2])


@pytest.mark.parametrize(
    ("conf", "kept"),
    [
        ("iscsid.safe_logout = Yes\n", True),
        ("iscsid.safe_logout = No\n", False),
        ("iscsid.safe_logout = yes\n", False),
        ("# iscsid.safe_logout = Yes\n", False),
    ],
    ids=repr,
)
def test_safe_logout_keeps_what_is_mounted(streams: Streams, machine: Machine, conf: str, kept: bool) -> None:
    machine.mount("8:0", "/mnt")
    machine.conf(conf)
    code, ended = machine.logout(streams)
    assert (code, ended) == ((28, [2]) if kept else (0, [1, 2]))
    words = (
        "Session is actively in use for mounted storage, and iscsid.safe_logout is configured: sda is mounted on /mnt"
    )
    assert any(words in line for line in streams.lines) is kept


def test_nothing_is_asked_of_the_runner_when_all_are_kept(streams: Streams, machine: Machine) -> None:
    machine.mount("8:0", "/")
    machine.swap("/dev/sdb")
    assert machine.logout(streams) == (28, [])


def test_json_tells_kept_from_failed(tmp_path: Path, machine: Machine) -> None:
    machine.mount("8:0", "/")
    streams = Streams(tmp_path, json=True)
    runner = ScriptedRunner(ExitCode.LOGOUT)
    code = logout_sessions(list_rows(streams.context.paths.sysfs), streams.context, None, runner=runner)
    finish(streams.context, code)
    made = json.loads(streams.out.getvalue())
    assert [(item["sid"], item["result"], item["exit_code"]) for item in made["objects"]] == [
        (1, "kept", 28),
        (2, "failed", 10),
    ]
    assert made["messages"] == []
    assert "stands on it" in made["objects"][0]["failure"]["cause"]
