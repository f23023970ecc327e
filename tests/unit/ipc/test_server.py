# SPDX-License-Identifier: LGPL-2.1-or-later
"""The server and clients that mean no good, or are in a bad way: each is answered or dropped, and harms nobody."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import random
import select
import socket
import struct
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, cast

import pytest

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.ipc import server as server_module
from iscsiboot.ipc import serving
from iscsiboot.ipc.client import connect
from iscsiboot.ipc.connection import Connection
from iscsiboot.ipc.protocol import REQUEST_MAX, Answer, Request
from iscsiboot.ipc.server import Server, listening_socket
from iscsiboot.ipc.serving import ERROR, WARNING, Limits, Reply, Work
from tests.doubles.virtual_time import run_virtually, virtual_loop
from tests.fuzz.ipc_invariant import Desk, Pipe
from tests.unit.ipc.ipc_kit import PATIENCE, Daemon, Do, Raw, address, eventually, limits, line


async def for_ever(request: Request, reply: Reply) -> dict[str, Any]:
    await asyncio.Event().wait()
    return {}


def peers(command: int, sid: int = 0) -> bytes:
    """A request as open-iscsi writes it."""
    return struct.pack("=IIi", command, 0, sid).ljust(16128, b"\0")


def serves(daemon: Daemon) -> bool:
    """Whether it answers another client at once."""
    with connect(daemon.address, seconds=PATIENCE) as client:
        return client.ask("stats", {"sid": 1}, seconds=5.0) == {"action": "stats", "sid": 1}


# Garbage. -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n", b"\0" * 64, b"\xff" * 64, b"\n{}\n", b"    \n", b"{\n", b"{}x\n", b"{" * 300_000,
        b'{"iscsiboot":1,"id":1,"do":"login","record":"' + b"x" * REQUEST_MAX, b'{"iscsiboot":1}\n',
        b'{"iscsiboot":1,"id":true,"do":"login"}\n', b'{"a":' * 40_000 + b"\n",
        b"{" + random.Random(58).randbytes(3000) + b"\n",
    ],
    ids=lambda data: repr(data[:20]),
)  # fmt: skip
def test_garbage_is_answered_and_ends_its_own_connection(data: bytes) -> None:
    with Daemon() as daemon, daemon.raw() as raw, connect(daemon.address) as other:
        try:
            raw.send(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has heard enough before the end
        answer = json.loads(raw.rest())
        assert (answer["id"], answer["ok"]) == (None, False)
        assert answer["code"] in (ExitCode.INVAL, ExitCode.INVALID_MGMT_REQ)
        assert other.ask("stats") == {"action": "stats"}
        assert daemon.began == ["stats 1"]


def test_a_request_that_is_wrong_ends_nothing() -> None:
    with Daemon() as daemon, daemon.raw() as raw:
        raw.ask("fly", 3)
        answer = raw.line()
        assert (answer["id"], answer["code"], answer["message"]["cause"]) == (3, 16, 'unknown request "fly"')
        raw.ask("stats", 4, seconds=-1)
        answer = raw.line()
        assert (answer["id"], answer["code"]) == (4, ExitCode.INVAL)
        raw.send(b'{"iscsiboot":2,"id":5,"do":"stats","of":"tomorrow"}\n')
        answer = raw.line()
        assert (answer["id"], answer["code"], answer["versions"]) == (5, 16, [1, 1])
        raw.ask("stats", 6)
        assert raw.line() == {"id": 6, "ok": True, "result": {"action": "stats"}}


@pytest.mark.parametrize("wanted", [[1, 1], [0, 4], 1])
def test_hello(wanted: object) -> None:
    with Daemon() as daemon, daemon.raw() as raw:
        raw.send(json.dumps({"iscsiboot": wanted, "do": "hello"}).encode() + b"\n")
        answer = raw.line()
        assert (answer["ok"], answer["iscsiboot"]) == (True, 1)
        assert {"login", "logout", "watch", "cancel"} <= set(answer["capabilities"])


def test_hello_of_another_age() -> None:
    with Daemon() as daemon, daemon.raw() as raw:
        raw.send(b'{"iscsiboot":[2,3],"do":"hello"}\n')
        answer = raw.line()
        assert (answer["ok"], answer["code"], answer["versions"]) == (False, ExitCode.INVALID_MGMT_REQ, [1, 1])


def test_the_same_number_twice() -> None:
    with Daemon(for_ever) as daemon, daemon.raw() as raw:
        raw.ask("login", 1)
        raw.ask("login", 1)
        assert "is at work already" in raw.line()["message"]["cause"]


@pytest.mark.parametrize("of", [3, "x", {}])
def test_a_cancel_of_nonsense(of: object) -> None:
    with Daemon() as daemon, daemon.raw() as raw:
        raw.ask("cancel", 2, of=of)
        assert raw.line()["code"] == ExitCode.INVAL
        raw.ask("cancel", 3, of=[1, "x", [], None])
        assert raw.line()["result"] == {"cancelled": []}


def test_a_cancel_of_everything() -> None:
    with Daemon(for_ever) as daemon, daemon.raw() as raw:
        raw.ask("login", 1)
        raw.ask("logout", 2)
        raw.ask("cancel", 3)
        assert raw.line()["result"] == {"cancelled": [1, 2]}
        assert sorted((answer["id"], answer["message"]["cause"]) for answer in (raw.line(), raw.line())) == [
            (1, "it was cancelled"), (2, "it was cancelled"),
        ]  # fmt: skip


# Half requests, silence. ----------------------------------------------------------------------------------------------


def test_half_a_request_has_its_time() -> None:
    with Daemon(limits=limits(request_seconds=1.0)) as daemon:
        began = time.monotonic()
        with daemon.raw() as raw:
            raw.send(b'{"iscsiboot":1,"id":1,')
            answer = json.loads(raw.rest())
        assert 1.0 <= time.monotonic() - began < PATIENCE / 2
        assert (answer["id"], answer["message"]["cause"]) == (None, "no request within 1 s")


def test_bytes_that_drip_do_not_make_it_longer() -> None:
    with Daemon(limits=limits(request_seconds=0.3)) as daemon, daemon.raw() as raw:
        began = time.monotonic()
        # Without an end, were each byte a new beginning.
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            raw.flood(b"{", pause=0.02)
        assert time.monotonic() - began < PATIENCE


def test_a_client_that_says_nothing_is_not_kept() -> None:
    with Daemon(limits=limits(request_seconds=0.2)) as daemon, daemon.raw() as raw:
        assert "no request within" in json.loads(raw.rest())["message"]["cause"]


def test_a_client_that_waits_for_an_answer_is_kept() -> None:
    async def slow(request: Request, reply: Reply) -> dict[str, Any]:
        await asyncio.sleep(1.5)
        return {}

    with Daemon(slow, limits=limits(request_seconds=1.0)) as daemon, daemon.raw() as raw:
        raw.ask("stats", 1)
        assert raw.line()["ok"] is True
        # From here on it is silent again.
        assert "no request within" in raw.line()["message"]["cause"]


def test_half_a_request_behind_a_whole_one_has_its_time_too() -> None:
    with Daemon(for_ever, limits=limits(request_seconds=1.0)) as daemon, daemon.raw() as raw:
        raw.send(line("login", 1) + b'{"iscsiboot"')
        assert "no request within" in raw.line()["message"]["cause"]
        assert raw.rest() == b""


def test_the_end_in_the_middle_of_a_request() -> None:
    with Daemon() as daemon:
        with daemon.raw() as raw:
            raw.send(b'{"iscsiboot":1,"id":1,"do":"log')
        with daemon.raw() as raw:
            raw.send(b'{"iscsiboot":1,"id":1,"do":"log')
            raw.link.shutdown(socket.SHUT_WR)
            assert raw.rest() == b""
        assert serves(daemon)
        assert daemon.began == ["stats 1"]


@pytest.mark.parametrize("data", [b"5\n", b"\n", b"hi", peers(8)[:10]])
def test_less_than_tells_what_it_is(data: bytes) -> None:
    with Daemon() as daemon, daemon.raw() as raw:
        raw.send(data)
        raw.link.shutdown(socket.SHUT_WR)
        assert json.loads(raw.rest())["message"]["cause"] == "this is no request"


# The end of a client. -------------------------------------------------------------------------------------------------


def test_a_client_that_only_stops_sending_is_answered() -> None:
    """``echo ... | socat -`` does so."""

    async def slow(request: Request, reply: Reply) -> dict[str, Any]:
        await asyncio.sleep(0.2)
        return {}

    with Daemon(slow) as daemon, daemon.raw() as raw:
        raw.send(line("status", 1) + line("login", 2))
        raw.link.shutdown(socket.SHUT_WR)
        answers = [json.loads(answer) for answer in raw.rest().splitlines()]
        assert sorted((answer["id"], answer["ok"]) for answer in answers) == [(1, True), (2, True)]


def test_a_client_that_dies_leaves_its_orders_at_work_and_its_questions_end() -> None:
    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        if request.action == "watch":
            while True:
                reply.event({"tick": 1})
                await asyncio.sleep(0.02)
        if request.action == "login":
            await asyncio.wait_for(gate.wait(), PATIENCE)
        else:
            await asyncio.Event().wait()
        return {}

    with Daemon(work) as daemon:
        gate = asyncio.Event()
        with daemon.raw() as raw:
            for number, action in enumerate(("login", "status", "stats", "watch"), 1):
                raw.ask(action, number)
            eventually(lambda: len(daemon.began) == 4)
        # Answers to nobody are what tells that it is gone: only the watch had one.
        eventually(lambda: len(daemon.ended) == 3)
        assert sorted(daemon.ended) == [f"{name} CancelledError" for name in ("stats 3", "status 2", "watch 4")]
        daemon.loop.call_soon_threadsafe(gate.set)
        eventually(lambda: len(daemon.ended) == 4)
        assert daemon.ended[-1] == "login 1 done"
        assert daemon.run(_count(daemon.server)) == (0, 0)


async def _count(server: Server) -> tuple[int, int]:
    """Clients and requests, when what is ready has run."""
    for _ in range(10):
        await asyncio.sleep(0)
    return len(server._clients), len(server._running)


def test_the_watch_of_a_client_that_stops_sending_ends() -> None:
    """It looks like one that is gone, and would be kept until its next event."""
    with Daemon(for_ever) as daemon, daemon.raw() as raw:
        raw.ask("watch", 1)
        eventually(lambda: daemon.began)
        raw.link.shutdown(socket.SHUT_WR)
        assert "its client is gone" in raw.line()["message"]["cause"]
        assert raw.rest() == b""


def test_an_order_left_to_the_daemon() -> None:
    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        await asyncio.wait_for(gate.wait(), PATIENCE)
        reply.note("it took long")
        reply.event({"nobody": "hears"})
        if request.integer("sid") == 2:
            raise IscsiBootError("no", stage=Stage.DAEMON, subject="session 2")
        return {}

    with Daemon(work) as daemon:
        gate = asyncio.Event()
        with daemon.raw() as raw:
            for number in (1, 2):
                raw.ask("login", number, sid=number, detach=True)
                assert raw.line() == {"id": number, "ok": True, "result": {"accepted": True}}
            assert daemon.ended == []
        daemon.loop.call_soon_threadsafe(gate.set)
        eventually(lambda: len(daemon.ended) == 2 and len(daemon.log) == 3)
        assert sorted(daemon.ended) == ["login 1 done", "login 2 IscsiBootError"]
        assert [text for _, text in daemon.log if "took" in text] == ["login: it took long"] * 2
        assert [entry for entry in daemon.log if entry[0] == ERROR] == [(ERROR, "login: daemon: session 2: no")]


# Time. ----------------------------------------------------------------------------------------------------------------


def test_no_request_is_without_an_end() -> None:
    with Daemon(for_ever) as daemon, daemon.raw() as raw:
        raw.ask("login", 1, seconds=0.1)
        answer = raw.line()
        assert (answer["code"], answer["message"]["cause"]) == (ExitCode.REQ_TIMEDOUT, "it was not done within 0.1 s")
        assert daemon.ended == ["login 1 CancelledError"]


async def behind_others(request: Request, reply: Reply) -> dict[str, Any]:
    for _ in range(80):
        await asyncio.sleep(2)
        reply.count_anew()
    return {}


def served(do: Do, **fields: object) -> tuple[Answer, list[Mapping[str, Any]], float]:
    """A login on a clock by hand: its answer, the events, how long it took."""
    events: list[Mapping[str, Any]] = []

    def log(level: int, text: str) -> None:
        raise AssertionError(text)

    async def timed() -> tuple[Answer, float]:
        began = virtual_loop().time()
        answer = await Work(Daemon(do), Request("login", fields), Reply(events.append), limits(), log).run()
        return answer, virtual_loop().time() - began

    answer, took = run_virtually(timed())
    return answer, events, took


def test_a_request_that_waits_for_others_has_its_time_from_then_on_and_its_client_hears_of_it() -> None:
    answer, events, took = served(behind_others, seconds=3)
    assert answer.failure is None
    assert took == pytest.approx(160)
    assert 160 / 7 < len(events) < 160 / 5, "not each time: that may be often"
    assert all(event == {"anew": True} for event in events)


def test_a_request_that_waits_for_others_has_an_end_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "SECONDS_MAX", 60)
    answer, _, took = served(behind_others, seconds=3)
    assert answer.failure is not None
    assert answer.failure.exit_code is ExitCode.REQ_TIMEDOUT
    assert took == pytest.approx(60)


def test_what_cannot_be_ended_is_answered_all_the_same() -> None:
    async def stubborn(request: Request, reply: Reply) -> dict[str, Any]:
        while not free.is_set():
            try:
                await asyncio.wait_for(free.wait(), PATIENCE)
            except asyncio.CancelledError:
                continue
        raise ValueError("nobody hears this")

    with Daemon(stubborn, limits=limits(undo_seconds=0.2)) as daemon, daemon.raw() as raw:
        free = asyncio.Event()
        raw.ask("login", 1, seconds=0.1)
        assert raw.line()["code"] == ExitCode.REQ_TIMEDOUT
        assert (WARNING, "request login: it was told to end and did not") in daemon.log
        daemon.loop.call_soon_threadsafe(free.set)
        eventually(lambda: daemon.ended)


def test_a_fault_of_ours_ends_one_request() -> None:
    async def faulty(request: Request, reply: Reply) -> dict[str, Any]:
        if request.integer("sid") == 0:
            raise KeyError("oops")
        return {}

    with Daemon(faulty) as daemon, daemon.raw() as raw:
        raw.ask("stats", 1, sid=0)
        answer = raw.line()
        assert (answer["code"], answer["message"]["cause"]) == (ExitCode.INTERNAL, "internal error: KeyError: 'oops'")
        raw.ask("stats", 2, sid=1)
        assert raw.line()["ok"] is True
        assert (ERROR, "request stats: internal error: KeyError: 'oops'") in daemon.log


def test_an_answer_that_is_no_json_is_a_fault_too() -> None:
    async def faulty(request: Request, reply: Reply) -> dict[str, Any]:
        return {"oops": object()}

    with Daemon(faulty) as daemon, daemon.raw() as raw:
        raw.ask("stats", 1)
        assert raw.line()["code"] == ExitCode.INTERNAL
        raw.ask("stats", 2)
        assert raw.line()["code"] == ExitCode.INTERNAL
        assert [text for _, text in daemon.log] == [
            "request stats: internal error: TypeError: Object of type object is not JSON serializable"
        ] * 2


@pytest.mark.parametrize("result", [{}, {"counters": [["a", "b"]], "custom": []}, {"counters": 5, "custom": 5}])
def test_an_answer_the_peers_structure_cannot_hold_is_a_fault_too(result: dict[str, Any]) -> None:
    async def faulty(request: Request, reply: Reply) -> dict[str, Any]:
        return result

    with Daemon(faulty) as daemon, daemon.raw() as raw:
        raw.send(peers(7, 1))
        assert struct.unpack_from("=II", raw.link.recv(1 << 16)) == (7, ExitCode.INTERNAL)
        assert daemon.log[0][1].startswith("request stats: internal error: ")


# Readers that do not read. --------------------------------------------------------------------------------------------


def test_a_slow_reader_is_dropped_and_nobody_else_notices() -> None:
    async def flood(request: Request, reply: Reply) -> dict[str, Any]:
        if request.action == "stats":
            return {"action": "stats", "sid": 1}
        while True:
            reply.event({"filling": "x" * 10_000})
            await asyncio.sleep(0)

    with Daemon(flood) as daemon, daemon.raw() as raw:
        raw.ask("watch", 1)
        eventually(lambda: daemon.ended)
        assert daemon.ended == ["watch 1 CancelledError"]
        assert any("is dropped: it leaves 1" in text for _, text in daemon.log)
        # What was on its way may be read, and it is bounded.
        assert len(raw.rest()) < 4 << 20
        assert serves(daemon)
        eventually(lambda: daemon.run(_count(daemon.server)) == (0, 0))


def test_one_large_answer_is_no_reason_to_drop_a_client() -> None:
    async def large(request: Request, reply: Reply) -> dict[str, Any]:
        return {"text": "x" * (3 << 20)}

    with Daemon(large) as daemon, connect(daemon.address) as client:
        assert len(client.ask("status")["text"]) == 3 << 20


def test_a_client_that_asks_and_never_reads_is_dropped() -> None:
    """Answers to wrong requests count as well."""
    with Daemon() as daemon, daemon.raw() as raw:
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            raw.flood(line("fly" * 2000, 1))
        assert any("is dropped" in text for _, text in daemon.log)
        assert serves(daemon)


def test_an_answer_nobody_takes_does_not_keep_the_place() -> None:
    async def large(request: Request, reply: Reply) -> dict[str, Any]:
        return {"text": "x" * (3 << 20)} if request.action == "status" else {"action": "stats", "sid": 1}

    with Daemon(large, limits=limits(clients=1, request_seconds=1.0)) as daemon, daemon.raw() as raw:
        raw.ask("status", 1)
        raw.link.shutdown(socket.SHUT_WR)
        # The one place is free again although the answer was never read.
        assert serves(daemon)


# Many. ----------------------------------------------------------------------------------------------------------------


def test_a_thousand_connections_at_once() -> None:
    """More than there is room for: they wait in the queue, then before it, and every one is served."""
    total, served = 1000, []
    with Daemon() as daemon:
        gate = threading.Barrier(21, timeout=PATIENCE)

        def some() -> None:
            gate.wait()
            for _ in range(total // 20):
                with connect(daemon.address, seconds=60.0) as client:
                    served.append(client.ask("stats", {"sid": 1})["sid"])

        threads = [threading.Thread(target=some, daemon=True) for _ in range(20)]
        for thread in threads:
            thread.start()
        gate.wait()
        for thread in threads:
            thread.join(120)
        assert served == [1] * total
        assert daemon.log == []


def test_a_thousand_connections_that_say_nothing() -> None:
    """They hold every place and the whole queue; whoever comes behind them is served all the same."""
    with Daemon(limits=limits(clients=64, request_seconds=2 * PATIENCE)) as daemon:
        held = []
        try:
            for _ in range(1000):
                link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                held.append(link)
                link.setblocking(False)
                try:
                    link.connect(daemon.address)
                except BlockingIOError:
                    break  # the queue is full, as it should be
            assert 64 <= len(held) < 1000
            began = time.monotonic()
            assert serves(daemon)
            # Not as long as the silent ones may stay when nobody waits.
            assert time.monotonic() - began < PATIENCE
            assert daemon.log == []
        finally:
            for link in held:
                link.close()


def test_places_are_bounded_and_given_on() -> None:
    with Daemon(limits=limits(clients=2, connections=2, spare_seconds=PATIENCE)) as daemon:
        first, second, third = daemon.raw(), daemon.raw(), daemon.raw()
        for raw in (first, second, third):
            raw.ask("stats", 1, sid=1)
        assert [first.line()["ok"], second.line()["ok"]] == [True, True]
        assert select.select([third.link], [], [], 0.2)[0] == []
        first.link.close()
        assert third.line()["ok"] is True
        second.link.close()
        third.link.close()


def test_a_client_that_waits_for_an_answer_keeps_its_place_when_others_need_it() -> None:
    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        if request.action == "login":
            await asyncio.wait_for(gate.wait(), PATIENCE)
        return {"action": request.action, "sid": 1}

    with (
        Daemon(work, limits=limits(clients=2, connections=2, spare_seconds=0.05)) as daemon,
        daemon.raw() as busy,
        daemon.raw() as idle,
    ):
        gate = asyncio.Event()
        busy.ask("login", 1)
        idle.ask("stats", 1)
        assert idle.line()["ok"] is True
        # Nobody waits: it may think.
        assert select.select([idle.link], [], [], 0.3)[0] == []
        assert serves(daemon)
        answer = json.loads(idle.rest())
        assert (answer["id"], answer["code"]) == (None, ExitCode.AGAIN)
        daemon.loop.call_soon_threadsafe(gate.set)
        assert busy.line()["ok"] is True


def test_clients_whose_orders_are_at_work_keep_nobody_out() -> None:
    """A command for each disk of a dead target waits for minutes; how things stand can be asked all the same."""

    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        if request.action == "login":
            await asyncio.wait_for(gate.wait(), PATIENCE)
        return {"action": request.action, "sid": 1}

    with Daemon(work, limits=limits(clients=2, connections=8)) as daemon, ExitStack() as stack:
        gate = asyncio.Event()
        waiting = [stack.enter_context(daemon.raw()) for _ in range(7)]
        for link in waiting:
            link.ask("login", 1)
        assert serves(daemon), "while the seven are at work: their gate is closed"
        eventually(lambda: daemon.run(_count(daemon.server)) == (7, 7))
        # One more and all are taken; whoever comes then waits for one of them.
        waiting.append(stack.enter_context(daemon.raw()))
        waiting[-1].ask("login", 1)
        eventually(lambda: daemon.run(_count(daemon.server)) == (8, 8))
        late = stack.enter_context(daemon.raw())
        late.ask("stats", 1)
        assert select.select([late.link], [], [], 0.3)[0] == []
        daemon.loop.call_soon_threadsafe(gate.set)
        assert [link.line()["ok"] for link in (*waiting, late)] == [True] * 9


def test_a_daemon_whose_places_were_all_taken_is_at_rest_again() -> None:
    """Idle, it has nothing to wake up for, however often it was full."""

    async def timers() -> int:
        loop: Any = asyncio.get_running_loop()
        return sum(not handle.cancelled() for handle in loop._scheduled)

    with Daemon(limits=limits(clients=1, connections=1, spare_seconds=0.05)) as daemon:
        for _ in range(20):
            with daemon.raw() as idle, daemon.raw() as other:
                idle.ask("stats", 1)
                other.ask("stats", 1)
                assert [idle.line()["ok"], other.line()["ok"]] == [True, True]
        eventually(lambda: daemon.run(_count(daemon.server)) == (0, 0))
        eventually(lambda: daemon.run(timers()) == 0)


def test_clients_that_leave_early_are_no_words_in_any_log(caplog: pytest.LogCaptureFixture) -> None:
    """Asyncio warns of each write to a connection that is gone, where no log of ours bounds it."""

    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        for _ in range(20):
            reply.event({"filling": "x" * 1000})
            await asyncio.sleep(0)
        return {}

    with Daemon(work) as daemon:
        for _ in range(10):
            with daemon.raw() as raw:
                raw.send(b"".join(line("login", number) for number in range(20)))
        eventually(lambda: len(daemon.ended) == 200)
    assert caplog.records == []


def test_requests_of_one_client_are_bounded_and_the_rest_wait() -> None:
    most = 0

    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        nonlocal most
        most = max(most, len(daemon.began) - len(daemon.ended))
        await asyncio.sleep(0.05)
        return {}

    with Daemon(work, limits=limits(pending=4, request_seconds=1.0)) as daemon, daemon.raw() as raw:
        raw.send(b"".join(line("login", number) for number in range(100)))
        assert sorted(raw.line()["id"] for _ in range(100)) == list(range(100))
    assert most == 4


def test_a_client_with_endless_requests_lets_others_in_between() -> None:
    with Daemon() as daemon, daemon.raw() as raw:
        stop = threading.Event()

        def read() -> None:
            while not stop.is_set():
                try:
                    raw.link.recv(1 << 20)
                except OSError:
                    return

        threading.Thread(target=read, daemon=True).start()
        flood = line("hello", 1) * 2000

        def write() -> None:
            while not stop.is_set():
                try:
                    raw.send(flood)
                except OSError:
                    return

        threading.Thread(target=write, daemon=True).start()
        began = time.monotonic()
        for _ in range(20):
            assert serves(daemon)
        assert time.monotonic() - began < PATIENCE
        stop.set()
        raw.link.shutdown(socket.SHUT_RDWR)


def test_a_client_with_many_requests_has_its_turn_and_no_more() -> None:
    """One look at its bytes takes some of its requests; the loop comes round to the others before it takes more."""

    async def main() -> list[int]:
        desk, pipe = Desk(), Pipe()
        connection = Connection(desk, uid=0, pid=1)
        connection.connection_made(cast(asyncio.Transport, pipe))
        connection.data_received(line("fly", 1) * 100)
        counts = [pipe.written.count(b"\n")]
        while counts[-1] < 100:
            await asyncio.sleep(0)
            counts.append(pipe.written.count(b"\n"))
        connection.connection_lost(None)
        return counts

    assert asyncio.run(main()) == [32, 64, 96, 100]


def test_requests_in_all_are_bounded() -> None:
    with Daemon(for_ever, limits=limits(running=3)) as daemon, daemon.raw() as raw:
        for number in range(5):
            raw.ask("login", number)
        answers = [raw.line(), raw.line()]
        assert [(answer["id"], answer["code"]) for answer in answers] == [(3, ExitCode.AGAIN), (4, ExitCode.AGAIN)]


def test_watchers_are_bounded_and_their_places_given_on() -> None:
    with Daemon(for_ever, limits=limits(watchers=2)) as daemon, daemon.raw() as raw, daemon.raw() as other:
        for number in range(3):
            raw.ask("watch", number)
        answer = raw.line()
        assert (answer["id"], answer["code"], answer["message"]["cause"]) == (2, 29, "2 clients are watching")
        raw.ask("cancel", 9, of=[0])
        assert {raw.line()["id"], raw.line()["id"]} == {9, 0}
        other.ask("watch", 1, seconds=0.1)
        assert other.line()["code"] == ExitCode.REQ_TIMEDOUT


def test_no_descriptor_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listening socket stays readable then: without a pause the loop would spin."""
    monkeypatch.setattr(server_module, "FULL_SECONDS", 0.2)
    with Daemon() as daemon:
        listener = daemon.server._listener
        assert listener is not None

        class Full:
            tries = 0

            def __getattr__(self, name: str) -> Any:
                return getattr(listener, name)

            def accept(self) -> Any:
                self.tries += 1
                raise OSError(errno.EMFILE, "Too many open files")

        full, began = Full(), time.monotonic()
        daemon.server._listener = full  # type: ignore[assignment]
        with daemon.raw() as raw:
            raw.ask("stats", 1)
            eventually(lambda: full.tries >= 3)
            assert {text for _, text in daemon.log} == {"no client can be taken: Too many open files"}
            assert full.tries <= (time.monotonic() - began) / server_module.FULL_SECONDS + 2
            daemon.server._listener = listener
            assert raw.line()["ok"] is True


