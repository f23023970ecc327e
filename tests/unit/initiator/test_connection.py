# SPDX-License-Identifier: LGPL-2.1-or-later
"""The connection in memory: the seam between login and full feature phase, every way a stream can end, discovery."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from iscsiboot.errors import ExitCode, Stage
from iscsiboot.initiator import connection as module
from iscsiboot.initiator import discovery
from iscsiboot.initiator.config import SessionType
from iscsiboot.initiator.connection import CLOSED, ENDED, Connection, ConnectionPhase
from iscsiboot.initiator.discovery import DiscoveryFinished, RecordRefused, TargetFound
from iscsiboot.initiator.errors import LoginError, Misuse, SessionError
from iscsiboot.initiator.events import LoginRedirected, LoginSucceeded
from iscsiboot.initiator.fullfeature_states import Phase
from iscsiboot.initiator.pdu.control import AsyncEvent, LogoutRequest, TextRequest, TextResponse
from iscsiboot.initiator.pdu.header import Opcode
from iscsiboot.initiator.pdu.login import LOGIN_DATA_MAX, LoginResponse
from iscsiboot.initiator.pdu.scsi import TaskFunction
from iscsiboot.initiator.session_events import (
    CommandFailed,
    CommandFinished,
    ConnectionDropped,
    LoggedOut,
    Pong,
    Rejected,
    TaskManaged,
    TextAnswered,
)
from iscsiboot.initiator.timers import Timers
from iscsiboot.model.lun import Lun
from iscsiboot.model.params import Digest, SessionParams
from iscsiboot.model.portal import Portal, parse_ip
from tests.doubles.conversation import OWN, PORTAL, TARGET, USER, config, credentials, fixed_entropy
from tests.doubles.directory import Records, Served, always, directory, endless, numbered
from tests.doubles.faults import (
    HOSTILE_RECORDS,
    announcing,
    closed_before,
    event,
    on,
    pdu_instead,
    ping,
    rejecting,
    spoiled,
)
from tests.doubles.link import Link, link, logged_in
from tests.doubles.session import FullTarget, Plan
from tests.doubles.target import Script, header, redirect, status
from tests.doubles.wire import Outgoing, Send

NOW = 1000.0
DIGESTS = [Digest.NONE, Digest.CRC32C]
QUIET = Timers(ping_interval=0)
ONE, TWO = "iqn.2004-01.com.example:one", "iqn.2004-01.com.example:two"


def connection(**values: object) -> Connection:
    return Connection(config(**values), entropy=fixed_entropy, timers=QUIET)


def started(**values: object) -> Connection:
    made = connection(**values)
    made.start()
    return made


def standing(made: Connection) -> ConnectionPhase:
    """Its phase, anew each time: mypy takes a property for constant between two looks."""
    return made.phase


def all_bytes(target: FullTarget, made: Connection) -> bytes:
    """Everything the target answers to everything the connection has to say, joined."""
    return b"".join(action.data for action in target.receive(made.data_to_send()) if isinstance(action, Send))


def events_of(made: Connection) -> list[Any]:
    return list(iter(made.next_event, None))


def discovering(records: Records, **plan: Any) -> Link[Connection]:
    """A discovery session that has asked for everything, with the answer on its way."""
    ours = logged_in(Plan(records=records, **plan), session_type=SessionType.DISCOVERY, target_name="")
    ours.machine.discover(ours.now)
    return ours


# The seam.


@pytest.mark.parametrize("piece", [0, 1, 47, 49], ids=lambda piece: f"piece-{piece or 'whole'}")
@pytest.mark.parametrize("data_digest", DIGESTS, ids=lambda digest: f"data-{digest.value}")
@pytest.mark.parametrize("header_digest", DIGESTS, ids=lambda digest: f"header-{digest.value}")
def test_digests_begin_right_after_the_last_login_pdu(header_digest: Digest, data_digest: Digest, piece: int) -> None:
    """A ping in the same segment as the last Login Response belongs to full feature phase already."""
    params = SessionParams(header_digest=header_digest, data_digest=data_digest)
    target = FullTarget(Plan(greeting=(ping(data=b"hello"),)))
    made = started(params=params)
    stream = all_bytes(target, made)
    assert standing(made) is ConnectionPhase.LOGIN
    for at in range(0, len(stream), piece or len(stream)):
        made.receive(stream[at : at + (piece or len(stream))], NOW)
    (succeeded,) = events_of(made)
    assert isinstance(succeeded, LoginSucceeded)
    assert succeeded.negotiated.header_digest is (header_digest is Digest.CRC32C)
    assert succeeded.negotiated.data_digest is (data_digest is Digest.CRC32C)
    assert standing(made) is ConnectionPhase.FULL_FEATURE
    target.receive(made.data_to_send())
    assert (target.pings, target.violations) == (set(), []), "the pong has the digests too"


@pytest.mark.parametrize("piece", [0, 1], ids=["whole", "byte-by-byte"])
def test_a_login_of_many_pdus(piece: int) -> None:
    ours = link(Plan(login=Script(user=USER, own=OWN)), piece=piece, credentials=credentials(mutual=True))
    ours.start()
    assert ours.until(LoginSucceeded).mutual
    assert ours.target.violations == []


def test_the_limit_of_a_login_is_the_rfcs_and_ours_afterwards() -> None:
    made = started(params=SessionParams(max_recv_data_segment_length=65536))
    long = LoginResponse(csg=1, isid=config().isid, data_length=LOGIN_DATA_MAX + 1)
    with pytest.raises(LoginError, match=f"announces {LOGIN_DATA_MAX + 1} bytes of data") as caught:
        made.receive(long.encode(), NOW)
    assert (caught.value.exit_code, caught.value.retryable) == (ExitCode.FATAL_LOGIN, False)
    assert "iSCSI target listens" in caught.value.hint


@pytest.mark.parametrize(("length", "fits"), [(65536, True), (65537, False)])
def test_our_limit_holds_in_full_feature_phase(length: int, fits: bool) -> None:
    ours = logged_in(params=SessionParams(max_recv_data_segment_length=65536))
    bhs = TextResponse(itt=1, data_length=length).encode()
    if fits:
        ours.machine.receive(bhs, NOW)
        assert standing(ours.machine) is ConnectionPhase.FULL_FEATURE
    else:
        with pytest.raises(SessionError, match="announces 65537 bytes of data, at most 65536"):
            ours.machine.receive(bhs, NOW)


def test_another_protocol_is_named() -> None:
    made = started()
    with pytest.raises(LoginError) as caught:
        made.receive(b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\nContent-Type: text/html\r\n", NOW)
    assert "iSCSI target listens" in caught.value.hint


def test_after_a_redirect_nothing_is_heard() -> None:
    target = FullTarget(Plan(login=Script(faults={0: redirect("192.0.2.8:3261")})))
    made = started()
    made.receive(all_bytes(target, made) + b"anything" * 100, NOW)
    (event,) = events_of(made)
    assert isinstance(event, LoginRedirected)
    assert event.portal == Portal(address=parse_ip("192.0.2.8"), port=3261)
    assert standing(made) is ConnectionPhase.REDIRECTED
    tracemalloc.start()
    try:
        for _ in range(64):
            made.receive(bytes(65536), NOW)
        assert tracemalloc.get_traced_memory()[0] < 65536, "nothing of it is kept"
    finally:
        tracemalloc.stop()
    made.connection_lost(CLOSED, NOW)
    assert made.data_to_send() == b""


# How it ends.


def test_every_phase_of_the_session_has_its_phase_here() -> None:
    assert {phase.name for phase in Phase} <= {phase.name for phase in ConnectionPhase}
    assert {phase.name for phase in ENDED} == {"REDIRECTED", "LOGGED_OUT", "DROPPED"}


def test_closed_during_login() -> None:
    made = started()
    with pytest.raises(LoginError, match="operational negotiation: the target closed the connection") as caught:
        made.connection_lost(CLOSED, NOW)
    assert (caught.value.stage, caught.value.exit_code, caught.value.retryable) == (Stage.LOGIN, ExitCode.LOGIN, True)
    assert caught.value.subject == f"{TARGET} at {PORTAL.endpoint}"


@pytest.mark.parametrize("discovery_session", [False, True], ids=["normal", "discovery"])
def test_closed_in_full_feature_phase(discovery_session: bool) -> None:
    kind: dict[str, Any] = {"session_type": SessionType.DISCOVERY, "target_name": ""} if discovery_session else {}
    ours = logged_in(**kind)
    with pytest.raises(SessionError, match="Connection reset by peer") as caught:
        ours.machine.connection_lost("Connection reset by peer", NOW)
    error = caught.value
    assert error.stage is (Stage.DISCOVERY if discovery_session else Stage.SESSION)
    assert error.subject == (PORTAL.endpoint if discovery_session else f"{TARGET} at {PORTAL.endpoint}")
    assert (error.exit_code, error.retryable) == (ExitCode.TRANS, True)
    assert standing(ours.machine) is ConnectionPhase.FAILED


def test_closing_is_an_answer_to_a_logout() -> None:
    ours = logged_in(Plan(deaf_to=frozenset({Opcode.LOGOUT_REQUEST})))
    tag = ours.machine.logout(ours.now)
    ours.pump()
    assert standing(ours.machine) is ConnectionPhase.LOGGING_OUT
    ours.machine.connection_lost("Connection reset by peer", ours.now)
    assert ours.machine.next_event() == LoggedOut(tag=tag, response=None)
    assert standing(ours.machine) is ConnectionPhase.LOGGED_OUT


def test_closed_before_the_logout_went_out() -> None:
    ours = logged_in()
    ours.machine.logout(ours.now)
    with pytest.raises(SessionError, match="the target closed the connection"):
        ours.machine.connection_lost(CLOSED, ours.now)
    assert standing(ours.machine) is ConnectionPhase.FAILED


def test_closed_after_the_logout() -> None:
    ours = logged_in()
    ours.machine.logout(ours.now)
    assert ours.until(LoggedOut).response == 0
    ours.machine.connection_lost(CLOSED, ours.now)
    assert standing(ours.machine) is ConnectionPhase.LOGGED_OUT
    assert ours.target.violations == []


def test_closed_after_the_target_said_so() -> None:
    ours = logged_in()
    ours.push(event(AsyncEvent.CONNECTION_DROP, parameters=(0, 2, 20)))
    assert ours.until(ConnectionDropped) == ConnectionDropped(cid=0, time2wait=2, time2retain=20)
    assert standing(ours.machine) is ConnectionPhase.DROPPED
    ours.machine.connection_lost(CLOSED, ours.now)


def test_a_failed_connection_refuses_use() -> None:
    made = started()
    error = made.abandon("cancelled", hint="", exit_code=ExitCode.ERR, retryable=False)
    assert isinstance(error, LoginError)
    assert standing(made) is ConnectionPhase.FAILED
    assert (made.data_to_send(), made.next_event(), made.next_deadline()) == (b"", None, None)
    for use in (
        made.start,
        lambda: made.receive(b"", NOW),
        lambda: made.connection_lost(CLOSED, NOW),
        lambda: made.ping(NOW),
        lambda: made.discover(NOW),
    ):
        with pytest.raises(Misuse):
            use()


def test_a_failed_session_refuses_use() -> None:
    ours = logged_in()
    error = ours.machine.abandon("waited 5 s", hint="wait", exit_code=ExitCode.PDU_TIMEOUT, retryable=True)
    assert isinstance(error, SessionError)
    assert (error.cause, error.hint, error.exit_code, error.retryable) == (
        "waited 5 s",
        "wait",
        ExitCode.PDU_TIMEOUT,
        True,
    )
    assert (ours.machine.data_to_send(), ours.machine.next_event(), ours.machine.next_deadline()) == (b"", None, None)
    with pytest.raises(Misuse, match="has failed"):
        ours.machine.logout(NOW)


def test_a_login_error_is_raised_once() -> None:
    target = FullTarget(Plan(login=Script(faults={0: status(2, 3)})))
    made = started()
    with pytest.raises(LoginError, match="02/03"):
        made.receive(all_bytes(target, made), NOW)
    with pytest.raises(Misuse, match="the connection has failed"):
        made.receive(b"", NOW)


def test_nothing_works_before_the_start() -> None:
    made = connection()
    assert standing(made) is ConnectionPhase.READY
    assert (made.data_to_send(), made.next_event(), made.next_deadline()) == (b"", None, None)
    for use in (lambda: made.receive(b"", NOW), lambda: made.connection_lost(CLOSED, NOW), lambda: made.logout(NOW)):
        with pytest.raises(Misuse, match="was not started"):
            use()
    made.start()
    made.handle_timer(NOW + 3600)
    assert standing(made) is ConnectionPhase.LOGIN
    assert made.next_deadline() is None, "how long a login may take is the caller's business"
    with pytest.raises(Misuse):
        made.start()


def test_what_happened_before_an_error_is_still_there() -> None:
    ours = logged_in()
    tag = ours.machine.ping(ours.now)
    answers = all_bytes(ours.target, ours.machine)
    with pytest.raises(SessionError, match="Login Response"):
        ours.machine.receive(answers + LoginResponse(itt=1).encode(), ours.now)
    assert events_of(ours.machine) == [Pong(tag=tag, data=b"")]
    assert ours.machine.next_event() is None


# The calls of a session.


def test_the_calls_of_a_normal_session() -> None:
    ours = logged_in()
    machine = ours.machine
    tag = machine.ping(ours.now, b"data")
    assert ours.until(Pong) == Pong(tag=tag, data=b"data")
    tag = machine.command(
        Lun.from_number(0), b"\xa0" + bytes(5) + b"\0\0\x10\0" + bytes(2), now=ours.now, read_length=4096
    )
    finished = ours.until(CommandFinished)
    assert (finished.tag, finished.result.status) == (tag, 0)
    tag = machine.manage_task(TaskFunction.TARGET_WARM_RESET, now=ours.now)
    assert ours.until(TaskManaged).tag == tag
    tag = machine.manage_task(TaskFunction.LOGICAL_UNIT_RESET, now=ours.now, lun=Lun.from_number(1))
    assert ours.until(TaskManaged, after=len(ours.events)).tag == tag
    tag = machine.send_text((("X-key", "value"),), ours.now)
    assert ours.until(TextAnswered).tag == tag
    assert ours.target.violations == []


def test_what_a_call_ends_is_told_without_a_byte_moving() -> None:
    ours = logged_in()
    machine = ours.machine
    tag = machine.command(Lun.from_number(0), bytes(6), now=ours.now)
    machine.logout(ours.now)
    failed = machine.next_event()
    assert isinstance(failed, CommandFailed)
    assert failed.tag == tag


def test_what_is_sent_at_once_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight commands with 4096 bytes of immediate data each: no more than one PDU goes over the limit."""
    monkeypatch.setattr(module, "SEND_AHEAD", 10_000)
    ours = logged_in(params=SessionParams(max_xmit_data_segment_length=4096, immediate_data=True))
    for lba in range(8):
        write = b"\x2a\0" + lba.to_bytes(4, "big") + b"\0\0\x08\0"
        ours.machine.command(Lun.from_number(1), write, now=ours.now, data_out=bytes(4096))
    pdu = 48 + 4096
    assert [len(data) for data in iter(ours.machine.data_to_send, b"")] == [3 * pdu, 3 * pdu, 2 * pdu]


