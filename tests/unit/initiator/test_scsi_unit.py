# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is asked of a target in which order, against scripted answers and against the disks of tests/doubles."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from iscsiboot.errors import ExitCode, Stage
from iscsiboot.initiator import scsi
from iscsiboot.initiator.scsi import Capacity
from iscsiboot.initiator.scsi_sense import ATTEMPTS_MAX
from iscsiboot.initiator.scsi_unit import (
    ASKED_MAX,
    ScsiError,
    Steps,
    ask,
    identify,
    list_luns,
    measure,
    read_bytes,
    ready,
)
from iscsiboot.initiator.session_events import ScsiResult
from iscsiboot.model.lun import Lun
from tests.doubles.disk import Device, LogicalUnit

T = TypeVar("T")
SUBJECT = "iqn.2026-11.example:t at 10.0.0.1:3260, LUN 1"
ATTENTION = ScsiResult(status=2, sense=bytes([0x72, 6, 0x29, 0]))
UNKNOWN = ScsiResult(status=2, sense=bytes([0x72, 5, 0x20, 0]))


def drive(steps: Steps[T], answer: Callable[[bytes], ScsiResult]) -> tuple[T, list[bytes]]:
    sent: list[bytes] = []
    try:
        request = next(steps)
        while True:
            assert len(sent) < 1000
            sent.append(request.cdb)
            request = steps.send(answer(request.cdb))
    except StopIteration as done:
        value: T = done.value
        return value, sent


def script(*answers: ScsiResult) -> Callable[[bytes], ScsiResult]:
    left: Iterator[ScsiResult] = iter(answers)
    return lambda cdb: next(left)


def good(data: bytes = b"") -> ScsiResult:
    return ScsiResult(status=0, data=data)


def device(units: dict[int, LogicalUnit], lun: int) -> Callable[[bytes], ScsiResult]:
    made = Device(units)

    def answer(cdb: bytes) -> ScsiResult:
        outcome = made.execute(Lun.from_number(lun).wire, cdb)
        return ScsiResult(status=outcome.status, data=outcome.data, sense=outcome.sense)

    return answer


def test_attentions_of_a_fresh_nexus_are_taken() -> None:
    _, sent = drive(ready(subject=SUBJECT), script(ATTENTION, ATTENTION, ATTENTION, good()))
    assert len(sent) == 4


def test_a_target_that_does_not_stop_attending() -> None:
    with pytest.raises(ScsiError) as caught:
        drive(ready(subject=SUBJECT), lambda cdb: ATTENTION)
    assert f"UNIT ATTENTION: power on, reset, or bus device reset occurred (6/29/00) ({ATTEMPTS_MAX} times)" in str(
        caught.value
    )
    assert (caught.value.retryable, caught.value.exit_code) == (True, ExitCode.AGAIN)


def test_an_error_says_command_status_sense_and_next_step() -> None:
    steps = ready(subject=SUBJECT)
    with pytest.raises(ScsiError) as caught:
        drive(steps, script(ScsiResult(status=2, sense=bytes([0x72, 2, 0x3A, 0]))))
    assert caught.value.line() == (
        f"device: {SUBJECT}: TEST UNIT READY was answered with CHECK CONDITION, NOT READY: medium not present "
        "(2/3a/00); next: insert a medium, or attach a backing file at the target"
    )
    assert (caught.value.stage, caught.value.exit_code) == (Stage.DEVICE, ExitCode.ERR)
    assert not caught.value.unsupported


@pytest.mark.parametrize("status", [0x08, 0x18, 0x28, 0x30, 0x99])
def test_a_status_without_sense(status: int) -> None:
    with pytest.raises(ScsiError) as caught:
        drive(ready(subject=SUBJECT), script(ScsiResult(status=status, sense=bytes([0x72, 6, 0, 0]))))
    assert caught.value.status == status
    assert caught.value.sense is None


def test_an_answer_against_the_rules_is_an_error_of_the_unit() -> None:
    with pytest.raises(ScsiError, match=r"READ CAPACITY\(10\): capacity data has 3 bytes") as caught:
        drive(measure(subject=SUBJECT), script(good(b"abc")))
    assert caught.value.hint


def test_no_more_is_taken_than_was_asked_for() -> None:
    whole = scsi.Request(name="ANY", cdb=bytes(6), length=4, parse=bytes)
    value, _ = drive(ask(whole, subject=SUBJECT), script(good(b"12345678")))
    assert value == b"1234"


def lun_list(count: int, length: int) -> bytes:
    whole = (8 * count).to_bytes(4, "big") + bytes(4) + b"".join(Lun.from_number(n).wire for n in range(count))
    return whole[:length]


def asked_length(cdb: bytes) -> int:
    return int.from_bytes(cdb[6:10], "big")


def test_luns_in_one_answer() -> None:
    luns, sent = drive(list_luns(subject=SUBJECT), lambda cdb: good(lun_list(3, asked_length(cdb))))
    assert [lun.kernel for lun in luns] == [0, 1, 2]
    assert len(sent) == 1


def test_more_luns_than_fit_are_asked_for_again() -> None:
    luns, sent = drive(list_luns(subject=SUBJECT), lambda cdb: good(lun_list(2000, asked_length(cdb))))
    assert len(luns) == 2000
    assert [asked_length(cdb) for cdb in sent] == [4096, 16008]


