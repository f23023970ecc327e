# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is read off a pair of boots, and the ratios. Pure.

Both boots of a pair are read with the same two instruments, neither of them ours: the kernel's own log lines "Attached
SCSI disk" and "mounted filesystem", with the kernel's time stamps, reported from inside the booted root.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One boot; seconds since the kernel started."""

    attached: float
    mounted: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two boots right after each other."""

    ours: Sample
    peer: Sample


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One measure over all pairs."""

    name: str
    ours: float
    peer: float
    ratios: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The median ratio, ours over the peer's: below 1 we are faster."""
        return statistics.median(self.ratios)


def sample(said: Mapping[str, Any]) -> Sample:
    """The sample in a verdict; ValueError when the kernel's log lacked a line."""
    attached, mounted = said.get("disk_attached_at"), said.get("root_mounted_at")
    if attached is None or mounted is None:
        raise ValueError("the verdict has no kernel time of the disk or of the mount")
    return Sample(attached=float(attached), mounted=float(mounted))


def rows(pairs: Sequence[Pair]) -> tuple[Row, ...]:
    """Medians and the ratio of every pair."""
    return tuple(
        Row(
            name=name,
            ours=statistics.median(getattr(pair.ours, field) for pair in pairs),
            peer=statistics.median(getattr(pair.peer, field) for pair in pairs),
            ratios=tuple(getattr(pair.ours, field) / getattr(pair.peer, field) for pair in pairs),
        )
        for name, field in (
            ("kernel start to root disk attached", "attached"),
            ("kernel start to root mounted", "mounted"),
        )
    )


def render(measured: Sequence[Row]) -> str:
    """A Markdown table."""
    lines = [
        "| measure | iscsiboot, dracut | open-iscsi, initramfs-tools | ratio: median (pairs) |",
        "|---|---|---|---|",
    ]
    for row in measured:
        each = ", ".join(f"{ratio:.2f}" for ratio in row.ratios)
        lines.append(f"| {row.name} | {row.ours:.2f} s | {row.peer:.2f} s | {row.ratio:.2f} ({each}) |")
    return "\n".join(lines) + "\n"
