# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every command line with ``--json``: one document that keeps to the schema, and the words it stands for unchanged.

The commands run in this process on a machine made for the test: a database, sessions in a false sysfs, no kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from iscsiboot.admin.context import Paths
from iscsiboot.admin.json_schema import KINDS
from iscsiboot.admin.main import main
from iscsiboot.admin.options import MODES, TRY_HELP
from tests.doubles.sysfs_tree import SysfsTree
from tests.unit.admin.json_documents import check

A = "iqn.2001-04.com.example:a"
B = "iqn.2001-04.com.example:b"


class Answer:
    """One run: words and status, and with ``--json`` the checked document."""

    def __init__(self, argv: Sequence[str], paths: Paths) -> None:
        out, err = StringIO(), StringIO()
        self.status = main(argv, out, err, paths)
        self.out, self.err = out.getvalue(), err.getvalue()
        self.document: dict[str, Any] = check(self.out) if "--json" in argv else {}

    @property
    def objects(self) -> list[dict[str, Any]]:
        return list(self.document["objects"])


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """A machine with three node records, an interface, a discovery record and two sessions."""
    root = tmp_path_factory.mktemp("machine")
    for name in ("iscsi", "run", "proc"):
        (root / name).mkdir()
    sysfs = SysfsTree(root / "sys")
    sysfs.add_session(7, host=3, targetname=A, connection={"address": "10.0.0.1", "persistent_address": "10.0.0.1"})
    sysfs.add_unit(7, 0, block="sda")
    sysfs.add_session(12, host=4, targetname=B, username="me", password="secret words")
    made = Paths(
        config=str(root / "iscsi"),
        database=str(root / "iscsi"),
        etc=str(root),
        sysfs=str(root / "sys"),
        proc=str(root / "proc"),
        run=str(root / "run"),
    )
    for argv in (
        ["-m", "iface", "-I", "eth1", "-o", "new", "-n", "iface.net_ifacename", "-v", "eth1"],
        ["-m", "node", "-o", "new", "-T", A, "-p", "10.0.0.1:3260,1"],
        ["-m", "node", "-o", "new", "-T", A, "-p", "[fd00::1]:3260,1", "-I", "eth1"],
        ["-m", "node", "-o", "new", "-T", "iqn.2001-04.com.example:c", "-p", "10.0.0.3"],
        ["-m", "discoverydb", "-t", "st", "-p", "10.0.0.9", "-o", "new"],
        ["-m", "node", "-T", A, "-o", "update", "-n", "node.session.auth.password", "-v", "secret words"],
    ):
        answer = Answer(argv, made)
        assert (answer.status, answer.err) == (0, "")
    return made


LISTS = [
    (["-m", "node"], "node"),
    (["-m", "session"], "session"),
    (["-m", "iface"], "iface"),
    (["-m", "discovery"], "discovery"),
    (["-m", "discoverydb"], "discovery"),
]


