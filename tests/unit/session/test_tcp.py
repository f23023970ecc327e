# SPDX-License-Identifier: LGPL-2.1-or-later
"""The TCP driver against the scripted target on loopback: pieces, silence, closed connections, time, cancellation."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from iscsiboot.errors import ExitCode, Stage
from iscsiboot.initiator.config import SessionType
from iscsiboot.initiator.connection import Connection, ConnectionPhase
from iscsiboot.initiator.discovery import DiscoveryFinished, TargetFound
from iscsiboot.initiator.errors import LoginError, SessionError
from iscsiboot.initiator.events import LoginRedirected, LoginSucceeded
from iscsiboot.initiator.pdu.control import AsyncEvent, NopIn, TextResponse
from iscsiboot.initiator.pdu.header import Opcode
from iscsiboot.initiator.session_events import CommandFinished, ConnectionDropped, LoggedOut, Pong
from iscsiboot.initiator.timers import Timers
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.lun import Lun
from iscsiboot.model.params import Digest, SessionParams
from iscsiboot.session.cancel import Cancellation, Cancelled
from iscsiboot.session.tcp import TcpLink
from tests.doubles.conversation import OWN, USER, config, credentials, fixed_entropy
from tests.doubles.directory import numbered
from tests.doubles.faults import closed_inside, event, late, on, stray_pong
from tests.doubles.server import TargetServer
from tests.doubles.session import FullTarget, Plan
from tests.doubles.target import Script, ScriptedTarget, closing, endless, raw, redirect, silent
from tests.doubles.wire import Close, Item, Send
from tests.unit.session.links import LONG, SOON, in_a_moment, nothing_left_open, within

MUTUAL = Script(user=USER, own=OWN)


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    with nothing_left_open():
        yield


def mutual(timers: Timers = Timers(), **values: object) -> Connection:  # noqa: B008 (frozen)
    return Connection(config(credentials=credentials(mutual=True), **values), entropy=fixed_entropy, timers=timers)


def plain(timers: Timers = Timers(), **values: object) -> Connection:  # noqa: B008 (frozen)
    return Connection(config(**values), entropy=fixed_entropy, timers=timers)


def link_to(server: TargetServer, connection: Connection, cancellation: Cancellation | None = None) -> TcpLink:
    """A link that has begun its login."""
    made = TcpLink(server.connect(), connection, now=time.monotonic, cancellation=cancellation)
    made.start()
    return made


def login(server: TargetServer, connection: Connection, seconds: float = LONG) -> LoginSucceeded:
    with link_to(server, connection) as link:
        outcome = link.next_event(within(seconds))
        assert isinstance(outcome, LoginSucceeded)
        return outcome


def serving(plan: Plan, **values: Any) -> TargetServer:
    return TargetServer(lambda: FullTarget(plan), **values)


def scripted(script: Script, **values: Any) -> TargetServer:
    return TargetServer(lambda: ScriptedTarget(script), **values)


def of_kind(link: TcpLink, kind: type, seconds: float = LONG) -> Any:
    """The next event of this kind."""
    deadline = within(seconds)
    while not isinstance(found := link.next_event(deadline), kind):
        pass
    return found


# Bytes.


@pytest.mark.parametrize("piece", [0, 1, 47, 49], ids=["whole", "one-byte", "47-bytes", "49-bytes"])
def test_pieces_of_any_size(piece: int) -> None:
    with scripted(MUTUAL, piece=piece) as server:
        assert login(server, mutual()).mutual
        assert server.violations == []


def test_ipv6() -> None:
    with scripted(MUTUAL, host="::1") as server:
        assert login(server, mutual()).mutual


@pytest.mark.parametrize("piece", [0, 1], ids=["whole", "one-byte"])
def test_a_whole_discovery(piece: int) -> None:
    plan = Plan(records=numbered(20), text_segment=333)
    with serving(plan, piece=piece) as server:
        with link_to(server, plain(session_type=SessionType.DISCOVERY, target_name="")) as link:
            assert isinstance(link.next_event(within()), LoginSucceeded)
            tag = link.connection.discover(time.monotonic())
            found = [link.next_event(within()) for _ in range(20)]
            assert all(isinstance(item, TargetFound) for item in found)
            assert link.next_event(within()) == DiscoveryFinished(tag=tag, found=20, refused=0)
            tag = link.connection.logout(time.monotonic())
            assert of_kind(link, LoggedOut).tag == tag
        assert server.violations == []


class Reluctant(socket.socket):
    """Takes and gives one byte at a time, and says every other time that it cannot now."""

    refused = 0

    def send(self, data: Any, flags: int = 0) -> int:
        self.refused += 1
        if self.refused % 2:
            raise BlockingIOError
        return super().send(data[:7], flags)

    def recv(self, length: int, flags: int = 0) -> bytes:
        self.refused += 1
        if self.refused % 2:
            raise InterruptedError
        return super().recv(min(length, 3), flags)


def test_a_socket_that_takes_little_at_a_time() -> None:
    with scripted(MUTUAL) as server:
        sock = Reluctant(fileno=server.connect().detach())
        with TcpLink(sock, mutual(), now=time.monotonic) as link:
            link.start()
            assert isinstance(link.next_event(within()), LoginSucceeded)
        assert sock.refused > 200
        assert server.violations == []


def test_more_than_the_socket_takes_goes_out_while_answers_come_in() -> None:
    """16 writes of 64 KiB through a send buffer of a few: each side waits for the other again and again."""
    plan = Plan(r2t_length=16384)
    with serving(plan) as server:
        connection = plain(params=SessionParams(data_digest=Digest.CRC32C))
        sock = server.connect()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        with TcpLink(sock, connection, now=time.monotonic) as link:
            link.start()
            assert isinstance(link.next_event(within()), LoginSucceeded)
            lun, write = Lun.from_number(1), b"\x2a\0\0\0\0\0\0\0\x80\0"
            data = bytes(range(256)) * 256
            tags = {connection.command(lun, write, now=time.monotonic(), data_out=data) for _ in range(16)}
            while tags:
                finished = of_kind(link, CommandFinished)
                assert finished.result.status in (0, 2)
                tags.remove(finished.tag)
        assert server.violations == []


# Ends.


def test_redirect_and_what_is_behind_it() -> None:
    with scripted(Script(faults={0: redirect("192.0.2.8")})) as server, link_to(server, plain()) as link:
        assert isinstance(link.next_event(within()), LoginRedirected)
        with pytest.raises(LoginError, match=r"waited 0\.\d s for more of it"):
            link.next_event(within(SOON, "more of it"))


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_silence_ends_at_the_deadline(number: int) -> None:
    script = replace(MUTUAL, faults={number: silent})
    running = mutual()
    started = time.monotonic()
    with (
        scripted(script) as server,
        pytest.raises(LoginError, match=r"waited \d(?:\.\d)? s for an answer of the scripted target") as caught,
    ):
        login(server, running, 0.2)
    assert 0.15 < time.monotonic() - started < 9
    assert (caught.value.exit_code, caught.value.retryable) == (ExitCode.PDU_TIMEOUT, True)
    assert caught.value.phase == ("operational negotiation" if number == 3 else "security negotiation")
    assert running.phase is ConnectionPhase.FAILED


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_a_closed_connection_is_worth_another_try(number: int) -> None:
    script = replace(MUTUAL, faults={number: closing})
    with scripted(script) as server, pytest.raises(LoginError, match="the target closed the connection") as caught:
        login(server, mutual())
    assert (caught.value.exit_code, caught.value.retryable) == (ExitCode.LOGIN, True)


def test_a_connection_closed_inside_a_pdu() -> None:
    cut = Script(faults={0: lambda reply: replace(reply, pdu=reply.wire()[:50], close=True)})
    with scripted(cut) as server, pytest.raises(LoginError, match="the target closed the connection"):
        login(server, plain())


@pytest.mark.parametrize("length", [0, 1, 47, 48, 60], ids=lambda length: f"after-{length}-bytes")
def test_a_session_closed_inside_a_pdu(length: int) -> None:
    plan = Plan(records=numbered(5), faults=[on(TextResponse, closed_inside(length))])
    with serving(plan) as server, link_to(server, plain(session_type=SessionType.DISCOVERY, target_name="")) as link:
        link.next_event(within())
        link.connection.discover(time.monotonic())
        with pytest.raises(SessionError, match="the target closed the connection") as caught:
            link.next_event(within())
    assert (caught.value.stage, caught.value.exit_code, caught.value.retryable) == (
        Stage.DISCOVERY,
        ExitCode.TRANS,
        True,
    )


def test_what_came_before_the_error_is_told_first_and_the_error_ever_after() -> None:
    plan = Plan(faults=[on(NopIn, lambda pong: [pong, stray_pong(), stray_pong()])])
    with serving(plan) as server, link_to(server, plain()) as link:
        link.next_event(within())
        tag = link.connection.ping(time.monotonic())
        assert link.next_event(within()) == Pong(tag=tag, data=b"")
        for _ in range(2):
            with pytest.raises(SessionError, match="a task that does not exist"):
                link.next_event(within())


def test_what_the_target_said_is_heard_although_sending_fails() -> None:
    """It says that it drops the connection, and drops it, while we still send: its word is the better explanation."""

    class Broken(socket.socket):
        broken = False

        def send(self, data: Any, flags: int = 0) -> int:
            if self.broken:
                raise BrokenPipeError(32, "Broken pipe")
            return super().send(data, flags)

    with serving(Plan()) as server:
        sock = Broken(fileno=server.connect().detach())
        with TcpLink(sock, plain(), now=time.monotonic) as link:
            link.start()
            link.next_event(within())
            sock.broken = True
            link.connection.ping(time.monotonic())
            with in_a_moment(lambda: server.push(event(AsyncEvent.CONNECTION_DROP, parameters=(0, 2, 20)), Close())):
                assert isinstance(of_kind(link, ConnectionDropped), ConnectionDropped)


def test_a_failed_send_is_the_reason_when_nothing_else_was_said() -> None:
    class Broken(socket.socket):
        def send(self, data: Any, flags: int = 0) -> int:
            raise OSError(113, "No route to host")

    ours, theirs = socket.socketpair()
    with TcpLink(Broken(fileno=ours.detach()), plain(), now=time.monotonic) as link:
        link.start()
        with (
            in_a_moment(theirs.close),
            pytest.raises(LoginError, match="the connection failed: No route to host"),
        ):
            link.next_event(within())


def test_a_dead_socket_is_reported_in_words() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with TcpLink(ours, plain(), now=time.monotonic) as link:
        link.start()
        with pytest.raises(LoginError, match="the connection failed: Broken pipe") as caught:
            link.next_event(within())
    assert caught.value.retryable


def test_a_reset_is_reported_in_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        with TcpLink(sock, plain(), now=time.monotonic) as link:
            link.start()
            with (
                in_a_moment(accepted.close),
                pytest.raises(LoginError, match="the connection failed: Connection reset by peer") as caught,
            ):
                link.next_event(within())
    assert (caught.value.exit_code, caught.value.retryable) == (ExitCode.LOGIN, True)


def test_a_target_that_closes_instead_of_answering_a_logout() -> None:
    with serving(Plan(deaf_to=frozenset({Opcode.LOGOUT_REQUEST}))) as server, link_to(server, plain()) as link:
        link.next_event(within())
        tag = link.connection.logout(time.monotonic())
        with in_a_moment(lambda: server._served[0].hang_up()):
            assert of_kind(link, LoggedOut) == LoggedOut(tag=tag, response=None)
        assert link.ended
        with pytest.raises(SessionError, match="was logged out: nothing more can come"):
            link.next_event(within())


def test_a_target_that_resets_instead_of_answering_a_logout() -> None:
    """Closing a socket with something unread makes a reset of it."""

    class Reset(socket.socket):
        due = False

        def recv(self, length: int, flags: int = 0) -> bytes:
            if self.due:
                raise ConnectionResetError(104, "Connection reset by peer")
            return super().recv(length, flags)

    with serving(Plan(deaf_to=frozenset({Opcode.LOGOUT_REQUEST}))) as server:
        sock = Reset(fileno=server.connect().detach())
        with TcpLink(sock, plain(), now=time.monotonic) as link:
            link.start()
            link.next_event(within())
            tag = link.session().logout(time.monotonic())
            sock.due = True
            with in_a_moment(lambda: server._served[0].hang_up()):
                assert of_kind(link, LoggedOut) == LoggedOut(tag=tag, response=None)


def test_a_drop_the_target_announces_is_no_error_of_its_own() -> None:
    with serving(Plan()) as server, link_to(server, plain()) as link:
        link.next_event(within())
        server.push(event(AsyncEvent.CONNECTION_DROP, parameters=(0, 2, 20)))
        assert isinstance(of_kind(link, ConnectionDropped), ConnectionDropped)
        server._served[0].hang_up()
        with pytest.raises(SessionError, match="was dropped by the target: nothing more can come") as caught:
            link.next_event(within())
    assert caught.value.retryable


def in_one_segment(data: bytes) -> tuple[TcpLink, socket.socket]:
    """A link whose peer, driven by hand, has answered everything up to here with these bytes at once."""
    ours, theirs = socket.socketpair()
    theirs.sendall(data)
    link = TcpLink(ours, plain(), now=time.monotonic)
    link.start()
    return link, theirs


def greeting(*items: Item) -> bytes:
    """The whole answer of a target to a login, and these items right behind it."""
    asked = plain()
    asked.start()
    actions = FullTarget(Plan(greeting=items)).receive(asked.data_to_send())
    return b"".join(action.data for action in actions if isinstance(action, Send))


@pytest.mark.parametrize(
    ("item", "cause"),
    [
        pytest.param(stray_pong(), "a task that does not exist", id="a-broken-rule"),
        pytest.param(event(AsyncEvent.CONNECTION_DROP, parameters=(0, 2, 2)), "was dropped by the target", id="a-drop"),
    ],
)
def test_a_request_after_the_targets_last_word_is_no_mistake(item: Item, cause: str) -> None:
    """It came in one segment with the event before it, so whoever got that event cannot know."""
    link, theirs = in_one_segment(greeting(item))
    with theirs, link:
        assert link.session() is link.connection
        assert isinstance(link.next_event(within()), LoginSucceeded)
        for _ in range(2):
            with pytest.raises(SessionError, match=cause):
                link.session()


def test_a_hostile_length_is_refused_before_it_is_read() -> None:
    script = Script(faults={0: raw(b"\x23\x00\0\0\0\xff\xff\xff" + bytes(40))})
    with scripted(script) as server, pytest.raises(LoginError, match="16777215 bytes of data"):
        login(server, plain())


def test_endless_text_ends() -> None:
    with scripted(Script(faults={-1: endless})) as server, pytest.raises(LoginError, match="not over after"):
        login(server, plain())


def test_leaving_the_block_closes_the_socket() -> None:
    with scripted(MUTUAL) as server:
        link = link_to(server, mutual())
        with pytest.raises(KeyboardInterrupt), link:
            raise KeyboardInterrupt
        assert link._sock.fileno() == -1
        link.close()


# Time.


class Dripping(socket.socket):
    """Hands out what came one byte at a time, however much the network has joined together."""

    def recv(self, length: int, flags: int = 0) -> bytes:
        return super().recv(min(length, 1), flags)


def test_a_slow_drip_cannot_stretch_the_deadline() -> None:
    """Each byte comes in time for itself; the clock moves a second per look, so the whole does not."""
    ticks = iter(range(1000))
    with scripted(MUTUAL) as server:
        sock = Dripping(fileno=server.connect().detach())
        with TcpLink(sock, mutual(), now=lambda: float(next(ticks))) as link:
            link.start()
            with pytest.raises(LoginError, match=r"waited 2\d(?:\.\d)? s for the drip"):
                link.next_event(Deadline(at=20.0, reason="the drip"))


def test_a_passed_deadline_sends_nothing() -> None:
    ours, theirs = socket.socketpair()
    with theirs, TcpLink(ours, plain(), now=lambda: 6.0) as link:
        link.start()
        with pytest.raises(LoginError, match="waited 0 s for nothing"):
            link.next_event(Deadline(at=5.0, reason="nothing"))
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(1)


def test_a_late_answer_is_waited_for() -> None:
    plan = Plan(faults=[on(NopIn, late(0.2))])
    with serving(plan) as server, link_to(server, plain()) as link:
        link.next_event(within())
        link.connection.ping(time.monotonic())
        assert isinstance(link.next_event(within()), Pong)


def test_the_timers_of_the_session_are_kept_while_a_caller_waits_longer() -> None:
    """A target that no longer answers pings ends the session long before the caller's own deadline."""
    timers = Timers(ping_interval=0.1, ping_timeout=0.2)
    with serving(Plan(deaf_to=frozenset({Opcode.NOP_OUT}))) as server, link_to(server, plain(timers)) as link:
        link.next_event(within())
        began = time.monotonic()
        with pytest.raises(SessionError, match="did not answer a NOP-Out within") as caught:
            link.next_event(within())
        assert 0.25 < time.monotonic() - began < LONG / 2
    assert (caught.value.exit_code, caught.value.retryable) == (ExitCode.PDU_TIMEOUT, True)


