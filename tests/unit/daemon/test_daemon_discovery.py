# SPDX-License-Identifier: LGPL-2.1-or-later
"""discoveryd: servers asked through a real discovery over loopback, and what becomes of the sessions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import pytest

from iscsiboot.daemon import discoveryd, following
from iscsiboot.daemon.discovery_round import PLACES_MAX, discovery_round
from iscsiboot.daemon.discoveryd import Discoveryd, wanted_servers
from iscsiboot.daemon.settings import Places, Settings, read_settings
from iscsiboot.daemon.told import THINGS_MAX, Told
from iscsiboot.database.record import Record
from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.keeper.hand import ANSWER_BYTES
from iscsiboot.keeper.log import Level
from iscsiboot.keeper.values import Known, Source
from iscsiboot.model.portal import Portal, parse_ip
from iscsiboot.session.values import AttachRequest
from iscsiboot.session.workers import Answer, Ended, Job
from tests.doubles.virtual_time import run_virtually
from tests.unit.admin.discovery_kit import NAME, A, B, C, Machine, at, offering, serving

SERVER = "127.0.0.1"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def places_of(machine: Machine) -> Places:
    return Places(
        config=str(machine.iscsi / "iscsid.conf"),
        initiator_name=str(machine.iscsi / "initiatorname.iscsi"),
        database=str(machine.iscsi),
        etc=str(machine.root / "etc"),
        sysfs=str(machine.sysfs),
        proc=str(machine.root / "proc"),
        run=str(machine.root / "run"),
    )


def settings_of(machine: Machine) -> Settings:
    return read_settings(places_of(machine), lambda _: None)


def watched(machine: Machine, port: int, *, inval: int = 0) -> None:
    """A stored server that is to be asked by the daemon."""
    record = (
        settings_of(machine)
        .config.sendtargets()
        .changed(
            {
                "discovery.sendtargets.address": SERVER,
                "discovery.sendtargets.port": str(port),
                "discovery.sendtargets.use_discoveryd": "Yes",
                "discovery.sendtargets.discoveryd_poll_inval": str(inval),
            }
        )
    )
    with machine.database.change() as change:
        change.put_discovery(record)


def asked(machine: Machine, port: int) -> Answer:
    return discovery_round(SERVER, port, settings_of(machine), places_of(machine))


def whole(machine: Machine, values: Mapping[str, str]) -> Record:
    """A record of a round's answer, as the daemon completes it."""
    return Record("node", {**settings_of(machine).config.node().values, **values})


# One round. --------------------------------------------------------------------------------------


def test_only_servers_that_want_it_are_asked(machine: Machine) -> None:
    watched(machine, 3260, inval=7)
    with machine.database.change() as change:
        record = settings_of(machine).config.sendtargets()
        change.put_discovery(record.changed({"discovery.sendtargets.address": "10.0.0.9"}))
        isns = (
            settings_of(machine)
            .config.isns()
            .changed({"discovery.sendtargets.address": "10.0.0.8", "discovery.isns.use_discoveryd": "Yes"})
        )
        change.put_discovery(isns)
    answer = wanted_servers(places_of(machine))
    assert answer["servers"] == [[SERVER, 3260, 7]]
    assert any("iSNS" in note and "10.0.0.8" in note for note in answer["notes"])


def test_a_round_gives_a_record_for_each_portal(machine: Machine) -> None:
    machine.configure("node.session.timeo.replacement_timeout = 77")
    with serving(offering(at(A), at(B))) as server:
        watched(machine, server.port)
        answer = asked(machine, server.port)
    records = [whole(machine, values) for values in answer["records"]]
    assert answer["failures"] == []
    assert sorted(record.get("node.name") for record in records) == [A, B]
    assert {record.get("node.session.timeo.replacement_timeout") for record in records} == {"77"}
    assert all(len(values) < 12 for values in answer["records"]), "what all have in common is not sent"
    assert {record.get("iface.iscsi_ifacename") for record in records} == {"default"}
    assert machine.database.node_keys() == [], "the records are not touched"


