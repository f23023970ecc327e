# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsiadm`` around its modes: which one runs, what its end becomes, and that nothing is printed by accident."""

from __future__ import annotations

import io
import json
import os
import socket
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iscsiboot.admin import kill
from iscsiboot.admin.context import Context, Paths
from iscsiboot.admin.main import MODULES, main
from iscsiboot.admin.options import MODES, Options, Usage, parse
from iscsiboot.errors import ExitCode, IscsiBootError, Stage

Mode = Callable[[Options, Context], int]


class Command:
    """Runs command lines with a mode of the test's own in the place of session mode."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self._monkeypatch = monkeypatch
        self.paths = Paths(config=f"{root}/iscsi", database=f"{root}/iscsi", sysfs=f"{root}/sys", run=f"{root}/run")
        self.out = io.StringIO()
        self.err = io.StringIO()

    def be(self, mode: Mode) -> None:
        module: Any = types.ModuleType("session_mode")
        module.run = mode
        self._monkeypatch.setitem(sys.modules, "iscsiboot.admin.session_mode", module)

    def raises(self, error: BaseException) -> None:
        def mode(options: Options, context: Context) -> int:
            context.say("before")
            raise error

        self.be(mode)

    def __call__(self, line: str) -> tuple[int, str, str]:
        status = main(line.split(), self.out, self.err, self.paths)
        return status, self.out.getvalue(), self.err.getvalue()


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    return Command(monkeypatch, tmp_path)


def test_a_mode_gets_the_options_the_paths_and_the_streams(command: Command) -> None:
    seen: list[tuple[Options, Context]] = []

    def mode(options: Options, context: Context) -> int:
        seen.append((options, context))
        context.say("a line")
        context.error("another")
        return 21

    command.be(mode)
    root = command.paths.database
    step = f"iscsiadm: session: database {root}, settings {root}/iscsid.conf\n"
    assert command("-m session -r 5 -d 3") == (21, "a line\n", f"{step}iscsiadm: another\n")
    options, context = seen[0]
    assert (options.sid, context.debug, context.json) == ("5", 3, False)
    assert context.paths is command.paths


def test_every_mode_has_a_module() -> None:
    assert set(MODULES) == set(MODES)
    folder = Path(sys.modules["iscsiboot.admin.main"].__file__ or "").parent
    assert [name for name in MODULES.values() if not (folder / f"{name}.py").is_file()] == []


def test_a_mistake_ends_before_any_mode(command: Command) -> None:
    command.be(lambda options, context: pytest.fail("the mode ran"))
    assert command("-m session -T x") == (
        7, "", "iscsiadm: session mode: option '-T' is not allowed/supported\n",
    )  # fmt: skip


def test_the_version(command: Command) -> None:
    assert command("-Q --version") == (0, "iscsiadm version 2.1.8\n", "iscsiadm: invalid option -- 'Q'\n")


def test_a_failure_is_one_line_and_its_own_status(command: Command) -> None:
    command.raises(
        IscsiBootError("no\nroom", stage=Stage.DATABASE, subject="/x", hint="make some", exit_code=ExitCode.IDBM)
    )
    assert command("-m session") == (6, "before\n", "iscsiadm: database: /x: no\\nroom; next: make some\n")


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (KeyboardInterrupt(), ExitCode.ERR, "iscsiadm: caught SIGINT, exiting...\n"),
        (MemoryError(), ExitCode.NOMEM, "iscsiadm: no available memory\n"),
        (
            KeyError("a"),
            ExitCode.INTERNAL,
            "iscsiadm: internal error: KeyError: 'a'; please report it, with what -d 8 prints\n",
        ),
        (
            PermissionError(13, "Permission denied", "/y"),
            ExitCode.INTERNAL,
            "iscsiadm: internal error: PermissionError: [Errno 13] Permission denied: '/y'; please report it, with what"
            " -d 8 prints\n",
        ),
        (
            Usage(err=["iscsiadm: Invalid loginall option x.", "Try it."], exit_code=ExitCode.INVAL),
            ExitCode.INVAL,
            "iscsiadm: Invalid loginall option x.\nTry it.\n",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_a_mode_raises_is_a_line_and_a_status(
    error: BaseException, status: int, line: str, command: Command
) -> None:
    command.raises(error)
    assert command("-m session") == (status, "before\n", line)


def test_debug_shows_the_way_to_a_fault(command: Command) -> None:
    command.raises(ZeroDivisionError("x"))
    status, _, err = command("-m session -d 1")
    assert status == ExitCode.INTERNAL
    assert err.splitlines()[2] == "Traceback (most recent call last):"
    assert err.endswith("ZeroDivisionError: x\n")


def test_what_stdout_cannot_take_is_the_callers(command: Command) -> None:
    """A pipe whose reader is gone, or a full disk, raises out of main: nobody could be told on stdout."""

    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(28, "No space left on device")

    command.raises(OSError(28, "No space left on device"))
    command.out = Full()
    with pytest.raises(OSError, match="No space left"):
        command("-m session")


def test_json_is_one_document_with_every_line(command: Command) -> None:
    command.raises(IscsiBootError("gone", stage=Stage.SESSION, exit_code=ExitCode.SESS_NOT_FOUND))
    status, out, err = command("-m session --json")
    document = json.loads(out)
    assert (status, err) == (2, "iscsiadm: session: gone\n")
    assert (document["exit_code"], document["messages"]) == (2, ["before"])
    assert [error["text"] for error in document["errors"]] == ["session: gone"]


@pytest.mark.parametrize("line", ["-m session --json -Q", "--json -r 0", "--json"])
def test_json_of_a_line_that_is_refused(line: str, command: Command) -> None:
    status, out, err = command(line)
    document = json.loads(out)
    assert document["exit_code"] == status != 0
    assert [f"iscsiadm: {error['text']}" for error in document["errors"]][-1].endswith(err.splitlines()[-1])


def test_json_of_a_line_told_on_stdout(command: Command) -> None:
    status, out, err = command(f"--json -m session -I {'i' * 65}")
    assert (status, json.loads(out)["exit_code"]) == (7, 7)
    assert "option '-I'" in err


def test_text_that_could_move_the_cursor_is_escaped(command: Command) -> None:
    status = main(["--\x1b[2J"], command.out, command.err, command.paths)
    assert (status, "\x1b" in command.err.getvalue()) == (7, False)


@pytest.mark.parametrize(
    ("terminal", "shown"),
    [(True, "Target: a\\x1b[2J\\x9b\\r\n\tPortal: é\n"), (False, "Target: a\x1b[2J\x9b\r\n\tPortal: é\n")],
    ids=["terminal", "pipe"],
)
def test_results_move_no_cursor_and_stay_as_they_are_for_programs(
    terminal: bool, shown: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command.out, "isatty", lambda: terminal)
    context = Context(paths=command.paths, out=command.out, err=command.err)
    context.say("Target: a\x1b[2J\x9b\r\n\tPortal: é")
    assert command.out.getvalue() == shown


@pytest.mark.parametrize("line", ["-m host", "-m host -C chap -o show -H 1", "-m host -P 4"])
def test_host_mode_says_that_it_is_not_there(line: str, command: Command) -> None:
    status, out, err = command(line)
    assert (status, out, err.count("\n")) == (ExitCode.OP_NOT_SUPP, "", 1)
    assert "is not supported yet" in err


NO_DAEMON = (
    "iscsiadm: can not connect to iSCSI daemon (111)!\n"
    "iscsiadm: initiator reported error (20 - could not connect to iscsid)\n"
    "iscsiadm: Could not stop iscsid. Trying sending iscsid SIGTERM or SIGKILL signals manually\n"
)


def stop(line: str, address: str) -> tuple[int, str]:
    err = io.StringIO()
    context = Context(paths=Paths(), out=io.StringIO(), err=err)
    return kill.run(parse(line.split()), context, address), err.getvalue()


def test_no_daemon_to_stop() -> None:
    assert stop("-k 0", f"\0iscsiboot-test-{os.getpid()}") == (0, NO_DAEMON)


def test_a_daemon_that_is_not_ours() -> None:
    address = f"\0iscsiboot-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(address)
        listener.listen(1)
        status, err = stop("-k 0", address)
    assert status == 0
    assert "initiator reported error (18 - could not communicate to iscsid)" in err


def test_a_priority_that_is_not_0() -> None:
    assert stop("-k 3", "") == (0, "iscsiadm: Invalid iscsid priority 3. Priority must be 0.\n")


def test_main_stops_the_daemon(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kill, "run", lambda options, context: options.kill)
    assert command("-k 5") == (5, "", "")
    assert command("--bogus -k 0")[2] == "iscsiadm: unrecognized option '--bogus'\n"


@pytest.mark.parametrize(
    ("existing", "database"),
    [
        (set(), "/etc/iscsi"),
        ({"/etc/iscsi/nodes"}, "/etc/iscsi"),
        ({"/var/lib/iscsi"}, "/var/lib/iscsi"),
        ({"/var/lib/iscsi", "/etc/iscsi/nodes"}, "/etc/iscsi"),
    ],
    ids=["nothing", "Debian", "Fedora", "both"],
)
def test_where_the_database_is(existing: set[str], database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: path in existing)
    paths = Paths.of_this_machine()
    assert (paths.database, paths.config) == (database, "/etc/iscsi")