# Strangers. -----------------------------------------------------------------------------------------------------------

NOBODY = frozenset({4711})
"""So that root, who runs the tests, is a user without the right."""


def test_a_user_without_the_right_is_told_so() -> None:
    with Daemon(users=NOBODY) as daemon, pytest.raises(IscsiBootError) as caught:
        connect(daemon.address)
    assert caught.value.exit_code is ExitCode.ACCESS
    assert caught.value.line() == (
        "daemon: iscsid: orders are taken from root only, and this comes from user 0; next: run it as root"
    )


def test_the_peers_command_without_the_right_is_told_so_in_its_way() -> None:
    with Daemon(users=NOBODY) as daemon, daemon.raw() as raw:
        raw.send(struct.pack("=IIi", 11, 0, 0).ljust(16128, b"\0"))
        reply = raw.rest()
        assert (len(reply), struct.unpack_from("=II", reply)) == (2464, (11, 13))
        assert daemon.began == []


def test_a_process_of_another_user() -> None:
    """Not the same process with another list: another user."""
    with Daemon() as daemon:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.setgid(65534)
                os.setuid(65534)
                try:
                    connect(daemon.address)
                except IscsiBootError as error:
                    os.write(writer, error.line().encode())
            finally:
                os._exit(0)
        os.close(writer)
        assert b"this comes from user 65534" in os.read(reader, 1000)
        os.close(reader)
        os.waitpid(child, 0)
        assert daemon.log == [(WARNING, f"Unauthorized user with UID=65534 (process {child}) was refused")]


