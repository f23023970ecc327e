# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reading the tree: what is found, in which order, and everything strange that may stand in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from iscsiboot.database.failure import DatabaseError
from iscsiboot.database.names import NodeKey, Pattern
from iscsiboot.database.record import iface_defaults
from iscsiboot.database.store import Database
from tests.unit.database.samples import KEY, TARGET, filled, node, peer_text


def put(root: Path, path: str, text: str | bytes) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())


def listening(root: Path) -> tuple[Database, list[str]]:
    heard: list[str] = []
    return Database(str(root), notice=heard.append), heard


def test_a_missing_root_has_no_records_and_is_not_made(tmp_path: Path) -> None:
    database = Database(str(tmp_path / "none"))
    assert database.node_keys() == []
    assert list(database.nodes()) == []
    assert database.read_node(KEY) is None
    assert database.iface_names() == []
    assert database.read_iface("x") is None
    assert database.discoveries("isns") == []
    assert database.read_discovery("isns", "a", 1) is None
    assert database.linked_static() == database.linked_fw() == database.linked("isns", "a", 1) == []
    assert database.recall("x") is None
    assert not (tmp_path / "none").exists()


def test_records_are_listed_as_the_peer_lists_them(tmp_path: Path) -> None:
    for target, portal, iface in [
        ("iqn.b", "10.0.0.1,3260,1", "default"),
        ("iqn.a", "10.0.0.10,3260,1", "default"),
        ("iqn.a", "10.0.0.9,3260,1", "if1"),
        ("iqn.a", "10.0.0.9,3260,1", "default"),
        ("iqn.a", "fe80::1,3260,2", "default"),
    ]:
        put(tmp_path, f"nodes/{target}/{portal}/{iface}", "node.name = x\n")
    keys = Database(str(tmp_path)).node_keys()
    assert [(key.target, key.portal_dir, key.iface) for key in keys] == [
        ("iqn.a", "10.0.0.10,3260,1", "default"),
        ("iqn.a", "10.0.0.9,3260,1", "default"),
        ("iqn.a", "10.0.0.9,3260,1", "if1"),
        ("iqn.a", "fe80::1,3260,2", "default"),
        ("iqn.b", "10.0.0.1,3260,1", "default"),
    ]
    assert keys == sorted(keys)


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        (Pattern(), 3),
        (Pattern(target=TARGET), 2),
        (Pattern(target=TARGET, address="10.0.0.2"), 1),
        (Pattern(address="10.0.0.1", port=3260), 2),
        (Pattern(port=1), 0),
        (Pattern(iface="default"), 3),
        (Pattern(iface="iser"), 0),
        (Pattern(target="../nodes"), 0),
        (Pattern(target="x" * 300), 0),
        (Pattern(iface="../default"), 0),
    ],
    ids=repr,
)
def test_patterns_choose(tmp_path: Path, pattern: Pattern, count: int) -> None:
    database = filled(tmp_path)
    assert len(database.node_keys(pattern)) == count
    assert [key for key, _ in database.nodes(pattern)] == database.node_keys(pattern)


def test_the_transport_is_compared_with_the_record(tmp_path: Path) -> None:
    database = filled(tmp_path)
    assert len(list(database.nodes(Pattern(transport="tcp")))) == 3
    assert list(database.nodes(Pattern(transport="iser"))) == []


def test_with_a_target_no_other_target_is_looked_at(tmp_path: Path) -> None:
    database, heard = listening(tmp_path)
    filled(tmp_path)
    # A folder that cannot be read stands for all that must not be touched; root may read it, a file in its place not.
    put(tmp_path, "nodes/iqn.zzz", "this is no folder\n")
    assert len(database.node_keys(Pattern(target=TARGET, address="10.0.0.1"))) == 1
    assert heard == []
    database.node_keys()
    assert heard == [f"{tmp_path}/nodes/iqn.zzz: a file has no place here and is passed over"]


def test_an_old_style_record_is_a_file_and_its_contents_name_tag_and_interface(tmp_path: Path) -> None:
    put(tmp_path, "nodes/iqn.o/10.0.0.1,3260", "node.name = iqn.o\n")
    put(tmp_path, "nodes/iqn.o/10.0.0.2,3260", "node.tpgt = 5\niface.iscsi_ifacename = iser\n")
    database = Database(str(tmp_path))
    keys = [NodeKey("iqn.o", "10.0.0.1", 3260, -1, "default"), NodeKey("iqn.o", "10.0.0.2", 3260, 5, "iser")]
    assert database.node_keys() == keys
    records = [database.read_node(key) for key in keys]
    assert [record and record.node_key for record in records] == keys
    assert database.read_node(NodeKey("iqn.o", "10.0.0.2", 3260, 5, "default")) is None
    assert database.read_node(NodeKey("iqn.o", "10.0.0.1", 3260, 1, "default")) is None
    assert database.node_keys(Pattern(iface="iser")) == keys[1:]


