# SPDX-License-Identifier: LGPL-2.1-or-later
"""Requests as what the Keeper does: values checked, codes as clients know them, nobody too early."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from iscsiboot.daemon import service as service_module
from iscsiboot.daemon.service import Service
from iscsiboot.daemon.settings import Places, Settings
from iscsiboot.database.config import Config
from iscsiboot.database.initiator_name import InitiatorName
from iscsiboot.database.record import compiled
from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.ipc.protocol import ACTIONS, Request
from iscsiboot.ipc.serving import Reply
from iscsiboot.keeper.keeper import Keeper
from iscsiboot.keeper.log import Level
from iscsiboot.keeper.values import Known, RecordName, Source, Status, Timers
from iscsiboot.model.portal import Portal, parse_ip
from iscsiboot.netlink.statistics import ConnectionStatistics
from iscsiboot.session.login import LoginOrder
from iscsiboot.session.values import Attached, AttachRequest
from iscsiboot.session.workers import Ended, Job

TARGET = "iqn.2001-04.com.example:disk"
RECORD = {"node.name": TARGET, "node.conn[0].address": "10.0.0.1", "node.conn[0].port": "3260"}


def status(sid: int, phase: str = "up") -> Status:
    return Status(
        sid=sid,
        host=sid + 10,
        target=TARGET,
        portal="10.0.0.1:3260",
        connected="10.0.0.1:3260",
        iface="default",
        initiator="iqn.2001-04.com.example:this",
        role="data",
        uses=(),
        phase=phase,
        detail="",
        since=0.0,
        source="its record",
        unknown=(),
        recoveries=0,
        attempts=0,
        last_error="",
        last_error_at=0.0,
        recovery_tmo=120,
        noop_interval=5,
        noop_timeout=5,
    )


class FakeKeeper(Keeper):
    """Writes down what it is told; sessions are what logins made."""

    def __init__(self) -> None:
        self.orders: list[LoginOrder] = []
        self.names: list[RecordName | None] = []
        self.wanted: list[int] = []
        self.prolonged: list[Callable[[], None] | None] = []
        self.phases: dict[int, str] = {}
        self.known: dict[int, Known] = {}
        self.calls: list[tuple[object, ...]] = []
        self.fails: dict[str, IscsiBootError] = {}
        self.stream: asyncio.Queue[Status] = asyncio.Queue()
        self.closed_streams = 0

    def guarded(self) -> dict[int, Known]:
        return self.known

    def statuses(self, *sids: int) -> tuple[Status, ...]:
        return tuple(status(sid, phase) for sid, phase in self.phases.items() if not sids or sid in sids)

    def _maybe(self, what: str) -> None:
        if what in self.fails:
            raise self.fails[what]

    async def login(
        self,
        order: LoginOrder,
        *,
        record: RecordName | None,
        seconds: float,
        wanted: int,
        prolonged: Callable[[], None] | None = None,
    ) -> Attached:
        self.prolonged.append(prolonged)
        self.orders.append(order)
        self.wanted.append(wanted)
        self.names.append(record)
        self._maybe("login")
        sid = len(self.phases) + 1
        self.phases[sid] = "up"
        self.known[sid] = Known(request=order.request, source=Source.ORDER, record=record)
        return Attached(sid=sid, host=sid + 10, portal=order.request.portal, tpgt=1, reused=False, devices=())

    async def logout(self, sid: int, *, force: bool, seconds: float) -> None:
        self.calls.append(("logout", sid, force, seconds))
        if not force:
            self._maybe("logout")

    async def rescan(self, sid: int, seconds: float) -> tuple[str, ...]:
        self.calls.append(("rescan", sid))
        return ("11:0:0:1: refused",)

    async def reconnect(self, sid: int) -> None:
        self.calls.append(("reconnect", sid))

    async def set_timers(self, sid: int, timers: Timers) -> None:
        self.calls.append(("set", sid, timers))

    async def statistics(self, sid: int) -> ConnectionStatistics:
        return ConnectionStatistics(counters=(("txdata_octets", 7),), custom=(("eh_abort_cnt", 1),))

    async def changes(self) -> AsyncGenerator[Status, None]:
        try:
            while True:
                yield await self.stream.get()
        finally:
            self.closed_streams += 1


class FakeHost:
    """The daemon around it."""

    def __init__(self) -> None:
        name = InitiatorName("iqn.2001-04.com.example:this", "alias", "a file")
        self.settings = Settings(config=Config("/x/iscsid.conf", ()), initiator=name)
        self.stopped = 0
        self.no_kernel: IscsiBootError | None = None

    async def kernel(self) -> None:
        if self.no_kernel is not None:
            raise self.no_kernel

    def stop(self) -> None:
        self.stopped += 1

    def about(self) -> dict[str, Any]:
        return {"pid": 7}


class FakeHands:
    """What is mounted on sessions, as a look would find it."""

    def __init__(self) -> None:
        self.seen: dict[str, list[str]] | None = {"system": [], "any": []}
        """On each session; None when the look hangs."""
        self.looks = 0

    async def run(self, job: Job, *, seconds: float, what: str) -> Ended:
        self.looks += 1
        if self.seen is None:
            return Ended(answer=None, problem="it hangs")
        return Ended(answer={str(sid): self.seen for sid in range(1, 9)})


class Lab:
    def __init__(self, tmp_path: Path) -> None:
        self.keeper, self.host, self.hands = FakeKeeper(), FakeHost(), FakeHands()
        self.lines: list[str] = []
        places = Places(config="/x/iscsid.conf", sysfs=str(tmp_path), proc=str(tmp_path), run=str(tmp_path))

        def log(level: Level, text: str) -> None:
            self.lines.append(text)

        self.service = Service(self.keeper, self.host, places, hands=self.hands, log=log)
        self.events: list[Mapping[str, Any]] = []
        self.notes: list[str] = []

    async def ask(self, action: str, fields: Mapping[str, Any] | None = None) -> dict[str, Any]:
        reply = Reply(self.events.append)
        try:
            return await self.service.handle(Request(action, fields or {}), reply)
        finally:
            self.notes += reply.notes

    def run(self, action: str, fields: Mapping[str, Any] | None = None, *, opened: bool = True) -> dict[str, Any]:
        async def inside() -> dict[str, Any]:
            if opened:
                self.service.open()
            return await asyncio.wait_for(self.ask(action, fields), 5)

        return asyncio.run(inside())

    def refused(self, action: str, fields: Mapping[str, Any] | None = None) -> IscsiBootError:
        with pytest.raises(IscsiBootError) as caught:
            self.run(action, fields)
        return caught.value

    def play(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run(work)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_every_word_of_the_protocol_is_served(lab: Lab) -> None:
    """``hello`` and ``cancel`` are the server's own."""
    assert set(lab.service.actions) == set(ACTIONS) - {"hello", "cancel"}
    assert lab.refused("dance").exit_code is ExitCode.INVALID_MGMT_REQ


