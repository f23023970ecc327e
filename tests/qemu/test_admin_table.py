# SPDX-License-Identifier: LGPL-2.1-or-later
"""The comparison itself, without a guest: a difference is found, named once, and only its own row explains it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.qemu.admin import document, guest
from tests.qemu.admin.compare import Difference, differences, in_order
from tests.qemu.admin.differences import ROWS, Row, Why, judge
from tests.qemu.admin.guest import HASH_SEED, SCRIPT, Result, read
from tests.qemu.admin.identity import objects
from tests.qemu.admin.native import joined
from tests.qemu.admin.steps import BadScript, Kind, Step, parse
from tests.qemu.harness.cache import Cache
from tests.qemu.harness.errors import HarnessError

STEP = Step("one", 3, Kind.COMMAND, "iscsiadm -m session")
STATS = Step("one", 4, Kind.COMMAND, "iscsiadm -m session -s")
LISTING = Step("one", 5, Kind.COMMAND, "iscsiadm -m discovery -P 1")


def found(step: Step, peer: Result | None, ours: Result | None) -> list[Difference]:
    left = {} if peer is None else {step.line: peer}
    right = {} if ours is None else {step.line: ours}
    return list(differences([step], left, right))


# -- the script -------------------------------------------------------------------------------------------------------


def test_the_script_parses_and_covers_every_mode() -> None:
    steps = parse(SCRIPT.read_text())
    modes = {match[1] for step in steps if (match := re.search(r"iscsiadm -m (\w+)", step.words))}
    assert {"discovery", "discoverydb", "node", "session", "iface", "fw", "host"} <= modes
    assert sum(step.compared for step in steps) > 400


def test_a_script_line_becomes_a_step() -> None:
    steps = parse("# no\n\n== one\niscsiadm -m node\n% true\n$ ls | wc\n@ sessions 2\n")
    assert [(step.kind, step.words, step.line, step.compared) for step in steps] == [
        (Kind.COMMAND, "iscsiadm -m node", 4, True),
        (Kind.PREPARE, "true", 5, False),
        (Kind.SHELL, "ls | wc", 6, True),
        (Kind.ACTION, "sessions 2", 7, False),
    ]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("iscsiadm -m node\n", id="before-any-section"),
        pytest.param("==\n", id="no-title"),
        pytest.param("== one\n== one\n", id="title-twice"),
        pytest.param("== one\nls\n", id="no-mark"),
        pytest.param("== one\n@ dance\n", id="no-such-action"),
        pytest.param("== one\n@\n", id="no-action"),
    ],
)
def test_a_bad_script_is_refused(text: str) -> None:
    with pytest.raises(BadScript):
        parse(text)


def test_every_section_is_played_once_in_one_of_two_guests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And each guest has a log of its own."""
    played: dict[str, list[str]] = {}

    def play(cache: Cache, script: str, words: list[str], *, log: Path, **_: object) -> dict[str, dict[int, Result]]:
        rounds, sections = words[: words.index("--")], words[words.index("--") + 1 :]
        played[log.name] = sections
        return {name: {len(section): Result(words=section) for section in sections} for name in rounds}

    monkeypatch.setattr(guest, "base", lambda *_: None)
    monkeypatch.setattr(guest, "play", play)
    sections = ["a", "a b", "a b c"]
    found = guest.play_at_once(
        Cache(tmp_path, print), "", ["peer", "ours"], sections, seconds=1, log=tmp_path / "x.console", tell=print
    )
    assert played == {"x-1.console": ["a", "a_b_c"], "x-2.console": ["a_b"]}
    assert {name: sorted(transcript) for name, transcript in found.items()} == {"peer": [1, 3, 5], "ours": [1, 3, 5]}


def test_both_parts_of_the_script_are_one_transcript() -> None:
    natively = {"peer": {1: Result()}, "control": {1: Result(words="c")}}
    whole = joined(natively, {"peer": {2: Result(words="g")}})
    assert whole == {"peer": {1: Result(), 2: Result(words="g")}, "control": {1: Result(words="c")}}


