# SPDX-License-Identifier: LGPL-2.1-or-later
"""PDUs cut from a stream: whole, byte by byte, with bytes of the next behind, and refused before they cost memory."""

from __future__ import annotations

import itertools
import time
import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.initiator.digest import digest
from iscsiboot.initiator.errors import Misuse, ProtocolViolation
from iscsiboot.initiator.pdu.ahs import encode_list, read_length, split_cdb
from iscsiboot.initiator.pdu.control import NopIn, NopOut
from iscsiboot.initiator.pdu.header import AHS_LENGTH_MAX, BHS_LENGTH
from iscsiboot.initiator.pdu.scsi import DataIn, ScsiCommand
from iscsiboot.initiator.stream import RawPdu, StreamDecoder, frame

DIGESTS = [
    pytest.param(header, data, id=f"header-{'crc' if header else 'none'}-data-{'crc' if data else 'none'}")
    for header, data in itertools.product((False, True), repeat=2)
]
LIMIT = 8192


def raw(data: bytes, ahs: bytes = b"", tag: int = 1) -> RawPdu:
    bhs = ScsiCommand(
        ahs_length=len(ahs), data_length=len(data), lun=bytes(8), itt=tag, cmdsn=1, exp_statsn=1, cdb=bytes(16)
    ).encode()
    return RawPdu(bhs, ahs, data)


AHS = encode_list([*split_cdb(bytes(33))[1], read_length(512)])
PDUS = [
    raw(b""),
    raw(b"x", tag=2),
    raw(b"abc", AHS, tag=3),
    raw(b"", AHS, tag=4),
    raw(bytes(range(256)) * 32, tag=5),
    raw(b"1234", bytes(AHS_LENGTH_MAX), tag=6),
    raw(b"", tag=7),
]


def drain(decoder: StreamDecoder) -> list[RawPdu]:
    found = []
    while (pdu := decoder.next_pdu()) is not None:
        found.append(pdu)
    return found


def wire_of(pdus: list[RawPdu], header: bool, data: bool) -> bytes:
    return b"".join(frame(pdu.bhs, pdu.data, pdu.ahs, header_digest=header, data_digest=data) for pdu in pdus)


@pytest.mark.parametrize(
    ("header", "data", "wire"),
    [
        pytest.param(False, False, "BHS AHS 61620000", id="none"),
        pytest.param(True, False, "BHS AHS HD 61620000", id="header"),
        pytest.param(False, True, "BHS AHS 61620000 DD", id="data"),
        pytest.param(True, True, "BHS AHS HD 61620000 DD", id="both"),
    ],
)
def test_the_figure_of_a_pdu(header: bool, data: bool, wire: str) -> None:
    """RFC 7143 section 11.2: what comes after what, and what each digest covers."""
    pdu = raw(b"ab", AHS)
    parts = {"BHS": pdu.bhs, "AHS": AHS, "HD": digest(pdu.bhs + AHS), "DD": digest(b"ab\0\0")}
    expected = b"".join(parts[word] if word in parts else bytes.fromhex(word) for word in wire.split())
    assert frame(pdu.bhs, b"ab", AHS, header_digest=header, data_digest=data) == expected


def test_an_empty_segment_has_no_digest() -> None:
    bhs = NopOut(cmdsn=1, exp_statsn=1).encode()
    assert frame(bhs, data_digest=True) == bhs
    assert frame(bhs, header_digest=True, data_digest=True) == bhs + digest(bhs)


def test_no_digests_unless_asked_for() -> None:
    pdu = raw(b"ab", AHS)
    assert frame(pdu.bhs, pdu.data, pdu.ahs) == pdu.bhs + AHS + b"ab\0\0"
    decoder = StreamDecoder(data_limit=2)
    decoder.feed(pdu.bhs + AHS + b"ab\0\0")
    assert decoder.next_pdu() == pdu


@pytest.mark.parametrize(("header", "data"), DIGESTS)
@pytest.mark.parametrize("piece", [1, 3, 47, 48, 49, 52, 4096, 1 << 20])
def test_pieces_of_any_size_give_the_same_pdus(header: bool, data: bool, piece: int) -> None:
    wire = wire_of(PDUS, header, data)
    decoder = StreamDecoder(data_limit=LIMIT, header_digest=header, data_digest=data)
    found = []
    for start in range(0, len(wire), piece):
        decoder.feed(wire[start : start + piece])
        found += drain(decoder)
    assert found == PDUS
    assert decoder.pending == 0


