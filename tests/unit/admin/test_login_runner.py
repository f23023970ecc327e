# SPDX-License-Identifier: LGPL-2.1-or-later
"""The runner inside the command: real child processes, a fake kernel whose tree they share, ports that listen."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from iscsiboot.admin import runner_local
from iscsiboot.admin.context import Paths
from iscsiboot.admin.login_lock import LoginLocks
from iscsiboot.admin.login_result import from_answer, to_answer
from iscsiboot.admin.runner import LoginOrder, Result
from iscsiboot.admin.runner_local import LocalRunner
from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.initiator.errors import LoginError
from iscsiboot.model.portal import Portal, parse_ip
from iscsiboot.netlink.messages import start_conn
from iscsiboot.netlink.socket import IscsiNetlink, RequestRefused
from iscsiboot.netlink.statistics import COUNTERS
from iscsiboot.netlink.uapi import IscsiErr, Param
from iscsiboot.orders.client_failure import client_failure
from iscsiboot.session.connector import ConnectError
from iscsiboot.session.values import Environment
from iscsiboot.sysfs.listing import SessionRow, list_rows
from iscsiboot.sysfs.sessions import list_sessions
from tests.doubles.iscsi_kernel import FakeKernel, FakeTransport, granting, refusing
from tests.unit.admin.scripted_runner import TARGET, pair
from tests.unit.netlink.test_statistics import structure
from tests.unit.session.conftest import FakeMonitor

NAME = "iqn.2026-01.org.example:guest"


class Lab:
    """A machine: kernel, paths, and a port that takes connections. Session numbers are the children's process ids."""

    def __init__(self, root: Path, port: int) -> None:
        self.kernel = FakeKernel(root)
        self.port = port
        self.paths = Paths(
            config=str(root / "etc"),
            database=str(root / "etc"),
            etc=str(root),
            sysfs=str(self.kernel.sysfs),
            proc=str(self.kernel.proc),
            run=str(root / "run"),
        )
        (root / "etc").mkdir()
        Path(self.paths.initiator_name).write_text(f"InitiatorName={NAME}\n")
        self.environment = Environment(
            open_netlink=self._netlink,
            open_monitor=FakeMonitor,
            sysfs=self.kernel.sysfs,
            proc=self.kernel.proc,
            entropy=bytes,
        )

    def _netlink(self) -> IscsiNetlink:
        self.kernel._next_sid = max(self.kernel._next_sid, os.getpid())
        return IscsiNetlink(self.transport(), now=time.monotonic)

    def transport(self) -> FakeTransport:
        return self.kernel.transport(os.getpid())

    @property
    def runner(self) -> LocalRunner:
        return LocalRunner(self.paths, self.environment)

    def order(self, name: str = "a", wanted: int = 1, **values: str) -> LoginOrder:
        key, record = pair(name, "127.0.0.1", node__session__initial_login_retry_max="0", **values)
        key.port = self.port
        return LoginOrder(key, record.changed({"node.conn[0].port": str(self.port)}), wanted)

    def login(self, *orders: LoginOrder, seconds: float | None = None) -> list[Result]:
        return [found for _, found in sorted(self.runner.login(orders, seconds=seconds), key=lambda item: item[0])]

    def sessions(self) -> list[str]:
        return [view.target_name or "" for view in list_sessions(self.kernel.sysfs)]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        made = Lab(tmp_path, listener.getsockname()[1])
        scan = made.kernel.scan
        monkeypatch.setattr("iscsiboot.session.login.scan_whole_host", lambda sysfs, host: scan(sysfs, host, None))
        yield made


def codes(results: list[Result]) -> list[int]:
    return [int(found.code) for found in results]


def test_several_at_once(lab: Lab) -> None:
    results = lab.login(*(lab.order(name) for name in "abcdef"))
    assert codes(results) == [0] * 6
    assert sorted(lab.sessions()) == [TARGET + name for name in "abcdef"]
    assert len({found.sid for found in results}) == 6
    assert {row.sid for row in list_rows(lab.paths.sysfs)} == {found.sid for found in results}


