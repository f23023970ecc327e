# SPDX-License-Identifier: LGPL-2.1-or-later
"""One path of a probe: log in, list the LUNs, ask each of them. What it needs of the machine is injected.

A LUN that never answers takes its session with it (a command cannot be taken back without the target's help); the LUNs
after it get another session, :data:`SESSIONS_MAX` in all.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.initiator.scsi import DeviceType, Request
from iscsiboot.initiator.scsi_unit import Answer, ScsiError, Steps, list_luns
from iscsiboot.model.discovered import DiscoveredTarget
from iscsiboot.model.lun import Lun
from iscsiboot.model.portal import NamedPortal, Portal
from iscsiboot.toolkit.probe_options import Options
from iscsiboot.toolkit.probe_report import Path, PathReport, Step, UnitReport
from iscsiboot.toolkit.probe_unit import UnitProbe
from iscsiboot.toolkit.probe_words import lun_text

T = TypeVar("T")

UNITS_MAX = 256
"""LUNs of one path."""
SESSIONS_MAX = 4
"""Sessions one path may take because LUNs do not answer."""


class Stopwatch:
    """Adds up how long each step took, by name, in the order of their first time; collects remarks on the way."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._since = now()
        self._steps: dict[str, Step] = {}
        self.remarks: list[str] = []

    def start(self) -> None:
        """The next step begins now."""
        self._since = self._now()

    def lap(self, name: str) -> None:
        """A step ends now, and the next begins."""
        now = self._now()
        before = self._steps.get(name, Step(name=name, seconds=0.0, times=0))
        self._steps[name] = Step(name=name, seconds=before.seconds + now - self._since, times=before.times + 1)
        self._since = now

    @property
    def steps(self) -> tuple[Step, ...]:
        """What was measured."""
        return tuple(self._steps.values())


class Session(Protocol):
    """A session in full feature phase."""

    @property
    def portal(self) -> Portal:
        """Where the login ended."""

    @property
    def tpgt(self) -> int | None:
        """The portal group the target says it is."""

    @property
    def alias(self) -> str:
        """Printable; empty when the target has none."""

    @property
    def authentication(self) -> str:
        """In words, as :attr:`PathReport.authentication`."""

    def execute(self, lun: Lun, request: Request[Any]) -> Answer:
        """One command. ScsiError when it alone failed; any other IscsiBootError ends the session."""

    def logout(self) -> None:
        """End the session in good order; IscsiBootError when the target does not answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """What a run needs of the machine. Everything raises :class:`IscsiBootError` and nothing else."""

    now: Callable[[], float]
    resolve: Callable[[NamedPortal], Sequence[Portal]]
    """All addresses of a host name, at least one."""
    discover: Callable[[Portal, str | None, Stopwatch], tuple[list[DiscoveredTarget], list[str]]]
    """Targets of a portal (or the named one alone), and refused records in words."""
    open_session: Callable[[Portal, str, Stopwatch], AbstractContextManager[Session]]
    """Connect and log in; leaving the block closes the connection, whatever state it is in."""
    cancel: Callable[[], None]
    """End every wait that is under way, from any thread."""

    def addresses(self, portal: Portal | NamedPortal) -> Sequence[Portal]:
        """Where a portal is."""
        return [portal] if isinstance(portal, Portal) else self.resolve(portal)


class DeadPortals:
    """Portals that took no connection: for a thousand targets there, one timeout is enough to know. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, IscsiBootError] = {}

    def add(self, portal: Portal, error: IscsiBootError) -> None:
        """It took none, and this is why; the first reason stays."""
        with self._lock:
            self._known.setdefault(portal.endpoint, error)

    def check(self, portal: Portal) -> None:
        """Raise the known reason again."""
        with self._lock:
            known = self._known.get(portal.endpoint)
        if known is not None:
            raise IscsiBootError(
                known.cause,
                stage=known.stage,
                subject=known.subject,
                hint=known.hint,
                exit_code=known.exit_code,
                retryable=known.retryable,
            )


