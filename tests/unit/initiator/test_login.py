# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whole logins between the machine and an honest target, in memory, byte for byte reproducible."""

from __future__ import annotations

from dataclasses import replace

import pytest

from iscsiboot.errors import ExitCode, Stage
from iscsiboot.initiator.chap import STRONGEST_FIRST, ChapAlgorithm, digest
from iscsiboot.initiator.config import SessionType
from iscsiboot.initiator.errors import AlgorithmsRejected, LoginError, Misuse
from iscsiboot.initiator.events import LoginRedirected, LoginSucceeded
from iscsiboot.initiator.login import LoginMachine
from iscsiboot.initiator.pdu.header import BHS_LENGTH
from iscsiboot.initiator.pdu.login import LoginRequest
from iscsiboot.initiator.states import State
from iscsiboot.model.params import Digest, SessionParams
from iscsiboot.model.portal import NamedPortal, Portal, parse_ip
from tests.doubles.conversation import (
    INITIATOR,
    OWN,
    PORTAL,
    TARGET,
    USER,
    Transcript,
    config,
    converse,
    credentials,
    fixed_entropy,
)
from tests.doubles.target import Fault, Script, ScriptedTarget, redirect, text, text_of, with_keys

MUTUAL = Script(user=USER, own=OWN)
ONE_WAY = Script(user=USER)


def machine(**fields: object) -> LoginMachine:
    return LoginMachine(config(**fields), entropy=fixed_entropy)


def login(script: Script, **fields: object) -> tuple[LoginSucceeded, Transcript]:
    transcript = Transcript()
    outcome = converse(machine(**fields), ScriptedTarget(script), transcript)
    assert isinstance(outcome, LoginSucceeded)
    return outcome, transcript


def test_without_credentials_one_exchange_is_enough() -> None:
    outcome, transcript = login(Script())
    assert transcript.flags() == [0x87]
    assert transcript.states == [State.OPERATIONAL, State.SUCCEEDED]
    assert (outcome.tsih, outcome.tpgt, outcome.statsn) == (7, 1, 1000)
    assert (outcome.exp_cmdsn, outcome.max_cmdsn) == (1, 32)
    assert (outcome.algorithm, outcome.mutual, outcome.remarks) == (None, False, ())
    assert outcome.negotiated.max_burst_length == 262144


def test_one_way_chap() -> None:
    outcome, transcript = login(ONE_WAY, credentials=credentials())
    assert transcript.flags() == [0x81, 0x00, 0x81, 0x87]
    assert transcript.text(0) == [
        f"InitiatorName={INITIATOR}",
        f"TargetName={TARGET}",
        "SessionType=Normal",
        "AuthMethod=CHAP,None",
    ]
    assert transcript.text(1) == ["CHAP_A=8,7,6,5"]
    assert [pair.partition("=")[0] for pair in transcript.text(2)] == ["CHAP_N", "CHAP_R"]
    assert (outcome.algorithm, outcome.mutual) == (ChapAlgorithm.SHA3_256, False)


def test_mutual_chap() -> None:
    outcome, transcript = login(MUTUAL, credentials=credentials(mutual=True))
    assert transcript.flags() == [0x00, 0x00, 0x81, 0x87]
    assert transcript.text(0)[-1] == "AuthMethod=CHAP"
    assert [pair.partition("=")[0] for pair in transcript.text(2)] == ["CHAP_N", "CHAP_R", "CHAP_I", "CHAP_C"]
    assert (outcome.algorithm, outcome.mutual) == (ChapAlgorithm.SHA3_256, True)
    assert transcript.states == [
        State.AUTH_METHOD,
        State.CHALLENGE,
        State.PROOF,
        State.OPERATIONAL,
        State.SUCCEEDED,
    ]


def test_the_same_entropy_gives_the_same_bytes() -> None:
    first, second = (login(MUTUAL, credentials=credentials(mutual=True))[1] for _ in range(2))
    assert first == second