def test_a_timer_ends_the_session() -> None:
    ours = logged_in(Plan(deaf_to=frozenset({Opcode.LOGOUT_REQUEST})))
    ours.machine.logout(ours.now)
    with pytest.raises(SessionError, match="did not answer a Logout Request") as caught:
        ours.until(LoggedOut)
    assert caught.value.exit_code is ExitCode.LOGOUT
    assert standing(ours.machine) is ConnectionPhase.FAILED
    assert ours.machine.next_deadline() is None


# Discovery.


@pytest.mark.parametrize("whole_pairs", [False, True], ids=["c-bit", "between-pairs"])
@pytest.mark.parametrize("segment", [0, 1, 13, 512], ids=lambda segment: f"segment-{segment or 'ours'}")
@pytest.mark.parametrize("piece", [0, 1, 50], ids=lambda piece: f"piece-{piece or 'whole'}")
def test_a_discovery(segment: int, piece: int, whole_pairs: bool) -> None:
    records = directory([Served(ONE, ["10.0.0.1:3260,1", "[fd00::1],2"]), Served(TWO)])
    plan = Plan(records=records, text_segment=segment, whole_pairs=whole_pairs and segment != 1)
    ours = link(plan, piece=piece, session_type=SessionType.DISCOVERY, target_name="")
    ours.start()
    ours.until(LoginSucceeded)
    assert ours.machine.config.session_type is SessionType.DISCOVERY
    tag = ours.machine.discover(ours.now)
    finished = ours.until(DiscoveryFinished)
    assert finished == DiscoveryFinished(tag=tag, found=2, refused=0)
    found = [item for item in ours.events if isinstance(item, TargetFound)]
    assert [item.tag for item in found] == [tag, tag]
    assert [(item.target.name, [str(p) for p in item.target.portals]) for item in found] == [
        (ONE, ["10.0.0.1:3260,1", "[fd00::1]:3260,2"]),
        (TWO, ["192.0.2.1:3260"]),
    ]
    ours.machine.logout(ours.now)
    ours.until(LoggedOut)
    assert ours.target.violations == []
    (logout,) = (pdu for pdu in ours.target.received if isinstance(pdu, LogoutRequest))
    assert logout.reason == 0


