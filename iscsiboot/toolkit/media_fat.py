# SPDX-License-Identifier: LGPL-2.1-or-later
"""FAT volumes (Microsoft FAT specification 1.03): their layout, and just enough of their directories to find EFI/BOOT.

Firmware starts ``\\EFI\\BOOT\\BOOT<machine>.EFI`` of an EFI system partition without being told (UEFI specification
section 3.5.1.1). All names on that way fit the short form, so long names are passed over.
"""

from __future__ import annotations

from dataclasses import dataclass

from iscsiboot.toolkit.media_values import EfiFiles, Reads, Volume, medium_text

DIRECTORY_MAX = 64 * 1024
"""Bytes of one directory that are read; two thousand entries."""
VENDORS_MAX = 16
_ENTRY = 32
_DIRECTORY, _VOLUME = 0x10, 0x08

_SHORT_OF_LONG = {"BOOTRI~1.EFI": "BOOTRISCV64.EFI", "BOOTLO~1.EFI": "BOOTLOONGARCH64.EFI"}
"""The two loaders whose name is too long for the short form, by the short name every writer gives them."""
MACHINES = {
    "BOOTX64.EFI": "x64",
    "BOOTIA32.EFI": "ia32",
    "BOOTAA64.EFI": "aa64",
    "BOOTARM.EFI": "arm",
    "BOOTRISCV64.EFI": "riscv64",
    "BOOTLOONGARCH64.EFI": "loongarch64",
}
"""Default loaders, and the machine each is for, in UEFI's words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FatLayout:
    """Where things are on a FAT volume; offsets and sizes in bytes."""

    bits: int
    """12, 16 or 32."""
    fat_at: int
    fat_size: int
    root_at: int
    """The fixed root directory; 0 with FAT32."""
    root_size: int
    root_cluster: int
    """FAT32's root directory; 0 otherwise."""
    data_at: int
    """Of cluster 2."""
    cluster: int
    clusters: int
    label: str
    serial: str


def fat_layout(sector: bytes) -> FatLayout | None:
    """The BIOS parameter block of a first sector; None when these bytes describe no FAT volume."""

    def number(offset: int, width: int) -> int:
        return int.from_bytes(sector[offset : offset + width], "little")

    size, per_cluster, reserved, fats, media = number(11, 2), number(13, 1), number(14, 2), number(16, 1), number(21, 1)
    legal = (
        len(sector) >= 512
        and sector[0] in (0xEB, 0xE9)
        and size in (512, 1024, 2048, 4096)
        and per_cluster in (1, 2, 4, 8, 16, 32, 64, 128)
        and reserved
        and 1 <= fats <= 4
        and media >= 0xF0
    )
    if not legal:
        return None
    wide = number(22, 2) == 0
    fat_sectors = number(36, 4) if wide else number(22, 2)
    sectors = number(19, 2) or number(32, 4)
    root_sectors = -(-number(17, 2) * _ENTRY // size)
    first = reserved + fats * fat_sectors + root_sectors
    if not fat_sectors or sectors <= first:
        return None
    clusters = (sectors - first) // per_cluster
    bits = 32 if wide else 12 if clusters < 4085 else 16
    extended = 64 if wide else 36
    named = sector[extended + 2] == 0x29
    serial = f"{number(extended + 3, 4):08X}"
    label = medium_text(sector[extended + 7 : extended + 18]) if named else ""
    return FatLayout(
        bits=bits,
        fat_at=reserved * size,
        fat_size=fat_sectors * size,
        root_at=0 if wide else (reserved + fats * fat_sectors) * size,
        root_size=root_sectors * size,
        root_cluster=number(44, 4) if wide else 0,
        data_at=first * size,
        cluster=per_cluster * size,
        clusters=clusters,
        label="" if label == "NO NAME" else label,
        serial=f"{serial[:4]}-{serial[4:]}" if named else "",
    )


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    directory: bool
    cluster: int
    size: int


def find_efi_files(volume: Volume, layout: FatLayout) -> Reads[EfiFiles]:
    """The default loaders in EFI/BOOT that are not empty, and the other directories of EFI."""
    root = yield from _directory(volume, layout, layout.root_cluster)
    efi = _subdirectory(root, "EFI")
    if efi is None:
        return EfiFiles()
    inside = yield from _directory(volume, layout, efi)
    boot = _subdirectory(inside, "BOOT")
    files = [] if boot is None else (yield from _directory(volume, layout, boot))
    names = {_SHORT_OF_LONG.get(entry.name, entry.name) for entry in files if not entry.directory and entry.size}
    vendors = [entry.name for entry in inside if entry.directory and entry.name not in ("", ".", "..", "BOOT")]
    return EfiFiles(loaders=tuple(name for name in MACHINES if name in names), vendors=tuple(vendors[:VENDORS_MAX]))


def _subdirectory(entries: list[_Entry], name: str) -> int | None:
    return next((entry.cluster for entry in entries if entry.directory and entry.name == name), None)


def _directory(volume: Volume, layout: FatLayout, cluster: int) -> Reads[list[_Entry]]:
    """The entries of the directory that begins in ``cluster``; 0 means the fixed root directory."""
    if cluster == 0:
        raw = yield from volume.read(layout.root_at, min(layout.root_size, DIRECTORY_MAX))
        return _entries(raw)
    content = bytearray()
    visited: set[int] = set()
    while 2 <= cluster < layout.clusters + 2 and cluster not in visited and len(content) < DIRECTORY_MAX:
        visited.add(cluster)
        place = layout.data_at + (cluster - 2) * layout.cluster
        content += yield from volume.read(place, min(layout.cluster, DIRECTORY_MAX - len(content)))
        # An empty name ends a directory (section 6.1): no need to look where it would go on.
        if not all(content[at] for at in range(0, len(content), _ENTRY)):
            break
        cluster = yield from _next_cluster(volume, layout, cluster)
    return _entries(bytes(content))


def _next_cluster(volume: Volume, layout: FatLayout, cluster: int) -> Reads[int]:
    """The FAT's entry; an end mark or a bad cluster is outside the volume and ends the caller's loop."""
    at = cluster * layout.bits // 8
    if at + 4 > layout.fat_size:
        return 0
    value = int.from_bytes((yield from volume.read(layout.fat_at + at, 4)), "little")
    if layout.bits == 12:
        return (value >> 4 if cluster & 1 else value) & 0xFFF
    return value & (0xFFFF if layout.bits == 16 else 0x0FFFFFFF)


def _entries(raw: bytes) -> list[_Entry]:
    found: list[_Entry] = []
    for at in range(0, len(raw) - _ENTRY + 1, _ENTRY):
        item = raw[at : at + _ENTRY]
        if item[0] == 0:
            break
        attributes = item[11]
        # 0xE5 marks a deleted entry; a long name's parts carry the volume bit.
        if item[0] == 0xE5 or attributes & _VOLUME:
            continue
        base, extension = medium_text(item[:8]), medium_text(item[8:11])
        high, low = int.from_bytes(item[20:22], "little"), int.from_bytes(item[26:28], "little")
        found.append(
            _Entry(
                name=f"{base}.{extension}" if extension else base,
                directory=bool(attributes & _DIRECTORY),
                cluster=high << 16 | low,
                size=int.from_bytes(item[28:32], "little"),
            )
        )
    return found
