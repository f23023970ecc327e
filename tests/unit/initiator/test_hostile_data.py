# SPDX-License-Identifier: LGPL-2.1-or-later
"""Targets that lie about data, statuses and texts: what does not add up ends the session or is told."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from iscsiboot.errors import ExitCode
from iscsiboot.initiator.pdu.control import (
    TextResponse,
)
from iscsiboot.initiator.pdu.header import RESERVED_TAG
from iscsiboot.initiator.pdu.scsi import (
    DataIn,
    ReadyToTransfer,
    ScsiResponse,
)
from iscsiboot.initiator.session_events import (
    CommandFailed,
)
from iscsiboot.model.params import SessionParams
from tests.doubles.disk import Device, LogicalUnit
from tests.doubles.faults import (
    EVERY,
    Change,
    dropped,
    fields,
    holding,
    on,
    plus,
    twice,
    without_data,
)
from tests.doubles.scsi import (
    ACA_ACTIVE,
    BECOMING_READY,
    BUSY,
    GOOD,
    LUNS_CHANGED,
    NO_SUCH_UNIT,
    OUT_OF_RANGE,
    POWER_ON,
    RESERVATION_CONFLICT,
    TASK_ABORTED,
    TASK_SET_FULL,
    WRITE_PROTECTED,
    Outcome,
    sense,
)
from tests.doubles.wire import Send
from tests.unit.initiator.hostile_kit import (
    IMAGE,
    LENGTH,
    SEGMENT,
    begin,
    fails,
    lives,
    pieces,
    plan,
    remarks,
    run,
)

# SCSI: statuses.


@pieces
@pytest.mark.parametrize(
    "status", [GOOD, BUSY, RESERVATION_CONFLICT, TASK_SET_FULL, ACA_ACTIVE, TASK_ABORTED, 0x55, 0xFF], ids=hex
)
def test_every_status_is_handed_on(status: int, piece: int) -> None:
    ours = begin(plan(device=Device({1: LogicalUnit(IMAGE, instead={0x28: Outcome(status=status)})})), piece)
    result = run(ours, "read").result
    assert (result.status, result.data, result.underflow, result.residual) == (status, b"", True, LENGTH)
    lives(ours)


TROUBLES: list[tuple[str, LogicalUnit, str, bytes]] = [
    ("attention", LogicalUnit(IMAGE, pending=deque([POWER_ON])), "read", POWER_ON.sense),
    ("luns changed", LogicalUnit(IMAGE, pending=deque([LUNS_CHANGED])), "write", LUNS_CHANGED.sense),
    ("not ready", LogicalUnit(IMAGE, ready=False), "read", BECOMING_READY.sense),
    ("bad block", LogicalUnit(IMAGE, bad=frozenset({2})), "read", sense(3, 0x11, information=2)),
    ("bad block to write", LogicalUnit(IMAGE, bad=frozenset({3})), "write", sense(3, 0x0C, 2, information=3)),
    ("read only", LogicalUnit(IMAGE, writable=False), "write", WRITE_PROTECTED.sense),
    ("too small", LogicalUnit(IMAGE[:1024]), "read", OUT_OF_RANGE.sense),
]


@pieces
@pytest.mark.parametrize(
    ("unit", "activity", "expected"), [row[1:] for row in TROUBLES], ids=[row[0] for row in TROUBLES]
)
def test_troubles_of_a_disk(unit: LogicalUnit, activity: str, expected: bytes, piece: int) -> None:
    """Their sense data comes through as it is; nothing of the data does, and the residual says so."""
    ours = begin(plan(device=Device({1: replace(unit, pending=deque(unit.pending))})), piece)
    result = run(ours, activity).result
    assert (result.status, result.sense, result.data) == (2, expected, b"")
    assert (result.underflow, result.residual) == (True, LENGTH)
    lives(ours)


@pieces
def test_a_unit_that_is_not_there(piece: int) -> None:
    ours = begin(plan(device=Device()), piece)
    result = run(ours, "read").result
    assert (result.status, result.sense) == (2, NO_SUCH_UNIT.sense)
    lives(ours)


@pieces
@pytest.mark.parametrize("response", [1, 0x80, 0xFF])
def test_a_command_that_never_came_to_its_unit(response: int, piece: int) -> None:
    ours = begin(plan(faults=[on(ScsiResponse, fields(response=response))]), piece)
    failed = run(ours, "write")
    assert isinstance(failed, CommandFailed)
    assert failed.cause
    lives(ours)


# SCSI: data that does not add up.


@dataclass(frozen=True)
class Lie:
    """One lie about data, and what it comes to: a failure that says so, or a result with a remark."""

    id: str
    activity: str
    kind: Any
    changes: Sequence[Change]
    says: str
    survived: bool = False
    nth: int = 0
    result: dict[str, Any] = field(default_factory=dict)
    collapse: bool = False


LIES = [
    Lie("DataSN ahead", "read", DataIn, [fields(datasn=plus(1))], "DataSN 1, 0 was due"),
    Lie("DataSN again", "read", DataIn, [fields(datasn=plus(-1))], "DataSN 0, 1 was due", nth=1),
    Lie("data missing", "read", DataIn, [dropped], "DataSN 2, 1 was due", nth=1),
    Lie("data twice", "read", DataIn, [twice], "DataSN 1, 2 was due", nth=1),
    Lie("hole", "read", DataIn, [fields(buffer_offset=plus(4))], "data for offset 516, 512 was due", nth=1),
    Lie("overlap", "read", DataIn, [fields(buffer_offset=0)], "data for offset 0, 512 was due", nth=1),
    Lie("offset 4 GB", "read", DataIn, [fields(buffer_offset=0xFFFFFFFF)], "data for offset 4294967295"),
    Lie(
        "too much",
        "read",
        ScsiResponse,
        [lambda out: [stray(out, DataIn, datasn=4, buffer_offset=LENGTH, data=b"more"), out]],
        "the target sends 2052 bytes, 2048 were asked for",
    ),
    Lie("status too early", "read", DataIn, [fields(status_present=True, statsn=1001)], "a task that does not exist"),
    Lie(
        "data of a write",
        "write",
        ReadyToTransfer,
        [lambda out: [stray(out, DataIn, data=b"x")]],
        "a command that reads nothing",
    ),
    Lie(
        "R2T of a read",
        "read",
        DataIn,
        [lambda out: [stray(out, ReadyToTransfer, ttt=5, desired_length=4)]],
        "a command that writes nothing",
    ),
    Lie("R2TSN ahead", "write", ReadyToTransfer, [fields(r2tsn=plus(1))], "R2TSN 1, 0 was due"),
    Lie("R2T twice", "write", ReadyToTransfer, [twice], "R2TSN 0, 1 was due"),
    Lie("no tag", "write", ReadyToTransfer, [fields(ttt=RESERVED_TAG)], "gives no transfer tag"),
    Lie("nothing wanted", "write", ReadyToTransfer, [fields(desired_length=0)], "asks for 0 bytes at once"),
    Lie("more than a burst", "write", ReadyToTransfer, [fields(desired_length=65537)], "asks for 65537 bytes at once"),
    Lie("4 GB", "write", ReadyToTransfer, [fields(desired_length=0xFFFFFFFF)], "asks for 4294967295 bytes at once"),
    Lie(
        "beyond the end",
        "write",
        ReadyToTransfer,
        [fields(buffer_offset=1028)],
        "data up to offset 2052, the command has 2048",
    ),
    Lie("far beyond", "write", ReadyToTransfer, [fields(buffer_offset=0xFFFFFFFC)], "the command has 2048 bytes"),
    Lie(
        "asked again",
        "write",
        ReadyToTransfer,
        [fields(buffer_offset=0)],
        "from offset 0, up to 1024 it was sent",
        nth=1,
    ),
    Lie(
        "more at once than agreed",
        "write",
        ReadyToTransfer,
        [lambda out: [joined(out)]],
        "asks before it was answered (MaxOutstandingR2T=1)",
    ),
    Lie(
        "both residuals",
        "read",
        ScsiResponse,
        [fields(overflow=True, underflow=True)],
        "overflow and underflow of one transfer",
    ),
    # What is survived: the result tells what really came.
    Lie(
        "less than confessed",
        "read",
        DataIn,
        [without_data, fields(buffer_offset=LENGTH - SEGMENT)],
        "sent 1536 of 2048 bytes and announces 0 as missing",
        survived=True,
        nth=3,
        result={"data": IMAGE[:1536], "underflow": True, "residual": 512},
    ),
    Lie(
        "impossible residual",
        "read",
        ScsiResponse,
        [fields(underflow=True, residual=LENGTH + 1)],
        "sent 2048 of 2048 bytes and announces 2048 as missing",
        survived=True,
        result={"data": IMAGE[:LENGTH], "underflow": False, "residual": 0},
    ),
    Lie(
        "more missing than true",
        "read",
        ScsiResponse,
        [fields(underflow=True, residual=100)],
        "sent 2048 of 2048 bytes and announces 100 as missing",
        survived=True,
        result={"data": IMAGE[:LENGTH], "underflow": False, "residual": 0},
    ),
    Lie(
        "residual without a bit",
        "write",
        ScsiResponse,
        [fields(residual=100)],
        "",
        survived=True,
        result={"underflow": False, "residual": 0},
    ),
    Lie(
        "overflow",
        "read",
        ScsiResponse,
        [fields(overflow=True, residual=0xFFFFFFFF)],
        "",
        survived=True,
        result={"overflow": True, "residual": 0xFFFFFFFF, "data": IMAGE[:LENGTH]},
    ),
    Lie(
        "R2T with another StatSN",
        "write",
        ReadyToTransfer,
        [fields(statsn=plus(7))],
        "sent StatSN 1008 in a PDU that only repeats it",
        survived=True,
    ),
    Lie(
        "data acknowledgement",
        "read",
        DataIn,
        [fields(acknowledge=True)],
        "belongs to error recovery level 1",
        survived=True,
        result={"data": IMAGE[:LENGTH]},
    ),
    Lie(
        "status with the data is not good",
        "read",
        DataIn,
        [fields(status=BUSY)],
        "",
        survived=True,
        nth=3,
        collapse=True,
        result={"status": BUSY, "data": IMAGE[:LENGTH]},
    ),
    Lie(
        "statsn in data without status",
        "read",
        DataIn,
        [fields(statsn=0xFFFFFFFF)],
        "",
        survived=True,
        nth=1,
        result={"data": IMAGE[:LENGTH]},
    ),
]


def stray(out: Any, kind: Any, *, data: bytes = b"", **values: Any) -> Any:
    """Another PDU for the same task."""
    return replace(out, pdu=kind(itt=out.pdu.itt, **values), data=data)


def joined(out: Any) -> Any:
    """An R2T and the next one in one segment, so that the first cannot have been answered."""
    first = replace(out.pdu, statsn=1001, exp_cmdsn=2, max_cmdsn=33)
    second = replace(first, r2tsn=1, ttt=first.ttt + 1, buffer_offset=1024)
    return Send(first.encode() + second.encode())


@pieces
@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.id)
def test_lies_about_data(lie: Lie, piece: int) -> None:
    ours = begin(plan(faults=[on(lie.kind, *lie.changes, nth=lie.nth)], collapse_status=lie.collapse), piece)
    if not lie.survived:
        error = fails(ours, lambda: run(ours, lie.activity))
        assert lie.says in error.cause
        assert error.exit_code is ExitCode.TRANS
        return
    result = run(ours, lie.activity).result
    assert {name: getattr(result, name) for name in lie.result} == lie.result
    assert remarks(ours) == [] if not lie.says else any(lie.says in text for text in remarks(ours))
    lives(ours)


@pieces
def test_bursts_longer_than_agreed_are_remarked(piece: int) -> None:
    params = SessionParams(max_recv_data_segment_length=SEGMENT, max_burst_length=1024, first_burst_length=512)
    ours = begin(plan(faults=[on(DataIn, fields(final=False), nth=1)]), piece, params=params)
    assert run(ours, "read").result.data == IMAGE[:LENGTH]
    assert remarks(ours) == ["the target sends bursts of more than MaxBurstLength=1024"]
    lives(ours)


# Text.

TEXTS: list[tuple[str, Sequence[Change], int, str]] = [
    ("F and C", [fields(cont=True)], 0, "F and C bit"),
    ("no tag", [fields(final=False)], 0, "gives no transfer tag"),
    (
        "endless and empty",
        [fields(final=False, ttt=5), without_data],
        EVERY,
        "announced more text 17 times and sent none",
    ),
    ("endless", [fields(final=False, cont=True, ttt=5), holding(b"X-a=" + b"a" * 500)], EVERY, "more than 65536 bytes"),
    ("endless keys", [fields(final=False, ttt=5), holding(b"A=1\0" * 100)], EVERY, "more than 256 keys"),
    ("too many keys", [holding(b"A=1\0" * 128), fields(final=False, ttt=5)], EVERY, "more than 256 keys"),
    ("not UTF-8", [holding(b"X-a=\xff\0")], 0, "is not UTF-8"),
    ("no equals sign", [holding(b"nonsense\0")], 0, "has no equals sign"),
    ("no key", [holding(b"=1\0")], 0, '"" is not the name of a key'),
    ("escape", [holding(b"\x1b[2J=1\0")], 0, "is not the name of a key"),
    ("segment 0", [holding(b"MaxRecvDataSegmentLength=0\0")], 0, "outside 512 to 16777215"),
]


@pieces
@pytest.mark.parametrize(("changes", "nth", "says"), [row[1:] for row in TEXTS], ids=[row[0] for row in TEXTS])
def test_texts_that_cannot_be(changes: Sequence[Change], nth: int, says: str, piece: int) -> None:
    ours = begin(plan(faults=[on(TextResponse, *changes, nth=nth)]), piece)
    error = fails(ours, lambda: run(ours, "text"))
    assert says in error.cause


@pieces
def test_an_answer_before_our_text_was_complete(piece: int) -> None:
    ours = begin(plan(faults=[on(TextResponse, holding(b"X-b=1\0"))]), piece)
    pairs = tuple((f"X-com.example.{number:03}", "v" * 200) for number in range(60))
    ours.machine.send_text(pairs, ours.now)
    assert "before our text was complete" in fails(ours, ours.pump).cause


@pieces
def test_a_target_that_ends_our_text(piece: int) -> None:
    ours = begin(plan(faults=[on(TextResponse, fields(final=True, ttt=RESERVED_TAG))]), piece)
    pairs = tuple((f"X-com.example.{number:03}", "v" * 200) for number in range(60))
    ours.machine.send_text(pairs, ours.now)
    assert "ended the negotiation before our text was complete" in fails(ours, ours.pump).cause
