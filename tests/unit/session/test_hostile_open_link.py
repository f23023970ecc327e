# SPDX-License-Identifier: LGPL-2.1-or-later
"""Targets that lie on a real socket: redirect rings, refused algorithms, wrong proofs, silence, torn answers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.initiator.chap import ChapAlgorithm
from iscsiboot.initiator.errors import AlgorithmsRejected, LoginError, SessionError
from iscsiboot.initiator.events import LoginSucceeded
from iscsiboot.initiator.pdu.control import LogoutResponse, NopIn, TextResponse
from iscsiboot.initiator.pdu.scsi import DataIn, ReadyToTransfer, ScsiResponse
from iscsiboot.initiator.session_events import CommandFinished, Pong
from iscsiboot.initiator.timers import Timers
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.lun import Lun
from iscsiboot.model.params import SessionParams
from iscsiboot.model.portal import Portal, parse_ip
from iscsiboot.session.connector import ConnectError
from iscsiboot.session.discover import Discovery, RetryPolicy, discover, discovery_config
from iscsiboot.session.open_link import open_link
from iscsiboot.session.tcp import TcpLink
from tests.doubles.conversation import OWN, USER, config, credentials, fixed_entropy
from tests.doubles.directory import Served, directory, numbered
from tests.doubles.disk import Device, LogicalUnit
from tests.doubles.faults import (
    GOOD_NAME,
    HOSTILE_RECORDS,
    Change,
    closed_after,
    closed_before,
    closed_inside,
    dropped,
    event,
    followed_by,
    late,
    on,
    stray_response,
)
from tests.doubles.server import TargetServer, refusing_port
from tests.doubles.session import FullTarget, Plan
from tests.doubles.target import Fault, Script, closing, redirect, silent, status

IMAGE = bytes(range(256)) * 64
LUN = Lun.from_number(1)
READ = bytes.fromhex("28000000000000002000")
WRITE = bytes.fromhex("2a000000000000002000")
MUTUAL = Script(user=USER, own=OWN)


def in_seconds(seconds: float) -> Deadline:
    return Deadline.after(seconds, now=time.monotonic(), reason="an answer of the double")


def portal(port: int, host: str = "127.0.0.1") -> Portal:
    return Portal(address=parse_ip(host), port=port)


def opened(
    port: int, *, seconds: float = 10.0, host: str = "127.0.0.1", **values: Any
) -> tuple[TcpLink, LoginSucceeded]:
    return open_link(portal(port, host), config(**values), deadline=in_seconds(seconds))


def refused(server: TargetServer, *, seconds: float = 10.0, **values: Any) -> IscsiBootError:
    with pytest.raises(IscsiBootError) as caught:
        opened(server.port, seconds=seconds, host=server.host, **values)
    assert caught.value.line().isprintable()
    return caught.value


@contextmanager
def fleet(count: int) -> Iterator[list[Any]]:
    """Servers whose scripts are chosen once all ports are known: put them into ``plans``."""
    plans: list[Plan] = [Plan() for _ in range(count)]
    with ExitStack() as stack:
        servers = [
            stack.enter_context(TargetServer(lambda number=number: FullTarget(plans[number])))  # type: ignore[misc]  # its own number each
            for number in range(count)
        ]
        yield [servers, plans]


def sending_to(port: int, detail: int = 1) -> Plan:
    return Plan(login=Script(faults={0: redirect(f"127.0.0.1:{port}", detail)}))


# Redirects.


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_ring_of_redirects(length: int) -> None:
    with fleet(length) as (servers, plans):
        for number in range(length):
            plans[number] = sending_to(servers[(number + 1) % length].port)
        error = refused(servers[0])
        assert isinstance(error, LoginError)
        ends = " -> ".join(f"127.0.0.1:{server.port}" for server in [*servers, servers[0]])
        assert f"redirected in a ring: {ends}" in error.cause
        assert (error.exit_code, error.retryable) == (ExitCode.LOGIN, True)
        assert [len(server.targets) for server in servers] == [1] * length


def test_a_chain_that_does_not_end() -> None:
    with fleet(6) as (servers, plans):
        for number in range(5):
            plans[number] = sending_to(servers[number + 1].port)
        error = refused(servers[0])
        assert "redirected more than 4 times" in error.cause
        assert len(servers[5].targets) == 0


@pytest.mark.parametrize("detail", [1, 2], ids=["temporary", "permanent"])
def test_a_chain_that_ends_well(detail: int) -> None:
    with fleet(5) as (servers, plans):
        for number in range(4):
            plans[number] = sending_to(servers[number + 1].port, detail)
        link, _ = opened(servers[0].port)
        with link:
            assert link.connection.config.portal == portal(servers[4].port)
        assert all(server.violations == [] for server in servers)


def test_a_redirect_to_a_port_nobody_listens_on() -> None:
    with refusing_port() as port, fleet(1) as (servers, plans):
        plans[0] = sending_to(port)
        error = refused(servers[0])
        assert isinstance(error, ConnectError)
        assert error.subject == f"127.0.0.1:{port}"
        assert error.retryable


@pytest.mark.parametrize(
    "address", ["../../etc/passwd", "\x1b[2J", "[::1%lo]:3260", "127.0.0.1:0", "127.0.0.1:99999", ""]
)
def test_redirects_to_nowhere(address: str) -> None:
    with TargetServer(lambda: FullTarget(Plan(login=Script(faults={0: redirect(address)})))) as server:
        error = refused(server)
    assert isinstance(error, LoginError)
    assert error.exit_code is ExitCode.FATAL_LOGIN
    assert "TargetAddress" in error.cause


# Authentication.


@pytest.mark.parametrize("how", ["reject", "status"])
@pytest.mark.parametrize("piece", [0, 1], ids=["whole", "bytes"])
def test_a_target_that_refuses_lists_gets_one_more_login_with_one_algorithm(how: str, piece: int) -> None:
    plan = Plan(login=replace(MUTUAL, list_hater=how, algorithms=(5,)))
    with TargetServer(lambda: FullTarget(plan), piece=piece) as server:
        link, outcome = opened(server.port, credentials=credentials(mutual=True))
        with link:
            assert outcome.algorithm is ChapAlgorithm.MD5
            assert outcome.mutual
        assert len(server.targets) == 2
        assert server.violations == []


@pytest.mark.parametrize("fault", [status(2, 1), status(2, 0)], ids=["02/01", "02/00"])
def test_a_target_that_refuses_every_algorithm(fault: Fault) -> None:
    plan = Plan(login=replace(MUTUAL, faults={1: fault}))
    with TargetServer(lambda: FullTarget(plan)) as server:
        error = refused(server, credentials=credentials(mutual=True))
        assert isinstance(error, AlgorithmsRejected)
        assert error.retry_with is None
        assert len(server.targets) == 2


@pytest.mark.parametrize(
    ("script", "mutual", "says", "code"),
    [
        (replace(MUTUAL, user=(USER[0], b"another secret")), False, "02/01", ExitCode.LOGIN_AUTH_FAILED),
        (replace(MUTUAL, user=("somebody else", USER[1])), False, "02/01", ExitCode.LOGIN_AUTH_FAILED),
        (replace(MUTUAL, own=(OWN[0], b"another secret")), True, "wrong secret (mutual CHAP)", ExitCode.FATAL_LOGIN),
        (replace(MUTUAL, own=("somebody else", OWN[1])), True, "names itself", ExitCode.FATAL_LOGIN),
        (replace(MUTUAL, own=(OWN[0], USER[1])), True, "wrong secret", ExitCode.FATAL_LOGIN),
        (replace(MUTUAL, skip_proof=True), True, "did not prove who it is", ExitCode.FATAL_LOGIN),
        (Script(), True, "wants no CHAP", ExitCode.FATAL_LOGIN),
    ],
    ids=["our secret", "our name", "its secret", "its name", "our secret as its own", "no proof", "downgrade"],
)
@pytest.mark.parametrize("piece", [0, 1], ids=["whole", "bytes"])
def test_wrong_proofs(script: Script, mutual: bool, says: str, code: ExitCode, piece: int) -> None:
    with TargetServer(lambda: FullTarget(Plan(login=script)), piece=piece) as server:
        error = refused(server, credentials=credentials(mutual=mutual))
        assert len(server.targets) == 1
    assert says in error.cause
    assert (error.exit_code, error.retryable) == (code, False)
    for secret in (USER[1], OWN[1], b"another secret"):
        assert secret.decode() not in error.line()


# Silence, late answers, closed connections.


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("fault", [silent, closing], ids=["silent", "closing"])
def test_each_step_of_a_login(number: int, fault: Fault) -> None:
    plan = Plan(login=replace(MUTUAL, faults={number: fault}))
    with TargetServer(lambda: FullTarget(plan)) as server:
        error = refused(server, seconds=0.2 if fault is silent else 10, credentials=credentials(mutual=True))
    assert isinstance(error, LoginError)
    assert error.phase == ("operational negotiation" if number == 3 else "security negotiation")
    assert error.retryable
    assert error.exit_code is (ExitCode.PDU_TIMEOUT if fault is silent else ExitCode.LOGIN)


def test_a_port_nobody_accepts_on() -> None:
    with TargetServer(accept=False) as server:
        error = refused(server, seconds=0.2)
    assert (error.exit_code, error.retryable) == (ExitCode.PDU_TIMEOUT, True)


def session(server: TargetServer, **values: Any) -> TcpLink:
    small = SessionParams(max_recv_data_segment_length=512)
    link, _ = open_link(
        portal(server.port, server.host),
        config(params=small),
        deadline=in_seconds(10),
        timers=Timers(**values),
    )
    return link


def until(link: TcpLink, kind: type, seconds: float = 10.0) -> Any:
    deadline = in_seconds(seconds)
    while not isinstance(item := link.next_event(deadline), kind):
        pass
    return item


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("piece", [0, 1, 4093], ids=["whole", "bytes", "4093"])
def test_an_honest_session(host: str, piece: int) -> None:
    """The control of what follows, data in both directions included."""
    plan = Plan(device=Device({1: LogicalUnit(IMAGE)}), r2t_length=4096)
    with TargetServer(lambda: FullTarget(plan), host=host, piece=piece) as server, session(server) as link:
        link.connection.command(LUN, READ, now=time.monotonic(), read_length=len(IMAGE))
        assert until(link, CommandFinished).result.data == IMAGE
        link.connection.command(LUN, WRITE, now=time.monotonic(), data_out=IMAGE[::-1])
        assert until(link, CommandFinished).result.status == 0
        link.connection.command(LUN, READ, now=time.monotonic(), read_length=len(IMAGE))
        assert until(link, CommandFinished).result.data == IMAGE[::-1]
        assert server.violations == []


@pytest.mark.parametrize(
    ("kind", "change", "nth"),
    [
        (DataIn, closed_before, 0),
        (DataIn, closed_inside(300), 3),
        (DataIn, closed_after, 5),
        (ReadyToTransfer, closed_before, 0),
        (ReadyToTransfer, closed_after, 1),
        (ScsiResponse, closed_before, 0),
        (NopIn, closed_inside(20), 0),
    ],
    ids=["data", "in data", "between data", "R2T", "behind R2T", "response", "in pong"],
)
def test_closing_in_a_session(kind: Any, change: Change, nth: int) -> None:
    plan = Plan(
        device=Device({1: LogicalUnit(IMAGE)}),
        r2t_length=4096,
        collapse_status=False,
        faults=[on(kind, change, nth=nth)],
    )
    with TargetServer(lambda: FullTarget(plan)) as server, session(server) as link:
        now = time.monotonic()
        if kind is NopIn:
            link.connection.ping(now)
        elif kind is ReadyToTransfer:
            link.connection.command(LUN, WRITE, now=now, data_out=IMAGE)
        else:
            link.connection.command(LUN, READ, now=now, read_length=len(IMAGE))
        with pytest.raises(SessionError) as caught:
            until(link, CommandFinished | Pong)  # type: ignore[arg-type]  # isinstance takes it
    assert (caught.value.exit_code, caught.value.retryable) == (ExitCode.TRANS, True)


@pytest.mark.parametrize("seconds", [0.05, math.inf], ids=["in time", "never"])
def test_a_late_answer(seconds: float) -> None:
    plan = Plan(faults=[on(NopIn, late(seconds))])
    with TargetServer(lambda: FullTarget(plan)) as server, session(server) as link:
        link.connection.ping(time.monotonic(), b"late")
        if not math.isinf(seconds):
            assert until(link, Pong).data == b"late"
            return
        with pytest.raises(SessionError, match=r"waited 0\.\d s for an answer of the double") as caught:
            link.next_event(in_seconds(0.1))
    assert (caught.value.exit_code, caught.value.retryable) == (ExitCode.PDU_TIMEOUT, True)


def test_a_silent_target_is_given_up_by_the_timer() -> None:
    plan = Plan(faults=[on(NopIn, dropped)])
    with (
        TargetServer(lambda: FullTarget(plan)) as server,
        session(server, ping_interval=0.05, ping_timeout=0.1) as link,
        pytest.raises(SessionError, match=r"did not answer a NOP-Out within 0\.1 s") as caught,
    ):
        link.next_event(in_seconds(10))
    assert caught.value.exit_code is ExitCode.PDU_TIMEOUT


def test_a_dead_unit_is_the_callers_to_give_up() -> None:
    plan = Plan(device=Device({1: LogicalUnit(IMAGE, dead=True)}))
    with TargetServer(lambda: FullTarget(plan)) as server, session(server, ping_interval=0.02, ping_timeout=5) as link:
        link.connection.command(LUN, READ, now=time.monotonic(), read_length=512)
        with pytest.raises(SessionError, match=r"waited 0\.\d s for an answer of the double"):
            link.next_event(in_seconds(0.2))
        assert len([pdu for pdu in server.full_targets[0].received if type(pdu).__name__ == "NopOut"]) >= 2


# Discovery.

SERVED = [Served(f"iqn.2004-01.com.example:d{number}", ["192.0.2.5:3260,1"]) for number in range(30)]


def discovered(
    server: TargetServer, *, retry: RetryPolicy | None = None, seconds: float = 10.0
) -> tuple[Discovery, list[str], list[str], int]:
    """The summary, names, refusals, and how often it began anew."""
    found: list[str] = []
    told: list[str] = []
    restarts: list[int] = []
    result = discover(
        portal(server.port),
        discovery_config(initiator_name="iqn.2004-01.com.example:host", entropy=fixed_entropy),
        deadline=in_seconds(seconds),
        on_target=lambda target: found.append(target.name),
        on_refused=told.append,
        on_restart=lambda: restarts.append(len(found)),
        retry=retry or RetryPolicy(attempts=1),
    )
    return result, found, told, len(restarts)


@pytest.mark.parametrize("piece", [0, 1], ids=["whole", "bytes"])
def test_an_honest_discovery(piece: int) -> None:
    plan = Plan(records=directory(SERVED), text_segment=200)
    with TargetServer(lambda: FullTarget(plan), piece=piece) as server:
        result, found, told, _ = discovered(server)
        assert found == [target.name for target in SERVED]
        assert (result.found, result.refused, result.logged_out, told) == (30, 0, True, [])
        assert server.violations == []


def test_ten_thousand_targets() -> None:
    with TargetServer(lambda: FullTarget(Plan(records=numbered(10_000)))) as server:
        result, found, _, _ = discovered(server, seconds=60)
        assert result.found == len(set(found)) == 10_000
        assert server.violations == []


@pytest.mark.parametrize("piece", [0, 1], ids=["whole", "bytes"])
def test_hostile_records_all_together(piece: int) -> None:
    pieces = [SERVED[0].record(), *HOSTILE_RECORDS.values(), SERVED[1].record()]
    with TargetServer(lambda: FullTarget(Plan(records=lambda what: pieces)), piece=piece) as server:
        result, found, told, _ = discovered(server)
    # The records with a good name stand in succession, and behind them an address without a name: it becomes theirs.
    assert found == [SERVED[0].name, GOOD_NAME.decode(), SERVED[1].name]
    assert len(told) == result.refused >= len(HOSTILE_RECORDS) - 2
    assert all(text.isprintable() for text in told)


def test_an_answer_that_breaks_off_is_asked_for_again() -> None:
    plans = [
        Plan(records=directory(SERVED), text_segment=200, faults=[on(TextResponse, closed_before, nth=5)]),
        Plan(records=directory(SERVED), text_segment=200),
    ]
    with TargetServer(lambda: FullTarget(plans[len(server.targets)])) as server:
        result, found, _, restarts = discovered(server, retry=RetryPolicy(attempts=2, pauses=(0.0,)))
    assert (result.attempts, result.found, restarts) == (2, 30, 1)
    assert found[-30:] == [target.name for target in SERVED]


@pytest.mark.parametrize(
    ("faults", "greeting", "says"),
    [
        ([on(TextResponse, followed_by(event(3)))], (), ""),
        ([on(TextResponse, followed_by(event(2)))], (), ""),
        ([on(TextResponse, followed_by(stray_response()))], (), ""),
        ([on(TextResponse, closed_after)], (), ""),
        ([on(LogoutResponse, dropped)], (), ""),
        ([on(LogoutResponse, closed_before)], (), ""),
        ([], (event(3),), "dropped by the target"),
        ([], (event(2),), "dropped by the target"),
        ([], (stray_response(),), "a task that does not exist"),
    ],
    ids=[
        "session dropped behind the answer",
        "connection dropped behind the answer",
        "stray behind the answer",
        "closed behind the answer",
        "no answer to the logout",
        "closed on the logout",
        "session dropped behind the login",
        "connection dropped behind the login",
        "stray behind the login",
    ],
)
def test_the_end_of_a_discovery(faults: Sequence[Callable[[], Any]], greeting: tuple[Any, ...], says: str) -> None:
    """In one segment with the last answer, so that it is known before the next request is made.

    A complete answer is worth the same however the session ends; a session that ends before gives an error and never
    a mistake of the caller's.
    """
    plan = Plan(records=directory(SERVED[:2]), faults=faults, greeting=greeting)
    with TargetServer(lambda: FullTarget(plan)) as server:
        if says:
            with pytest.raises(IscsiBootError, match=says) as caught:
                discovered(server)
            assert caught.value.stage is Stage.DISCOVERY
            return
        result, found, _, _ = discovered(server)
        assert found == [SERVED[0].name, SERVED[1].name]
        assert result.found == 2
