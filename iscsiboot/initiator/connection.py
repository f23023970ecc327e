# SPDX-License-Identifier: LGPL-2.1-or-later
"""One connection from its first byte to its last: login, full feature phase, discovery; no I/O and no clock.

Bytes of the target go into :meth:`Connection.receive`, bytes for it come out of :meth:`Connection.data_to_send`, what
happened comes out of :meth:`Connection.next_event`. A driver moves bytes and watches :meth:`Connection.next_deadline`;
it decides nothing.

The seam between the two phases is here and nowhere else. The PDU after the last Login Response has digests and the
length we declared, that response has neither (RFC 7143 section 6.1), and both may come in one TCP segment: so the rules
of the stream change between two PDUs, not between two calls.

An error is raised once, where it came about; after it the connection takes nothing and sends nothing. Events that were
complete before it are still there to be had.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from functools import partial

from iscsiboot.errors import ExitCode, IscsiBootError
from iscsiboot.initiator.config import LoginConfig, SessionType
from iscsiboot.initiator.discovery import (
    ALL,
    DiscoveryFinished,
    RecordRefused,
    SendTargetsParser,
    TargetFound,
    question,
)
from iscsiboot.initiator.errors import REPORT_IT, LoginError, Misuse, ProtocolViolation, SessionError
from iscsiboot.initiator.events import LoginRedirected, LoginSucceeded
from iscsiboot.initiator.fullfeature import FullFeature
from iscsiboot.initiator.login import LoginMachine
from iscsiboot.initiator.pdu.control import LogoutReason
from iscsiboot.initiator.pdu.login import LOGIN_DATA_MAX
from iscsiboot.initiator.pdu.scsi_codes import Attribute, TaskFunction
from iscsiboot.initiator.session_events import Rejected, SessionEvent, TextAnswered, TextPart
from iscsiboot.initiator.stream import RawPdu, StreamDecoder, frame
from iscsiboot.initiator.text import Pairs
from iscsiboot.initiator.timers import Timers
from iscsiboot.model.discovered import DiscoveredTarget

TYPE_CHECKING = False
if TYPE_CHECKING:
    from iscsiboot.model.lun import Lun

Event = LoginSucceeded | LoginRedirected | TargetFound | RecordRefused | DiscoveryFinished | SessionEvent
"""Everything :meth:`Connection.next_event` gives."""

SEND_AHEAD = 256 * 1024
"""Bytes after which :meth:`Connection.data_to_send` stops asking for more PDUs: what a socket takes at once."""

CLOSED = "the target closed the connection"
"""What :meth:`Connection.connection_lost` is told when the stream ended in order."""

_WHO_LISTENS = "check that an iSCSI target listens on this port"
_WHY_CLOSED = "read the target's log for why it ends connections"


class ConnectionPhase(Enum):
    """Where a connection stands. The value completes "the connection ..."."""

    READY = "was not started"
    LOGIN = "is being logged in"
    REDIRECTED = "was redirected"
    FULL_FEATURE = "is in full feature phase"
    LOGGING_OUT = "is being logged out"
    LOGGED_OUT = "was logged out"
    DROPPED = "was dropped by the target"
    FAILED = "has failed"


ENDED = frozenset({ConnectionPhase.REDIRECTED, ConnectionPhase.LOGGED_OUT, ConnectionPhase.DROPPED})
"""Phases in which the target's closing the connection is what comes next, and no failure."""


