# SPDX-License-Identifier: LGPL-2.1-or-later
"""Additional headers against bytes written out by hand from the figures of RFC 7143 section 11.2.2."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.initiator.errors import ProtocolViolation
from iscsiboot.initiator.pdu.ahs import (
    CDB_LENGTH_MAX,
    Ahs,
    AhsKind,
    decode_list,
    encode_list,
    find_read_length,
    join_cdb,
    read_length,
    split_cdb,
)
from iscsiboot.initiator.pdu.header import AHS_LENGTH_MAX

CDB32 = bytes.fromhex("7f 00 00 00 00 00 00 18 00 0b") + bytes(range(10, 32))
"""WRITE(32), a variable length CDB: 16 bytes are in the header and 16 in the segment."""
EXTENDED_HEX = "0011 01 00" + bytes(range(16, 32)).hex()
READ_HEX = "0005 02 00 00100200"

CASES = [
    pytest.param((), "", id="none"),
    pytest.param(split_cdb(CDB32)[1], EXTENDED_HEX, id="extended-cdb"),
    pytest.param((read_length(0x100200),), READ_HEX, id="read-length"),
    pytest.param((*split_cdb(CDB32)[1], read_length(0x100200)), EXTENDED_HEX + READ_HEX, id="both"),
    pytest.param(split_cdb(bytes(17))[1], "0002 01 00 00 000000", id="one-byte-of-cdb-padded"),
    pytest.param((Ahs(63, b""), Ahs(0, b"ab")), "0000 3f 00 0002 00 61 62 000000", id="unassigned-kinds"),
]


@pytest.mark.parametrize(("headers", "wire"), CASES)
def test_encode_and_decode_agree_with_the_figures(headers: tuple[Ahs, ...], wire: str) -> None:
    assert encode_list(headers).hex() == wire.replace(" ", "")
    assert decode_list(bytes.fromhex(wire)) == headers


def test_reserved_bits_and_padding_are_ignored() -> None:
    assert decode_list(bytes.fromhex("0005 c2 00 00100200")) == (read_length(0x100200),)
    assert find_read_length(decode_list(bytes.fromhex("0005 02 ff 00100200"))) == 0x100200
    assert decode_list(bytes.fromhex("0002 01 00 77 ffffff")) == (Ahs(AhsKind.EXTENDED_CDB, b"\0\x77"),)


@pytest.mark.parametrize(
    ("wire", "cause"),
    [
        pytest.param("00", "not whole words", id="one-byte"),
        pytest.param("0005 02 00 001002", "not whole words", id="seven-bytes"),
        pytest.param("00" * (AHS_LENGTH_MAX + 4), "too many", id="too-many"),
        pytest.param("0005 02 00", "announces 5 bytes, 1 are left", id="cut"),
        pytest.param("ffff 01 00 00000000", "announces 65535 bytes, 5 are left", id="longest"),
        pytest.param("0000 00 00 0002 01 00", "announces 2 bytes, 1 are left", id="second-cut"),
    ],
)
def test_what_goes_beyond_the_end_is_refused(wire: str, cause: str) -> None:
    with pytest.raises(ProtocolViolation, match=cause):
        decode_list(bytes.fromhex(wire))


@pytest.mark.parametrize(
    ("headers", "cause"),
    [
        pytest.param([Ahs(64, b"")], "does not fit 6 bits", id="kind"),
        pytest.param([Ahs(-1, b"")], "does not fit 6 bits", id="negative-kind"),
        pytest.param([Ahs(1, bytes(AHS_LENGTH_MAX - 2))], "too long", id="one"),
        pytest.param([Ahs(1, bytes(600)), Ahs(2, bytes(600))], "1208 bytes are more than 1020", id="together"),
    ],
)
def test_encode_refuses_what_has_no_place(headers: list[Ahs], cause: str) -> None:
    with pytest.raises(OverflowError, match=cause):
        encode_list(headers)


def test_the_longest_segment_fits() -> None:
    headers = (Ahs(1, bytes(AHS_LENGTH_MAX - 3)),)
    assert len(encode_list(headers)) == AHS_LENGTH_MAX
    assert decode_list(encode_list(headers)) == headers


@pytest.mark.parametrize("length", [0, 6, 10, 15, 16, 17, 18, 19, 20, 32, CDB_LENGTH_MAX])
def test_a_cdb_of_any_length(length: int) -> None:
    cdb = bytes(number % 255 + 1 for number in range(length))
    head, headers = split_cdb(cdb)
    assert len(head) == 16
    assert bool(headers) == (length > 16)
    assert join_cdb(head, decode_list(encode_list(headers))) == cdb.ljust(16, b"\0")


def test_a_cdb_that_does_not_exist() -> None:
    with pytest.raises(OverflowError, match="261 bytes is longer than 260"):
        split_cdb(bytes(CDB_LENGTH_MAX + 1))


@pytest.mark.parametrize(
    ("headers", "cause"),
    [
        pytest.param((Ahs(1, b""),), "extended CDB has 0 bytes", id="empty"),
        pytest.param((Ahs(1, b"\0"),), "extended CDB has 1 bytes", id="nothing-behind-the-reserved-byte"),
        pytest.param((Ahs(1, bytes(246)),), "extended CDB has 246 bytes", id="too-long"),
        pytest.param((Ahs(1, b"\0a"), Ahs(1, b"\0b")), "2 additional headers of kind 1", id="twice"),
    ],
)
def test_an_extended_cdb_that_cannot_be(headers: tuple[Ahs, ...], cause: str) -> None:
    with pytest.raises(ProtocolViolation, match=cause):
        join_cdb(bytes(16), headers)


def test_read_length() -> None:
    assert find_read_length(()) is None
    assert find_read_length((Ahs(1, b"\0a"), read_length(0xFFFFFFFF))) == 0xFFFFFFFF
    with pytest.raises(ProtocolViolation, match="has 4 bytes, not 5"):
        find_read_length((Ahs(2, bytes(4)),))
    with pytest.raises(ProtocolViolation, match="2 additional headers of kind 2"):
        find_read_length((read_length(1), read_length(1)))
    with pytest.raises(OverflowError):
        read_length(1 << 32)
    with pytest.raises(OverflowError):
        read_length(-1)


segments = st.builds(Ahs, st.integers(0, 63), st.binary(max_size=60))


@given(st.lists(segments, max_size=15))
def test_any_list_survives_a_round_trip(headers: list[Ahs]) -> None:
    assert decode_list(encode_list(headers)) == tuple(headers)


@given(st.lists(segments, min_size=1, max_size=8), st.integers(1, 60))
def test_a_truncated_list_is_refused_or_shorter(headers: list[Ahs], words: int) -> None:
    wire = encode_list(headers)
    cut = wire[: max(0, len(wire) - 4 * words)]
    try:
        decoded = decode_list(cut)
    except ProtocolViolation:
        return
    assert decoded == tuple(headers[: len(decoded)])
    assert len(decoded) < len(headers)
