# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is built is read back equal; the bytes keep the promises other readers rely on."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given

from iscsiboot.ibft import layout
from iscsiboot.ibft.builder import Heap, build, encode, poke, seal
from iscsiboot.ibft.findings import Severity
from iscsiboot.ibft.parser import parse
from iscsiboot.ibft.structures import IbftExtensions, IbftInitiator, IbftNic, IbftTable, IbftTarget
from iscsiboot.model.credentials import Secret
from tests.unit.ibft.strategies import UNHURRIED, tables
from tests.vectors.ibft import make


@UNHURRIED
@given(tables)
def test_parse_of_build_is_the_table(table: IbftTable) -> None:
    result = parse(build(table))
    assert result.table == table
    assert result.intact


@UNHURRIED
@given(tables)
def test_build_of_parse_is_the_same_bytes(table: IbftTable) -> None:
    image = build(table)
    parsed = parse(image).table
    assert parsed is not None
    assert build(parsed) == image


@UNHURRIED
@given(tables)
def test_checksum_length_and_alignment(table: IbftTable) -> None:
    image = build(table)
    assert sum(image) % 256 == 0
    assert struct.unpack_from("<I", image, 4) == (len(image),)
    parsed = parse(image).table
    assert parsed is not None
    for structure in (parsed.initiator, *parsed.nics, *parsed.targets, parsed.extensions):
        assert structure is None or structure.offset % 8 == 0


def test_bytes_of_a_nic_by_hand() -> None:
    heap = Heap(0x200)
    nic = IbftNic(
        index=1,
        flags=3,
        address=ip_address("10.0.2.15"),
        prefix_len=24,
        origin=3,
        gateway=ip_address("2001:db8::1"),
        vlan=0x0123,
        mac=bytes.fromhex("525400123456"),
        pci=0x0018,
        hostname="h",
    )
    mapped = bytes(10) + b"\xff\xff" + bytes([10, 0, 2, 15])
    expected = bytes.fromhex("0301660001") + b"\x03" + mapped + b"\x18\x03" + ip_address("2001:db8::1").packed
    expected += bytes(48) + b"\x23\x01" + bytes.fromhex("525400123456") + b"\x18\x00" + b"\x01\x00\x00\x02"
    assert encode(nic, heap) == expected
    assert heap.content == b"h\0"


def test_strings_end_with_nul_and_count_without_it() -> None:
    image = build(make.PLAIN)
    name = make.TARGET.name.encode()
    parsed = parse(image).table
    assert parsed is not None
    length, start = struct.unpack_from("<HH", image, parsed.targets[0].offset + 34)
    assert (length, image[start : start + length + 1]) == (len(name), name + b"\0")


@pytest.mark.parametrize(("pairs", "length"), [(1, 18), (2, 18), (3, 22), (4, 26)])
def test_control_structure_grows_with_the_pairs(pairs: int, length: int) -> None:
    nics = tuple(IbftNic(index=i, mac=bytes((2, 0, 0, 0, 0, i))) for i in range(pairs))
    image = build(IbftTable(nics=nics))
    assert struct.unpack_from("<H", image, 50) == (length,)
    parsed = parse(image).table
    assert parsed is not None
    assert parsed.nics == nics


def test_targets_without_nics_keep_their_slots() -> None:
    table = IbftTable(initiator=IbftInitiator(name=make.INITIATOR.name), targets=(make.TARGET,))
    image = build(table)
    assert struct.unpack_from("<H", image, 58) == (0,)
    assert parse(image).table == table


def test_a_table_beyond_sixteen_bits_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at most 65536|16-bit"):
        build(IbftTable(extensions=IbftExtensions(body=bytes(65529 - 20)), nics=(make.NIC,)))
    secrets = tuple(IbftTarget(index=i, name="x" * 1000) for i in range(80))
    with pytest.raises(ValueError, match=r"at most 65536|16-bit"):
        build(IbftTable(targets=secrets))


def test_poke_repairs_the_checksum_unless_told_not_to() -> None:
    image = build(make.PLAIN)
    assert parse(poke(image, 100, b"\x01")).intact
    assert not parse(poke(image, 100, b"\x01", sealed=False)).intact
    for offset in (-1, len(image)):
        with pytest.raises(ValueError, match="not inside"):
            poke(image, offset, b"\x01")


def test_seal_is_idempotent() -> None:
    image = build(make.PLAIN)
    assert seal(image) == image
    assert seal(seal(image + b"tail")) == seal(image + b"tail")


@pytest.mark.parametrize("name", sorted(make.files()))
def test_committed_files_are_what_their_definitions_give(name: str) -> None:
    assert (make.HERE / name).read_bytes() == make.files()[name]


@pytest.mark.parametrize("name", sorted(make.TABLES))
def test_tables_without_fault_have_no_error(name: str) -> None:
    result = parse((make.HERE / f"built-{name}.bin").read_bytes())
    assert result.table == make.TABLES[name]
    assert not [finding for finding in result.findings if finding.severity is not Severity.INFO]


def test_secret_reaches_the_table_and_nothing_else() -> None:
    table = make.TABLES["chap"]
    assert b"initiator secret" in build(table)
    assert parse(build(table)).table == table
    assert table.targets[0].chap_secret == Secret(b"initiator secret")


def test_layout_sizes_are_what_the_builder_writes() -> None:
    for structure, own in ((make.INITIATOR, layout.INITIATOR), (make.NIC, layout.NIC), (make.TARGET, layout.TARGET)):
        assert len(encode(structure, Heap(0))) == own.size
