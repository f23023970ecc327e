# SPDX-License-Identifier: LGPL-2.1-or-later
"""The fake /sys against a real one: every link the kernel has, and no attribute it does not have."""

from __future__ import annotations

from pathlib import Path

import pytest

from iscsiboot.sysfs.sessions import list_sessions
from tests.doubles.sysfs_tree import CONNECTION, ISCSI_HOST, SESSION, UNREADABLE, SysfsTree

RECORD = Path(__file__).resolve().parents[2] / "vectors" / "sysfs" / "session.txt"


def record(mark: str) -> dict[str, str]:
    """The links (``->``) or values (``=``) of the record, by path below /sys."""
    found = {}
    for line in RECORD.read_text().splitlines():
        path, sign, text = line.partition(f" {mark} ")
        if sign and not line.startswith("#"):
            found[path] = text
    return found


@pytest.fixture
def tree(tmp_path: Path) -> SysfsTree:
    tree = SysfsTree(tmp_path)
    tree.add_session(1, host=2)
    tree.add_unit(1, 0)
    tree.add_unit(1, 1, block="sda", partitions=1)
    return tree


@pytest.mark.parametrize("path", record("->"))
def test_each_link_of_a_real_session_is_there(tree: SysfsTree, path: str) -> None:
    assert str((tree.root / path).readlink()) == record("->")[path]


def test_links_lead_somewhere(tree: SysfsTree) -> None:
    links = [path for path in tree.root.rglob("*") if path.is_symlink()]
    assert len(links) >= len(record("->"))
    assert all(path.exists() for path in links)


@pytest.mark.parametrize(
    ("values", "folder"),
    [
        (SESSION, "iscsi_session/session1"),
        (CONNECTION, "iscsi_connection/connection1:0"),
        (ISCSI_HOST, "iscsi_host/host2"),
    ],
    ids=["session", "connection", "host"],
)
def test_attributes_are_the_kernels(values: dict[str, str], folder: str) -> None:
    real = {path.rpartition("/")[2] for path in record("=") if path.rpartition("/")[0].endswith(folder)}
    assert set(values) == real


def test_attributes_can_be_changed_left_out_and_made_unreadable(tree: SysfsTree) -> None:
    tree.add_session(2, tpgt=None, targetname=b"iqn.\xff", state=UNREADABLE, connection={"port": "99"})
    view = tree.view_path(2)
    assert not (view / "tpgt").exists()
    assert (view / "targetname").read_bytes() == b"iqn.\xff\n"
    with pytest.raises(OSError, match="directory"):
        (view / "state").read_bytes()
    assert (tree.root / "class/iscsi_connection/connection2:0/port").read_text() == "99\n"


def test_a_session_that_is_removed_leaves_no_link(tree: SysfsTree) -> None:
    tree.add_session(2)
    tree.remove_session(1)
    assert [view.sid for view in list_sessions(tree.root)] == [2]
    assert not [path for path in tree.root.rglob("*") if path.is_symlink() and not path.exists()]
    assert not (tree.root / "block" / "sda").is_symlink()


def test_two_sessions_can_share_a_host(tree: SysfsTree) -> None:
    tree.add_session(2, host=2)
    assert tree.session_path(2).parent == tree.session_path(1).parent


def test_a_host_brings_the_transport_of_its_driver(tree: SysfsTree) -> None:
    tree.add_host(9, scsi={"proc_name": "iscsi_iser"})
    assert (tree.root / "class/iscsi_transport/iser/handle").exists()
