# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a run does, in a network in memory: paths, failures that stay where they belong, steps and interruption."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.model.portal import NamedPortal, Portal
from iscsiboot.toolkit.media_values import Outcome
from iscsiboot.toolkit.probe_path import SESSIONS_MAX, UNITS_MAX, Stopwatch
from iscsiboot.toolkit.probe_pool import PER_PLACE_MAX, run_all
from iscsiboot.toolkit.probe_report import Step
from iscsiboot.toolkit.probe_run import PATHS_MAX, choose_paths, reachable, run
from tests.doubles.disk import LogicalUnit
from tests.doubles.scsi import BECOMING_READY, POWER_ON, Identity
from tests.unit.toolkit.probe_support import (
    ME,
    NAME,
    OTHER,
    Clock,
    Silence,
    World,
    at,
    bootable,
    failure,
    found,
    options,
)

REFUSED = failure(Stage.CONNECT, "connection refused", ExitCode.TRANS_TIMEOUT)
AUTH = failure(Stage.LOGIN, "wrong secret", ExitCode.LOGIN_AUTH_FAILED)
HERE = at("10.0.0.1")


def test_discovery_login_luns_and_media() -> None:
    world = World(targets=[found(NAME, HERE)])
    report = world.run("10.0.0.1")
    assert report.exit_code == ExitCode.SUCCESS
    assert report.discovery is not None
    assert (report.discovery.targets, [step.name for step in report.discovery.steps]) == (1, ["connect", "discovery"])
    (path,) = report.paths
    assert (path.path.target, path.portal, path.tpgt, path.failure) == (NAME, HERE, 1, None)
    assert [step.name for step in path.steps] == ["connect", "login", "REPORT LUNS", "logout"]
    (unit,) = path.units
    assert unit.media is not None
    assert (unit.media.uefi.outcome, unit.media.kernel.outcome) == (Outcome.YES, Outcome.YES)
    assert unit.capacity is not None
    assert unit.capacity.size == 4 << 20
    assert {"INQUIRY", "READ CAPACITY(10)", "READ(10)"} <= {step.name for step in unit.steps}
    assert all(step.seconds > 0 and step.times > 0 for step in unit.steps)
    assert world.sessions[0].log[-1] == "logout"


def test_a_named_target_needs_no_discovery() -> None:
    world = World()
    report = world.run("10.0.0.1:3261", NAME)
    assert (report.discovery, world.discoveries) == (None, [])
    assert [str(path.path) for path in report.paths] == [f"{NAME} at 10.0.0.1:3261"]


def test_all_portals_of_a_named_target() -> None:
    world = World(targets=[found(NAME, HERE, at("10.0.0.2")), found(OTHER, HERE)])
    report = world.run("10.0.0.1", NAME, "--all-portals")
    assert world.discoveries == [("10.0.0.1:3260", NAME)]
    assert [str(path.path.portal) for path in report.paths] == ["10.0.0.1:3260", "10.0.0.2:3260"]


def test_reading_can_be_left_out() -> None:
    world = World()
    (path,) = world.run("10.0.0.1", NAME, "--no-read").paths
    assert path.units[0].capacity is not None
    assert path.units[0].media is None
    assert not [line for line in world.sessions[0].log if "READ(1" in line]


def test_one_lun_alone() -> None:
    world = World(units={1: LogicalUnit(image=bootable()), 2: LogicalUnit(image=bytes(1 << 20))})
    (path,) = world.run("10.0.0.1", NAME, "--lun", "2").paths
    assert [unit.lun.kernel for unit in path.units] == [2]
    assert not [line for line in world.sessions[0].log if "REPORT LUNS" in line]


@pytest.mark.parametrize(
    ("units", "argv", "words"),
    [
        pytest.param({}, (), "no LUN at all", id="no-lun"),
        pytest.param({0: LogicalUnit(identity=Identity(device_type=0x0C))}, (), "only: a controller", id="controller"),
        pytest.param(
            {1: LogicalUnit(image=bytes(512))}, ("--lun", "5"), "no disk at LUN 5, but an empty LUN", id="lun-asked-for"
        ),
    ],
)
def test_a_target_without_a_disk_is_told(units: dict[int, LogicalUnit], argv: tuple[str, ...], words: str) -> None:
    report = World(units=units).run("10.0.0.1", NAME, *argv)
    assert report.exit_code == ExitCode.NO_OBJS_FOUND
    error = report.paths[0].failure
    assert error is not None
    assert words in error.line()
    assert ME in error.line()


def test_no_target_at_all() -> None:
    report = World().run("10.0.0.1")
    assert report.exit_code == ExitCode.NO_OBJS_FOUND
    assert report.failure is not None
    assert "shows no target to" in report.failure.line()
    named = World(targets=[found(OTHER, HERE)]).run("10.0.0.1", NAME, "--all-portals")
    assert named.failure is not None
    assert f"no target {NAME}" in named.failure.line()


