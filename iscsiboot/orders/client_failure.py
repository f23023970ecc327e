# SPDX-License-Identifier: LGPL-2.1-or-later
"""The exit code a client of open-iscsi's daemon is told, for what the engine says of a login.

The engine's exit codes say what happened; the daemon's say less, and scripts branch on those (seen of 2.1.8 and its
daemon in a guest, with a target for each row):

==========================================  ====================================================================
no TCP connection, whatever the reason      8
target in trouble (03/xx) until the end     8: its give-up timer is that of the connection
login answer late, or none before the end   11: open-iscsi does not look at the end of a connection, it waits
refused for who we are (02/01, 02/02)       24
refused for good, or not to be understood   19
no transport, name not resolved             12, 4
kernel refused START_CONN or a session      9, a parameter 5
==========================================  ====================================================================
"""

from __future__ import annotations

from iscsiboot.errors import ExitCode, IscsiBootError
from iscsiboot.initiator.errors import LoginError
from iscsiboot.netlink.socket import RequestRefused

_SET = ("SET_PARAM", "BIND_CONN")


def client_failure(error: IscsiBootError) -> IscsiBootError:
    """The same failure with the exit code open-iscsi's client reports for it."""
    code = error.exit_code
    if isinstance(error, RequestRefused):
        if code is ExitCode.INTERNAL and any(f"refused {name}" in error.cause for name in _SET):
            code = ExitCode.LOGIN
    elif isinstance(error, LoginError) and error.retryable:
        # Without a status the connection ended, or answers did not come: the daemon waits for its timer in either case.
        # "connection" is the phase of redirects that lead nowhere: open-iscsi follows a ring of them for ever.
        unanswered = error.status is None and error.phase != "connection"
        code = ExitCode.PDU_TIMEOUT if unanswered else ExitCode.TRANS_TIMEOUT
    return failure_like(error, code)


def failure_like(error: IscsiBootError, code: ExitCode) -> IscsiBootError:
    """A plain failure with another exit code."""
    return IscsiBootError(
        error.cause,
        stage=error.stage,
        subject=error.subject,
        hint=error.hint,
        exit_code=code,
        retryable=error.retryable,
    )
