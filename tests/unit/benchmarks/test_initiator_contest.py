# SPDX-License-Identifier: LGPL-2.1-or-later
"""The contest's rules and instruments, tried on commands whose time, memory and answers are known."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from benchmarks.initiator import contest as module
from benchmarks.initiator.contest import (
    LIBISCSI,
    OPEN_ISCSI,
    OPEN_ISCSI_RECORDS,
    OURS,
    Case,
    Run,
    commands,
    contest,
    main,
    measure,
    rotated,
)

CASE = Case(family="tgt", size=2, port=3260)
TWO = "printf 'Target:iqn.2004-01.com.example:a\\nTarget:iqn.2004-01.com.example:b\\n'"
needs_time = pytest.mark.skipif(shutil.which("time") is None, reason="GNU time is not installed (package time)")


@pytest.mark.parametrize("case", [CASE, Case(family="generated", size=100_000, port=1)], ids=str)
def test_a_case_is_its_text(case: Case) -> None:
    assert Case.parse(str(case)) == case


@pytest.mark.parametrize("text", ["", "tgt", "tgt:1", "tgt:x:1", "tgt:1:2:3"])
def test_what_is_no_case(text: str) -> None:
    with pytest.raises(ValueError):
        Case.parse(text)


def test_each_goes_first_in_its_turn() -> None:
    orders = [rotated(["a", "b", "c"], number) for number in range(4)]
    assert orders == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]
    assert rotated([], 1) == []


def test_the_commands() -> None:
    found = commands("10.0.2.2", CASE, open_iscsi=True)
    assert list(found) == [OURS, LIBISCSI, OPEN_ISCSI, OPEN_ISCSI_RECORDS]
    assert found[OURS][1:] == ["-IS", str(module.LISTER), "10.0.2.2", "3260"]
    assert module.LISTER.is_file()
    assert found[LIBISCSI] == ["iscsi-ls", "iscsi://10.0.2.2:3260"]
    assert found[OPEN_ISCSI] == [*found[OPEN_ISCSI_RECORDS], "-o", "nonpersistent"]


def test_without_open_iscsi_there_are_two() -> None:
    assert list(commands("h", CASE, open_iscsi=False)) == [OURS, LIBISCSI]


@pytest.mark.parametrize("case", [Case(family="tgt", size=1001, port=1), Case(family="generated", size=1, port=1)])
def test_records_are_kept_for_few_targets_only(case: Case) -> None:
    assert OPEN_ISCSI_RECORDS not in commands("h", case, open_iscsi=True)


@needs_time
def test_a_good_run_is_timed_and_its_memory_known() -> None:
    # 64 MiB written to, so that they are resident; what measures must not add its own memory, nor lose the child's.
    grow = "import sys, time; kept = b'x' * (64 << 20); print('iqn.1\\niqn.2')"
    large = measure(CASE, OURS, [sys.executable, "-IS", "-c", grow])
    small = measure(CASE, LIBISCSI, ["/bin/sh", "-c", TWO])
    assert (large.failure, small.failure) == ("", "")
    assert 64 << 10 < large.peak_kib < 128 << 10
    assert 0 < small.peak_kib < 6 << 10
    assert 0 < small.seconds < large.seconds + 5
    assert (small.family, small.size, small.contestant, small.listed) == ("tgt", 2, LIBISCSI, 2)


@needs_time
@pytest.mark.parametrize(
    ("script", "failure"),
    [
        ("echo iqn.1", "1 of 2 targets listed"),
        (f"{TWO}; echo iqn.3", "3 of 2 targets listed"),
        (f"{TWO}; echo 'it  broke' >&2; exit 3", "exit status 3: it broke"),
        ("yes text | head -c 5000 >&2; exit 1", "exit status 1: " + ("text " * 40)[:200]),
        ("exec sleep 60", "not finished after 0.3 s"),
    ],
    ids=["too few", "too many", "status", "long words", "too long"],
)
def test_what_does_not_count(script: str, failure: str) -> None:
    run = measure(CASE, OURS, ["/bin/sh", "-c", script], seconds=0.3)
    assert run.failure == failure


@needs_time
def test_the_end_of_a_command_is_seen_at_once() -> None:
    # A wait that looks every 50 ms would make both the same, most of the time.
    times = sorted(measure(CASE, OURS, ["/bin/sh", "-c", f"{TWO}; exec sleep 0.13"]).seconds for _ in range(5))
    assert 0.13 < times[0] < 0.15


@needs_time
def test_a_command_that_is_not_there() -> None:
    assert measure(CASE, OURS, ["/nowhere/program"]).failure.startswith("exit status 127: ")


def scripted(monkeypatch: pytest.MonkeyPatch, broken: str = "") -> list[str]:
    """Replace the running of commands; the list fills with who was run."""
    ran: list[str] = []

    def run(case: Case, contestant: str, argv: list[str]) -> Run:
        ran.append(contestant)
        failure = "broken" if contestant == broken else ""
        return Run(
            family=case.family, size=case.size, contestant=contestant, seconds=1, peak_kib=1, listed=1, failure=failure
        )

    monkeypatch.setattr(module, "measure", run)
    return ran


def test_rounds_in_turn_after_one_that_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = scripted(monkeypatch)
    runs = list(contest("h", [CASE, CASE], rounds=2, open_iscsi=False))
    assert ran == ["", "", *[OURS, LIBISCSI, LIBISCSI, OURS] * 2]
    assert [run.contestant for run in runs] == ran[2:]


def test_who_fails_is_not_run_again_in_that_case(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, broken=LIBISCSI)
    runs = list(contest("h", [CASE, CASE], rounds=3, open_iscsi=False))
    assert [run.contestant for run in runs] == [OURS, LIBISCSI, OURS, OURS] * 2
    assert [run.failure for run in runs if run.contestant == LIBISCSI] == ["broken", "broken"]


def test_the_program_prints_runs_as_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    scripted(monkeypatch)
    assert main(["--host=h", "--rounds=1", "--open-iscsi", "tgt:5:3260"]) == 0
    said = capsys.readouterr()
    runs = [Run(**json.loads(line)) for line in said.out.splitlines()]
    assert [run.contestant for run in runs] == [OURS, LIBISCSI, OPEN_ISCSI, OPEN_ISCSI_RECORDS]
    assert said.err.splitlines()[0] == "tgt 5 iscsiboot: 1.000 s, 1 KiB"


def test_what_runs_in_the_guest_needs_the_standard_library_only() -> None:
    text = Path(module.__file__).read_text()
    assert "from iscsiboot" not in text
    assert "from tests" not in text