def test_a_list_of_luns_that_grows_for_ever_is_taken_as_it_is() -> None:
    def answer(cdb: bytes) -> ScsiResult:
        room = asked_length(cdb)
        return good((2 * room).to_bytes(4, "big") + bytes(4) + bytes(room - 8))

    luns, sent = drive(list_luns(subject=SUBJECT), answer)
    assert luns == (Lun(bytes(8)),)
    assert len(sent) == 1 + ASKED_MAX


def test_a_list_of_luns_without_bound_is_asked_for_once_more() -> None:
    def answer(cdb: bytes) -> ScsiResult:
        return good(b"\xff" * 4 + bytes(4) + bytes(asked_length(cdb) - 8))

    _, sent = drive(list_luns(subject=SUBJECT), answer)
    assert [asked_length(cdb) for cdb in sent] == [4096, 8 * scsi.LUNS_MAX + 8]


def test_a_target_without_report_luns_has_lun_0() -> None:
    luns, _ = drive(list_luns(subject=SUBJECT), script(UNKNOWN))
    assert luns == (Lun.from_number(0),)
    with pytest.raises(ScsiError, match="RESERVATION CONFLICT"):
        drive(list_luns(subject=SUBJECT), script(ScsiResult(status=0x18)))


def standard(first: int = 0) -> ScsiResult:
    return good(bytes([first, 0, 5, 2, 31, 0, 0, 0]) + b"VENDOR  PRODUCT         0001")


def test_identity() -> None:
    pages = good(bytes([0, 0, 0, 3, 0, 0x80, 0x83]))
    naa = good(bytes([0, 0x83, 0, 12, 1, 3, 0, 8]) + bytes(8))
    identity, sent = drive(
        identify(subject=SUBJECT), script(standard(), pages, good(bytes([0, 0x80, 0, 2]) + b"42"), naa)
    )
    assert (identity.serial, [item.kind for item in identity.identifiers]) == ("42", ["naa"])
    assert [cdb[2] for cdb in sent] == [0, 0, 0x80, 0x83]


@pytest.mark.parametrize(
    ("answers", "commands"),
    [
        pytest.param((standard(), UNKNOWN), 2, id="no-pages"),
        pytest.param((standard(), good(bytes([0, 0, 0, 1, 0]))), 2, id="pages-not-offered"),
        pytest.param((standard(), good(bytes([0, 0, 0, 1, 0x80])), UNKNOWN), 3, id="serial-refused"),
        pytest.param((standard(), good(bytes([0, 0, 0, 1, 0x83])), good(b"x")), 3, id="identification-broken"),
        pytest.param((standard(0x7F),), 1, id="no-device"),
    ],
)
def test_names_are_decoration(answers: tuple[ScsiResult, ...], commands: int) -> None:
    identity, sent = drive(identify(subject=SUBJECT), script(*answers))
    assert (identity.serial, identity.identifiers, len(sent)) == ("", (), commands)


def test_a_large_disk_is_measured_by_the_long_command() -> None:
    capacity, sent = drive(
        measure(subject=SUBJECT),
        script(good(struct.pack(">II", 0xFFFFFFFF, 512)), good(struct.pack(">QI", 1 << 32, 512) + bytes(20))),
    )
    assert capacity.blocks == (1 << 32) + 1
    assert [cdb[0] for cdb in sent] == [0x25, 0x9E]


@pytest.mark.parametrize("block", [512, 4096, 65536])
@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 0), (0, 1), (1, 511), (511, 2), (0, 65536), (3, 200_000), (262_143, 5), (262_144, 1), (1 << 70, 1)],
)
def test_reads_are_cut_to_blocks_commands_and_the_disk(block: int, offset: int, length: int) -> None:
    image = bytes(number % 251 for number in range(262_144))
    capacity = Capacity(blocks=len(image) // block, block_size=block, physical_block_size=block)
    answer = device({1: LogicalUnit(image=image, block=block)}, 1)
    data, sent = drive(read_bytes(capacity, offset, length, subject=SUBJECT), answer)
    assert data == image[offset : offset + length]
    assert all(int.from_bytes(cdb[7:9], "big") * block <= 65536 for cdb in sent)


@pytest.mark.parametrize(("offset", "length"), [(-1, 5), (0, -1)])
def test_reads_of_nothing_sensible_are_the_callers_mistake(offset: int, length: int) -> None:
    capacity = Capacity(blocks=8, block_size=512, physical_block_size=512)
    with pytest.raises(ValueError, match="negative"):
        drive(read_bytes(capacity, offset, length, subject=SUBJECT), lambda cdb: good())


def test_the_whole_conversation_with_a_disk_we_did_not_write() -> None:
    units = {0: LogicalUnit(image=bytes(4096)), 5: LogicalUnit(image=b"\x11" * 8192)}
    luns, _ = drive(list_luns(subject=SUBJECT), device(units, 0))
    assert [lun.kernel for lun in luns] == [0, 5]
    answer = device(units, 5)
    identity, _ = drive(identify(subject=SUBJECT), answer)
    assert identity.inquiry.present
    capacity, _ = drive(measure(subject=SUBJECT), answer)
    assert capacity.size == 8192
    data, _ = drive(read_bytes(capacity, 8000, 500, subject=SUBJECT), answer)
    assert data == b"\x11" * 192
