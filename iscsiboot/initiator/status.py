# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every status a Login Response can carry, as one table: words, cause, hint, exit code (RFC 7143 section 11.13.5).

Exit codes are open-iscsi's: 24 for the two refusals of the initiator's identity, 19 for what no retry mends, 5 for a
target in trouble, which is retried. They are those of one login; what is told after the last retry is the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass

from iscsiboot.errors import ExitCode

SUCCESS_CLASS = 0
REDIRECTION_CLASS = 1
INITIATOR_CLASS = 2
TARGET_CLASS = 3

INITIATOR_ERROR = (2, 0)
AUTHENTICATION_FAILURE = (2, 1)
MOVED_PERMANENTLY = (1, 2)
DISLIKES_REQUEST = frozenset({INITIATOR_ERROR, AUTHENTICATION_FAILURE, (2, 7), (2, 11)})
"""What targets answer to an offer of CHAP algorithms they cannot take, instead of CHAP_A=Reject: tgt sends 02/00,
LIO before Linux 3.15 02/01."""


@dataclass(frozen=True, slots=True)
class StatusSpec:
    """One row: what a target means with a status, and what can be done."""

    words: str
    """The RFC's name of the status."""
    cause: str
    """A whole clause about this login."""
    hint: str
    exit_code: ExitCode = ExitCode.FATAL_LOGIN
    retryable: bool = False


_AUTH = ExitCode.LOGIN_AUTH_FAILED
_NAMES = "compare both names with the target's configuration (its list of targets and its access list)"
_REPORT = "report this with the target's make and version: the request was legal"

STATUSES: dict[tuple[int, int], StatusSpec] = {
    (0, 0): StatusSpec("success", "the login goes on", ""),
    (1, 1): StatusSpec("target moved temporarily", "the target is at another address for now", ""),
    (1, 2): StatusSpec("target moved permanently", "the target is at another address", ""),
    (2, 0): StatusSpec("initiator error", "the target blames the request without saying why", "read the target's log"),
    (2, 1): StatusSpec(
        "authentication failure",
        "the target does not accept who we say we are",
        "compare CHAP user name and secret with those set at the target",
        _AUTH,
    ),
    (2, 2): StatusSpec(
        "authorization failure",
        "the target does not let this initiator in",
        "add the initiator's name or address to the target's access list",
        _AUTH,
    ),
    (2, 3): StatusSpec("not found", "the portal has no target of this name", _NAMES),
    (2, 4): StatusSpec(
        "target removed",
        "the target existed here and was removed",
        "find out where the target is served now; the portal gives no address",
    ),
    (2, 5): StatusSpec("unsupported version", "the target does not speak iSCSI version 0", _REPORT),
    (2, 6): StatusSpec(
        "too many connections",
        "the target takes no further connection of this session",
        "end other sessions of this initiator, or raise the target's limit",
    ),
    (2, 7): StatusSpec("missing parameter", "the target misses the initiator's or the target's name", _REPORT),
    (2, 8): StatusSpec(
        "cannot include in session", "the target cannot put this connection into the session", "try another portal"
    ),
    (2, 9): StatusSpec(
        "session type not supported",
        "the target does not serve sessions of this type",
        "check that the portal serves disks and not discovery alone",
    ),
    (2, 10): StatusSpec("session does not exist", "the target does not know the session to be continued", _REPORT),
    (2, 11): StatusSpec("invalid during login", "the target calls our request invalid during login", _REPORT),
    (3, 0): StatusSpec(
        "target error",
        "the target has a hardware or software error",
        "read the target's log; the login is worth repeating",
        ExitCode.LOGIN,
        retryable=True,
    ),
    (3, 1): StatusSpec(
        "service unavailable",
        "the target is not ready to serve",
        "wait until the target has started; the login is worth repeating",
        ExitCode.LOGIN,
        retryable=True,
    ),
    (3, 2): StatusSpec(
        "out of resources",
        "the target has no room for another session",
        "end idle sessions at the target; the login is worth repeating",
        ExitCode.LOGIN,
        retryable=True,
    ),
}
"""All of section 11.13.5, by class and detail."""

_CLASS_FALLBACK = {
    INITIATOR_CLASS: StatusSpec("unknown initiator error", "the target blames the request", "read the target's log"),
    TARGET_CLASS: StatusSpec(
        "unknown target error", "the target is in trouble", "read the target's log", ExitCode.LOGIN, retryable=True
    ),
}


def lookup(status_class: int, detail: int) -> StatusSpec:
    """The row of a status. An unknown detail has its class's meaning, an unknown class is a protocol error."""
    spec = STATUSES.get((status_class, detail)) or _CLASS_FALLBACK.get(status_class)
    return spec or StatusSpec("unknown status", "the target sent a status the RFC does not assign", _REPORT)
