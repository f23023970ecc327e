# SPDX-License-Identifier: LGPL-2.1-or-later
"""The client beside the real server, and beside listeners that are none."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from iscsiboot import __version__
from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.ipc import client as client_module
from iscsiboot.ipc.client import NobodyListens, OtherDaemon, connect, who_listens
from iscsiboot.ipc.protocol import ACTIONS, HELLO_BYTES, REQUEST_MAX, Request
from iscsiboot.ipc.serving import ANEW_SECONDS, Limits, Reply
from iscsiboot.model.timeline import Mark
from tests.unit.ipc.ipc_kit import PATIENCE, Daemon, address, eventually, limits

ROOT = Path(__file__).resolve().parents[3]


@contextmanager
def listener(backlog: int = 1) -> Iterator[tuple[socket.socket, str]]:
    """Somebody who is no daemon of ours."""
    where = address()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(where)
        listening.listen(backlog)
        yield listening, where


@contextmanager
def answering(*replies: bytes) -> Iterator[tuple[list[bytes], str]]:
    """Reads what one client after the other says first, answers, and ends the connection; then it listens no more."""
    heard: list[bytes] = []
    with listener() as (listening, where):

        def serve() -> None:
            for number, data in enumerate(replies, 1):
                link, _ = listening.accept()
                if number == len(replies):
                    listening.close()
                with link:
                    while sum(map(len, heard)) < number * HELLO_BYTES:
                        heard.append(link.recv(1 << 16))
                    link.sendall(data)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield heard, where
        thread.join(PATIENCE)


def test_a_question_and_its_answer() -> None:
    with Daemon() as daemon, connect(daemon.address) as client:
        assert client.ask("stats", {"sid": 4}) == {"action": "stats", "sid": 4}
        assert client.version == __version__
        assert client.capabilities >= {"login", "status", "watch", "cancel", "detach"}
        assert client.pid == os.getpid()


def test_a_failure_keeps_its_parts() -> None:
    failure = IscsiBootError(
        "it hangs", stage=Stage.SCAN, subject="session 4", hint="pull the plug", exit_code=ExitCode.BUSY, retryable=True
    )

    async def fail(request: Request, reply: Reply) -> dict[str, Any]:
        reply.note("first")
        raise failure

    with Daemon(fail) as daemon, connect(daemon.address) as client:
        with pytest.raises(IscsiBootError) as caught:
            client.ask("rescan", {"sid": 4})
        assert (caught.value.line(), caught.value.exit_code, caught.value.retryable) == (
            failure.line(), ExitCode.BUSY, True,
        )  # fmt: skip
        ((_, answer),) = client.ask_all([("rescan", {"sid": 4})])
        assert answer.notes == ("first",)


def test_notes_and_steps_come_with_the_answer() -> None:
    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        reply.note("worth knowing")
        reply.mark(Mark.CONNECTED, "10.0.0.1")
        return {}

    with Daemon(work) as daemon, connect(daemon.address) as client:
        ((_, plain), (_, traced)) = client.ask_all([("stats", {}), ("stats", {"trace": True})])
        assert (plain.notes, plain.steps) == (("worth knowing",), ())
        (step,) = traced.steps
        assert step.startswith(f"{Mark.CONNECTED.value} 10.0.0.1 after 0.")


def test_answers_come_as_they_are_ready() -> None:
    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        if request.integer("sid") == 0:
            await gate.wait()
        return {"sid": request.integer("sid")}

    with Daemon(work) as daemon, connect(daemon.address) as client:
        gate = asyncio.Event()
        answers = client.ask_all([("stats", {"sid": sid}) for sid in range(3)])
        assert [next(answers)[0], next(answers)[0]] == [1, 2]
        daemon.loop.call_soon_threadsafe(gate.set)
        index, answer = next(answers)
        assert (index, answer.result) == (0, {"sid": 0})
        assert list(answers) == []


def test_more_requests_than_the_sockets_buffers_and_the_daemons_desk_hold() -> None:
    """Neither end may stand still because the other does not read."""
    filling = {"record": {"node.name": "x" * 6000}}

    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        return {"record": request.texts("record")}

    with Daemon(work, limits=limits(pending=8)) as daemon, connect(daemon.address) as client:
        answers = dict(client.ask_all([("login", filling)] * 600))
        assert sorted(answers) == list(range(600))
        assert all(answer.result == filling for answer in answers.values())


def test_events_on_the_way() -> None:
    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        reply.event({"attempt": 1})
        reply.event({"attempt": 2})
        return {}

    heard: list[tuple[int, dict[str, Any]]] = []
    with Daemon(work) as daemon, connect(daemon.address) as client:
        assert (
            len(list(client.ask_all([("stats", {})] * 2, event=lambda index, item: heard.append((index, item))))) == 2
        )
    assert sorted((index, item["attempt"]) for index, item in heard) == [(0, 1), (0, 2), (1, 1), (1, 2)]


def test_an_event_is_a_sign_of_life() -> None:
    """A login that waits behind others': the daemon says that its time counts anew."""
    clock = [1000.0]
    heard = asyncio.Event()

    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        for _ in range(4):
            reply.event({"anew": True})
            await asyncio.wait_for(heard.wait(), PATIENCE)
            heard.clear()
        return {}

    def later(index: int, event: dict[str, Any]) -> None:
        """Nearly as long as it is waited for without one."""
        clock[0] += 100.0 + client_module.GRACE_SECONDS - PATIENCE
        daemon.loop.call_soon_threadsafe(heard.set)

    with Daemon(work) as daemon, connect(daemon.address, now=lambda: clock[0]) as client:
        answers = list(client.ask_all([("login", {})], seconds=100.0, event=later))
        assert [answer.failure for _, answer in answers] == [None]