class OneByOne:
    """A target with one thread for logins, as LIO has one a portal. With the first it is busy for a while, so that all
    who may come at once stand in its line; who stands too far behind gives up before it is served.
    """

    LINE = 8
    BUSY = 1.0

    def __init__(self, folder: Path) -> None:
        self._line = folder / "line"
        self._line.mkdir()
        self._door = folder / "door"
        self._door.touch()

    def __call__(self, bhs: bytes, data: bytes) -> list[tuple[bytes, bytes]] | int:
        """The answer to a login request, in whichever process asks."""
        mine = self._line / str(os.getpid())
        mine.touch()
        try:
            with self._door.open() as door:
                if len(list(self._line.iterdir())) > self.LINE:
                    return int(IscsiErr.ISCSI_ERR_CONN_FAILED)
                fcntl.flock(door, fcntl.LOCK_EX)
                first = not self._door.stat().st_size
                threading.Event().wait(self.BUSY if first else 0.01)
                self._door.write_text("open")
                return granting(bhs, data)
        finally:
            mine.unlink()


def test_a_target_that_takes_one_login_at_a_time_takes_a_hundred(lab: Lab, tmp_path: Path) -> None:
    lab.kernel.target = OneByOne(tmp_path)
    results = lab.login(*(lab.order(f"n{number}") for number in range(100)))
    assert codes(results) == [0] * 100
    assert len(lab.sessions()) == 100


def test_one_that_fails_harms_no_other(lab: Lab) -> None:
    granting = lab.kernel.target

    def target(bhs: bytes, data: bytes) -> object:
        return (refusing((2, 3)) if f"{TARGET}b".encode() in data else granting)(bhs, data)

    lab.kernel.target = target  # type: ignore[assignment]
    results = lab.login(lab.order("a"), lab.order("b"), lab.order("c"))
    assert codes(results) == [0, 19, 0]
    assert results[1].failure is not None
    assert "the portal has no target of this name" in results[1].failure.line()
    assert sorted(lab.sessions()) == [f"{TARGET}a", f"{TARGET}c"]


