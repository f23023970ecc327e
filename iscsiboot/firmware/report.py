# SPDX-License-Identifier: LGPL-2.1-or-later
"""The result of looking at firmware: the configuration, every source that was looked at, and what came of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from iscsiboot.errors import ExitCode, IscsiBootError, Stage, printable
from iscsiboot.ibft.findings import Finding
from iscsiboot.model.boot import BootConfig, Ignored

_REFUSED = re.compile(r"iBFT (?:has incorrect checksum|module supports only revision|error: ).*")
_FOUND = re.compile(r"iBFT found at (0x[0-9a-f]+)")
"""Messages of drivers/firmware/iscsi_ibft.c and iscsi_ibft_find.c, the same since Linux 2.6.25."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FirmwareRoots:
    """Where the kernel's file systems are."""

    sysfs: Path = Path("/sys")
    proc: Path = Path("/proc")


class SourceState(Enum):
    """What was found at a source."""

    PRESENT = "present"
    ABSENT = "absent"
    UNUSABLE = "unusable"


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceStatus:
    """One place that was looked at."""

    kind: str
    """As in :class:`iscsiboot.model.boot.Source`."""
    path: Path
    state: SourceState
    why: str = ""
    """What was found, or why it cannot be used."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFinding:
    """Something wrong with a source's data."""

    kind: str
    finding: Finding

    def __str__(self) -> str:
        return f"{self.kind}: {self.finding}"


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceResult:
    """What one source gave."""

    status: SourceStatus
    config: BootConfig | None = None
    ignored: tuple[Ignored, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class FirmwareReport:
    """Everything firmware said."""

    config: BootConfig | None
    """None without a usable source. It may hold no target: :meth:`problem` tells."""
    sources: tuple[SourceStatus, ...] = ()
    ignored: tuple[Ignored, ...] = ()
    findings: tuple[SourceFinding, ...] = ()

    def problem(self, kernel_log: Sequence[str] = ()) -> IscsiBootError | None:
        """Why this machine cannot boot from what firmware said, None when it can.

        ``kernel_log`` are lines of the kernel's log. They name the cause when the kernel itself refused a table that
        lies in low memory: then nothing of it is in sysfs.
        """
        if self.config is not None and self.config.targets:
            return None
        broken = next((source for source in self.sources if source.state is SourceState.UNUSABLE), None)
        if broken is not None:
            hint = "the table comes from the firmware or boot loader; look at it with 'iscsiboot explain'"
            return _error(f"a table is there, but it cannot be used: {broken.why}", str(broken.path), hint)
        if self.config is not None:
            return self._no_target()
        return _no_table(self.sources, kernel_log)

    def _no_target(self) -> IscsiBootError:
        """There is a good table, but it names no target that can be used."""
        present = next((source for source in self.sources if source.state is SourceState.PRESENT), None)
        reasons = [f"{item.what}: {item.why}" for item in self.ignored if item.what.startswith("target ")]
        cause = "a table is there, but it has no target that can be used"
        subject = str(present.path) if present else ""
        return _error(
            f"{cause} ({'; '.join(reasons)})" if reasons else cause, subject, "correct it in the firmware setup"
        )


def _no_table(sources: tuple[SourceStatus, ...], kernel_log: Sequence[str]) -> IscsiBootError:
    """No source is present: the kernel may know more."""
    for line in kernel_log:
        if match := _REFUSED.search(line):
            cause = f"a table is there, but the kernel refused it: {printable(match.group().strip())}"
            return _error(cause, "iBFT", "the table comes from the firmware or boot loader, which must be corrected")
    for line in kernel_log:
        if match := _FOUND.search(line):
            cause = f"the kernel found a table in memory at {match.group(1)}, but /sys/firmware/ibft is not there"
            return _error(cause, "iBFT", "load the kernel module iscsi_ibft")
    looked_at = ", ".join(str(source.path) for source in sources)
    hint = "let firmware attach the disk (iPXE: sanhook or sanboot), or name the target by arguments"
    return _error(f"no firmware boot table at all; looked at {looked_at}", "", hint)


def _error(cause: str, subject: str, hint: str) -> IscsiBootError:
    return IscsiBootError(
        cause, stage=Stage.FIRMWARE, subject=subject, hint=hint, exit_code=ExitCode.NO_OBJS_FOUND, retryable=False
    )
