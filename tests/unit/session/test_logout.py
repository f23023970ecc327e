# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ending a session against the fake kernel: the order, each way a target fails to answer, whose sessions are spared."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest

from iscsiboot.errors import ExitCode, IscsiBootError
from iscsiboot.model.lun import Lun
from iscsiboot.netlink.uapi import KEvent, StopFlag, UEvent
from iscsiboot.session.logout import log_out
from tests.doubles.iscsi_kernel import FakeSession, kernel_event, logout_response
from tests.unit.session.conftest import Machine

ORDER = ["UNBIND_SESSION", "SEND_PDU", "STOP_CONN", "DESTROY_CONN", "DESTROY_SESSION"]
DEAD = 991


def session(machine: Machine, **changes: object) -> FakeSession:
    creator = changes.pop("creator", DEAD)
    assert isinstance(creator, int)
    units = {Lun.from_number(1): (0, "sda")}
    return machine.kernel.leftover(
        creator=creator, **{"state": "LOGGED_IN", "connection": "up", "units": units, **changes}
    )


def end(machine: Machine, sid: int = 1, *, insist: bool = False) -> None:
    log_out(sid, environment=machine.environment, report=machine.report, logout_timeout=0.1, insist=insist)


def test_the_order_is_open_iscsis(machine: Machine) -> None:
    session(machine)
    end(machine)
    assert machine.kernel.names == ORDER
    assert machine.kernel.sessions == {}
    assert machine.report.notes == []
    stop = machine.kernel.requests[2]
    assert stop.args[3] == StopFlag.STOP_CONN_TERM


def test_the_logout_request_is_the_peers(machine: Machine) -> None:
    """Opcode 0x46, F and reason 0, everything else 0: seen from open-iscsi. The kernel fills in tag and numbers."""
    session(machine)
    end(machine)
    (sent,) = [item for item in machine.kernel.requests if item.type is UEvent.ISCSI_UEVENT_SEND_PDU]
    assert sent.data == bytes([0x46, 0x80]) + bytes(46)


@pytest.mark.parametrize("state", ["FAILED", "FREE"])
def test_a_session_that_is_not_logged_in_ends_at_once(machine: Machine, state: str) -> None:
    session(machine, state=state, connection="down")
    end(machine)
    assert machine.kernel.names == ORDER[2:]
    assert machine.kernel.sessions == {}


def test_a_session_without_connection(machine: Machine) -> None:
    session(machine, state="FREE", connection=None)
    end(machine)
    assert machine.kernel.names == ["DESTROY_SESSION"]


def test_a_target_that_is_silent_ends_nothing_late(machine: Machine) -> None:
    session(machine)
    machine.kernel.logout = lambda bhs: []
    end(machine)
    assert machine.kernel.names == ORDER
    assert machine.report.notes == ["session 1: the target did not answer the logout within 0.1 s"]


def test_a_connection_that_ends_first(machine: Machine) -> None:
    session(machine)
    machine.kernel.logout = lambda bhs: 1020
    end(machine)
    assert machine.kernel.sessions == {}
    assert machine.report.notes == [
        "session 1: the connection ended before the target answered the logout (TCP_CONN_CLOSE)"
    ]


def test_an_answer_that_is_no_yes_is_told(machine: Machine) -> None:
    session(machine)
    machine.kernel.logout = lambda bhs: [logout_response(3)]
    end(machine)
    assert machine.kernel.sessions == {}
    assert machine.report.notes == ["session 1: the target answered the logout with CLEANUP_FAILED"]


def test_other_pdus_and_other_sessions_are_not_the_answer(machine: Machine) -> None:
    session(machine)
    nop = bytes([0x20, 0x80]) + bytes(46)
    foreign = kernel_event(KEvent.ISCSI_KEVENT_RECV_PDU, 9, 0, data=logout_response()[0])
    failed = kernel_event(KEvent.ISCSI_KEVENT_CONN_ERROR, 9, 0, 1020)

    def answer(bhs: bytes) -> list[tuple[bytes, bytes]]:
        machine.kernel.multicast(foreign)
        machine.kernel.multicast(failed)
        return [(nop, b""), logout_response(2)]

    machine.kernel.logout = answer
    end(machine)
    assert machine.report.notes == ["session 1: the target answered the logout with RECOVERY_NOT_SUPPORTED"]


