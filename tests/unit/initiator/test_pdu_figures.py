# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every PDU, both ways, against the figures of RFC 7143 chapter 11; reserved bits, ranges and unknown opcodes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.initiator.errors import ProtocolViolation
from iscsiboot.initiator.pdu.header import AHS_LENGTH_MAX, DATA_LENGTH_MAX, Bits, Field, Number, Opcode, Pdu, Raw
from iscsiboot.initiator.pdu.registry import INITIATOR_PDUS, TARGET_PDUS, decode
from iscsiboot.initiator.pdu.reject import REJECT_REASONS, Reject
from tests.unit.initiator.pdu_figures import FIGURES, INITIATOR_FIGURES, TARGET_FIGURES, Figure

each_figure = pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
masks = st.binary(min_size=48, max_size=48)


def flip(bhs: bytes, mask: bytes) -> bytes:
    return bytes(byte ^ bits for byte, bits in zip(bhs, mask, strict=True))


def registry_of(figure: Figure) -> dict[int, type[Pdu]]:
    return INITIATOR_PDUS if figure in INITIATOR_FIGURES else TARGET_PDUS


def test_every_opcode_has_a_figure_and_a_direction() -> None:
    """The opcodes of section 11.2.1.2, typed in once more."""
    sent = {0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x10}
    received = {0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x31, 0x32, 0x3F}
    assert set(INITIATOR_PDUS) == {figure.bhs[0] & 0x3F for figure in INITIATOR_FIGURES} == sent
    assert set(TARGET_PDUS) == {figure.bhs[0] & 0x3F for figure in TARGET_FIGURES} == received
    assert set(Opcode) == sent | received
    assert all(opcode == kind.OPCODE for opcode, kind in (INITIATOR_PDUS | TARGET_PDUS).items())


@each_figure
def test_encode_and_decode_agree_with_the_figure(figure: Figure) -> None:
    assert figure.value.encode().hex(" ") == figure.bhs.hex(" ")
    assert type(figure.value).decode(figure.bhs) == figure.value
    assert decode(figure.bhs, registry_of(figure)) == figure.value


