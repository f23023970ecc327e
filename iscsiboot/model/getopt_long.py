# SPDX-License-Identifier: LGPL-2.1-or-later
"""Splits a command line as GNU getopt_long does: clusters, attached values, abbreviations, words in any place.

Python's own ``getopt`` has other words for the same mistakes, and stops at the first. Programs read glibc's words, and
the peer goes on after a mistake (``-Q -V`` complains and prints the version), so a scan gives every option and every
mistake in order and decides nothing.

Options of ours that the peer does not have take part only when written out in full. An abbreviation that is unambiguous
there is so here, and one that is ambiguous there names the same possibilities.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class OptionSpec:
    """One option: its letter (empty: none), its long name, and whether a value follows."""

    __slots__ = ("letter", "long", "ours", "takes_value")

    def __init__(self, letter: str, long: str, *, takes_value: bool, ours: bool = False) -> None:
        self.letter = letter
        self.long = long
        self.takes_value = takes_value
        self.ours = ours


class Found:
    """One option of a command line, or one mistake (then ``spec`` is None)."""

    __slots__ = ("character", "complaint", "spec", "value", "word")

    def __init__(
        self,
        spec: OptionSpec | None,
        value: str = "",
        complaint: str = "",
        character: str | None = None,
        word: str = "",
    ) -> None:
        self.spec = spec
        self.value = value
        self.complaint = complaint
        """glibc's line about the mistake."""
        self.character = character
        """The letter glibc leaves in ``optopt`` after a mistake; empty for a long option that does not exist."""
        self.word = word
        """The option as it was written, when there is none of that name."""


def scan(
    argv: Sequence[str],
    program: str,
    specs: Sequence[OptionSpec],
    *,
    in_order: bool = False,
    words: list[str] | None = None,
) -> list[Found]:
    """The options of ``argv`` (without the program's name) in order; words that belong to none go to ``words``.

    ``program`` is the name mistakes are told with. ``in_order`` stops at the first word that belongs to no option, as
    POSIXLY_CORRECT asks for. ``--`` ends the options.
    """
    found: list[Found] = []
    others = [] if words is None else words
    rest = iter(argv)
    for word in rest:
        if word == "--":
            break
        if word.startswith("--"):
            found.append(_long(word[2:], rest, program, specs))
        elif word.startswith("-") and word != "-":
            found += _cluster(word[1:], rest, program, specs)
        else:
            others.append(word)
            if in_order:
                break
    others.extend(rest)
    return found


def _cluster(letters: str, rest: Iterator[str], program: str, specs: Sequence[OptionSpec]) -> Iterator[Found]:
    """``-Dlp VALUE``, ``-DlpVALUE``: letters until one that takes a value."""
    for place, letter in enumerate(letters):
        spec = next((spec for spec in specs if spec.letter == letter), None)
        if spec is None:
            complaint = f"{program}: invalid option -- '{letter}'"
            yield Found(None, complaint=complaint, character=letter, word=f"-{letter}")
        elif not spec.takes_value:
            yield Found(spec)
        else:
            value = letters[place + 1 :] or next(rest, None)
            if value is None:
                complaint = f"{program}: option requires an argument -- '{letter}'"
                yield Found(None, complaint=complaint, character=letter)
            else:
                yield Found(spec, value)
            return


def _long(text: str, rest: Iterator[str], program: str, specs: Sequence[OptionSpec]) -> Found:
    """``name``, ``name=value``, ``nam VALUE``: the exact name, or the only one that begins so."""
    name, separator, value = text.partition("=")
    spec = next((spec for spec in specs if spec.long == name), None)
    if spec is None:
        candidates = [spec for spec in specs if not spec.ours and spec.long.startswith(name)]
        if not candidates:
            complaint = f"{program}: unrecognized option '--{text}'"
            return Found(None, complaint=complaint, character="", word=f"--{name}")
        if len(candidates) > 1:
            names = " ".join(f"'--{spec.long}'" for spec in candidates)
            complaint = f"{program}: option '--{text}' is ambiguous; possibilities: {names}"
            return Found(None, complaint=complaint, character="")
        spec = candidates[0]
    if separator:
        if spec.takes_value:
            return Found(spec, value)
        complaint = f"{program}: option '--{spec.long}' doesn't allow an argument"
        return Found(None, complaint=complaint, character=spec.letter)
    if not spec.takes_value:
        return Found(spec)
    following = next(rest, None)
    if following is None:
        complaint = f"{program}: option '--{spec.long}' requires an argument"
        return Found(None, complaint=complaint, character=spec.letter)
    return Found(spec, following)