def test_what_an_administrator_has_set_in_a_record_counts(machine: Machine) -> None:
    with serving(offering(at(A))) as server:
        watched(machine, server.port)
        (values,) = asked(machine, server.port)["records"]
        with machine.database.change() as change:
            change.put_node(whole(machine, values).changed({"node.session.cmds_max": "64"}))
        (again,) = asked(machine, server.port)["records"]
    assert again["node.session.cmds_max"] == "64"


def test_every_interface_is_asked_through(machine: Machine) -> None:
    with machine.database.change() as change:
        for name in ("one", "two"):
            iface = (
                settings_of(machine)
                .config.iface()
                .changed({"iface.iscsi_ifacename": name, "iface.transport_name": "tcp", "iface.net_ifacename": "lo"})
            )
            change.put_iface(iface)
    with serving(offering(at(A)), offering(at(A))) as server:
        watched(machine, server.port)
        answer = asked(machine, server.port)
    assert sorted(values["iface.iscsi_ifacename"] for values in answer["records"]) == ["one", "two"]


def test_a_server_that_is_away_is_a_failure_in_words(machine: Machine) -> None:
    with serving(offering(at(A))) as server:
        port = server.port
    watched(machine, port)
    answer = asked(machine, port)
    assert answer["records"] == []
    assert len(answer["failures"]) == 1
    assert "refused" in answer["failures"][0]


def test_a_server_that_is_forgotten_meanwhile_is_no_failure(machine: Machine) -> None:
    assert asked(machine, 3260) == {"records": [], "failures": [], "notes": []}


def test_a_server_that_names_very_many_portals_is_read_to_a_bound(machine: Machine) -> None:
    """A hundred thousand records would fill the memory of the machine, which nothing takes from a guard."""
    offers = [at(f"{A}-{number}" + "x" * 150) for number in range(PLACES_MAX + 200)]
    with serving(offering(*offers)) as server:
        watched(machine, server.port)
        answer = asked(machine, server.port)
    assert answer["failures"] == ["more than 1024 portals are named; as many are used, and none is logged out"]
    assert len(answer["records"]) == PLACES_MAX
    assert len(json.dumps(answer)) < ANSWER_BYTES / 2


def test_a_server_that_names_as_many_as_are_used_is_no_failure(machine: Machine) -> None:
    with serving(offering(*(at(f"{A}-{number}") for number in range(PLACES_MAX)))) as server:
        watched(machine, server.port)
        answer = asked(machine, server.port)
    assert (len(answer["records"]), answer["failures"]) == (PLACES_MAX, [])


# What follows from rounds. ---------------------------------------------------------------------


