# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of lying targets share: things an initiator does, and what has to hold after a lie.

A lie ends in one SessionError that says what happened, or in an event while the session goes on. Each is told with the
target's bytes as they come and one by one. After every lie that is survived a ping proves that the session lives, and
the target must not have noted a mistake of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from iscsiboot.errors import Stage
from iscsiboot.initiator.connection import Connection, ConnectionPhase
from iscsiboot.initiator.errors import Misuse, SessionError
from iscsiboot.initiator.pdu.control import (
    LogoutResponse,
    NopIn,
    TextResponse,
)
from iscsiboot.initiator.pdu.header import Opcode
from iscsiboot.initiator.pdu.scsi import (
    ScsiResponse,
    TaskFunction,
    TaskManagementResponse,
)
from iscsiboot.initiator.session_events import (
    CommandFinished,
    LoggedOut,
    Pong,
    Remark,
    TaskManaged,
    TextAnswered,
)
from iscsiboot.model.lun import Lun
from iscsiboot.model.params import SessionParams
from tests.doubles.conversation import TARGET
from tests.doubles.disk import Device, LogicalUnit
from tests.doubles.limits import Limits
from tests.doubles.link import Link, logged_in
from tests.doubles.session import Plan
from tests.doubles.target import Script

LUN = Lun.from_number(1)
IMAGE = bytes(range(256)) * 32
READ = bytes.fromhex("28000000000000000400")
WRITE = bytes.fromhex("2a000000000000000400")
LENGTH = 2048
SEGMENT = 512

Link_ = Link[Connection]


@dataclass(frozen=True)
class Activity:
    """Something the initiator does, and how it ends when nobody lies."""

    begin: Callable[[Link_], int]
    ends: type
    answer: type
    """The PDU it is answered with."""
    opcode: Opcode


ACTIVITIES = {
    "ping": Activity(lambda ours: ours.machine.ping(ours.now, b"hello"), Pong, NopIn, Opcode.NOP_OUT),
    "read": Activity(
        lambda ours: ours.machine.command(LUN, READ, now=ours.now, read_length=LENGTH),
        CommandFinished,
        ScsiResponse,
        Opcode.SCSI_COMMAND,
    ),
    "write": Activity(
        lambda ours: ours.machine.command(LUN, WRITE, now=ours.now, data_out=bytes(LENGTH)),
        CommandFinished,
        ScsiResponse,
        Opcode.SCSI_COMMAND,
    ),
    "text": Activity(
        lambda ours: ours.machine.send_text((("X-com.example.a", "1"),), ours.now),
        TextAnswered,
        TextResponse,
        Opcode.TEXT_REQUEST,
    ),
    "management": Activity(
        lambda ours: ours.machine.manage_task(TaskFunction.LOGICAL_UNIT_RESET, now=ours.now, lun=LUN),
        TaskManaged,
        TaskManagementResponse,
        Opcode.TASK_MANAGEMENT_REQUEST,
    ),
    "logout": Activity(lambda ours: ours.machine.logout(ours.now), LoggedOut, LogoutResponse, Opcode.LOGOUT_REQUEST),
}
GOES_ON = [name for name in ACTIVITIES if name != "logout"]


def plan(**values: Any) -> Plan:
    """A disk that answers in four Data-In, a response of its own, and asks in two R2Ts."""
    honest = Plan(
        login=Script(limits=Limits(immediate_data=False)),
        device=Device({1: LogicalUnit(IMAGE)}),
        r2t_length=1024,
        collapse_status=False,
    )
    return replace(honest, **values)


def begin(made: Plan, piece: int, **values: Any) -> Link_:
    """In full feature phase, with small PDUs."""
    params = values.pop(
        "params", SessionParams(max_recv_data_segment_length=SEGMENT, max_burst_length=65536, first_burst_length=65536)
    )
    return logged_in(made, piece=piece, params=params, **values)


def fails(ours: Link_, act: Callable[[], object]) -> SessionError:
    """What is done ends the session, and leaves a machine that neither takes nor sends anything."""
    with pytest.raises(SessionError) as caught:
        act()
    error = caught.value
    assert error.subject == f"{TARGET} at 192.0.2.1:3260"
    assert error.stage is Stage.SESSION
    assert error.line().isprintable()
    assert len(error.line()) < 500
    assert ours.machine.phase is ConnectionPhase.FAILED
    assert ours.machine.data_to_send() == b""
    assert ours.machine.next_deadline() is None
    with pytest.raises(Misuse):
        ours.machine.receive(b"x", ours.now)
    return error


def lives(ours: Link_) -> None:
    """The session goes on, and we made no mistake."""
    before = len(ours.events)
    tag = ours.machine.ping(ours.now, b"alive")
    assert ours.until(Pong, after=before).tag == tag
    assert ours.target.violations == []
    assert ours.target.pings == set()


def run(ours: Link_, activity: str) -> Any:
    """The event the activity ends with."""
    tag = ACTIVITIES[activity].begin(ours)
    ours.wait(lambda: any(getattr(item, "tag", None) == tag for item in ours.events if not isinstance(item, Remark)))
    return next(item for item in ours.events if getattr(item, "tag", None) == tag)


def answered(ours: Link_, activity: str) -> None:
    """The same, and everything that comes behind it."""
    run(ours, activity)
    ours.pump()


def remarks(ours: Link_) -> list[str]:
    return [item.text for item in ours.events if isinstance(item, Remark)]


pieces = pytest.mark.parametrize("piece", [0, 1], ids=["whole", "bytes"])
"""Whether what the target sends comes whole or byte by byte."""
