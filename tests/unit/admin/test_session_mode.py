# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsiadm -m session``: what each command line comes down to, its words and its exit status.

The words and statuses were taken from Debian's 2.1.8 on trees like these; tests/interop/test_admin_session.py runs it.
"""

from __future__ import annotations

import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest

from iscsiboot.admin import logout, node_mode, rescan, stats
from iscsiboot.admin.context import Context, Paths
from iscsiboot.admin.main import main
from iscsiboot.database.names import NodeKey
from iscsiboot.database.record import Record
from iscsiboot.sysfs.listing import SessionRow
from tests.doubles.sysfs_tree import SysfsTree

ROOT = Path(__file__).resolve().parents[3]
TARGET = "iqn.2026-01.org.example:kernel"
FLAT = f"tcp: [1] 10.0.2.2:3260,1 {TARGET} (non-flash)\n"
NO_SESSION_9 = "iscsiadm: could not read session targetname: 5\niscsiadm: Could not get session info for sid 9\n"


class Machine:
    """A fake /sys and a database; runs command lines on them."""

    def __init__(self, root: Path) -> None:
        self.tree = SysfsTree(root / "sys")
        self.database = root / "etc"
        self.database.mkdir()
        self.paths = Paths(sysfs=str(self.tree), database=str(self.database), config=str(self.database))

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Status, stdout and stderr of ``iscsiadm -m session ARGUMENTS``."""
        out, err = StringIO(), StringIO()
        status = main(["-m", "session", *arguments], out, err, self.paths)
        return status, out.getvalue(), err.getvalue()

    def add_record(self, *, startup: str = "manual") -> Path:
        """The record of session 1, written as open-iscsi writes it; its file."""
        path = self.database / "nodes" / TARGET / "10.0.2.2,3260,1" / "default"
        path.parent.mkdir(parents=True)
        path.write_text(
            f"# BEGIN RECORD 2.1.8\nnode.name = {TARGET}\nnode.tpgt = 1\nnode.startup = {startup}\n"
            "iface.iscsi_ifacename = default\niface.transport_name = tcp\nnode.discovery_type = static\n"
            "node.conn[0].address = 10.0.2.2\nnode.conn[0].port = 3260\n# END RECORD\n"
        )
        return path


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    machine.tree.add_session(1)
    return machine


