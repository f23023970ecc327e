# SPDX-License-Identifier: LGPL-2.1-or-later
"""Attaching from end to end against the fake kernel: what is left, what is told, what is tried again."""

from __future__ import annotations

import errno
import shutil
import socket
import threading
import time
from dataclasses import replace

import pytest

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.initiator.chap import ChapAlgorithm
from iscsiboot.model.credentials import Chap, Credentials, Secret
from iscsiboot.model.lun import Lun
from iscsiboot.model.params import SessionParams
from iscsiboot.model.portal import Portal, parse_ip
from iscsiboot.model.timeline import Mark
from iscsiboot.netlink.messages import Reply, Request
from iscsiboot.netlink.socket import IscsiNetlink
from iscsiboot.netlink.uapi import KEvent, Param
from iscsiboot.session import kernel_login
from iscsiboot.session.kernel_login import KernelLogin
from iscsiboot.session.values import BlockDevice
from tests.doubles.iscsi_kernel import (
    PORT,
    granting,
    hesitating,
    kernel_event,
    login_response,
    redirecting,
    refusing,
)
from tests.unit.session.conftest import TARGET, Machine

LOGIN = ["CREATE_SESSION", "CREATE_CONN", "BIND_CONN", "SET_PARAM", "SEND_PDU", "SET_PARAM", "START_CONN"]
STEPS = 32
"""Netlink requests of one login without credentials."""


def test_a_login(machine: Machine) -> None:
    attached = machine.attach()
    assert machine.kernel.names == LOGIN
    assert len(machine.kernel.requests) == STEPS
    assert (attached.sid, attached.host, attached.tpgt, attached.reused) == (1, 11, 3, False)
    assert attached.portal == machine.request.portal
    assert attached.devices == (BlockDevice(name="sda", lun=Lun.from_number(1), ready=True),)
    assert attached.devices[0].path == "/dev/sda"
    assert [mark for mark, _ in machine.report.marks] == [Mark.CONNECTED, Mark.LOGIN, Mark.DISK]
    assert machine.kernel.sessions[1].state == "LOGGED_IN"


def test_a_second_one_uses_the_first(machine: Machine) -> None:
    first = machine.attach()
    before = len(machine.kernel.requests)
    second = machine.attach()
    assert replace(second, reused=False) == replace(first, tpgt=3)
    assert second.reused
    assert len(machine.kernel.requests) == before


def test_another_iface_gets_a_session_of_its_own(machine: Machine) -> None:
    machine.attach()
    assert machine.attach(replace(machine.request, iface_name="eth1")).sid == 2


def test_all_luns(machine: Machine) -> None:
    machine.kernel.luns |= {Lun.from_number(0): (12, None), Lun.from_number(2): (0, "sdb")}
    machine.monitor.ready.add("sdb")
    attached = machine.attach(replace(machine.request, lun=None))
    assert [device.name for device in attached.devices] == ["sda", "sdb"]


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_a_refusal_at_any_step_leaves_nothing(machine: Machine, step: int) -> None:
    machine.kernel.refuse[step] = errno.EPERM
    with pytest.raises(IscsiBootError, match="EPERM"):
        machine.attach()
    assert machine.kernel.sessions == {}
    assert machine.report.notes == [], "no undo failed"


def test_a_connection_that_fails_before_a_pdu_goes_out_is_tried_again(machine: Machine) -> None:
    """The kernel answers EPERM then, which is no want of rights."""
    machine.kernel.unsent = 1
    assert machine.attach().sid == 2
    (note,) = machine.report.notes
    assert "gave the connection up before the request could go out" in note
    assert list(machine.kernel.sessions) == [2]


@pytest.mark.parametrize("times", [1, 6])
def test_a_request_the_kernel_cannot_take_yet_is_given_again(machine: Machine, times: int) -> None:
    """It hands us the response before it puts the request away that this answers: no failure, the same session."""
    machine.kernel.target = hesitating()
    machine.kernel.held = times
    assert machine.attach().sid == 1
    assert (machine.kernel.held, machine.report.notes) == (0, [])


