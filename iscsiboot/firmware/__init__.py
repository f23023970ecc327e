# SPDX-License-Identifier: LGPL-2.1-or-later
"""What firmware left for the operating system, read from the running kernel and merged into one BootConfig.

Entry point: :func:`iscsiboot.firmware.read.read_firmware`. Sources, in the order they are believed:

1. ``device-tree``: OpenFirmware's boot path (POWER); such machines have no iBFT;
2. ``acpi-ibft`` and ``sysfs-ibft``: the raw table among the ACPI tables, and the kernel's view of an iBFT;
3. ``iscsi_bootN``: what an offload adapter's driver shows.

The rules of the merge stand in :mod:`iscsiboot.firmware.merge`.
"""
