# SPDX-License-Identifier: LGPL-2.1-or-later
"""Our database and open-iscsi's: equal trees from equal commands, and each reads and changes what the other wrote."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from iscsiboot.database.change import Change
from iscsiboot.database.names import NodeKey, Pattern, Source
from iscsiboot.database.record import Record, discovery_defaults, iface_defaults, node_defaults
from iscsiboot.database.store import Database
from tests.interop.peer_admin import Program, materialize, run, unavailable
from tests.interop.peer_admin_child import Tree, snapshot

WHY_NOT = unavailable()
pytestmark = [pytest.mark.interop, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)]

ETC = "/etc/iscsi"
SETTINGS = {
    "node.startup": ["manual", "automatic", "onboot"],
    "node.leading_login": ["No", "Yes"],
    "node.session.auth.username": ["alice", "two words", "x" * 255],
    "node.session.auth.password": ["secret with = and #", "correct horse battery"],
    "node.session.auth.chap_algs": ["MD5", "SHA256,MD5", "SHA3-256,SHA1"],
    "node.session.timeo.replacement_timeout": ["-1", "0", "86400"],
    "node.session.queue_depth": ["1", "1024"],
    "node.conn[0].iscsi.HeaderDigest": ["None", "CRC32C,None", "None,CRC32C"],
    "node.session.scan": ["manual", "auto"],
}


def node(target: str, address: str, tag: int, iface: str = "default") -> Record:
    place = {
        "node.name": target,
        "node.conn[0].address": address,
        "node.tpgt": str(tag),
        "iface.iscsi_ifacename": iface,
    }
    return node_defaults().changed(place)


def as_etc(root: Path) -> Tree:
    """What is below ``root`` as if it were /etc/iscsi, without our own folder."""
    found = {}
    for name, (kind, mode, content) in snapshot(root).items():
        if not name.startswith(".iscsiboot"):
            found[name] = (kind, mode, content.replace(str(root), ETC) if kind == "link" else content)
    return found


def hand_over(tree: Tree, root: Path, to: str) -> Path:
    """Write a tree below ``root`` with its links leading below ``to``."""
    links = {name: (kind, mode, text.replace(ETC, to)) for name, (kind, mode, text) in tree.items() if kind == "link"}
    materialize({**tree, **links}, root)
    for name, (kind, mode, _) in tree.items():
        if kind != "link":
            (root / name).chmod(int(mode, 8))
    return root


PEER_COMMANDS = [
    "-m node -o new -T iqn.a:1 -p 10.0.0.1:3260,1",
    "-m node -o new -T iqn.a:1 -p 10.0.0.2",
    "-m node -o new -T iqn.a:1 -p [fe80::1]:3261,2",
    "-m node -o new -T iqn.a:2 -p host.example:3260,1 -I iser",
    "-m iface -I if4 -o new",
    "-m iface -I x.ipv6.0 -o new",
    "-m discoverydb -t st -p 10.0.0.9 -o new",
    "-m discoverydb -t isns -p 10.0.0.9 -o new",
    "-m node -T iqn.a:1 -o update -n node.startup -v automatic -n node.session.auth.password -v secret",
    "-m discoverydb -t st -p 10.0.0.9 -o update -n discovery.sendtargets.auth.username -v alice",
    "-m node -T iqn.a:2 -o delete",
]


def ours(change: Change) -> None:
    """The same with our own hands."""
    static = Source("static")
    for address, port, tag in (("10.0.0.1", "3260", 1), ("10.0.0.2", "3260", -1), ("fe80::1", "3261", 2)):
        values = {"node.conn[0].port": port, "node.startup": "automatic", "node.session.auth.password": "secret"}
        change.put_node(node("iqn.a:1", address, tag).changed(values), source=static)
    iser = node("iqn.a:2", "host.example", 1, "iser").changed({"iface.transport_name": "iser"})
    key = change.put_node(iser, source=static)
    change.put_iface(iface_defaults("if4"))
    change.put_iface(iface_defaults("x.ipv6.0"))
    place = {"discovery.sendtargets.address": "10.0.0.9"}
    user = {"discovery.sendtargets.auth.username": "alice"}
    change.put_discovery(discovery_defaults("sendtargets").changed({**place, **user}))
    change.put_discovery(discovery_defaults("isns").changed(place))
    assert change.delete_node(key)


def test_equal_commands_leave_equal_trees(peer_admin: Program, tmp_path: Path) -> None:
    outcome = run(peer_admin, [command.split() for command in PEER_COMMANDS])
    assert [result.status for result in outcome.results] == [0] * len(PEER_COMMANDS)
    with Database(str(tmp_path)).change() as change:
        ours(change)
    assert as_etc(tmp_path) == outcome.tree


def shown(database: Database) -> str:
    return "".join(record.display(reveal=True) + "\n" for _, record in database.nodes())


def test_both_write_in_turn_and_show_the_same(peer_admin: Program, tmp_path: Path) -> None:
    """Random updates, additions and deletions, a turn each; every turn reads all that the other left."""
    source = random.Random(4)
    with Database(str(tmp_path / "0")).change() as change:
        ours(change)
    tree = as_etc(tmp_path / "0")
    known: dict[NodeKey, dict[str, str]] = {key: {} for key in Database(str(tmp_path / "0")).node_keys()}
    for turn in range(12):
        target, address = f"iqn.b:{turn}", f"10.1.0.{turn}"
        key = source.choice(sorted(known))
        values = {name: source.choice(choices) for name, choices in SETTINGS.items() if source.randrange(2)}
        values = values or {"node.startup": "onboot"}
        place = f"{tmp_path}/{turn}x"
        if turn % 2:
            pairs = [word for name, value in values.items() for word in ("-n", name, "-v", value)]
            update = ["-m", "node", "-T", key.target, "-p", f"{key.address}:{key.port}", "-I", key.iface]
            if ":" in key.address:
                update[5] = f"[{key.address}]:{key.port}"
            new = ["-m", "node", "-o", "new", "-T", target, "-p", f"{address}:3260,1"]
            outcome = run(peer_admin, [[*update, "-o", "update", *pairs], new], tree=hand_over(tree, Path(place), ETC))
            assert [result.status for result in outcome.results] == [0, 0], [one.shown() for one in outcome.results]
            tree = outcome.tree
        else:
            hand_over(tree, Path(place), place)
            with Database(place).change() as change:
                assert change.update_nodes([key], values) == 1
                change.put_node(node(target, address, 1), source=Source("static"))
            tree = as_etc(Path(place))
        known[key] |= values
        known[NodeKey(target, address, 3260, 1)] = {}
        database = Database(str(hand_over(tree, tmp_path / f"{turn}y", str(tmp_path / f"{turn}y"))), notice=pytest.fail)
        records = dict(database.nodes())
        assert set(records) == set(known)
        assert all(records[key].get(name) == value for key, said in known.items() for name, value in said.items())
        peer = run(peer_admin, [["-m", "node", "-o", "show", "-S"]], tree=hand_over(tree, tmp_path / f"{turn}z", ETC))
        assert peer.results[0].stdout.decode() == shown(database)


HAND_EDITED = {
    "blanks": "  node.startup   =   automatic  \n\tnode.session.cmds_max\t=\t64\t\n",
    "dos": "node.startup = automatic\r\nnode.session.auth.username = u\r\n",
    "comments": "# mine\n\n   # more\nnode.startup = onboot\n# END RECORD\nnode.leading_login = Yes\n",
    "twice": "node.startup = automatic\nnode.startup = onboot\n",
    "hidden": "node.session.auth.password = abcdef\nnode.session.auth.password_length = 6\n",
    "signs": "node.session.auth.username = a = b # c\nnode.session.timeo.replacement_timeout = -1\n",
    "numbers": "node.session.queue_depth = 007\nnode.session.cmds_max = +9\nnode.session.reopen_max = -1\n",
    "list": "node.session.auth.chap_algs = SHA256, MD5\n",
    "few": "",
}


@pytest.mark.parametrize("text", HAND_EDITED.values(), ids=HAND_EDITED)
def test_hand_edited_records_mean_the_same_to_both(peer_admin: Program, tmp_path: Path, text: str) -> None:
    start = "node.name = iqn.h\nnode.tpgt = 1\nnode.conn[0].address = 10.0.0.1\niface.iscsi_ifacename = default\n"
    record = tmp_path / "nodes/iqn.h/10.0.0.1,3260,1/default"
    record.parent.mkdir(parents=True)
    record.write_text(start + text)
    show = ["-m", "node", "-T", "iqn.h", "-S"]
    update = ["-m", "node", "-T", "iqn.h", "-o", "update", "-n", "node.session.scan", "-v", "manual"]
    outcome = run(peer_admin, [show, update], tree=tmp_path)
    assert outcome.results[0].stdout.decode() == shown(Database(str(tmp_path)))
    with Database(str(tmp_path)).change() as change:
        assert change.update_nodes(keys_of(tmp_path), {"node.session.scan": "manual"}) == 1
    assert record.read_text() == outcome.tree["nodes/iqn.h/10.0.0.1,3260,1/default"][2]


def test_a_serial_number_is_shown_without_a_sign_by_both(peer_admin: Program, tmp_path: Path) -> None:
    record = tmp_path / "nodes/iqn.h/10.0.0.1,3260,1/default"
    record.parent.mkdir(parents=True)
    place = "node.name = iqn.h\nnode.tpgt = 1\nnode.conn[0].address = 10.0.0.1\niface.iscsi_ifacename = default\n"
    record.write_text(f"{place}node.session.initial_cmdsn = -1\n")
    outcome = run(peer_admin, [["-m", "node", "-T", "iqn.h", "-S"]], tree=tmp_path)
    assert outcome.results[0].stdout.decode() == shown(Database(str(tmp_path)))
    assert b"initial_cmdsn = 4294967295\n" in outcome.results[0].stdout


def keys_of(root: Path) -> list[NodeKey]:
    return Database(str(root)).node_keys()


def old_style(root: Path) -> None:
    (root / "nodes/iqn.o").mkdir(parents=True)
    text = "node.name = iqn.o\nnode.tpgt = 5\nnode.conn[0].address = 10.0.0.1\niface.iscsi_ifacename = iser\n"
    (root / "nodes/iqn.o/10.0.0.1,3260").write_text(text)
    text = "node.name = iqn.o\nnode.conn[0].address = 10.0.0.2\n"
    (root / "nodes/iqn.o/10.0.0.2,3260").write_text(text)


def discovery_file(root: Path) -> None:
    (root / "send_targets").mkdir()
    text = "discovery.sendtargets.address = 10.0.0.9\ndiscovery.sendtargets.port = 3260\ndiscovery.type = sendtargets\n"
    (root / "send_targets/10.0.0.9,3260").write_text(text)


@pytest.mark.parametrize("make", [old_style], ids=["old style"])
def test_trees_of_older_releases_mean_the_same_to_both(
    peer_admin: Program, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path)
    outcome = run(peer_admin, [["-m", "node", "-o", "show"]], tree=tmp_path)
    assert outcome.results[0].stdout.decode() == shown(Database(str(tmp_path)))


def test_a_discovery_record_that_is_a_file_is_read_by_both(peer_admin: Program, tmp_path: Path) -> None:
    discovery_file(tmp_path)
    outcome = run(peer_admin, [["-m", "discoverydb", "-t", "st", "-p", "10.0.0.9"]], tree=tmp_path)
    record = Database(str(tmp_path)).read_discovery("sendtargets", "10.0.0.9", 3260)
    assert record is not None
    assert outcome.results[0].stdout.decode() == record.display() + "\n"


def test_what_only_we_keep_does_not_stop_the_peer(peer_admin: Program, tmp_path: Path) -> None:
    """Our own folder, and the interface rule: by its name alone, which is what the peer's own library reads."""
    with Database(str(tmp_path)).change() as change:
        ours(change)
        change.remember("10.0.0.9,3260", node_defaults())
        change.put_iface(iface_defaults("six").changed({"iface.ipaddress": "fe80::7"}))
    (tmp_path / ".iscsiboot/new-1").write_text("left behind")
    commands = [
        ["-m", "node"],
        ["-m", "iface"],
        ["-m", "discovery"],
        ["-m", "discovery", "-P", "1"],
        ["-m", "node", "-o", "show"],
    ]
    outcome = run(peer_admin, commands, tree=tmp_path)
    assert [(result.status, result.stderr) for result in outcome.results] == [(0, b"")] * len(commands)
    assert len(outcome.results[0].stdout.splitlines()) == len(Database(str(tmp_path)).node_keys(Pattern()))
