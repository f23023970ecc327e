# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the time of a boot goes: one bar a boot, in phases. Pure: numbers in, SVG out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 900
_LEFT = 190
_BAR = 26
_GAP = 14
_COLOURS = ("#9aa5b1", "#f0b429", "#e668a7", "#2cb1bc", "#3ebd93", "#7c5e10", "#4098d7", "#724bb7")


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """One boot: its name and how long each phase took, in order, in seconds."""

    name: str
    phases: Mapping[str, float]


PHASES = (
    ("kernel, udev and systemd until we start", "kernel", "started"),
    ("interpreter and imports", "started", "imported"),
    ("modules and table", "imported", "table read"),
    ("network", "table read", "address"),
    ("connect and login", "address", "login"),
    ("scan and udev", "login", "disk"),
    ("mount", "disk", "root mounted"),
)
"""Name, mark it begins at, mark it ends at."""


def phases(marks: Mapping[str, float]) -> dict[str, float]:
    """Seconds of each phase whose two marks are there."""
    return {name: max(0.0, marks[end] - marks[begin]) for name, begin, end in PHASES if begin in marks and end in marks}


def render_svg(bars: Sequence[Bar], *, title: str) -> str:
    """Horizontal bars on one scale with a legend."""
    longest = max((sum(bar.phases.values()) for bar in bars), default=1.0) or 1.0
    scale = (WIDTH - _LEFT - 90) / longest
    names = list(dict.fromkeys(name for bar in bars for name in bar.phases))
    colour = {name: _COLOURS[place % len(_COLOURS)] for place, name in enumerate(names)}
    height = 60 + len(bars) * (_BAR + _GAP) + 22 * len(names)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
        ' font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="10" y="24" font-size="16" font-weight="bold">{escape(title)}</text>',
    ]
    top = 44
    for bar in bars:
        left = float(_LEFT)
        parts.append(f'<text x="{_LEFT - 8}" y="{top + 18}" text-anchor="end">{escape(bar.name)}</text>')
        for name, seconds in bar.phases.items():
            parts.append(
                f'<rect x="{left:.1f}" y="{top}" width="{seconds * scale:.1f}" height="{_BAR}" fill="{colour[name]}">'
                f"<title>{escape(name)}: {seconds:.2f} s</title></rect>"
            )
            left += seconds * scale
        parts.append(f'<text x="{left + 6:.1f}" y="{top + 18}">{sum(bar.phases.values()):.1f} s</text>')
        top += _BAR + _GAP
    for name in names:
        parts.append(f'<rect x="{_LEFT}" y="{top}" width="14" height="14" fill="{colour[name]}"/>')
        parts.append(f'<text x="{_LEFT + 22}" y="{top + 12}">{escape(name)}</text>')
        top += 22
    return "\n".join([*parts, "</svg>", ""])
