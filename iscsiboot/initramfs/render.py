# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bytes of an entry: a copy, or bytecode made from a source."""

from __future__ import annotations

import importlib.util
import marshal
from pathlib import Path

from iscsiboot.errors import IscsiBootError, Stage
from iscsiboot.initramfs.entries import Entry, Kind
from iscsiboot.initramfs.sysroot import Sysroot

_UNCHECKED_HASH = 0b01
"""PEP 552: the file is named by its source's hash, and nobody compares the two when it is loaded."""


def content(entry: Entry, sysroot: Sysroot) -> bytes:
    """What the file of this entry holds; empty for links and directories. IscsiBootError when a source is unusable."""
    if entry.kind not in (Kind.FILE, Kind.BYTECODE):
        return b""
    place = sysroot.host(entry.source)
    try:
        data = place.read_bytes()
    except OSError as error:
        raise IscsiBootError(f"cannot be read: {error.strerror}", stage=Stage.IMAGE, subject=str(place)) from error
    return bytecode(data, entry.source) if entry.kind is Kind.BYTECODE else data


def bytecode(source: bytes, name: str) -> bytes:
    """A .pyc of ``source`` (PEP 552 layout) whose tracebacks show ``name``.

    Not optimised: asserts and docstrings stay, because a package may read its own docstrings, and a dataclass without
    one makes its text with ``inspect.signature`` at every import, which costs more than the docstring.
    """
    try:
        code = compile(source, name, "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError) as error:
        raise IscsiBootError(f"does not compile: {error}", stage=Stage.IMAGE, subject=name) from error
    header = importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH.to_bytes(4, "little") + importlib.util.source_hash(source)
    return header + marshal.dumps(code)


def mode_and_type(entry: Entry) -> int:
    """``st_mode`` of the entry: type and permission bits, as a cpio header holds them."""
    kinds = {Kind.DIRECTORY: 0o040000, Kind.SYMLINK: 0o120000}
    return kinds.get(entry.kind, 0o100000) | (0o777 if entry.kind is Kind.SYMLINK else entry.mode)


def stage_tree(entries: tuple[Entry, ...], sysroot: Sysroot, tree: Path) -> int:
    """Write the entries below ``tree``, which an image builder may have begun; how many paths were written.

    What is there already and is the same is left as it is. Links of the tree itself are followed inside it, so that a
    builder's ``lib -> usr/lib`` never leads a write out of the tree. IscsiBootError when a path is taken by something
    else.
    """
    destination = Sysroot(tree)
    written = 0
    for entry in entries:
        place = destination.host(destination.locate(entry.path, follow_last=False).real)
        try:
            written += _write(entry, place, sysroot)
        except OSError as error:
            raise IscsiBootError(
                f"cannot be written: {error.strerror}", stage=Stage.IMAGE, subject=str(place)
            ) from error
    return written


def _write(entry: Entry, place: Path, sysroot: Sysroot) -> bool:
    if entry.kind is Kind.DIRECTORY:
        if place.is_symlink() or place.is_dir():
            return False
        place.mkdir(mode=entry.mode)
        return True
    if entry.kind is Kind.SYMLINK:
        if place.is_symlink() and str(place.readlink()) == entry.target:
            return False
        if place.is_symlink() or place.exists():
            raise _taken(place, f"a link to {entry.target}")
        place.symlink_to(entry.target)
        return True
    data = content(entry, sysroot)
    if place.is_symlink() or place.is_dir():
        raise _taken(place, "a file")
    if place.is_file() and place.read_bytes() == data:
        return False
    # A builder may have hard linked the file to the host's own: a new file never writes through such a link.
    place.unlink(missing_ok=True)
    place.write_bytes(data)
    place.chmod(entry.mode)
    return True


def _taken(place: Path, wanted: str) -> IscsiBootError:
    return IscsiBootError(
        f"is taken, the boot path needs {wanted} there", stage=Stage.IMAGE, subject=str(place), hint="use an empty tree"
    )