@pytest.mark.parametrize("algorithm", list(ChapAlgorithm), ids=lambda algorithm: algorithm.name)
@pytest.mark.parametrize("encode", ["0x", "0b"])
def test_every_algorithm_and_encoding(algorithm: ChapAlgorithm, encode: str) -> None:
    script = replace(MUTUAL, algorithms=(algorithm,), encode=encode)
    assert login(script, credentials=credentials(mutual=True))[0].algorithm is algorithm


def test_a_challenge_of_1024_bytes_arrives_in_pieces() -> None:
    script = replace(MUTUAL, challenge=bytes(range(256)) * 4, segment=500)
    outcome, transcript = login(script, credentials=credentials(mutual=True))
    assert outcome.mutual
    assert transcript.flags().count(0x00) > 4


@pytest.mark.parametrize("segment", [1 << 13, 100, 31], ids=lambda size: f"{size}-bytes")
@pytest.mark.parametrize("padded", [True, False], ids=["padded", "bare"])
def test_texts_in_pieces_change_nothing(segment: int, padded: bool) -> None:
    transcript = Transcript()
    target = ScriptedTarget(Script(segment=segment))
    outcome = converse(machine(), target, transcript, padded=padded)
    assert isinstance(outcome, LoginSucceeded)
    assert outcome.negotiated == login(Script())[0].negotiated
    # Asking for the rest is an empty request that offers no transition.
    assert all(request.data_length == 0 and not request.transit for request in target.requests[1:-1])


@pytest.mark.parametrize("hesitate", [1, 5])
def test_a_target_that_takes_its_time_in_each_stage(hesitate: int) -> None:
    outcome, transcript = login(replace(MUTUAL, hesitate=hesitate), credentials=credentials(mutual=True))
    assert outcome.mutual
    assert transcript.flags()[-hesitate - 1 :] == [0x87] * (hesitate + 1)
    assert State.LEAVE_SECURITY in transcript.states


def test_credentials_at_a_target_without_chap_are_remarked() -> None:
    outcome, transcript = login(Script(), credentials=credentials())
    assert outcome.remarks == ("CHAP is configured, the target wanted no authentication",)
    assert outcome.algorithm is None
    assert transcript.flags() == [0x81, 0x87]


def test_chap_chosen_and_skipped_is_no_chap() -> None:
    """LIO without authentication picks CHAP from our list and leaves the stage in the same answer."""
    outcome, transcript = login(Script(faults={0: text(b"AuthMethod=CHAP\0")}), credentials=credentials())
    assert outcome.remarks == ("CHAP is configured, the target wanted no authentication",)
    assert outcome.algorithm is None
    assert transcript.flags() == [0x81, 0x87]


def test_a_target_without_chap_that_hesitates() -> None:
    outcome, transcript = login(Script(hesitate=1), credentials=credentials())
    assert outcome.algorithm is None
    assert transcript.flags() == [0x81, 0x81, 0x87, 0x87]


def test_alias_and_numbers_go_out_as_configured() -> None:
    transcript = Transcript()
    target = ScriptedTarget()
    converse(machine(initiator_alias="host.example", cmdsn=9, exp_statsn=77), target, transcript)
    assert transcript.text(0)[1] == "InitiatorAlias=host.example"
    first = target.requests[0]
    assert (first.cmdsn, first.exp_statsn, first.tsih, first.itt, first.cid) == (9, 77, 0, 0, 0)
    assert (first.version_max, first.version_min, first.isid) == (0, 0, bytes.fromhex("00023d000001"))


def test_statsn_is_acknowledged_and_the_header_never_changes_otherwise() -> None:
    target = ScriptedTarget(MUTUAL)
    converse(machine(credentials=credentials(mutual=True)), target)
    assert [request.exp_statsn for request in target.requests] == [0, 1001, 1002, 1003]
    assert (
        len({(request.isid, request.tsih, request.itt, request.cid, request.cmdsn) for request in target.requests}) == 1
    )


