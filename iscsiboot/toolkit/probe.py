# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsiboot probe PORTAL [TARGET]``: what could be booted from there, as any user and without kernel modules.

Arguments in, report and exit status out. What is done is in :mod:`iscsiboot.toolkit.probe_run`, what of it is told in
:mod:`iscsiboot.toolkit.probe_render` and :mod:`iscsiboot.toolkit.probe_json`.
"""

from __future__ import annotations

import getpass
import shutil
import sys
from collections.abc import Sequence
from typing import TextIO

from iscsiboot.errors import ExitCode, IscsiBootError, printable
from iscsiboot.session.cancel import Cancellation
from iscsiboot.session.open_link import LinkEnvironment
from iscsiboot.toolkit import probe_options, probe_secrets
from iscsiboot.toolkit.probe_json import render_json
from iscsiboot.toolkit.probe_render import render_text
from iscsiboot.toolkit.probe_run import run
from iscsiboot.toolkit.probe_session import Network

INTERRUPTED = 130
"""128 and SIGINT: what shells expect of a program that Ctrl-C ended."""


TOLD_MAX = 70
"""Columns of a line of progress, on terminals that have more."""


class TerminalProgress:
    """One line that is written over and over, on a terminal alone."""

    def __init__(self, err: TextIO) -> None:
        self._err = err if err.isatty() else None

    def stage(self, text: str) -> None:
        """What is being done."""
        self._show(text)

    def paths(self, done: int, total: int, failed: int) -> None:
        """How many paths have an answer."""
        if total > 1:
            self._show(f"{done} of {total} paths done{f', {failed} failed' if failed else ''}")

    def clear(self) -> None:
        """Leave the line empty for what comes now."""
        self._write("\r\x1b[K")

    def _show(self, text: str) -> None:
        # A line that wraps could not be taken back: only its last part would be cleared.
        room = max(shutil.get_terminal_size().columns - len(" ...") - 1, 0)
        self._write(f"\r\x1b[K{printable(text)[: min(room, TOLD_MAX)]} ...")

    def _write(self, text: str) -> None:
        if self._err is not None:
            self._err.write(text)
            self._err.flush()


def main(argv: Sequence[str], out: TextIO, err: TextIO) -> int:
    """The command without its name; the exit status: that of the first failure, as iscsiadm's."""
    try:
        options = probe_options.parse(argv)
        if options is None:
            out.write(probe_options.parser().format_help())
            return ExitCode.SUCCESS
        ask = getpass.getpass if sys.stdin is not None and sys.stdin.isatty() else None
        logins = probe_secrets.gather(options, ask)
        name = probe_secrets.initiator_name(options)
    except IscsiBootError as error:
        err.write(f"iscsiboot probe: {error.line()}\n")
        return error.exit_code
    except (KeyboardInterrupt, EOFError):
        # At the question for a secret.
        err.write("\niscsiboot probe: interrupted\n")
        return INTERRUPTED
    progress = TerminalProgress(err)
    with Cancellation() as cancellation:
        network = Network(options, name, logins, LinkEnvironment(cancellation=cancellation))
        try:
            report = run(options, name, environment=network.environment(cancellation.cancel), progress=progress)
        except KeyboardInterrupt:
            progress.clear()
            err.write("iscsiboot probe: interrupted; connections are closed, and with them the sessions\n")
            return INTERRUPTED
    progress.clear()
    out.write(render_json(report) if options.json else render_text(report, _width(out)))
    for failure in report.nothing_because:
        err.write(f"iscsiboot probe: {failure.line()}\n")
    return report.exit_code


def _width(out: TextIO) -> int | None:
    """Columns of the terminal the report goes to; None when it goes elsewhere."""
    return shutil.get_terminal_size().columns if out.isatty() else None
