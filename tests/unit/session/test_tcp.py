# SPDX-License-Identifier: LGPL-2.1-or-later
"""The TCP driver against the scripted target on loopback: pieces, silence, closed connections, time."""

from __future__ import annotations

import socket
import time
from dataclasses import replace

import pytest

from iscsiboot.errors import ExitCode
from iscsiboot.initiator.errors import LoginError
from iscsiboot.initiator.events import LoginRedirected, LoginSucceeded
from iscsiboot.initiator.login import LoginMachine
from iscsiboot.initiator.states import State
from iscsiboot.model.deadline import Deadline
from iscsiboot.session.tcp import login_over_tcp
from tests.doubles.conversation import OWN, USER, config, credentials, fixed_entropy
from tests.doubles.server import TargetServer
from tests.doubles.target import Script, ScriptedTarget, closing, endless, raw, redirect, silent

MUTUAL = Script(user=USER, own=OWN)


def machine() -> LoginMachine:
    return LoginMachine(config(credentials=credentials(mutual=True)), entropy=fixed_entropy)


def run(sock: socket.socket, running: LoginMachine, seconds: float = 10.0) -> LoginSucceeded | LoginRedirected:
    deadline = Deadline.after(seconds, now=time.monotonic(), reason="an answer of the scripted target")
    return login_over_tcp(sock, running, deadline=deadline, now=time.monotonic)


@pytest.mark.parametrize("piece", [0, 1, 47, 49], ids=["whole", "one-byte", "47-bytes", "49-bytes"])
def test_pieces_of_any_size(piece: int) -> None:
    with TargetServer(lambda: ScriptedTarget(MUTUAL), piece=piece) as server, server.connect() as sock:
        outcome = run(sock, machine())
    assert isinstance(outcome, LoginSucceeded)
    assert outcome.mutual


def test_ipv6() -> None:
    with TargetServer(lambda: ScriptedTarget(MUTUAL), host="::1") as server, server.connect() as sock:
        assert isinstance(run(sock, machine()), LoginSucceeded)


def test_redirect() -> None:
    script = Script(faults={0: redirect("192.0.2.8")})
    with TargetServer(lambda: ScriptedTarget(script)) as server, server.connect() as sock:
        assert isinstance(run(sock, machine()), LoginRedirected)


def test_the_socket_gets_its_timeout_back_and_nothing_more_is_read() -> None:
    with TargetServer(lambda: ScriptedTarget(MUTUAL)) as server, server.connect() as sock:
        sock.settimeout(42.5)
        run(sock, machine())
        assert sock.gettimeout() == 42.5
    with TargetServer(lambda: ScriptedTarget(Script(faults={0: closing}))) as server, server.connect() as sock:
        sock.settimeout(None)
        with pytest.raises(LoginError):
            run(sock, machine())
        assert sock.gettimeout() is None


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_silence_ends_at_the_deadline(number: int) -> None:
    script = replace(MUTUAL, faults={number: silent})
    running = machine()
    started = time.monotonic()
    with (
        TargetServer(lambda: ScriptedTarget(script)) as server,
        server.connect() as sock,
        pytest.raises(LoginError, match=r"waited \d s for an answer of the scripted target") as caught,
    ):
        run(sock, running, 0.2)
    assert 0.15 < time.monotonic() - started < 9
    assert (caught.value.exit_code, caught.value.retryable) == (ExitCode.PDU_TIMEOUT, True)
    assert caught.value.phase == ("operational negotiation" if number == 3 else "security negotiation")
    assert running.state is State.FAILED


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_a_closed_connection_is_worth_another_try(number: int) -> None:
    script = replace(MUTUAL, faults={number: closing})
    with (
        TargetServer(lambda: ScriptedTarget(script)) as server,
        server.connect() as sock,
        pytest.raises(LoginError, match="the target closed the connection") as caught,
    ):
        run(sock, machine())
    assert (caught.value.exit_code, caught.value.retryable) == (ExitCode.LOGIN, True)


def test_a_connection_closed_inside_a_pdu() -> None:
    cut = Script(faults={0: lambda reply: replace(reply, pdu=reply.wire()[:50], close=True)})
    with (
        TargetServer(lambda: ScriptedTarget(cut)) as server,
        server.connect() as sock,
        pytest.raises(LoginError, match="the target closed the connection"),
    ):
        run(sock, machine())


class Dripping(socket.socket):
    """Hands out what came one byte at a time, however much the network has joined together."""

    def recv(self, length: int, flags: int = 0) -> bytes:
        return super().recv(min(length, 1), flags)


def test_a_slow_drip_cannot_stretch_the_deadline() -> None:
    """Each byte comes in time for itself; the clock moves a second per look, so the whole does not."""
    ticks = iter(range(1000))
    with TargetServer(lambda: ScriptedTarget(MUTUAL)) as server, Dripping(fileno=server.connect().detach()) as sock:
        deadline = Deadline(at=20.0, reason="the drip")
        with pytest.raises(LoginError, match="waited 21 s for the drip"):
            login_over_tcp(sock, machine(), deadline=deadline, now=lambda: float(next(ticks)))


def test_a_passed_deadline_sends_nothing() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(LoginError, match="waited 0 s"):
            login_over_tcp(ours, machine(), deadline=Deadline(at=5.0, reason="nothing"), now=lambda: 6.0)
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(1)


def test_a_hostile_length_is_refused_before_it_is_read() -> None:
    script = Script(faults={0: raw(b"\x23\x00\0\0\0\xff\xff\xff" + bytes(40))})
    with (
        TargetServer(lambda: ScriptedTarget(script)) as server,
        server.connect() as sock,
        pytest.raises(LoginError, match="16777215 bytes of data"),
    ):
        run(sock, machine())


def test_endless_text_ends() -> None:
    with (
        TargetServer(lambda: ScriptedTarget(Script(faults={-1: endless}))) as server,
        server.connect() as sock,
        pytest.raises(LoginError, match="not over after"),
    ):
        run(sock, machine())


def test_a_dead_socket_is_reported_in_words() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, pytest.raises(LoginError, match="the connection failed: ") as caught:
        run(ours, machine())
    assert caught.value.retryable
