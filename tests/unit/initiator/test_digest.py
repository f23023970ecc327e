# SPDX-License-Identifier: LGPL-2.1-or-later
"""CRC32C against the RFC's examples and against a division bit by bit."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.initiator import digest as module
from iscsiboot.initiator.digest import crc32c, digest

GENERATOR = 0x11EDC6F41
"""RFC 7143 section 13.1."""

READ_PDU = bytes.fromhex(
    "01c00000 00000000 00000000 00000000 14000000 00000400 00000014 00000018 28000000 00000000 02000000 00000000"
)
"""The SCSI Read(10) command of RFC 3720 appendix B.4."""

EXAMPLES = [
    pytest.param(bytes(32), "aa36918a", id="zeros"),
    pytest.param(b"\xff" * 32, "43aba862", id="ones"),
    pytest.param(bytes(range(32)), "4e79dd46", id="incrementing"),
    pytest.param(bytes(range(31, -1, -1)), "5cdb3f11", id="decrementing"),
    pytest.param(READ_PDU, "563a96d9", id="read"),
    pytest.param(b"", "00000000", id="nothing"),
]


def remainder(dividend: int) -> int:
    """What is left of a polynomial over GF(2) after division by the generator: the plain long division."""
    while dividend.bit_length() > 32:
        dividend ^= GENERATOR << dividend.bit_length() - 33
    return dividend


def reversed_bits(value: int, width: int) -> int:
    return int(f"{value:0{width}b}"[::-1], 2)


def crc_by_division(data: bytes) -> int:
    """RFC 7143 section 13.1 in its own words: bits of each byte in reverse, first 32 complemented, 32 zeros behind."""
    message = 0
    for byte in data:
        message = message << 8 | reversed_bits(byte, 8)
    bits = 8 * len(data)
    ones = 0xFFFFFFFF << bits
    return reversed_bits(remainder(message << 32 ^ ones) ^ 0xFFFFFFFF, 32)


@pytest.mark.parametrize(("data", "wire"), EXAMPLES)
def test_examples_of_rfc_3720(data: bytes, wire: str) -> None:
    assert digest(data).hex() == wire
    assert crc32c(data).to_bytes(4, "little").hex() == wire
    assert crc_by_division(data) == crc32c(data)


def test_the_sparse_rule_is_true() -> None:
    """x**563 and the five powers that replace it leave the same remainder, also squared, as folding uses it."""
    for scale in range(4):
        replaced = 1 << (module._DEGREE << scale)
        for term in module._TERMS:
            replaced ^= 1 << (term << scale)
        assert remainder(replaced) == 0
    assert max(module._TERMS) == module._TERMS[0]


@pytest.mark.parametrize("length", [255, 256, 257, 300, 411, 512, 1000, 1023, 1024, 1025, 2048, 3333])
def test_long_messages_are_folded_without_a_change(length: int) -> None:
    data = random.Random(length).randbytes(length)
    assert crc32c(data) == crc_by_division(data)


@given(st.binary(max_size=64), st.integers(0, 3000), st.integers(0, 3000), st.randoms(use_true_random=False))
def test_a_message_in_two_parts(head: bytes, middle: int, split: int, rng: random.Random) -> None:
    data = head + rng.randbytes(middle)
    assert crc32c(data[split:], crc32c(data[:split])) == crc32c(data)
    assert crc32c(memoryview(data)) == crc32c(data)


@given(st.integers(0, 1500), st.data())
def test_one_wrong_bit_shows(length: int, draw: st.DataObject) -> None:
    data = bytearray(random.Random(length).randbytes(length + 1))
    before = crc32c(bytes(data))
    bit = draw.draw(st.integers(0, 8 * len(data) - 1))
    data[bit // 8] ^= 1 << bit % 8
    assert crc32c(bytes(data)) != before


def test_a_megabyte_agrees_with_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    data = random.Random(7).randbytes(1 << 20)
    folded = crc32c(data)
    monkeypatch.setattr(module, "_LOOP_MAX", len(data))
    assert crc32c(data) == folded


@pytest.mark.parametrize("length", [300, 512, 4096, 8192, 65536, 100_001, 1 << 20])
def test_folding_leaves_little_for_the_loop(length: int) -> None:
    """It would be right and slow if the loop still saw the whole message."""
    assert 4 <= len(module._fold(bytes(length), 0xFFFFFFFF)) <= module._DEGREE // 8 + 1
