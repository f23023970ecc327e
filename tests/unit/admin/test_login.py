# SPDX-License-Identifier: LGPL-2.1-or-later
"""``-l`` as a person and a script see it: lines, their order, exit codes; what is behind a failure; --json; devices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from iscsiboot.admin import login_devices
from iscsiboot.admin.json_out import finish
from iscsiboot.admin.login import label, login_nodes
from iscsiboot.admin.login_devices import DeviceWatch
from iscsiboot.admin.progress import Progress
from iscsiboot.admin.runner import LoginOrder, Result
from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from tests.doubles.sysfs_tree import SysfsTree
from tests.unit.admin.json_documents import check
from tests.unit.admin.scripted_runner import TARGET, ScriptedRunner, Streams, Terminal, pair, result, wishes

WHY = "login: 10.0.0.1:3260: the target does not want us; next: ask it why"


def place(name: str, address: str = "10.0.0.1") -> str:
    return f"[iface: default, target: {TARGET}{name}, portal: {address},3260]"


@pytest.fixture
def streams(tmp_path: Path) -> Streams:
    return Streams(tmp_path)


@pytest.fixture
def tree(tmp_path: Path) -> SysfsTree:
    return SysfsTree(tmp_path / "sys")


def add_session(tree: SysfsTree, sid: int, name: str, address: str = "10.0.0.1", iface: str = "default") -> None:
    where = {"persistent_address": address, "address": address}
    tree.add_session(sid, targetname=TARGET + name, ifacename=iface, connection=where)


def test_one_login(streams: Streams) -> None:
    assert login_nodes([pair("a")], streams.context, None, runner=ScriptedRunner()) == 0
    assert streams.lines == [f"Logging in to {place('a')}", f"Login to {place('a')} successful."]


def test_all_begin_before_one_ends_and_results_keep_the_order(streams: Streams) -> None:
    """The lines and their order were seen from 2.1.8 with a scripted daemon, and the first error's exit code."""
    runner = ScriptedRunner(ExitCode.SUCCESS, ExitCode.LOGIN_AUTH_FAILED, ExitCode.TRANS_TIMEOUT, finish=[2, 0, 1])
    code = login_nodes([pair("t2"), pair("t1"), pair("t3")], streams.context, None, runner=runner)
    assert code == 24
    assert streams.lines == [
        f"Logging in to {place('t2')}",
        f"Logging in to {place('t1')}",
        f"Logging in to {place('t3')}",
        f"Login to {place('t2')} successful.",
        f"E iscsiadm: Could not login to {place('t1')}.",
        "E iscsiadm: initiator reported error (24 - iSCSI login failed due to authorization failure)",
        f"E iscsiadm: {WHY}",
        f"E iscsiadm: Could not login to {place('t3')}.",
        "E iscsiadm: initiator reported error (8 - connection timed out)",
        f"E iscsiadm: {WHY}",
        "E iscsiadm: Could not log into all portals",
    ]


def test_each_result_is_told_as_soon_as_its_turn_is(streams: Streams) -> None:
    runner = ScriptedRunner(finish=[1, 0, 2])
    told: dict[int, list[str]] = {}
    runner.before_each = lambda index: told.setdefault(index, list(streams.lines))  # type: ignore[assignment]
    login_nodes([pair("a"), pair("b"), pair("c")], streams.context, None, runner=runner)
    assert [line for line in told[2] if "successful" in line] == [
        f"Login to {place('a')} successful.",
        f"Login to {place('b')} successful.",
    ]


def test_a_failure_names_its_portal_even_where_the_cause_does_not(streams: Streams) -> None:
    error = IscsiBootError("this kernel has no iSCSI over TCP", stage=Stage.MODULES, subject="iscsi_tcp")
    runner = ScriptedRunner(Result(failure=error))
    login_nodes([pair("a")], streams.context, None, runner=runner)
    assert "E iscsiadm: 10.0.0.1:3260: modules: iscsi_tcp: this kernel has no iSCSI over TCP" in streams.lines


# How many sessions.


def test_enough_sessions_is_15(streams: Streams, tree: SysfsTree) -> None:
    add_session(tree, 1, "a")
    runner = ScriptedRunner()
    assert login_nodes([pair("a")], streams.context, None, runner=runner) == 15
    assert streams.lines == [
        "E iscsiadm: default: 1 session requested, but 1 already present.",
        "E iscsiadm: Could not log into all portals",
    ]
    assert runner.orders == []