def test_strangers_that_say_nothing_take_nobodys_place(monkeypatch: pytest.MonkeyPatch) -> None:
    with Daemon(users=NOBODY, limits=limits(strangers=4, stranger_seconds=60.0)) as daemon:
        held = [daemon.raw() for _ in range(100)]
        # Four are listened to for their time, the others thrown out at once.
        for raw in held[4:]:
            assert raw.rest() == b""
        assert select.select([raw.link for raw in held[:4]], [], [], 0.1)[0] == []
        for raw in held:
            raw.link.close()
        eventually(lambda: not daemon.server._strangers)
        assert daemon.server._clients == set()
        # A hundred of them are one line, and the next one counts the rest.
        assert len(daemon.log) == 1
        monkeypatch.setattr(server_module, "DENIED_SECONDS", 0.0)
        with pytest.raises(IscsiBootError):
            connect(daemon.address)
        assert daemon.log[1][1].endswith("was refused, 100 times since the last such line")


def test_a_stranger_that_talks_without_end() -> None:
    with Daemon(users=NOBODY, limits=limits(stranger_seconds=0.3)) as daemon, daemon.raw() as raw:
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            raw.flood(b"{" * 65536)
        assert daemon.began == []


# The peer's command. --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [16104, 16128, 20000])
def test_the_peers_command_is_answered_whatever_its_release(size: int) -> None:
    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        return {"initiator_name": "iqn.2026-01.org.example:me", "alias": "", "config_file": "/etc/iscsi/iscsid.conf"}

    with Daemon(work) as daemon, daemon.raw() as raw:
        raw.send(peers(10)[:size].ljust(size, b"\n"))
        reply = raw.link.recv(1 << 16)
        assert len(reply) == 2464
        assert reply[8:].rstrip(b"\0") == b"/etc/iscsi/iscsid.conf"


