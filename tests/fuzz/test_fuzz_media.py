# SPDX-License-Identifier: LGPL-2.1-or-later
"""Invariant: whatever is on a medium, examining it ends with a value; all its texts are printable, every read lies
inside the medium, and together they stay below the budget (:mod:`tests.fuzz.media_invariant`).

A fixed budget runs here; ISCSIBOOT_FUZZ_EXAMPLES sets another one for a long run.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.budget import budget
from tests.fuzz.media_invariant import Sparse, check, pieces_in, sparse, whole_media
from tests.unit.toolkit.media_support import examined, over

BUDGET = budget(120)


SEEDS = whole_media()
damage = st.lists(
    st.tuples(
        # Where structures are, and anywhere.
        st.one_of(st.integers(0, 1100), st.integers(0, 40_000), st.integers(0, 1 << 22)),
        st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from([b"\xff" * 8, b"\0" * 32, b"\x55\xaa"])),
    ),
    max_size=12,
)


@BUDGET
@given(st.integers(0, len(SEEDS) - 1), damage, st.sampled_from([512, 2048, 4096, 65536]), st.booleans(), st.data())
def test_damaged_media(
    seed: int, hits: list[tuple[int, bytes]], block: int, optical: bool, draw: st.DataObject
) -> None:
    data = bytearray(SEEDS[seed])
    for offset, raw in hits:
        at = offset % len(data)
        data[at : at + len(raw)] = raw
    size = draw.draw(st.sampled_from([len(data), len(data) // 2, len(data) * 3, 1 << 62]))
    check(over(bytes(data)), size, block, optical)


@BUDGET
@given(st.binary(max_size=4096), st.integers(0, 1 << 70), st.sampled_from([512, 4096]))
def test_any_bytes(data: bytes, size: int, block_size: int) -> None:
    check(over(data), size, block_size, False)


@pytest.mark.parametrize("number", range(len(SEEDS)))
def test_a_medium_survives_the_form_the_long_runner_gives_it(number: int) -> None:
    data = SEEDS[number]
    disk = Sparse(list(pieces_in(sparse(data))))
    assert disk.read(0, len(data)) == data
    assert check(disk.read, len(data), 512, False) == examined(data)


def test_the_long_runner_gets_behind_a_checksum() -> None:
    """A partition that is moved counts again once its table is sealed."""
    data = bytearray(SEEDS[0])
    for entries in (2 * 512, len(data) - 33 * 512):
        data[entries + 128 + 40] ^= 1
    disk = Sparse(list(pieces_in(sparse(bytes(data)))))
    assert check(disk.read, len(data), 512, False).found.table != examined(SEEDS[0]).found.table
    disk.seal(512, len(data))
    table = check(disk.read, len(data), 512, False).found.table
    assert table is not None
    assert (table.kind, table.partitions[1].size) == ("gpt", (6000 ^ 1) * 512 - 63 * 512)
