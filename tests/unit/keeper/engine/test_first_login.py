# SPDX-License-Identifier: LGPL-2.1-or-later
"""New sessions by order: retries, redirects, what is left when one fails or is ended."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from iscsiboot.errors import ExitCode, IscsiBootError
from iscsiboot.keeper.connecting import connect
from iscsiboot.keeper.guard import Guard
from iscsiboot.keeper.situation import Phase
from iscsiboot.keeper.values import RecordName, Source
from iscsiboot.model.lun import Lun
from iscsiboot.model.params import SessionParams
from iscsiboot.model.portal import NamedPortal, Portal
from iscsiboot.netlink.messages import Request
from iscsiboot.netlink.uapi import HostParam, KEvent, Param, UEvent
from iscsiboot.session.login import LoginOrder
from iscsiboot.session.values import Attached
from tests.doubles.iscsi_kernel import (
    FakeTransport,
    Pdu,
    granting,
    hesitating,
    kernel_event,
    login_response,
    redirecting,
    refusing,
)
from tests.doubles.virtual_time import virtual_loop
from tests.unit.keeper.engine.conftest import Run
from tests.unit.keeper.engine.world import SYSTEM, PortalServer, World

LOGIN = ["CREATE_SESSION", "CREATE_CONN", "BIND_CONN", "SET_PARAM", "SEND_PDU", "SET_PARAM", "START_CONN"]
STEPS = 32
"""Requests of one login; held by the first test."""
NAME = RecordName(target="iqn.2026-01.org.example:disk", tpgt=3, address="127.0.0.1", port=3260, iface="default")


async def log_in(world: World, order: LoginOrder | None = None, **options: object) -> Attached:
    given = {"record": NAME, "seconds": 120.0, "wanted": 1, **options}
    return await world.keeper.login(order or world.order(), **given)  # type: ignore[arg-type]


async def failure(world: World, order: LoginOrder | None = None, **options: object) -> IscsiBootError:
    with pytest.raises(IscsiBootError) as caught:
        await log_in(world, order, **options)
    return caught.value


@pytest.fixture
def scanned(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The hosts that were scanned."""
    hosts: list[int] = []
    monkeypatch.setattr("iscsiboot.keeper.units.scan_whole_host", lambda sysfs, host: hosts.append(host))
    return hosts


def test_a_session_that_is_guarded_from_its_first_moment(run: Run, scanned: list[int]) -> None:
    async def test(world: World) -> None:
        attached = await log_in(world)
        assert world.kernel.names == LOGIN
        assert len(world.kernel.requests) == STEPS
        assert (attached.sid, attached.host, attached.tpgt, attached.reused) == (1, 11, 3, False)
        assert attached.portal == world.server.portal
        assert scanned == [11]
        known = world.keeper.guarded()[1]
        assert (known.source, known.record, known.tpgt, known.scan) == (Source.ORDER, NAME, 3, True)
        assert world.status().host == 11
        assert world.strangers == [], "our own session is no stranger"
        world.kernel.break_connection(1)
        await world.until_healed()

    run(test)


def test_a_request_the_kernel_cannot_take_yet_is_given_again(run: Run, scanned: list[int]) -> None:
    """It puts a login request away after it has handed us the response."""

    async def test(world: World) -> None:
        world.kernel.target = hesitating()
        world.kernel.held = 5
        assert (await log_in(world)).sid == 1
        assert world.kernel.held == 0
        world.kernel.held = 1
        world.kernel.target = hesitating()
        world.kernel.break_connection(1)
        await world.until_healed()
        assert world.kernel.held == 0
        assert [request.type for request in world.kernel.requests].count(UEvent.ISCSI_UEVENT_BIND_CONN) == 2

    run(test)


def test_a_connection_that_breaks_while_the_kernel_takes_no_request(run: Run, scanned: list[int]) -> None:
    """Its event ends the attempt at once; nothing is given again."""

    async def test(world: World) -> None:
        world.kernel.target = hesitating()
        world.kernel.held = 100
        task = asyncio.create_task(log_in(world))
        await world.until(lambda: world.kernel.held < 100)
        world.kernel.break_connection(1)
        await world.until(lambda: len(world.kernel.sessions) == 0, seconds=0.2)
        world.kernel.held = 0
        assert (await task).sid == 2

    run(test)


