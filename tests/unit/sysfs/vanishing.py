# SPDX-License-Identifier: LGPL-2.1-or-later
"""A kernel that takes a session away while somebody reads it, step by step between the reads."""

from __future__ import annotations

from collections.abc import Iterator

from iscsiboot.sysfs.listing import read_attribute


class Vanishing:
    """Stands in for :func:`read_attribute`: from the ``at``-th read on, ``pace`` steps of a removal come before it."""

    def __init__(self, removal: Iterator[None], *, at: int, pace: int) -> None:
        self._removal = removal
        self._at = at
        self._pace = pace
        self.reads = 0

    def __call__(self, name: str, folder: int | None = None) -> str | None:
        self.reads += 1
        if self.reads >= self._at:
            for _ in range(self._pace):
                next(self._removal, None)
        return read_attribute(name, folder)

    def finish(self) -> None:
        """The rest of the removal."""
        for _ in self._removal:
            pass
