# SPDX-License-Identifier: LGPL-2.1-or-later
"""The full feature phase against the scripted target, which checks every PDU by rules written a second time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iscsiboot.initiator.connection import Connection
from iscsiboot.initiator.pdu.scsi import TaskFunction
from iscsiboot.initiator.session_events import (
    CommandFailed,
    CommandFinished,
    LoggedOut,
    Pong,
    TaskManaged,
    TextAnswered,
)
from iscsiboot.initiator.timers import Timers
from iscsiboot.model.lun import Lun
from iscsiboot.model.params import Digest, SessionParams
from tests.doubles.disk import Device, LogicalUnit
from tests.doubles.limits import Limits
from tests.doubles.link import Link, logged_in
from tests.doubles.session import Plan
from tests.doubles.target import Script
from tests.unit.initiator.fullfeature_kit import pattern

BLOCK = 512
DISK, DEAD = Lun.from_number(0), Lun.from_number(1)


def plan(limits: Limits | None = None, **changes: Any) -> Plan:
    units = {0: LogicalUnit(image=pattern(64 * BLOCK)), 1: LogicalUnit(image=bytes(BLOCK), dead=True)}
    return Plan(login=Script(limits=limits or Limits()), device=Device(units), **changes)


def cdb(code: int, lba: int, blocks: int) -> bytes:
    return bytes([code, 0]) + lba.to_bytes(4, "big") + b"\0" + blocks.to_bytes(2, "big") + b"\0"


def read(link: Link[Connection], lba: int, blocks: int) -> int:
    return link.machine.command(DISK, cdb(0x28, lba, blocks), now=link.now, read_length=blocks * BLOCK)


def write(link: Link[Connection], lba: int, data: bytes) -> int:
    return link.machine.command(DISK, cdb(0x2A, lba, len(data) // BLOCK), now=link.now, data_out=data)


def finished(link: Link[Connection], tag: int) -> CommandFinished:
    link.wait(lambda: any(isinstance(event, CommandFinished) and event.tag == tag for event in link.events))
    return next(event for event in link.events if isinstance(event, CommandFinished) and event.tag == tag)


limits = st.builds(
    Limits,
    max_burst_length=st.sampled_from([512, 1000, 4096, 262144]),
    first_burst_length=st.sampled_from([512, 700, 4096]),
    max_outstanding_r2t=st.integers(1, 4),
    max_recv_data_segment_length=st.sampled_from([512, 1000, 8192]),
    initial_r2t=st.booleans(),
    immediate_data=st.booleans(),
)


@settings(max_examples=60)
@given(limits, st.integers(1, 24), st.integers(0, 2000), st.sampled_from([512, 1024, 8192]), st.booleans(), st.data())
def test_what_is_written_is_read_whatever_was_negotiated(
    limit: Limits, blocks: int, r2t: int, segment: int, digests: bool, source: st.DataObject
) -> None:
    params = SessionParams(
        max_recv_data_segment_length=segment,
        max_outstanding_r2t=source.draw(st.integers(1, 4)),
        initial_r2t=source.draw(st.booleans()),
        header_digest=Digest.CRC32C if digests else Digest.NONE,
        data_digest=Digest.CRC32C if digests else Digest.NONE,
    )
    collapse, piece = source.draw(st.booleans()), source.draw(st.sampled_from([0, 1, 7, 48, 1000]))
    link = logged_in(plan(limit, r2t_length=r2t, collapse_status=collapse), params=params, piece=piece)
    data = pattern(blocks * BLOCK)[::-1]
    assert finished(link, write(link, 3, data)).result.status == 0
    result = finished(link, read(link, 3, blocks)).result
    assert (result.data, result.residual) == (data, 0)
    tag = link.machine.logout(link.now)
    assert link.until(LoggedOut).tag == tag
    assert link.target.violations == []


@settings(max_examples=40)
@given(st.integers(1, 5), st.lists(st.sampled_from(["read", "write", "ping", "text"]), max_size=25))
def test_many_things_at_once_keep_to_the_window(depth: int, calls: list[str]) -> None:
    link = logged_in(plan(depth=depth))
    tags: dict[int, str] = {}
    for number, call in enumerate(calls):
        if call == "read":
            tags[read(link, number, 4)] = call
        elif call == "write":
            tags[write(link, number, pattern(3 * BLOCK))] = call
        elif call == "ping":
            tags[link.machine.ping(link.now, b"%d" % number)] = call
        else:
            tags[link.machine.send_text((("X-key", str(number)),), link.now)] = call
    kinds = CommandFinished | Pong | TextAnswered
    link.wait(lambda: sum(isinstance(event, kinds) for event in link.events) == len(calls))
    ended = [event.tag for event in link.events if isinstance(event, kinds)]
    assert sorted(ended) == sorted(tags)
    assert link.target.violations == []


@pytest.mark.parametrize("function", [TaskFunction.ABORT_TASK, TaskFunction.LOGICAL_UNIT_RESET], ids=lambda f: f.name)
def test_a_dead_unit_is_left_by_task_management(function: TaskFunction) -> None:
    link = logged_in(plan(), timers=Timers(ping_interval=5))
    tag = link.machine.command(DEAD, cdb(0x28, 0, 1), now=link.now, read_length=BLOCK)
    link.advance(60)
    assert not any(isinstance(event, CommandFinished) for event in link.events)
    aborting = function is TaskFunction.ABORT_TASK
    managing = link.machine.manage_task(
        function, now=link.now, lun=None if aborting else DEAD, task=tag if aborting else None
    )
    assert link.until(TaskManaged).tag == managing
    assert [event.tag for event in link.events if isinstance(event, CommandFailed)] == [tag]
    assert link.target.violations == []


def test_an_idle_session_lives_on_pings() -> None:
    link = logged_in(plan(), timers=Timers(ping_interval=5, ping_timeout=5))
    link.advance(600)
    assert finished(link, read(link, 0, 1)).result.data == pattern(BLOCK)
    assert link.target.violations == []


def test_a_residual_of_a_short_read() -> None:
    link = logged_in(plan())
    tag = link.machine.command(DISK, cdb(0x28, 0, 1), now=link.now, read_length=4 * BLOCK)
    result = finished(link, tag).result
    assert (result.data, result.residual, result.underflow) == (pattern(BLOCK), 3 * BLOCK, True)
    tag = link.machine.command(DISK, cdb(0x28, 0, 2), now=link.now, read_length=BLOCK)
    result = finished(link, tag).result
    assert (result.data, result.residual, result.overflow) == (pattern(BLOCK), BLOCK, True)
    assert link.target.violations == []