# Logins. -----------------------------------------------------------------------------------------------


def test_a_record_becomes_an_order(lab: Lab) -> None:
    record = {**RECORD, "node.tpgt": "1", "node.session.cmds_max": "64", "node.session.scan": "manual"}
    answer = lab.run("login", {"record": record, "boot": ["ibft", "ethernet0", "target0"]})
    assert answer == {"sid": 1, "host": 11, "portal": "10.0.0.1:3260"}
    (order,) = lab.keeper.orders
    assert (order.request.target_name, order.request.params.cmds_max, order.scan) == (TARGET, 64, False)
    assert order.request.initiator_name == "iqn.2001-04.com.example:this"
    assert (order.request.boot_root, order.request.boot_nic, order.request.boot_target) == (
        *("ibft", "ethernet0", "target0"),
    )
    assert lab.keeper.names == [RecordName(target=TARGET, tpgt=1, address="10.0.0.1", port=3260, iface="default")]


def test_the_log_has_the_peers_words(lab: Lab) -> None:
    place = f"[target: {TARGET}, portal: 10.0.0.1,3260] through [iface: default]"
    lab.run("login", {"record": RECORD})
    lab.run("logout", {"sid": 1})  # the end of a session is told by its guard
    assert lab.lines == [
        f"Connection1:0 to {place} is operational now",
    ]


