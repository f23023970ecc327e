# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every rule of RFC 7143 section 6.2 on every key we offer, and what is done with what we did not."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.initiator.errors import ProtocolViolation
from iscsiboot.initiator.keys import CONSTANTS, KEYS, Kind, Relevance, Sender
from iscsiboot.initiator.negotiation import OperationalNegotiation, answer, combine, offer
from iscsiboot.initiator.text import parse_number
from iscsiboot.model.params import Digest, SessionParams

PARAMS = SessionParams()


def settle(params: SessionParams | None = None, /, **answers: str) -> OperationalNegotiation:
    negotiation = OperationalNegotiation(params or PARAMS)
    for name, value in answers.items():
        assert negotiation.take(name, value) is None
    return negotiation


def test_the_table_is_sound() -> None:
    for name, spec in KEYS.items():
        assert spec.name == name
        if spec.numeric:
            assert spec.low < spec.high
            assert spec.default is None or spec.low <= int(spec.default) <= spec.high
        if spec.kind in (Kind.AND, Kind.OR):
            assert spec.default in ("Yes", "No")
        if not spec.declared:
            assert spec.name == "CHAP_A" or spec.kind is Kind.OBSOLETE or spec.default is not None
    assert {spec.name for spec in KEYS.values() if spec.sender is Sender.TARGET} == {
        "TargetAlias",
        "TargetAddress",
        "TargetPortalGroupTag",
    }


def test_every_offer_is_a_legal_row() -> None:
    for name, _ in offer(PARAMS):
        assert KEYS[name].sender is Sender.BOTH


@pytest.mark.parametrize(
    ("name", "proposed", "responded", "result"),
    [
        ("MaxBurstLength", "1024", "2048", "1024"),
        ("MaxBurstLength", "2048", "1024", "1024"),
        ("DefaultTime2Wait", "2", "5", "5"),
        ("DefaultTime2Wait", "5", "2", "5"),
        ("ImmediateData", "Yes", "Yes", "Yes"),
        ("ImmediateData", "Yes", "No", "No"),
        ("ImmediateData", "No", "Yes", "No"),
        ("ImmediateData", "No", "No", "No"),
        ("InitialR2T", "Yes", "Yes", "Yes"),
        ("InitialR2T", "Yes", "No", "Yes"),
        ("InitialR2T", "No", "Yes", "Yes"),
        ("InitialR2T", "No", "No", "No"),
        ("HeaderDigest", "CRC32C,None", "None", "None"),
        ("HeaderDigest", "CRC32C", "None", None),
    ],
)
def test_rules(name: str, proposed: str, responded: str, result: str | None) -> None:
    assert combine(KEYS[name], proposed, responded) == result


def test_nothing_answered_gives_the_less_of_offer_and_default() -> None:
    result = settle().finish()
    assert dataclasses.asdict(result) == {
        "header_digest": False,
        "data_digest": False,
        "initial_r2t": True,
        "immediate_data": True,
        "max_burst_length": 262144,
        "first_burst_length": 65536,
        "max_outstanding_r2t": 1,
        "max_recv_data_segment_length": 262144,
        "max_xmit_data_segment_length": 8192,
        "default_time2wait": 2,
        "default_time2retain": 0,
        "error_recovery_level": 0,
        "max_connections": 1,
        "data_pdu_in_order": True,
        "data_sequence_in_order": True,
    }


def test_everything_answered() -> None:
    params = SessionParams(
        header_digest=Digest.PREFER_CRC32C,
        data_digest=Digest.PREFER_NONE,
        max_outstanding_r2t=8,
        default_time2retain=20,
    )
    result = settle(
        params,
        HeaderDigest="CRC32C",
        DataDigest="CRC32C",
        DefaultTime2Wait="0x10",
        DefaultTime2Retain="5",
        InitialR2T="No",
        ImmediateData="No",
        MaxBurstLength="1048576",
        FirstBurstLength="131072",
        MaxOutstandingR2T="4",
        MaxRecvDataSegmentLength="65536",
    ).finish()
    assert (result.header_digest, result.data_digest) == (True, True)
    assert (result.default_time2wait, result.default_time2retain) == (16, 5)
    assert (result.initial_r2t, result.immediate_data) == (False, False)
    assert (result.max_burst_length, result.first_burst_length, result.max_outstanding_r2t) == (1048576, 131072, 4)
    assert (result.max_recv_data_segment_length, result.max_xmit_data_segment_length) == (262144, 65536)