@pytest.mark.parametrize(("header", "data"), DIGESTS)
@pytest.mark.parametrize("pdu", PDUS, ids=lambda pdu: f"tag{pdu.bhs[19]}")
def test_a_pdu_comes_with_its_last_byte_and_not_before(header: bool, data: bool, pdu: RawPdu) -> None:
    wire = wire_of([pdu], header, data)
    decoder = StreamDecoder(data_limit=LIMIT, header_digest=header, data_digest=data)
    decoder.feed(wire[:-1])
    assert decoder.next_pdu() is None
    assert decoder.pending == len(wire) - 1
    decoder.feed(wire[-1:] + wire[:40])
    assert decoder.next_pdu() == pdu
    assert decoder.next_pdu() is None
    assert decoder.pending == 40


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview], ids=lambda kind: kind.__name__)
def test_any_kind_of_bytes_is_taken_and_copied(kind: type[bytearray]) -> None:
    wire = bytearray(wire_of(PDUS[:3], True, True))
    decoder = StreamDecoder(data_limit=LIMIT, header_digest=True, data_digest=True)
    decoder.feed(kind(wire))
    wire[:] = bytes(len(wire))
    assert drain(decoder) == PDUS[:3]
    assert all(type(part) is bytes for part in (PDUS[0].bhs, PDUS[0].ahs, PDUS[0].data))


def test_padding_is_not_looked_at() -> None:
    pdu = raw(b"x")
    decoder = StreamDecoder(data_limit=LIMIT, data_digest=True)
    decoder.feed(pdu.bhs + b"x\xff\xff\xff" + digest(b"x\xff\xff\xff"))
    assert decoder.next_pdu() == pdu


@pytest.mark.parametrize(("header", "data"), DIGESTS)
def test_a_header_that_announces_too_much_is_refused_at_once(header: bool, data: bool) -> None:
    bhs = DataIn(itt=1, data_length=LIMIT + 1).encode()
    decoder = StreamDecoder(data_limit=LIMIT, header_digest=header, data_digest=data)
    decoder.feed(bhs[:47])
    assert decoder.next_pdu() is None
    decoder.feed(bhs[47:])
    with pytest.raises(ProtocolViolation, match="SCSI Data-In announces 8193 bytes of data, at most 8192 are allowed"):
        decoder.next_pdu()
    assert decoder.pending == 0


def test_the_limit_itself_is_allowed() -> None:
    decoder = StreamDecoder(data_limit=LIMIT)
    pdu = raw(bytes(LIMIT))
    decoder.feed(wire_of([pdu], False, False))
    assert decoder.next_pdu() == pdu


