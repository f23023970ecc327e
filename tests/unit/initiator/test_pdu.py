# SPDX-License-Identifier: LGPL-2.1-or-later
"""Headers against bytes written out by hand from the figures of RFC 7143 sections 11.12, 11.13 and 11.17."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.initiator.errors import ProtocolViolation
from iscsiboot.initiator.pdu.header import BHS_LENGTH, Header, Opcode, pad, padded_length
from iscsiboot.initiator.pdu.login import LoginRequest, LoginResponse
from iscsiboot.initiator.pdu.reject import Reject

REQUEST = LoginRequest(
    transit=True,
    csg=1,
    nsg=3,
    version_max=2,
    version_min=1,
    isid=bytes.fromhex("00023d000001"),
    tsih=0x0A0B,
    itt=0x01020304,
    cid=0x0506,
    cmdsn=0x11121314,
    exp_statsn=0x21222324,
    data_length=0x0001A2,
)
REQUEST_HEX = (
    "43 87 02 01 00 0001a2 00023d000001 0a0b 01020304 0506 0000 11121314 21222324 00000000000000000000000000000000"
)
RESPONSE = LoginResponse(
    cont=True,
    csg=0,
    version_max=3,
    version_active=4,
    isid=bytes.fromhex("80aabbccddee"),
    tsih=0x0102,
    itt=0xFFFFFFFE,
    statsn=0x31323334,
    exp_cmdsn=0x41424344,
    max_cmdsn=0x51525354,
    status_class=2,
    status_detail=0x0B,
    data_length=5,
)
RESPONSE_HEX = (
    "23 40 03 04 00 000005 80aabbccddee 0102 fffffffe 00000000 31323334 41424344 51525354 02 0b 00000000000000000000"
)
REJECT = Reject(reason=4, statsn=1, exp_cmdsn=2, max_cmdsn=3, data_length=48)
REJECT_HEX = "3f 80 04 00 00 000030 0000000000000000 ffffffff 00000000 00000001 00000002 00000003" + " 00000000" * 3

CASES = [
    pytest.param(REQUEST, REQUEST_HEX, id="request"),
    pytest.param(RESPONSE, RESPONSE_HEX, id="response"),
    pytest.param(REJECT, REJECT_HEX, id="reject"),
]


@pytest.mark.parametrize(("value", "wire"), CASES)
def test_encode_and_decode_agree_with_the_figure(value: LoginRequest | LoginResponse | Reject, wire: str) -> None:
    assert value.encode().hex() == wire.replace(" ", "")
    assert type(value).decode(bytes.fromhex(wire)) == value


@pytest.mark.parametrize(("value", "wire"), CASES)
@pytest.mark.parametrize("length", [0, 1, 47, 49, 96])
def test_another_length_is_refused(value: LoginRequest | LoginResponse | Reject, wire: str, length: int) -> None:
    data = bytes.fromhex(wire).ljust(96, b"\0")[:length]
    with pytest.raises(ProtocolViolation, match=f"48 bytes, {length} came"):
        type(value).decode(data)


def test_another_opcode_is_named() -> None:
    with pytest.raises(ProtocolViolation, match="Login Response was expected, Login Request came"):
        LoginResponse.decode(bytes.fromhex(REQUEST_HEX))
    with pytest.raises(ProtocolViolation, match="Reject was expected, unknown opcode 0x2a came"):
        Reject.decode(bytes([0x2A]) + bytes(47))


def test_reserved_bits_are_ignored() -> None:
    dirty = bytearray(bytes.fromhex(RESPONSE_HEX))
    dirty[0] |= 0xC0
    dirty[1] |= 0x30
    dirty[20:24] = b"\xff" * 4
    dirty[38:48] = b"\xff" * 10
    assert LoginResponse.decode(bytes(dirty)) == RESPONSE


@pytest.mark.parametrize(
    ("wire", "opcode", "immediate", "following"),
    [
        pytest.param("3f" + "00" * 47, Opcode.REJECT, False, 0, id="bare"),
        pytest.param("43" + "00" * 3 + "02000005" + "00" * 40, Opcode.LOGIN_REQUEST, True, 8 + 8, id="ahs-and-padding"),
        pytest.param("ea" + "00" * 3 + "ffffffff" + "00" * 40, 0x2A, True, 255 * 4 + (1 << 24), id="largest"),
    ],
)
def test_generic_header(wire: str, opcode: int, immediate: bool, following: int) -> None:
    header = Header.decode(bytes.fromhex(wire))
    assert (header.opcode, header.immediate, header.following) == (opcode, immediate, following)


@pytest.mark.parametrize(("length", "padded"), [(0, 0), (1, 4), (3, 4), (4, 4), (5, 8)])
def test_padding(length: int, padded: int) -> None:
    assert padded_length(length) == padded
    assert pad(b"x" * length) == b"x" * length + bytes(padded - length)


def test_unknown_reject_reason_keeps_its_number() -> None:
    assert Reject(reason=0x77).words == "unknown reason 0x77"
    assert Reject(reason=9).words == "invalid PDU field"


@given(st.binary(min_size=BHS_LENGTH, max_size=BHS_LENGTH))
def test_any_response_survives_a_round_trip(bhs: bytes) -> None:
    bhs = b"\x23" + bhs[1:4] + b"\0" + bhs[5:]
    decoded = LoginResponse.decode(bhs)
    assert LoginResponse.decode(decoded.encode()) == decoded
