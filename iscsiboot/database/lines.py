# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lines of a record or of iscsid.conf: ``name = value``, comments behind ``#``, blanks around anything.

What the peer skips with a warning is mostly read here, because people write it and mean it: a last line without a line
end, and ``name=value`` without a blank before the sign. A line that says nothing stays in the file and is told.
"""

from __future__ import annotations

import re

from iscsiboot.database.key import Key, advice, check_value, known_words
from iscsiboot.errors import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

BLANKS = " \t\r\v\f"
"""What C's isspace takes off both ends of a line, and so a file with DOS line ends is read as well."""

LINE_MAX = 2046
"""Bytes of a line the peer reads; it takes what is behind them for a line of its own."""

_LINE = re.compile(r"([^\s=]+)(\s*)=\s*(.*)", re.DOTALL | re.ASCII)


class Line:
    """One line that is no comment. ``name`` is empty when it could not be read, and ``problem`` says why."""

    __slots__ = ("name", "number", "problem", "text", "value")

    def __init__(self, number: int, text: str, name: str, value: str, problem: str) -> None:
        self.number = number
        self.text = text
        """Without the blanks around it."""
        self.name = name
        self.value = value
        self.problem = problem
        """What to tell about it, "" for nothing; with a name the line counts all the same."""


def read_lines(text: str) -> Iterator[Line]:
    """The lines of a file, each with its number from 1."""
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip(BLANKS)
        if not line or line[0] == "#":
            continue
        if len(raw.encode("utf-8", "surrogateescape")) > LINE_MAX:
            yield Line(number, line, "", "", f"it has more than {LINE_MAX} bytes and is not read")
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            yield Line(number, line, "", "", f'it has no "=" and is not read: {_shown(line)}')
            continue
        name, blank, value = match.groups()
        problem = "" if blank else f'{quoted(name)} has no blank before its "=", open-iscsi would not read it'
        yield Line(number, line, name, value, problem)


def _shown(line: str) -> str:
    """The beginning of an unreadable line. A line about a secret is not repeated."""
    return "(not shown)" if "password" in line else quoted(line)


def judge(key: Key, text: str) -> tuple[str | None, str]:
    """What a stored text means: (the value to use, or None for the default; what to tell, "" for nothing)."""
    if key.kind == "list":
        good, bad = known_words(key, text)
        if not bad:
            return good, ""
        told = ", ".join(quoted(word, 20) for word in bad[:4])
        return good or None, f"{key.name}: {told} is unknown or repeated; it takes {key.allowed}"
    try:
        value = check_value(key, text)
    except ValueError as error:
        return None, f"{key.name}: {error}"
    warning = advice(key, value)
    return value, f"{key.name}: {warning}" if warning else ""
