# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a volume holds, by the signatures of its first 128 KiB and of its end.

One function a format, in a table whose order is the order of precedence: what wraps others comes first, since a
container may leave the signature of what was there before. Offsets are those of the kernel's headers (named at each)
and of the tools that write the format. Slices of bytes that are not there are empty or short and match nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from itertools import pairwise

from iscsiboot.toolkit.media_fat import fat_layout
from iscsiboot.toolkit.media_values import Content, Role, medium_text

HEAD = 128 * 1024
"""Bytes of a volume's beginning: the last signature in it is the end of a ZFS label's first part."""
TAIL = 132 * 1024
"""Bytes of its end: MD's oldest superblock is up to 128 KiB from it."""

_MD_MAGIC = 0xA92B4EFC
_ZFS_MAGIC = 0x0210DA7AB10C7A11
_EXT4_ONLY = 0x40 | 0x80 | 0x200 | 0x400 | 0x2000
"""INCOMPAT: extents, 64bit, flex_bg, ea_inode, csum_seed: ext3 never had them."""


def _little(data: bytes, offset: int, width: int) -> int:
    return int.from_bytes(data[offset : offset + width], "little")


def _uuid(data: bytes, offset: int) -> str:
    raw = data[offset : offset + 16]
    return str(uuid.UUID(bytes=raw)) if len(raw) == 16 and any(raw) else ""


def _luks(head: bytes) -> Content | None:
    """LUKS on-disk format, sections 2 of versions 1 and 2."""
    if not head.startswith(b"LUKS\xba\xbe"):
        return None
    version = int.from_bytes(head[6:8], "big")
    return Content(
        kind="LUKS",
        role=Role.CONTAINER,
        label=medium_text(head[24:72]) if version == 2 else "",
        uuid=medium_text(head[168:208]),
        detail=f"version {version}",
    )


def _lvm(head: bytes) -> Content | None:
    """LVM2's label, in one of the first four sectors (lib/format_text/layout.h)."""
    for sector in range(4):
        label = head[512 * sector : 512 * sector + 512]
        if label[:8] == b"LABELONE" and label[24:32] == b"LVM2 001":
            at = _little(label, 20, 4)
            text = medium_text(label[at : at + 32])
            cuts = (0, 6, 10, 14, 18, 22, 26, 32)
            name = "-".join(text[begin:end] for begin, end in pairwise(cuts))
            return Content(kind="LVM2", role=Role.CONTAINER, uuid=name if len(text) == 32 else "")
    return None


def _md_version_1(block: bytes) -> Content | None:
    """The superblock of metadata 1.x (linux/raid/md_p.h, ``mdp_superblock_1``)."""
    if _little(block, 0, 4) != _MD_MAGIC or _little(block, 4, 4) != 1:
        return None
    level = int.from_bytes(block[72:76], "little", signed=True)
    words = {-1: "linear", -4: "multipath"}.get(level, f"level {level}")
    return Content(
        kind="Linux RAID", role=Role.CONTAINER, label=medium_text(block[32:64]), uuid=_uuid(block, 16), detail=words
    )


def _md_at_start(head: bytes) -> Content | None:
    return _md_version_1(head[:256]) or _md_version_1(head[4096:4352])


