# SPDX-License-Identifier: LGPL-2.1-or-later
"""The invariants of what reads answers to SCSI commands, as functions: both fuzzers hold the same.

Whatever a target answers, a conversation ends in a value or one ScsiError after a bounded number of commands; its texts
are printable and one line. An input of the long runner is a byte that picks the conversation, then answers, each with
its lengths before it; they come again from the first when the conversation outlasts them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any

from iscsiboot.initiator.scsi import BLOCK_MAX, BLOCK_MIN, LUNS_MAX, Capacity
from iscsiboot.initiator.scsi_sense import ATTEMPTS_MAX, parse_sense
from iscsiboot.initiator.scsi_unit import (
    ASKED_MAX,
    Identity,
    ScsiError,
    Steps,
    identify,
    list_luns,
    measure,
    read_bytes,
    ready,
)
from iscsiboot.initiator.session_events import ScsiResult
from tests.doubles.disk import Device, LogicalUnit
from tests.doubles.scsi import BAD_FIELD, BECOMING_READY, POWER_ON, Outcome, only_status, sense
from tests.fuzz.wire_invariants import ACCEPTED, REFUSED

MOST = ATTEMPTS_MAX * (2 + ASKED_MAX)
"""The longest conversation: identity's four commands are fewer than a list of LUNs that grows."""
_DISK = Capacity(blocks=64, block_size=512, physical_block_size=512)
READ_AT, READ_LENGTH = 700, 1500

CONVERSATIONS: dict[str, Callable[[], Steps[Any]]] = {
    "luns": lambda: list_luns(subject="LUN 1"),
    "identity": lambda: identify(subject="LUN 1"),
    "capacity": lambda: measure(subject="LUN 1"),
    "ready": lambda: ready(subject="LUN 1"),
    "read": lambda: read_bytes(_DISK, READ_AT, READ_LENGTH, subject="LUN 1"),
}
_NAMES = tuple(CONVERSATIONS)


def converse(what: str, answers: Sequence[ScsiResult]) -> str:
    """Hold the invariant for one conversation."""
    try:
        value = _run(CONVERSATIONS[what](), answers)
    except ScsiError as error:
        value = error
    if isinstance(value, ScsiError):
        assert value.line().isprintable()
        assert value.hint
        return REFUSED
    if isinstance(value, Identity):
        texts = [value.serial, value.inquiry.vendor, value.inquiry.product, value.inquiry.revision]
        assert all(text.isprintable() for text in [*texts, *(item.text for item in value.identifiers)])
    elif isinstance(value, Capacity):
        assert BLOCK_MIN <= value.block_size <= BLOCK_MAX
        assert value.blocks >= 1
        assert value.physical_block_size >= value.block_size
    elif isinstance(value, bytes):
        assert len(value) == READ_LENGTH
    elif value is not None:
        assert len(value) == len(set(value)) <= LUNS_MAX
    return ACCEPTED


def _run(steps: Steps[Any], answers: Sequence[ScsiResult]) -> Any:
    source = cycle(answers)
    sent = 0
    try:
        next(steps)
        while True:
            sent += 1
            assert sent <= MOST
            steps.send(next(source))
    except StopIteration as done:
        return done.value


def sense_data(data: bytes) -> str:
    """Sense data is a value in printable words, or nothing; no more than its announced length is looked at."""
    found = parse_sense(data)
    if found is None:
        return REFUSED
    assert found.words.isprintable()
    assert 0 <= found.key <= 15
    if data[0] & 0x7F in (0x70, 0x71) and len(data) >= 8:
        assert parse_sense(data[: 8 + data[7]]) == found
    return ACCEPTED


# For the long runner: answers as bytes.


def encode(what: str, answers: Sequence[ScsiResult]) -> bytes:
    """An input: what is asked, then each answer."""
    packed = [
        bytes([one.status, len(one.sense)]) + len(one.data).to_bytes(2, "big") + one.sense + one.data for one in answers
    ]
    return bytes([_NAMES.index(what)]) + b"".join(packed)


def answers_in(data: bytes) -> tuple[str, list[ScsiResult]]:
    """The opposite, for any bytes: what is cut off is short or missing, and there is one answer at least."""
    what = _NAMES[data[0] % len(_NAMES)] if data else _NAMES[0]
    answers: list[ScsiResult] = []
    at = 1
    while at + 4 <= len(data):
        middle = at + 4 + data[at + 1]
        end = middle + int.from_bytes(data[at + 2 : at + 4], "big")
        answers.append(ScsiResult(status=data[at], sense=data[at + 4 : middle], data=data[middle:end]))
        at = end
    return what, answers or [ScsiResult(status=0)]


def conversation(data: bytes) -> str:
    """One input of the long runner."""
    return converse(*answers_in(data))


def conversations() -> list[bytes]:
    """What disks of the double answer: in health, after a power on, unready, without optional pages, huge."""
    small, huge = LogicalUnit(image=bytes(64 * 512)), LogicalUnit(block=4096, blocks=1 << 40)
    devices = [Device({1: small, 300: small}), Device({1: huge})]
    found = []
    for device in devices:
        for what in CONVERSATIONS:
            if what == "read" and device is not devices[0]:
                continue
            honest = _record(device, what)
            found += [
                encode(what, honest),
                encode(what, [_result(POWER_ON), *honest]),
                encode(what, [*honest[:1], _result(BAD_FIELD)] if what == "identity" else honest),
            ]
    failing = [BECOMING_READY, only_status(0x08), only_status(0x18)]
    return [*found, *(encode("ready", [_result(outcome)]) for outcome in failing)]


def _record(device: Device, what: str) -> list[ScsiResult]:
    steps, told = CONVERSATIONS[what](), []
    lun = next(iter(device.units))
    try:
        request = next(steps)
        while True:
            told.append(_result(device.execute(lun, request.cdb)))
            request = steps.send(told[-1])
    except StopIteration:
        return told


def _result(outcome: Outcome) -> ScsiResult:
    return ScsiResult(status=outcome.status, data=outcome.data, sense=outcome.sense)


def senses() -> list[bytes]:
    """Both formats, current and deferred, whole and as short as they may be."""
    fixed = [sense(key, code, 1) for key, code in ((0, 0), (2, 0x3A), (3, 0x11), (5, 0x25), (6, 0x29), (11, 0x47))]
    deferred = [b"\x71" + one[1:] for one in fixed[:2]]
    descriptor = [
        bytes([code, 0x06, 0x3F, 0x0E, 0, 0, 0, 12]) + bytes([0, 10, 0x80, *bytes(9)]) for code in (0x72, 0x73)
    ]
    return [*fixed, *deferred, *descriptor, b"\x70\0\x02", b"\x72\x05\x25\0"]
