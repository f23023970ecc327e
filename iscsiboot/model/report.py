# SPDX-License-Identifier: LGPL-2.1-or-later
"""How lower layers tell what they are doing without knowing a console, a journal or a file."""

from __future__ import annotations

from iscsiboot.model.timeline import Mark

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object


class Report(Protocol):
    """Takes progress. Calls must not raise and must not block for long; texts never hold a secret."""

    def note(self, text: str) -> None:
        """One line for a person: ``eth0: waiting for carrier``."""

    def mark(self, mark: Mark, detail: str = "") -> None:
        """A step of the boot is reached now."""


class NullReport:
    """Takes everything, tells nobody."""

    def note(self, text: str) -> None:
        """Drop the line."""

    def mark(self, mark: Mark, detail: str = "") -> None:
        """Drop the mark."""
