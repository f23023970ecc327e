# SPDX-License-Identifier: LGPL-2.1-or-later
"""The full feature phase as two tables: which PDUs a phase takes, and what a PDU does to the task it names.

RULE 1: a PDU without a cell in its phase's row is a protocol error that ends the session.
RULE 2: a PDU taken BY_TASK acts as the cell (kind of the task its initiator task tag names, opcode) says; without a
cell it is a protocol error too. A tag nobody gave out names a task of kind NEVER, which has no cell at all.
RULE 3: the machine is in FAILED after any error, and takes nothing then. Tests walk every cell and every gap.

Asynchronous Message and Reject name no task, and neither does a NOP-In with the reserved tag: kind NONE.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from iscsiboot.initiator.pdu.header import Opcode


class Phase(Enum):
    """Where a connection stands. The value completes "the session ..."."""

    FULL_FEATURE = "is in full feature phase"
    LOGGING_OUT = "is being logged out"
    LOGGED_OUT = "was logged out"
    DROPPED = "was dropped by the target"
    FAILED = "has failed"


class TaskKind(Enum):
    """What an initiator task tag stands for. The value completes "for ..."."""

    NONE = "no task"
    NEVER = "a task that does not exist"
    WAITING = "a task that waits to be sent"
    """Also a Text Request that goes on: nobody answers what was not asked yet."""
    COMMAND = "a SCSI command"
    PING = "a NOP-Out"
    TEXT = "a Text Request"
    MANAGEMENT = "a task management function"
    LOGOUT = "a Logout Request"
    ENDED = "a task that was aborted"
    """Its answer may still be under way when it ends."""


class Handling(Enum):
    """What a phase does with a PDU."""

    BY_TASK = "as the task's row says"
    COUNT = "only its numbers are taken"


class Action(Enum):
    """What a PDU does; each is one method of the machine."""

    DATA = "take data that was read"
    READY = "send the data asked for"
    STATUS = "finish the command"
    PONG = "finish the ping"
    PING = "answer the ping"
    TEXT = "take a part of the text"
    MANAGED = "finish the task management"
    CLOSE = "finish the logout"
    NOTICE = "tell the event"
    REJECTED = "find out what was refused"
    DROP = "drop it"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the table of phases."""

    handling: Handling
    leads_to: frozenset[Phase]
    """Every phase the PDU may lead to, errors (FAILED) not counted."""


def _take(*phases: Phase) -> Cell:
    return Cell(Handling.BY_TASK, frozenset(phases))


_OPEN, _CLOSING = Phase.FULL_FEATURE, Phase.LOGGING_OUT

PHASES: dict[Phase, dict[Opcode, Cell]] = {
    Phase.FULL_FEATURE: {
        Opcode.NOP_IN: _take(_OPEN),
        Opcode.SCSI_RESPONSE: _take(_OPEN),
        # A cold reset ends the target's connections (section 11.5.1).
        Opcode.TASK_MANAGEMENT_RESPONSE: _take(_OPEN, Phase.DROPPED),
        Opcode.TEXT_RESPONSE: _take(_OPEN),
        Opcode.DATA_IN: _take(_OPEN),
        Opcode.READY_TO_TRANSFER: _take(_OPEN),
        Opcode.ASYNC_MESSAGE: _take(_OPEN, Phase.DROPPED),
        Opcode.REJECT: _take(_OPEN),
    },
    # Nothing is sent after a Logout Request, which the sender holds; what comes until its answer is as good as before.
    Phase.LOGGING_OUT: {
        Opcode.NOP_IN: _take(_CLOSING),
        Opcode.SCSI_RESPONSE: _take(_CLOSING),
        Opcode.TASK_MANAGEMENT_RESPONSE: _take(_CLOSING, Phase.DROPPED),
        Opcode.TEXT_RESPONSE: _take(_CLOSING),
        Opcode.DATA_IN: _take(_CLOSING),
        Opcode.LOGOUT_RESPONSE: _take(Phase.LOGGED_OUT),
        Opcode.READY_TO_TRANSFER: _take(_CLOSING),
        Opcode.ASYNC_MESSAGE: _take(_CLOSING, Phase.DROPPED),
        Opcode.REJECT: _take(_CLOSING),
    },
    Phase.LOGGED_OUT: {},
    # Answers may have been under way when the target said that it drops the connection.
    Phase.DROPPED: {
        opcode: Cell(Handling.COUNT, frozenset({Phase.DROPPED}))
        for opcode in (
            Opcode.NOP_IN,
            Opcode.SCSI_RESPONSE,
            Opcode.TASK_MANAGEMENT_RESPONSE,
            Opcode.TEXT_RESPONSE,
            Opcode.DATA_IN,
            Opcode.LOGOUT_RESPONSE,
            Opcode.READY_TO_TRANSFER,
            Opcode.ASYNC_MESSAGE,
            Opcode.REJECT,
        )
    },
    Phase.FAILED: {},
}
"""Phase x opcode."""

TASKS: dict[TaskKind, dict[Opcode, Action]] = {
    TaskKind.NONE: {
        Opcode.NOP_IN: Action.PING,
        Opcode.ASYNC_MESSAGE: Action.NOTICE,
        Opcode.REJECT: Action.REJECTED,
    },
    TaskKind.NEVER: {},
    TaskKind.WAITING: {},
    TaskKind.COMMAND: {
        Opcode.DATA_IN: Action.DATA,
        Opcode.READY_TO_TRANSFER: Action.READY,
        Opcode.SCSI_RESPONSE: Action.STATUS,
    },
    TaskKind.PING: {Opcode.NOP_IN: Action.PONG},
    TaskKind.TEXT: {Opcode.TEXT_RESPONSE: Action.TEXT},
    TaskKind.MANAGEMENT: {Opcode.TASK_MANAGEMENT_RESPONSE: Action.MANAGED},
    TaskKind.LOGOUT: {Opcode.LOGOUT_RESPONSE: Action.CLOSE},
    TaskKind.ENDED: {
        Opcode.DATA_IN: Action.DROP,
        Opcode.READY_TO_TRANSFER: Action.DROP,
        Opcode.SCSI_RESPONSE: Action.DROP,
    },
}
"""Kind of task x opcode."""

OVER = frozenset({Phase.LOGGED_OUT, Phase.DROPPED})
"""Phases in which the target may close the connection."""
