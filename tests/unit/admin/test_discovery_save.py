# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a discovery does to records that are there: which it adds, keeps, writes anew and removes."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest

from iscsiboot.admin.discovery_save import Plan, Saved, Saver
from iscsiboot.database.names import NodeKey, Source
from iscsiboot.database.record import Record, node_defaults
from iscsiboot.database.store import Database
from iscsiboot.sysfs.listing import SessionRow
from tests.unit.admin.discovery_kit import A, B, C, Machine

HERE = Source("sendtargets", "10.0.0.1", 3260)
THERE = Source("sendtargets", "10.0.0.2", 3260)
STARTUP = "node.startup"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def record(target: str, address: str = "192.0.2.1", tpgt: int = 1, iface: str = "default", **values: str) -> Record:
    """One found portal, with iscsid.conf's settings."""
    return node_defaults().changed(
        {
            "node.name": target,
            "node.tpgt": str(tpgt),
            "node.conn[0].address": address,
            "iface.iscsi_ifacename": iface,
            **{name.replace("__", "."): value for name, value in values.items()},
        }
    )


def save(
    machine: Machine,
    records: Sequence[Record],
    *ops: str,
    source: Source = HERE,
    complete: bool = True,
    rows: Sequence[SessionRow] = (),
    known_better: Collection[str] = (),
    linked: bool = True,
    settings: Record | None = None,
) -> tuple[Saved, list[str]]:
    told: list[str] = []
    saver = Saver(
        machine.database,
        source,
        Plan(ops),
        tell=told.append,
        rows=lambda: rows,
        settings=settings or node_defaults(),
        known_better=known_better,
        linked=linked,
    )
    return saver.save(records, complete=complete), told


def change(machine: Machine, key: NodeKey, **values: str) -> None:
    """What an administrator does with -o update."""
    with machine.database.change() as change:
        change.update_nodes([key], {name.replace("__", "."): value for name, value in values.items()})


def key(target: str, address: str = "192.0.2.1", tpgt: int = 1, iface: str = "default") -> NodeKey:
    return NodeKey(target, address, 3260, tpgt, iface)


@pytest.fixture
def known(machine: Machine) -> Machine:
    """A and B are known, and an administrator has set A up."""
    save(machine, [record(A), record(B)])
    change(machine, key(A), node__startup="automatic")
    return machine


@pytest.mark.parametrize(
    ("ops", "targets", "startup", "last"),
    [
        ((), [A, C], "automatic", "manual"),
        (("new",), [A, B, C], "automatic", "manual"),
        (("update",), [A, B, C], "manual", "manual"),
        (("delete",), [A], "automatic", None),
        (("new", "delete"), [A, C], "automatic", "manual"),
        (("new", "update", "delete"), [A, C], "manual", "manual"),
        (("nonpersistent",), [A, B], "automatic", None),
        (("show",), [A, B], "automatic", None),
        (("nonpersistent", "new"), [A, B, C], "automatic", "manual"),
    ],
    ids=lambda value: "+".join(value) or "none" if isinstance(value, tuple) else None,
)
def test_operations(known: Machine, ops: tuple[str, ...], targets: list[str], startup: str, last: str | None) -> None:
    saved, told = save(known, [record(A), record(C)], *ops)
    assert told == []
    assert known.targets == targets
    assert known.record(key(A)).get(STARTUP) == startup
    if last is not None:
        assert known.record(key(C)).get(STARTUP) == last
    assert [place for place, _ in saved.nodes] == [key(A), key(C)]


def test_records_say_where_they_came_from(known: Machine) -> None:
    one = known.record(key(A))
    assert (one.get("node.discovery_type"), one.get("node.discovery_address"), one.number("node.discovery_port")) == (
        "send_targets",
        "10.0.0.1",
        3260,
    )
    assert known.links == [f"send_targets/10.0.0.1,3260/{target},192.0.2.1,3260,1,default" for target in (A, B)]


def test_kept_settings_are_told(known: Machine) -> None:
    change(known, key(A), node__session__auth__username="me")
    saved, _ = save(known, [record(A), record(B)])
    assert set(saved.kept) == {STARTUP, "node.session.auth.username"}
    saved, _ = save(known, [record(A), record(B)], "update")
    assert set(saved.kept) == set()


