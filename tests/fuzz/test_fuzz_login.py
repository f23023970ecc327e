# SPDX-License-Identifier: LGPL-2.1-or-later
"""Invariant: whatever PDUs come, each gives progress or one LoginError; never another exception, never more than the
bounded number of answers, never more text than the limit, and no message that could move a terminal's cursor. The
parsers of texts, values and addresses below give a value within their limits or a ProtocolViolation.

A fixed budget runs here; ISCSIBOOT_FUZZ_EXAMPLES sets another one for a long run.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.initiator.config import SessionType
from iscsiboot.initiator.conversation import EXCHANGES_MAX
from iscsiboot.initiator.errors import LoginError, ProtocolViolation
from iscsiboot.initiator.events import LoginSucceeded, parse_target_address
from iscsiboot.initiator.keys import CONSTANTS, KEYS
from iscsiboot.initiator.login import LoginMachine
from iscsiboot.initiator.negotiation import OperationalNegotiation
from iscsiboot.initiator.pdu.login import LoginResponse
from iscsiboot.initiator.renegotiation import TextNegotiation
from iscsiboot.initiator.states import WAITING, State
from iscsiboot.initiator.text import KEYS_MAX, TEXT_MAX, TextAssembler, parse_binary, parse_number
from iscsiboot.model.params import SessionParams
from iscsiboot.model.portal import NamedPortal
from tests.doubles.conversation import OWN, USER, config, credentials, fixed_entropy
from tests.doubles.target import Reply, Script, ScriptedTarget, text_of
from tests.fuzz.budget import budget

BUDGET = budget(150)

values = st.one_of(
    st.sampled_from(
        ["Yes", "No", "None", "CHAP", "CRC32C", "0", "1", "5", "8", "512", "8192", "16777215", "0x00", "0b"]
    ),
    st.sampled_from(sorted(CONSTANTS)),
    st.text(max_size=40),
    st.integers(-1, 1 << 70).map(str),
    st.binary(max_size=40).map(lambda data: f"0x{data.hex()}"),
)
pairs = st.lists(
    st.tuples(st.sampled_from(sorted(KEYS)) | st.from_regex(r"[A-Z][a-z]{0,5}", fullmatch=True), values), max_size=8
)
texts = st.one_of(
    st.binary(max_size=200),
    pairs.map(lambda some: text_of([(key, value.replace("\0", "")) for key, value in some if value.isprintable()])),
)
small = st.integers(0, 3)
numbers = st.integers(0, (1 << 32) - 1)
responses = st.builds(
    LoginResponse,
    transit=st.booleans(),
    cont=st.booleans(),
    csg=small,
    nsg=small,
    version_active=st.sampled_from([0, 0, 0, 1]),
    isid=st.binary(min_size=6, max_size=6),
    tsih=st.integers(0, 65535),
    itt=st.sampled_from([0, 0, 0, 1]),
    statsn=numbers,
    exp_cmdsn=numbers,
    max_cmdsn=numbers,
    status_class=st.sampled_from([0, 0, 0, 0, 1, 2, 3, 255]),
    status_detail=st.sampled_from([0, 1, 2, 3, 255]),
)
modes = st.sampled_from(["none", "chap", "mutual", "discovery"])


def started(mode: str) -> LoginMachine:
    creds = None if mode in ("none", "discovery") else credentials(mutual=mode == "mutual")
    kind: dict[str, object] = {"session_type": SessionType.DISCOVERY, "target_name": ""} if mode == "discovery" else {}
    machine = LoginMachine(config(credentials=creds, **kind), entropy=fixed_entropy)
    machine.start()
    return machine


def give(machine: LoginMachine, bhs: bytes, data: bytes) -> bool:
    """Whether the login goes on; the invariant is checked on every way out."""
    try:
        machine.following(bhs)
        machine.receive(bhs, data)
    except LoginError as error:
        line = error.line()
        assert line.isprintable()
        assert len(line) < 1200
        assert USER[1].decode() not in line
        assert OWN[1].decode() not in line
        assert machine.state is State.FAILED
        assert machine.outcome is None
        return False
    assert (machine.state in WAITING) == (machine.outcome is None)
    return machine.outcome is None


@BUDGET
@given(modes, st.lists(st.tuples(st.binary(min_size=48, max_size=48), st.binary(max_size=100)), min_size=1, max_size=5))
def test_random_bytes(mode: str, pdus: list[tuple[bytes, bytes]]) -> None:
    machine = started(mode)
    for bhs, data in pdus:
        if not give(machine, bhs, data):
            return


@BUDGET
@given(modes, st.lists(st.tuples(responses, texts), min_size=1, max_size=6))
def test_random_responses(mode: str, answers: list[tuple[LoginResponse, bytes]]) -> None:
    machine = started(mode)
    sent = 0
    for number, (response, text) in enumerate(answers):
        while machine.next_request() is not None:
            sent += 1
        assert sent == number + 1
        if not give(machine, replace(response, data_length=len(text)).encode(), text):
            return


@BUDGET
@given(
    modes,
    st.dictionaries(
        st.integers(0, 6),
        st.tuples(st.sampled_from(["text", "append", "header", "flip"]), responses, texts, st.integers(0, 1 << 12)),
    ),
    st.integers(1, 300),
    st.integers(0, 3),
)
def test_an_honest_target_with_some_answers_spoilt(
    mode: str, spoilt: dict[int, tuple[str, LoginResponse, bytes, int]], segment: int, hesitate: int
) -> None:
    """Gets past the first answers, which random bytes hardly do."""

    def spoil(number: int, reply: Reply) -> Reply:
        how, response, text, bit = spoilt[number]
        if how == "text":
            return replace(reply, text=text)
        if how == "append":
            return replace(reply, text=reply.text + text)
        if how == "header":
            return replace(reply, response=response)
        wire = bytearray(reply.wire())
        wire[bit // 8 % len(wire)] ^= 1 << bit % 8
        return replace(reply, pdu=bytes(wire))

    script = Script(user=None if mode in ("none", "discovery") else USER, own=OWN, segment=segment, hesitate=hesitate)
    target, machine = ScriptedTarget(script), started(mode)
    for number in range(EXCHANGES_MAX + 1):
        request = machine.next_request()
        assert request is not None, "no progress"
        assert len(request[1]) <= TEXT_MAX
        reply = target.receive(*request)
        wire = (spoil(number, reply) if number in spoilt else reply).wire()
        if not give(machine, wire[:48], wire[48:]):
            break
    else:
        raise AssertionError("the login goes on after the last answer it may take")
    outcome = machine.outcome
    if isinstance(outcome, LoginSucceeded):
        assert outcome.mutual == (mode == "mutual")
        assert outcome.negotiated.first_burst_length <= outcome.negotiated.max_burst_length
        assert 512 <= outcome.negotiated.max_xmit_data_segment_length < 1 << 24
        assert all(remark.isprintable() for remark in outcome.remarks)


@BUDGET
@given(st.lists(st.tuples(texts, st.booleans()), max_size=20))
def test_texts_in_parts(parts: list[tuple[bytes, bool]]) -> None:
    assembler, cause, kept = TextAssembler(), "", b""
    try:
        for part, more in parts:
            kept += part
            pairs = assembler.add(part, more=more)
            assert (pairs is None) == more
            if pairs is not None:
                assert len(pairs) <= KEYS_MAX
                assert sum(len(key) + len(value.encode()) + 2 for key, value in pairs) <= len(kept) + 1
                kept = b""
    except ProtocolViolation as violation:
        cause = violation.cause
    assert cause.isprintable()


@BUDGET
@given(values | st.text("0123456789abcdefxXbB+/= -_", max_size=40), st.integers(1, 64))
def test_values(value: str, limit: int) -> None:
    causes = []
    for parse in (parse_number, lambda text: parse_binary(text, limit)):
        try:
            result = parse(value)
            assert 0 <= result < 1 << 64 if isinstance(result, int) else 1 <= len(result) <= limit
        except ProtocolViolation as violation:
            causes.append(violation.cause)
    assert len(causes) >= 1 or value[:2] in ("0x", "0X"), "only hexadecimal is both a number and bytes"
    assert all(cause.isprintable() for cause in causes)


@BUDGET
@given(st.booleans(), st.lists(pairs, max_size=5))
def test_negotiation_after_login(discovery: bool, heard: list[list[tuple[str, str]]]) -> None:
    agreed = OperationalNegotiation(SessionParams(), discovery=discovery).finish()
    negotiation, cause = TextNegotiation(agreed, discovery=discovery), ""
    negotiation.offer((("MaxRecvDataSegmentLength", "4096"),))
    try:
        for some in heard:
            owed = negotiation.take(tuple(some))
            assert len(owed) <= len(some)
            assert {answer for _, answer in owed} <= CONSTANTS
    except ProtocolViolation as violation:
        cause = violation.cause
    assert cause.isprintable()
    now = negotiation.negotiated
    assert now.max_recv_data_segment_length in (4096, agreed.max_recv_data_segment_length)
    assert 512 <= now.max_xmit_data_segment_length < 1 << 24


@BUDGET
@given(
    st.one_of(
        st.text(max_size=100), st.from_regex(r"\[?[0-9a-z:.%/-]{0,30}\]?(:[0-9]{0,6})?(,[0-9]{0,6})?", fullmatch=True)
    )
)
def test_addresses(value: str) -> None:
    cause, host = "", ""
    try:
        portal = parse_target_address(value)
        host = portal.host if isinstance(portal, NamedPortal) else str(portal.address)
        assert 1 <= portal.port <= 65535
    except ProtocolViolation as violation:
        cause = violation.cause
    assert bool(cause) != bool(host)
    assert cause.isprintable()
    assert all(char.isascii() and (char.isalnum() or char in ".:-") for char in host)