class PathProbe:
    """One path; used once."""

    def __init__(
        self, path: Path, options: Options, initiator_name: str, environment: Environment, dead: DeadPortals
    ) -> None:
        self._path = path
        self._dead = dead
        self._options = options
        self._initiator_name = initiator_name
        self._environment = environment
        self._watch = Stopwatch(environment.now)
        self._units: list[UnitReport] = []
        self._pending: deque[Lun] | None = None
        self._session: Session | None = None

    def run(self) -> PathReport:
        """Everything about the path, as far as it went."""
        failure = self._try_addresses()
        session = self._session
        return PathReport(
            path=self._path,
            portal=session.portal if session else None,
            tpgt=session.tpgt if session else None,
            alias=session.alias if session else "",
            authentication=session.authentication if session else "",
            remarks=tuple(self._watch.remarks),
            steps=self._watch.steps,
            units=tuple(self._units),
            failure=failure,
        )

    def _try_addresses(self) -> IscsiBootError | None:
        """Go to the first address that takes a connection; what came of it, else why the first one did not."""
        failure: IscsiBootError | None = None
        try:
            for portal in self._environment.addresses(self._path.portal):
                try:
                    self._dead.check(portal)
                    self._go(portal)
                except IscsiBootError as error:
                    if error.stage is not Stage.CONNECT or self._session is not None:
                        return error
                    self._dead.add(portal, error)
                    failure = failure or error
                else:
                    return None
        except IscsiBootError as error:
            return error
        return failure

    def _go(self, portal: Portal) -> None:
        for _ in range(SESSIONS_MAX):
            with self._environment.open_session(portal, self._path.target, self._watch) as session:
                self._session = session
                if self._pending is None:
                    self._pending = deque(self._luns(session))
                if self._work(session, self._pending):
                    self._log_out(session)
                    break
            if not self._pending:
                break
        if self._pending:
            raise self._error(
                f"{len(self._pending)} LUNs were not looked at: {SESSIONS_MAX} sessions ended before their time",
                hint="see what is said of the LUNs before them",
                exit_code=ExitCode.SESSION_NOT_CONNECTED,
            )
        self._check_units()

    def _luns(self, session: Session) -> Sequence[Lun]:
        if self._options.lun is not None:
            return [self._options.lun]
        first = Lun.from_number(0)
        found = self._drive(list_luns(subject=str(self._path)), session, first, self._watch)
        if len(found) > UNITS_MAX:
            self._watch.remarks.append(f"the target shows {len(found)} LUNs, the first {UNITS_MAX} are looked at")
        return found[:UNITS_MAX]

    def _work(self, session: Session, pending: deque[Lun]) -> bool:
        """Look at the units in turn; False when the session has ended."""
        while pending:
            watch = Stopwatch(self._environment.now)
            unit = UnitProbe(pending.popleft(), subject=str(self._path), read=self._options.read)
            failure: IscsiBootError | None = None
            try:
                self._drive(unit.steps(), session, unit.lun, watch)
            except IscsiBootError as error:
                failure = error
            self._units.append(
                UnitReport(
                    lun=unit.lun,
                    identity=unit.identity,
                    capacity=unit.capacity,
                    media=unit.media,
                    steps=watch.steps,
                    failure=failure,
                )
            )
            if failure is not None and not isinstance(failure, ScsiError):
                return False
        return True

    def _drive(self, steps: Steps[T], session: Session, lun: Lun, watch: Stopwatch) -> T:
        """Send what a conversation wants and give it the answers; each command is a step of ``watch``."""
        try:
            request = next(steps)
            while True:
                watch.start()
                answer = session.execute(lun, request)
                watch.lap(request.name)
                request = steps.send(answer)
        except StopIteration as done:
            value: T = done.value
            return value

    def _log_out(self, session: Session) -> None:
        self._watch.start()
        try:
            session.logout()
        except IscsiBootError as error:
            self._watch.remarks.append(f"logout: {error.cause}")
        else:
            self._watch.lap("logout")

    def _check_units(self) -> None:
        """A path without anything to boot from is told, with what is most often the reason."""
        if any(unit.capacity is not None or unit.failure is not None for unit in self._units):
            return
        kinds = ", ".join(sorted({_kind(unit) for unit in self._units}))
        hint = "map a LUN to this initiator at the target"
        if self._options.lun is None:
            what = f"no disk ({f'only: {kinds}' if kinds else 'no LUN at all'})"
        else:
            what = f"no disk at LUN {lun_text(self._options.lun)}, but {kinds}"
            hint = f"leave --lun out to see all LUNs, or {hint}"
        raise self._error(
            f"the target shows {self._initiator_name} {what}", hint=hint, exit_code=ExitCode.NO_OBJS_FOUND
        )

    def _error(self, cause: str, *, hint: str, exit_code: ExitCode) -> IscsiBootError:
        return IscsiBootError(cause, stage=Stage.SCAN, subject=str(self._path), hint=hint, exit_code=exit_code)


def _kind(unit: UnitReport) -> str:
    if unit.identity is None or not unit.identity.inquiry.present:
        return "an empty LUN"
    words = DeviceType.words(unit.identity.inquiry.device_type)
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
