# SPDX-License-Identifier: LGPL-2.1-or-later
"""What one setting is: its type, its values, its default, and how a text is checked against it.

Two checks, for two readers. :func:`check_value` refuses what can never be meant: a word that is none of the choices, a
number that is no number or does not fit its field. :func:`advice` tells what is outside the documented range, which
open-iscsi stores without a word and scripts may rely on: it is said, not refused.
"""

from __future__ import annotations

WIDTHS = {
    "int": (-(2**31), 2**31 - 1),
    "u8": (0, 2**8 - 1),
    "u16": (0, 2**16 - 1),
    "u32": (0, 2**32 - 1),
    "serial": (-(2**31), 2**32 - 1),
}
"""What fits the field open-iscsi keeps a number in. A ``serial`` is a 32-bit serial number (RFC 1982): the peer's two
readers show the same bits as -1 and as 4294967295, so both spellings are read, and the second is canonical."""


class Key:
    """One row of the table."""

    __slots__ = (
        "choices",
        "default",
        "family",
        "high",
        "kind",
        "length",
        "lookup",
        "low",
        "meaning",
        "name",
        "secret",
        "shipped",
        "since",
    )

    def __init__(
        self,
        name: str,
        kind: str,
        default: str,
        meaning: str,
        *,
        shipped: str | None = None,
        choices: tuple[str, ...] = (),
        low: int | None = None,
        high: int | None = None,
        length: int = 0,
        lookup: bool = False,
        secret: bool = False,
        since: str = "",
        family: int = 0,
    ) -> None:
        self.name = name
        self.kind = kind
        """``str``, a number (one of WIDTHS), ``enum`` (one of ``choices``) or ``list`` (some of them, in order)."""
        self.default = default
        """Compiled in: what a record has that says nothing. Empty is no value."""
        self.shipped = shipped
        """What Debian's iscsid.conf sets; None where it is commented out or absent."""
        self.choices = choices
        self.low = low
        """Documented range; both ends belong to it, None is no end."""
        self.high = high
        self.length = length
        """Most bytes of a ``str``."""
        self.lookup = lookup
        """Part of what a record is found by: no update changes it."""
        self.secret = secret
        self.since = since
        """The open-iscsi release that first knew it, for keys newer than 2.1.8; such a key is stored and shown only
        where somebody set it, because an older libopeniscsiusr fails on it."""
        self.family = family
        """4 or 6 for the settings of an interface that belong to one IP version, else 0."""
        self.meaning = meaning

    @property
    def numeric(self) -> bool:
        """Whether values are numbers."""
        return self.kind in WIDTHS

    @property
    def allowed(self) -> str:
        """The values in words: ``manual, automatic or onboot``; ``a number from 512 to 16777215``."""
        if self.kind == "enum":
            return _one_of(self.choices)
        if self.kind == "list":
            return f"a comma separated list of {', '.join(self.choices)}"
        if self.kind == "str":
            return f"text of at most {self.length} bytes"
        low, high = self.range
        return f"a number from {low} to {high}"

    @property
    def range(self) -> tuple[int, int]:
        """Documented range of a number, the field's width where nothing is documented."""
        low, high = WIDTHS[self.kind]
        return low if self.low is None else self.low, high if self.high is None else self.high

    def __repr__(self) -> str:
        return f"Key({self.name!r}, {self.kind!r})"


def _one_of(choices: tuple[str, ...]) -> str:
    return f"{', '.join(choices[:-1])} or {choices[-1]}" if len(choices) > 1 else choices[0]


def check_value(key: Key, text: str) -> str:
    """``text`` in canonical form, or ValueError saying what ``key`` takes. The text itself is never in the message.

    An empty text is a value of strings and lists ("no value"), as in the peer.
    """
    if key.kind == "enum":
        if text not in key.choices:
            raise ValueError(f"it takes {key.allowed}")
        return text
    if key.kind == "list":
        return _check_list(key, text)
    if key.kind == "str":
        if len(text.encode("utf-8", "surrogateescape")) > key.length:
            raise ValueError(f"it takes {key.allowed}")
        if any(char < " " and char != "\t" for char in text):
            raise ValueError("it takes text without control characters")
        return text.strip()
    return str(_integer(key, text))


def _integer(key: Key, text: str) -> int:
    """The number ``text`` is; ValueError when it is none or does not fit the field."""
    low, high = WIDTHS[key.kind]
    digits = text[1:] if text[:1] in ("-", "+") else text
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 12):
        raise ValueError(f"it takes {key.allowed}")
    number = int(text)
    if not low <= number <= high:
        raise ValueError(f"it takes {key.allowed}")
    return number % 2**32 if key.kind == "serial" else number


def _check_list(key: Key, text: str) -> str:
    """``A,B`` of known words without repetition."""
    words = _words(text)
    if len(set(words)) != len(words) or not set(words) <= set(key.choices):
        raise ValueError(f"it takes {key.allowed}, each at most once")
    return ",".join(words)


def _words(text: str) -> list[str]:
    """The words of a list: commas, blanks and line ends separate them, as in the peer."""
    return text.replace(",", " ").split()


def known_words(key: Key, text: str) -> tuple[str, list[str]]:
    """What can be used of a ``list`` value and the words that cannot (unknown or repeated), each in order."""
    good: list[str] = []
    bad: list[str] = []
    for word in _words(text):
        if word in key.choices and word not in good:
            good.append(word)
        else:
            bad.append(word)
    return ",".join(good), bad


def advice(key: Key, text: str) -> str:
    """What is wrong with a value that is stored all the same, "" when nothing is: a number outside its range."""
    if not key.numeric or (key.low is None and key.high is None):
        return ""
    low, high = key.range
    try:
        inside = low <= int(text) <= high
    except ValueError:
        return ""
    return "" if inside else f"it takes {key.allowed}"
