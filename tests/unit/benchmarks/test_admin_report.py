# SPDX-License-Identifier: LGPL-2.1-or-later
"""The administrator's benchmark: what counts, how ratios are taken, what the records and the machine look like."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.admin import report, trees
from benchmarks.admin.__main__ import arguments, describe, picture
from benchmarks.admin.contest import BARE, OURS, PEER, START, Run, Work, judged, rotated
from iscsiboot.database.store import Database
from iscsiboot.sysfs.listing import list_rows
from tests.interop.peer_admin import Program, Result

LIST = Work(name="list", argv=("-m", "node"), lines=2)


def run(contestant: str, seconds: float, *, size: int = 100, failure: str = "") -> Run:
    return Run(work="list", size=size, contestant=contestant, seconds=seconds, failure=failure)


def result(stdout: bytes, status: int = 0, stderr: bytes = b"") -> Result:
    return Result(argv=("-m", "node"), stdout=stdout, stderr=stderr, status=status, seconds=0.5, tree=None)


RUNS = [run(OURS, 0.1), run(PEER, 0.2), run(OURS, 0.3), run(PEER, 0.2), run(PEER, 9.0, size=5, failure="rc 6")]


@pytest.mark.parametrize(
    ("work", "given", "failure"),
    [
        (LIST, result(b"a\nb\n"), ""),
        (LIST, result(b"a\n"), "1 lines, not 2"),
        (LIST, result(b"a\nb\n", 6, b"iscsiadm: no\n"), "exit status 6: iscsiadm: no"),
        (START, result(b"", 21), ""),
        (START, result(b""), "exit status 0: "),
    ],
    ids=["good", "short", "failed", "nothing there", "should have failed"],
)
def test_what_counts(work: Work, given: Result, failure: str) -> None:
    assert judged(work, 2, OURS, given).failure == failure


def test_each_goes_first_in_its_turn() -> None:
    programs = [Program(name=name, directory=Path("/")) for name in "ab"]
    assert [[each.name for each in rotated(programs, number)] for number in range(3)] == [
        list("ab"),
        list("ba"),
        list("ab"),
    ]


def test_ratios_are_taken_round_by_round() -> None:
    lines = report.work_table(RUNS).splitlines()[2:]
    assert lines == ["| list | 100 | 200 ms | 200 ms | 1.00 (0.50 to 1.50) |", "| list | 5 | - | - | - |"]
    assert report.failures(RUNS) == "* open-iscsi, list, 5: rc 6\n"


def test_the_start_is_told_with_the_bare_interpreter_s() -> None:
    start = [run(OURS, 0.025, size=0), run(BARE, 0.01, size=0), run(BARE, 0.02, size=0)]
    assert report.start_table(start).splitlines()[2:] == [
        "| iscsiboot | 25.0 ms | 25.0 to 25.0 ms |",
        "| open-iscsi | - | - |",
        "| bare interpreter | 15.0 ms | 10.0 to 20.0 ms |",
    ]


def test_text_and_picture() -> None:
    figures = {"start": [run(OURS, 0.02, size=0)], "records": RUNS, "sessions": [], "discoveries": []}
    text = describe(figures, "command")
    assert "`command`" in text
    assert "* open-iscsi, list, 5: rc 6" in text
    root = ElementTree.fromstring(picture(figures))
    assert sum(element.tag.endswith("circle") for element in root.iter()) == 2


def test_records_are_what_the_database_reads(tmp_path: Path) -> None:
    found = Database(str(trees.records(tmp_path, 6))).node_keys()
    assert [(key.target, key.address, key.tpgt) for key in found][3:5] == [
        (trees.target(0), "10.64.0.4", 4),
        (trees.target(1), "10.64.0.1", 1),
    ]
    assert len(found) == 6


def test_the_machine_has_its_sessions(tmp_path: Path) -> None:
    rows = list_rows(str(trees.machine(tmp_path / "sys", 5)))
    assert sorted((row.sid, row.target) for row in rows)[-1] == (5, trees.target(1))
    assert len({(row.target, row.persistent_address) for row in rows}) == 5


@pytest.mark.parametrize("words", [["--records=a"], ["--rounds=many"], ["stray"]])
def test_bad_arguments_end_it(words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        arguments(words)
    assert caught.value.code == 2
