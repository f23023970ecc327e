# SPDX-License-Identifier: LGPL-2.1-or-later
"""Results on their way out of a child process; which exit code a client sees: orders/client_failure.py."""

from __future__ import annotations

from collections.abc import Sequence

from iscsiboot.admin.runner import Result
from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.session.workers import Answer, Ended


def failure_of(sid: int, cause: str, code: ExitCode) -> IscsiBootError:
    """A failure of a session that is there, or was."""
    hint = "look at it: iscsiadm -m session -P 3"
    return IscsiBootError(cause, stage=Stage.SESSION, subject=f"session {sid}", hint=hint, exit_code=code)


def to_answer(
    failure: IscsiBootError | None, sid: int | None, seconds: float, notes: Sequence[str], steps: Sequence[str] = ()
) -> Answer:
    """A result as a child hands it over."""
    parts = None if failure is None else failure.parts()
    return {"failure": parts, "sid": sid, "seconds": seconds, "notes": list(notes), "steps": list(steps)}


def from_answer(answer: Answer) -> Result:
    """The inverse."""
    parts = answer["failure"]
    failure = None
    if parts is not None:
        failure = IscsiBootError(
            parts["cause"],
            stage=Stage(parts["stage"]),
            subject=parts["subject"],
            hint=parts["hint"],
            exit_code=ExitCode(parts["exit_code"]),
            retryable=parts["retryable"],
        )
    return Result(
        failure=failure,
        sid=answer["sid"],
        seconds=answer["seconds"],
        notes=tuple(answer["notes"]),
        steps=tuple(answer["steps"]),
    )


def result_of(ended: Ended, subject: str, late: ExitCode = ExitCode.TRANS_TIMEOUT) -> Result:
    """What a child told, or what became of it."""
    if ended.answer is not None:
        return from_answer(ended.answer)
    failure = IscsiBootError(
        ended.problem,
        stage=Stage.SESSION,
        subject=subject,
        hint="see dmesg for what the kernel says; give it more time with --timeout",
        exit_code=late if ended.late else ExitCode.CHILD_TERMINATED,
    )
    return Result(failure=failure)
