# SPDX-License-Identifier: LGPL-2.1-or-later
"""``--json``: one document for each command, written when the command ends.

A mode hands over what it found by :func:`emit`, as often as it likes and before it knows how the command will end.
:func:`finish` writes the document with the exit status, also after a failure; lines a mode only *says*, because nobody
made an object of them, are in it too. So every command gives a whole document, and stdout holds nothing else.

The schema is :mod:`iscsiboot.admin.json_schema`, docs/admin-json.md is made from it. Within a schema version fields may
be added; none is removed or changes its meaning.

Each object is one line, so that five thousand records are written by the C encoder and can be read line by line.
"""

from __future__ import annotations

from iscsiboot.errors import EXIT_TEXT, ExitCode, IscsiBootError, printable_values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, TextIO

    from iscsiboot.admin.context import Context

SCHEMA = "iscsiboot.iscsiadm/1"
OPTION = "--json"


def emit(context: Context, kind: str, objects: Iterable[dict[str, Any]]) -> None:
    """Take objects of one kind for this command's document, after those that came before.

    ``kind`` and the fields are those of :data:`iscsiboot.admin.json_schema.KINDS`. An empty list says what there is
    none of: it names the kind when it is the first.
    """
    if not context.kind:
        context.kind = kind
    context.objects.extend((kind, item) for item in objects)


def finish(context: Context, exit_code: int) -> None:
    """Write the document of a command that ends with ``exit_code``. OSError when stdout cannot take it."""
    failures = [{"text": line, "failure": failure_object(cause)} for line, cause in context.failures]
    _write(
        context.out,
        kind=context.kind,
        objects=[{"kind": kind, **item} for kind, item in context.objects],
        messages=context.said,
        notices=context.notices,
        errors=failures,
        exit_code=exit_code,
    )


def refuse(out: TextIO, lines: Sequence[str], exit_code: int, *, notices: Sequence[str] = ()) -> None:
    """Write the document of a command line that was refused before there was a context.

    ``lines`` are what stderr got, without the program's name.
    """
    errors = [{"text": line, "failure": None} for line in lines]
    _write(out, kind="", objects=[], messages=[], notices=list(notices), errors=errors, exit_code=exit_code)


def asked_for(argv: Sequence[str]) -> bool:
    """Whether a command line that cannot be parsed asks for a document."""
    return OPTION in argv


def failure_object(error: IscsiBootError | None) -> dict[str, object] | None:
    """The parts of a failure, as ``iscsiboot probe --json`` gives them; None when only the line is known."""
    return None if error is None else error.parts()


def _write(
    out: TextIO,
    *,
    kind: str,
    objects: list[dict[str, Any]],
    messages: list[str],
    notices: list[str],
    errors: list[dict[str, Any]],
    exit_code: int,
) -> None:
    # json costs more than all of a listing's other imports together, and few commands need it.
    import json

    def line(item: object) -> str:
        text = json.dumps(item)
        # Without an escape it is printable ASCII through and through, which nearly every object is; the look at each
        # text costs more than all the rest.
        return json.dumps(printable_values(item)) if "\\" in text else text

    def lines(items: Sequence[Any]) -> str:
        return "[" + ",".join(f"\n    {line(item)}" for item in items) + ("\n  ]" if items else "]")

    parts = [
        ("schema", json.dumps(SCHEMA)),
        ("kind", json.dumps(kind or None)),
        ("objects", lines(objects)),
        ("messages", lines(messages)),
        ("notices", lines(notices)),
        ("errors", lines(errors)),
        ("exit_code", str(int(exit_code))),
        ("exit_text", json.dumps(_exit_text(exit_code))),
    ]
    out.write("{\n" + ",\n".join(f'  "{name}": {text}' for name, text in parts) + "\n}\n")


def _exit_text(exit_code: int) -> str:
    try:
        return EXIT_TEXT[ExitCode(exit_code)]
    except ValueError:
        # A status of another kind, as the 130 of a program that was interrupted.
        return ""
