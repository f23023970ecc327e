# SPDX-License-Identifier: LGPL-2.1-or-later
"""``--json``: one whole document for each command, whatever it found and however it ended."""

from __future__ import annotations

import json
import subprocess
import sys
from io import StringIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.admin import json_out
from iscsiboot.admin.context import Context, Paths
from iscsiboot.admin.json_objects import node_object, target_object
from iscsiboot.admin.json_schema import DOCUMENT, KINDS, SHAPES
from iscsiboot.database.names import NodeKey
from iscsiboot.errors import EXIT_TEXT, ExitCode, IscsiBootError, Stage
from tests.unit.admin.json_documents import check


class Terminal(StringIO):
    """A stderr somebody looks at."""

    def isatty(self) -> bool:
        return True


def context(*, err: StringIO | None = None, debug: int = 0, json_wanted: bool = True) -> Context:
    return Context(paths=Paths(), out=StringIO(), err=err or StringIO(), debug=debug, json=json_wanted)


def written(run: Context) -> str:
    assert isinstance(run.out, StringIO)
    return run.out.getvalue()


def told(run: Context) -> str:
    assert isinstance(run.err, StringIO)
    return run.err.getvalue()


def target(name: str) -> dict[str, Any]:
    return target_object(NodeKey(name, "10.0.0.1", 3260, 1), "sendtargets")


def test_nothing_at_all_is_a_whole_document() -> None:
    run = context()
    json_out.finish(run, 0)
    assert check(written(run)) == {
        "schema": "iscsiboot.iscsiadm/1",
        "kind": None,
        "objects": [],
        "messages": [],
        "notices": [],
        "errors": [],
        "exit_code": 0,
        "exit_text": "",
    }


def test_the_text_is_this_one() -> None:
    """Readable for people and line by line for tools; programs that compare must not be surprised by a new layout."""
    run = context()
    json_out.emit(run, "target", [target("a")])
    json_out.finish(run, 6)
    assert written(run) == (
        '{\n  "schema": "iscsiboot.iscsiadm/1",\n  "kind": "target",\n  "objects": [\n'
        '    {"kind": "target", "target": "a", "portal": {"address": "10.0.0.1", "port": 3260, "tpgt": 1}, '
        '"iface": "default", "type": "sendtargets"}\n  ],\n'
        '  "messages": [],\n  "notices": [],\n  "errors": [],\n  "exit_code": 6,\n'
        '  "exit_text": "encountered iSCSI database failure"\n}\n'
    )


def test_objects_of_several_kinds_keep_their_order_and_the_first_kind_names_the_document() -> None:
    run = context()
    json_out.emit(run, "target", [target("iqn.2001-04.com.example:a")])
    json_out.emit(run, "node", [node_object(NodeKey("a", "10.0.0.1", 3260))])
    json_out.emit(run, "target", [target("iqn.2001-04.com.example:b")])
    json_out.emit(run, "session", [])
    json_out.finish(run, 0)
    document = check(written(run))
    assert document["kind"] == "target"
    assert [item["kind"] for item in document["objects"]] == ["target", "node", "target"]
    assert document["objects"][2]["target"] == "iqn.2001-04.com.example:b"


def test_an_empty_list_still_says_what_there_is_none_of() -> None:
    run = context()
    json_out.emit(run, "session", [])
    run.error("No active sessions.")
    json_out.finish(run, ExitCode.NO_OBJS_FOUND)
    document = check(written(run))
    assert (document["kind"], document["objects"]) == ("session", [])
    assert document["errors"] == [{"text": "No active sessions.", "failure": None}]
    assert (document["exit_code"], document["exit_text"]) == (21, "no objects found")
    assert told(run) == "iscsiadm: No active sessions.\n"


def test_objects_are_taken_from_any_iterable_once() -> None:
    run = context()
    json_out.emit(run, "target", (target(f"iqn.2001-04.com.example:{number}") for number in range(3)))
    json_out.finish(run, 0)
    assert len(check(written(run))["objects"]) == 3


def test_words_without_an_object_are_messages_and_stdout_holds_nothing_else() -> None:
    run = context()
    run.say("New interface eth1 added")
    assert written(run) == ""
    json_out.finish(run, 0)
    assert check(written(run))["messages"] == ["New interface eth1 added"]


