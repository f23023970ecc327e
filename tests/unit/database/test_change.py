# SPDX-License-Identifier: LGPL-2.1-or-later
"""Changing the tree: what is written where, what goes with what, modes, and refusals that change nothing."""

from __future__ import annotations

import errno
import os
import signal
import stat
from pathlib import Path

import pytest

from iscsiboot.database import commit
from iscsiboot.database import files as files_module
from iscsiboot.database import tree as tree_module
from iscsiboot.database.failure import DatabaseError
from iscsiboot.database.files import Files
from iscsiboot.database.names import NodeKey, Pattern, Source
from iscsiboot.database.record import Record, iface_defaults
from iscsiboot.database.store import Database
from iscsiboot.errors import ExitCode
from tests.unit.database.samples import (
    KEY,
    TARGET,
    Quick,
    batches,
    filled,
    node,
    numbered,
    peer_text,
    server,
    tree,
    work,
)


def test_the_tree_is_the_peers(tmp_path: Path) -> None:
    filled(tmp_path)
    found = tree(tmp_path)
    assert [name for name in found if not name.startswith("nodes/")] == [
        "ifaces",
        "ifaces/if4",
        "isns",
        "isns/10.0.0.9,3205",
        "isns/10.0.0.9,3205/isns_config",
        "nodes",
        "send_targets",
        "send_targets/10.0.0.9,3260",
        "send_targets/10.0.0.9,3260/iqn.2000-01.a:t2,10.0.0.1,3260,1,default",
        "send_targets/10.0.0.9,3260/st_config",
        "static",
        f"static/{TARGET},10.0.0.1,3260,1,default",
    ]
    assert found[f"nodes/{TARGET}/10.0.0.1,3260,1/default"] == peer_text("node-file")
    assert found["ifaces/if4"] == peer_text("iface-file")
    assert found["isns/10.0.0.9,3205/isns_config"] == peer_text("isns-file")
    assert found["send_targets/10.0.0.9,3260/st_config"] == peer_text("sendtargets-file")
    assert found[f"static/{TARGET},10.0.0.1,3260,1,default"] == f"-> {tmp_path}/nodes/{TARGET}/10.0.0.1,3260,1"
    assert "node.tpgt = -1\n" in found[f"nodes/{TARGET}/10.0.0.2,3260"]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    root = tmp_path / "root"
    before = os.umask(umask)
    try:
        filled(root)
    finally:
        os.umask(before)
    for path in [root, *root.rglob("*")]:
        if not path.is_symlink():
            wanted = 0o700 if path.is_dir() else 0o600
            assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_nothing_happens_before_the_end_and_nothing_after_an_exception(tmp_path: Path) -> None:
    database = filled(tmp_path)
    before = tree(tmp_path)

    def fail() -> None:
        with database.change(files=Quick()) as change:
            change.put_node(node("iqn.new"))
            change.delete_node(KEY)
            change.delete_discovery("sendtargets", "10.0.0.9", 3260)
            assert tree(tmp_path) == before
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert tree(tmp_path) == before
    with database.change():
        pass
    assert tree(tmp_path) == before


def test_a_change_sees_its_own_words(tmp_path: Path) -> None:
    with filled(tmp_path).change() as change:
        assert change.update_nodes([KEY], {"node.startup": "automatic"}) == 1
        assert change.update_nodes([KEY], {"node.leading_login": "Yes"}) == 1
        record = change.read_node(KEY)
        assert record is not None
        assert (record.get("node.startup"), record.get("node.leading_login")) == ("automatic", "Yes")
        assert change.delete_node(KEY)
        assert change.read_node(KEY) is None
        assert not change.delete_node(KEY)
        assert change.update_nodes([KEY], {"node.startup": "manual"}) == 0
        change.put_node(node(startup="onboot"), source=Source("static"))
    record = Database(str(tmp_path)).read_node(KEY)
    assert record is not None
    assert (record.get("node.startup"), record.get("node.leading_login")) == ("onboot", "No")
    assert Database(str(tmp_path)).linked_static() == [KEY]