def _md_at_end(tail: bytes, size: int) -> Content | None:
    """Metadata 1.0 (8 to 12 KiB from the end) and 0.90 (64 to 128 KiB from it)."""
    begin = size - len(tail)
    modern = (size // 512 - 16) // 8 * 8 * 512 - begin
    if modern >= 0 and (found := _md_version_1(tail[modern : modern + 256])):
        return found
    old = size // 65536 * 65536 - 65536 - begin
    block = tail[old : old + 64] if old >= 0 else b""
    if _little(block, 0, 4) != _MD_MAGIC or _little(block, 4, 4) != 0:
        return None
    return Content(kind="Linux RAID", role=Role.CONTAINER, detail=f"level {_little(block, 28, 4)}, metadata 0.90")


def _zfs(head: bytes) -> Content | None:
    """The checksum that ends the name-value part of label 0 (``vdev_phys_t``), in either byte order."""
    trailer = head[HEAD - 40 : HEAD - 32]
    if _ZFS_MAGIC not in (int.from_bytes(trailer, "little"), int.from_bytes(trailer, "big")):
        return None
    return Content(kind="ZFS", role=Role.CONTAINER)


def _ext(head: bytes) -> Content | None:
    """``struct ext4_super_block`` at 1024; which of the family by its features, as blkid does."""
    block = head[1024:2048]
    if block[56:58] != b"\x53\xef":
        return None
    compatible, incompatible = _little(block, 92, 4), _little(block, 96, 4)
    if incompatible & 0x8:
        kind = "ext journal"
    elif incompatible & _EXT4_ONLY:
        kind = "ext4"
    else:
        kind = "ext3" if compatible & 0x4 else "ext2"
    return Content(kind=kind, label=medium_text(block[120:136]), uuid=_uuid(block, 104))


def _xfs(head: bytes) -> Content | None:
    """``struct xfs_dsb`` (fs/xfs/libxfs/xfs_format.h)."""
    if not head.startswith(b"XFSB"):
        return None
    return Content(kind="xfs", label=medium_text(head[108:120]), uuid=_uuid(head, 32))


def _btrfs(head: bytes) -> Content | None:
    """``struct btrfs_super_block`` at 64 KiB."""
    block = head[65536:69632]
    if block[64:72] != b"_BHRfS_M":
        return None
    return Content(kind="btrfs", label=medium_text(block[299:555]), uuid=_uuid(block, 32))


def _f2fs(head: bytes) -> Content | None:
    """``struct f2fs_super_block`` (linux/f2fs_fs.h) at 1024; its label is UTF-16."""
    block = head[1024:4096]
    if _little(block, 0, 4) != 0xF2F52010:
        return None
    return Content(kind="f2fs", label=medium_text(block[124:1148], "utf-16-le"), uuid=_uuid(block, 108))


def _erofs(head: bytes) -> Content | None:
    """``struct erofs_super_block`` at 1024."""
    block = head[1024:1152]
    if _little(block, 0, 4) != 0xE0F5E1E2:
        return None
    return Content(kind="erofs", label=medium_text(block[64:80]), uuid=_uuid(block, 48))


def _squashfs(head: bytes) -> Content | None:
    """``struct squashfs_super_block``."""
    if not head.startswith(b"hsqs"):
        return None
    return Content(kind="squashfs", detail=f"version {_little(head, 28, 2)}.{_little(head, 30, 2)}")


def _ntfs(head: bytes) -> Content | None:
    if head[3:11] != b"NTFS    ":
        return None
    return Content(kind="ntfs", uuid=f"{_little(head, 72, 8):016X}")


def _exfat(head: bytes) -> Content | None:
    if head[3:11] != b"EXFAT   ":
        return None
    serial = f"{_little(head, 100, 4):08X}"
    return Content(kind="exfat", uuid=f"{serial[:4]}-{serial[4:]}")


def _fat(head: bytes) -> Content | None:
    layout = fat_layout(head[:512])
    if layout is None:
        return None
    return Content(kind="vfat", label=layout.label, uuid=layout.serial, detail=f"FAT{layout.bits}")


def _iso9660(head: bytes) -> Content | None:
    """The primary volume descriptor (ECMA-119 section 8.4), sector 16 of 2048 bytes."""
    block = head[32768:34816]
    if block[:6] != b"\x01CD001":
        return None
    return Content(kind="iso9660", label=medium_text(block[40:72]))


def _swap(head: bytes) -> Content | None:
    """The signature ends the first page, whatever its size (linux/swap.h, ``union swap_header``)."""
    for page in (4096, 8192, 16384, 65536):
        if head[page - 10 : page] == b"SWAPSPACE2":
            return Content(kind="swap", role=Role.SWAP, label=medium_text(head[1052:1068]), uuid=_uuid(head, 1036))
    return None


_AT_START: tuple[Callable[[bytes], Content | None], ...] = (
    _luks,
    _lvm,
    _md_at_start,
    _zfs,
    _swap,
    _xfs,
    _ext,
    _btrfs,
    _f2fs,
    _erofs,
    _squashfs,
    _ntfs,
    _exfat,
    _iso9660,
    _fat,
)


def by_head(head: bytes) -> Content | None:
    """What the first :data:`HEAD` bytes of a volume say."""
    return next((found for look in _AT_START if (found := look(head)) is not None), None)


def by_tail(tail: bytes, size: int) -> Content | None:
    """What its last bytes say; ``size`` is the volume's."""
    return _md_at_end(tail, size)