def test_what_the_login_set_is_not_set_again_by_the_first_recovery(run: Run, scanned: list[int]) -> None:
    async def test(world: World) -> None:
        await log_in(world)
        world.kernel.requests.clear()
        world.kernel.break_connection(1)
        await world.until_healed()
        set_again = {request.args[2] for request in world.asked(UEvent.ISCSI_UEVENT_SET_PARAM)}
        assert Param.ISCSI_PARAM_TARGET_NAME not in set_again

    run(test)


def test_units_get_their_queue_depth(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(world: World) -> None:
        world.kernel.luns = {Lun.from_number(0): (0, "sda"), Lun.from_number(1): (0, "sdb")}
        monkeypatch.setattr(
            "iscsiboot.keeper.units.scan_whole_host", lambda sysfs, host: world.kernel.scan(sysfs, host, None)
        )
        await log_in(world)
        units = world.kernel.sysfs / "bus" / "scsi" / "devices"
        assert [(units / name / "queue_depth").read_text() for name in ("11:0:0:0", "11:0:0:1")] == ["32", "32"]

    run(test)


def test_a_manual_scan(run: Run, scanned: list[int]) -> None:
    async def test(world: World) -> None:
        await log_in(world, world.order(scan=False))
        assert scanned == []
        assert world.hands.done == []
        assert not world.keeper.guarded()[1].scan

    run(test)


def test_a_scan_that_fails_fails_no_login(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(sysfs: Path, host: int) -> None:
        raise OSError(errno.ENODEV, "No such device")

    async def test(world: World) -> None:
        monkeypatch.setattr("iscsiboot.keeper.units.scan_whole_host", gone)
        await log_in(world, world.order(thread_priority=-5))
        notes = [text for _, text in world.lines]
        assert any("scanning host11 failed: No such device" in line for line in notes)
        assert any("takes no priority" in line for line in notes)

    run(test)


def test_a_scan_that_hangs_fails_no_login(run: Run) -> None:
    async def test(world: World) -> None:
        world.hands.late.add("the first scan of host11")
        began = virtual_loop().time()
        attached = await log_in(world, seconds=30.0)
        assert attached.sid == 1
        assert virtual_loop().time() - began == pytest.approx(30, abs=0.5)
        assert world.phase() is Phase.UP

    run(test)


def test_the_record_reaches_the_kernel(run: Run, scanned: list[int]) -> None:
    async def test(world: World) -> None:
        request = world.request(
            iface_name="pv0",
            hwaddress="52:54:00:12:34:56",
            stored_address="disks.example",
            params=SessionParams(cmds_max=64, queue_depth=16, initial_cmdsn=7, noop_out_interval=5, noop_out_timeout=6),
        )
        await log_in(world, world.order(request=request, reopen_max=4))
        params = world.kernel.sessions[1].params
        assert params[Param.ISCSI_PARAM_IFACE_NAME] == "pv0"
        assert params[Param.ISCSI_PARAM_PERSISTENT_ADDRESS] == "disks.example"
        assert (params[Param.ISCSI_PARAM_PING_TMO], params[Param.ISCSI_PARAM_RECV_TMO]) == ("6", "5")
        assert world.kernel.requests[0].args == (7, 64, 16)
        (host,) = world.asked(UEvent.ISCSI_UEVENT_SET_HOST_PARAM)
        assert (host.args[1], host.data) == (HostParam.ISCSI_HOST_PARAM_HWADDRESS, b"52:54:00:12:34:56\0")
        assert world.keeper.guarded()[1].reopen_max == 4

    run(test)


# Retries. -------------------------------------------------------------------------------------------------------------


def times_of(world: World, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When attempts began, from now on."""
    began: list[float] = []
    start = virtual_loop().time()

    async def timed(portal: Portal, **options: object) -> object:
        began.append(round(virtual_loop().time() - start, 1))
        return await connect(portal, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("iscsiboot.keeper.attempt.connect", timed)
    return began


def test_a_refused_port_is_tried_as_open_iscsi_does(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(world: World) -> None:
        world.server.close()
        began = times_of(world, monkeypatch)
        error = await failure(world, world.order(give_up=12))
        assert began == [0, 5, 8, 11]
        assert error.exit_code is ExitCode.TRANS_TIMEOUT
        assert "connection refused" in error.line()
        assert world.kernel.requests == [], "no session without a connection"

    run(test)


def test_a_network_that_swallows_everything(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(world: World) -> None:
        world.server.swallow()
        began = times_of(world, monkeypatch)
        request = world.request(params=SessionParams(login_timeout=3))
        error = await failure(world, world.order(request=request, give_up=12))
        assert began == [0, 5, 8, 11]
        assert error.exit_code is ExitCode.TRANS_TIMEOUT
        assert "waited 3 s" in error.line()

    run(test)


def test_a_target_in_trouble_is_tried_after_time2wait(
    run: Run, monkeypatch: pytest.MonkeyPatch, scanned: list[int]
) -> None:
    async def test(world: World) -> None:
        answers = [refusing((3, 1)), refusing((3, 2)), granting]
        world.kernel.target = lambda bhs, data: answers.pop(0)(bhs, data)
        began = times_of(world, monkeypatch)
        assert (await log_in(world)).sid == 3
        assert began == [0, 2, 4]
        assert list(world.kernel.sessions) == [3]

    run(test)


@pytest.mark.parametrize(("status", "code"), [((2, 1), 24), ((2, 2), 24), ((2, 3), 19), ((2, 5), 19)], ids=str)
def test_a_refusal_for_good_ends_it_at_once(run: Run, status: tuple[int, int], code: int) -> None:
    async def test(world: World) -> None:
        world.kernel.target = refusing(status)
        began = virtual_loop().time()
        error = await failure(world)
        assert error.exit_code == code
        assert virtual_loop().time() - began < 1
        assert world.kernel.sessions == {}

    run(test)


def test_the_whole_time_of_the_order(run: Run) -> None:
    async def test(world: World) -> None:
        world.server.close()
        began = virtual_loop().time()
        error = await failure(world, seconds=20.0)
        assert error.exit_code is ExitCode.REQ_TIMEDOUT
        assert "connection refused" in error.cause
        assert virtual_loop().time() - began == pytest.approx(20, abs=0.1)

    run(test)


# What is left. --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_a_refusal_at_any_step_leaves_nothing(run: Run, step: int) -> None:
    async def test(world: World) -> None:
        world.kernel.refuse[step] = errno.EPROTO
        error = await failure(world)
        assert "EPROTO" in error.cause
        assert world.kernel.sessions == {}
        assert world.keeper.guarded() == {}
        world.kernel.refuse.clear()
        assert (await log_in(world)).sid, "and its place is free"

    run(test)


@pytest.mark.parametrize("undo", [1, 2, 3])
def test_an_undo_that_is_refused_is_made_again(run: Run, undo: int) -> None:
    async def test(world: World) -> None:
        world.kernel.refuse |= {STEPS: errno.EPROTO, STEPS + undo: errno.ENOMEM, STEPS + undo + 1: errno.ENOMEM}
        await failure(world)
        assert world.kernel.sessions == {}

    run(test)


def test_an_undo_that_fails_for_good_is_followed_by_the_others_and_told(run: Run) -> None:
    async def test(world: World) -> None:
        refused = dict.fromkeys(range(STEPS + 1, STEPS + 4), errno.EIO)
        world.kernel.refuse |= {STEPS: errno.EPROTO, **refused}
        await failure(world)
        assert world.kernel.sessions == {}, "the stop was refused, the removal was not"

    run(test)


def test_a_session_whose_number_was_lost_is_removed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel made it, and its answer did not fit the socket."""

    async def test(world: World) -> None:
        foreign = world.kernel.leftover(creator=4711)
        plain = FakeTransport.answer

        def forgetful(transport: FakeTransport, request: Request, first: int = 0, second: int = 0) -> None:
            if request.type is not UEvent.ISCSI_UEVENT_CREATE_SESSION:
                plain(transport, request, first, second)

        monkeypatch.setattr(FakeTransport, "answer", forgetful)
        monkeypatch.setattr("iscsiboot.keeper.port.ANSWER_SECONDS", 0.0)
        error = await failure(world)
        assert error.exit_code is ExitCode.INTERNAL
        assert list(world.kernel.sessions) == [foreign.sid], "ours is gone, another's stays"

    run(test)


def stuck_connecting(world: World) -> None:
    world.server.swallow()


def stuck_logging_in(world: World) -> None:
    world.kernel.target = lambda bhs, data: []


def stuck_scanning(world: World) -> None:
    world.hands.late.add("the first scan of host11")


def stuck_pausing(world: World) -> None:
    world.server.close()


@pytest.mark.parametrize("stuck", [stuck_connecting, stuck_logging_in, stuck_scanning, stuck_pausing])
def test_an_order_that_is_cancelled_leaves_nothing(run: Run, stuck: Callable[[World], None]) -> None:
    async def test(world: World) -> None:
        stuck(world)
        order = asyncio.create_task(log_in(world))
        await asyncio.sleep(2.5)
        order.cancel()
        with pytest.raises(asyncio.CancelledError):
            await order
        await world.until(lambda: not world.keeper.guarded())
        assert world.kernel.sessions == {}
        assert world.keeper._places.count == 0

    run(test)


@pytest.mark.parametrize("stuck", [stuck_connecting, stuck_logging_in])
def test_a_hand_over_ends_logins_under_way(run: Run, stuck: Callable[[World], None]) -> None:
    async def test(world: World) -> None:
        stuck(world)
        order = asyncio.create_task(log_in(world))
        await asyncio.sleep(2.5)
        await world.keeper.stop_acting()
        assert order.cancelled()
        assert world.kernel.sessions == {}
        error = await failure(world)
        assert (error.exit_code, error.retryable) == (ExitCode.BUSY, True)

    run(test)


def test_a_hand_over_keeps_a_session_that_is_being_scanned(run: Run) -> None:
    async def test(world: World) -> None:
        stuck_scanning(world)
        order = asyncio.create_task(log_in(world))
        await asyncio.sleep(2.5)
        await world.keeper.stop_acting()
        assert order.cancelled()
        assert world.kernel.sessions[1].state == "LOGGED_IN"
        assert list(world.keeper.guarded()) == [1]

    run(test)


def test_a_daemon_that_ends_keeps_a_session_that_is_being_scanned(run: Run) -> None:
    """Its clients' requests are ended first. Half logged out, the session would have no disks and look healthy."""

    async def test(world: World) -> None:
        stuck_scanning(world)
        order = asyncio.create_task(log_in(world))
        await asyncio.sleep(2.5)
        world.keeper.end_soon()
        order.cancel()
        await asyncio.wait({order})
        await asyncio.sleep(1)
        assert order.cancelled()
        assert world.phase() is Phase.UP
        assert not world.asked(UEvent.ISCSI_UEVENT_DESTROY_SESSION)

    run(test)


def test_a_login_that_would_end_during_a_hand_over_makes_no_guard(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guards of other sessions take their time to end; a session made meanwhile would be guarded by two."""
    real_stop = Guard.stop

    async def slowly(guard: Guard) -> None:
        await real_stop(guard)
        await asyncio.sleep(2)

    async def test(world: World) -> None:
        await world.guarded()
        world.server.swallow()
        order = asyncio.create_task(log_in(world, wanted=0))
        await asyncio.sleep(0.5)
        monkeypatch.setattr(Guard, "stop", slowly)
        world.server.open()
        await world.keeper.stop_acting()
        assert order.cancelled()
        assert list(world.keeper.guarded()) == list(world.kernel.sessions) == [1]

    run(test)


# Where to. ------------------------------------------------------------------------------------------------------------


def test_a_redirect_keeps_the_session_and_the_records_portal(run: Run, scanned: list[int]) -> None:
    async def test(world: World) -> None:
        elsewhere = PortalServer()
        answers = [redirecting(f"127.0.0.1:{elsewhere.port},1"), granting]
        world.kernel.target = lambda bhs, data: answers.pop(0)(bhs, data)
        attached = await log_in(world)
        assert attached.portal.port == elsewhere.port
        assert attached.sid == 1
        assert world.kernel.sessions[1].params[Param.ISCSI_PARAM_PERSISTENT_PORT] == str(world.server.port)
        assert any("the target is at 127.0.0.1:" in text for _, text in world.lines)
        elsewhere.close()

    run(test)


def test_redirects_in_a_ring_end(run: Run) -> None:
    async def test(world: World) -> None:
        world.kernel.target = redirecting(f"127.0.0.1:{world.server.port},1")
        error = await failure(world, world.order(give_up=0))
        assert "in a ring" in error.cause
        assert world.kernel.sessions == {}

    run(test)


def test_a_portal_that_is_a_name(run: Run, scanned: list[int]) -> None:
    async def test(world: World) -> None:
        world.resolved["disks.example"] = "127.0.0.1"
        portal = NamedPortal(host="disks.example", port=world.server.port)
        request = world.request(portal=Portal(address=IPv4Address(0), port=portal.port))
        await log_in(world, world.order(request=request, portal=portal))
        assert world.keeper.guarded()[1].request.portal == world.server.portal
        assert world.hands.done[0] == "the look-up of disks.example"

    run(test)


def test_a_name_without_an_address(run: Run) -> None:
    async def test(world: World) -> None:
        def no_address(there: NamedPortal) -> Portal:
            raise IscsiBootError("the target is at x now, and that name has no address: not known", stage=error_stage)

        from iscsiboot.errors import Stage

        error_stage = Stage.CONNECT
        world.resolve = no_address  # type: ignore[method-assign]
        error = await failure(world, world.order(portal=NamedPortal(host="nowhere.example", port=3260)))
        assert error.exit_code is ExitCode.TRANS
        assert error.cause == "the portal's name has no address: not known"

    run(test)


def test_there_is_room_for_as_many_sessions_as_are_wanted(run: Run, scanned: list[int]) -> None:
    async def test(world: World) -> None:
        await log_in(world)
        error = await failure(world)
        assert error.exit_code is ExitCode.SESS_EXISTS
        assert error.cause == "there is a session already"
        assert (await log_in(world, wanted=2)).sid == 2
        assert (await failure(world, wanted=2)).exit_code is ExitCode.SESS_EXISTS
        assert (await log_in(world, wanted=0)).sid == 3
        other = world.request(iface_name="eth1")
        assert (await log_in(world, world.order(request=other))).sid == 4
        elsewhere = world.request(stored_address="a.example")
        assert (await log_in(world, world.order(request=elsewhere))).sid == 5

    run(test)


def test_a_second_order_while_the_first_is_at_work_is_refused(run: Run) -> None:
    async def test(world: World) -> None:
        stuck_logging_in(world)
        first = asyncio.create_task(log_in(world))
        await asyncio.sleep(1)
        error = await failure(world)
        assert error.exit_code is ExitCode.SESS_EXISTS
        assert error.cause == "another command is logging in to it at this moment"
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)

    run(test)


def test_a_session_whose_units_are_looked_for_counts_once(run: Run, scanned: list[int]) -> None:
    """Guarded already and its order not over yet."""

    async def test(world: World) -> None:
        world.hands.late.add("the first scan of host11")
        first = asyncio.create_task(log_in(world, wanted=2))
        await world.until(lambda: world.phase() is Phase.UP)
        assert (await log_in(world, wanted=2)).sid == 2
        assert not first.done()
        assert (await failure(world, wanted=2)).exit_code is ExitCode.SESS_EXISTS
        assert (await first).sid == 1

    run(test)


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
def test_a_login_that_comes_to_nothing_leaves_its_place_free(run: Run, scanned: list[int], how: str) -> None:
    async def test(world: World) -> None:
        if how == "fails":
            world.kernel.target = refusing((2, 1))
            await failure(world)
        else:
            stuck_logging_in(world)
            first = asyncio.create_task(log_in(world))
            await asyncio.sleep(1)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
        world.kernel.target = granting
        assert (await log_in(world)).sid == 2

    run(test)


def test_a_session_another_program_made_meanwhile_counts(run: Run) -> None:
    async def test(world: World) -> None:
        made = world.session()
        world.kernel.multicast(kernel_event(KEvent.ISCSI_KEVENT_CREATE_SESSION, made.sid, made.host))
        await asyncio.sleep(0.1)
        assert world.strangers == [made.sid]
        # The tree of the double has no port of the connection; the stored portal counts as well.
        error = await failure(world)
        assert error.exit_code is ExitCode.SESS_EXISTS
        assert (await log_in(world, world.order(scan=False), wanted=2)).sid == 2
        assert (await failure(world, wanted=2)).exit_code is ExitCode.SESS_EXISTS
        world.kernel.vanish(made.sid, told=False)
        assert (await log_in(world, world.order(scan=False), wanted=2)).sid == 3

    run(test)


def test_a_place_is_free_when_its_session_is_gone(run: Run, scanned: list[int]) -> None:
    async def test(world: World) -> None:
        await log_in(world)
        world.kernel.vanish(1)
        await world.until(lambda: world.phase() is None)
        assert (await log_in(world)).sid == 2

    run(test)


def test_a_hundred_at_once(run: Run, scanned: list[int]) -> None:
    async def test(world: World) -> None:
        orders = [log_in(world, world.order(request=world.request(iface_name=f"i{number}"))) for number in range(100)]
        began = virtual_loop().time()
        made = await asyncio.gather(*orders)
        assert sorted(attached.sid for attached in made) == list(range(1, 101))
        assert virtual_loop().time() - began < 1
        assert len(scanned) == 100
        assert len(world.kernel.requests) == 100 * STEPS

    run(test)


def test_no_kernel_module_is_error_12(run: Run) -> None:
    async def test(world: World) -> None:
        handle = world.kernel.sysfs / "class" / "iscsi_transport" / "tcp" / "handle"
        text = handle.read_text()
        handle.unlink()
        handle.parent.rename(handle.parent.with_name("gone"))
        error = await failure(world)
        assert error.exit_code is ExitCode.TRANS_NOT_FOUND
        handle.parent.with_name("gone").rename(handle.parent)
        handle.write_text(text)
        assert (await log_in(world, world.order(scan=False))).sid == 1

    run(test)


def test_a_role_that_comes_with_the_disks_sets_the_timers(run: Run, scanned: list[int]) -> None:
    async def test(world: World) -> None:
        await log_in(world)
        assert world.status().recovery_tmo == 120
        world.keeper.set_roles({1: SYSTEM})
        await asyncio.sleep(0.1)
        assert world.status().recovery_tmo == -1
        assert world.status().role == "root"

    run(test)


def test_chap_algorithms_are_offered_one_by_one_when_the_list_is_rejected(run: Run, scanned: list[int]) -> None:
    """Tgt refuses a list it does not know; one more connection with one of them is made, in the same session."""

    async def test(world: World) -> None:
        from iscsiboot.initiator.chap import ChapAlgorithm
        from iscsiboot.model.credentials import Chap, Credentials, Secret

        offers: list[bytes] = []

        def target(bhs: bytes, data: bytes) -> list[Pdu]:
            if b"AuthMethod" in data:
                return [login_response(bhs, b"AuthMethod=CHAP\0TargetPortalGroupTag=3\0", flags=0)]
            if b"CHAP_A" in data:
                offers.append(data)
                if len(offers) == 1:
                    return [login_response(bhs, status=(2, 0))]
                return [login_response(bhs, b"CHAP_A=5\0CHAP_I=1\0CHAP_C=0x" + b"ab" * 16 + b"\0", flags=0)]
            if b"CHAP_N" in data:
                return [login_response(bhs, flags=0x81)]
            return granting(bhs, data)

        world.kernel.target = target
        request = world.request(
            credentials=Credentials(outgoing=Chap(name="user", secret=Secret(b"a secret of ours"))),
            chap_algorithms=(ChapAlgorithm.SHA256, ChapAlgorithm.MD5),
        )
        attached = await log_in(world, replace(world.order(request=request), give_up=0.0))
        assert attached.sid == 1
        assert [b"CHAP_A=7,5" in offers[0], b"CHAP_A=5\0" in offers[1]] == [True, True]

    run(test)
