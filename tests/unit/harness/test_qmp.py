# SPDX-License-Identifier: LGPL-2.1-or-later
"""The QMP client against a scripted peer on a socketpair: order, events, refusals, a peer that goes at each step."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from iscsiboot.model.deadline import Deadline
from tests.qemu.harness.qmp import Qmp, QmpError, QmpRefused

GREETING = {"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": []}}


def soon(seconds: float = 5.0) -> Deadline:
    return Deadline.after(seconds, now=time.monotonic(), reason="an answer of the test's peer")


class Peer:
    """The server's side: sends what the script says, takes requests."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.file = connection.makefile("rb")
        self.seen: list[dict[str, Any]] = []

    def send(self, *messages: object) -> None:
        for message in messages:
            self.connection.sendall(json.dumps(message).encode() + b"\r\n")

    def take(self) -> dict[str, Any]:
        request: dict[str, Any] = json.loads(self.file.readline())
        self.seen.append(request)
        return request

    def answer(self, value: object = None) -> None:
        self.send({"return": value if value is not None else {}, "id": self.take()["id"]})

    def close(self) -> None:
        self.file.close()
        self.connection.close()


Script = Callable[[Peer], None]
Start = Callable[[Script], tuple[Qmp, Peer]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Runs a peer's script in a thread; joined at the end, so a script that hangs fails the test."""
    threads: list[threading.Thread] = []
    sockets: list[socket.socket] = []

    def go(script: Script) -> tuple[Qmp, Peer]:
        ours, theirs = socket.socketpair()
        peer = Peer(theirs)
        thread = threading.Thread(target=script, args=(peer,), daemon=True)
        threads.append(thread)
        sockets.extend((ours, theirs))
        thread.start()
        return Qmp(ours, time.monotonic), peer

    yield go
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive(), "the peer's script did not end"
    for end in sockets:
        end.close()


def test_greets_and_leaves_negotiation(start: Start) -> None:
    def script(peer: Peer) -> None:
        peer.send(GREETING)
        peer.answer()

    qmp, peer = start(script)
    assert qmp.greet(soon()) == GREETING["QMP"]
    assert [request["execute"] for request in peer.seen] == ["qmp_capabilities"]


def test_arguments_and_return_value(start: Start) -> None:
    def script(peer: Peer) -> None:
        peer.answer({"status": "running"})

    qmp, peer = start(script)
    assert qmp.execute("query-status", {"a": 1}, deadline=soon()) == {"status": "running"}
    assert peer.seen[0]["arguments"] == {"a": 1}


def test_events_between_are_kept_in_order(start: Start) -> None:
    def script(peer: Peer) -> None:
        request = peer.take()
        peer.send({"event": "RESUME"}, {"event": "NIC_RX_FILTER_CHANGED"}, {"return": 7, "id": request["id"]})

    qmp, _ = start(script)
    assert qmp.execute("cont", deadline=soon()) == 7
    assert [event["event"] for event in qmp.events()] == ["RESUME", "NIC_RX_FILTER_CHANGED"]
    assert qmp.events() == []


def test_event_before_the_answer_to_capabilities(start: Start) -> None:
    def script(peer: Peer) -> None:
        peer.send(GREETING, {"event": "STOP"})
        peer.answer()

    qmp, _ = start(script)
    qmp.greet(soon())
    assert [event["event"] for event in qmp.events()] == ["STOP"]


def test_late_answer_to_an_earlier_command_is_not_taken_for_this_one(start: Start) -> None:
    gate = threading.Event()

    def script(peer: Peer) -> None:
        first = peer.take()
        gate.wait(5)
        second = peer.take()
        peer.send({"return": "late", "id": first["id"]}, {"return": "mine", "id": second["id"]})

    qmp, _ = start(script)
    with pytest.raises(QmpError, match="no answer in time"):
        qmp.execute("first", deadline=soon(0.05))
    gate.set()
    assert qmp.execute("second", deadline=soon()) == "mine"


def test_answer_split_into_single_bytes(start: Start) -> None:
    def script(peer: Peer) -> None:
        request = peer.take()
        for byte in json.dumps({"return": "whole", "id": request["id"]}).encode() + b"\n":
            peer.connection.sendall(bytes((byte,)))

    qmp, _ = start(script)
    assert qmp.execute("x", deadline=soon()) == "whole"


def test_refusal_names_command_class_and_reason(start: Start) -> None:
    def script(peer: Peer) -> None:
        request = peer.take()
        peer.send({"error": {"class": "CommandNotFound", "desc": "no such command"}, "id": request["id"]})

    qmp, _ = start(script)
    with pytest.raises(QmpRefused, match="boo: no such command") as caught:
        qmp.execute("boo", deadline=soon())
    assert caught.value.kind == "CommandNotFound"


def close_at_once(peer: Peer) -> None:
    peer.close()


def close_after_greeting(peer: Peer) -> None:
    peer.send(GREETING)
    peer.take()
    peer.close()


def close_inside_a_message(peer: Peer) -> None:
    peer.connection.sendall(b'{"QMP": {"ver')
    peer.close()


@pytest.mark.parametrize("script", [close_at_once, close_after_greeting, close_inside_a_message])
def test_peer_closing_while_greeting(start: Start, script: Script) -> None:
    qmp, _ = start(script)
    with pytest.raises(QmpError, match=r"closed|cannot be sent|broke"):
        qmp.greet(soon())


def test_peer_closing_instead_of_an_answer(start: Start) -> None:
    def script(peer: Peer) -> None:
        peer.take()
        peer.close()

    qmp, _ = start(script)
    with pytest.raises(QmpError, match=r"closed|broke"):
        qmp.execute("quit", deadline=soon())


def test_silence_ends_at_the_deadline_with_its_reason(start: Start) -> None:
    qmp, _ = start(lambda peer: None)
    before = time.monotonic()
    with pytest.raises(QmpError, match="an answer of the test's peer"):
        qmp.greet(soon(0.1))
    assert 0.09 <= time.monotonic() - before < 3


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"hello\n", "no JSON"),
        (b"[1]\n", "no object"),
        (b'{"return": {}}\n', "does not greet"),
        (b'{"QMP": 3}\n', "does not greet"),
        (b"\xff\xfe\n", "no JSON"),
    ],
    ids=["text", "list", "answer", "odd greeting", "bytes"],
)
def test_a_peer_that_speaks_something_else(start: Start, said: bytes, words: str) -> None:
    qmp, _ = start(lambda peer: peer.connection.sendall(said))
    with pytest.raises(QmpError, match=words):
        qmp.greet(soon())


def test_a_line_without_end_is_refused(start: Start) -> None:
    def script(peer: Peer) -> None:
        try:
            peer.connection.sendall(b"x" * (3 << 20))
        except OSError:
            pass

    qmp, peer = start(script)
    with pytest.raises(QmpError, match="without end"):
        qmp.greet(soon())
    peer.connection.shutdown(socket.SHUT_RDWR)