def test_the_peers_command_byte_by_byte() -> None:
    with Daemon() as daemon, daemon.raw() as raw:
        for byte in peers(13, 5)[:40]:
            raw.send(bytes([byte]))
        assert struct.unpack_from("=II", raw.link.recv(1 << 16)) == (13, 2)
        assert daemon.began == ["status 0"]


def test_the_peers_command_when_there_is_no_room() -> None:
    with Daemon(limits=limits(running=0)) as daemon, daemon.raw() as raw:
        raw.send(peers(8))
        assert struct.unpack_from("=II", raw.link.recv(1 << 16)) == (8, ExitCode.AGAIN)


def test_the_peers_logout_fails_with_its_code() -> None:
    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        raise IscsiBootError("in use", stage=Stage.SESSION, exit_code=ExitCode.BUSY)

    with Daemon(work) as daemon, daemon.raw() as raw:
        raw.send(peers(2, 9))
        assert struct.unpack_from("=II", raw.link.recv(1 << 16)) == (2, 28)


@pytest.mark.parametrize("command", [1, 4, 5, 12, 14, 15, 16, 50])
def test_the_peers_other_requests_are_unknown(command: int) -> None:
    with Daemon() as daemon, daemon.raw() as raw:
        raw.send(peers(command))
        reply = raw.link.recv(1 << 16)
        assert (len(reply), struct.unpack_from("=II", reply)) == (2464, (command, 16))
        assert daemon.began == []
        assert daemon.log[0][1].startswith(f"unknown request {command} of process {os.getpid()}")