@each_figure
def test_each_reserved_bit_is_ignored_and_no_other(figure: Figure) -> None:
    """Bit by bit: a reserved one changes nothing, every other one changes the value (or makes it another PDU)."""
    for bit in range(8 * 48):
        mask = (1 << 8 * 48 - 1 - bit).to_bytes(48, "big")
        changed = flip(figure.bhs, mask)
        if changed[0] & 0x3F != figure.value.OPCODE:
            with pytest.raises(ProtocolViolation, match="was expected"):
                type(figure.value).decode(changed)
            continue
        reserved = bool(figure.ignored[bit // 8] & 0x80 >> bit % 8)
        assert (type(figure.value).decode(changed) == figure.value) is reserved, f"byte {bit // 8} bit {bit % 8}"


@each_figure
@given(bhs=masks, noise=masks)
def test_any_header_survives_a_round_trip_whatever_is_reserved(figure: Figure, bhs: bytes, noise: bytes) -> None:
    kind = type(figure.value)
    bhs = bytes([figure.bhs[0] & 0x3F | bhs[0] & 0xC0]) + bhs[1:]
    value = kind.decode(bhs)
    assert kind.decode(value.encode()) == value
    dirty = flip(bhs, bytes(byte & mask for byte, mask in zip(noise, figure.ignored, strict=True)))
    assert kind.decode(dirty) == value
    # What is sent has reserved bits as the figure has them, whatever was received.
    clean = bytes(mask & ~fixed & 0xFF for mask, fixed in zip(figure.ignored, figure.bhs, strict=True))
    assert not any(byte & mask for byte, mask in zip(value.encode(), clean, strict=True))


@each_figure
@pytest.mark.parametrize("length", [0, 47, 49, 96])
def test_another_length_is_refused(figure: Figure, length: int) -> None:
    data = (figure.bhs * 2)[:length]
    with pytest.raises(ProtocolViolation, match=f"a header has 48 bytes, {length} came"):
        decode(data, registry_of(figure))


@each_figure
def test_the_other_direction_is_refused(figure: Figure) -> None:
    other, side = (TARGET_PDUS, "a target") if figure in INITIATOR_FIGURES else (INITIATOR_PDUS, "an initiator")
    name = Opcode.words(figure.value.OPCODE)
    with pytest.raises(ProtocolViolation, match=f"^{name} is nothing {side} sends$"):
        decode(figure.bhs, other)


@pytest.mark.parametrize("kinds", [INITIATOR_PDUS, TARGET_PDUS], ids=["initiator", "target"])
def test_every_unassigned_opcode_is_refused(kinds: dict[int, type[Pdu]]) -> None:
    refused = set()
    for opcode in range(64):
        if opcode not in kinds:
            with pytest.raises(ProtocolViolation, match="is nothing a") as caught:
                decode(bytes([opcode | 0x40]) + bytes(47), kinds)
            if opcode not in set(Opcode):
                assert caught.value.cause.startswith(f"unknown opcode {opcode:#04x} ")
            refused.add(opcode)
    assert len(refused) == 64 - len(kinds)


def beyond(field: Field) -> tuple[object, object] | None:
    """A value just below and one just above what a field holds; None for a flag, which holds any."""
    match field:
        case Number():
            return -1, 1 << 8 * field.width
        case Bits():
            return -1, 1 << field.width
        case Raw():
            return bytes(field.width - 1), bytes(field.width + 1)
        case _:
            return None


RANGES = [
    pytest.param(figure, field, id=f"{figure.name}.{field.name}")
    for figure in FIGURES
    if "-" not in figure.name
    for field in figure.value.FIELDS
    if beyond(field) is not None
]


@pytest.mark.parametrize(("figure", "field"), RANGES)
def test_encode_refuses_what_does_not_fit(figure: Figure, field: Field) -> None:
    limits = beyond(field)
    assert limits is not None
    for value in limits:
        fields: dict[str, Any] = {field.name: value}
        changed = replace(figure.value, **fields)
        with pytest.raises(OverflowError):
            changed.encode()


@each_figure
def test_encode_refuses_lengths_that_do_not_fit(figure: Figure) -> None:
    largest = replace(figure.value, ahs_length=AHS_LENGTH_MAX, data_length=DATA_LENGTH_MAX)
    assert type(figure.value).decode(largest.encode()) == largest
    for ahs_length in (-4, 1, 2, 3, 5, AHS_LENGTH_MAX + 4):
        with pytest.raises(OverflowError):
            replace(figure.value, ahs_length=ahs_length).encode()
    for data_length in (-1, DATA_LENGTH_MAX + 1):
        with pytest.raises(OverflowError):
            replace(figure.value, data_length=data_length).encode()


def test_no_two_fields_of_a_pdu_overlap() -> None:
    for kind in (INITIATOR_PDUS | TARGET_PDUS).values():
        taken = [0] * 48
        for field in kind.FIELDS:
            match field:
                case Number() | Raw():
                    bits = dict.fromkeys(range(field.offset, field.offset + field.width), 255)
                case Bits():
                    bits = {field.offset: (1 << field.width) - 1 << field.shift}
                case _:
                    bits = {field.offset: field.mask}
            for offset, mask in bits.items():
                assert not taken[offset] & mask, f"{kind.__name__}.{field.name}"
                taken[offset] |= mask


@pytest.mark.parametrize("opcode", list(Opcode), ids=lambda opcode: opcode.name)
def test_every_opcode_has_a_name(opcode: Opcode) -> None:
    name = Opcode.words(opcode)
    assert name[0].isupper()
    assert "opcode" not in name
    assert len({Opcode.words(other) for other in Opcode}) == len(Opcode)


def test_reject_reasons_are_those_of_the_rfc() -> None:
    assert set(REJECT_REASONS) == set(range(1, 0x0D))
    assert Reject(reason=0x0B).words == "negotiation reset"
