# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each fault does what its name says, to the PDU it is aimed at and to no other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from iscsiboot.initiator.pdu.control import AsyncMessage, NopIn, TextResponse
from iscsiboot.initiator.pdu.header import RESERVED_TAG, Opcode, Pdu
from iscsiboot.initiator.pdu.login import LoginRequest, LoginResponse
from iscsiboot.initiator.pdu.reject import Reject
from iscsiboot.initiator.pdu.scsi import DataIn, ReadyToTransfer, ScsiResponse, TaskManagementResponse
from tests.doubles.disk import Device, LogicalUnit
from tests.doubles.faults import (
    EVERY,
    HOSTILE_RECORDS,
    STRANGER,
    Change,
    announcing,
    announcing_headers,
    bytes_instead,
    closed_after,
    closed_before,
    closed_inside,
    dropped,
    event,
    fields,
    followed_by,
    holding,
    late,
    login_response,
    lost,
    news,
    on,
    pdu_instead,
    ping,
    plus,
    preceded_by,
    rejecting,
    spoiled,
    stray_data_in,
    stray_pong,
    stray_r2t,
    stray_response,
    stray_task_response,
    stray_text,
    twice,
    unknown_pdu,
    without_data,
)
from tests.doubles.session import Plan
from tests.doubles.target import text_of
from tests.doubles.wire import Outgoing, Send, Wait
from tests.unit.doubles.talker import Talker, answers

READ_4 = bytes.fromhex("28000000000000000400")


def talker(*changes: Change, kind: Any = NopIn, nth: int = 0, **plan: Any) -> Talker:
    made = Plan(device=Device({0: LogicalUnit(bytes(4096))}), faults=[on(kind, *changes, nth=nth)] if changes else ())
    ours = Talker(replace(made, **plan))
    ours.login()
    return ours


def shape(ours: Talker) -> list[str]:
    return [type(action).__name__ for action in ours.actions]


@pytest.mark.parametrize(("nth", "hit"), [(0, [0]), (2, [2]), (EVERY, [0, 1, 2, 3])], ids=["first", "third", "every"])
def test_aim(nth: int, hit: Sequence[int]) -> None:
    ours = talker(holding(b"bad"), kind=DataIn, nth=nth)
    found = ours.command(READ_4, expected=2048)
    assert [answer.data == b"bad" for answer in found] == [number in hit for number in range(4)]
    assert ours.ping(b"good")[0].data == b"good"


def test_each_connection_counts_for_itself() -> None:
    plan = Plan(faults=[on(NopIn, dropped)])
    for _ in range(2):
        ours = Talker(plan)
        ours.login()
        assert ours.ping() == []
        assert len(ours.ping()) == 1


def test_changes_follow_one_another() -> None:
    ours = talker(holding(b"bad"), twice, late(3.0), closed_after)
    found = ours.ping()
    assert [answer.data for answer in found] == [b"bad", b"bad"]
    assert shape(ours) == ["Wait", "Send", "Send", "Close"]
    assert ours.actions[0] == Wait(3.0)


def test_two_faults() -> None:
    ours = talker(faults=[on(NopIn, holding(b"1")), on(NopIn, holding(b"2"), nth=1)])
    assert [ours.ping()[0].data for _ in range(3)] == [b"1", b"2", b""]


def test_dropped_and_lost_differ_by_a_number() -> None:
    for change, skipped in ((dropped, 0), (lost, 1)):
        ours = talker(change)
        first = ours.statsn
        assert ours.ping() == []
        assert ours.ping()[0].pdu.statsn == first + skipped


def test_fields() -> None:
    ours = talker(fields(statsn=plus(-1), itt=7, max_cmdsn=0))
    first = ours.statsn
    pdu = ours.ping()[0].pdu
    assert (pdu.statsn, pdu.itt, pdu.max_cmdsn) == (first - 1, 7, 0)
    assert ours.ping()[0].pdu.statsn == first + 1
    assert plus(-1)(0) == 0xFFFFFFFF


@pytest.mark.parametrize(
    ("change", "expected"),
    [(closed_before, ["Close"]), (closed_after, ["Send", "Close"]), (closed_inside(20), ["Send", "Close"])],
    ids=["before", "after", "inside"],
)
def test_closing(change: Change, expected: list[str]) -> None:
    ours = talker(change)
    ours.target.receive(b"")
    pdu = bytes([0x40, 0x80]) + bytes(14) + bytes(3) + b"\x01" + b"\xff" * 4 + bytes(3) + b"\x01" + bytes(20)
    ours.actions = ours.target.receive(pdu)
    assert shape(ours) == expected
    assert ours.target.closed
    if change is not closed_before:
        assert isinstance(ours.actions[0], Send)
        assert len(ours.actions[0].data) == (48 if change is closed_after else 20)


