# SPDX-License-Identifier: LGPL-2.1-or-later
"""The program ``iscsid``: what has to happen before anything else is imported, and how the process ends."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from iscsiboot.errors import ExitCode, printable
from iscsiboot.keeper import hygiene
from iscsiboot.session.workers import hold_standard_files


def run() -> NoReturn:
    """Be the program."""
    status: int = ExitCode.ERR
    try:
        hold_standard_files()
        hygiene.without_openssl()
        hygiene.load_quietly()
        # Only now: the loop would bring OpenSSL along, and all that is loaded is locked later.
        from iscsiboot.daemon.iscsid import main

        status = main(sys.argv[1:], program=sys.argv[0], environ=os.environ)
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        status = ExitCode.ERR  # nobody reads what we say
    except Exception as error:  # noqa: BLE001 - the way out below would be silent
        _tell(error)
    finally:
        # Not the interpreter's own way out: it looks for files, whose disk may be gone.
        os._exit(status)


def _tell(error: Exception) -> None:
    """One line; an installation that is not whole is the likely cause, as long as nothing of it has run."""
    next_step = "install it anew" if isinstance(error, ImportError | SyntaxError) else "report this"
    line = f"iscsid: a fault of this program ends it: {type(error).__name__}: {error}; next: {next_step}"
    try:
        sys.stderr.write(f"{printable(line)}\n")
        sys.stderr.flush()
    except OSError:
        pass  # as above
