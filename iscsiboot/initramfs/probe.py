# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs inside the target interpreter (``python -I -S -B -c <this file>``) and tells what importing really loaded.

It imports nothing but ``sys``, because whatever it imported would be in the answer. Arguments, each a list joined by
line breaks: directories before the standard library, directories behind it, modules that must look absent, modules to
import. The answer, one record a line, fields separated by tabs:

    ``magic``, the bytecode's magic number in hexadecimal
    ``path``, a directory of the interpreter's own module path
    ``module``, name, ``builtin`` | ``frozen`` | ``file``, and the file's path
"""

import sys

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without importing typing
if TYPE_CHECKING:
    from typing import Any


class _WithoutMetadata:
    """The path finder without its ``find_distributions``: no installed package has metadata.

    pyroute2 0.7 imports every plugin its dist-info announces, three times what the boot path needs; the image holds no
    dist-info, so the probe must not see one either.
    """

    def __init__(self, finder: "Any") -> None:
        self.find_spec = finder.find_spec
        self.invalidate_caches = finder.invalidate_caches


def _listed(text: str) -> list[str]:
    return [part for part in text.split("\n") if part]


def _main(front: str, back: str, absent: str, wanted: str) -> None:
    own = list(sys.path)
    sys.meta_path[:] = [
        _WithoutMetadata(finder) if hasattr(finder, "find_distributions") else finder for finder in sys.meta_path
    ]
    for name in _listed(absent):
        sys.modules[name] = None  # type: ignore[assignment]  # documented: makes the import fail
    sys.path[:] = [*_listed(front), *own, *_listed(back)]
    for name in _listed(wanted):
        __import__(name)
    # importlib.util would bring a dozen modules; the import system itself is loaded, under its frozen name.
    magic = sys.modules["_frozen_importlib_external"].MAGIC_NUMBER
    lines = ["magic\t" + magic.hex(), *("path\t" + directory for directory in own)]
    for name, module in sorted(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if spec is None or spec.origin is None:
            continue
        kind = {"built-in": "builtin", "frozen": "frozen"}.get(spec.origin, "file")
        lines.append("\t".join(("module", name, kind, spec.origin if kind == "file" else "")))
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
