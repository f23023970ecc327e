# SPDX-License-Identifier: LGPL-2.1-or-later
"""iscsiboot status as people and programs see it: text, JSON, exit status, and the watch over the real socket."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.ipc import client
from iscsiboot.ipc.protocol import Request
from iscsiboot.ipc.serving import Reply
from iscsiboot.keeper.values import Status
from iscsiboot.toolkit import status as command
from iscsiboot.toolkit import status_render as render
from iscsiboot.toolkit.status import Watched, exit_status, main, parser, watch
from iscsiboot.toolkit.status_view import Guard, Kind, Machine, View, look
from tests.doubles.sysfs_tree import SysfsTree
from tests.unit.ipc.ipc_kit import Daemon
from tests.unit.toolkit.status_support import NOW, TARGET, absent, machine, refusing, status, told

ROOT = Path(__file__).resolve().parents[3]
DAEMON = Guard(kind=Kind.DAEMON, pid=812, version="1.2", since=NOW - 10800, standby=815)
WAITING = status(
    2,
    phase="waiting",
    role="data",
    uses=(),
    since=NOW - 12,
    detail="next attempt in 2 s, 4 so far",
    last_error="connect: 10.0.0.1:3260: connection refused; next: check that the target runs",
    last_error_at=NOW - 2,
    recoveries=0,
    recovery_tmo=120,
    noop_interval=0,
    noop_timeout=0,
)
UNASKED = IscsiBootError("root only", stage=Stage.DAEMON, subject="iscsid", hint="be root", exit_code=ExitCode.ACCESS)


def test_what_people_see() -> None:
    sessions = (
        status(1, connected="10.0.0.9:3260"),
        WAITING,
        status(13, uses=(), role="data", source="sysfs", unknown=("the CHAP secret",), since=0.0, target="", portal=""),
    )
    assert render.text(View(guard=DAEMON, sessions=sessions), NOW) == (
        "iscsid 1.2 (process 812, up 3 h) guards 3 sessions, 1 not connected.\n"
        "Process 815 takes its place when it is gone.\n"
        "\n"
        "SID  STATE      FOR   ROLE  HEALED  TARGET                        PORTAL\n"
        "  1  connected  2 h   root  2       iqn.2026-01.org.example:root  10.0.0.1:3260 -> 10.0.0.9:3260\n"
        "     sda1 on sda is mounted on /\n"
        "     commands wait for a connection for ever; pings every 5 s, answered within 10 s\n"
        "  2  waiting    12 s  data  0       iqn.2026-01.org.example:root  10.0.0.1:3260\n"
        "     commands wait for a connection 120 s, then they fail; no pings\n"
        "     next attempt in 2 s, 4 so far\n"
        "     last error 2.0 s ago: connect: 10.0.0.1:3260: connection refused; next: check that the target runs\n"
        " 13  connected  -     data  2       -                             10.0.0.1:3260\n"
        "     known from sysfs; not known: the CHAP secret\n"
    )


@pytest.mark.parametrize(
    ("guard", "sessions", "line"),
    [
        (Guard(kind=Kind.DAEMON), (), "iscsid guards no session."),
        (Guard(kind=Kind.DAEMON, pid=1), (status(),), "iscsid (process 1) guards 1 session."),
        (
            Guard(kind=Kind.KEEPER, pid=99),
            (status(),),
            "The keeper (process 99) guards 1 session; iscsid does not answer requests.",
        ),
        (Guard(kind=Kind.FOREIGN), (status(),), "Another program's iscsid runs; the kernel shows 1 session."),
        (Guard(kind=Kind.UNKNOWN), (), "Who guards is not known; the kernel shows no session."),
        (Guard(kind=Kind.NOBODY), (), "There is no session, and iscsid does not run."),
        (
            Guard(kind=Kind.NOBODY),
            (status(phase="down"), status(2)),
            "Nobody guards: 2 sessions, 1 not connected. A connection that breaks stays broken; "
            "next: systemctl start iscsid.service",
        ),
    ],
)
def test_who_guards_in_words(guard: Guard, sessions: tuple[Status, ...], line: str) -> None:
    assert next(render.headlines(View(guard=guard, sessions=sessions), NOW)) == line


def test_what_keeps_a_daemon_is_told() -> None:
    guard = Guard(kind=Kind.DAEMON, ready=False, hanging=("scan of host3",))
    assert list(render.headlines(View(guard=guard), NOW))[1:] == [
        "It is still taking over what it found.",
        "Hangs in the kernel: scan of host3.",
    ]


@pytest.mark.parametrize("ready", [True, False])
def test_a_kernel_without_iscsi_is_told_once_the_daemon_has_looked(ready: bool) -> None:
    """After an update of the kernel "guards no session" alone sends nobody to the modules."""
    guard = Guard(kind=Kind.DAEMON, ready=ready, kernel=False)
    told = [line for line in render.headlines(View(guard=guard), NOW) if "modprobe iscsi_tcp" in line]
    assert len(told) == ready
    assert render.guard_object(guard)["kernel"] is False


@pytest.mark.parametrize(
    ("guard", "sessions", "code"),
    [
        (DAEMON, (status(),), 0),
        (DAEMON, (), 0),
        (DAEMON, (status(), WAITING), 32),
        (Guard(kind=Kind.KEEPER), (status(),), 0),
        (Guard(kind=Kind.NOBODY), (), 0),
        (Guard(kind=Kind.NOBODY), (status(),), 20),
        (Guard(kind=Kind.NOBODY), (WAITING,), 20),
        (Guard(kind=Kind.FOREIGN), (status(),), 0),
        (Guard(kind=Kind.UNKNOWN, problem=UNASKED), (status(),), 13),
        (Guard(kind=Kind.UNKNOWN, problem=UNASKED), (WAITING,), 32),
    ],
)
def test_the_exit_status(guard: Guard, sessions: tuple[Status, ...], code: int) -> None:
    assert exit_status(View(guard=guard, sessions=sessions)) == code


# JSON. ----------------------------------------------------------------------------------------------------------------


def schema() -> dict[str, set[str]]:
    """Shape -> fields, from the page."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / "docs/status-json.md").read_text().splitlines():
        if line.startswith("## "):
            found[line[3:]] = set()
        elif match := re.match(r"\| `(\w+)` \|", line):
            found[list(found)[-1]].add(match[1])
    return found