def test_a_refused_port_is_8(lab: Lab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        lab.port = listener.getsockname()[1]
    (found,) = lab.login(lab.order())
    assert found.code == 8
    assert found.failure is not None
    assert (found.failure.stage, found.failure.subject) == (Stage.CONNECT, f"127.0.0.1:{lab.port}")


def test_a_record_that_is_no_login_is_told_beside_those_that_are(lab: Lab) -> None:
    results = lab.login(lab.order("a", iface__transport_name="iser"), lab.order("b"))
    assert codes(results) == [12, 0]


def test_without_the_kernels_module_all_are_12(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(lab.kernel.sysfs / "class" / "iscsi_transport")
    monkeypatch.setattr("iscsiboot.session.modules.Loading.__init__.__kwdefaults__", {"programs": (), "in_image": True})
    results = lab.login(lab.order("a"), lab.order("b"))
    assert codes(results) == [12, 12]
    assert results[0].failure is not None
    assert "there is no modprobe to load it" in results[0].failure.cause


def test_without_any_initiator_name_it_is_5(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(paths: Paths) -> object:
        raise IscsiBootError("no name is set", stage=Stage.ARGUMENTS, exit_code=ExitCode.INVAL)

    monkeypatch.setattr(runner_local, "read_initiator_name", none)
    (found,) = lab.login(lab.order())
    assert found.code is ExitCode.LOGIN


def test_a_session_that_is_there_is_15(lab: Lab) -> None:
    lab.login(lab.order())
    assert codes(lab.login(lab.order())) == [15]
    assert len(lab.sessions()) == 1


def test_a_place_that_is_taken_is_15_without_waiting(lab: Lab) -> None:
    order = lab.order()
    with closing(LoginLocks(lab.paths.run)) as others:
        others.take(order.key)
        (found,) = lab.login(order)
    assert found.code == 15
    assert found.failure is not None
    assert "another command is logging in to it" in found.failure.cause
    assert lab.sessions() == []


def test_places_are_free_again_afterwards(lab: Lab) -> None:
    order = lab.order()
    lab.login(order)
    with closing(LoginLocks(lab.paths.run)) as others:
        assert others.take(order.key)


def test_a_place_is_free_as_soon_as_its_login_is_over(lab: Lab) -> None:
    """A portal that answers late must not hold those that are done."""
    done, late = lab.order("a"), lab.order("b")
    lab.environment = replace(lab.environment, now=time.monotonic)
    with closing(LoginLocks(lab.paths.run)) as others, closing(lab.runner.login([done, late])) as results:
        index, _ = next(results)
        assert others.take((done, late)[index].key)


def test_several_to_one_place_up_to_what_is_wanted(lab: Lab) -> None:
    orders = [lab.order(wanted=3) for _ in range(2)]
    assert codes(lab.login(*orders)) == [0, 0]
    assert codes(lab.login(*orders)) == [0, 15], "a second command counts again under the lock"
    assert len(lab.sessions()) == 3


def test_one_more_is_made_beside_any_number(lab: Lab) -> None:
    lab.login(lab.order())
    assert codes(lab.login(lab.order(wanted=0))) == [0]
    assert len(lab.sessions()) == 2


def leave(lab: Lab, name: str = "a") -> None:
    """A session of a process that is gone, half made."""
    params = {
        Param.ISCSI_PARAM_TARGET_NAME: TARGET + name,
        Param.ISCSI_PARAM_INITIATOR_NAME: NAME,
        Param.ISCSI_PARAM_IFACE_NAME: "default",
        Param.ISCSI_PARAM_PERSISTENT_ADDRESS: "127.0.0.1",
        Param.ISCSI_PARAM_PERSISTENT_PORT: str(lab.port),
    }
    lab.kernel.leftover(creator=991, connection="bound", params=params)


def test_a_leftover_is_removed_before_the_login(lab: Lab) -> None:
    """By one look, before the sessions are counted; the runner's own login does not look again."""
    leave(lab)
    order = lab.order()
    assert codes(lab.login(order)) == [15], "it has a place until it is removed"
    assert lab.runner.settle([(order.key, order.record)]) == ["removing session 1, left over by a process that is gone"]
    assert codes(lab.login(order)) == [0]
    assert lab.sessions() == [f"{TARGET}a"]


def test_leftovers_of_these_records_are_settled_before_they_are_counted(lab: Lab) -> None:
    leave(lab, "a")
    leave(lab, "b")
    orders = [lab.order("a"), lab.order("none", node__name="no name at all")]
    notes = lab.runner.settle([(order.key, order.record) for order in orders])
    assert notes == ["removing session 1, left over by a process that is gone"]
    assert lab.sessions() == [f"{TARGET}b"]


def test_settling_fails_nothing(lab: Lab) -> None:
    """Who may not talk to the kernel counts what is there, as before."""
    leave(lab)
    refusal = IscsiBootError("not permitted", stage=Stage.HANDOFF, hint="run it as root")

    def refused() -> IscsiNetlink:
        raise refusal

    runner = LocalRunner(lab.paths, replace(lab.environment, open_netlink=refused))
    order = lab.order()
    assert runner.settle([(order.key, order.record)]) == [refusal.line()]
    assert lab.sessions() == [f"{TARGET}a"]


def test_remarks_on_the_record_come_with_its_result(lab: Lab) -> None:
    (found,) = lab.login(lab.order(node__session__cmds_max="100"))
    assert any("node.session.cmds_max 100" in note for note in found.notes)


def test_leaving_early_takes_back_what_is_under_way(lab: Lab) -> None:
    """Ctrl-C: the target is silent, the sessions are half made."""
    lab.kernel.target = lambda bhs, data: []
    orders = [lab.order(name, node__session__scan="manual") for name in "ab"]
    began = time.monotonic()

    def alarm(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, alarm)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.6)
        with pytest.raises(KeyboardInterrupt):
            lab.login(*orders)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - began < 10
    assert lab.sessions() == []


def test_a_time_that_is_over_takes_back_too(lab: Lab) -> None:
    lab.kernel.target = lambda bhs, data: []
    (found,) = lab.login(lab.order(), seconds=0.5)
    assert found.code is ExitCode.TRANS_TIMEOUT
    assert found.failure is not None
    assert "not done after 0.5 s" in found.failure.cause
    assert lab.sessions() == []


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN], ids=lambda handler: str(handler.name))
def test_later_is_done_by_a_process_of_its_own(lab: Lab, handler: signal.Handlers) -> None:
    """The command's child is gone at once; the session comes by itself, from another process session.

    So it is where the caller has us ignore children that end.
    """
    before = signal.signal(signal.SIGCHLD, handler)
    try:
        lab.runner.login_later([lab.order()])
    finally:
        signal.signal(signal.SIGCHLD, before)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    order = lab.order()
    deadline = time.monotonic() + 30
    with closing(LoginLocks(lab.paths.run)) as others:
        # The place is free when the login is over: before, its process writes the tree we read.
        while not (lab.sessions() == [f"{TARGET}a"] and others.take(order.key)):
            assert time.monotonic() < deadline
            os.sched_yield()
    assert [row.state for row in list_rows(lab.paths.sysfs)] == ["LOGGED_IN"]


