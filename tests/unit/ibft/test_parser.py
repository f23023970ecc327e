# SPDX-License-Identifier: LGPL-2.1-or-later
"""Broken tables: the finding names structure, offset and field, and the good rest is still there."""

from __future__ import annotations

import struct

import pytest

from iscsiboot.ibft import layout
from iscsiboot.ibft.builder import build, poke, seal
from iscsiboot.ibft.findings import FINDINGS_MAX, FindingLog, Severity
from iscsiboot.ibft.parser import ParseResult, parse
from iscsiboot.ibft.structures import IbftTable
from iscsiboot.model.credentials import Secret
from tests.vectors.ibft import make

TWO = make.TABLES["two-paths"]
NIC0, TARGET0 = 0x98, 0x100
"""Where ``two-paths`` has its first NIC and target; a test below holds it."""


def u16(number: int) -> bytes:
    return struct.pack("<H", number)


def read(name: str) -> ParseResult:
    return parse((make.HERE / f"broken-{name}.bin").read_bytes())


def table_of(result: ParseResult) -> IbftTable:
    assert result.table is not None
    return result.table


def test_places_of_the_two_paths_table() -> None:
    table = table_of(parse(build(TWO)))
    assert (table.nics[0].offset, table.targets[0].offset) == (NIC0, TARGET0)


UNUSABLE = {
    "bad-checksum": ("header", "checksum", 9),
    "cut-off": ("header", "length", 4),
    "only-header": ("header", "length", 4),
    "wrong-signature": ("header", "signature", 0),
    "revision-2": ("header", "revision", 8),
    "length-too-long": ("header", "length", 4),
    "control-id-wrong": ("control", "id", 48),
    "all-ones": ("control", "id", 48),
}
USABLE = {
    "control-length-lies": ("control", "length", 50, 2, 2),
    "nic-outside": ("control", "NIC 0 offset", 58, 1, 2),
    "nic-length-short": ("NIC 0", "length", NIC0 + 2, 1, 2),
    "nic-overlaps-header": ("control", "NIC 0 offset", 58, 1, 2),
    "target-overlaps-nic": ("control", "target 0 offset", 60, 2, 1),
    "target-name-outside": ("target 0", "target name", TARGET0 + 34, 2, 2),
    "target-name-in-structure": ("target 0", "target name", TARGET0 + 34, 2, 2),
    "target-name-control": ("target 0", "target name", TARGET0 + 34, 2, 2),
    "target-port-0": ("target 0", "port", TARGET0 + 22, 2, 2),
    "target-nic-missing": ("target 0", "NIC association", TARGET0 + 33, 2, 2),
    "vlan-5000": ("NIC 0", "VLAN", NIC0 + 88, 2, 2),
}


def test_every_broken_file_is_listed() -> None:
    assert set(UNUSABLE) | set(USABLE) == set(make.broken())
    assert not set(UNUSABLE) & set(USABLE)


@pytest.mark.parametrize("name", sorted(UNUSABLE))
def test_broken_as_a_whole(name: str) -> None:
    result = read(name)
    assert not result.intact
    first = result.errors[0]
    assert (first.structure, first.field, first.offset) == UNUSABLE[name]


@pytest.mark.parametrize("name", sorted(USABLE))
def test_broken_in_one_place_keeps_the_rest(name: str) -> None:
    structure, field, offset, nics, targets = USABLE[name]
    result = read(name)
    assert result.intact
    assert (structure, field, offset) in [(each.structure, each.field, each.offset) for each in result.errors]
    table = table_of(result)
    assert (len(table.nics), len(table.targets)) == (nics, targets)
    assert table.targets[-1] == TWO.targets[1]
    assert table.initiator == TWO.initiator


def test_finding_as_a_line() -> None:
    line = str(read("target-port-0").errors[0])
    assert line == "error: target 0, port, offset 0x116: 0 is not a TCP port"


def test_every_truncation_is_refused_and_read_without_harm() -> None:
    image = build(TWO)
    for length in range(len(image)):
        result = parse(image[:length])
        assert not result.intact
        assert result.errors, length


def test_truncation_with_a_length_that_agrees_loses_only_what_is_gone() -> None:
    image = build(TWO)
    for length in range(66, len(image) - 1):  # the last byte is a NUL that is not missed
        result = parse(seal(image[:length]))
        assert result.intact
        assert result.table != TWO
        assert result.errors, length


