# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the disk is told and when: nothing becomes a record, and no old record is written to, before it may.

The disk of these tests is the slowest there can be: a synchronization has ended only when somebody waited for it, and
holds nothing that was done after it began.
"""

from __future__ import annotations

import _thread
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from iscsiboot.database import change as change_module
from iscsiboot.database import commit, temps
from iscsiboot.database.failure import DatabaseError
from iscsiboot.database.files import Files
from iscsiboot.database.store import Database
from iscsiboot.database.temps import Syncing, Temps
from tests.unit.database.samples import Quick, batches, node, numbered, work


class Slow(Files):
    """Knows for each file (by its inode) when it was written to and moved, and what of that is on the disk."""

    def __init__(self) -> None:
        self.now = 0
        self.on_disk = 0
        """Everything that was done until then is."""
        self.written: dict[int, int] = {}
        self.moved: dict[int, int] = {}
        self.whole: set[int] = set()
        """Files whose last content was put on the disk by itself."""
        self.placed = self.recycled = self.syncs = 0

    def _tick(self) -> int:
        self.now += 1
        return self.now

    def _write(self, folder: int, name: str, *, durable: bool) -> None:
        inode = os.stat(name, dir_fd=folder).st_ino
        self.written[inode] = self._tick()
        (self.whole.add if durable else self.whole.discard)(inode)

    def create(self, folder: int, name: str, data: bytes, *, durable: bool) -> None:
        super().create(folder, name, data, durable=False)
        # A new file may have the inode of one that was removed.
        self.moved.pop(os.stat(name, dir_fd=folder).st_ino, None)
        self._write(folder, name, durable=durable)

    def overwrite(self, folder: int, name: str, data: bytes, *, durable: bool) -> bool:
        inode = os.stat(name, dir_fd=folder).st_ino
        assert self.moved[inode] <= self.on_disk, "an old file is written to while the disk has it as a record"
        self.recycled += 1
        done = super().overwrite(folder, name, data, durable=False)
        if done:
            self._write(folder, name, durable=durable)
        return done

    def _place(self, folder: int, name: str) -> None:
        inode = os.stat(name, dir_fd=folder).st_ino
        on_disk = inode in self.whole or self.written[inode] <= self.on_disk
        assert on_disk, "a record's content is not on the disk"
        self.placed += 1

    def rename(self, folder: int, name: str, new_folder: int, new_name: str) -> None:
        self._place(folder, name)
        super().rename(folder, name, new_folder, new_name)

    def exchange(self, folder: int, name: str, new_folder: int, new_name: str) -> None:
        self._place(folder, name)
        old = os.stat(new_name, dir_fd=new_folder).st_ino
        super().exchange(folder, name, new_folder, new_name)
        self.moved[old] = self._tick()

    def sync(self, fd: int) -> None:
        self.whole.add(os.fstat(fd).st_ino)

    def sync_all(self, fd: int) -> bool:
        self.syncs += 1
        self.on_disk = self._tick()
        return True


class SlowSyncing(Syncing):
    """Begins when it is made and ends when it is waited for."""

    def __init__(self, files: Files, fd: int) -> None:
        assert isinstance(files, Slow)
        self._slow, self._began = files, files.now

    def settle(self) -> None:
        pass

    def wait(self) -> bool:
        self._slow.syncs += 1
        self._slow.on_disk = max(self._slow.on_disk, self._began)
        return True


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 8, 9, 40, 41])
def test_nothing_is_in_its_place_before_it_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    batches(monkeypatch, 4, many=3)
    database = numbered(tmp_path, count)
    monkeypatch.setattr(temps, "Syncing", SlowSyncing)
    files = Slow()
    with database.change(files=files) as change:
        assert change.update_nodes(database.node_keys(), {"node.startup": "onboot"}) == count
        change.put_node(node("iqn.new"))
    assert files.placed == count + 1
    # Three batches of new files and the record that was not there before (it goes with the first).
    assert files.recycled == max(0, count - 12)
    assert [record.get("node.startup") for _, record in database.nodes()] == ["onboot"] * count + ["manual"]
    assert work(tmp_path) == []


def test_one_synchronization_for_each_batch_and_one_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches(monkeypatch, 4, many=3)
    database, files = numbered(tmp_path, 40), Slow()
    with database.change(files=files) as change:
        change.update_nodes(database.node_keys(), {"node.startup": "onboot"})
    assert files.syncs == 10 + 1


def test_batches_grow_where_the_disk_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "BATCH", 4)
    monkeypatch.setattr(commit, "BATCH_MAX", 16)
    monkeypatch.setattr(commit, "MANY", 3)
    monkeypatch.setattr(commit, "SLOW", -1.0)
    database = numbered(tmp_path, 80)
    monkeypatch.setattr(temps, "Syncing", SlowSyncing)
    files = Slow()
    with database.change(files=files) as change:
        assert change.update_nodes(database.node_keys(), {"node.startup": "onboot"}) == 80
    # 4, 4, 8, 16, 16, 16, 16, and the folders.
    assert files.syncs == 7 + 1
    assert [record.get("node.startup") for _, record in database.nodes()] == ["onboot"] * 80
    assert work(tmp_path) == []


def test_without_syncfs_no_old_file_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Old(Slow):
        def sync_all(self, fd: int) -> bool:
            return False

    batches(monkeypatch, 4, many=3)
    database, files = numbered(tmp_path, 20), Old()
    with database.change(files=files) as change:
        change.update_nodes(database.node_keys(), {"node.startup": "onboot"})
    assert (files.placed, files.recycled) == (20, 0)
    assert work(tmp_path) == []


class Failing(Quick):
    """A disk whose nth synchronization fails."""

    def __init__(self, left: int) -> None:
        self.left = left

    def sync_all(self, fd: int) -> bool:
        self.left -= 1
        if self.left == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return True


@pytest.mark.parametrize(("failing", "changed"), [(1, 0), (2, 4), (5, 16), (6, 20)])
def test_a_disk_that_fails_while_the_next_batch_is_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int, changed: int
) -> None:
    batches(monkeypatch, 4, many=3)
    database = numbered(tmp_path, 20)
    refused = pytest.raises(DatabaseError, match="input/output error")
    with refused as caught, database.change(files=Failing(failing)) as change:
        change.update_nodes(database.node_keys(), {"node.startup": "onboot"})
    startups = [record.get("node.startup") for _, record in database.nodes()]
    assert startups == ["onboot"] * changed + ["manual"] * (20 - changed)
    assert (f"{changed} of 20 changes were made" in caught.value.line()) == (changed > 0)
    assert work(tmp_path) == []


def test_a_synchronization_is_under_way_while_others_work() -> None:
    begun, may_end = _thread.allocate_lock(), _thread.allocate_lock()
    begun.acquire()
    may_end.acquire()

    class Waiting(Quick):
        def sync_all(self, fd: int) -> bool:
            begun.release()
            may_end.acquire()
            return fd == 7

    syncing = Syncing(Waiting(), 7)
    assert begun.acquire(timeout=60)
    may_end.release()
    assert syncing.wait()
    assert syncing.wait()


def no_thread(function: Callable[[], None], arguments: tuple[()]) -> int:
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("threads", [True, False])
def test_whatever_a_synchronization_ends_with_is_the_waiters(monkeypatch: pytest.MonkeyPatch, threads: bool) -> None:
    if not threads:
        monkeypatch.setattr(_thread, "start_new_thread", no_thread)
    syncing = Syncing(Failing(1), 0)
    syncing.settle()
    with pytest.raises(OSError, match="Input/output error"):
        syncing.wait()
    assert Syncing(Quick(), 0).wait()


def test_the_root_is_open_until_its_synchronization_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C comes while one is under way. A number that is another file by then must not be synchronized."""
    seen: list[str] = []
    giving_up = _thread.allocate_lock()
    giving_up.acquire()
    original = Temps.settle

    def settle(self: Temps) -> None:
        if giving_up.locked():
            giving_up.release()
        original(self)

    class Watching(Quick):
        made = 0

        def sync_all(self, fd: int) -> bool:
            # Who closes the root without waiting has closed it by then.
            seen.append("asked" if giving_up.acquire(timeout=60) else "never asked")
            seen.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
            return True

        def create(self, folder: int, name: str, data: bytes, *, durable: bool) -> None:
            self.made += 1
            if self.made == 6:
                raise KeyboardInterrupt
            super().create(folder, name, data, durable=durable)

    monkeypatch.setattr(Temps, "settle", settle)
    batches(monkeypatch, 4, many=3)
    database = numbered(tmp_path, 12)
    with pytest.raises(KeyboardInterrupt), database.change(files=Watching()) as change:
        change.update_nodes(database.node_keys(), {"node.startup": "onboot"})
    assert seen == ["asked", str(tmp_path)]


