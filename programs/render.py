# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fill in a launcher or unit template: ``render.py PYTHON LIBDIR SBINDIR HOOKDIR < template > file``.

Runs at "make install" with the interpreter the launchers will name, and asks it where the packages of the distribution
are: they may be anywhere on its module path, and the launchers go there directly.
"""

from __future__ import annotations

import importlib.util
import os
import sys

PACKAGES = {"pyroute2": "python3-pyroute2", "pyudev": "python3-pyudev", "elftools": "python3-pyelftools"}
"""Package and the name distributions give it."""


def site_directories() -> list[str]:
    """Directories that hold the packages, each once; LookupError names a package that is not installed."""
    found: dict[str, None] = {}
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise LookupError(name)
        found[os.path.dirname(spec.submodule_search_locations[0])] = None  # noqa: PTH120  # no pathlib: make runs it often
    return list(found)


def main(python: str, libdir: str, sbindir: str, hookdir: str) -> int:
    """Copy standard input to standard output with the ``@NAME@`` words replaced."""
    try:
        sites = ", ".join(repr(site) for site in site_directories())
    except LookupError as error:
        sys.stderr.write(f"make install: {python} has no package {error.args[0]}; install {PACKAGES[error.args[0]]}\n")
        return 1
    words = {"@PYTHON@": python, "@LIBDIR@": libdir, "@SBINDIR@": sbindir, "@HOOKDIR@": hookdir, "@SITES@": sites}
    text = sys.stdin.read()
    for word, value in words.items():
        text = text.replace(word, value)
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