def test_what_is_found_is_told_before_the_rest_was_asked_for() -> None:
    ours = discovering(numbered(3), text_segment=100, whole_pairs=True)
    machine, target = ours.machine, ours.target
    told: list[int] = []
    while machine.phase is ConnectionPhase.FULL_FEATURE and len(told) < 4:
        machine.receive(all_bytes(target, machine), ours.now)
        told.append(sum(isinstance(item, TargetFound) for item in events_of(machine)))
    # Each record fills a segment, and a target is known to be complete when the next one begins.
    assert told == [0, 1, 2, 0]


@pytest.mark.parametrize("what", HOSTILE_RECORDS, ids=str)
def test_a_hostile_record_between_good_ones(what: str) -> None:
    ours = discovering(always(Served(ONE).record(), HOSTILE_RECORDS[what], Served(TWO).record()))
    finished = ours.until(DiscoveryFinished)
    names = [item.target.name for item in ours.events if isinstance(item, TargetFound)]
    assert names == [ONE, TWO]
    refused = [item for item in ours.events if isinstance(item, RecordRefused)]
    assert len(refused) == finished.refused
    # Without a target of its own an address belongs to the one before it; a key of no meaning is passed over.
    assert bool(refused) is (what not in ("another key", "address without a target"))
    assert all(item.cause.isprintable() for item in refused)


