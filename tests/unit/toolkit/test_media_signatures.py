# SPDX-License-Identifier: LGPL-2.1-or-later
"""Signatures of volumes, byte for byte; what is precedence and what is a remain."""

from __future__ import annotations

import struct

import pytest

from iscsiboot.toolkit.media_signatures import HEAD, by_head, by_tail
from iscsiboot.toolkit.media_values import Content, Role, medium_text
from tests.unit.toolkit.media_support import ext4, place

RAW = bytes(range(16))
UUID = "00010203-0405-0607-0809-0a0b0c0d0e0f"


def head(*pieces: tuple[int, bytes]) -> bytes:
    data = bytearray(HEAD)
    for offset, raw in pieces:
        place(data, offset, raw)
    return bytes(data)


MD = struct.pack("<II8x16s32s8xi", 0xA92B4EFC, 1, RAW, b"host:root", -1)
LVM = struct.pack("<8sQII8s", b"LABELONE", 1, 0, 32, b"LVM2 001") + b"abcdef0123456789ABCDEFGHIJKLMNOP"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(
            head((0, b"LUKS\xba\xbe\0\1"), (168, UUID.encode())),
            Content(kind="LUKS", role=Role.CONTAINER, uuid=UUID, detail="version 1"),
            id="luks1",
        ),
        pytest.param(
            head((0, b"LUKS\xba\xbe\0\2"), (24, b"a label"), (168, UUID.encode())),
            Content(kind="LUKS", role=Role.CONTAINER, label="a label", uuid=UUID, detail="version 2"),
            id="luks2",
        ),
        pytest.param(
            head((512, LVM)),
            Content(kind="LVM2", role=Role.CONTAINER, uuid="abcdef-0123-4567-89AB-CDEF-GHIJ-KLMNOP"),
            id="lvm",
        ),
        pytest.param(
            head((1536, LVM[:20] + b"\xff\xff\xff\xff" + LVM[24:])),
            Content(kind="LVM2", role=Role.CONTAINER),
            id="lvm-offset-outside",
        ),
        pytest.param(
            head((0, MD)),
            Content(kind="Linux RAID", role=Role.CONTAINER, label="host:root", uuid=UUID, detail="linear"),
            id="md-1.1",
        ),
        pytest.param(
            head((4096, MD[:72] + struct.pack("<i", 10))),
            Content(kind="Linux RAID", role=Role.CONTAINER, label="host:root", uuid=UUID, detail="level 10"),
            id="md-1.2",
        ),
        pytest.param(
            head((HEAD - 40, struct.pack("<Q", 0x0210DA7AB10C7A11))), Content(kind="ZFS", role=Role.CONTAINER), id="zfs"
        ),
        pytest.param(
            head((HEAD - 40, struct.pack(">Q", 0x0210DA7AB10C7A11))),
            Content(kind="ZFS", role=Role.CONTAINER),
            id="zfs-big-endian",
        ),
        pytest.param(
            head((4086, b"SWAPSPACE2"), (1036, RAW), (1052, b"swap")),
            Content(kind="swap", role=Role.SWAP, label="swap", uuid=UUID),
            id="swap",
        ),
        pytest.param(
            head((65526, b"SWAPSPACE2")), Content(kind="swap", role=Role.SWAP), id="swap-64k-pages-without-uuid"
        ),
        pytest.param(
            head((0, b"XFSB"), (32, RAW), (108, b"data")), Content(kind="xfs", label="data", uuid=UUID), id="xfs"
        ),
        pytest.param(
            ext4("x", compatible=0, incompatible=2),
            Content(kind="ext2", label="x", uuid="00000000-0000-0000-0000-0000000000e4"),
            id="ext2",
        ),
        pytest.param(
            ext4("x", incompatible=6),
            Content(kind="ext3", label="x", uuid="00000000-0000-0000-0000-0000000000e4"),
            id="ext3-to-be-recovered",
        ),
        pytest.param(
            ext4("x", compatible=0, incompatible=0x242),
            Content(kind="ext4", label="x", uuid="00000000-0000-0000-0000-0000000000e4"),
            id="ext4-without-journal",
        ),
        pytest.param(
            ext4("x", incompatible=8),
            Content(kind="ext journal", label="x", uuid="00000000-0000-0000-0000-0000000000e4"),
            id="ext-journal",
        ),
        pytest.param(
            head((65536 + 64, b"_BHRfS_M"), (65536 + 32, RAW), (65536 + 299, b"pool")),
            Content(kind="btrfs", label="pool", uuid=UUID),
            id="btrfs",
        ),
        pytest.param(
            head((1024, b"\x10\x20\xf5\xf2"), (1132, RAW), (1148, "flash".encode("utf-16-le"))),
            Content(kind="f2fs", label="flash", uuid=UUID),
            id="f2fs",
        ),
        pytest.param(
            head((1024, b"\xe2\xe1\xf5\xe0"), (1072, RAW), (1088, b"ro")),
            Content(kind="erofs", label="ro", uuid=UUID),
            id="erofs",
        ),
        pytest.param(
            head((0, b"hsqs"), (28, b"\4\0\0\0")), Content(kind="squashfs", detail="version 4.0"), id="squashfs"
        ),
        pytest.param(
            head((0, b"\xeb\x52\x90NTFS    "), (72, bytes(range(1, 9)))),
            Content(kind="ntfs", uuid="0807060504030201"),
            id="ntfs",
        ),
        pytest.param(
            head((0, b"\xeb\x76\x90EXFAT   "), (100, b"\x78\x56\x34\x12")),
            Content(kind="exfat", uuid="1234-5678"),
            id="exfat",
        ),
        pytest.param(
            head((32768, b"\x01CD001\x01"), (32808, b"DEBIAN 12")), Content(kind="iso9660", label="DEBIAN 12"), id="iso"
        ),
        pytest.param(head(), None, id="zeros"),
        pytest.param(b"", None, id="nothing"),
        pytest.param(ext4()[:1080], None, id="cut-off"),
    ],
)
def test_signatures(data: bytes, expected: Content | None) -> None:
    assert by_head(data) == expected


