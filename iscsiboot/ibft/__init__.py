# SPDX-License-Identifier: LGPL-2.1-or-later
"""The iSCSI Boot Firmware Table: bytes to values, values to bytes, values to a BootConfig. Pure: no I/O.

Source: "iSCSI Boot Firmware Table (iBFT) as defined in ACPI 3.0b specification", version 1.02 (IBM, Microsoft), read
beside what writes such tables (iPXE, EDK II's IScsiDxe) and what reads them (Linux drivers/firmware/iscsi_ibft.c).

:mod:`layout` is the format as a table; :mod:`parser` and :mod:`builder` both walk it, so they cannot disagree about
an offset. The parser takes whatever is there and says what is wrong with it; :mod:`convert` decides what of it a boot
may use.
"""