@pytest.mark.parametrize(("argv", "kind"), LISTS, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_a_list_has_an_object_for_each_line(paths: Paths, argv: list[str], kind: str) -> None:
    words, answer = Answer(argv, paths), Answer([*argv, "--json"], paths)
    assert (answer.status, answer.err) == (words.status, words.err) == (0, "")
    assert answer.document["kind"] == kind
    assert len(answer.objects) == len(words.out.splitlines()) > 0
    assert answer.document["messages"] == []


NODE = ["-m", "node", "-T", A]
SERVER = ["-t", "st", "-p", "10.0.0.9"]
KINDS_OF_COMMANDS: list[tuple[list[str], str | None]] = [
    *LISTS,
    *((["-m", mode, "-P", "1"], kind) for mode, kind in (("node", "node"), ("iface", "iface"))),
    *((["-m", mode, "-P", "1"], "discovery") for mode in ("discovery", "discoverydb")),
    (["-m", "session", "-P", "3"], "session"),
    (["-m", "session", "-r", "7", "-P", "1"], "session"),
    (["-m", "session", "-r", "7"], "node"),
    (["-m", "session", "-r", "7", "-o", "delete"], "node"),
    (["-m", "session", "-r", "99", "-u"], "logout"),
    (["-m", "session", "-r", "99", "-R"], "rescan"),
    (["-m", "session", "-r", "99", "-s"], "statistics"),
    (["-m", "session", "-o", "new"], "login"),
    (NODE, "node"),
    ([*NODE, "-o", "show"], "node"),
    ([*NODE, "-o", "update", "-n", "node.startup", "-v", "manual"], "node"),
    ([*NODE, "-o", "update", "-n", "node.bogus", "-v", "manual"], "node"),
    ([*NODE, "-p", "10.0.0.9", "-o", "delete"], "node"),
    ([*NODE, "-p", "10.0.0.9", "-l"], "login"),
    ([*NODE, "-p", "10.0.0.9", "-u"], "logout"),
    ([*NODE, "-p", "10.0.0.9", "-R"], "rescan"),
    ([*NODE, "-p", "10.0.0.9", "-s"], "statistics"),
    ([*NODE, "-p", "10.0.0.9", "-R", "-s"], "rescan"),
    (["-m", "node", "-L", "onboot"], "login"),
    (["-m", "node", "-U", "bogus"], "logout"),
    (["-m", "iface", "-I", "eth1"], "iface"),
    (["-m", "iface", "-I", "default", "-o", "delete"], "iface"),
    (["-m", "discovery", "-p", "10.0.0.9"], "discovery"),
    (["-m", "discovery", "-p", "10.0.0.8", "-D"], "target"),
    (["-m", "discovery", "-t", "st"], "target"),
    (["-m", "discovery", "-t", "isns", "-p", "10.0.0.9"], "target"),
    (["-m", "discovery", "-t", "fw"], "target"),
    (["-m", "discoverydb", *SERVER], "discovery"),
    (["-m", "discoverydb", "-t", "fw", "-D"], "target"),
    (["-m", "fw"], "firmware"),
    (["-m", "fw", "-l"], "login"),
    (["-m", "host"], None),
    (["-k", "1"], None),
    (["-m", "bogus"], None),
    ([], None),
]
"""Command lines and what they make objects of, whether there are any or none."""


@pytest.fixture
def bare(tmp_path: Path) -> Paths:
    """A machine without a record, a session or firmware."""
    (tmp_path / "iscsi").mkdir()
    (tmp_path / "sys/firmware").mkdir(parents=True)
    names = {name: str(tmp_path / "iscsi") for name in ("config", "database")}
    others = {name: str(tmp_path / name) for name in ("etc", "proc", "run")}
    return Paths(**names, **others, sysfs=str(tmp_path / "sys"))


_words = " ".join


@pytest.mark.parametrize(("argv", "kind"), KINDS_OF_COMMANDS, ids=lambda value: _words(value) if value else "none")
def test_the_kind_is_told_with_and_without_objects(
    paths: Paths, bare: Paths, argv: list[str], kind: str | None
) -> None:
    full, empty = Answer([*argv, "--json"], paths), Answer([*argv, "--json"], bare)
    assert (full.document["kind"], empty.document["kind"]) == (kind, kind)
    assert {item["kind"] for item in full.objects} <= {kind}
    # Two interfaces are always there, and a command that says it is none is done.
    assert not empty.objects or argv[:2] == ["-m", "iface"]
    if not empty.objects and kind is not None and argv != ["-m", "iface", "-P", "1"]:
        assert empty.status != 0


def test_every_mode_is_in_that_table_with_and_without_objects(paths: Paths) -> None:
    asked = {argv[1] for argv, _ in KINDS_OF_COMMANDS if argv[:1] == ["-m"]}
    assert asked >= set(MODES)
    kinds = {kind for argv, kind in KINDS_OF_COMMANDS if kind and Answer([*argv, "--json"], paths).objects}
    assert kinds >= {"node", "session", "iface", "discovery"}
    assert set(KINDS) == {kind for _, kind in KINDS_OF_COMMANDS if kind}


def test_a_discovery_record_that_was_made_changed_or_deleted_is_an_object(bare: Paths) -> None:
    place = ["-m", "discoverydb", *SERVER, "--json"]
    change = ["-n", "discovery.sendtargets.reopen_max", "-v", "2"]
    for operation in (["new"], ["update", *change], ["delete"]):
        answer = Answer([*place, "-o", *operation], bare)
        assert (answer.status, answer.err) == (0, "")
        (item,) = answer.objects
        assert (item["type"], item["address"], item["port"]) == ("sendtargets", "10.0.0.9", 3260)
    Answer([*place, "-o", "new"], bare)
    (item,) = Answer(["-m", "discovery", "-p", "10.0.0.9", "-o", "delete", "--json"], bare).objects
    assert item["address"] == "10.0.0.9"


def test_node_objects_in_the_order_of_the_lines(paths: Paths) -> None:
    answer = Answer(["-m", "node", "--json"], paths)
    assert [(item["target"], item["portal"], item["iface"]) for item in answer.objects] == [
        (A, {"address": "10.0.0.1", "port": 3260, "tpgt": 1}, "default"),
        (A, {"address": "fd00::1", "port": 3260, "tpgt": 1}, "eth1"),
        ("iqn.2001-04.com.example:c", {"address": "10.0.0.3", "port": 3260, "tpgt": None}, "default"),
    ]


@pytest.mark.parametrize("reveal", [False, True], ids=["masked", "shown"])
def test_a_record_is_what_the_words_show(paths: Paths, reveal: bool) -> None:
    argv = ["-m", "node", "-T", A, "-p", "10.0.0.1:3260", *(["-S"] if reveal else [])]
    lines = [line for line in Answer(argv, paths).out.splitlines() if not line.startswith("#")]
    (item,) = Answer([*argv, "--json"], paths).objects
    assert [f"{name} = {value or '<empty>'}" for name, value in item["record"].items()] == lines
    assert item["record"]["node.session.auth.password"] == ("secret words" if reveal else "********")


@pytest.mark.parametrize("level", range(4))
def test_a_session_has_what_its_level_shows(paths: Paths, level: int) -> None:
    answer = Answer(["-m", "session", "-P", str(level), "--json"], paths)
    assert [item["sid"] for item in answer.objects] == [12, 7]
    for item in answer.objects:
        assert (item["interface"] is not None) is (level >= 1)
        assert (item["timeouts"] is not None) is (level >= 2)
        assert (item["devices"] is not None) is (level >= 3)
    if level == 3:
        assert [device["name"] for device in answer.objects[1]["devices"]] == ["sda"]


@pytest.mark.parametrize("reveal", [False, True], ids=["masked", "shown"])
def test_secrets_of_a_session_only_when_asked_for(paths: Paths, reveal: bool) -> None:
    answer = Answer(["-m", "session", "-P", "2", "--json", *(["-S"] if reveal else [])], paths)
    assert answer.objects[0]["chap"]["username"] == "me"
    assert answer.objects[0]["chap"]["password"] == ("secret words" if reveal else None)
    assert ("secret words" in answer.out) is reveal


def test_trees_become_lists_of_nodes(paths: Paths) -> None:
    ifaces = {item["name"]: item for item in Answer(["-m", "iface", "-P", "1", "--json"], paths).objects}
    assert [place["portal"]["address"] for place in ifaces["eth1"]["nodes"]] == ["fd00::1"]
    parts = Answer(["-m", "discovery", "-P", "1", "--json"], paths).objects
    assert {part["type"] for part in parts} >= {"sendtargets", "static"}
    (static,) = [part for part in parts if part["type"] == "static"]
    assert {place["target"] for place in static["nodes"]} >= {A}


COMMANDS: list[list[str]] = [
    *(["-m", mode] for mode in MODES),
    *(["-m", mode, "-P", "1"] for mode in MODES if mode not in ("fw",)),
    ["-m", "node", "-P", "7"],
    ["-m", "node", "-T", "iqn.2001-04.com.example:none"],
    ["-m", "node", "-T", "iqn.2001-04.com.example:none", "-o", "delete"],
    ["-m", "node", "-T", A, "-o", "update", "-n", "node.bogus", "-v", "1"],
    ["-m", "node", "-T", A, "-o", "update"],
    ["-m", "node", "-T", A, "-o", "update", "-n", "node.startup", "-v", "manual"],
    ["-m", "node", "-o", "show"],
    ["-m", "node", "-U", "bogus"],
    ["-m", "node", "-L", "onboot"],
    ["-m", "session", "-r", "99"],
    ["-m", "session", "-r", "7", "-P", "1"],
    ["-m", "iface", "-I", "none"],
    ["-m", "iface", "-I", "eth1"],
    ["-m", "iface", "-o", "new"],
    ["-m", "iface", "-I", "eth1", "-o", "update", "-n", "iface.ipaddress", "-v", "10.0.0.5"],
    ["-m", "iface", "-I", "default", "-o", "delete"],
    ["-m", "discovery", "-p", "10.0.0.9"],
    ["-m", "discovery", "-p", "10.0.0.8"],
    ["-m", "discovery", "-t", "st"],
    ["-m", "discoverydb", "-t", "st", "-p", "10.0.0.9"],
    ["-m", "discoverydb", "-t", "st", "-p", "10.0.0.8"],
    ["-m", "fw"],
    ["-m", "bogus"],
    ["-m", "node", "-Q"],
    ["-m", "session", "-r", "bogus"],
    ["--bogus"],
    [],
]


@pytest.mark.parametrize("argv", COMMANDS, ids=lambda argv: " ".join(argv) or "none")
def test_every_command_is_a_document_with_the_same_errors_and_status(paths: Paths, argv: list[str]) -> None:
    words, answer = Answer(argv, paths), Answer([*argv, "--json"], paths)
    assert (answer.status, answer.err) == (words.status, words.err)
    assert answer.document["exit_code"] == words.status
    said = [item["text"] for item in answer.document["errors"]]
    told = [line.removeprefix("iscsiadm: ").removeprefix("iSCSI ERROR: ") for line in words.err.splitlines()]
    assert [line for line in said if line != TRY_HELP] == [line for line in told if line != TRY_HELP]
    if words.out:
        assert answer.objects or answer.document["messages"] or answer.document["kind"]


def test_help_and_version_are_text_for_people(paths: Paths) -> None:
    for option in ("-h", "-V"):
        out = StringIO()
        assert main([option, "--json"], out, StringIO(), paths) == 0
        assert not out.getvalue().startswith("{")


def test_new_changed_and_deleted_records_are_objects(paths: Paths) -> None:
    place = ["-m", "node", "-T", "iqn.2001-04.com.example:d", "-p", "10.0.0.4:3260,1"]
    for operation in (["new"], ["update", "-n", "node.startup", "-v", "automatic"], ["delete"]):
        answer = Answer([*place, "--json", "-o", *operation], paths)
        assert (answer.status, answer.err) == (0, "")
        assert [item["target"] for item in answer.objects] == ["iqn.2001-04.com.example:d"]
