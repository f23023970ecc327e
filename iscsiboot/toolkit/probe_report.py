# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a probe found, as values: discovery, paths, logical units, how long each step took and what failed where.

A failure is kept as the :class:`~iscsiboot.errors.IscsiBootError` it was: stage, cause, next step and exit code are in
it already. Nothing here holds a secret.
"""

from __future__ import annotations

from dataclasses import dataclass

from iscsiboot.errors import ExitCode, IscsiBootError
from iscsiboot.initiator.scsi import Capacity
from iscsiboot.initiator.scsi_unit import Identity
from iscsiboot.model.lun import Lun
from iscsiboot.model.portal import NamedPortal, Portal
from iscsiboot.toolkit.media_values import Media


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """How long something took at the other end."""

    name: str
    """``connect``, ``login``, or a SCSI command."""
    seconds: float
    """Of all its times together."""
    times: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitReport:
    """One logical unit on one path. What is None was not reached, or not asked for."""

    lun: Lun
    identity: Identity | None = None
    capacity: Capacity | None = None
    media: Media | None = None
    steps: tuple[Step, ...] = ()
    failure: IscsiBootError | None = None

    def same_as(self, other: UnitReport) -> bool:
        """Whether another path shows the very same unit: then it need not be told twice."""
        mine = (self.lun, self.identity, self.capacity, self.media)
        return self.media is not None and mine == (other.lun, other.identity, other.capacity, other.media)


@dataclass(frozen=True, kw_only=True, slots=True)
class Path:
    """A target and one of the portals it is served at."""

    target: str
    portal: Portal | NamedPortal

    def __str__(self) -> str:
        return f"{self.target} at {self.portal}"


@dataclass(frozen=True, kw_only=True, slots=True)
class PathReport:
    """What came of one path."""

    path: Path
    portal: Portal | None = None
    """Where the login ended: another one than asked for when the target redirected us. None without a login."""
    tpgt: int | None = None
    alias: str = ""
    authentication: str = ""
    """``none``, ``CHAP SHA256``, ``mutual CHAP MD5``; empty without a login."""
    remarks: tuple[str, ...] = ()
    """What the target did differently from what one would expect, without harm."""
    steps: tuple[Step, ...] = ()
    units: tuple[UnitReport, ...] = ()
    failure: IscsiBootError | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DiscoveryReport:
    """What came of asking a portal for its targets."""

    portal: Portal
    targets: int = 0
    refused: tuple[str, ...] = ()
    """Records of the answer that are not used, in words."""
    remarks: tuple[str, ...] = ()
    """What the portal did differently from what one would expect, without harm."""
    steps: tuple[Step, ...] = ()
    failure: IscsiBootError | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeReport:
    """Everything of one run."""

    asked: str
    """The portal as it was given."""
    initiator_name: str
    discovery: DiscoveryReport | None = None
    """None when the target was named and nobody had to be asked."""
    paths: tuple[PathReport, ...] = ()
    failure: IscsiBootError | None = None
    """Why there are no paths at all."""

    @property
    def nothing_because(self) -> tuple[IscsiBootError, ...]:
        """The failures that left nothing to report on; also that of the one path there is, when nobody answered there.

        They are for stderr. Failures of one path among several belong to what is reported.
        """
        failures = [self.failure, self.discovery.failure if self.discovery else None]
        if len(self.paths) == 1 and self.paths[0].portal is None:
            failures.append(self.paths[0].failure)
        return tuple(failure for failure in failures if failure is not None)

    @property
    def exit_code(self) -> ExitCode:
        """That of the first failure in the order of the report; 0 without one.

        As with iscsiadm, one path that failed makes the run fail, and what the others found is printed all the same.
        """
        failures = [self.failure, self.discovery.failure if self.discovery else None]
        for path in self.paths:
            failures += [path.failure, *(unit.failure for unit in path.units)]
        return next((failure.exit_code for failure in failures if failure is not None), ExitCode.SUCCESS)
