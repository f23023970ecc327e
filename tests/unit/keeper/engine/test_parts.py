# SPDX-License-Identifier: LGPL-2.1-or-later
"""The parts of the engine by themselves: the port, connecting, watching the network, units, live values."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.initiator.errors import AlgorithmsRejected, LoginError
from iscsiboot.keeper import units
from iscsiboot.keeper.attempt import failure_of
from iscsiboot.keeper.connecting import SIDE_BY_SIDE, connect
from iscsiboot.keeper.log import Level
from iscsiboot.keeper.network_watch import NetworkWatch
from iscsiboot.keeper.port import AT_ONCE, KernelPort
from iscsiboot.keeper.situation import Failure
from iscsiboot.keeper.watchers import Watchers
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.lun import Lun
from iscsiboot.model.portal import Portal, parse_ip
from iscsiboot.netlink import messages
from iscsiboot.netlink.messages import ConnError, Event, EventsLost, SessionEvent
from iscsiboot.netlink.socket import IscsiNetlink, NetlinkError, RequestRefused
from iscsiboot.netlink.uapi import KEvent, StopFlag
from iscsiboot.session.connector import ConnectError
from iscsiboot.session.values import Environment
from tests.doubles.iscsi_kernel import HANDLE, FakeKernel, kernel_event
from tests.doubles.virtual_time import Stuck, run_virtually, virtual_loop
from tests.unit.keeper.engine.world import PortalServer, _no_monitor

Lines = list[tuple[Level, str]]


def broken(sid: int, error: int = 1011) -> bytes:
    return kernel_event(KEvent.ISCSI_KEVENT_CONN_ERROR, sid, 0, error)


# The port. ------------------------------------------------------------------------------------------------------------


def with_port(tmp_path: Path, test: Callable[[KernelPort, FakeKernel, Lines], object]) -> None:
    async def inside() -> None:
        kernel, lines, loop = FakeKernel(tmp_path), [], virtual_loop()
        environment = Environment(
            open_netlink=lambda: IscsiNetlink(kernel.transport(), now=loop.time),
            open_monitor=_no_monitor,
            sysfs=kernel.sysfs,
            now=loop.time,
        )
        port = KernelPort(environment, log=lambda level, text: lines.append((level, text)), strangers=strangers.append)
        with pytest.raises(RuntimeError, match="not open"):
            port.ask(messages.destroy_session(HANDLE, sid=1))
        port.open()
        try:
            await test(port, kernel, lines)  # type: ignore[misc]
        finally:
            port.close()
            port.close()
        assert all(made.closed for made in kernel.sockets)

    strangers: list[int] = []
    run_virtually(inside())


def test_events_go_to_the_session_they_name(tmp_path: Path) -> None:
    async def test(port: KernelPort, kernel: FakeKernel, lines: Lines) -> None:
        heard: dict[int, list[Event]] = {1: [], 2: []}
        for sid, events in heard.items():
            port.listen(sid, events.append)
        kernel.multicast(broken(2))
        kernel.multicast(kernel_event(KEvent.ISCSI_KEVENT_HOST_EVENT, 1, 2))
        await asyncio.sleep(0.1)
        assert heard == {1: [], 2: [ConnError(sid=2, cid=0, error=1011)]}

    with_port(tmp_path, test)


def test_an_event_that_came_with_an_answer_is_handed_out_after_the_request(tmp_path: Path) -> None:
    async def test(port: KernelPort, kernel: FakeKernel, lines: Lines) -> None:
        events: list[Event] = []
        kernel.leftover(creator=1)
        port.listen(1, events.append)
        kernel.multicast(broken(1))
        port.ask(messages.create_conn(port.handle, sid=1, cid=0))
        assert events == [], "nobody is called from inside a request"
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert events == [ConnError(sid=1, cid=0, error=1011)]

    with_port(tmp_path, test)


def test_the_inbox_goes_before_the_listener_and_leaves_it_the_rest(tmp_path: Path) -> None:
    async def test(port: KernelPort, kernel: FakeKernel, lines: Lines) -> None:
        events: list[Event] = []
        port.listen(1, events.append)
        deadline = Deadline.after(5, now=virtual_loop().time(), reason="a test")
        with port.inbox(1) as inbox:
            with pytest.raises(RuntimeError), port.inbox(1):
                pass
            kernel.multicast(broken(1, 1))
            kernel.multicast(broken(1, 2))
            assert await inbox.next(deadline) == ConnError(sid=1, cid=0, error=1)
            assert events == []
        assert events == [], "what the work came to is told first"
        await asyncio.sleep(0)
        assert events == [ConnError(sid=1, cid=0, error=2)]
        with contextlib.suppress(KeyError), port.inbox(1):
            kernel.multicast(broken(1, 3))
            await asyncio.sleep(0.1)
            raise KeyError
        assert len(events) == 1, "of a work that failed nothing is left"

    with_port(tmp_path, test)


def test_an_inbox_waits_no_longer_than_its_deadline(tmp_path: Path) -> None:
    async def test(port: KernelPort, kernel: FakeKernel, lines: Lines) -> None:
        began = virtual_loop().time()
        deadline = Deadline.after(5, now=began, reason="a test")
        with port.inbox(1) as inbox:
            assert await inbox.next(deadline) is None
            assert virtual_loop().time() - began == pytest.approx(5, abs=0.01)
            assert await inbox.next(deadline) is None

    with_port(tmp_path, test)


def test_errors_of_sessions_nobody_listens_for_are_kept_within_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iscsiboot.keeper.port.UNCLAIMED_MAX", 40)

    async def test(port: KernelPort, kernel: FakeKernel, lines: Lines) -> None:
        for sid in range(1, 51):
            kernel.multicast(broken(sid))
        kernel.multicast(kernel_event(KEvent.ISCSI_KEVENT_DESTROY_SESSION, 12, 2))
        await asyncio.sleep(0.1)
        heard: list[Event] = []
        for sid in (1, 2, 50):
            port.listen(sid, heard.append)
        assert heard == [ConnError(sid=1, cid=0, error=1011)], "2 is gone, the last one had no room"
        port.listen(1, heard.append)
        assert len(heard) == 1, "it is told once"

    with_port(tmp_path, test)


def test_a_socket_that_fails_is_replaced(tmp_path: Path) -> None:
    async def test(port: KernelPort, kernel: FakeKernel, lines: Lines) -> None:
        events: list[Event] = []
        port.listen(1, events.append)
        kernel.sockets[0].deliver(errno.EIO)
        await asyncio.sleep(0.1)
        assert len(kernel.sockets) == 2
        assert events == [EventsLost()]
        kernel.multicast(broken(1))
        await asyncio.sleep(0.1)
        assert events[1:] == [ConnError(sid=1, cid=0, error=1011)]
        assert any("asking with a new socket" in text for _, text in lines)

    with_port(tmp_path, test)


def test_lost_events_are_told_to_everybody_and_logged_once(tmp_path: Path) -> None:
    async def test(port: KernelPort, kernel: FakeKernel, lines: Lines) -> None:
        events: list[Event] = []
        port.listen(1, events.append)
        deadline = Deadline.after(5, now=virtual_loop().time(), reason="a test")
        with port.inbox(2) as inbox:
            for _ in range(3):
                kernel.overflow()
                await asyncio.sleep(1)
            assert [await inbox.next(deadline) for _ in range(3)] == [EventsLost()] * 3
        assert events[:3] == [EventsLost()] * 3
        assert len(lines) == 1

    with_port(tmp_path, test)


def test_many_losses_at_once_are_one_look(tmp_path: Path) -> None:
    """Two hundred sessions would each be read as often as the socket was full. What came before stays before."""

    async def test(port: KernelPort, kernel: FakeKernel, lines: Lines) -> None:
        events: list[Event] = []
        port.listen(1, events.append)
        kernel.overflow()
        kernel.multicast(broken(1))
        kernel.overflow()
        kernel.overflow()
        await asyncio.sleep(0.1)
        assert events == [ConnError(sid=1, cid=0, error=1011), EventsLost()]

    with_port(tmp_path, test)


def test_a_flood_leaves_the_loop_its_turns(tmp_path: Path) -> None:
    """A target that floods its session with messages: timers and the other sessions come to their turn between."""

    async def test(port: KernelPort, kernel: FakeKernel, lines: Lines) -> None:
        events: list[Event] = []
        seen: list[int] = []
        port.listen(1, events.append)
        for _ in range(3 * AT_ONCE):
            kernel.multicast(broken(1))
        for _ in range(8):
            await asyncio.sleep(0)
            seen.append(len(events))
        assert sorted({*seen} - {0}) == [AT_ONCE, 2 * AT_ONCE, 3 * AT_ONCE]
        for _ in range(3 * AT_ONCE):
            kernel.multicast(broken(1))
        port.hear()
        assert len(events) == 6 * AT_ONCE, "who hands over takes it all"

    with_port(tmp_path, test)


class Slow:
    """A socket whose requests take their time, as one whose kernel is busy with another's."""

    def __init__(self, netlink: IscsiNetlink, took: list[float], clock: list[float]) -> None:
        self._netlink, self._took, self._clock = netlink, took, clock

    def request(self, request: messages.Request, deadline: Deadline) -> messages.Reply:
        self._clock[0] += self._took.pop(0)
        return self._netlink.request(request, deadline)

    def __getattr__(self, name: str) -> object:
        return getattr(self._netlink, name)


