# SPDX-License-Identifier: LGPL-2.1-or-later
"""``-m discovery`` and ``-m discoverydb`` without a discovery: arguments, listings, records.

Words and statuses are those Debian's iscsiadm 2.1.8 gave; tests/interop/test_admin_discovery.py runs both.
"""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from iscsiboot.database.names import NodeKey, Source
from iscsiboot.database.record import node_defaults
from tests.unit.admin.discovery_kit import A, B, Machine
from tests.unit.admin.json_documents import check

EMPTY_TREE = "".join(f"{title}:\nNo targets found.\n" for title in ("SENDTARGETS", "iSNS", "STATIC", "FIRMWARE"))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def stored(machine: Machine) -> Machine:
    """Records of two servers."""
    assert machine("-m discoverydb -t st -p 10.0.0.1 -o new").status == 0
    assert machine("-m discoverydb -t isns -p [fd00::1] -o new").status == 0
    return machine


def add_node(machine: Machine, key: NodeKey, source: Source) -> None:
    record = node_defaults().changed(
        {
            "node.name": key.target,
            "node.conn[0].address": key.address,
            "node.conn[0].port": str(key.port),
            "node.tpgt": str(key.tpgt),
            "iface.iscsi_ifacename": key.iface,
        }
    )
    with machine.database.change() as change:
        change.put_node(record, source=source)


NOT_FOUND = "Discovery record [10.0.0.9,3260] not found"
USE_DB = "Operations new and update for discovery mode is not supported. Use discoverydb mode."
PLEASE = "Please specify portal as <ipaddr>[:<ipport>]"


@pytest.mark.parametrize(
    ("line", "status", "error"),
    [
        ("discovery", 21, ""),
        ("discovery -P 0", 21, ""),
        ("discovery -o show", 21, ""),
        ("discovery -l", 21, ""),
        ("discovery -D", 21, ""),
        ("discovery -I default", 21, ""),
        ("discovery -t bogus", 21, ""),
        ("discovery -o new", 7, "Invalid operation."),
        ("discovery -o nonpersistent", 7, "Invalid operation."),
        ("discovery -p 10.0.0.9", 7, f"{NOT_FOUND}!"),
        ("discovery -p 10.0.0.9 -o new", 7, f"{NOT_FOUND}!"),
        ("discovery -p 10.0.0.9 -D", 7, f"{NOT_FOUND}!"),
        ("discovery -p 10.0.0.9 -o delete", 7, f"{NOT_FOUND}!"),
        ("discovery -p 10.0.0.9:99999", 7, "Discovery record [10.0.0.9,99999] not found!"),
        ("discovery -t bogus -p 10.0.0.9", 7, f"{NOT_FOUND}!"),
        ("discovery -t st", 7, PLEASE),
        ("discovery -t st -p ''", 7, PLEASE),
        ("discovery -t isns", 7, "Please specify portal as <ipaddr>:[<ipport>]"),
        ("discovery -t slp", 7, "SLP discovery is not fully implemented yet."),
        ("discovery -p 10.0.0.1 -o new", 7, USE_DB),
        ("discovery -p 10.0.0.1 -o update", 7, USE_DB),
        ("discovery -p 10.0.0.1 -o nonpersistent", 7, "Invalid operation."),
        ("discovery -p 10.0.0.1 -o apply", 7, "Invalid operation."),
        ("discoverydb", 21, ""),
        ("discoverydb -D", 21, ""),
        ("discoverydb -o new", 7, "Invalid operation. Operation not supported."),
        ("discoverydb -o delete", 7, "Invalid operation. Operation not supported."),
        ("discoverydb -p 10.0.0.9", 7, "Invalid command. Portal not needed or Possibly missing discovery --type."),
        ("discoverydb -p 10.0.0.9 -D", 7, "Invalid command. Portal not needed or Possibly missing discovery --type."),
        ("discoverydb -p 10.0.0.9 -o show", 7, "Invalid command. Possibly missing discovery --type."),
        ("discoverydb -t st", 7, PLEASE),
        ("discoverydb -t st -o new", 7, PLEASE),
        ("discoverydb -t isns", 7, PLEASE),
        ("discoverydb -t st -p 10.0.0.9", 6, f"{NOT_FOUND}."),
        ("discoverydb -t st -p 10.0.0.9 -o update", 6, f"{NOT_FOUND}."),
        ("discoverydb -t st -p 10.0.0.9 -o delete", 6, f"{NOT_FOUND}."),
        ("discoverydb -t st -p 10.0.0.1 -o update", 7, "Update requires name and value."),
        ("discoverydb -t st -p 10.0.0.1 -o update -n discovery.startup", 7, "Update requires name and value."),
        ("discoverydb -t st -p 10.0.0.1 -o apply", 7, "Operation is not supported."),
        ("discoverydb -t st -p 10.0.0.1 -o nonpersistent", 7, "Operation is not supported."),
        ("discoverydb -t fw", 7, "Invalid command. Possibly missing --discover argument."),
        ("discoverydb -t fw -o new", 7, "Invalid command. Possibly missing --discover argument."),
        ("discoverydb -t slp -p 10.0.0.9", 7, "SLP discovery is not fully implemented yet."),
    ],
)  # fmt: skip
def test_arguments(machine: Machine, line: str, status: int, error: str) -> None:
    if "10.0.0.1 " in line:
        machine("-m discoverydb -t st -p 10.0.0.1 -o new")
    ran = machine(f"-m {line}")
    assert (ran.status, ran.out, ran.errors) == (status, "", [error] if error else [])


