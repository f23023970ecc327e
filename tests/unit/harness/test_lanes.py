# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the two lanes are handed: pairs of machines never beside each other, files never divided, long ones first."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.lanes import PAIRS, Lanes, ordered, piece
from tests.qemu.harness.errors import CHECKOUT

PAIR, BOOT, UNIT = f"{PAIRS[0]}::test_a[::1]", "tests/qemu/test_boot.py::test_b", "tests/unit/test_model.py::test_c"
AT_ONCE = re.compile(r"\bdaemon_seen\b|\b(?:play|run)_at_once\(")
"""What starts a pair of machines, or waits for what one saw."""
STAND_IN = "test_admin_table.py"
"""Its pair is played by a function of its own."""


def test_pairs_are_one_piece_and_any_other_file_is_one_of_its_own() -> None:
    assert {piece(f"{file}::test[x]") for file in PAIRS} == {piece(PAIR)}
    assert piece(BOOT) == "tests/qemu/test_boot.py"
    assert len({piece(name) for name in (PAIR, BOOT, UNIT)}) == 3


@pytest.mark.parametrize("file", sorted((CHECKOUT / "tests/qemu").glob("test_*.py")), ids=lambda file: file.name)
def test_every_file_that_starts_a_pair_is_among_them(file: Path) -> None:
    pair = AT_ONCE.search(file.read_text()) and file.name != STAND_IN
    assert not pair or str(file.relative_to(CHECKOUT)) in PAIRS


@pytest.mark.parametrize("name", PAIRS)
def test_no_name_of_a_pair_is_stale(name: str) -> None:
    assert (CHECKOUT / name).is_file()


def test_what_takes_long_comes_first_and_the_rest_keeps_its_order() -> None:
    later = UNIT.replace("test_c", "test_a")
    assert ordered((name, name) for name in (UNIT, later, BOOT, PAIR)) == [PAIR, BOOT, UNIT, later]


def test_the_scheduler_takes_our_pieces() -> None:
    """It asks this method of its own; a version that does not would divide files again."""
    split = Lanes._split_scope
    assert split(object.__new__(Lanes), PAIR) == piece(PAIR)
    assert "_split_scope" in vars(Lanes.__mro__[1])