def test_of_two_styles_of_one_record_the_new_one_counts(tmp_path: Path) -> None:
    put(tmp_path, "nodes/iqn.o/10.0.0.2,3260", "node.tpgt = 5\nnode.startup = onboot\n")
    put(tmp_path, "nodes/iqn.o/10.0.0.2,3260,5/default", "node.startup = automatic\n")
    database = Database(str(tmp_path))
    assert database.node_keys() == [NodeKey("iqn.o", "10.0.0.2", 3260, 5, "default")]
    record = database.read_node(database.node_keys()[0])
    assert record is not None
    assert record.get("node.startup") == "automatic"


def test_a_folder_without_a_tag_is_read_too(tmp_path: Path) -> None:
    put(tmp_path, "nodes/iqn.o/10.0.0.2,3260/default", "node.startup = onboot\n")
    key = NodeKey("iqn.o", "10.0.0.2", 3260, -1, "default")
    database = Database(str(tmp_path))
    assert database.node_keys() == [key]
    assert [record.get("node.startup") for _, record in database.nodes()] == ["onboot"]


def test_a_record_is_what_its_place_says_and_that_is_told(tmp_path: Path) -> None:
    put(tmp_path, "nodes/iqn.copy/10.0.0.7,3261,2/if9", peer_text("node-file"))
    database, heard = listening(tmp_path)
    ((key, record),) = database.nodes()
    assert record.node_key == key == NodeKey("iqn.copy", "10.0.0.7", 3261, 2, "if9")
    assert len(heard) == 5
    assert 'node.name says "iqn.2000-01.a:t1", its place says "iqn.copy", which counts' in heard[0]


def test_one_unknown_key_of_many_records_is_told_once(tmp_path: Path) -> None:
    for number in range(5):
        put(tmp_path, f"nodes/iqn.{number}/10.0.0.1,3260,1/default", "new.key = 1\n")
    database, heard = listening(tmp_path)
    assert len(list(database.nodes())) == 5
    assert len(heard) == 1


def strange(root: Path) -> None:
    """Whatever may stand in a tree beside one good record."""
    put(root, "nodes/iqn.good/10.0.0.1,3260,1/default", "node.startup = automatic\n")
    put(root, "nodes/iqn.good/10.0.0.1,3260,1/empty", "")
    put(root, "nodes/iqn.good/10.0.0.1,3260,1/zeros", bytes(100))
    (root / "nodes/iqn.good/10.0.0.1,3260,1/folder").mkdir()
    os.mkfifo(root / "nodes/iqn.good/10.0.0.1,3260,1/pipe")
    (root / "nodes/iqn.good/10.0.0.1,3260,1/link").symlink_to("default")
    with (root / "nodes/iqn.good/10.0.0.1,3260,1/huge").open("wb") as file:
        file.truncate(1 << 30)
    (root / "nodes/iqn.link").symlink_to(root / "nodes/iqn.good")
    (root / "nodes/iqn.good/10.0.0.9,3260,1").symlink_to("10.0.0.1,3260,1")
    put(root, "nodes/iqn.good/10.0.0.8,3260,1", "a file with a tag\n")
    put(root, "nodes/iqn.good/notes.txt", "x\n")
    put(root, "nodes/README", "x\n")
    (root / "nodes/iqn.empty").mkdir()


def test_bad_files_do_not_hide_the_good_record(tmp_path: Path) -> None:
    strange(tmp_path)
    database, heard = listening(tmp_path)
    assert [(key.iface, record.get("node.startup")) for key, record in database.nodes()] == [("default", "automatic")]
    told = "\n".join(heard)
    for name in ("empty", "zeros", "folder", "pipe", "link", "huge", "iqn.link", "10.0.0.9", "10.0.0.8", "README"):
        assert name in told
    assert "iqn.empty" not in told


@pytest.mark.parametrize("name", ["empty", "zeros", "folder", "pipe", "link", "huge"])
def test_asked_for_by_name_a_bad_file_is_an_error(tmp_path: Path, name: str) -> None:
    strange(tmp_path)
    with pytest.raises(DatabaseError) as caught:
        Database(str(tmp_path)).read_node(NodeKey("iqn.good", "10.0.0.1", 3260, 1, name))
    assert f"10.0.0.1,3260,1/{name}" in caught.value.line()


