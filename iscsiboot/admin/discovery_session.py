# SPDX-License-Identifier: LGPL-2.1-or-later
"""SendTargets through one interface, with the settings of a discovery record: attempts, pauses, words.

Nothing of the kernel's iSCSI and no daemon is needed. Which attempt follows which is the peer's rule
(:mod:`iscsiboot.admin.discovery_failures`). A portal given by name is resolved once; each further attempt takes the
next of its addresses, where the peer tries the first one again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from iscsiboot.admin.discovery_failures import explained, judge, pause_after, unauthenticated
from iscsiboot.database.initiator_name import InitiatorName
from iscsiboot.database.record import Record
from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.initiator.chap import ChapAlgorithm
from iscsiboot.initiator.config import LoginConfig
from iscsiboot.initiator.errors import LoginError
from iscsiboot.initiator.timers import Timers
from iscsiboot.model.credentials import Credentials, HalfChap, SecretsEqual
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.discovered import DiscoveredTarget
from iscsiboot.model.names import InvalidName, check_iscsi_name
from iscsiboot.model.params import SEGMENT_MAX, SEGMENT_MIN
from iscsiboot.model.portal import NamedPortal, Portal, parse_ip
from iscsiboot.model.timeline import Mark
from iscsiboot.orders.record_values import AUTH, chap_algorithms, chap_half, chap_words, credentials_of
from iscsiboot.session.cancel import Cancellation
from iscsiboot.session.discover import DISCOVERY_PARAMS, discover, discovery_config
from iscsiboot.session.open_link import THIS_MACHINE, LinkEnvironment
from iscsiboot.session.resolve import resolve_all
from iscsiboot.sysfs.netdevs import netdev_of

PREFIX = "discovery.sendtargets."
LONGEST_WAIT = 3600
"""Seconds: the most a time-out of a record may be, and how long one whole answer may take."""
DEFAULT_LOGIN_TIMEOUT = 30
"""What the peer takes for a time-out of 0."""


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What one discovery uses, taken from its record."""

    address: str
    """As the administrator wrote it: an address or a host name."""
    port: int
    attempts: int
    login_timeout: int
    auth_timeout: int
    """Seconds of a login until the authentication is over; 0: ``login_timeout`` alone holds."""
    text_timeout: float
    segment_length: int
    credentials: Credentials | None
    algorithms: tuple[ChapAlgorithm, ...]
    missing: str = ""
    """The half of our CHAP settings that is not set while the other one is."""

    @property
    def endpoint(self) -> str:
        """For messages and commands: ``host:port``, IPv6 in brackets."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    def patience(self, error: IscsiBootError) -> int:
        """Seconds a login may wait for the target where it failed with ``error``."""
        if self.auth_timeout and isinstance(error, LoginError) and error.phase.startswith("security"):
            return min(self.auth_timeout, self.login_timeout)
        return self.login_timeout


class BadSettings(IscsiBootError):
    """A record a discovery cannot use; ``said`` is what the peer says about it."""

    def __init__(self, cause: str, *, said: tuple[str, ...], hint: str, exit_code: ExitCode) -> None:
        super().__init__(cause, stage=Stage.DISCOVERY, hint=hint, exit_code=exit_code)
        self.said = said


def settings_of(record: Record, notice: Callable[[str], None]) -> Settings:
    """The settings in a SendTargets record; what is not used is told. :class:`BadSettings` for credentials that
    contradict each other.
    """
    length = record.number(f"{PREFIX}iscsi.MaxRecvDataSegmentLength")
    if not SEGMENT_MIN <= length <= SEGMENT_MAX:
        notice(
            f"{PREFIX}iscsi.MaxRecvDataSegmentLength {length} is outside {SEGMENT_MIN} to {SEGMENT_MAX}, "
            f"{DISCOVERY_PARAMS.max_recv_data_segment_length} is used"
        )
        length = DISCOVERY_PARAMS.max_recv_data_segment_length
    login = record.number(f"{PREFIX}timeo.login_timeout")
    active = record.number(f"{PREFIX}timeo.active_timeout")
    return Settings(
        address=record.get(f"{PREFIX}address"),
        port=record.number(f"{PREFIX}port"),
        attempts=max(0, record.number(f"{PREFIX}reopen_max")) + 1,
        login_timeout=min(login, LONGEST_WAIT) if login > 0 else DEFAULT_LOGIN_TIMEOUT,
        auth_timeout=min(max(record.number(f"{PREFIX}timeo.auth_timeout"), 0), LONGEST_WAIT),
        text_timeout=float(min(max(active, 0), LONGEST_WAIT)),
        segment_length=length,
        credentials=_credentials(record, notice),
        algorithms=chap_algorithms(record.get(f"{AUTH}chap_algs"), notice),
        missing=chap_half(record, f"{PREFIX}auth."),
    )


def _credentials(record: Record, notice: Callable[[str], None]) -> Credentials | None:
    """Who we are and who the target must be. As with the peer ``authmethod`` decides nothing: what is set is used."""
    prefix = f"{PREFIX}auth."
    address = record.get(f"{PREFIX}address")
    try:
        return credentials_of(record, prefix, notice)
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

    settings: Settings
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
        config = discovery_config(
            initiator_name=name,
            entropy=os.urandom,
            credentials=self.settings.credentials,
            chap_algorithms=self.settings.algorithms,
            initiator_alias=self.initiator.alias,
            params=replace(
                DISCOVERY_PARAMS,
                max_recv_data_segment_length=self.settings.segment_length,
                login_timeout=self.settings.login_timeout,
            ),
        )
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
                seen = judge(error, portal, netdev=netdev, login_timeout=self.settings.patience(error))
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
        places = []
        for portal in target.portals:
            host = portal.host if isinstance(portal, NamedPortal) else str(portal.address)
            if portal == asked:
                host = self.settings.address
            places.append(FoundPortal(target.name, host, portal.port, -1 if portal.tpgt is None else portal.tpgt))
        return places

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
        netdev, mac = self.iface.get("iface.net_ifacename"), self.iface.get("iface.hwaddress")
        if netdev not in ("", "default"):
            return netdev
        if mac in ("", "default"):
            return ""
        found = netdev_of(mac, self.sysfs)
        if found is None:
            self.say(f"Cannot match {mac} to net/scsi interface.")
            raise IscsiBootError(
                "no network interface of this machine has this hardware address",
                stage=Stage.CONNECT,
                subject=mac,
                hint="correct iface.hwaddress with iscsiadm -m iface; ip link shows the addresses",
                exit_code=ExitCode.PDU_TIMEOUT,
            )
        return found

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


def overall_deadline(settings: Settings, limit: float | None, now: Callable[[], float] = time.monotonic) -> Deadline:
    """The end of all attempts: ``limit`` seconds from now where the administrator gave one."""
    seconds = limit
    if seconds is None:
        pauses = sum(pause_after(failures) for failures in range(1, settings.attempts))
        seconds = settings.attempts * (settings.login_timeout + LONGEST_WAIT) + pauses
    return Deadline.after(seconds, now=now(), reason="the discovery to end")