@pytest.mark.parametrize("state", ["FREE", "FAILED"])
def test_what_a_killed_command_left_is_settled_before_it_is_counted(
    streams: Streams, tree: SysfsTree, state: str
) -> None:
    """In a guest, kill -9 of a login left a session no later login got past: it counted as present."""
    tree.add_session(1, targetname=f"{TARGET}a", state=state, connection={"persistent_address": "10.0.0.1"})
    add_session(tree, 2, "b")
    runner = ScriptedRunner()

    def leftover() -> list[str]:
        (tree.root / "class" / "iscsi_session" / "session1").unlink()
        return ["removing session 1, left over by a process that is gone"]

    runner.leftover = leftover
    streams.context.debug = 1
    assert (
        login_nodes([pair("a"), pair("b", node__session__nr_sessions="2")], streams.context, None, runner=runner) == 0
    )
    assert [key.target for key in runner.settled] == [f"{TARGET}a"]
    assert "E iscsiadm: removing session 1, left over by a process that is gone" in streams.lines
    assert [order.key.target for order in runner.orders] == [f"{TARGET}a", f"{TARGET}b"]


def test_one_that_somebody_works_on_counts(streams: Streams, tree: SysfsTree) -> None:
    tree.add_session(1, targetname=f"{TARGET}a", state="FREE", connection={"persistent_address": "10.0.0.1"})
    runner = ScriptedRunner()
    assert login_nodes([pair("a")], streams.context, None, runner=runner) == 15
    assert len(runner.settled) == 1
    assert runner.orders == []


@pytest.mark.parametrize("multiple", [False, True])
def test_healthy_sessions_are_settled_by_nobody(streams: Streams, tree: SysfsTree, multiple: bool) -> None:
    """That would cost a look at every socket of the system."""
    add_session(tree, 1, "a")
    tree.add_session(2, targetname=f"{TARGET}other", state="FREE")
    runner = ScriptedRunner()
    login_nodes([pair("a")], streams.context, None, runner=runner, multiple=multiple)
    assert runner.settled == []


@pytest.mark.parametrize(("name", "state"), [("a", "FREE"), ("a", "FAILED"), ("", "FREE")])
@pytest.mark.parametrize("connected", [True, False])
@pytest.mark.parametrize("multiple", [False, True])
def test_what_was_cut_off_anywhere_is_settled_once(
    streams: Streams, tree: SysfsTree, name: str, state: str, connected: bool, multiple: bool
) -> None:
    """Before it had a connection, before it had a name, and also when one more session is asked for in any case."""
    connection = {"persistent_address": "10.0.0.9"} if connected else None
    tree.add_session(1, targetname=f"{TARGET}a" if name else "(null)", state=state, connection=connection)
    runner = ScriptedRunner()
    assert login_nodes([pair("a"), pair("b")], streams.context, None, runner=runner, multiple=multiple) == 0
    assert [key.target for key in runner.settled] == [f"{TARGET}{item}" for item in ("a" if name else "ab")]
    assert [order.key.target for order in runner.orders] == [f"{TARGET}a", f"{TARGET}b"]


def test_sessions_elsewhere_do_not_count(streams: Streams, tree: SysfsTree) -> None:
    add_session(tree, 1, "a", "10.0.0.2")
    add_session(tree, 2, "b")
    add_session(tree, 3, "a", iface="other")
    assert login_nodes([pair("a")], streams.context, None, runner=ScriptedRunner()) == 0


def test_only_the_missing_ones_are_made(streams: Streams, tree: SysfsTree) -> None:
    """As seen: 3 wanted, 1 there."""
    add_session(tree, 1, "a")
    runner = ScriptedRunner()
    assert login_nodes([pair("a", node__session__nr_sessions="3")], streams.context, None, runner=runner) == 0
    assert streams.lines == [
        f"Logging in to {place('a')} (multiple)",
        f"Logging in to {place('a')} (multiple)",
        f"Login to {place('a')} successful.",
        f"Login to {place('a')} successful.",
    ]
    assert [(order.wanted, order.multiple) for order in runner.orders] == [(3, True), (3, True)]


@pytest.mark.parametrize(
    ("wanted", "present", "line"),
    [
        (1, 3, "default: 1 session requested, but 3 already present."),
        (2, 2, "default: 2 sessions requested, but 2 already present."),
        (0, 0, "default: 0 sessions requested, but 0 already present."),
    ],
)
def test_the_words_of_enough(streams: Streams, tree: SysfsTree, wanted: int, present: int, line: str) -> None:
    for sid in range(1, present + 1):
        add_session(tree, sid, "a")
    made = pair("a", node__session__nr_sessions=str(wanted))
    assert login_nodes([made], streams.context, None, runner=ScriptedRunner()) == 15
    assert streams.lines[0] == f"E iscsiadm: {line}"


