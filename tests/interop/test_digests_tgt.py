# SPDX-License-Identifier: LGPL-2.1-or-later
"""Digests, padding and framing against tgt: a target that computes CRC32C by itself takes ours and sends its own.

The login is written out by hand and nothing above the stream is used, so that a failure here is the stream's.
"""

from __future__ import annotations

import itertools
import os
import random
import socket
from collections.abc import Iterator

import pytest

from iscsiboot.initiator.errors import ProtocolViolation
from iscsiboot.initiator.pdu.control import NopIn, NopOut
from iscsiboot.initiator.pdu.header import BHS_LENGTH
from iscsiboot.initiator.pdu.login import LoginRequest, LoginResponse
from iscsiboot.initiator.pdu.scsi import DataIn, ScsiCommand, ScsiResponse
from iscsiboot.initiator.stream import RawPdu, StreamDecoder, frame
from iscsiboot.initiator.text import decode_pairs, encode_pairs
from iscsiboot.model.lun import Lun
from tests.doubles.tgt import TGTD, TgtTarget

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(os.geteuid() != 0, reason="tgtd needs root"),
    pytest.mark.skipif(TGTD is None, reason="tgtd is not installed (package tgt)"),
]

NAME = "iqn.2004-01.com.example:digests"
SECONDS = 10.0
LIMIT = 8192
PINGS = (0, 1, 2, 3, 4, 5, 255, 256, 257, 1000, 4095, 4096, 8191, 8192)
DIGESTS = [
    pytest.param(header, data, id=f"header-{'crc' if header else 'none'}-data-{'crc' if data else 'none'}")
    for header, data in itertools.product((False, True), repeat=2)
]


class Wire:
    """One connection in full feature phase; sends and receives in lockstep."""

    def __init__(self, link: socket.socket, header: bool, data: bool) -> None:
        self._link = link
        self._header = self._data = False
        self._decoder = StreamDecoder(data_limit=LIMIT)
        keys = {
            "InitiatorName": "iqn.2004-01.com.example:host",
            "TargetName": NAME,
            "SessionType": "Normal",
            "HeaderDigest": "CRC32C" if header else "None",
            "DataDigest": "CRC32C" if data else "None",
            "MaxRecvDataSegmentLength": str(LIMIT),
        }
        text = encode_pairs(keys.items())
        request = LoginRequest(
            transit=True, csg=1, nsg=3, isid=bytes.fromhex("00023d000001"), cmdsn=1, exp_statsn=0, data_length=len(text)
        )
        self.send(request.encode(), text)
        answer = self.receive()
        response = LoginResponse.decode(answer.bhs)
        assert (response.status_class, response.transit) == (0, True)
        agreed = dict(decode_pairs(answer.data))
        assert (agreed["HeaderDigest"], agreed["DataDigest"]) == (keys["HeaderDigest"], keys["DataDigest"])
        self._header, self._data = header, data
        self._decoder.reconfigure(data_limit=LIMIT, header_digest=header, data_digest=data)
        self.statsn = response.statsn + 1

    def send(self, bhs: bytes, data: bytes = b"", *, damage: int | None = None) -> None:
        """Send one PDU; with one bit wrong at byte ``damage`` of its bytes on the wire."""
        wire = bytearray(frame(bhs, data, header_digest=self._header, data_digest=self._data))
        if damage is not None:
            wire[damage] ^= 1
        self._link.sendall(wire)

    def receive(self) -> RawPdu:
        """The next PDU; ConnectionError when the target closes."""
        while (pdu := self._decoder.next_pdu()) is None:
            piece = self._link.recv(65536)
            if not piece:
                raise ConnectionResetError("the target closed the connection")
            self._decoder.feed(piece)
        return pdu

    def ping(self, tag: int, data: bytes, *, damage: int | None = None) -> RawPdu:
        bhs = NopOut(immediate=True, itt=tag, cmdsn=1, exp_statsn=self.statsn, data_length=len(data)).encode()
        self.send(bhs, data, damage=damage)
        return self.receive()

    def read(self, lun: Lun, *, cmdsn: int, blocks: int) -> tuple[int, bytes]:
        """SCSI status and data of a READ(10) from the first block on."""
        bhs = ScsiCommand(
            read=True,
            lun=lun.wire,
            itt=cmdsn,
            cmdsn=cmdsn,
            exp_statsn=self.statsn,
            expected_length=blocks * 512,
            cdb=(b"\x28" + bytes(6) + blocks.to_bytes(2, "big")).ljust(16, b"\0"),
        ).encode()
        self.send(bhs)
        got = b""
        while (pdu := self.receive()).bhs[0] & 0x3F == DataIn.OPCODE:
            part = DataIn.decode(pdu.bhs)
            assert part.buffer_offset == len(got)
            got += pdu.data
            if part.status_present:
                return part.status, got
        return ScsiResponse.decode(pdu.bhs).status, got


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TgtTarget]:
    disk = tmp_path_factory.mktemp("disk") / "disk"
    disk.write_bytes(random.Random(1).randbytes(1 << 20))
    # tgt offers what its target allows; both words in the list, so that each test chooses.
    digests = {"HeaderDigest": "CRC32C,None", "DataDigest": "CRC32C,None"}
    with TgtTarget(name=NAME, backing=disk, parameters=digests) as running:
        yield running


@pytest.fixture
def link(target: TgtTarget) -> Iterator[socket.socket]:
    with socket.create_connection((target.address, target.port), timeout=SECONDS) as connected:
        yield connected


@pytest.mark.parametrize(("header", "data"), DIGESTS)
def test_pings_of_any_length_come_back(link: socket.socket, header: bool, data: bool) -> None:
    wire = Wire(link, header, data)
    for tag, length in enumerate(PINGS, start=1):
        payload = random.Random(length).randbytes(length)
        answer = wire.ping(tag, payload)
        assert NopIn.decode(answer.bhs).itt == tag
        # tgt sends back at most its own MaxRecvDataSegmentLength, which is the same.
        assert answer.data == payload


@pytest.mark.parametrize(("header", "data"), DIGESTS)
def test_a_read_of_many_pdus(link: socket.socket, target: TgtTarget, header: bool, data: bool) -> None:
    wire = Wire(link, header, data)
    # The first command of a session meets a unit attention, which says that the session is new.
    statuses, got = [], b""
    for number in (1, 2):
        status, got = wire.read(Lun.from_number(target.lun), cmdsn=number, blocks=256)
        statuses.append(status)
    assert statuses[-1] == 0
    assert got == random.Random(1).randbytes(1 << 20)[: 256 * 512]


@pytest.mark.parametrize(
    "damage",
    [pytest.param(20, id="header"), pytest.param(BHS_LENGTH, id="header-digest"), pytest.param(60, id="data")],
)
def test_control_tgt_takes_no_wrong_digest(link: socket.socket, damage: int) -> None:
    """The same ping with one wrong bit is not answered as before: otherwise tgt would look at no digest at all."""
    wire = Wire(link, True, True)
    assert wire.ping(1, b"x" * 64).data == b"x" * 64
    link.settimeout(2.0)
    try:
        answer = wire.ping(2, b"x" * 64, damage=damage)
    except (TimeoutError, ConnectionError, ProtocolViolation):
        return
    assert answer.bhs[0] & 0x3F != NopIn.OPCODE