def test_a_kernel_that_takes_its_time_is_told_and_not_at_every_request(tmp_path: Path) -> None:
    async def inside() -> None:
        kernel, clock, lines = FakeKernel(tmp_path), [0.0], list[str]()
        kernel.leftover(creator=1, connection="up")
        took = [0.2, 3.0, 4.0, 0.1, 7.0]
        environment = Environment(
            open_netlink=lambda: Slow(IscsiNetlink(kernel.transport(), now=lambda: clock[0]), took, clock),  # type: ignore[arg-type,return-value]
            open_monitor=_no_monitor,
            sysfs=kernel.sysfs,
            now=lambda: clock[0],
        )
        port = KernelPort(environment, log=lambda level, text: lines.append(text))
        port.open()
        while took:
            port.ask(messages.stop_conn(HANDLE, sid=1, cid=0, flag=StopFlag.STOP_CONN_RECOVER))
        port.close()
        assert [line.partition(",")[0] for line in lines] == [
            "the kernel took 3.0 s for STOP_CONN sid=1 cid=0 conn_handle=0 flag=3",
            "the kernel took 7.0 s for STOP_CONN sid=1 cid=0 conn_handle=0 flag=3",
        ]

    run_virtually(inside())


def test_what_another_process_sends_us_is_not_believed(tmp_path: Path) -> None:
    async def test(port: KernelPort, kernel: FakeKernel, lines: Lines) -> None:
        events: list[Event] = []
        port.listen(1, events.append)
        kernel.sockets[0].deliver(broken(1), sender=4711)
        await asyncio.sleep(0.1)
        assert events == []

    with_port(tmp_path, test)


