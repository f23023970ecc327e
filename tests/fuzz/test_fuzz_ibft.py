# SPDX-License-Identifier: LGPL-2.1-or-later
"""Invariant: any bytes give a result and bounded, printable findings; nothing outside the table is read.

The details stand in :mod:`tests.fuzz.fuzz_ibft_invariant`; ``long.py ibft`` runs the same for longer.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from iscsiboot.ibft.builder import build, seal
from iscsiboot.ibft.structures import IbftTable
from tests.fuzz.fuzz_ibft_invariant import MUTATIONS, check, mutate
from tests.unit.ibft.strategies import tables
from tests.vectors.ibft import make

BUDGET = settings(max_examples=300, deadline=None)
VECTORS = sorted(path.name for path in make.HERE.glob("*.bin"))


@BUDGET
@given(st.binary(max_size=2000))
@example(b"iBFT")
@example(b"iBFT" + b"\xff" * 100)
def test_random_bytes(data: bytes) -> None:
    check(data)


@BUDGET
@given(st.binary(max_size=2000), st.integers(0, 70000))
def test_random_bytes_behind_a_good_header(body: bytes, length: int) -> None:
    header = b"iBFT" + length.to_bytes(4, "little") + b"\x01\x00" + bytes(38)
    check(header + b"\x01\x01\x12\x00\x00\x00" + body)
    check(seal(header + b"\x01\x01\x12\x00\x00\x00" + body))


@BUDGET
@given(tables, st.randoms(use_true_random=False))
def test_mutations_of_any_valid_table(table: IbftTable, rng: random.Random) -> None:
    check(mutate(build(table), rng))


@pytest.mark.parametrize("name", VECTORS)
def test_vectors_keep_the_invariant(name: str) -> None:
    check((make.HERE / name).read_bytes())


@pytest.mark.parametrize("name", [name for name in VECTORS if not name.startswith("broken-only")])
def test_every_truncation_of_every_vector(name: str) -> None:
    image = (make.HERE / name).read_bytes()
    for length in range(0, len(image), 3):
        check(image[:length], rebuild=False)
        if length > 9:
            check(seal(image[:length]), rebuild=False)


def test_every_single_offset_of_the_control_structure() -> None:
    """Each offset field takes every value up to a little beyond the table, so every overlap there is comes up."""
    image = build(make.TABLES["two-paths"])
    for field in range(54, 66, 2):
        for value in range(len(image) + 8):
            changed = bytearray(image)
            changed[field : field + 2] = value.to_bytes(2, "little")
            check(seal(changed), rebuild=False)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_a_mutation_really_changes_tables(mutation: object) -> None:
    assert callable(mutation)
    image = build(make.TABLES["two-paths"])
    changed = 0
    for seed in range(50):
        copy = bytearray(image)
        mutation(copy, random.Random(seed))
        changed += bytes(copy) != image
    assert changed > 25