def test_a_client_waits_for_an_answer_that_comes_as_late_as_it_can() -> None:
    """Its time counted anew without a word, and what it had half made was taken back."""
    assert ANEW_SECONDS + Limits().undo_seconds < client_module.GRACE_SECONDS


def test_a_tick_while_nothing_comes() -> None:
    ticks: list[float] = []

    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        while not ticks:
            await asyncio.sleep(0.01)
        return {}

    with Daemon(work) as daemon, connect(daemon.address) as client:
        list(client.ask_all([("stats", {})], tick=lambda: ticks.append(time.monotonic())))
    assert len(ticks) == 1


async def for_ever(request: Request, reply: Reply) -> dict[str, Any]:
    await asyncio.Event().wait()
    return {}


def test_leaving_early_takes_back_what_is_not_done() -> None:
    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        if request.integer("sid") == 0:
            return {}
        try:
            return await for_ever(request, reply)
        finally:
            await asyncio.sleep(0.05)
            undone.append(request.integer("sid"))

    undone: list[int] = []
    with Daemon(work) as daemon, connect(daemon.address) as client:
        with closing(client.ask_all([("logout", {"sid": sid}) for sid in range(3)])) as answers:
            assert next(answers)[0] == 0
        # Not "will be": it is.
        assert sorted(undone) == [1, 2]
        assert client.ask("logout", {"sid": 0}) == {}


def test_what_is_done_when_it_is_interrupted_is_told() -> None:
    """The answer may lie in the socket already, or come when the daemon was to take it back."""

    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        if request.integer("sid") < 2:
            return {"sid": request.integer("sid")}
        try:
            return await for_ever(request, reply)
        except asyncio.CancelledError:
            if request.integer("sid") == 2:
                return {"sid": 2}
            raise

    def interrupt() -> None:
        raise KeyboardInterrupt

    told: list[tuple[int, dict[str, Any]]] = []

    def follow() -> None:
        for index, answer in client.ask_all([("login", {"sid": sid}) for sid in range(5)], tick=interrupt):
            told.append((index, answer.result))

    with Daemon(work) as daemon, connect(daemon.address) as client:
        with pytest.raises(KeyboardInterrupt):
            follow()
        assert sorted(told) == [(sid, {"sid": sid}) for sid in range(3)]
        assert client.ask("login", {"sid": 1}) == {"sid": 1}


def test_leaving_early_with_more_requests_than_the_daemon_reads() -> None:
    """A cancel behind requests nobody reads would never arrive."""
    with Daemon(for_ever, limits=limits(pending=4)) as daemon, connect(daemon.address) as client:
        answers = client.ask_all([("login", {"record": {"x": "y" * 6000}})] * 300, tick=lambda: stop())
        began = time.monotonic()

        def stop() -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            next(answers)
        assert time.monotonic() - began < PATIENCE / 2
        assert sorted(daemon.ended) == ["login 1 CancelledError", "login 2 CancelledError"]
        assert len(daemon.began) == 2


