# SPDX-License-Identifier: LGPL-2.1-or-later
"""Node mode on a database of its own: lists, records, new, update, delete. Its words are held in tests/interop."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from iscsiboot.admin import node_mode
from iscsiboot.admin.options import Options
from iscsiboot.database.names import NodeKey, Pattern
from iscsiboot.database.store import Database
from iscsiboot.sysfs.listing import SessionRow
from tests.unit.admin.json_documents import check
from tests.unit.admin.records_kit import Machine

SECRET = "a-secret-of-the-test"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def three(machine: Machine) -> Machine:
    """Three records: two portals of one target, one of another without a tag."""
    for place in ("iqn.x:a -p 10.0.0.1,1", "iqn.x:a -p [fe80::1]:3261,2", "iqn.x:b -p storage"):
        machine.good(f"-m node -o new -T {place}")
    return machine


# Lists


def test_a_list_is_sorted_and_shows_an_unknown_tag_as_the_peer_does(three: Machine) -> None:
    assert three.good("-m node") == (
        "10.0.0.1:3260,1 iqn.x:a\n[fe80::1]:3261,2 iqn.x:a\n[storage]:3260,4294967295 iqn.x:b\n"
    )


def test_a_tree_shows_each_target_once(three: Machine) -> None:
    assert three.good("-m node -P 1") == (
        "Target: iqn.x:a\n"
        "\tPortal: 10.0.0.1:3260,1\n\t\tIface Name: default\n"
        "\tPortal: [fe80::1]:3261,2\n\t\tIface Name: default\n"
        "Target: iqn.x:b\n"
        "\tPortal: [storage]:3260,-1\n\t\tIface Name: default\n"
    )


def test_a_list_opens_no_record(three: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    (three.root / "nodes/iqn.x:a/10.0.0.1,3260,1/default").chmod(0)
    monkeypatch.setattr(Database, "read_node", None)
    assert three.good("-m node").count("\n") == 3


def test_showing_one_looks_at_no_other_target(three: Machine) -> None:
    """Another target's folder may be anything, even one that cannot be read."""
    for path in (three.root / "nodes/iqn.x:b").iterdir():
        path.write_bytes(b"\0")
    answer = three.run("-m node -T iqn.x:a -p 10.0.0.1")
    assert (answer.status, answer.err) == (0, "")
    assert answer.out.count("# BEGIN RECORD") == 1


def test_a_damaged_record_is_told_when_it_is_the_one_asked_for(three: Machine) -> None:
    (three.root / "nodes/iqn.x:a/10.0.0.1,3260,1/default").write_bytes(b"\0\0")
    answer = three.run("-m node -T iqn.x:a -p 10.0.0.1")
    assert (answer.out, answer.status) == ("", 6)
    assert "this is no record" in answer.err
    assert three.run("-m node -o show").out.count("# BEGIN RECORD") == 2


def test_a_damaged_record_can_be_deleted(three: Machine) -> None:
    (three.root / "nodes/iqn.x:a/10.0.0.1,3260,1/default").write_bytes(b"\0\0")
    three.session(1, "iqn.x:a", "10.0.0.9")
    answer = three.run("-m node -o delete -T iqn.x:a -p 10.0.0.1")
    assert answer.status == 0, answer
    assert three.good("-m node").count("\n") == 2


def test_secrets_are_shown_to_those_who_ask(three: Machine) -> None:
    three.good(f"-m node -T iqn.x:b -o update -n node.session.auth.password -v {SECRET}")
    assert SECRET not in three.good("-m node -o show")
    assert "node.session.auth.password = ********" in three.good("-m node -T iqn.x:b")
    assert f"node.session.auth.password = {SECRET}" in three.good("-m node -T iqn.x:b -S")


# New


def test_new_takes_its_settings_from_iscsid_conf(machine: Machine) -> None:
    (machine.root / "iscsid.conf").write_text("node.session.queue_depth = 64\nnode.startup = automatic\n")
    machine.good("-m node -o new -T iqn.x:a -p 10.0.0.1,1")
    record = machine.record("iqn.x:a")
    assert (record.get("node.session.queue_depth"), record.get("node.startup")) == ("64", "automatic")
    assert record.get("node.discovery_type") == "static"
    assert (machine.root / "static/iqn.x:a,10.0.0.1,3260,1,default").is_symlink()