def test_updates_change_their_line_alone(tmp_path: Path) -> None:
    database = filled(tmp_path)
    before = tree(tmp_path)
    with database.change(files=Quick()) as change:
        assert (
            change.update_nodes([*database.node_keys(), NodeKey("iqn.none", "a", 1)], {"node.startup": "onboot"}) == 3
        )
    after = tree(tmp_path)
    assert before.keys() == after.keys()
    for name, text in before.items():
        is_node = name.startswith("nodes/") and text != "/"
        assert after[name] == (text.replace("node.startup = manual", "node.startup = onboot") if is_node else text)


@pytest.mark.parametrize(
    ("values", "kind"),
    [({"node.startup": "onboot", "node.bogus": "1"}, KeyError), ({"node.startup": "boot"}, ValueError)],
)
def test_a_bad_update_changes_nothing(tmp_path: Path, values: dict[str, str], kind: type[Exception]) -> None:
    database = filled(tmp_path)
    before = tree(tmp_path)
    with pytest.raises(kind), database.change(files=Quick()) as change:
        change.update_nodes(database.node_keys(), values)
    assert tree(tmp_path) == before


def test_unknown_keys_and_bad_values_survive_an_update(tmp_path: Path) -> None:
    database = filled(tmp_path)
    file = tmp_path / f"nodes/{TARGET}/10.0.0.1,3260,1/default"
    file.write_text(peer_text("node-file").replace("ERL = 0", "ERL = nine").replace("# END", "x.y = z\n# END"))
    with database.change(files=Quick()) as change:
        change.update_nodes([KEY], {"node.startup": "onboot"})
    text = file.read_text()
    assert "node.session.iscsi.ERL = nine\n" in text
    assert text.endswith("x.y = z\n# END RECORD\n")
    assert "node.startup = onboot\n" in text


def test_a_deleted_record_takes_its_links_and_empty_folders_along(tmp_path: Path) -> None:
    database = filled(tmp_path)
    with database.change(files=Quick()) as change:
        change.put_node(node("iqn.2000-01.a:t2").changed({"iface.iscsi_ifacename": "if4"}), source=Source("fw"))
    with database.change(files=Quick()) as change:
        assert all(change.delete_node(key) for key in database.node_keys(Pattern(iface="default")))
    found = tree(tmp_path)
    assert [name for name in found if name.startswith(("nodes", "static", "fw"))] == [
        "fw",
        "fw/iqn.2000-01.a:t2,10.0.0.1,3260,1,if4",
        "nodes",
        "nodes/iqn.2000-01.a:t2",
        "nodes/iqn.2000-01.a:t2/10.0.0.1,3260,1",
        "nodes/iqn.2000-01.a:t2/10.0.0.1,3260,1/if4",
        "static",
    ]
    assert "send_targets/10.0.0.9,3260/st_config" in found
    assert not any("t2," in name for name in found if name.startswith("send_targets"))


def test_a_record_belongs_to_the_discovery_that_found_it_last(tmp_path: Path) -> None:
    database = filled(tmp_path)
    with database.change(files=Quick()) as change:
        key = change.put_node(node("iqn.2000-01.a:t2"), source=Source("isns", "10.0.0.9", 3205))
    assert database.linked("isns", "10.0.0.9", 3205) == [key]
    assert database.linked("sendtargets", "10.0.0.9", 3260) == []
    record = database.read_node(key)
    assert record is not None
    assert record.get("node.discovery_type") == "isns"
    assert record.get("node.discovery_address") == "10.0.0.9"
    assert record.get("node.discovery_port") == "3205"


