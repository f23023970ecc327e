# SPDX-License-Identifier: LGPL-2.1-or-later
"""SendTargets through one interface: attempts, pauses, words. Its settings: :mod:`iscsiboot.orders.discovery`.

Nothing of the kernel's iSCSI and no daemon is needed. Which attempt follows which is the peer's rule
(:mod:`iscsiboot.admin.discovery_failures`). A portal given by name is resolved once; each further attempt takes the
next of its addresses, where the peer tries the first one again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from iscsiboot.admin.discovery_failures import explained, judge, pause_after
from iscsiboot.database.initiator_name import InitiatorName
from iscsiboot.database.record import Record
from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.initiator.config import LoginConfig
from iscsiboot.initiator.errors import LoginError
from iscsiboot.initiator.timers import Timers
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.discovered import DiscoveredTarget
from iscsiboot.model.names import InvalidName, check_iscsi_name
from iscsiboot.model.portal import NamedPortal, Portal, parse_ip
from iscsiboot.model.timeline import Mark
from iscsiboot.orders.discovery import DiscoverySettings, bound_netdev
from iscsiboot.orders.record_values import chap_words
from iscsiboot.session.cancel import Cancellation
from iscsiboot.session.discover import discover
from iscsiboot.session.open_link import THIS_MACHINE, LinkEnvironment
from iscsiboot.session.resolve import resolve_all


@dataclass(frozen=True, slots=True)
class FoundPortal:
    """One portal of one target; the address without brackets, as records have it; tag -1 while unknown."""

    target: str
    address: str
    port: int
    tpgt: int


@dataclass(kw_only=True, slots=True)
class Answer:
    """How a discovery through one interface ended."""

    exit_code: ExitCode = ExitCode.SUCCESS
    found: list[FoundPortal] = field(default_factory=list)
    """In the target's order; empty unless it succeeded."""
    error: IscsiBootError | None = None
    """Why it failed, with the next command."""


def untold(level: int, line: str) -> None:
    """Takes the steps of a discovery nobody asked to see."""


class NoticeReport:
    """What the engine tells on the way, as notices: for a person at a terminal and for nobody else."""

    def __init__(self, notice: Callable[[str], None], trace: Callable[[int, str], None] = untold) -> None:
        self._notice = notice
        self._trace = trace

    def note(self, text: str) -> None:
        """One line."""
        self._notice(text)

    def mark(self, mark: Mark, detail: str = "") -> None:
        """A step; a command draws no timeline of them."""
        self._trace(1, f"discovery: {mark.value} {detail}".rstrip())


