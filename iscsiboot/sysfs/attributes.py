# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reading and writing one attribute of sysfs, where everything may vanish between two accesses.

Imports nothing that costs: a command that has milliseconds looks NICs up by it.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from pathlib import Path


def read_text(path: Path | str) -> str | None:
    """The attribute without its line end; None when it is absent, empty, unset, unreadable, or went away meanwhile.

    An unset string is ``(null)`` (the kernel prints a NULL pointer); the address of a connection without a socket
    reads as ENOTCONN; secrets read as EACCES for anybody but root. All of it means: nothing known.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123  # a path may be text
            text = file.read().decode("utf-8", "surrogateescape").rstrip("\n")
    except OSError:
        return None
    return None if text in ("", "(null)", "<NULL>") else text


def names(directory: Path | str) -> tuple[str, ...]:
    """The names in a folder, in order; none when it is absent or went away meanwhile."""
    try:
        return tuple(sorted(os.listdir(directory)))  # noqa: PTH208
    except OSError:
        return ()


def read_int(path: Path, base: int = 10) -> int | None:
    """The attribute as a number; None when there is none. ``off`` (an endless timeout) reads as -1."""
    text = read_text(path)
    if text is None:
        return None
    if text == "off":
        return -1
    try:
        return int(text, base)
    except ValueError:
        return None


def read_flag(path: Path) -> bool | None:
    """The attribute as 0 or 1; None when there is none."""
    number = read_int(path)
    return None if number is None else bool(number)


def write_attribute(path: Path, text: str) -> None:
    """One write of a whole attribute; OSError as the kernel puts it. Never makes a file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def numbered(directory: Path, pattern: re.Pattern[str]) -> list[tuple[tuple[int, ...], Path]]:
    """Entries whose whole name matches, with the numbers of its groups, in numeric order; none when it is absent."""
    found = []
    for name in names(directory):
        match = pattern.fullmatch(name)
        if match:
            found.append((tuple(int(group) for group in match.groups()), directory / name))
    return sorted(found)