def test_present_beats_a_failure_that_comes_later(streams: Streams, tree: SysfsTree) -> None:
    """Observed: one target already in and another that refuses us is 15, not 24."""
    add_session(tree, 1, "b")
    runner = ScriptedRunner(ExitCode.LOGIN_AUTH_FAILED)
    assert login_nodes([pair("a"), pair("b")], streams.context, None, runner=runner) == 15
    assert streams.lines[-1] == "E iscsiadm: Could not log into all portals"


def test_one_more_whatever_there_is(streams: Streams, tree: SysfsTree) -> None:
    """``session -r N -o new``."""
    add_session(tree, 1, "a")
    runner = ScriptedRunner()
    assert login_nodes([pair("a")], streams.context, None, multiple=True, runner=runner) == 0
    assert streams.lines[0] == f"Logging in to {place('a')} (multiple)"
    assert [order.wanted for order in runner.orders] == [0]


# Without waiting.


def test_no_wait_prints_only_what_is_sent(streams: Streams) -> None:
    runner = ScriptedRunner()
    assert login_nodes([pair("a"), pair("b")], streams.context, None, wait=False, runner=runner) == 0
    assert streams.lines == [f"Logging in to {place('a')}", f"Logging in to {place('b')}"]
    assert [order.key.target for order in runner.later] == [f"{TARGET}a", f"{TARGET}b"]
    assert runner.orders == []


def test_no_wait_with_nothing_to_send(streams: Streams, tree: SysfsTree) -> None:
    add_session(tree, 1, "a")
    runner = ScriptedRunner()
    assert login_nodes([pair("a")], streams.context, None, wait=False, runner=runner) == 15
    assert runner.later == []


@pytest.mark.parametrize(
    ("summary", "last"), [("Could not log into all portals on x, trying next interface", 1), ("", 0)]
)
def test_the_last_line_is_the_callers(streams: Streams, summary: str, last: int) -> None:
    runner = ScriptedRunner(ExitCode.LOGIN)
    assert login_nodes([pair("a")], streams.context, None, summary=summary, runner=runner) == 5
    assert [line for line in streams.lines if "portals" in line] == [f"E iscsiadm: {summary}"] * last


def test_firmwares_names_reach_the_runner(streams: Streams) -> None:
    made = pair("a")
    runner = ScriptedRunner()
    login_nodes(
        [made, pair("b")], streams.context, None, boot={made[0]: ("ibft", "ethernet0", "target0")}, runner=runner
    )
    assert [order.boot for order in runner.orders] == [("ibft", "ethernet0", "target0"), ("", "", "")]


def test_timeout_reaches_the_runner(streams: Streams) -> None:
    runner = ScriptedRunner()
    login_nodes([pair("a")], streams.context, wishes(timeout=7), runner=runner)
    assert runner.seconds == 7


# Remarks, and what stderr must not hold.


def test_remarks_are_for_a_person_only(tmp_path: Path) -> None:
    """A program takes any word on stderr for a failure."""
    for terminal, heard in ((False, False), (True, True)):
        streams = Streams(tmp_path, terminal=terminal)
        runner = ScriptedRunner(result(ExitCode.SUCCESS, 1, "queue depth is odd"))
        login_nodes([pair("a")], streams.context, None, runner=runner)
        assert ("queue depth is odd" in streams.err.getvalue()) is heard


# Interrupted.


def test_an_interruption_ends_the_runner_and_takes_the_progress_line_away(tmp_path: Path) -> None:
    streams = Streams(tmp_path, terminal=True)
    runner = ScriptedRunner()

    def interrupt(index: int) -> None:
        if index == 1:
            raise KeyboardInterrupt

    runner.before_each = interrupt
    with pytest.raises(KeyboardInterrupt):
        login_nodes([pair("a"), pair("b"), pair("c")], streams.context, None, runner=runner)
    assert runner.closed
    assert streams.err.getvalue().endswith("\r\x1b[K")


