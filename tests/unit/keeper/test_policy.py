# SPDX-License-Identifier: LGPL-2.1-or-later
"""The policy's table: every cell is walked with every kind of situation, and what matters most is spelled out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import get_args

import pytest

from iscsiboot.keeper import policy
from iscsiboot.keeper.backoff import OWED_MAX, SOON, STEADY
from iscsiboot.keeper.break_words import wish_cause
from iscsiboot.keeper.log import Level
from iscsiboot.keeper.situation import (
    Action,
    Asked,
    Broke,
    Decision,
    Due,
    Failed,
    Failure,
    Happening,
    LeavingFailed,
    Line,
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
from iscsiboot.keeper.telling import SHUTDOWN
from iscsiboot.keeper.values import Role

ROOT = Role(system=("sda is mounted on /",), carries=("/",))
DATA = Role()
NOW = 1000.0

HAPPENINGS: tuple[Happening, ...] = (
    Broke(),
    Broke(1020),
    Broke(1018),
    Stopped(),
    StopFailed(22),
    Due(),
    Succeeded(2.0),
    Succeeded(0.0, address_changed=True),
    *(Failed(failure, "connect: no answer") for failure in Failure),
    *(Asked(wish, 3.0, 5.0) for wish in TargetWish),
    Asked(TargetWish.LOGOUT),
    NetworkChanged(),
    SecretsChanged(),
    OrderedToLeave(),
    OrderedToLeave(force=True),
    OrderedToReconnect(),
    LeavingFailed("DESTROY_SESSION: EBUSY"),
    Vanished(),
    RoleChanged(ROOT),
    RoleChanged(DATA),
)


def situations() -> Iterator[Situation]:
    """Situations of every shape that may stand in a phase."""
    shapes = product(
        Phase,
        (ROOT, DATA),
        (0, 2),
        (0.0, 4.0),
        (None, Failure.UNREACHABLE, Failure.DENIED),
        (None, 1020),
        (False, True),
        (None, NOW - 1, NOW + 5),
        (0, 2),
    )
    for phase, role, reopen_max, owed, failure, broke, leaving, wake, short in shapes:
        yield Situation(
            phase=phase,
            role=role,
            since=NOW - 20,
            wake=wake,
            broken_at=None if phase is Phase.UP else NOW - 60,
            attempts=0 if phase is Phase.UP else 3,
            owed_wait=owed,
            reopen_max=reopen_max,
            failure=failure,
            repeats=0 if failure is None else 2,
            recoveries=1 if short else 0,
            broke=broke if phase is Phase.TRYING else None,
            leaving=leaving if phase is Phase.STOPPING else phase is Phase.LEAVING,
            short_lives=short,
        )


SITUATIONS = tuple(situations())
WORK = {Phase.STOPPING: Action.STOP, Phase.TRYING: Action.TRY}
LEAVES = {Action.LEAVE, Action.LEAVE_AT_ONCE}


def decide(situation: Situation, happening: Happening, now: float = NOW, chance: float = 0.5) -> Decision:
    return policy.decide(situation, happening, now=now, chance=chance)


def due(situation: Situation) -> Decision:
    """When its time is here."""
    assert situation.wake is not None
    return decide(situation, Due(), now=max(NOW, situation.wake))


def broken(role: Role = ROOT, reopen_max: int = 0) -> Situation:
    """A session in its first attempt after a break at NOW."""
    situation = decide(policy.begin(now=0.0, role=role, reopen_max=reopen_max), Broke(1020)).situation
    return decide(situation, Stopped()).situation


def test_the_table_has_every_cell() -> None:
    assert set(policy.COLUMNS) == set(get_args(Happening))
    for column in policy.COLUMNS.values():
        assert set(column.cells) == set(Phase)
        assert column.what
        assert all(cell.what for cell in column.cells.values())
    assert set(policy.PHASES) == set(Phase)
    assert set(policy.FAILURES) == set(Failure)


def test_every_kind_of_happening_is_walked() -> None:
    assert {type(happening) for happening in HAPPENINGS} == set(policy.COLUMNS)


@pytest.mark.parametrize("kind", policy.COLUMNS, ids=lambda kind: str(kind.__name__))
def test_a_cell_leads_where_it_says_and_nowhere_else(kind: type[Happening]) -> None:
    reached: dict[Phase, set[Phase]] = {phase: set() for phase in Phase}
    for situation, happening in product(SITUATIONS, [one for one in HAPPENINGS if type(one) is kind]):
        after = decide(situation, happening).situation.phase
        if after is not situation.phase:
            reached[situation.phase].add(after)
    assert reached == {phase: set(cell.leads_to) for phase, cell in policy.COLUMNS[kind].cells.items()}


@pytest.mark.parametrize("kind", policy.COLUMNS, ids=lambda kind: str(kind.__name__))
def test_what_does_nothing_changes_nothing(kind: type[Happening]) -> None:
    quiet = {phase for phase, cell in policy.COLUMNS[kind].cells.items() if cell.what.startswith("nothing: ")}
    changed = set()
    for situation, happening in product(SITUATIONS, [one for one in HAPPENINGS if type(one) is kind]):
        decision = decide(situation, happening)
        if situation.phase in quiet:
            assert decision == Decision(situation)
        elif decision != Decision(situation):
            changed.add(situation.phase)
    assert changed == set(Phase) - quiet


@pytest.mark.parametrize("chance", [0.0, 0.999])
def test_work_is_begun_as_the_phase_says(chance: float) -> None:
    """Entering STOPPING, TRYING or LEAVING begins its work unless a time is set for it; nothing else begins any."""
    for situation, happening in product(SITUATIONS, HAPPENINGS):
        decision = decide(situation, happening, chance=chance)
        after, actions = decision.situation, decision.actions
        work = [action for action in actions if action in (Action.STOP, Action.TRY, *LEAVES)]
        assert len(work) <= 1
        if after.phase is not situation.phase:
            assert bool(work) is (after.phase in (Phase.STOPPING, Phase.TRYING, Phase.LEAVING)), (situation, happening)
            assert (after.phase is Phase.WAITING) <= (after.wake is not None)
        if work:
            assert after.wake is None
            assert work[0] in LEAVES if after.phase is Phase.LEAVING else work[0] is WORK[after.phase]
        if situation.phase is Phase.TRYING and (after.phase in (Phase.LEAVING, Phase.GONE) or Action.TRY in actions):
            # A failed or finished attempt needs no end.
            assert (Action.CANCEL in actions) is not isinstance(happening, Failed)
        else:
            assert Action.CANCEL not in actions
        if after.phase is Phase.UP and situation.phase is not Phase.UP:
            assert actions == (Action.SET_TIMERS, Action.BRING_UNITS_BACK)


def test_a_line_is_one_line_and_says_something() -> None:
    for situation, happening in product(SITUATIONS, HAPPENINGS):
        for line in decide(situation, happening).lines:
            assert line.text or line.head == SHUTDOWN
            assert line.text.isprintable()
            assert line.head.format(sid=1, place="[x]", iface="y").isprintable()
            assert Level.ERROR <= line.level <= Level.NOTICE


# A break. -------------------------------------------------------------------------------------------------------------


def test_a_break_of_a_healthy_session_is_tried_at_once() -> None:
    decision = decide(policy.begin(now=0.0, role=ROOT), Broke(1020))
    assert decision.actions == (Action.STOP,)
    assert [f"{line.head}: {line.text}" for line in decision.lines] == [
        "Kernel reported iSCSI connection {sid}:0 error (1020 - ISCSI_ERR_TCP_CONN_CLOSE: the target closed the "
        "connection) state (3) {place}: connecting again"
    ]
    decision = decide(decision.situation, Stopped())
    assert decision.actions == (Action.TRY,)
    assert decision.situation.attempts == 1
    decision = decide(decision.situation, Succeeded(5.0), now=NOW + 0.25)
    assert decision.situation.phase is Phase.UP
    assert decision.situation.wake is None
    assert decision.situation.time2wait == 5.0
    assert decision.situation.recoveries == 1
    assert [f"{line.head}: {line.text}" for line in decision.lines] == [
        "connection{sid}:0 is operational after recovery (1 attempts) {place}: it took 0.2 s"
    ]


def test_time2wait_is_not_waited_for_after_a_break() -> None:
    situation = decide(policy.begin(now=0.0, time2wait=30.0), Broke(1011)).situation
    assert decide(situation, Stopped()).actions == (Action.TRY,)


@pytest.mark.parametrize("phase", [Phase.UP, Phase.STOPPING, Phase.WAITING, Phase.TRYING])
@pytest.mark.parametrize("role", [ROOT, DATA])
def test_a_host_that_goes_away_ends_the_session(phase: Phase, role: Role) -> None:
    decision = decide(Situation(phase=phase, role=role, wake=NOW + 1), Broke(1018))
    assert decision.situation.phase is Phase.LEAVING
    assert decision.actions[-1] is Action.LEAVE_AT_ONCE
    assert decision.lines[0].level is Level.ERROR
    assert "(1018 - ISCSI_ERR_INVALID_HOST: " in decision.lines[0].head


def test_a_connection_that_breaks_as_it_starts_is_not_believed() -> None:
    situation = decide(broken(), Broke(1020)).situation
    assert situation.phase is Phase.TRYING
    decision = decide(situation, Succeeded(2.0))
    assert decision.situation.phase is Phase.STOPPING
    assert decision.actions == (Action.STOP,)
    assert decide(decision.situation, Stopped()).situation.wake is not None


def test_sysfs_calls_every_connection_in_the_making_down() -> None:
    situation = decide(broken(), Broke()).situation
    assert decide(situation, Succeeded(2.0)).situation.phase is Phase.UP


def test_the_error_of_an_attempt_dies_with_it() -> None:
    situation = decide(broken(), Broke(1020)).situation
    situation = decide(situation, Failed(Failure.BROKEN, "login: gone")).situation
    situation = due(situation).situation
    assert decide(situation, Succeeded(2.0)).situation.phase is Phase.UP


def test_a_stop_that_is_refused_is_asked_for_again() -> None:
    situation = decide(policy.begin(now=0.0), Broke(1020)).situation
    times = []
    for _ in range(6):
        decision = decide(situation, StopFailed(16))
        assert decision.situation.phase is Phase.STOPPING
        assert decision.actions == ()
        assert decision.situation.wake is not None
        times.append(decision.situation.wake - NOW)
        again = due(decision.situation)
        assert again.actions == (Action.STOP,)
        situation = again.situation
    assert times == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]
    assert "EBUSY" in situation.words


# The target's wishes. -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "wait", "owed", "polite"),
    [
        (TargetWish.LOGOUT, 0.0, 2.0, True),
        (TargetWish.LOGOUT, 7.0, 7.0, True),
        (TargetWish.DROP_CONNECTION, 4.0, 4.0, False),
        (TargetWish.DROP_ALL, 0.0, 0.0, False),
        (TargetWish.DROP_ALL, 65535.0, OWED_MAX, False),
        (TargetWish.DROP_ALL, -3.0, 0.0, False),
        (TargetWish.RENEGOTIATE, 0.0, 0.0, True),
    ],
)
def test_what_the_target_asks_for_is_done(wish: TargetWish, wait: float, owed: float, polite: bool) -> None:
    decision = decide(policy.begin(now=0.0, role=ROOT, time2wait=2.0), Asked(wish, wait, 3.0))
    assert decision.actions == ((Action.SAY_GOODBYE, Action.STOP) if polite else (Action.STOP,))
    assert decision.lines[0].text == f"{wish_cause(Asked(wish, wait, 3.0)).words}; connecting again"
    after = decide(decision.situation, Stopped()).situation
    assert after.phase is (Phase.WAITING if owed else Phase.TRYING)
    assert after.wake == (NOW + owed if owed else None)
    if owed:
        assert decide(after, Due(), now=NOW + owed).actions == (Action.TRY,)


def test_a_target_that_asks_to_stay_away_is_left_alone_by_all_but_an_order() -> None:
    situation = decide(policy.begin(now=0.0), Asked(TargetWish.DROP_ALL, 30.0)).situation
    situation = decide(situation, Stopped()).situation
    for happening in (NetworkChanged(), SecretsChanged(), RoleChanged(ROOT)):
        after = decide(situation, happening, now=NOW + 20)
        assert after.actions == ()
        assert after.situation.wake == NOW + 30
    assert decide(situation, OrderedToReconnect()).actions == (Action.TRY,)


def test_the_wait_is_consumed_once() -> None:
    situation = decide(policy.begin(now=0.0, role=ROOT), Asked(TargetWish.DROP_ALL, 30.0)).situation
    situation = decide(decide(situation, Stopped()).situation, Due(), now=NOW + 30).situation
    failed = decide(situation, Failed(Failure.UNREACHABLE, "refused"), now=NOW + 30).situation
    assert failed.wake is not None
    assert failed.wake <= NOW + 31


def test_a_target_that_drops_us_after_each_login_is_not_logged_in_to_without_end() -> None:
    now, situation, attempts = NOW, policy.begin(now=0.0, role=ROOT), 0
    while now < NOW + 60:
        situation = decide(situation, Broke(1020), now=now).situation
        situation = decide(situation, Stopped(), now=now).situation
        if situation.phase is Phase.WAITING:
            assert situation.wake is not None
            now = situation.wake
            situation = decide(situation, Due(), now=now).situation
        attempts += 1
        now += 0.01
        situation = decide(situation, Succeeded(0.0), now=now).situation
        now += 0.01
    assert 60 <= attempts <= 85


# Failed attempts. -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999999])
def test_root_is_tried_every_second_while_the_target_is_away(chance: float) -> None:
    situation = broken()
    for number in range(2000):
        situation = decide(situation, Failed(Failure.UNREACHABLE, "refused"), chance=chance).situation
        assert situation.wake is not None
        assert 0 < situation.wake - NOW <= 1.0
        assert situation.attempts == number + 1
        situation = due(situation).situation


@pytest.mark.parametrize("failure", [Failure.DENIED, Failure.REFUSED])
def test_a_refusal_reads_the_record_again(failure: Failure) -> None:
    decision = decide(broken(), Failed(failure, "no"))
    assert decision.actions == (Action.RENEW,)
    changed = decide(decision.situation, SecretsChanged(), now=NOW + SOON)
    assert changed.actions == (Action.TRY,)


def test_another_failure_is_waited_for_anew() -> None:
    situation = broken(DATA)
    for _ in range(200):
        situation = decide(situation, Failed(Failure.UNREACHABLE, "refused")).situation
        situation = due(situation).situation
    situation = decide(situation, Failed(Failure.BUSY, "out of resources")).situation
    assert situation.wake == NOW + 0.5


def test_a_network_that_changes_is_tried_at_once_but_no_more_than_twice_a_second() -> None:
    situation = decide(broken(DATA), Failed(Failure.UNREACHABLE, "no route")).situation
    situation = decide(replace(situation, wake=NOW + 8), NetworkChanged(), now=NOW + 0.1).situation
    assert (situation.phase, situation.wake) == (Phase.WAITING, NOW + SOON)
    decision = decide(replace(situation, wake=NOW + 8), NetworkChanged(), now=NOW + 3)
    assert decision.actions == (Action.TRY,)


@pytest.mark.parametrize("failure", [Failure.DENIED, Failure.REFUSED, Failure.BUSY, Failure.UNAVAILABLE])
def test_a_network_that_changes_changes_no_answer(failure: Failure) -> None:
    situation = decide(broken(), Failed(failure, "no")).situation
    assert decide(situation, NetworkChanged(), now=NOW + 3).situation == situation


def test_a_record_that_changes_while_an_attempt_is_at_work() -> None:
    situation = decide(broken(), SecretsChanged()).situation
    failed = decide(situation, Failed(Failure.DENIED, "no")).situation
    assert failed.wake == NOW + SOON
    again = decide(due(failed).situation, Failed(Failure.DENIED, "no")).situation
    assert again.wake is not None
    assert again.wake > NOW + 10


def test_a_session_with_a_limit_is_given_up_not_before_open_iscsi_would() -> None:
    situation, now = broken(DATA, reopen_max=3), NOW
    for _ in range(2):
        now += 1
        situation = decide(situation, Failed(Failure.UNREACHABLE, "refused"), now=now).situation
        assert situation.wake is not None
        now = situation.wake
        situation = decide(situation, Due(), now=now).situation
    assert decide(situation, Failed(Failure.UNREACHABLE, "refused"), now=NOW + 8.9).situation.phase is Phase.WAITING
    decision = decide(situation, Failed(Failure.UNREACHABLE, "refused"), now=NOW + 9)
    assert decision.situation.phase is Phase.LEAVING
    assert decision.actions == (Action.LEAVE_AT_ONCE,)
    assert decision.lines[0].level is Level.ERROR
    assert "after 3 attempts" in decision.lines[0].text


@pytest.mark.parametrize("role", [ROOT, replace(ROOT, multipath=True)])
def test_what_the_system_stands_on_is_never_given_up(role: Role) -> None:
    situation = broken(role, reopen_max=1)
    for failure in Failure:
        assert decide(situation, Failed(failure, "no"), now=NOW + 1e6).situation.phase is Phase.WAITING


# Orders. --------------------------------------------------------------------------------------------------------------


def test_a_reconnection_by_order_waits_for_nothing() -> None:
    decision = decide(policy.begin(now=NOW - 1, role=ROOT), OrderedToReconnect())
    assert decision.actions == (Action.STOP,)
    assert decide(decision.situation, Stopped()).actions == (Action.TRY,)
    assert decide(broken(), OrderedToReconnect()).actions == (Action.CANCEL, Action.TRY)
    away = decide(policy.begin(now=0.0), Asked(TargetWish.DROP_ALL, 30.0)).situation
    assert decide(decide(away, OrderedToReconnect()).situation, Stopped()).actions == (Action.TRY,)


def test_a_logout_waits_for_a_stop_at_work() -> None:
    stopping = decide(policy.begin(now=0.0), Broke(1020)).situation
    waiting = decide(stopping, OrderedToLeave())
    assert (waiting.actions, waiting.situation.phase) == ((), Phase.STOPPING)
    for happening in (Stopped(), StopFailed(22)):
        assert decide(waiting.situation, happening).actions == (Action.LEAVE,)
    assert decide(waiting.situation, OrderedToLeave(force=True)).actions == (Action.LEAVE_AT_ONCE,)
    refused = decide(stopping, StopFailed(22)).situation
    assert decide(refused, OrderedToLeave()).actions == (Action.LEAVE,)


def test_who_is_late_changes_nothing() -> None:
    stopping = decide(policy.begin(now=0.0), Broke(1020)).situation
    refused = decide(stopping, StopFailed(16)).situation
    leaving = decide(policy.begin(now=0.0), OrderedToLeave()).situation
    staying = decide(leaving, LeavingFailed("EBUSY")).situation
    waiting = decide(broken(), Failed(Failure.UNREACHABLE, "refused")).situation
    assert refused.wake == NOW + 0.5
    for situation, happening in (
        (stopping, Due()),
        (refused, Stopped()),
        (refused, StopFailed(16)),
        (leaving, Due()),
        (staying, LeavingFailed("EBUSY")),
        # A timer for an earlier time than the one that counts now.
        (refused, Due()),
        (staying, Due()),
        (waiting, Due()),
    ):
        assert decide(situation, happening) == Decision(situation)


def test_what_cannot_be_removed_is_removed_later() -> None:
    situation = decide(policy.begin(now=0.0), OrderedToLeave()).situation
    lines: list[Line] = []
    for _ in range(50):
        decision = decide(situation, LeavingFailed("DESTROY_SESSION: EBUSY"))
        assert decision.situation.wake is not None
        lines += decision.lines
        again = due(decision.situation)
        assert again.actions == (Action.LEAVE_AT_ONCE,)
        situation = again.situation
    assert len(lines) == 1
    assert "EBUSY" in lines[0].text
    assert decide(situation, Vanished()).situation.phase is Phase.GONE


@pytest.mark.parametrize(("role", "level"), [(ROOT, Level.ERROR), (DATA, Level.WARNING)])
def test_a_session_somebody_else_removed_is_told(role: Role, level: Level) -> None:
    decision = decide(policy.begin(now=0.0, role=role), Vanished())
    assert [line.level for line in decision.lines] == [level]
    assert decide(broken(role), Vanished()).actions == (Action.CANCEL,)


# Roles. ---------------------------------------------------------------------------------------------------------------


def test_a_role_sets_the_timers_of_a_working_session_when_it_is_another() -> None:
    situation = policy.begin(now=0.0)
    assert decide(situation, RoleChanged(DATA)).actions == ()
    decision = decide(situation, RoleChanged(ROOT))
    assert decision.actions == (Action.SET_TIMERS,)
    assert decision.situation.role == ROOT


@pytest.mark.parametrize("phase", [Phase.STOPPING, Phase.WAITING, Phase.TRYING])
def test_a_role_that_changes_in_a_recovery_comes_with_its_end(phase: Phase) -> None:
    wake = NOW + 5 if phase is Phase.WAITING else None
    decision = decide(Situation(phase=phase, wake=wake), RoleChanged(ROOT))
    assert decision.actions == ()
    assert decision.situation.role == ROOT


def test_data_that_turns_out_to_be_root_waits_as_root() -> None:
    situation = decide(broken(DATA), Failed(Failure.UNREACHABLE, "refused")).situation
    situation = decide(replace(situation, wake=NOW + 8), RoleChanged(ROOT)).situation
    assert situation.wake == NOW + 0.8
    assert decide(situation, RoleChanged(DATA)).situation.wake == NOW + 0.8
    sooner = replace(situation, role=DATA, wake=NOW + 0.1)
    assert decide(sooner, RoleChanged(ROOT)).situation.wake == NOW + 0.1


def test_a_connection_that_holds_again_is_told_once() -> None:
    situation = broken()
    situation = decide(situation, Succeeded(2.0)).situation
    situation = decide(situation, Broke(1020), now=NOW + 1).situation
    situation = decide(decide(situation, Stopped(), now=NOW + 1).situation, Due(), now=NOW + 2).situation
    decision = decide(situation, Succeeded(2.0), now=NOW + 2)
    assert decision.lines == ()
    assert decision.situation.wake == NOW + 2 + STEADY
    steady = decide(decision.situation, Due(), now=NOW + 2 + STEADY)
    assert [line.text for line in steady.lines] == ["the connection holds again (2 breaks in 32 s)"]
    assert steady.situation.wake is None
    assert decide(steady.situation, Broke(1020), now=NOW + 100).lines[0].text == "connecting again"