def test_later_holds_nothing_of_the_callers(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script's lock on a descriptor of its own is free when the command ends, and not when the logins do."""
    held, holding = os.pipe()
    os.set_inheritable(holding, True)

    def be_at_work(self: LocalRunner, orders: object) -> None:
        threading.Event().wait(6)

    monkeypatch.setattr(LocalRunner, "_log_in_silently", be_at_work)
    lab.runner.login_later([lab.order()])
    os.close(holding)
    os.set_blocking(held, False)
    deadline = time.monotonic() + 3
    ended = False
    while not ended and time.monotonic() < deadline:
        with suppress(BlockingIOError):
            ended = os.read(held, 1) == b""
        os.sched_yield()
    os.close(held)
    assert ended


# Logout and counters.


def rows(lab: Lab) -> list[SessionRow]:
    return list_rows(lab.paths.sysfs)


def test_logouts_at_once(lab: Lab) -> None:
    """Sessions of the parent's own kernel, so that the children know them."""
    for name in "ab":
        params = {
            Param.ISCSI_PARAM_TARGET_NAME: TARGET + name,
            Param.ISCSI_PARAM_IFACE_NAME: "default",
            Param.ISCSI_PARAM_PERSISTENT_ADDRESS: "127.0.0.1",
            Param.ISCSI_PARAM_PERSISTENT_PORT: "3260",
        }
        lab.kernel.leftover(creator=991, state="LOGGED_IN", connection="up", params=params)
    found = dict(lab.runner.logout(rows(lab)))
    assert [int(item.code) for item in found.values()] == [0, 0]
    assert lab.sessions() == []


def gone() -> SessionRow:
    return SessionRow(
        sid=77,
        host=78,
        transport="tcp",
        target=f"{TARGET}a",
        tpgt=1,
        persistent_address="127.0.0.1",
        persistent_port=3260,
        address="127.0.0.1",
        port=3260,
    )


def test_logout_of_one_that_is_gone_is_2(lab: Lab) -> None:
    ((_, found),) = lab.runner.logout([gone()])
    assert found.code is ExitCode.SESS_NOT_FOUND


@pytest.mark.parametrize("ended", [True, False], ids=["the session is gone", "the session stays"])
def test_a_logout_that_is_late(lab: Lab, monkeypatch: pytest.MonkeyPatch, ended: bool) -> None:
    """In a guest without its cable: the session was ended when time was up, and that was told as a failure."""
    lab.kernel.leftover(creator=991, state="LOGGED_IN", connection="up")
    (row,) = list_rows(lab.paths.sysfs)
    begun = lab.kernel.sysfs / "begun"

    def waiting(sid: int, **_: object) -> None:
        try:
            begun.touch()
            threading.Event().wait(60)
        finally:
            if ended:
                (lab.kernel.sysfs / "class/iscsi_session" / f"session{sid}").rename(lab.kernel.sysfs / "gone")

    def now() -> float:
        """Time is not up before the child waits, however long it takes to begin."""
        return time.monotonic() + 3600.0 * begun.exists()

    monkeypatch.setattr("iscsiboot.session.logout.log_out", waiting)
    runner = LocalRunner(lab.paths, replace(lab.environment, now=now))
    ((_, found),) = runner.logout([row], seconds=0.3)
    assert found.code == (0 if ended else 10)
    if ended:
        assert found.notes[0].startswith("session 1: ended without waiting")
    else:
        assert found.failure is not None
        assert "not done after 0.3 s" in found.failure.line()


def test_counters(lab: Lab) -> None:
    lab.kernel.statistics = structure(("eh_abort_cnt", 3))
    lab.kernel.leftover(creator=991, state="LOGGED_IN", connection="up")
    row = gone()
    row.sid = 1
    found = lab.runner.statistics(row)
    assert found.counters[0] == (COUNTERS[0], 1000)
    assert found.custom == (("eh_abort_cnt", 3),)


def test_counters_of_a_session_that_is_gone(lab: Lab) -> None:
    with pytest.raises(IscsiBootError) as caught:
        lab.runner.statistics(gone())
    assert caught.value.exit_code is ExitCode.SESS_NOT_FOUND


def test_counters_that_are_damaged(lab: Lab) -> None:
    lab.kernel.leftover(creator=991, state="LOGGED_IN", connection="up")
    row = gone()
    row.sid = 1
    with pytest.raises(IscsiBootError, match="cannot be read") as caught:
        lab.runner.statistics(row)
    assert caught.value.exit_code is ExitCode.INTERNAL


def test_states(lab: Lab) -> None:
    row = gone()
    row.state, row.connection_state = "LOGGED_IN", "up"
    assert lab.runner.state(row) == ("LOGGED IN", "NO CHANGE")


# Which exit code a client is told.

_PORTAL = Portal(address=parse_ip("10.0.0.1"))
_REFUSED = {"subject": "t", "phase": "security negotiation"}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConnectError("refused", portal=_PORTAL, hint="", retryable=True), 8),
        (ConnectError("forbidden", portal=_PORTAL, hint="", retryable=False), 8),
        (LoginError("closed", exit_code=ExitCode.LOGIN, retryable=True, **_REFUSED), 11),  # type: ignore[arg-type]
        (LoginError("silent", exit_code=ExitCode.PDU_TIMEOUT, retryable=True, **_REFUSED), 11),  # type: ignore[arg-type]
        (LoginError("busy", exit_code=ExitCode.LOGIN, retryable=True, status=(3, 1), **_REFUSED), 8),
        (LoginError("ring", subject="t", phase="connection", exit_code=ExitCode.LOGIN, retryable=True), 8),
        (LoginError("who?", exit_code=ExitCode.LOGIN_AUTH_FAILED, status=(2, 1), **_REFUSED), 24),  # type: ignore[arg-type]
        (LoginError("odd", exit_code=ExitCode.FATAL_LOGIN, **_REFUSED), 19),  # type: ignore[arg-type]
        (RequestRefused(start_conn(1, sid=1, cid=0), 5), 9),
        (RequestRefused(start_conn(1, sid=1, cid=0), 1), 13),
    ],
    ids=["refused", "forbidden", "closed", "silent", "busy", "ring", "who", "odd", "start", "permission"],
)
def test_codes(error: IscsiBootError, code: int) -> None:
    assert client_failure(error).exit_code == code