def wire_of(ours: Talker) -> bytes:
    header = bytes([0x40, 0x80]) + bytes(14) + bytes(3) + b"\x01" + b"\xff" * 4 + bytes(3) + b"\x01" + bytes(20)
    return b"".join(action.data for action in ours.target.receive(header) if isinstance(action, Send))


def test_bytes() -> None:
    assert wire_of(talker(announcing(70000)))[5:8] == (70000).to_bytes(3, "big")
    assert wire_of(talker(announcing_headers(40)))[4] == 10
    assert wire_of(talker(bytes_instead(b"HTTP/1.1 400"))) == b"HTTP/1.1 400"
    assert wire_of(talker(pdu_instead(ping(9))))[20:24] == b"\0\0\0\x09"
    assert wire_of(talker(without_data)) == wire_of(talker())
    assert unknown_pdu(0x2A, 9).data[:8].hex() == "2a80000000000009"


@pytest.mark.parametrize("what", ["header", "data"])
def test_digests(what: str) -> None:
    ours = Talker(Plan(faults=[on(NopIn, spoiled(what))]), HeaderDigest="CRC32C", DataDigest="CRC32C")
    ours.login()
    with pytest.raises(AssertionError):
        ours.ping(b"data")
    ours.ping(b"data")
    assert ours.target.violations == []


STRAYS: list[tuple[str, Outgoing, type[Pdu], dict[str, Any], int]] = [
    ("ping", ping(9, data=b"x"), NopIn, {"ttt": 9, "itt": RESERVED_TAG}, 0),
    ("news", news(), NopIn, {"ttt": RESERVED_TAG, "itt": RESERVED_TAG}, 0),
    ("pong", stray_pong(), NopIn, {"itt": STRANGER}, 1),
    ("event", event(3, parameters=(1, 2, 3)), AsyncMessage, {"event": 3, "parameter1": 1, "parameter3": 3}, 1),
    ("reject", rejecting(4), Reject, {"reason": 4}, 1),
    ("data", stray_data_in(), DataIn, {"itt": STRANGER, "statsn": 0}, 0),
    ("data and status", stray_data_in(status=True), DataIn, {"status_present": True}, 1),
    ("R2T", stray_r2t(), ReadyToTransfer, {"itt": STRANGER, "desired_length": 512}, 0),
    ("response", stray_response(status=8), ScsiResponse, {"status": 8}, 1),
    ("text", stray_text(), TextResponse, {"itt": STRANGER, "final": True}, 1),
    ("task management", stray_task_response(), TaskManagementResponse, {"itt": STRANGER}, 1),
    ("login", login_response(), LoginResponse, {"transit": True}, 1),
]


@pytest.mark.parametrize("where", ["before", "after", "greeting", "push"])
@pytest.mark.parametrize(
    ("item", "kind", "values", "used"), [row[1:] for row in STRAYS], ids=[row[0] for row in STRAYS]
)
def test_strays(item: Outgoing, kind: type[Pdu], values: dict[str, Any], used: int, where: str) -> None:
    """Each is numbered as the real thing would be, so that only its being there is wrong."""
    change = {"before": preceded_by(item), "after": followed_by(item)}.get(where)
    ours = Talker(Plan(faults=[on(NopIn, change)] if change else (), greeting=(item,) if where == "greeting" else ()))
    response: Any = ours.login() if where != "greeting" else None
    if where == "greeting":
        request = LoginRequest(transit=True, csg=1, nsg=3, isid=bytes(6), cmdsn=1, exp_statsn=0)
        found = ours.send(request, text_of(list(ours.keys.items())))
        stray, first = found[1].pdu, found[0].pdu.statsn + 1
    else:
        assert response is not None
        first = response.statsn + 1
        if where == "push":
            (answer,) = answers(ours.target.push(item))
            stray = answer.pdu
        else:
            found = ours.ping()
            assert len(found) == 2
            stray = found[where == "after"].pdu
            honest = found[where == "before"].pdu
            first += where == "after"
            assert honest.statsn == first + (used if where == "before" else -1)
    number = stray.statsn
    assert isinstance(stray, kind)
    assert {name: getattr(stray, name) for name in values} == values
    assert number == (0 if "statsn" in values else first)
    assert ours.target.numbers is not None
    assert ours.target.numbers.statsn == first + used + (where == "before")


def test_sense_of_an_event_has_its_length() -> None:
    assert event(0, data=b"\x70" + bytes(17)).data[:3] == b"\x00\x12\x70"
    assert event(255, vcode=3, data=b"abc").data == b"abc"


def test_hostile_records_are_not_what_an_honest_portal_says() -> None:
    assert len(set(HOSTILE_RECORDS.values())) == len(HOSTILE_RECORDS)
    assert all(text.endswith(b"\0") for text in HOSTILE_RECORDS.values())


def test_opcodes_of_strays_are_a_targets() -> None:
    assert all(item.pdu.OPCODE >= Opcode.NOP_IN for _, item, *_ in STRAYS)