@pytest.fixture
def bare(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_client_3_no_session_is_one_line_on_stderr_and_21(bare: Machine) -> None:
    """Proxmox takes the last line of stderr, avocado and Longhorn the status."""
    assert bare.run() == (21, "", "iscsiadm: No active sessions.\n")


def test_client_2_a_list_writes_nothing_to_stderr(machine: Machine) -> None:
    machine.tree.add_session(2, connection=None)
    machine.tree.add_session(3, targetname=None)
    assert machine.run() == (0, FLAT, "")
    status, _, err = machine.run("-P", "3")
    assert (status, err) == (0, "")


@pytest.mark.parametrize("arguments", [["-P", "4"], ["-o", "show"], ["-o", "delete"], ["-S"], ["-P", "3"]])
def test_without_sessions_every_list_says_so(bare: Machine, arguments: list[str]) -> None:
    assert bare.run(*arguments) == (21, "", "iscsiadm: No active sessions.\n")


@pytest.mark.parametrize(
    "arguments",
    [
        *([], ["-P", "0"], ["-P", "-1"], ["-P", "x"], ["--print=0"], ["-S"], ["-n", "a", "-v", "b"]),
        *(["-o", "show"], ["-o", "update"], ["-o", "delete"], ["-o", "nonpersistent"], ["-o", "login"]),
        ["-o", "new", "-o", "show"],
    ],
    ids=" ".join,
)
def test_the_flat_list(machine: Machine, arguments: list[str]) -> None:
    assert machine.run(*arguments) == (0, FLAT, "")


@pytest.mark.parametrize("level", ["4", "-5", "99"])
@pytest.mark.parametrize("which", [[], ["-r", "1"]], ids=["all", "one"])
def test_print_levels_that_are_none(machine: Machine, which: list[str], level: str) -> None:
    status, out, err = machine.run(*which, "-P", level)
    if which and level == "-5":
        # Below 1 it is no tree that is asked for, but the session's record.
        assert (status, err) == (21, "iscsiadm: No records found\n")
    else:
        assert (status, err) == (7, f"iscsiadm: Invalid info level {level}. Try 0 - 3.\n")
    assert out == ""


def test_the_version_line_needs_the_modules_version(machine: Machine) -> None:
    assert machine.run("-P", "3")[1].startswith("iSCSI Transport Class version 2.0-870\nversion 2.1.8\nTarget: ")
    assert machine.run("-P", "2")[1].startswith("Target: ")
    (machine.tree.root / "module/scsi_transport_iscsi/version").unlink()
    assert machine.run("-P", "3")[1].startswith("Target: ")


def test_the_tree_of_one_session(machine: Machine) -> None:
    machine.tree.add_session(10, targetname="iqn.2026-01.org.example:other")
    whole = machine.run("-P", "3")[1]
    one = machine.run("-r", "10", "-P", "3")[1]
    assert one.count("SID: ") == 1
    assert one.startswith("iSCSI Transport Class version 2.0-870\nversion 2.1.8\nTarget: iqn.2026-01.org.example:other")
    assert whole.endswith(one.split("\n", 2)[2])


def test_a_tree_whose_sessions_all_went_away(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iscsiboot.admin.session_tree.read_details", lambda *_arguments, **_named: None)
    assert machine.run("-P", "2") == (21, "", "iscsiadm: No active sessions.\n")


@pytest.mark.parametrize(
    "arguments", [[], ["-P", "1"], ["-u"], ["-R"], ["-s"], ["-o", "new"], ["-o", "show"], ["-P", "9"]], ids=" ".join
)
def test_a_session_that_is_not_there_is_22(machine: Machine, arguments: list[str]) -> None:
    assert machine.run("-r", "9", *arguments) == (22, "", NO_SESSION_9)


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (["-P", "1"], 7, "Failed to query iSCSI session 1, error 2: Specified iSCSI session not found"),
        ([], 21, "No records found"),
        (["-o", "delete"], 21, "No records found"),
        (["-o", "update", "-n", "node.startup", "-v", "manual"], 21, "No records found"),
        (["-o", "new"], 21, "No records found"),
    ],
    ids=["tree", "show", "delete", "update", "new"],
)
def test_a_session_without_connection_has_no_record(
    machine: Machine, arguments: list[str], status: int, line: str
) -> None:
    """Its portal is unknown, and an unknown portal in a pattern would mean every record of the target."""
    path = machine.add_record()
    (machine.tree.root / "class/iscsi_connection/connection1:0").unlink()
    assert machine.run("-r", "1", *arguments) == (status, "", f"iscsiadm: {line}\n")
    assert path.exists()


def test_a_session_without_connection_can_be_ended(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine.tree.root / "class/iscsi_connection/connection1:0").unlink()
    ended: list[SessionRow] = []

    def act(rows: list[SessionRow], _context: Context, _options: object) -> int:
        ended.extend(rows)
        return 0

    monkeypatch.setattr(logout, "logout_sessions", act)
    assert machine.run("-r", "1", "-u") == (0, "", "")
    assert [(row.sid, row.target, row.persistent_address, row.port) for row in ended] == [(1, TARGET, "", -1)]


@pytest.mark.parametrize("arguments", [[], ["-P", "1"], ["-u"]], ids=" ".join)
def test_a_session_without_target_is_22(machine: Machine, arguments: list[str]) -> None:
    machine.tree.add_session(9, targetname="(null)", connection=None)
    assert machine.run("-r", "9", *arguments) == (22, "", NO_SESSION_9)


