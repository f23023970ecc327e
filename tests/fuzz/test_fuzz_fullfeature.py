# SPDX-License-Identifier: LGPL-2.1-or-later
"""Invariant: that of tests/fuzz/session_invariant.py for any play, and any PDU gives an event or a SessionError.

A fixed budget runs here; ISCSIBOOT_FUZZ_EXAMPLES sets another one for a long run.
"""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.initiator.errors import SessionError
from iscsiboot.initiator.fullfeature_states import Phase
from iscsiboot.initiator.stream import RawPdu
from tests.fuzz.budget import budget
from tests.fuzz.session_invariant import corpus, play
from tests.unit.initiator.fullfeature_kit import Session, pattern

BUDGET = budget(150)


@BUDGET
@given(st.binary(max_size=1500))
def test_any_play(script: bytes) -> None:
    play(script)


@BUDGET
@given(st.integers(0, 23), st.lists(st.tuples(st.integers(0, 599), st.integers(0, 255)), max_size=30))
def test_a_play_that_gets_somewhere(number: int, changes: list[tuple[int, int]]) -> None:
    changed = bytearray(corpus()[number])
    for at, value in changes:
        changed[at % len(changed)] = value
    play(bytes(changed))


def test_the_corpus_is_whole() -> None:
    assert len(corpus()) == 24


def test_plays_of_chance_reach_both_ends() -> None:
    """The fuzzer is worth something only when sessions live long enough, and when they also end."""
    chance = random.Random(7)
    ends = Counter(play(chance.randbytes(200)) for _ in range(300))
    assert set(ends) == {"accepted", "refused"}
    assert min(ends.values()) > 30, ends


@BUDGET
@given(st.lists(st.tuples(st.binary(min_size=48, max_size=48), st.binary(max_size=100)), min_size=1, max_size=5))
def test_random_bytes(pdus: list[tuple[bytes, bytes]]) -> None:
    session = Session()
    session.read(100)
    session.write(pattern(2000))
    session.sent()
    error: SessionError | None = None
    for bhs, data in pdus:
        try:
            session.machine.receive(RawPdu(bhs, b"", data), 0)
        except SessionError as caught:
            error = caught
            break
    assert (error is not None) == (session.phase() is Phase.FAILED)
    assert error is None or error.line().isprintable()
