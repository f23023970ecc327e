# SPDX-License-Identifier: LGPL-2.1-or-later
"""The initiator name for a command: firmware and :mod:`iscsiboot.database.initiator_name` joined.

iscsistart asks the same two (:mod:`iscsiboot.boot.naming`): a machine has one name, in the initramfs and later.
"""

from __future__ import annotations

import os

from iscsiboot.database.initiator_name import InitiatorName, choose

TYPE_CHECKING = False
if TYPE_CHECKING:
    from iscsiboot.database.initiator_name import NamePaths

_SIGNS = (
    "{sysfs}/firmware/ibft",
    "{sysfs}/firmware/acpi/tables/iBFT",
    "{sysfs}/firmware/acpi/tables/IBFT",
    "{sysfs}/firmware/acpi/tables/BIFT",
    "{proc}/device-tree/chosen/bootpath",
)
"""Where a boot table shows."""


def read_initiator_name(paths: NamePaths) -> InitiatorName:
    """Name, alias and where they come from: firmware, else the file, else the machine's identity.

    IscsiBootError when there is none or the file is wrong. Who calls passes ``.notes`` to ``Context.notice``.
    """
    return choose(paths, firmware_name(paths))


def firmware_name(paths: NamePaths) -> str | None:
    """The initiator name this machine booted with, None when it did not boot from iSCSI."""
    if not any(os.access(sign.format(sysfs=paths.sysfs, proc=paths.proc), os.F_OK) for sign in _SIGNS):
        return None
    # The table's parsers cost more than a whole listing, and most machines have no table.
    from pathlib import Path

    from iscsiboot.firmware.read import machine_name, read_firmware
    from iscsiboot.firmware.report import FirmwareRoots

    name = machine_name(read_firmware(FirmwareRoots(sysfs=Path(paths.sysfs), proc=Path(paths.proc))).config)
    return None if name is None else name.value