class Fakes:
    """Hands that answer what they are told, and sessions that are only numbers."""

    def __init__(self, machine: Machine) -> None:
        self.rounds: list[Answer] = []
        self.known: dict[int, Known] = {}
        self.lines: list[tuple[Level, str]] = []
        self.refuse: dict[str, IscsiBootError] = {}
        self.faulty: set[str] = set()
        self.kept: set[int] = set()
        self.hanging: set[str] = set()
        self.trying: list[str] = []
        self.unread = ""
        self.logouts: list[int] = []
        self.discoveryd = Discoveryd(
            places=places_of(machine),
            settings=lambda: settings_of(machine),
            guarded=lambda: self.known,
            log_in=self.log_in,
            log_out=self.log_out,
            hands=self,
            log=lambda level, text: self.lines.append((level, text)),
        )
        (machine.root / "run" / "iscsiboot").mkdir(exist_ok=True)

    async def run(self, job: Job, *, seconds: float, what: str) -> Ended:
        if "discovery at" in what:
            return Ended(answer=self.rounds.pop(0))
        if self.unread:
            return Ended(answer=None, problem=self.unread)
        return Ended(answer=job())

    async def log_in(self, record: Record, seconds: float) -> int:
        name = record.get("node.name")
        if name in self.hanging:
            self.trying.append(name)
            try:
                await asyncio.Event().wait()
            finally:
                self.trying.remove(name)
        if name in self.refuse:
            raise self.refuse[name]
        if name in self.faulty:
            raise ValueError(name)
        sid = max(self.known, default=0) + 1
        request = AttachRequest(
            initiator_name=NAME,
            target_name=name,
            portal=Portal(
                address=parse_ip(record.get("node.conn[0].address")), port=record.number("node.conn[0].port")
            ),
            lun=None,
        )
        self.known[sid] = Known(request=request, source=Source.ORDER)
        return sid

    async def log_out(self, sid: int, seconds: float) -> None:
        if sid in self.kept:
            raise IscsiBootError("it is mounted", stage=Stage.SESSION, exit_code=ExitCode.BUSY)
        self.logouts.append(sid)
        del self.known[sid]

    async def rounds_of(self, machine: Machine, *rounds: Answer) -> None:
        """So many rounds, one after the other."""
        self.rounds = list(rounds)
        for _ in rounds:
            await self.discoveryd.run()
            await self.settled()
            self.discoveryd.close()

    async def settled(self) -> None:
        """The rounds under way and the logins they have begun are over."""
        await asyncio.gather(*(server.task for server in self.discoveryd._servers.values()))
        await asyncio.gather(*(entering.task for entering in self.discoveryd._following._entering.values()))

    def targets(self) -> list[str]:
        return sorted(known.request.target_name for known in self.known.values())


def found(*targets: str, failures: tuple[str, ...] = ()) -> Answer:
    base = Record("node", {}).values
    records: list[Mapping[str, str]] = [
        {**base, "node.name": name, "node.conn[0].address": "10.0.0.1", "iface.iscsi_ifacename": "default"}
        for name in targets
    ]
    return {"records": records, "failures": list(failures), "notes": []}


Test = Callable[[Fakes], Coroutine[Any, Any, None]]


@pytest.fixture
def play(machine: Machine) -> Callable[..., Fakes]:
    """Rounds on one machine, with what has to be set before."""
    watched(machine, 3260)

    def play(*rounds: Answer, fakes: Fakes | None = None) -> Fakes:
        made = fakes or Fakes(machine)
        run_virtually(made.rounds_of(machine, *rounds))
        return made

    return play


def test_new_portals_are_logged_in_to_and_vanished_ones_left(play: Callable[..., Fakes]) -> None:
    fakes = play(found(A), found(A, B), found(B))
    assert fakes.targets() == [B]
    assert fakes.logouts == [1]


def test_a_round_that_fails_ends_nothing(play: Callable[..., Fakes]) -> None:
    fakes = play(found(A), found(failures=("connection refused",)), found(failures=("connection refused",)), found(A))
    assert fakes.targets() == [A]
    said = [text for level, text in fakes.lines if level <= Level.NOTICE and "SendTargets" in text]
    assert said == [
        f"Could not perform SendTargets to {SERVER}:3260. connection refused",
        f"SendTargets to {SERVER}:3260 works again",
    ]


def test_half_an_answer_ends_nothing(play: Callable[..., Fakes]) -> None:
    """One interface of two got no answer: nobody knows what it would have named."""
    assert play(found(A, B), found(A, failures=("no route",))).targets() == [A, B]


def test_a_session_somebody_else_made_is_never_ended(play: Callable[..., Fakes], machine: Machine) -> None:
    fakes = Fakes(machine)
    run_virtually(fakes.log_in(Record("node", found(A)["records"][0]), 1.0))
    play(found(A), found(), fakes=fakes)
    assert fakes.targets() == [A]
    assert fakes.logouts == []


