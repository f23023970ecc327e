# SPDX-License-Identifier: LGPL-2.1-or-later
"""Values out of JSON that another version of us, or nobody knows who, has written: each of its kind and in range."""

from __future__ import annotations

import math
from collections.abc import Mapping

TEXT_MAX = 4096
"""Characters; the longest that is legal, a name or a secret in base64, has 340."""
LIST_MAX = 64


class Unusable(ValueError):
    """A value is missing or not what it has to be; the words name it and never show it."""


class Fields:
    """One JSON object; :class:`Unusable` when it is none. A key that is not there has its default where it has one."""

    def __init__(self, value: object) -> None:
        if not isinstance(value, dict):
            raise Unusable("it is no JSON object")
        self._values: Mapping[str, object] = value

    def folder(self, key: str) -> Mapping[str, object]:
        """An object with keys of any name."""
        value = self._values.get(key)
        if not isinstance(value, dict):
            raise Unusable(f"{key} is no JSON object")
        return value

    def part(self, key: str) -> Fields | None:
        """An object, None when it is null or not there."""
        value = self._values.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise Unusable(f"{key} is no JSON object")
        return Fields(value)

    def needed(self, key: str) -> Fields:
        """An object that has to be there."""
        found = self.part(key)
        if found is None:
            raise Unusable(f"{key} is missing")
        return found

    def text(self, key: str, *, default: str | None = None) -> str:
        """Text that may go to the kernel as it is: no NUL, of a bearable length."""
        value = self._values.get(key, default)
        if not isinstance(value, str) or "\0" in value or len(value) > TEXT_MAX:
            raise Unusable(f"{key} is no text, or one that cannot be used")
        return value

    def text_or_none(self, key: str) -> str | None:
        """The same, None when it is null or not there."""
        return None if self._values.get(key) is None else self.text(key)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts; an empty one when it is not there."""
        value = self._values.get(key, [])
        if not isinstance(value, list) or len(value) > LIST_MAX:
            raise Unusable(f"{key} is no list, or too long a one")
        return tuple(Fields({key: item}).text(key) for item in value)

    def numbers_or_none(self, key: str) -> tuple[int, ...] | None:
        """A list of whole numbers from 0 to 255; None when it is null or not there."""
        value = self._values.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) > LIST_MAX:
            raise Unusable(f"{key} is no list, or too long a one")
        return tuple(Fields({key: item}).number(key, low=0, high=255) for item in value)

    def flag(self, key: str, *, default: bool) -> bool:
        """Yes or no."""
        value = self._values.get(key, default)
        if not isinstance(value, bool):
            raise Unusable(f"{key} is neither true nor false")
        return value

    def number(self, key: str, *, low: int, high: int, default: int | None = None) -> int:
        """A whole number in range."""
        value = self._values.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise Unusable(f"{key} is no whole number from {low} to {high}")
        return value

    def number_or_none(self, key: str, *, low: int, high: int) -> int | None:
        """The same, None when it is null or not there."""
        return None if self._values.get(key) is None else self.number(key, low=low, high=high)

    def real(self, key: str, *, default: float, high: float) -> float:
        """A number from 0 on."""
        value = self._values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise Unusable(f"{key} is no number")
        if not 0 <= value <= high:
            raise Unusable(f"{key} is outside 0 to {high:g}")
        return float(value)
