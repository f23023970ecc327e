# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes everything that says what options and settings there are, from the tables the program runs by.

``python3 -m tools.manual`` writes the files of :data:`FILES`: manual pages, docs/admin-json.md, the iscsid.conf that is
installed, and the completions of three shells. tests/architecture/test_manual.py holds that what is committed is what
this makes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from iscsiboot.admin.json_schema import DOCUMENT, KINDS, SHAPES, Row
from iscsiboot.admin.options import MODES, OPTIONS, Option
from iscsiboot.admin.usage import synopsis
from iscsiboot.errors import EXIT_TEXT
from tools import completion_iscsiboot
from tools import manual_words as words
from tools.completion_bash import bash
from tools.completion_fish import fish
from tools.completion_zsh import zsh
from tools.default_conf import default_conf
from tools.manual_conf import conf_page
from tools.manual_db import db_page
from tools.manual_iscsid import iscsid_page
from tools.manual_roff import bold, italic, item, literal, page, paragraphs, section, subsection

ROOT = Path(__file__).resolve().parents[1]


def iscsiadm_page() -> str:
    """iscsiadm(8)."""
    return page(
        "ISCSIADM",
        8,
        [
            section("NAME", [literal("iscsiadm") + " \\- " + literal("find iSCSI targets and log in to them")]),
            section("SYNOPSIS", _synopses()),
            section("DESCRIPTION", paragraphs(words.DESCRIPTION)),
            section("MODES", *(subsection(mode, paragraphs(words.MODES[mode])) for mode in MODES)),
            section("OPTIONS", *(_option(option) for option in OPTIONS)),
            section("JSON", paragraphs(words.JSON)),
            section("EXIT STATUS", paragraphs(words.EXIT_STATUS), *(_status(code) for code in EXIT_TEXT)),
            section("FILES", *(item(bold(path), text) for path, text in words.FILES)),
            section("EXAMPLES", *(item(bold(line), text) for line, text in words.EXAMPLES)),
            section("SEE ALSO", paragraphs(words.SEE_ALSO)),
        ],
        source="iscsiboot/admin/options.py and tools/manual_words.py",
    )


def _synopses() -> list[str]:
    lines = []
    for mode in MODES:
        lines += [bold(f"iscsiadm -m {mode}") + literal(synopsis(mode).removeprefix(f"iscsiadm -m {mode}")), ".br"]
    return [*lines, f"{bold('iscsiadm -k')} 0", ".br", f"{bold('iscsiadm -V')} | {bold('-h')}"]


_TYPED = re.compile(r"[a-z0-9]+(?:,|\[| \(| or )")


def _option(option: Option) -> list[str]:
    """``-p, --portal=PORTAL``, its meaning, and where it is allowed."""
    long = bold(f"--{option.long}") + (f"={italic(option.argument)}" if option.argument else "")
    head = f"{bold(f'-{option.letter}')}, {long}" if option.letter else long
    # A meaning that begins with what is typed keeps it as it is typed.
    begins = option.meaning if _TYPED.match(option.meaning) else f"{option.meaning[:1].upper()}{option.meaning[1:]}"
    body = f"{begins}."
    if extra := words.OPTIONS.get(option.long):
        body += f" {extra}"
    if option.modes and option.modes != set(MODES):
        body += f" Modes: {', '.join(mode for mode in MODES if mode in option.modes)}."
    return item(head, body)


def _status(code: int) -> list[str]:
    name = next(known for known in EXIT_TEXT if known == code)
    text = EXIT_TEXT[name].rstrip(".")
    return item(bold(str(int(code))), words.SITUATIONS[name] + (f" In words: {text}." if text else ""))


def admin_json() -> str:
    """docs/admin-json.md."""
    parts = [
        "# The JSON of `iscsiadm --json`",
        "Made from `iscsiboot/admin/json_schema.py` by `python3 -m tools.manual`; change the table, not this page.",
        "Standard output holds one document and nothing else, in every mode, also when the command fails or its "
        "command line is wrong; the help and the version stay text. Standard error and the exit status are the same as "
        "without `--json`. Within schema `iscsiboot.iscsiadm/1` fields may be added; none is removed or changes its "
        "meaning.",
        "The text is ASCII. Every text in it is printable: what is not, or is no UTF-8, is escaped as `\\x1b`. Each "
        "object is one line of the text. What is empty, unknown or not asked for is `null`. Secrets are `********`, or "
        "null, unless `--show` is given.",
        "Types: `text`, `number`, `flag` (true or false), `texts` and `numbers` (an object of such values, by key), "
        "`[x]` a list of x, `x?` x or null; any other word is a shape below.",
        "## document",
        _table(DOCUMENT),
        "# Kinds",
    ]
    for kind, (text, rows) in KINDS.items():
        parts += [f"## {kind}", text, _table((("kind", "text", f"`{kind}`"), *rows))]
    parts.append("# Shapes")
    for shape, rows in SHAPES.items():
        parts += [f"## {shape}", _table(rows)]
    return "\n\n".join(parts) + "\n"


def _table(rows: tuple[Row, ...]) -> str:
    lines = ["| field | type | what |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| `{name}` | {kind} | {text} |".replace("|  |", "| |") for name, kind, text in rows)])


FILES: Mapping[str, Callable[[], str]] = {
    "docs/man/iscsiadm.8": iscsiadm_page,
    "docs/man/iscsid.conf.5": conf_page,
    "docs/man/iscsiboot-db.8": db_page,
    "docs/man/iscsid.8": iscsid_page,
    "docs/admin-json.md": admin_json,
    "etc/iscsid.conf": default_conf,
    "programs/completion/iscsiadm.bash": bash,
    "programs/completion/iscsiadm.zsh": zsh,
    "programs/completion/iscsiadm.fish": fish,
    "programs/completion/iscsiboot.bash": completion_iscsiboot.bash,
    "programs/completion/iscsiboot.zsh": completion_iscsiboot.zsh,
    "programs/completion/iscsiboot.fish": completion_iscsiboot.fish,
}
"""File -> what makes it."""


def main() -> None:
    """Write every file."""
    for name, make in FILES.items():
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(make())


if __name__ == "__main__":
    main()