# -- the transcripts --------------------------------------------------------------------------------------------------


def test_a_transcript_is_read_back() -> None:
    data = b'{"round": "peer", "line": 3, "words": "x", "stdout": "a\\n"}\n{"end": "n"}\n'
    assert read(data, "n") == {"peer": {3: Result(words="x", stdout="a\n")}}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b'{"round": "peer", "line": 3}\n', id="no-end"),
        pytest.param(b'{"end": "other"}\n', id="another-run"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_half_a_transcript_is_none(data: bytes) -> None:
    with pytest.raises(HarnessError):
        read(data, "n")


# -- the comparison ---------------------------------------------------------------------------------------------------

BASE = Result(stdout="a\nb\n", stderr="", status=0, tree={"nodes/x": ["file", "0o600", "k = 1\n"]})


def test_equal_results_have_no_difference() -> None:
    assert found(STEP, BASE, BASE) == []


@pytest.mark.parametrize(
    ("ours", "stream"),
    [
        pytest.param(Result(stdout="a\nc\n", tree=BASE.tree), "stdout", id="word"),
        pytest.param(Result(stdout="a\nb", tree=BASE.tree), "stdout", id="last-newline"),
        pytest.param(Result(stdout="b\na\n", tree=BASE.tree), "stdout", id="order"),
        pytest.param(Result(stdout="a\nb\n", stderr="w\n", tree=BASE.tree), "stderr", id="stderr"),
        pytest.param(Result(stdout="a\nb\n", status=7, tree=BASE.tree), "status", id="status"),
        pytest.param(Result(stdout="a\nb\n"), "tree", id="not-written"),
        pytest.param(Result(stdout="a\nb\n", tree={"nodes/x": ["file", "0o644", "k = 1\n"]}), "tree", id="mode"),
        pytest.param(Result(stdout="a\nb\n", tree={"nodes/x": ["file", "0o600", "k = 2\n"]}), "tree", id="content"),
        pytest.param(Result(stdout="a\nb\n", tree={"nodes/x": None}), "tree", id="removed"),
        pytest.param(Result(failed="preparation"), "section", id="not-run"),
    ],
)
def test_every_kind_of_difference_is_found(ours: Result, stream: str) -> None:
    assert {difference.stream for difference in found(STEP, BASE, ours)} == {stream}


def test_a_step_only_one_ran_is_one_difference() -> None:
    assert [difference.stream for difference in found(STEP, BASE, None)] == ["section"]
    assert [difference.stream for difference in found(STEP, None, BASE)] == ["section"]
    assert found(STEP, None, None) == []


def test_counters_of_statistics_are_not_compared_but_their_names_are() -> None:
    peer = Result(stdout="iSCSI SNMP:\n\ttxdata_octets: 48\n")
    assert found(STATS, peer, Result(stdout="iSCSI SNMP:\n\ttxdata_octets: 96\n")) == []
    assert found(STATS, peer, Result(stdout="iSCSI SNMP:\n\trxdata_octets: 48\n"))
    assert found(STEP, peer, Result(stdout="iSCSI SNMP:\n\ttxdata_octets: 96\n"))


def test_objects_may_stand_in_another_order_but_not_differ() -> None:
    peer = "HEAD:\nTarget: b\n\tPortal: 1\nTarget: a\n\tPortal: 2\nOTHER:\nTarget: c\n"
    assert found(LISTING, Result(stdout=peer), Result(stdout="\n".join(sorted_blocks(peer)) + "\n")) == []
    swapped = peer.replace("Portal: 1", "Portal: 3")
    assert found(LISTING, Result(stdout=peer), Result(stdout=swapped))
    moved = "HEAD:\nTarget: b\n\tPortal: 1\nOTHER:\nTarget: a\n\tPortal: 2\nTarget: c\n"
    assert found(LISTING, Result(stdout=peer), Result(stdout=moved))
    assert found(STEP, Result(stdout=peer), Result(stdout="\n".join(sorted_blocks(peer)) + "\n"))


def sorted_blocks(text: str) -> list[str]:
    lines = in_order(text.splitlines())
    assert lines == ["HEAD:", "Target: a", "\tPortal: 2", "Target: b", "\tPortal: 1", "OTHER:", "Target: c"]
    return lines


# -- the table --------------------------------------------------------------------------------------------------------

DIFFERENCE = Difference(STEP, "stderr", ("iscsiadm: old words",), ("iscsiadm: new words",))


def row(**changes: str) -> Row:
    texts = {"command": r"^one: iscsiadm -m session$", "stream": "stderr", "peer": "iscsiadm: old words"}
    return Row(name="row", why=Why.BUG, reason="R.", **{**texts, "ours": "iscsiadm: new words", **changes})


def test_a_row_explains_its_difference_and_is_used() -> None:
    judgement = judge([DIFFERENCE], (row(),))
    assert (judgement.unexplained, judgement.unused, judgement.explained) == ((), (), 1)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"command": "two:"}, id="another-section"),
        pytest.param({"stream": "stdout"}, id="another-stream"),
        pytest.param({"peer": "iscsiadm: old"}, id="part-of-the-peer's"),
        pytest.param({"peer": ""}, id="nothing-of-the-peer's"),
        pytest.param({"ours": "iscsiadm: new"}, id="part-of-ours"),
        pytest.param({"ours": ""}, id="nothing-of-ours"),
    ],
)
def test_a_row_for_something_else_does_not_explain_and_is_unused(changes: dict[str, str]) -> None:
    judgement = judge([DIFFERENCE], (row(**changes),))
    assert judgement.unexplained == (DIFFERENCE,)
    assert len(judgement.unused) == 1


