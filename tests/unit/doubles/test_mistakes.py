# SPDX-License-Identifier: LGPL-2.1-or-later
"""No mistake of an initiator is unseen by the target double: each with what must be written down."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from iscsiboot.initiator.pdu.control import NopIn, NopOut, TextRequest, TextResponse
from iscsiboot.initiator.pdu.header import RESERVED_TAG
from iscsiboot.initiator.pdu.login import LoginRequest
from iscsiboot.initiator.pdu.reject import Reject
from iscsiboot.initiator.pdu.scsi import (
    ReadyToTransfer,
    ScsiCommand,
    SnackRequest,
    TaskFunction,
)
from tests.doubles.directory import Served, directory
from tests.doubles.disk import lun_bytes
from tests.doubles.faults import ping
from tests.doubles.session import FullTarget
from tests.doubles.target import text_of
from tests.doubles.wire import Close, digest
from tests.unit.doubles.talker import READ_8, READY, WRITE_8, Talker, plan, talker

SERVED = [Served("iqn.2004-01.com.example:disk0", ["192.0.2.1:3260,1"])]


def after_r2t(ours: Talker, data: bytes, **values: Any) -> None:
    (answer,) = ours.command(WRITE_8, expected=4096, write=True)
    assert isinstance(answer.pdu, ReadyToTransfer)
    ours.data_out(data, **({"ttt": answer.pdu.ttt, "lun": lun_bytes(0)} | values))


def unsolicited(ours: Talker, data: bytes, **values: Any) -> None:
    ours.command(WRITE_8, bytes(512), expected=4096, write=True, final=False)
    ours.data_out(data, **({"buffer_offset": 512} | values))


def continued(ours: Talker, data: bytes = b"", **values: Any) -> None:
    (answer,) = ours.text(text_of([("SendTargets", "")]))
    assert isinstance(answer.pdu, TextResponse)
    ours.text(data, **({"ttt": answer.pdu.ttt} | values))


def spoiled_padding(ours: Talker) -> None:
    ours.raw(NopOut(itt=1, cmdsn=1, exp_statsn=ours.statsn, data_length=3).encode() + b"abc\x01")


def reserved_bit(ours: Talker) -> None:
    header = bytearray(NopOut(itt=1, cmdsn=1, exp_statsn=ours.statsn).encode())
    header[45] = 1
    ours.raw(bytes(header))


def wrong(**values: int | bool) -> Callable[[Talker], None]:
    honest: dict[str, int | bool] = {"itt": 1, "cmdsn": 1, "exp_statsn": 1001}

    def send(ours: Talker) -> None:
        ours.send(NopOut(**(honest | values)))  # type: ignore[arg-type]  # fields by name

    return send


def twice_the_same_tag(ours: Talker) -> None:
    ours.command(READY, lun=1)
    ours.itt = 0
    ours.command(READY, lun=1)


def beyond_the_window(ours: Talker) -> None:
    for _ in range(33):
        ours.command(READY, lun=1)


def back_in_time(ours: Talker) -> None:
    ours.ping()
    ours.ping()
    ours.statsn -= 2
    ours.ping()


def pong_of_another_unit(ours: Talker) -> None:
    ours.target.push(ping(0x33, lun=lun_bytes(3)))
    ours.pong(0x33)


def after_logout(ours: Talker) -> None:
    wire = b"".join(
        pdu.encode() for pdu in (NopOut(itt=1, cmdsn=1, exp_statsn=1001), NopOut(itt=2, cmdsn=2, exp_statsn=1001))
    )
    ours.target.logged_out = True
    ours.raw(wire)


MISTAKES: list[tuple[str, Callable[[Talker], object], str]] = [
    ("padding", spoiled_padding, "padding 01 is not zero"),
    ("reserved bit", reserved_bit, "reserved bits are set"),
    ("CmdSN skipped", wrong(cmdsn=2), "CmdSN 2, 1 was due"),
    ("CmdSN repeated", wrong(cmdsn=0), "CmdSN 0, 1 was due"),
    ("CmdSN of an immediate request", wrong(cmdsn=2, immediate=True), "CmdSN 2, 1 was due (immediate)"),
    ("beyond the window", beyond_the_window, "CmdSN 33 is beyond MaxCmdSN 32"),
    ("ExpStatSN ahead", wrong(exp_statsn=1002), "acknowledges what was not sent, 1001 is next"),
    ("ExpStatSN back", back_in_time, "ExpStatSN went back from 1002 to 1001"),
    ("no answer wanted, not immediate", wrong(itt=RESERVED_TAG), "wants no answer and is not immediate"),
    ("pong without ping", lambda ours: ours.pong(9), "answers a ping 0x9 nobody sent"),
    ("ping and pong", wrong(ttt=9), "is a ping and an answer at once"),
    ("too much data", lambda ours: ours.ping(bytes(8193)), "8193 bytes of data, we take 8192"),
    (
        "login again",
        lambda ours: ours.send(LoginRequest(transit=True, csg=1, isid=bytes(6), cmdsn=1, exp_statsn=0)),
        "Login Request: not taken",
    ),
    ("SNACK", lambda ours: ours.send(SnackRequest(type=1, exp_statsn=1001)), "SNACK Request: not taken"),
    ("a target's PDU", lambda ours: ours.raw(NopIn().encode()), "NOP-In is nothing an initiator sends"),
    ("after logout", after_logout, "NopOut: after the logout"),
    ("tag in use", twice_the_same_tag, "task tag 0x1 is in use"),
    ("reserved tag", lambda ours: ours.command(READY, itt=RESERVED_TAG), "task tag 0xffffffff is in use or reserved"),
    (
        "no direction",
        lambda ours: ours.command(READ_8, expected=512, read=False),
        "512 bytes expected and neither R nor W",
    ),
    (
        "more to come of nothing",
        lambda ours: ours.command(READ_8, expected=512, final=False),
        "although nothing is written",
    ),
    ("data with a read", lambda ours: ours.command(READ_8, b"abcd", expected=512), "immediate data without W"),
    (
        "too much immediate data",
        lambda ours: ours.command(WRITE_8, bytes(1025), expected=4096, write=True),
        "1025 bytes of immediate data, at most 1024",
    ),
    (
        "more than expected",
        lambda ours: ours.command(WRITE_8, bytes(513), expected=512, write=True),
        "513 bytes of immediate data, at most 512",
    ),
    (
        "nothing left",
        lambda ours: ours.command(WRITE_8, bytes(1024), expected=4096, write=True, final=False),
        "no unsolicited data is left",
    ),
    ("no such task", lambda ours: ours.data_out(bytes(4)), "no task has the tag 0x0"),
    ("data nobody asked for", lambda ours: after_r2t(ours, bytes(512), ttt=3), "no data is due for transfer tag 0x3"),
    (
        "unsolicited, not announced",
        lambda ours: after_r2t(ours, bytes(512), ttt=RESERVED_TAG),
        "no data is due for transfer tag 0xffffffff",
    ),
    (
        "LUN missing",
        lambda ours: after_r2t(ours, bytes(2048), lun=lun_bytes(3)),
        "LUN 0003000000000000, 0000000000000000 was due",
    ),
    (
        "LUN in unsolicited data",
        lambda ours: unsolicited(ours, bytes(512), lun=lun_bytes(3)),
        "LUN 0003000000000000, 0000000000000000 was due",
    ),
    ("DataSN", lambda ours: after_r2t(ours, bytes(2048), datasn=1), "DataSN 1, 0 was due"),
    ("offset", lambda ours: after_r2t(ours, bytes(2048), buffer_offset=512), "buffer offset 512, 0 was due"),
    ("empty", lambda ours: after_r2t(ours, b"", final=False), "without data"),
    ("too long", lambda ours: after_r2t(ours, bytes(2052)), "data up to 2052, the sequence ends at 2048"),
    ("too short", lambda ours: after_r2t(ours, bytes(2044)), "F at 2044, the sequence ends at 2048"),
    ("F forgotten", lambda ours: after_r2t(ours, bytes(2048), final=False), "complete and the F bit not set"),
    ("first burst too short", lambda ours: unsolicited(ours, bytes(256)), "F at 768, the sequence ends at 1024"),
    ("first burst too long", lambda ours: unsolicited(ours, bytes(1024)), "data up to 1536, the sequence ends at 1024"),
    ("LUN of a text", lambda ours: ours.text(b"", lun=lun_bytes(1)), "LUN 0001000000000000, 0000000000000000 was due"),
    ("LUN of a text that goes on", lambda ours: continued(ours, lun=bytes(8)), "0007000000000000 was due"),
    ("LUN of a pong", pong_of_another_unit, "NopOut: LUN 0000000000000000, 0003000000000000 was due"),
    ("F and C", lambda ours: ours.text(b"", cont=True), "F and C at once"),
    ("text without a tag", lambda ours: ours.text(b"", itt=RESERVED_TAG), "without a task tag"),
    ("another continuation", lambda ours: continued(ours, ttt=5), "tag 0x5, 0x2001 was due"),
    ("another task", lambda ours: continued(ours, itt=5), "task tag 0x5, 0x1 was due"),
    ("keys in between", lambda ours: continued(ours, b"X-a=1\0"), "keys while an answer goes on"),
    ("CID of the session", lambda ours: ours.logout(cid=3), "a CID that means nothing"),
    (
        "names a task",
        lambda ours: ours.manage(TaskFunction.LOGICAL_UNIT_RESET, referenced_tag=3),
        "names a task and means none",
    ),
]


@pytest.mark.parametrize(("act", "says"), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES])
def test_mistakes_are_written_down(act: Callable[[Talker], object], says: str) -> None:
    # One record does not fit into 40 bytes, so that an answer has to be continued.
    ours = talker(plan(records=directory(SERVED), text_segment=40), TargetName=SERVED[0].name)
    act(ours)
    assert any(says in text for text in ours.target.violations), ours.target.violations


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"lun": lun_bytes(0), "ref_cmdsn": 1}, "another LUN"),
        ({"lun": lun_bytes(1), "ref_cmdsn": 2}, "RefCmdSN 2, 1 was due"),
    ],
    ids=["LUN", "RefCmdSN"],
)
def test_an_abort_of_something_else(values: dict[str, int | bytes], says: str) -> None:
    ours = talker()
    ours.command(READY, lun=1)
    ours.manage(TaskFunction.ABORT_TASK, referenced_tag=1, **values)
    assert any(says in text for text in ours.target.violations)


@pytest.mark.parametrize(
    ("keys", "act", "says"),
    [
        ({"InitialR2T": "Yes"}, lambda ours: unsolicited(ours, bytes(512)), "although InitialR2T=Yes"),
        ({"ImmediateData": "No"}, lambda ours: unsolicited(ours, bytes(512)), "although ImmediateData=No"),
        ({"SessionType": "Discovery"}, lambda ours: ours.ping(), "in a discovery session"),
        ({"SessionType": "Discovery"}, lambda ours: ours.command(READY), "in a discovery session"),
        ({"SessionType": "Discovery"}, lambda ours: ours.logout(reason=1), "not of the session"),
    ],
    ids=["R2T", "immediate", "ping", "command", "logout"],
)
def test_mistakes_against_what_was_agreed(keys: dict[str, Any], act: Callable[[Talker], object], says: str) -> None:
    ours = talker(**keys)
    act(ours)
    assert any(says in text for text in ours.target.violations), ours.target.violations


def test_digest_errors_of_the_initiator() -> None:
    ours = talker(HeaderDigest="CRC32C", DataDigest="CRC32C")
    header = NopOut(itt=1, cmdsn=1, exp_statsn=ours.statsn, data_length=4).encode()
    (answer,) = ours.raw(header + digest(header) + b"abcd" + bytes(4))
    assert isinstance(answer.pdu, Reject)
    assert answer.pdu.reason == 2
    assert answer.data == header
    ours.raw(header + bytes(4) + b"abcd" + digest(b"abcd"))
    assert ours.actions == [Close()]
    assert ours.target.violations == ["data digest is wrong", "header digest is wrong"]


def test_an_additional_header() -> None:
    """A CDB of 32 bytes: the rest follows the header (section 11.2.2.3)."""
    ours = talker()
    rest = bytes(range(16))
    ours.command(READY, lun=0)
    command = ScsiCommand(lun=lun_bytes(0), itt=5, cdb=b"\x7f".ljust(16, b"\0"), **ours.numbers())
    ours.send(command, ahs=b"\x00\x11\x01\x00" + rest)
    assert ours.target.plan.device.units[lun_bytes(0)].seen[-1][16:] == rest
    assert ours.target.violations == []
    ours.send(replace(command, itt=6, **ours.numbers()), ahs=b"\x00\x11\x02\x00" + rest)
    assert ours.target.violations == ["ScsiCommand: an additional header of kind 2"]
    ours.send(TextRequest(itt=7, **ours.numbers()), ahs=bytes(4))
    assert "TextRequest: additional headers" in ours.target.violations


def test_nothing_but_login_before_login() -> None:
    target = FullTarget()
    assert target.receive(NopOut(itt=1, cmdsn=1, exp_statsn=0).encode()) == [Close()]
    assert target.violations == ["login: NopOut"]
    assert FullTarget().receive(b"\x2a" + bytes(47)) == [Close()]


def test_numbers_wrap() -> None:
    ours = Talker(plan())
    pdu = LoginRequest(transit=True, csg=1, nsg=3, isid=bytes(6), cmdsn=0xFFFFFFFF, exp_statsn=0)
    ours.send(pdu, text_of(list(ours.keys.items())))
    assert ours.target.numbers is not None
    ours.cmdsn = 0xFFFFFFFF
    (answer,) = ours.ping()
    assert isinstance(answer.pdu, NopIn)
    assert (answer.pdu.exp_cmdsn, answer.pdu.max_cmdsn) == (0, 31)
    ours.cmdsn = 0
    ours.ping()
    assert ours.target.violations == []


def test_every_kind_of_mistake_is_in_the_table() -> None:
    """Two entries of one text would mean that one of them tests nothing of its own."""
    names = [name for name, _, _ in MISTAKES]
    assert len(set(names)) == len(names)
    assert all(
        first != second
        for first, second in itertools.pairwise(sorted(says for _, _, says in MISTAKES))
        if "was due" not in first
    )
