# SPDX-License-Identifier: LGPL-2.1-or-later
"""One text negotiation: whose turn it is, what the F and C bits and the transfer tag allow, and that it ends."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.initiator.errors import ProtocolViolation
from iscsiboot.initiator.pdu.control import TextResponse
from iscsiboot.initiator.pdu.header import NO_LUN, RESERVED_TAG
from iscsiboot.initiator.text import KEYS_MAX, TEXT_MAX, encode_pairs
from iscsiboot.initiator.text_exchange import EMPTY_MAX, Heard, TextExchange

LUN = bytes([0, 3, 0, 0, 0, 0, 0, 0])
ASKED = (("SendTargets", "All"),)


def final(**changes: Any) -> TextResponse:
    return TextResponse(itt=1, **changes)


def more(*, cont: bool = False, ttt: int = 5, **changes: Any) -> TextResponse:
    return TextResponse(itt=1, final=False, cont=cont, ttt=ttt, **changes)


def asked(*, stream: bool = False) -> TextExchange:
    exchange = TextExchange(ASKED, limit=512, stream=stream)
    exchange.turn()
    return exchange


def test_a_short_question() -> None:
    exchange = TextExchange(ASKED, limit=512)
    turn = exchange.turn()
    assert (turn.data, turn.final, turn.cont) == (b"SendTargets=All\0", True, False)
    assert (turn.ttt, turn.lun) == (RESERVED_TAG, NO_LUN)
    assert exchange.take(final(), b"A=1\0B=2\0") == Heard(data=b"A=1\0B=2\0", final=True)
    assert exchange.pairs == (("A", "1"), ("B", "2"))


def test_our_own_long_text_goes_turn_by_turn() -> None:
    exchange = TextExchange((("X-one", "a" * 20), ("X-two", "b" * 20)), limit=30)
    first = exchange.turn()
    assert (first.final, first.cont) == (False, True)
    assert exchange.take(more(ttt=9, lun=LUN), b"") == Heard(data=b"", final=False)
    second = exchange.turn()
    assert first.data + second.data == encode_pairs((("X-one", "a" * 20), ("X-two", "b" * 20)))
    assert (second.final, second.cont, second.ttt, second.lun) == (True, False, 9, LUN)
    assert exchange.take(final(), b"").final


def test_more_is_asked_for_with_the_tag_of_the_last_response() -> None:
    exchange = asked()
    for tag, part in ((9, b"A="), (10, b"1")):
        assert not exchange.take(more(cont=True, ttt=tag, lun=LUN), part).final
        turn = exchange.turn()
        assert (turn.data, turn.final, turn.cont, turn.ttt, turn.lun) == (b"", True, False, tag, LUN)
    exchange.take(final(), b"2\0")
    assert exchange.pairs == (("A", "12"),)


def test_a_pair_without_its_nul_goes_on_whatever_the_c_bit_says() -> None:
    """Tgt never sets it."""
    exchange = asked()
    exchange.take(more(), b"A=1")
    exchange.turn()
    exchange.take(final(), b"2\0B=3")
    assert exchange.pairs == (("A", "12"), ("B", "3"))


@pytest.mark.parametrize("cont", [True, False], ids=["continued", "not"])
def test_an_empty_end_brings_the_nul_that_is_missing(cont: bool) -> None:
    exchange = asked(stream=True)
    assert exchange.take(more(cont=cont), b"A=1").data == b"A=1"
    exchange.turn()
    assert exchange.take(more(cont=cont), b"").data == b""
    exchange.turn()
    assert exchange.take(final(), b"").data == b"\0"


def test_a_whole_pair_ends_with_its_pdu() -> None:
    exchange = asked()
    exchange.take(more(), b"A=1\0")
    exchange.turn()
    exchange.take(more(), b"")
    exchange.turn()
    exchange.take(final(), b"B=2")
    assert exchange.pairs == (("A", "1"), ("B", "2"))


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (final(cont=True), "F and C bit"),
        (more(ttt=RESERVED_TAG), "no transfer tag"),
        (more(cont=True, ttt=RESERVED_TAG), "no transfer tag"),
    ],
    ids=["final and continued", "more", "continued"],
)
def test_bits_that_contradict(response: TextResponse, words: str) -> None:
    with pytest.raises(ProtocolViolation, match=words):
        asked().take(response, b"A=1\0")


@pytest.mark.parametrize(
    ("response", "data", "words"),
    [
        (final(), b"", "ended the negotiation before our text"),
        (more(), b"A=1\0", "answered before our text"),
        (more(cont=True), b"", "answered before our text"),
    ],
    ids=["final", "data", "continued"],
)
def test_an_answer_before_we_have_said_all(response: TextResponse, data: bytes, words: str) -> None:
    exchange = TextExchange((("X-one", "a" * 20), ("X-two", "b" * 20)), limit=30)
    exchange.turn()
    with pytest.raises(ProtocolViolation, match=words):
        exchange.take(response, data)


def test_a_tag_left_in_the_last_response_is_remarked() -> None:
    heard = asked().take(final(ttt=4), b"A=1\0")
    assert heard.final
    assert "left a transfer tag" in heard.remark


def test_a_target_that_never_says_anything() -> None:
    exchange = asked(stream=True)
    for _ in range(EMPTY_MAX):
        exchange.take(more(), b"")
        exchange.turn()
    with pytest.raises(ProtocolViolation, match=f"{EMPTY_MAX + 1} times and sent none"):
        exchange.take(more(), b"")


def test_only_empty_responses_in_succession_count() -> None:
    exchange = asked(stream=True)
    for _ in range(3 * EMPTY_MAX):
        exchange.take(more(), b"")
        exchange.turn()
        exchange.take(more(), b"x")
        exchange.turn()
    assert exchange.take(final(), b"").final


def test_a_whole_text_is_bounded() -> None:
    exchange, part = asked(), b"A=" + bytes(b"x" * 8189) + b"\0"
    for _ in range(TEXT_MAX // len(part)):
        exchange.take(more(), part)
        exchange.turn()
    with pytest.raises(ProtocolViolation, match=f"more than {TEXT_MAX} bytes"):
        exchange.take(more(), part)


def test_the_keys_of_a_whole_text_are_bounded() -> None:
    exchange, part = asked(), b"A=1\0" * 100
    for _ in range(KEYS_MAX // 100):
        exchange.take(more(), part)
        exchange.turn()
    with pytest.raises(ProtocolViolation, match=f"more than {KEYS_MAX} keys"):
        exchange.take(more(), part)


def test_a_text_that_breaks_the_grammar() -> None:
    with pytest.raises(ProtocolViolation, match="no equals sign"):
        asked().take(final(), b"nonsense\0")


def test_a_stream_keeps_nothing() -> None:
    exchange = asked(stream=True)
    for _ in range(100):
        assert exchange.take(more(cont=True), bytes(b"y" * 8192)).data == b"y" * 8192
        exchange.turn()
    assert exchange.take(final(), b"nonsense").data == b"nonsense\0"
    assert exchange.pairs == ()


# Giving up.


def test_giving_up_resets_with_the_reserved_tag() -> None:
    exchange = asked()
    exchange.take(more(), b"A=1\0")
    exchange.turn()
    exchange.give_up()
    exchange.give_up()
    assert exchange.given_up
    assert exchange.take(more(ttt=6, lun=LUN), b"B=2\0") == Heard(data=b"", final=False)
    turn = exchange.turn()
    assert (turn.data, turn.final, turn.ttt, turn.lun) == (b"", True, RESERVED_TAG, NO_LUN)
    exchange.give_up()
    assert exchange.take(final(), b"C=3\0") == Heard(data=b"", final=True)
    assert exchange.pairs == ()


def test_giving_up_in_the_middle_of_our_own_text() -> None:
    exchange = TextExchange((("X-one", "a" * 20), ("X-two", "b" * 20)), limit=30)
    exchange.turn()
    exchange.give_up()
    assert not exchange.take(more(), b"").final
    assert exchange.turn().data == b""
    assert exchange.take(final(), b"").final


def test_a_response_that_ends_it_anyway() -> None:
    exchange = asked()
    exchange.give_up()
    assert exchange.take(final(), b"A=1\0").final
    assert exchange.pairs == ()


def test_a_target_that_goes_on_after_a_reset() -> None:
    exchange = asked()
    exchange.give_up()
    exchange.take(more(), b"")
    exchange.turn()
    with pytest.raises(ProtocolViolation, match="was reset"):
        exchange.take(more(), b"")


@given(
    st.lists(st.tuples(st.from_regex(r"X-[a-z]{1,8}", fullmatch=True), st.text("abc", max_size=40)), max_size=20),
    st.integers(1, 200),
    st.booleans(),
)
def test_however_it_is_cut_the_text_is_the_same(pairs: list[tuple[str, str]], size: int, stream: bool) -> None:
    exchange, wire, heard = asked(stream=stream), encode_pairs(pairs), b""
    parts = [wire[at : at + size] for at in range(0, len(wire), size)] or [b""]
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        heard += exchange.take(final() if last else more(cont=True), part).data
        if not last:
            exchange.turn()
    assert heard == wire
    assert exchange.pairs == (() if stream else tuple(pairs))