def test_an_empty_answer() -> None:
    ours = discovering(directory(()))
    assert ours.until(DiscoveryFinished) == DiscoveryFinished(tag=1, found=0, refused=0)


@pytest.mark.parametrize("value", ["", TARGET], ids=["nothing", "name"])
def test_a_normal_session_asks_for_its_own_target(value: str) -> None:
    ours = logged_in(Plan(records=directory([Served(ONE), Served(TARGET, ["10.0.0.7:3260,1"])])))
    tag = ours.machine.discover(ours.now, value)
    assert ours.until(DiscoveryFinished) == DiscoveryFinished(tag=tag, found=1, refused=0)
    assert ours.until(TargetFound).target.name == TARGET
    requests = [pdu for pdu in ours.target.received if isinstance(pdu, TextRequest)]
    assert [pdu.data_length for pdu in requests] == [len(f"SendTargets={value}\0")]
    assert ours.target.violations == []


def test_a_discovery_session_asks_by_name() -> None:
    records = always(Served(TWO).record(), Served(ONE).record())
    ours = logged_in(Plan(records=records), session_type=SessionType.DISCOVERY, target_name="")
    ours.machine.discover(ours.now, ONE.upper().replace("IQN", "iqn"))
    assert ours.until(DiscoveryFinished).found == 1
    asked = ONE.upper().replace("IQN", "iqn")
    assert ours.until(RecordRefused).cause == f'the target named "{TWO}", asked for was "{asked}"'