def test_answers_to_what_was_given_up_confuse_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon cannot end it, the client goes on: the answer that comes at last belongs to nothing."""

    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        if request.action == "stats":
            return {"sid": 1}
        while not free.is_set():
            try:
                await free.wait()
            except asyncio.CancelledError:
                continue
        raise IscsiBootError("late", stage=Stage.LOGIN)

    monkeypatch.setattr(client_module, "GRACE_SECONDS", 0.2)
    with Daemon(work, limits=limits(undo_seconds=PATIENCE)) as daemon, connect(daemon.address) as client:
        free = asyncio.Event()
        with closing(client.ask_all([("login", {}), ("stats", {})])) as answers:
            assert next(answers)[0] == 1
        assert client.ask("stats", seconds=5.0) == {"sid": 1}
        daemon.loop.call_soon_threadsafe(free.set)
        eventually(lambda: daemon.ended[-1] == "login 1 IscsiBootError")
        assert client.ask("stats", seconds=5.0) == {"sid": 1}


def test_what_is_done_although_it_was_cancelled_is_no_failure() -> None:
    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return {"sid": 7}
        return {}

    with Daemon(work) as daemon, daemon.raw() as raw:
        raw.ask("login", 5)
        eventually(lambda: daemon.began)
        raw.ask("cancel", 6, of=[5])
        assert raw.line() == {"id": 6, "ok": True, "result": {"cancelled": [5]}}
        assert raw.line() == {"id": 5, "ok": True, "result": {"sid": 7}}


def test_control_c_cancels_in_the_daemon(tmp_path: Path) -> None:
    """A whole process, as the signal is one of the process."""
    code = (
        "import sys; sys.path[:0] = [sys.argv[1]]\n"
        "from iscsiboot.ipc.client import connect\n"
        "try: connect(chr(0) + sys.argv[2]).ask('login', {})\n"
        "except KeyboardInterrupt: print('taken back')\n"
    )
    with Daemon(for_ever) as daemon:
        command = [sys.executable, "-c", code, str(ROOT), daemon.address[1:]]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            eventually(lambda: daemon.began)
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=PATIENCE)[0] == "taken back\n"
        assert daemon.ended == ["login 1 CancelledError"]


def test_a_request_without_an_answer_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon answers that the time is over; a daemon that stands still is told by the client itself."""
    with Daemon(for_ever) as daemon, connect(daemon.address) as client:
        with pytest.raises(IscsiBootError, match=r"request stats: it was not done within 0\.1 s") as caught:
            client.ask("stats", seconds=0.1)
        assert caught.value.exit_code is ExitCode.REQ_TIMEDOUT
        monkeypatch.setattr(client_module, "GRACE_SECONDS", 0.2)
        gate = threading.Event()
        daemon.loop.call_soon_threadsafe(gate.wait, PATIENCE)
        with pytest.raises(IscsiBootError, match="it does not answer") as caught:
            client.ask("stats", seconds=0.1)
        gate.set()
        assert caught.value.exit_code is ExitCode.REQ_TIMEDOUT


def test_each_of_many_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, they take longer than one may."""

    async def slow(request: Request, reply: Reply) -> dict[str, Any]:
        await asyncio.sleep(0.8)
        return {}

    monkeypatch.setattr(client_module, "GRACE_SECONDS", 0.5)
    with Daemon(slow, limits=limits(pending=2)) as daemon, connect(daemon.address) as client:
        answers = list(client.ask_all([("login", {})] * 7, seconds=2.0))
    assert [answer.failure for _, answer in answers] == [None] * 7


def test_a_daemon_that_dies() -> None:
    with Daemon(for_ever) as daemon, connect(daemon.address) as client:
        answers = client.ask_all([("login", {})])
        threading.Timer(0.1, daemon.stop).start()
        ((_, answer),) = answers
        assert answer.failure is not None
        assert answer.failure.exit_code is ExitCode.ISCSID_COMM_ERR
        with pytest.raises(IscsiBootError, match="the connection to it ended, daemon died") as caught:
            client.ask("stats")
        assert caught.value.exit_code is ExitCode.ISCSID_COMM_ERR


def test_watching_goes_on_after_the_daemons_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        reply.event({"turn": request.number})
        return await for_ever(request, reply)

    monkeypatch.setitem(ACTIONS, "watch", 0.1)
    with Daemon(work) as daemon, connect(daemon.address) as client:
        seen = client.watch()
        assert [next(seen), next(seen)] == [{"turn": 1}, {"turn": 2}]


def test_watching_tells_when_nothing_happens() -> None:
    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        reply.event({"up": 1})
        return await for_ever(request, reply)

    with Daemon(work) as daemon, connect(daemon.address) as client:
        seen = client.watch(every=0.05)
        assert [next(seen), next(seen), next(seen)] == [{"up": 1}, None, None]


def test_the_end_of_a_watch_by_a_failure() -> None:
    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        raise IscsiBootError("not now", stage=Stage.DAEMON)

    with Daemon(work) as daemon, connect(daemon.address) as client, pytest.raises(IscsiBootError, match="not now"):
        next(client.watch())


def test_nobody_listens() -> None:
    with pytest.raises(NobodyListens) as caught:
        connect(address())
    assert caught.value.cause == "can not connect to iSCSI daemon (111)!"
    assert caught.value.exit_code is ExitCode.ISCSID_NOTCONN
    assert who_listens(address()) is None


def test_who_listens() -> None:
    with listener() as (_, where):
        assert who_listens(where) == os.getpid()


def test_a_squatter_is_told_nothing() -> None:
    """The name is free to any user while no daemon has it, and orders carry secrets."""
    with listener() as (listening, where):
        with pytest.raises(IscsiBootError, match=r"user 0 \(process \d+\) listens in its place") as caught:
            connect(where, trusted=frozenset({12345}))
        assert caught.value.exit_code is ExitCode.ACCESS
        link, _ = listening.accept()
        with link:
            assert link.recv(1) == b""


LEGACY_REPLY = (b'{"is' + (16).to_bytes(4, sys.byteorder)).ljust(2464, b"\0")
"""open-iscsi's daemon repeats the command of the structure, which here is our first four characters."""


