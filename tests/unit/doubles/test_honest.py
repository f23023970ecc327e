# SPDX-License-Identifier: LGPL-2.1-or-later
"""Our initiator and the honest double: whatever both can do, data arrives whole and the target has nothing to note."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iscsiboot.initiator.config import SessionType
from iscsiboot.initiator.connection import Connection
from iscsiboot.initiator.discovery import DiscoveryFinished, TargetFound
from iscsiboot.initiator.pdu.scsi import DataOut, TaskFunction
from iscsiboot.initiator.session_events import CommandFailed, CommandFinished, LoggedOut, Pong, Remark, TaskManaged
from iscsiboot.model.lun import Lun
from iscsiboot.model.params import Digest, SessionParams
from tests.doubles.conversation import OWN, USER, credentials
from tests.doubles.directory import Served, directory, numbered
from tests.doubles.disk import Device, LogicalUnit, lun_bytes
from tests.doubles.faults import news, ping
from tests.doubles.limits import Limits
from tests.doubles.link import Link, link, logged_in
from tests.doubles.session import Plan
from tests.doubles.target import Script

IMAGE = bytes((index * 7 + index // 512) % 251 for index in range(512 * 256))
LUN = Lun.from_number(1)
SIZES = st.sampled_from([512, 516, 1000, 1024, 4096, 5000, 8192, 65536])


def read_10(lba: int, count: int) -> bytes:
    return b"\x28\0" + lba.to_bytes(4, "big") + b"\0" + count.to_bytes(2, "big") + b"\0"


def write_10(lba: int, count: int) -> bytes:
    return b"\x2a" + read_10(lba, count)[1:]


@st.composite
def params(draw: st.DrawFn) -> SessionParams:
    burst = draw(SIZES)
    return SessionParams(
        header_digest=draw(st.sampled_from(Digest)),
        data_digest=draw(st.sampled_from(Digest)),
        initial_r2t=draw(st.booleans()),
        immediate_data=draw(st.booleans()),
        max_burst_length=burst,
        first_burst_length=draw(SIZES.filter(lambda first: first <= burst)),
        max_outstanding_r2t=draw(st.integers(1, 4)),
        max_recv_data_segment_length=draw(SIZES),
        max_xmit_data_segment_length=draw(st.sampled_from([0, 512, 777, 4096])),
    )


@st.composite
def plans(draw: st.DrawFn, wanted: SessionParams) -> Plan:
    def digests(offered: Digest) -> tuple[str, ...]:
        """A target that can do none of what is demanded gets no session, which is another test's business."""
        return draw(st.sampled_from([("None", "CRC32C"), tuple(offered.value.split(",")[:1])]))

    limits = Limits(
        max_burst_length=draw(SIZES),
        first_burst_length=draw(SIZES),
        max_outstanding_r2t=draw(st.integers(1, 4)),
        max_recv_data_segment_length=draw(SIZES),
        initial_r2t=draw(st.booleans()),
        immediate_data=draw(st.booleans()),
        header_digests=digests(wanted.header_digest),
        data_digests=digests(wanted.data_digest),
    )
    return Plan(
        login=Script(limits=limits),
        device=Device({1: LogicalUnit(IMAGE)}),
        depth=draw(st.integers(1, 4)),
        r2t_length=draw(st.sampled_from([0, 512, 700, 3000])),
        collapse_status=draw(st.booleans()),
    )


Operation = tuple[bool, int, int]
"""Whether it writes, first block, count."""
OPERATIONS = st.lists(st.tuples(st.booleans(), st.integers(0, 255), st.integers(0, 64)), min_size=1, max_size=6)


def fitting(operation: Operation) -> Operation:
    writing, lba, count = operation
    return writing, lba, min(count, 256 - lba)