def test_header_says_how_long_the_data_is_and_the_data_is_padded() -> None:
    running = machine()
    running.start()
    request = running.next_request()
    assert request is not None
    bhs, data = request
    length = LoginRequest.decode(bhs).data_length
    assert len(bhs) == BHS_LENGTH
    assert len(data) % 4 == 0
    assert data[length:] == bytes(len(data) - length)
    assert data[length - 1 : length] == b"\0"
    assert running.next_request() is None


def test_digests_are_negotiated() -> None:
    params = SessionParams(header_digest=Digest.PREFER_CRC32C, data_digest=Digest.CRC32C)
    outcome, _ = login(Script(), params=params)
    assert (outcome.negotiated.header_digest, outcome.negotiated.data_digest) == (True, True)


def test_keys_the_target_brings_up_are_answered() -> None:
    script = Script(keys={"X-com.example.turbo": "Yes", "TaskReporting": "RFC3720,FastAbort"}, hesitate=1)
    target = ScriptedTarget(script)
    assert isinstance(converse(machine(), target), LoginSucceeded)
    assert ("X-com.example.turbo", "NotUnderstood") in target.received
    assert ("TaskReporting", "RFC3720") in target.received


def test_keys_of_the_security_stage_are_answered_with_the_next_request() -> None:
    script = replace(ONE_WAY, keys={"X-com.example.early": "1"})
    target = ScriptedTarget(script)
    assert isinstance(converse(machine(credentials=credentials()), target), LoginSucceeded)
    assert ("X-com.example.early", "NotUnderstood") in target.received


def test_a_key_in_the_last_answer_is_remarked() -> None:
    outcome, _ = login(Script(faults={0: with_keys(("X-com.example.late", "1"))}))
    assert outcome.remarks == ('the target offered "X-com.example.late" in its last answer: its default holds',)


def test_a_key_said_twice_in_the_same_words_is_remarked() -> None:
    again = with_keys(("MaxRecvDataSegmentLength", "65536"), ("X-com.example.mode", "1"))
    script = Script(keys={"MaxRecvDataSegmentLength": "65536"}, hesitate=2, faults={0: again, 1: again})
    outcome, transcript = login(script)
    assert outcome.negotiated.max_xmit_data_segment_length == 65536
    assert outcome.remarks == (
        'the target sent "MaxRecvDataSegmentLength" twice with one value',
        'the target sent "X-com.example.mode" twice with one value',
    )
    assert b"".join(data for _, data in transcript.sent).count(b"X-com.example.mode=NotUnderstood") == 1


def test_an_answer_that_follows_no_rule_is_remarked() -> None:
    outcome, _ = login(Script(keys={"DefaultTime2Retain": "20"}))
    assert outcome.negotiated.default_time2retain == 0
    (remark,) = outcome.remarks
    assert remark == ('the target answered DefaultTime2Retain="20" to our 0, the rule is the smaller value: 0 holds')


def test_an_alias_in_another_character_set_is_shown_by_its_bytes() -> None:
    alias = text_of([("MaxRecvDataSegmentLength", "8192")]) + b"TargetAlias=\x83f\x83B\0"
    outcome, _ = login(Script(faults={0: lambda reply: replace(reply, text=alias)}))
    assert outcome.target_alias == "\\x83f\\x83B"


def test_long_answers_are_cut_by_the_c_bit() -> None:
    keys = {f"X-com.example.{'k' * 40}.{number:03}": "1" for number in range(200)}
    target = ScriptedTarget(Script(keys=keys, hesitate=1))
    transcript = Transcript()
    assert isinstance(converse(machine(), target, transcript), LoginSucceeded)
    assert {(name, "NotUnderstood") for name in keys} <= set(target.received)
    continued = [request for request in target.requests if request.cont]
    assert continued
    assert all(8000 < request.data_length <= 8192 and not request.transit for request in continued)


