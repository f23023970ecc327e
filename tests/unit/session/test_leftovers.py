# SPDX-License-Identifier: LGPL-2.1-or-later
"""What existing sessions are to a login: every row of the table, and that nothing else is ever touched."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from iscsiboot.errors import ExitCode, IscsiBootError
from iscsiboot.model.lun import Lun
from iscsiboot.model.portal import Portal, parse_ip
from iscsiboot.netlink.ports import OpenPort
from iscsiboot.netlink.uapi import Param
from iscsiboot.session.leftovers import Verdict, clear, judge
from iscsiboot.session.values import AttachRequest
from iscsiboot.sysfs.sessions import ConnectionView, SessionView
from tests.doubles.iscsi_kernel import PORT, FakeSession
from tests.unit.session.conftest import INITIATOR, TARGET, Machine

HERE = Portal(address=parse_ip("10.0.0.1"))
REQUEST = AttachRequest(initiator_name=INITIATOR, target_name=TARGET, portal=HERE, lun=None)
CREATOR = 4711
OURS = (OpenPort(port=CREATOR, hears_events=True, ours=True),)
LIVE = (OpenPort(port=CREATOR, hears_events=True, ours=False),)
DAEMON = (OpenPort(port=1, hears_events=True, ours=False),)
OUR_THREAD = (OpenPort(port=1, hears_events=True, ours=True),)
DEAF = (OpenPort(port=1, hears_events=False, ours=False),)


def connection(*, address: str | None = "10.0.0.1", state: str | None = "up", **changes: object) -> ConnectionView:
    values: dict[str, object] = dict.fromkeys(ConnectionView.__dataclass_fields__)
    values |= {"sid": 1, "cid": 0, "state": state, "persistent_address": address, "persistent_port": 3260} | changes
    return ConnectionView(**values)  # type: ignore[arg-type]  # a table of fields


def session(**changes: object) -> SessionView:
    """A healthy session to the target of :data:`REQUEST`, with changes."""
    values: dict[str, object] = dict.fromkeys(SessionView.__dataclass_fields__)
    values |= {
        "sid": 1,
        "host": 2,
        "transport": "tcp",
        "target_name": TARGET,
        "initiator_name": INITIATOR,
        "iface_name": "default",
        "state": "LOGGED_IN",
        "creator": CREATOR,
        "connections": (connection(),),
    }
    return SessionView(**(values | changes))  # type: ignore[arg-type]  # a table of fields


HALF = {"state": "FREE", "connections": (connection(state="bound"),)}
BROKEN = {"state": "FAILED", "connections": (connection(state="failed"),)}
UNNAMED = {"state": "FREE", "target_name": None, "initiator_name": None, "iface_name": None}
BARE = UNNAMED | {"connections": ()}


@pytest.mark.parametrize(
    ("changes", "ports", "has_units", "verdict"),
    [
        pytest.param({}, (), True, Verdict.REUSE, id="healthy"),
        pytest.param({}, LIVE, True, Verdict.REUSE, id="healthy-creator-lives"),
        pytest.param({}, (), False, Verdict.REUSE, id="healthy-not-scanned-yet"),
        pytest.param({"connections": (connection(state=None),)}, (), True, Verdict.REUSE, id="old-kernel"),
        pytest.param({"creator": None}, (), True, Verdict.REUSE, id="healthy-by-firmware"),
        pytest.param({"state": None}, (), True, Verdict.FOREIGN, id="state-unreadable"),
        pytest.param(BARE | {"state": None}, (), False, Verdict.FOREIGN, id="bare-state-unreadable"),
        pytest.param(
            {"connections": (connection(address="10.0.0.9", port=3261),)},
            (),
            True,
            Verdict.FOREIGN,
            id="healthy-other-portal",
        ),
        pytest.param({"connections": (connection(state="failed"),)}, (), True, Verdict.BUSY, id="breaking-just-now"),
        pytest.param({"target_name": "iqn.2026-01.org.example:other"}, (), True, Verdict.FOREIGN, id="other-target"),
        pytest.param({"initiator_name": "iqn.2026-01.org.example:x"}, (), True, Verdict.FOREIGN, id="other-initiator"),
        pytest.param({"iface_name": "eth1"}, (), True, Verdict.FOREIGN, id="other-iface"),
        pytest.param({"transport": "iser"}, (), True, Verdict.FOREIGN, id="other-transport"),
        pytest.param(HALF, (), False, Verdict.REMOVE, id="half-made-creator-dead"),
        pytest.param(HALF, DAEMON, False, Verdict.REMOVE, id="half-made-creator-dead-others-live"),
        pytest.param(HALF, LIVE, False, Verdict.BUSY, id="half-made-creator-lives"),
        pytest.param(HALF, OURS, False, Verdict.BUSY, id="half-made-by-our-other-thread"),
        pytest.param(HALF | {"iface_name": None}, OURS, False, Verdict.FOREIGN, id="our-thread-iface-not-set-yet"),
        pytest.param(HALF | {"connections": ()}, OURS, False, Verdict.FOREIGN, id="our-thread-portal-not-set-yet"),
        pytest.param(HALF | {"iface_name": None}, LIVE, False, Verdict.BUSY, id="another-process-iface-not-set-yet"),
        pytest.param(
            HALF | {"connections": (connection(address="10.0.0.9"),)},
            LIVE,
            False,
            Verdict.FOREIGN,
            id="half-made-elsewhere-creator-lives",
        ),
        pytest.param(
            HALF | {"connections": (connection(address="10.0.0.9"),)},
            (),
            False,
            Verdict.REMOVE,
            id="half-made-elsewhere-creator-dead",
        ),
        pytest.param(HALF | {"connections": ()}, LIVE, False, Verdict.BUSY, id="half-made-portal-unknown"),
        pytest.param(
            HALF | {"target_name": "iqn.2026-01.org.example:other"}, (), False, Verdict.FOREIGN, id="half-made-other"
        ),
        pytest.param(HALF | {"creator": None}, (), False, Verdict.FOREIGN, id="half-made-by-the-kernel"),
        pytest.param(BARE, (), False, Verdict.REMOVE, id="bare-creator-dead"),
        pytest.param(UNNAMED, (), False, Verdict.REMOVE, id="unnamed-creator-dead"),
        pytest.param(BARE, LIVE, False, Verdict.FOREIGN, id="bare-creator-lives"),
        pytest.param(BARE | {"creator": None}, (), False, Verdict.FOREIGN, id="bare-by-the-kernel"),
        pytest.param(UNNAMED | {"state": "LOGGED_IN"}, (), True, Verdict.FOREIGN, id="unnamed-but-works"),
        pytest.param(UNNAMED, (), True, Verdict.FOREIGN, id="unnamed-but-has-disks"),
        pytest.param(BROKEN, (), True, Verdict.BROKEN, id="broken"),
        pytest.param(BROKEN | {"state": "FREE"}, (), True, Verdict.BROKEN, id="broken-for-long"),
        pytest.param(BROKEN, LIVE, True, Verdict.BUSY, id="broken-creator-lives"),
        pytest.param(BROKEN, DAEMON, True, Verdict.BUSY, id="broken-a-daemon-listens"),
        pytest.param(BROKEN, OUR_THREAD, True, Verdict.BROKEN, id="broken-our-other-thread"),
        pytest.param(BROKEN, DEAF, True, Verdict.BROKEN, id="broken-somebody-deaf"),
        pytest.param(
            BROKEN | {"connections": (connection(address="10.0.0.9"),)},
            (),
            True,
            Verdict.FOREIGN,
            id="broken-elsewhere",
        ),
    ],
)
def test_the_table(changes: dict[str, object], ports: tuple[OpenPort, ...], has_units: bool, verdict: Verdict) -> None:
    assert judge(session(**changes), REQUEST, transport="tcp", ports=ports, has_units=has_units) is verdict


def named(machine: Machine, **changes: str) -> dict[Param, str]:
    portal = machine.request.portal
    return {
        Param.ISCSI_PARAM_TARGET_NAME: changes.get("target", TARGET),
        Param.ISCSI_PARAM_PERSISTENT_ADDRESS: str(portal.address),
        Param.ISCSI_PARAM_PERSISTENT_PORT: str(portal.port),
    }


@pytest.mark.parametrize("state", ["none", "down", "bound"])
def test_half_made_ones_are_removed_before_the_login(machine: Machine, state: str) -> None:
    machine.kernel.leftover(creator=CREATOR, connection=None if state == "none" else state)
    attached = machine.attach()
    assert set(machine.kernel.sessions) == {attached.sid} == {2}
    assert any("removing session 1" in note for note in machine.report.notes)


def test_others_survive_a_whole_attach(machine: Machine) -> None:
    other = machine.kernel.leftover(
        creator=CREATOR, connection="bound", params=named(machine, target="iqn.2026-01.org.example:other")
    )
    machine.attach()
    assert other.sid in machine.kernel.sessions
    assert all(request.args[0] != other.sid for request in machine.kernel.requests[1:])


def test_a_live_creator_is_waited_for(machine: Machine) -> None:
    theirs = machine.kernel.leftover(creator=CREATOR, connection="bound", params=named(machine))
    machine.kernel.show_ports = lambda *_: None  # type: ignore[method-assign]  # keep the table below
    table = machine.kernel.proc / "net" / "netlink"
    table.write_text(f"sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode\n0 8 {CREATOR} 00000001 0 0 0 2 0 9000\n")
    with pytest.raises(IscsiBootError, match="another process is working on this session") as caught:
        machine.attach(seconds=2)
    assert caught.value.exit_code is ExitCode.SESS_EXISTS
    assert machine.pauses == [0.5, 1]
    assert theirs.sid in machine.kernel.sessions
    # The other one is through and has closed its socket.
    theirs.connection, theirs.state = "up", "LOGGED_IN"
    machine.kernel.show(theirs)
    table.write_text("sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode\n")
    assert machine.attach().reused


def broken(machine: Machine) -> None:
    machine.kernel.leftover(
        creator=CREATOR,
        connection="down",
        state="FAILED",
        params=named(machine),
        units={Lun.from_number(1): (0, "sda")},
    )


def test_a_broken_one_is_replaced(machine: Machine) -> None:
    broken(machine)
    assert machine.attach().sid == 2
    assert set(machine.kernel.sessions) == {2}


def test_a_broken_one_whose_disk_is_in_use_is_refused(machine: Machine) -> None:
    broken(machine)
    (machine.kernel.sysfs / "block" / "sda" / "holders" / "dm-0").mkdir(parents=True)
    with pytest.raises(IscsiBootError, match="sda is held by dm-0") as caught:
        machine.attach()
    assert not caught.value.retryable
    assert machine.kernel.requests == []


def root_of_two_disks(machine: Machine, *, mounted: str) -> None:
    """A btrfs of sda and sdb is the root of process 1, which names one of the two as what is mounted."""
    sysfs = machine.kernel.sysfs
    for name, number in (("sda", "8:0"), ("sdb", "8:16")):
        for folder in (sysfs / "class/block" / name, sysfs / "fs/btrfs/12-34/devices" / name):
            folder.mkdir(parents=True)
        (sysfs / "class/block" / name / "dev").write_text(f"{number}\n")
    (machine.kernel.proc / "1").mkdir()
    (machine.kernel.proc / "1" / "mountinfo").write_text(f"36 35 0:31 / / rw - btrfs /dev/{mounted} rw\n")


def test_a_broken_one_below_a_file_system_of_several_disks_is_refused(machine: Machine) -> None:
    """The mount is process 1's and names another member of the btrfs: only a look from the mounts down sees it."""
    broken(machine)
    root_of_two_disks(machine, mounted="sdb")
    with pytest.raises(IscsiBootError, match="sda is mounted on /") as caught:
        machine.attach()
    assert not caught.value.retryable
    assert machine.kernel.requests == []