def carry_out(ours: Link[Connection], operations: list[Operation], *, at_once: bool) -> None:
    """Run them against a model of the disk, one after the other or, as far as they do not touch, at once."""
    model = bytearray(IMAGE)
    expected: dict[int, bytes] = {}
    touched: set[int] = set()
    for number, (writing, lba, count) in enumerate(map(fitting, operations)):
        blocks = set(range(lba, lba + count))
        if at_once and touched & blocks:
            settle(ours, expected)
            touched.clear()
        touched |= blocks
        if writing:
            data = bytes((number * 31 + index) % 256 for index in range(count * 512))
            tag = ours.machine.command(LUN, write_10(lba, count), now=ours.now, data_out=data)
            model[lba * 512 : (lba + count) * 512] = data
            expected[tag] = b""
        else:
            tag = ours.machine.command(LUN, read_10(lba, count), now=ours.now, read_length=count * 512)
            expected[tag] = bytes(model[lba * 512 : (lba + count) * 512])
        if not at_once:
            settle(ours, expected)
    settle(ours, expected)
    assert ours.target.plan.device.units[lun_bytes(1)].contents(0, 256) == model


def settle(ours: Link[Connection], expected: dict[int, bytes]) -> None:
    """Wait until all of them have ended, each well."""
    seen: dict[int, Any] = {}

    def ended() -> bool:
        seen.update((event.tag, event.result) for event in ours.events if isinstance(event, CommandFinished))
        return set(expected) <= set(seen)

    ours.wait(ended)
    for tag, data in expected.items():
        result = seen[tag]
        assert (result.status, result.data, result.residual) == (0, data, 0)


def leave(ours: Link[Connection]) -> None:
    """Log out, and look at what both sides noted."""
    ours.machine.logout(ours.now)
    assert ours.until(LoggedOut).response == 0
    assert ours.closed
    assert ours.target.violations == []
    assert ours.target.pings == set()
    assert [event for event in ours.events if isinstance(event, Remark | CommandFailed)] == []


@settings(max_examples=150)
@given(data=st.data(), operations=OPERATIONS, piece=st.sampled_from([0, 1, 49, 1000]), at_once=st.booleans())
def test_data_arrives_whole(data: st.DataObject, operations: list[Operation], piece: int, at_once: bool) -> None:
    wanted = data.draw(params())
    plan = data.draw(plans(wanted))
    if piece == 1:
        operations = [(writing, lba, min(count, 12)) for writing, lba, count in operations[:3]]
    ours = logged_in(plan, params=wanted, piece=piece)
    carry_out(ours, operations, at_once=at_once)
    leave(ours)


@settings(max_examples=40)
@given(
    count=st.integers(0, 20),
    addresses=st.lists(
        st.sampled_from(["192.0.2.1:3260,1", "192.0.2.2:860,2", "[2001:db8::1]:3260,3"]), max_size=3, unique=True
    ),
    limit=SIZES,
    segment=st.sampled_from([0, 1, 33, 512]),
    whole_pairs=st.booleans(),
    piece=st.sampled_from([0, 1, 50]),
)
def test_discovery_finds_what_is_served(
    count: int, addresses: list[str], limit: int, segment: int, whole_pairs: bool, piece: int
) -> None:
    served = [Served(f"iqn.2004-01.com.example:disk{number}", addresses) for number in range(count)]
    plan = Plan(records=directory(served), text_segment=segment, whole_pairs=whole_pairs)
    ours = logged_in(
        plan,
        piece=piece,
        session_type=SessionType.DISCOVERY,
        target_name="",
        params=SessionParams(max_recv_data_segment_length=limit),
    )
    ours.machine.discover(ours.now)
    finished = ours.until(DiscoveryFinished)
    assert (finished.found, finished.refused) == (count, 0)
    found = [event.target for event in ours.events if isinstance(event, TargetFound)]
    assert [target.name for target in found] == [target.name for target in served]
    own = ["192.0.2.1:3260"]
    assert all([str(portal) for portal in target.portals] == (addresses or own) for target in found)
    leave(ours)


def test_ten_thousand_targets() -> None:
    ours = logged_in(Plan(records=numbered(10_000)), session_type=SessionType.DISCOVERY, target_name="")
    ours.machine.discover(ours.now)
    assert ours.until(DiscoveryFinished).found == 10_000
    leave(ours)