def test_what_is_in_use_stays_and_is_told_once(play: Callable[..., Fakes], machine: Machine) -> None:
    fakes = Fakes(machine)
    fakes.kept = {1}
    play(found(A), found(), found(), found(), fakes=fakes)
    assert fakes.targets() == [A]
    assert len([text for _, text in fakes.lines if "it is mounted" in text]) == 1
    fakes.kept = set()
    play(found(), fakes=fakes)
    assert fakes.targets() == []


def test_a_login_that_fails_is_tried_in_the_next_round_and_told_once(
    play: Callable[..., Fakes], machine: Machine
) -> None:
    fakes = Fakes(machine)
    fakes.refuse[A] = IscsiBootError("no way", stage=Stage.LOGIN)
    play(found(A), found(A), found(A), fakes=fakes)
    assert len([text for _, text in fakes.lines if "no way" in text]) == 1
    fakes.refuse.clear()
    assert play(found(A), fakes=fakes).targets() == [A]


def test_a_server_that_names_ever_new_targets_fills_no_memory(play: Callable[..., Fakes], machine: Machine) -> None:
    fakes = Fakes(machine)
    names = [f"{A}{number}" for number in range(40)]
    fakes.refuse = {name: IscsiBootError("no way", stage=Stage.LOGIN) for name in names}
    play(*(found(*names[start : start + 4]) for start in range(0, 40, 4)), fakes=fakes)
    assert len([text for _, text in fakes.lines if "no way" in text]) == 40
    assert len(fakes.discoveryd._told._lines) == 4
    # Half an answer says nothing of the others.
    play(found(failures=("no route",)), found(*names[36:]), fakes=fakes)
    assert len([text for _, text in fakes.lines if "no way" in text]) == 40


def test_the_next_daemon_remembers_what_this_one_made(play: Callable[..., Fakes], machine: Machine) -> None:
    first = play(found(A, B))
    second = Fakes(machine)
    second.known = dict(first.known)
    play(found(B), fakes=second)
    assert second.targets() == [B]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"x": 1}', '{"x": [[1]]}', "\0", '{"x": [["a", "b", "c", "d"]]}'])
def test_a_memory_that_is_damaged_is_no_memory(play: Callable[..., Fakes], machine: Machine, text: str) -> None:
    fakes = Fakes(machine)
    (machine.root / "run" / "iscsiboot" / discoveryd.MEMORY).write_text(text)
    assert play(found(A), fakes=fakes).targets() == [A]


def test_a_session_that_is_gone_by_itself_is_made_again(play: Callable[..., Fakes], machine: Machine) -> None:
    fakes = play(found(A))
    fakes.known.clear()
    assert play(found(A), fakes=fakes).targets() == [A]


def test_a_portal_nobody_answers_at_delays_no_other_and_no_round(machine: Machine) -> None:
    """A login is tried for minutes; the interval is half a minute."""
    watched(machine, 3260, inval=1)
    fakes = Fakes(machine)
    fakes.hanging = {A}
    fakes.rounds = [found(A, B), found(A, B, C)] + [found(A, C)] * 8

    async def some() -> None:
        await fakes.discoveryd.run()
        async with asyncio.timeout(10):
            while fakes.targets() != [C]:
                await asyncio.sleep(0.05)
        assert fakes.trying == [A], "once, however many rounds have named it"
        fakes.discoveryd.close()
        await asyncio.sleep(0)
        assert fakes.trying == [], "the end does not wait for it"

    run_virtually(some())
    assert fakes.logouts == [1], "what vanished was left meanwhile"


def test_a_login_ends_when_its_portal_is_not_named_any_more(machine: Machine) -> None:
    watched(machine, 3260, inval=1)
    fakes = Fakes(machine)
    fakes.hanging = {A}
    fakes.rounds = [found(A, B)] + [found(B)] * 8

    async def some() -> None:
        await fakes.discoveryd.run()
        async with asyncio.timeout(10):
            while not fakes.trying:
                await asyncio.sleep(0.05)
            while fakes.trying:
                await asyncio.sleep(0.05)
        assert not fakes.discoveryd._following._entering
        fakes.discoveryd.close()

    run_virtually(some())


