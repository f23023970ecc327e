# SPDX-License-Identifier: LGPL-2.1-or-later
"""What happens in full feature phase, as values (RFC 7143 chapter 11).

``tag`` is the initiator task tag that the call gave which started the task. Each task ends with exactly one event,
named in the docstring of its call, or with the session: when that fails no task is told singly, and when it ends well
(LoggedOut, ConnectionDropped, SessionDropped) SCSI commands alone are, by CommandFailed before it.
Times in whole seconds, as the target gave them.
"""

from __future__ import annotations

from dataclasses import dataclass

from iscsiboot.initiator.text import Pairs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from iscsiboot.model.lun import Lun

GOOD = 0x00
CHECK_CONDITION = 0x02


@dataclass(frozen=True, kw_only=True, slots=True)
class ScsiResult:
    """How a SCSI command ended at its logical unit (section 11.4)."""

    status: int
    """SAM status: GOOD, CHECK CONDITION and so on; an unknown number survives."""
    data: bytes = b""
    """What was read; never more than was asked for, and only what really came."""
    sense: bytes = b""
    """Sense data in SPC's fixed or descriptor format, not looked at here; at most 252 bytes."""
    residual: int = 0
    """Bytes: what a full transfer is short of (underflow), or what the command wanted beyond it (overflow)."""
    overflow: bool = False
    underflow: bool = False
    """Also set when data is missing that the target did not confess."""
    read_residual: int = 0
    """The same three for the read direction of a bidirectional command."""
    read_overflow: bool = False
    read_underflow: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandFinished:
    """A SCSI command got its status, whichever it is."""

    tag: int
    result: ScsiResult


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandFailed:
    """A SCSI command ended without a status: aborted, refused, or its session ends."""

    tag: int
    cause: str
    """A whole clause."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pong:
    """The target answered a ping of the caller's (pings of the timer make no event)."""

    tag: int
    data: bytes
    """As sent, cut to our MaxRecvDataSegmentLength."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextAnswered:
    """A Text Request is answered in whole."""

    tag: int
    pairs: Pairs


@dataclass(frozen=True, kw_only=True, slots=True)
class TextPart:
    """A part of the answer to a streamed Text Request; the parts joined are the text.

    A pair may begin in one part and end in another. The text as a whole ends with NUL, or is empty.
    """

    tag: int
    data: bytes
    final: bool
    """The last part: the task has ended."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskManaged:
    """A task management function is answered. Tasks it ended are told before this, one by one."""

    tag: int
    response: int
    """``pdu.scsi.TaskAnswer``, or a number the RFC does not assign."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedOut:
    """The session, or its one connection, is closed; nothing is sent any more."""

    tag: int
    response: int | None
    """``pdu.control.LogoutAnswer``; None when the target closed the connection instead of answering."""
    time2wait: int = 0
    """Seconds to wait before the session may be reinstated or the connection continued."""
    time2retain: int = 0
    """Seconds after ``time2wait`` for which the target keeps the tasks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LogoutRequested:
    """The target wants us to log out (Asynchronous Message 1); whether and when is the caller's decision."""

    seconds: int
    """Within which it is expected; the target drops the connection after that."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectionDropped:
    """The target says that it drops a connection (Asynchronous Message 2). Of ours: nothing is sent any more."""

    cid: int
    time2wait: int
    time2retain: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionDropped:
    """The target says that it drops all connections of this session (Asynchronous Message 3)."""

    time2wait: int
    time2retain: int


@dataclass(frozen=True, kw_only=True, slots=True)
class NegotiationRequested:
    """The target wants to negotiate again (Asynchronous Message 4): a Text Request is expected."""

    seconds: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TasksTerminated:
    """All tasks of a logical unit were terminated (Asynchronous Message 5); ours were told before this."""

    lun: Lun


@dataclass(frozen=True, kw_only=True, slots=True)
class ScsiAsync:
    """A logical unit reports something without having been asked (Asynchronous Message 0)."""

    lun: Lun
    sense: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class VendorAsync:
    """An Asynchronous Message of the vendor's own (events 248 to 255)."""

    vcode: int
    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejected:
    """The target refused a PDU of ours, and the session goes on."""

    reason: int
    """Section 11.17.1."""
    header: bytes
    """The refused PDU's 48 bytes."""
    tag: int | None = None
    """The task that ended by it (a command is told by CommandFailed as well); None when none did."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Remark:
    """The target did something that the RFC does not provide for, without harm: a line for a log."""

    text: str


SessionEvent = (
    CommandFinished
    | CommandFailed
    | Pong
    | TextAnswered
    | TextPart
    | TaskManaged
    | LoggedOut
    | LogoutRequested
    | ConnectionDropped
    | SessionDropped
    | NegotiationRequested
    | TasksTerminated
    | ScsiAsync
    | VendorAsync
    | Rejected
    | Remark
)
"""Everything ``FullFeature.next_event`` gives."""