@pytest.mark.parametrize("mutual", [False, True], ids=["one-way", "mutual"])
@pytest.mark.parametrize("piece", [0, 1], ids=["whole", "bytes"])
def test_chap_and_a_session(mutual: bool, piece: int) -> None:
    plan = Plan(login=Script(user=USER, own=OWN), device=Device({1: LogicalUnit(IMAGE)}))
    ours = logged_in(plan, piece=piece, credentials=credentials(mutual=mutual))
    carry_out(ours, [(False, 0, 8)], at_once=False)
    leave(ours)


def test_numbers_wrap_round_in_the_middle_of_a_session() -> None:
    ours = logged_in(Plan(device=Device({1: LogicalUnit(IMAGE)}), depth=2), cmdsn=0xFFFFFFFE)
    carry_out(ours, [(False, number, 1) for number in range(6)], at_once=True)
    leave(ours)


def test_pings_of_both_sides() -> None:
    ours = logged_in()
    ours.machine.ping(ours.now, b"are you there")
    assert ours.until(Pong).data == b"are you there"
    ours.push(ping(0x31, data=b"and you"), news())
    ours.pump()
    assert ours.target.pings == set()
    leave(ours)


@pytest.mark.parametrize("piece", [0, 1], ids=["whole", "bytes"])
def test_data_that_needs_padding_has_digests_over_it(piece: int) -> None:
    both = SessionParams(header_digest=Digest.CRC32C, data_digest=Digest.CRC32C)
    ours = logged_in(params=both, piece=piece)
    for length in range(10):
        count = len(ours.events)
        data = bytes(range(1, length + 1))
        ours.machine.ping(ours.now, data)
        assert ours.until(Pong, after=count).data == data
        ours.push(ping(0x40 + length, lun=lun_bytes(length), data=data))
    ours.pump()
    leave(ours)


def test_silence_is_broken_by_pings_which_nobody_is_told_of() -> None:
    ours = logged_in()
    ours.advance(60)
    assert len(ours.events) == 1
    assert 8 <= sum(type(pdu).__name__ == "NopOut" for pdu in ours.target.received) <= 12
    leave(ours)


def test_the_dead_unit_and_what_ends_it() -> None:
    ours = logged_in(Plan(device=Device({1: LogicalUnit(dead=True), 2: LogicalUnit(IMAGE)}), depth=3))
    dead = [ours.machine.command(LUN, bytes(6), now=ours.now) for _ in range(2)]
    other = ours.machine.command(Lun.from_number(2), read_10(0, 1), now=ours.now, read_length=512)
    assert ours.until(CommandFinished).tag == other
    ours.advance(100)
    assert not any(isinstance(event, CommandFailed) for event in ours.events)
    ours.machine.manage_task(TaskFunction.ABORT_TASK, now=ours.now, task=dead[0])
    assert ours.until(TaskManaged).response == 0
    assert [event.tag for event in ours.events if isinstance(event, CommandFailed)] == [dead[0]]
    count = len(ours.events)
    ours.machine.manage_task(TaskFunction.LOGICAL_UNIT_RESET, now=ours.now, lun=LUN)
    assert ours.until(TaskManaged, after=count).response == 0
    assert [event.tag for event in ours.events if isinstance(event, CommandFailed)] == dead
    ours.machine.logout(ours.now)
    ours.until(LoggedOut)
    assert ours.target.violations == []


def test_the_window_holds_commands_back() -> None:
    """Twenty commands, a target that takes one at a time: none is sent before there is room."""
    ours = logged_in(Plan(device=Device({1: LogicalUnit(IMAGE)}), depth=1))
    carry_out(ours, [(number % 2 == 0, number, 1) for number in range(20)], at_once=True)
    leave(ours)


def test_unsolicited_data_is_really_used() -> None:
    """Or the integrity test above would test less than it says."""
    ours = logged_in(Plan(login=Script(limits=Limits(initial_r2t=False)), device=Device({1: LogicalUnit(IMAGE)})))
    carry_out(ours, [(True, 0, 256)], at_once=False)
    sent = [pdu for pdu in ours.target.received if isinstance(pdu, DataOut)]
    assert {pdu.ttt == 0xFFFFFFFF for pdu in sent} == {True, False}
    leave(ours)


def test_a_link_says_when_nothing_will_happen() -> None:
    ours = link()
    with pytest.raises(AssertionError, match="nothing will happen any more"):
        ours.until(LoggedOut)
