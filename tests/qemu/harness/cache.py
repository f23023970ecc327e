# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finished things kept between runs: built once under a key of everything that went into them.

An entry is a directory ``<kind>-<key>``. It is built under a temporary name and renamed when complete, so a run that is
interrupted leaves no half entry; what interrupted runs left is removed at the next build. One lock stands for the whole
cache, so two runs do not build at once. Entries not used for long are removed, newest kept.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.qemu.harness.process import Tell

KEPT_PER_KIND = 3
_KEY_CHARS = 16


def digest(*parts: bytes | str) -> str:
    """A key over ``parts``; each is length-prefixed, so shifting bytes between parts gives another key."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "big") + data)
    return state.hexdigest()[:_KEY_CHARS]


def digest_tree(root: Path) -> str:
    """A key over every file below ``root``: path, mode, and content or link target. Byte code is left out: it carries
    times, and is made from the sources that are in.
    """
    parts: list[bytes] = []
    for path in sorted(root.rglob("*")):
        if path.suffix == ".pyc" or path.name == "__pycache__":
            continue
        parts.append(str(path.relative_to(root)).encode())
        parts.append(b"%o" % path.lstat().st_mode)
        if path.is_symlink():
            parts.append(os.fsencode(path.readlink()))
        elif path.is_file():
            parts.append(path.read_bytes())
    return digest(*parts)


class Cache:
    """The directory of entries."""

    def __init__(self, root: Path, tell: Tell) -> None:
        self.root = root
        self._tell = tell

    def entry(self, kind: str, key: str, build: Callable[[Path], None]) -> Path:
        """The entry's directory, built by ``build(directory)`` when it is not there yet."""
        path = self.root / f"{kind}-{key}"
        self.root.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with self._locked():
                if not path.exists():  # another run may have built it while we waited for the lock
                    self._build(path, build)
                    self._prune(kind, keep=path)
        os.utime(path)
        return path

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A directory on the cache's file system for one run, gone afterwards.

        The run holds a lock on it, so what killed runs left (a copy of a disk each) is told from what is in use.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            with self._locked():
                for left in self.root.glob(".run-*"):
                    _remove_if_unused(left)
                path = Path(tempfile.mkdtemp(prefix=".run-", dir=self.root))
                _hold(path, stack)
            stack.callback(shutil.rmtree, path, ignore_errors=True)
            yield path

    def _build(self, path: Path, build: Callable[[Path], None]) -> None:
        for left in self.root.glob(".building-*"):
            shutil.rmtree(left)
        work = Path(tempfile.mkdtemp(prefix=".building-", dir=self.root))
        work.chmod(0o755)
        try:
            build(work)
            work.rename(path)
        finally:
            # Ignoring errors: a process the interrupt just killed may still be on its way out of here.
            shutil.rmtree(work, ignore_errors=True)

    def _prune(self, kind: str, *, keep: Path) -> None:
        entries = sorted(self.root.glob(f"{kind}-*"), key=lambda entry: entry.stat().st_mtime, reverse=True)
        for old in entries[KEPT_PER_KIND:]:
            if old != keep:
                shutil.rmtree(old)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.root / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._tell("another run is building; waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _hold(directory: Path, stack: contextlib.ExitStack) -> None:
    """Lock ``directory`` until ``stack`` ends; BlockingIOError when another process has."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    stack.callback(os.close, descriptor)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove_if_unused(directory: Path) -> None:
    with contextlib.ExitStack() as stack, contextlib.suppress(BlockingIOError, FileNotFoundError):
        _hold(directory, stack)
        shutil.rmtree(directory)


def default_root() -> Path:
    """``$XDG_CACHE_HOME/iscsiboot`` or ``~/.cache/iscsiboot``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "iscsiboot"


def prune_files(directory: Path, *, keep: int) -> None:
    """Remove all but the ``keep`` newest files: console logs of earlier runs. Several may do it at once."""
    ages = sorted((age, path) for path in directory.iterdir() if (age := _modified(path)) is not None)
    for _, old in ages[: max(0, len(ages) - keep)]:
        old.unlink(missing_ok=True)


def _modified(path: Path) -> float | None:
    """When a file was written; None for what is no file, or is gone since it was listed."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime if stat.S_ISREG(status.st_mode) else None