def test_a_discovery_goes_with_what_it_found_but_for_what_is_kept(tmp_path: Path) -> None:
    database = filled(tmp_path)
    source = Source("sendtargets", "10.0.0.9", 3260)
    with database.change(files=Quick()) as change:
        kept = change.put_node(node("iqn.kept"), source=source)
        change.remember("10.0.0.9,3260", node())
    assert database.recall("10.0.0.9,3260") == node()
    with database.change(files=Quick()) as change:
        gone = change.delete_discovery("sendtargets", "10.0.0.9", 3260, keep={kept})
        assert change.delete_discovery("sendtargets", "10.0.0.9", 9) is None
    assert gone == [NodeKey("iqn.2000-01.a:t2", "10.0.0.1", 3260, 1, "default")]
    assert database.discoveries("sendtargets") == []
    assert database.linked("sendtargets", "10.0.0.9", 3260) == [kept]
    assert database.recall("10.0.0.9,3260") is None
    with database.change(files=Quick()) as change:
        assert change.delete_discovery("sendtargets", "10.0.0.9", 3260) == [kept]
    assert not (tmp_path / "send_targets/10.0.0.9,3260").exists()
    assert (tmp_path / f"nodes/{TARGET}").exists()


def test_a_record_that_learns_its_tag_leaves_the_old_style(tmp_path: Path) -> None:
    database = filled(tmp_path)
    with database.change(files=Quick()) as change:
        change.put_node(node(address="10.0.0.2", tag=4), source=Source("static"))
    assert not (tmp_path / f"nodes/{TARGET}/10.0.0.2,3260").exists()
    assert (tmp_path / f"nodes/{TARGET}/10.0.0.2,3260,4/default").is_file()


def test_an_old_style_record_with_a_tag_inside_moves_when_it_is_updated(tmp_path: Path) -> None:
    file = tmp_path / "nodes/iqn.o/10.0.0.2,3260"
    file.parent.mkdir(parents=True)
    file.write_text("node.tpgt = 5\niface.iscsi_ifacename = iser\n")
    database = Database(str(tmp_path))
    with database.change(files=Quick()) as change:
        assert change.update_nodes(database.node_keys(), {"node.startup": "onboot"}) == 1
    assert [name for name, text in tree(tmp_path).items() if text != "/"] == ["nodes/iqn.o/10.0.0.2,3260,5/iser"]
    with database.change(files=Quick()) as change:
        assert change.delete_node(NodeKey("iqn.o", "10.0.0.2", 3260, 5, "iser"))
    assert list(tree(tmp_path)) == ["nodes"]


def test_old_style_records_are_updated_and_deleted_in_place(tmp_path: Path) -> None:
    database = filled(tmp_path)
    key = NodeKey(TARGET, "10.0.0.2", 3260, -1, "default")
    with database.change(files=Quick()) as change:
        assert change.update_nodes([key], {"node.startup": "onboot"}) == 1
    assert "node.startup = onboot\n" in (tmp_path / f"nodes/{TARGET}/10.0.0.2,3260").read_text()
    with database.change(files=Quick()) as change:
        assert change.delete_node(key)
    assert not (tmp_path / f"nodes/{TARGET}/10.0.0.2,3260").exists()
    assert database.read_node(KEY) is not None


def test_a_record_that_stands_in_both_styles_is_deleted_from_both(tmp_path: Path) -> None:
    """A run that was killed while it gave the record its tag leaves both."""
    database = filled(tmp_path)
    old = tmp_path / f"nodes/{TARGET}/10.0.0.1,3260"
    old.write_bytes(node().file_text())
    with database.change(files=Quick()) as change:
        assert change.delete_node(KEY)
    assert not old.exists()
    assert KEY not in database.node_keys()


@pytest.mark.parametrize("there", ["nothing", "folder", "link"])
def test_what_is_no_record_is_not_deleted_as_one(tmp_path: Path, there: str) -> None:
    database = filled(tmp_path)
    place = tmp_path / f"nodes/{TARGET}/10.0.0.1,3260,1/other"
    if there == "folder":
        place.mkdir()
    elif there == "link":
        place.symlink_to("default")
    before = tree(tmp_path)
    with database.change(files=Quick()) as change:
        assert change.delete_node(NodeKey(TARGET, "10.0.0.1", 3260, 1, "other")) == (there != "nothing")
    assert tree(tmp_path) == before


