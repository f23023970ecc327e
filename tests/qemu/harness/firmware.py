# SPDX-License-Identifier: LGPL-2.1-or-later
"""Firmware lanes: the ways a machine under test gets its iBFT.

* ``TABLE``: an ACPI table by ``-acpitable``, kernel and initramfs loaded by QEMU. QEMU repairs the table's checksum.
* ``LOWMEM``: the table lies in low memory, as a BIOS leaves it, byte for byte; the kernel's own scan finds it (see
  ``find_ibft_region``, drivers/firmware/iscsi_ibft_find.c: every 16 bytes from 512 KiB to 1 MiB).
* ``IPXE_BIOS``: the real thing. SeaBIOS runs the NIC's iPXE, which attaches the disk, writes the table, and loads
  kernel and initramfs by TFTP.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from ipaddress import IPv4Address
from pathlib import Path

from iscsiboot.ibft import layout
from iscsiboot.ibft.builder import build
from iscsiboot.ibft.structures import IbftInitiator, IbftNic, IbftTable, IbftTarget
from iscsiboot.model.credentials import Credentials
from iscsiboot.model.lun import Lun
from tests.qemu.harness.machine import MachineSpec

GUEST_ADDRESS = IPv4Address("10.0.2.15")
HOST_ADDRESS = IPv4Address("10.0.2.2")
"""QEMU's user network: the host's 127.0.0.1 as the guest sees it."""
NOBODY_ADDRESS = IPv4Address("10.0.2.77")
"""On the link, and nobody answers for it."""
DNS_ADDRESS = IPv4Address("10.0.2.3")
LOW_MEMORY_ADDRESS = 0x90000
"""Above what QEMU's kernel loader uses (0x10000 to 0x2ffff), below the BIOS's own data at 0x9fc00."""
_CHECKSUM_OFFSET = 9


class Lane(Enum):
    """How the table reaches the kernel."""

    TABLE = "table"
    LOWMEM = "lowmem"
    IPXE_BIOS = "ipxe-bios"


@dataclass(frozen=True, kw_only=True, slots=True)
class FirmwareSpec:
    """What the table says."""

    initiator: str
    target: str
    address: IPv4Address = HOST_ADDRESS
    port: int
    lun: int
    mac: str
    dhcp: bool = False
    credentials: Credentials | None = None
    checksum_ok: bool = True


def table(spec: FirmwareSpec) -> IbftTable:
    """The iBFT a firmware would have written."""
    chap = spec.credentials
    kind = layout.ChapType.NONE if chap is None else layout.ChapType.MUTUAL if chap.incoming else layout.ChapType.CHAP
    target = IbftTarget(
        address=spec.address, port=spec.port, lun=Lun.from_number(spec.lun), name=spec.target, chap_type=int(kind)
    )
    if chap is not None:
        target = replace(target, chap_name=chap.outgoing.name, chap_secret=chap.outgoing.secret)
        if chap.incoming is not None:
            target = replace(target, reverse_chap_name=chap.incoming.name, reverse_chap_secret=chap.incoming.secret)
    nic = IbftNic(
        flags=layout.BlockFlag.VALID | layout.BlockFlag.BOOT_SELECTED | layout.NicFlag.GLOBAL,
        address=GUEST_ADDRESS,
        prefix_len=24,
        origin=int(layout.Origin.DHCP if spec.dhcp else layout.Origin.MANUAL),
        gateway=HOST_ADDRESS,
        primary_dns=DNS_ADDRESS,
        dhcp_server=HOST_ADDRESS if spec.dhcp else None,
        mac=bytes.fromhex(spec.mac.replace(":", "")),
        hostname="iscsiboot-test",
    )
    initiator = IbftInitiator(name=spec.initiator)
    return IbftTable(oem_id=b"TESTS", oem_table_id=b"HARNESS", initiator=initiator, nics=(nic,), targets=(target,))


def table_bytes(spec: FirmwareSpec) -> bytes:
    """The table's bytes; with a wrong checksum when ``checksum_ok`` is False."""
    image = bytearray(build(table(spec)))
    if not spec.checksum_ok:
        image[_CHECKSUM_OFFSET] ^= 0x55
    return bytes(image)


def ipxe_script(spec: FirmwareSpec, kernel_arguments: Sequence[str]) -> str:
    """What iPXE does. ``keep-san`` leaves the table where it is when the kernel starts without the BIOS's disk calls.

    The NIC has its address already: this script came through it. Each failure ends in a line on the console
    and the machine's end.
    """
    lines = ["#!ipxe", "echo iscsiboot: firmware is iPXE ${version}"]
    lines += [f"set initiator-iqn {spec.initiator}", "set keep-san 1"]
    if spec.credentials is not None:
        outgoing, incoming = spec.credentials.outgoing, spec.credentials.incoming
        lines += [f"set username {outgoing.name}", f"set password {outgoing.secret.reveal().decode()}"]
        if incoming is not None:
            lines += [f"set reverse-username {incoming.name}"]
            lines += [f"set reverse-password {incoming.secret.reveal().decode()}"]
    # RFC 4173: iscsi:SERVER:PROTOCOL:PORT:LUN:TARGET, the LUN in hexadecimal.
    uri = f"iscsi:{spec.address}::{spec.port}:{spec.lun:x}:{spec.target}"
    lines += [f"sanhook --drive 0x80 {uri} || goto lost"]
    lines += [f"kernel tftp://{HOST_ADDRESS}/kernel {' '.join(kernel_arguments)} initrd=initramfs || goto lost"]
    lines += [f"initrd tftp://{HOST_ADDRESS}/initramfs || goto lost", "boot || goto lost"]
    return "\n".join([*lines, ":lost", "echo iscsiboot: firmware cannot go on", "poweroff", ""])


def with_firmware(
    machine: MachineSpec,
    lane: Lane,
    spec: FirmwareSpec,
    *,
    kernel: Path,
    initramfs: Path,
    arguments: Sequence[str],
    runtime: Path,
) -> MachineSpec:
    """``machine`` with what ``lane`` needs; files the lane makes go below ``runtime``."""
    if lane is Lane.IPXE_BIOS:
        tftp = runtime / "tftp"
        tftp.mkdir()
        # Copies, not links: pruning of the cache by another run must not take a file away under a running machine.
        shutil.copyfile(kernel, tftp / "kernel")
        shutil.copyfile(initramfs, tftp / "initramfs")
        (tftp / "boot.ipxe").write_text(ipxe_script(spec, arguments))
        return replace(machine, tftp=(tftp, "boot.ipxe"))
    path = runtime / "ibft.bin"
    path.write_bytes(table_bytes(spec))
    machine = replace(machine, kernel=kernel, initrd=initramfs, append=tuple(arguments))
    if lane is Lane.LOWMEM:
        return replace(machine, low_memory=(path, LOW_MEMORY_ADDRESS))
    return replace(machine, acpi_table=path)
