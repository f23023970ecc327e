# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every row of the long runner's table for a moment, and the runner itself: what it says, leaves, and stops at."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz import long
from tests.fuzz.mutations import MUTATIONS, mutate
from tests.fuzz.targets import TARGETS, Target
from tests.fuzz.wire_invariants import ACCEPTED, REFUSED


@pytest.mark.parametrize("name", TARGETS)
def test_a_fixed_budget_of_each_row(name: str) -> None:
    figures = long.run(name, TARGETS[name], inputs=600, seed=1, progress=False)
    assert figures.inputs == figures.outcomes.total() == 600
    # Not everything may end in one drawer, or the mutations test nothing.
    assert figures.outcomes[ACCEPTED] > 30
    assert figures.outcomes[REFUSED] > 30


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_of_each_row_is_valid(name: str) -> None:
    target = TARGETS[name]
    outcomes = [target.run(random.Random(1), data) for data in target.corpus()]
    assert outcomes.count(ACCEPTED) * 2 >= len(outcomes)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_a_mutation_really_changes_inputs(mutation: Callable[[bytearray, random.Random], None]) -> None:
    original = bytes(range(64))
    changed = set()
    for seed in range(100):
        copy = bytearray(original)
        mutation(copy, random.Random(seed))
        changed.add(bytes(copy))
    assert len(changed - {original}) > 50


def test_the_same_seed_gives_the_same_inputs() -> None:
    corpus = [bytes(range(48)), b"text=1\0"]
    runs = [[mutate(corpus, rng) for _ in range(200)] for rng in (random.Random(5), random.Random(5), random.Random(6))]
    assert runs[0] == runs[1] != runs[2]
    assert set(runs[0]) & set(corpus), "some inputs stay valid"


def fragile(_: random.Random, data: bytes) -> str:
    assert b"\xff" not in data, "the invariant"
    return ACCEPTED


def test_a_failure_leaves_its_input_and_can_be_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(TARGETS, "fragile", Target(fragile, lambda: [bytes(40)]))
    assert long.main(["fragile", "--inputs", "5000", "--save", str(tmp_path)]) == 1
    (saved,) = tmp_path.iterdir()
    told = capsys.readouterr()
    assert not told.out
    assert "fragile: input " in told.err
    assert "the invariant" in told.err
    assert str(saved) in told.err
    assert saved.read_text().split()[2] in told.err
    with pytest.raises(AssertionError, match="the invariant"):
        long.main(["--replay", str(saved)])


def test_a_corpus_that_breaks_the_invariant_is_a_failure_too() -> None:
    with pytest.raises(long.Broken, match="input 1 of seed -1"):
        long.run("fragile", Target(fragile, lambda: [b"good", b"\xff"]), inputs=0, seed=1)


def test_a_replay_of_a_good_input_says_what_became_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "input"
    file.write_text(f"pdu 1/1 {bytes(48).hex()}\n")
    assert long.main(["--replay", str(file)]) == 0
    file.write_text("pdu 1/1 \n")
    assert long.main(["--replay", str(file)]) == 0
    assert capsys.readouterr().out.split() == [ACCEPTED, REFUSED]


def test_a_loop_without_progress_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long, "INPUT_SECONDS", 0.05)

    def forever(_: random.Random, data: bytes) -> str:
        while data:
            pass
        return REFUSED

    handler = signal.getsignal(signal.SIGVTALRM)
    with pytest.raises(long.Broken) as caught:
        long.run("forever", Target(forever, lambda: [b"", b"x"]), inputs=1, seed=1)
    assert isinstance(caught.value.__cause__, TimeoutError)
    assert signal.getsignal(signal.SIGVTALRM) is handler
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def test_memory_that_grows_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = iter(range(0, 1 << 40, 40 << 20))
    monkeypatch.setattr(long, "_memory", lambda: next(sizes))
    with pytest.raises(long.Broken) as caught:
        long.run("hoarder", Target(lambda rng, data: ACCEPTED, lambda: [b"x"]), inputs=1000, seed=1)
    assert isinstance(caught.value.__cause__, MemoryError)


def test_what_is_said_at_the_end(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(TARGETS):
        monkeypatch.setitem(TARGETS, name, TARGETS["number"])
    assert long.main(["all", "--inputs", "300", "--seed", "9"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == list(TARGETS)
    assert all(": 300 inputs in " in line and " refused; peak memory " in line for line in lines)
    assert all(line.endswith("; 0 failures") for line in lines)