@pytest.mark.parametrize("reply", [b"", LEGACY_REPLY, b"hello\n", b"[1]\n", b'{"ok":true}\n', b"{" * 100_000 + b"\n"])
def test_another_daemon(reply: bytes) -> None:
    replies = [reply] if reply else [reply, reply]
    with answering(*replies) as (heard, where), pytest.raises(OtherDaemon) as caught:
        connect(where)
    assert caught.value.exit_code is ExitCode.ISCSID_COMM_ERR
    # So much that no structure is larger: the other daemon would wait for the rest of it.
    first = b"".join(heard)
    assert (len(first), first[-2:]) == (len(replies) * HELLO_BYTES, b" \n")


def test_a_daemon_that_ends_before_it_answers_is_none() -> None:
    with answering(b"") as (_, where), pytest.raises(NobodyListens):
        connect(where)


def test_after_a_daemon_that_ends_the_next_one_is_asked() -> None:
    refusal = (
        b'{"id":null,"ok":false,"code":13,"message":{"stage":"daemon","subject":"","cause":"I am here","hint":""}}'
    )
    with answering(b"", refusal + b"\n") as (_, where), pytest.raises(IscsiBootError, match="I am here"):
        connect(where)


def test_another_daemon_that_does_not_read() -> None:
    with listener() as (_, where), pytest.raises(IscsiBootError, match="it does not answer"):
        connect(where, seconds=0.2)


def test_a_later_daemon_says_what_it_speaks() -> None:
    reply = (
        b'{"id":null,"ok":false,"code":16,"versions":[2,3],"message":{"stage":"later","subject":"iscsid",'
        b'"cause":"version 1 of the protocol is not spoken here, 2 to 3 are","hint":"update","more":1}}\n'
    )
    with answering(reply) as (_, where), pytest.raises(IscsiBootError, match="2 to 3 are; next: update") as caught:
        connect(where)
    assert (caught.value.exit_code, caught.value.stage) == (ExitCode.INVALID_MGMT_REQ, Stage.DAEMON)


def test_a_full_queue_is_waited_for_and_then_told() -> None:
    with listener(backlog=0) as (_, where):
        first = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with first:
            first.connect(where)
            began = time.monotonic()
            with pytest.raises(IscsiBootError, match=r"no room for another client for 0\.3 s") as caught:
                connect(where, seconds=0.3)
            assert time.monotonic() - began >= 0.29
            assert caught.value.exit_code is ExitCode.ISCSID_NOTCONN
            assert who_listens(where) is not None


def test_a_request_too_long_is_not_sent() -> None:
    with Daemon() as daemon, connect(daemon.address) as client:
        with pytest.raises(IscsiBootError, match=f"{REQUEST_MAX} are taken"):
            client.ask("login", {"record": {"node.name": "x" * REQUEST_MAX}})
        assert client.ask("stats") == {"action": "stats"}


def test_imports_are_few() -> None:
    """It is imported by iscsiadm for each order it gives."""
    code = "import sys; sys.path[:0] = [sys.argv[1]]; import iscsiboot.ipc.client; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-ISB", "-c", code, str(ROOT)], capture_output=True, text=True, check=True)
    assert not {"asyncio", "dataclasses", "typing", "pathlib", "json", "logging"} & set(done.stdout.split())


def test_it_never_shows_what_it_carries() -> None:
    request = Request("login", {"record": {"node.session.auth.password": "topsecret"}}, number=3)
    assert "topsecret" not in repr(request)
