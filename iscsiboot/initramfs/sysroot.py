# SPDX-License-Identifier: LGPL-2.1-or-later
"""A directory tree seen the way a process with that tree as its root would see it.

Absolute links in a tree that is not the running system point into that tree, not into ours: the kernel does this for a
chroot, and :class:`Sysroot` does it for everybody else. Every link crossed is reported, since an image that holds the
file must hold the links that lead to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from iscsiboot.errors import IscsiBootError, Stage

MAX_LINKS = 40
"""Links followed before the path is taken for a loop (the kernel's MAXSYMLINKS, include/linux/namei.h)."""


class LinkLoop(IscsiBootError):
    """A path leads through more links than the kernel would follow."""

    def __init__(self, path: str) -> None:
        super().__init__("its symbolic links lead in a circle", stage=Stage.IMAGE, subject=path)


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link met on the way: where it stands (canonical) and its text."""

    path: str
    target: str


@dataclass(frozen=True, slots=True)
class Located:
    """Where a path really leads."""

    asked: str
    real: str
    """Canonical; the last part need not exist."""
    links: tuple[Link, ...]


class Sysroot:
    """Paths inside ``root``. All paths given and returned are absolute paths inside it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def host(self, path: str) -> Path:
        """The path of the running system at which a canonical ``path`` of the tree is found."""
        return self.root / path.lstrip("/")

    def locate(self, path: str, *, follow_last: bool = True) -> Located:
        """Follow every link on the way to ``path``; parts that do not exist are kept as they are.

        With ``follow_last`` False the last part is not followed: the place where something of that name is created.
        """
        todo = [part for part in reversed(PurePosixPath(path).parts) if part != "/"]
        done: list[str] = []
        links: list[Link] = []
        while todo:
            part = todo.pop()
            if part == "..":
                # As in the kernel, the parent of the root is the root.
                done = done[:-1]
                continue
            place = "/" + "/".join([*done, part])
            target = self._link(place) if todo or follow_last else None
            if target is None:
                done.append(part)
                continue
            if len(links) >= MAX_LINKS:
                raise LinkLoop(path)
            links.append(Link(place, target))
            parts = PurePosixPath(target).parts
            if parts and parts[0] == "/":
                done, parts = [], parts[1:]
            todo.extend(reversed(parts))
        return Located(asked=path, real="/" + "/".join(done), links=tuple(links))

    def _link(self, place: str) -> str | None:
        try:
            return str(self.host(place).readlink())
        except OSError:
            return None  # not a link, or not there: both end the following

    def is_file(self, path: str) -> bool:
        """Whether a regular file is found at ``path`` (links followed inside the tree)."""
        return self.host(self.locate(path).real).is_file()

    def read(self, path: str, limit: int) -> bytes | None:
        """The file's bytes, None when it is not there; IscsiBootError above ``limit`` bytes or when unreadable."""
        place = self.host(self.locate(path).real)
        try:
            with place.open("rb") as file:
                data = file.read(limit + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise IscsiBootError(f"cannot be read: {error.strerror}", stage=Stage.IMAGE, subject=str(place)) from error
        if len(data) > limit:
            raise IscsiBootError(f"is larger than {limit} bytes", stage=Stage.IMAGE, subject=str(place))
        return data

    def glob(self, pattern: str) -> list[str]:
        """Paths matching a shell pattern whose directory part holds no wildcard, sorted as ``ldconfig`` takes them."""
        place = PurePosixPath(pattern)
        folder = self.locate(str(place.parent)).real
        return sorted(f"{folder.rstrip('/')}/{found.name}" for found in self.host(folder).glob(place.name))