def test_a_folder_in_an_old_style_records_place_is_refused_as_by_the_peer(tmp_path: Path) -> None:
    (tmp_path / "nodes/iqn.o/10.0.0.2,3260").mkdir(parents=True)
    (tmp_path / "nodes/iqn.o/10.0.0.2,3260/default").write_text("node.startup = onboot\n")
    database = Database(str(tmp_path))
    with pytest.raises(DatabaseError) as caught, database.change(files=Quick()) as change:
        change.put_node(node("iqn.o", "10.0.0.2", -1).changed({"iface.iscsi_ifacename": "new"}))
    assert caught.value.exit_code == ExitCode.INVAL
    with database.change(files=Quick()) as change:
        assert change.update_nodes(database.node_keys(), {"node.startup": "manual"}) == 1
    assert "node.startup = manual\n" in (tmp_path / "nodes/iqn.o/10.0.0.2,3260/default").read_text()
    with database.change(files=Quick()) as change:
        assert change.delete_node(database.node_keys()[0])
    assert list(tree(tmp_path)) == ["nodes"]


class WithoutExchange(Quick):
    """A file system that cannot swap two names."""

    def exchange(self, folder: int, name: str, new_folder: int, new_name: str) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


@pytest.mark.parametrize("files", [Quick(), WithoutExchange()], ids=["exchange", "no-exchange"])
@pytest.mark.parametrize("by", ["record", "link"])
def test_a_discovery_record_that_is_a_file_gives_way_to_its_folder(tmp_path: Path, by: str, files: Files) -> None:
    (tmp_path / "send_targets").mkdir()
    (tmp_path / "send_targets/10.0.0.9,3260").write_text(peer_text("sendtargets-file"))
    database = Database(str(tmp_path))
    with database.change(files=files) as change:
        if by == "record":
            change.put_discovery(server())
        key = change.put_node(node(), source=Source("sendtargets", "10.0.0.9", 3260))
    assert (tmp_path / "send_targets/10.0.0.9,3260/st_config").read_text() == peer_text("sendtargets-file")
    assert database.linked("sendtargets", "10.0.0.9", 3260) == [key]
    assert work(tmp_path) == []


def test_interfaces_are_stored_and_removed(tmp_path: Path) -> None:
    database = filled(tmp_path)
    with database.change(files=Quick()) as change:
        assert change.delete_iface("if4")
        assert not change.delete_iface("if4")
        assert not change.delete_iface("other")
        change.put_iface(iface_defaults("10.99.0.1:3260:pv0"))
    assert database.iface_names() == ["10.99.0.1:3260:pv0"]
    for name in ("default", "iser", "../x", ""):
        with pytest.raises(DatabaseError) as caught, database.change(files=Quick()) as change:
            change.put_iface(iface_defaults(name))
        assert caught.value.exit_code == ExitCode.INVAL
    assert database.iface_names() == ["10.99.0.1:3260:pv0"]


@pytest.mark.parametrize(
    "record",
    [
        node("../../etc"),
        node("a/b"),
        node(""),
        node(address=""),
        node(address="x/y"),
        node().changed({"iface.iscsi_ifacename": ".."}),
    ],
    ids=["target ..", "target /", "no target", "address", "address /", "iface"],
)
def test_names_never_leave_the_tree(tmp_path: Path, record: Record) -> None:
    database = Database(str(tmp_path / "root"))
    if record.get("node.conn[0].address") == "":
        record = record.changed({"node.conn[0].address": "x" * 300})
    with pytest.raises(DatabaseError) as caught, database.change(files=Quick()) as change:
        change.put_node(record, source=Source("static"))
    assert caught.value.exit_code == ExitCode.INVAL
    assert tree(tmp_path / "root") == {}


def test_a_planted_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    root = tmp_path / "root"
    (root / "nodes").mkdir(parents=True)
    (root / "nodes" / TARGET).symlink_to(tmp_path / "outside")
    with pytest.raises(DatabaseError, match="symbolic link"), Database(str(root)).change() as change:
        change.put_node(node())
    assert list((tmp_path / "outside").iterdir()) == []
    assert work(root) == []


def test_a_record_that_is_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("keep\n")
    record = tmp_path / f"root/nodes/{TARGET}/10.0.0.1,3260,1/default"
    record.parent.mkdir(parents=True)
    record.symlink_to(outside)
    with Database(str(tmp_path / "root")).change() as change:
        change.put_node(node())
    assert outside.read_text() == "keep\n"
    assert not record.is_symlink()


