# SPDX-License-Identifier: LGPL-2.1-or-later
"""A failed attempt at a discovery in open-iscsi's words, and whether it makes another one. Pure.

Programs read those words, so they are kept to the letter, one set for each attempt. They do not say what a person
needs; :func:`explained` makes the line that comes behind them when everything has failed.
"""

from __future__ import annotations

import errno
import os

from iscsiboot.errors import ExitCode, IscsiBootError
from iscsiboot.initiator.errors import LoginError, SessionError
from iscsiboot.initiator.status import AUTHENTICATION_FAILURE, INITIATOR_CLASS, TARGET_CLASS
from iscsiboot.model.portal import Portal
from iscsiboot.orders.record_values import half_hint
from iscsiboot.session.connector import ConnectError

AUTHORIZATION_FAILURE = (2, 2)
_TIMED_OUT, _NO_AUTHENTICATION, _BAD_PDU = 2, 5, 7
"""The peer's internal numbers behind "giving up"."""


class Attempt:
    """What the peer says about a failed attempt and what it does next."""

    __slots__ = ("again", "exit_code", "lines")

    def __init__(self, *lines: str, exit_code: ExitCode, again: bool = False) -> None:
        self.lines = lines
        self.exit_code = exit_code
        """How the discovery ends when this was the last attempt."""
        self.again = again


def judge(error: IscsiBootError, portal: Portal, *, netdev: str = "", login_timeout: int = 0) -> Attempt:
    """The verdict on one attempt at ``portal``, bound to ``netdev`` unless that is empty. Times in seconds."""
    address = str(portal.address)
    if isinstance(error, ConnectError):
        return _no_connection(error, address, netdev)
    if isinstance(error, LoginError):
        return _no_login(error, address, login_timeout)
    if isinstance(error, SessionError):
        if error.exit_code is ExitCode.PDU_TIMEOUT:
            line = f"Discovery session to {address}:{portal.port} timed out."
            return Attempt(line, exit_code=ExitCode.PDU_TIMEOUT, again=True)
        # The peer takes a connection that ends in the middle of an answer for the end of the discovery.
        return Attempt(f"Connection to Discovery Address {address} closed", exit_code=ExitCode.PDU_TIMEOUT)
    # A redirect to a name nobody knows: the peer has no word that would fit, and goes in circles.
    return Attempt(exit_code=error.exit_code, again=error.retryable)


def _no_connection(error: ConnectError, address: str, netdev: str) -> Attempt:
    line = f"cannot make connection to {address}: {os.strerror(error.number)}"
    if error.number == errno.ETIMEDOUT:
        line = f"connect to {address} timed out"
    lines = [f"Could not bind connection 0 to {netdev}", line] if netdev and error.number == errno.ENODEV else [line]
    return Attempt(*lines, exit_code=ExitCode.PDU_TIMEOUT, again=True)


def _no_login(error: LoginError, address: str, login_timeout: int) -> Attempt:
    if error.status is not None:
        return _refused(error.status, address)
    if error.exit_code is ExitCode.PDU_TIMEOUT:
        return Attempt(
            f"Login response timeout. Waited {login_timeout} seconds and did not get response PDU.",
            f"discovery login to {address} failed, giving up {_TIMED_OUT}",
            exit_code=ExitCode.FATAL_LOGIN,
        )
    if error.phase == "connection":
        # Redirected in a ring.
        return Attempt(exit_code=ExitCode.PDU_TIMEOUT, again=error.retryable)
    if error.retryable:
        return Attempt(
            f"Connection to Discovery Address {address} closed",
            "Login I/O error, failed to receive a PDU",
            f"retrying discovery login to {address}",
            exit_code=ExitCode.PDU_TIMEOUT,
            again=True,
        )
    if error.phase.startswith("security"):
        return Attempt(*unauthenticated(address, "Authentication request failed"), exit_code=ExitCode.FATAL_LOGIN)
    return Attempt(f"discovery login to {address} failed, giving up {_BAD_PDU}", exit_code=ExitCode.FATAL_LOGIN)


def unauthenticated(address: str, why: str) -> tuple[str, str]:
    """What the peer says when it ends the login because of CHAP itself; ``why`` is in its words."""
    # The blank before the comma is the peer's: a discovery has no target to name there.
    return (
        f"Login authentication failed with target , {why}",
        f"discovery login to {address} failed, giving up {_NO_AUTHENTICATION}",
    )


def _refused(status: tuple[int, int], address: str) -> Attempt:
    """By the status of the Login Response (RFC 7143 section 11.13.5)."""
    code = f"({status[0]:02x}/{status[1]:02x})"
    if status in (AUTHENTICATION_FAILURE, AUTHORIZATION_FAILURE):
        # The blank at the end is the peer's: a discovery has no target to name there.
        first = ("Login failed to authenticate with target ",) if status == AUTHENTICATION_FAILURE else ()
        line = f"discovery login to {address} rejected: initiator failed authorization"
        return Attempt(*first, line, exit_code=ExitCode.LOGIN_AUTH_FAILED)
    if status[0] == INITIATOR_CLASS:
        line = f"discovery login to {address} rejected: initiator error {code}, non-retryable, giving up"
        return Attempt(line, exit_code=ExitCode.FATAL_LOGIN)
    if status[0] == TARGET_CLASS:
        line = f"discovery login to {address} rejected: target error {code}"
    else:
        known = f"unknown status class {status[0]:#x}, detail {status[1]:#x}"
        line = f"discovery login to {address} failed, response with {known}"
    return Attempt(line, exit_code=ExitCode.PDU_TIMEOUT, again=True)


def pause_after(failures: int) -> float:
    """Seconds the peer waits after this many failed attempts."""
    for most, seconds in ((9, 1.0), (19, 2.0), (25, 5.0), (33, 15.0)):
        if failures <= most:
            return seconds
    return 60.0


def _about_secrets(error: LoginError) -> bool:
    """Whether settings of CHAP may help: the target said so, or we were not satisfied with its proof."""
    if error.status is not None:
        return error.status == AUTHENTICATION_FAILURE
    return "security" in error.phase and not error.retryable and error.exit_code is not ExitCode.PDU_TIMEOUT


def explained(error: IscsiBootError, portal: str, exit_code: ExitCode, *, missing: str = "") -> IscsiBootError:
    """``error`` with the next command to type, and with the status the command ends with.

    ``missing`` is the half of our CHAP settings that is not set while the other one is.
    """
    if missing and isinstance(error, LoginError) and _about_secrets(error):
        command = half_hint(missing)
    elif isinstance(error, LoginError) and _about_secrets(error):
        command = (
            "set discovery.sendtargets.auth.username and password in iscsid.conf, "
            f"then iscsiadm -m discovery -t sendtargets -p {portal}"
        )
    else:
        command = f"iscsiboot probe {portal} shows how far it gets"
    return IscsiBootError(
        error.cause,
        stage=error.stage,
        subject=error.subject or portal,
        hint=f"{error.hint.rstrip('?')}; {command}" if error.hint else command,
        exit_code=exit_code,
        retryable=error.retryable,
    )