@pytest.mark.parametrize("mode", ["discovery", "discoverydb"])
def test_listing(stored: Machine, mode: str) -> None:
    expected = "10.0.0.1:3260 via sendtargets\nfd00::1:3205 via isns\n"
    for options in ("", " -o show", " -P 0", " -D", " -l"):
        assert (stored(f"-m {mode}{options}").out, stored(f"-m {mode}{options}").status) == (expected, 0)


@pytest.mark.parametrize("level", [1, 2, 7])
def test_an_empty_tree(machine: Machine, level: int) -> None:
    ran = machine(f"-m discovery -P {level}")
    assert (ran.status, ran.out, ran.err) == (21, EMPTY_TREE, "")


def test_the_tree(stored: Machine) -> None:
    server = Source("sendtargets", "10.0.0.1", 3260)
    for iface in ("i2", "i1"):
        add_node(stored, NodeKey(B, "10.0.0.2", 3260, 1, iface), server)
    add_node(stored, NodeKey(B, "fd00::2", 3260, 1, "i1"), server)
    add_node(stored, NodeKey(A, "10.0.0.2", 3260, -1, "default"), server)
    add_node(stored, NodeKey(A, "10.0.0.3", 3260, 7, "default"), Source("static"))
    add_node(stored, NodeKey(A, "10.0.0.4", 3260, -1, "default"), Source("static"))
    add_node(stored, NodeKey(B, "10.0.0.5", 3260, 1, "default"), Source("fw"))
    ran = stored("-m discovery -P 1")
    assert ran.status == 0
    assert ran.out == (
        "SENDTARGETS:\n"
        "DiscoveryAddress: 10.0.0.1,3260\n"
        f"Target: {A}\n\tPortal: 10.0.0.2:3260,-1\n\t\tIface Name: default\n"
        f"Target: {B}\n\tPortal: 10.0.0.2:3260,1\n\t\tIface Name: i1\n\t\tIface Name: i2\n"
        "\tPortal: [fd00::2]:3260,1\n\t\tIface Name: i1\n"
        "iSNS:\n"
        "DiscoveryAddress: fd00::1,3205\n"
        "STATIC:\n"
        f"Target: {A}\n\tPortal: 10.0.0.3:3260,7\n\t\tIface Name: default\n"
        "\tPortal: 10.0.0.4:3260,-1\n\t\tIface Name: default\n"
        "FIRMWARE:\n"
        f"Target: {B}\n\tPortal: 10.0.0.5:3260,1\n\t\tIface Name: default\n"
    )
    document = check(stored("-m discovery -P 1 --json").out)
    assert [(item["type"], item["address"], len(item["nodes"])) for item in document["objects"]] == [
        ("sendtargets", "10.0.0.1", 4),
        ("isns", "fd00::1", 0),
        ("static", None, 2),
        ("fw", None, 1),
    ]