@pytest.mark.parametrize("above", ["folder", "nothing"])
def test_the_root_is_made_its_parent_not(tmp_path: Path, above: str) -> None:
    root = tmp_path / "a" / "iscsi"
    if above == "folder":
        root.parent.mkdir()
        filled(root)
        assert len(Database(str(root)).node_keys()) == 3
        return
    with pytest.raises(DatabaseError, match="does not exist"):
        filled(root)
    assert not root.parent.exists()


class Refusing(Quick):
    """A disk that refuses one kind of step from its nth use on."""

    def __init__(self, step: str, number: int, after: int) -> None:
        self.step, self.number, self.left = step, number, after

    def _count(self, step: str) -> None:
        if step == self.step:
            self.left -= 1
            if self.left < 0:
                raise OSError(self.number, os.strerror(self.number))

    def create(self, folder: int, name: str, data: bytes, *, durable: bool) -> None:
        if self.step == "create" and self.left == 0:
            super().create(folder, name, data[:100], durable=False)
        self._count("create")
        super().create(folder, name, data, durable=durable)

    def rename(self, folder: int, name: str, new_folder: int, new_name: str) -> None:
        self._count("rename")
        super().rename(folder, name, new_folder, new_name)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no space is left on the file system; next: make room; nothing was changed"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EACCES, "permission denied; next: run it as root"),
        (errno.EIO, "the disk reports an input/output error"),
    ],
    ids=errno.errorcode.get,
)
@pytest.mark.parametrize("count", [3, 40])
def test_a_disk_that_refuses_is_one_line_and_nothing_is_changed(
    tmp_path: Path, number: int, words: str, count: int
) -> None:
    database = filled(tmp_path)
    before = tree(tmp_path)

    def put_all() -> None:
        with database.change(files=Refusing("create", number, 2)) as change:
            for at in range(count):
                change.put_node(node(f"iqn.{at}"), source=Source("static"))

    with pytest.raises(DatabaseError) as caught:
        put_all()
    assert words in caught.value.line()
    assert caught.value.line().count("\n") == 0
    assert caught.value.exit_code == ExitCode.IDBM
    assert tree(tmp_path) == before
    assert work(tmp_path) == []


def test_a_disk_that_fails_in_the_middle_says_how_far_it_came(tmp_path: Path) -> None:
    database = filled(tmp_path)
    told = "1 of 3 changes were made, each of them whole"
    files = Refusing("rename", errno.EIO, 1)
    with pytest.raises(DatabaseError, match=told) as caught, database.change(files=files) as change:
        change.update_nodes(database.node_keys(), {"node.startup": "onboot"})
    assert caught.value.exit_code == ExitCode.IDBM
    assert sorted(record.get("node.startup") for _, record in database.nodes()) == ["manual", "manual", "onboot"]
    assert work(tmp_path) == []


def test_many_records_in_batches_are_all_changed_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches(monkeypatch, 10, many=4)
    database = Database(str(tmp_path))
    with database.change(files=Quick()) as change:
        for at in range(37):
            change.put_node(node(f"iqn.{at:02}"), source=Source("static"))
    for value in ("automatic", "onboot", "manual"):
        with database.change(files=Quick()) as change:
            assert change.update_nodes(database.node_keys(), {"node.startup": value}) == 37
        records = dict(database.nodes())
        assert len(records) == 37
        assert {record.get("node.startup") for record in records.values()} == {value}
        assert all(record.get("node.name") == key.target for key, record in records.items())
        assert work(tmp_path) == []


class Vanishing(Quick):
    """The peer, which has another lock, removes a record just before it is swapped."""

    def __init__(self) -> None:
        self.gone = ""

    def exchange(self, folder: int, name: str, new_folder: int, new_name: str) -> None:
        if not self.gone:
            self.gone = str(Path(f"/proc/self/fd/{new_folder}").readlink())
            os.unlink(new_name, dir_fd=new_folder)
        super().exchange(folder, name, new_folder, new_name)