class Connection:
    """One connection and its session, used once.

    Methods that take something of the target's raise :class:`~iscsiboot.initiator.errors.LoginError` during login and
    :class:`~iscsiboot.initiator.errors.SessionError` after it; every method raises :class:`Misuse` when the phase does
    not allow it.
    """

    def __init__(
        self,
        config: LoginConfig,
        *,
        entropy: Callable[[int], bytes],
        timers: Timers = Timers(),  # noqa: B008 (frozen)
    ) -> None:
        self._config = config
        self._timers = timers
        self._login = LoginMachine(config, entropy=entropy)
        self._full: FullFeature | None = None
        self._decoder = StreamDecoder(data_limit=LOGIN_DATA_MAX)
        self._header_digest = self._data_digest = False
        self._phase = ConnectionPhase.READY
        self._events: deque[Event] = deque()
        self._answers: dict[int, SendTargetsParser] = {}

    @property
    def config(self) -> LoginConfig:
        """What the login was started with."""
        return self._config

    @property
    def phase(self) -> ConnectionPhase:
        """Where the connection stands."""
        if self._full is not None and self._phase is not ConnectionPhase.FAILED:
            return ConnectionPhase[self._full.phase.name]
        return self._phase

    @property
    def authenticating(self) -> bool:
        """Whether the login is in its security stage: the target's next answer is about who is who."""
        return self._phase is ConnectionPhase.LOGIN and self._login.authenticating

    @property
    def subject(self) -> str:
        """Target and portal, as errors name them."""
        target, portal = self._config.target_name, self._config.portal
        return " at ".join(part for part in (target, portal.endpoint if portal else "") if part)

    # The driver's side.

    def start(self) -> None:
        """Queue the first Login Request. How long the login may take is the caller's business, as connecting is."""
        self._login.start()
        self._phase = ConnectionPhase.LOGIN

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes of the stream, in pieces of any size."""
        phase = self.phase
        if phase in (ConnectionPhase.READY, ConnectionPhase.FAILED):
            raise Misuse(f"receive(): the connection {phase.value}")
        if phase is ConnectionPhase.REDIRECTED:
            return  # Nothing that comes has a meaning; it is kept nowhere.
        self._decoder.feed(data)
        while self.phase is not ConnectionPhase.REDIRECTED and (pdu := self._next_pdu()) is not None:
            self._take(pdu, now)

    def connection_lost(self, cause: str, now: float) -> None:
        """The stream has ended; ``cause`` is a clause: :data:`CLOSED`, or what the system says.

        Raises the error that the phase makes of it; nothing when the end was due, which it is after a redirect, a
        logout, and the target's own word that it drops the connection.
        """
        phase = self.phase
        if phase in ENDED:
            return
        if phase in (ConnectionPhase.READY, ConnectionPhase.FAILED):
            raise Misuse(f"connection_lost(): the connection {phase.value}")
        if self._full is not None and phase is ConnectionPhase.LOGGING_OUT:
            # A target that was told to close and closes, or resets, instead of answering has done it.
            self._guard(partial(self._full.connection_ended, now))
            return
        exit_code = ExitCode.LOGIN if phase is ConnectionPhase.LOGIN else ExitCode.TRANS
        raise self.abandon(cause, hint=_WHY_CLOSED, exit_code=exit_code, retryable=True)

    def data_to_send(self) -> bytes:
        """Bytes for the target, empty when there are none now; call again once they are sent."""
        data = bytearray()
        while len(data) < SEND_AHEAD and (wire := self._next_wire()):
            data += wire
        return bytes(data)

    def next_event(self) -> Event | None:
        """The next of what happened, None when there is no more; also after a failure."""
        if not self._events and self._phase is not ConnectionPhase.FAILED:
            # Calls may have events of their own: a command that was never sent ends with the logout.
            self._collect()
        return self._events.popleft() if self._events else None

    def next_deadline(self) -> float | None:
        """When :meth:`handle_timer` is due, on the clock of ``now``; None while nothing has a time limit."""
        if self._full is None or self._phase is ConnectionPhase.FAILED:
            return None
        return self._full.next_deadline()

    def handle_timer(self, now: float) -> None:
        """Do what is due by time; nothing when nothing is."""
        if self._full is None or self._phase is ConnectionPhase.FAILED:
            return
        self._guard(partial(self._full.handle_timer, now))

    def abandon(self, cause: str, *, hint: str, exit_code: ExitCode, retryable: bool) -> IscsiBootError:
        """End everything because of something outside the protocol (a lost connection, a deadline, a cancellation).

        Gives the error to raise: a LoginError before full feature phase, a SessionError in it.
        """
        self._phase = ConnectionPhase.FAILED
        if self._full is None:
            return self._login.abandon(cause, hint=hint, exit_code=exit_code, retryable=retryable)
        return self._full.abandon(cause, hint=hint, exit_code=exit_code, retryable=retryable)

    # The caller's side: full feature phase. Each returns the tag that the events of the task carry.

    def command(
        self,
        lun: Lun,
        cdb: bytes,
        *,
        now: float,
        read_length: int = 0,
        data_out: bytes = b"",
        attribute: int = Attribute.SIMPLE,
    ) -> int:
        """Send a SCSI command: :meth:`FullFeature.command`."""
        return self._session("command").command(
            lun, cdb, now=now, read_length=read_length, data_out=data_out, attribute=attribute
        )

    def ping(self, now: float, data: bytes = b"") -> int:
        """Send a NOP-Out: :meth:`FullFeature.ping`."""
        return self._session("ping").ping(now, data)

    def send_text(self, pairs: Pairs, now: float, *, stream: bool = False) -> int:
        """Send a Text Request: :meth:`FullFeature.send_text`."""
        return self._session("send_text").send_text(pairs, now, stream=stream)

    def reset_text(self, tag: int, now: float) -> None:
        """Give a Text Request or a discovery up; ends with TextAnswered: :meth:`FullFeature.reset_text`."""
        self._session("reset_text").reset_text(tag, now)

    def manage_task(
        self, function: TaskFunction, *, now: float, lun: Lun | None = None, task: int | None = None
    ) -> int:
        """Send a Task Management Function Request: :meth:`FullFeature.manage_task`."""
        return self._session("manage_task").manage_task(function, now=now, lun=lun, task=task)

    def logout(self, now: float, reason: LogoutReason = LogoutReason.CLOSE_SESSION) -> int:
        """Send a Logout Request: :meth:`FullFeature.logout`."""
        return self._session("logout").logout(now, reason)

    def discover(self, now: float, what: str = ALL) -> int:
        """Ask for targets (RFC 7143 appendix C): TargetFound and RecordRefused as they come, DiscoveryFinished last.

        ``what`` is ``All`` (discovery sessions), a target's name, or nothing for the target of this session (normal
        sessions). When the target refuses the request, Rejected with its tag comes instead of DiscoveryFinished.
        """
        full = self._session("discover")
        config = self._config
        if config.portal is None:
            raise Misuse("discover(): no portal is configured, and targets without an address are served there")
        discovery = config.session_type is SessionType.DISCOVERY
        value, expected = question(what, discovery=discovery, own=config.target_name)
        tag = full.send_text((("SendTargets", value),), now, stream=True)
        self._answers[tag] = SendTargetsParser(config.portal, tag=tag, expected=expected)
        return tag

    # What both sides share.

    def _next_pdu(self) -> RawPdu | None:
        try:
            return self._decoder.next_pdu()
        except ProtocolViolation as violation:
            raise self._violated(violation) from violation

    def _take(self, pdu: RawPdu, now: float) -> None:
        if self._full is None:
            self._take_login(pdu, now)
            return
        self._guard(partial(self._full.receive, pdu, now))

    def _guard(self, step: Callable[[], None]) -> None:
        """Let the full feature phase do something, and take its events over."""
        try:
            step()
        except SessionError:
            self._phase = ConnectionPhase.FAILED
            raise
        self._collect()

    def _take_login(self, pdu: RawPdu, now: float) -> None:
        try:
            self._login.receive(pdu.bhs, pdu.data)
        except LoginError:
            self._phase = ConnectionPhase.FAILED
            raise
        outcome = self._login.outcome
        if isinstance(outcome, LoginRedirected):
            self._phase = ConnectionPhase.REDIRECTED
            self._events.append(outcome)
        elif outcome is not None:
            self._enter(outcome, now)

    def _enter(self, outcome: LoginSucceeded, now: float) -> None:
        """Full feature phase: other rules for the stream from the very next PDU on."""
        agreed = outcome.negotiated
        self._header_digest, self._data_digest = agreed.header_digest, agreed.data_digest
        self._decoder.reconfigure(
            data_limit=agreed.max_recv_data_segment_length,
            header_digest=agreed.header_digest,
            data_digest=agreed.data_digest,
        )
        self._full = FullFeature(
            outcome,
            subject=self.subject,
            cmdsn=self._config.cmdsn,
            timers=self._timers,
            session_type=self._config.session_type,
            cid=self._config.cid,
            now=now,
        )
        self._events.append(outcome)

    def _collect(self) -> None:
        """Take the events of the full feature phase over; parts of an answer to SendTargets become targets."""
        full = self._full
        while full is not None and (event := full.next_event()) is not None:
            if isinstance(event, TextPart) and event.tag in self._answers:
                self._parse(event)
                continue
            if isinstance(event, Rejected | TextAnswered) and event.tag is not None:
                self._answers.pop(event.tag, None)
            self._events.append(event)

    def _parse(self, part: TextPart) -> None:
        parser = self._answers[part.tag]
        try:
            items = parser.feed(part.data, part.final)
        except ProtocolViolation as violation:
            raise self._violated(violation) from violation
        for item in items:
            if isinstance(item, DiscoveredTarget):
                self._events.append(TargetFound(tag=part.tag, target=item))
            else:
                self._events.append(item)
        if part.final:
            del self._answers[part.tag]
            self._events.append(DiscoveryFinished(tag=part.tag, found=parser.found, refused=parser.refused))

    def _next_wire(self) -> bytes:
        if self.phase is ConnectionPhase.FAILED:
            return b""
        if self._full is None:
            request = self._login.next_request()
            return b"".join(request) if request is not None else b""
        pdu = self._full.next_pdu()
        if pdu is None:
            return b""
        return frame(pdu.bhs, pdu.data, pdu.ahs, header_digest=self._header_digest, data_digest=self._data_digest)

    def _session(self, what: str) -> FullFeature:
        phase = self.phase
        if self._full is None or phase is not ConnectionPhase.FULL_FEATURE:
            raise Misuse(f"{what}(): the connection {phase.value}")
        return self._full

    def _violated(self, violation: ProtocolViolation) -> IscsiBootError:
        if self._full is None:
            hint = violation.hint or _WHO_LISTENS
            return self.abandon(violation.cause, hint=hint, exit_code=ExitCode.FATAL_LOGIN, retryable=False)
        hint = violation.hint or REPORT_IT
        return self.abandon(violation.cause, hint=hint, exit_code=ExitCode.TRANS, retryable=violation.retryable)