def test_ctrl_c_while_the_disk_is_waited_for_closes_nothing_under_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most of the time goes into this wait, so that is where it comes."""
    settled: list[bool] = []

    class Interrupted(Syncing):
        def wait(self) -> bool:
            raise KeyboardInterrupt

        def settle(self) -> None:
            super().settle()
            settled.append(True)

    database = numbered(tmp_path, 2)
    monkeypatch.setattr(temps, "Syncing", Interrupted)
    monkeypatch.setattr(commit, "MANY", 2)
    with pytest.raises(KeyboardInterrupt), database.change(files=Quick()) as change:
        change.update_nodes(database.node_keys(), {"node.startup": "onboot"})
    assert settled == [True]


@pytest.mark.parametrize("at", range(1, 50, 3))
def test_ctrl_c_at_any_close_is_no_fault_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Closed twice it would be: an "internal error", and perhaps the end of a file that has the number by then."""
    monkeypatch.setattr(commit, "_OPEN_MAX", 3)
    database, closed = Database(str(tmp_path)), list[int]()
    with database.change(files=Quick()) as change:
        for number in range(4):
            change.put_node(node(f"iqn.{number:02}"))
    keys, original = database.node_keys(), os.close

    def closing(fd: int) -> None:
        original(fd)
        closed.append(fd)
        if len(closed) == at:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "close", closing)
    with pytest.raises(KeyboardInterrupt), database.change(files=Quick()) as change:
        change.update_nodes(keys, {"node.startup": "onboot"})


