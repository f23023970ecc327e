# SPDX-License-Identifier: LGPL-2.1-or-later
"""What goes into an initramfs, as values: one :class:`Entry` for each file, link and directory.

Paths are absolute and canonical: no parent of an entry is a symbolic link, because every link on the way to a file is
an entry of its own (``/lib64 -> usr/lib64``). So a list of entries can be written into an empty directory, and into an
image that an image builder has begun, with the same result.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import PurePosixPath


class Kind(Enum):
    """What an entry becomes in the image."""

    DIRECTORY = "directory"
    FILE = "file"
    """A copy of ``source``."""
    BYTECODE = "bytecode"
    """``source`` (a .py file) compiled; the source itself stays out."""
    SYMLINK = "symlink"
    """A symbolic link with the text ``target``."""


class Part(Enum):
    """Who is charged for an entry in the report, in the report's order."""

    INTERPRETER = "interpreter"
    STDLIB = "standard library"
    OWN = "iscsiboot"
    PYROUTE2 = "pyroute2"
    PYUDEV = "pyudev"
    OTHER = "other packages"
    LIBRARIES = "shared libraries"


EXECUTABLE = 0o755
PLAIN = 0o644
PRIVATE = 0o600


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One path of the image."""

    path: str
    """Absolute and canonical inside the image."""
    kind: Kind
    part: Part
    why: str
    """What asked for it: ``import of pyudev.core``, ``needed by /usr/bin/python3.11``."""
    source: str = ""
    """For files and bytecode: the path it is made from, inside the host's root or the sysroot."""
    target: str = ""
    """For symbolic links: the text of the link."""
    mode: int = PLAIN
    """Permission bits; a link has none."""

    def __post_init__(self) -> None:
        path = PurePosixPath(self.path)
        if not path.is_absolute() or ".." in path.parts or str(path) != self.path:
            raise ValueError(f"{self.path!r} is not an absolute canonical path")
        if bool(self.source) != (self.kind in (Kind.FILE, Kind.BYTECODE)):
            raise ValueError(f"{self.path}: files and bytecode have a source, nothing else has")
        if bool(self.target) != (self.kind is Kind.SYMLINK):
            raise ValueError(f"{self.path}: symbolic links have a target, nothing else has")


def with_directories(entries: list[Entry]) -> tuple[Entry, ...]:
    """The entries sorted, each path once, with every directory they stand in before them.

    The first entry of a path wins; a second one that would make something else of it is a ValueError, since then two
    parts of the plan contradict each other.
    """
    table: dict[str, Entry] = {}
    for entry in entries:
        known = table.setdefault(entry.path, entry)
        if (known.kind, known.source, known.target) != (entry.kind, entry.source, entry.target):
            raise ValueError(f"{entry.path} is planned twice: {known.why}, and {entry.why}")
    for entry in list(table.values()):
        for parent in PurePosixPath(entry.path).parents:
            path = str(parent)
            if path == "/":
                continue
            holder = table.setdefault(
                path,
                Entry(path=path, kind=Kind.DIRECTORY, part=entry.part, why=f"holds {entry.path}", mode=EXECUTABLE),
            )
            if holder.kind is not Kind.DIRECTORY:
                raise ValueError(f"{entry.path} is planned below {path}, which is a {holder.kind.value}")
    return tuple(sorted(table.values(), key=lambda entry: PurePosixPath(entry.path).parts))
