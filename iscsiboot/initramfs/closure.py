# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which Python modules the boot path loads: asked of the interpreter that will load them, not guessed.

A scan of import statements finds too much (platform branches, fallbacks) and too little (``__import__``, imports made
by C code). So the target interpreter, as isolated as in the image, imports the entry point and the modules of
``iscsiboot.boot.manifest.LAZY_IMPORTS``, and says what it has loaded and from where.
"""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from iscsiboot.errors import IscsiBootError, Stage, quoted

ENCODINGS = ("encodings.utf_8", "encodings.ascii", "encodings.latin_1", "encodings.unicode_escape")
"""What ``str.encode`` and the start of the interpreter look up by name whatever the locale is; the last one writes what
cannot be printed of a peer's text into a message.

``encodings.idna`` (with a megabyte of ``unicodedata``) is not among them: only ``getaddrinfo`` and ``connect`` with a
host name of letters need it, and a boot takes addresses.
"""

ABSENT = {
    "_hashlib": "hashlib falls back to its own MD5, SHA-1, SHA-2 and SHA-3; libcrypto would be 2 MB compressed",
    "_ssl": "asyncio and urllib live without TLS; nothing on the boot path speaks it",
    "_bz2": "shutil then offers no .bz2 archives",
    "_lzma": "shutil then offers no .xz archives",
    "readline": "code and pdb offer no line editing",
}
"""Standard extension modules whose absence the standard library itself provides for, and what that means.

The probe runs without them, so the closure is that of an interpreter that does not have them."""

DLOPENED = {
    "pyudev._ctypeslib.libudev": ("libudev.so.1",),
}
"""Libraries a module opens by soname at run time, which no DT_NEEDED tells."""

PROBE_SECONDS = 120


@dataclass(frozen=True, kw_only=True, slots=True)
class Module:
    """One module of the closure that came out of a file."""

    name: str
    path: str
    """Of its source, bytecode or extension, inside the root."""

    @property
    def is_extension(self) -> bool:
        """Whether it is a shared object."""
        return self.path.endswith(".so")


@dataclass(frozen=True, kw_only=True, slots=True)
class Closure:
    """What the probe answered."""

    modules: tuple[Module, ...]
    frozen: frozenset[str]
    """Modules inside the interpreter's own file."""
    magic: bytes
    """The bytecode magic number of the interpreter."""
    stdlib: tuple[str, ...]
    """Directories of the interpreter's own module path."""

    @property
    def dlopened(self) -> tuple[tuple[str, str], ...]:
        """(soname, module that opens it)."""
        names = {module.name for module in self.modules}
        return tuple((soname, name) for name, sonames in DLOPENED.items() if name in names for soname in sonames)


class ClosureError(IscsiBootError):
    """The target interpreter cannot import the boot path."""

    def __init__(self, python: str, cause: str, hint: str = "") -> None:
        super().__init__(cause, stage=Stage.IMAGE, subject=python, hint=hint)


def find_closure(
    python: str, imports: Sequence[str], *, front: Sequence[str], back: Sequence[str], root: Path
) -> Closure:
    """Run ``python`` (a path inside ``root``) and collect what importing ``imports`` loads.

    ``front`` and ``back`` are the directories the launcher puts before and behind the standard library. With a
    ``root`` other than ``/`` the interpreter runs in a chroot of it, which needs root and a machine of the same kind.
    """
    text = Path(__file__).with_name("probe.py").read_text(encoding="utf-8")
    command = [python, "-I", "-S", "-B", "-c", text]
    if root != Path("/"):
        command = ["chroot", str(root), *command]
    lists = (front, back, tuple(ABSENT), (*imports, *ENCODINGS))
    try:
        run = subprocess.run(
            [*command, *("\n".join(part) for part in lists)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_SECONDS,
            check=False,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
        )
    except OSError as error:
        raise ClosureError(python, f"cannot be run: {error.strerror}", "is Python installed there?") from error
    except subprocess.TimeoutExpired as error:
        raise ClosureError(python, f"imports nothing within {PROBE_SECONDS} s") from error
    if run.returncode:
        last = run.stderr.decode("utf-8", "replace").strip().rsplit("\n", 1)[-1] or f"exit status {run.returncode}"
        raise ClosureError(
            python, f"cannot import the boot path, it says {quoted(last, 300)}", "install pyroute2 and pyudev"
        )
    return parse_answer(python, run.stdout.decode("utf-8", "surrogateescape"))


def parse_answer(python: str, text: str) -> Closure:
    """The records of :mod:`iscsiboot.initramfs.probe` as a value; :class:`ClosureError` when they make no sense."""
    magic = b""
    stdlib: list[str] = []
    modules: dict[str, Module] = {}
    frozen: set[str] = set()
    for line in text.splitlines():
        match line.split("\t"):
            case ["magic", digits]:
                magic = bytes.fromhex(digits)
            case ["path", directory]:
                stdlib.append(directory)
            case ["module", name, "frozen", _]:
                frozen.add(name)
            case ["module", _, "builtin", _]:
                pass
            case ["module", name, "file", path]:
                # One file can be in sys.modules under several names (aliases); the shortest is its own.
                known = modules.get(path)
                if known is None or len(name) < len(known.name):
                    modules[path] = Module(name=name, path=path)
            case _:
                raise ClosureError(python, f"gives an answer that is none: {quoted(line)}")
    for path in modules:
        if not path.startswith("/") or not path.endswith((".py", ".so", ".pyc")):
            raise ClosureError(python, f"loads a module from {quoted(path)}, which is no file an image can hold")
    if magic != importlib.util.MAGIC_NUMBER:
        raise ClosureError(
            python,
            "is another Python version than the one that makes the image, its bytecode would not load",
            "run this program with the same interpreter",
        )
    ordered = sorted(modules.values(), key=lambda module: module.name)
    return Closure(modules=tuple(ordered), frozen=frozenset(frozen), magic=magic, stdlib=tuple(stdlib))
