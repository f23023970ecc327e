# SPDX-License-Identifier: LGPL-2.1-or-later
"""Invariant: :mod:`tests.fuzz.database_invariant`, for a fixed number of mutated inputs of each parser.

``python3 -m tests.fuzz.long record --inputs 1000000`` is the long form.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.fuzz import database_invariant, mutations

ROWS = {
    "record": (database_invariant.record_file, database_invariant.records()),
    "configuration": (database_invariant.configuration, database_invariant.configurations()),
    "place": (database_invariant.place_name, database_invariant.place_names()),
}


@pytest.mark.parametrize(("check", "corpus"), ROWS.values(), ids=ROWS)
def test_mutated_inputs(check: Callable[[bytes], str], corpus: list[bytes]) -> None:
    source = random.Random(4)
    words = {check(seed) for seed in corpus}
    words |= {check(mutations.mutate(corpus, source)) for _ in range(400)}
    assert len(words) == 2