@pytest.mark.parametrize("name", [name for name, _ in offer(PARAMS) if not KEYS[name].declared])
@pytest.mark.parametrize("constant", sorted(CONSTANTS))
def test_a_constant_settles_a_key_on_its_default(name: str, constant: str) -> None:
    assert settle(**{name: constant}).finish() == settle().finish()


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("MaxBurstLength", "511", "outside 512 to 16777215"),
        ("MaxBurstLength", "16777216", "outside 512"),
        ("MaxBurstLength", "many", "is not a number"),
        ("MaxOutstandingR2T", "0", "outside 1 to 65535"),
        ("MaxConnections", "2", "the smaller value"),
        ("ErrorRecoveryLevel", "1", "the smaller value"),
        ("ErrorRecoveryLevel", "3", "outside 0 to 2"),
        ("ImmediateData", "yes", "neither Yes nor No"),
        ("InitialR2T", "", "neither Yes nor No"),
        ("HeaderDigest", "CRC32C", "one of the offered values"),
        ("HeaderDigest", "None,CRC32C", "one of the offered values"),
        ("DataDigest", "Reserved", "one of the offered values"),
        ("MaxRecvDataSegmentLength", "100", "outside 512"),
        ("TargetPortalGroupTag", "65536", "outside 0 to 65535"),
        ("TargetPortalGroupTag", "0bAQAA", "outside 0 to 65535"),
        ("TargetPortalGroupTag", "0b", "1 to 8 are allowed"),
        ("TargetPortalGroupTag", "0bAAAAAAAAAAAA", "1 to 8 are allowed"),
        ("TargetPortalGroupTag", "0b*", "not a well-formed"),
        ("MaxBurstLength", "0bAgA=", "is not a number"),
        ("MaxRecvDataSegmentLength", "0bAgA=", "is not a number"),
        ("InitiatorName", "iqn.2001-04.com.example:x", "only an initiator may send"),
        ("SessionType", "Normal", "only an initiator may send"),
        ("SendTargets", "All", "only an initiator may send"),
        ("DataDigest", "Y-com.example.crc64", "one of the offered values"),
        ("TargetName", "Reject", "the target rejects our TargetName"),
        ("TargetPortalGroupTag", "Irrelevant", "an answer and no value"),
    ],
)
def test_inadmissible_values(name: str, value: str, rule: str) -> None:
    with pytest.raises(ProtocolViolation, match=rule):
        settle(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("MaxBurstLength", "16777215", '="16777215" to our 16776192, the rule is the smaller value: 16776192 holds'),
        ("FirstBurstLength", "0x40001", "the smaller value: 262144 holds"),
        ("DefaultTime2Wait", "1", "the larger value: 2 holds"),
        ("DefaultTime2Retain", "20", "the smaller value: 0 holds"),
        ("MaxOutstandingR2T", "2", "the smaller value: 1 holds"),
        ("DataPDUInOrder", "No", "No only when both say No: Yes holds"),
        ("DataSequenceInOrder", "No", "No only when both say No: Yes holds"),
        ("IFMarker", "Yes", "Yes only when both say Yes: No holds"),
    ],
)
def test_an_answer_that_follows_no_rule_is_remarked_and_gives_nobody_more(name: str, value: str, rule: str) -> None:
    """open-iscsi takes any answer to these keys, so targets that answer them anyhow are in use."""
    negotiation = OperationalNegotiation(PARAMS)
    offered = dict(negotiation.offer)[name]
    assert negotiation.take(name, value) is None
    (remark,) = negotiation.remarks
    assert remark.startswith(f"the target answered {name}=")
    assert remark.endswith(rule)
    expected = OperationalNegotiation(PARAMS)
    expected.take(name, offered)
    assert negotiation.finish() == expected.finish()
    assert not expected.remarks