def test_only_a_patient_login_is_given_more_time(lab: Lab) -> None:
    """A client of before knows nothing of it, and one that names a time means all of it."""
    lab.run("login", {"record": RECORD})
    lab.run("login", {"record": RECORD, "patient": True})
    assert [prolonged is not None for prolonged in lab.keeper.prolonged] == [False, True]


@pytest.mark.parametrize(("detach", "lines"), [(False, 1), (True, 0)])
def test_a_login_that_fails_is_told_once(lab: Lab, detach: bool, lines: int) -> None:
    """Of one nobody waits for the server tells the log."""
    lab.keeper.fails["login"] = IscsiBootError("no", stage=Stage.LOGIN, exit_code=ExitCode.FATAL_LOGIN)
    lab.refused("login", {"record": RECORD, "detach": detach})
    assert len(lab.lines) == lines


def test_a_record_of_a_later_release_is_used_as_far_as_it_is_known(lab: Lab) -> None:
    assert lab.run("login", {"record": {**RECORD, "node.session.teleport": "Yes"}})["sid"] == 1


def test_what_was_put_right_goes_with_the_answer(lab: Lab) -> None:
    lab.run("login", {"record": {**RECORD, "node.session.queue_depth": "32", "node.session.cmds_max": "100"}})
    assert lab.notes == ["node.session.cmds_max 100 is no power of two from 2 to 2048, 64 is taken"]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"record": None},
        {"record": [1]},
        {"record": {"node.name": 1}},
        {"record": {**RECORD, "node.conn[0].port": "many"}},
        {"record": RECORD, "wanted": "1"},
        {"record": RECORD, "wanted": True},
        {"record": RECORD, "boot": "ibft"},
        {"record": RECORD, "boot": ["a", "b"]},
        {"record": RECORD, "boot": ["a", "b", 3]},
        {"record": RECORD, "name": "no name"},
        {"record": RECORD, "name": 5},
    ],
)
def test_bad_logins_are_invalid_and_reach_nobody(lab: Lab, fields: dict[str, Any]) -> None:
    assert lab.refused("login", fields).exit_code is ExitCode.INVAL
    assert lab.keeper.orders == []


def test_a_secret_is_not_repeated_when_it_does_not_fit(lab: Lab) -> None:
    error = lab.refused("login", {"record": {**RECORD, "node.session.auth.password": "s3cret" * 100}})
    assert "s3cret" not in error.line()
    assert error.__cause__ is None


def test_a_client_may_name_the_initiator(lab: Lab) -> None:
    lab.run("login", {"record": RECORD, "name": "iqn.2001-04.com.example:other"})
    assert lab.keeper.orders[0].request.initiator_name == "iqn.2001-04.com.example:other"


def test_a_machine_without_a_name_is_refused_with_the_reason(lab: Lab) -> None:
    why = IscsiBootError("nobody has named it", stage=Stage.ARGUMENTS, subject="/etc/x")
    lab.host.settings = replace(lab.host.settings, initiator=None, unnamed=why)
    error = lab.refused("login", {"record": RECORD})
    assert error.exit_code is ExitCode.LOGIN
    assert "nobody has named it" in error.line()


def test_without_iscsi_in_the_kernel_the_client_hears_it(lab: Lab) -> None:
    lab.host.no_kernel = IscsiBootError("none", stage=Stage.MODULES, exit_code=ExitCode.TRANS_NOT_FOUND)
    assert lab.refused("login", {"record": RECORD}).exit_code is ExitCode.TRANS_NOT_FOUND


