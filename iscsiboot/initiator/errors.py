# SPDX-License-Identifier: LGPL-2.1-or-later
"""What can go wrong in the protocol: the peer broke a rule, the login failed, or our own caller erred.

One strategy for the whole package: the codecs and rule tables raise :class:`ProtocolViolation`, which knows the rule
but neither target nor portal; the machine converts it, at the one entry where bytes of the peer arrive, into a
:class:`LoginError` that knows everything. :class:`Misuse` is a mistake of the calling code and never of the peer.
"""

from __future__ import annotations

from iscsiboot.errors import ExitCode, IscsiBootError, Stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from iscsiboot.initiator.chap import ChapAlgorithm

REPORT_IT = "report this with the target's make and version: it does not keep to RFC 7143"
"""The next step where a violation knows no better one."""


class ProtocolViolation(Exception):
    """The peer broke a rule, or our own rules refuse what it asks. Never leaves :mod:`iscsiboot.initiator`.

    ``cause`` is a whole clause that may quote the peer only through :func:`iscsiboot.errors.quoted`. ``retryable``: a
    new connection may go well, because it was chance (damage on the way) and not the peer's habit.
    """

    def __init__(self, cause: str, *, hint: str = "", retryable: bool = False) -> None:
        super().__init__(cause)
        self.cause = cause
        self.hint = hint
        self.retryable = retryable


class Misuse(RuntimeError):
    """A method was called in a state that does not allow it: a mistake in the calling code."""


class LoginError(IscsiBootError):
    """The login failed; the machine that raised it refuses further use.

    ``phase`` is ``security negotiation``, ``operational negotiation`` or ``connection``; ``status`` the class and
    detail the target sent, None when it was not the target who ended the login.
    """

    def __init__(
        self,
        cause: str,
        *,
        subject: str,
        phase: str,
        hint: str = "",
        exit_code: ExitCode = ExitCode.FATAL_LOGIN,
        retryable: bool = False,
        status: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(
            f"{phase}: {cause}",
            stage=Stage.LOGIN,
            subject=subject,
            hint=hint,
            exit_code=exit_code,
            retryable=retryable,
        )
        self.phase = phase
        self.status = status


class AlgorithmsRejected(LoginError):
    """The target took none of the offered CHAP algorithms; ``retry_with`` is the one offer worth a second login.

    None when there is nothing left to try. Not ``retryable``: the same offer would fail again.
    """

    def __init__(
        self,
        cause: str,
        *,
        subject: str,
        phase: str,
        hint: str,
        exit_code: ExitCode,
        retry_with: ChapAlgorithm | None,
        status: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(cause, subject=subject, phase=phase, hint=hint, exit_code=exit_code, status=status)
        self.retry_with = retry_with


class SessionError(IscsiBootError):
    """A session ended in full feature phase; the machine that raised it refuses further use.

    The default exit code is open-iscsi's for a failed connection, which is what its kernel makes of a target that
    breaks the protocol. Not retryable by default: the same target breaks the same rule again.
    """

    def __init__(
        self,
        cause: str,
        *,
        subject: str,
        discovery: bool = False,
        hint: str = "",
        exit_code: ExitCode = ExitCode.TRANS,
        retryable: bool = False,
    ) -> None:
        super().__init__(
            cause,
            stage=Stage.DISCOVERY if discovery else Stage.SESSION,
            subject=subject,
            hint=hint,
            exit_code=exit_code,
            retryable=retryable,
        )
