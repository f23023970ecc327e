# SPDX-License-Identifier: LGPL-2.1-or-later
"""Orders of iscsiadm to a daemon over the real socket, and who does them when there is none."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from iscsiboot.admin import daemon_start, kill, runner_ipc
from iscsiboot.admin.context import Context, Paths
from iscsiboot.admin.login import login_nodes
from iscsiboot.admin.logout import logout_sessions
from iscsiboot.admin.options import parse
from iscsiboot.admin.runner import LoginOrder, Result, the_runner
from iscsiboot.admin.runner_ipc import DaemonRunner
from iscsiboot.admin.runner_local import LocalRunner
from iscsiboot.admin.stats import print_stats
from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.ipc import client
from iscsiboot.ipc.protocol import ADDRESS, REQUEST_MAX, Answer, Request, answer_line, welcome_line
from iscsiboot.ipc.serving import Reply
from iscsiboot.netlink.statistics import COUNTERS
from iscsiboot.sysfs.listing import SessionRow
from tests.unit.admin.scripted_runner import ScriptedRunner, Streams, pair, statistics, wishes
from tests.unit.ipc.ipc_kit import PATIENCE, Daemon, address, eventually, limits

ROOT = Path(__file__).resolve().parents[3]
A, B = pair("a"), pair("b", "10.0.0.2")
COUNTS = {"counters": [[name, at] for at, name in enumerate(COUNTERS)], "custom": [["eh_abort_cnt", 3]]}


@pytest.fixture
def streams(tmp_path: Path) -> Streams:
    return Streams(tmp_path)


class Orders:
    """What the daemon is asked; answers with a session id that counts up."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []

    async def __call__(self, request: Request, reply: Reply) -> dict[str, Any]:
        left = ("iscsiboot", "id", "do")
        self.asked.append((request.action, {name: value for name, value in request.fields.items() if name not in left}))
        if request.action == "stats":
            return COUNTS
        if request.action == "settle":
            return {"lines": [f"removed {len(request.fields['records'])}"]}
        reply.step("reached")
        return {"sid": len(self.asked)}


@contextmanager
def daemon(streams: Streams, do: Callable[[Request, Reply], Any]) -> Iterator[Daemon]:
    with Daemon(do) as running:
        streams.context.paths.daemon = running.address
        yield running


def row(sid: int) -> SessionRow:
    return SessionRow(
        sid=sid,
        host=sid + 1,
        transport="tcp",
        target="t",
        tpgt=1,
        persistent_address="10.0.0.1",
        persistent_port=3260,
        address="10.0.0.1",
        port=3260,
        flash=False,
    )


# With a daemon. -------------------------------------------------------------------------------------------------------


def test_a_login(streams: Streams) -> None:
    orders = Orders()
    with daemon(streams, orders):
        assert login_nodes([A, B], streams.context, None) == 0
    assert streams.lines == [
        "Logging in to [iface: default, target: iqn.2026-01.org.example:a, portal: 10.0.0.1,3260]",
        "Logging in to [iface: default, target: iqn.2026-01.org.example:b, portal: 10.0.0.2,3260]",
        "Login to [iface: default, target: iqn.2026-01.org.example:a, portal: 10.0.0.1,3260] successful.",
        "Login to [iface: default, target: iqn.2026-01.org.example:b, portal: 10.0.0.2,3260] successful.",
    ]
    # Four times 30 seconds to begin in, one attempt more, the scan.
    common = {"boot": ["", "", ""], "wanted": 1, "seconds": 240.0, "patient": True}
    assert orders.asked == [
        ("login", {"record": dict(A[1].values), **common}),
        ("login", {"record": dict(B[1].values), **common}),
    ]


def test_firmwares_names_another_session_and_the_time_reach_the_daemon(streams: Streams) -> None:
    orders = Orders()
    with daemon(streams, orders):
        boot = {A[0]: ("ibft", "ethernet0", "target0")}
        assert login_nodes([A], streams.context, wishes(timeout=7.0), multiple=True, boot=boot) == 0
    ((_, members),) = orders.asked
    assert (members["boot"], members["wanted"], members["seconds"]) == (["ibft", "ethernet0", "target0"], 0, 7.0)
    assert members["patient"] is False, "who says a time means all of it"


