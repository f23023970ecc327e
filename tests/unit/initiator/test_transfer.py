# SPDX-License-Identifier: LGPL-2.1-or-later
"""The data of one command: what goes unasked, what R2Ts and Data-In may ask and bring, residuals, sense data."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.initiator.errors import ProtocolViolation
from iscsiboot.initiator.pdu.header import RESERVED_TAG
from iscsiboot.initiator.pdu.scsi import DataIn, DataOut, ReadyToTransfer, ScsiResponse
from iscsiboot.initiator.session_events import CHECK_CONDITION, GOOD, ScsiResult
from iscsiboot.initiator.transfer import SENSE_MAX, Sequence, Transfer, parse_sense
from tests.unit.initiator.fullfeature_kit import agreed, pattern

LUN = bytes([0, 1, 0, 0, 0, 0, 0, 0])


def reading(length: int = 4096, **changes: Any) -> Transfer:
    return Transfer(read_length=length, data_out=b"", negotiated=agreed(**changes))


def writing(data: bytes, **changes: Any) -> Transfer:
    transfer = Transfer(read_length=0, data_out=data, negotiated=agreed(**changes))
    transfer.begin(512)
    return transfer


def ready(offset: int, length: int, *, number: int = 0, ttt: int = 1) -> ReadyToTransfer:
    return ReadyToTransfer(lun=LUN, itt=1, ttt=ttt, r2tsn=number, buffer_offset=offset, desired_length=length)


def drain(transfer: Transfer, sequence: Sequence, limit: int = 512) -> list[tuple[DataOut, bytes]]:
    sent = []
    while not sequence.done:
        sent.append(transfer.next_data(sequence, itt=1, exp_statsn=5, limit=limit))
    return sent


# What goes out unasked. MaxRecvDataSegmentLength of the target 512, FirstBurstLength 2048.


@pytest.mark.parametrize(
    ("immediate_data", "initial_r2t", "length", "along", "after"),
    [
        (True, True, 100, 100, None),
        (True, True, 5000, 512, None),
        (True, False, 100, 100, None),
        (True, False, 512, 512, None),
        (True, False, 513, 512, (512, 513)),
        (True, False, 5000, 512, (512, 2048)),
        (False, True, 5000, 0, None),
        (False, False, 100, 0, (0, 100)),
        (False, False, 5000, 0, (0, 2048)),
        (True, False, 0, 0, None),
        (False, False, 0, 0, None),
    ],
)
def test_unasked(
    immediate_data: bool, initial_r2t: bool, length: int, along: int, after: tuple[int, int] | None
) -> None:
    data = pattern(length)
    negotiated = agreed(immediate_data=immediate_data, initial_r2t=initial_r2t)
    transfer = Transfer(read_length=0, data_out=data, negotiated=negotiated)
    immediate, sequence = transfer.begin(512)
    assert immediate == data[:along]
    assert (None if sequence is None else (sequence.offset, sequence.end)) == after
    assert transfer.expected_length == length
    assert transfer.writes == bool(length)
    if sequence is not None:
        pdus = drain(transfer, sequence)
        assert b"".join(part for _, part in pdus) == data[along : sequence.end]
        assert {pdu.ttt for pdu, _ in pdus} == {RESERVED_TAG}
        assert {pdu.lun for pdu, _ in pdus} == {bytes(8)}


def test_a_first_burst_smaller_than_a_segment_cuts_immediate_data() -> None:
    transfer = Transfer(read_length=0, data_out=pattern(5000), negotiated=agreed(first_burst_length=300))
    immediate, sequence = transfer.begin(512)
    assert (len(immediate), sequence) == (300, None)


# R2T.


def test_an_r2t_is_answered_in_numbered_pieces() -> None:
    data = pattern(5000)
    transfer = writing(data)
    pdus = drain(transfer, transfer.take_ready(ready(2048, 1200, ttt=0xABC)))
    assert [(pdu.datasn, pdu.buffer_offset, pdu.final, len(part)) for pdu, part in pdus] == [
        (0, 2048, False, 512),
        (1, 2560, False, 512),
        (2, 3072, True, 176),
    ]
    assert b"".join(part for _, part in pdus) == data[2048:3248]
    assert all((pdu.ttt, pdu.lun, pdu.itt, pdu.exp_statsn) == (0xABC, LUN, 1, 5) for pdu, _ in pdus)
    assert all(pdu.data_length == len(part) for pdu, part in pdus)


@pytest.mark.parametrize(
    ("r2t", "words"),
    [
        (ready(2048, 100, number=1), "R2TSN 1, 0 was due"),
        (ready(2048, 100, ttt=RESERVED_TAG), "no transfer tag"),
        (ready(2048, 0), "asks for 0 bytes at once"),
        (ready(2048, 4097), "asks for 4097 bytes at once, 1 to 4096"),
        (ready(2047, 100), "from offset 2047, up to 2048"),
        (ready(0, 100), "from offset 0, up to 2048"),
        (ready(4999, 2), "up to offset 5001, the command has 5000"),
        (ready(0xFFFFFFFF, 1), "up to offset 4294967296"),
        (ready(5000, 1), "up to offset 5001"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_r2t_that_breaks_a_rule(r2t: ReadyToTransfer, words: str) -> None:
    with pytest.raises(ProtocolViolation, match=words):
        writing(pattern(5000)).take_ready(r2t)


def test_nothing_is_asked_of_a_command_that_reads() -> None:
    with pytest.raises(ProtocolViolation, match="writes nothing"):
        reading().take_ready(ready(0, 1))


def test_nothing_is_sent_twice() -> None:
    transfer = writing(pattern(5000))
    drain(transfer, transfer.take_ready(ready(2048, 1000)))
    with pytest.raises(ProtocolViolation, match="up to 3048 it was sent"):
        transfer.take_ready(ready(3047, 100, number=1))


@pytest.mark.parametrize("allowed", [1, 2, 5])
def test_max_outstanding_r2t(allowed: int) -> None:
    transfer = writing(pattern(5000), max_outstanding_r2t=allowed)
    asked = [transfer.take_ready(ready(2048 + 100 * count, 100, number=count)) for count in range(allowed)]
    drain(transfer, asked[0])
    transfer.take_ready(ready(2048 + 100 * allowed, 100, number=allowed))
    with pytest.raises(ProtocolViolation, match=f"MaxOutstandingR2T={allowed}"):
        transfer.take_ready(ready(2048 + 100 * (allowed + 1), 100, number=allowed + 1))


# Data-In.


def test_data_in_order() -> None:
    data, transfer = pattern(4096), reading()
    for number, at in enumerate(range(0, 4096, 1000)):
        assert not transfer.take_data(DataIn(itt=1, datasn=number, buffer_offset=at), data[at : at + 1000])
        assert transfer.received == min(at + 1000, 4096)
    result, remark = transfer.result(ScsiResponse(itt=1))
    assert (result, remark) == (ScsiResult(status=GOOD, data=data), "")


@pytest.mark.parametrize(
    ("pdu", "data", "words"),
    [
        (DataIn(itt=1, datasn=1), b"x", "DataSN 1, 0 was due"),
        (DataIn(itt=1, buffer_offset=1), b"x", "offset 1, 0 was due"),
        (DataIn(itt=1), bytes(101), "sends 101 bytes, 100 were asked for"),
    ],
    ids=["datasn", "offset", "length"],
)
def test_data_that_breaks_a_rule(pdu: DataIn, data: bytes, words: str) -> None:
    transfer = reading(100)
    with pytest.raises(ProtocolViolation, match=words):
        transfer.take_data(pdu, data)
    assert transfer.received == 0


def test_data_that_overlays() -> None:
    transfer = reading(100)
    transfer.take_data(DataIn(itt=1), bytes(50))
    with pytest.raises(ProtocolViolation, match="offset 49, 50 was due"):
        transfer.take_data(DataIn(itt=1, datasn=1, buffer_offset=49), b"x")


def test_data_one_byte_beyond_the_end() -> None:
    transfer = reading(100)
    transfer.take_data(DataIn(itt=1), bytes(100))
    with pytest.raises(ProtocolViolation, match="sends 101 bytes"):
        transfer.take_data(DataIn(itt=1, datasn=1, buffer_offset=100), b"x")


@pytest.mark.parametrize("data_out", [b"", b"data"], ids=["neither", "write"])
def test_data_for_a_command_that_reads_nothing(data_out: bytes) -> None:
    transfer = Transfer(read_length=0, data_out=data_out, negotiated=agreed())
    with pytest.raises(ProtocolViolation, match="reads nothing"):
        transfer.take_data(DataIn(itt=1), b"x")


def test_a_burst_too_long_is_remarked() -> None:
    """As tgt and istgt send every command."""
    transfer = reading(4096, max_burst_length=1024)
    assert not transfer.take_data(DataIn(itt=1, final=True), bytes(1024))
    assert not transfer.take_data(DataIn(itt=1, datasn=1, buffer_offset=1024), bytes(1024))
    remark = transfer.take_data(DataIn(itt=1, datasn=2, buffer_offset=2048), bytes(1))
    assert "MaxBurstLength=1024" in remark
    assert transfer.received == 2049


# How it ended.


def finish(pdu: ScsiResponse | DataIn, received: int, length: int = 100) -> tuple[ScsiResult, str]:
    transfer = reading(length)
    if received:
        transfer.take_data(DataIn(itt=1), pattern(received))
    return transfer.result(pdu)


@pytest.mark.parametrize(
    ("flags", "status", "received", "expected", "remarked"),
    [
        ({}, GOOD, 100, (0, False, False), False),
        ({"underflow": True, "residual": 40}, GOOD, 60, (40, False, True), False),
        ({"underflow": True, "residual": 100}, GOOD, 0, (100, False, True), False),
        ({"overflow": True, "residual": 9}, GOOD, 100, (9, True, False), False),
        ({"residual": 77}, GOOD, 100, (0, False, False), False),
        ({}, GOOD, 60, (40, False, True), True),
        ({"underflow": True, "residual": 10}, GOOD, 60, (40, False, True), True),
        ({"underflow": True, "residual": 10}, GOOD, 100, (0, False, False), True),
        ({"overflow": True, "residual": 9}, GOOD, 60, (40, False, True), True),
        ({}, CHECK_CONDITION, 60, (0, False, False), False),
        ({"underflow": True, "residual": 10}, CHECK_CONDITION, 0, (10, False, True), False),
        ({"underflow": True, "residual": 101}, GOOD, 0, (100, False, True), True),
        ({"underflow": True, "residual": 101}, GOOD, 100, (0, False, False), True),
        ({"underflow": True, "residual": 0xFFFFFFFF}, CHECK_CONDITION, 0, (100, False, True), True),
    ],
)
@pytest.mark.parametrize("kind", [ScsiResponse, DataIn], ids=["response", "data"])
def test_residuals(
    kind: type[ScsiResponse] | type[DataIn],
    flags: dict[str, Any],
    status: int,
    received: int,
    expected: tuple[int, bool, bool],
    remarked: bool,
) -> None:
    result, remark = finish(kind(itt=1, status=status, **flags), received)
    assert (result.residual, result.overflow, result.underflow) == expected
    assert result.data == pattern(received)
    assert bool(remark) == remarked


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"overflow": True, "underflow": True, "residual": 1}, "O and U bit"),
    ],
    ids=["both"],
)
def test_residuals_that_cannot_be(flags: dict[str, Any], words: str) -> None:
    with pytest.raises(ProtocolViolation, match=words):
        finish(ScsiResponse(itt=1, **flags), 100)


def test_a_status_in_data_that_is_not_called_the_last_is_remarked() -> None:
    transfer = reading(1)
    assert "S bit without F bit" in transfer.take_data(DataIn(itt=1, status_present=True), b"x")
    assert transfer.result(DataIn(itt=1, status_present=True))[0].data == b"x"


def test_a_write_reports_the_residual_as_it_is() -> None:
    result, remark = writing(pattern(5000)).result(ScsiResponse(itt=1, underflow=True, residual=5000))
    assert (result.residual, result.underflow, remark) == (5000, True, "")
    result, remark = writing(pattern(5000)).result(ScsiResponse(itt=1, underflow=True, residual=5001))
    assert (result.residual, result.underflow) == (5000, True)
    assert remark == "the target announces 5001 bytes missing of 5000"


def test_both_directions_have_residuals_and_one_numbering() -> None:
    transfer = Transfer(read_length=100, data_out=pattern(600), negotiated=agreed(initial_r2t=True))
    transfer.begin(512)
    assert (transfer.bidirectional, transfer.expected_length) == (True, 600)
    transfer.take_ready(ready(512, 88, number=0))
    transfer.take_data(DataIn(itt=1, datasn=1), pattern(60))
    response = ScsiResponse(itt=1, overflow=True, residual=5, bidi_underflow=True, bidi_residual=40)
    result, remark = transfer.result(response)
    assert (result.overflow, result.residual, result.underflow) == (True, 5, False)
    assert (result.read_underflow, result.read_residual, result.read_overflow) == (True, 40, False)
    assert (result.data, remark) == (pattern(60), "")
    result, remark = transfer.result(ScsiResponse(itt=1, bidi_underflow=True, bidi_residual=101))
    assert (result.read_underflow, result.read_residual) == (True, 40)
    assert remark == "the target sent 60 of 100 bytes and announces 100 as missing"


# Sense data.


@pytest.mark.parametrize(
    ("data", "sense", "remarked"),
    [
        (b"", b"", False),
        (b"\0", b"", True),
        (b"\0\0", b"", False),
        (b"\0\x03abc", b"abc", False),
        (b"\0\x03abcresponse data", b"abc", False),
        (b"\0\x04abc", b"abc", True),
        (b"\xff\xffabc", b"abc", True),
        (b"\0\x01", b"", True),
        (b"\x01\x00" + bytes(256), bytes(SENSE_MAX), True),
        (b"\xff\xff" + bytes(70000), bytes(SENSE_MAX), True),
    ],
)
def test_sense(data: bytes, sense: bytes, remarked: bool) -> None:
    found, remark = parse_sense(data)
    assert found == sense
    assert bool(remark) == remarked


@given(st.binary(max_size=600))
def test_sense_is_always_a_piece_of_what_came(data: bytes) -> None:
    sense, _ = parse_sense(data)
    assert len(sense) <= SENSE_MAX
    assert data[2:].startswith(sense)


@given(
    st.integers(1, 9000),
    st.booleans(),
    st.booleans(),
    st.integers(512, 4096),
    st.lists(st.integers(64, 4096), min_size=1, max_size=10),
)
def test_a_write_sends_every_byte_once_whatever_is_asked(
    length: int, immediate_data: bool, initial_r2t: bool, limit: int, asks: list[int]
) -> None:
    data = pattern(length)
    negotiated = agreed(immediate_data=immediate_data, initial_r2t=initial_r2t, max_burst_length=4096)
    transfer = Transfer(read_length=0, data_out=data, negotiated=negotiated)
    sent, sequence = transfer.begin(limit)
    number = 0
    while True:
        if sequence is not None:
            for count, (pdu, part) in enumerate(drain(transfer, sequence, limit)):
                assert (pdu.datasn, pdu.buffer_offset) == (count, len(sent))
                assert 0 < len(part) <= limit
                sent += part
        if len(sent) == length:
            break
        ask = min(asks[number % len(asks)], length - len(sent))
        sequence = transfer.take_ready(ready(len(sent), ask, number=number))
        number += 1
    assert sent == data
