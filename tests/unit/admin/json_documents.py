# SPDX-License-Identifier: LGPL-2.1-or-later
"""Holds a ``--json`` document against the rows of iscsiboot.admin.json_schema. Also for the tests of the modes.

``check(text)`` is all they need: the document when it keeps to the schema, else an AssertionError naming the place.
"""

from __future__ import annotations

import json
from typing import Any

from iscsiboot.admin.json_schema import DOCUMENT, KINDS, SHAPES, Row

Document = dict[str, Any]

_PLAIN = {"text": (str,), "number": (int, float), "flag": (bool,)}
"""What JSON gives for each; to Python True is a number too."""


def check(text: str) -> Document:
    """The one document of a command, checked field by field; the text must hold nothing else."""
    assert text.endswith("}\n"), "a document ends with one line break"
    assert text.isascii(), "only escapes carry other characters, whatever the terminal"
    document = json.loads(text)
    _fields(document, DOCUMENT, "document")
    assert document["schema"] == "iscsiboot.iscsiadm/1"
    assert document["kind"] is None or document["kind"] in KINDS
    return dict(document)


def _fields(value: object, rows: tuple[Row, ...], where: str) -> None:
    assert isinstance(value, dict), f"{where} is {type(value).__name__}"
    assert list(value) == [name for name, _, _ in rows], f"{where} has the fields {list(value)}"
    for name, kind, _ in rows:
        _value(value[name], kind, f"{where}.{name}")


def _value(value: object, kind: str, where: str) -> None:
    if kind.endswith("?"):
        if value is None:
            return
        kind = kind[:-1]
    assert value is not None, f"{where} is null"
    if kind.startswith("["):
        assert isinstance(value, list), f"{where} is no list"
        for index, item in enumerate(value):
            _value(item, kind[1:-1], f"{where}[{index}]")
    elif kind == "object":
        assert isinstance(value, dict), f"{where} is no object"
        assert value["kind"] in KINDS, f"{where} is of kind {value['kind']!r}"
        _fields(value, (("kind", "text", ""), *KINDS[value["kind"]][1]), where)
    elif kind in SHAPES:
        _fields(value, SHAPES[kind], where)
    elif kind in ("texts", "numbers"):
        assert isinstance(value, dict), f"{where} is no object"
        for name, item in value.items():
            _value(item, kind[:-1], f"{where}.{name}")
    else:
        assert type(value) in _PLAIN[kind], f"{where} is {value!r}, not {kind}"
