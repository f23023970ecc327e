# SPDX-License-Identifier: LGPL-2.1-or-later
"""The boot catalogue of a CD image ("El Torito" Bootable CD-ROM Format Specification 1.0, section 2)."""

from __future__ import annotations

from iscsiboot.toolkit.media_values import ElTorito, Reads, Volume

BLOCK = 2048
_RECORD_AT = 17 * BLOCK
_ENTRY = 32
_EFI_PLATFORM = 0xEF
_BOOTABLE = 0x88


def read_el_torito(volume: Volume) -> Reads[ElTorito | None]:
    """Which platforms the catalogue has an entry for; None without a catalogue. Its first block is all that is read."""
    record = yield from volume.read(_RECORD_AT, BLOCK)
    if record[:7] != b"\x00CD001\x01" or not record[7:39].startswith(b"EL TORITO SPECIFICATION"):
        return None
    catalogue = yield from volume.read(int.from_bytes(record[71:75], "little") * BLOCK, BLOCK)
    validation = catalogue[:_ENTRY]
    words = (int.from_bytes(validation[at : at + 2], "little") for at in range(0, _ENTRY, 2))
    if len(catalogue) < 2 * _ENTRY or validation[0] != 1 or validation[30:32] != b"\x55\xaa" or sum(words) & 0xFFFF:
        return None
    platforms: set[int] = set()
    platform, expected = validation[1], 1
    for at in range(_ENTRY, len(catalogue) - _ENTRY + 1, _ENTRY):
        kind = catalogue[at]
        if expected:
            expected -= 1
            if kind == _BOOTABLE:
                platforms.add(platform)
        elif kind in (0x90, 0x91):
            platform, expected = catalogue[at + 1], int.from_bytes(catalogue[at + 2 : at + 4], "little")
        else:
            break
    return ElTorito(bios=0 in platforms, efi=_EFI_PLATFORM in platforms)
