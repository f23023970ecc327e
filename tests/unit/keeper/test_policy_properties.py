# SPDX-License-Identifier: LGPL-2.1-or-later
"""What holds for every world a session may live in: hypothesis plays target, kernel, network and people.

A small driver carries out what the policy says, as keeper.guard does, over a clock of its own: work takes time, ends as
the drawn world says, and happenings come in between, early, late and twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from iscsiboot.keeper import policy
from iscsiboot.keeper.backoff import OWED_MAX, STEADY
from iscsiboot.keeper.situation import (
    Action,
    Asked,
    Broke,
    Due,
    Failed,
    Failure,
    Happening,
    LeavingFailed,
    NetworkChanged,
    OrderedToLeave,
    OrderedToReconnect,
    Phase,
    RoleChanged,
    SecretsChanged,
    Situation,
    StopFailed,
    Stopped,
    Succeeded,
    TargetWish,
    Vanished,
)
from iscsiboot.keeper.values import Role

ROOT = Role(system=("sda is mounted on /",), carries=("/",))
DATA = Role()
ROLES = st.sampled_from([ROOT, DATA, Role(multipath=True), Role(system=ROOT.system, carries=("/",), multipath=True)])
LEAVES = (Action.LEAVE, Action.LEAVE_AT_ONCE)

AROUND = st.one_of(
    st.builds(Broke, st.sampled_from([0, 1011, 1020, 1022, 1099])),
    st.just(NetworkChanged()),
    st.just(SecretsChanged()),
    st.just(OrderedToReconnect()),
    st.builds(Asked, st.sampled_from(list(TargetWish)), st.floats(-5, 70000), st.floats(0, 5)),
    st.builds(RoleChanged, ROLES),
)
"""What may come at any time but an order to leave."""
LATE = st.sampled_from([Stopped(), StopFailed(22), Due(), Succeeded(2.0), LeavingFailed("late")])
OUTCOMES = st.one_of(
    st.builds(Failed, st.sampled_from(list(Failure)), st.just("connect: 10.0.0.1:3260: refused; next: look")),
    st.builds(Succeeded, st.floats(0, 60)),
)

STOPS: st.SearchStrategy[Happening] = st.sampled_from([Stopped(), StopFailed(16)])


@dataclass
class World:
    """A driver, a clock, and what becomes of work."""

    situation: Situation
    chance: float = 0.5
    now: float = 1000.0
    work: Action | None = None
    lines: list[tuple[float, str]] = field(default_factory=list)
    begun: list[Action] = field(default_factory=list)

    def happens(self, happening: Happening) -> None:
        decision = policy.decide(self.situation, happening, now=self.now, chance=self.chance)
        self.situation = decision.situation
        self.lines += [(self.now, line.text) for line in decision.lines]
        for action in decision.actions:
            if action is Action.CANCEL:
                assert self.work is Action.TRY, "there was nothing to cancel"
                self.work = None
            elif action in (Action.STOP, Action.TRY, *LEAVES):
                harder = action is Action.LEAVE_AT_ONCE and self.work in (*LEAVES, Action.STOP)
                assert self.work is None or harder, f"{action} while {self.work} is at work"
                self.work = action
                self.begun.append(action)
        self.check()

    def check(self) -> None:
        """Nothing is ever forgotten."""
        phase, wake = self.situation.phase, self.situation.wake
        if phase is Phase.WAITING:
            assert wake is not None
            assert self.work is None
        elif phase in (Phase.STOPPING, Phase.LEAVING):
            assert (wake is None) is (self.work is not None)
        elif phase is Phase.TRYING:
            assert self.work is Action.TRY
        else:
            assert self.work is None
        if wake is not None:
            assert wake <= self.now + max(OWED_MAX, STEADY)

    def step(self, outcome: Happening, seconds: float = 0.01) -> None:
        """The work at hand ends so, or time passes to the next Due."""
        if self.work is not None:
            self.now += seconds
            self.work = None
            self.happens(outcome)
        elif self.situation.wake is not None:
            self.now = max(self.now, self.situation.wake)
            self.happens(Due())

    def go_on(self, answer: Callable[[Action], Happening], until: Callable[[], bool], steps: int) -> None:
        for _ in range(steps):
            if until():
                return
            self.step(Stopped() if self.work is None else answer(self.work))
        assert until(), self.situation


def refused(work: Action) -> Happening:
    """How a kernel ends removals it will not do."""
    return Stopped() if work is Action.STOP else LeavingFailed("DESTROY_SESSION: EBUSY")


def ends(outcome: Happening) -> Callable[[Action], Happening]:
    """Work as the kernel does it when it does what it is asked for; an attempt ends with ``outcome``."""
    return lambda work: Stopped() if work is Action.STOP else outcome


@st.composite
def worlds(draw: st.DrawFn, role: Role | None = None) -> World:
    """A world somewhere in a long life without an order to leave."""
    start = policy.begin(
        now=1000.0,
        role=role or draw(ROLES),
        time2wait=draw(st.floats(0, 60)),
        reopen_max=draw(st.sampled_from([0, 0, 3])),
    )
    world = World(start, chance=draw(st.floats(0, 1, exclude_max=True)))
    for _ in range(draw(st.integers(0, 40))):
        if draw(st.booleans()):
            world.now += draw(st.floats(0, 40))
            happening = draw(AROUND)
            if role is None or not isinstance(happening, RoleChanged):
                world.happens(happening)
        elif world.work is Action.STOP:
            world.step(draw(STOPS), draw(st.floats(0, 5)))
        elif world.work is Action.TRY:
            world.step(draw(OUTCOMES), draw(st.floats(0, 30)))
        elif world.work is not None:
            world.step(LeavingFailed("DESTROY_SESSION: EBUSY"))
        else:
            world.step(Stopped())
    return world


@given(worlds())
def test_nothing_is_ever_forgotten_and_no_work_is_done_twice(world: World) -> None:
    world.check()


@given(worlds(), LATE)
@settings(max_examples=300)
def test_late_words_harm_nobody(world: World, late: Happening) -> None:
    """Words about work that is over, or a timer that was armed before: nothing changes and nothing is begun."""
    about = {Stopped: (Action.STOP,), StopFailed: (Action.STOP,), Succeeded: (Action.TRY,), LeavingFailed: LEAVES}
    due = isinstance(late, Due) and world.situation.wake is not None and world.now >= world.situation.wake
    if not due and world.work not in about.get(type(late), ()):
        before, begun = world.situation, len(world.begun)
        world.happens(late)
        assert world.situation == before
        assert len(world.begun) == begun


@given(worlds(role=ROOT))
def test_what_the_system_stands_on_is_never_given_up(world: World) -> None:
    assert not set(world.begun) & set(LEAVES)
    assert world.situation.phase not in (Phase.LEAVING, Phase.GONE)


@given(worlds(role=ROOT))
def test_root_is_back_soon_after_its_target_is(world: World) -> None:
    """Whatever was before: once attempts succeed it takes the pause at hand, and no more than one attempt."""
    began, pause = world.now, (world.situation.wake or world.now) - world.now
    world.begun.clear()
    world.go_on(ends(Succeeded(2.0)), lambda: world.situation.phase is Phase.UP, 8)
    assert world.now <= began + max(0.0, pause) + OWED_MAX + 1
    assert world.begun.count(Action.TRY) <= 2


@given(worlds(role=ROOT), st.integers(2, 200))
def test_an_unreachable_target_of_root_is_tried_each_second(world: World, times: int) -> None:
    failed = Failed(Failure.UNREACHABLE, "connect: refused")
    if world.situation.phase is Phase.UP:
        world.happens(Broke(1020))
    world.go_on(ends(failed), lambda: world.situation.failure is Failure.UNREACHABLE, 12)
    if world.situation.phase is Phase.TRYING:
        world.step(failed)
    began, tries = world.now, world.begun.count(Action.TRY)
    for _ in range(2 * times):
        world.step(failed, 0.0)
    assert world.begun.count(Action.TRY) - tries == times
    assert world.now - began <= times + 1


@given(worlds(), st.booleans(), st.lists(st.one_of(AROUND, LATE), max_size=20), st.integers(0, 10))
def test_leaving_always_ends(world: World, force: bool, between: list[Happening], refusals: int) -> None:
    """Once somebody wants it gone it is never logged in to again, and it goes as soon as the kernel lets it."""
    world.happens(OrderedToLeave(force=force))
    begun = len(world.begun)
    for happening in between:
        if world.work is None or isinstance(happening, Broke | NetworkChanged | SecretsChanged | OrderedToReconnect):
            world.happens(happening)
    for _ in range(refusals):
        world.step(Due() if world.work is None else refused(world.work))
    world.go_on(
        lambda work: Stopped() if work is Action.STOP else Vanished(),
        lambda: world.situation.phase is Phase.GONE,
        8,
    )
    assert Action.TRY not in world.begun[begun:]


@given(ROLES, st.sampled_from(list(Failure)), st.floats(0, 1, exclude_max=True))
@settings(max_examples=20, deadline=None)
def test_ten_minutes_without_a_target_are_three_lines(role: Role, failure: Failure, chance: float) -> None:
    world = World(policy.begin(now=1000.0, role=role), chance=chance)
    world.happens(Broke(1020))
    world.go_on(ends(Failed(failure, "connect: refused")), lambda: world.now > 1600, 5000)
    world.go_on(ends(Succeeded(2.0)), lambda: world.situation.phase is Phase.UP, 8)
    assert len(world.lines) == 3, world.lines


@given(st.lists(st.sampled_from(list(Failure)), min_size=1, max_size=7), st.floats(0, 1, exclude_max=True))
@settings(max_examples=8, deadline=None)
def test_a_week_of_changing_failures_is_a_page_of_lines(kinds: list[Failure], chance: float) -> None:
    world = World(policy.begin(now=0.0, role=DATA), chance=chance, now=0.0)
    world.happens(Broke(1020))
    number = 0
    while world.now < 7 * 86400:
        number += 1
        # Blocks of a kind, or each attempt another one.
        failure = kinds[(number // (number % 7 + 1)) % len(kinds)]
        world.step(Stopped() if world.work is Action.STOP else Failed(failure, "connect: refused"), 120.0)
    # The break, each kind once, 15 minutes, 1, 4 and 16 hours, then one a day.
    assert len(world.lines) <= 1 + len(set(kinds)) + 4 + 7


@given(st.floats(0, 29), st.floats(0, 1, exclude_max=True))
@settings(max_examples=12, deadline=None)
def test_a_connection_that_comes_and_goes_all_day_is_a_page_of_lines(up: float, chance: float) -> None:
    world = World(policy.begin(now=0.0, role=ROOT), chance=chance, now=0.0)
    for _ in range(1500):
        world.happens(Broke(1020))
        world.go_on(ends(Succeeded(2.0)), lambda: world.situation.phase is Phase.UP, 8)
        world.now += up
    assert len(world.lines) <= 2 + 4 + world.now / 86400
    world.go_on(ends(Succeeded(2.0)), lambda: world.situation.wake is None, 2)
    assert "holds again (1500 breaks" in world.lines[-1][1]


@given(worlds(), st.integers(1, 300))
@settings(max_examples=50)
def test_a_flood_of_changes_begins_no_flood_of_attempts(world: World, times: int) -> None:
    """A link that flaps, or a record that says something else with each reading, while nobody answers."""
    world.begun.clear()
    began = world.now
    for _ in range(times):
        world.now += 0.01
        world.happens(NetworkChanged())
        world.happens(SecretsChanged())
        if world.work is Action.TRY:
            world.step(Failed(Failure.UNREACHABLE, "no route"), 0.0)
    assert world.begun.count(Action.TRY) <= 2 + 2 * (world.now - began)