@pytest.mark.parametrize(
    ("discovery_session", "what"), [(True, ""), (True, "../"), (False, "All"), (False, "a b")], ids=str
)
def test_questions_that_have_no_place(discovery_session: bool, what: str) -> None:
    kind: dict[str, Any] = {"session_type": SessionType.DISCOVERY, "target_name": ""} if discovery_session else {}
    ours = logged_in(**kind)
    with pytest.raises(Misuse, match="SendTargets"):
        ours.machine.discover(ours.now, what)


def test_a_discovery_needs_the_portal_that_is_asked() -> None:
    ours = logged_in(session_type=SessionType.DISCOVERY, target_name="", portal=None)
    with pytest.raises(Misuse, match="no portal"):
        ours.machine.discover(ours.now)
    assert ours.machine.subject == ""


def test_a_rejected_discovery_is_told_with_its_tag() -> None:
    ours = logged_in(Plan(deaf_to=frozenset({Opcode.TEXT_REQUEST})), session_type=SessionType.DISCOVERY, target_name="")
    tag = ours.machine.discover(ours.now)
    ours.pump()
    (request,) = (pdu for pdu in ours.target.received if isinstance(pdu, TextRequest))
    ours.push(rejecting(0x05, request.encode()))
    rejected = ours.until(Rejected)
    assert (rejected.reason, rejected.tag) == (5, tag)
    assert ours.machine._answers == {}


