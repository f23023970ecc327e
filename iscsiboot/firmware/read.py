# SPDX-License-Identifier: LGPL-2.1-or-later
"""Looks at every firmware source once. Reads files below the given roots, changes and remembers nothing."""

from __future__ import annotations

from iscsiboot.firmware.acpi import read_acpi
from iscsiboot.firmware.device_tree import read_device_tree
from iscsiboot.firmware.kernel_view import read_hba_views, read_ibft_view
from iscsiboot.firmware.merge import merge
from iscsiboot.firmware.report import FirmwareReport, FirmwareRoots, SourceFinding, SourceResult
from iscsiboot.model.boot import BootConfig, Ignored, Sourced


def read_firmware(roots: FirmwareRoots) -> FirmwareReport:
    """What firmware said. Never raises for what it says; see :meth:`FirmwareReport.problem` for the verdict.

    Sources appear when their kernel module loads (iscsi_ibft for ``sysfs-ibft``): the caller loads modules first.
    """
    device_tree = read_device_tree(roots)
    acpi = read_acpi(roots.sysfs)
    view = read_ibft_view(roots.sysfs)
    adapters = read_hba_views(roots.sysfs)
    config, ignored = merge(device_tree, acpi, view, adapters)
    return report_of([device_tree, acpi, view, *adapters], config, ignored)


def report_of(results: list[SourceResult], config: BootConfig | None, merged: tuple[Ignored, ...]) -> FirmwareReport:
    """The report on ``results``. What two views of one table both leave out is told once."""
    ignored: list[Ignored] = []
    told: set[tuple[str, str]] = set()
    for item in [item for result in results for item in result.ignored] + list(merged):
        if (item.what, item.why) not in told:
            told.add((item.what, item.why))
            ignored.append(item)
    return FirmwareReport(
        config=config,
        sources=tuple(result.status for result in results),
        ignored=tuple(ignored),
        findings=tuple(
            SourceFinding(kind=result.status.kind, finding=finding) for result in results for finding in result.findings
        ),
    )


def machine_name(config: BootConfig | None) -> Sourced[str] | None:
    """The initiator name of the table whose session is this machine's own (iBFT, OpenFirmware); None without one.

    The name in an adapter's own table (``iscsi_bootN``) is that of the adapter's own sessions: two initiators with one
    name end each other's sessions.
    """
    name = None if config is None else config.initiator_name
    return None if name is None or name.source.kind.startswith("iscsi_boot") else name