def test_bytes_behind_the_table_are_an_info() -> None:
    result = parse(build(TWO) + b"\xa5" * 1000)
    assert result.table == TWO
    assert result.intact
    assert [(each.severity, each.problem) for each in result.findings] == [
        (Severity.INFO, "1000 bytes follow the table")
    ]


def test_a_bad_checksum_names_the_sum_and_the_table_can_still_be_explained() -> None:
    result = read("bad-checksum")
    assert "checksum is wrong: all bytes together give 0x" in result.errors[0].problem
    assert result.table == TWO


@pytest.mark.parametrize("signature", layout.SIGNATURES)
def test_signatures_of_the_field(signature: bytes) -> None:
    assert table_of(parse(poke(build(TWO), 0, signature))).signature == signature


@pytest.mark.parametrize("data", [b"", b"iBF", b"iBFT", b"\0" * 100], ids=["nothing", "three", "four", "zeros"])
def test_too_little(data: bytes) -> None:
    result = parse(data)
    assert result.table is None
    assert result.errors


def test_structures_in_each_others_slots_are_taken_for_what_they_say() -> None:
    image = build(make.PLAIN)
    (nic,), (target,) = table_of(parse(image)).nics, table_of(parse(image)).targets
    swapped = poke(image, 58, u16(target.offset) + u16(nic.offset))
    result = parse(swapped)
    assert table_of(result) == make.PLAIN
    assert [each.severity for each in result.findings] == [Severity.WARNING] * 2


def test_longer_structure_of_a_later_version_is_read() -> None:
    image = build(make.PLAIN)
    target = table_of(parse(image)).targets[0].offset
    result = parse(poke(image, target + 2, u16(56)))
    assert table_of(result).targets == make.PLAIN.targets
    assert ("target 0", "length") in [(each.structure, each.field) for each in result.findings]


def test_same_structure_twice_is_read_once() -> None:
    image = build(make.PLAIN)
    nic = table_of(parse(image)).nics[0].offset
    result = parse(poke(image, 62, u16(nic)))
    assert table_of(result).nics == make.PLAIN.nics
    assert (result.errors[0].structure, result.errors[0].field) == ("control", "NIC 1 offset")


def test_same_index_twice_keeps_the_first() -> None:
    image = build(TWO)
    second = table_of(parse(image)).nics[1].offset
    result = parse(poke(image, second + layout.INDEX_OFFSET, b"\0"))
    assert table_of(result).nics == TWO.nics[:1]
    assert result.errors[0].problem == "there is another NIC 0 before; not read"


@pytest.mark.parametrize(
    ("offset", "raw", "structure", "field"),
    [
        pytest.param(49, b"\2", "control", "version", id="control version"),
        pytest.param(52, b"\7", "control", "index", id="control index"),
        pytest.param(50, u16(20), "control", "length", id="half a pair"),
        pytest.param(NIC0 + 1, b"\2", "NIC 0", "version", id="NIC version"),
        pytest.param(NIC0 + 23, b"\7", "NIC 0", "origin", id="origin"),
        pytest.param(TARGET0 + 32, b"\7", "target 0", "CHAP type", id="CHAP type"),
        pytest.param(72 + 5, b"\0", "initiator 0", "flags", id="initiator not valid"),
    ],
)
def test_used_against_the_specification(offset: int, raw: bytes, structure: str, field: str) -> None:
    image = poke(build(TWO), offset, raw)
    result = parse(image)
    assert result.intact
    assert (len(table_of(result).nics), len(table_of(result).targets)) == (2, 2)
    warnings = [(each.structure, each.field) for each in result.findings if each.severity is Severity.WARNING]
    assert (structure, field) in warnings


