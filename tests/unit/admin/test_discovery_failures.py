# SPDX-License-Identifier: LGPL-2.1-or-later
"""Failed attempts in open-iscsi's words. Each text was printed by Debian's iscsiadm 2.1.8 in the same situation."""

from __future__ import annotations

import errno

import pytest

from iscsiboot.admin.discovery_failures import explained, judge, pause_after, unauthenticated
from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.initiator.errors import LoginError, SessionError
from iscsiboot.model.portal import Portal, parse_ip
from iscsiboot.session.connector import ConnectError

PORTAL = Portal(address=parse_ip("10.0.0.9"), port=3261)


def connect(number: int, *, retryable: bool = True) -> ConnectError:
    return ConnectError("cause", portal=PORTAL, hint="hint", retryable=retryable, number=number)


def login(
    *,
    status: tuple[int, int] | None = None,
    phase: str = "operational negotiation",
    exit_code: ExitCode = ExitCode.FATAL_LOGIN,
    retryable: bool = False,
) -> LoginError:
    return LoginError("cause", subject="s", phase=phase, exit_code=exit_code, retryable=retryable, status=status)


REJECTED = "discovery login to 10.0.0.9 rejected:"


@pytest.mark.parametrize(
    ("error", "lines", "exit_code", "again"),
    [
        (connect(errno.ECONNREFUSED), ["cannot make connection to 10.0.0.9: Connection refused"], 11, True),
        (connect(errno.EHOSTUNREACH), ["cannot make connection to 10.0.0.9: No route to host"], 11, True),
        (connect(errno.ETIMEDOUT), ["connect to 10.0.0.9 timed out"], 11, True),
        (
            login(status=(2, 1), exit_code=ExitCode.LOGIN_AUTH_FAILED),
            ["Login failed to authenticate with target ", f"{REJECTED} initiator failed authorization"],
            24,
            False,
        ),
        (login(status=(2, 2)), [f"{REJECTED} initiator failed authorization"], 24, False),
        (login(status=(2, 0)), [f"{REJECTED} initiator error (02/00), non-retryable, giving up"], 19, False),
        (login(status=(2, 0x42)), [f"{REJECTED} initiator error (02/42), non-retryable, giving up"], 19, False),
        (login(status=(3, 1), retryable=True), [f"{REJECTED} target error (03/01)"], 11, True),
        (
            login(status=(4, 0)),
            ["discovery login to 10.0.0.9 failed, response with unknown status class 0x4, detail 0x0"],
            11,
            True,
        ),
        (
            login(exit_code=ExitCode.PDU_TIMEOUT, retryable=True),
            [
                "Login response timeout. Waited 7 seconds and did not get response PDU.",
                "discovery login to 10.0.0.9 failed, giving up 2",
            ],
            19,
            False,
        ),
        (
            login(exit_code=ExitCode.LOGIN, retryable=True),
            [
                "Connection to Discovery Address 10.0.0.9 closed",
                "Login I/O error, failed to receive a PDU",
                "retrying discovery login to 10.0.0.9",
            ],
            11,
            True,
        ),
        (login(), ["discovery login to 10.0.0.9 failed, giving up 7"], 19, False),
        (
            login(phase="security negotiation"),
            [
                "Login authentication failed with target , Authentication request failed",
                "discovery login to 10.0.0.9 failed, giving up 5",
            ],
            19,
            False,
        ),
        (login(phase="connection", exit_code=ExitCode.LOGIN, retryable=True), [], 11, True),
        (
            SessionError("silent", subject="s", exit_code=ExitCode.PDU_TIMEOUT, retryable=True),
            ["Discovery session to 10.0.0.9:3261 timed out."],
            11,
            True,
        ),
        (
            SessionError("closed", subject="s", retryable=True),
            ["Connection to Discovery Address 10.0.0.9 closed"],
            11,
            False,
        ),
        (
            IscsiBootError("no address", stage=Stage.CONNECT, exit_code=ExitCode.TRANS, retryable=True),
            [],
            4,
            True,
        ),
    ],
    ids=[
        *("refused", "no-route", "no-answer", "authentication", "authorization", "02/00", "02/42", "03/01", "04/00"),
        *("login-timeout", "login-closed", "protocol", "security", "redirect-ring", "text-timeout", "text-closed"),
        "redirect-to-no-name",
    ],
)
def test_the_words_of_the_peer(error: IscsiBootError, lines: list[str], exit_code: int, again: bool) -> None:
    seen = judge(error, PORTAL, login_timeout=7)
    assert (list(seen.lines), seen.exit_code, seen.again) == (lines, exit_code, again)


def test_a_netdev_that_is_not_there() -> None:
    seen = judge(connect(errno.ENODEV), PORTAL, netdev="eth9")
    assert list(seen.lines) == [
        "Could not bind connection 0 to eth9",
        "cannot make connection to 10.0.0.9: No such device",
    ]
    assert len(judge(connect(errno.ECONNREFUSED), PORTAL, netdev="eth9").lines) == 1


def test_ipv6_is_named_without_brackets() -> None:
    portal = Portal(address=parse_ip("fe80::1%eth0"))
    assert judge(connect(errno.ENETUNREACH), portal).lines == (
        "cannot make connection to fe80::1%eth0: Network is unreachable",
    )


def test_pauses_grow_as_the_peers() -> None:
    pauses = [pause_after(failures) for failures in (1, 9, 10, 19, 20, 25, 26, 33, 34, 1000)]
    assert pauses == [1, 1, 2, 2, 5, 5, 15, 15, 60, 60]


def test_the_line_behind_says_what_to_type() -> None:
    told = explained(connect(errno.ECONNREFUSED), "[fd00::1]:3260", ExitCode.PDU_TIMEOUT)
    assert (
        told.line() == "connect: 10.0.0.9:3261: cause; next: hint; iscsiboot probe [fd00::1]:3260 shows how far it gets"
    )
    assert told.exit_code is ExitCode.PDU_TIMEOUT


@pytest.mark.parametrize(
    "error",
    [login(status=(2, 1)), login(phase="security negotiation")],
    ids=["refused", "mutual"],
)
def test_a_failed_authentication_leads_to_its_settings(error: LoginError) -> None:
    hint = explained(error, "10.0.0.9:3260", ExitCode.LOGIN_AUTH_FAILED).hint
    assert "discovery.sendtargets.auth.username" in hint
    assert hint.endswith("iscsiadm -m discovery -t sendtargets -p 10.0.0.9:3260")


@pytest.mark.parametrize(
    "error",
    [
        login(status=(2, 2), phase="security negotiation"),
        login(phase="security negotiation", exit_code=ExitCode.PDU_TIMEOUT, retryable=True),
        login(phase="security negotiation", exit_code=ExitCode.TRANS, retryable=True),
    ],
    ids=["access list", "silence", "hung up"],
)
def test_no_settings_help_against_what_is_no_matter_of_secrets(error: LoginError) -> None:
    hint = explained(error, "10.0.0.9:3260", error.exit_code).hint
    assert "auth" not in hint
    assert hint.endswith("iscsiboot probe 10.0.0.9:3260 shows how far it gets")


def test_the_subject_is_never_empty() -> None:
    error = IscsiBootError("cause", stage=Stage.CONNECT)
    assert explained(error, "10.0.0.9:3260", ExitCode.TRANS).subject == "10.0.0.9:3260"


def test_words_about_chap() -> None:
    assert unauthenticated("10.0.0.9", "Local password same as remote") == (
        "Login authentication failed with target , Local password same as remote",
        "discovery login to 10.0.0.9 failed, giving up 5",
    )
