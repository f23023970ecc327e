# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a table cannot hold is refused where the value is made; secrets stay hidden."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.ibft.structures import (
    IbftControl,
    IbftExtensions,
    IbftInitiator,
    IbftNic,
    IbftTable,
    IbftTarget,
    decode_address,
    encode_address,
)
from iscsiboot.model.credentials import Secret
from tests.unit.ibft.strategies import UNHURRIED, addresses


@pytest.mark.parametrize(
    ("structure", "values"),
    [
        pytest.param(IbftControl, {"flags": 256}, id="control flags"),
        pytest.param(IbftInitiator, {"index": -1}, id="index"),
        pytest.param(IbftInitiator, {"name": "iqn\n"}, id="control character"),
        pytest.param(IbftInitiator, {"name": "x" * 1025}, id="long string"),
        pytest.param(IbftNic, {"address": ip_address("0.0.0.0")}, id="unspecified v4"),
        pytest.param(IbftNic, {"address": ip_address("::")}, id="unspecified v6"),
        pytest.param(IbftNic, {"address": ip_address("::ffff:10.0.0.1")}, id="mapped"),
        pytest.param(IbftNic, {"address": IPv6Address("fe80::1%eth0")}, id="scope"),
        pytest.param(IbftNic, {"mac": bytes(6)}, id="zero mac"),
        pytest.param(IbftNic, {"mac": b"12345"}, id="short mac"),
        pytest.param(IbftNic, {"vlan": 65536}, id="vlan"),
        pytest.param(IbftNic, {"prefix_len": 256}, id="prefix"),
        pytest.param(IbftTarget, {"port": 65536}, id="port"),
        pytest.param(IbftTarget, {"chap_secret": Secret(b"a\0b")}, id="NUL in secret"),
        pytest.param(IbftExtensions, {"body": bytes(65535)}, id="extensions too long"),
        pytest.param(IbftTable, {"signature": b"SSDT"}, id="signature"),
        pytest.param(IbftTable, {"oem_id": b"1234567"}, id="oem id"),
        pytest.param(IbftTable, {"oem_table_id": b"x\0"}, id="padding"),
        pytest.param(IbftTable, {"reserved": b""}, id="reserved"),
    ],
)
def test_refused(structure: type, values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        structure(**values)


def test_repr_of_a_whole_table_shows_no_secret() -> None:
    target = IbftTarget(chap_secret=Secret(b"canary-one"), reverse_chap_secret=Secret(b"canary-two"))
    shown = repr(IbftTable(targets=(target,))) + str(target)
    assert "canary" not in shown
    assert shown.count("********") == 4


def test_flags() -> None:
    nic = IbftNic(flags=6)
    assert (nic.valid, nic.boot_selected, nic.global_address) == (False, True, True)
    assert IbftControl(flags=1).boot_failover
    assert not IbftControl(flags=2).boot_failover


def test_where_a_structure_was_found_does_not_make_it_another() -> None:
    assert IbftNic(offset=72) == IbftNic(offset=80)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("00000000000000000000ffff0a000202", "10.0.2.2"),
        ("00000000000000000000ffff00000000", None),
        ("00000000000000000000000000000000", None),
        ("20010db8000000000000000000000002", "2001:db8::2"),
        # ::10.0.2.2 is not IPv4 here: only ::ffff: is, in the specification and in the kernel
        ("0000000000000000000000000a000202", "::a00:202"),
    ],
)
def test_addresses_of_a_table(raw: str, text: str | None) -> None:
    assert decode_address(bytes.fromhex(raw)) == (None if text is None else ip_address(text))


@UNHURRIED
@given(addresses)
def test_addresses_come_back(address: Any) -> None:
    assert decode_address(encode_address(address)) == address


@UNHURRIED
@given(st.binary(min_size=16, max_size=16))
def test_any_sixteen_bytes_are_an_address_that_can_be_kept(raw: bytes) -> None:
    IbftNic(address=decode_address(raw))