def with_settings(**values: str) -> Record:
    return node_defaults().changed({name.replace("__", "."): value for name, value in values.items()})


NEW = with_settings(node__startup="onboot", node__session__auth__username="new", node__session__nr_sessions="2")


def new(target: str) -> Record:
    """A found portal under the changed iscsid.conf."""
    return NEW.changed({"node.name": target, "node.tpgt": "1", "node.conn[0].address": "192.0.2.1"})


def settings_of(machine: Machine, target: str) -> list[str]:
    names = (STARTUP, "node.session.auth.username", "node.session.nr_sessions")
    return [machine.record(key(target)).get(name) for name in names]


def test_untouched_settings_follow_iscsid_conf(known: Machine) -> None:
    saved, _ = save(known, [new(A), new(B)], settings=NEW)
    assert settings_of(known, A) == ["automatic", "new", "2"], "the first was set by somebody"
    assert settings_of(known, B) == ["onboot", "new", "2"]
    assert set(saved.kept) == {STARTUP}


def test_what_is_set_to_the_default_is_set(known: Machine) -> None:
    """A value somebody chose stays although it is what was written once, as long as iscsid.conf says another now."""
    save(known, [new(A), new(B)], settings=NEW)
    change(known, key(B), node__startup="manual")
    save(known, [new(A), new(B)], settings=NEW)
    assert settings_of(known, B) == ["manual", "new", "2"]


def test_and_back(known: Machine) -> None:
    save(known, [new(A), new(B)], settings=NEW)
    save(known, [record(A), record(B)])
    assert settings_of(known, A) == ["automatic", "", "1"]
    assert settings_of(known, B) == ["manual", "", "1"]


def test_without_a_memory_everything_stays(known: Machine) -> None:
    """So with a tree of open-iscsi's, or one that was copied without our folder."""
    shutil.rmtree(known.iscsi / ".iscsiboot")
    save(known, [new(A), new(B)], settings=NEW)
    assert settings_of(known, B) == ["manual", "", "1"]
    save(known, [record(A), record(B)])
    assert settings_of(known, B) == ["manual", "", "1"]


@pytest.mark.parametrize("ops", [("new",), ("delete",)], ids=["new", "delete"])
def test_a_discovery_that_leaves_records_alone_is_not_remembered(known: Machine, ops: tuple[str, ...]) -> None:
    save(known, [new(A), new(B)], *ops, settings=NEW)
    assert settings_of(known, B) == ["manual", "", "1"]
    save(known, [new(A), new(B)], settings=NEW)
    assert settings_of(known, B) == ["onboot", "new", "2"]


def test_records_of_another_server_do_not_follow(known: Machine) -> None:
    """What was written into them then is that server's memory."""
    save(known, [record(C)], source=THERE)
    save(known, [new(B)], source=THERE, settings=NEW)
    assert settings_of(known, B) == ["manual", "", "1"]


def test_a_second_discovery_of_the_same_writes_nothing(known: Machine) -> None:
    files = [path for path in known.iscsi.rglob("*") if path.is_file()]
    before = {path: path.stat().st_ino for path in files}
    save(known, [record(A), record(B)])
    assert {path: path.stat().st_ino for path in files} == before
    assert len(before) > 2


def test_records_belong_to_the_server_that_named_them_last(known: Machine) -> None:
    save(known, [record(A)], source=THERE)
    assert known.record(key(A)).get("node.discovery_address") == "10.0.0.2"
    assert known.record(key(A)).get(STARTUP) == "automatic"
    assert known.links == [
        f"send_targets/10.0.0.1,3260/{B},192.0.2.1,3260,1,default",
        f"send_targets/10.0.0.2,3260/{A},192.0.2.1,3260,1,default",
    ]
    # What is another server's is not this one's to remove.
    save(known, [record(B)])
    assert known.targets == [A, B]