def test_ctrl_c_is_not_lost_where_there_are_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(Quick):
        def sync_all(self, fd: int) -> bool:
            raise KeyboardInterrupt

    monkeypatch.setattr(_thread, "start_new_thread", no_thread)
    with pytest.raises(KeyboardInterrupt):
        Syncing(Interrupted(), 0).settle()


def test_a_settled_group_is_not_waited_for_again(tmp_path: Path) -> None:
    group = Temps(Failing(1), 0)
    group.begin_sync()
    group.settle()
    assert group.end_sync()


@pytest.mark.parametrize("fails", [False, True])
def test_a_large_update_lets_the_disk_begin_before_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """It holds the root while it lasts, also when the update comes to nothing; how it ends is nobody's business."""
    begun, seen = _thread.allocate_lock(), list[str]()
    begun.acquire()
    original = Syncing.settle

    def settle(self: Syncing) -> None:
        if begun.locked():
            begun.release()
        original(self)

    class Watching(Quick):
        def sync_all(self, fd: int) -> bool:
            if seen:
                return True
            seen.append("asked" if begun.acquire(timeout=60) else "never asked")
            seen.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Syncing, "settle", settle)
    monkeypatch.setattr(change_module, "AHEAD", 2)
    database = numbered(tmp_path, 2)

    def update() -> None:
        with database.change(files=Watching()) as change:
            change.update_nodes(database.node_keys(), {"node.startup": "onboot"})
            if fails:
                raise RuntimeError

    if fails:
        with pytest.raises(RuntimeError):
            update()
    else:
        update()
    assert seen == ["asked", str(tmp_path)]
    assert {record.get("node.startup") for _, record in database.nodes()} == {"manual" if fails else "onboot"}
