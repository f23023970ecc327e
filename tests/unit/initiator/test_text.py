# SPDX-License-Identifier: LGPL-2.1-or-later
"""Texts whole, in pieces and hostile; the constants of RFC 7143 section 6.1."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iscsiboot.initiator.errors import ProtocolViolation
from iscsiboot.initiator.text import (
    KEYS_MAX,
    TEXT_MAX,
    TextAssembler,
    decode_pairs,
    encode_pairs,
    parse_binary,
    parse_number,
    split_text,
)

GOOD = [
    pytest.param(b"", (), id="empty"),
    pytest.param(b"AuthMethod=CHAP\0", (("AuthMethod", "CHAP"),), id="one"),
    pytest.param(b"A=1\0B=2\0", (("A", "1"), ("B", "2")), id="two"),
    pytest.param(b"TargetAlias=\0", (("TargetAlias", ""),), id="empty value"),
    pytest.param(b"TargetAlias=a=b c\0", (("TargetAlias", "a=b c"),), id="equals sign in the value"),
    pytest.param(
        "TargetAlias=Plattenspeicher für München\0".encode(),
        (("TargetAlias", "Plattenspeicher für München"),),
        id="utf-8",
    ),
    pytest.param(b"\0\0A=1\0\0\0B=2\0\0", (("A", "1"), ("B", "2")), id="runs of NUL"),
    pytest.param(b"A=1\0B=2", (("A", "1"), ("B", "2")), id="last NUL missing"),
    pytest.param(b"iSCSIProtocolLevel=1\0", (("iSCSIProtocolLevel", "1"),), id="small first letter"),
    pytest.param(b"X-com.example.k=1\0X#old=2\0", (("X-com.example.k", "1"), ("X#old", "2")), id="extension keys"),
]


@pytest.mark.parametrize(("text", "pairs"), GOOD)
def test_whole(text: bytes, pairs: tuple[tuple[str, str], ...]) -> None:
    assert decode_pairs(text) == pairs


@pytest.mark.parametrize(("text", "pairs"), GOOD)
def test_byte_by_byte(text: bytes, pairs: tuple[tuple[str, str], ...]) -> None:
    assembler = TextAssembler()
    for at in range(len(text)):
        assert assembler.add(text[at : at + 1], more=True) is None
    assert assembler.add(b"", more=False) == pairs


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        pytest.param(b"AuthMethod\0", "has no equals sign", id="no equals"),
        pytest.param(b"=1\0", "is not the name of a key", id="no name"),
        pytest.param(b"1A=1\0", "is not the name of a key", id="digit first"),
        pytest.param(b"Auth Method=1\0", "is not the name of a key", id="blank in the name"),
        pytest.param(b"A" * 64 + b"=1\0", "is not the name of a key", id="name of 64 characters"),
        pytest.param(b"../etc=1\0", "is not the name of a key", id="path"),
        pytest.param(b"\xff\xfe=1\0", "is not UTF-8", id="not utf-8"),
        pytest.param(b"A=\xc3\0", "is not UTF-8", id="cut utf-8"),
        pytest.param("Ａ=1\0".encode(), "is not the name of a key", id="wide letter"),
    ],
)
def test_bad_pairs(text: bytes, rule: str) -> None:
    with pytest.raises(ProtocolViolation, match=rule) as caught:
        decode_pairs(text)
    assert caught.value.cause.isprintable()


def test_limits() -> None:
    assert len(decode_pairs(b"A=1\0" * KEYS_MAX)) == KEYS_MAX
    with pytest.raises(ProtocolViolation, match="more than 256 keys"):
        decode_pairs(b"A=1\0" * (KEYS_MAX + 1))
    assembler = TextAssembler()
    assert assembler.add(b"A=" + b"x" * (TEXT_MAX - 2), more=True) is None
    with pytest.raises(ProtocolViolation, match="more than 65536 bytes"):
        assembler.add(b"x", more=False)


def test_the_assembler_starts_anew_after_each_text() -> None:
    assembler = TextAssembler()
    assert assembler.add(b"A=1", more=True) is None
    assert assembler.add(b"2\0", more=False) == (("A", "12"),)
    assert assembler.add(b"B=1\0", more=False) == (("B", "1"),)


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[A-Z][A-Za-z0-9.]{0,62}", fullmatch=True),
            st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=50),
        ),
        max_size=20,
    )
)
def test_round_trip(pairs: list[tuple[str, str]]) -> None:
    assert decode_pairs(encode_pairs(pairs)) == tuple(pairs)


@given(st.binary(max_size=300))
def test_random_text_gives_pairs_or_a_violation(text: bytes) -> None:
    cause = ""
    pairs: tuple[tuple[str, str], ...] = ()
    try:
        pairs = decode_pairs(text)
    except ProtocolViolation as violation:
        cause = violation.cause
    assert cause.isprintable()
    # A last pair may lack its NUL.
    assert sum(len(key) + len(value.encode()) + 2 for key, value in pairs) <= len(text) + 1


@pytest.mark.parametrize(("length", "sizes"), [(0, [0]), (10, [10]), (11, [10, 1]), (20, [10, 10]), (25, [10, 10, 5])])
def test_split(length: int, sizes: list[int]) -> None:
    text = b"x" * length
    chunks = split_text(text, 10)
    assert [len(chunk) for chunk in chunks] == sizes
    assert b"".join(chunks) == text


@given(st.lists(st.binary(max_size=15), max_size=20), st.integers(1, 20))
def test_split_prefers_the_space_between_pairs(items: list[bytes], limit: int) -> None:
    text = b"".join(item + b"\0" for item in items)
    chunks = split_text(text, limit)
    assert b"".join(chunks) == text
    assert all(0 < len(chunk) <= limit for chunk in chunks) or chunks == [b""]


@pytest.mark.parametrize(
    ("value", "number"),
    [("0", 0), ("8192", 8192), ("0x2000", 8192), ("0XfF", 255), ("18446744073709551615", (1 << 64) - 1), ("007", 7)],
)
def test_numbers(value: str, number: int) -> None:
    assert parse_number(value) == number


@pytest.mark.parametrize(
    "value", ["", "-1", "+1", "1 ", "1_0", "0x", "x10", "1e3", "18446744073709551616", "0x" + "f" * 17, "٣", "9" * 5000]
)
def test_bad_numbers(value: str) -> None:
    with pytest.raises(ProtocolViolation, match="is not a number"):
        parse_number(value)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        pytest.param("0x00ff10", b"\x00\xff\x10", id="hex"),
        pytest.param("0XABCD", b"\xab\xcd", id="upper case"),
        pytest.param("0xabc", b"\x0a\xbc", id="odd digits"),
        pytest.param("0bAP8Q", b"\x00\xff\x10", id="base64"),
        pytest.param("0Bqw==", b"\xab", id="padded base64"),
        pytest.param("0x" + "ab" * 1024, b"\xab" * 1024, id="1024 bytes"),
    ],
)
def test_binary(value: str, data: bytes) -> None:
    assert parse_binary(value, 1024) == data


@pytest.mark.parametrize(
    "value",
    ["", "0", "0x", "0b", "00ff", "0xzz", "0x 1", "0bA", "0b====", "0bAP8Q\n", "0x" + "ab" * 1025, "0b" + "A" * 4096],
)
def test_bad_binary(value: str) -> None:
    with pytest.raises(ProtocolViolation):
        parse_binary(value, 1024)


@given(st.binary(min_size=1, max_size=64))
def test_binary_round_trip(data: bytes) -> None:
    assert parse_binary(f"0x{data.hex()}", 64) == data


def test_split_between_pairs() -> None:
    assert split_text(b"A=1\0B=22\0C=3\0", 8) == [b"A=1\0", b"B=22\0", b"C=3\0"]
    assert split_text(b"A=1\0B=22\0C=3\0", 9) == [b"A=1\0B=22\0", b"C=3\0"]
    assert split_text(b"A=123456789\0B=2\0", 8) == [b"A=123456", b"789\0B=2\0"]
