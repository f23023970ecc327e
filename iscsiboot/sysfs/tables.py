# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tables with a line for each thing and paths in them: ``mountinfo`` and ``swaps`` of /proc, udev's data."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path


def read_lines(path: Path | str) -> list[str]:
    """The lines of a table; none when it cannot be read."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123  # a path may be text
            return lines_of(file.read())
    except OSError:
        return []


def lines_of(table: bytes) -> list[str]:
    """The lines of a table.

    Only a line feed ends one: a path may have any other character in it, those Python takes for line ends too.
    """
    text = table.decode("utf-8", "surrogateescape")
    return text.removesuffix("\n").split("\n") if text else []


def unescaped(text: str) -> str:
    """A path as it is: a blank, tab, line feed or backslash in it is written in octal there (seq_path_root)."""
    head, *rest = text.split("\\")
    return head + "".join(map(_character, rest))


def _character(text: str) -> str:
    """What a backslash and ``text`` stand for; not every file system escapes what it shows."""
    digits = text[:3]
    if len(digits) == 3 and all(digit in "01234567" for digit in digits):
        return chr(int(digits, 8)) + text[3:]
    return f"\\{text}"
