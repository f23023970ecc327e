# SPDX-License-Identifier: LGPL-2.1-or-later
"""Figures as text, and their place in docs/performance.md. Pure.

A ratio is ours over a peer's in time and memory: below 1 we are better. It is taken round by round, between
runs right after each other, and the median of the rounds is shown with the smallest and the largest.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

NOTHING = "-"


def ratio_text(ours: Sequence[float], peer: Sequence[float]) -> str:
    """``0.55 (0.52 to 0.61)``; a dash when one of them has no figures."""
    each = [mine / theirs for mine, theirs in zip(ours, peer, strict=False)]
    if not each:
        return NOTHING
    return f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})"


def seconds_text(values: Sequence[float]) -> str:
    """The median with its unit."""
    if not values:
        return NOTHING
    middle = statistics.median(values)
    return f"{middle * 1000:.0f} ms" if middle < 1 else f"{middle:.1f} s"


def memory_text(values: Sequence[float]) -> str:
    """The median of KiB, in MiB."""
    return f"{statistics.median(values) / 1024:.1f} MiB" if values else NOTHING


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    rule = "|".join("---" for _ in header)
    return "\n".join([f"| {' | '.join(header)} |", f"|{rule}|", *(f"| {' | '.join(line)} |" for line in lines), ""])


def renewed(document: str, name: str, text: str) -> str:
    """``document`` with ``text`` between the markers of ``name``; without markers, at the end with new ones."""
    first, last = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    block = f"{first}{text}{last}"
    head, begin, rest = document.partition(first)
    _, end, tail = rest.partition(last)
    return head + block + tail if begin and end else f"{document.rstrip()}\n\n{block}"
