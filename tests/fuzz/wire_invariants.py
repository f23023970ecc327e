# SPDX-License-Identifier: LGPL-2.1-or-later
"""The invariants of everything that reads bytes of a connection, as functions: both fuzzers hold the same.

Each takes one input, raises AssertionError (or whatever broke) when the invariant is, and says what became of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from iscsiboot.initiator.errors import LoginError, ProtocolViolation
from iscsiboot.initiator.events import parse_target_address
from iscsiboot.initiator.login import LoginMachine
from iscsiboot.initiator.pdu.ahs import Ahs, decode_list, encode_list, find_read_length, join_cdb
from iscsiboot.initiator.pdu.header import AHS_LENGTH_MAX, BHS_LENGTH, Pdu
from iscsiboot.initiator.pdu.registry import INITIATOR_PDUS, TARGET_PDUS, decode
from iscsiboot.initiator.stream import RawPdu, StreamDecoder, frame
from iscsiboot.initiator.text import KEYS_MAX, TEXT_MAX, Pairs, TextAssembler, decode_pairs, encode_pairs
from iscsiboot.initiator.text import parse_binary as binary
from iscsiboot.initiator.text import parse_number as number
from iscsiboot.model.portal import NamedPortal

ACCEPTED, REFUSED = "accepted", "refused"

Value = TypeVar("Value")


def cause_of(violation: ProtocolViolation) -> str:
    """The cause, which must be one printable line of bounded length."""
    assert violation.cause
    assert violation.cause.isprintable()
    assert violation.hint.isprintable()
    assert len(violation.cause) < 1000
    return violation.cause


def attempt(parse: Callable[[], Value]) -> Value | None:
    """What ``parse`` gives, None when it refuses."""
    try:
        return parse()
    except ProtocolViolation as violation:
        cause_of(violation)
        return None


def pdu(data: bytes) -> str:
    """A header decodes to a value that encodes to a header which decodes to it, in the direction it belongs to."""
    values: list[Pdu] = []
    for kinds in (INITIATOR_PDUS, TARGET_PDUS):
        value = attempt(partial(decode, data, kinds))
        if value is not None:
            assert decode(value.encode(), kinds) == value
            values.append(value)
    assert len(values) <= 1, "one opcode, two directions"
    return ACCEPTED if values else REFUSED


def ahs(data: bytes) -> str:
    """Additional headers decode to values that encode to as many bytes, or fewer than the input by nothing."""
    headers = attempt(partial(decode_list, data))
    if headers is None:
        return REFUSED
    assert len(headers) <= len(data) // 4
    assert len(encode_list(headers)) == len(data)
    assert decode_list(encode_list(headers)) == headers
    attempt(partial(_cdb, headers))
    length = attempt(partial(find_read_length, headers))
    assert length is None or 0 <= length < 1 << 32
    return ACCEPTED


def _cdb(headers: tuple[Ahs, ...]) -> bytes:
    cdb = join_cdb(bytes(16), headers)
    assert 16 <= len(cdb) <= 260
    return cdb


STREAM_LIMIT = 1024
"""Data the stream of :func:`stream` may hold in one PDU."""


def stream(data: bytes, rng: random.Random) -> str:
    """A stream gives the same PDUs and the same refusal whole and in pieces, and keeps one PDU's bytes at most.

    The first byte of the input says which digests there are.
    """
    rules, wire = data[:1] or b"\0", data[1:]
    header, body = bool(rules[0] & 1), bool(rules[0] & 2)
    whole = _decode([wire], header, body)
    cuts = sorted(rng.randrange(len(wire) + 1) for _ in range(rng.randrange(6)))
    pieces = [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    assert _decode(pieces, header, body) == whole
    pdus, refusal = whole
    again = b"".join(frame(pdu.bhs, pdu.data, pdu.ahs, header_digest=header, data_digest=body) for pdu in pdus)
    assert len(again) <= len(wire)
    return REFUSED if refusal or not pdus else ACCEPTED


def _decode(pieces: Sequence[bytes], header: bool, body: bool) -> tuple[list[RawPdu], str]:
    decoder = StreamDecoder(data_limit=STREAM_LIMIT, header_digest=header, data_digest=body)
    pdus: list[RawPdu] = []
    try:
        for piece in pieces:
            decoder.feed(piece)
            before = decoder.pending
            while (pdu := decoder.next_pdu()) is not None:
                assert decoder.pending <= before - BHS_LENGTH, "no progress"
                before = decoder.pending
                assert len(pdu.bhs) == BHS_LENGTH
                assert len(pdu.data) <= STREAM_LIMIT
                pdus.append(pdu)
            assert decoder.pending < BHS_LENGTH + AHS_LENGTH_MAX + STREAM_LIMIT + 8
    except ProtocolViolation as violation:
        assert decoder.pending == 0
        return pdus, cause_of(violation)
    return pdus, ""


def text(data: bytes, rng: random.Random) -> str:
    """Pairs are bounded and survive a round trip; a text in parts means what it means whole."""
    pairs = attempt(partial(decode_pairs, data))
    if pairs is not None:
        assert len(pairs) <= KEYS_MAX
        assert all(key and "=" not in key and "\0" not in key + value for key, value in pairs)
        assert decode_pairs(encode_pairs(pairs)) == pairs
    assembler = TextAssembler()
    cut = rng.randrange(len(data) + 1)

    def in_parts() -> Pairs | None:
        assert assembler.add(data[:cut], more=True) is None
        return assembler.add(data[cut:], more=False)

    together = attempt(in_parts)
    assert together == (pairs if len(data) <= TEXT_MAX else None)
    return REFUSED if pairs is None else ACCEPTED


def parse_number(data: bytes) -> str:
    """A number has 64 bits."""
    value = attempt(partial(number, data.decode("utf-8", "replace")))
    assert value is None or 0 <= value < 1 << 64
    return REFUSED if value is None else ACCEPTED


def parse_binary(data: bytes, rng: random.Random) -> str:
    """A binary value has 1 to limit bytes and is what its digits say."""
    limit = rng.choice((1, 16, 64, 1024))
    written = data.decode("utf-8", "replace")
    value = attempt(partial(binary, written, limit))
    if value is None:
        return REFUSED
    assert 1 <= len(value) <= limit
    if written[1] in "xX":
        assert int(written[2:], 16) == int.from_bytes(value, "big")
    return ACCEPTED


def target_address(data: bytes) -> str:
    """An address has a host that can be given to a resolver or to connect, and a port."""
    portal = attempt(partial(parse_target_address, data.decode("utf-8", "replace")))
    if portal is None:
        return REFUSED
    host = portal.host if isinstance(portal, NamedPortal) else str(portal.address)
    assert host
    assert 1 <= portal.port <= 65535
    assert portal.tpgt is None or 0 <= portal.tpgt <= 65535
    assert all(char.isascii() and (char.isalnum() or char in ".:-") for char in host)
    return ACCEPTED


ANSWERS_MAX = 100
"""More than any login takes (conversation.EXCHANGES_MAX)."""


def login(machine: LoginMachine, wire: bytes, secrets: Sequence[str]) -> str:
    """A login that is given these bytes goes on, succeeds or fails by one LoginError that shows no secret."""
    machine.start()
    answers, position = 0, 0
    while machine.outcome is None:
        sent = 0
        while machine.next_request() is not None:
            sent += 1
        assert sent == 1, "neither progress nor an end"
        answers += 1
        assert answers < ANSWERS_MAX, "no end"
        bhs = wire[position : position + BHS_LENGTH]
        if len(bhs) < BHS_LENGTH:
            return "waits for more"
        position += BHS_LENGTH
        try:
            following = machine.following(bhs)
            assert following < 1 << 14
            body = wire[position : position + following]
            if len(body) < following:
                return "waits for more"
            position += following
            machine.receive(bhs, body)
        except LoginError as error:
            line = error.line()
            assert line.isprintable()
            assert len(line) < 1200
            assert not any(secret in line for secret in secrets)
            assert machine.outcome is None
            return REFUSED
    return ACCEPTED
