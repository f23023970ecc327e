# SPDX-License-Identifier: LGPL-2.1-or-later
"""tshark as a second opinion: it dissects every PDU kind without complaint and reads what we meant.

Also those of a target, which this initiator only reads: a field at a wrong place would be wrong in both directions of
our own codec. Lengths, padding, additional headers and both digests are checked along the way.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from iscsiboot.initiator.connection import Connection
from iscsiboot.initiator.events import LoginSucceeded
from iscsiboot.initiator.pdu.registry import INITIATOR_PDUS, TARGET_PDUS
from iscsiboot.initiator.pdu.scsi import SnackRequest, TaskFunction
from iscsiboot.initiator.session_events import LoggedOut
from iscsiboot.initiator.stream import frame
from iscsiboot.initiator.timers import Timers
from iscsiboot.model.lun import Lun
from iscsiboot.model.params import Digest, SessionParams
from tests.doubles.conversation import config
from tests.doubles.disk import Device, LogicalUnit
from tests.doubles.faults import ping
from tests.doubles.link import Link, entropy
from tests.doubles.pcap import Dissected, Piece, dissect, write_capture
from tests.doubles.session import FullTarget, Plan
from tests.interop.tshark_cases import ANSWERED, SENT, XDWRITEREAD32, Case, compare

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed"),
]


def capture(tmp_path: Path, pieces: list[Piece]) -> list[Dissected]:
    file = tmp_path / "session.pcap"
    write_capture(file, pieces)
    return dissect(file)


def test_the_table_has_every_kind() -> None:
    assert {case.pdu.OPCODE for case in SENT} == set(INITIATOR_PDUS)
    assert {case.pdu.OPCODE for case in ANSWERED} == set(TARGET_PDUS)


@pytest.mark.parametrize(
    ("header", "data"),
    [
        pytest.param(False, False, id="no-digests"),
        pytest.param(True, False, id="header-digest"),
        pytest.param(True, True, id="both-digests"),
    ],
)
def test_tshark_reads_what_we_mean_and_complains_of_nothing(tmp_path: Path, header: bool, data: bool) -> None:
    cases = (*SENT, *ANSWERED)
    seen = capture(tmp_path, [case.piece(header, data) for case in cases])
    assert len(seen) == len(cases)
    for case, pdu in zip(cases, seen, strict=True):
        assert not pdu.complaints, case.name
        # Fewer would mean that tshark's names have changed and nothing is compared any more.
        assert compare(case, pdu) >= 6, case.name
        digests = [*pdu.names.get("iscsi.headerdigest32", ()), *pdu.names.get("iscsi.datadigest32", ())]
        assert len(digests) == (0 if case.is_login else header + (data and bool(case.data))), case.name
        assert all("(Good CRC32)" in text for text in digests)


@pytest.mark.parametrize("size", [500, 1000, 5000])
def test_pdus_that_share_segments_are_told_apart(tmp_path: Path, size: int) -> None:
    """One stream cut at places that are no PDU's end: lengths and padding are right, or tshark would lose its way.

    In segments of 150 bytes and fewer tshark 4.0 does lose it.
    """
    wire = b"".join(case.wire() for case in SENT)
    seen = capture(tmp_path, [Piece(wire[start : start + size]) for start in range(0, len(wire), size)])
    assert [pdu.numbers("iscsi.opcode")[0] for pdu in seen] == [case.pdu.OPCODE for case in SENT]
    assert not [text for pdu in seen for text in pdu.complaints]


def damaged(case: Case, byte: int, mask: int, header: bool = False, data: bool = False) -> bytes:
    wire = bytearray(case.wire(header, data))
    wire[byte] ^= mask
    return bytes(wire)


PING = next(case for case in SENT if case.name == "ping")
LOGIN = next(case for case in SENT if case.name == "login-security")
BIDIRECTIONAL = next(case for case in SENT if case.name == "bidirectional-32")


@pytest.mark.parametrize(
    ("wire", "complaint"),
    [
        pytest.param(damaged(PING, 20, 1, True, True), "Bad CRC32", id="header"),
        pytest.param(damaged(PING, 48, 1, True, True), "Bad CRC32", id="header-digest"),
        pytest.param(damaged(PING, 52, 1, True, True), "Bad CRC32", id="data"),
        pytest.param(damaged(PING, 59, 1, True, True), "Bad CRC32", id="padding"),
        pytest.param(damaged(PING, -1, 1, True, True), "Bad CRC32", id="data-digest"),
        pytest.param(damaged(BIDIRECTIONAL, 50, 1, True, True), "Bad CRC32", id="additional-header"),
        pytest.param(damaged(LOGIN, 48 + len(LOGIN.data) - 1, 0x20), "Malformed Packet", id="text-without-end"),
    ],
)
def test_control_tshark_finds_what_is_wrong(tmp_path: Path, wire: bytes, complaint: str) -> None:
    """The same bytes with one bit turned: otherwise the tests above could not fail."""
    digests = "CRC32" in complaint
    # tshark finds out from the first good PDU after the login that a connection has digests.
    seen = capture(tmp_path, [LOGIN.piece(), PING.piece(digests, digests), Piece(wire)])
    assert len(seen) == 3
    assert not seen[0].complaints + seen[1].complaints
    assert any(complaint in text for text in seen[2].complaints)


def test_control_a_field_at_another_place_is_noticed(tmp_path: Path) -> None:
    """CmdSN and ExpStatSN changed places on the wire."""
    bhs = PING.complete.encode()
    swapped = bhs[:24] + bhs[28:32] + bhs[24:28] + bhs[32:]
    _, seen = capture(tmp_path, [LOGIN.piece(), Piece(frame(swapped, PING.data))])
    with pytest.raises(AssertionError, match="ping: cmdsn"):
        compare(PING, seen)


class Tap:
    """The engine with its stream written down; everything else is the engine's own."""

    def __init__(self, engine: Connection) -> None:
        self._engine = engine
        self.pieces: list[Piece] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def data_to_send(self) -> bytes:
        data = self._engine.data_to_send()
        self._note(data, from_target=False)
        return data

    def receive(self, data: bytes, now: float) -> None:
        self._note(data, from_target=True)
        self._engine.receive(data, now)

    def _note(self, data: bytes, *, from_target: bool) -> None:
        self.pieces += [Piece(data[at : at + 16000], from_target) for at in range(0, len(data), 16000)]


