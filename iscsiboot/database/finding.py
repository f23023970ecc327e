# SPDX-License-Identifier: LGPL-2.1-or-later
"""What ``iscsiboot db check`` says about one thing."""

from __future__ import annotations

NOTES = frozenset({"value", "old-style", "foreign"})
"""Findings that are no fault: worth knowing, and nothing a repair could do."""


class Finding:
    """One thing found."""

    __slots__ = ("kind", "mended", "path", "text")

    def __init__(self, kind: str, path: str, text: str, mended: str = "") -> None:
        self.kind = kind
        """``damaged``, ``contradiction``, ``value``, ``link``, ``mode``, ``empty``, ``foreign``, ``leftover``,
        ``old-style`` or ``lock``."""
        self.path = path
        self.text = text
        self.mended = mended
        """What was done about it, "" for nothing."""

    @property
    def is_note(self) -> bool:
        """Whether it is only worth knowing."""
        return self.kind in NOTES

    def line(self) -> str:
        """One line for people."""
        return f"{self.path}: {self.text}" + (f" ({self.mended})" if self.mended else "")

    def __repr__(self) -> str:
        return f"Finding({self.kind!r}, {self.line()!r})"
