# SPDX-License-Identifier: LGPL-2.1-or-later
"""CDBs byte for byte, and answers of targets in good and in bad faith."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from iscsiboot.initiator import scsi
from iscsiboot.initiator.errors import ProtocolViolation
from iscsiboot.initiator.scsi import Capacity, DeviceType, Identifier, Inquiry, Request
from iscsiboot.model.lun import Lun


@pytest.mark.parametrize(
    ("request_", "cdb", "length"),
    [
        pytest.param(scsi.inquiry(), "12 00 00 00fc 00", 252, id="inquiry"),
        pytest.param(scsi.vital_pages(), "12 01 00 00fc 00", 252, id="vital-pages"),
        pytest.param(scsi.serial_number(), "12 01 80 00fc 00", 252, id="serial"),
        pytest.param(scsi.identification(), "12 01 83 00fc 00", 252, id="identification"),
        pytest.param(scsi.report_luns(), "a0 00 00 000000 00001000 00 00", 4096, id="report-luns"),
        pytest.param(scsi.report_luns(8), "a0 00 00 000000 00000010 00 00", 16, id="report-luns-least"),
        pytest.param(scsi.report_luns(1 << 32), "a0 00 00 000000 00020008 00 00", 131080, id="report-luns-most"),
        pytest.param(scsi.test_unit_ready(), "00 00 00 00 00 00", 0, id="test-unit-ready"),
        pytest.param(scsi.request_sense(), "03 00 00 00 fc 00", 252, id="request-sense"),
        pytest.param(scsi.read_capacity_10(), "25 00 00000000 0000 00 00", 8, id="capacity-10"),
        pytest.param(scsi.read_capacity_16(), "9e 10 0000000000000000 00000020 00 00", 32, id="capacity-16"),
        pytest.param(scsi.read(0, 1, 512), "28 00 00000000 00 0001 00", 512, id="read-first"),
        pytest.param(scsi.read(0xFFFFFFFE, 2, 512), "28 00 fffffffe 00 0002 00", 1024, id="read-10-last"),
        pytest.param(scsi.read(0xFFFFFFFF, 2, 512), "88 00 00000000ffffffff 00000002 00 00", 1024, id="read-16"),
        pytest.param(scsi.read(1 << 40, 16, 4096), "88 00 0000010000000000 00000010 00 00", 65536, id="read-4k"),
    ],
)
def test_commands(request_: Request[object], cdb: str, length: int) -> None:
    assert request_.cdb == bytes.fromhex(cdb)
    assert request_.length == length
    assert request_.name


@pytest.mark.parametrize(("lba", "blocks"), [(-1, 1), (0, 0), (0, 65536), (1 << 64, 1)])
def test_reads_that_do_not_exist(lba: int, blocks: int) -> None:
    with pytest.raises(ValueError, match="READ"):
        scsi.read(lba, blocks, 512)


def inquiry_data(*, first: int = 0, length: int = 31, vendor: bytes = b"IET     ") -> bytes:
    return bytes([first, 0x80, 5, 2, length, 0, 0, 2]) + vendor + b"VIRTUAL-DISK    " + b"0001"


def test_inquiry() -> None:
    assert scsi.parse_inquiry(inquiry_data() + bytes(60)) == Inquiry(
        qualifier=0, device_type=0, removable=True, version=5, vendor="IET", product="VIRTUAL-DISK", revision="0001"
    )


@pytest.mark.parametrize(
    ("first", "present"), [(0x00, True), (0x05, True), (0x20, False), (0x7F, False), (0x1F, False), (0x60, False)]
)
def test_whether_a_device_is_there(first: int, present: bool) -> None:
    assert scsi.parse_inquiry(inquiry_data(first=first)).present is present


def test_inquiry_says_how_long_it_is() -> None:
    short = scsi.parse_inquiry(inquiry_data(length=11))
    assert (short.vendor, short.product, short.revision) == ("IET", "", "")
    assert scsi.parse_inquiry(inquiry_data()[:5]).vendor == ""


def test_text_of_a_target_is_printable() -> None:
    vendor = scsi.parse_inquiry(inquiry_data(vendor=b"\x1b[2J\xff\n\0A")).vendor
    assert vendor == "\\x1b[2J\\xff\\n\\x00A"


@pytest.mark.parametrize(
    ("value", "words"), [(0, "disk"), (7, "optical memory"), (0x1F, "none"), (0x19, "device type 0x19")]
)
def test_device_types(value: int, words: str) -> None:
    assert DeviceType.words(value) == words


def page(code: int, body: bytes, *, length: int | None = None) -> bytes:
    return bytes([0, code]) + (len(body) if length is None else length).to_bytes(2, "big") + body


def designator(kind: int, value: bytes, *, code_set: int = 1, association: int = 0) -> bytes:
    return bytes([code_set, association << 4 | kind, 0, len(value)]) + value


def test_vital_pages() -> None:
    assert scsi.parse_vital_pages(page(0, b"\x00\x80\x83") + bytes(9)) == {0x00, 0x80, 0x83}
    assert scsi.parse_vital_pages(page(0, b"\x00", length=65535)) == {0x00}


def test_serial_number() -> None:
    assert scsi.parse_serial_number(page(0x80, b"  beaf11 \0")) == "beaf11"


def test_identification() -> None:
    naa, eui = bytes.fromhex("6000000000000001"), bytes.fromhex("0011223344556677")
    body = (
        designator(1, b"IET  00010001", code_set=2)
        + designator(4, b"\0\1", association=1)
        + designator(3, b"a port", association=1)
        + designator(8, b"the target", association=2)
        + designator(3, naa)
        + designator(2, eui)
        + designator(8, b"iqn.2026-11.example:disk\0", code_set=3)
        + designator(9, b"what is that")
        + designator(3, b"")
    )
    assert scsi.parse_identification(page(0x83, body)) == (
        Identifier(kind="t10", text="IET  00010001"),
        Identifier(kind="naa", text=naa.hex()),
        Identifier(kind="eui", text=eui.hex()),
        Identifier(kind="name", text="iqn.2026-11.example:disk"),
    )


def test_a_designator_that_is_cut_off_is_left_out() -> None:
    body = designator(3, bytes(8)) + bytes([1, 3, 0, 200]) + bytes(8)
    assert scsi.parse_identification(page(0x83, body)) == (Identifier(kind="naa", text="00" * 8),)


def lun_list(*luns: bytes, announced: int | None = None) -> bytes:
    body = b"".join(luns)
    return (len(body) if announced is None else announced).to_bytes(4, "big") + bytes(4) + body


def test_report_luns() -> None:
    one, flat = Lun.from_number(1), Lun.from_number(300)
    well_known = bytes.fromhex("c101000000000000")
    found = scsi.parse_report_luns(lun_list(one.wire, flat.wire, one.wire, well_known))
    assert found.luns == (one, flat)
    assert found.needed == 40


@pytest.mark.parametrize("announced", [0, 8, 11, 16, 0xFFFFFFFF])
def test_a_list_of_luns_that_lies_about_its_length(announced: int) -> None:
    found = scsi.parse_report_luns(lun_list(*(Lun.from_number(number).wire for number in (1, 2)), announced=announced))
    assert len(found.luns) == min(announced // 8, 2)
    assert found.needed == announced + 8


def test_capacity() -> None:
    assert scsi.parse_read_capacity_10(struct.pack(">II", 131071, 512)) == Capacity(
        blocks=131072, block_size=512, physical_block_size=512
    )
    assert scsi.parse_read_capacity_10(struct.pack(">II", 0xFFFFFFFF, 512)) is None
    long = scsi.parse_read_capacity_16(struct.pack(">QIBBH", (1 << 33) - 1, 512, 0, 3, 0x8000) + bytes(16))
    assert long == Capacity(blocks=1 << 33, block_size=512, physical_block_size=4096, thin=True)
    assert long.size == 1 << 42


def test_capacity_data_of_an_old_target() -> None:
    assert scsi.parse_read_capacity_16(struct.pack(">QI", 7, 4096)) == Capacity(
        blocks=8, block_size=4096, physical_block_size=4096
    )


@pytest.mark.parametrize("size", [0, 1, 256, 520, 131072, 0xFFFFFFFF])
def test_block_sizes_nobody_boots_from(size: int) -> None:
    for parse, data in (
        (scsi.parse_read_capacity_10, struct.pack(">II", 99, size)),
        (scsi.parse_read_capacity_16, struct.pack(">QI", 99, size)),
    ):
        with pytest.raises(ProtocolViolation, match=f"blocks of {size} bytes") as caught:
            parse(data)
        assert caught.value.hint


@pytest.mark.parametrize(
    ("parse", "data"),
    [
        pytest.param(scsi.parse_inquiry, bytes(4), id="inquiry"),
        pytest.param(scsi.parse_vital_pages, bytes(3), id="vital-pages"),
        pytest.param(scsi.parse_serial_number, page(0, b"x"), id="another-page"),
        pytest.param(scsi.parse_identification, b"", id="identification"),
        pytest.param(scsi.parse_report_luns, bytes(7), id="report-luns"),
        pytest.param(scsi.parse_read_capacity_10, bytes(7), id="capacity-10"),
        pytest.param(scsi.parse_read_capacity_16, bytes(11), id="capacity-16"),
        pytest.param(scsi.read(0, 2, 512).parse, bytes(1023), id="read"),
    ],
)
def test_answers_that_are_too_short(parse: Callable[[bytes], object], data: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        parse(data)


def test_what_is_too_long_is_cut() -> None:
    assert scsi.read(0, 1, 512).parse(b"a" * 600) == b"a" * 512
    assert scsi.request_sense(18).parse(bytes(40)) == bytes(18)
    scsi.test_unit_ready().parse(b"unasked for")
