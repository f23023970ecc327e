# SPDX-License-Identifier: LGPL-2.1-or-later
"""Why an order to the keeper is not carried out, each as an error with open-iscsi's exit code."""

from __future__ import annotations

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.keeper.values import Place
from iscsiboot.session.login import LoginOrder

_LIST_THEM = "list them: iscsiadm -m session"


def unknown(sid: int) -> IscsiBootError:
    """No session of this number is guarded."""
    return _of_session(sid, "there is no such session", _LIST_THEM, ExitCode.SESS_NOT_FOUND)


def no_room(place: Place, cause: str) -> IscsiBootError:
    """As many as are wanted lead there already, or will."""
    target, address, port, iface = place
    return IscsiBootError(
        cause,
        stage=Stage.SESSION,
        subject=f"{target} at {address}:{port} through {iface}",
        hint=_LIST_THEM,
        exit_code=ExitCode.SESS_EXISTS,
    )


def late(order: LoginOrder, seconds: float, words: str) -> IscsiBootError:
    """The time for a login is over; ``words`` are what stood in the way, where that is known."""
    cause = f"no session after {seconds:g} s"
    return IscsiBootError(
        f"{cause}: {words}" if words else cause,
        stage=Stage.LOGIN,
        subject=order.request.target_name,
        hint="give it more time, or see why the target does not answer",
        exit_code=ExitCode.REQ_TIMEDOUT,
    )


def stays(sid: int, words: str, seconds: float) -> IscsiBootError:
    """A logout failed, for the reason in ``words``, or is not done in time."""
    return _of_session(
        sid,
        words or f"it is not ended after {seconds:g} s; the work on it goes on",
        "insist with --force, which waits for nobody",
        ExitCode.LOGOUT if words else ExitCode.REQ_TIMEDOUT,
    )


def no_rescan(sid: int, problem: str) -> IscsiBootError:
    """The hand that was to do it came to no end."""
    error = _of_session(
        sid, f"rescan: {problem}", "see dmesg for a unit that does not answer", ExitCode.CHILD_TERMINATED
    )
    error.stage = Stage.SCAN
    return error


def no_counters(sid: int, problem: str) -> IscsiBootError:
    """What the kernel sent is no set of counters."""
    cause = f"the kernel's counters cannot be read: {problem}"
    return _of_session(sid, cause, "report this with the kernel's version", ExitCode.INTERNAL)


def handed_over() -> IscsiBootError:
    """Nothing is guarded here any more."""
    return IscsiBootError(
        "another process is taking the sessions over",
        stage=Stage.SESSION,
        hint="try again in a moment",
        exit_code=ExitCode.BUSY,
        retryable=True,
    )


def _of_session(sid: int, cause: str, hint: str, code: ExitCode) -> IscsiBootError:
    return IscsiBootError(cause, stage=Stage.SESSION, subject=f"session {sid}", hint=hint, exit_code=code)
