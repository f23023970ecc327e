# SPDX-License-Identifier: LGPL-2.1-or-later
"""The double's own framing, against bytes written by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from iscsiboot.initiator.pdu.control import NopIn
from tests.doubles.wire import Close, Framer, Outgoing, Send, digest

HEADER = bytes([0x40, 0x80, 0, 0, 1, 0, 0, 5]) + bytes(range(40))
AHS = b"\x00\x01\x01\x00"
DATA = b"abcde"
PADDING = bytes(3)

# RFC 3720 appendix B.4, as the digest stands on the wire.
VECTORS = [
    (bytes(32), "aa36918a"),
    (b"\xff" * 32, "43aba862"),
    (bytes(range(32)), "4e79dd46"),
    (bytes(reversed(range(32))), "5cdb3f11"),
]


@pytest.mark.parametrize(("data", "expected"), VECTORS, ids=["zeros", "ones", "rising", "falling"])
def test_digests_are_the_rfcs(data: bytes, expected: str) -> None:
    assert digest(data).hex() == expected


def wire(*, header_digest: bool, data_digest: bool) -> bytes:
    header = digest(HEADER + AHS) if header_digest else b""
    tail = digest(DATA + PADDING) if data_digest else b""
    return HEADER + AHS + header + DATA + PADDING + tail


@pytest.mark.parametrize("piece", [1, 7, 1000], ids=str)
@pytest.mark.parametrize("header_digest", [False, True], ids=["", "header"])
@pytest.mark.parametrize("data_digest", [False, True], ids=["", "data"])
def test_frames(piece: int, header_digest: bool, data_digest: bool) -> None:
    framer = Framer()
    framer.header_digest, framer.data_digest = header_digest, data_digest
    stream = wire(header_digest=header_digest, data_digest=data_digest) * 3
    frames = []
    for at in range(0, len(stream), piece):
        framer.feed(stream[at : at + piece])
        while (frame := framer.next()) is not None:
            frames.append(frame)
    assert [(f.bhs, f.ahs, f.data, f.padding) for f in frames] == [(HEADER, AHS, DATA, PADDING)] * 3
    assert all(f.header_intact and f.data_intact for f in frames)
    assert framer.pending == 0


@pytest.mark.parametrize(("at", "header", "data"), [(0, False, True), (49, False, True), (56, True, False)])
def test_damage_is_seen(at: int, header: bool, data: bool) -> None:
    framer = Framer()
    framer.header_digest = framer.data_digest = True
    stream = bytearray(wire(header_digest=True, data_digest=True))
    stream[at] ^= 0x08
    framer.feed(bytes(stream))
    frame = framer.next()
    assert frame is not None
    assert (frame.header_intact, frame.data_intact) == (header, data)


HONEST = Outgoing(pdu=NopIn(itt=5, statsn=9), data=DATA)


def sent(outgoing: Outgoing, **digests: bool) -> bytes:
    actions = outgoing.actions(outgoing.pdu, **({"header_digest": False, "data_digest": False} | digests))
    return b"".join(action.data for action in actions if isinstance(action, Send))


def test_an_honest_pdu() -> None:
    bhs = NopIn(itt=5, statsn=9, data_length=5).encode()
    assert sent(HONEST) == bhs + DATA + PADDING
    both = sent(HONEST, header_digest=True, data_digest=True)
    assert both == bhs + digest(bhs) + DATA + PADDING + digest(DATA + PADDING)
    empty = replace(HONEST, data=b"")
    assert len(sent(empty, header_digest=True, data_digest=True)) == 52


def test_lies() -> None:
    assert sent(HONEST.changed(statsn=lambda value: value + 1, ttt=3))[20:28].hex() == "000000030000000a"
    assert sent(replace(HONEST, announced=70000))[5:8] == (70000).to_bytes(3, "big")
    assert sent(replace(HONEST, announced_ahs=8))[4] == 2
    assert sent(replace(HONEST, copies=2)) == sent(HONEST) * 2
    assert sent(replace(HONEST, copies=0)) == b""
    cut = replace(HONEST, cut=50)
    assert cut.actions(cut.pdu, header_digest=False, data_digest=False) == [Send(sent(HONEST)[:50]), Close()]


@pytest.mark.parametrize(("what", "place"), [("header", slice(48, 52)), ("data", slice(60, 64))])
def test_a_spoiled_digest_is_the_only_thing_wrong(what: str, place: slice) -> None:
    good = sent(HONEST, header_digest=True, data_digest=True)
    bad = bytearray(sent(replace(HONEST, spoil=what), header_digest=True, data_digest=True))
    assert bad[place] != good[place]
    bad[place] = good[place]
    assert bytes(bad) == good