def test_what_is_gone_is_taken_away(tmp_path: Path) -> None:
    async def test(port: KernelPort, kernel: FakeKernel, lines: Lines) -> None:
        port.take_away(messages.destroy_session(port.handle, sid=9))
        kernel.leftover(creator=1, connection="up")
        with pytest.raises(RequestRefused):
            port.take_away(messages.destroy_session(port.handle, sid=1))

    with_port(tmp_path, test)


# Connecting. ----------------------------------------------------------------------------------------------------------


async def race(portal: Portal, seconds: float = 15.0) -> socket.socket:
    loop = virtual_loop()
    deadline = Deadline.after(seconds, now=loop.time(), reason="a test")
    return await connect(portal, deadline=deadline, now=loop.time, window_size=65536, netdev=None)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_connection_with_its_options() -> None:
    async def test() -> None:
        server = PortalServer()
        with await race(server.portal) as sock:
            assert sock.getpeername() == ("127.0.0.1", server.port)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert not sock.getblocking()
            assert not sock.get_inheritable()
        server.close()

    run_virtually(test())


def test_a_refusal_is_an_answer() -> None:
    async def test() -> None:
        server = PortalServer()
        server.close()
        before, began = descriptors(), virtual_loop().time()
        with pytest.raises(ConnectError, match="connection refused"):
            await race(server.portal)
        assert virtual_loop().time() - began < 0.1
        assert descriptors() == before

    run_virtually(test())