def test_new_copies_the_interface(machine: Machine) -> None:
    machine.good("-m iface -o new -I if0 -n iface.hwaddress -v 00:11:22:33:44:55 -n iface.mtu -v 9000")
    assert machine.good("-m node -o new -T iqn.x:a -p 10.0.0.1,1 -I if0") == (
        "New iSCSI node [tcp:[hw=00:11:22:33:44:55,ip=,net_if=,iscsi_if=if0] 10.0.0.1,3260,1 iqn.x:a] added\n"
    )
    assert machine.record("iqn.x:a").get("iface.mtu") == "9000"


def test_new_again_forgets_what_was_set(three: Machine) -> None:
    three.good("-m node -o update -n node.startup -v onboot")
    assert three.good("-m node -o new -T iqn.x:a").count("added") == 2
    assert {record.get("node.startup") for _, record in three.database.nodes(Pattern(target="iqn.x:a"))} == {"manual"}
    assert three.record("iqn.x:b").get("node.startup") == "onboot"


def test_new_for_a_portal_makes_it_for_each_target_that_has_it(three: Machine) -> None:
    three.good("-m node -o new -T iqn.x:c -p 10.0.0.1,4")
    assert three.good("-m node -o new -p 10.0.0.1 -I iser").count("added") == 2
    assert [key.target for key in three.places() if key.iface == "iser"] == ["iqn.x:a", "iqn.x:c"]


@pytest.mark.parametrize("words", ["-T iqn.x:nobody", "-p 10.9.9.9", "-T iqn.x:nobody -I iser"])
def test_new_with_nothing_to_make_is_a_failure(words: str, three: Machine) -> None:
    answer = three.run(f"-m node -o new {words}")
    assert (answer.out, answer.status) == ("", 21)
    assert answer.err == "iscsiadm: Error while adding record: no objects found\n"


@pytest.mark.parametrize("name", ["../../evil", "..", ".", "a/b", "a\nb", "x" * 256])
def test_no_name_leads_out_of_the_database(name: str, machine: Machine) -> None:
    answer = machine.run(f"-m node -o new -T '{name}' -p 10.0.0.1,1")
    assert answer.status == 7
    assert answer.err.startswith("iscsiadm: database: target name ")
    assert answer.err.count("\n") == 1
    assert not [path for path in machine.root.rglob("*") if path.is_file() and not path.name.startswith(".")]


# Update