def test_a_listing_as_json(stored: Machine) -> None:
    document = check(stored("-m discovery --json").out)
    assert [(item["type"], item["address"], item["port"]) for item in document["objects"]] == [
        ("sendtargets", "10.0.0.1", 3260),
        ("isns", "fd00::1", 3205),
    ]
    empty = stored("-m discoverydb -t st -p 10.0.0.9 --json")
    assert check(empty.out)["exit_code"] == empty.status == 6


@pytest.mark.parametrize(
    "line", ["discovery -p 10.0.0.1", "discoverydb -t st -p 10.0.0.1", "discoverydb -t st -p 10.0.0.1 -l"]
)
def test_a_record(stored: Machine, line: str) -> None:
    stored(
        "-m discoverydb -t st -p 10.0.0.1 -o update -n discovery.sendtargets.auth.authmethod -v CHAP"
        " -n discovery.sendtargets.auth.username -v me -n discovery.sendtargets.auth.password -v topsecret1234"
    )
    masked, clear = stored(f"-m {line}"), stored(f"-m {line} -S")
    assert masked.status == clear.status == 0
    assert masked.out.startswith("# BEGIN RECORD 2.1.8\ndiscovery.startup = manual\n")
    assert masked.out.endswith("MaxRecvDataSegmentLength = 32768\n# END RECORD\n")
    assert "auth.username_in = <empty>\n" in masked.out
    assert "auth.password = ********\n" in masked.out
    assert "topsecret" not in masked.out
    assert "auth.password = topsecret1234\n" in clear.out
    shown = check(stored(f"-m {line} --json").out)["objects"][0]
    assert shown["record"]["discovery.sendtargets.auth.username"] == "me"
    assert "topsecret" not in str(shown)


def test_a_record_of_an_isns_server(stored: Machine) -> None:
    out = stored("-m discoverydb -t isns -p [fd00::1]:3205").out
    assert "discovery.type = isns\ndiscovery.sendtargets.address = fd00::1\ndiscovery.sendtargets.port = 3205\n" in out


def test_new_takes_iscsid_conf_and_replaces(machine: Machine) -> None:
    machine.configure(reopen_max="3", timeo__login_timeout="9")
    ran = machine("-m discoverydb -t sendtargets -p 10.0.0.1:3261,7 -o new")
    assert (ran.status, ran.out, ran.err) == (0, "New discovery record for [10.0.0.1,3261] added.\n", "")
    machine("-m discoverydb -t st -p 10.0.0.1:3261 -o update -n discovery.sendtargets.reopen_max -v 8")
    assert "reopen_max = 8\n" in machine("-m discovery -p 10.0.0.1:3261").out
    machine("-m discoverydb -t st -p 10.0.0.1:3261 -o new")
    out = machine("-m discovery -p 10.0.0.1:3261").out
    assert "reopen_max = 3\n" in out
    assert "login_timeout = 9\n" in out


LOOKED_UP = "It is used to look up the record and cannot be changed."


@pytest.mark.parametrize(
    ("pairs", "error"),
    [
        ("-n discovery.sendtargets.address -v x", f"Cannot modify discovery.sendtargets.address. {LOOKED_UP}"),
        ("-n discovery.sendtargets.port -v 1", f"Cannot modify discovery.sendtargets.port. {LOOKED_UP}"),
        ("-n discovery.type -v isns", f"Cannot modify discovery.type. {LOOKED_UP}"),
        ("-n discovery.bogus -v 1", "Cannot modify discovery.bogus. Invalid param name."),
        ("-n discovery.startup -v bogus", "unknown value format 'bogus' for parameter name 'discovery.startup'"),
        ("-n discovery.sendtargets.reopen_max -v 4 -n node.x -v y", "Cannot modify node.x. Invalid param name."),
    ],
)  # fmt: skip
def test_updates_that_are_refused_change_nothing(stored: Machine, pairs: str, error: str) -> None:
    before = stored("-m discovery -p 10.0.0.1").out
    ran = stored(f"-m discoverydb -t st -p 10.0.0.1 -o update {pairs}")
    assert (ran.status, ran.out, ran.errors) == (7, "", [error])
    assert stored("-m discovery -p 10.0.0.1").out == before