@pytest.mark.parametrize("kind", ["static", "fw"])
def test_what_somebody_made_stays_theirs(machine: Machine, kind: str) -> None:
    own = record(A, node__startup="onboot", iface__initiatorname="iqn.2004-01.com.example:boot")
    with machine.database.change() as change:
        change.put_node(own, source=Source(kind))
    before = machine.record(key(A))
    save(machine, [record(A)])
    assert machine.record(key(A)) == before
    save(machine, [record(B)])
    assert machine.targets == [A, B], "a server that does not name it any more does not take it away"
    save(machine, [record(A)], "update")
    assert machine.record(key(A)).get("node.discovery_type") == "send_targets"
    assert machine.record(key(A)).get(STARTUP) == "manual"
    assert f"{kind}/" not in "".join(machine.links)


def test_an_interface_is_brought_up_to_date(known: Machine) -> None:
    save(known, [record(A, iface__net_ifacename="eth1"), record(B)])
    assert known.record(key(A)).get("iface.net_ifacename") == "eth1"
    change(known, key(A), iface__transport_name="iser")
    save(known, [record(A), record(B)])
    assert known.record(key(A)).get("iface.net_ifacename") == ""
    assert known.record(key(A)).get("iface.transport_name") == "iser", "a record may have a transport of its own"


def test_values_the_source_knows_better(known: Machine) -> None:
    name = "node.session.auth.password"
    save(known, [record(A, node__session__auth__password="fromfirmware12"), record(B)], known_better=[name])
    assert known.record(key(A)).get(name) == "fromfirmware12"
    assert known.record(key(A)).get(STARTUP) == "automatic"


# One portal, one record.


