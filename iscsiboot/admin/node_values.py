# SPDX-License-Identifier: LGPL-2.1-or-later
"""``-n NAME -v VALUE``: what may be changed, and what open-iscsi says about what may not.

All names are checked before any value, and all values before anything is changed. The peer stores a number it cannot
read as 0 and cuts a text that is too long, without a word; here both are refused, in its words for a bad choice and
with the range behind them. It drops unknown words of a list and says so; so does this.
"""

from __future__ import annotations

from iscsiboot.database.keys import HIDDEN, advice, check_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from iscsiboot.admin.context import Context
    from iscsiboot.database.keys import Key


class Checked:
    """What became of the pairs of one command."""

    __slots__ = ("advice", "lines", "refused", "values", "wrong")

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        """What to store, in canonical form; later pairs win."""
        self.advice: list[str] = []
        """What is stored and may not do what was meant: a number outside its documented range."""
        self.lines: list[str] = []
        """What the peer says for each record these pairs go into."""
        self.refused = False
        """Whether nothing may be changed."""
        self.wrong = ""
        """The name that was refused, or whose value was."""

    def refuse(self, name: str, *lines: str) -> Checked:
        """Stop at ``name``: the values are not to be used."""
        self.lines.extend(lines)
        self.refused = True
        self.wrong = name
        return self

    def explain(self, kind: str, context: Context) -> None:
        """Behind the lines of a refusal, for a person: what a record of ``kind`` takes instead."""
        if self.refused and context.attentive:
            from iscsiboot.admin import hints  # only what goes wrong needs it

            context.notice(hints.setting(kind, self.wrong))


def check_pairs(pairs: Sequence[tuple[str, str]], known: Mapping[str, Key], *, closing: bool = True) -> Checked:
    """Look at every pair against the keys an object has.

    ``closing`` adds the line the peer's node mode closes a bad value with.
    """
    checked = Checked()
    for name, _ in pairs:
        if name in HIDDEN and name.removesuffix("_length") in known:
            # The peer takes it in an update, and it comes to nothing: no file holds it.
            continue
        key = known.get(name)
        if key is None:
            return checked.refuse(name, f"Cannot modify {name}. Invalid param name.")
        if key.lookup:
            line = f"Cannot modify {name}. It is used to look up the record and cannot be changed."
            return checked.refuse(name, line)
    for name, text in pairs:
        key = known.get(name)
        if key is None:
            continue
        if key.kind == "list":
            told = len(checked.lines)
            text = _usable_words(key, text, checked.lines)
            if len(checked.lines) > told:
                checked.advice.append(f"{name} takes {key.allowed}; it is {text or 'empty'} now")
        try:
            checked.values[name] = check_value(key, text)
        except ValueError as error:
            ending = (f"Unknown parameter {name}.",) if closing else ()
            return checked.refuse(name, _bad_value(key, text, error), *ending)
        warning = advice(key, checked.values[name])
        if warning:
            checked.advice.append(f"{name}: {warning}")
    return checked


def _bad_value(key: Key, text: str, error: ValueError) -> str:
    shown = "" if key.secret else f" '{text}'"
    line = f"unknown value format{shown} for parameter name '{key.name}'"
    # For a bad choice the peer's line is all there is; where it says nothing, the range is worth having.
    return line if key.kind == "enum" else f"{line}: {error}"


def _usable_words(key: Key, text: str, lines: list[str]) -> str:
    """The words of a list that count, in order; each other one is a line."""
    good: list[str] = []
    for word in text.replace("\n", ",").replace(" ", ",").split(","):
        if not word:
            continue
        if word not in key.choices:
            lines.append(f"Ignoring unknown value '{word}' for '{key.name}'")
        elif word in good:
            lines.append(f"Ignoring repeated value '{word}' for '{key.name}'")
        else:
            good.append(word)
    return ",".join(good)