def test_what_was_done_before_an_interruption_is_told(streams: Streams) -> None:
    """The second and third are logged in while the first still waits: whoever ends that has to learn of them."""
    runner = ScriptedRunner(finish=(2, 1, 0))

    def interrupt(index: int) -> None:
        if index == 0:
            raise KeyboardInterrupt

    runner.before_each = interrupt
    pairs = [pair("a"), pair("b"), pair("c")]
    with pytest.raises(KeyboardInterrupt):
        login_nodes(pairs, streams.context, None, runner=runner)
    assert streams.lines[3:] == [f"Login to {label(key)} successful." for key, _ in pairs[1:]]


def test_an_interruption_has_its_document(tmp_path: Path, tree: SysfsTree) -> None:
    add_session(tree, 1, "c")
    streams = Streams(tmp_path, json=True)
    runner = ScriptedRunner(finish=(1, 0))

    def interrupt(index: int) -> None:
        if index == 0:
            raise KeyboardInterrupt

    runner.before_each = interrupt
    with pytest.raises(KeyboardInterrupt):
        login_nodes([pair("a"), pair("b"), pair("c")], streams.context, None, runner=runner)
    finish(streams.context, 1)
    document = check(streams.out.getvalue())
    results = [(item["result"], item["exit_code"]) for item in document["objects"]]
    assert results == [("present", 15), ("failed", 1), ("done", 0)]


# At a terminal.


def test_the_progress_line_counts_and_disappears(tmp_path: Path) -> None:
    streams = Streams(tmp_path, terminal=True)
    runner = ScriptedRunner(ExitCode.SUCCESS, ExitCode.LOGIN, ExitCode.SUCCESS)
    login_nodes([pair("a"), pair("b"), pair("c")], streams.context, None, runner=runner)
    shown = streams.err.getvalue().split("\r\x1b[K")
    assert "Logging in: 0 of 3 done, 0 s" in shown
    assert "Logging in: 1 of 3 done, 0 s" in shown
    assert "Logging in: 2 of 3 done, 1 failed, 0 s" in shown
    assert shown[-1].endswith("Could not log into all portals\n"), "nothing of it stands behind the last line"
    assert not any("3 of 3" in text for text in shown)


def test_no_progress_where_stderr_is_no_terminal(streams: Streams) -> None:
    login_nodes([pair("a"), pair("b")], streams.context, None, runner=ScriptedRunner())
    assert streams.err.getvalue() == ""


def test_progress_tells_the_time() -> None:
    clock = [10.0]
    terminal = Terminal()
    progress = Progress(terminal, "Logging in", 2, now=lambda: clock[0])
    clock[0] = 22.9
    progress.show()
    assert terminal.getvalue() == "\r\x1b[KLogging in: 0 of 2 done, 12 s"
    progress.clear()
    progress.clear()
    assert terminal.getvalue().count("\r") == 2


def test_progress_of_nothing_is_nothing() -> None:
    terminal = Terminal()
    Progress(terminal, "Logging in", 0).show()
    assert terminal.getvalue() == ""


# --json.


def document(streams: Streams, code: int) -> dict[str, Any]:
    finish(streams.context, code)
    made: dict[str, Any] = json.loads(streams.out.getvalue())
    return made


def test_json_says_the_same_in_objects(tmp_path: Path, tree: SysfsTree) -> None:
    add_session(tree, 1, "b")
    streams = Streams(tmp_path, json=True)
    runner = ScriptedRunner(ExitCode.SUCCESS, ExitCode.FATAL_LOGIN)
    code = login_nodes([pair("a"), pair("b"), pair("c")], streams.context, None, runner=runner)
    made = document(streams, code)
    assert (made["kind"], made["exit_code"], made["messages"]) == ("login", 15, [])
    found = {item["target"]: item for item in made["objects"]}
    assert {name: item["result"] for name, item in found.items()} == {
        f"{TARGET}a": "done",
        f"{TARGET}b": "present",
        f"{TARGET}c": "failed",
    }
    assert (found[f"{TARGET}a"]["sid"], found[f"{TARGET}a"]["seconds"]) == (1, 0.25)
    assert found[f"{TARGET}c"]["failure"]["hint"] == "ask it why"
    assert found[f"{TARGET}c"]["exit_code"] == 19


def test_json_of_logins_that_were_only_sent(tmp_path: Path) -> None:
    streams = Streams(tmp_path, json=True)
    code = login_nodes([pair("a")], streams.context, None, wait=False, runner=ScriptedRunner())
    assert [item["result"] for item in document(streams, code)["objects"]] == ["sent"]


# --wait-device.