def test_events_of_other_sessions_do_not_use_up_the_pauses(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred logins at once tell everybody of each: asked again at each, six times are over at once."""
    machine.kernel.target = hesitating()
    machine.kernel.held = 2
    sent, foreign = KernelLogin.sent, kernel_event(KEvent.ISCSI_KEVENT_CONN_ERROR, 99, 0, 1011)

    refused: list[float] = []

    def in_a_crowd(login: KernelLogin, request: Request, reply: Reply) -> float:
        for _ in range(3):
            machine.kernel.multicast(foreign)
        if pause := sent(login, request, reply):
            refused.append(time.monotonic())
        return pause

    monkeypatch.setattr(KernelLogin, "sent", in_a_crowd)
    monkeypatch.setattr(kernel_login, "PAUSES", (0.05, 0.05))
    assert machine.attach().sid == 1
    first, second = refused
    assert second - first >= 0.04


def test_a_request_the_kernel_never_takes_fails_the_attempt(machine: Machine) -> None:
    machine.kernel.target = hesitating()
    machine.kernel.held = 7
    assert machine.attach().sid == 2
    assert "gave the connection up before the request could go out" in machine.report.notes[0]


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_an_interruption_at_any_step_leaves_nothing(machine: Machine, step: int) -> None:
    machine.kernel.interrupt[step] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        machine.attach()
    assert machine.kernel.sessions == {}


def test_undo_order(machine: Machine) -> None:
    machine.kernel.refuse[STEPS] = errno.EPERM
    with pytest.raises(IscsiBootError):
        machine.attach()
    assert machine.kernel.names[len(LOGIN) :] == [
        "UNBIND_SESSION",
        "STOP_CONN",
        "DESTROY_CONN",
        "DESTROY_SESSION",
    ]


def test_an_undo_that_fails_is_told_and_hides_nothing(machine: Machine) -> None:
    machine.kernel.refuse |= {STEPS: errno.EPERM, STEPS + 2: errno.EIO}
    with pytest.raises(IscsiBootError, match=r"START_CONN.*EPERM"):
        machine.attach()
    (note,) = machine.report.notes
    assert "taking back BIND_CONN failed" in note
    assert "EIO" in note
    assert machine.kernel.sessions == {}


def test_parameters_the_kernel_does_not_know_are_left_out(machine: Machine) -> None:
    machine.kernel.unknown_params = {Param.ISCSI_PARAM_DISCOVERY_SESS, Param.ISCSI_PARAM_TGT_RESET_TMO}
    assert machine.attach().sid == 1


def test_isid_names_the_session(machine: Machine) -> None:
    isids = []

    def look(bhs: bytes, data: bytes) -> list[tuple[bytes, bytes]]:
        isids.append(bhs[8:14].hex())
        return granting(bhs, data)

    machine.kernel.target = look
    machine.attach()
    machine.attach(replace(machine.request, iface_name="eth1"))
    assert isids == ["00023d000001", "00023d000002"]


# Redirects.


def test_a_redirect_is_followed_and_the_first_portal_remembered(machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        port = elsewhere.getsockname()[1]

        def target(bhs: bytes, data: bytes) -> list[tuple[bytes, bytes]]:
            first = len([name for name in machine.kernel.names if name == "CREATE_SESSION"]) == 1
            return redirecting(f"127.0.0.1:{port},1")(bhs, data) if first else granting(bhs, data)

        machine.kernel.target = target
        attached = machine.attach()
    assert attached.portal.port == port
    assert attached.sid == 2
    (session,) = machine.kernel.sessions.values()
    assert session.params[Param.ISCSI_PARAM_PERSISTENT_PORT] == str(machine.request.portal.port)
    assert any(f"127.0.0.1:{port}" in note for note in machine.report.notes)


def test_a_ring_of_redirects_ends(machine: Machine) -> None:
    machine.kernel.target = redirecting(machine.request.portal.endpoint)
    with pytest.raises(IscsiBootError, match="redirected in a ring"):
        machine.attach(seconds=0.4)
    assert machine.kernel.sessions == {}


def test_an_endless_chain_of_redirects_ends(machine: Machine) -> None:
    with socket.create_server(("", 0)) as elsewhere:
        port = elsewhere.getsockname()[1]
        hops = iter(range(2, 100))
        machine.kernel.target = lambda bhs, data: redirecting(f"127.0.0.{next(hops)}:{port}")(bhs, data)
        with pytest.raises(IscsiBootError, match="redirected more than 4 times"):
            machine.attach(seconds=0.4)
    assert next(hops) == 7, "four hops were followed, the fifth refused"
    assert machine.kernel.sessions == {}


def test_a_redirect_to_a_name_is_resolved(machine: Machine) -> None:
    portal = machine.request.portal
    answers = iter([redirecting(f"storage.example:{portal.port}"), granting])
    machine.kernel.target = lambda bhs, data: next(answers)(bhs, data)
    asked = []

    def resolve(there: object) -> Portal:
        asked.append(str(there))
        return Portal(address=parse_ip("127.0.0.1"), port=portal.port)

    # The same endpoint again is a ring, so ask for another spelling of it first.
    machine.environment = replace(machine.environment, resolve=resolve)
    with pytest.raises(IscsiBootError, match="redirected in a ring"):
        machine.attach(seconds=0.4)
    assert asked == [f"storage.example:{portal.port}"]


# Authentication.

CREDENTIALS = Credentials(outgoing=Chap(name="alice", secret=Secret(b"open sesame 12")))


def test_one_more_login_when_the_algorithms_are_rejected(machine: Machine) -> None:
    offers = []

    def target(bhs: bytes, data: bytes) -> list[tuple[bytes, bytes]]:
        if b"AuthMethod=" in data:
            return [login_response(bhs, b"AuthMethod=CHAP\0", flags=0x00)]
        if b"CHAP_A=" in data:
            offers.append(data.rstrip(b"\0").decode())
            return [login_response(bhs, b"CHAP_A=Reject\0", flags=0x00)]
        return granting(bhs, data)

    machine.kernel.target = target
    with pytest.raises(IscsiBootError) as caught:
        machine.attach(replace(machine.request, credentials=CREDENTIALS))
    assert offers == ["CHAP_A=8,7,6,5", f"CHAP_A={ChapAlgorithm.MD5.value}"]
    assert caught.value.stage is Stage.LOGIN
    assert machine.kernel.sessions == {}
    assert "sesame" not in str(machine.report.notes) + str(caught.value)


def test_the_algorithm_that_had_to_be_offered_alone_is_told(machine: Machine) -> None:
    """Who makes the connection anew shall not begin with the refused list again."""

    def target(bhs: bytes, data: bytes) -> list[tuple[bytes, bytes]]:
        if b"AuthMethod=" in data:
            return [login_response(bhs, b"AuthMethod=CHAP\0", flags=0x00)]
        if b"CHAP_A=5\0" in data:
            return [login_response(bhs, b"CHAP_A=5\0CHAP_I=1\0CHAP_C=0x" + b"a7" * 16 + b"\0", flags=0x00)]
        if b"CHAP_A=" in data:
            return [login_response(bhs, b"CHAP_A=Reject\0", flags=0x00)]
        return granting(bhs, data)

    machine.kernel.target = target
    made = machine.attach(replace(machine.request, credentials=CREDENTIALS))
    assert made.algorithm is ChapAlgorithm.MD5
    machine.kernel.target = granting
    assert machine.attach(replace(machine.request, target_name=f"{machine.request.target_name}2")).algorithm is None


def test_secrets_go_to_the_kernel_and_nowhere_else(machine: Machine) -> None:
    machine.kernel.target = refusing((2, 1))
    with pytest.raises(IscsiBootError) as caught:
        machine.attach(replace(machine.request, credentials=CREDENTIALS))
    assert caught.value.exit_code is ExitCode.LOGIN_AUTH_FAILED
    passwords = [request.data for request in machine.kernel.requests if Param.ISCSI_PARAM_PASSWORD in request.args[2:3]]
    assert b"open sesame 12\0" in passwords
    assert "sesame" not in repr(machine.kernel.requests) + repr(machine.request) + str(machine.report.notes)


# Trying again.


def test_retryable_errors_are_tried_again_with_growing_pauses(machine: Machine) -> None:
    machine.kernel.target = refusing((3, 1))
    with pytest.raises(IscsiBootError) as caught:
        machine.attach(seconds=40)
    assert machine.pauses == [0.5, 1, 2, 4, 8, 8, 8, 8], "and no pause that would end after the deadline"
    assert len(machine.report.notes) == len(machine.pauses)
    assert all("03/01" in note for note in machine.report.notes)
    assert machine.report.notes[0].startswith("attempt 1: login: ")
    assert caught.value.retryable
    assert machine.kernel.sessions == {}


def test_the_target_comes_up_meanwhile(machine: Machine) -> None:
    answers = iter([refusing((3, 1)), refusing((3, 1)), granting])
    machine.kernel.target = lambda bhs, data: next(answers)(bhs, data)
    assert machine.attach(seconds=40).sid == 3
    assert len(machine.report.notes) == 2


def test_fatal_errors_go_out_at_once(machine: Machine) -> None:
    machine.kernel.target = refusing((2, 3))
    with pytest.raises(IscsiBootError) as caught:
        machine.attach(seconds=40)
    assert caught.value.exit_code is ExitCode.FATAL_LOGIN
    assert machine.pauses == []


def test_cancelling_ends_the_pauses(machine: Machine) -> None:
    machine.kernel.target = refusing((3, 1))
    machine.environment.cancelled.set()
    with pytest.raises(IscsiBootError, match="03/01"):
        machine.attach(seconds=40)
    assert len(machine.pauses) == 1


def test_nobody_listens(machine: Machine) -> None:
    machine.listener.close()
    with pytest.raises(IscsiBootError, match="nobody listens") as caught:
        machine.attach(seconds=1)
    assert (caught.value.stage, caught.value.exit_code) == (Stage.CONNECT, ExitCode.TRANS_TIMEOUT)
    assert machine.kernel.requests == [], "no kernel session before there is a connection"


def test_a_silent_target(machine: Machine) -> None:
    machine.kernel.target = lambda bhs, data: []
    with pytest.raises(IscsiBootError) as caught:
        machine.attach(seconds=0.2)
    assert (caught.value.stage, caught.value.exit_code) == (Stage.LOGIN, ExitCode.PDU_TIMEOUT)
    assert machine.kernel.sessions == {}


def test_the_connection_breaks_during_the_login(machine: Machine) -> None:
    machine.kernel.target = lambda bhs, data: 1020
    with pytest.raises(IscsiBootError, match="TCP_CONN_CLOSE") as caught:
        machine.attach(seconds=0.2)
    assert caught.value.retryable
    assert machine.kernel.sessions == {}


def test_lost_events_begin_a_new_attempt(machine: Machine) -> None:
    def target(bhs: bytes, data: bytes) -> list[tuple[bytes, bytes]]:
        if len(machine.kernel.sockets) > 1:
            return granting(bhs, data)
        machine.kernel.sockets[0].deliver(errno.ENOBUFS)
        return []

    machine.kernel.target = target
    assert machine.attach().sid == 2


def test_events_of_other_sessions_are_passed_over(machine: Machine) -> None:
    def target(bhs: bytes, data: bytes) -> list[tuple[bytes, bytes]]:
        from iscsiboot.netlink.uapi import KEvent
        from tests.doubles.iscsi_kernel import kernel_event

        alien = b"".join(login_response(bhs, status=(2, 1)))
        machine.kernel.multicast(kernel_event(KEvent.ISCSI_KEVENT_RECV_PDU, 77, 0, data=alien))
        machine.kernel.multicast(kernel_event(KEvent.ISCSI_KEVENT_RECV_PDU, 1, 5, data=alien))
        machine.kernel.multicast(kernel_event(KEvent.ISCSI_KEVENT_CONN_ERROR, 77, 0, 1011))
        return granting(bhs, data)

    machine.kernel.target = target
    assert machine.attach().sid == 1


def test_without_the_module(machine: Machine) -> None:
    shutil.rmtree(machine.kernel.sysfs / "class" / "iscsi_transport")
    with pytest.raises(IscsiBootError, match="modprobe iscsi_tcp") as caught:
        machine.attach()
    assert (caught.value.stage, caught.value.exit_code) == (Stage.MODULES, ExitCode.TRANS_NOT_FOUND)


def test_without_the_right_to_read_the_handle(machine: Machine) -> None:
    (machine.kernel.sysfs / "class" / "iscsi_transport" / "tcp" / "handle").unlink()
    with pytest.raises(IscsiBootError, match="run it as root") as caught:
        machine.attach()
    assert caught.value.exit_code is ExitCode.ACCESS


# Disks.


def test_an_absent_lun_is_told_with_those_that_exist_and_undone(machine: Machine) -> None:
    machine.kernel.luns = {Lun.from_number(0): (12, None), Lun.from_number(1): (0, "sda")}
    with pytest.raises(IscsiBootError) as caught:
        machine.attach(replace(machine.request, lun=Lun.from_number(7)))
    assert caught.value.stage is Stage.SCAN
    assert caught.value.subject == TARGET
    assert caught.value.cause == "no LUN 7 at this target; it has LUN 0 (array controller), LUN 1 (disk)"
    assert machine.kernel.sessions == {}
    assert machine.kernel.names[len(LOGIN)] == "UNBIND_SESSION"


def test_an_absent_lun_of_a_session_that_was_there_leaves_it_alone(machine: Machine) -> None:
    machine.attach()
    with pytest.raises(IscsiBootError, match="no LUN 7"):
        machine.attach(replace(machine.request, lun=Lun.from_number(7)))
    assert machine.kernel.sessions[1].state == "LOGGED_IN"


# Several at once.


def test_threads_each_get_their_own_session(machine: Machine) -> None:
    ports = iter(range(PORT, PORT + 100))
    clock = machine.clock
    environment = replace(
        machine.environment,
        open_netlink=lambda: IscsiNetlink(machine.kernel.transport(next(ports)), now=lambda: clock[0]),
    )
    machine.environment = environment
    results: list[int | IscsiBootError] = []

    def one(number: int) -> None:
        try:
            results.append(machine.attach(replace(machine.request, iface_name=f"p{number}")).sid)
        except IscsiBootError as error:
            results.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(map(str, results)) == ["1", "2", "3", "4"]


def test_default_parameters_are_the_peer_s(machine: Machine) -> None:
    machine.attach()
    request = machine.kernel.requests[0]
    params = SessionParams()
    assert request.args == (params.initial_cmdsn, params.cmds_max, params.queue_depth)