@pytest.mark.parametrize("digest", [Digest.NONE, Digest.CRC32C], ids=lambda digest: digest.value)
def test_a_whole_session_of_the_engine(tmp_path: Path, digest: Digest) -> None:
    """What the engine really sends, from login to logout, and what a target answers: no complaint about any of it."""
    params = SessionParams(header_digest=digest, data_digest=digest, max_recv_data_segment_length=8192)
    tap = Tap(Connection(config(params=params), entropy=entropy, timers=Timers()))
    target = FullTarget(Plan(device=Device({0: LogicalUnit(bytes(1 << 19))})))
    ours = Link(tap, target)
    ours.start()
    ours.until(LoginSucceeded)
    lun = Lun.from_number(0)
    ours.push(ping(0x31, data=b"and you"))
    tap.ping(ours.now, b"anybody there?")
    tap.command(lun, bytes.fromhex("2a000000000000020000"), now=ours.now, data_out=bytes(512 * 512))
    ours.pump()
    tap.command(lun, bytes.fromhex("28000000000000020000"), now=ours.now, read_length=512 * 512)
    tap.command(lun, XDWRITEREAD32, now=ours.now, read_length=512, data_out=bytes(512))
    tap.send_text((("SendTargets", ""),), ours.now)
    ours.pump()
    tap.manage_task(TaskFunction.LOGICAL_UNIT_RESET, now=ours.now, lun=lun)
    ours.pump()
    tap.logout(ours.now)
    ours.until(LoggedOut)
    seen = capture(tmp_path, tap.pieces)
    assert not [text for pdu in seen for text in pdu.complaints]
    sent = [pdu for pdu in seen if pdu.numbers("iscsi.opcode")[0] in INITIATOR_PDUS]
    assert len(sent) == len(target.received)
    for pdu, taken in zip(sent, target.received, strict=True):
        compare(Case(type(taken).__name__, taken), pdu)
    # Every kind there is a reason to send at error recovery level 0.
    assert {pdu.OPCODE for pdu in target.received} == set(INITIATOR_PDUS) - {SnackRequest.OPCODE}
    checked = [text for pdu in seen for text in pdu.names.get("iscsi.headerdigest32", ())]
    assert len(checked) == (len(seen) - 2 if digest is Digest.CRC32C else 0)