class Watch:
    """Stands in for udev: devices by target, in the order they are asked for."""

    made: list[Watch]

    def __init__(self, context: object, seconds: float | None) -> None:
        self.seconds = seconds
        self.closed = False
        self.asked: list[tuple[str, int | None]] = []
        Watch.made.append(self)

    def wait(self, order: LoginOrder, sid: int | None) -> tuple[str, ...]:
        self.asked.append((order.key.target, sid))
        if order.key.target.endswith("empty"):
            raise IscsiBootError(
                "the target reports no LUN at all",
                stage=Stage.SCAN,
                subject=order.key.target,
                exit_code=ExitCode.NO_OBJS_FOUND,
            )
        return ("/dev/sda", "/dev/sdb")

    def links(self, device: str) -> tuple[str, ...]:
        return (f"/dev/disk/by-path/{device[-1]}",)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> type[Watch]:
    Watch.made = []
    monkeypatch.setattr(login_devices, "DeviceWatch", Watch)
    return Watch


def test_devices_are_named_when_they_are_there(streams: Streams, watch: type[Watch]) -> None:
    runner = ScriptedRunner(ExitCode.SUCCESS, ExitCode.LOGIN)
    options = wishes(wait_device=True, timeout=9)
    assert login_nodes([pair("a"), pair("b")], streams.context, options, runner=runner) == 5
    assert [line for line in streams.lines if line.startswith("Device")] == [
        f"Device of {place('a')}: /dev/sda /dev/disk/by-path/a",
        f"Device of {place('a')}: /dev/sdb /dev/disk/by-path/b",
    ]
    (made,) = watch.made
    assert (made.seconds, made.asked, made.closed) == (9, [(f"{TARGET}a", 1)], True)


def test_a_login_without_a_device_is_21(streams: Streams, watch: type[Watch]) -> None:
    code = login_nodes([pair("empty"), pair("a")], streams.context, wishes(wait_device=True), runner=ScriptedRunner())
    assert code == 21
    assert f"E iscsiadm: 10.0.0.1:3260: scan: {TARGET}empty: the target reports no LUN at all" in streams.lines
    assert f"Device of {place('a')}: /dev/sda /dev/disk/by-path/a" in streams.lines


def test_json_names_the_devices(tmp_path: Path, watch: type[Watch]) -> None:
    streams = Streams(tmp_path, json=True)
    code = login_nodes([pair("a")], streams.context, wishes(wait_device=True), runner=ScriptedRunner())
    (item,) = document(streams, code)["objects"]
    assert item["devices"] == ["/dev/sda", "/dev/sdb"]


def test_without_udev_nothing_is_begun(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> DeviceWatch:
        raise IscsiBootError("cannot listen to udev", stage=Stage.DEVICE, exit_code=ExitCode.INTERNAL)

    monkeypatch.setattr(login_devices, "DeviceWatch", fail)
    runner = ScriptedRunner()
    assert login_nodes([pair("a")], streams.context, wishes(wait_device=True), runner=runner) == 9
    assert runner.orders == []


def test_json_of_logins_that_could_not_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> DeviceWatch:
        raise IscsiBootError("cannot listen to udev", stage=Stage.DEVICE, exit_code=ExitCode.INTERNAL)

    monkeypatch.setattr(login_devices, "DeviceWatch", fail)
    streams = Streams(tmp_path, json=True)
    code = login_nodes([pair("a")], streams.context, wishes(wait_device=True), runner=ScriptedRunner())
    assert [(item["result"], item["exit_code"]) for item in document(streams, code)["objects"]] == [("failed", 9)]


# Half of a CHAP configuration.


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ({"username": "me"}, "set node.session.auth.password: without it no CHAP is offered"),
        ({"password": "x"}, "set node.session.auth.username: without it no CHAP is offered"),
        ({"username": "me", "password": "x"}, "next: ask it why"),
        ({}, "next: ask it why"),
    ],
)
def test_a_refused_login_names_the_missing_half_of_chap(tmp_path: Path, values: dict[str, str], hint: str) -> None:
    settings = {f"node__session__auth__{name}": value for name, value in values.items()}
    for code, told in ((ExitCode.LOGIN_AUTH_FAILED, hint), (ExitCode.FATAL_LOGIN, "next: ask it why")):
        streams = Streams(tmp_path)
        runner = ScriptedRunner(code)
        assert login_nodes([pair("a", **settings)], streams.context, None, runner=runner) == code
        assert any(told in line for line in streams.lines), streams.lines
        assert any(f"({int(code)} - " in line for line in streams.lines)
