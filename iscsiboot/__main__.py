# SPDX-License-Identifier: LGPL-2.1-or-later
"""The ``iscsiboot`` command: a table of subcommands, each imported when it is asked for.

This is the one module above the layers: it knows every entry point by name and nothing else.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TextIO

from iscsiboot import __version__
from iscsiboot.errors import ExitCode, IscsiBootError


@dataclass(frozen=True, slots=True)
class Subcommand:
    """Where a subcommand lives: ``module`` has ``main(argv, out, err) -> int``."""

    module: str
    summary: str


SUBCOMMANDS = {
    "explain": Subcommand("iscsiboot.toolkit.explain", "each boot value, where it came from, what was ignored and why"),
    "status": Subcommand("iscsiboot.toolkit.status", "who guards the sessions of this machine, and how they are"),
    "probe": Subcommand("iscsiboot.toolkit.probe", "what could be booted from a target; no kernel modules, any user"),
    "timeline": Subcommand("iscsiboot.toolkit.timeline", "what happened when during a boot"),
    "db": Subcommand("iscsiboot.admin.db_command", "is the record database in order; --fix mends what is safe to mend"),
    "image": Subcommand("iscsiboot.initramfs.command", "what goes into an initramfs, why, and what it costs"),
}


def usage() -> str:
    """The help text, made from the table."""
    lines = ["usage: iscsiboot SUBCOMMAND [OPTION...]", ""]
    lines += [f"  {name:<10} {sub.summary}" for name, sub in SUBCOMMANDS.items()]
    return "\n".join([*lines, "", "iscsiboot SUBCOMMAND --help tells its options; -V the version.", ""])


def main(argv: Sequence[str], out: TextIO, err: TextIO) -> int:
    """Run one subcommand; the exit status. Failures become one line on ``err``."""
    if argv and argv[0] in ("-h", "--help"):
        out.write(usage())
        return ExitCode.SUCCESS
    if argv and argv[0] in ("-V", "--version"):
        out.write(f"iscsiboot {__version__}\n")
        return ExitCode.SUCCESS
    if not argv or argv[0] not in SUBCOMMANDS:
        err.write(usage())
        return ExitCode.INVAL
    module = importlib.import_module(SUBCOMMANDS[argv[0]].module)
    try:
        return int(module.main(argv[1:], out, err))
    except IscsiBootError as error:
        err.write(f"iscsiboot {argv[0]}: {error.line()}\n")
        return error.exit_code


def run() -> int:
    """Entry point of the launcher: the process's own arguments and streams."""
    if None in (sys.stdin, sys.stdout, sys.stderr):
        # Closed by who starts us and wants the exit status alone: what is opened next must not stand in their place.
        importlib.import_module("iscsiboot.session.workers").hold_standard_files()
    try:
        status = main(sys.argv[1:], sys.stdout, sys.stderr)
        sys.stdout.flush()
    except BrokenPipeError:
        return _without_output()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        with suppress(OSError):
            sys.stderr.write(f"iscsiboot: output: {error.strerror}; next: make room where the output goes\n")
        return _without_output()
    except KeyboardInterrupt:
        return 130
    return status


def _without_output() -> int:
    """The exit status when the reader (head, less) has gone; the flush at exit must not complain about it again."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.dup2(nothing, sys.stderr.fileno())
    return ExitCode.ERR


if __name__ == "__main__":
    sys.exit(run())
