# SPDX-License-Identifier: LGPL-2.1-or-later
"""Taking back what was done, last first, whatever ended the doing; what cannot be taken back is told."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from iscsiboot.errors import IscsiBootError
from iscsiboot.model.report import Report


class UndoStack:
    """A context manager: leaving it runs every undo in reverse order, unless :meth:`keep` was called before.

    An undo that fails is told to ``report`` and listed in :attr:`failures`; the others still run and the exception
    that ended the work is the one that goes on. KeyboardInterrupt and whatever a signal handler raises count as well.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._stack = ExitStack()
        self.failures: list[str] = []

    def push(self, what: str, undo: Callable[[], None]) -> None:
        """Remember ``undo``; register it *before* the step it takes back, so that no interruption falls between."""
        self._stack.callback(self._run, what, undo)

    def keep(self) -> None:
        """Everything is done: forget the undos."""
        self._stack.pop_all()

    def take_back(self) -> None:
        """Run every undo now and go on empty: this attempt is over, the next one may begin."""
        self._stack.close()

    def _run(self, what: str, undo: Callable[[], None]) -> None:
        try:
            undo()
        except (IscsiBootError, OSError) as error:
            self.failures.append(f"{what}: {error}")
            self._report.note(f"clean-up: {what} failed: {error}")

    def __enter__(self) -> UndoStack:
        return self

    def __exit__(self, *details: object) -> None:
        self._stack.close()
