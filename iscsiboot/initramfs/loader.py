# SPDX-License-Identifier: LGPL-2.1-or-later
"""The shared library closure: which files the dynamic loader would open, found without running it.

``ldd`` runs the program's loader and so the program's code, and cannot look into a sysroot of another machine; this
follows the rules of ld.so(8) and glibc's elf/dl-load.c instead. For a library without a slash in its name:

1. DT_RPATH of the file that needs it and of everything that led to that file, up to the program, unless the file itself
   has DT_RUNPATH; DT_RPATH of a file that also has DT_RUNPATH does not count.
2. (LD_LIBRARY_PATH: nobody sets it in an initramfs.)
3. DT_RUNPATH of the file that needs it, for its own needs only: it is not inherited.
4. The loader's cache; without one the directories of ld.so.conf.
5. The default directories, unless DF_1_NODEFLIB.

A file of another ELF class or machine is passed over and the search goes on. A name that is loaded already, by its own
DT_SONAME, is not searched for again. Libraries below ``glibc-hwcaps`` are not taken: the image may boot another CPU.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from iscsiboot.errors import IscsiBootError, Stage
from iscsiboot.initramfs.elf import ElfInfo, is_elf, read_elf
from iscsiboot.initramfs.ldcache import BrokenCache, conf_directories, parse_cache
from iscsiboot.initramfs.sysroot import Located, Sysroot

CACHE = "/etc/ld.so.cache"
_CACHE_LIMIT = 16 << 20

_PLATFORM = {"EM_X86_64": "x86_64", "EM_AARCH64": "aarch64", "EM_386": "i686", "EM_PPC64": "ppc64le"}
"""AT_PLATFORM, what ``$PLATFORM`` stands for."""
_TRIPLET = {
    "EM_X86_64": "x86_64-linux-gnu",
    "EM_AARCH64": "aarch64-linux-gnu",
    "EM_386": "i386-linux-gnu",
    "EM_PPC64": "powerpc64le-linux-gnu",
    "EM_RISCV": "riscv64-linux-gnu",
    "EM_S390": "s390x-linux-gnu",
}
"""Debian's multiarch directory, compiled into its loader as a default directory and as ``$LIB``."""


class MissingLibrary(IscsiBootError):
    """A library an image cannot do without is nowhere the loader would look."""

    def __init__(self, name: str, needed_by: str) -> None:
        super().__init__(
            f"needs {name}, which is in no directory the loader searches",
            stage=Stage.IMAGE,
            subject=needed_by,
            hint=f"install the package that has {name}, or run ldconfig",
        )


@dataclass(frozen=True, slots=True)
class Loaded:
    """A file in the process, and the file that made the loader open it (None for the program)."""

    place: Located
    info: ElfInfo
    loader: Loaded | None

    @property
    def chain(self) -> Iterator[Loaded]:
        """The file itself, who needed it, and so on up to the program."""
        here: Loaded | None = self
        while here is not None:
            yield here
            here = here.loader


@dataclass(frozen=True, slots=True)
class Library:
    """One result: a file, every link that leads to it by the name asked for, and who asked."""

    place: Located
    needed_by: str
    is_loader: bool = False
    """The dynamic loader itself, which the kernel starts like a program."""