def test_without_json_words_go_out_at_once_and_nothing_is_kept() -> None:
    run = context(json_wanted=False)
    run.say("a")
    run.error("b")
    run.notice("c")
    assert (written(run), told(run)) == ("a\n", "iscsiadm: b\n")
    assert (run.said, run.failures, run.notices) == ([], [], [])


@pytest.mark.parametrize("debug", [0, 1])
@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])
def test_notices_are_in_the_document_and_on_stderr_only_for_people(debug: int, terminal: bool) -> None:
    run = context(err=Terminal() if terminal else StringIO(), debug=debug)
    run.notice("unknown key a.b kept")
    run.notice("unknown key a.b kept")
    json_out.finish(run, 0)
    document = check(written(run))
    assert document["notices"] == ["unknown key a.b kept"]
    assert document["errors"] == []
    assert told(run) == ("iscsiadm: unknown key a.b kept\n" if debug or terminal else "")


def test_a_failure_keeps_its_parts() -> None:
    run = context()
    failure = IscsiBootError(
        "connection refused",
        stage=Stage.CONNECT,
        subject="10.0.0.1:3260",
        hint="start the target",
        exit_code=ExitCode.TRANS_TIMEOUT,
        retryable=True,
    )
    run.error("Could not login to [iface: default].", failure)
    run.error("Could not log into all portals")
    json_out.finish(run, 8)
    assert check(written(run))["errors"] == [
        {
            "text": "Could not login to [iface: default].",
            "failure": {
                "stage": "connect",
                "subject": "10.0.0.1:3260",
                "cause": "connection refused",
                "hint": "start the target",
                "exit_code": 8,
                "retryable": True,
            },
        },
        {"text": "Could not log into all portals", "failure": None},
    ]


@pytest.mark.parametrize("code", list(ExitCode), ids=lambda code: code.name)
def test_every_exit_code_has_its_words(code: ExitCode) -> None:
    run = context()
    json_out.finish(run, code)
    document = check(written(run))
    assert (document["exit_code"], document["exit_text"]) == (int(code), EXIT_TEXT[code])


def test_a_status_of_another_kind_has_no_words() -> None:
    run = context()
    json_out.finish(run, 130)
    assert check(written(run))["exit_text"] == ""


@pytest.mark.parametrize(
    ("argv", "asked"),
    [
        (["-m", "node", "--json", "--bogus"], True),
        (["--json"], True),
        (["-m", "node", "--js"], False),
        (["--json=1"], False),
        (["--jsonx"], False),
        (["-m", "node"], False),
        (["--"], False),
        ([], False),
    ],
    ids=str,
)
def test_who_asked_for_a_document(argv: list[str], asked: bool) -> None:
    assert json_out.asked_for(argv) is asked


def test_a_refused_command_line_is_a_document_too() -> None:
    out = StringIO()
    json_out.refuse(out, ["iscsiadm: unrecognized option '--bogus'", "no mode specified"], 7)
    document = check(out.getvalue())
    assert [item["text"] for item in document["errors"]] == [
        "iscsiadm: unrecognized option '--bogus'",
        "no mode specified",
    ]
    assert document["exit_text"] == "invalid parameter"


