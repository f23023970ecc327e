# SPDX-License-Identifier: LGPL-2.1-or-later
"""Nothing is read from the disk behind a guard's back: the disk may be the one it has to bring back.

Python reads files nobody asked for at the time: a module imported where it is first used, the source lines of a
traceback, the line a warning stands in. While root is stalled each of these would stop the process that was to end the
stall. :func:`preload` loads what the standard library imports late, :func:`seal` then closes the door:

* an import of what is not loaded raises :class:`Sealed`, an ImportError, and is told once a name;
* tracebacks show files and line numbers, no source;
* exceptions nobody caught go to the log instead of through the interpreter's own printer, which opens source files.

A child that may wait for the disk opens it again with :func:`lift`.
"""

from __future__ import annotations

import importlib
import linecache
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType, TracebackType

from iscsiboot.keeper.log import Level, Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from sys import UnraisableHookArgs

LATE = (
    "encodings.ascii",
    "encodings.idna",  # every getaddrinfo(), and so every asyncio connection
    "encodings.latin_1",
    "encodings.utf_8",
    "encodings.unicode_escape",  # errors.printable
    "stringprep",
    "traceback",
    "hashlib",
    "hmac",  # CHAP
    "iscsiboot.sysfs.disk_use",
)
"""What is loaded where it is first needed, and a guard can come to need (tests/architecture/test_late_imports.py)."""

_FRAMES = 6
"""Of a traceback; the innermost."""


class Sealed(ImportError):
    """A module that was not loaded in time is wanted now."""


class _Door:
    """The first finder of ``sys.meta_path``: asked for modules only that are not loaded."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._told: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Refuse; the interface is :meth:`importlib.abc.MetaPathFinder.find_spec`."""
        del path, target
        if fullname not in self._told:
            self._told.add(fullname)
            self._log(
                Level.WARNING,
                f"the module {fullname} is wanted now and was not loaded at the start: refused, because reading it may"
                " wait for the disk; next: report this",
            )
        raise Sealed(f"{fullname} was not loaded before the imports were sealed", name=fullname)


def preload(extra: Iterable[str] = ()) -> None:
    """Load what is loaded late otherwise. What an initramfs has not of :data:`LATE` stays absent; ``extra`` may not."""
    for name in LATE:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    for name in extra:
        importlib.import_module(name)


def seal(log: Log) -> None:
    """Close the door; once more closes it for another log."""
    lift()
    door = _Door(log)
    sys.meta_path.insert(0, door)
    _Saved.updatecache = linecache.updatecache
    linecache.clearcache()
    linecache.updatecache = _no_source
    sys.excepthook = _excepthook(log)
    sys.unraisablehook = _unraisablehook(log)
    warnings.showwarning = _showwarning(log)


def lift() -> None:
    """Open it again; nothing when it is open."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Door)]
    if _Saved.updatecache is not None:
        linecache.updatecache = _Saved.updatecache
        _Saved.updatecache = None


def is_sealed() -> bool:
    """Whether the door is closed."""
    return any(isinstance(finder, _Door) for finder in sys.meta_path)


def fault_words(error: BaseException) -> str:
    """A fault of ours in one line, without its source lines: ``KeyError: 'x' (guard.py:120 in act, ...)``."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    where = ", ".join(f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} in {frame.name}" for frame in frames)
    text = f"{type(error).__name__}: {error}"
    return f"{text} ({where})" if where else text


class _Saved:
    """What was there before the seal."""

    updatecache: Callable[..., list[str]] | None = None


def _no_source(*_: object, **__: object) -> list[str]:
    return []


def _excepthook(log: Log) -> Callable[[type[BaseException], BaseException, TracebackType | None], None]:
    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        del kind
        log(Level.ERROR, f"a fault of this program ends it: {fault_words(error.with_traceback(trace))}")

    return hook


def _unraisablehook(log: Log) -> Callable[[UnraisableHookArgs], None]:
    def hook(unraisable: UnraisableHookArgs) -> None:
        error = unraisable.exc_value
        words = unraisable.exc_type.__name__ if error is None else fault_words(error)
        log(Level.WARNING, f"a fault of this program, passed over: {words}")

    return hook


def _showwarning(log: Log) -> Callable[..., None]:
    def show(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object) -> None:
        log(Level.DEBUG, f"{filename}:{lineno}: {category.__name__}: {message}")

    return show