def test_one_dead_portal_costs_its_own_row() -> None:
    portals = [at(f"10.0.0.{number}") for number in range(1, 6)]
    world = World(targets=[found(NAME, *portals)], broken={"10.0.0.3": REFUSED, "10.0.0.4": AUTH})
    report = world.run("10.0.0.1", "--all-portals")
    assert [path.failure and path.failure.cause for path in report.paths] == [
        None,
        None,
        "connection refused",
        "wrong secret",
        None,
    ]
    assert report.exit_code == ExitCode.TRANS_TIMEOUT
    assert all(path.units for path in report.paths if path.failure is None)


def test_a_discovery_that_fails_is_the_result() -> None:
    report = World(broken={"10.0.0.1": AUTH}).run("10.0.0.1")
    assert report.exit_code == ExitCode.LOGIN_AUTH_FAILED
    assert report.discovery is not None
    assert report.discovery.failure is AUTH
    assert (report.paths, report.failure) == ((), None)


def test_refused_records_are_passed_on() -> None:
    report = World(targets=[found(NAME, HERE)], refused=["a bad name"]).run("10.0.0.1")
    assert report.discovery is not None
    assert report.discovery.refused == ("a bad name",)


# Host names.


def test_a_name_is_tried_at_each_address() -> None:
    names = {"storage": [at("10.0.0.3"), at("10.0.0.1")]}
    world = World(names=names, broken={"10.0.0.3": REFUSED}, targets=[found(NAME, HERE)])
    for argv in (("storage",), ("storage", NAME)):
        report = world.run(*argv)
        assert report.exit_code == ExitCode.SUCCESS
        assert report.paths[0].portal == HERE
    assert [endpoint for endpoint, _ in world.discoveries] == ["10.0.0.3:3260", "10.0.0.1:3260"]


def test_the_first_address_is_the_one_whose_failure_is_told() -> None:
    second = failure(Stage.CONNECT, "no route", ExitCode.TRANS_TIMEOUT)
    world = World(names={"storage": [at("10.0.0.3"), at("10.0.0.4")]}, broken={"10.0.0.3": REFUSED, "10.0.0.4": second})
    assert world.run("storage", NAME).paths[0].failure is REFUSED
    discovery = world.run("storage").discovery
    assert discovery is not None
    assert discovery.failure is REFUSED


def test_a_refused_login_is_not_tried_elsewhere() -> None:
    world = World(names={"storage": [at("10.0.0.3"), at("10.0.0.1")]}, broken={"10.0.0.3": AUTH})
    assert world.run("storage", NAME).paths[0].failure is AUTH
    discovery = world.run("storage").discovery
    assert discovery is not None
    assert discovery.failure is AUTH


def test_a_name_without_an_address() -> None:
    world = World()
    assert world.run("nowhere", NAME).exit_code == ExitCode.TRANS
    report = world.run("nowhere")
    assert report.failure is not None
    assert report.exit_code == ExitCode.TRANS


def test_portals_given_by_name_in_an_answer() -> None:
    world = World(targets=[found(NAME, NamedPortal(host="storage", port=99))], names={"storage": [at("10.0.0.9", 99)]})
    (path,) = world.run("10.0.0.1").paths
    assert path.portal == at("10.0.0.9", 99)


# LUNs.


def disk() -> LogicalUnit:
    return LogicalUnit(image=bytes(1 << 20))


def test_a_lun_with_an_error_costs_its_own_row() -> None:
    units = {1: disk(), 2: LogicalUnit(image=bytes(1 << 20), instead={0x00: BECOMING_READY}), 3: disk()}
    report = World(units=units).run("10.0.0.1", NAME)
    (path,) = report.paths
    assert [unit.failure is not None for unit in path.units] == [False, True, False]
    assert path.units[1].identity is not None
    assert report.exit_code == ExitCode.AGAIN
    assert path.failure is None


def test_attentions_are_no_error() -> None:
    unit = disk()
    unit.pending.extend([POWER_ON, POWER_ON])
    report = World(units={1: unit}).run("10.0.0.1", NAME)
    assert report.exit_code == ExitCode.SUCCESS
    assert Step(name="TEST UNIT READY", seconds=0, times=3).times == next(
        step.times for step in report.paths[0].units[0].steps if step.name == "TEST UNIT READY"
    )


def test_a_block_that_cannot_be_read_leaves_what_was_known() -> None:
    unit = LogicalUnit(image=bytes(1 << 20), bad=frozenset({3}))
    (path,) = World(units={1: unit}).run("10.0.0.1", NAME).paths
    assert path.units[0].capacity is not None
    assert path.units[0].media is None
    assert path.units[0].failure is not None
    assert "MEDIUM ERROR" in path.units[0].failure.line()