@pytest.mark.parametrize(
    ("params", "answer", "hint"),
    [
        (
            dataclasses.replace(PARAMS, header_digest=Digest.CRC32C),
            "None",
            "allow None for HeaderDigest, or switch it on",
        ),
        (
            dataclasses.replace(PARAMS, header_digest=Digest.CRC32C),
            "Reject",
            "allow None for HeaderDigest, or switch it on",
        ),
        (PARAMS, "CRC32C", "compare HeaderDigest here with what the target allows"),
    ],
    ids=["demanded", "rejected", "forced"],
)
def test_a_digest_we_cannot_agree_on_has_a_next_step(params: SessionParams, answer: str, hint: str) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        OperationalNegotiation(params).take("HeaderDigest", answer)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("name", "value", "answered"),
    [
        ("X-com.example.fast", "Yes", "NotUnderstood"),
        ("X-com.example.fast", "NotUnderstood", None),
        ("TaskReporting", "ResponseFence,RFC3720", "RFC3720"),
        ("TaskReporting", "FastAbort", "Reject"),
        ("iSCSIProtocolLevel", "2", "1"),
        ("iSCSIProtocolLevel", "0", "0"),
        ("iSCSIProtocolLevel", "32", "Reject"),
        ("iSCSIProtocolLevel", "-1", "Reject"),
        ("iSCSIProtocolLevel", "None", "Reject"),
        ("iSCSIProtocolLevel", "Reserved", "Reject"),
        ("TaskReporting", "None", "Reject"),
        ("TaskReporting", "", "Reject"),
        ("X#vendor", "0x", "NotUnderstood"),
        ("SendTargetsNot", "All", "NotUnderstood"),
        ("RDMAExtensions", "Yes", "No"),
        ("RDMAExtensions", "maybe", "Reject"),
        ("TargetRecvDataSegmentLength", "8192", "Irrelevant"),
        ("InitiatorRecvDataSegmentLength", "8192", "Irrelevant"),
        ("iSERHelloRequired", "Yes", "Irrelevant"),
        ("MaxAHSLength", "-", None),
        ("TaggedBufferForSolicitedDataOnly", "Yes", None),
        ("MaxOutstandingUnexpectedPDUs", "7", None),
        ("OFMarkInt", "1", "Reject"),
        ("IFMarkInt", "2048~65535", "Reject"),
        ("TargetAlias", "anything at all", None),
        ("TargetAddress", "192.0.2.1:3260,1", None),
        ("InitiatorAlias", "NotUnderstood", None),
        ("InitiatorAlias", "Reject", None),
        ("TaskReporting", "Reject", None),
    ],
)
def test_answers_to_what_we_did_not_offer(name: str, value: str, answered: str | None) -> None:
    assert OperationalNegotiation(PARAMS).take(name, value) == answered


def test_no_list_of_ours_takes_an_extension() -> None:
    """Y- digests and Z- authentication methods are values (section 13.22): one we did not offer is never the answer."""
    digests = SessionParams(header_digest=Digest.PREFER_CRC32C)
    with pytest.raises(ProtocolViolation, match="one of the offered values"):
        settle(digests, HeaderDigest="Y-com.example.crc64")
    assert answer(KEYS["HeaderDigest"], "Y-com.example.crc64,Y#other,None") == "None"
    assert answer(KEYS["HeaderDigest"], "Y-com.example.crc64") == "Reject"


# A discovery session.

DISCOVERY_KEYS = [
    "HeaderDigest",
    "DataDigest",
    "DefaultTime2Wait",
    "DefaultTime2Retain",
    "IFMarker",
    "OFMarker",
    "ErrorRecoveryLevel",
    "MaxRecvDataSegmentLength",
]


def test_discovery_offers_what_open_iscsi_offers() -> None:
    assert [name for name, _ in offer(PARAMS, discovery=True)] == DISCOVERY_KEYS
    assert set(offer(PARAMS, discovery=True)) <= set(offer(PARAMS))


