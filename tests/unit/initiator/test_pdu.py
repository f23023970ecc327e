# SPDX-License-Identifier: LGPL-2.1-or-later
"""What all PDUs share: lengths, padding, and how an unexpected PDU is named (test_pdu_figures: each)."""

from __future__ import annotations

import pytest

from iscsiboot.initiator.errors import ProtocolViolation
from iscsiboot.initiator.pdu.header import Header, Opcode, pad, padded_length
from iscsiboot.initiator.pdu.login import LoginResponse
from iscsiboot.initiator.pdu.reject import Reject


@pytest.mark.parametrize("length", [0, 1, 47, 49, 96])
def test_another_length_is_refused(length: int) -> None:
    with pytest.raises(ProtocolViolation, match=f"48 bytes, {length} came"):
        Header.decode(bytes(length))


def test_another_opcode_is_named() -> None:
    with pytest.raises(ProtocolViolation, match="Login Response was expected, Login Request came"):
        LoginResponse.decode(b"\x43" + bytes(47))
    with pytest.raises(ProtocolViolation, match="Reject was expected, unknown opcode 0x2a came"):
        Reject.decode(b"\x2a" + bytes(47))


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
