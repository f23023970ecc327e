# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a probe's values are written: sizes, times, LUNs, contents. Shared by the table and by JSON where they agree."""

from __future__ import annotations

from iscsiboot.initiator.scsi import DeviceType
from iscsiboot.model.lun import Lun
from iscsiboot.toolkit.media_values import Content, Media, Outcome, Partition, PartitionRole
from iscsiboot.toolkit.probe_report import Step, UnitReport

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def size_text(size: int) -> str:
    """``512 B``, ``64.0 MiB``: three digits that matter."""
    value, unit = float(size), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{size} B" if unit == 0 else f"{value:.{1 if value < 100 else 0}f} {_UNITS[unit]}"


def time_text(seconds: float) -> str:
    """``0.4 ms``, ``1.25 s``."""
    return f"{1000 * seconds:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def step_text(step: Step) -> str:
    """``READ(10) 3.1 ms (4 times)``."""
    return f"{step.name} {time_text(step.seconds)}{f' ({step.times} times)' if step.times > 1 else ''}"


def lun_text(lun: Lun) -> str:
    """The number everybody uses, for single-level LUNs; else the groups of RFC 4173."""
    if any(lun.wire[2:]):
        return str(lun)
    first = int.from_bytes(lun.wire[:2], "big")
    # SAM-5 section 4.7.7: peripheral addressing on bus 0, or flat space addressing.
    if first <= 255:
        return str(first)
    return str(first & 0x3FFF) if first >> 14 == 1 else str(lun)


def content_text(content: Content) -> str:
    """``ext4 "root"``, ``Linux RAID level 1``."""
    text = f"{content.kind} {content.detail}" if content.detail and content.kind != "vfat" else content.kind
    return f'{text} "{content.label}"' if content.label else text


def partition_text(partition: Partition) -> str:
    """What a partition is, in a few words: ``2 vfat "EFI" (EFI system)``."""
    if partition.content is None:
        return f"{partition.number} {partition.type_name}"
    role = f" ({partition.role.value})" if partition.role is PartitionRole.EFI_SYSTEM else ""
    return f"{partition.number} {content_text(partition.content)}{role}"


def summary(unit: UnitReport) -> tuple[str, str, str]:
    """Table, content and who boots it, for one line about a unit."""
    if unit.media is None:
        return "-", _without_media(unit), "-"
    found = unit.media.found
    kind = found.table.kind if found.table else "none"
    parts = [content_text(found.content)] if found.content else []
    if found.table is not None:
        shown = [item for item in found.table.partitions if item.role is not PartitionRole.EXTENDED]
        parts += [partition_text(item) for item in shown[:4]]
        if len(shown) > 4:
            parts.append(f"{len(shown) - 4} more")
    return kind, ", ".join(parts) or "nothing known", boots_by(unit.media)


def boots_by(media: Media) -> str:
    """``UEFI, kernel; maybe BIOS`` or ``nothing``."""
    ways = (("BIOS", media.bios), ("UEFI", media.uefi), ("kernel", media.kernel))
    sure = ", ".join(name for name, verdict in ways if verdict.outcome is Outcome.YES)
    perhaps = ", ".join(name for name, verdict in ways if verdict.outcome is Outcome.MAYBE)
    return "; ".join(text for text in (sure, f"maybe {perhaps}" if perhaps else "") if text) or "nothing"


def _without_media(unit: UnitReport) -> str:
    if unit.identity is None:
        return "-"
    inquiry = unit.identity.inquiry
    return DeviceType.words(inquiry.device_type) if inquiry.present else "no device"
