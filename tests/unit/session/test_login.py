# SPDX-License-Identifier: LGPL-2.1-or-later
"""A login by a record's order against the fake kernel: retries, the scan, what is left."""

from __future__ import annotations

import errno
import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from iscsiboot.errors import ExitCode, IscsiBootError
from iscsiboot.initiator.chap import ChapAlgorithm
from iscsiboot.model.credentials import Chap, Credentials, Secret
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.lun import Lun
from iscsiboot.model.params import SessionParams
from iscsiboot.model.portal import NamedPortal, Portal, parse_ip
from iscsiboot.netlink.uapi import HostParam, Param, UEvent
from iscsiboot.session.connector import ConnectError
from iscsiboot.session.login import UNRESOLVED, LoginOrder, log_in
from iscsiboot.session.values import Attached
from tests.doubles.iscsi_kernel import granting, login_response, redirecting, refusing
from tests.unit.session.conftest import Machine

DEAD = 991
"""Port id of a socket that is closed."""


@pytest.fixture
def ready(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    scan = machine.kernel.scan
    monkeypatch.setattr("iscsiboot.session.login.scan_whole_host", lambda sysfs, host: scan(sysfs, host, None))
    return machine


def order(machine: Machine, **changes: object) -> LoginOrder:
    request = replace(machine.request, lun=None)
    made = LoginOrder(request=request, portal=request.portal, scan=True, give_up=60)
    return replace(made, **changes)  # type: ignore[arg-type]


def log(machine: Machine, wanted: LoginOrder | None = None) -> Attached:
    return log_in(wanted or order(machine), environment=machine.environment, report=machine.report)


@pytest.fixture
def refused(machine: Machine) -> Portal:
    """A portal where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return Portal(address=parse_ip("127.0.0.1"), port=port)


def test_a_session_with_its_units(ready: Machine) -> None:
    ready.kernel.luns = {Lun.from_number(0): (0, "sda"), Lun.from_number(1): (0, "sdb")}
    session = log(ready)
    assert (session.sid, session.host, session.reused) == (1, 11, False)
    units = ready.kernel.sysfs / "bus" / "scsi" / "devices"
    assert [(units / name / "queue_depth").read_text() for name in ("11:0:0:0", "11:0:0:1")] == ["32", "32"]
    assert ready.report.notes == []


def test_a_manual_scan_finds_nothing_and_sets_no_depth(ready: Machine) -> None:
    log(ready, order(ready, scan=False))
    assert ready.kernel.sessions[1].units == {}
    assert ready.kernel.sessions[1].state == "LOGGED_IN"


def test_a_scan_that_fails_is_told_and_the_session_stays(ready: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(sysfs: Path, host: int) -> None:
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr("iscsiboot.session.login.scan_whole_host", gone)
    assert log(ready).sid == 1
    assert ready.report.notes == ["session 1: scanning host11 failed: No such device"]
    assert 1 in ready.kernel.sessions


def test_a_unit_without_queue_depth_is_told(ready: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr("iscsiboot.session.login.set_queue_depth", refuse)
    log(ready)
    assert ready.report.notes == ["11:0:0:1: no queue depth of 32: Operation not supported"]


def test_the_record_reaches_the_kernel(ready: Machine) -> None:
    request = replace(
        ready.request,
        lun=None,
        iface_name="10.0.0.1:3260:pv0",
        netdev=None,
        hwaddress="52:54:00:12:34:56",
        stored_address="disks.example",
        params=SessionParams(cmds_max=64, queue_depth=16, initial_cmdsn=7, noop_out_interval=5, noop_out_timeout=6),
        credentials=Credentials(outgoing=Chap(name="user", secret=Secret(b"a secret of ours"))),
        chap_algorithms=(ChapAlgorithm.SHA256, ChapAlgorithm.MD5),
    )
    offers = []

    def target(bhs: bytes, data: bytes) -> list[tuple[bytes, bytes]]:
        offers.append(data)
        if b"AuthMethod" in data:
            return [login_response(bhs, b"AuthMethod=None\0TargetPortalGroupTag=3\0", flags=0x81)]
        return granting(bhs, data)

    ready.kernel.target = target
    log(ready, order(ready, request=request))
    params = ready.kernel.sessions[1].params
    assert params[Param.ISCSI_PARAM_IFACE_NAME] == "10.0.0.1:3260:pv0"
    assert params[Param.ISCSI_PARAM_PERSISTENT_ADDRESS] == "disks.example"
    assert params[Param.ISCSI_PARAM_PASSWORD] == "a secret of ours"
    assert (params[Param.ISCSI_PARAM_PING_TMO], params[Param.ISCSI_PARAM_RECV_TMO]) == ("6", "5")
    create = ready.kernel.requests[0]
    assert create.args == (7, 64, 16)
    (host,) = [item for item in ready.kernel.requests if item.type is UEvent.ISCSI_UEVENT_SET_HOST_PARAM]
    assert (host.args[1], host.data) == (HostParam.ISCSI_HOST_PARAM_HWADDRESS, b"52:54:00:12:34:56\0")


def test_chap_algorithms_are_the_records(ready: Machine) -> None:
    offers: list[bytes] = []

    def target(bhs: bytes, data: bytes) -> list[tuple[bytes, bytes]]:
        offers.append(data)
        if b"AuthMethod" in data:
            return [login_response(bhs, b"AuthMethod=CHAP\0TargetPortalGroupTag=3\0", flags=0)]
        return [login_response(bhs, status=(2, 1))]

    ready.kernel.target = target
    request = replace(
        ready.request,
        lun=None,
        credentials=Credentials(outgoing=Chap(name="user", secret=Secret(b"a secret of ours"))),
        chap_algorithms=(ChapAlgorithm.SHA256, ChapAlgorithm.MD5),
    )
    with pytest.raises(IscsiBootError) as caught:
        log(ready, order(ready, request=request))
    assert b"CHAP_A=7,5\0" in offers[1]
    assert caught.value.exit_code is ExitCode.LOGIN_AUTH_FAILED
    assert ready.kernel.sessions == {}


def test_priority_of_the_sending_threads(ready: Machine) -> None:
    nice = ready.kernel.sysfs / "devices" / "virtual" / "workqueue" / "iscsi_q_11" / "nice"
    nice.parent.mkdir(parents=True)
    nice.write_text("0\n")
    log(ready, order(ready, thread_priority=-20))
    assert nice.read_text() == "-20"
    assert ready.report.notes == []


def test_a_kernel_without_that_queue_is_told(ready: Machine) -> None:
    log(ready, order(ready, thread_priority=-20))
    assert ready.report.notes == ["session 1: this kernel takes no priority for its sending threads"]


# Names.


def test_a_name_is_resolved_when_the_login_begins(ready: Machine) -> None:
    environment = replace(ready.environment, resolve=lambda named: ready.request.portal)
    request = replace(ready.request, lun=None, portal=Portal(address=UNRESOLVED), stored_address="disks.example")
    wanted = order(ready, request=request, portal=NamedPortal(host="disks.example", port=ready.request.portal.port))
    session = log_in(wanted, environment=environment, report=ready.report)
    assert session.portal == ready.request.portal
    assert ready.kernel.sessions[1].params[Param.ISCSI_PARAM_PERSISTENT_ADDRESS] == "disks.example"


def test_a_name_without_address_is_error_4_at_once(ready: Machine) -> None:
    def resolve(named: NamedPortal) -> Portal:
        from iscsiboot.session.resolve import resolve_all

        return resolve_all(replace(named, host="no-such-host.invalid"))[0]

    wanted = order(ready, portal=NamedPortal(host="no-such-host.invalid", port=3260))
    with pytest.raises(IscsiBootError) as caught:
        log_in(wanted, environment=replace(ready.environment, resolve=resolve), report=ready.report)
    assert caught.value.exit_code is ExitCode.TRANS
    assert caught.value.cause.startswith("the portal's name has no address: ")
    assert not caught.value.retryable
    assert ready.pauses == []
    assert isinstance(UNRESOLVED, IPv4Address)


# Retries: open-iscsi's times (reference 4.5).


def test_a_refused_port_is_tried_at_0_5_8_11(ready: Machine, refused: Portal) -> None:
    request = replace(ready.request, portal=refused, lun=None)
    with pytest.raises(IscsiBootError) as caught:
        log(ready, order(ready, request=request, portal=refused, give_up=14))
    assert ready.pauses == [5, 3, 3, 3]
    assert caught.value.exit_code is ExitCode.TRANS_TIMEOUT
    assert "refused" in caught.value.cause
    assert ready.kernel.requests == [], "no session was made before there was a connection"


def test_an_address_that_swallows_everything_is_tried_again_at_once(
    ready: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attempts at 0, 5, 8 and 11 seconds, as open-iscsi's; three seconds between them would leave half of the four."""
    began: list[float] = []

    def swallowed(portal: Portal, *, deadline: Deadline, now: Callable[[], float], **_: object) -> socket.socket:
        began.append(now() - 100.0)
        ready.clock[0] += deadline.remaining(now()) + 0.001
        raise ConnectError("no answer", portal=portal, hint="", retryable=True, number=errno.ETIMEDOUT)

    monkeypatch.setattr("iscsiboot.session.attach.connect", swallowed)
    params = replace(ready.request.params, login_timeout=3)
    request = replace(ready.request, lun=None, params=params)
    with pytest.raises(IscsiBootError) as caught:
        log(ready, order(ready, request=request, give_up=12))
    assert began == pytest.approx([0, 5, 8, 11], abs=0.01)
    assert ready.pauses == [2, 0, 0]
    assert caught.value.exit_code is ExitCode.TRANS_TIMEOUT


@pytest.mark.parametrize(("give_up", "pauses"), [(0, []), (2.9, []), (3, [5]), (7.9, [5]), (8, [5, 3])])
def test_nothing_begins_after_the_time_is_over(
    ready: Machine, refused: Portal, give_up: float, pauses: list[float]
) -> None:
    request = replace(ready.request, portal=refused, lun=None)
    with pytest.raises(IscsiBootError):
        log(ready, order(ready, request=request, portal=refused, give_up=give_up))
    assert ready.pauses == pauses


def test_a_target_in_trouble_is_tried_after_time2wait(ready: Machine) -> None:
    answers = [refusing((3, 1)), refusing((3, 2)), granting]
    ready.kernel.target = lambda bhs, data: answers.pop(0)(bhs, data)
    assert log(ready).sid == 3
    assert ready.pauses == [2, 2]
    assert list(ready.kernel.sessions) == [3]


@pytest.mark.parametrize(
    ("status", "code"),
    [((2, 1), 24), ((2, 2), 24), ((2, 3), 19), ((2, 4), 19), ((2, 5), 19), ((2, 0), 19), ((2, 6), 19)],
    ids=str,
)
def test_a_refusal_for_good_ends_the_login_at_once(ready: Machine, status: tuple[int, int], code: int) -> None:
    ready.kernel.target = refusing(status)
    with pytest.raises(IscsiBootError) as caught:
        log(ready)
    assert caught.value.exit_code == code
    assert ready.pauses == []
    assert ready.kernel.sessions == {}


def test_a_connection_error_in_the_login_is_tried_again(ready: Machine) -> None:
    answers: list[object] = [1020, granting]

    def target(bhs: bytes, data: bytes) -> list[tuple[bytes, bytes]] | int:
        answer = answers.pop(0)
        return answer if isinstance(answer, int) else granting(bhs, data)

    ready.kernel.target = target
    assert log(ready).sid == 2
    assert ready.pauses == [2]


def test_a_redirect_is_no_attempt_and_keeps_the_records_portal(ready: Machine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        port = elsewhere.getsockname()[1]
        answers = [redirecting(f"127.0.0.1:{port},1"), granting]
        ready.kernel.target = lambda bhs, data: answers.pop(0)(bhs, data)
        session = log(ready)
    assert session.portal.port == port
    assert ready.pauses == []
    stored = ready.kernel.sessions[2].params[Param.ISCSI_PARAM_PERSISTENT_PORT]
    assert stored == str(ready.request.portal.port)


def test_cancelling_ends_the_pause(ready: Machine, refused: Portal) -> None:
    ready.environment.cancelled.set()
    with pytest.raises(IscsiBootError):
        log(ready, order(ready, request=replace(ready.request, portal=refused), portal=refused))
    assert ready.pauses == [5]


def test_no_transport_is_error_12(ready: Machine) -> None:
    shutil.rmtree(ready.kernel.sysfs / "class" / "iscsi_transport")
    with pytest.raises(IscsiBootError) as caught:
        log(ready)
    assert caught.value.exit_code is ExitCode.TRANS_NOT_FOUND
    assert ready.pauses == []


@pytest.mark.parametrize("step", range(1, 33))
def test_an_interruption_at_any_step_leaves_nothing(ready: Machine, step: int) -> None:
    ready.kernel.interrupt[step] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        log(ready)
    assert ready.kernel.sessions == {}


def test_an_interruption_of_the_scan_leaves_nothing(ready: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("iscsiboot.session.login.scan_whole_host", interrupted)
    with pytest.raises(KeyboardInterrupt):
        log(ready)
    assert ready.kernel.sessions == {}


def test_another_session_to_the_same_place_is_no_hindrance_here(ready: Machine) -> None:
    """Whether there may be one more is the caller's business: it has counted."""
    assert [log(ready).sid, log(ready).sid] == [1, 2]
