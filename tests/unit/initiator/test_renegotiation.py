# SPDX-License-Identifier: LGPL-2.1-or-later
"""Negotiation after login: what changes, what is answered, what the rest of RFC 7143 chapter 13 may not do any more."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.initiator.errors import Misuse, ProtocolViolation
from iscsiboot.initiator.keys import CONSTANTS, KEYS, Sender, Use
from iscsiboot.initiator.negotiation import Negotiated, OperationalNegotiation
from iscsiboot.initiator.renegotiation import TextNegotiation
from iscsiboot.initiator.text import KEYS_MAX
from iscsiboot.model.params import SessionParams

LENGTH = "MaxRecvDataSegmentLength"


def agreed() -> Negotiated:
    return OperationalNegotiation(SessionParams()).finish()


def begun(*pairs: tuple[str, str], max_xmit: int = 0, discovery: bool = False) -> TextNegotiation:
    negotiation = TextNegotiation(agreed(), max_xmit=max_xmit, discovery=discovery)
    assert negotiation.offer(pairs) == pairs
    return negotiation


@pytest.mark.parametrize(
    ("max_xmit", "declared", "result"), [(0, "65536", 65536), (4096, "65536", 4096), (65536, "0x200", 512)]
)
def test_the_target_declares_a_new_length(max_xmit: int, declared: str, result: int) -> None:
    negotiation = begun(max_xmit=max_xmit)
    assert negotiation.take(((LENGTH, declared),)) == ()
    assert negotiation.negotiated == replace(agreed(), max_xmit_data_segment_length=result)


@pytest.mark.parametrize(
    ("answers", "ours"),
    [((), 1024), (((LENGTH, "4096"),), 1024), (((LENGTH, "Reject"),), 262144), (((LENGTH, "NotUnderstood"),), 262144)],
    ids=["silence", "its own", "rejected", "not understood"],
)
def test_our_new_length_holds_from_the_answer_on(answers: tuple[tuple[str, str], ...], ours: int) -> None:
    negotiation = begun((LENGTH, "1024"))
    assert negotiation.negotiated.max_recv_data_segment_length == 262144
    assert negotiation.take(answers) == ()
    assert negotiation.negotiated.max_recv_data_segment_length == ours


@pytest.mark.parametrize(
    ("name", "value", "answer"),
    [
        ("MaxBurstLength", "512", "Reject"),
        ("HeaderDigest", "CRC32C", "Reject"),
        ("ErrorRecoveryLevel", "2", "Reject"),
        ("AuthMethod", "CHAP", "Reject"),
        ("TargetPortalGroupTag", "1", "Reject"),
        ("IFMarkInt", "1", "Reject"),
        ("TargetRecvDataSegmentLength", "1024", "Irrelevant"),
        ("X-com.example.turbo", "Yes", "NotUnderstood"),
        ("X-com.example.turbo", "NotUnderstood", None),
        ("MaxBurstLength", "Irrelevant", None),
        ("TargetAlias", "shelf", None),
        ("TargetAddress", "192.0.2.1", None),
    ],
)
def test_answers(name: str, value: str, answer: str | None) -> None:
    negotiation = begun()
    assert negotiation.take(((name, value),)) == (() if answer is None else ((name, answer),))
    assert negotiation.negotiated == agreed()


def test_irrelevant_in_a_discovery_session() -> None:
    assert begun(discovery=True).take((("MaxBurstLength", "512"),)) == (("MaxBurstLength", "Irrelevant"),)


def test_an_extension_key_of_ours_is_answered_to_the_caller() -> None:
    negotiation = begun(("X-com.example.mode", "a,b"), ("InitiatorAlias", "host"))
    assert negotiation.take((("X-com.example.mode", "b"), ("InitiatorAlias", "NotUnderstood"))) == ()
    assert negotiation.answers == {"X-com.example.mode": "b", "InitiatorAlias": "NotUnderstood"}


@pytest.mark.parametrize(
    ("pairs", "rule"),
    [
        (((LENGTH, "100"),), "outside 512"),
        (((LENGTH, "16777216"),), "outside 512"),
        (((LENGTH, "None"),), "is not a number"),
        (((LENGTH, "1024"), (LENGTH, "2048")), "twice in one negotiation"),
        ((("InitiatorName", "iqn.2001-04.com.example:x"),), "only an initiator may send"),
        ((("TargetName", "iqn.2001-04.com.example:x"),), "only an initiator may send"),
        ((("SendTargets", "All"),), "only an initiator may send"),
        (tuple((f"X-{number}", "1") for number in range(KEYS_MAX + 1)), "more than 256 keys"),
    ],
)
def test_what_ends_the_session(pairs: tuple[tuple[str, str], ...], rule: str) -> None:
    negotiation = begun()
    with pytest.raises(ProtocolViolation, match=rule):
        negotiation.take(pairs)


def test_keys_are_counted_over_the_whole_negotiation() -> None:
    negotiation = begun()
    negotiation.take(((LENGTH, "1024"), ("TargetAddress", "192.0.2.1")))
    assert negotiation.take((("TargetAddress", "192.0.2.2"),)) == ()
    with pytest.raises(ProtocolViolation, match="twice"):
        negotiation.take(((LENGTH, "1024"),))


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, spec in KEYS.items()
        if spec.use is not Use.ALL or spec.sender is Sender.TARGET or name == "SendTargets"
    ],
)
def test_what_no_initiator_offers_after_login(name: str) -> None:
    with pytest.raises(Misuse, match=f"{name} is not negotiated"):
        TextNegotiation(agreed()).offer(((name, "512"),))


def test_misuse() -> None:
    with pytest.raises(Misuse, match="has not begun"):
        TextNegotiation(agreed()).take(())
    with pytest.raises(Misuse, match="has begun"):
        begun().offer()
    with pytest.raises(ProtocolViolation, match="outside 512"):
        TextNegotiation(agreed()).offer(((LENGTH, "1"),))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(KEYS)) | st.from_regex(r"[XYZ][-#][a-z]{1,9}", fullmatch=True),
            st.one_of(st.sampled_from(sorted(CONSTANTS)), st.integers(-1, 1 << 25).map(str), st.text(max_size=20)),
        ),
        max_size=9,
    )
)
def test_whatever_comes_the_rest_of_the_agreement_stays(pairs: list[tuple[str, str]]) -> None:
    negotiation = begun()
    owed: tuple[tuple[str, str], ...] = ()
    cause = ""
    try:
        owed = negotiation.take(tuple(pairs))
    except ProtocolViolation as violation:
        cause = violation.cause
    assert cause.isprintable()
    assert {answer for _, answer in owed} <= CONSTANTS
    limit = negotiation.negotiated.max_xmit_data_segment_length
    assert 512 <= limit < 1 << 24
    assert replace(negotiation.negotiated, max_xmit_data_segment_length=8192) == agreed()