@pytest.mark.parametrize(
    ("outer", "kind"),
    [
        ((0, b"LUKS\xba\xbe\0\2"), "LUKS"),
        ((512, LVM), "LVM2"),
        ((4096, MD), "Linux RAID"),
        ((4086, b"SWAPSPACE2"), "swap"),
    ],
)
def test_what_wraps_others_comes_first(outer: tuple[int, bytes], kind: str) -> None:
    data = bytearray(ext4())
    place(data, *outer)
    found = by_head(bytes(data))
    assert found is not None
    assert found.kind == kind


MIB = 1 << 20


@pytest.mark.parametrize("size", [MIB, MIB + 512, MIB + 4096 * 3 + 1024, 10 * MIB - 512])
@pytest.mark.parametrize("length", [132 * 1024, MIB])
def test_md_at_the_end(size: int, length: int) -> None:
    whole = bytearray(size)
    place(whole, (size // 512 - 16) // 8 * 8 * 512, MD)
    found = by_tail(bytes(whole[-length:]), size)
    assert found is not None
    assert (found.kind, found.label) == ("Linux RAID", "host:root")


@pytest.mark.parametrize("size", [MIB, MIB + 512, MIB + 65535])
def test_the_oldest_md_superblock(size: int) -> None:
    whole = bytearray(size)
    place(whole, size // 65536 * 65536 - 65536, struct.pack("<IIIIIIII", 0xA92B4EFC, 0, 90, 0, 0, 0, 0, 5))
    found = by_tail(bytes(whole[-132 * 1024 :]), size)
    assert found is not None
    assert found.detail == "level 5, metadata 0.90"


@pytest.mark.parametrize(
    ("tail", "size"), [(b"", 0), (b"", 1 << 40), (bytes(512), 512), (bytes(70000), 70000), (b"", -5)]
)
def test_no_md_at_the_end(tail: bytes, size: int) -> None:
    assert by_tail(tail, size) is None


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b" root \0junk", "root"),
        (b"caf\xc3\xa9", "café"),
        (b"\xff\xfe", "\\xff\\xfe"),
        (b"a\x1b[31m\nb", "a\\x1b[31m\\nb"),
        ("\u202egnp".encode(), "\\u202egnp"),
    ],
)
def test_labels_are_printable(raw: bytes, text: str) -> None:
    assert medium_text(raw) == text
