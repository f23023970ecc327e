# SPDX-License-Identifier: LGPL-2.1-or-later
"""Connect and login over loopback: redirects, the single-algorithm retry, every failure with nothing left open."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.initiator.chap import ChapAlgorithm
from iscsiboot.initiator.connection import ConnectionPhase
from iscsiboot.initiator.errors import AlgorithmsRejected, LoginError
from iscsiboot.initiator.pdu.header import Opcode
from iscsiboot.initiator.route import REDIRECTS_MAX, LoginRoute
from iscsiboot.initiator.session_events import LoggedOut, Remark
from iscsiboot.initiator.timers import Timers
from iscsiboot.model.params import SessionParams
from iscsiboot.model.portal import NamedPortal, Portal, parse_ip
from iscsiboot.session.cancel import Cancellation, Cancelled
from iscsiboot.session.connector import ConnectError
from iscsiboot.session.open_link import LinkEnvironment, open_link
from iscsiboot.session.tcp import TcpLink
from tests.doubles.conversation import TARGET, USER, config, credentials
from tests.doubles.server import TargetServer, refusing_port
from tests.doubles.session import FullTarget, Plan
from tests.doubles.target import Script, closing, endless, raw, redirect, silent, status
from tests.unit.session.conftest import RecordingReport
from tests.unit.session.links import LONG, black_hole, in_a_moment, nothing_left_open, portal_of, within


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    with nothing_left_open():
        yield


@pytest.fixture
def servers(nothing_stays_open: None) -> Iterator[Callable[..., TargetServer]]:
    """Makes servers that are closed after the test."""
    with ExitStack() as stack:

        def make(script: Script | None = None, **values: object) -> TargetServer:
            plan = Plan(login=script or Script())
            return stack.enter_context(TargetServer(lambda: FullTarget(plan), **values))  # type: ignore[arg-type]  # by name

        yield make


Servers = Callable[..., TargetServer]


def test_a_login(servers: Servers) -> None:
    server, report = servers(), RecordingReport()
    link, login = open_link(portal_of(server), config(), deadline=within(), report=report)
    with link:
        assert login.tsih == 7
        assert link.connection.phase is ConnectionPhase.FULL_FEATURE
        assert link.connection.config.portal == portal_of(server)
        link.connection.logout(time.monotonic())
        assert isinstance(link.next_event(within()), LoggedOut)
    assert report.notes == []
    assert server.violations == []


def test_ipv6(servers: Servers) -> None:
    link, _ = open_link(portal_of(servers(host="::1")), config(), deadline=within())
    link.close()


def test_what_the_target_does_differently_is_told(servers: Servers) -> None:
    server, report = servers(Script(tsih=0)), RecordingReport()
    link, _ = open_link(portal_of(server), config(), deadline=within(), report=report)
    link.close()
    assert report.notes == [f"{portal_of(server).endpoint}: the target gave the session no handle (TSIH 0)"]


def test_timers_reach_the_session(servers: Servers) -> None:
    link, _ = open_link(portal_of(servers()), config(), deadline=within(), timers=Timers(ping_interval=0))
    with link:
        assert link.connection.next_deadline() is None


# Redirects.


@pytest.mark.parametrize(
    ("details", "remembered"), [((2, 2), 2), ((1, 2), 0), ((2, 1), 1)], ids=["permanent", "temporary-first", "mixed"]
)
def test_redirects_are_followed(servers: Servers, details: tuple[int, int], remembered: int) -> None:
    last = servers()
    middle = servers(Script(faults={0: redirect(portal_of(last).endpoint, details[1])}))
    first = servers(Script(faults={0: redirect(portal_of(middle).endpoint, details[0])}))
    report = RecordingReport()
    route = LoginRoute(portal_of(first), subject=TARGET)
    link, _ = open_link(portal_of(first), config(), deadline=within(), report=report, route=route)
    with link:
        assert link.connection.config.portal == portal_of(last)
    assert route.final == portal_of((first, middle, last)[remembered])
    assert report.notes == [
        f"{portal_of(here).endpoint}: the target is at {portal_of(there).endpoint} now"
        for here, there in ((first, middle), (middle, last))
    ]


def test_a_redirect_to_a_name_is_resolved(servers: Servers) -> None:
    last = servers()
    first = servers(Script(faults={0: redirect(f"storage.example.com:{last.port}")}))
    asked: list[NamedPortal] = []

    def resolve(there: NamedPortal) -> Portal:
        asked.append(there)
        return portal_of(last)

    link, _ = open_link(portal_of(first), config(), deadline=within(), environment=LinkEnvironment(resolve=resolve))
    link.close()
    assert asked == [NamedPortal(host="storage.example.com", port=last.port)]


def test_a_name_without_an_address(servers: Servers) -> None:
    def resolve(there: NamedPortal) -> Portal:
        raise IscsiBootError("no such name", stage=Stage.CONNECT, exit_code=ExitCode.TRANS)

    first = servers(Script(faults={0: redirect("storage.example.com")}))
    with pytest.raises(IscsiBootError, match="no such name"):
        open_link(portal_of(first), config(), deadline=within(), environment=LinkEnvironment(resolve=resolve))


def test_a_ring(servers: Servers) -> None:
    ends: list[Portal] = []

    def elsewhere(number: int) -> Script:
        return Script(faults={0: lambda reply: redirect(ends[1 - number].endpoint)(reply)})

    pair = [servers(elsewhere(0)), servers(elsewhere(1))]
    ends += [portal_of(server) for server in pair]
    with pytest.raises(LoginError, match="redirected in a ring") as caught:
        open_link(ends[0], config(), deadline=within())
    assert " -> ".join([ends[0].endpoint, ends[1].endpoint, ends[0].endpoint]) in caught.value.cause
    assert [len(server.targets) for server in pair] == [1, 1]


def test_a_chain_without_end(servers: Servers) -> None:
    following = servers()
    for _ in range(REDIRECTS_MAX + 1):
        following = servers(Script(faults={0: redirect(portal_of(following).endpoint)}))
    with pytest.raises(LoginError, match=f"redirected more than {REDIRECTS_MAX} times"):
        open_link(portal_of(following), config(), deadline=within())


# CHAP algorithms.


def test_one_retry_with_a_single_algorithm(servers: Servers) -> None:
    server, report = servers(Script(user=USER, list_hater="status")), RecordingReport()
    link, login = open_link(portal_of(server), config(credentials=credentials()), deadline=within(), report=report)
    link.close()
    assert login.algorithm is ChapAlgorithm.MD5
    assert len(server.targets) == 2
    assert report.notes[0].endswith("; trying MD5 alone")


def test_no_second_retry(servers: Servers) -> None:
    server = servers(Script(user=USER, algorithms=()))
    with pytest.raises(AlgorithmsRejected):
        open_link(portal_of(server), config(credentials=credentials()), deadline=within())
    assert len(server.targets) == 2


def test_nothing_to_retry_with(servers: Servers) -> None:
    server = servers(Script(user=USER, algorithms=()))
    with pytest.raises(AlgorithmsRejected):
        open_link(
            portal_of(server),
            config(credentials=credentials(), chap_algorithms=(ChapAlgorithm.MD5,)),
            deadline=within(),
        )
    assert len(server.targets) == 1


def test_the_retry_happens_where_a_redirect_led(servers: Servers) -> None:
    last = servers(Script(user=USER, list_hater="reject"))
    first = servers(Script(faults={0: redirect(portal_of(last).endpoint)}))
    link, _ = open_link(portal_of(first), config(credentials=credentials()), deadline=within())
    link.close()
    assert (len(first.targets), len(last.targets)) == (1, 2)


# Failures. The fixture above counts descriptors after each.


@pytest.mark.parametrize(
    ("script", "cause", "exit_code"),
    [
        (Script(faults={0: closing}), "the target closed the connection", ExitCode.LOGIN),
        (Script(faults={0: status(2, 2)}), "02/02", ExitCode.LOGIN_AUTH_FAILED),
        (Script(faults={0: status(3, 1)}), "03/01", ExitCode.LOGIN),
        (Script(faults={0: raw(b"\xff" * 48)}), "announces", ExitCode.FATAL_LOGIN),
        (Script(faults={-1: endless}), "not over after", ExitCode.FATAL_LOGIN),
        (Script(faults={0: redirect("../../x")}), "TargetAddress", ExitCode.FATAL_LOGIN),
    ],
    ids=["closing", "refused", "unavailable", "garbage", "endless", "hostile-redirect"],
)
@pytest.mark.parametrize("piece", [0, 7], ids=["whole", "pieces"])
def test_a_login_that_fails(servers: Servers, script: Script, cause: str, exit_code: ExitCode, piece: int) -> None:
    with pytest.raises(LoginError, match=cause) as caught:
        open_link(portal_of(servers(script, piece=piece)), config(), deadline=within())
    assert caught.value.exit_code is exit_code


@pytest.mark.parametrize("accept", [True, False], ids=["silent", "not-looked-at"])
def test_an_attempt_has_its_own_time(servers: Servers, accept: bool) -> None:
    server = servers(Script(faults={0: silent}), accept=accept)
    began = time.monotonic()
    with pytest.raises(LoginError, match=r"waited (?:0\.\d|1) s for a login at 127\.0\.0\.1") as caught:
        open_link(portal_of(server), config(params=SessionParams(login_timeout=1)), deadline=within())
    assert 0.9 < time.monotonic() - began < LONG / 2
    assert (caught.value.exit_code, caught.value.retryable) == (ExitCode.PDU_TIMEOUT, True)


def test_the_callers_deadline_covers_everything(servers: Servers) -> None:
    server = servers(Script(faults={0: silent}))
    with pytest.raises(LoginError, match=r"waited 0\.\d s"):
        open_link(portal_of(server), config(), deadline=within(0.1))


def test_nobody_listens() -> None:
    with refusing_port() as port, pytest.raises(ConnectError, match="connection refused"):
        open_link(Portal(address=parse_ip("127.0.0.1"), port=port), config(), deadline=within())


def test_a_configuration_that_cannot_be_opens_nothing(servers: Servers) -> None:
    server = servers()
    with pytest.raises(ValueError, match="ISID"):
        open_link(portal_of(server), replace(config(), isid=b""), deadline=within())


def test_an_interruption_closes_the_socket(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(TcpLink, "next_event", interrupt)
    with pytest.raises(KeyboardInterrupt):
        open_link(portal_of(servers()), config(), deadline=within())


def test_a_login_cannot_end_in_another_way(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake of ours and not of the target; the socket is closed all the same."""
    monkeypatch.setattr(TcpLink, "next_event", lambda *_, **__: Remark(text="x"))
    with pytest.raises(RuntimeError, match="a login ended with Remark"):
        open_link(portal_of(servers()), config(), deadline=within())


