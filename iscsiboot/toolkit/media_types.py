# SPDX-License-Identifier: LGPL-2.1-or-later
"""What partition types are called: MBR's bytes and GPT's GUIDs, those a disk to boot from is seen to have."""

from __future__ import annotations

from iscsiboot.toolkit.media_values import PartitionRole

EFI_SYSTEM_GUID = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
BIOS_BOOT_GUID = "21686148-6449-6e6f-744e-656564454649"
RAID_GUID = "a19d880f-05fc-4d3b-a006-743f0f84911e"

PROTECTIVE_TYPE = 0xEE
EXTENDED_TYPES = frozenset({0x05, 0x0F, 0x85})

_MBR = {
    0x01: "FAT12",
    0x04: "FAT16 (small)",
    0x05: "extended",
    0x06: "FAT16",
    0x07: "NTFS or exFAT",
    0x0B: "FAT32",
    0x0C: "FAT32 (LBA)",
    0x0E: "FAT16 (LBA)",
    0x0F: "extended (LBA)",
    0x11: "hidden FAT12",
    0x27: "Windows recovery",
    0x42: "Windows dynamic disk",
    0x82: "Linux swap",
    0x83: "Linux",
    0x85: "Linux extended",
    0x8E: "Linux LVM",
    0xA5: "FreeBSD",
    0xBF: "Solaris",
    0xCD: "ISO 9660",
    0xDA: "data",
    0xEA: "boot loader specification",
    0xEE: "GPT protective",
    0xEF: "EFI system",
    0xFB: "VMware VMFS",
    0xFD: "Linux RAID",
}
_MBR_ROLES = {
    0xEE: PartitionRole.PROTECTIVE,
    0xEF: PartitionRole.EFI_SYSTEM,
    0xFD: PartitionRole.RAID,
    **dict.fromkeys(EXTENDED_TYPES, PartitionRole.EXTENDED),
}

_GPT = {
    EFI_SYSTEM_GUID: "EFI system",
    BIOS_BOOT_GUID: "BIOS boot",
    RAID_GUID: "Linux RAID",
    "0fc63daf-8483-4772-8e79-3d69d8477de4": "Linux",
    "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f": "Linux swap",
    "e6d6d379-f507-44c2-a23c-238f2a3df928": "Linux LVM",
    "ca7d7ccb-63ed-4c53-861c-1742536059cc": "Linux LUKS",
    "933ac7e1-2eb4-4f13-b844-0e14e2aef915": "Linux home",
    "bc13c2ff-59e6-4262-a352-b275fd6f7172": "Linux extended boot",
    "4f68bce3-e8cd-4db1-96e7-fbcaf984b709": "Linux root (x86-64)",
    "b921b045-1df0-41c3-af44-4c6f280d3fae": "Linux root (arm64)",
    "44479540-f297-41b2-9af7-d131d5f0458a": "Linux root (x86)",
    "69dad710-2ce4-4e3c-b16c-21a1d49abed3": "Linux root (arm)",
    "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7": "Microsoft basic data",
    "e3c9e316-0b5c-4db8-817d-f92df00215ae": "Microsoft reserved",
    "de94bba4-06d1-4d40-a16a-bfd50179d6ac": "Windows recovery",
    "9e1a2d38-c612-4316-aa26-8b49521e5a8b": "PowerPC PReP boot",
    "6a898cc3-1dd2-11b2-99a6-080020736631": "ZFS",
    "48465300-0000-11aa-aa11-00306543ecac": "Apple HFS+",
    "516e7cb4-6ecf-11d6-8ff8-00022d09712b": "FreeBSD data",
}
_GPT_ROLES = {
    EFI_SYSTEM_GUID: PartitionRole.EFI_SYSTEM,
    BIOS_BOOT_GUID: PartitionRole.BIOS_BOOT,
    RAID_GUID: PartitionRole.RAID,
}


def mbr_type(value: int) -> tuple[str, PartitionRole]:
    """Name and role of a type byte; an unknown one is called ``unknown``."""
    return _MBR.get(value, "unknown"), _MBR_ROLES.get(value, PartitionRole.OTHER)


def gpt_type(guid: str) -> tuple[str, PartitionRole]:
    """Name and role of a type GUID in lower case; an unknown one is called ``unknown``."""
    return _GPT.get(guid, "unknown"), _GPT_ROLES.get(guid, PartitionRole.OTHER)
