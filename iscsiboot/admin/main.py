# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsiadm``: one command line in, words on stdout and stderr and an exit status out.

:func:`main` is the command as a function of its arguments and streams; what surrounds it is in
:mod:`iscsiboot.admin.process`.

Each mode is a module with ``run(options, context) -> int`` and is imported when it is asked for: the start of the
command is part of what programs wait for (a storage driver ends it after three seconds, dracut runs it in a loop).
"""

from __future__ import annotations

import os
import sys

from iscsiboot.admin.context import Context, Paths
from iscsiboot.admin.options import Usage, parse
from iscsiboot.admin.process import process
from iscsiboot.errors import ExitCode, IscsiBootError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn, TextIO

    from iscsiboot.admin.options import Options

PROGRAM = "iscsiadm"
MODULES = {
    "discovery": "discovery_mode",
    "discoverydb": "discoverydb_mode",
    "node": "node_mode",
    "session": "session_mode",
    "iface": "iface_mode",
    "fw": "fw_mode",
    "host": "host_mode",
}
"""Where each mode lives in this package."""


def main(
    argv: Sequence[str],
    out: TextIO,
    err: TextIO,
    paths: Paths | None = None,
    *,
    program: str = PROGRAM,
    in_order: bool = False,
) -> int:
    """Run one command line (without the program's name); the exit status.

    ``program`` is the name the caller used, for the lines that glibc's getopt would write; ``in_order`` is
    POSIXLY_CORRECT. BrokenPipeError and other OSErrors of ``out`` are the caller's.
    """
    where = paths or Paths.of_this_machine()
    try:
        options = parse(argv, program, sysfs=where.sysfs, in_order=in_order)
    except Usage as usage:
        return _refuse(usage, argv, out, err)
    context = Context(paths=where, out=out, err=err, program=PROGRAM, debug=options.debug, json=options.json)
    for line in options.complaints:
        err.write(f"{printable(line)}\n")
    if options.doubtful and context.attentive:
        _help(context, lambda: _overlooked(options, context))
    if context.debug > 0:
        context.trace(1, f"{options.mode or 'kill'}: database {where.database}, settings {where.iscsid_conf}")
    status = _guarded(options, context)
    if (status or "new" in options.ops) and context.attentive:
        _help(context, lambda: _afterwards(options, context, status))
    if options.json:
        from iscsiboot.admin.json_out import finish  # few commands ask for it

        finish(context, status)
    return status


def _help(context: Context, tell: Callable[[], None]) -> None:
    """Tell a person something; a fault of that is told too, and changes nothing of the command."""
    try:
        tell()
    except Exception as error:  # noqa: BLE001 - as in _guarded
        _fault(error, context)


def _overlooked(options: Options, context: Context) -> None:
    """What of the command line comes to nothing."""
    from iscsiboot.admin import hints  # a slip of somebody at a terminal

    for line in hints.overlooked(options):
        context.notice(line)


def _afterwards(options: Options, context: Context, status: int) -> None:
    from iscsiboot.admin import afterwards  # only what goes wrong needs it

    afterwards.tell(options, context, status)


def _refuse(usage: Usage, argv: Sequence[str], out: TextIO, err: TextIO) -> int:
    """A command line that ends in the parser: with the help, the version, or what is wrong with it."""
    from iscsiboot.admin import json_out  # nothing else will be done in this run

    failed = usage.exit_code != ExitCode.SUCCESS
    document = failed and json_out.asked_for(argv)
    spoken = usage.debug > 0 or err.isatty()
    hint = ""
    if usage.wrong is not None and failed and (document or spoken):
        from iscsiboot.admin import hints  # as for the document

        hint = hints.command_line(*usage.wrong)
    if not document:
        out.write("".join(f"{printable(line)}\n" for line in usage.out))
    err.write("".join(f"{printable(line)}\n" for line in usage.err))
    if hint and spoken:
        err.write(f"{PROGRAM}: {printable(hint)}\n")
    if document:
        lines = [line.removeprefix(f"{PROGRAM}: ") for line in (*usage.out, *usage.err)]
        json_out.refuse(out, lines, usage.exit_code, notices=[hint] if hint else [])
    return usage.exit_code


def _guarded(options: Options, context: Context) -> int:
    """Run the mode; whatever it raises becomes one line and a status."""
    try:
        return _dispatch(options)(options, context)
    except IscsiBootError as error:
        context.error(error.line(), error)
        return error.exit_code
    except Usage as usage:
        return _told(usage, context)
    except KeyboardInterrupt:
        context.error("caught SIGINT, exiting...")
        return ExitCode.ERR
    except MemoryError:
        context.error("no available memory")
        return ExitCode.NOMEM
    except OSError as error:
        # Of stdout: then its buffer is still full, and this raises again. Of anything else it is a fault of ours.
        context.out.flush()
        return _fault(error, context)
    except Exception as error:  # noqa: BLE001 - the last line of defence: a fault of ours is one line, not a page
        return _fault(error, context)


def _told(usage: Usage, context: Context) -> int:
    """A mode that looked at its options and found them wrong, in the words of the parser."""
    for line in usage.out:
        context.say(line)
    for line in usage.err:
        if line.startswith(f"{PROGRAM}: "):
            context.error(line.removeprefix(f"{PROGRAM}: "))
        else:
            context.err.write(f"{printable(line)}\n")
    return usage.exit_code


def _dispatch(options: Options) -> Callable[[Options, Context], int]:
    if options.kill is not None:
        from iscsiboot.admin.kill import run

        return run
    name = f"{__package__}.{MODULES[options.mode]}"
    # __import__ and not importlib: the latter is a package of its own, which nothing else here needs.
    __import__(name)
    mode: Callable[[Options, Context], int] = sys.modules[name].run
    return mode


def _fault(error: Exception, context: Context) -> int:
    """A fault of this program: its kind and words, and with ``-d`` the way to it."""
    context.error(f"internal error: {type(error).__name__}: {error}; please report it, with what -d 8 prints")
    if context.debug:
        import traceback  # never in a run that goes well

        context.err.write("".join(traceback.format_exception(error)))
    return ExitCode.INTERNAL


def run() -> NoReturn:
    """The process ``iscsiadm``. Never returns."""
    process(_command, PROGRAM)


def _command(argv: Sequence[str], out: TextIO, err: TextIO, program: str) -> int:
    return main(argv, out, err, program=program, in_order="POSIXLY_CORRECT" in os.environ)