@pytest.mark.parametrize("bit", range(0, 8 * (BHS_LENGTH + len(AHS) + 4), 7))
def test_each_bit_of_a_header_is_covered(bit: int) -> None:
    """A wrong bit never gives a PDU: the digest differs, or a length does and the digest with it."""
    wire = bytearray(wire_of([raw(b"data", AHS)] * 40, True, True))
    wire[bit // 8] ^= 1 << bit % 8
    decoder = StreamDecoder(data_limit=LIMIT, header_digest=True, data_digest=True)
    decoder.feed(wire)
    with pytest.raises(ProtocolViolation, match=r"came with digest|announces"):
        decoder.next_pdu()


@pytest.mark.parametrize("at", [0, 4, 5, 7, 8, 11], ids=lambda at: f"byte{at}")
def test_each_byte_of_data_padding_and_digest_is_covered(at: int) -> None:
    pdu = raw(b"12345")
    wire = bytearray(wire_of([pdu], True, True))
    wire[BHS_LENGTH + 4 + at] ^= 0x10
    decoder = StreamDecoder(data_limit=LIMIT, header_digest=True, data_digest=True)
    decoder.feed(wire[:-1])
    assert decoder.next_pdu() is None
    decoder.feed(wire[-1:])
    with pytest.raises(ProtocolViolation, match=r"the data of a PDU \(SCSI Command\) came with digest 0x") as caught:
        decoder.next_pdu()
    assert "damages data" in caught.value.hint


def test_a_bad_header_is_refused_before_its_data_is_there() -> None:
    """A wrong length is a reason to wait for bytes that never come, so the digest is looked at first."""
    wire = bytearray(wire_of([raw(bytes(0x1C00))], True, False))
    wire[6] ^= 0x03
    decoder = StreamDecoder(data_limit=LIMIT, header_digest=True)
    decoder.feed(wire[: BHS_LENGTH + 3])
    assert decoder.next_pdu() is None
    decoder.feed(wire[BHS_LENGTH + 3 : BHS_LENGTH + 4])
    with pytest.raises(ProtocolViolation, match="the header of a PDU"):
        decoder.next_pdu()


def test_a_violation_stays_and_nothing_is_kept() -> None:
    decoder = StreamDecoder(data_limit=0)
    good = raw(b"")
    decoder.feed(wire_of([good, raw(b"x"), good], False, False))
    assert decoder.next_pdu() == good
    for _ in range(3):
        with pytest.raises(ProtocolViolation, match="at most 0 are allowed"):
            decoder.next_pdu()
        decoder.feed(wire_of([good], False, False))
        assert decoder.pending == 0


def test_rules_change_between_two_pdus_of_one_segment() -> None:
    """The last Login Response has no digests, what comes in the same TCP segment has."""
    first, second = raw(b"login"), raw(bytes(LIMIT + 100), tag=2)
    decoder = StreamDecoder(data_limit=LIMIT)
    decoder.feed(wire_of([first], False, False) + wire_of([second], True, True))
    assert decoder.next_pdu() == first
    decoder.reconfigure(data_limit=2 * LIMIT, header_digest=True, data_digest=True)
    assert decoder.next_pdu() == second


def test_rules_change_in_the_middle_of_a_pdu() -> None:
    """What was looked at under the old rules is looked at again."""
    pdu = raw(bytes(LIMIT))
    wire = wire_of([pdu], True, True)
    decoder = StreamDecoder(data_limit=LIMIT)
    decoder.feed(wire[:100])
    assert decoder.next_pdu() is None
    decoder.reconfigure(data_limit=LIMIT, header_digest=True, data_digest=True)
    decoder.feed(wire[100:])
    assert decoder.next_pdu() == pdu
    decoder.feed(wire[:100])
    assert decoder.next_pdu() is None
    decoder.reconfigure(data_limit=LIMIT - 1, header_digest=True, data_digest=True)
    with pytest.raises(ProtocolViolation, match="at most 8191"):
        decoder.next_pdu()


@pytest.mark.parametrize(
    ("pdu", "cause"),
    [
        pytest.param(replace(raw(b"abc"), data=b"ab"), "announces 0 and 3 bytes, 0 and 2 are to follow", id="data"),
        pytest.param(replace(raw(b"", AHS), ahs=AHS[:-4]), "announces 32 and 0 bytes, 28 and 0", id="ahs"),
        pytest.param(replace(raw(b""), bhs=bytes(47)), "a header has 48 bytes, not 47", id="header"),
    ],
)
def test_frame_refuses_a_header_that_lies(pdu: RawPdu, cause: str) -> None:
    with pytest.raises(Misuse, match=cause):
        frame(pdu.bhs, pdu.data, pdu.ahs)


def test_large_data_in_small_pieces_is_no_quadratic_affair() -> None:
    """8 MiB in 64 KiB pieces: no more memory than buffer and PDU, so nothing was copied at each piece."""
    size, piece = 8 << 20, 64 << 10
    pdu = RawPdu(DataIn(itt=1, data_length=size).encode(), b"", bytes(size))
    wire = memoryview(frame(pdu.bhs, pdu.data))
    decoder = StreamDecoder(data_limit=size)
    allocated, complete = [], None
    tracemalloc.start()
    try:
        for start in range(0, len(wire), piece):
            decoder.feed(wire[start : start + piece])
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            complete = decoder.next_pdu()
            allocated.append(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    assert complete == pdu
    assert max(allocated[:-1]) < 4096
    assert size <= allocated[-1] < size + 4096


def test_a_large_feed_of_many_small_pdus_is_no_quadratic_affair() -> None:
    """Each PDU leaves the front of the buffer; moving the rest each time would be 350 GB of copying here."""
    bhs = NopIn().encode()
    count = 120_000
    decoder = StreamDecoder(data_limit=0)
    decoder.feed(bhs * count)
    before = time.process_time()
    assert sum(1 for _ in iter(decoder.next_pdu, None)) == count
    # Takes half a second; processor time, so that a busy machine fails nothing.
    assert time.process_time() - before < 10
    assert decoder.pending == 0


@st.composite
def raw_pdus(draw: st.DrawFn) -> RawPdu:
    words = draw(st.integers(0, 20))
    return raw(draw(st.binary(max_size=600)), draw(st.binary(min_size=4 * words, max_size=4 * words)))


@given(st.lists(raw_pdus(), max_size=5), st.booleans(), st.booleans(), st.data())
def test_any_pdus_in_any_pieces(pdus: list[RawPdu], header: bool, data: bool, draw: st.DataObject) -> None:
    wire = wire_of(pdus, header, data)
    decoder = StreamDecoder(data_limit=600, header_digest=header, data_digest=data)
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(wire)), max_size=12)))
    found = []
    for start, end in itertools.pairwise([0, *cuts, len(wire)]):
        decoder.feed(wire[start:end])
        found += drain(decoder)
        assert decoder.pending < BHS_LENGTH + AHS_LENGTH_MAX + 600 + 8
    assert found == pdus
