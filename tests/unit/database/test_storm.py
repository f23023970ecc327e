# SPDX-License-Identifier: LGPL-2.1-or-later
"""The short form of the storm; ``python3 -m tests.unit.database.storm`` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from iscsiboot.database import commit
from iscsiboot.database.files import Files
from iscsiboot.database.names import NodeKey
from iscsiboot.database.store import Database
from tests.unit.database import storm
from tests.unit.database.samples import Quick, node


def test_sixty_four_processes_lose_and_tear_nothing(tmp_path: Path) -> None:
    count = storm.processes(tmp_path / "root", 64, 6, seed=4, files=Quick())
    assert count.problems == []
    assert count.changes > 200
    assert count.read > 500


def test_writers_killed_at_any_instant_lose_and_tear_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "BATCH", 3)
    monkeypatch.setattr(commit, "MANY", 2)
    count = storm.kills(tmp_path / "root", 150, seed=4, files=Quick())
    assert count.problems == []
    assert count.kills == 150
    assert count.read >= 8 * 150


class Tearing(Quick):
    """Writes a record's file in place, as the peer does."""

    def rename(self, folder: int, name: str, new_folder: int, new_name: str) -> None:
        super().rename(folder, name, new_folder, new_name)
        key = storm.FIRST.encode()
        data = Path(f"/proc/self/fd/{new_folder}/{new_name}").read_bytes()
        Path(f"/proc/self/fd/{new_folder}/{new_name}").write_bytes(data.replace(key + b" =", key + b" = x", 1))


@pytest.mark.parametrize("files", [Files(), Tearing()], ids=["whole", "torn"])
def test_a_torn_record_would_be_noticed(tmp_path: Path, files: Files) -> None:
    """The control: what looks at the records sees one that is torn."""
    database, count = Database(str(tmp_path)), storm.Count()
    with database.change(files=files) as change:
        change.put_node(node("iqn.a").changed({storm.FIRST: "t", storm.SECOND: "t"}))
    storm.look_at_all(database, count)
    assert bool(count.problems) == isinstance(files, Tearing)
    assert count.read == len(database.node_keys()) == 1
    assert storm.look(NodeKey("iqn.b", "a", 1), node("iqn.a")) != ""