def test_how_many_are_wanted_is_the_keepers_to_count(lab: Lab) -> None:
    """One where nothing is said; its refusal is the client's."""
    lab.run("login", {"record": RECORD})
    lab.run("login", {"record": RECORD, "wanted": 2})
    lab.run("login", {"record": RECORD, "wanted": 0})
    assert lab.keeper.wanted == [1, 2, 0]
    lab.keeper.fails["login"] = IscsiBootError("full", stage=Stage.SESSION, exit_code=ExitCode.SESS_EXISTS)
    assert lab.refused("login", {"record": RECORD}).exit_code is ExitCode.SESS_EXISTS


# Logouts. ----------------------------------------------------------------------------------------------


def one(lab: Lab, phase: str = "up") -> None:
    lab.keeper.phases = {1: phase}


def test_a_session_is_logged_out(lab: Lab) -> None:
    one(lab)
    assert lab.run("logout", {"sid": 1, "seconds": 30}) == {"sid": 1}
    assert lab.keeper.calls == [("logout", 1, False, 30.0)]


@pytest.mark.parametrize(
    ("seen", "safe", "words"),
    [
        ({"system": ["sda is mounted on /"], "any": ["sda is mounted on /"]}, "No", "sda is mounted on /"),
        ({"system": [], "any": ["sdb is mounted on /mnt"]}, "Yes", "safe_logout is configured: sdb is mounted on /mnt"),
        (None, "No", "hangs"),
    ],
)
def test_a_session_in_use_is_kept(lab: Lab, seen: dict[str, list[str]] | None, safe: str, words: str) -> None:
    one(lab)
    lab.host.settings = replace(lab.host.settings, config=config(safe))
    lab.hands.seen = seen
    error = lab.refused("logout", {"sid": 1})
    assert error.exit_code is ExitCode.BUSY
    assert words in error.line()
    assert lab.keeper.calls == []


def config(safe: str) -> Config:
    from iscsiboot.database.config import parse_config

    return parse_config("/x", f"iscsid.safe_logout = {safe}\n")


def test_without_safe_logout_a_data_mount_is_no_reason(lab: Lab) -> None:
    one(lab)
    lab.hands.seen = {"system": [], "any": ["sdb is mounted on /mnt"]}
    assert lab.run("logout", {"sid": 1}) == {"sid": 1}


def test_who_insists_is_asked_nothing_and_the_target_is_told(lab: Lab) -> None:
    one(lab)
    assert lab.run("logout", {"sid": 1, "insist": True, "seconds": 20}) == {"sid": 1}
    assert lab.keeper.calls == [("logout", 1, False, 10.0)]
    assert lab.hands.looks == 0


def test_who_insists_gets_the_end_whatever_the_target_does(lab: Lab) -> None:
    one(lab)
    lab.keeper.fails["logout"] = IscsiBootError("it stays", stage=Stage.SESSION, exit_code=ExitCode.LOGOUT)
    assert lab.run("logout", {"sid": 1, "insist": True, "seconds": 20}) == {"sid": 1}
    assert lab.keeper.calls == [("logout", 1, False, 10.0), ("logout", 1, True, 20.0)]
    assert "without the target" in lab.notes[0]


def test_a_broken_session_is_ended_at_once_by_who_insists(lab: Lab) -> None:
    one(lab, "waiting")
    lab.run("logout", {"sid": 1, "insist": True, "seconds": 20})
    assert lab.keeper.calls == [("logout", 1, True, 20.0)]


@pytest.mark.parametrize("action", ["logout", "set", "status"])
def test_a_session_that_is_not_there(lab: Lab, action: str) -> None:
    fields = {"sid": 9, "timers": {}}
    assert lab.refused(action, fields).exit_code is ExitCode.SESS_NOT_FOUND
    assert lab.hands.looks == 0


# The rest. ---------------------------------------------------------------------------------------------


