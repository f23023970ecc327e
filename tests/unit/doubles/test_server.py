# SPDX-License-Identifier: LGPL-2.1-or-later
"""The double on a loopback port: many at once, late on command, and never a thread that outlives its test."""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from iscsiboot.initiator.pdu.control import NopIn, NopOut
from iscsiboot.initiator.pdu.login import LoginRequest
from iscsiboot.initiator.pdu.registry import TARGET_PDUS, decode
from tests.doubles.faults import closed_before, closed_inside, late, on, ping
from tests.doubles.server import TargetServer, refusing_port
from tests.doubles.session import FullTarget, Plan
from tests.doubles.target import Script, ScriptedTarget, closing, silent, text_of

KEYS = text_of([("InitiatorName", "iqn.2004-01.com.example:host"), ("SessionType", "Normal")])
LOGIN = LoginRequest(transit=True, csg=1, nsg=3, isid=bytes(6), cmdsn=1, exp_statsn=0, data_length=len(KEYS))


def read_pdu(sock: socket.socket) -> Any:
    header = b""
    while len(header) < 48:
        chunk = sock.recv(48 - len(header))
        if not chunk:
            return None
        header += chunk
    length = -(-int.from_bytes(header[5:8], "big") // 4) * 4
    while length:
        length -= len(sock.recv(length))
    return decode(header, TARGET_PDUS)


def log_in(sock: socket.socket) -> Any:
    sock.sendall(LOGIN.encode() + KEYS.ljust(-(-len(KEYS) // 4) * 4, b"\0"))
    return read_pdu(sock)


def send_ping(sock: socket.socket, itt: int = 1) -> None:
    sock.sendall(NopOut(itt=itt, cmdsn=itt, exp_statsn=1001).encode())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("piece", [0, 1, 47])
def test_a_connection(host: str, piece: int) -> None:
    with TargetServer(piece=piece, host=host) as server, server.connect() as sock:
        assert log_in(sock).nsg == 3
        send_ping(sock)
        assert read_pdu(sock).itt == 1
    assert len(server.targets) == 1
    assert server.violations == []


def test_many_at_once() -> None:
    with TargetServer() as server:
        socks = [server.connect() for _ in range(20)]
        for sock in socks:
            assert log_in(sock).nsg == 3
        for number, sock in enumerate(reversed(socks)):
            send_ping(sock)
            assert read_pdu(sock).itt == 1, number
        server.wait(lambda: len(server.targets) == 20)
        for sock in socks:
            sock.close()


def test_one_late_connection_holds_up_no_other() -> None:
    plans = [Plan(faults=[on(NopIn, late(math.inf))]), Plan()]
    with (
        TargetServer(lambda: FullTarget(plans[len(server.targets)])) as server,
        server.connect() as first,
        server.connect() as second,
    ):
        for sock in (first, second):
            log_in(sock)
            send_ping(sock)
        assert read_pdu(second).itt == 1
        first.settimeout(0.05)
        with pytest.raises(TimeoutError):
            first.recv(1)
        first.settimeout(5)
        server.release()
        assert read_pdu(first).itt == 1


def test_a_late_answer_comes_by_itself_too() -> None:
    with TargetServer(lambda: FullTarget(Plan(faults=[on(NopIn, late(0.01))]))) as server, server.connect() as sock:
        log_in(sock)
        send_ping(sock)
        assert read_pdu(sock).itt == 1


def test_something_is_said_while_an_answer_is_late() -> None:
    plan = Plan(faults=[on(NopIn, late(math.inf))])
    with TargetServer(lambda: FullTarget(plan)) as server, server.connect() as sock:
        log_in(sock)
        send_ping(sock)
        # The ping of the target is behind the one that is late, or the fault would be its own.
        server.wait(lambda: server.full_targets[0].received[-1].OPCODE == NopOut.OPCODE)
        server.push(ping(0x42))
        assert read_pdu(sock).ttt == 0x42
        server.release()
        assert read_pdu(sock).itt == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: ScriptedTarget(Script(faults={0: closing})),
        lambda: FullTarget(Plan(login=Script(faults={0: closing}))),
    ],
    ids=["login alone", "whole target"],
)
def test_closing_reaches_the_client(make: Callable[[], Any]) -> None:
    with TargetServer(make) as server, server.connect() as sock:
        assert log_in(sock) is None


@pytest.mark.parametrize(("change", "length"), [(closed_before, 0), (closed_inside(20), 20)], ids=["before", "inside"])
def test_closing_in_full_feature_phase(change: Any, length: int) -> None:
    with TargetServer(lambda: FullTarget(Plan(faults=[on(NopIn, change)]))) as server, server.connect() as sock:
        log_in(sock)
        send_ping(sock)
        data = b""
        while chunk := sock.recv(100):
            data += chunk
        assert len(data) == length


@pytest.mark.parametrize("accept", [True, False], ids=["silent", "never accepted"])
def test_never_an_answer(accept: bool) -> None:
    made = Plan(login=Script(faults={-1: silent}))
    with TargetServer(lambda: FullTarget(made), accept=accept) as server, server.connect() as sock:
        sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            log_in(sock)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_refusing(host: str) -> None:
    with refusing_port(host) as port, pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, port), timeout=5)


def test_a_mistake_of_the_double_fails_the_test() -> None:
    class Broken(FullTarget):
        def receive(self, data: bytes) -> Any:
            raise ZeroDivisionError

    def use() -> None:
        with TargetServer(Broken) as server, server.connect() as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b""

    with pytest.raises(ZeroDivisionError):
        use()


def test_nothing_is_left() -> None:
    before = threading.active_count()
    with TargetServer(lambda: FullTarget(Plan(faults=[on(NopIn, late(math.inf))]))) as server:
        socks = [server.connect() for _ in range(3)]
        for sock in socks:
            log_in(sock)
            send_ping(sock)
    assert threading.active_count() == before
    for sock in socks:
        sock.close()
