# SPDX-License-Identifier: LGPL-2.1-or-later
"""Manual pages from marked text: ``*bold*``, ``{italic}`` and paragraphs, so that prose stays readable in Python.

Literal text (names of keys, defaults, what users type) goes through :func:`bold` and :func:`literal`, never through
the marks: a value may hold a star.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_MARK = re.compile(r"\*([^*]+)\*|\{([^}]+)\}")


def literal(text: str) -> str:
    """``text`` so that it is shown as it is: no request, no escape, a hyphen that can be copied."""
    shown = text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti").replace("^", "\\(ha")
    shown = shown.replace("'", "\\(aq").replace("`", "\\(ga")
    return "\\&" + shown if shown.startswith((".", "'")) else shown


def bold(text: str) -> str:
    """What is to be typed as it is."""
    return f"\\fB{literal(text)}\\fP"


def italic(text: str) -> str:
    """What stands for something else."""
    return f"\\fI{literal(text)}\\fP"


def prose(text: str) -> list[str]:
    """Lines of a paragraph with its marks; every sentence begins a line, as troff wants it."""

    def marked(match: re.Match[str]) -> str:
        return bold(match[1]) if match[1] is not None else italic(match[2])

    lines = []
    for sentence in re.split(r"(?<=[.:;]) (?=[A-Z*{])", " ".join(text.split())):
        shown, last = "", 0
        for match in _MARK.finditer(sentence):
            shown += _plain(sentence[last : match.start()]) + marked(match)
            last = match.end()
        shown += _plain(sentence[last:])
        lines.append("\\&" + shown if shown.startswith((".", "'")) else shown)
    return lines


def _plain(text: str) -> str:
    shown = text.replace("\\", "\\e").replace("~", "\\(ti").replace("^", "\\(ha")
    # A hyphen inside a word stays one; an option or a number has a minus, which can be copied into a shell.
    return re.sub(r"(?<!\w)-(?=\w)", r"\\-", shown)


def paragraphs(text: str) -> list[str]:
    """Paragraphs parted by an empty line; a paragraph whose lines all begin with four blanks is shown as typed."""
    made: list[str] = []
    for index, block in enumerate(part for part in text.strip("\n").split("\n\n") if part.strip()):
        if index:
            made.append(".PP")
        lines = block.split("\n")
        if all(line.startswith("    ") for line in lines):
            made += [".nf", *(literal(line[4:]) for line in lines), ".fi"]
        else:
            made += prose(block)
    return made


def item(head: str, body: str) -> list[str]:
    """A tagged paragraph; ``head`` is troff already."""
    return [".TP", head, *_inside(body)]


def _inside(text: str) -> list[str]:
    made = paragraphs(text)
    return [".IP" if line == ".PP" else line for line in made]


def section(name: str, *parts: Iterable[str]) -> list[str]:
    """A section and what is in it."""
    return [f".SH {name}", *(line for part in parts for line in part)]


def subsection(name: str, *parts: Iterable[str]) -> list[str]:
    """A subsection and what is in it."""
    return [f".SS {literal(name)}", *(line for part in parts for line in part)]


def page(title: str, number: int, sections: Sequence[Sequence[str]], *, source: str) -> str:
    """The whole file; ``source`` says what it is made from."""
    head = [
        '.\\" SPDX-License-Identifier: LGPL-2.1-or-later',
        f'.\\" Made from {source} by "python3 -m tools.manual"; change those, not this page.',
        f'.TH {title} {number} "2026" "iscsiboot" "System administration"',
        # No justified lines: names of keys are long, and stretched lines of them cannot be read.
        ".ad l",
        ".nh",
    ]
    return "\n".join([*head, *(line for part in sections for line in part)]) + "\n"