def test_the_port_id_of_our_new_socket_is_not_a_live_creator(machine: Machine) -> None:
    """The kernel gives a process's pid again to its next socket: a session of our own past looks like in progress."""
    machine.kernel.leftover(creator=PORT, connection="bound", params=named(machine))
    assert machine.attach().sid == 2
    assert set(machine.kernel.sessions) == {2}


def test_without_the_table_of_sockets_nothing_is_removed(machine: Machine) -> None:
    machine.kernel.leftover(creator=CREATOR)
    machine.kernel.show_ports = lambda *_: None  # type: ignore[method-assign]  # it would write the file again
    (machine.kernel.proc / "net" / "netlink").unlink()
    with pytest.raises(IscsiBootError, match="cannot tell whose sessions exist"):
        machine.attach()
    assert set(machine.kernel.sessions) == {1}


def test_one_that_goes_while_it_is_removed_is_success(machine: Machine) -> None:
    left = machine.kernel.leftover(creator=CREATOR, connection="bound")
    ordinary = machine.kernel.handle

    def handle(message: bytes, sender: object) -> None:
        machine.kernel.sessions.pop(left.sid, None)
        ordinary(message, sender)  # type: ignore[arg-type]  # handed through

    machine.kernel.handle = handle  # type: ignore[method-assign]  # another process is faster
    assert machine.attach().sid == 2