# Cancellation.


def test_cancelled_before_it_begins(servers: Servers) -> None:
    server = servers()
    with Cancellation() as cancellation:
        cancellation.cancel()
        with pytest.raises(Cancelled) as caught:
            open_link(
                portal_of(server),
                config(),
                deadline=within(),
                environment=LinkEnvironment(cancellation=cancellation),
            )
    assert (caught.value.stage, server.targets) == (Stage.CONNECT, [])


def test_cancelled_while_connecting() -> None:
    with black_hole() as portal, Cancellation() as cancellation:
        environment = LinkEnvironment(cancellation=cancellation)
        with in_a_moment(cancellation.cancel) as began, pytest.raises(Cancelled) as caught:
            open_link(portal, config(), deadline=within(), environment=environment)
        assert time.monotonic() - began < LONG / 2
    assert caught.value.stage is Stage.CONNECT


def test_cancelled_during_login(servers: Servers) -> None:
    server = servers(Script(faults={0: silent}))
    with Cancellation() as cancellation:
        environment = LinkEnvironment(cancellation=cancellation)
        with in_a_moment(cancellation.cancel), pytest.raises(Cancelled) as caught:
            open_link(portal_of(server), config(), deadline=within(), environment=environment)
    assert caught.value.stage is Stage.LOGIN
    assert Opcode.LOGIN_REQUEST in [pdu.OPCODE for pdu in server.full_targets[0].received]