def test_what_lies_in_the_socket_is_not_late() -> None:
    """A process that slept for ten seconds finds the answer and the expired timer at once."""
    slept = 0.0

    class Sleepy(socket.socket):
        def send(self, data: Any, flags: int = 0) -> int:
            nonlocal slept
            sent = super().send(data, flags)
            if data[0] & 0x3F == Opcode.NOP_OUT:
                select.select([self], [], [], LONG)
                slept = 10.0
            return sent

    connection = plain(Timers(ping_interval=0, ping_timeout=5))
    with (
        serving(Plan()) as server,
        TcpLink(Sleepy(fileno=server.connect().detach()), connection, now=lambda: time.monotonic() + slept) as link,
    ):
        link.start()
        link.next_event(within())
        tag = link.session().ping(time.monotonic())
        assert link.next_event(within()) == Pong(tag=tag, data=b"")
    assert slept


def test_pings_keep_a_quiet_session_alive() -> None:
    timers = Timers(ping_interval=0.02, ping_timeout=5)
    with serving(Plan()) as server, link_to(server, plain(timers)) as link:
        link.next_event(within())
        with pytest.raises(SessionError, match=r"waited 0\.\d s for nothing in particular"):
            link.next_event(within(SOON, "nothing in particular"))
        pings = [pdu for pdu in server.full_targets[0].received if pdu.OPCODE == Opcode.NOP_OUT]
        assert len(pings) >= 3