def test_rows_have_names_of_their_own_and_whole_sentences() -> None:
    assert len({entry.name for entry in ROWS}) == len(ROWS)
    for entry in ROWS:
        assert entry.reason.endswith((".", ")")), entry.name
        assert entry.command or entry.peer or entry.ours, entry.name


def test_the_document_is_made_from_the_table() -> None:
    """``python3 -m tests.qemu.admin.document >docs/compatibility.md``."""
    assert document.DOCUMENT.read_text() == document.text()
    assert all(entry.name in document.text() for entry in ROWS)


TARGETS = ("chap", "closed", "empty", "many", "mutual", "none", "one", "two")
DIRECTORIES = (
    tuple(f"iqn.2026-01.org.example:{name}" for name in TARGETS),
    ("iqn.2026-01.org.example:archive", "iqn.2026-01.org.example:guarded"),
    ("10.1.0.1,3260,1", "10.1.0.1,3269,1", "10.1.0.2,3260,1", "fd00:15c5::1,3260,1", "no-such-host.invalid,3260,1"),
    ("10.1.0.1,3260", "10.1.0.2,3260", "fd00:15c5::1,3260"),
    ("default", "first", "second"),
)
"""Names that lie in one directory of the database while something goes through it."""


@pytest.mark.skipif(shutil.which("debugfs") is None, reason="needs debugfs (e2fsprogs)")
@pytest.mark.parametrize("names", DIRECTORIES, ids=lambda names: names[0])
def test_the_database_lists_its_names_in_order(names: tuple[str, ...]) -> None:
    """Why the seed of its file system is what it is. What open-iscsi does in the order of the directory, it does by
    name there, as ours does everywhere; session numbers could not be compared otherwise.
    """
    hashes = [directory_hash(name) for name in names]
    assert hashes == sorted(hashes)
    assert sorted(names) == list(names)


def directory_hash(name: str) -> int:
    """Where ext4 with our seed puts a name; readdir goes through a directory by it."""
    asked = f"dx_hash -h half_md4 -s {HASH_SEED} {name}"
    said = subprocess.run(["debugfs", "-R", asked], capture_output=True, text=True, check=True).stdout
    return int(said.split()[4], 16)


# -- session numbers --------------------------------------------------------------------------------------------------

