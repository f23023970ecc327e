# SPDX-License-Identifier: LGPL-2.1-or-later
"""The settings of one SendTargets discovery of a command, and the peer's words for those that cannot be used.

Credentials that contradict each other are told before anybody is connected to; the peer finds out in the middle of its
login.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from iscsiboot.admin.discovery_failures import pause_after, unauthenticated
from iscsiboot.database.record import Record
from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.model.credentials import HalfChap, SecretsEqual
from iscsiboot.model.deadline import Deadline
from iscsiboot.orders.discovery import LONGEST_WAIT, PREFIX, DiscoverySettings, discovery_settings


class BadSettings(IscsiBootError):
    """A record a discovery cannot use; ``said`` is what the peer says about it."""

    def __init__(self, cause: str, *, said: tuple[str, ...], hint: str, exit_code: ExitCode) -> None:
        super().__init__(cause, stage=Stage.DISCOVERY, hint=hint, exit_code=exit_code)
        self.said = said


def settings_of(record: Record, notice: Callable[[str], None]) -> DiscoverySettings:
    """The settings in a SendTargets record; what is not used is told. :class:`BadSettings` for credentials that
    contradict each other.
    """
    address = record.get(f"{PREFIX}address")
    try:
        return discovery_settings(record, notice)
    except HalfChap as error:
        raise _half(error, address) from error
    except SecretsEqual as error:
        raise _no_chap(address, "Local password same as remote", error) from error
    except ValueError as error:
        raise _no_chap(address, "Authentication request failed", error) from error


def _half(error: HalfChap, address: str) -> BadSettings:
    """The peer looks for a secret of ours before it connects, and for the rest in the middle of the login."""
    if error.missing == "password":
        line = "CHAP configuration has incoming authentication credentials but has no outgoing credentials configured."
        return BadSettings(str(error), said=(line,), hint=error.hint, exit_code=ExitCode.SYSFS_LOOKUP)
    said: tuple[str, ...] = unauthenticated(address, "Authentication request failed")
    if error.missing.endswith("_in"):
        what = error.missing.removesuffix("_in")
        # The blank at the end is the peer's: a discovery has no target to name there.
        said = (f"failing authentication, no incoming {what} configured to authenticate target ", *said)
    return BadSettings(str(error), said=said, hint=error.hint, exit_code=ExitCode.FATAL_LOGIN)


def _no_chap(address: str, why: str, error: ValueError) -> BadSettings:
    """Credentials that cannot be used; the peer finds out in the middle of the login."""
    return BadSettings(
        str(error),
        said=unauthenticated(address, why),
        hint=f"correct {PREFIX}auth.* in iscsid.conf or in the discovery record",
        exit_code=ExitCode.FATAL_LOGIN,
    )


def overall_deadline(
    settings: DiscoverySettings, limit: float | None, now: Callable[[], float] = time.monotonic
) -> Deadline:
    """The end of all attempts: ``limit`` seconds from now where the administrator gave one."""
    seconds = limit
    if seconds is None:
        pauses = sum(pause_after(failures) for failures in range(1, settings.attempts))
        seconds = settings.attempts * (settings.login_timeout + LONGEST_WAIT) + pauses
    return Deadline.after(seconds, now=now(), reason="the discovery to end")