def test_what_the_target_declares() -> None:
    outcome, _ = login(Script(keys={"TargetAlias": "disk\x1b[31m shelf", "MaxRecvDataSegmentLength": "65536"}))
    assert outcome.target_alias == "disk\\x1b[31m shelf"
    assert outcome.negotiated.max_xmit_data_segment_length == 65536


@pytest.mark.parametrize(
    ("portal", "tpgt", "remarks"),
    [
        (None, 1, ()),
        (PORTAL, 1, ()),
        (replace(PORTAL, tpgt=1), 1, ()),
        (replace(PORTAL, tpgt=5), 1, ("the target says portal group 1, 5 was configured",)),
    ],
    ids=["no-portal", "unknown", "same", "other"],
)
def test_the_portal_group_is_what_the_target_says(portal: Portal | None, tpgt: int, remarks: tuple[str, ...]) -> None:
    outcome, _ = login(Script(), portal=portal)
    assert (outcome.tpgt, outcome.remarks) == (tpgt, remarks)


@pytest.mark.parametrize(("written", "tpgt"), [("0x10", 16), ("0bEA==", 16), ("0BAQA=", 256), ("0b//8=", 65535)])
def test_a_portal_group_is_a_binary_value(written: str, tpgt: int) -> None:
    script = Script(keys={"TargetPortalGroupTag": written}, faults={0: without("TargetPortalGroupTag=1")})
    assert login(script)[0].tpgt == tpgt


def without(pair: str) -> Fault:
    """The honest answer lacks this one: the scripted target tells its own portal group always."""
    return lambda reply: replace(reply, text=reply.text.replace(f"{pair}\0".encode(), b""))


def test_a_kernel_that_rewrites_the_task_tag_is_no_error() -> None:
    script = replace(MUTUAL, faults={-1: lambda reply: reply.changed(itt=0x4B000001)})
    assert login(script, credentials=credentials(mutual=True))[0].remarks == ()


@pytest.mark.parametrize(("detail", "permanent"), [(1, False), (2, True)], ids=["temporary", "permanent"])
@pytest.mark.parametrize(
    ("address", "portal"),
    [
        ("192.0.2.9:3261,4", Portal(address=parse_ip("192.0.2.9"), port=3261, tpgt=4)),
        ("[2001:db8::9]", Portal(address=parse_ip("2001:db8::9"))),
        ("other.example.com:3260", NamedPortal(host="other.example.com")),
    ],
)
def test_redirects(detail: int, permanent: bool, address: str, portal: Portal | NamedPortal) -> None:
    running = machine(credentials=credentials())
    outcome = converse(running, ScriptedTarget(Script(faults={0: redirect(address, detail)})))
    assert outcome == LoginRedirected(portal=portal, permanent=permanent)
    assert running.state is State.REDIRECTED


@pytest.mark.parametrize("hater", ["reject", "status"])
def test_a_target_that_hates_lists_gets_a_single_algorithm(hater: str) -> None:
    script = replace(ONE_WAY, list_hater=hater, algorithms=(5,))
    with pytest.raises(AlgorithmsRejected) as caught:
        converse(machine(credentials=credentials()), ScriptedTarget(script))
    assert caught.value.retry_with is ChapAlgorithm.MD5
    assert not caught.value.retryable
    outcome, _ = login(script, credentials=credentials(), chap_algorithms=(caught.value.retry_with,))
    assert outcome.algorithm is ChapAlgorithm.MD5


def test_after_a_single_algorithm_there_is_nothing_left_to_try() -> None:
    script = replace(ONE_WAY, algorithms=(5,))
    with pytest.raises(AlgorithmsRejected) as caught:
        converse(machine(credentials=credentials(), chap_algorithms=(ChapAlgorithm.SHA256,)), ScriptedTarget(script))
    assert caught.value.retry_with is None
    assert caught.value.exit_code == ExitCode.FATAL_LOGIN


# Discovery sessions.

DISCOVERY = {"session_type": SessionType.DISCOVERY, "target_name": ""}