def test_the_peers_command_that_does_not_go_away() -> None:
    with Daemon(limits=limits(request_seconds=1.0)) as daemon, daemon.raw() as raw:
        raw.send(peers(8))
        assert len(raw.rest()) == 2464


def test_the_peers_command_that_never_ends() -> None:
    with Daemon(limits=limits(request_seconds=60.0)) as daemon, daemon.raw() as raw:
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            raw.flood(peers(8))
        assert serves(daemon)


def test_half_a_head_of_the_peers() -> None:
    with Daemon(limits=limits(request_seconds=1.0)) as daemon, daemon.raw() as raw:
        raw.send(peers(11)[:12])
        assert "no request within" in json.loads(raw.rest())["message"]["cause"]
        assert daemon.began == []


# The daemon's own beginning and end. ----------------------------------------------------------------------------------


def test_one_listens() -> None:
    where = address()
    with listening_socket(where), pytest.raises(OSError) as caught:
        listening_socket(where)
    assert caught.value.errno == errno.EADDRINUSE


def test_requests_before_the_server_is_there_wait() -> None:
    """The socket is there before anything slow; the kernel keeps what comes meanwhile."""

    async def main() -> dict[str, Any]:
        listener = listening_socket(where)
        raw = await asyncio.get_running_loop().run_in_executor(None, Raw, where)
        raw.ask("stats", 1)
        server = Server(daemon, lambda level, text: None, limits=Limits(close_seconds=1.0))
        await server.start(listener)
        answer = await asyncio.get_running_loop().run_in_executor(None, raw.line)
        await server.close()
        raw.link.close()
        return answer

    where, daemon = address(), Daemon()
    assert asyncio.run(main())["ok"] is True


