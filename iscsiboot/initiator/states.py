# SPDX-License-Identifier: LGPL-2.1-or-later
"""The login as a table: state x event -> what is done, and which states may follow (RFC 7143 section 6.3).

RULE 1: an event without a cell in its state's row is a protocol error; nothing is tolerated by omission.
RULE 2: a PDU that is no Login Response (Reject, or anything else) ends the login in every state; it has no column.
RULE 3: the machine enters no state that the cell does not list. Tests walk every cell and every gap and hold it.

The initiator always waits for the answer to its last request, so a state is named after what was asked last.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """Where a login stands. The value completes "the login ..."."""

    READY = "has not started"
    AUTH_METHOD = "waits for the choice of an authentication method"
    CHALLENGE = "waits for a CHAP challenge"
    PROOF = "waits for the verdict on our CHAP response"
    LEAVE_SECURITY = "waits for the end of security negotiation"
    OPERATIONAL = "waits for operational parameters"
    SUCCEEDED = "has succeeded"
    REDIRECTED = "was redirected"
    FAILED = "has failed"


class Event(Enum):
    """What a PDU of the target amounts to. The value completes "the target ..."."""

    STAYED = "answered and stays in the stage"
    MOVED = "answered and moves to the next stage"
    CONTINUED = "announced more text"
    REDIRECTED = "sent us elsewhere"
    REFUSED = "refused the login"


class Action(Enum):
    """What the machine does; each is one method of it."""

    METHOD = "act on the chosen authentication method"
    RESPOND = "answer the CHAP challenge"
    VERIFY = "check the target's proof"
    LEAVE = "move on to operational negotiation"
    OPERATE = "take operational parameters"
    ENTER = "enter full feature phase"
    ASK_MORE = "ask for the rest of the text"
    REDIRECT = "give the other address"
    REFUSE = "report the status"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the table."""

    action: Action
    leads_to: frozenset[State]


def _cell(action: Action, *states: State) -> Cell:
    return Cell(action, frozenset(states))


_PROGRESS: dict[State, dict[Event, Cell]] = {
    State.AUTH_METHOD: {
        Event.STAYED: _cell(Action.METHOD, State.CHALLENGE, State.LEAVE_SECURITY),
        Event.MOVED: _cell(Action.METHOD, State.OPERATIONAL),
    },
    State.CHALLENGE: {
        Event.STAYED: _cell(Action.RESPOND, State.PROOF),
    },
    State.PROOF: {
        Event.STAYED: _cell(Action.VERIFY, State.LEAVE_SECURITY),
        Event.MOVED: _cell(Action.VERIFY, State.OPERATIONAL),
    },
    State.LEAVE_SECURITY: {
        Event.STAYED: _cell(Action.LEAVE, State.LEAVE_SECURITY),
        Event.MOVED: _cell(Action.LEAVE, State.OPERATIONAL),
    },
    State.OPERATIONAL: {
        Event.STAYED: _cell(Action.OPERATE, State.OPERATIONAL),
        Event.MOVED: _cell(Action.ENTER, State.SUCCEEDED),
    },
}

STARTS = frozenset({State.AUTH_METHOD, State.OPERATIONAL})
"""What :data:`State.READY` leads to: with credentials, without them."""

WAITING = frozenset(_PROGRESS)
"""States in which a PDU of the target is due."""

TRANSITIONS: dict[State, dict[Event, Cell]] = {
    state: {
        **row,
        Event.CONTINUED: _cell(Action.ASK_MORE, state),
        Event.REDIRECTED: _cell(Action.REDIRECT, State.REDIRECTED),
        Event.REFUSED: _cell(Action.REFUSE, State.FAILED),
    }
    for state, row in _PROGRESS.items()
}
"""The whole table; READY and the three final states take no PDU at all."""
