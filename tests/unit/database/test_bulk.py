# SPDX-License-Identifier: LGPL-2.1-or-later
"""Records changed by their bytes are what they would be if each were read and written: whatever their files hold."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from iscsiboot.database.bulk import Replacing
from iscsiboot.database.names import NodeKey
from iscsiboot.database.nodes import NODES, NodeFiles
from iscsiboot.database.record import Record
from iscsiboot.database.store import Database
from iscsiboot.database.tree import open_root
from tests.unit.database.samples import Quick, node

VALUES = {"node.startup": "onboot", "node.session.auth.password": "a secret = # of any kind"}


def plain(text: str) -> str:
    return text


def reordered(text: str) -> str:
    first, *lines, end, _ = text.split("\n")
    return "\n".join([first, *reversed(lines), end, ""])


EDITS: dict[str, Callable[[str], str]] = {
    "plain": plain,
    "other release": lambda text: text.replace("RECORD 2.1.8", "RECORD 2.0-874"),
    "no first line": lambda text: text.partition("\n")[2],
    "no end": lambda text: text.replace("# END RECORD\n", ""),
    "unknown key": lambda text: text.replace("# END", "x.y = z\n# END"),
    "bad value": lambda text: text.replace("ERL = 0", "ERL = nine"),
    "blanks": lambda text: text.replace("node.startup = ", "node.startup  =  "),
    "dos": lambda text: text.replace("\n", "\r\n"),
    "reordered": reordered,
    "few lines": lambda text: text[: text.index("node.session.")],
    "a comment": lambda text: text.replace("node.startup", "# mine\nnode.startup"),
    "already so": lambda text: text.replace("node.startup = manual", "node.startup = onboot"),
    "other target": lambda text: text.replace("node.name = iqn.", "node.name = IQN."),
    "other port": lambda text: text.replace("[0].port = 3260", "[0].port = 3261"),
    "longer tag": lambda text: text.replace("node.tpgt = 1\n", "node.tpgt = 12\n"),
    "other interface": lambda text: text.replace("ifacename = default", "ifacename = iser"),
    "address twice": lambda text: text.replace(
        "node.conn[0].address", "node.conn[0].address = 10.0.0.1\nnode.conn[0].address"
    ),
    "bytes": lambda text: text.replace("node.startup", "node.session.auth.username = \udcff\nnode.startup"),
}


def filled_with(root: Path, seed: int) -> Path:
    """120 records, most of them alike, every edit among them several times and next to all others."""
    source = random.Random(seed)
    with Database(str(root)).change(files=Quick()) as change:
        for at in range(40):
            for portal in (1, 2, 3):
                iface = source.choice(["default", "default", "iser"])
                address = source.choice([f"10.0.0.{portal}", f"fe80::{portal}", f"host{portal}"])
                record = node(f"iqn.{at}", address, portal)
                change.put_node(record.changed({"iface.iscsi_ifacename": iface}))
    names = sorted(root.glob("nodes/*/*/*"))
    for name in names:
        edit = source.choice([plain, plain, *EDITS.values()])
        name.write_bytes(edit(name.read_text()).encode("utf-8", "surrogateescape"))
    return root


def updated(root: Path) -> tuple[dict[str, bytes], list[str]]:
    """Every file after an update of all records, and what was told."""
    told: list[str] = []
    database = Database(str(root), notice=told.append)
    with database.change(files=Quick()) as change:
        assert change.update_nodes(database.node_keys(), VALUES) == 120
    files = {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.glob("nodes/*/*/*"))}
    return files, [line.replace(str(root), "") for line in told]


@pytest.mark.parametrize("seed", range(6))
def test_the_short_way_and_the_long_way_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    taken: list[bool] = []
    original = Replacing.text

    def watched(self: Replacing, key: NodeKey, data: bytes) -> bytes | None:
        text = original(self, key, data)
        taken.append(text is not None)
        return text

    monkeypatch.setattr(Replacing, "text", watched)
    short = updated(filled_with(tmp_path / "short", seed))
    monkeypatch.setattr(Replacing, "text", lambda *_: None)
    assert updated(filled_with(tmp_path / "long", seed)) == short
    # Both ways were gone, and often.
    assert taken.count(True) > 20
    assert taken.count(False) > 20


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_what_is_taken_for_known_means_what_the_known_one_means(edit: Callable[[str], str]) -> None:
    replacing = Replacing()
    others = [NodeKey(f"iqn.{at}", "10.0.0.1", 3260, 1) for at in range(3)]
    for key in others:
        old, _ = Record.parse("node", node(key.target).file_text())
        replacing.learn(key, old, old.changed(VALUES))
    key = NodeKey("iqn.7", "10.0.0.1", 3260, 1)
    data = edit(node("iqn.7").file_text().decode()).encode("utf-8", "surrogateescape")
    record, notices = Record.parse("node", data)
    text = replacing.text(key, data)
    if text is not None:
        assert notices == []
        assert record.node_key == key
        assert text == record.changed(VALUES).file_text()
    assert (text is not None) == (edit in (plain, EDITS["other release"]))


@pytest.mark.parametrize("name", ["iqn.a b", "iqn.\u00fc", "iqn.\x7f", "iqn." + "x" * 300])
def test_a_name_that_needs_a_second_look_gets_it(name: str) -> None:
    replacing = Replacing()
    for at in range(2):
        old, _ = Record.parse("node", node(f"iqn.{at}").file_text())
        replacing.learn(NodeKey(f"iqn.{at}", "10.0.0.1", 3260, 1), old, old.changed(VALUES))
    data = node("iqn.1").file_text().replace(b"iqn.1", name.encode())
    assert replacing.text(NodeKey(name, "10.0.0.1", 3260, 1), data) is None


def test_a_change_of_all_records_shows_the_new_value_everywhere(tmp_path: Path) -> None:
    filled_with(tmp_path, 1)
    updated(tmp_path)
    records = [record for _, record in Database(str(tmp_path)).nodes()]
    assert {record.get("node.startup") for record in records} == {"onboot"}
    assert {record.get("node.session.auth.password") for record in records} == {"a secret = # of any kind"}
    assert len(records) == 120


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_ctrl_c_at_any_close_closes_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Closes of: a portal, the target, another portal, and that target as all is let go."""
    with Database(str(tmp_path)).change(files=Quick()) as change:
        for name in ("iqn.1", "iqn.2"):
            change.put_node(node(name))
    root = open_root(str(tmp_path))
    assert root is not None
    files, closed = NodeFiles(root), list[int]()
    original = os.close

    def closing(fd: int) -> None:
        original(fd)
        closed.append(fd)
        if len(closed) == at:
            raise KeyboardInterrupt

    def work() -> None:
        for name in ("iqn.1", "iqn.2"):
            assert files.read((NODES, name, "10.0.0.1,3260,1", "default")) is not None
        files.close()

    monkeypatch.setattr(os, "close", closing)
    with root:
        with pytest.raises(KeyboardInterrupt):
            work()
        files.close()
