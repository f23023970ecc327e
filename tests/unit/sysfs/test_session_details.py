# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the print levels add to a session: each level's attributes, units in order, secrets only when asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from iscsiboot.sysfs import listing, session_details
from iscsiboot.sysfs.listing import SessionRow, list_rows, read_attribute
from iscsiboot.sysfs.session_details import SessionDetails, read_details
from tests.doubles.sysfs_tree import UNREADABLE, SysfsTree, Value
from tests.unit.sysfs.vanishing import Vanishing

SECRETS = {"password": "outgoing secret", "password_in": "incoming secret"}


@pytest.fixture
def tree(tmp_path: Path) -> SysfsTree:
    return SysfsTree(tmp_path)


def row_of(tree: SysfsTree) -> SessionRow:
    (row,) = list_rows(str(tree))
    return row


def details_of(tree: SysfsTree, level: int = 3, *, reveal: bool = False) -> SessionDetails:
    found = read_details(str(tree), row_of(tree), level, reveal=reveal)
    assert found is not None
    return found


def test_a_level_reads_what_it_shows_and_no_more(tree: SysfsTree) -> None:
    tree.add_session(1)
    tree.add_unit(1, 1, block="sda")
    first, second, third = (details_of(tree, level) for level in (1, 2, 3))
    assert first.ip_address == "10.0.2.15"
    assert (first.timeouts, first.chap, first.parameters, first.units) == ({}, {}, {}, [])
    assert second.timeouts == {"recovery_tmo": 120, "tgt_reset_tmo": 30, "lu_reset_tmo": 30, "abort_tmo": 15}
    assert second.chap == {"username": "", "username_in": ""}
    assert second.parameters == {
        "header_digest": 0,
        "data_digest": 0,
        "max_recv_dlength": 262144,
        "max_xmit_dlength": 8192,
        "first_burst_len": 65536,
        "max_burst_len": 262144,
        "immediate_data": 1,
        "initial_r2t": 0,
        "max_outstanding_r2t": 1,
    }
    assert (second.host_state, second.units) == ("", [])
    assert third.host_state == "running"
    assert [unit.block for unit in third.units] == ["sda"]


def test_secrets_are_read_only_to_be_shown(tree: SysfsTree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.add_session(1, host=2, connection={}, **SECRETS)
    asked: list[str] = []

    def noted(name: str, folder: int | None = None) -> str | None:
        asked.append(name)
        return read_attribute(name, folder)

    monkeypatch.setattr(listing, "read_attribute", noted)
    assert not set(SECRETS.values()) & set(details_of(tree).chap.values())
    assert not set(SECRETS) & set(asked)
    assert details_of(tree, reveal=True).chap.items() >= SECRETS.items()
    assert not [secret for secret in SECRETS.values() if secret in repr(details_of(tree, reveal=True))]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("120", 120), ("off", -1), ("-1", -1), (None, -1), (UNREADABLE, -1), ("", 0), ("abc", 0), ("7 s", 7)],
)
def test_timeouts(tree: SysfsTree, text: Value, seconds: int) -> None:
    tree.add_session(1, recovery_tmo=text)
    assert details_of(tree).timeouts["recovery_tmo"] == seconds


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1), ("0", 0), ("-1", None), ("", None), ("(null)", None), (None, None), (UNREADABLE, None), ("-5", -5)],
)
@pytest.mark.parametrize("name", ["max_outstanding_r2t", "immediate_data"])
def test_negotiated_values_are_known_or_none(tree: SysfsTree, name: str, text: Value, number: int | None) -> None:
    tree.add_session(1, host=2, connection={}, **{name: text})
    assert details_of(tree).parameters[name] == number


@pytest.mark.parametrize("name", ["header_digest", "max_xmit_dlength"])
def test_negotiated_values_of_the_connection(tree: SysfsTree, name: str) -> None:
    tree.add_session(1, connection={name: None})
    assert details_of(tree).parameters[name] is None


@pytest.mark.parametrize(
    ("session", "host", "name"),
    [
        ("iqn.a:session", "iqn.a:host", "iqn.a:session"),
        ("(null)", "iqn.a:host", "iqn.a:host"),
        (None, "iqn.a:host", "iqn.a:host"),
        (None, "(null)", ""),
        ("", None, ""),
    ],
)
def test_the_initiator_name_is_the_sessions_or_else_the_hosts(
    tree: SysfsTree, session: Value, host: Value, name: str
) -> None:
    tree.add_host(2, initiatorname=host)
    tree.add_session(1, initiatorname=session)
    assert details_of(tree).initiator_name == name