class Process:
    """A program and what is loaded into it; :meth:`open` is ``dlopen``."""

    def __init__(self, sysroot: Sysroot, program: str) -> None:
        self._sysroot = sysroot
        place = sysroot.locate(program)
        self._main = Loaded(place, read_elf(sysroot.host(place.real)), None)
        self._cache = self._read_cache()
        self._conf = conf_directories(sysroot) if self._cache is None else ()
        self._names: dict[str, Loaded] = {}
        self.libraries: list[Library] = []
        if self._main.info.interpreter:
            self._add_loader(self._main.info.interpreter)
        self._load_needs(self._main)

    def open(self, name: str, needed_by: str) -> None:
        """Load the library ``name`` (a soname or a path) and everything it needs, asked for by ``needed_by``."""
        self._load_needs(self._load(name, self._main, needed_by))

    def _read_cache(self) -> dict[str, list[str]] | None:
        data = self._sysroot.read(CACHE, _CACHE_LIMIT)
        if data is None:
            return None
        table: dict[str, list[str]] = {}
        try:
            for entry in parse_cache(data):
                if not entry.hwcap:
                    table.setdefault(entry.soname, []).append(entry.path)
        except BrokenCache as error:
            raise IscsiBootError(
                f"is broken: {error}", stage=Stage.IMAGE, subject=CACHE, hint="run ldconfig"
            ) from error
        return table

    def _add_loader(self, path: str) -> None:
        """PT_INTERP is opened by the kernel, by its path; later needs for its soname are met by it."""
        place = self._sysroot.locate(path)
        if not self._sysroot.host(place.real).is_file():
            raise MissingLibrary(path, self._main.place.real)
        self._remember(Loaded(place, read_elf(self._sysroot.host(place.real)), self._main), PurePosixPath(path).name)
        self.libraries.append(Library(place, self._main.place.real, is_loader=True))

    def _remember(self, loaded: Loaded, name: str) -> None:
        self._names.setdefault(name, loaded)
        self._names.setdefault(loaded.place.real, loaded)
        if loaded.info.soname:
            self._names.setdefault(loaded.info.soname, loaded)

    def _load_needs(self, start: Loaded) -> None:
        """Breadth first, as the loader does: the order decides which of two libraries of one name is taken."""
        queue, seen = deque([start]), {start.place.real}
        while queue:
            here = queue.popleft()
            for name in here.info.needed:
                found = self._load(name, here, here.place.real)
                if found.place.real not in seen:
                    seen.add(found.place.real)
                    queue.append(found)

    def _load(self, name: str, loader: Loaded, needed_by: str) -> Loaded:
        if name in self._names:
            return self._names[name]
        for candidate in self._candidates(name, loader):
            place = self._sysroot.locate(candidate)
            host = self._sysroot.host(place.real)
            if not is_elf(host):
                continue
            info = read_elf(host)
            if not info.fits(self._main.info):
                continue
            loaded = self._names.get(place.real) or Loaded(place, info, loader)
            self._remember(loaded, name)
            # Also when the file is known under another name: this name's links must be in the image.
            self.libraries.append(Library(place, needed_by))
            return loaded
        raise MissingLibrary(name, needed_by)

    def _candidates(self, name: str, loader: Loaded) -> Iterator[str]:
        if "/" in name:
            yield from self._expand(name, loader)
            return
        for directory in self._directories(loader):
            yield f"{directory}/{name}"
        defaults = self._defaults()
        for path in (self._cache or {}).get(name, ()):
            if not (loader.info.nodeflib and str(PurePosixPath(path).parent) in defaults):
                yield path
        for directory in self._conf:
            yield f"{directory}/{name}"
        if not loader.info.nodeflib:
            for directory in defaults:
                yield f"{directory}/{name}"

    def _directories(self, loader: Loaded) -> Iterator[str]:
        """RPATH of the whole chain or RUNPATH of the one file, dynamic string tokens expanded."""
        if loader.info.runpath is None:
            for ancestor in loader.chain:
                for directory in ancestor.info.rpath:
                    yield from self._expand(directory, ancestor)
        else:
            for directory in loader.info.runpath:
                yield from self._expand(directory, loader)

    def _expand(self, text: str, owner: Loaded) -> Iterator[str]:
        """``$ORIGIN``, ``$LIB`` and ``$PLATFORM``, with and without braces (ld.so(8), dynamic string tokens).

        ``$LIB`` is compiled into the loader and cannot be read from the file; every value distributions use is tried.
        """
        machine = self._main.info.machine
        text = _token(text, "ORIGIN", str(PurePosixPath(owner.place.real).parent))
        text = _token(text, "PLATFORM", _PLATFORM.get(machine, ""))
        multiarch = [f"lib/{_TRIPLET[machine]}"] if machine in _TRIPLET else []
        for lib in (*multiarch, "lib64", "lib"):
            yield _token(text, "LIB", lib)
            if _token(text, "LIB", "") == text:
                return

    def _defaults(self) -> tuple[str, ...]:
        """Debian's multiarch directories first; where they do not exist nothing is found in them."""
        triplet = _TRIPLET.get(self._main.info.machine)
        multiarch = (f"/lib/{triplet}", f"/usr/lib/{triplet}") if triplet else ()
        wide = ("/lib64", "/usr/lib64") if self._main.info.bits == 64 else ()
        return (*multiarch, *wide, "/lib", "/usr/lib")


def _token(text: str, name: str, value: str) -> str:
    """Replace ``${NAME}`` and ``$NAME`` (not ``$NAMEMORE``)."""
    text = text.replace(f"${{{name}}}", value)
    result, rest = "", text
    while True:
        before, found, rest = rest.partition(f"${name}")
        result += before
        if not found:
            return result
        whole = not rest[:1].isalnum() and rest[:1] != "_"
        result += value if whole else found
