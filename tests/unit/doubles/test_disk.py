# SPDX-License-Identifier: LGPL-2.1-or-later
"""The disk double: each command's bytes by the standard, and each kind of trouble."""

from __future__ import annotations

from collections import deque

import pytest

from tests.doubles.disk import Device, LogicalUnit, lun_bytes
from tests.doubles.scsi import (
    BAD_FIELD,
    BECOMING_READY,
    CHECK_CONDITION,
    NO_SUCH_UNIT,
    OUT_OF_RANGE,
    POWER_ON,
    RESERVATION_CONFLICT,
    UNKNOWN_COMMAND,
    WRITE_PROTECTED,
    Outcome,
    only_status,
    sense,
)

IMAGE = bytes(range(256)) * 16
"""Eight blocks."""


def cdb(text: str) -> bytes:
    return bytes.fromhex(text).ljust(16, b"\0")


READ_10 = cdb("28 00 00000001 00 0002 00")
WRITE_10 = cdb("2a 00 00000001 00 0002 00")


def test_inquiry() -> None:
    unit = LogicalUnit(IMAGE)
    data = unit.execute(cdb("12 00 00 00ff 00")).data
    assert data[:5].hex() == "000006121f"
    assert len(data) == 36
    assert data[8:].decode() == "EXAMPLE SCRIPTED DISK   1   "
    assert unit.execute(cdb("12 00 00 0005 00")).data == data[:5]
    assert unit.execute(cdb("12 01 00 00ff 00")).data.hex() == "000000030080" + "83"
    assert unit.execute(cdb("12 01 80 00ff 00")).data == b"\x00\x80\x00\x06SN0001"
    page = unit.execute(cdb("12 01 83 00ff 00")).data
    assert page[:16].hex() == "0083001e010300085000000123456789"
    assert page[16:] == b"\x02\x01\x00\x0eEXAMPLE SN0001"
    assert unit.execute(cdb("12 01 b0 00ff 00")) == BAD_FIELD
    assert unit.execute(cdb("12 00 80 00ff 00")) == BAD_FIELD


def test_sizes() -> None:
    unit = LogicalUnit(IMAGE)
    assert unit.execute(cdb("25")).data.hex() == "0000000700000200"
    assert (
        unit.execute(cdb("9e 10 0000000000000000 00000020")).data.hex() == "0000000000000007" + "00000200" + "00" * 20
    )
    assert len(unit.execute(cdb("9e 10 0000000000000000 0000000c")).data) == 12
    assert unit.execute(cdb("9e 11")) == BAD_FIELD
    huge = LogicalUnit(blocks=1 << 33, block=4096)
    assert huge.execute(cdb("25")).data.hex() == "ffffffff00001000"
    assert huge.execute(cdb("9e 10 0000000000000000 00000020")).data[:12].hex() == "00000001ffffffff00001000"


def test_reading_and_writing() -> None:
    unit = LogicalUnit(IMAGE)
    assert unit.execute(READ_10).data == IMAGE[512:1536]
    assert unit.execute(cdb("88 00 0000000000000007 00000001")).data == IMAGE[3584:]
    outcome = unit.execute(WRITE_10)
    assert outcome.wanted == 1024
    assert outcome.commit is not None
    assert unit.execute(READ_10).data == IMAGE[512:1536], "nothing is written before the data is there"
    assert outcome.commit(b"x" * 1024) == Outcome()
    assert unit.contents(0, 8) == IMAGE[:512] + b"x" * 1024 + IMAGE[1536:]
    assert unit.execute(cdb("8a 00 0000000000000001 00000001")).wanted == 512
    assert LogicalUnit(IMAGE, blocks=100).contents(7, 2) == IMAGE[3584:] + bytes(512)
    for code in ("35", "91"):
        assert unit.execute(cdb(code)) == Outcome()
    assert unit.flushed == 2
    assert unit.seen[0] == READ_10


@pytest.mark.parametrize(
    "text", ["28 00 00000007 00 0002 00", "2a 00 00000008 00 0001 00", "88 00 ffffffffffffffff 00000001"]
)
def test_beyond_the_end(text: str) -> None:
    assert LogicalUnit(IMAGE).execute(cdb(text)) == OUT_OF_RANGE