def test_a_record_with_bytes_that_are_no_text(streams: Streams) -> None:
    orders = Orders()
    odd = b"caf\xe9".decode("utf-8", "surrogateescape")
    key, record = pair("a", node__session__auth__username=odd)
    with daemon(streams, orders):
        assert login_nodes([(key, record)], streams.context, None) == 0
    assert orders.asked[0][1]["record"]["node.session.auth.username"] == odd


def test_many_logins_are_one_connection_and_no_order_is_kept_waiting(streams: Streams) -> None:
    """A hundred at once, and the answers in any order: the command tells them in its own."""

    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        if len(running.began) == 100:
            all_there.set()
        await asyncio.wait_for(all_there.wait(), PATIENCE)
        await asyncio.sleep(random.random() / 50)
        return {"sid": request.number}

    pairs = [pair(f"t{number}") for number in range(100)]
    with daemon(streams, work) as running:
        all_there = asyncio.Event()
        assert login_nodes(pairs, streams.context, None) == 0
    assert [text.split(",")[1] for text in streams.lines[100:]] == [f" target: {key.target}" for key, _ in pairs]


@pytest.mark.parametrize("code", [8, 11, 15, 19, 24])
def test_a_login_that_fails(code: int, streams: Streams) -> None:
    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        raise IscsiBootError(
            "it is off", stage=Stage.CONNECT, subject="10.0.0.1:3260", hint="switch it on", exit_code=ExitCode(code)
        )

    with daemon(streams, work):
        assert login_nodes([A], streams.context, None) == code
    assert streams.lines[1] == (
        "E iscsiadm: Could not login to [iface: default, target: iqn.2026-01.org.example:a, portal: 10.0.0.1,3260]."
    )
    assert streams.lines[2].startswith(f"E iscsiadm: initiator reported error ({code} - ")
    assert streams.lines[3:] == [
        "E iscsiadm: connect: 10.0.0.1:3260: it is off; next: switch it on",
        "E iscsiadm: Could not log into all portals",
    ]


@pytest.mark.parametrize(("action", "code"), [("login", ExitCode.TRANS_TIMEOUT), ("logout", ExitCode.LOGOUT)])
def test_the_time_is_over(action: str, code: ExitCode, streams: Streams) -> None:
    """The same exit codes as without a daemon."""

    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    with daemon(streams, work):
        runner = the_runner(streams.context)
        doing = (
            runner.login([LoginOrder(*A)], seconds=0.1) if action == "login" else runner.logout([row(1)], seconds=0.1)
        )
        ((_, result),) = doing
    assert result.code is code
    assert result.failure is not None
    assert "was not done within 0.1 s" in result.failure.line()


def test_remarks_are_for_people_and_steps_for_who_asks(tmp_path: Path) -> None:
    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        reply.note("cmds_max 100 is no power of two")
        reply.step("connected")
        return {"sid": 1}

    quiet = Streams(tmp_path)
    with daemon(quiet, work):
        login_nodes([A], quiet.context, None)
    assert not any("cmds_max" in text or "connected" in text for text in quiet.lines)
    loud = Streams(tmp_path, debug=1)
    with daemon(loud, work) as running:
        login_nodes([A], loud.context, None)
    errors = [text for text in loud.lines if text.startswith("E ")]
    assert errors[0].startswith("E iscsiadm: daemon: iscsid ")
    assert errors[0].endswith(f"whose socket is of process {os.getpid()}, does it")
    assert errors[1] == "E iscsiadm: login: iqn.2026-01.org.example:a at 10.0.0.1:3260 through default"
    assert errors[2].startswith("E iscsiadm: login: iqn.2026-01.org.example:a: connected after 0.")
    assert errors[3].endswith(": cmds_max 100 is no power of two")
    assert running.log == []


def test_results_come_with_what_is_known(streams: Streams) -> None:
    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        await asyncio.sleep(0.05)
        return {"sid": 9 if request.number == 1 else "nine"}

    with daemon(streams, work):
        first, second = dict(the_runner(streams.context).login([LoginOrder(*A), LoginOrder(*B)])).values()
    assert (first.sid, second.sid, first.failure) == (9, None, None)
    assert 0.04 < first.seconds < PATIENCE