@pytest.mark.parametrize("name", [name for name, spec in KEYS.items() if spec.relevance is Relevance.NORMAL])
def test_discovery_answers_with_irrelevant(name: str) -> None:
    negotiation = OperationalNegotiation(PARAMS, discovery=True)
    assert negotiation.take(name, "1") == "Irrelevant"
    assert negotiation.take(name, "Irrelevant") is None


def test_discovery_result_is_the_defaults() -> None:
    negotiation = OperationalNegotiation(PARAMS, discovery=True)
    assert negotiation.take("DefaultTime2Wait", "7") is None
    assert negotiation.take("MaxRecvDataSegmentLength", "4096") is None
    result = negotiation.finish()
    assert (result.default_time2wait, result.max_xmit_data_segment_length) == (7, 4096)
    assert (result.initial_r2t, result.immediate_data, result.max_burst_length) == (True, True, 262144)
    assert (result.max_outstanding_r2t, result.max_connections, result.first_burst_length) == (1, 1, 65536)


# A connection that joins a session.


def test_a_joining_connection_negotiates_itself_only() -> None:
    session = settle(MaxBurstLength="8192", InitialR2T="No", MaxRecvDataSegmentLength="65536").finish()
    names = {name for name, _ in offer(PARAMS, leading=False)}
    assert names == {"HeaderDigest", "DataDigest", "IFMarker", "OFMarker", "MaxRecvDataSegmentLength"}
    params = SessionParams(header_digest=Digest.CRC32C, max_recv_data_segment_length=4096)
    joining = OperationalNegotiation(params, session=session)
    assert dict(joining.offer).keys() == names
    assert joining.take("HeaderDigest", "CRC32C") is None
    assert joining.take("MaxBurstLength", "16384") == "Reject"
    result = joining.finish()
    assert result == dataclasses.replace(
        session, header_digest=True, max_recv_data_segment_length=4096, max_xmit_data_segment_length=8192
    )


# Answers by the table, whatever the key and the value.


@pytest.mark.parametrize("name", [name for name, spec in KEYS.items() if not spec.declared])
@given(
    offered=st.one_of(
        st.integers(-1, 1 << 33).map(str),
        st.lists(st.sampled_from(["None", "CRC32C", "RFC3720", "FastAbort", "", "Y-a.b"])).map(",".join),
        st.sampled_from(["Yes", "No", "yes", "0x200", "0x", "1e3", "2048~65535", "Reserved"]),
        st.text(max_size=20),
    )
)
def test_an_answer_is_admissible_or_reject(name: str, offered: str) -> None:
    spec = KEYS[name]
    ours = answer(spec, offered)
    if ours == "Reject":
        return
    if spec.numeric:
        low, high = sorted((int(ours, 0), int(spec.default or "", 0)))
        assert spec.low <= low <= high <= spec.high
        assert int(ours) in (parse_number(offered), int(spec.default or ""))
    elif spec.kind is Kind.LIST:
        assert ours in offered.split(",")
        assert ours in spec.choices
    else:
        assert (ours in ("Yes", "No")) == (offered in ("Yes", "No"))


@pytest.mark.parametrize("answer", [None, "None", "Reject", "NotUnderstood"])
def test_a_demanded_digest_is_not_given_up(answer: str | None) -> None:
    params = SessionParams(header_digest=Digest.CRC32C)
    with pytest.raises(ProtocolViolation, match="HeaderDigest"):
        settle(params, **({} if answer is None else {"HeaderDigest": answer})).finish()
    assert settle(params, HeaderDigest="CRC32C").finish().header_digest


def test_the_first_burst_never_exceeds_the_burst() -> None:
    result = settle(MaxBurstLength="8192", FirstBurstLength="65536").finish()
    assert (result.max_burst_length, result.first_burst_length) == (8192, 8192)


@pytest.mark.parametrize(
    ("own", "declared", "result"), [(0, "65536", 65536), (4096, "65536", 4096), (65536, "4096", 4096)]
)
def test_the_own_limit_cuts_what_the_target_takes(own: int, declared: str, result: int) -> None:
    params = SessionParams(max_xmit_data_segment_length=own)
    assert settle(params, MaxRecvDataSegmentLength=declared).finish().max_xmit_data_segment_length == result
