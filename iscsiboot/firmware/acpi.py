# SPDX-License-Identifier: LGPL-2.1-or-later
"""The raw iBFT among the ACPI tables: the richest source, there when firmware is UEFI or QEMU's ``-acpitable``."""

from __future__ import annotations

from pathlib import Path

from iscsiboot.firmware.files import TABLE_MAX, read_file, why_not
from iscsiboot.firmware.report import SourceResult, SourceState, SourceStatus
from iscsiboot.ibft.convert import to_boot_config
from iscsiboot.ibft.parser import parse

KIND = "acpi-ibft"
NAMES = ("iBFT", "IBFT", "BIFT")
"""ACPI signatures are case sensitive; the order is that of the specification's two spellings and Broadcom's."""


def read_acpi(sysfs: Path) -> SourceResult:
    """The first iBFT in ``firmware/acpi/tables``. Only root may read them."""
    directory = sysfs / "firmware" / "acpi" / "tables"
    for name in NAMES:
        path = directory / name
        try:
            data = read_file(path, TABLE_MAX)
        except OSError as error:
            return _result(path, SourceState.UNUSABLE, why_not(error))
        if data is not None:
            return explain_table(data, path, KIND)
    return _result(directory / NAMES[0], SourceState.ABSENT, "")


def explain_table(data: bytes, path: Path, kind: str) -> SourceResult:
    """What the bytes of a table say; ``path`` is only named."""
    parsed = parse(data)
    config, ignored = to_boot_config(parsed, kind)
    if config is None:
        why = parsed.errors[0].problem if parsed.errors else "not an iBFT"
        state = SourceState.UNUSABLE
    else:
        why = f"{len(data)} bytes, {len(config.nics)} NIC(s), {len(config.targets)} target(s)"
        state = SourceState.PRESENT
    status = SourceStatus(kind=kind, path=path, state=state, why=why)
    return SourceResult(status=status, config=config, ignored=ignored, findings=parsed.findings)


def _result(path: Path, state: SourceState, why: str) -> SourceResult:
    return SourceResult(status=SourceStatus(kind=KIND, path=path, state=state, why=why))