def test_a_dead_lun_takes_its_session_and_nothing_else() -> None:
    world = World(units={number: disk() for number in (1, 2, 3)}, dead_luns=frozenset({2}))
    report = world.run("10.0.0.1", NAME)
    (path,) = report.paths
    assert [unit.failure is not None for unit in path.units] == [False, True, False]
    assert len(world.sessions) == 2
    assert world.sessions[1].log[-1] == "logout"
    assert report.exit_code == ExitCode.PDU_TIMEOUT


def test_a_dead_lun_at_the_end_needs_no_other_session() -> None:
    world = World(units={1: disk(), 2: disk()}, dead_luns=frozenset({2}))
    assert world.run("10.0.0.1", NAME).paths[0].failure is None
    assert len(world.sessions) == 1


def test_many_dead_luns_are_not_all_waited_for() -> None:
    world = World(units={number: disk() for number in range(1, 11)}, dead_luns=frozenset(range(1, 11)))
    (path,) = world.run("10.0.0.1", NAME).paths
    assert len(world.sessions) == len(path.units) == SESSIONS_MAX
    assert path.failure is not None
    assert "6 LUNs were not looked at" in path.failure.line()


def test_only_so_many_luns_are_looked_at() -> None:
    world = World(units={number: LogicalUnit(identity=Identity(device_type=3)) for number in range(UNITS_MAX + 10)})
    (path,) = world.run("10.0.0.1", NAME).paths
    assert len(path.units) == UNITS_MAX
    assert f"the first {UNITS_MAX} are looked at" in path.remarks[0]


def test_a_logout_without_an_answer_is_a_remark() -> None:
    report = World(mute=True).run("10.0.0.1", NAME)
    assert report.exit_code == ExitCode.SUCCESS
    assert report.paths[0].remarks == ("logout: no answer to our logout",)


def test_a_redirected_login_says_where_it_ended() -> None:
    (path,) = World(redirect=at("10.0.0.7")).run("10.0.0.1", NAME).paths
    assert (path.portal, path.path.portal) == (at("10.0.0.7"), HERE)


# The choice of paths.


def test_the_portal_that_was_asked_is_preferred() -> None:
    targets = [found(NAME, at("10.0.0.2"), at("10.0.0.1", tpgt=1)), found(OTHER, at("10.0.0.5"), at("10.0.0.6"))]
    chosen = choose_paths(targets, HERE, all_portals=False)
    assert [str(path) for path in chosen] == [f"{NAME} at 10.0.0.1:3260,1", f"{OTHER} at 10.0.0.5:3260"]


def test_a_target_that_is_told_twice_is_one() -> None:
    targets = [found(NAME, HERE), found(NAME, at("10.0.0.2")), found(NAME, at("10.0.0.2", tpgt=2))]
    assert len(choose_paths(targets, HERE, all_portals=False)) == 1
    assert len(choose_paths(targets, HERE, all_portals=True)) == 2


@pytest.mark.parametrize(
    ("told", "asked", "expected"),
    [
        (at("fe80::2"), at("fe80::1%eth0"), at("fe80::2%eth0")),
        (at("fe80::2%eth1"), at("fe80::1%eth0"), at("fe80::2%eth1")),
        (at("fe80::2"), HERE, at("fe80::2")),
        (at("fe80::2"), at("fd00::1"), at("fe80::2")),
        (at("0.0.0.0", 99, 1), HERE, at("10.0.0.1", 99, 1)),
        (at("::"), at("fe80::1%eth0"), at("fe80::1%eth0")),
        (at("10.0.0.2"), HERE, at("10.0.0.2")),
    ],
)
def test_addresses_that_mean_something_else_from_here(told: Portal, asked: Portal, expected: Portal) -> None:
    assert reachable(told, asked) == expected


def test_an_inventory_is_cut() -> None:
    portals = [at(f"11.{a}.{b}.1") for a in range(17) for b in range(250)]
    world = World(targets=[found(NAME, *portals)], broken={str(item.address): REFUSED for item in portals})
    report = world.run("10.0.0.1", "--all-portals")
    assert len(report.paths) == PATHS_MAX
    assert report.discovery is not None
    assert report.discovery.refused == (
        f"{len(portals) - PATHS_MAX} paths beyond the first {PATHS_MAX} are not probed",
    )


# Concurrency.