def test_a_healthy_one_is_told_with_the_portal_its_socket_leads_to(machine: Machine) -> None:
    machine.attach()
    base = machine.kernel.sysfs / "class" / "iscsi_connection" / "connection1:0"
    (base / "address").write_text("127.0.0.7\n")
    (base / "port").write_text("3261\n")
    assert machine.attach().portal.endpoint == "127.0.0.7:3261"
    assert machine.attach(replace(machine.request, lun=None)).reused


# A command's: for all its records at once.

DEAD = 991
"""Port id of a socket that is closed."""


def leave(machine: Machine, **changes: object) -> FakeSession:
    request = machine.request
    params = {
        Param.ISCSI_PARAM_TARGET_NAME: request.target_name,
        Param.ISCSI_PARAM_INITIATOR_NAME: request.initiator_name,
        Param.ISCSI_PARAM_IFACE_NAME: request.iface_name,
        Param.ISCSI_PARAM_PERSISTENT_ADDRESS: str(request.portal.address),
        Param.ISCSI_PARAM_PERSISTENT_PORT: str(request.portal.port),
    }
    creator = changes.pop("creator", DEAD)
    assert isinstance(creator, int)
    return machine.kernel.leftover(creator=creator, **{"connection": "bound", "params": params, **changes})


def clear_all(machine: Machine) -> None:
    clear([machine.request], environment=machine.environment, report=machine.report)