def test_disks_that_do_not_go_are_told(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iscsiboot.session.logout.UNBIND_SECONDS", 0.1)
    session(machine)
    machine.kernel.unbinds = False
    end(machine)
    assert machine.kernel.names == ORDER
    assert machine.report.notes == ["session 1: its disks were not gone after 0.1 s; unwritten data may be lost"]


def test_a_connection_that_breaks_meanwhile_is_not_waited_for(machine: Machine) -> None:
    """Seen in a guest with its cable out: the flush of the disks holds the removal until the connection is ended."""
    session(machine)
    machine.kernel.unbinds = False
    machine.kernel.on_unbind = [kernel_event(KEvent.ISCSI_KEVENT_CONN_ERROR, 1, 0, 1022)]
    end(machine)
    assert machine.kernel.names == ["UNBIND_SESSION", *ORDER[2:]]
    assert machine.kernel.sessions == {}
    assert machine.report.notes == [
        "session 1: the connection broke as its disks were removed (NOP_TIMEDOUT); data may be lost"
    ]


def test_a_kernel_that_sends_no_pdu_is_told(machine: Machine) -> None:
    session(machine)
    machine.kernel.refuse[2] = errno.EPIPE
    end(machine)
    assert machine.kernel.sessions == {}
    (note,) = machine.report.notes
    assert note.startswith("session 1: the target could not be told: the kernel refused SEND_PDU")


def test_lost_events_end_the_waits(machine: Machine) -> None:
    session(machine)

    def answer(bhs: bytes) -> list[tuple[bytes, bytes]]:
        for transport in machine.kernel.sockets:
            transport.deliver(errno.ENOBUFS)
        return []

    machine.kernel.logout = answer
    end(machine)
    assert machine.kernel.sessions == {}


@pytest.mark.parametrize("step", [1, 2])
def test_an_interruption_still_ends_the_session(machine: Machine, step: int) -> None:
    """A session whose disks are gone serves nobody: what was begun is finished."""
    session(machine)
    machine.kernel.interrupt[step] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        end(machine)
    assert machine.kernel.sessions == {}


def test_a_refusal_of_the_kernel_is_the_error(machine: Machine) -> None:
    session(machine)
    machine.kernel.refuse[5] = errno.EBUSY
    with pytest.raises(IscsiBootError, match="EBUSY") as caught:
        end(machine)
    assert caught.value.exit_code is ExitCode.INTERNAL


def test_no_such_session_is_error_2(machine: Machine) -> None:
    with pytest.raises(IscsiBootError) as caught:
        end(machine, 5)
    assert caught.value.exit_code is ExitCode.SESS_NOT_FOUND


def test_one_that_goes_by_itself_meanwhile_is_ended(machine: Machine) -> None:
    made = session(machine)

    def answer(bhs: bytes) -> list[tuple[bytes, bytes]]:
        del machine.kernel.sessions[made.sid]
        machine.kernel._hide(made)
        return []

    machine.kernel.logout = answer
    end(machine)
    assert machine.kernel.sessions == {}


def test_without_transport(machine: Machine) -> None:
    session(machine)
    shutil.rmtree(machine.kernel.sysfs / "class" / "iscsi_transport")
    with pytest.raises(IscsiBootError) as caught:
        end(machine)
    assert caught.value.exit_code is ExitCode.TRANS_NOT_FOUND


def test_firmware_sessions_are_not_ours(machine: Machine) -> None:
    session(machine, creator=0xFFFFFFFF)
    with pytest.raises(IscsiBootError) as caught:
        end(machine, insist=True)
    assert caught.value.exit_code is ExitCode.OP_NOT_SUPP
    assert machine.kernel.requests == []


# Whose session it is.


def process(proc: Path, pid: int, name: str) -> None:
    (proc / str(pid)).mkdir(parents=True)
    (proc / str(pid) / "comm").write_text(f"{name}\n")


@pytest.mark.parametrize("creator", [4711, DEAD], ids=["made by it", "perhaps taken over"])
def test_sessions_of_open_iscsis_daemon_are_spared(machine: Machine, creator: int) -> None:
    session(machine, creator=creator)
    machine.kernel.foreign = (4711,)
    machine.kernel.show_ports()
    process(machine.kernel.proc, 4711, "iscsid")
    with pytest.raises(IscsiBootError, match=r"open-iscsi's iscsid \(process 4711\)") as caught:
        end(machine)
    assert caught.value.exit_code is ExitCode.BUSY
    assert machine.kernel.requests == []


def test_insisting_ends_them(machine: Machine) -> None:
    session(machine, creator=4711)
    machine.kernel.foreign = (4711,)
    machine.kernel.show_ports()
    process(machine.kernel.proc, 4711, "iscsid")
    end(machine, insist=True)
    assert machine.kernel.sessions == {}


def test_one_that_is_still_being_made_is_spared(machine: Machine) -> None:
    session(machine, creator=4711, state="FREE")
    machine.kernel.foreign = (4711,)
    machine.kernel.show_ports()
    with pytest.raises(IscsiBootError, match="still at work"):
        end(machine)


def test_another_command_at_work_elsewhere_is_no_hindrance(machine: Machine) -> None:
    session(machine)
    machine.kernel.foreign = (4711,)
    machine.kernel.show_ports()
    process(machine.kernel.proc, 4711, "iscsiadm")
    end(machine)
    assert machine.kernel.sessions == {}


def test_without_the_table_of_sockets_it_is_ended(machine: Machine) -> None:
    session(machine)
    machine.kernel.show_ports = lambda *foreign: None  # type: ignore[method-assign]
    (machine.kernel.proc / "net" / "netlink").unlink()
    end(machine)
    assert machine.kernel.sessions == {}
