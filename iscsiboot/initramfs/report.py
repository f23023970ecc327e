# SPDX-License-Identifier: LGPL-2.1-or-later
"""What each part of the boot path costs in an image, measured by really making and compressing the archive."""

from __future__ import annotations

from dataclasses import dataclass

from iscsiboot.initramfs.cpio import archive, gzip_size, zstd_size
from iscsiboot.initramfs.entries import Entry, Kind, Part
from iscsiboot.initramfs.render import content, mode_and_type
from iscsiboot.initramfs.sysroot import Sysroot

BUDGET = 8 << 20
"""Bytes that Python and our code may add to a compressed image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """One part's share."""

    part: Part
    files: int
    bytes: int
    """As they lie in the image's file system."""
    gzip: int
    """Of the part compressed alone: the sum is a little more than the whole compressed together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SizeReport:
    """All parts and the whole."""

    costs: tuple[Cost, ...]
    gzip: int
    zstd: int | None
    budget: int = BUDGET

    @property
    def bytes(self) -> int:
        """Uncompressed, in the image's file system."""
        return sum(cost.bytes for cost in self.costs)

    @property
    def within(self) -> bool:
        """Whether the whole, by gzip (dracut's choice, and the larger of the two), keeps the budget."""
        return self.gzip <= self.budget


def measure(entries: tuple[Entry, ...], sysroot: Sysroot) -> SizeReport:
    """Render every entry and compress: each part alone, and everything together."""
    rendered = {entry.path: _payload(entry, sysroot) for entry in entries}
    costs = []
    for part in Part:
        chosen = [entry for entry in entries if entry.part is part]
        if not chosen:
            continue
        members = [(entry.path, mode_and_type(entry), rendered[entry.path]) for entry in chosen]
        costs.append(
            Cost(
                part=part,
                files=sum(entry.kind in (Kind.FILE, Kind.BYTECODE) for entry in chosen),
                bytes=sum(len(rendered[entry.path]) for entry in chosen),
                gzip=gzip_size(archive(members)),
            )
        )
    whole = archive((entry.path, mode_and_type(entry), rendered[entry.path]) for entry in entries)
    return SizeReport(costs=tuple(costs), gzip=gzip_size(whole), zstd=zstd_size(whole))


def _payload(entry: Entry, sysroot: Sysroot) -> bytes:
    return entry.target.encode() if entry.kind is Kind.SYMLINK else content(entry, sysroot)


def as_table(report: SizeReport) -> str:
    """For a person: a line for each part, the whole, and the verdict."""
    lines = [f"{'part':<18} {'files':>5} {'KiB':>8} {'gzip KiB':>9} {'share':>6}"]
    total = sum(cost.gzip for cost in report.costs) or 1
    for cost in report.costs:
        lines.append(
            f"{cost.part.value:<18} {cost.files:>5} {_kib(cost.bytes):>8} {_kib(cost.gzip):>9} "
            f"{cost.gzip / total:>6.1%}"
        )
    files = sum(cost.files for cost in report.costs)
    lines.append(f"{'together':<18} {files:>5} {_kib(report.bytes):>8} {_kib(report.gzip):>9}")
    if report.zstd is not None:
        lines.append(f"together with zstd -15: {_kib(report.zstd)} KiB")
    verdict = "within" if report.within else "OVER"
    lines.append(f"budget: {_kib(report.gzip)} of {_kib(report.budget)} KiB compressed, {verdict} the budget")
    return "\n".join(lines) + "\n"


def as_json(report: SizeReport) -> dict[str, object]:
    """For a program; sizes in bytes, format version 1."""
    return {
        "version": 1,
        "parts": [
            {"part": cost.part.value, "files": cost.files, "bytes": cost.bytes, "gzip": cost.gzip}
            for cost in report.costs
        ],
        "total": {"bytes": report.bytes, "gzip": report.gzip, "zstd": report.zstd},
        "budget": report.budget,
        "within": report.within,
    }


def _kib(size: int) -> str:
    return f"{size / 1024:.1f}"