@pytest.mark.parametrize(
    "key", [NodeKey("iqn.link", "10.0.0.1", 3260, 1), NodeKey("iqn.good", "10.0.0.9", 3260, 1)], ids=repr
)
def test_links_to_folders_are_not_followed(tmp_path: Path, key: NodeKey) -> None:
    strange(tmp_path)
    with pytest.raises(DatabaseError, match="symbolic link"):
        Database(str(tmp_path)).read_node(key)


@pytest.mark.parametrize(
    "key",
    [
        NodeKey("..", "10.0.0.1", 3260, 1),
        NodeKey("../nodes/iqn.good", "10.0.0.1", 3260, 1),
        NodeKey("iqn.good", "../iqn.good/10.0.0.1", 3260, 1),
        NodeKey("iqn.good", "10.0.0.1", 3260, 1, "../../../outside"),
        NodeKey("", "", 0, 0, ""),
        NodeKey("x" * 300, "10.0.0.1", 3260, 1),
        NodeKey("a\0b", "10.0.0.1", 3260, 1),
    ],
    ids=repr,
)
def test_no_name_leads_out_of_the_tree(tmp_path: Path, key: NodeKey) -> None:
    root = tmp_path / "root"
    strange(root)
    put(tmp_path, "outside", "node.startup = automatic\n")
    assert Database(str(root)).read_node(key) is None


def test_a_link_in_place_of_nodes_is_told(tmp_path: Path) -> None:
    filled(tmp_path / "elsewhere")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/nodes").symlink_to(tmp_path / "elsewhere/nodes")
    with pytest.raises(DatabaseError, match="bind mount"):
        Database(str(tmp_path / "root")).node_keys()


def test_the_root_may_be_a_link(tmp_path: Path) -> None:
    filled(tmp_path / "elsewhere")
    (tmp_path / "root").symlink_to("elsewhere")
    assert len(Database(str(tmp_path / "root")).node_keys()) == 3


def test_interfaces(tmp_path: Path) -> None:
    database, heard = listening(tmp_path)
    filled(tmp_path)
    put(tmp_path, "ifaces/10.99.0.1:3260:pv0", "iface.iscsi_ifacename = other\niface.net_ifacename = eth1\n")
    put(tmp_path, "ifaces/iface.example", "x\n")
    put(tmp_path, "ifaces/broken", "")
    assert database.iface_names() == ["10.99.0.1:3260:pv0", "broken", "if4"]
    names = [record.get("iface.iscsi_ifacename") for record in database.ifaces()]
    assert names == ["10.99.0.1:3260:pv0", "if4", "default", "iser"]
    assert [record.get("iface.transport_name") for record in database.ifaces()][-1] == "iser"
    assert len(database.ifaces(stored_only=True)) == 2
    assert database.read_iface("default") == iface_defaults("default")
    assert database.read_iface("../ifaces/if4") is None
    assert f'Skipping deprecated "{tmp_path}/ifaces/iface.example". Please remove it.' in heard
    assert any("broken" in line for line in heard)


def test_discoveries_and_their_links(tmp_path: Path) -> None:
    database = filled(tmp_path)
    assert database.discoveries("sendtargets") == [("10.0.0.9", 3260)]
    assert database.discoveries("isns") == [("10.0.0.9", 3205)]
    record = database.read_discovery("sendtargets", "10.0.0.9", 3260)
    assert record is not None
    assert record.display() == peer_text("sendtargets-display")
    assert database.read_discovery("sendtargets", "10.0.0.9", 3261) is None
    assert database.linked("sendtargets", "10.0.0.9", 3260) == [NodeKey("iqn.2000-01.a:t2", "10.0.0.1", 3260, 1)]
    assert database.linked_static() == [KEY]
    assert database.linked_fw() == []
    (tmp_path / "nodes/iqn.2000-01.a:t2/10.0.0.1,3260,1/default").unlink()
    assert database.linked("sendtargets", "10.0.0.9", 3260) == []


def test_discovery_records_of_the_first_releases_are_files(tmp_path: Path) -> None:
    put(tmp_path, "send_targets/10.0.0.9,3260", peer_text("sendtargets-file"))
    database = Database(str(tmp_path))
    assert database.discoveries("sendtargets") == [("10.0.0.9", 3260)]
    record = database.read_discovery("sendtargets", "10.0.0.9", 3260)
    assert record is not None
    assert record.display() == peer_text("sendtargets-display")


def test_a_damaged_record_is_still_linked(tmp_path: Path) -> None:
    database = filled(tmp_path)
    put(tmp_path, f"nodes/{TARGET}/10.0.0.1,3260,1/default", "")
    assert database.linked_static() == [KEY]


def test_reading_works_on_what_cannot_be_written(tmp_path: Path) -> None:
    database = filled(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert len(list(database.nodes())) == 3
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert node() is not None
