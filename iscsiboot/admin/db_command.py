# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsiboot db check [--fix] [--json]``: is the record database in order, and mend what is safe to mend.

The machine's own database is looked at with iscsid.conf and initiatorname.iscsi, that of ``--root`` alone. Options,
exit statuses, kinds of findings and the fields of the JSON document are tables here; the help and iscsiboot-db(8) are
made from them.
"""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Sequence
from typing import TextIO

from iscsiboot.admin.context import Paths
from iscsiboot.admin.db_configuration import check_configuration
from iscsiboot.database.check import check
from iscsiboot.database.finding import Finding
from iscsiboot.errors import ExitCode, IscsiBootError, Stage, printable, quoted

SCHEMA = "iscsiboot.db-check/1"


SUMMARY = """\
Looks for damaged and contradicting records, links that lead nowhere or are missing, modes that let others read secrets,
empty folders, unknown and bad values, and what killed programs left behind. Without --root also what is wrong with
iscsid.conf and initiatorname.iscsi.
"""

OPTIONS: tuple[tuple[str, str, str], ...] = (
    (
        "--fix",
        "",
        "mend what is safe to mend; nothing that can be read as a record is removed, what cannot is moved to "
        "DIR/.iscsiboot/damaged",
    ),
    ("--json", "", "one JSON document"),
    ("--root", "DIR", "the database (default: that of this machine)"),
    ("--timeout", "SECONDS", "with --fix, seconds to wait for a program that is writing (default 30)"),
)
"""Option, its value, its meaning."""

STATUSES: dict[ExitCode, str] = {
    ExitCode.SUCCESS: "Everything is in order, was mended, or is only worth knowing.",
    ExitCode.IDBM: "Something needs somebody, or the database cannot be read or written.",
    ExitCode.INVAL: "The command line is wrong.",
    ExitCode.BUSY: "With --fix: another program was writing for all of the time.",
}
"""Exit status -> when it comes."""

KINDS: dict[str, str] = {
    "damaged": "What should be a record or a folder is none, or cannot be read. Records are moved away by --fix.",
    "contradiction": "A record says another target, portal or interface than its place in the tree.",
    "value": "A key nobody knows or a value that cannot be meant, in a record or a configuration file. A note.",
    "link": "A link of a discovery leads nowhere, or a record has none. Removed or made by --fix.",
    "mode": "Others than the owner may read a file or folder with secrets. Tightened by --fix below the root.",
    "empty": "A folder without anything in it. Removed by --fix.",
    "foreign": "Something that does not belong into the tree. A note: it is left alone.",
    "leftover": "A temporary file of a program that was ended while it wrote. Removed by --fix.",
    "old-style": "A portal has records with a portal group tag and one without, as old releases wrote it. A note.",
    "lock": "A lock of open-iscsi whose holder is gone; its programs wait for it. Removed by --fix.",
}
"""What a finding is about."""

DOCUMENT: tuple[tuple[str, str], ...] = (
    ("schema", f"{SCHEMA}; within it fields may be added, none is removed or changes its meaning"),
    ("root", "the database that was looked at"),
    ("records", "how many records were read"),
    ("findings", "a list, in the order of the tree"),
    ("left", "how many findings need somebody; 0 with exit status 0"),
)
FINDING: tuple[tuple[str, str], ...] = (
    ("kind", "one of those above"),
    ("path", "the file or folder"),
    ("text", "what is wrong with it; a secret is never in it"),
    ("mended", "what was done about it, empty for nothing"),
    ("note", "true when it is only worth knowing"),
)
"""Fields of the JSON document and of each of its findings, in order."""


_COLUMN = 13
"""Where the meanings of the options begin."""


def usage() -> str:
    """The help text, made from the table."""
    words = [f"[{name} {value}]" if value else f"[{name}]" for name, value, _ in OPTIONS]
    lines = [f"usage: iscsiboot db check {' '.join(words)}", "", SUMMARY]
    for name, _, meaning in OPTIONS:
        first, *more = textwrap.wrap(meaning, 120 - _COLUMN, break_long_words=False, break_on_hyphens=False)
        lines += [f"  {name:<{_COLUMN - 2}}{first}", *(" " * _COLUMN + line for line in more)]
    return "\n".join(lines) + "\n"


class _Options:
    """What the command line said."""

    __slots__ = ("fix", "json", "root", "timeout")

    def __init__(self) -> None:
        self.fix = False
        self.json = False
        self.root = ""
        self.timeout = 30.0


def _parse(argv: Sequence[str]) -> _Options:
    """The options; IscsiBootError (exit status 7) says which word is wrong."""
    options = _Options()
    words = list(argv)
    if not words or words.pop(0) != "check":
        raise _wrong("the one thing to do is `check`")
    while words:
        word, given, value = words.pop(0).partition("=")
        if word in ("--fix", "--json") and not given:
            setattr(options, word[2:], True)
        elif word in ("--root", "--timeout"):
            if not given and not words:
                raise _wrong(f"{word} needs a value")
            text = value if given else words.pop(0)
            if word == "--root":
                options.root = text
            else:
                options.timeout = _seconds(text)
        else:
            raise _wrong(f"{quoted(word)} is no option")
    if options.root and not options.root.startswith("/"):
        raise _wrong("--root takes an absolute path, for links in the database are absolute")
    return options


def _seconds(text: str) -> float:
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise _wrong("--timeout takes whole seconds")
    return float(text)


def _wrong(cause: str) -> IscsiBootError:
    return IscsiBootError(cause, stage=Stage.ARGUMENTS, hint="iscsiboot db --help", exit_code=ExitCode.INVAL)


def main(argv: Sequence[str], out: TextIO, _err: TextIO, paths: Paths | None = None) -> int:
    """Run ``iscsiboot db``; the exit status. Nothing goes to the error stream: a failure is an exception."""
    if any(word in ("-h", "--help") for word in argv):
        out.write(usage())
        return ExitCode.SUCCESS
    options = _parse(argv)
    places = paths or Paths.of_this_machine()
    root = options.root or places.database
    if options.root and not os.path.isdir(root):  # noqa: PTH112 - paths are text here
        raise IscsiBootError(
            "no such folder",
            stage=Stage.DATABASE,
            subject=root,
            hint="give the one that holds nodes",
            exit_code=ExitCode.IDBM,
        )
    findings, records = check(root, fix=options.fix, run=places.run, proc=places.proc, timeout=options.timeout)
    if not options.root:
        findings += check_configuration(places)
    left = [finding for finding in findings if not finding.is_note and not finding.mended]
    if options.json:
        _write_json(out, root, records, findings, len(left))
    else:
        for finding in findings:
            out.write(printable(finding.line()) + "\n")
        out.write(f"{printable(root)}: {_summary(records, findings, len(left), fix=options.fix)}\n")
    return ExitCode.IDBM if left else ExitCode.SUCCESS


def _summary(records: int, findings: list[Finding], left: int, *, fix: bool) -> str:
    """``12 records, 3 findings, 1 mended, 2 to look at``."""
    words = [_count(records, "record")]
    if findings:
        words.append(_count(len(findings), "finding"))
    mended = sum(1 for finding in findings if finding.mended)
    if mended:
        words.append(f"{mended} mended")
    if left:
        words.append(f"{left} to look at" + ("" if fix else " (--fix mends what is safe to mend)"))
    return ", ".join(words) if findings else f"{words[0]}, all in order"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _write_json(out: TextIO, root: str, records: int, findings: list[Finding], left: int) -> None:
    document = {
        "schema": SCHEMA,
        "root": printable(root),
        "records": records,
        "findings": [
            {
                "kind": finding.kind,
                "path": printable(finding.path),
                "text": printable(finding.text),
                "mended": printable(finding.mended),
                "note": finding.is_note,
            }
            for finding in findings
        ],
        "left": left,
    }
    json.dump(document, out, indent=1)
    out.write("\n")
