# SPDX-License-Identifier: LGPL-2.1-or-later
"""What surrounds a command: its streams, umask and warnings, and every way a process can end.

A shell may have closed a stream, a reader may go away (``| head -1``), the disk behind ``> file`` may be full, somebody
may press Ctrl-C. None of these prints a page of Python, and none is mistaken for success.
"""

from __future__ import annotations

import gc
import io
import os
import sys
import warnings

from iscsiboot.errors import ExitCode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn, TextIO


def process(command: Callable[[Sequence[str], TextIO, TextIO, str], int], name: str) -> NoReturn:
    """Run ``command(arguments, out, err, program)`` as the process ``name`` and end with the status it returns.

    ``program`` is the name the caller used, without folders. The interpreter's own way out is not taken: it costs two
    milliseconds of clean-up, and it would try to write once more what could not be written.
    """
    # A program that finds a word on stderr takes the command for failed, so no library may warn there.
    warnings.simplefilter("ignore")
    os.umask(0o077)
    # A command is over before the collector could find anything; with thousands of records it looks for long.
    gc.disable()
    out, err = standard_streams()
    status: int = ExitCode.ERR
    try:
        # The kernel puts the path of a script where a program finds the name it was called by.
        program = sys.argv[0].rpartition("/")[2] or name
        status = command(sys.argv[1:], out, err, program)
        out.flush()
    except BrokenPipeError:
        _die_of_broken_pipe()
    except KeyboardInterrupt:
        err.write(f"{name}: caught SIGINT, exiting...\n")
    except OSError as error:
        err.write(f"{name}: could not write to standard output: {error.strerror}\n")
        status = ExitCode.ERR
    try:
        err.flush()
    except OSError:
        pass  # Nobody is left to tell.
    os._exit(status)


def standard_streams() -> tuple[TextIO, TextIO]:
    """Streams on descriptors 1 and 2 that take any text; names of records are bytes, and come out as they went in.

    A descriptor that was closed is opened: else it would be the next file, and a record of the database could get what
    is meant for the terminal.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open("/dev/null", os.O_RDWR)
    return _stream(1, line_buffering=os.isatty(1)), _stream(2, line_buffering=True)


def _stream(descriptor: int, *, line_buffering: bool) -> TextIO:
    raw = io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False))
    return io.TextIOWrapper(
        raw, encoding="utf-8", errors="surrogateescape", newline="\n", line_buffering=line_buffering
    )


def _die_of_broken_pipe() -> NoReturn:
    """End as a program that does not know Python's habit of ignoring SIGPIPE: quietly, by that signal."""
    import signal  # an enum of every signal, for this one case

    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)
    os._exit(128 + signal.SIGPIPE)