def test_a_discovery_is_given_up() -> None:
    ours = discovering(endless(Served(ONE).record()), text_segment=512)
    machine, target = ours.machine, ours.target
    for _ in range(3):
        machine.receive(all_bytes(target, machine), ours.now)
    machine.reset_text(1, ours.now)
    assert ours.until(TextAnswered).pairs == ()
    assert machine._answers == {}
    assert not any(isinstance(item, DiscoveryFinished) for item in ours.events)


def test_an_endless_answer_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "ANSWER_MAX", 100_000)
    ours = discovering(endless(Served(ONE).record()), text_segment=8192)
    with pytest.raises(SessionError, match="is not over after 100000 bytes") as caught:
        ours.until(DiscoveryFinished)
    assert caught.value.stage is Stage.DISCOVERY
    assert ours.sent < 120_000
    assert standing(ours.machine) is ConnectionPhase.FAILED


def test_silence_ends_a_discovery() -> None:
    ours = logged_in(Plan(deaf_to=frozenset({Opcode.TEXT_REQUEST})), session_type=SessionType.DISCOVERY, target_name="")
    ours.machine.discover(ours.now)
    began = ours.now
    with pytest.raises(SessionError, match="did not answer a Text Request within 30 s") as caught:
        ours.until(DiscoveryFinished)
    assert ours.now == began + 30
    assert (caught.value.exit_code, caught.value.retryable) == (ExitCode.PDU_TIMEOUT, True)


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (on(TextResponse, closed_before), "the target closed the connection"),
        (on(TextResponse, announcing(1 << 23)), "announces 8388608 bytes of data"),
        (on(TextResponse, pdu_instead(Outgoing(pdu=LoginResponse(itt=1)))), "Login Response"),
    ],
    ids=["closed", "oversized", "login-response"],
)
def test_what_ends_a_discovery(fault: Any, cause: str) -> None:
    with pytest.raises(SessionError, match=cause):
        discovering(numbered(3), faults=[fault]).until(DiscoveryFinished)


def test_a_wrong_digest_ends_the_session() -> None:
    plan = Plan(records=numbered(3), faults=[on(TextResponse, spoiled("data"))])
    ours = logged_in(plan, params=SessionParams(data_digest=Digest.CRC32C))
    ours.machine.send_text((("X-key", "1"),), ours.now)
    with pytest.raises(SessionError, match=r"the data of a PDU .* came with digest"):
        ours.until(TextAnswered)


def test_a_login_that_changes_its_mind() -> None:
    """The seam does not open for a response that only looks like the last one."""
    target = FullTarget(Plan(login=Script(faults={0: header(nsg=2)})))
    made = started()
    with pytest.raises(LoginError, match="moves to stage 2"):
        made.receive(all_bytes(target, made), NOW)
    assert standing(made) is ConnectionPhase.FAILED
