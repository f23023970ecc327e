# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who is asked for the status, and what is made of what they say."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.ipc.client import OtherDaemon
from iscsiboot.keeper.values import Status
from iscsiboot.toolkit import status_view
from iscsiboot.toolkit.status_view import DOWN, UP, Guard, Kind, from_kernel, look, status_of
from tests.doubles.sysfs_tree import SysfsTree, link, write
from tests.unit.toolkit.status_support import NOW, machine, refusing, status, told

DENIED = IscsiBootError("root only", stage=Stage.DAEMON, subject="iscsid", exit_code=ExitCode.ACCESS)


@pytest.fixture
def tree(tmp_path: Path) -> SysfsTree:
    return SysfsTree(tmp_path / "sys")


def test_the_daemon_is_asked_first(tmp_path: Path) -> None:
    about = {"pid": 812, "version": "1.2", "since": NOW, "ready": False, "standby": 815, "hanging": ["scan of host3"]}
    about["kernel"] = False
    answer = {"daemon": about, "sessions": told(status(2), status(1))}
    view = look(machine(tmp_path, daemon=lambda: answer, keeper=lambda: pytest.fail("asked in vain")))
    assert view.guard == Guard(
        kind=Kind.DAEMON,
        pid=812,
        version="1.2",
        since=NOW,
        ready=False,
        kernel=False,
        standby=815,
        hanging=("scan of host3",),
    )
    assert view.sessions == (status(1), status(2))


@pytest.mark.parametrize(
    "answer", [{}, {"daemon": None, "sessions": None}, {"daemon": [], "sessions": [1, None, {}, []]}]
)
def test_a_daemon_that_says_little_is_a_daemon(tmp_path: Path, answer: dict[str, Any]) -> None:
    view = look(machine(tmp_path, daemon=lambda: answer))
    assert view == status_view.View(guard=Guard(kind=Kind.DAEMON))


def test_without_a_daemon_the_keeper_is_asked(tmp_path: Path) -> None:
    answer = {"iscsiboot-keeper": 1, "pid": 99, "acts": True, "behind": None, "status": told(status(3))}
    view = look(machine(tmp_path, keeper=lambda: answer))
    assert view.guard == Guard(kind=Kind.KEEPER, pid=99)
    assert view.sessions == (status(3),)


def test_a_daemon_that_hangs_is_told_with_its_standby(tmp_path: Path, tree: SysfsTree) -> None:
    tree.add_session(1)
    silent = IscsiBootError("it does not answer", stage=Stage.DAEMON, exit_code=ExitCode.REQ_TIMEDOUT)
    answer = {"pid": 815, "acts": False, "behind": 812, "status": []}
    view = look(machine(tmp_path, daemon=refusing(silent), keeper=lambda: answer))
    assert view.guard == Guard(kind=Kind.UNKNOWN, pid=812, standby=815, problem=silent)
    assert [one.sid for one in view.sessions] == [1]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DENIED, Kind.UNKNOWN),
        (OtherDaemon("other", stage=Stage.DAEMON, exit_code=ExitCode.ISCSID_COMM_ERR), Kind.FOREIGN),
    ],
)
def test_who_cannot_be_asked_leaves_the_kernel(
    tmp_path: Path, tree: SysfsTree, error: IscsiBootError, kind: Kind
) -> None:
    tree.add_session(1)
    view = look(machine(tmp_path, daemon=refusing(error)))
    assert view.guard == Guard(kind=kind, problem=error)
    assert [one.phase for one in view.sessions] == [UP]


def test_nobody_is_told_to_root_alone(tmp_path: Path, tree: SysfsTree) -> None:
    tree.add_session(1)
    assert look(machine(tmp_path)).guard == Guard(kind=Kind.NOBODY)
    guard = look(machine(tmp_path, keeper=None)).guard
    assert guard.kind is Kind.UNKNOWN
    assert guard.problem is not None
    assert guard.problem.exit_code == ExitCode.ACCESS
    assert look(machine(tmp_path, daemon=refusing(DENIED), keeper=None)).guard.problem is DENIED


# What guards say. -----------------------------------------------------------------------------------------------------


def test_a_status_survives_the_way() -> None:
    (said,) = told(status(7, unknown=("a secret",), noop_interval=None))
    assert status_of(said) == status(7, unknown=("a secret",), noop_interval=None)


def test_a_later_version_may_say_more_and_an_earlier_one_less() -> None:
    (said,) = told(status(7))
    assert status_of({**said, "colour": "blue"}) == status(7)
    bare = status_of({"sid": 4})
    assert bare is not None
    assert (bare.sid, bare.target, bare.host, bare.uses, bare.since) == (4, "", None, (), 0.0)


def test_every_member_can_be_read() -> None:
    """A member of another type would need a reader."""
    assert {str(member.type) for member in fields(Status)} <= set(status_view._READERS)