def test_few_logins_at_a_time(play: Callable[..., Fakes], machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "LOGINS_AT_ONCE", 3)
    fakes = Fakes(machine)
    names = [f"{A}{number}" for number in range(20)]
    fakes.hanging = set(names)
    fakes.rounds = [found(*names)]

    async def some() -> None:
        await fakes.discoveryd.run()
        await asyncio.sleep(0.2)
        assert len(fakes.trying) == 3
        fakes.discoveryd.close()

    run_virtually(some())


def test_an_empty_list_counts_when_it_comes_again(play: Callable[..., Fakes]) -> None:
    """A target that was restarted answers before it has its disks."""
    fakes = play(found(A, B), found(), found(A, B), found())
    assert fakes.logouts == []
    play(found(), found(), fakes=fakes)
    assert fakes.targets() == []
    assert len(fakes.logouts) == 2


def test_what_another_server_names_is_not_left(machine: Machine) -> None:
    watched(machine, 3260)
    watched(machine, 3261)
    fakes = Fakes(machine)

    async def rounds(first: Answer, second: Answer) -> None:
        fakes.rounds = [first, second]
        await fakes.discoveryd.run()
        await fakes.settled()

    async def some() -> None:
        await rounds(found(A, B), found(A))
        await rounds(found(B), found(A))
        assert fakes.targets() == [A, B]
        await rounds(found(B), found(C))
        assert fakes.targets() == [B, C], "the one that still named it has it now, and leaves it"

    run_virtually(some())


def test_a_server_that_names_hundreds_nobody_answers_at_fills_no_log(
    play: Callable[..., Fakes], machine: Machine
) -> None:
    fakes = Fakes(machine)
    names = [f"{A}{number}" for number in range(300)]
    fakes.refuse = {name: IscsiBootError("no way", stage=Stage.LOGIN) for name in names}
    play(found(*names), found(*names), found(*names), fakes=fakes)
    assert len([text for _, text in fakes.lines if "no way" in text]) == following.LINES_MAX
    assert [text for _, text in fakes.lines if "left out" in text] == [
        f"discovery at {SERVER}:3260: {300 - following.LINES_MAX} more lines about its portals were left out"
    ]


def test_a_database_that_cannot_be_read_is_tried_again(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discoveryd, "AGAIN_SECONDS", 0.05)
    watched(machine, 3260)
    fakes = Fakes(machine)
    fakes.rounds = [found(A)]
    fakes.unread = "it took longer than 30 s"

    async def some() -> None:
        await fakes.discoveryd.run()
        await asyncio.sleep(0.3)
        fakes.unread = ""
        async with asyncio.timeout(10):
            while fakes.targets() != [A]:
                await asyncio.sleep(0.05)
        fakes.discoveryd.close()

    run_virtually(some())
    told = [text for level, text in fakes.lines if level is Level.WARNING]
    assert told == ["no discovery by the daemon yet: it took longer than 30 s; tried again"]


@pytest.mark.parametrize(("inval", "words"), [(0, "once"), (-1, "every 30 s"), (7200, "every 7200 s")])
def test_the_log_says_who_is_asked_and_how_often(machine: Machine, inval: int, words: str) -> None:
    watched(machine, 3260, inval=inval)
    fakes = Fakes(machine)
    fakes.rounds = [found(A)]

    async def some() -> None:
        await fakes.discoveryd.run()
        await asyncio.sleep(0.05)
        fakes.discoveryd.close()

    run_virtually(some())
    assert f"discovery at {SERVER}:3260: {words}" in [text for _, text in fakes.lines]


def test_reasons_that_alternate_are_told_at_growing_intervals() -> None:
    now = [0.0]
    told = Told(lambda: now[0])
    lines = 0
    for second in range(86400):
        now[0] = float(second)
        lines += told.fresh("a", "x", f"reason {second % 2}")
    assert 20 < lines < 40
    assert told.over("a", "x")
    assert not told.over("a", "x")
    assert told.fresh("a", "x", "reason 1")


