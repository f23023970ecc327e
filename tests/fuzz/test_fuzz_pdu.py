# SPDX-License-Identifier: LGPL-2.1-or-later
"""Invariant: a header or its additional ones give a value or a ProtocolViolation, progress in every loop, memory
bounded by the limits; a value that came out goes in again.

A fixed budget runs here; ISCSIBOOT_FUZZ_EXAMPLES sets another one, and ``python3 -m tests.fuzz.long pdu`` (or ``ahs``)
runs for as long as wanted.
"""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from iscsiboot.initiator.pdu.ahs import Ahs, encode_list
from iscsiboot.initiator.pdu.header import Opcode
from tests.fuzz.budget import budget
from tests.fuzz.wire_invariants import ACCEPTED, REFUSED, ahs, pdu
from tests.unit.initiator.pdu_figures import FIGURES, Figure

BUDGET = budget(300)


@BUDGET
@given(st.binary(max_size=100))
@example(b"")
@example(bytes(47))
@example(bytes(49))
def test_random_bytes(data: bytes) -> None:
    outcome = pdu(data)
    assert outcome == REFUSED or len(data) == 48


@BUDGET
@given(st.sampled_from(list(Opcode)), st.binary(min_size=47, max_size=47))
def test_a_known_opcode_with_anything_behind_it(opcode: Opcode, rest: bytes) -> None:
    """Nothing in 48 bytes of a known kind is refused here: which values are legal is not the codec's business."""
    assert pdu(bytes([opcode]) + rest) == ACCEPTED


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_every_value_of_every_byte(figure: Figure) -> None:
    for at in range(48):
        for value in range(256):
            pdu(figure.bhs[:at] + bytes([value]) + figure.bhs[at + 1 :])


@BUDGET
@given(st.binary(max_size=1100))
@example(b"\xff\xff\x01\x00" * 255)
@example(bytes(1020))
@example(bytes(1024))
def test_random_additional_headers(data: bytes) -> None:
    ahs(data)


@BUDGET
@given(st.lists(st.builds(Ahs, st.integers(0, 63), st.binary(max_size=40)), max_size=12), st.data())
def test_additional_headers_with_lying_lengths(headers: list[Ahs], draw: st.DataObject) -> None:
    wire = bytearray(encode_list(headers))
    assert ahs(bytes(wire)) == ACCEPTED
    for at in draw.draw(st.lists(st.integers(0, max(0, len(wire) - 1)), max_size=4)):
        wire[at : at + 1] = bytes([draw.draw(st.integers(0, 255))])
    ahs(bytes(wire))
