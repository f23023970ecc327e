# SPDX-License-Identifier: LGPL-2.1-or-later
"""Figures against a number of objects: charts with logarithmic axes side by side. Numbers in, SVG out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

PANEL_WIDTH, PANEL_HEIGHT = 430, 300
_LEFT, _TOP, _BOTTOM, _RIGHT = 62, 52, 46, 32
_COLOURS = ("#e668a7", "#2cb1bc", "#f0b429", "#7c5e10", "#3ebd93")

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """One panel."""

    title: str
    unit: str
    """Of the vertical axis."""
    lines: Mapping[str, Points]
    """By name: (number of objects, value), both above 0."""
    across: str = "targets"
    """What the horizontal axis counts."""


def decades(values: Sequence[float]) -> tuple[int, int]:
    """Exponents of the powers of ten that hold all of ``values``, at least one decade apart."""
    low = math.floor(math.log10(min(values)))
    return low, max(low + 1, math.ceil(math.log10(max(values))))


def render_svg(charts: Sequence[Chart]) -> str:
    """The charts in a row, one legend below for the lines of all of them."""
    names = list(dict.fromkeys(name for chart in charts for name in chart.lines))
    colours = {name: _COLOURS[place % len(_COLOURS)] for place, name in enumerate(names)}
    width, height = PANEL_WIDTH * len(charts), PANEL_HEIGHT + 24 + 20 * len(names)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif"'
        ' font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for place, chart in enumerate(charts):
        parts += _panel(chart, place * PANEL_WIDTH, colours)
    for place, name in enumerate(names):
        y = PANEL_HEIGHT + 14 + 20 * place
        parts.append(f'<rect x="{_LEFT}" y="{y}" width="14" height="14" fill="{colours[name]}"/>')
        parts.append(f'<text x="{_LEFT + 22}" y="{y + 12}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _panel(chart: Chart, offset: int, colours: Mapping[str, str]) -> list[str]:
    points = [point for line in chart.lines.values() for point in line]
    parts = [f'<text x="{offset + _LEFT}" y="24" font-size="15" font-weight="bold">{escape(chart.title)}</text>']
    if not points:
        return [*parts, f'<text x="{offset + _LEFT}" y="{_TOP + 20}">not measured</text>']
    across, up = decades([x for x, _ in points]), decades([y for _, y in points])
    right, bottom = offset + PANEL_WIDTH - _RIGHT, PANEL_HEIGHT - _BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        part_x = (math.log10(x) - across[0]) / (across[1] - across[0])
        part_y = (math.log10(y) - up[0]) / (up[1] - up[0])
        return offset + _LEFT + part_x * (right - offset - _LEFT), bottom - part_y * (bottom - _TOP)

    for exponent in range(across[0], across[1] + 1):
        x, _ = at(10.0**exponent, 10.0 ** up[0])
        parts.append(f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{bottom}" stroke="#dddddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{10**exponent:,}</text>')
    for exponent in range(up[0], up[1] + 1):
        _, y = at(10.0 ** across[0], 10.0**exponent)
        parts.append(f'<line x1="{offset + _LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#dddddd"/>')
        parts.append(f'<text x="{offset + _LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0**exponent:g}</text>')
    parts.append(f'<text x="{offset + _LEFT}" y="{_TOP - 8}" fill="#666666">{escape(chart.unit)}</text>')
    parts.append(f'<text x="{right}" y="{bottom + 34}" text-anchor="end" fill="#666666">{escape(chart.across)}</text>')
    for name, line in chart.lines.items():
        places = [at(x, y) for x, y in sorted(line)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colours[name]}" stroke-width="2"/>')
        for (x, y), (count, value) in zip(places, sorted(line), strict=True):
            tip = (
                f"<title>{escape(name)}, {count:,.0f} {escape(chart.across)}: {value:.3g} {escape(chart.unit)}</title>"
            )
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colours[name]}">{tip}</circle>')
    return parts
