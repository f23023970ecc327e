# SPDX-License-Identifier: LGPL-2.1-or-later
"""The full feature phase from call to event: commands, pings and texts that go well, and each rule of theirs broken."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.errors import ExitCode, Stage
from iscsiboot.initiator.config import SessionType
from iscsiboot.initiator.errors import Misuse, SessionError
from iscsiboot.initiator.fullfeature import LENGTH_MAX, FullFeature
from iscsiboot.initiator.fullfeature_states import Phase
from iscsiboot.initiator.pdu.ahs import decode_list, find_read_length, join_cdb
from iscsiboot.initiator.pdu.control import NopIn, NopOut, TextRequest, TextResponse
from iscsiboot.initiator.pdu.header import RESERVED_TAG
from iscsiboot.initiator.pdu.scsi import (
    Attribute,
    DataIn,
    DataOut,
    ReadyToTransfer,
    ScsiCommand,
    ScsiResponse,
    TaskFunction,
)
from iscsiboot.initiator.sending import ANSWERS_MAX, WAITING_MAX
from iscsiboot.initiator.session_events import (
    CHECK_CONDITION,
    GOOD,
    CommandFailed,
    CommandFinished,
    Pong,
    Remark,
    ScsiResult,
    TextAnswered,
    TextPart,
)
from iscsiboot.initiator.session_state import REMARKS_MAX
from iscsiboot.initiator.stream import RawPdu
from iscsiboot.initiator.tasks import ENDED_MAX, TASKS_MAX, PingTask, TaskTable
from tests.unit.initiator.fullfeature_kit import (
    CMDSN,
    LUN,
    READ_10,
    STATSN,
    SUBJECT,
    WRAP,
    Session,
    agreed,
    logged_in,
    pattern,
)


def refused(session: Session, words: str, *given: Any, **lies: Any) -> SessionError:
    """What the machine says to a PDU it does not stand, after which it takes nothing any more."""
    with pytest.raises(SessionError, match=words) as caught:
        session.give(*given, **lies)
    assert session.phase() is Phase.FAILED
    assert session.machine.next_pdu() is None
    assert session.machine.next_deadline() is None
    assert session.machine.active == 0
    with pytest.raises(Misuse):
        session.give(NopIn())
    with pytest.raises(Misuse):
        session.read()
    return caught.value


# A command that reads.


def test_a_read_in_several_pdus_with_a_response() -> None:
    session, data = Session(), pattern(4096)
    tag = session.read()
    command = session.one(ScsiCommand)
    assert (command.read, command.write, command.final, command.attribute) == (True, False, True, Attribute.SIMPLE)
    assert (command.itt, command.lun, command.expected_length) == (tag, LUN.wire, 4096)
    assert (command.cmdsn, command.exp_statsn) == (CMDSN, STATSN + 1)
    assert command.cdb == READ_10.ljust(16, b"\0")
    for number, at in enumerate(range(0, 4096, 1024)):
        session.give(DataIn(itt=tag, datasn=number, buffer_offset=at, final=at == 3072), data[at : at + 1024])
    assert session.events() == []
    session.give(ScsiResponse(itt=tag, exp_datasn=4))
    assert session.event(CommandFinished) == CommandFinished(tag=tag, result=ScsiResult(status=GOOD, data=data))
    assert session.machine.active == 0


def test_a_read_whose_status_comes_with_the_data() -> None:
    session = Session()
    tag = session.read(512)
    session.sent()
    session.give(DataIn(itt=tag, final=True, status_present=True, underflow=True, residual=12), pattern(500))
    result = session.event(CommandFinished).result
    assert (result.data, result.residual, result.underflow) == (pattern(500), 12, True)
    assert session.machine.active == 0


def test_check_condition_with_sense() -> None:
    session = Session()
    tag = session.read()
    session.sent()
    sense = bytes([0x70, 0, 5, 0, 0, 0, 0, 10, *bytes(4), 0x24, 0, 0, 0, 0, 0])
    session.give(
        ScsiResponse(itt=tag, status=CHECK_CONDITION, underflow=True, residual=4096),
        len(sense).to_bytes(2, "big") + sense,
    )
    result = session.event(CommandFinished).result
    assert (result.status, result.sense, result.data, result.residual) == (CHECK_CONDITION, sense, b"", 4096)


def test_sense_that_is_cut_is_remarked_and_used() -> None:
    session = Session()
    tag = session.read(0)
    session.sent()
    session.give(ScsiResponse(itt=tag, status=CHECK_CONDITION), b"\x00\xffabc")
    remark, finished = session.events()
    assert isinstance(remark, Remark)
    assert "announces 255 bytes of sense data, 3 came" in remark.text
    assert isinstance(finished, CommandFinished)
    assert finished.result.sense == b"abc"


@pytest.mark.parametrize(
    ("response", "words"),
    [(1, "target failure"), (0x80, "vendor's own, 0x80"), (0x7F, "does not assign, 0x7f"), (2, "not assign, 0x02")],
)
def test_a_command_without_a_status(response: int, words: str) -> None:
    session = Session()
    tag = session.read()
    session.sent()
    session.give(ScsiResponse(itt=tag, response=response))
    failed = session.event(CommandFailed)
    assert failed.tag == tag
    assert words in failed.cause


@pytest.mark.parametrize("length", [1, LENGTH_MAX])
def test_the_least_and_the_most_that_is_read(length: int) -> None:
    session = Session()
    session.read(length)
    command = session.one(ScsiCommand)
    assert (command.read, command.expected_length) == (True, length)


def test_data_acknowledgement_is_remarked() -> None:
    session = Session()
    tag = session.read()
    session.sent()
    session.give(DataIn(itt=tag, acknowledge=True, ttt=5), pattern(100))
    assert "error recovery level 1" in session.event(Remark).text


def test_a_command_without_data() -> None:
    session = Session()
    tag = session.machine.command(LUN, bytes(6), now=0, attribute=Attribute.ORDERED)
    command = session.one(ScsiCommand)
    assert (command.read, command.write, command.final, command.expected_length) == (False, False, True, 0)
    assert command.attribute == Attribute.ORDERED
    session.give(ScsiResponse(itt=tag))
    assert session.event(CommandFinished).result == ScsiResult(status=GOOD)


@pytest.mark.parametrize("length", [1, 6, 16])
def test_a_cdb_that_fits_the_header(length: int) -> None:
    session = Session()
    session.machine.command(LUN, b"\xaa" * length, now=0)
    (sent,) = session.sent()
    assert (sent.pdu.cdb, sent.ahs) == ((b"\xaa" * length).ljust(16, b"\0"), b"")


@pytest.mark.parametrize("length", [17, 32, 260])
def test_a_long_cdb_goes_on_in_an_additional_header(length: int) -> None:
    session, cdb = Session(), bytes(range(1, 17)) + pattern(length - 16)
    session.machine.command(LUN, cdb, now=0)
    (sent,) = session.sent()
    assert join_cdb(sent.pdu.cdb, decode_list(sent.ahs))[:length] == cdb
    assert sent.pdu.ahs_length == len(sent.ahs)


def test_both_directions() -> None:
    session = Session(initial_r2t=True)
    tag = session.machine.command(LUN, bytes(range(32)), now=0, read_length=100, data_out=pattern(600))
    (sent,) = session.sent()
    assert (sent.pdu.read, sent.pdu.write, sent.pdu.expected_length, sent.data) == (True, True, 600, pattern(512))
    assert find_read_length(decode_list(sent.ahs)) == 100
    session.give(ReadyToTransfer(itt=tag, ttt=9, r2tsn=0, buffer_offset=512, desired_length=88))
    assert session.one(DataOut).final
    session.give(DataIn(itt=tag, datasn=1, final=True), pattern(90))
    session.give(ScsiResponse(itt=tag, bidi_underflow=True, bidi_residual=10))
    result = session.event(CommandFinished).result
    assert (result.data, result.read_residual, result.read_underflow) == (pattern(90), 10, True)


@pytest.mark.parametrize(
    ("pdu", "data", "words"),
    [
        (DataIn(itt=1, datasn=3), b"x", "^session: .*: SCSI Data-In of task 0x1: the target sent DataSN 3"),
        (DataIn(itt=1), bytes(513), "513 bytes, 512 were asked for"),
        (DataIn(itt=1, buffer_offset=4), b"x", "offset 4"),
        (DataIn(itt=2), b"x", "SCSI Data-In of task 0x2: it came for a task that does not exist"),
        (DataIn(itt=RESERVED_TAG), b"x", "SCSI Data-In: it came for no task"),
        (ScsiResponse(itt=1, overflow=True, underflow=True), b"", "O and U bit"),
        (ScsiResponse(itt=2), b"", "SCSI Response of task 0x2: it came for a task that does not exist"),
        (ReadyToTransfer(itt=1, ttt=1, desired_length=1), b"", "Ready To Transfer of task 0x1: .* writes nothing"),
        (TextResponse(itt=1), b"", "it came for a SCSI command"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_pdu_that_breaks_a_rule_ends_the_session(pdu: Any, data: bytes, words: str) -> None:
    session = Session()
    session.read(512)
    session.sent()
    error = refused(session, words, pdu, data)
    assert (error.stage, error.subject, error.exit_code) == (Stage.SESSION, SUBJECT, ExitCode.TRANS)
    assert not error.retryable
    assert error.hint.startswith("report this")


def test_events_from_before_the_failure_are_kept() -> None:
    session = Session()
    tag = session.read(0)
    session.sent()
    session.give(ScsiResponse(itt=tag))
    refused(session, "does not exist", ScsiResponse(itt=tag))
    assert session.event(CommandFinished).tag == tag


# A command that writes.


def test_a_write_with_immediate_and_unsolicited_data_and_r2ts() -> None:
    session, data = Session(), pattern(5000)
    tag = session.write(data)
    sent = session.sent()
    command = sent[0].pdu
    assert isinstance(command, ScsiCommand)
    assert (command.write, command.read, command.final, command.expected_length) == (True, False, False, 5000)
    assert sent[0].data == data[:512]
    assert [(item.pdu.datasn, item.pdu.buffer_offset, item.pdu.final) for item in sent[1:]] == [
        (0, 512, False),
        (1, 1024, False),
        (2, 1536, True),
    ]
    got = b"".join(item.data for item in sent)
    for number, (at, length) in enumerate(((2048, 2000), (4048, 952))):
        session.give(
            ReadyToTransfer(
                lun=LUN.wire, itt=tag, ttt=40 + number, r2tsn=number, buffer_offset=at, desired_length=length
            )
        )
        sent = session.sent()
        assert {item.pdu.ttt for item in sent} == {40 + number}
        assert {item.pdu.lun for item in sent} == {LUN.wire}
        assert [item.pdu.datasn for item in sent] == list(range(len(sent)))
        assert [item.pdu.final for item in sent] == [False] * (len(sent) - 1) + [True]
        got += b"".join(item.data for item in sent)
    assert got == data
    session.give(ScsiResponse(itt=tag))
    assert session.event(CommandFinished).result.status == GOOD


def test_a_status_before_all_data_was_sent_ends_the_sending() -> None:
    session = Session()
    tag = session.write(pattern(5000))
    session.machine.next_pdu()
    session.give(ScsiResponse(itt=tag, status=CHECK_CONDITION))
    assert session.sent() == []
    assert session.event(CommandFinished).result.status == CHECK_CONDITION


def test_unsolicited_data_follows_in_the_order_of_the_commands() -> None:
    session = Session(immediate_data=False)
    first, second = session.write(pattern(1000)), session.write(pattern(1000))
    assert [(type(item.pdu), item.pdu.itt) for item in session.sent()] == [
        (ScsiCommand, first),
        (DataOut, first),
        (DataOut, first),
        (ScsiCommand, second),
        (DataOut, second),
        (DataOut, second),
    ]


def test_each_pdu_acknowledges_what_came_before_it_leaves() -> None:
    session = Session(immediate_data=False, first_burst_length=1024)
    reading, writing = session.read(0), session.write(pattern(1024))
    sent = [session.machine.next_pdu() for _ in range(3)]
    assert all(sent)
    session.give(ScsiResponse(itt=reading))
    last = session.one(DataOut)
    assert last.itt == writing
    assert last.exp_statsn == STATSN + 2


# Windows.


def test_commands_wait_for_the_window() -> None:
    session = Session(window=2)
    tags = [session.read(0) for _ in range(4)]
    assert [item.pdu.itt for item in session.sent()] == tags[:2]
    session.give(ScsiResponse(itt=tags[0]))
    assert session.sent() == []
    session.max_cmdsn += 1
    session.give(ScsiResponse(itt=tags[1]))
    assert [(item.pdu.itt, item.pdu.cmdsn) for item in session.sent()] == [(tags[2], CMDSN + 2)]
    session.max_cmdsn += 5
    session.give(NopIn())
    assert [item.pdu.itt for item in session.sent()] == [tags[3]]


def test_a_closed_window_holds_no_ping_back() -> None:
    session = Session(window=0)
    session.read()
    session.machine.ping(0)
    assert session.one(NopOut).cmdsn == CMDSN


def test_a_pdu_for_a_command_that_still_waits() -> None:
    session = Session(window=0)
    tag = session.read()
    refused(session, "came for a task that waits to be sent", DataIn(itt=tag), b"x")


def test_the_queue_is_bounded() -> None:
    session = Session(window=0)
    for _ in range(WAITING_MAX):
        session.read()
    with pytest.raises(Misuse, match=f"{WAITING_MAX} requests wait"):
        session.read()
    assert session.machine.active == WAITING_MAX


def test_the_tasks_are_bounded_and_pings_do_not_count() -> None:
    session = Session(window=TASKS_MAX + 1)
    for _ in range(TASKS_MAX):
        session.read()
        session.machine.next_pdu()
    with pytest.raises(Misuse, match=f"{TASKS_MAX} tasks"):
        session.read()
    session.machine.ping(0)


@pytest.mark.parametrize("statsn", [STATSN, 0xFFFFFFFE, 0xFFFFFFFF, 0x7FFFFFFF], ids=hex)
def test_statsn_goes_round(statsn: int) -> None:
    session = Session(statsn=statsn)
    for count in range(1, 4):
        tag = session.read(0)
        assert session.one(ScsiCommand).exp_statsn == (statsn + count) % WRAP
        session.give(ScsiResponse(itt=tag))


@pytest.mark.parametrize(("off", "words"), [(1, "answers missing: 1"), (-1, "answered before")])
def test_a_statsn_out_of_sequence(off: int, words: str) -> None:
    session = Session()
    tag = session.read(0)
    session.sent()
    error = refused(session, words, ScsiResponse(itt=tag), statsn=STATSN + 1 + off)
    assert "log in again" in error.hint


def test_what_uses_no_statsn() -> None:
    session = Session(initial_r2t=True)
    reading, writing = session.read(100), session.write(pattern(1000))
    session.sent()
    session.give(NopIn())
    session.give(NopIn(ttt=3))
    session.give(DataIn(itt=reading), pattern(50), statsn=0xDEAD)
    session.give(ReadyToTransfer(itt=writing, ttt=1, buffer_offset=512, desired_length=488))
    assert session.events() == []
    assert {item.pdu.exp_statsn for item in session.sent()} == {STATSN + 1}
    session.give(DataIn(itt=reading, datasn=1, buffer_offset=50, final=True, status_present=True), pattern(50))
    session.give(ScsiResponse(itt=writing))
    assert len(session.events()) == 2


@pytest.mark.parametrize("pdu", [NopIn(), ReadyToTransfer(itt=1, ttt=1, buffer_offset=512, desired_length=1)], ids=str)
def test_a_careless_statsn_where_none_is_used_is_remarked_once(pdu: Any) -> None:
    session = Session(initial_r2t=True)
    session.write(pattern(1000))
    session.sent()
    session.give(pdu, statsn=0)
    session.give(NopIn(), statsn=0)
    assert "only repeats it" in session.event(Remark).text


def test_remarks_are_bounded() -> None:
    session = Session()
    for number in range(REMARKS_MAX + 5):
        session.give(NopIn(), statsn=number)
    assert len(session.events()) == REMARKS_MAX


def test_a_window_that_contradicts_itself_is_remarked_and_ignored() -> None:
    session = Session(window=1)
    session.give(NopIn(), exp_cmdsn=CMDSN + 5, max_cmdsn=CMDSN)
    assert "both are ignored" in session.event(Remark).text
    session.read()
    session.one(ScsiCommand)


# Tags.


def test_tags_are_not_used_twice_and_never_the_reserved_one() -> None:
    table = TaskTable(first_tag=RESERVED_TAG - 1)
    for tag in (RESERVED_TAG - 1, 0, 1):
        assert table.new_tag() == tag
        table.add(PingTask(itt=tag, data=b""))
    table._next_tag = RESERVED_TAG - 1
    assert table.new_tag() == 2


def test_the_tag_of_an_ended_command_is_not_used_while_it_is_remembered() -> None:
    table = TaskTable()
    for count in range(ENDED_MAX + 1):
        task = PingTask(itt=table.new_tag(), data=b"")
        table.add(task)
        table.end(task, remember=True)
        assert task.itt == count + 1
    table._next_tag = 1
    assert table.new_tag() == 1
    assert table.new_tag() == ENDED_MAX + 2


# Pings.


def test_a_ping_and_its_echo() -> None:
    session = Session()
    tag = session.machine.ping(0, b"are you there")
    (sent,) = session.sent()
    ping = sent.pdu
    assert isinstance(ping, NopOut)
    assert (ping.immediate, ping.itt, ping.ttt, ping.cmdsn, sent.data) == (
        True,
        tag,
        RESERVED_TAG,
        CMDSN,
        b"are you there",
    )
    session.give(NopIn(itt=tag), b"are you there")
    assert session.event(Pong) == Pong(tag=tag, data=b"are you there")


def test_an_echo_is_cut_to_what_we_take() -> None:
    session = Session(max_recv_data_segment_length=512, max_xmit_data_segment_length=2048)
    tag = session.machine.ping(0, pattern(2000))
    session.sent()
    session.give(NopIn(itt=tag), pattern(512))
    assert session.event(Pong).data == pattern(512)


@pytest.mark.parametrize("echo", [b"", b"ping!", b"pin", b"pong"], ids=repr)
def test_an_echo_that_is_another(echo: bytes) -> None:
    session = Session()
    tag = session.machine.ping(0, b"ping")
    session.sent()
    refused(session, f"{len(echo)} bytes other than the 4 sent", NopIn(itt=tag), echo)


def test_an_echo_that_asks_back_is_remarked() -> None:
    session = Session()
    tag = session.machine.ping(0)
    session.sent()
    session.give(NopIn(itt=tag, ttt=4))
    remark, pong = session.events()
    assert isinstance(remark, Remark)
    assert isinstance(pong, Pong)


def test_a_ping_longer_than_the_target_takes() -> None:
    session = Session()
    with pytest.raises(Misuse, match="takes 512 bytes, not 513"):
        session.machine.ping(0, bytes(513))


def test_a_ping_of_the_target_is_answered() -> None:
    session = Session()
    session.give(NopIn(ttt=0xABCD, lun=LUN.wire), b"hello")
    (sent,) = session.sent()
    answer = sent.pdu
    assert isinstance(answer, NopOut)
    assert (answer.immediate, answer.itt, answer.ttt, answer.lun) == (True, RESERVED_TAG, 0xABCD, LUN.wire)
    assert (sent.data, answer.cmdsn, answer.exp_statsn) == (b"hello", CMDSN, STATSN + 1)


def test_the_answer_is_cut_to_what_the_target_takes() -> None:
    session = Session()
    session.give(NopIn(ttt=1), pattern(1000))
    (sent,) = session.sent()
    assert sent.data == pattern(512)


def test_a_nop_in_for_nothing_but_its_numbers() -> None:
    session = Session()
    session.give(NopIn(), b"whatever")
    assert (session.sent(), session.events()) == ([], [])


def test_more_pings_than_a_target_reads_answers() -> None:
    session = Session()
    for number in range(ANSWERS_MAX):
        session.give(NopIn(ttt=number))
    refused(session, f"{ANSWERS_MAX + 1} pings without reading", NopIn(ttt=99))


def test_answers_that_left_are_not_counted() -> None:
    session = Session()
    for number in range(3 * ANSWERS_MAX):
        session.give(NopIn(ttt=number))
        assert session.one(NopOut).ttt == number
    for number in range(ANSWERS_MAX):
        session.give(NopIn(ttt=number))
    refused(session, "without reading", NopIn(ttt=99))


# Text.


def test_a_text_and_its_answer() -> None:
    session = Session()
    tag = session.machine.send_text((("SendTargets", "All"),), 0)
    (sent,) = session.sent()
    request = sent.pdu
    assert isinstance(request, TextRequest)
    assert (request.immediate, request.final, request.cont, request.itt, request.ttt) == (
        True,
        True,
        False,
        tag,
        RESERVED_TAG,
    )
    assert (sent.data, request.cmdsn) == (b"SendTargets=All\0", CMDSN)
    session.give(TextResponse(itt=tag), b"TargetName=iqn.2004-01.com.example:disk\0")
    answered = session.event(TextAnswered)
    assert answered == TextAnswered(tag=tag, pairs=(("TargetName", "iqn.2004-01.com.example:disk"),))


def test_an_answer_of_many_pdus_streamed() -> None:
    session = Session()
    tag = session.machine.send_text((("SendTargets", "All"),), 0, stream=True)
    session.sent()
    for number in range(3):
        session.give(TextResponse(itt=tag, final=False, cont=number == 0, ttt=number, lun=LUN.wire), b"part")
        # With and without the C bit: tgt never sets it, and cuts pairs all the same.
        assert session.event(TextPart) == TextPart(tag=tag, data=b"part", final=False)
        request = session.one(TextRequest)
        assert (request.itt, request.ttt, request.lun, request.final) == (tag, number, LUN.wire, True)
    session.give(TextResponse(itt=tag, final=False, ttt=7))
    assert session.events() == []
    session.sent()
    session.give(TextResponse(itt=tag), b"")
    assert session.event(TextPart) == TextPart(tag=tag, data=b"\0", final=True)
    assert session.machine.active == 0


@pytest.mark.parametrize(
    "pieces", [(b"A=1", b"2\0B=3\0"), (b"A=12\0B", b"=3"), (b"A=1", b"", b"2\0", b"B=3\0")], ids=repr
)
def test_pairs_that_are_cut_without_a_c_bit(pieces: tuple[bytes, ...]) -> None:
    session = Session()
    tag = session.machine.send_text((("SendTargets", "All"),), 0)
    for number, piece in enumerate(pieces, 1):
        session.sent()
        last = number == len(pieces)
        session.give(TextResponse(itt=tag, final=last, ttt=RESERVED_TAG if last else number), piece)
    assert session.event(TextAnswered) == TextAnswered(tag=tag, pairs=(("A", "12"), ("B", "3")))


def test_our_own_long_text() -> None:
    session = Session()
    pairs = tuple((f"X-key{number}", "v" * 100) for number in range(10))
    tag = session.machine.send_text(pairs, 0)
    said = b""
    for ttt in range(1, 3):
        (sent,) = session.sent()
        said += sent.data
        assert (sent.pdu.final, sent.pdu.cont, len(sent.data) <= 512) == (False, True, True)
        session.give(TextResponse(itt=tag, final=False, ttt=ttt))
    (sent,) = session.sent()
    assert (sent.pdu.final, sent.pdu.cont, sent.pdu.ttt) == (True, False, 2)
    assert said + sent.data == b"".join(f"{key}={value}\0".encode() for key, value in pairs)
    session.give(TextResponse(itt=tag, ttt=5))
    remark, answered = session.events()
    assert isinstance(remark, Remark)
    assert answered == TextAnswered(tag=tag, pairs=())


@pytest.mark.parametrize(
    ("response", "data", "words"),
    [
        (TextResponse(itt=1, cont=True), b"", "F and C bit"),
        (TextResponse(itt=1, final=False), b"A=1\0", "no transfer tag"),
        (TextResponse(itt=1), b"\xff=1\0", "not UTF-8"),
        (TextResponse(itt=1), b"MaxRecvDataSegmentLength=1\0", "outside 512"),
        (TextResponse(itt=1), b"MaxRecvDataSegmentLength=Reject\0", "not a number"),
    ],
    ids=["bits", "tag", "grammar", "value", "constant"],
)
def test_texts_that_break_a_rule(response: TextResponse, data: bytes, words: str) -> None:
    session = Session()
    session.machine.send_text((("X-a", "b"),), 0)
    session.sent()
    refused(session, words, response, data)


@pytest.mark.parametrize(("declared", "segment"), [("512", 512), ("700", 700), ("0x300", 768), ("8192", 1024)])
def test_the_target_declares_what_it_takes_anew(declared: str, segment: int) -> None:
    session = Session(window=1, max_xmit_data_segment_length=1024)
    tag = session.machine.send_text((("MaxRecvDataSegmentLength", "1024"),), 0)
    session.write(pattern(2048))
    assert [len(item.data) for item in session.sent()][1:] == [1024, 1024]
    waiting = session.write(pattern(2048))
    session.give(TextResponse(itt=tag), b"MaxRecvDataSegmentLength=%s\0" % declared.encode())
    session.event(TextAnswered)
    session.max_cmdsn += 1
    session.give(NopIn())
    first = session.sent()[0]
    assert (first.pdu.itt, len(first.data)) == (waiting, segment)


def test_what_we_take_does_not_change() -> None:
    with pytest.raises(Misuse, match="MaxRecvDataSegmentLength is 1024"):
        Session().machine.send_text((("MaxRecvDataSegmentLength", "2048"),), 0)


def test_one_immediate_request_at_a_time() -> None:
    session = Session()
    text = session.machine.send_text((("X-a", "b"),), 0)
    ping, other = session.machine.ping(0), session.machine.ping(0)
    assert session.one(TextRequest).itt == text
    session.give(TextResponse(itt=text, final=False, ttt=1), b"A=1\0")
    assert session.one(TextRequest).itt == text
    session.give(TextResponse(itt=text))
    assert session.one(NopOut).itt == ping
    session.give(NopIn(itt=ping))
    assert session.one(NopOut).itt == other


def test_a_response_before_the_request_left() -> None:
    session = Session()
    tag = session.machine.send_text((("X-a", "b"),), 0)
    refused(session, "waits to be sent", TextResponse(itt=tag))


def test_a_response_before_the_continuation_left() -> None:
    """Else a target that sends without reading would make us keep a request for each of its responses."""
    session = Session()
    tag = session.machine.send_text((("X-a", "b"),), 0, stream=True)
    session.sent()
    session.give(TextResponse(itt=tag, final=False, ttt=1), b"part")
    refused(session, "waits to be sent", TextResponse(itt=tag, final=False, ttt=1), b"part")


def test_the_requests_that_wait_are_bounded() -> None:
    session = Session()
    for _ in range(WAITING_MAX + 1):
        session.machine.ping(0)
    with pytest.raises(Misuse, match="requests wait"):
        session.machine.ping(0)


# Giving a text up.


def test_a_text_given_up_is_reset() -> None:
    session = Session()
    tag = session.machine.send_text((("SendTargets", "All"),), 0, stream=True)
    session.sent()
    session.machine.reset_text(tag, 0)
    session.give(TextResponse(itt=tag, final=False, ttt=5), b"A=1\0")
    request = session.one(TextRequest)
    assert (request.itt, request.ttt, request.final, request.data_length) == (tag, RESERVED_TAG, True, 0)
    assert session.events() == []
    session.give(TextResponse(itt=tag))
    assert session.event(TextAnswered) == TextAnswered(tag=tag, pairs=())
    session.machine.reset_text(tag, 0)
    assert session.events() == []


def test_a_text_given_up_before_it_was_sent() -> None:
    session = Session()
    session.machine.ping(0)
    tag = session.machine.send_text((("SendTargets", "All"),), 0)
    session.machine.reset_text(tag, 0)
    assert session.event(TextAnswered).tag == tag
    session.one(NopOut)


def test_a_text_given_up_before_its_continuation_left() -> None:
    session = Session()
    tag = session.machine.send_text((("SendTargets", "All"),), 0, stream=True)
    session.sent()
    session.give(TextResponse(itt=tag, final=False, ttt=5), b"A=1\0")
    session.events()
    session.machine.reset_text(tag, 0)
    assert session.events() == []
    assert session.one(TextRequest).ttt == 5
    session.give(TextResponse(itt=tag, final=False, ttt=6), b"B=1\0")
    assert session.one(TextRequest).ttt == RESERVED_TAG
    session.give(TextResponse(itt=tag))
    assert session.event(TextAnswered).pairs == ()


# Misuse, and what is refused before anything else.


@pytest.mark.parametrize("cdb", [b"", bytes(261)], ids=["empty", "long"])
def test_a_cdb_of_no_legal_length(cdb: bytes) -> None:
    with pytest.raises(Misuse, match="1 to 260 bytes"):
        Session().machine.command(LUN, cdb, now=0)


@pytest.mark.parametrize("length", [-1, 1 << 32])
def test_a_transfer_of_no_legal_length(length: int) -> None:
    with pytest.raises(Misuse, match="longer than a SCSI Command can say"):
        Session().machine.command(LUN, READ_10, now=0, read_length=length)


def test_a_task_attribute_nobody_assigned() -> None:
    with pytest.raises(Misuse, match="5 is no task attribute"):
        Session().machine.command(LUN, READ_10, now=0, attribute=5)


def test_a_discovery_session_takes_text_and_logout_alone() -> None:
    session = Session(session_type=SessionType.DISCOVERY)
    with pytest.raises(Misuse, match="discovery session"):
        session.read()
    with pytest.raises(Misuse, match="discovery session"):
        session.machine.ping(0)
    with pytest.raises(Misuse, match="discovery session"):
        session.machine.manage_task(TaskFunction.TARGET_WARM_RESET, now=0)
    session.machine.send_text((("SendTargets", "All"),), 0)
    error = refused(session, "does not exist", ScsiResponse(itt=9))
    assert error.stage is Stage.DISCOVERY


@pytest.mark.parametrize(
    "change", [{"error_recovery_level": 1}, {"data_pdu_in_order": False}, {"data_sequence_in_order": False}], ids=str
)
def test_what_was_never_offered_is_not_run(change: dict[str, Any]) -> None:
    with pytest.raises(Misuse, match="nothing else is offered"):
        FullFeature(logged_in(agreed(**change)), subject=SUBJECT, cmdsn=1, now=0)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (RawPdu(bytes(48)), "3260: NOP-Out is nothing a target sends"),
        (RawPdu(bytes([0x3C]) + bytes(47)), "3260: unknown opcode 0x3c is nothing"),
        (RawPdu(bytes([0x23]) + bytes(47)), "Login Response of task 0x0: it has no place here"),
        (RawPdu(bytes(47)), "a header has 48 bytes, 47 came"),
        (RawPdu(NopIn(ahs_length=4).encode(), bytes(4)), "4 bytes of additional headers"),
        (RawPdu(NopIn(data_length=5).encode(), b"", b"four"), "4 of 5 bytes of data came"),
        (RawPdu(NopIn(data_length=1025).encode(), b"", bytes(1025)), "at most 1024 may"),
    ],
    ids=["direction", "unknown", "login", "short", "ahs", "length", "oversize"],
)
def test_pdus_that_are_wrong_whatever_they_mean(raw: RawPdu, words: str) -> None:
    session = Session()
    with pytest.raises(SessionError, match=words):
        session.machine.receive(raw, 0)
    assert session.phase() is Phase.FAILED


# Properties.


@given(st.integers(0, 6000), st.lists(st.tuples(st.integers(64, 1024), st.booleans()), min_size=1, max_size=12))
def test_a_read_is_the_same_however_it_is_cut(length: int, cuts: list[tuple[int, bool]]) -> None:
    session, data = Session(max_burst_length=1 << 20), pattern(length)
    tag = session.read(length)
    session.sent()
    at, number = 0, 0
    while at < length:
        size, end = cuts[number % len(cuts)]
        part = data[at : at + size]
        session.give(DataIn(itt=tag, datasn=number, buffer_offset=at, final=end), part)
        at, number = at + len(part), number + 1
    session.give(ScsiResponse(itt=tag))
    assert session.event(CommandFinished).result == ScsiResult(status=GOOD, data=data)


@given(st.lists(st.tuples(st.sampled_from(["send", "finish", "open", "ask"]), st.integers(0, 4)), max_size=60))
def test_the_window_is_never_exceeded_and_tags_are_unique(steps: list[tuple[str, int]]) -> None:
    session = Session(window=3)
    living: list[int] = []
    next_cmdsn = CMDSN
    ever: set[int] = set()
    for what, count in steps:
        if what == "ask":
            tag = session.read(0)
            assert tag not in ever
            ever.add(tag)
        elif what == "finish" and living:
            session.give(ScsiResponse(itt=living.pop(count % len(living))))
        elif what == "open":
            session.max_cmdsn += count
            session.give(NopIn())
        for item in session.sent():
            assert item.pdu.cmdsn == next_cmdsn
            assert item.pdu.cmdsn <= session.max_cmdsn
            next_cmdsn += 1
            living.append(item.pdu.itt)
