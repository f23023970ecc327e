# SPDX-License-Identifier: LGPL-2.1-or-later
"""Statuses and sense data in words, and what is sent again."""

from __future__ import annotations

import pytest

from iscsiboot.initiator.scsi_sense import (
    ADDITIONAL,
    ATTEMPTS_MAX,
    Decision,
    Sense,
    SenseKey,
    Status,
    decide,
    hint,
    may_pass,
    parse_sense,
)


def fixed(key: int, asc: int, ascq: int, *, code: int = 0x70, more: int = 10) -> bytes:
    return bytes([code, 0, key, 0, 0, 0, 0, more, 0, 0, 0, 0, asc, ascq, 0, 0, 0, 0])


@pytest.mark.parametrize(
    ("data", "sense"),
    [
        pytest.param(fixed(6, 0x29, 0), Sense(key=6, asc=0x29), id="fixed"),
        pytest.param(fixed(0xF6, 0x29, 7, code=0xF0), Sense(key=6, asc=0x29, ascq=7), id="fixed-valid-and-filemark"),
        pytest.param(fixed(3, 0x11, 0, code=0x71), Sense(key=3, asc=0x11, deferred=True), id="fixed-deferred"),
        pytest.param(fixed(5, 0x24, 0, more=4), Sense(key=5), id="fixed-says-less"),
        pytest.param(fixed(5, 0x24, 0)[:13], Sense(key=5), id="fixed-cut-in-the-codes"),
        pytest.param(fixed(5, 0x24, 0)[:3], Sense(key=5), id="fixed-cut-after-the-key"),
        pytest.param(bytes([0x72, 2, 4, 1, 0, 0, 0, 0]), Sense(key=2, asc=4, ascq=1), id="descriptor"),
        pytest.param(bytes([0x73, 0xB, 0, 0]), Sense(key=0xB, deferred=True), id="descriptor-deferred"),
        pytest.param(b"", None, id="nothing"),
        pytest.param(bytes([0x70, 0]), None, id="fixed-without-a-key"),
        pytest.param(bytes([0x72, 2, 4]), None, id="descriptor-cut"),
        pytest.param(bytes([0x7F, *bytes(17)]), None, id="vendor-format"),
        pytest.param(bytes(18), None, id="zeros"),
    ],
)
def test_sense_data(data: bytes, sense: Sense | None) -> None:
    assert parse_sense(data) == sense


@pytest.mark.parametrize(
    ("sense", "words"),
    [
        (Sense(key=2, asc=4, ascq=1), "NOT READY: logical unit is becoming ready (2/04/01)"),
        (Sense(key=2, asc=0x3A), "NOT READY: medium not present (2/3a/00)"),
        (Sense(key=0), "NO SENSE (0/00/00)"),
        (Sense(key=9, asc=0xC0, ascq=0x99), "VENDOR SPECIFIC (9/c0/99)"),
        (Sense(key=3, asc=0x11, deferred=True), "MEDIUM ERROR: unrecovered read error (3/11/00, deferred)"),
    ],
)
def test_words(sense: Sense, words: str) -> None:
    assert sense.words == words


def test_every_key_has_words() -> None:
    assert all(Sense(key=key).words for key in range(16))
    assert {int(key) for key in SenseKey} == set(range(16))
    assert all(text and text == text.strip() for text in ADDITIONAL.values())


@pytest.mark.parametrize(
    ("value", "words"), [(0x18, "RESERVATION CONFLICT"), (0x28, "TASK SET FULL"), (0x55, "status 0x55")]
)
def test_statuses(value: int, words: str) -> None:
    assert Status.words(value) == words


CHECK = Status.CHECK_CONDITION


@pytest.mark.parametrize(
    ("status", "sense", "attempt", "decision"),
    [
        pytest.param(Status.GOOD, None, 1, Decision.DONE, id="good"),
        pytest.param(Status.CONDITION_MET, None, 1, Decision.DONE, id="condition-met"),
        pytest.param(CHECK, Sense(key=1), 1, Decision.DONE, id="recovered"),
        pytest.param(CHECK, Sense(key=0), 1, Decision.DONE, id="no-sense"),
        pytest.param(CHECK, Sense(key=1, deferred=True), 1, Decision.AGAIN, id="deferred"),
        pytest.param(CHECK, Sense(key=6, asc=0x29), 1, Decision.AGAIN, id="unit-attention"),
        pytest.param(CHECK, Sense(key=6), ATTEMPTS_MAX - 1, Decision.AGAIN, id="still-attention"),
        pytest.param(CHECK, Sense(key=6), ATTEMPTS_MAX, Decision.FAILED, id="attention-without-end"),
        pytest.param(CHECK, Sense(key=0xB), 1, Decision.AGAIN, id="aborted-command"),
        pytest.param(CHECK, Sense(key=2, asc=4, ascq=1), 1, Decision.FAILED, id="becoming-ready"),
        pytest.param(CHECK, Sense(key=5, asc=0x24), 1, Decision.FAILED, id="illegal-request"),
        pytest.param(CHECK, None, 1, Decision.FAILED, id="no-sense-data"),
        pytest.param(Status.TASK_ABORTED, None, 1, Decision.AGAIN, id="task-aborted"),
        pytest.param(Status.BUSY, None, 1, Decision.FAILED, id="busy"),
        pytest.param(Status.TASK_SET_FULL, None, 1, Decision.FAILED, id="task-set-full"),
        pytest.param(Status.RESERVATION_CONFLICT, None, 1, Decision.FAILED, id="reservation"),
        pytest.param(0x77, Sense(key=6), 1, Decision.FAILED, id="unknown-status"),
    ],
)
def test_decisions(status: int, sense: Sense | None, attempt: int, decision: Decision) -> None:
    assert decide(status, sense, attempt=attempt) is decision


@pytest.mark.parametrize(
    ("status", "sense", "passing", "words"),
    [
        (Status.BUSY, None, True, "wait until"),
        (CHECK, Sense(key=2, asc=4, ascq=1), True, "wait until"),
        (CHECK, Sense(key=6), True, "wait until"),
        (CHECK, Sense(key=2, asc=0x3A), False, "medium"),
        (CHECK, Sense(key=2, asc=4, ascq=0x0B), False, "another path"),
        (CHECK, Sense(key=2, asc=4, ascq=3), False, "log"),
        (CHECK, Sense(key=5, asc=0x25), False, "which LUNs"),
        (CHECK, Sense(key=4, asc=0x44), False, "log"),
        (CHECK, None, False, "log"),
        (Status.RESERVATION_CONFLICT, None, False, "reservation"),
    ],
)
def test_what_to_do_next(status: int, sense: Sense | None, passing: bool, words: str) -> None:
    assert may_pass(status, sense) is passing
    assert words in hint(status, sense)
