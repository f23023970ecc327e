# SPDX-License-Identifier: LGPL-2.1-or-later
"""Session rows from a tree like the kernel's: order, what is missing, what goes away meanwhile, what it costs.

Where a case says "as open-iscsi", Debian's 2.1.8 was run on the same tree (tests/interop/test_admin_session.py).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.sysfs import listing
from iscsiboot.sysfs.listing import SessionRow, c_number, list_rows, read_attribute, read_row
from tests.doubles.sysfs_tree import UNREADABLE, SysfsTree, Value, Values, write
from tests.unit.sysfs.vanishing import Vanishing

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def tree(tmp_path: Path) -> SysfsTree:
    return SysfsTree(tmp_path)


def rows(tree: SysfsTree) -> list[SessionRow]:
    return list_rows(str(tree))


def one(tree: SysfsTree, *, session: Values | None = None, connection: Values | None = None) -> SessionRow:
    tree.add_session(1, host=2, connection=connection or {}, **(session or {}))
    (row,) = rows(tree)
    return row


def test_a_whole_session(tree: SysfsTree) -> None:
    assert one(tree) == SessionRow(
        sid=1,
        host=2,
        transport="tcp",
        target="iqn.2026-01.org.example:kernel",
        tpgt=1,
        persistent_address="10.0.2.2",
        persistent_port=3260,
        address="10.0.2.2",
        port=3260,
        iface_name="default",
        initiator_name="iqn.2026-01.org.example:guest",
        state="LOGGED_IN",
        connection_state="up",
        flash=False,
    )


def test_order_is_that_of_the_names_and_not_of_the_numbers(tree: SysfsTree) -> None:
    for sid in (1000, 2, 10, 9, 1, 101, 20, 11):
        tree.add_session(sid)
    assert [row.sid for row in rows(tree)] == [1, 10, 1000, 101, 11, 2, 20, 9]


def test_what_is_no_session_is_passed_over(tree: SysfsTree) -> None:
    tree.add_session(3)
    for name in ("sessionX", "session", "power", "session-1", "session03", "session 3", "session3a", "session٣"):
        (tree.root / "class" / "iscsi_session" / name).mkdir()
    assert [row.sid for row in rows(tree)] == [3]


def test_a_machine_without_the_module_has_no_sessions(tmp_path: Path) -> None:
    assert list_rows(str(tmp_path)) == []
    assert read_row(str(tmp_path), 1) is None


def test_a_class_without_its_sister_has_no_sessions(tree: SysfsTree) -> None:
    tree.add_session(1, connection=None)
    (tree.root / "class" / "iscsi_connection").rmdir()
    assert rows(tree) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"tpgt": None}, {"tpgt": -1}),
        ({"tpgt": ""}, {"tpgt": 0}),
        ({"tpgt": "(null)"}, {"tpgt": 0}),
        ({"tpgt": "-1"}, {"tpgt": -1}),
        ({"tpgt": " 7 "}, {"tpgt": 7}),
        ({"targetname": "(null)"}, {"target": ""}),
        ({"targetname": "<NULL>"}, {"target": ""}),
        ({"ifacename": None}, {"iface_name": "default"}),
        ({"ifacename": "(null)"}, {"iface_name": "default"}),
        ({"ifacename": ""}, {"iface_name": "default"}),
        ({"ifacename": "10.99.0.1:3260:pv0"}, {"iface_name": "10.99.0.1:3260:pv0"}),
        ({"initiatorname": UNREADABLE}, {"initiator_name": ""}),
        ({"state": None}, {"state": ""}),
        ({"creator": "-1"}, {"flash": True}),
        ({"creator": None}, {"flash": False}),
        ({"creator": "-10"}, {"flash": False}),
    ],
)
def test_attributes_of_a_session(tree: SysfsTree, changes: dict[str, Value], expected: dict[str, object]) -> None:
    row = one(tree, session=changes)
    assert {name: getattr(row, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("connection", "address", "persistent"),
    [
        ({"address": "10.0.0.9", "port": "3261"}, ("10.0.0.9", 3261), ("10.0.2.2", 3260)),
        ({"address": None, "port": None}, ("10.0.2.2", 3260), ("10.0.2.2", 3260)),
        ({"address": UNREADABLE, "port": UNREADABLE}, ("10.0.2.2", 3260), ("10.0.2.2", 3260)),
        ({"persistent_address": "(null)", "persistent_port": None}, ("10.0.2.2", 3260), ("10.0.2.2", 3260)),
        ({"persistent_address": "fe80::1%eth0"}, ("10.0.2.2", 3260), ("fe80::1%eth0", 3260)),
        ({"persistent_port": "-1"}, ("10.0.2.2", 3260), ("10.0.2.2", 3260)),
        ({"port": "0"}, ("10.0.2.2", 0), ("10.0.2.2", 3260)),
        (dict.fromkeys(("address", "port", "persistent_address", "persistent_port")), ("", -1), ("", -1)),
    ],
    ids=["redirected", "absent", "not-connected", "unset", "scoped", "minus-one", "zero", "nothing"],
)
def test_each_portal_stands_in_for_the_other(
    tree: SysfsTree, connection: dict[str, Value], address: tuple[str, int], persistent: tuple[str, int]
) -> None:
    row = one(tree, connection=connection)
    assert (row.address, row.port) == address
    assert (row.persistent_address, row.persistent_port) == persistent


@pytest.mark.parametrize(
    ("driver", "transport"),
    [("iscsi_tcp", "tcp"), ("iscsi_iser", "iser"), ("bnx2i", "bnx2i"), ("(null)", ""), (None, ""), (UNREADABLE, "")],
)
def test_transport_is_the_drivers_name(tree: SysfsTree, driver: Value, transport: str) -> None:
    tree.add_host(2, scsi={"proc_name": driver})
    assert one(tree).transport == transport


def test_text_of_any_bytes_is_kept(tree: SysfsTree) -> None:
    row = one(tree, session={"targetname": b"iqn.2026-01.org:\xff\x1b[31m", "ifacename": "schön"})
    assert os.fsencode(row.target) == b"iqn.2026-01.org:\xff\x1b[31m"
    assert row.iface_name == "schön"


@pytest.mark.parametrize(
    "missing",
    ["connection", "targetname", "device", "scsi_host"],
)
def test_a_session_that_is_not_whole_is_left_out(tree: SysfsTree, missing: str) -> None:
    tree.add_session(2)
    tree.add_session(1, connection=None if missing == "connection" else {})
    if missing == "targetname":
        (tree.view_path(1) / "targetname").unlink()
    elif missing == "device":
        link = tree.root / "class" / "iscsi_session" / "session1"
        link.unlink()
        link.symlink_to("../../devices/platform/host9/session1/iscsi_session/session1")
    elif missing == "scsi_host":
        (tree.root / "class" / "scsi_host" / "host2").unlink()
    assert [row.sid for row in rows(tree)] == [2]
    assert read_row(str(tree), 1) is None


def test_a_session_without_connection_can_be_asked_for(tree: SysfsTree) -> None:
    tree.add_session(1, connection=None, state="FREE")
    row = read_row(str(tree), 1, whole=False)
    assert row is not None
    assert (row.target, row.state, row.connection_state) == ("iqn.2026-01.org.example:kernel", "FREE", "")
    assert (row.address, row.port, row.persistent_address, row.persistent_port) == ("", -1, "", -1)
    tree.add_connection(1)
    assert read_row(str(tree), 1, whole=False) == read_row(str(tree), 1)
    tree.remove_session(1)
    assert read_row(str(tree), 1, whole=False) is None


def test_a_second_connection_alone_is_no_session(tree: SysfsTree) -> None:
    tree.add_session(1, connection=None)
    tree.add_connection(1, 1)
    assert rows(tree) == []


@pytest.mark.parametrize("pace", [1, 2, 5, 13, 100])
def test_a_session_is_listed_whole_or_not_at_all_whenever_it_goes(
    tree: SysfsTree, monkeypatch: pytest.MonkeyPatch, pace: int
) -> None:
    """The second of three sessions is taken away, beginning before each read in turn."""
    for sid in (1, 2, 3):
        tree.add_session(sid)
    whole = {row.sid: row for row in rows(tree)}
    shown = 0
    for at in range(1, 37):
        tree.add_session(2)
        kernel = Vanishing(tree.removal(2), at=at, pace=pace)
        monkeypatch.setattr(listing, "read_attribute", kernel)
        found = rows(tree)
        monkeypatch.undo()
        assert [row.sid for row in found if row.sid != 2] == [1, 3], at
        assert all(row == whole[row.sid] for row in found), at
        shown += len(found) == 3
        kernel.finish()
        assert [row.sid for row in rows(tree)] == [1, 3]
    assert 12 <= shown < 36, "both outcomes have to happen"


def test_no_descriptor_stays_open(tree: SysfsTree) -> None:
    tree.add_session(1)
    tree.add_session(2, connection=None)
    tree.add_session(3, state=UNREADABLE, targetname=None)
    opened = Path("/proc/self/fd")
    before = {path.name for path in opened.iterdir()}
    rows(tree)
    read_row(str(tree), 7)
    (tree.root / "class" / "iscsi_connection").rename(tree.root / "gone")
    rows(tree)
    assert {path.name for path in opened.iterdir()} == before


def test_one_host_of_many_sessions_is_read_once(tree: SysfsTree, monkeypatch: pytest.MonkeyPatch) -> None:
    for sid in range(1, 6):
        tree.add_session(sid, host=2)
    asked: list[str] = []
    ordinary = read_attribute

    def counted(name: str, folder: int | None = None) -> str | None:
        asked.append(name)
        return ordinary(name, folder)

    monkeypatch.setattr(listing, "read_attribute", counted)
    assert {row.transport for row in rows(tree)} == {"tcp"}
    assert asked.count("proc_name") == 1
    assert len(asked) == 1 + 5 * 11, "attributes read for a row; each costs every listing"


def test_read_row_is_the_row_of_the_list(tree: SysfsTree) -> None:
    tree.add_session(1)
    tree.add_session(12, targetname="iqn.2026-01.org.example:other")
    assert [read_row(str(tree), row.sid) for row in rows(tree)] == rows(tree)
    assert read_row(str(tree), 2) is None
    assert read_row(str(tree), -1) is None


def test_rows_say_what_they_are(tree: SysfsTree) -> None:
    row = one(tree)
    assert "sid=1" in repr(row)
    assert row != "row"
    assert len({row, read_row(str(tree), 1)}) == 1
    tree.add_session(1, tpgt="2")
    assert row != read_row(str(tree), 1)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3260", 3260),
        ("-1", -1),
        ("", 0),
        ("abc", 0),
        ("0x10", 0),
        ("12abc", 12),
        (" +5", 5),
        ("1_000", 1),
        ("\N{ARABIC-INDIC DIGIT THREE}", 0),
        ("²", 0),
    ],
)
def test_numbers_are_read_as_c_reads_them(text: str, number: int) -> None:
    assert c_number(text) == number


@given(st.text(max_size=12))
def test_any_text_is_some_number(text: str) -> None:
    assert isinstance(c_number(text), int)


@given(st.integers(-(2**70), 2**70))
def test_every_number_is_itself(number: int) -> None:
    assert c_number(str(number)) == number


def test_an_attribute_is_one_read_without_its_line_end(tmp_path: Path) -> None:
    write(tmp_path, {"a": "x y", "empty": "", "no-utf8": b"\xc3", "unreadable": UNREADABLE})
    assert read_attribute(f"{tmp_path}/a") == "x y"
    assert read_attribute(f"{tmp_path}/empty") == ""
    assert read_attribute(f"{tmp_path}/no-utf8") == "\udcc3"
    assert read_attribute(f"{tmp_path}/unreadable") is None
    assert read_attribute(f"{tmp_path}/missing") is None


def test_listing_imports_nothing_that_costs() -> None:
    """Twenty-five milliseconds are all there is for the start of ``iscsiadm -m session``."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); before = set(sys.modules); import iscsiboot.sysfs.listing; "
        "import iscsiboot.sysfs.session_details; print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code, str(ROOT)], capture_output=True, text=True, check=True)
    ours = {name for name in done.stdout.split() if name.startswith("iscsiboot")}
    assert ours == {
        "iscsiboot",
        "iscsiboot.sysfs",
        "iscsiboot.sysfs.listing",
        "iscsiboot.sysfs.session_details",
    }
    heavy = {"dataclasses", "typing", "pathlib", "contextlib", "inspect", "json", "socket", "logging", "ipaddress"}
    assert not heavy & set(done.stdout.split())