@dataclass(frozen=True, kw_only=True, slots=True)
class SendTargets:
    """One discovery, ready to run through one interface."""

    settings: DiscoverySettings
    initiator: InitiatorName
    iface: Record
    deadline: Deadline
    say: Callable[[str], None]
    """Takes the peer's lines about what failed, and what of an answer is not used."""
    notice: Callable[[str], None]
    """Takes what is worth knowing and no failure."""
    trace: Callable[[int, str], None] = untold
    """Takes each step with its level of ``-d``."""
    sysfs: str = "/sys"
    environment: LinkEnvironment = THIS_MACHINE
    pause_after: Callable[[int], float] = pause_after
    """Seconds to wait after this many failed attempts."""

    def run(self) -> Answer:
        """Ask, until there is an answer or no more reason to."""
        try:
            name = self._initiator_name()
            netdev = self._netdev()
            portals = self._portals()
        except IscsiBootError as error:
            return Answer(exit_code=error.exit_code, error=error)
        self._trace_settings(portals, netdev)
        config = self.settings.login(initiator_name=name, initiator_alias=self.initiator.alias)
        return self._attempts(portals, config, netdev)

    def _trace_settings(self, portals: list[Portal], netdev: str) -> None:
        settings = self.settings
        addresses = ", ".join(portal.endpoint for portal in portals)
        self.trace(1, f"discovery: {settings.endpoint} is {addresses}, through {netdev or 'any network device'}")
        way = chap_words(settings.credentials)
        times = f"attempts: {settings.attempts}, {settings.login_timeout} s for a login"
        self.trace(2, f"discovery: {way}, {times}, {settings.text_timeout:g} s for an answer")

    def _attempts(self, portals: list[Portal], config: LoginConfig, netdev: str) -> Answer:
        environment = replace(self.environment, netdev=netdev or None)
        failures = 0
        while True:
            portal = portals[failures % len(portals)]
            self.trace(1, f"discovery: attempt {failures + 1} of {self.settings.attempts} at {portal.endpoint}")
            try:
                return Answer(found=self._ask(portal, config, environment))
            except IscsiBootError as error:
                failures += 1
                self.trace(1, f"discovery: attempt {failures} failed: {error.line()}")
                seen = judge(error, portal, netdev=netdev, login_timeout=_patience(self.settings, error))
                for line in seen.lines:
                    self.say(line)
                # An attempt the engine knows to be in vain is not made, where the peer makes all of them.
                more = seen.again and error.retryable and failures < self.settings.attempts
                if more and self._pause(self.pause_after(failures)):
                    continue
                if seen.again:
                    self.say(f"connection login retries (reopen_max) {self.settings.attempts - 1} exceeded")
                told = explained(error, self.settings.endpoint, seen.exit_code, missing=self.settings.missing)
                return Answer(exit_code=seen.exit_code, error=told)

    def _ask(self, portal: Portal, config: LoginConfig, environment: LinkEnvironment) -> list[FoundPortal]:
        found: list[FoundPortal] = []

        def take(target: DiscoveredTarget) -> None:
            places = self._found(target, portal)
            found.extend(places)
            for place in places:
                self.trace(3, f"discovery: {target.name} at {place.address}, port {place.port}, tag {place.tpgt}")
            self.trace(2, f"discovery: portals of {target.name}: {len(target.portals)}")

        discover(
            portal,
            config,
            deadline=self.deadline,
            on_target=take,
            on_refused=lambda cause: self.say(f"ignored in the answer of {self.settings.endpoint}: {cause}"),
            timers=Timers(text_timeout=self.settings.text_timeout, auth_timeout=float(self.settings.auth_timeout)),
            environment=environment,
            report=NoticeReport(self.notice, self.trace),
        )
        self.trace(1, f"discovery: portals {portal.endpoint} told of: {len(found)}")
        return found

    def _found(self, target: DiscoveredTarget, asked: Portal) -> list[FoundPortal]:
        """Its portals; one without an address of its own is where the administrator said, in the same words."""
        return [
            FoundPortal(
                target.name,
                self.settings.address_of(portal, asked),
                portal.port,
                -1 if portal.tpgt is None else portal.tpgt,
            )
            for portal in target.portals
        ]

    def _pause(self, seconds: float) -> bool:
        """Wait for the next attempt; False when the deadline does not allow it."""
        now = self.environment.now
        if self.deadline.remaining(now()) <= seconds:
            return False
        with Cancellation() as nobody:
            nobody.wait(Deadline.after(seconds, now=now(), reason="the next attempt"), now)
        return True

    def _initiator_name(self) -> str:
        name = self.iface.get("iface.initiatorname") or self.initiator.name
        try:
            return check_iscsi_name(name)
        except InvalidName as error:
            self.say("Cannot perform discovery. Invalid Initiatorname.")
            raise IscsiBootError(
                f"the initiator name is none: {error}",
                stage=Stage.DISCOVERY,
                subject=f"interface {self.iface.get('iface.iscsi_ifacename')}",
                hint="correct iface.initiatorname with iscsiadm -m iface",
                exit_code=ExitCode.INVAL,
            ) from error

    def _netdev(self) -> str:
        """The network interface the discovery has to leave by, empty for any."""
        try:
            return bound_netdev(self.iface, self.sysfs)
        except IscsiBootError:
            self.say(f"Cannot match {self.iface.get('iface.hwaddress')} to net/scsi interface.")
            raise

    def _portals(self) -> list[Portal]:
        """Where to ask, at least one."""
        address, port = self.settings.address, self.settings.port
        try:
            return [Portal(address=parse_ip(address), port=port)]
        except ValueError as error:
            if not 1 <= port <= 65535:
                raise IscsiBootError(
                    f"{port} is no port, those are 1 to 65535",
                    stage=Stage.ARGUMENTS,
                    subject=self.settings.endpoint,
                    hint="give the portal as ADDRESS:PORT",
                    exit_code=ExitCode.INVAL,
                ) from error
        return self._resolved(NamedPortal(host=address, port=port))

    def _resolved(self, named: NamedPortal) -> list[Portal]:
        try:
            return resolve_all(named)
        except IscsiBootError as error:
            reason = error.__cause__
            # Python refuses some texts before glibc sees them; then this is glibc's word for them.
            words = (reason.strerror if isinstance(reason, OSError) else None) or "Name or service not known"
            self.say(f"Cannot resolve host {named.host}. getaddrinfo error: [{words}]")
            # The peer looks twice and says it each time.
            self.say(f"cannot resolve host name {named.host}")
            self.say(f"cannot resolve host name {named.host}")
            raise


def _patience(settings: DiscoverySettings, error: IscsiBootError) -> int:
    """Seconds a login may wait for the target where it failed with ``error``."""
    if settings.auth_timeout and isinstance(error, LoginError) and error.phase.startswith("security"):
        return min(settings.auth_timeout, settings.login_timeout)
    return settings.login_timeout