LOGIN = """
import sys; sys.path[:0] = [sys.argv[1]]
from iscsiboot.admin.context import Context, Paths
from iscsiboot.admin.login import login_nodes
from iscsiboot.admin.process import process
from tests.unit.admin.scripted_runner import pair
def command(argv, out, err, program):
    paths = Paths(sysfs=argv[2], config=argv[2], database=argv[2], daemon=chr(0) + argv[1])
    return login_nodes([pair('a'), pair('b')], Context(paths=paths, out=out, err=err), None)
process(command, 'iscsiadm')
"""


def command(running: Daemon, root: Path) -> subprocess.Popen[str]:
    """A login to A and B as a process of its own."""
    words = [sys.executable, "-c", LOGIN, str(ROOT), running.address[1:], str(root)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_an_interrupted_command_has_everything_taken_back(tmp_path: Path) -> None:
    """A whole process: one login is done, one is not; Ctrl-C."""

    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        if request.texts("record")["node.name"].endswith(":a"):
            return {"sid": 1}
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.2)
            undone.append(time.monotonic())
        return {}

    undone: list[float] = []
    with Daemon(work) as running, command(running, tmp_path) as process:
        eventually(lambda: len(running.began) == 2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
        ended = time.monotonic()
    assert process.returncode == 1
    assert out.splitlines()[-1].endswith(":a, portal: 10.0.0.1,3260] successful.")
    assert err == "iscsiadm: caught SIGINT, exiting...\n"
    assert running.ended == ["login 1 done", "login 2 CancelledError"]
    assert undone[0] <= ended


def test_an_interruption_that_comes_too_late_is_one_all_the_same(streams: Streams) -> None:
    """Everything was done when the daemon heard of it: that is told, and the command ends as interrupted."""

    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return {"sid": request.number}
        return {}

    def interrupt() -> None:
        raise KeyboardInterrupt

    told: list[int | None] = []

    def follow() -> None:
        orders = [LoginOrder(*A), LoginOrder(*B)]
        told.extend(result.sid for _, result in the_runner(streams.context).login(orders, tick=interrupt))

    with daemon(streams, work), pytest.raises(KeyboardInterrupt):
        follow()
    assert sorted(filter(None, told)) == [1, 2]


def test_a_login_nobody_waits_for(streams: Streams) -> None:
    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        await gate.wait()
        return {"sid": 1}

    with daemon(streams, work) as running:
        gate = asyncio.Event()
        assert login_nodes([A, B], streams.context, None, wait=False) == 0
        assert (len(streams.lines), running.ended) == (2, [])
        running.loop.call_soon_threadsafe(gate.set)
        eventually(lambda: len(running.ended) == 2)
        assert sorted(running.ended) == ["login 1 done", "login 2 done"]


def test_a_login_nobody_waits_for_that_cannot_begin(streams: Streams) -> None:
    with Daemon(limits=limits(running=0)) as full:
        streams.context.paths.daemon = full.address
        with pytest.raises(IscsiBootError) as caught:
            the_runner(streams.context).login_later([LoginOrder(*A)])
    assert caught.value.exit_code is ExitCode.AGAIN


def test_a_logout(streams: Streams) -> None:
    orders = Orders()
    with daemon(streams, orders):
        assert logout_sessions([row(3), row(4)], streams.context, wishes(force=True)) == 0
    # 90 seconds for the disks and the kernel, 15 for the target's answer.
    common = {"insist": True, "logout_timeout": 15.0, "seconds": 105.0}
    assert orders.asked == [("logout", {"sid": 3, **common}), ("logout", {"sid": 4, **common})]
    assert len(streams.lines) == 4


def test_a_logout_that_fails(streams: Streams) -> None:
    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        raise IscsiBootError("it stays", stage=Stage.SESSION, subject="session 3", exit_code=ExitCode.BUSY)

    with daemon(streams, work):
        ((_, result),) = the_runner(streams.context).logout([row(3)])
    assert (result.code, result.sid) == (ExitCode.BUSY, 3)


def test_the_counters(streams: Streams) -> None:
    with daemon(streams, Orders()):
        assert print_stats([row(3)], streams.context) == 0
    assert streams.lines[2] == "\ttxdata_octets: 0"
    assert streams.lines[-2:] == ["iSCSI Extended:", "\teh_abort_cnt: 3"]


@pytest.mark.parametrize("result", [{}, {"counters": 3, "custom": []}, {"counters": [["a"]], "custom": []}])
def test_counters_that_are_none(result: dict[str, Any], streams: Streams) -> None:
    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        return result

    with daemon(streams, work), pytest.raises(IscsiBootError) as caught:
        the_runner(streams.context).statistics(row(3))
    assert caught.value.exit_code is ExitCode.ISCSID_COMM_ERR


def test_counters_of_a_session_the_daemon_does_not_guard(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter's own; the kernel tells them to everybody."""

    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        raise IscsiBootError("no", stage=Stage.SESSION, exit_code=ExitCode.SESS_NOT_FOUND)

    monkeypatch.setattr(runner_ipc, "local_runner", lambda context: ScriptedRunner())
    with daemon(streams, work):
        assert the_runner(streams.context).statistics(row(3)) == statistics()


def test_leftovers_of_many_records_are_more_than_one_request(streams: Streams) -> None:
    orders = Orders()
    pairs = [pair(f"t{number}", node__session__auth__username="u" * 255) for number in range(40)]
    with daemon(streams, orders):
        assert list(the_runner(streams.context).settle(pairs)) == ["removed 16", "removed 16", "removed 8"]
    asked = [item["node.name"] for _, members in orders.asked for item in members["records"]]
    assert asked == [key.target for key, _ in pairs]
    assert max(len(json.dumps(members)) for _, members in orders.asked) < REQUEST_MAX / 2


def test_leftovers_never_fail(streams: Streams) -> None:
    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        raise IscsiBootError("no", stage=Stage.DAEMON)

    with daemon(streams, work):
        assert list(the_runner(streams.context).settle([A])) == ["daemon: no"]


def test_a_daemon_that_dies_at_work(streams: Streams) -> None:
    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        if request.texts("record")["node.name"].endswith(":a"):
            return {"sid": 1}
        for connection in running.server._clients:
            connection.abort()
        await asyncio.Event().wait()
        return {}

    with daemon(streams, work) as running:
        assert login_nodes([A, B], streams.context, None) == ExitCode.ISCSID_COMM_ERR
    assert "E iscsiadm: initiator reported error (18 - could not communicate to iscsid)" in streams.lines
    assert any("daemon died?" in text for text in streams.lines)


@pytest.mark.parametrize("action", ["login", "logout"])
def test_a_daemon_of_another_release(action: str, streams: Streams) -> None:
    """It knows the first words and nothing else of ours."""

    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        raise IscsiBootError("unknown request", stage=Stage.DAEMON, exit_code=ExitCode.INVALID_MGMT_REQ)

    with daemon(streams, work):
        if action == "login":
            assert login_nodes([A], streams.context, None) == 16
        else:
            assert logout_sessions([row(3)], streams.context, None) == 16
    assert "E iscsiadm: initiator reported error (16 - Unknown request)" in streams.lines


def test_a_daemon_that_stands_still(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        time.sleep(2.0)
        return {}

    monkeypatch.setattr(client, "GRACE_SECONDS", 0.1)
    with daemon(streams, work):
        assert login_nodes([A, B], streams.context, wishes(timeout=0.2)) == 33
    assert streams.lines.count("E iscsiadm: initiator reported error (33 - iscsid request timed out)") == 2


def test_no_orders_no_daemon(streams: Streams) -> None:
    streams.context.paths.daemon = address()
    runner = the_runner(streams.context)
    assert (list(runner.login([])), list(runner.logout([])), runner.state(row(1))[1]) == ([], [], "Unknown")


# Without one. ---------------------------------------------------------------------------------------------------------


def test_other_roots_look_for_no_daemon(streams: Streams) -> None:
    assert isinstance(the_runner(streams.context), LocalRunner)
    assert Paths.of_this_machine().daemon == ADDRESS
    here = Context(paths=Paths.of_this_machine(), out=streams.out, err=streams.err)
    assert isinstance(the_runner(here), DaemonRunner)


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> ScriptedRunner:
    """The runner inside the command."""
    made = ScriptedRunner()
    monkeypatch.setattr(runner_ipc, "local_runner", lambda context: made)
    return made


def test_nobody_listens_and_nothing_starts_one(streams: Streams, local: ScriptedRunner) -> None:
    streams.context.paths.daemon = address()
    runner = the_runner(streams.context)
    assert [result.code for _, result in runner.login([LoginOrder(*A)], seconds=5.0)] == [0]
    assert (local.orders[0].key, local.seconds) == (A[0], 5.0)
    assert [result.code for _, result in runner.logout([row(3)], insist=True)] == [0]
    assert (local.rows[0].sid, local.insisted) == (3, True)
    runner.login_later([LoginOrder(*B)])
    assert local.later[0].key == B[0]
    assert list(runner.settle([A])) == []
    assert local.settled == [A[0]]
    assert runner.statistics(row(3)) == statistics()
    assert streams.lines == []


def test_leaving_early_ends_the_local_runner_too(streams: Streams, local: ScriptedRunner) -> None:
    streams.context.paths.daemon = address()
    doing = the_runner(streams.context).login([LoginOrder(*A), LoginOrder(*B)])
    next(doing)
    doing.close()
    assert local.closed


@contextmanager
def other_daemon(*answers: bytes) -> Iterator[str]:
    """Reads what one client after the other says first, answers, and ends the connection."""
    where = address()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(where)
        listener.listen(4)
        listener.settimeout(PATIENCE)

        def serve() -> None:
            for answer in answers:
                link, _ = listener.accept()
                with link:
                    while link.recv(1 << 16)[-1:] != b"\n":
                        pass
                    link.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield where
        thread.join(PATIENCE)
        assert not thread.is_alive()


@pytest.mark.parametrize("answer", [b"", bytes(2464)], ids=["nothing", "a structure"])
def test_open_iscsis_daemon_listens(answer: bytes, streams: Streams, local: ScriptedRunner) -> None:
    """It ends the connection without a word, or has a structure for an answer."""
    streams.context.debug = 1
    with other_daemon(*[answer] if answer else [answer, answer]) as where:
        streams.context.paths.daemon = where
        assert outcome(streams).code is ExitCode.SUCCESS
    assert local.orders[0].key == A[0]
    assert streams.lines == [
        f"E iscsiadm: process {os.getpid()}: iscsid is running, but it is not one that this program can talk to: the"
        " command does it itself"
    ]


def test_a_daemon_that_ends_at_this_moment(streams: Streams, local: ScriptedRunner) -> None:
    """It is restarted: the first connection ends without a word, the second finds the next daemon."""
    welcome = welcome_line(None, 1, ["login"], "1", 2) + answer_line(1, Answer({"sid": 5}))
    with other_daemon(b"", welcome) as where:
        streams.context.paths.daemon = where
        assert (outcome(streams).sid, local.orders) == (5, [])


def configure(streams: Streams, command: str) -> None:
    Path(streams.context.paths.iscsid_conf).write_text(f"iscsid.startup = {command}\n")


def outcome(streams: Streams) -> Result:
    ((_, result),) = the_runner(streams.context).login([LoginOrder(*A)])
    return result


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("exit 3", "iscsid.startup ended with status 3"),
        ("kill -9 $$", "iscsid.startup ended by signal 9"),
        ("true", "iscsid.startup was run"),
        ("/no/such/program", "iscsid.startup ended with status 127"),
    ],
)
def test_a_start_that_starts_nothing(
    command: str, words: str, streams: Streams, local: ScriptedRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon_start, "LISTEN_SECONDS", 0.3)
    streams.context.paths.daemon = address()
    configure(streams, command)
    result = outcome(streams)
    assert result.code is ExitCode.ISCSID_NOTCONN
    assert result.failure is not None
    assert result.failure.cause == f"can not connect to iSCSI daemon (111)! {words}"
    assert local.orders == []


def test_the_words_of_a_start_that_starts_nothing(streams: Streams) -> None:
    streams.context.paths.daemon = address()
    configure(streams, "exit 3")
    assert login_nodes([A, B], streams.context, None) == 20
    portal = "[iface: default, target: iqn.2026-01.org.example:a, portal: 10.0.0.1,3260]"
    assert streams.lines[2:4] == [
        f"E iscsiadm: Could not login to {portal}.",
        "E iscsiadm: initiator reported error (20 - could not connect to iscsid)",
    ]
    assert "can not connect to iSCSI daemon (111)! iscsid.startup ended with status 3; next: " in streams.lines[4]
    assert streams.lines[-1] == "E iscsiadm: Could not log into all portals"


def test_it_is_started_once(streams: Streams, tmp_path: Path) -> None:
    streams.context.paths.daemon = address()
    configure(streams, f"echo run >> {tmp_path}/runs; exit 1")
    runner = the_runner(streams.context)
    for _ in range(3):
        with pytest.raises(IscsiBootError) as caught:
            runner.statistics(row(3))
        assert caught.value.exit_code is ExitCode.ISCSID_NOTCONN
    with pytest.raises(IscsiBootError):
        runner.login_later([LoginOrder(*A)])
    assert (tmp_path / "runs").read_text() == "run\n"
    # A login that follows fails for the same reason, and says so.
    assert len(runner.settle([A])) == 1


def test_a_daemon_that_is_started_does_it(streams: Streams, tmp_path: Path, local: ScriptedRunner) -> None:
    """It goes to the background before it listens, as a daemon without a unit may."""
    where = address()
    streams.context.paths.daemon = where
    program = tmp_path / "iscsid.py"
    program.write_text(
        "import asyncio, sys, time\n"
        f"sys.path[:0] = [{str(ROOT)!r}]\n"
        "from iscsiboot.ipc.server import Server, listening_socket\n"
        "class Handler:\n"
        "    async def handle(self, request, reply):\n"
        "        asyncio.get_running_loop().call_later(0.2, stop.set)\n"
        "        return {'sid': 77}\n"
        "async def main():\n"
        "    global stop\n"
        "    stop = asyncio.Event()\n"
        "    server = Server(Handler(), lambda level, text: None)\n"
        f"    await server.start(listening_socket({where!r}))\n"
        "    await asyncio.wait_for(stop.wait(), 20)\n"
        "    await server.close()\n"
        "asyncio.run(main())\n"
    )
    configure(streams, f"(sleep 0.3; exec {sys.executable} {program}) > /dev/null 2>&1 &")
    result = outcome(streams)
    assert (result.code, result.sid) == (ExitCode.SUCCESS, 77)
    assert local.orders == []


def test_a_start_command_writes_to_stderr_alone(tmp_path: Path) -> None:
    """Programs read stdout. SIGPIPE is as it should be for whoever is started."""
    code = (
        "import sys; sys.path[:0] = [sys.argv[1]]\n"
        "from iscsiboot.admin.daemon_start import start_daemon\n"
        "print(start_daemon('cat; echo words; yes | head -1; grep SigIgn /proc/$$/status', lambda: True))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT)], capture_output=True, text=True, input="x", check=True
    )
    assert done.stdout == "iscsid.startup was run\n"
    *words, ignored = done.stderr.splitlines()
    assert words == ["words", "y"]
    assert int(ignored.split()[1], 16) & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1) == 0