def test_the_json_is_what_the_page_says() -> None:
    view = View(guard=Guard(kind=Kind.UNKNOWN, problem=UNASKED), sessions=(status(), WAITING))
    said = json.loads(render.document(view))
    shapes = schema()
    assert set(said) == shapes["document"]
    assert set(said["guard"]) == shapes["guard"]
    assert set(said["guard"]["problem"]) == shapes["problem"]
    assert set(said["sessions"][0]) == shapes["session"]
    assert said["schema"] == "iscsiboot.status/1"
    assert said["sessions"][0]["last_error"] is None
    assert said["sessions"][0]["last_error_at"] is None
    assert said["sessions"][1]["last_error"].startswith("connect: ")
    events = [render.event(NOW, session={}), render.event(NOW, guard={}), render.event(NOW, gone=1)]
    assert set().union(*(json.loads(event) for event in events)) == shapes["event"]
    assert all(event.count("\n") == 1 for event in (*events, render.document(view)))


def test_the_page_names_every_kind() -> None:
    text = (ROOT / "docs/status-json.md").read_text()
    assert all(f"`{kind.value}`" in text for kind in Kind)
    assert all(f"`{phase}`" in text for phase in render._STATES)


# The command. ---------------------------------------------------------------------------------------------------------


def run(*argv: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = main(argv, out, err)
    return code, out.getvalue(), err.getvalue()


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """The real server and client on an address of their own."""
    with Daemon() as made:
        monkeypatch.setattr(command, "connect", lambda seconds: client.connect(made.address, seconds=seconds))
        yield made


def answering(*sessions: Status) -> Callable[[Request, Reply], Awaitable[dict[str, Any]]]:
    async def do(request: Request, reply: Reply) -> dict[str, Any]:
        assert request.action == "status"
        return {"daemon": {"pid": 812, "ready": True}, "sessions": told(*sessions)}

    return do


def test_the_daemon_is_asked_over_its_socket(daemon: Daemon) -> None:
    daemon.do = answering(status(), WAITING)
    code, out, err = run()
    assert (code, err) == (32, "")
    assert out.startswith("iscsid (process 812) guards 2 sessions, 1 not connected.\n")
    code, out, err = run("--json")
    assert [one["sid"] for one in json.loads(out)["sessions"]] == [1, 2]


def test_who_is_not_told_sees_the_kernel_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SysfsTree(tmp_path / "sys").add_session(1)
    made = machine(tmp_path, daemon=refusing(UNASKED))
    monkeypatch.setattr(command, "this_machine", lambda err: made)
    code, out, err = run()
    assert code == 13
    assert out.startswith("Who guards is not known; the kernel shows 1 session.\n")
    assert err == "iscsiboot status: daemon: iscsid: root only; next: be root\n"


def test_two_hundred_sessions_are_a_table_without_colours(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """For any terminal and none: whole lines whatever its width, since a name that is cut off names nothing."""
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("TERM", "dumb")
    daemon.do = answering(*(status(sid, uses=(), target=f"{TARGET}{sid}") for sid in range(1, 201)))
    began = time.monotonic()
    code, out, err = run()
    assert time.monotonic() - began < 2.0
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == 200 + 3
    assert len({len(line) for line in lines[3:]}) == 1
    assert all(f"{TARGET}{sid} " in lines[sid + 2] for sid in range(1, 201))
    assert "\x1b" not in out
    assert [line for line in lines if line != line.rstrip()] == []


@pytest.mark.parametrize("argv", [("--nonsense",), ("extra",), ("--json=1",), ("--jso",)])
def test_a_wrong_command_line(argv: tuple[str, ...]) -> None:
    with pytest.raises(IscsiBootError) as caught:
        run(*argv)
    assert caught.value.exit_code == ExitCode.INVAL


def test_help_and_the_manual_page_have_every_option() -> None:
    code, out, _ = run("--help")
    assert code == 0
    page = (ROOT / "docs/man/iscsiboot-status.8").read_text().replace("\\-", "-")
    for action in parser()._actions:
        for option in action.option_strings:
            assert option in out
            assert option in page


# Watching. ------------------------------------------------------------------------------------------------------------


Frame = Callable[[], Mapping[str, Any]]


class Enough(Exception):
    """The test has seen what it wanted."""


class Film:
    """A machine that changes with each pause; ``frames`` is what is asked then."""

    def __init__(self, root: Path, *frames: Frame, told_between: Sequence[object] = ()) -> None:
        self._frames = list(frames)
        self._between = told_between
        self.machine: Machine = machine(root, daemon=lambda: self._frames[0]())

    def events(self) -> Iterator[object]:
        yield from self._between
        raise IscsiBootError("the connection to it ended", stage=Stage.DAEMON)

    def pause(self, seconds: float) -> None:
        assert seconds == command.LOOK_SECONDS
        self._frames.pop(0)
        self._between = ()
        if not self._frames:
            raise Enough

    def play(self, *, as_json: bool = False) -> list[str]:
        out = io.StringIO()
        with pytest.raises(Enough):
            watch(self.machine, Watched(self.events, self.pause, lambda: NOW), render_json=as_json, out=out)
        return out.getvalue().splitlines()


def frame(*sessions: Status, pid: int = 812) -> Frame:
    return lambda: {"daemon": {"pid": pid}, "sessions": told(*sessions)}


def after_the_table(lines: list[str]) -> list[str]:
    """Without the clock."""
    return [line[9:] for line in lines if re.match(r"\d\d:\d\d:\d\d ", line)]


def test_a_watch_tells_changes_and_no_attempts(tmp_path: Path) -> None:
    up, down = status(uses=()), status(uses=(), phase="waiting", last_error="connect: refused")
    changes = [
        *told(status(uses=(), phase="stopping"), down, status(uses=(), phase="trying", last_error="connect: refused")),
        *told(down, status(uses=(), recoveries=3, last_error="connect: refused"), status(2, phase="gone"), WAITING),
        *told(status(2, phase="gone")),
        {"complete": True},
        None,
    ]
    film = Film(tmp_path, frame(up), frame(up), told_between=changes)
    lines = after_the_table(film.play())
    assert lines == [
        f"session 1 (root) {TARGET} recovering",
        f"session 1 (root) {TARGET} recovering - connect: refused",
        f"session 1 (root) {TARGET} connected",
        f"session 2 (data) {TARGET} recovering - {WAITING.last_error}",
        f"session 2 {TARGET} is gone",
        # What the next look shows is less than the last event did.
        f"session 1 (root) {TARGET} connected",
    ]


def test_a_watch_outlives_the_daemon(tmp_path: Path) -> None:
    SysfsTree(tmp_path / "sys").add_session(1, targetname=TARGET)
    one = status(role="data", recoveries=0)
    film = Film(tmp_path, frame(one), absent, frame(one, pid=900), frame(pid=900))
    assert after_the_table(film.play()) == [
        "Nobody guards: 1 session. A connection that breaks stays broken; next: systemctl start iscsid.service",
        "iscsid (process 900) guards 1 session.",
        f"session 1 {TARGET} is gone",
    ]


def test_a_watch_for_programs_tells_everything(tmp_path: Path) -> None:
    film = Film(tmp_path, frame(status()), frame(WAITING), told_between=told(status(attempts=1), status(attempts=2)))
    first, *events = [json.loads(line) for line in film.play(as_json=True)]
    assert first["guard"]["pid"] == 812
    assert [event["session"]["attempts"] for event in events[:2]] == [1, 2]
    assert events[2]["session"]["sid"] == 2
    assert events[3] == {"schema": "iscsiboot.status/1", "at": NOW, "gone": 1}
    assert len(events) == 4


def test_a_role_that_changes_is_told() -> None:
    assert render.change(status(role="data"), status(role="root"), "12:00:00") == (
        f"12:00:00 session 1 (root) {TARGET} connected (was data)"
    )
    assert render.change(status(), status(), "12:00:00") is None


def test_a_watch_over_the_real_socket(daemon: Daemon, tmp_path: Path) -> None:
    async def do(request: Request, reply: Reply) -> dict[str, Any]:
        if request.action == "status":
            return await answering(status())(request, reply)
        for one in told(status(), WAITING):
            reply.event({"session": one})
        reply.event({"complete": True})
        return {}

    daemon.do = do
    out = io.StringIO()

    def pause(_: float) -> None:
        raise AssertionError("the watch ended")

    class Output(io.StringIO):
        def flush(self) -> None:
            out.write(self.getvalue())
            if "session 2" in self.getvalue():
                raise Enough

    with pytest.raises(Enough):
        watch(machine(tmp_path, daemon=command._ask), Watched(command._events, pause), render_json=False, out=Output())
    assert f"session 2 (data) {TARGET} recovering - connect: " in out.getvalue()


@pytest.mark.parametrize("guarded", [True, False])
def test_a_watch_ends_when_nobody_reads_it(daemon: Daemon, tmp_path: Path, guarded: bool) -> None:
    """``| head -1``: the next change, at which a write would fail, may be days away."""
    silent = asyncio.Event()

    async def do(request: Request, reply: Reply) -> dict[str, Any]:
        if request.action == "watch":
            await silent.wait()
        return await answering(status())(request, reply)

    daemon.do = do
    reading, writing = os.pipe()
    made = machine(tmp_path, daemon=command._ask if guarded else absent)
    watched = Watched(partial(command._events, writing), partial(command._pause, writing))
    threading.Timer(0.3, os.close, (reading,)).start()
    with os.fdopen(writing, "w") as out:
        began = time.monotonic()
        with pytest.raises(BrokenPipeError):
            watch(made, watched, render_json=False, out=out)
        assert time.monotonic() - began < 5


def test_a_pause_is_as_long_as_it_should_be(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as out:
        for reader in (None, out.fileno()):
            began = time.monotonic()
            command._pause(reader, 0.2)
            assert 0.2 <= time.monotonic() - began < 2


PROGRAM = "import sys; sys.path.insert(0, sys.argv.pop(1)); from iscsiboot.__main__ import run; sys.exit(run())"


@pytest.mark.parametrize("words", [["--help"], ["--nonsense"]])
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_without_standard_files_the_exit_status_is_the_same(closed: str, words: list[str]) -> None:
    command = f'"$@" {closed}'
    line = ["sh", "-c", command, "sh", sys.executable, "-c", PROGRAM, str(ROOT), "status", *words]
    run = subprocess.run(line, capture_output=True, text=True, check=False)
    assert run.returncode == (0 if words == ["--help"] else 7)
    assert "Traceback" not in run.stderr
    assert bool(run.stdout) == (words == ["--help"] and ">&-" not in closed.replace("2>&-", ""))


def test_an_error_nobody_can_be_told_is_still_a_failure() -> None:
    line = ["sh", "-c", '"$@" 2> /dev/full', "sh", sys.executable, "-c", PROGRAM, str(ROOT), "status", "--nonsense"]
    assert subprocess.run(line, check=False).returncode == 1


def test_a_look_never_raises(tmp_path: Path) -> None:
    assert look(machine(tmp_path)).sessions == ()
