# SPDX-License-Identifier: LGPL-2.1-or-later
"""Host facts in, list of entries out: no file is looked at here.

Modules keep the directories they have on the host, so the launcher's module path is right in the image as it stands.
Sources are compiled to bytecode that stands where the source stood (``core.pyc``, no ``__pycache__``): the interpreter
then neither looks for a source nor compares times, and the image is a third of the size.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from iscsiboot.initramfs.entries import EXECUTABLE, PLAIN, PRIVATE, Entry, Kind, Part, with_directories
from iscsiboot.initramfs.facts import Facts
from iscsiboot.initramfs.loader import Library
from iscsiboot.initramfs.sysroot import Located


def make_plan(facts: Facts) -> tuple[Entry, ...]:
    """All entries of the boot path, sorted by path, directories first."""
    entries = _program(facts.launcher, Part.OWN, "the program the unit starts")
    entries += _program(facts.interpreter, Part.INTERPRETER, f"interpreter of {facts.launcher.asked}")
    for module in facts.closure.modules:
        entries += _module(facts.files[module.path], _owner(facts, module.path), f"import of {module.name}")
    entries += _landmarks(facts)
    for library in facts.libraries:
        entries += _library(library, facts)
    if facts.name_file is not None:
        entries += _name_file(facts.name_file)
    return with_directories(entries)


def _links(place: Located, part: Part, why: str) -> list[Entry]:
    return [Entry(path=link.path, kind=Kind.SYMLINK, part=part, why=why, target=link.target) for link in place.links]


def _program(place: Located, part: Part, why: str) -> list[Entry]:
    file = Entry(path=place.real, kind=Kind.FILE, part=part, why=why, source=place.real, mode=EXECUTABLE)
    return [*_links(place, part, why), file]


def _name_file(place: Located) -> list[Entry]:
    why = "this machine's initiator name"
    file = Entry(path=place.real, kind=Kind.FILE, part=Part.OWN, why=why, source=place.real, mode=PRIVATE)
    return [*_links(place, Part.OWN, why), file]


def _module(place: Located, part: Part, why: str) -> list[Entry]:
    """A module's file under the name Python looks for: a link to the source becomes the bytecode itself."""
    if not place.real.endswith(".py"):
        return [
            *_links(place, part, why),
            Entry(path=place.real, kind=Kind.FILE, part=part, why=why, source=place.real),
        ]
    # The module's name itself may be a link to a source elsewhere: bytecode belongs where Python looks, beside that
    # link, and a link to a source that is not in the image must not be there.
    at = next((index for index, link in enumerate(place.links) if link.path.endswith(".py")), len(place.links))
    holder = place.links[at].path if at < len(place.links) else place.real
    through = Located(asked=place.asked, real=holder, links=place.links[:at])
    path = str(PurePosixPath(holder).with_suffix(".pyc"))
    return [
        *_links(through, part, why),
        Entry(path=path, kind=Kind.BYTECODE, part=part, why=why, source=place.real),
    ]


def _landmarks(facts: Facts) -> list[Entry]:
    """What the interpreter looks for at its start, before the first import (Modules/getpath.py).

    It knows its library by ``os.py`` or ``os.pyc`` although the module ``os`` itself is frozen, and warns on stderr
    when ``lib-dynload`` is absent.
    """
    entries: list[Entry] = []
    why = "landmark the interpreter finds its library by"
    for directory, place in facts.directories.items():
        part = Part.STDLIB
        entries += _links(place, part, why)
        entries.append(Entry(path=place.real, kind=Kind.DIRECTORY, part=part, why=why, mode=EXECUTABLE))
        source = facts.files.get(f"{directory}/os.py")
        if source is not None:
            entries += _module(source, part, why)
    return entries


def _library(library: Library, facts: Facts) -> list[Entry]:
    place = library.place
    extension = facts.files.get(place.asked)
    part = Part.LIBRARIES if extension is None else _owner(facts, place.asked)
    why = f"needed by {library.needed_by}"
    file = Entry(
        path=place.real,
        kind=Kind.FILE,
        part=part,
        why=why,
        source=place.real,
        mode=EXECUTABLE if library.is_loader else PLAIN,
    )
    return [*_links(place, part, why), file]


def _owner(facts: Facts, path: str) -> Part:
    """Whom a module's file is charged to, by the directory Python found it in."""
    for directory in facts.layout.sites:
        if path.startswith(f"{directory}/"):
            package = path.removeprefix(f"{directory}/").split("/", 1)[0].removesuffix(".py")
            return {"pyroute2": Part.PYROUTE2, "pyudev": Part.PYUDEV, "iscsiboot": Part.OWN}.get(package, Part.OTHER)
    if path.startswith(f"{facts.layout.libdir}/"):
        return Part.OWN
    if any(path.startswith(f"{directory}/") for directory in facts.closure.stdlib):
        return Part.STDLIB
    return Part.OTHER
