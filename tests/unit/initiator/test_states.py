# SPDX-License-Identifier: LGPL-2.1-or-later
"""The table of the login: every cell is entered by some conversation, every gap is refused, nothing leaves it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from iscsiboot.errors import ExitCode
from iscsiboot.initiator.errors import LoginError, Misuse
from iscsiboot.initiator.login import LoginMachine
from iscsiboot.initiator.pdu.login import LoginResponse
from iscsiboot.initiator.states import STARTS, TRANSITIONS, WAITING, Event, State
from tests.doubles.conversation import OWN, USER, config, credentials, fixed_entropy
from tests.doubles.target import Reply, Script, ScriptedTarget

FINAL = {State.SUCCEEDED, State.REDIRECTED, State.FAILED}


def bring_to(state: State) -> tuple[LoginMachine, ScriptedTarget, Reply]:
    """A machine that waits in ``state``, its target, and the honest answer that is due."""
    chap = state is not State.OPERATIONAL
    script = Script(user=USER, own=OWN, hesitate=1) if chap else Script()
    machine = LoginMachine(config(credentials=credentials(mutual=True) if chap else None), entropy=fixed_entropy)
    target = ScriptedTarget(script)
    machine.start()
    while True:
        request = machine.next_request()
        assert request is not None
        reply = target.receive(*request)
        if machine.state is state:
            return machine, target, reply
        give(machine, reply)


def give(machine: LoginMachine, reply: Reply) -> None:
    wire = reply.wire()
    machine.receive(wire[:48], wire[48:])


def answer(state: State, event: Event, reply: Reply) -> Reply:
    """The honest reply bent until it is ``event``."""
    if event is Event.REDIRECTED:
        return replace(reply.changed(status_class=1, status_detail=1, transit=False), text=b"TargetAddress=192.0.2.3\0")
    if event is Event.REFUSED:
        return reply.changed(status_class=3, status_detail=1, transit=False)
    if event is Event.CONTINUED:
        return replace(reply.changed(cont=True, transit=False, nsg=0), text=b"Target")
    moved = event is Event.MOVED
    nsg = (3 if reply.response.csg else 1) if moved else 0
    return reply.changed(transit=moved, nsg=nsg, cont=False)


def test_the_table_knows_every_waiting_state_and_leads_somewhere() -> None:
    assert set(TRANSITIONS) == WAITING
    assert set(State) == WAITING | FINAL | {State.READY}
    reachable = {state for row in TRANSITIONS.values() for cell in row.values() for state in cell.leads_to}
    assert reachable == set(State) - {State.READY}
    for row in TRANSITIONS.values():
        assert all(cell.leads_to for cell in row.values())


def test_starting_leads_where_the_table_says() -> None:
    reached = set()
    for creds in (None, credentials(), credentials(mutual=True)):
        machine = LoginMachine(config(credentials=creds), entropy=fixed_entropy)
        assert machine.state is State.READY
        machine.start()
        reached.add(machine.state)
    assert reached == STARTS


# AUTH_METHOD with MOVED is legal only for one-way CHAP at a target without authentication: test_login visits it.
CELLS = [
    (state, event)
    for state in State
    for event in Event
    if state in WAITING and event in TRANSITIONS[state] and (state, event) != (State.AUTH_METHOD, Event.MOVED)
]
GAPS = [(state, event) for state in State for event in Event if state in WAITING and event not in TRANSITIONS[state]]


@pytest.mark.parametrize(("state", "event"), CELLS, ids=str)
def test_every_cell(state: State, event: Event) -> None:
    machine, _, reply = bring_to(state)
    bent = answer(state, event, reply)
    if State.FAILED in TRANSITIONS[state][event].leads_to:
        with pytest.raises(LoginError) as caught:
            give(machine, bent)
        assert caught.value.exit_code == ExitCode.LOGIN
    else:
        give(machine, bent)
    assert machine.state in TRANSITIONS[state][event].leads_to
    waits = machine.state in WAITING
    assert (machine.next_request() is not None) == waits
    assert (machine.outcome is not None) == (machine.state in FINAL - {State.FAILED})


def test_the_cell_left_out_above() -> None:
    machine = LoginMachine(config(credentials=credentials()), entropy=fixed_entropy)
    machine.start()
    request = machine.next_request()
    assert request is not None
    give(machine, ScriptedTarget().receive(*request))
    assert {machine.state} == TRANSITIONS[State.AUTH_METHOD][Event.MOVED].leads_to


def test_the_gaps_are_those_we_mean() -> None:
    assert GAPS == [(State.CHALLENGE, Event.MOVED)]


@pytest.mark.parametrize(("state", "event"), GAPS, ids=str)
def test_every_gap_is_refused(state: State, event: Event) -> None:
    machine, _, reply = bring_to(state)
    with pytest.raises(LoginError):
        give(machine, answer(state, event, reply))
    assert machine.state is State.FAILED


def test_a_gap_is_refused_by_the_table_too() -> None:
    """The check of the T bit comes first; this takes it away to see that the table holds alone."""
    machine, _, reply = bring_to(State.CHALLENGE)
    conversation = machine._conversation
    conversation._offered = conversation._nsg = type(conversation.stage)(1)
    with pytest.raises(LoginError, match="moves to the next stage, and the login waits for a CHAP challenge"):
        give(machine, answer(State.CHALLENGE, Event.MOVED, reply))


@pytest.mark.parametrize("state", [state for state in State if state in WAITING], ids=str)
def test_no_other_pdu_is_taken_in_any_state(state: State) -> None:
    for first in range(256):
        if first & 0x3F == 0x23:
            continue
        machine, _, _ = bring_to(state)
        with pytest.raises(LoginError):
            machine.receive(bytes([first]) + bytes(47), b"")
        assert machine.state is State.FAILED


@pytest.mark.parametrize("state", [state for state in State if state in WAITING], ids=str)
def test_a_response_that_is_all_zero_is_refused_or_moves_nothing(state: State) -> None:
    machine, _, _ = bring_to(state)
    zero = LoginResponse().encode()
    try:
        machine.receive(zero, b"")
    except LoginError:
        pass
    assert machine.state in {State.FAILED, State.LEAVE_SECURITY}


def test_chap_cannot_go_on_that_never_began() -> None:
    machine = LoginMachine(config(credentials=credentials()), entropy=fixed_entropy)
    machine.start()
    machine._state = State.CHALLENGE
    with pytest.raises(Misuse, match="never began"):
        machine.receive(LoginResponse(isid=config().isid).encode(), b"")