def test_silence_ends_with_the_time_and_leaves_no_socket() -> None:
    async def test() -> None:
        server = PortalServer()
        server.swallow()
        before, began = descriptors(), virtual_loop().time()
        with pytest.raises(ConnectError) as caught:
            await race(server.portal, 7.0)
        assert caught.value.number == errno.ETIMEDOUT
        assert "waited 7 s" in caught.value.cause
        assert virtual_loop().time() - began == pytest.approx(7, abs=0.01)
        assert descriptors() == before
        server.close()

    run_virtually(test())


@pytest.mark.parametrize("moment", [0.0, 0.5, 3.5])
def test_cancelled_it_leaves_no_socket(moment: float) -> None:
    async def test() -> None:
        server = PortalServer()
        server.swallow()
        before = descriptors()
        task = asyncio.create_task(race(server.portal))
        await asyncio.sleep(moment)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert descriptors() == before
        server.close()

    run_virtually(test())


def test_cancelled_in_the_moment_it_has_won_it_leaves_no_socket() -> None:
    async def test() -> None:
        server = PortalServer()
        before = descriptors()
        task = asyncio.create_task(race(server.portal))
        while descriptors() == before:
            await asyncio.sleep(0)
        # The answer is there; the loop has seen it when it cancels.
        virtual_loop()._selector.select(0.05)  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if not task.cancelled():
            task.result().close()
        assert descriptors() == before
        server.close()

    run_virtually(test())


def test_no_more_sockets_than_side_by_side_and_a_want_of_more_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        from iscsiboot.keeper import connecting

        server = PortalServer()
        server.swallow()
        before = descriptors()
        task = asyncio.create_task(race(server.portal))
        await asyncio.sleep(6)
        assert descriptors() - before == SIDE_BY_SIDE

        def exhausted(portal: Portal, **_: object) -> None:
            raise ConnectError("too many", portal=portal, hint="", retryable=True, number=errno.EMFILE)

        monkeypatch.setattr(connecting, "begin", exhausted)
        await asyncio.sleep(3)
        assert not task.done()
        server.accept()
        monkeypatch.undo()
        (await task).close()
        server.close()

    run_virtually(test())


def test_without_any_socket_it_fails() -> None:
    async def test() -> None:
        portal = Portal(address=parse_ip("fe80::1%no-such-nic"), port=3260)
        with pytest.raises(ConnectError) as caught:
            await race(portal)
        assert caught.value.number == errno.ENODEV

    run_virtually(test())