def test_timers_keep_what_is_not_named(lab: Lab) -> None:
    one(lab)
    answer = lab.run("set", {"sid": 1, "timers": {"recovery": -1}})
    assert answer["timers"] == {"recovery": -1, "noop_interval": 5, "noop_timeout": 5}
    assert lab.keeper.calls == [("set", 1, Timers(recovery=-1, noop_interval=5, noop_timeout=5))]


@pytest.mark.parametrize(
    "timers", [{"recovery": -2}, {"noop_timeout": -1}, {"recovery": 1 << 40}, {"recovery": True}, 7]
)
def test_timers_out_of_range(lab: Lab, timers: object) -> None:
    one(lab)
    assert lab.refused("set", {"sid": 1, "timers": timers}).exit_code is ExitCode.INVAL
    assert lab.keeper.calls == []


def test_short_requests(lab: Lab) -> None:
    one(lab)
    assert lab.run("rescan", {"sid": 1}) == {}
    assert lab.notes == ["11:0:0:1: refused"]
    assert lab.run("reconnect", {"sid": 1}) == {}
    assert lab.run("stats", {"sid": 1}) == {"counters": [["txdata_octets", 7]], "custom": [["eh_abort_cnt", 1]]}
    assert lab.run("settle") == {"lines": []}
    assert lab.run("config") == {
        "initiator_name": "iqn.2001-04.com.example:this",
        "alias": "alias",
        "config_file": "/x/iscsid.conf",
        "safe_logout": False,
    }
    answer = lab.run("status")
    assert (answer["daemon"], [item["sid"] for item in answer["sessions"]]) == ({"pid": 7}, [1])
    assert [item["sid"] for item in lab.run("status", {"sid": 1})["sessions"]] == [1]


def test_stop_is_answered_before_it_begins(lab: Lab) -> None:
    async def inside() -> None:
        assert await lab.ask("stop") == {}
        assert lab.host.stopped == 0
        await asyncio.sleep(0)
        assert lab.host.stopped == 1

    lab.play(inside())
    assert lab.lines == ["told to stop by a client (user 0); no session is touched"]


def test_watching_begins_with_what_is_there_and_ends_with_its_client(lab: Lab) -> None:
    one(lab)

    async def inside() -> None:
        lab.service.open()
        watching = asyncio.create_task(lab.ask("watch"))
        await lab.keeper.stream.put(status(1, "waiting"))
        for _ in range(5):
            await asyncio.sleep(0)
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching

    lab.play(inside())
    phases = [event.get("session", {}).get("phase", "complete") for event in lab.events]
    assert phases == ["up", "complete", "waiting"]
    assert lab.keeper.closed_streams == 1


@pytest.mark.parametrize("action", sorted(set(ACTIONS) - {"hello", "cancel"}))
def test_who_comes_before_the_sessions_are_taken_over_waits(lab: Lab, action: str) -> None:
    one(lab)

    async def inside() -> None:
        fields = {"sid": 1, "record": RECORD, "timers": {}, "wanted": 0}
        task = asyncio.create_task(lab.ask(action, fields))
        for _ in range(5):
            await asyncio.sleep(0)
        assert task.done() == (action in service_module._AT_ONCE)
        lab.service.open()
        for _ in range(5):
            await asyncio.sleep(0)
        if action == "watch":
            task.cancel()
        assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], dict | asyncio.CancelledError)

    lab.play(inside())


def test_a_whole_record_fits(lab: Lab) -> None:
    record = {**compiled("node"), **RECORD}
    assert lab.run("login", {"record": record})["sid"] == 1
    request = lab.keeper.orders[0].request
    assert request == AttachRequest(
        initiator_name="iqn.2001-04.com.example:this",
        initiator_alias="alias",
        target_name=TARGET,
        portal=Portal(address=parse_ip("10.0.0.1"), port=3260),
        lun=None,
        params=request.params,
        chap_algorithms=request.chap_algorithms,
        stored_address="10.0.0.1",
    )