def test_a_discovery_login() -> None:
    outcome, transcript = login(Script(keys={"TargetPortalGroupTag": ""}), **DISCOVERY)
    assert transcript.flags() == [0x87]
    assert transcript.text(0) == [
        f"InitiatorName={INITIATOR}",
        "SessionType=Discovery",
        "HeaderDigest=None",
        "DataDigest=None",
        "DefaultTime2Wait=2",
        "DefaultTime2Retain=0",
        "IFMarker=No",
        "OFMarker=No",
        "ErrorRecoveryLevel=0",
        "MaxRecvDataSegmentLength=262144",
    ]
    assert (outcome.tpgt, outcome.remarks) == (None, ())


@pytest.mark.parametrize("mutual", [False, True], ids=["one-way", "mutual"])
def test_a_discovery_login_with_chap(mutual: bool) -> None:
    outcome, transcript = login(MUTUAL, credentials=credentials(mutual=mutual), **DISCOVERY)
    assert (outcome.algorithm, outcome.mutual) == (ChapAlgorithm.SHA3_256, mutual)
    assert transcript.text(0)[:2] == [f"InitiatorName={INITIATOR}", "SessionType=Discovery"]
    assert not any("Burst" in pair for pair in transcript.text(3))


def test_a_discovery_session_with_one_target() -> None:
    _, transcript = login(Script(), session_type=SessionType.DISCOVERY)
    assert transcript.text(0)[1:3] == [f"TargetName={TARGET}", "SessionType=Discovery"]


def test_data_keys_in_a_discovery_session_are_irrelevant() -> None:
    target = ScriptedTarget(Script(keys={"MaxBurstLength": "1024", "InitialR2T": "Yes"}, hesitate=1))
    outcome = converse(machine(**DISCOVERY), target)
    assert isinstance(outcome, LoginSucceeded)
    assert {("MaxBurstLength", "Irrelevant"), ("InitialR2T", "Irrelevant")} <= set(target.received)
    assert outcome.negotiated.max_burst_length == 262144


def test_an_error_of_a_discovery_login_names_the_portal() -> None:
    running = machine(**DISCOVERY)
    running.start()
    assert running.abandon("gone", exit_code=ExitCode.LOGIN).subject == "192.0.2.1:3260"
    nowhere = machine(**DISCOVERY, portal=None)
    nowhere.start()
    assert nowhere.abandon("gone", exit_code=ExitCode.LOGIN).line() == "login: operational negotiation: gone"


# Joining a session.


def test_a_connection_that_joins_a_session() -> None:
    session = login(Script())[0]
    target = ScriptedTarget()
    transcript = Transcript()
    params = SessionParams(max_recv_data_segment_length=4096)
    outcome = converse(machine(tsih=7, cid=3, session=session.negotiated, params=params), target, transcript)
    assert isinstance(outcome, LoginSucceeded)
    assert {(request.tsih, request.cid) for request in target.requests} == {(7, 3)}
    assert transcript.text(0) == [
        f"InitiatorName={INITIATOR}",
        f"TargetName={TARGET}",
        "HeaderDigest=None",
        "DataDigest=None",
        "IFMarker=No",
        "OFMarker=No",
        "MaxRecvDataSegmentLength=4096",
    ]
    assert outcome.tsih == 7
    assert outcome.negotiated == replace(session.negotiated, max_recv_data_segment_length=4096)


def test_a_target_that_puts_us_into_another_session() -> None:
    session = login(Script())[0]
    script = Script(faults={0: lambda reply: reply.changed(tsih=8)})
    with pytest.raises(LoginError, match="put us into session 0x8, we asked for 0x7"):
        login(script, tsih=7, session=session.negotiated)


def test_the_same_isid_reinstates_by_itself() -> None:
    """Session reinstatement is nothing on the wire but the same ISID with TSIH 0 (section 6.3.5)."""
    isid = bytes.fromhex("00023d0000aa")
    first, second = ScriptedTarget(), ScriptedTarget()
    for target in (first, second):
        converse(machine(isid=isid), target)
    assert first.requests == second.requests
    assert (first.requests[0].isid, first.requests[0].tsih) == (isid, 0)