def test_the_end_answers_what_is_at_work() -> None:
    with Daemon(for_ever) as daemon, daemon.raw() as raw, daemon.raw() as idle:
        raw.ask("login", 1)
        raw.ask("watch", 2)
        eventually(lambda: len(daemon.began) == 2)
        daemon.stop()
        answers = [raw.line(), raw.line()]
        assert sorted((answer["id"], answer["code"], answer["message"]["cause"]) for answer in answers) == [
            (1, 18, "iscsid is ending"), (2, 18, "iscsid is ending"),
        ]  # fmt: skip
        assert (raw.rest(), idle.rest()) == (b"", b"")
        with pytest.raises(ConnectionRefusedError):
            daemon.raw()


def test_the_answer_to_stop_goes_out() -> None:
    async def work(request: Request, reply: Reply) -> dict[str, Any]:
        asyncio.get_running_loop().call_soon(daemon._stop.set)
        return {"stopping": True}

    with Daemon(work) as daemon, connect(daemon.address) as client:
        assert client.ask("stop") == {"stopping": True}
        daemon.stop()


def test_the_end_does_not_wait_for_a_client_that_does_not_read() -> None:
    async def large(request: Request, reply: Reply) -> dict[str, Any]:
        return {"text": "x" * (3 << 20)}

    with Daemon(large, limits=limits(close_seconds=0.2)) as daemon, daemon.raw() as raw, daemon.raw() as stranger:
        raw.ask("status", 1)
        eventually(lambda: daemon.ended)
        began = time.monotonic()
        daemon.stop()
        assert time.monotonic() - began < PATIENCE / 2
        assert stranger.rest() == b""


def test_a_server_that_never_began_can_end() -> None:
    asyncio.run(Server(Daemon(), lambda level, text: None).close())
