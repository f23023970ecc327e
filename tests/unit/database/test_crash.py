# SPDX-License-Identifier: LGPL-2.1-or-later
"""A machine that stops at any step of a change leaves complete records only, and the same command again finishes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from iscsiboot.database.change import Change
from iscsiboot.database.check import check
from iscsiboot.database.names import NodeKey, Source
from iscsiboot.database.record import iface_defaults
from iscsiboot.database.store import Database
from tests.unit.database.samples import KEY, Quick, batches, filled, node, numbered, server, tree, work

OLD = "manual"
NEW = "automatic"


class Stopped(BaseException):
    """The power is gone: nothing of ours runs any more, so nothing may handle it."""


class Stopping(Quick):
    """Stops before its nth step; a file that is being written then is there in part."""

    def __init__(self, left: int) -> None:
        self.left = left

    def _step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Stopped

    def create(self, folder: int, name: str, data: bytes, *, durable: bool) -> None:
        if self.left == 0:
            super().create(folder, name, data[: len(data) // 2], durable=False)
        self._step()
        super().create(folder, name, data, durable=durable)

    def overwrite(self, folder: int, name: str, data: bytes, *, durable: bool) -> bool:
        if self.left == 0:
            super().overwrite(folder, name, data[: len(data) // 2], durable=False)
        self._step()
        return super().overwrite(folder, name, data, durable=durable)

    def mkdir(self, folder: int, name: str) -> None:
        self._step()
        super().mkdir(folder, name)

    def rename(self, folder: int, name: str, new_folder: int, new_name: str) -> None:
        self._step()
        super().rename(folder, name, new_folder, new_name)

    def exchange(self, folder: int, name: str, new_folder: int, new_name: str) -> None:
        self._step()
        super().exchange(folder, name, new_folder, new_name)

    def symlink(self, folder: int, name: str, target: str) -> None:
        self._step()
        super().symlink(folder, name, target)

    def unlink(self, folder: int, name: str) -> None:
        self._step()
        super().unlink(folder, name)

    def rmdir(self, folder: int, name: str) -> None:
        self._step()
        super().rmdir(folder, name)

    def sync(self, fd: int) -> None:
        self._step()
        super().sync(fd)

    def sync_all(self, fd: int) -> bool:
        self._step()
        return super().sync_all(fd)


def add(change: Change) -> None:
    change.put_node(node("iqn.new"), source=Source("sendtargets", "10.0.0.9", 3260))
    change.put_node(node("iqn.new", tag=-1))


def update(change: Change) -> None:
    change.update_nodes([KEY, NodeKey("iqn.2000-01.a:t2", "10.0.0.1", 3260, 1)], {"node.startup": NEW})


def give_tag(change: Change) -> None:
    change.put_node(node(address="10.0.0.2", tag=3), source=Source("static"))


def delete(change: Change) -> None:
    change.delete_node(KEY)


def delete_discovery(change: Change) -> None:
    change.delete_discovery("sendtargets", "10.0.0.9", 3260)


def move(change: Change) -> None:
    change.put_node(node("iqn.2000-01.a:t2"), source=Source("isns", "10.0.0.9", 3205))


def others(change: Change) -> None:
    change.put_iface(iface_defaults("if4").changed({"iface.mtu": "9000"}))
    change.put_discovery(server())
    change.delete_discovery("isns", "10.0.0.9", 3205)


CHANGES = [add, update, give_tag, delete, delete_discovery, move, others]


def run_until(root: Path, change: Callable[[Change], None], steps: int) -> bool:
    """Make the change with a stop before step ``steps``; whether it was reached."""
    try:
        with Database(str(root)).change(files=Stopping(steps)) as open_change:
            change(open_change)
    except Stopped:
        return True
    return False


def assert_whole(root: Path, before: dict[str, str], after: dict[str, str]) -> None:
    """Each file is as it was or as it is to be."""
    for name, text in tree(root).items():
        assert text in (before.get(name), after.get(name)) or text == "/", name
    # What neither side lacks is never missing.
    kept = {name for name in before if name in after and before[name] != "/"}
    assert kept <= tree(root).keys()
    for key, record in Database(str(root), notice=pytest.fail).nodes():
        assert record.node_key == key


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: str(change.__name__))
def test_a_stop_before_any_step_leaves_whole_records(tmp_path: Path, change: Callable[[Change], None]) -> None:
    filled(tmp_path / "start")
    before = tree(tmp_path / "start")
    done = tmp_path / "done"
    shutil.copytree(tmp_path / "start", done, symlinks=True)
    assert not run_until(done, change, 1000)
    after = {name: text.replace(str(done), str(tmp_path / "start")) for name, text in tree(done).items()}
    assert after != before
    root = tmp_path / "root"
    steps = 0
    while True:
        shutil.copytree(tmp_path / "start", root, symlinks=True)
        stopped = run_until(root, change, steps)
        assert_whole(
            root, before, {name: text.replace(str(tmp_path / "start"), str(root)) for name, text in after.items()}
        )
        # db check mends what such a stop leaves, and finds nothing then.
        check(str(root), fix=True, run=str(tmp_path))
        assert [found for found in check(str(root), run=str(tmp_path))[0] if not found.is_note] == []
        with Database(str(root)).change(files=Quick()) as again:
            change(again)
        finished = {name: text.replace(str(root), str(tmp_path / "start")) for name, text in tree(root).items()}
        assert {name for name, text in finished.items() if text != "/"} == {
            name for name, text in after.items() if text != "/"
        }
        assert work(root) == []
        shutil.rmtree(root)
        if not stopped:
            break
        steps += 1
    assert steps >= 4


def test_a_discovery_record_of_the_oldest_kind_is_there_at_every_moment(tmp_path: Path) -> None:
    """It is a file where its folder has to be: when a stop comes between, the next change must not find neither."""
    steps, stopped = 0, True
    while stopped:
        root = tmp_path / str(steps)
        (root / "send_targets").mkdir(parents=True)
        (root / "send_targets/10.0.0.9,3260").write_bytes(server().file_text())
        database = Database(str(root))
        stopped = run_until(root, add, steps)
        with database.change(files=Quick()):
            assert work(root) == []
        assert database.read_discovery("sendtargets", "10.0.0.9", 3260) == server()
        steps += 1
    assert steps >= 15


def test_a_stop_in_any_batch_leaves_whole_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches(monkeypatch, 2, many=2)
    start = tmp_path / "start"
    numbered(start, 11)
    root = tmp_path / "root"
    steps, stopped = 0, True
    while stopped:
        shutil.copytree(start, root, symlinks=True)
        database = Database(str(root), notice=pytest.fail)
        keys = database.node_keys()

        def change_all(change: Change, keys: list[NodeKey] = keys) -> None:
            assert change.update_nodes(keys, {"node.startup": NEW}) == 11

        stopped = run_until(root, change_all, steps)
        found = dict(database.nodes())
        assert list(found) == keys
        assert all(record.node_key == key and record.get("node.startup") in (OLD, NEW) for key, record in found.items())
        with database.change(files=Quick()) as change:
            change_all(change)
        assert {record.get("node.startup") for _, record in database.nodes()} == {NEW}
        assert work(root) == []
        shutil.rmtree(root)
        steps += 1
    assert steps >= 30