@pytest.mark.parametrize(
    ("given_text", "shown"),
    [
        ("plain", "plain"),
        ("Gr\u00fc\u00dfe \u6f22", "Gr\u00fc\u00dfe \u6f22"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("a\nb", "a\\nb"),
        ("\udcff\udc80", "\\udcff\\udc80"),
        ("\u202eevil", "\\u202eevil"),
        ("\0", "\\x00"),
        ("a\x7fb", "a\\x7fb"),
        ("C:\\n", "C:\\n"),
        ('say "no"', 'say "no"'),
    ],
    ids=["plain", "letters", "escape", "break", "lone bytes", "direction", "zero", "DEL", "backslash", "quotes"],
)
def test_texts_from_outside_are_printable(given_text: str, shown: str) -> None:
    run = context()
    json_out.emit(run, "target", [target(given_text)])
    run.say(given_text)
    run.error(given_text)
    json_out.finish(run, 0)
    document = check(written(run))
    (item,) = document["objects"]
    assert item["target"] == shown
    assert document["messages"] == [shown]
    assert document["errors"][0]["text"] == shown


def test_keys_of_records_are_printable_too() -> None:
    run = context()
    json_out.emit(
        run,
        "node",
        [{"target": "t", "portal": {"address": "a", "port": 1, "tpgt": None}, "iface": "i", "record": {"\x1b": "v"}}],
    )
    json_out.finish(run, 0)
    assert check(written(run))["objects"][0]["record"] == {"\\x1b": "v"}


@given(st.text())
def test_any_text_comes_out_printable_and_printable_text_unchanged(text: str) -> None:
    run = context()
    json_out.emit(run, "target", [target(text)])
    json_out.finish(run, 0)
    (item,) = check(written(run))["objects"]
    assert item["target"].isprintable()
    assert item["target"] == text or not text.isprintable()


@given(st.lists(st.text()), st.lists(st.text()), st.integers(0, 255))
def test_any_text_and_status_make_a_document(messages: list[str], errors: list[str], status: int) -> None:
    run = context()
    for line in messages:
        run.say(line)
    for line in errors:
        run.error(line)
    json_out.finish(run, status)
    document = check(written(run))
    assert len(document["messages"]) == len(messages)
    assert len(document["errors"]) == len(errors)
    assert document["exit_code"] == status


def test_the_checker_finds_what_is_wrong() -> None:
    """A checker that accepts everything would make all these tests worthless."""
    run = context()
    json_out.emit(run, "target", [target("iqn.2001-04.com.example:a")])
    json_out.finish(run, 0)
    good = json.loads(written(run))
    check(json.dumps(good) + "\n")

    def broken(change: str, value: object) -> str:
        copy = json.loads(json.dumps(good))
        place: Any = copy
        *path, last = change.split(".")
        for step in path:
            place = place[int(step)] if step.isdigit() else place[step]
        place[last] = value
        return json.dumps(copy) + "\n"

    for change, value in (
        ("schema", "iscsiboot.iscsiadm/2"),
        ("kind", "targets"),
        ("exit_code", "0"),
        ("exit_code", True),
        ("extra", 1),
        ("objects.0.kind", "session"),
        ("objects.0.target", None),
        ("objects.0.portal.port", "3260"),
        ("objects.0.portal.more", 1),
        ("errors", [{"text": "a"}]),
        ("messages", [1]),
    ):
        with pytest.raises(AssertionError):
            check(broken(change, value))
    for text in (json.dumps(good), json.dumps(good) + "\n\n", "x" + json.dumps(good) + "\n", "\u00fc}\n"):
        with pytest.raises((AssertionError, json.JSONDecodeError)):
            check(text)


def test_every_type_of_the_schema_exists() -> None:
    words = {"text", "number", "flag", "texts", "numbers", "object", *SHAPES}
    rows = [*DOCUMENT, *(row for shape in SHAPES.values() for row in shape)]
    rows += [row for _, fields in KINDS.values() for row in fields]
    for name, kind, meaning in rows:
        base = kind.removesuffix("?").removeprefix("[").removesuffix("]")
        assert base in words, f"{name}: {kind}"
        assert "|" not in meaning, f"{name}: the page is made of tables"
    for fields in (DOCUMENT, *SHAPES.values(), *(fields for _, fields in KINDS.values())):
        names = [name for name, _, _ in fields]
        assert len(set(names)) == len(names)
        assert "kind" not in names or fields is DOCUMENT, "kind is every object's own first field"


def test_a_full_stdout_is_an_error_for_the_caller() -> None:
    class Full(StringIO):
        def write(self, _: str) -> int:
            raise OSError(28, "No space left on device")

    run = Context(paths=Paths(), out=Full(), err=StringIO(), json=True)
    with pytest.raises(OSError, match="No space left"):
        json_out.finish(run, 0)


def test_the_module_is_lean() -> None:
    code = (
        "import sys; import iscsiboot.admin.json_out, iscsiboot.admin.context; "
        "print([name for name in ('json', 'typing', 'dataclasses', 'pathlib', 'contextlib') if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, '.'); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == "[]\n"