def test_a_port_that_answers_with_itself_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket bound to the port it connects to: simultaneous open, without a listener."""

    async def test() -> None:
        from iscsiboot.keeper import connecting

        server = PortalServer()
        server.close()

        def to_itself(portal: Portal, **_: object) -> tuple[socket.socket, int]:
            sock = socket.socket()
            sock.setblocking(False)
            sock.bind(("127.0.0.1", server.port))
            return sock, sock.connect_ex(("127.0.0.1", server.port))

        monkeypatch.setattr(connecting, "begin", to_itself)
        with pytest.raises(ConnectError) as caught:
            await race(server.portal)
        assert caught.value.number == errno.ECONNREFUSED

    run_virtually(test())


# The network. ---------------------------------------------------------------------------------------------------------


def test_one_change_is_several_messages_and_a_flapping_link_is_told_once_a_second() -> None:
    async def test() -> None:
        told: list[float] = []
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.setblocking(False)
        watch = NetworkWatch(
            lambda: told.append(virtual_loop().time()), log=lambda level, text: None, open_socket=lambda: ours
        )
        began = virtual_loop().time()
        watch.watch(True)
        watch.watch(True)
        for _ in range(100):
            theirs.send(b"link")
            theirs.send(b"address")
            await asyncio.sleep(0.05)
        assert 4 <= len(told) <= 7
        assert told[0] - began <= 0.2
        watch.watch(False)
        assert not watch.watching
        await asyncio.sleep(5)
        assert ours.fileno() == -1
        theirs.close()

    run_virtually(test())


def test_a_machine_that_lets_nobody_watch() -> None:
    async def test() -> None:
        lines: Lines = []

        def refused() -> socket.socket:
            raise OSError(errno.EPERM, "Operation not permitted")

        watch = NetworkWatch(lambda: None, log=lambda level, text: lines.append((level, text)), open_socket=refused)
        watch.watch(True)
        assert not watch.watching
        assert lines[0][0] is Level.DEBUG

    run_virtually(test())


def test_the_kernels_own_word_of_a_link() -> None:
    """The real socket: what it says of the loopback of a machine cannot be provoked here, but it opens and is idle."""

    async def test() -> None:
        watch = NetworkWatch(lambda: None, log=lambda level, text: None)
        watch.watch(True)
        assert watch.watching
        await asyncio.sleep(1)
        watch.watch(False)

    run_virtually(test())


# Units. ---------------------------------------------------------------------------------------------------------------


def test_units_that_were_given_up_work_again(tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path)
    luns = {Lun.from_number(number): (0, f"sd{'abc'[number]}") for number in range(3)}
    kernel.leftover(creator=1, connection="up", state="LOGGED_IN", units=luns)
    devices = kernel.sysfs / "bus" / "scsi" / "devices"
    (devices / "11:0:0:0" / "state").write_text("offline\n")
    (devices / "11:0:0:1" / "state").write_text("transport-offline\n")
    answer = units.bring_back(str(kernel.sysfs), 1)
    states = [(devices / f"11:0:0:{number}" / "state").read_text().strip() for number in range(3)]
    # An attribute of sysfs takes a write as a whole; a file keeps what the write did not cover.
    assert all(state.startswith("running") for state in states)
    assert all((devices / f"11:0:0:{number}" / "rescan").read_text().startswith("1") for number in range(3))
    assert answer["lines"] == [
        "11:0:0:0 was offline and is running again",
        "11:0:0:1 was transport-offline and is running again",
    ]


def test_a_unit_that_refuses_hinders_no_other(tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path)
    luns = {Lun.from_number(number): (0, None) for number in range(2)}
    kernel.leftover(creator=1, connection="up", state="LOGGED_IN", units=luns)
    devices = kernel.sysfs / "bus" / "scsi" / "devices"
    (devices / "11:0:0:0" / "rescan").unlink()
    answer = units.rescan(str(kernel.sysfs), 1, 11)
    assert answer["lines"] == ["11:0:0:0 cannot be rescanned: No such file or directory"]
    assert (devices / "11:0:0:1" / "rescan").read_text().startswith("1")
    assert (kernel.sysfs / "class" / "scsi_host" / "host11" / "scan").read_text().startswith("- - -")


def test_a_session_that_is_gone_has_no_units(tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path)
    assert units.bring_back(str(kernel.sysfs), 9) == {"lines": []}
    lines = units.first_scan(str(kernel.sysfs), 9, 19, True, 8, -3)["lines"]
    assert lines == [
        "this kernel takes no priority for its sending threads",
        "scanning host19 failed: No such file or directory",
    ]


# What failures are. ---------------------------------------------------------------------------------------------------

PORTAL = Portal(address=parse_ip("10.0.0.1"), port=3260)


def login_error(
    status: tuple[int, int] | None, code: int, *, phase: str = "operational negotiation", retryable: bool = False
) -> LoginError:
    return LoginError("x", subject="t", phase=phase, exit_code=ExitCode(code), retryable=retryable, status=status)


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (ConnectError("x", portal=PORTAL, hint="", retryable=True), Failure.UNREACHABLE),
        (ConnectError("x", portal=PORTAL, hint="", retryable=False), Failure.UNREACHABLE),
        (IscsiBootError("no address", stage=Stage.CONNECT), Failure.UNREACHABLE),
        (login_error((3, 0), 5, retryable=True), Failure.UNAVAILABLE),
        (login_error((3, 1), 5, retryable=True), Failure.UNAVAILABLE),
        (login_error((3, 2), 5, retryable=True), Failure.BUSY),
        (login_error((2, 1), 24), Failure.DENIED),
        (login_error((2, 2), 24), Failure.DENIED),
        (login_error((2, 3), 19), Failure.REFUSED),
        (login_error((2, 0), 19, phase="security negotiation"), Failure.REFUSED),
        (login_error(None, 19, phase="security negotiation"), Failure.DENIED),
        (login_error(None, 19), Failure.REFUSED),
        (login_error(None, 11, retryable=True), Failure.BROKEN),
        (login_error(None, 5, phase="security negotiation", retryable=True), Failure.BROKEN),
        (
            AlgorithmsRejected(
                "x",
                subject="t",
                phase="security negotiation",
                hint="",
                exit_code=ExitCode.FATAL_LOGIN,
                retry_with=None,
            ),
            Failure.DENIED,
        ),
        (RequestRefused(messages.start_conn(1, sid=1, cid=0), errno.ENOTCONN), Failure.BROKEN),
        (RequestRefused(messages.start_conn(1, sid=1, cid=0), errno.EINVAL), Failure.KERNEL),
        (NetlinkError("x", stage=Stage.HANDOFF), Failure.KERNEL),
        (IscsiBootError("x", stage=Stage.HANDOFF), Failure.KERNEL),
        (IscsiBootError("x", stage=Stage.LOGIN), Failure.REFUSED),
    ],
    ids=lambda value: value.value if isinstance(value, Failure) else type(value).__name__,
)
def test_what_an_error_is_to_the_policy(error: IscsiBootError, failure: Failure) -> None:
    assert failure_of(error) is failure


# Small things. --------------------------------------------------------------------------------------------------------


def test_nobody_watches(tmp_path: Path) -> None:
    watchers = Watchers()
    assert not watchers

    def never() -> object:
        raise AssertionError

    watchers.tell(1, never)  # type: ignore[arg-type]


def test_the_clock_of_the_tests_finds_out_who_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.doubles.virtual_time.PATIENCE", 0.05)

    async def test() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Stuck):
        run_virtually(test())


def test_a_session_event_is_told_apart(tmp_path: Path) -> None:
    async def test(port: KernelPort, kernel: FakeKernel, lines: Lines) -> None:
        heard: list[Event] = []
        port.listen(5, heard.append)
        kernel.multicast(kernel_event(KEvent.ISCSI_KEVENT_DESTROY_SESSION, 15, 5))
        await asyncio.sleep(0.1)
        assert heard == [SessionEvent(kind=KEvent.ISCSI_KEVENT_DESTROY_SESSION, sid=5, host=15)]
        port.forget(5)
        assert not port.has_listener(5)

    with_port(tmp_path, test)