def test_what_is_told_of_is_bounded() -> None:
    told = Told(lambda: 0.0)
    for number in range(2 * THINGS_MAX):
        assert told.fresh("a", number, "words")
    assert not told.fresh("a", 2 * THINGS_MAX - 1, "words")
    assert told.fresh("a", 0, "words"), "it was forgotten"
    told.keep("a", {0})
    assert len(told._lines) == 1


def faults(fakes: Fakes) -> list[str]:
    return [text for level, text in fakes.lines if level is Level.ERROR and "a fault of this program" in text]


def test_a_fault_costs_its_own_place_and_is_told_once(play: Callable[..., Fakes], machine: Machine) -> None:
    fakes = Fakes(machine)
    fakes.faulty = {A}
    play(found(A, B), found(A, B), found(A, B), fakes=fakes)
    assert fakes.targets() == [B]
    assert len(faults(fakes)) == 1
    assert f"discovery at {SERVER}:3260: a fault of this program: ValueError: {A} (" in faults(fakes)[0]
    fakes.faulty = set()
    play(found(A, B), found(A), fakes=fakes)
    assert fakes.targets() == [A], "B was remembered though its round had a fault"


def test_the_next_round_goes_on_after_a_fault(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discoveryd, "INTERVAL_DEFAULT", 0.01)
    watched(machine, 3260, inval=-1)
    fakes = Fakes(machine)
    fakes.rounds = [{"records": None, "failures": [], "notes": []}] * 3 + [found(A)] * 1000

    async def some() -> None:
        await fakes.discoveryd.run()
        async with asyncio.timeout(10):
            while fakes.targets() != [A]:
                await asyncio.sleep(0.01)
        fakes.discoveryd.close()

    run_virtually(some())
    assert len(faults(fakes)) == 1


def test_a_server_that_was_asked_once_is_asked_again_when_records_changed(machine: Machine) -> None:
    watched(machine, 3260, inval=0)
    fakes = Fakes(machine)
    fakes.rounds = [found(A), found(A, B)]

    async def some() -> None:
        for _ in range(2):
            await fakes.discoveryd.run()
            await fakes.settled()
        fakes.discoveryd.close()

    run_virtually(some())
    assert fakes.targets() == [A, B]


@pytest.mark.parametrize(("inval", "rounds"), [(3600, 1), (1800, 2), (0, 2)])
def test_another_interval_counts_at_once(machine: Machine, inval: int, rounds: int) -> None:
    """The round under way, or the wait for the next one, is not begun anew where the interval is the same."""
    watched(machine, 3260, inval=3600)
    fakes = Fakes(machine)
    fakes.rounds = [found(A), found(A, B)]

    async def some() -> None:
        await fakes.discoveryd.run()
        await asyncio.sleep(0.1)
        assert fakes.targets() == [A]
        watched(machine, 3260, inval=inval)
        await fakes.discoveryd.run()
        await asyncio.sleep(0.1)
        assert len(fakes.rounds) == 2 - rounds
        (server,) = fakes.discoveryd._servers.values()
        assert server.task.done() is (inval == 0)
        fakes.discoveryd.close()

    run_virtually(some())
    assert fakes.targets() == [A, B][:rounds]


def test_rounds_follow_each_other_at_the_interval(machine: Machine) -> None:
    watched(machine, 3260, inval=1)
    fakes = Fakes(machine)
    fakes.rounds = [found(A), found(A, B)] + [found(A, B)] * 8

    async def some() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await fakes.discoveryd.run()
        while fakes.targets() != [A, B]:
            assert loop.time() < began + 10
            await asyncio.sleep(0.05)
        fakes.discoveryd.close()
        return loop.time() - began

    assert 1.0 <= run_virtually(some()) < 1.1
