# SPDX-License-Identifier: LGPL-2.1-or-later
"""Invariant: a stream gives PDUs or a ProtocolViolation, the same whole and in pieces, progress in every loop, memory
bounded by the limits: never more than the bytes of one PDU is kept.

A fixed budget runs here; ISCSIBOOT_FUZZ_EXAMPLES sets another one, and ``python3 -m tests.fuzz.long stream`` runs for
as long as wanted.
"""

from __future__ import annotations

import random
import tracemalloc

from hypothesis import example, given
from hypothesis import strategies as st

from iscsiboot.initiator.errors import ProtocolViolation
from iscsiboot.initiator.pdu.header import BHS_LENGTH
from iscsiboot.initiator.pdu.scsi import DataIn
from iscsiboot.initiator.stream import StreamDecoder, frame
from tests.fuzz.budget import budget
from tests.fuzz.wire_invariants import ACCEPTED, STREAM_LIMIT, stream

BUDGET = budget(300)
chance = st.randoms(use_true_random=False)
digests = st.integers(0, 3)
parts = st.lists(st.tuples(st.binary(max_size=STREAM_LIMIT), st.integers(0, 40)), min_size=1, max_size=4)


def wire_of(rules: int, segments: list[tuple[bytes, int]]) -> bytes:
    wire = b""
    for data, words in segments:
        bhs = DataIn(itt=1, data_length=len(data), ahs_length=4 * words).encode()
        wire += frame(bhs, data, bytes(4 * words), header_digest=bool(rules & 1), data_digest=bool(rules & 2))
    return bytes([rules]) + wire


@BUDGET
@given(st.binary(max_size=400), chance)
@example(b"", random.Random(1))
@example(b"\3" + b"\xff" * 400, random.Random(1))
def test_random_bytes(data: bytes, rng: random.Random) -> None:
    stream(data, rng)


@BUDGET
@given(digests, parts, chance)
def test_good_streams_are_taken(rules: int, segments: list[tuple[bytes, int]], rng: random.Random) -> None:
    assert stream(wire_of(rules, segments), rng) == ACCEPTED


@BUDGET
@given(digests, parts, st.lists(st.tuples(st.integers(0, 1 << 14), st.integers(0, 255)), max_size=4), chance)
def test_streams_with_wrong_bytes(
    rules: int, segments: list[tuple[bytes, int]], changes: list[tuple[int, int]], rng: random.Random
) -> None:
    wire = bytearray(wire_of(rules, segments))
    for at, value in changes:
        wire[1 + at % (len(wire) - 1)] = value
    stream(bytes(wire), rng)


@BUDGET
@given(digests, st.binary(min_size=BHS_LENGTH, max_size=BHS_LENGTH), st.integers(0, STREAM_LIMIT))
def test_memory_follows_what_came_and_not_what_was_announced(rules: int, bhs: bytes, limit: int) -> None:
    decoder = StreamDecoder(data_limit=limit, header_digest=bool(rules & 1), data_digest=bool(rules & 2))
    tracemalloc.start()
    try:
        decoder.feed(bhs)
        decoder.next_pdu()
    except ProtocolViolation:
        assert decoder.pending == 0
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 16384
    assert decoder.pending <= BHS_LENGTH