def test_units_come_by_the_bytes_of_their_names(tree: SysfsTree) -> None:
    tree.add_session(1)
    for lun in (2, 100, 10, 0, 11, 16384, 1):
        tree.add_unit(
            1, lun, block=None if lun == 0 else f"sd{lun}", partitions=2, state="blocked" if lun == 2 else "running"
        )
    found = [
        (unit.host, unit.channel, unit.target, unit.lun, unit.block, unit.state) for unit in details_of(tree).units
    ]
    assert found == [
        (2, 0, 0, 0, "", "running"),
        (2, 0, 0, 1, "sd1", "running"),
        (2, 0, 0, 10, "sd10", "running"),
        (2, 0, 0, 100, "sd100", "running"),
        (2, 0, 0, 11, "sd11", "running"),
        (2, 0, 0, 16384, "sd16384", "running"),
        (2, 0, 0, 2, "sd2", "blocked"),
    ]


def test_units_belong_to_their_session_also_on_a_shared_host(tree: SysfsTree) -> None:
    tree.add_session(1, host=5)
    tree.add_session(2, host=5)
    tree.add_unit(1, 1, target=0, block="sda")
    tree.add_unit(2, 1, target=1, block="sdb")
    first, second = list_rows(str(tree))
    for row, block, target in ((first, "sda", 0), (second, "sdb", 1)):
        found = read_details(str(tree), row, 3)
        assert found is not None
        assert [(unit.block, unit.target) for unit in found.units] == [(block, target)]


def test_what_is_no_unit_is_passed_over(tree: SysfsTree) -> None:
    device = tree.add_session(1)
    tree.add_unit(1, 3, block="sda", state=None)
    for name in ("power", "target", "targetx:0:0", "connection1:0"):
        (device / name).mkdir(exist_ok=True)
    for name in ("power", "2:0:0", "2:0:0:x", "2:0:0:1:1"):
        (device / "target2:0:0" / name).mkdir()
    (unit,) = details_of(tree).units
    assert (unit.lun, unit.block, unit.state) == (3, "sda", "")


def test_a_unit_whose_disk_is_not_there_yet(tree: SysfsTree) -> None:
    tree.add_session(1)
    (tree.add_unit(1, 1) / "block").mkdir()
    (unit,) = details_of(tree).units
    assert (unit.lun, unit.block) == (1, "")


@pytest.mark.parametrize("state", [None, "", "(null)", UNREADABLE])
def test_a_host_without_state(tree: SysfsTree, state: Value) -> None:
    tree.add_host(2, scsi={"state": state})
    tree.add_session(1)
    assert details_of(tree).host_state == ""


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_session_that_went_away_has_no_details(tree: SysfsTree, level: int) -> None:
    tree.add_session(1)
    row = row_of(tree)
    tree.remove_session(1)
    assert read_details(str(tree), row, level) is None


@pytest.mark.parametrize("pace", [1, 3, 9, 100])
def test_details_are_whole_or_none_whenever_the_session_goes(
    tree: SysfsTree, monkeypatch: pytest.MonkeyPatch, pace: int
) -> None:
    """The session is taken away, beginning before each read in turn."""
    shown = 0
    tree.add_session(1)
    row, whole = row_of(tree), details_of(tree)
    for at in range(1, 25):
        tree.add_session(1)
        kernel = Vanishing(tree.removal(1), at=at, pace=pace)
        for module in (listing, session_details):
            monkeypatch.setattr(module, "read_attribute", kernel)
        found = read_details(str(tree), row, 3)
        monkeypatch.undo()
        if found is not None:
            shown += 1
            assert (found.timeouts, found.chap, found.parameters) == (whole.timeouts, whole.chap, whole.parameters), at
        kernel.finish()
        assert read_details(str(tree), row, 3) is None
    assert 1 <= shown < 24, "both outcomes have to happen"


@pytest.mark.parametrize(("level", "reads"), [(1, 3), (2, 18), (3, 20)])
def test_what_a_level_costs(tree: SysfsTree, monkeypatch: pytest.MonkeyPatch, level: int, reads: int) -> None:
    """Attributes read for a session with one disk besides its row; 500 sessions have to be listed in 0.2 seconds."""
    tree.add_session(1)
    tree.add_unit(1, 1, block="sda")
    row = row_of(tree)
    nothing_goes = Vanishing(iter(()), at=1, pace=0)
    for module in (listing, session_details):
        monkeypatch.setattr(module, "read_attribute", nothing_goes)
    assert read_details(str(tree), row, level) is not None
    assert nothing_goes.reads == reads