@pytest.mark.parametrize("ops", [(), ("update",)], ids=["keep", "update"])
@pytest.mark.parametrize(
    ("there", "said"),
    [
        ("FD00:0:0::1", "fd00::1"),
        ("fe80:0::5%eth0", "fe80::5%eth0"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
    ],
)
def test_another_spelling_is_the_same_portal(machine: Machine, there: str, said: str, ops: tuple[str, ...]) -> None:
    save(machine, [record(A, there)])
    change(machine, key(A, there), node__startup="automatic")
    saved, _ = save(machine, [record(A, said)], *ops)
    assert [place.address for place in machine.database.node_keys()] == [there]
    assert [place.address for place, _ in saved.nodes] == [there]
    assert machine.record(key(A, there)).get(STARTUP) == ("manual" if ops else "automatic")


@pytest.mark.parametrize("ops", [(), ("update",)], ids=["keep", "update"])
def test_a_record_without_a_tag_learns_it(machine: Machine, ops: tuple[str, ...]) -> None:
    save(machine, [record(A, tpgt=-1)])
    change(machine, key(A, tpgt=-1), node__startup="automatic")
    save(machine, [record(A, tpgt=7)], *ops)
    assert machine.database.node_keys() == [key(A, tpgt=7)]
    assert machine.record(key(A, tpgt=7)).get(STARTUP) == ("manual" if ops else "automatic")
    assert len(machine.links) == 1


def test_a_tag_that_is_not_stored_is_told(machine: Machine) -> None:
    save(machine, [record(A, tpgt=-1)])
    saved, _ = save(machine, [record(A, tpgt=7)], "new")
    assert [place for place, _ in saved.nodes] == [key(A, tpgt=7)]
    assert machine.database.node_keys() == [key(A, tpgt=-1)]


def test_two_records_of_one_portal_become_one(machine: Machine) -> None:
    save(machine, [record(A, tpgt=1)])
    with machine.database.change() as change:
        change.put_node(record(A, tpgt=-1), source=Source("static"))
    assert len(machine.database.node_keys()) == 2
    save(machine, [record(A, tpgt=1)])
    assert machine.database.node_keys() == [key(A)]


def test_an_answer_without_a_tag_finds_the_record_with_one(known: Machine) -> None:
    save(known, [record(A, tpgt=-1), record(B, tpgt=-1)])
    assert known.database.node_keys() == [key(A), key(B)]
    assert known.record(key(A)).get(STARTUP) == "automatic"


def test_another_tag_is_another_record(known: Machine) -> None:
    save(known, [record(A, tpgt=2), record(B)])
    assert known.database.node_keys() == [key(A, tpgt=2), key(B)]


def test_two_interfaces_are_two_records(machine: Machine) -> None:
    save(machine, [record(A, iface="i1"), record(A, iface="i2")])
    assert machine.database.node_keys() == [key(A, iface="i1"), key(A, iface="i2")]
    save(machine, [record(A, iface="i1")])
    assert machine.database.node_keys() == [key(A, iface="i1")]


def test_a_portal_named_twice_is_stored_once(machine: Machine) -> None:
    saved, told = save(machine, [record(A), record(B), record(A)])
    assert [place for place, _ in saved.nodes] == [key(A), key(B), key(A)]
    assert machine.database.node_keys() == [key(A), key(B)]
    assert told == []


# What is not removed.


def session(target: str, address: str = "192.0.2.1", iface: str = "default") -> SessionRow:
    return SessionRow(
        sid=1,
        host=0,
        transport="tcp",
        target=target,
        tpgt=1,
        persistent_address=address,
        persistent_port=3260,
        address=address,
        port=3260,
        iface_name=iface,
    )


@pytest.mark.parametrize("row", [session(A), session(B, "192.0.2.9"), session(B, iface="i1")], ids=["a", "b", "c"])
def test_sessions_of_others_keep_nothing(known: Machine, row: SessionRow) -> None:
    _, told = save(known, [record(A)], rows=[row])
    assert (known.targets, told) == ([A], [])


def test_an_incomplete_answer_removes_nothing(known: Machine) -> None:
    save(known, [record(A)], complete=False)
    assert known.targets == [A, B]


def test_records_without_a_tag_are_removed_too(machine: Machine) -> None:
    save(machine, [record(A, tpgt=-1), record(B)])
    save(machine, [record(B)])
    assert machine.targets == [B]


# Trouble.


def test_a_damaged_record_is_written_anew(known: Machine) -> None:
    (known.iscsi / "nodes" / A / "192.0.2.1,3260,1" / "default").write_bytes(b"\0\0\0")
    save(known, [record(A), record(B)])
    assert known.record(key(A)).get(STARTUP) == "manual"


def test_unknown_keys_stay(known: Machine) -> None:
    path = known.iscsi / "nodes" / A / "192.0.2.1,3260,1" / "default"
    path.write_text(path.read_text().replace("# END RECORD", "node.from_the_future = 7\n# END RECORD"))
    save(known, [record(A), record(B)], source=THERE)
    assert "node.from_the_future = 7\n" in path.read_text()


def test_a_name_the_database_cannot_hold_costs_itself(machine: Machine) -> None:
    long = record(A).changed({"iface.iscsi_ifacename": "x"})
    bad = Record("node", {**long.values, "iface.iscsi_ifacename": "a/b"})
    saved, told = save(machine, [bad, record(B)])
    assert [place.target for place, _ in saved.nodes] == [B]
    assert machine.targets == [B]
    assert len(told) == 1


def test_without_a_record_of_the_server_there_is_no_link(machine: Machine) -> None:
    save(machine, [record(A)], "nonpersistent", "new", linked=False)
    assert machine.links == []
    assert machine.record(key(A)).get("node.discovery_type") == "send_targets"
    assert machine.record(key(A)).get("node.discovery_address") == "10.0.0.1"


def test_the_peers_tree_is_found_again(machine: Machine) -> None:
    """A record and its link as open-iscsi 2.1.8 leaves them, found again with what was set in it."""
    portal = machine.iscsi / "nodes" / A / "192.0.2.1,3260,1"
    portal.mkdir(parents=True)
    text = record(A, node__startup="automatic").file_text()
    (portal / "default").write_bytes(text.replace(b"discovery_type = static", b"discovery_type = send_targets"))
    server = machine.iscsi / "send_targets/10.0.0.1,3260"
    server.mkdir(parents=True)
    (server / f"{A},192.0.2.1,3260,1,default").symlink_to(f"/etc/iscsi/nodes/{A}/192.0.2.1,3260,1")
    save(machine, [record(A), record(B)])
    assert Database(str(machine.iscsi)).node_keys() == [key(A), key(B)]
    assert machine.record(key(A)).get(STARTUP) == "automatic"