def test_a_parameter_the_kernel_refuses_is_5() -> None:
    from iscsiboot.netlink.messages import set_param

    request = set_param(1, sid=1, cid=0, param=Param.ISCSI_PARAM_ERL, value="9")
    assert client_failure(RequestRefused(request, 22)).exit_code == 5


def test_a_result_survives_its_way() -> None:
    error = IscsiBootError("a", stage=Stage.SCAN, subject="b", hint="c", exit_code=ExitCode.BUSY, retryable=True)
    found = from_answer(to_answer(error, 3, 1.5, ["x"]))
    assert found.failure is not None
    assert found.failure.line() == error.line()
    assert (found.code, found.failure.retryable, found.sid, found.seconds, found.notes) == (
        28,
        True,
        3,
        1.5,
        ("x",),
    )


@pytest.mark.parametrize("wanted", [1, 2])
def test_many_commands_at_once_make_what_is_wanted(lab: Lab, wanted: int) -> None:
    """Eight commands begin at one signal; the tree of the kernel is theirs in common."""
    gate_reading, gate = os.pipe()
    commands = []
    for _ in range(8):
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(gate)
                os.read(gate_reading, 1)
                found = codes(lab.login(*[lab.order(wanted=wanted)] * wanted))
                os.write(writing, bytes(found))
            finally:
                os._exit(0)
        os.close(writing)
        commands.append((pid, reading))
    os.close(gate_reading)
    os.close(gate)
    told = []
    for pid, reading in commands:
        told.append(list(os.read(reading, 100)))
        os.close(reading)
        os.waitpid(pid, 0)
    assert len(lab.sessions()) == wanted
    assert sorted(code for codes_ in told for code in codes_) == [0] * wanted + [15] * (7 * wanted)