@pytest.mark.parametrize(
    ("offset", "raw", "structure", "field"),
    [
        pytest.param(56, u16(0), "control", "initiator offset", id="no initiator"),
        pytest.param(72, b"\x09", "control", "initiator offset", id="unknown id"),
        pytest.param(72 + 2, u16(60000), "initiator 0", "length", id="length beyond"),
        pytest.param(72 + 70, u16(9) + u16(0), "initiator 0", "initiator name", id="string without offset"),
        pytest.param(72 + 70, u16(0), "initiator 0", "initiator name", id="name not set"),
        pytest.param(NIC0 + 90, bytes(6), "NIC 0", "MAC address", id="no MAC"),
        pytest.param(NIC0 + 90, b"\1", "NIC 0", "MAC address", id="group MAC"),
        pytest.param(NIC0 + 22, b"\x21", "NIC 0", "prefix length", id="prefix 33 for IPv4"),
        pytest.param(NIC0 + 22, b"\0", "NIC 0", "prefix length", id="prefix 0"),
        pytest.param(NIC0 + 98, u16(2000), "NIC 0", "host name", id="string beyond"),
        pytest.param(TARGET0 + 6, bytes(16), "target 0", "IP address", id="no address"),
    ],
)
def test_not_used(offset: int, raw: bytes, structure: str, field: str) -> None:
    result = parse(poke(build(TWO), offset, raw))
    assert result.intact
    assert (structure, field) in [(each.structure, each.field) for each in result.errors]


def test_unused_slots_may_hold_anything() -> None:
    image = poke(build(TWO), NIC0 + layout.FLAGS_OFFSET, b"\0")
    assert parse(poke(image, NIC0 + 88, b"\xff" * 8)).findings == ()


def test_a_length_that_counts_the_nul() -> None:
    image = build(make.PLAIN)
    at = table_of(parse(image)).nics[0].offset + 98
    result = parse(poke(image, at, u16(len("lab-guest") + 1)))
    assert table_of(result) == make.PLAIN
    assert [each.severity for each in result.findings] == [Severity.INFO]


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a\x1b[2J", b"a\nb"], ids=["not UTF-8", "escape", "line break"])
def test_strings_that_cannot_be_shown_are_quoted_and_dropped(content: bytes) -> None:
    image = build(make.PLAIN)
    result = parse(poke(image, image.index(b"lab-guest"), content))
    assert table_of(result).nics[0].hostname == ""
    line = str(result.errors[0])
    assert line.isprintable()
    assert "host name" in line


def test_no_finding_about_a_secret_repeats_it() -> None:
    image = build(make.TABLES["chap"])
    target = table_of(parse(image)).targets[0].offset
    for raw in (u16(300), u16(0) + u16(0), u16(1030), u16(60000)):
        result = parse(poke(image, target + 42, raw))
        assert "initiator secret" not in repr(result)
    odd = parse(poke(image, image.index(b"initiator secret"), b"\xff\x01"))
    assert table_of(odd).targets[0].chap_secret == Secret(b"\xff\x01itiator secret")


def test_a_secret_longer_than_any_is_dropped() -> None:
    image = build(make.TABLES["chap"])
    target = table_of(parse(image)).targets[0].offset
    long = seal(image + b"s" * 300 + b"\0")
    result = parse(poke(long, target + 42, u16(300) + u16(len(image))))
    assert table_of(result).targets[0].chap_secret is None
    assert [(each.structure, each.field) for each in result.errors] == [("target 0", "CHAP secret")]


def test_two_strings_may_share_bytes() -> None:
    image = build(TWO)
    first, second = (target.offset + 34 for target in table_of(parse(image)).targets)
    shared = parse(poke(image, second, image[first : first + 4]))
    assert not shared.errors
    assert {target.name for target in table_of(shared).targets} == {make.TARGET.name}


def test_a_control_structure_of_garbage_offsets_ends_in_bounded_findings() -> None:
    body = bytes(range(256)) * 250
    control = struct.pack("<BBHBB", 1, 1, 60000, 0, 0) + body[: 60000 - 6]
    image = seal(build(make.PLAIN)[:48] + control)
    result = parse(image)
    assert len(result.findings) == FINDINGS_MAX + 1
    assert "more findings" in result.findings[-1].problem


def test_finding_log_keeps_order_and_knows_what_it_has() -> None:
    log = FindingLog()
    log.error("NIC 0", "VLAN", "one", 1)
    log.info("NIC 0", "origin", "two")
    assert [str(each) for each in log.result()] == ["error: NIC 0, VLAN, offset 0x1: one", "info: NIC 0, origin: two"]
    assert log.about("NIC 0", "VLAN")
    assert not log.about("NIC 1", "VLAN")