ONE = ["iqn.x:one", "10.1.0.1", "3260", "default", "0", {"sda": "1"}]
TWO = ["iqn.x:two", "10.1.0.1", "3260", "default", "1", {"sdb": "1"}]
TREE = """\
Target: iqn.x:one (non-flash)
\tCurrent Portal: 10.1.0.1:3260,1
\tPersistent Portal: 10.1.0.1:3260,1
\t\tSID: {one}
\t\tscsi{first} Channel 00 Id 0 Lun: 1
\t\t\tAttached scsi disk {disk}\t\tState: running
"""
OTHER = """\
Target: iqn.x:two (non-flash)
\tCurrent Portal: 10.1.0.1:3260,1
\tPersistent Portal: 10.1.0.1:3260,1
\t\tSID: {two}
\t\tscsi{second} Channel 00 Id 0 Lun: 1
"""


def numbered(section: str, *, swapped: bool, disk: str = "sda", said: str = "") -> tuple[Step, Result]:
    """Both sessions, with their numbers as they came or swapped."""
    step = Step(section, 3, Kind.COMMAND, "iscsiadm -m session -P 3")
    numbers = (
        {"one": 2, "first": 1, "two": 1, "second": 0} if swapped else {"one": 1, "first": 0, "two": 2, "second": 1}
    )
    parts = [TREE.format(disk=disk, **numbers), OTHER.format(**numbers)]
    text = "".join(reversed(parts) if swapped else parts)
    one: list[object] = [*ONE[:4], str(numbers["first"]), {disk: "1"}]
    two: list[object] = [*TWO[:4], str(numbers["second"]), {"sdz": "1"}]
    return step, Result(stdout=said or text, sessions={str(numbers["one"]): one, str(numbers["two"]): two})


def test_numbers_given_in_another_order_are_no_difference_where_logins_go_together() -> None:
    step, peer = numbered("login and logout", swapped=False)
    assert found(step, peer, numbered("login and logout", swapped=True)[1]) == []
    assert found(step, peer, numbered("login and logout", swapped=False, disk="sdc")[1]) == []


def test_numbers_given_in_another_order_are_a_difference_elsewhere() -> None:
    step, peer = numbered("one session", swapped=False)
    assert found(step, peer, numbered("one session", swapped=True)[1])
    assert found(step, peer, numbered("one session", swapped=False, disk="sdc")[1]) == []


def test_a_session_shown_with_the_number_of_another_is_a_difference() -> None:
    step, peer = numbered("login and logout", swapped=False)
    wrong = peer.stdout.replace("SID: 1", "SID: 7").replace("SID: 2", "SID: 1").replace("SID: 7", "SID: 2")
    assert found(step, peer, numbered("login and logout", swapped=False, said=wrong)[1])
    wrong = peer.stdout.replace("sda", "sdz")
    assert found(step, peer, numbered("login and logout", swapped=False, said=wrong)[1])


def test_a_tree_gets_back_the_targets_and_portals_it_left_away() -> None:
    lines = ["Target: a", "\tCurrent Portal: p", "\tPersistent Portal: q", "\t\tSID: 1", "", "\t\tSID: 2"]
    lines += ["\tCurrent Portal: r", "\tPersistent Portal: r", "\t\tSID: 3", "Target: b", "\tPortal: s"]
    head = ["Target: a", "\tCurrent Portal: p", "\tPersistent Portal: q"]
    assert list(objects(lines)) == [
        [*head, "\t\tSID: 1"],
        [*head, "\t\tSID: 2"],
        ["Target: a", "\tCurrent Portal: r", "\tPersistent Portal: r", "\t\tSID: 3"],
        ["Target: b", "\tPortal: s"],
    ]


def test_the_error_of_a_login_stays_with_its_login() -> None:
    lines = ["iscsiadm: Could not login to [b].", "iscsiadm: initiator reported error (8 - x)", "iscsiadm: Could not"]
    assert list(objects(lines)) == [lines[:2], lines[2:]]