def test_everything_is_checked_before_anything_changes(three: Machine) -> None:
    before = three.good("-m node -o show")
    answer = three.run("-m node -o update -n node.startup -v automatic -n node.session.queue_depth -v many")
    assert answer.status == 7
    assert answer.err.count("unknown value format 'many'") == 3
    assert three.good("-m node -o show") == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("node.session.queue_depth", "abc"),
        ("node.session.queue_depth", "12abc"),
        ("node.session.queue_depth", "0x20"),
        ("node.session.queue_depth", "1e3"),
        ("node.session.queue_depth", "٣"),
        ("node.session.queue_depth", ""),
        ("node.session.timeo.replacement_timeout", "99999999999"),
        ("node.session.auth.username", "u" * 256),
        ("node.session.auth.username", "a\nnode.startup = onboot"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_what_would(name: str, value: str, three: Machine) -> None:
    answer = three.run(f"-m node -T iqn.x:b -o update -n {name} -v '{value}'")
    lines = answer.err.splitlines()
    assert answer.status == 7
    assert lines[0].startswith("iscsiadm: unknown value format '")
    assert f"for parameter name '{name}': it takes " in lines[0]
    assert lines[1:] == [
        f"iscsiadm: Unknown parameter {name}.",
        "iscsiadm: Could not execute operation on all records: invalid parameter",
    ]


def test_a_refused_secret_is_not_repeated(three: Machine) -> None:
    answer = three.run(f"-m node -T iqn.x:b -o update -n node.session.auth.password -v '{SECRET}\n'")
    assert answer.status == 7
    assert SECRET not in answer.err + answer.out
    assert "unknown value format for parameter name 'node.session.auth.password': it takes text" in answer.err


def test_a_number_outside_its_documented_range_is_stored_as_the_peer_stores_it(three: Machine) -> None:
    three.good("-m node -T iqn.x:b -o update -n node.session.queue_depth -v 5000")
    assert three.record("iqn.x:b").get("node.session.queue_depth") == "5000"


def test_what_may_not_do_what_was_meant_is_told_with_debug(three: Machine) -> None:
    answer = three.run("-d 1 -m node -T iqn.x:b -o update -n node.session.queue_depth -v 5000")
    assert "node.session.queue_depth: it takes a number from 1 to 1024" in answer.err


def test_the_last_of_several_values_counts(three: Machine) -> None:
    three.good("-m node -T iqn.x:b -o update -n node.startup -v onboot -n node.startup -v automatic")
    assert three.record("iqn.x:b").get("node.startup") == "automatic"


def test_the_length_of_a_password_is_taken_and_comes_to_nothing(three: Machine) -> None:
    before = (three.root / "nodes/iqn.x:b/storage,3260").read_bytes()
    three.good("-m node -T iqn.x:b -o update -n node.session.auth.password_length -v 12")
    assert (three.root / "nodes/iqn.x:b/storage,3260").read_bytes() == before


def test_all_records_change_together_or_not_at_all(three: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    before = three.good("-m node -o show")
    (three.root / "nodes/iqn.x:b/storage,3260").chmod(0o600)
    monkeypatch.setattr("iscsiboot.database.record.Record.file_text", lambda _: 1 / 0)
    assert three.run("-m node -o update -n node.startup -v automatic").status == 9
    monkeypatch.undo()
    assert three.good("-m node -o show") == before


# Delete


def test_delete_keeps_what_a_session_uses_and_removes_the_rest(three: Machine) -> None:
    three.session(1, "iqn.x:a", "10.0.0.1")
    answer = three.run("-m node -o delete")
    assert answer.status == 15
    assert three.places() == [NodeKey("iqn.x:a", "10.0.0.1", 3260, 1)]
    assert answer.err == (
        "iscsiadm: This command will remove the record [iface: default, target: iqn.x:a, portal: 10.0.0.1,3260], but a "
        "session is using it. Logout session then rerun command to remove record.\n"
        "iscsiadm: Could not execute operation on all records: session exists\n"
    )


def test_delete_leaves_no_folder_and_no_link(three: Machine) -> None:
    three.good("-m node -o delete")
    left = sorted(str(path.relative_to(three.root)) for path in three.root.rglob("*"))
    assert [name for name in left if not name.startswith(".")] == ["nodes", "static"]


# Actions on sessions


@pytest.mark.parametrize(
    ("words", "sids"),
    [
        ("-R", [1, 10, 2]),
        ("-R -T iqn.x:a", [1, 2]),
        ("-R -T iqn.x:a -p fe80:0::1", [2]),
        ("-R -I if0", [10]),
        ("-R -p 10.0.0.1", [1, 10]),
    ],
)
def test_which_sessions_are_scanned(
    words: str, sids: list[int], three: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    three.good("-m iface -o new -I if0")
    three.session(1, "iqn.x:a", "10.0.0.1")
    three.session(2, "iqn.x:a", "fe80::1")
    three.session(10, "iqn.x:b", "10.0.0.1", iface="if0")
    seen: list[int] = []

    def rescan_sessions(rows: list[SessionRow], _: object, options: Options) -> int:
        seen.extend(row.sid for row in rows)
        assert options.timeout == 7
        return 0

    monkeypatch.setattr("iscsiboot.admin.rescan.rescan_sessions", rescan_sessions)
    assert three.run(f"-m node {words} --timeout 7").status == 0
    assert seen == sids


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("-R", "No session found."),
        ("-s", "No session found."),
        ("-u", "No matching sessions found"),
        ("-l -T iqn.x:nobody", "No records found"),
        ("-T iqn.x:nobody", "No records found"),
        ("-o delete -T iqn.x:nobody", "No records found"),
        ("-o update -T iqn.x:nobody -n node.startup -v manual", "No records found"),
    ],
)
def test_nothing_found_is_21(words: str, line: str, three: Machine) -> None:
    answer = three.run(f"-m node {words}")
    assert (answer.out, answer.err, answer.status) == ("", f"iscsiadm: {line}\n", 21)


def test_login_gets_the_records_of_the_pattern(three: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[list[str], bool, bool]] = []

    def login_nodes(pairs: list[tuple[NodeKey, object]], *_: object, wait: bool, multiple: bool) -> int:
        calls.append(([key.address for key, _ in pairs], wait, multiple))
        return 24

    monkeypatch.setattr("iscsiboot.admin.login.login_nodes", login_nodes)
    assert three.run("-m node -T iqn.x:a -l -W").status == 24
    assert three.run("-m node -l").status == 24
    assert calls == [(["10.0.0.1", "fe80::1"], False, False), (["10.0.0.1", "fe80::1", "storage"], True, False)]


def test_a_session_of_session_mode_is_the_only_one(three: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """-m session -r SID comes down to node mode with a pattern that could mean several sessions."""
    three.session(1, "iqn.x:a", "10.0.0.1")
    three.session(2, "iqn.x:a", "10.0.0.1")
    seen: list[int] = []

    def logout_sessions(rows: list[SessionRow], *_: object) -> int:
        seen.extend(row.sid for row in rows)
        return 0

    monkeypatch.setattr("iscsiboot.admin.logout.logout_sessions", logout_sessions)
    assert three.run("-m session -r 2 -u").status == 0
    assert seen == [2]


# JSON, cost


def test_json_of_a_list_and_of_records(three: Machine) -> None:
    three.good(f"-m node -T iqn.x:b -o update -n node.session.auth.password -v {SECRET}")
    listed = check(three.good("-m node --json"))
    assert listed["kind"] == "node"
    assert [item["portal"]["address"] for item in listed["objects"]] == ["10.0.0.1", "fe80::1", "storage"]
    assert [item["record"] for item in listed["objects"]] == [None] * 3
    shown = check(three.good("-m node -T iqn.x:b --json"))
    (item,) = shown["objects"]
    assert item["record"]["node.startup"] == "manual"
    assert SECRET not in json.dumps(shown)
    assert SECRET in three.good("-m node -T iqn.x:b -S --json")


def test_json_of_changes_says_which_records(three: Machine) -> None:
    made = check(three.good("-m node -o new -T iqn.x:c -p 10.0.0.3,1 --json"))
    assert [item["target"] for item in made["objects"]] == ["iqn.x:c"]
    changed = check(three.good("-m node -T iqn.x:a -o update -n node.startup -v onboot --json"))
    assert [item["target"] for item in changed["objects"]] == ["iqn.x:a", "iqn.x:a"]
    three.session(1, "iqn.x:a", "10.0.0.1")
    answer = three.run("-m node -o delete --json")
    deleted = check(answer.out)
    assert answer.status == deleted["exit_code"] == 15
    assert len(deleted["objects"]) == 3
    assert len(deleted["errors"]) == 2


def test_json_of_nothing(machine: Machine) -> None:
    answer = machine.run("-m node --json")
    document = check(answer.out)
    assert (answer.status, document["objects"]) == (21, [])
    assert document["errors"][0]["text"] == "No records found"


HEAVY = ("dataclasses", "typing", "pathlib", "contextlib", "inspect", "json", "socket", "logging", "argparse")


@pytest.mark.parametrize("module", ["node_mode", "node_list", "node_change", "node_values", "matching"])
def test_nothing_heavy_is_imported_for_lists_and_changes(module: str) -> None:
    code = f"import sys; sys.path.insert(0, {str(Path(node_mode.__file__).parents[2])!r}); before = set(sys.modules)\n"
    code += f"import iscsiboot.admin.{module}; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert not set(HEAVY) & set(done.stdout.split())