def test_medium_errors_name_the_first_bad_block() -> None:
    unit = LogicalUnit(IMAGE, bad=frozenset({2, 5}))
    for command, code in ((READ_10, 0x11), (WRITE_10, 0x0C)):
        outcome = unit.execute(command)
        assert (outcome.status, outcome.sense[0], outcome.sense[2], outcome.sense[12]) == (2, 0xF0, 3, code)
        assert outcome.sense[3:7] == bytes([0, 0, 0, 2])
    assert unit.execute(cdb("28 00 00000003 00 0002 00")).status == 0


def test_an_attention_is_told_once_and_not_on_inquiry() -> None:
    unit = LogicalUnit(IMAGE, pending=deque([POWER_ON]))
    assert unit.execute(cdb("12 00 00 0024 00")).status == 0
    assert unit.execute(cdb("00")) == POWER_ON
    assert unit.execute(cdb("00")) == Outcome()
    unit.pending.append(POWER_ON)
    assert unit.execute(cdb("03 00 0000 12 00")).data == POWER_ON.sense
    assert unit.execute(cdb("03 00 0000 12 00")).data == sense(0, 0)


@pytest.mark.parametrize("bits", [0x08, 0x10, 0x20, 0xE0], ids=["FUA", "DPO", "protection 1", "protection 7"])
@pytest.mark.parametrize("command", [READ_10, WRITE_10], ids=["read", "write"])
def test_what_this_disk_does_not_offer(command: bytes, bits: int) -> None:
    assert LogicalUnit(IMAGE).execute(command[:1] + bytes([bits]) + command[2:]) == BAD_FIELD


def test_troubles() -> None:
    assert LogicalUnit(IMAGE, ready=False).execute(READ_10) == BECOMING_READY
    assert LogicalUnit(IMAGE, writable=False).execute(WRITE_10) == WRITE_PROTECTED
    assert LogicalUnit(IMAGE, dead=True).execute(cdb("12")).dead
    assert LogicalUnit(IMAGE).execute(cdb("c1")) == UNKNOWN_COMMAND
    reserved = LogicalUnit(IMAGE, instead={0x28: only_status(RESERVATION_CONFLICT)})
    assert reserved.execute(READ_10).status == RESERVATION_CONFLICT
    assert reserved.execute(READ_10).status == RESERVATION_CONFLICT


def test_mode_sense() -> None:
    data = LogicalUnit(IMAGE, writable=False).execute(cdb("1a 00 3f 00 ff 00")).data
    assert data[:7].hex() == "17008000081204"
    assert len(data) == 24
    assert LogicalUnit(IMAGE).execute(cdb("1a 00 08 00 04 00")).data.hex() == "17000000"
    assert LogicalUnit(IMAGE).execute(cdb("1a 00 05 00 04 00")) == BAD_FIELD


def test_a_device_of_many_units() -> None:
    device = Device({1: LogicalUnit(IMAGE), 300: LogicalUnit(b"")})
    listed = device.execute(lun_bytes(0), cdb("a0 00 00 000000 00000100")).data
    assert listed.hex() == "00000010000000000001000000000000412c000000000000"
    assert device.execute(lun_bytes(0), cdb("a0 00 01 000000 00000100")).data == bytes(8)
    assert device.execute(lun_bytes(1), READ_10).data == IMAGE[512:1536]
    assert device.execute(lun_bytes(7), READ_10) == NO_SUCH_UNIT
    assert device.execute(lun_bytes(7), cdb("12 00 00 0024 00")).data[0] == 0x7F
    device.reset([lun_bytes(1)])
    assert device.execute(lun_bytes(1), cdb("00")).status == CHECK_CONDITION


def test_a_dead_unit_is_dead_for_report_luns_too() -> None:
    device = Device({0: LogicalUnit(dead=True)})
    assert device.execute(lun_bytes(0), cdb("a0 00 00 000000 00000100")).dead