def test_client_8_sessions_by_their_path_in_sysfs(machine: Machine) -> None:
    """Debian's logout-all.sh passes ``/sys/devices/platform/hostN/sessionM``; any path below a session is one."""
    machine.tree.add_unit(1, 1, block="sda")
    expected = machine.run("-r", "1", "-P", "1")
    assert expected[0] == 0
    places = ["devices/platform/host2/session1", "class/iscsi_session/session1", "class/iscsi_connection/connection1:0"]
    for place in [*places, "block/sda", "bus/scsi/devices/2:0:0:1"]:
        assert machine.run("-r", f"{machine.tree}/{place}", "-P", "1") == expected
        assert machine.run(f"--sid={machine.tree}/{place}", "--print", "1") == expected


@pytest.mark.parametrize("sid", ["0", "-1", "abc", "1x", "", "/nowhere"])
def test_what_is_neither_number_nor_path_is_1(machine: Machine, sid: str) -> None:
    assert machine.run("-r", sid) == (1, "", f"iscsiadm: {sid} is an invalid session ID or path\n")


def test_a_path_without_session_is_7(machine: Machine) -> None:
    path = f"{machine.tree}/class/scsi_host/host2"
    lines = f"iscsiadm: Unable to find sid in path {path}\niscsiadm: invalid sid '{path}'\n"
    assert machine.run("-r", path) == (7, "", lines)


def test_new_needs_a_session(machine: Machine) -> None:
    line = "iscsiadm: session mode: Operation 'new' only allowed with specific session IDs\n"
    assert machine.run("-o", "new") == (7, "", line)


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (["-u", "-o", "show"], 7, "Invalid parameters. Login/logout and op passed in"),
        (["-r", "1", "-u", "-o", "show"], 7, "Invalid parameters. Login/logout and op passed in"),
        (["-r", "1", "-o", "new", "-u"], 7, "Invalid parameters. Both login and logout passed in"),
        (["-r", "1", "-o", "new", "-o", "show"], 7, "operation is not supported."),
        (["-r", "1", "-o", "nonpersistent"], 7, "operation is not supported."),
        (["-r", "1", "-o", "update"], 7, "update requires name and value"),
        (["-r", "1"], 21, "No records found"),
        (["-r", "1", "-P", "0"], 21, "No records found"),
        (["-r", "1", "-o", "show"], 21, "No records found"),
        (["-r", "1", "-P", "1", "-o", "show"], 21, "No records found"),
        (["-r", "1", "-o", "delete"], 21, "No records found"),
        (["-r", "1", "-o", "update", "-n", "node.startup", "-v", "manual"], 21, "No records found"),
        (["-r", "1", "-o", "new"], 21, "No records found"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_refusals(machine: Machine, arguments: list[str], status: int, line: str) -> None:
    assert machine.run(*arguments) == (status, "", f"iscsiadm: {line}\n")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [(["-u"], "No matching sessions found"), (["-R"], "No session found."), (["-s"], "No session found.")],
)
def test_actions_on_no_session(bare: Machine, arguments: list[str], line: str) -> None:
    assert bare.run(*arguments) == (21, "", f"iscsiadm: {line}\n")


def test_the_record_of_a_session(machine: Machine) -> None:
    path = machine.add_record(startup="automatic")
    for arguments in (["-r", "1"], ["-r", "1", "-o", "show"], ["-r", "1", "-P", "0"]):
        status, out, err = machine.run(*arguments)
        assert (status, err) == (0, "")
        assert out.startswith(f"# BEGIN RECORD 2.1.8\nnode.name = {TARGET}\nnode.tpgt = 1\nnode.startup = automatic\n")
    assert machine.run("-r", "1", "-o", "update", "-n", "node.startup", "-v", "onboot") == (0, "", "")
    assert "node.startup = onboot\n" in path.read_text()


def test_a_record_in_use_stays(machine: Machine) -> None:
    path = machine.add_record()
    status, out, err = machine.run("-r", "1", "-o", "delete")
    assert (status, out) == (15, "")
    assert err.startswith(f"iscsiadm: This command will remove the record [iface: default, target: {TARGET}, portal: ")
    assert path.exists()