def test_a_host_without_md5_does_not_offer_it() -> None:
    def fips(algorithm: ChapAlgorithm, message: bytes) -> bytes:
        if algorithm is ChapAlgorithm.MD5:
            raise ValueError("unsupported")
        return digest(algorithm, message)

    transcript = Transcript()
    running = LoginMachine(config(credentials=credentials()), entropy=fixed_entropy, hasher=fips)
    assert isinstance(converse(running, ScriptedTarget(ONE_WAY), transcript), LoginSucceeded)
    assert transcript.text(1) == ["CHAP_A=8,7,6"]
    running = LoginMachine(config(credentials=credentials()), entropy=fixed_entropy, hasher=fips)
    with pytest.raises(AlgorithmsRejected) as caught:
        converse(running, ScriptedTarget(replace(ONE_WAY, algorithms=(5,))))
    assert caught.value.retry_with is ChapAlgorithm.SHA1, "never the one this host cannot compute"


@pytest.mark.parametrize("encode", ["0x", "0b"])
@pytest.mark.parametrize("size", [1024, 1025])
def test_the_longest_challenge(encode: str, size: int) -> None:
    script = replace(MUTUAL, challenge=bytes(size), encode=encode)
    if size == 1024:
        assert login(script, credentials=credentials(mutual=True))[0].mutual
    else:
        with pytest.raises(LoginError, match="1024"):
            login(script, credentials=credentials(mutual=True))


def test_misuse_is_refused() -> None:
    running = machine()
    with pytest.raises(Misuse, match="has not started"):
        running.receive(bytes(BHS_LENGTH), b"")
    converse(running, ScriptedTarget())
    with pytest.raises(Misuse, match="has succeeded"):
        running.start()
    with pytest.raises(Misuse, match="has succeeded"):
        running.receive(bytes(BHS_LENGTH), b"")
    failed = machine()
    failed.start()
    with pytest.raises(LoginError):
        failed.receive(bytes(BHS_LENGTH), b"")
    assert failed.outcome is None
    with pytest.raises(Misuse, match="has failed"):
        failed.following(bytes(BHS_LENGTH))


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"isid": b"12345"}, "6 bytes"),
        ({"initiator_name": ""}, "initiator name is empty"),
        ({"target_name": ""}, "target name is empty"),
        ({"target_name": "iqn.2001-04.com.example:a\0AuthMethod=None"}, "unprintable"),
        ({"initiator_name": "iqn.2001-04.com.example:" + "x" * 200}, "223 bytes"),
        ({"initiator_alias": "a\nb"}, "unprintable"),
        ({"chap_algorithms": ()}, "empty or names one twice"),
        ({"chap_algorithms": STRONGEST_FIRST + STRONGEST_FIRST}, "empty or names one twice"),
        ({"cmdsn": 1 << 32}, "32 bits"),
        ({"exp_statsn": -1}, "32 bits"),
        ({"tsih": 1 << 16}, "16 bits"),
        ({"cid": -1}, "16 bits"),
        ({"tsih": 7}, "both its tsih and what holds in it"),
        ({"target_name": "a\nb", "session_type": SessionType.DISCOVERY}, "unprintable"),
        ({"initiator_name": "", "session_type": SessionType.DISCOVERY}, "initiator name is empty"),
    ],
)
def test_what_cannot_stand_in_a_pdu_is_no_config(changed: dict[str, object], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        config(**changed)


def test_abandoning_names_stage_and_target() -> None:
    running = machine(credentials=credentials())
    running.start()
    error = running.abandon("the cable is out", exit_code=ExitCode.LOGIN)
    assert (error.stage, error.retryable, error.exit_code) == (Stage.LOGIN, True, ExitCode.LOGIN)
    assert error.line() == f"login: {TARGET} at 192.0.2.1:3260: security negotiation: the cable is out"
    assert running.state is State.FAILED