def test_an_update_says_nothing(stored: Machine) -> None:
    ran = stored("-m discoverydb -t isns -p [fd00::1] -o update -n discovery.isns.use_discoveryd -v Yes")
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    assert "discovery.isns.use_discoveryd = Yes\n" in stored("-m discoverydb -t isns -p [fd00::1]").out


def test_words_of_a_list_that_do_not_count(stored: Machine) -> None:
    ran = stored("-m discoverydb -t st -p 10.0.0.1 -o update -n node.session.auth.chap_algs -v SHA1,MD5,MD5,foo")
    assert (ran.status, ran.errors) == (
        0,
        [
            "Ignoring repeated value 'MD5' for 'node.session.auth.chap_algs'",
            "Ignoring unknown value 'foo' for 'node.session.auth.chap_algs'",
        ],
    )
    assert "chap_algs = SHA1,MD5\n" in stored("-m discovery -p 10.0.0.1").out


@pytest.mark.parametrize("line", ["discovery -p 10.0.0.1", "discoverydb -t st -p 10.0.0.1"])
def test_delete_takes_its_nodes_along(stored: Machine, line: str) -> None:
    add_node(stored, NodeKey(A, "10.0.0.2", 3260, 1), Source("sendtargets", "10.0.0.1", 3260))
    add_node(stored, NodeKey(B, "10.0.0.2", 3260, 1), Source("static"))
    ran = stored(f"-m {line} -o delete")
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    assert stored.targets == [B]
    assert stored.links == [f"static/{B},10.0.0.2,3260,1,default"]
    assert stored.database.discoveries("sendtargets") == []


@pytest.mark.parametrize("line", ["discovery -t isns -p 10.0.0.1", "discoverydb -t isns -p [fd00::1] -D"])
def test_isns_is_not_there_yet(stored: Machine, line: str) -> None:
    ran = stored(f"-m {line}")
    assert (ran.status, ran.out) == (17, "")
    assert ran.errors[0] == "Could not perform iSNS discovery: iSNS service not supported"
    assert "-t sendtargets" in ran.errors[1]


def test_a_bracket_that_is_not_closed(machine: Machine) -> None:
    ran = machine("-m discovery -t st -p [fd00::1")
    assert ran.status == 7
    assert "bracket" in ran.err
    assert machine.database.discoveries("sendtargets") == []


@pytest.mark.parametrize("portal", ["../x", "no/such", "a" * 300])
def test_portals_that_are_no_names(machine: Machine, portal: str) -> None:
    before = sorted(machine.root.rglob("*"))
    for line in (f"discovery -t st -p {portal}", f"discoverydb -t st -p {portal} -o new"):
        ran = machine(f"-m {line}")
        assert ran.status in (6, 7)
        assert ran.err
    outside = [path for path in machine.root.rglob("*") if path not in before and ".iscsiboot" not in str(path)]
    assert outside == []


@pytest.mark.parametrize(
    "line", ["discovery -t isns -p {}", "discoverydb -t isns -p {} -D", "discovery -t isns -p {} -l"]
)
def test_no_isns_server_is_asked(machine: Machine, line: str) -> None:
    """So no answer of one can fail a query or a registration (25, 26): 17, and nobody hears of it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        portal = f"127.0.0.1:{server.getsockname()[1]}"
        ran = machine(f"-m {line.format(portal)}")
        assert ran.status == 17
        with pytest.raises(BlockingIOError):
            server.accept()
