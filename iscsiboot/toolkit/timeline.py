# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsiboot timeline [FILE]``: where the time of a boot went, as a table or as a picture.

Rendering is pure: entries in, text out. The file is what the boot path leaves, JSON Lines of ``{"mark", "at",
"detail"}``; lines that are none are counted, not fatal, since a crash may have cut the last one.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO
from xml.sax.saxutils import escape

from iscsiboot.errors import ExitCode, printable
from iscsiboot.model.timeline import Mark, TimelineEntry

DEFAULT_FILE = Path("/run/iscsiboot/timeline.jsonl")
_ORDER = {mark: place for place, mark in enumerate(Mark)}
_MARKS = {mark.value: mark for mark in Mark}
_DETAIL_WIDTH = 60
_FILE_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class _Row:
    label: str
    at: float
    """Seconds since the origin of the drawing."""
    took: float
    """Seconds since the row before."""
    detail: str


def parse_lines(text: str) -> list[TimelineEntry]:
    """The entries of a timeline file, in the file's order; lines that hold none are skipped."""
    entries: list[TimelineEntry] = []
    for line in text.splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict) and (entry := _entry(said)) is not None:
            entries.append(entry)
    return entries


def _entry(said: dict[str, object]) -> TimelineEntry | None:
    mark, at, detail = _MARKS.get(str(said.get("mark"))), said.get("at"), said.get("detail", "")
    if mark is None or isinstance(at, bool) or not isinstance(at, (int, float)) or not isinstance(detail, str):
        return None
    # json reads NaN and Infinity, and integers of any size; none of them can be a time or be drawn.
    if not 0 <= at < 1e9:
        return None
    return TimelineEntry(mark=mark, at=float(at), detail=detail)


def in_order(entries: Iterable[TimelineEntry]) -> list[TimelineEntry]:
    """By time; marks of one instant in the order a boot meets them."""
    return sorted(entries, key=lambda entry: (entry.at, _ORDER[entry.mark]))


def render_table(entries: Iterable[TimelineEntry], *, firmware: float | None = None) -> str:
    """Mark, seconds, seconds since the mark before, detail. Times count from the kernel's start, or from power-on when
    ``firmware``, the seconds before the kernel's start, is given.
    """
    rows = _rows(entries, firmware)
    origin = "power-on" if firmware is not None else "kernel start"
    width = max([len("step"), *(len(row.label) for row in rows)])
    lines = [f"{'step':<{width}}  {'seconds':>8}  {'took':>7}  (seconds since {origin})"]
    for row in rows:
        lines.append(f"{row.label:<{width}}  {row.at:>8.2f}  {row.took:>7.2f}  {_short(row.detail)}".rstrip())
    return "\n".join(lines) + "\n"


def _rows(entries: Iterable[TimelineEntry], firmware: float | None) -> list[_Row]:
    offset = firmware or 0.0
    points = [(entry.mark.value, entry.at + offset, entry.detail) for entry in in_order(entries)]
    if firmware is not None:
        points.insert(0, ("firmware", 0.0, "power-on"))
    rows: list[_Row] = []
    for label, at, detail in points:
        rows.append(_Row(label, at, at - (rows[-1].at if rows else 0.0), detail))
    return rows


def _short(detail: str) -> str:
    safe = printable(detail)
    return safe if len(safe) <= _DETAIL_WIDTH else safe[: _DETAIL_WIDTH - 3] + "..."


_LABELS, _PLOT, _RIGHT, _TOP, _STEP = 130, 620, 190, 56, 26
_STYLE = (
    "text{font:13px sans-serif;fill:#222}.small{font-size:11px;fill:#555}.title{font-size:15px;font-weight:bold}"
    ".grid{stroke:#ddd}.bar{fill:#4a7ebb}.bar.first{fill:#b0b0b0}"
)


def render_svg(entries: Iterable[TimelineEntry], *, firmware: float | None = None, title: str = "Boot timeline") -> str:
    """A waterfall: one bar a step, from the mark before it to its own mark. Stands alone, no scripts, no fonts."""
    rows = _rows(entries, firmware)
    end = max([row.at for row in rows], default=0.0)
    tick = tick_seconds(end)
    span = max(tick, math.ceil(end / tick) * tick)
    height = _TOP + _STEP * len(rows) + 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LABELS + _PLOT + _RIGHT}" height="{height}" role="img">',
        f"<title>{_xml(title)}</title><style>{_STYLE}</style>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text class="title" x="12" y="26">{_xml(title)}</text>',
    ]
    for step in range(round(span / tick) + 1):
        x = _LABELS + _PLOT * step * tick / span
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 10}" y2="{height - 30}"/>')
        parts.append(f'<text class="small" x="{x:.1f}" y="{height - 14}" text-anchor="middle">{step * tick:g} s</text>')
    for number, row in enumerate(rows):
        parts.append(_bar(row, number, span))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bar(row: _Row, number: int, span: float) -> str:
    y = _TOP + _STEP * number
    start = _LABELS + _PLOT * (row.at - row.took) / span
    width = max(1.5, _PLOT * row.took / span)
    kind = "bar first" if number == 0 else "bar"
    return (
        f'<text x="{_LABELS - 10}" y="{y + 13}" text-anchor="end">{_xml(row.label)}</text>'
        f'<rect class="{kind}" x="{start:.1f}" y="{y}" width="{width:.1f}" height="17">'
        f"<title>{_xml(row.detail)}</title></rect>"
        f'<text class="small" x="{start + width + 6:.1f}" y="{y + 13}">{row.at:.2f} s (+{row.took:.2f})</text>'
    )


def _xml(text: str) -> str:
    return escape(printable(text), {'"': "&quot;"})


def tick_seconds(span: float) -> float:
    """A round distance of grid lines that gives about ten of them: 1, 2 or 5 times a power of ten."""
    if span <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(span / 10))
    return next(factor * power for factor in (1, 2, 5, 10) if span / (factor * power) <= 10.000001)


def main(argv: Sequence[str], out: TextIO, err: TextIO) -> int:
    """The command; returns the exit status. ``argv`` is without the command's name."""
    parser = argparse.ArgumentParser(prog="iscsiboot timeline", description="Where the time of this boot went.")
    parser.add_argument("file", nargs="?", type=Path, default=DEFAULT_FILE, help=f"default: {DEFAULT_FILE}")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write a picture there as well")
    options = parser.parse_args(argv)
    try:
        with options.file.open(encoding="utf-8", errors="replace") as file:
            text = file.read(_FILE_LIMIT)
    except OSError as error:
        err.write(f"iscsiboot timeline: {options.file}: {error.strerror}\n")
        return ExitCode.ERR
    entries = parse_lines(text)
    if not entries:
        err.write(f"iscsiboot timeline: {options.file}: no marks in it\n")
        return ExitCode.NO_OBJS_FOUND
    out.write(render_table(entries))
    if options.svg is not None:
        try:
            options.svg.write_text(render_svg(entries), encoding="utf-8")
        except OSError as error:
            err.write(f"iscsiboot timeline: {options.svg}: {error.strerror}\n")
            return ExitCode.ERR
    return ExitCode.SUCCESS