def test_a_start_command_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_start, "START_SECONDS", 0.2)
    assert daemon_start.start_daemon("exec sleep 1", lambda: True) == "iscsid.startup is not done after 0.2 s"
    os.waitpid(-1, 0)  # it is left at work, and ends behind the command's back


def test_no_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_start, "SHELL", "/no/such/shell")
    words = daemon_start.start_daemon("true", lambda: pytest.fail("it waits for nothing"))
    assert words == "iscsid.startup could not be run: No such file or directory"


def test_children_that_are_reaped_unseen() -> None:
    """Whoever ignores SIGCHLD passes that on."""
    code = (
        "import signal, sys; sys.path[:0] = [sys.argv[1]]; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "from iscsiboot.admin.daemon_start import start_daemon\n"
        "print(start_daemon('exit 4', lambda: True), start_daemon('sleep 0.2', lambda: True), sep=', ')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(ROOT)], capture_output=True, text=True, check=True)
    assert done.stdout == "iscsid.startup was run, iscsid.startup was run\n"


def test_a_squatter_gets_no_order(streams: Streams, local: ScriptedRunner) -> None:
    """The command fails: doing it locally beside a process that pretends to be the daemon helps nobody."""
    where = address()
    child_end, parent_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgid(65534)
            os.setuid(65534)
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
                listener.bind(where)
                listener.listen(1)
                os.write(parent_end, b"x")
                link, _ = listener.accept()
                os.write(parent_end, b"%d" % len(link.recv(1 << 16)))
        finally:
            os._exit(0)
    os.read(child_end, 1)
    streams.context.paths.daemon = where
    result = outcome(streams)
    assert result.code is ExitCode.ACCESS
    assert result.failure is not None
    assert "user 65534" in result.failure.cause
    assert os.read(child_end, 10) == b"0"
    os.waitpid(child, 0)
    os.close(child_end)
    os.close(parent_end)
    assert local.orders == []


# Stopping it. ---------------------------------------------------------------------------------------------------------


def stop(streams: Streams, where: str) -> int:
    return kill.run(parse(["-k", "0"]), streams.context, where)


def test_the_daemon_stops(streams: Streams) -> None:
    orders = Orders()
    with Daemon(orders) as running:
        assert stop(streams, running.address) == 0
    assert (orders.asked, streams.lines) == ([("stop", {"seconds": kill.STOP_SECONDS})], [])


def test_the_daemon_of_the_paths_stops(streams: Streams) -> None:
    orders = Orders()
    with daemon(streams, orders):
        assert kill.run(parse(["-k", "0"]), streams.context) == 0
    assert [action for action, _ in orders.asked] == ["stop"]


def test_a_daemon_that_does_not_stop(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    monkeypatch.setattr(kill, "STOP_SECONDS", 0.1)
    with Daemon(work) as running:
        assert stop(streams, running.address) == 0
    assert streams.lines == [
        "E iscsiadm: daemon: request stop: it was not done within 0.1 s; next: look at the daemon's log; give it more"
        " time with --timeout",
        "E iscsiadm: initiator reported error (33 - iscsid request timed out)",
        "E iscsiadm: Could not stop iscsid. Trying sending iscsid SIGTERM or SIGKILL signals manually",
    ]


def test_a_daemon_that_takes_no_orders_of_ours(streams: Streams) -> None:
    with Daemon(users=frozenset({4711})) as running:
        assert stop(streams, running.address) == 0
    assert "E iscsiadm: initiator reported error (13 - daemon access denied)" in streams.lines


# The whole command. ---------------------------------------------------------------------------------------------------


def test_a_command_that_is_killed_leaves_its_logins_at_work(tmp_path: Path) -> None:
    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        await gate.wait()
        return {"sid": 1}

    with Daemon(work) as running:
        gate = asyncio.Event()
        with command(running, tmp_path) as process:
            eventually(lambda: len(running.began) == 2)
            process.kill()
        running.loop.call_soon_threadsafe(gate.set)
        eventually(lambda: len(running.ended) == 2)
        assert sorted(running.ended) == ["login 1 done", "login 2 done"]


IMPORTS = "import sys; sys.path[:0] = [sys.argv[1]]; import {}; print(*sys.modules)"


def test_an_order_to_the_daemon_loads_nothing_of_the_engine() -> None:
    """That is what the daemon is there for; the start of the command is what programs wait for."""
    names = "iscsiboot.admin.node_mode, iscsiboot.admin.login, iscsiboot.admin.runner_ipc"
    done = subprocess.run(
        [sys.executable, "-ISBXutf8", "-c", IMPORTS.format(names), str(ROOT)],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.split())
    heavy = {"asyncio", "typing", "dataclasses", "pathlib", "logging", "subprocess", "signal", "hashlib", "json"}
    assert heavy & loaded == set()
    below = ("iscsiboot.initiator", "iscsiboot.netlink", "iscsiboot.orders", "iscsiboot.admin.runner_local")
    assert {name for name in loaded if name.startswith(below)} == set()