def test_all_portals_are_probed_at_once() -> None:
    """Each of 64 sessions is opened only when all 64 are being opened."""
    meeting = threading.Barrier(64)
    world = World(
        targets=[found(NAME, *(at(f"10.0.0.{number}") for number in range(1, 65)))],
        hook=lambda: _meet(meeting),
    )
    report = world.run("10.0.0.1", "--all-portals", "--no-read")
    assert report.exit_code == ExitCode.SUCCESS
    assert not meeting.broken
    assert [str(path.portal) for path in report.paths] == [f"10.0.0.{number}:3260" for number in range(1, 65)]


def _meet(meeting: threading.Barrier) -> None:
    meeting.wait(30)


def test_one_portal_is_never_crowded() -> None:
    """Forty targets at one portal, one of them at another: at most four sessions at once there."""
    lock, inside, most = threading.Lock(), Counter[str](), Counter[str]()

    def job(place: str) -> str:
        with lock:
            inside[place] += 1
            most[place] = max(most[place], inside[place])
        meeting[place].wait(30)
        with lock:
            inside[place] -= 1
        return place

    meeting = {"one": threading.Barrier(PER_PLACE_MAX), "other": threading.Barrier(1)}
    places = ["one"] * 40 + ["other"]
    order: list[str] = []
    results = run_all(
        [partial(job, place) for place in places], places=places, now=Clock(), cancel=lambda: None, done=order.append
    )
    assert results == places
    assert (most["one"], most["other"]) == (PER_PLACE_MAX, 1)


def test_a_dead_portal_is_waited_for_once() -> None:
    asked: list[int] = []
    names = [f"iqn.2026-11.example:disk{number}" for number in range(50)]
    world = World(targets=[found(name, at("10.0.0.9")) for name in names], hook=lambda: asked.append(1))
    world.broken = {"10.0.0.9": REFUSED}
    report = world.run("10.0.0.1")
    assert len(report.paths) == 50
    assert {path.failure and path.failure.cause for path in report.paths} == {REFUSED.cause}
    assert len(asked) <= PER_PLACE_MAX


def test_a_portal_that_refuses_a_login_is_asked_for_every_target() -> None:
    asked: list[int] = []
    names = [f"iqn.2026-11.example:disk{number}" for number in range(10)]
    world = World(targets=[found(name, at("10.0.0.9")) for name in names], hook=lambda: asked.append(1))
    world.broken = {"10.0.0.9": AUTH}
    world.run("10.0.0.1")
    assert len(asked) == 10


def test_an_interruption_cancels_and_comes_out() -> None:
    class Watcher(Silence):
        def paths(self, done: int, total: int, failed: int) -> None:
            if done == 2:
                raise KeyboardInterrupt

    world = World(targets=[found(NAME, *(at(f"10.0.0.{number}") for number in range(1, 20)))])
    with pytest.raises(KeyboardInterrupt):
        run(options("10.0.0.1", "--all-portals"), ME, environment=world.environment(), progress=Watcher())
    assert world.cancelled == 1


def test_an_interruption_does_not_wait_for_what_cannot_be_woken() -> None:
    stuck, entered = threading.Event(), threading.Event()

    def sleeper() -> int:
        entered.set()
        stuck.wait(60)
        return 1

    def interrupt(_: int) -> None:
        entered.wait(30)
        raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            run_all([sleeper, lambda: 2], now=Clock(), cancel=lambda: None, done=interrupt)
    finally:
        stuck.set()


def test_a_mistake_in_a_job_is_not_swallowed() -> None:
    def broken() -> int:
        raise ZeroDivisionError("a mistake")

    cancelled: list[bool] = []
    with pytest.raises(ZeroDivisionError, match="a mistake"):
        run_all([broken], now=Clock(), cancel=lambda: cancelled.append(True), done=lambda _: None)
    assert cancelled


def test_jobs_wait_for_a_free_thread_and_keep_their_order() -> None:
    jobs = [partial(abs, number) for number in range(50)]
    results = run_all(jobs, now=Clock(), cancel=lambda: None, done=lambda _: None, workers=3)
    assert results == list(range(50))
    nothing: list[Callable[[], int]] = []
    assert run_all(nothing, now=Clock(), cancel=lambda: None, done=lambda _: None) == []


def test_a_stopwatch_adds_up() -> None:
    times = iter([0.0, 1.0, 3.0, 10.0, 10.5])
    watch = Stopwatch(lambda: next(times))
    watch.lap("a")
    watch.lap("b")
    watch.start()
    watch.lap("a")
    assert watch.steps == (Step(name="a", seconds=1.5, times=2), Step(name="b", seconds=2.0, times=1))


def test_errors_of_all_kinds_have_a_code() -> None:
    assert isinstance(REFUSED, IscsiBootError)
    assert World(broken={"10.0.0.1": REFUSED}).run("10.0.0.1", NAME).exit_code == ExitCode.TRANS_TIMEOUT
