# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who can boot from what was found: a BIOS, UEFI, or a kernel that came from elsewhere. Each verdict says why.

"Maybe" is said when the disk has what it takes and something that cannot be seen on it decides: a boot entry in the
firmware's variables, code that is not recognised, an initramfs that opens a container.
"""

from __future__ import annotations

from iscsiboot.toolkit.media_fat import MACHINES
from iscsiboot.toolkit.media_values import Content, EfiFiles, Found, Outcome, Partition, PartitionRole, Role, Verdict

_WHOLE_CODE = frozenset({"GRUB", "LILO", "isolinux"})
"""Boot code that knows where to go on; all other looks for an active partition."""
_LINUX_ROOTS = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "erofs", "squashfs"})


def _yes(reason: str) -> Verdict:
    return Verdict(outcome=Outcome.YES, reason=reason)


def _maybe(reason: str) -> Verdict:
    return Verdict(outcome=Outcome.MAYBE, reason=reason)


def _no(reason: str) -> Verdict:
    return Verdict(outcome=Outcome.NO, reason=reason)


def by_bios(found: Found) -> Verdict:
    """A BIOS loads the first sector, through firmware that speaks iSCSI (iPXE, an adapter's ROM)."""
    if found.optical:
        if found.cd is not None and found.cd.bios:
            return _yes("the CD's boot catalogue has an entry for BIOS")
        return _no("the CD has no boot catalogue with an entry for BIOS")
    if not found.sector.signature:
        return _no("the first sector has no boot signature (55 AA)")
    if not found.sector.code:
        return _no("there is no boot code in the first sector")
    if found.sector.program == "a message only":
        return _no("the code in the first sector only prints that the disk is not bootable")
    if found.table is None:
        verdict = _bios_without_table(found)
    elif found.table.kind == "gpt":
        verdict = _bios_by_gpt(found, found.table.partitions)
    else:
        verdict = _bios_by_mbr(found, found.table.partitions)
    if verdict.outcome is Outcome.YES and found.block_size != 512:
        return _maybe(
            f"{verdict.reason}; but BIOS code counts in blocks of 512 bytes, this unit has {found.block_size}"
        )
    return verdict


def _code(found: Found) -> str:
    return f"boot code ({found.sector.program})" if found.sector.program else "boot code of unknown make"


def _bios_without_table(found: Found) -> Verdict:
    if found.sector.program in _WHOLE_CODE:
        return _yes(f"{_code(found)} and no partition table")
    what = f"a {found.content.kind} volume without partition table" if found.content else "no partition table"
    return _maybe(f"{_code(found)} and {what}")


def _bios_by_gpt(found: Found, partitions: tuple[Partition, ...]) -> Verdict:
    core = next((item for item in partitions if item.role is PartitionRole.BIOS_BOOT), None)
    if found.sector.program == "GRUB" and core is not None:
        return _yes(f"{_code(found)} and BIOS boot partition {core.number}")
    marked = next((item for item in partitions if item.active), None)
    if marked is not None and found.sector.program != "GRUB":
        return _yes(f"{_code(found)}, and partition {marked.number} is marked legacy BIOS bootable")
    if core is not None:
        return _maybe(f"{_code(found)} and BIOS boot partition {core.number}")
    if found.sector.program in _WHOLE_CODE:
        return _maybe(f"{_code(found)}, but no BIOS boot partition: it must lie in a file system")
    return _no(f"{_code(found)}, but neither a BIOS boot partition nor one marked legacy BIOS bootable")


def _bios_by_mbr(found: Found, partitions: tuple[Partition, ...]) -> Verdict:
    if found.sector.program in _WHOLE_CODE:
        return _yes(_code(found))
    active = next((item for item in partitions if item.active), None)
    if active is None:
        return _no(f"{_code(found)} looks for an active partition, and none is")
    if not active.boot_sector:
        return _no(f"partition {active.number} is active and has no boot sector")
    return _yes(f"{_code(found)} and active partition {active.number}")


def by_uefi(found: Found) -> Verdict:
    """UEFI loads ``EFI/BOOT/BOOT<machine>.EFI`` from an EFI system partition, or what a boot entry names."""
    if found.optical:
        if found.cd is not None and found.cd.efi:
            return _yes("the CD's boot catalogue has an entry for EFI")
        return _no("the CD has no boot catalogue with an entry for EFI")
    if found.table is None:
        if found.efi is not None and found.efi.loaders:
            return _maybe(f"{_loaders(found.efi)} in a FAT volume without partition table")
        return _no("there is no partition table")
    if found.table.unit != found.block_size:
        return _no(f"the partition table counts in blocks of {found.table.unit} bytes, not {found.block_size}")
    verdicts = [_by_partition(item) for item in found.table.partitions if item.role is PartitionRole.EFI_SYSTEM]
    for outcome in (Outcome.YES, Outcome.MAYBE):
        best = next((verdict for verdict in verdicts if verdict.outcome is outcome), None)
        if best is not None:
            return best
    stray = next((item for item in found.table.partitions if item.efi and item.efi.loaders), None)
    if stray is not None and stray.efi is not None:
        return _maybe(
            f"{_loaders(stray.efi)} in partition {stray.number}, which is not marked as an EFI system partition"
        )
    return verdicts[0] if verdicts else _no("there is no EFI system partition")


def _by_partition(partition: Partition) -> Verdict:
    where = f"EFI system partition {partition.number}"
    if partition.content is None or partition.content.kind != "vfat":
        holds = partition.content.kind if partition.content else "nothing known"
        return _no(f"{where} holds {holds}, not FAT")
    if partition.efi is None:
        return _maybe(f"{where} was not looked into")
    if partition.efi.loaders:
        return _yes(f"{_loaders(partition.efi)} in {where}")
    if partition.efi.vendors:
        names = ", ".join(f"EFI/{name}" for name in partition.efi.vendors)
        return _maybe(f"{where} has {names} but no EFI/BOOT: it takes a boot entry in the firmware")
    return _no(f"{where} has no boot loader")


def _loaders(efi: EfiFiles) -> str:
    machines = ", ".join(MACHINES[name] for name in efi.loaders)
    return f"EFI/BOOT/{efi.loaders[0]} ({machines})"


def by_kernel(found: Found) -> Verdict:
    """A kernel and initramfs from the network, whose root is to be here."""
    places: list[tuple[str, Content | None]] = []
    if found.table is not None and found.table.unit == found.block_size:
        places = [(f"in partition {item.number}", item.content) for item in found.table.partitions]
    places.append(("on the whole disk", found.content))
    best = _no("there is no file system of Linux")
    for where, content in places:
        if content is None:
            continue
        named = f'{content.kind} "{content.label}"' if content.label else content.kind
        if content.kind in _LINUX_ROOTS:
            return _yes(f"{named} {where}")
        if content.role is Role.CONTAINER and best.outcome is Outcome.NO:
            best = _maybe(f"{named} {where}, which the initramfs has to open")
    return best
