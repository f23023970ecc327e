# SPDX-License-Identifier: LGPL-2.1-or-later
"""``-m session --json``: the documents keep to their schema, and each level fills what its text shows."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest

from iscsiboot.admin.context import Paths
from iscsiboot.admin.main import main
from tests.doubles.sysfs_tree import SysfsTree
from tests.unit.admin.json_documents import Document, check

LEVEL_FIELDS = {
    1: ("interface", "connection_state", "internal_state"),
    2: ("timeouts", "chap", "parameters"),
    3: ("host_state", "devices"),
}


@pytest.fixture
def tree(tmp_path: Path) -> SysfsTree:
    tree = SysfsTree(tmp_path)
    tree.add_host(2, hwaddress="02:00:00:00:00:01")
    tree.add_session(1, ifacename="iface0", password="the secret", recovery_tmo="off", tgt_reset_tmo=None)
    tree.add_unit(1, 0)
    tree.add_unit(1, 1, block="sda", state="blocked")
    return tree


def document(tree: SysfsTree, *arguments: str, status: int = 0) -> Document:
    out, err = StringIO(), StringIO()
    assert main(["-m", "session", "--json", *arguments], out, err, Paths(sysfs=str(tree))) == status
    found = check(out.getvalue())
    assert (found["kind"], found["exit_code"]) == ("session", status)
    assert bool(err.getvalue()) == bool(status)
    return found


@pytest.mark.parametrize("level", range(4))
def test_a_level_fills_its_fields_and_those_below(tree: SysfsTree, level: int) -> None:
    (item,) = document(tree, "-P", str(level))["objects"]
    for needed, names in LEVEL_FIELDS.items():
        assert [item[name] is not None for name in names] == [level >= needed] * len(names)
    assert (item["sid"], item["transport"], item["iface"]) == (1, "tcp", "iface0")
    assert item["persistent_portal"] == {"address": "10.0.2.2", "port": 3260, "tpgt": 1}


def test_everything_that_is_known(tree: SysfsTree) -> None:
    (item,) = document(tree, "-P", "3")["objects"]
    assert item["interface"] == {
        # The text says tcp.02:00:00:00:00:01.ipv4.0, which is no iface record's name.
        "name": "iface0",
        "transport": "tcp",
        "initiator_name": "iqn.2026-01.org.example:guest",
        "ip_address": "10.0.2.15",
        "hardware_address": "02:00:00:00:00:01",
        "network_device": None,
    }
    assert item["timeouts"] == {"recovery": -1, "target_reset": None, "lun_reset": 30, "abort": 15}
    assert item["parameters"] == {
        "HeaderDigest": "None",
        "DataDigest": "None",
        "MaxRecvDataSegmentLength": 262144,
        "MaxXmitDataSegmentLength": 8192,
        "FirstBurstLength": 65536,
        "MaxBurstLength": 262144,
        "ImmediateData": True,
        "InitialR2T": False,
        "MaxOutstandingR2T": 1,
    }
    assert item["host_state"] == "running"
    assert item["devices"] == [
        {"host": 2, "channel": 0, "id": 0, "lun": 0, "name": None, "state": "running"},
        {"host": 2, "channel": 0, "id": 0, "lun": 1, "name": "sda", "state": "blocked"},
    ]


def test_secrets_only_with_show(tree: SysfsTree) -> None:
    (hidden,) = document(tree, "-P", "2")["objects"]
    assert set(hidden["chap"].values()) == {None}
    (seen,) = document(tree, "-P", "2", "-S")["objects"]
    assert seen["chap"] == {"username": None, "password": "the secret", "username_in": None, "password_in": None}


def test_what_was_not_negotiated_is_null(tmp_path: Path) -> None:
    tree = SysfsTree(tmp_path)
    tree.add_session(1, immediate_data=None, max_burst_len="-1", connection={"header_digest": None, "data_digest": "1"})
    (item,) = document(tree, "-P", "2")["objects"]
    found = item["parameters"]
    assert (found["ImmediateData"], found["MaxBurstLength"], found["HeaderDigest"]) == (None, None, None)
    assert found["DataDigest"] == "CRC32C"


def test_one_session_and_none(tree: SysfsTree) -> None:
    tree.add_session(2)
    assert [item["sid"] for item in document(tree, "-r", "2", "-P", "1")["objects"]] == [2]
    tree.remove_session(1)
    tree.remove_session(2)
    empty = document(tree, status=21)
    assert empty["objects"] == []
    assert [error["text"] for error in empty["errors"]] == ["No active sessions."]


def test_odd_bytes_make_a_whole_document(tmp_path: Path) -> None:
    tree = SysfsTree(tmp_path)
    tree.add_session(1, targetname=b"iqn.\xff\x1b[0m", connection={"persistent_address": None, "address": None})
    (item,) = document(tree, "-P", "3")["objects"]
    assert item["target"] == "iqn.\\udcff\\x1b[0m"
    assert item["portal"] is None