@pytest.mark.parametrize(
    ("changes", "found"),
    [({}, True), ({"ifacename": "iface0"}, False), ({"targetname": "iqn.2026-01.org.example:other"}, False)],
    ids=["same", "other-iface", "other-target"],
)
def test_the_record_is_the_sessions_own(machine: Machine, changes: dict[str, str], found: bool) -> None:
    machine.add_record()
    machine.tree.add_session(1, host=2, connection={}, **changes)
    assert machine.run("-r", "1")[0] == (0 if found else 21)


def test_the_record_is_found_by_the_persistent_portal(machine: Machine) -> None:
    machine.add_record()
    machine.tree.add_session(1, connection={"address": "10.9.9.9", "port": "3333"})
    assert machine.run("-r", "1")[0] == 0
    machine.tree.add_session(1, connection={"persistent_port": "3333"})
    assert machine.run("-r", "1")[0] == 21


@pytest.mark.parametrize(
    ("arguments", "module", "function"),
    [
        (["-u"], logout, "logout_sessions"),
        (["-R"], rescan, "rescan_sessions"),
        (["-s"], stats, "print_stats"),
        (["-u", "-R"], rescan, "rescan_sessions"),
        (["-R", "-o", "show"], rescan, "rescan_sessions"),
        (["-P", "1", "-u"], logout, "logout_sessions"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
@pytest.mark.parametrize("sid", [None, "2"], ids=["all", "one"])
def test_actions_get_the_sessions_meant(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    module: object,
    function: str,
    sid: str | None,
) -> None:
    given: list[list[int]] = []

    def act(rows: list[SessionRow], _context: Context, *_options: object) -> int:
        given.append([row.sid for row in rows])
        return 9

    monkeypatch.setattr(module, function, act)
    # Both to one target and portal: a pattern alone would mean both.
    machine.tree.add_session(2)
    which = [] if sid is None else ["-r", sid]
    assert machine.run(*which, *arguments) == (9, "", "")
    assert given == [[1, 2] if sid is None else [2]]


def test_a_session_more_from_the_record(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.add_record()
    orders: list[tuple[NodeKey, bool]] = []

    def log_in(
        pairs: list[tuple[NodeKey, Record]], _context: Context, _options: object, *, wait: bool, multiple: bool
    ) -> int:
        assert wait
        orders.extend((key, multiple) for key, _ in pairs)
        return 0

    monkeypatch.setattr("iscsiboot.admin.login.login_nodes", log_in)
    assert machine.run("-r", "1", "-o", "new") == (0, "", "")
    assert [(key.target, key.address, key.iface, multiple) for key, multiple in orders] == [
        (TARGET, "10.0.2.2", "default", True)
    ]


def test_a_list_opens_no_database(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_mode, "open_database", lambda _context: pytest.fail("a list read the database"))
    assert machine.run()[0] == 0
    assert machine.run("-r", "1", "-P", "3")[0] == 0


@pytest.mark.parametrize(("arguments", "budget"), [([], 15), (["-P", "1"], 19)], ids=["flat", "tree"])
def test_a_list_imports_what_it_needs(machine: Machine, arguments: list[str], budget: int) -> None:
    """Modules of ours: each costs a part of the 25 milliseconds a start may take."""
    code = (
        "import sys, io; sys.path.insert(0, sys.argv[1]); from iscsiboot.admin.main import main; "
        "from iscsiboot.admin.context import Paths; "
        "main(['-m', 'session', *sys.argv[3:]], io.StringIO(), io.StringIO(), Paths(sysfs=sys.argv[2])); "
        "print(*sys.modules)"
    )
    command = [sys.executable, "-I", "-S", "-c", code, str(ROOT), str(machine.tree), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    heavy = {"dataclasses", "typing", "pathlib", "contextlib", "inspect", "json", "socket", "logging", "ipaddress"}
    assert not (heavy | {"argparse", "subprocess"}) & loaded
    assert not {name for name in loaded if name.startswith("iscsiboot.database")}
    assert len({name for name in loaded if name.startswith("iscsiboot")}) <= budget
