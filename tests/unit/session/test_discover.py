# SPDX-License-Identifier: LGPL-2.1-or-later
"""Discovery over loopback: targets as they come, attempts and pauses, the logout at the end, nothing left open."""

from __future__ import annotations

import itertools
import re
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.initiator.config import LoginConfig, SessionType
from iscsiboot.initiator.errors import LoginError, SessionError
from iscsiboot.initiator.pdu.control import AsyncEvent, LogoutResponse, TextRequest, TextResponse
from iscsiboot.initiator.pdu.header import Opcode
from iscsiboot.initiator.timers import Timers
from iscsiboot.model.discovered import DiscoveredTarget
from iscsiboot.model.portal import Portal, parse_ip
from iscsiboot.session import discover as module
from iscsiboot.session.cancel import Cancellation, Cancelled
from iscsiboot.session.connector import ConnectError
from iscsiboot.session.discover import Discovery, RetryPolicy, discover, discovery_config
from iscsiboot.session.open_link import LinkEnvironment
from tests.doubles.conversation import INITIATOR, USER, credentials, fixed_entropy
from tests.doubles.directory import Served, always, directory, endless, numbered
from tests.doubles.faults import (
    HOSTILE_RECORDS,
    closed_after,
    closed_before,
    event,
    on,
    preceded_by,
    rejecting,
)
from tests.doubles.server import TargetServer, refusing_port
from tests.doubles.session import FullTarget, Plan
from tests.doubles.target import Script, closing, redirect, status
from tests.unit.session.conftest import RecordingReport
from tests.unit.session.links import LONG, in_a_moment, nothing_left_open, portal_of, within

ONE, TWO = "iqn.2004-01.com.example:one", "iqn.2004-01.com.example:two"
QUICK = RetryPolicy(attempts=3, pauses=(0.0, 0.01))


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    with nothing_left_open():
        yield


@pytest.fixture
def serving(nothing_stays_open: None) -> Iterator[Callable[..., TargetServer]]:
    """Makes servers, one plan for each connection, the last one again and again."""
    with ExitStack() as stack:

        def make(*plans: Plan, **values: Any) -> TargetServer:
            turn = itertools.chain(plans, itertools.repeat(plans[-1]))
            return stack.enter_context(TargetServer(lambda: FullTarget(next(turn)), **values))

        yield make


Serving = Callable[..., TargetServer]


def config(**values: Any) -> LoginConfig:
    return discovery_config(initiator_name=INITIATOR, entropy=fixed_entropy, **values)


@dataclass
class Told:
    """What a caller is told, and a discovery that tells it."""

    targets: list[DiscoveredTarget] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    restarts: list[int] = field(default_factory=list)
    report: RecordingReport = field(default_factory=RecordingReport)

    @property
    def names(self) -> list[str]:
        return [target.name for target in self.targets]

    def run(self, portal: Portal, seconds: float = LONG, **values: Any) -> Discovery:
        plain: dict[str, Any] = {
            "config": config(),
            "deadline": within(seconds),
            "on_target": self.targets.append,
            "on_refused": self.refused.append,
            "on_restart": lambda: self.restarts.append(len(self.targets)),
            "report": self.report,
        }
        return discover(portal, **(plain | values))