def test_text_of_a_target_cannot_move_a_cursor() -> None:
    found = status_of({"sid": 1, "target": "iqn.\x1b[2J", "uses": ["\r\n"], "last_error": "a\nb"})
    assert found is not None
    assert (found.target, found.uses, found.last_error) == ("iqn.\\x1b[2J", ("\\r\\n",), "a\\nb")


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([member.name for member in fields(Status)]), JUNK) | JUNK)
def test_junk_becomes_a_status_or_none(said: object) -> None:
    found = status_of(said)
    if found is not None:
        assert isinstance(found.sid, int)
        assert 0 <= found.since < 1e11
        assert all(item.isprintable() for item in (*found.uses, found.target, found.last_error))
    elif isinstance(said, dict):
        assert not isinstance(said.get("sid"), int) or isinstance(said["sid"], bool)


@given(JUNK, JUNK, JUNK)
def test_junk_of_a_daemon_is_shown_as_nothing(about: object, sessions: object, keeper: object) -> None:
    def ask() -> dict[str, Any]:
        return {"daemon": about, "sessions": sessions}

    view = look(machine(Path("/nonexistent"), daemon=ask))
    assert view.guard.kind is Kind.DAEMON
    kept = keeper if isinstance(keeper, dict) else {"acts": True, "status": keeper, "pid": about, "behind": sessions}
    assert look(machine(Path("/nonexistent"), keeper=lambda: kept)).guard.kind in (Kind.KEEPER, Kind.UNKNOWN)


# What the kernel says. ------------------------------------------------------------------------------------------------


def test_a_session_as_sysfs_shows_it(tmp_path: Path, tree: SysfsTree) -> None:
    tree.add_session(
        1,
        recovery_tmo="off",
        connection={"persistent_address": "storage.example", "address": "fd00::1", "ping_tmo": "10", "recv_tmo": "7"},
    )
    (found,) = from_kernel(machine(tmp_path))
    assert found == status(
        1,
        target="iqn.2026-01.org.example:kernel",
        portal="storage.example:3260",
        connected="[fd00::1]:3260",
        initiator="iqn.2026-01.org.example:guest",
        role="data",
        uses=(),
        since=0.0,
        source="sysfs",
        recoveries=0,
        noop_interval=7,
        noop_timeout=10,
    )


@pytest.mark.parametrize(
    ("session", "connection", "phase", "detail"),
    [
        ({}, {}, UP, ""),
        ({}, {"state": None}, UP, ""),
        ({"state": "FAILED"}, {"state": "failed"}, DOWN, "session FAILED, connection failed"),
        ({}, {"state": "down"}, DOWN, "session LOGGED_IN, connection down"),
        ({"state": "FREE"}, {"state": None}, DOWN, "session FREE"),
        ({"state": "FREE"}, None, DOWN, "session FREE, no connection"),
        ({"state": "(null)"}, None, DOWN, "session without a state, no connection"),
    ],
)
def test_whether_a_session_works(
    tmp_path: Path,
    tree: SysfsTree,
    session: dict[str, str],
    connection: dict[str, str | None] | None,
    phase: str,
    detail: str,
) -> None:
    tree.add_session(1, connection=connection, state=session.get("state", "LOGGED_IN"))
    (found,) = from_kernel(machine(tmp_path))
    assert (found.phase, found.detail) == (phase, detail)


def test_the_role_is_read_from_what_is_mounted(tmp_path: Path, tree: SysfsTree) -> None:
    tree.add_session(1)
    tree.add_unit(1, 1, block="sda", partitions=1)
    tree.add_session(2)
    tree.add_unit(2, 1, block="sdb")
    write(tmp_path / "sys/block/sda/sda1", {"dev": "8:1"})
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text("36 35 8:1 / / rw - ext4 /dev/sda1 rw\n")
    assert [(one.role, one.uses) for one in from_kernel(machine(tmp_path))] == [
        ("root", ("sda1 on sda is mounted on /",)),
        ("data", ()),
    ]


def test_multipath_is_seen(tmp_path: Path, tree: SysfsTree) -> None:
    for sid, name in ((1, "sda"), (2, "sdb")):
        tree.add_session(sid)
        tree.add_unit(sid, 1, block=name)
    device = tmp_path / "sys/devices/virtual/block/dm-0"
    write(device, {"dev": "253:0"})
    write(device / "dm", {"uuid": "mpath-36001405", "name": "mpatha"})
    for name in ("sda", "sdb"):
        link(device / "slaves" / name, tmp_path / "sys/block" / name)
    link(tmp_path / "sys/class/block/dm-0", device)
    assert [one.role for one in from_kernel(machine(tmp_path))] == ["data, multipath"] * 2


def test_a_machine_without_iscsi(tmp_path: Path) -> None:
    assert from_kernel(machine(tmp_path)) == ()
