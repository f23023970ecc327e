# SPDX-License-Identifier: LGPL-2.1-or-later
"""Invariant: whatever a target answers to a SCSI command, the conversation ends in a value or one ScsiError, after a
bounded number of commands; texts are printable and one line (:mod:`tests.fuzz.scsi_invariant`).

A fixed budget runs here; ISCSIBOOT_FUZZ_EXAMPLES sets another one for a long run.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.initiator.session_events import ScsiResult
from tests.fuzz.budget import budget
from tests.fuzz.scsi_invariant import CONVERSATIONS, answers_in, converse, encode, sense_data

BUDGET = budget(200)

lengths = st.sampled_from([0, 1, 4, 8, 16, 31, 255, 0xFFFF])
pages = st.builds(
    lambda first, code, length, body: bytes([first, code]) + length.to_bytes(2, "big") + body,
    st.integers(0, 255),
    st.sampled_from([0, 0x80, 0x83]),
    lengths,
    st.one_of(st.binary(max_size=60), st.just(bytes([0x00, 0x80, 0x83]))),
)
lists = st.builds(
    lambda length, body: length.to_bytes(4, "big") + bytes(4) + body,
    st.one_of(lengths, st.integers(0, 0xFFFFFFFF)),
    st.binary(max_size=200),
)
data = st.one_of(st.binary(max_size=64), pages, lists)
senses = st.one_of(
    st.binary(max_size=30),
    st.builds(lambda key, asc: bytes([0x72, key, asc, 0]), st.integers(0, 255), st.integers(0, 255)),
)
answers = st.builds(
    ScsiResult, status=st.sampled_from([0, 0, 0, 0, 2, 2, 4, 8, 0x18, 0x28, 0x40, 0x77]), data=data, sense=senses
)


@BUDGET
@given(st.lists(answers, min_size=1, max_size=6), st.sampled_from(sorted(CONVERSATIONS)))
def test_any_target(given_: list[ScsiResult], what: str) -> None:
    converse(what, given_)


@BUDGET
@given(st.binary(max_size=260))
def test_any_sense_data(raw: bytes) -> None:
    sense_data(raw)


@BUDGET
@given(st.lists(answers, min_size=1, max_size=6), st.sampled_from(sorted(CONVERSATIONS)))
def test_answers_survive_the_form_the_long_runner_gives_them(given_: list[ScsiResult], what: str) -> None:
    assert answers_in(encode(what, given_)) == (what, given_)
