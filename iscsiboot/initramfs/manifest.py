# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the boot path says about itself: ``iscsiboot/boot/manifest.py`` of the tree that is packed, read as data.

It is read and not imported, because the tree may be another one than this program's (a sysroot), and because the
boot path and the image are neighbours that do not import each other.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

from iscsiboot.errors import IscsiBootError, Stage
from iscsiboot.initramfs.sysroot import Sysroot

MANIFEST = "iscsiboot/boot/manifest.py"
_LIMIT = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The entry point's module and the modules it imports late."""

    entry: str
    lazy: tuple[str, ...]


def read_manifest(sysroot: Sysroot, libdir: str) -> Manifest:
    """The manifest below ``libdir``; IscsiBootError when it is not there or says something else."""
    path = f"{libdir}/{MANIFEST}"
    data = sysroot.read(path, _LIMIT)
    if data is None:
        raise IscsiBootError("is not there", stage=Stage.IMAGE, subject=path, hint="run make install")
    try:
        values = _constants(ast.parse(data))
        return Manifest(
            entry=_name(values["ENTRY"]), lazy=tuple(_name(name) for name in _tuple(values["LAZY_IMPORTS"]))
        )
    except (SyntaxError, ValueError, KeyError) as error:
        raise IscsiBootError(f"is no manifest: {error!r}", stage=Stage.IMAGE, subject=path) from error


def _constants(tree: ast.Module) -> dict[str, object]:
    """Module-level assignments of literals, by name."""
    values: dict[str, object] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            target, value = node.target, node.value
        else:
            continue
        if isinstance(target, ast.Name):
            values[target.id] = ast.literal_eval(value)
    return values


def _tuple(value: object) -> tuple[object, ...]:
    if not isinstance(value, tuple):
        raise ValueError("LAZY_IMPORTS is no tuple")
    return value


def _name(value: object) -> str:
    if not isinstance(value, str) or not all(part.isidentifier() for part in value.split(".")):
        raise ValueError(f"{value!r} is no module name")
    return value