def test_a_half_made_session_is_removed(machine: Machine) -> None:
    leave(machine)
    clear_all(machine)
    assert machine.kernel.sessions == {}
    assert machine.report.notes == ["removing session 1, left over by a process that is gone"]


def test_one_without_a_name_is_removed(machine: Machine) -> None:
    leave(machine, params={}, connection="down")
    clear_all(machine)
    assert machine.kernel.sessions == {}


@pytest.mark.parametrize("creator", [DEAD, 4711])
def test_a_healthy_session_is_never_touched(machine: Machine, creator: int) -> None:
    leave(machine, state="LOGGED_IN", connection="up", creator=creator)
    clear_all(machine)
    assert list(machine.kernel.sessions) == [1]
    assert machine.kernel.requests == []


def test_one_whose_maker_is_alive_is_never_touched(machine: Machine) -> None:
    leave(machine, creator=4711)
    machine.kernel.foreign = (4711,)
    clear_all(machine)
    assert list(machine.kernel.sessions) == [1]


def test_a_broken_one_that_a_daemon_may_recover_is_never_touched(machine: Machine) -> None:
    leave(machine, state="FAILED")
    machine.kernel.foreign = (4711,)
    clear_all(machine)
    assert list(machine.kernel.sessions) == [1]


def test_a_broken_one_nobody_recovers_is_removed(machine: Machine) -> None:
    leave(machine, state="FAILED", units={Lun.from_number(1): (0, "sda")})
    clear_all(machine)
    assert machine.kernel.sessions == {}


def test_a_broken_one_with_its_disk_in_use_is_never_touched(machine: Machine) -> None:
    leave(machine, state="FAILED", units={Lun.from_number(1): (0, "sda")})
    (machine.kernel.sysfs / "block" / "sda").mkdir(parents=True)
    (machine.kernel.sysfs / "block" / "sda" / "dev").write_text("8:0\n")
    (machine.kernel.proc / "self" / "mountinfo").write_text("36 35 8:0 / /mnt rw - ext4 /dev/sda rw\n")
    clear_all(machine)
    assert list(machine.kernel.sessions) == [1]


def test_a_broken_one_whose_disk_is_open_is_never_touched(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtual machine's disk is mounted nowhere; a daemon that starts later brings its session back."""
    asked: list[list[str]] = []

    def opener(sysfs: Path, proc: Path, blocks: Iterable[str]) -> str:
        assert (sysfs, proc) == (machine.kernel.sysfs, machine.kernel.proc)
        asked.append(list(blocks))
        return "sda is open in process 321"

    monkeypatch.setattr("iscsiboot.sysfs.disk_use.opener_of_disks", opener)
    leave(machine, state="FAILED", units={Lun.from_number(1): (0, "sda")})
    clear_all(machine)
    assert list(machine.kernel.sessions) == [1]
    assert asked == [["sda"]]


def test_a_broken_one_under_a_file_system_of_several_disks_is_never_touched(machine: Machine) -> None:
    """The mount names another member of the btrfs; process 1 has it, this one does not."""
    leave(machine, state="FAILED", units={Lun.from_number(1): (0, "sdb")})
    root_of_two_disks(machine, mounted="sda")
    clear_all(machine)
    assert list(machine.kernel.sessions) == [1]


def test_sessions_of_other_targets_are_never_touched(machine: Machine) -> None:
    leave(machine, params={Param.ISCSI_PARAM_TARGET_NAME: "iqn.2026-01.org.example:other"}, state="FAILED")
    clear_all(machine)
    assert list(machine.kernel.sessions) == [1]


def test_without_the_table_of_sockets_nothing_is_touched(machine: Machine) -> None:
    leave(machine)
    machine.kernel.show_ports = lambda *foreign: None  # type: ignore[method-assign]
    (machine.kernel.proc / "net" / "netlink").unlink()
    clear_all(machine)
    assert list(machine.kernel.sessions) == [1]


def test_our_own_port_number_used_before_is_no_living_maker(machine: Machine) -> None:
    leave(machine, creator=PORT)
    clear_all(machine)
    assert machine.kernel.sessions == {}
