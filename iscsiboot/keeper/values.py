# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a guard knows of a session, as values: enough to make its connection anew, and what people are told of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from iscsiboot.initiator.chap import ChapAlgorithm
from iscsiboot.session.values import AttachRequest


class Source(Enum):
    """Where the parameters and secrets of a session are from, best first."""

    ORDER = "our own login"
    KEEPER = "the guard before us"
    STATE = "/run state"
    RECORD = "its record"
    SYSFS = "sysfs"


Place = tuple[str, str, int, str]
"""Where a record leads: target, address as the record spells it, port, interface. ``nr_sessions`` is counted by it."""


def place_of(request: AttachRequest) -> Place:
    """Where a session leads, in the words of its record."""
    return (
        request.target_name,
        request.stored_address or str(request.portal.address),
        request.portal.port,
        request.iface_name,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordName:
    """Which node record a session was made by, so that changed secrets can be read again."""

    target: str
    tpgt: int
    address: str
    port: int
    iface: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """What it takes to make a session's connection anew, and how well that is known."""

    request: AttachRequest
    source: Source
    unknown: tuple[str, ...] = ()
    """What had to be assumed, in words for a log: ``the CHAP secret of the target``."""
    record: RecordName | None = None
    tpgt: int | None = None
    """The portal group the session belongs to; a new connection must lead there again (RFC 7143 6.3.1)."""
    time2wait: float = 2.0
    """Seconds, as negotiated: before the first attempt after a break (RFC 7143 13.15)."""
    reopen_max: int = 0
    """Attempts after which the session is given up; 0 for never. Never applies to a system session."""
    scan: bool = True
    """Units are looked for after a login and when the target says they changed (``node.session.scan``)."""
    pinned: Timers | None = None
    """Timers somebody set by order: they go before those of the role."""
    algorithm: ChapAlgorithm | None = None
    """Of CHAP, offered alone from now on: the target refused the request's list and took this one."""
    retries: tuple[tuple[str, int], ...] | None = None
    """``max_retries`` of the disks a guard has retry for ever (:mod:`.live`), from before: SCSI address and number.
    None: nobody said what guards have done so far."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Role:
    """What a session carries; decides its time-outs."""

    system: tuple[str, ...] = ()
    """Uses by the running system in words, ``dm-0 on sda is mounted on /``; empty for a data session."""
    multipath: bool = False
    """A multipath device stands on every disk the system uses of it: another path takes over, so fail fast."""
    carries: tuple[str, ...] = ()
    """What of the system it carries, in short: mount points and ``swap``."""

    @property
    def waits_for_ever(self) -> bool:
        """Whether an I/O error would take the system down: no other path, and the system stands on it."""
        return bool(self.system) and not self.multipath


@dataclass(frozen=True, kw_only=True, slots=True)
class Timers:
    """The values of a live session a role decides; seconds."""

    recovery: int
    """``recovery_tmo``: how long the kernel queues after a break; -1 for ever (shown as ``off``), 0 fails at once."""
    noop_interval: int
    noop_timeout: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """What people are told of one session; plain values, no secrets, JSON by :func:`dataclasses.asdict`."""

    sid: int
    host: int | None
    target: str
    portal: str
    """Asked for, ``10.0.0.1:3260``."""
    connected: str
    """Where the connection leads or last led."""
    iface: str
    initiator: str
    role: str
    """``root``, ``root, multipath``, ``data``, ..."""
    uses: tuple[str, ...]
    phase: str
    detail: str
    """Within the phase: ``connecting to 10.0.0.1:3260, attempt 4``."""
    since: float
    """Unix time: since when it is connected, or is not, whatever is being done about it."""
    source: str
    unknown: tuple[str, ...]
    recoveries: int
    """Breaks healed since the guard took it over."""
    attempts: int
    """Of the recovery at hand."""
    last_error: str
    """In words, empty when there was none."""
    last_error_at: float
    recovery_tmo: int | None
    noop_interval: int | None
    noop_timeout: int | None
