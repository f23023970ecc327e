# SPDX-License-Identifier: LGPL-2.1-or-later
"""The target double in full feature phase: honest wherever it is not told to lie."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from iscsiboot.initiator.pdu.control import LogoutResponse, NopIn, NopOut, TextResponse
from iscsiboot.initiator.pdu.header import RESERVED_TAG
from iscsiboot.initiator.pdu.scsi import (
    DataIn,
    ReadyToTransfer,
    ScsiResponse,
    TaskAnswer,
    TaskFunction,
    TaskManagementResponse,
)
from tests.doubles.directory import Served, directory, endless, numbered
from tests.doubles.disk import lun_bytes
from tests.doubles.faults import ping
from tests.doubles.scsi import NO_SUCH_UNIT, POWER_ON
from tests.doubles.target import Script, text_of
from tests.doubles.wire import Close
from tests.unit.doubles.talker import FREE, IMAGE, READ_8, READY, WRITE_8, Talker, plan, talker


def test_reading_cut_by_both_limits() -> None:
    """512 bytes a PDU, 2048 a burst; the status comes with the last."""
    ours = talker()
    found = ours.command(READ_8, expected=4096)
    pdus = [answer.pdu for answer in found]
    assert all(isinstance(pdu, DataIn) for pdu in pdus)
    assert [pdu.final for pdu in pdus] == [False, False, False, True] * 2
    assert [pdu.datasn for pdu in pdus] == list(range(8))
    assert [pdu.buffer_offset for pdu in pdus] == list(range(0, 4096, 512))
    assert [pdu.status_present for pdu in pdus] == [False] * 7 + [True]
    assert b"".join(answer.data for answer in found) == IMAGE[512:4608]
    assert pdus[-1].statsn == ours.statsn - 1
    assert pdus[0].exp_cmdsn == ours.cmdsn
    assert ours.target.violations == []


def test_reading_with_a_response_of_its_own() -> None:
    ours = talker(plan(collapse_status=False))
    found = ours.command(READ_8, expected=4096)
    response = found[-1].pdu
    assert isinstance(response, ScsiResponse)
    assert (response.exp_datasn, response.residual, response.underflow) == (8, 0, False)
    assert not any(answer.pdu.status_present for answer in found[:-1])


@pytest.mark.parametrize(
    ("expected", "over", "under", "residual"),
    [(1000, True, False, 3096), (5000, False, True, 904), (0, True, False, 4096)],
)
def test_residuals_of_reading(expected: int, over: bool, under: bool, residual: int) -> None:
    last = talker().command(READ_8, expected=expected)[-1].pdu
    assert isinstance(last, DataIn | ScsiResponse)
    assert (last.overflow, last.underflow, last.residual) == (over, under, residual)


def test_writing_by_r2t_alone() -> None:
    ours = talker(plan(login=Script(), r2t_length=1024), InitialR2T="Yes")
    data = bytes(range(256)) * 16
    (answer,) = ours.command(WRITE_8, expected=4096, write=True)
    for number in range(4):
        r2t = answer.pdu
        assert isinstance(r2t, ReadyToTransfer)
        assert (r2t.r2tsn, r2t.buffer_offset, r2t.desired_length) == (number, number * 1024, 1024)
        assert r2t.statsn == ours.statsn
        part = data[r2t.buffer_offset :][:1024]
        values = {"ttt": r2t.ttt, "lun": lun_bytes(0)}
        assert ours.data_out(part[:512], final=False, buffer_offset=r2t.buffer_offset, **values) == []
        (answer,) = ours.data_out(part[512:], datasn=1, buffer_offset=r2t.buffer_offset + 512, **values)
    assert isinstance(answer.pdu, ScsiResponse)
    assert (answer.pdu.status, answer.pdu.exp_datasn, answer.pdu.residual) == (0, 4, 0)
    assert ours.target.plan.device.units[lun_bytes(0)].contents(1, 8) == data
    assert ours.target.violations == []


def test_writing_with_immediate_and_unsolicited_data() -> None:
    ours = talker()
    data = bytes(range(256)) * 16
    assert ours.command(WRITE_8, data[:512], expected=4096, write=True, final=False) == []
    (answer,) = ours.data_out(data[512:1024], buffer_offset=512)
    for offset, length in ((1024, 2048), (3072, 1024)):
        r2t = answer.pdu
        assert isinstance(r2t, ReadyToTransfer)
        assert (r2t.buffer_offset, r2t.desired_length) == (offset, length)
        (answer,) = ours.data_out(data[offset:][:length], ttt=r2t.ttt, lun=lun_bytes(0), buffer_offset=offset)
    assert isinstance(answer.pdu, ScsiResponse)
    assert ours.target.plan.device.units[lun_bytes(0)].contents(1, 8) == data
    assert ours.target.violations == []


def test_many_r2ts_at_once() -> None:
    login = Script(limits=replace(FREE, max_outstanding_r2t=4))
    ours = talker(plan(login=login, r2t_length=512), MaxOutstandingR2T="3")
    found = ours.command(WRITE_8, expected=4096, write=True)
    assert [answer.pdu.r2tsn for answer in found if isinstance(answer.pdu, ReadyToTransfer)] == [0, 1, 2]
    first = found[0].pdu
    assert isinstance(first, ReadyToTransfer)
    (fourth,) = ours.data_out(bytes(512), ttt=first.ttt, lun=lun_bytes(0))
    assert isinstance(fourth.pdu, ReadyToTransfer)
    assert fourth.pdu.r2tsn == 3
    second = found[1].pdu
    assert isinstance(second, ReadyToTransfer)
    ours.data_out(bytes(512), ttt=second.ttt, lun=lun_bytes(0), buffer_offset=512)
    assert ours.target.violations == []


@pytest.mark.parametrize(
    ("expected", "over", "under", "residual"), [(2048, True, False, 2048), (8192, False, True, 4096)]
)
def test_residuals_of_writing(expected: int, over: bool, under: bool, residual: int) -> None:
    ours = talker(MaxBurstLength="262144")
    (answer,) = ours.command(WRITE_8, expected=expected, write=True)
    r2t = answer.pdu
    assert isinstance(r2t, ReadyToTransfer)
    assert r2t.desired_length == min(4096, expected)
    (answer,) = ours.data_out(bytes(r2t.desired_length), ttt=r2t.ttt, lun=lun_bytes(0))
    last = answer.pdu
    assert isinstance(last, ScsiResponse)
    assert (last.overflow, last.underflow, last.residual) == (over, under, residual)


def test_a_failed_write_takes_no_data_by_r2t() -> None:
    made = plan()
    made.device.units[lun_bytes(0)].pending.append(POWER_ON)
    ours = talker(made)
    assert ours.command(WRITE_8, bytes(512), expected=4096, write=True, final=False) == []
    (answer,) = ours.data_out(bytes(512), buffer_offset=512)
    assert isinstance(answer.pdu, ScsiResponse)
    assert answer.pdu.status == 2
    assert answer.data == b"\x00\x12" + POWER_ON.sense
    assert answer.pdu.residual == 4096
    assert ours.target.violations == []


def test_an_absent_unit() -> None:
    (answer,) = talker().command(READY, lun=9)
    assert answer.data[2:] == NO_SUCH_UNIT.sense


def test_the_window_follows_what_is_at_work() -> None:
    """A dead unit keeps its place in the window until the task is aborted."""
    ours = talker(plan(depth=2))
    assert ours.command(READY, lun=1) == []
    (answer,) = ours.command(READY)
    assert isinstance(answer.pdu, ScsiResponse)
    assert (answer.pdu.exp_cmdsn, answer.pdu.max_cmdsn) == (3, 3)
    (answer,) = ours.manage(TaskFunction.ABORT_TASK, referenced_tag=1, ref_cmdsn=1, lun=lun_bytes(1))
    assert isinstance(answer.pdu, TaskManagementResponse)
    assert answer.pdu.response == TaskAnswer.COMPLETE
    assert answer.pdu.max_cmdsn == 4
    (answer,) = ours.manage(TaskFunction.ABORT_TASK, referenced_tag=1, ref_cmdsn=1, lun=lun_bytes(1))
    assert isinstance(answer.pdu, TaskManagementResponse)
    assert answer.pdu.response == TaskAnswer.NO_TASK
    assert ours.target.violations == []


@pytest.mark.parametrize(
    ("function", "left", "attention"),
    [
        (TaskFunction.ABORT_TASK_SET, 0, False),
        (TaskFunction.CLEAR_TASK_SET, 0, False),
        (TaskFunction.CLEAR_ACA, 1, False),
        (TaskFunction.LOGICAL_UNIT_RESET, 0, True),
        (TaskFunction.TARGET_WARM_RESET, 0, True),
    ],
)
def test_task_management(function: int, left: int, attention: bool) -> None:
    ours = talker()
    ours.command(READY, lun=1)
    (answer,) = ours.manage(function, lun=lun_bytes(1))
    assert isinstance(answer.pdu, TaskManagementResponse)
    assert answer.pdu.response == TaskAnswer.COMPLETE
    assert ours.target.tasks is not None
    assert len(ours.target.tasks.active) == left
    assert bool(ours.target.plan.device.units[lun_bytes(1)].pending) is attention
    assert ours.target.violations == []


def test_task_management_that_cannot_be() -> None:
    ours = talker(plan(task_answers={TaskFunction.CLEAR_ACA: TaskAnswer.NOT_SUPPORTED}))
    for function, lun, expected in (
        (TaskFunction.LOGICAL_UNIT_RESET, 9, TaskAnswer.NO_LUN),
        (TaskFunction.TASK_REASSIGN, 0, TaskAnswer.REASSIGN_NOT_SUPPORTED),
        (TaskFunction.CLEAR_ACA, 0, TaskAnswer.NOT_SUPPORTED),
    ):
        (answer,) = ours.manage(function, lun=lun_bytes(lun))
        assert isinstance(answer.pdu, TaskManagementResponse)
        assert answer.pdu.response == expected


def test_pings_both_ways() -> None:
    ours = talker()
    (answer,) = ours.ping(b"hello")
    assert isinstance(answer.pdu, NopIn)
    assert (answer.pdu.itt, answer.pdu.ttt, answer.data) == (1, RESERVED_TAG, b"hello")
    before = ours.statsn
    ours.target.push(ping(0x55))
    assert ours.target.pings == {0x55}
    assert ours.pong(0x55) == []
    assert ours.target.pings == set()
    assert ours.statsn == before
    assert ours.target.violations == []


def test_logout_closes() -> None:
    ours = talker(plan(time2wait=3, time2retain=4))
    (answer,) = ours.logout()
    assert isinstance(answer.pdu, LogoutResponse)
    assert (answer.pdu.response, answer.pdu.time2wait, answer.pdu.time2retain) == (0, 3, 4)
    assert ours.actions[-1] == Close()
    assert ours.target.closed
    assert ours.raw(b"more") == []


def test_digests() -> None:
    ours = talker(HeaderDigest="CRC32C", DataDigest="CRC32C")
    (answer,) = ours.ping(b"hello")
    assert answer.data == b"hello"
    assert b"".join(answer.data for answer in ours.command(READ_8, expected=4096)) == IMAGE[512:4608]
    assert ours.target.violations == []


def test_every_byte_alone_is_the_same() -> None:
    whole, drop = talker(), talker()
    pdu = NopOut(itt=1, cmdsn=1, exp_statsn=whole.statsn, data_length=3)
    wire = pdu.encode() + b"abc\0"
    expected = whole.target.receive(wire)
    assert [action for byte in wire for action in drop.target.receive(bytes([byte]))] == expected


# Discovery.

SERVED = [
    Served(f"iqn.2004-01.com.example:disk{number}", ["192.0.2.1:3260,1", "[2001:db8::1]:3260,2"])
    for number in range(20)
]


def discover(ours: Talker, value: str = "All") -> tuple[bytes, list[TextResponse]]:
    """The whole answer, asked for as a correct initiator does."""
    found = ours.text(text_of([("SendTargets", value)]))
    text: bytes = b""
    pdus: list[TextResponse] = []
    while True:
        (answer,) = found
        pdu = answer.pdu
        assert isinstance(pdu, TextResponse)
        text, pdus = text + answer.data, [*pdus, pdu]
        if pdu.final:
            return text, pdus
        assert pdu.ttt != RESERVED_TAG
        found = ours.text(b"", ttt=pdu.ttt)


@pytest.mark.parametrize("whole_pairs", [False, True], ids=["C bit", "F alone"])
@pytest.mark.parametrize("segment", [0, 100, 512], ids=str)
def test_an_answer_of_many_pdus(whole_pairs: bool, segment: int) -> None:
    ours = talker(
        plan(records=directory(SERVED), whole_pairs=whole_pairs, text_segment=segment), SessionType="Discovery"
    )
    text, pdus = discover(ours)
    assert text == b"".join(target.record() for target in SERVED)
    assert len(pdus) >= len(text) // (segment or 512)
    assert all(pdu.cont is (not whole_pairs) for pdu in pdus[:-1])
    assert pdus[-1].ttt == RESERVED_TAG
    assert not pdus[-1].cont
    assert len({pdu.ttt for pdu in pdus}) == len(pdus)
    assert ours.target.violations == []


@pytest.mark.parametrize(
    ("session", "value", "expected"),
    [
        ("Discovery", SERVED[3].name, SERVED[3].record()),
        ("Discovery", "iqn.2004-01.com.example:none", b""),
        ("Normal", "All", b"SendTargets=Reject\0"),
        ("Normal", "", SERVED[3].record()),
    ],
)
def test_what_is_asked(session: str, value: str, expected: bytes) -> None:
    ours = talker(plan(records=directory(SERVED)), SessionType=session, TargetName=SERVED[3].name)
    assert discover(ours, value)[0] == expected


def test_ten_thousand_targets_are_made_as_they_are_sent() -> None:
    made = 0

    def counting(what: str) -> Iterator[bytes]:
        nonlocal made
        for piece in numbered(10_000)(what):
            made += 1
            yield piece

    ours = talker(plan(records=counting), SessionType="Discovery")
    ours.text(text_of([("SendTargets", "All")]))
    assert made < 30
    assert ours.target.violations == []


def test_endless_answers_go_on() -> None:
    ours = talker(plan(records=endless(b"TargetName=x\0")), SessionType="Discovery")
    (answer,) = ours.text(text_of([("SendTargets", "All")]))
    for _ in range(50):
        pdu = answer.pdu
        assert isinstance(pdu, TextResponse)
        assert not pdu.final
        assert len(answer.data) == 512
        (answer,) = ours.text(b"", ttt=pdu.ttt)


def test_a_long_request_and_other_keys() -> None:
    ours = talker()
    (answer,) = ours.text(b"X-a=1\0MaxRecvData", final=False, cont=True)
    assert isinstance(answer.pdu, TextResponse)
    assert (answer.pdu.final, answer.pdu.cont, answer.data) == (False, False, b"")
    (answer,) = ours.text(b"SegmentLength=4096\0", ttt=answer.pdu.ttt)
    assert answer.data == b"X-a=NotUnderstood\0MaxRecvDataSegmentLength=8192\0"
    assert ours.target.violations == []
