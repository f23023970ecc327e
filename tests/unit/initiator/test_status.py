# SPDX-License-Identifier: LGPL-2.1-or-later
"""The table of login statuses against the numbers of RFC 7143 section 11.13.5 and open-iscsi's exit codes."""

from __future__ import annotations

import pytest

from iscsiboot.errors import ExitCode
from iscsiboot.initiator.status import STATUSES, lookup

RFC = {
    0: range(1),
    1: range(1, 3),
    2: range(12),
    3: range(3),
}


def test_every_status_of_the_rfc_and_no_other() -> None:
    assert set(STATUSES) == {(number, detail) for number, details in RFC.items() for detail in details}


@pytest.mark.parametrize(
    ("status", "spec"), STATUSES.items(), ids=lambda value: str(value) if isinstance(value, tuple) else ""
)
def test_rows_say_something(status: tuple[int, int], spec: object) -> None:
    row = STATUSES[status]
    assert row is spec
    assert row.words
    assert row.cause
    assert bool(row.hint) == (status[0] >= 2)
    assert row.retryable == (status[0] == 3)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ((2, 1), ExitCode.LOGIN_AUTH_FAILED),
        ((2, 2), ExitCode.LOGIN_AUTH_FAILED),
        ((2, 3), ExitCode.FATAL_LOGIN),
        ((2, 5), ExitCode.FATAL_LOGIN),
        ((2, 0x7F), ExitCode.FATAL_LOGIN),
        ((3, 1), ExitCode.LOGIN),
        ((3, 0x7F), ExitCode.LOGIN),
        ((4, 0), ExitCode.FATAL_LOGIN),
        ((255, 255), ExitCode.FATAL_LOGIN),
    ],
)
def test_exit_codes(status: tuple[int, int], code: ExitCode) -> None:
    assert lookup(*status).exit_code == code


@pytest.mark.parametrize("status_class", range(2, 256))
def test_every_class_and_detail_has_an_exit_code_a_cause_and_a_hint(status_class: int) -> None:
    for detail in range(256):
        spec = lookup(status_class, detail)
        denied = (status_class, detail) in ((2, 1), (2, 2))
        expected = ExitCode.LOGIN_AUTH_FAILED if denied else ExitCode.FATAL_LOGIN
        assert spec.exit_code == (ExitCode.LOGIN if status_class == 3 else expected)
        assert spec.retryable == (status_class == 3)
        assert spec.words
        assert spec.cause
        assert spec.hint


def test_unknown_details_mean_their_class() -> None:
    assert lookup(2, 99).words == "unknown initiator error"
    assert lookup(3, 99).retryable
    assert lookup(9, 0).words == "unknown status"