@pytest.mark.parametrize("piece", [0, 1], ids=["whole", "one-byte"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_discovery(serving: Serving, host: str, piece: int) -> None:
    records = directory([Served(ONE, ["10.0.0.1:3260,1", "[fd00::1]:3260,2"]), Served(TWO)])
    server, told = serving(Plan(records=records, text_segment=50), host=host, piece=piece), Told()
    result = told.run(portal_of(server))
    assert result == Discovery(portal=portal_of(server), found=2, refused=0, attempts=1, logged_out=True)
    assert [(target.name, [str(portal) for portal in target.portals]) for target in told.targets] == [
        (ONE, ["10.0.0.1:3260,1", "[fd00::1]:3260,2"]),
        (TWO, [portal_of(server).endpoint]),
    ]
    assert (told.refused, told.restarts, told.report.notes, server.violations) == ([], [], [], [])


def test_the_login_of_a_discovery(serving: Serving) -> None:
    server = serving(Plan(login=Script(user=USER)))
    Told().run(portal_of(server), config=config(credentials=credentials(), initiator_alias="lab"))
    login = server.full_targets[0].login
    keys = dict(login.received)
    assert (keys["SessionType"], keys["InitiatorName"], keys["InitiatorAlias"]) == ("Discovery", INITIATOR, "lab")
    assert "TargetName" not in keys
    assert keys["MaxRecvDataSegmentLength"] == "32768"
    assert login.authenticated
    assert {request.isid for request in login.requests} == {bytes.fromhex("800102030405")}
    assert config().session_type is SessionType.DISCOVERY


def test_by_name(serving: Serving) -> None:
    server, told = serving(Plan(records=directory([Served(ONE), Served(TWO)]))), Told()
    assert told.run(portal_of(server), what=TWO).found == 1
    assert told.names == [TWO]


def test_targets_come_before_the_answer_is_complete(serving: Serving) -> None:
    """The target stops in the middle until the first targets have arrived here."""
    arrived = threading.Event()

    def records(what: str) -> Iterator[bytes]:
        for number in range(40):
            if number == 30:
                assert arrived.wait(LONG), "nothing came while the answer was not complete"
            yield Served(f"{ONE}{number}").record()

    def on_target(target: DiscoveredTarget) -> None:
        arrived.set()

    result = Told().run(portal_of(serving(Plan(records=records, text_segment=64))), on_target=on_target)
    assert result.found == 40


def test_ten_thousand_targets_in_the_memory_of_a_hundred(serving: Serving) -> None:
    """Ours and the double's, which makes them as it sends them; both run in this process."""

    def peak(count: int) -> int:
        server = serving(Plan(records=numbered(count)))
        tracemalloc.start()
        try:
            seen = [0]
            result = Told().run(portal_of(server), on_target=lambda target: seen.append(seen.pop() + 1))
            assert result.found == seen[0] == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(10_000) < peak(100) + 2_000_000


@pytest.mark.parametrize("what", ["path", "escape", "not UTF-8", "300 bytes"])
def test_hostile_records_are_told_and_not_used(serving: Serving, what: str) -> None:
    records = always(Served(ONE).record(), HOSTILE_RECORDS[what], Served(TWO).record())
    told = Told()
    result = told.run(portal_of(serving(Plan(records=records))))
    assert (result.found, result.refused) == (2, 1)
    assert told.names == [ONE, TWO]
    assert len(told.refused) == 1
    assert told.refused[0].isprintable()


def test_nobody_has_to_listen_to_refusals(serving: Serving) -> None:
    plan = Plan(records=always(HOSTILE_RECORDS["path"]), faults=[on(TextResponse, closed_before)])
    server = serving(plan, Plan(records=plan.records))
    result = Told().run(portal_of(server), on_refused=None, on_restart=None, retry=QUICK)
    assert (result.found, result.refused, result.attempts) == (0, 1, 2)


def test_redirected(serving: Serving) -> None:
    last = serving(Plan(records=directory([Served(ONE)])))
    first = serving(Plan(login=Script(faults={0: redirect(portal_of(last).endpoint)})))
    told = Told()
    assert told.run(portal_of(first)).portal == portal_of(last)
    assert told.targets[0].portals == (portal_of(last),), "served where the answer came from"


# Attempts.


@pytest.mark.parametrize("failures", [1, 2])
def test_again_when_it_may_help(serving: Serving, failures: int) -> None:
    bad, good = Plan(login=Script(faults={0: closing})), Plan(records=numbered(3))
    told = Told()
    result = told.run(portal_of(serving(*[bad] * failures, good)), retry=QUICK)
    assert (result.found, result.attempts) == (3, failures + 1)
    assert told.restarts == [], "nothing had been told"
    assert [note.partition(":")[0] for note in told.report.notes] == ["discovery at 127.0.0.1"] * failures
    assert told.report.notes[0].endswith("again in 0 s")


def test_what_was_told_before_a_failure_is_void(serving: Serving) -> None:
    bad = Plan(records=numbered(5), text_segment=70, whole_pairs=True, faults=[on(TextResponse, closed_before, nth=3)])
    told = Told()
    result = told.run(portal_of(serving(bad, Plan(records=numbered(5)))), retry=QUICK)
    (before,) = told.restarts
    assert 0 < before < 5
    assert (result.found, result.attempts, len(told.targets)) == (5, 2, before + 5)


def test_the_last_attempt_is_the_last(serving: Serving) -> None:
    server = serving(Plan(login=Script(faults={0: status(3, 1)})))
    with pytest.raises(LoginError, match="03/01"):
        Told().run(portal_of(server), retry=QUICK)
    assert len(server.targets) == 3


def test_what_no_retry_mends_is_not_tried_again(serving: Serving) -> None:
    server = serving(Plan(login=Script(faults={0: status(2, 2)})))
    with pytest.raises(LoginError, match="02/02") as caught:
        Told().run(portal_of(server), retry=QUICK)
    assert caught.value.exit_code is ExitCode.LOGIN_AUTH_FAILED
    assert len(server.targets) == 1


def test_no_pause_that_the_deadline_does_not_allow() -> None:
    began = time.monotonic()
    policy = RetryPolicy(attempts=2, pauses=(10.0,))
    with refusing_port() as port, pytest.raises(ConnectError):
        Told().run(Portal(address=parse_ip("127.0.0.1"), port=port), 3.0, retry=policy)
    assert time.monotonic() - began < 2.5


def test_once_is_the_default(serving: Serving) -> None:
    server = serving(Plan(login=Script(faults={0: closing})))
    with pytest.raises(LoginError):
        Told().run(portal_of(server))
    assert len(server.targets) == 1


@pytest.mark.parametrize("values", [{"attempts": 0}, {"pauses": ()}, {"pauses": (1.0, -1.0)}], ids=str)
def test_policies_that_make_no_sense(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="at least one attempt"):
        RetryPolicy(**values)


def test_pauses() -> None:
    policy = RetryPolicy(pauses=(0.0, 1.0, 2.0))
    assert [policy.pause_after(attempt) for attempt in (1, 2, 3, 4, 9)] == [0.0, 1.0, 2.0, 2.0, 2.0]


# Ends.


@pytest.mark.parametrize(
    ("plan", "cause", "retryable"),
    [
        (Plan(faults=[on(TextResponse, closed_before)]), "the target closed the connection", True),
        (
            Plan(faults=[on(TextResponse, closed_after)], records=numbered(900)),
            "the target closed the connection",
            True,
        ),
        (
            Plan(faults=[on(TextResponse, lambda _: [event(AsyncEvent.CONNECTION_DROP, parameters=(0, 2, 2))])]),
            "the target said that it drops the connection",
            True,
        ),
        (
            Plan(faults=[on(TextResponse, lambda _: [event(AsyncEvent.SESSION_DROP, parameters=(0, 2, 2))])]),
            "the target said that it drops the connection",
            True,
        ),
        (
            Plan(greeting=(event(AsyncEvent.CONNECTION_DROP, parameters=(0, 2, 2)),)),
            "was dropped by the target|said that it drops",
            True,
        ),
    ],
    ids=["closed", "closed-in-between", "connection-drop", "session-drop", "drop-behind-the-login"],
)
def test_what_ends_a_discovery(serving: Serving, plan: Plan, cause: str, retryable: bool) -> None:
    with pytest.raises(SessionError, match=cause) as caught:
        Told().run(portal_of(serving(plan)))
    assert (caught.value.stage, caught.value.retryable) == (Stage.DISCOVERY, retryable)


@pytest.mark.parametrize(("reason", "words"), [(5, "command not supported"), (0x77, "unknown reason 0x77")])
def test_a_target_without_discovery(serving: Serving, reason: int, words: str) -> None:
    def refuse(target: list[FullTarget]) -> Any:
        def change(_: object) -> Any:
            request = next(pdu for pdu in target[0].received if isinstance(pdu, TextRequest))
            return [rejecting(reason, request.encode())]

        return change

    made: list[FullTarget] = []
    plan = Plan(faults=[on(TextResponse, refuse(made))])
    with ExitStack() as stack:

        def make() -> FullTarget:
            made.append(FullTarget(plan))
            return made[0]

        server = stack.enter_context(TargetServer(make))
        with pytest.raises(SessionError, match=words) as caught:
            Told().run(portal_of(server), retry=QUICK)
    assert (caught.value.stage, caught.value.retryable, len(made)) == (Stage.DISCOVERY, False, 1)


def test_silence_has_its_own_time(serving: Serving) -> None:
    server = serving(Plan(deaf_to=frozenset({Opcode.TEXT_REQUEST})))
    with pytest.raises(SessionError, match="did not answer a Text Request") as caught:
        Told().run(portal_of(server), timers=Timers(text_timeout=0.2))
    assert (caught.value.exit_code, caught.value.retryable) == (ExitCode.PDU_TIMEOUT, True)


def test_an_endless_answer_ends_at_the_deadline(serving: Serving) -> None:
    """Targets that never cease to come keep no deadline from passing."""
    server, told = serving(Plan(records=endless(Served(ONE).record() + Served(TWO).record()))), Told()
    began = time.monotonic()
    with pytest.raises(SessionError, match=r"waited \d(?:\.\d)? s for"):
        told.run(portal_of(server), 0.5)
    assert time.monotonic() - began < LONG / 2
    assert told.targets


def test_a_caller_that_raises_leaves_nothing_open(serving: Serving) -> None:
    def on_target(target: DiscoveredTarget) -> None:
        raise KeyboardInterrupt

    server = serving(Plan(records=numbered(3)))
    with pytest.raises(KeyboardInterrupt):
        Told().run(portal_of(server), on_target=on_target)


def test_a_logout_nobody_answers_costs_a_moment(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOGOUT_SECONDS", 0.1)
    told, plan = Told(), Plan(records=numbered(3), deaf_to=frozenset({Opcode.LOGOUT_REQUEST}))
    result = told.run(portal_of(serving(plan)))
    assert (result.found, result.logged_out) == (3, False)
    (note,) = told.report.notes
    assert re.search(r"waited 0\.\d s for the end of the discovery session", note)
    assert note.endswith("(all targets were told)")


def test_a_target_that_closes_at_the_logout(serving: Serving) -> None:
    told = Told()
    result = told.run(portal_of(serving(Plan(records=numbered(3), faults=[on(LogoutResponse, closed_before)]))))
    assert (result.found, result.logged_out, told.report.notes) == (3, True, [])


def test_what_has_nothing_to_do_with_it_changes_nothing(serving: Serving) -> None:
    vendor = event(AsyncEvent.VENDOR, vcode=1)
    faults = [on(TextResponse, preceded_by(vendor)), on(LogoutResponse, preceded_by(vendor, vendor))]
    result = Told().run(portal_of(serving(Plan(records=numbered(2), faults=faults))))
    assert (result.found, result.attempts, result.logged_out) == (2, 1, True)


def test_remarks_go_to_the_report(serving: Serving) -> None:
    odd = on(TextResponse, lambda made: [made.changed(ttt=0x55)])
    told = Told()
    told.run(portal_of(serving(Plan(records=numbered(1), faults=[odd]))))
    assert any("transfer tag" in note for note in told.report.notes)


# Cancellation.


@pytest.mark.parametrize(
    ("plan", "stage"),
    [
        (Plan(login=Script(faults={0: closing})), Stage.DISCOVERY),
        (Plan(deaf_to=frozenset({Opcode.TEXT_REQUEST})), Stage.DISCOVERY),
    ],
    ids=["in-a-pause", "in-the-answer"],
)
def test_cancelled(serving: Serving, plan: Plan, stage: Stage) -> None:
    server = serving(plan)
    with Cancellation() as cancellation:
        environment = LinkEnvironment(cancellation=cancellation)
        with in_a_moment(cancellation.cancel) as began, pytest.raises(Cancelled) as caught:
            Told().run(portal_of(server), environment=environment, retry=RetryPolicy(attempts=2, pauses=(15.0,)))
        assert time.monotonic() - began < LONG / 2
    assert caught.value.stage is stage
    assert isinstance(caught.value, IscsiBootError)