# Cancellation.


@pytest.fixture
def cancellation(nothing_stays_open: None) -> Iterator[Cancellation]:
    with Cancellation() as made:
        yield made


def test_cancelled_during_login(cancellation: Cancellation) -> None:
    connection = plain()
    with scripted(Script(faults={0: silent})) as server, link_to(server, connection, cancellation) as link:
        with in_a_moment(cancellation.cancel) as began, pytest.raises(Cancelled) as caught:
            link.next_event(within())
        assert time.monotonic() - began < LONG / 2
    assert (caught.value.stage, caught.value.exit_code, caught.value.retryable) == (Stage.LOGIN, ExitCode.ERR, False)
    assert connection.phase is ConnectionPhase.FAILED


def test_cancelled_in_a_session(cancellation: Cancellation) -> None:
    with serving(Plan()) as server, link_to(server, plain(), cancellation) as link:
        link.next_event(within())
        with in_a_moment(cancellation.cancel), pytest.raises(Cancelled) as caught:
            link.next_event(within())
    assert caught.value.stage is Stage.SESSION
    assert "iqn.2004-01.com.example:disk at 192.0.2.1:3260" in caught.value.line()


def test_cancelled_before_anything_was_sent(cancellation: Cancellation) -> None:
    cancellation.cancel()
    ours, theirs = socket.socketpair()
    with theirs, TcpLink(ours, plain(), now=time.monotonic, cancellation=cancellation) as link:
        link.start()
        for _ in range(2):
            with pytest.raises(Cancelled):
                link.next_event(within())
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(1)


def test_cancelled_in_a_flood(cancellation: Cancellation) -> None:
    """Bytes that never cease cannot keep a cancellation waiting: it is looked at in each step."""

    class Cancelling(Dripping):
        left = 20

        def recv(self, length: int, flags: int = 0) -> bytes:
            self.left -= 1
            if not self.left:
                cancellation.cancel()
            return super().recv(length, flags)

    with scripted(MUTUAL) as server:
        sock = Cancelling(fileno=server.connect().detach())
        with TcpLink(sock, mutual(), now=time.monotonic, cancellation=cancellation) as link:
            link.start()
            with pytest.raises(Cancelled):
                link.next_event(within())
        assert sock.left == 0