def test_a_record_the_peer_removes_meanwhile_hinders_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches(monkeypatch, 2, many=2)
    database, files = numbered(tmp_path, 9), Vanishing()
    with database.change(files=files) as change:
        change.update_nodes(database.node_keys(), {"node.startup": "onboot"})
    assert "iqn.00" in files.gone
    assert [record.get("node.startup") for _, record in database.nodes()] == ["onboot"] * 9
    assert work(tmp_path) == []


class Counting(Files):
    """Counts what is done."""

    def __init__(self) -> None:
        self.done: dict[str, int] = {}
        self.durable = 0
        """Recycled files that were synchronized one by one."""

    def create(self, folder: int, name: str, data: bytes, *, durable: bool) -> None:
        self.done["create"] = self.done.get("create", 0) + 1
        super().create(folder, name, data, durable=durable)

    def overwrite(self, folder: int, name: str, data: bytes, *, durable: bool) -> bool:
        self.durable += durable
        done = super().overwrite(folder, name, data, durable=durable)
        self.done[f"overwrite {done}"] = self.done.get(f"overwrite {done}", 0) + 1
        return done

    def sync(self, fd: int) -> None:
        self.done["sync"] = self.done.get("sync", 0) + 1
        super().sync(fd)

    def sync_all(self, fd: int) -> bool:
        self.done["sync_all"] = self.done.get("sync_all", 0) + 1
        return super().sync_all(fd)


def test_an_old_file_somebody_still_has_open_is_never_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that opened a record before it was replaced reads the old record, whenever it reads."""
    batches(monkeypatch, 10, many=4)
    database = numbered(tmp_path, 60)
    names = sorted(tmp_path.glob("nodes/*/*/default"))
    os.link(names[4], tmp_path / "hard-link")
    texts = [name.read_text() for name in names]
    files = Counting()
    with names[2].open() as open_one, database.change(files=files) as change:
        change.update_nodes(database.node_keys(), {"node.startup": "onboot"})
        change.__exit__(None, None)
        assert open_one.read() == texts[2]
    assert (tmp_path / "hard-link").read_text() == texts[4]
    assert files.done["overwrite False"] == 2
    # Three batches of new files, then each batch takes those of the third before it.
    assert files.done["overwrite True"] == 28
    assert files.done["create"] == 32
    assert all("node.startup = onboot\n" in name.read_text() for name in names)


def test_a_reader_that_is_stopped_while_files_are_recycled_reads_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its open and its read two updates go by: whatever became of the file it has, it is not believed."""
    batches(monkeypatch, 3, many=2)
    database = numbered(tmp_path, 12)
    keys = database.node_keys()
    original, stops = tree_module._read_all, iter(["automatic", "onboot"])

    def slow(fd: int, size: int, limit: int) -> bytes:
        value = next(stops, "")
        if value:
            monkeypatch.setattr(tree_module, "_read_all", original)
            with database.change(files=Quick()) as change:
                change.update_nodes(keys, {"node.startup": value})
            monkeypatch.setattr(tree_module, "_read_all", slow)
            # As if it had been recycled although it is open: what it holds now is another record's.
            os.pwrite(os.open(f"/proc/self/fd/{fd}", os.O_WRONLY), b"# BEGIN RECORD\nnode.name = other\n", 0)
        return original(fd, size, limit)

    monkeypatch.setattr(tree_module, "_read_all", slow)
    record = database.read_node(keys[0])
    assert record is not None
    assert record.get("node.startup") == "onboot"
    assert next(stops, "none left") == "none left"


def test_durability_does_not_cost_a_sync_for_each_of_many_records(tmp_path: Path) -> None:
    database = Database(str(tmp_path))
    files = Counting()
    with database.change(files=files) as change:
        change.put_node(node())
    # The record and the folders root, nodes, target, portal.
    assert files.done == {"create": 1, "sync": 4}
    files = Counting()
    with database.change(files=files) as change:
        for at in range(200):
            change.put_node(node(f"iqn.{at}"))
    assert files.done == {"create": 200, "sync_all": 2}


