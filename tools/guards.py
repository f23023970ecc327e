# SPDX-License-Identifier: LGPL-2.1-or-later
"""Draws docs/guards.svg from docs/guards.json: ``python3 -m tools.guards``. Who guarded the root of one boot, and when.

``python3 -m tests.qemu.daemon.story`` makes and records such a boot. tests/architecture/test_guards.py holds that what
is committed is what this makes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from iscsiboot.toolkit.timeline import tick_seconds

DOCS = Path(__file__).resolve().parents[1] / "docs"
RECORD, PICTURE = DOCS / "guards.json", DOCS / "guards.svg"
WIDTH, LEFT, RIGHT = 1000, 118, 24
TOP, LANE, BAR = 92, 40, 20
STEPS, WRITES = 74, 54
"""Heights of the login counter and of the writes."""
MOMENTS = {"switched": "switch-root", "ready": "hand-over", "killed": "kill -9", "ready again": "restarted"}
BEFORE_SECONDS, AFTER_SECONDS = 2.0, 1.0
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2933}.small{font-size:11px;fill:#52606d}.on{fill:#fff}"
    ".title{font-size:16px;font-weight:600}.grid{stroke:#e4e7eb}.off{fill:#fbe3e4}.offline{fill:#ba2525;font-size:11px}"
    ".keeper{fill:#3e6d9c}.iscsid{fill:#2f8f6b}.standby{fill:#d08a26}.asleep{fill:#f5e1c0}.shade{fill:#52606d}"
    ".step{fill:none;stroke:#ba2525;stroke-width:2}.dot{fill:#ba2525}.mark{stroke:#9aa5b1;stroke-dasharray:3 3}"
)


class Picture:
    """One drawing: where a second lies, and the parts so far."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts
        self.begin: float = max(0.0, facts["logins"][0] - BEFORE_SECONDS)
        self.end: float = facts["end"] + AFTER_SECONDS
        self.parts: list[str] = []

    def x(self, second: float) -> float:
        """The place of a time."""
        share = (min(max(second, self.begin), self.end) - self.begin) / (self.end - self.begin)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> None:
        """Words at a place."""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>')

    def box(self, begin: float, end: float, y: float, height: float, kind: str, words: str = "") -> None:
        """A span of time; ``words`` are in it where they have room, and always in its title."""
        x, width = self.x(begin), self.x(end) - self.x(begin)
        title = f"{words or kind}: {begin:.2f} to {end:.2f} s"
        self.parts.append(
            f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 1.5):.1f}" height="{height}" rx="3">'
            f"<title>{escape(title)}</title></rect>"
        )
        if words and width > 7.5 * len(words):
            self.text(x + width / 2, y + height / 2 + 4.5, words, "on", "middle")

    def line(self, second: float, top: float, bottom: float, kind: str) -> None:
        """A moment."""
        x = self.x(second)
        self.parts.append(f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>')


def lanes(facts: dict[str, Any]) -> Iterator[tuple[str, list[tuple[float, float, str, str]]]]:
    """Each lane of guards: its name, and its spans with their colours and words."""
    ready, killed, again, end = (facts[name] for name in ("ready", "killed", "ready again", "end"))
    yield "keeper", [(facts["keeper"], ready, "keeper", "of the initramfs")]
    yield "iscsid", [(ready, killed, "iscsid", "guards"), (again, end, "iscsid", "guards")]
    asleep = [(begin, until, "asleep", "") for begin, until in ((ready, killed), (again, end))]
    yield "standby", [*asleep, (killed, again, "standby", "guards")]


def render(facts: dict[str, Any]) -> str:
    """The whole picture; it stands alone, no scripts, no fonts."""
    picture = Picture(facts)
    rows = list(lanes(facts))
    counter = TOP + LANE * len(rows) + 12
    writes = counter + STEPS + 28
    bottom = writes + WRITES
    for began, ended in facts["cuts"]:
        picture.box(began, ended, TOP - 14, bottom - TOP + 14, "off")
    _axis(picture, bottom)
    _moments(picture, bottom)
    for began, ended in facts["cuts"]:
        picture.text((picture.x(began) + picture.x(ended)) / 2, counter + STEPS + 12, "no target", "offline", "middle")
    for place, (name, spans) in enumerate(rows):
        y = TOP + LANE * place
        picture.text(LEFT - 12, y + BAR / 2 + 4.5, name, anchor="end")
        for begin, end, kind, words in spans:
            picture.box(begin, end, y, BAR, kind, words)
    _counter(picture, counter)
    _writes(picture, writes)
    height = bottom + 34
    title = "Who guards root, and what its target sees"
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img">',
        f"<title>{title}</title><style>{STYLE}</style>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text class="title" x="14" y="28">{title}</text>',
    ]
    return "\n".join([*head, *picture.parts, "</svg>"]) + "\n"


def _axis(picture: Picture, bottom: float) -> None:
    tick = tick_seconds(picture.end - picture.begin)
    first = int(picture.begin / tick) + 1
    for number in range(first, int(picture.end / tick) + 1):
        picture.line(number * tick, TOP - 14, bottom, "grid")
        picture.text(picture.x(number * tick), bottom + 20, f"{number * tick:g} s", "small", "middle")


def _moments(picture: Picture, bottom: float) -> None:
    facts = picture.facts
    for name, words in MOMENTS.items():
        picture.line(facts[name], TOP - 24, bottom, "mark")
        picture.text(picture.x(facts[name]), TOP - 30, words, "small", "middle")


def _counter(picture: Picture, top: float) -> None:
    """The target's login counter, a step each login."""
    logins = picture.facts["logins"]
    unit = STEPS / max(1, len(logins))
    picture.text(LEFT - 12, top + STEPS / 2 + 4.5, "logins", anchor="end")
    points = [(picture.begin, 0)]
    for count, moment in enumerate(logins, 1):
        points += [(moment, count - 1), (moment, count)]
    points.append((picture.facts["end"], len(logins)))
    places = " ".join(f"{picture.x(second):.1f},{top + STEPS - unit * count:.1f}" for second, count in points)
    picture.parts.append(f'<polyline class="step" points="{places}"/>')
    for count, moment in enumerate(logins, 1):
        if moment >= picture.begin:
            x, y = picture.x(moment), top + STEPS - unit * count
            picture.parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
            picture.text(x + 6, y - 5, str(count))


def _writes(picture: Picture, top: float) -> None:
    """Commands that write, by the second; what a boot writes at once, before the load began, is cut off at the top."""
    seconds, counts = picture.facts["writes"]["seconds"], picture.facts["writes"]["counts"]
    most = max(counts[int(picture.facts["killed"] / seconds) :])
    picture.text(LEFT - 12, top + WRITES / 2 + 4.5, "writes", anchor="end")
    for place, count in enumerate(counts):
        if count and place * seconds >= picture.begin:
            height = min(max(1.0, WRITES * count / most), WRITES)
            x, width = picture.x(place * seconds), picture.x((place + 1) * seconds) - picture.x(place * seconds)
            bar = f'x="{x:.1f}" y="{top + WRITES - height:.1f}" width="{width:.1f}" height="{height:.1f}"'
            picture.parts.append(f'<rect class="shade" {bar}/>')


def main() -> None:
    """Draw it."""
    PICTURE.write_text(render(json.loads(RECORD.read_text())))
    print("docs/guards.svg")


if __name__ == "__main__":
    main()
