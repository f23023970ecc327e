# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsi-iname``: prints a new initiator name, or with ``--stable`` the one that belongs to this machine.

Options, words and exit statuses are those of open-iscsi 2.1.8. Its names vary in length, since it leaves out leading
zeros of each byte and with them distinct names; ours always end in twelve digits.
"""

from __future__ import annotations

import os

from iscsiboot.admin.process import process
from iscsiboot.errors import ExitCode, IscsiBootError
from iscsiboot.model.getopt_long import OptionSpec, scan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn, TextIO

    from iscsiboot.database.initiator_name import NamePaths

PROGRAM = "iscsi-iname"
PREFIX = "iqn.2016-04.com.open-iscsi"
PREFIX_MAX_BYTES = 210
RANDOM_BYTES = 6

_PREFIX = OptionSpec("p", "prefix", takes_value=True)
_GENERATE = OptionSpec("g", "generate-iname-prefix", takes_value=False)
_HELP = OptionSpec("h", "help", takes_value=False)
_STABLE = OptionSpec("", "stable", takes_value=False, ours=True)
SPECS = (_PREFIX, _GENERATE, _HELP, _STABLE)

USAGE = f"""\
Usage: {PROGRAM} [OPTIONS]
Where OPTIONS are from:
    -p/--prefix <prefix>          -- set IQN prefix [{PREFIX}]
    -g/--generate-iname-prefix    -- generate the InitiatorName= prefix
where <prefix> has max length of {PREFIX_MAX_BYTES}
"""
"""The peer's words; ``--stable`` is told of in the manual page alone."""


class _Refused(Exception):
    """The run ends here with the usage: a line before it (empty for none), and the exit status."""

    def __init__(self, line: str, exit_code: ExitCode) -> None:
        super().__init__(line)
        self.line = line
        self.exit_code = exit_code


def main(
    argv: Sequence[str],
    out: TextIO,
    err: TextIO,
    *,
    program: str = PROGRAM,
    entropy: Callable[[int], bytes] = os.urandom,
    paths: NamePaths | None = None,
) -> int:
    """One run; ``program`` is the name the caller gave it, ``paths`` where this machine's identity is looked for."""
    try:
        options = _options(argv, program)
        prefix = options.get(_PREFIX.long, PREFIX)
        name = _stable(prefix, paths) if _STABLE.long in options else f"{prefix}:{entropy(RANDOM_BYTES).hex()}"
    except _Refused as refused:
        err.write(f"{refused.line}\n{USAGE}" if refused.line else USAGE)
        return refused.exit_code
    except IscsiBootError as error:
        err.write(f"{PROGRAM}: {error.line()}\n")
        return ExitCode.ERR
    out.write(f"{'InitiatorName=' if _GENERATE.long in options else ''}{name}\n")
    return ExitCode.SUCCESS


def _options(argv: Sequence[str], program: str) -> dict[str, str]:
    """Values by long name, the last of each; options act in order, so ``-h`` hides what is wrong behind it."""
    words: list[str] = []
    options: dict[str, str] = {}
    for found in scan(argv, program, SPECS, words=words):
        if found.spec is None:
            raise _Refused(found.complaint, ExitCode.ERR)
        if found.spec is _HELP:
            raise _Refused("", ExitCode.SUCCESS)
        if found.spec is _PREFIX and len(os.fsencode(found.value)) > PREFIX_MAX_BYTES:
            raise _Refused("error: prefix too long", ExitCode.ERR)
        options[found.spec.long] = found.value
    if words:
        raise _Refused("unknown argument(s)", ExitCode.ERR)
    return options


def _stable(prefix: str, paths: NamePaths | None) -> str:
    # Only --stable pays for these.
    from iscsiboot.admin.context import Paths
    from iscsiboot.database.initiator_name import find_identity, made_name

    return made_name(find_identity(paths or Paths()), prefix)


def run() -> NoReturn:
    """The process ``iscsi-iname``."""
    process(lambda argv, out, err, program: main(argv, out, err, program=program), PROGRAM)