def test_a_last_batch_too_small_for_syncfs_is_synchronized_file_by_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are recycled ones: one that is not on the disk when it becomes a record could hold another record."""
    monkeypatch.setattr(commit, "BATCH", 30)
    database = numbered(tmp_path, 93)
    files = Counting()
    with database.change(files=files) as change:
        change.update_nodes(database.node_keys(), {"node.startup": "onboot"})
    assert files.done["overwrite True"] == 3
    assert files.durable == 3


@pytest.mark.parametrize("durable", [True, False])
def test_durable_is_synchronized_once_its_contents_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.append((tmp_path / "a").read_text()))
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        Files().create(folder, "a", b"first", durable=durable)
        assert Files().overwrite(folder, "a", b"2nd", durable=False)
        assert (tmp_path / "a").read_text() == "2nd"
    finally:
        os.close(folder)
    assert seen == (["first"] if durable else [])


@pytest.mark.parametrize("data", [b"", b"new", b"much more than what was there"])
def test_an_overwrite_leaves_nothing_of_what_was_there(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(b"what was there")
    (tmp_path / "a").chmod(0o644)
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert Files().overwrite(folder, "a", data, durable=False)
    finally:
        os.close(folder)
    assert (tmp_path / "a").read_bytes() == data
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_that_was_given_away_does_not_get_another_record(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"what was there")
    os.chown(tmp_path / "a", 65534, -1)
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert not Files().overwrite(folder, "a", b"a secret", durable=False)
    finally:
        os.close(folder)
    assert (tmp_path / "a").read_bytes() == b"what was there"


@pytest.mark.parametrize("durable", [True, False])
def test_a_durable_overwrite_is_synchronized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool) -> None:
    sizes: list[int] = []
    (tmp_path / "a").write_bytes(b"what was there")
    monkeypatch.setattr(os, "fsync", lambda fd: sizes.append(os.fstat(fd).st_size))
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert Files().overwrite(folder, "a", b"new", durable=durable)
    finally:
        os.close(folder)
    assert sizes == ([3] if durable else [])
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600


def test_a_folder_is_synchronized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synchronized: list[int] = []
    monkeypatch.setattr(os, "fsync", synchronized.append)
    Files().sync(7)
    assert synchronized == [7]


def test_a_reader_that_comes_while_a_file_is_overwritten_ends_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel tells the lease's holder of it, by default with SIGIO, which ends a process."""
    told: list[int] = []
    (tmp_path / "a").write_bytes(b"what was there")

    def read_meanwhile(fd: int, data: bytes) -> None:
        with pytest.raises(BlockingIOError):
            os.open(tmp_path / "a", os.O_RDONLY | os.O_NONBLOCK)
        os.write(fd, data)

    monkeypatch.setattr(files_module, "_write_all", read_meanwhile)
    before = {
        number: signal.signal(number, lambda got, _: told.append(got)) for number in (signal.SIGIO, signal.SIGURG)
    }
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert Files().overwrite(folder, "a", b"new", durable=False)
    finally:
        os.close(folder)
        for number, handler in before.items():
            signal.signal(number, handler)
    assert told == [signal.SIGURG]


def test_without_syncfs_each_file_and_folder_is_synchronized(tmp_path: Path) -> None:
    class Old(Counting):
        def sync_all(self, fd: int) -> bool:
            return False

    files = Old()
    with Database(str(tmp_path)).change(files=files) as change:
        for at in range(30):
            change.put_node(node(f"iqn.{at}"))
    assert files.done["sync"] >= 30 + 30


def test_leftovers_of_a_killed_run_go_with_the_next_change(tmp_path: Path) -> None:
    database = filled(tmp_path)
    (tmp_path / ".iscsiboot/new-7").write_text("half a rec")
    (tmp_path / ".iscsiboot/damaged").mkdir()
    with database.change():
        pass
    assert work(tmp_path) == ["damaged"]


def test_a_change_outside_its_block_is_refused(tmp_path: Path) -> None:
    change = filled(tmp_path).change()
    with pytest.raises(DatabaseError):
        change.read_node(KEY)
    with change:
        change.put_discovery(server(address="10.0.0.8"))
    with pytest.raises(DatabaseError):
        change.read_node(KEY)
