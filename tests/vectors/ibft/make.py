# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes the built and the broken tables of this directory: ``python3 -m tests.vectors.ibft.make``.

The definitions are the documentation; a test holds that the committed files are what they give. The tables under
``captured-*`` are not made here: real firmware wrote them (README.md).
"""

from __future__ import annotations

import struct
from ipaddress import ip_address
from pathlib import Path

from iscsiboot.ibft import layout
from iscsiboot.ibft.builder import build, poke, seal
from iscsiboot.ibft.layout import BlockFlag, ChapType, NicFlag, Origin
from iscsiboot.ibft.parser import parse
from iscsiboot.ibft.structures import IbftControl, IbftExtensions, IbftInitiator, IbftNic, IbftTable, IbftTarget
from iscsiboot.model.credentials import Secret
from iscsiboot.model.lun import Lun

HERE = Path(__file__).parent
SELECTED = BlockFlag.VALID | BlockFlag.BOOT_SELECTED

INITIATOR = IbftInitiator(name="iqn.2026-11.org.example:initiator")
NIC = IbftNic(
    address=ip_address("10.0.2.15"),
    prefix_len=24,
    origin=Origin.MANUAL,
    gateway=ip_address("10.0.2.2"),
    primary_dns=ip_address("10.0.2.3"),
    secondary_dns=ip_address("10.0.2.4"),
    mac=bytes.fromhex("525400123456"),
    pci=0x0018,
    hostname="lab-guest",
)
TARGET = IbftTarget(
    address=ip_address("10.0.2.2"),
    lun=Lun.from_number(1),
    name="iqn.2026-11.org.example:disk",
)
PLAIN = IbftTable(oem_id=b"ISCSIB", oem_table_id=b"PLAIN", initiator=INITIATOR, nics=(NIC,), targets=(TARGET,))

_SECOND_NIC = IbftNic(
    index=1,
    flags=BlockFlag.VALID | NicFlag.GLOBAL,
    address=ip_address("2001:db8:1::15"),
    prefix_len=64,
    origin=Origin.ROUTER_ADVERTISEMENT,
    gateway=ip_address("fe80::1"),
    primary_dns=ip_address("2001:db8::53"),
    vlan=100,
    mac=bytes.fromhex("525400123457"),
    pci=0x0120,
)
_SECOND_TARGET = IbftTarget(
    index=1,
    flags=BlockFlag.VALID,
    address=ip_address("2001:db8:1::2"),
    port=3261,
    lun=Lun.parse("4752-3A4F-6b7e-2F99"),
    chap_type=ChapType.MUTUAL,
    nic_index=1,
    name="eui.02004567a425678d",
    chap_name="initiator",
    chap_secret=Secret(b"initiator secret"),
    reverse_chap_name="target",
    reverse_chap_secret=Secret(b"target secret 22"),
)

TABLES: dict[str, IbftTable] = {
    "plain": PLAIN,
    "dhcp": IbftTable(
        initiator=INITIATOR,
        nics=(IbftNic(origin=Origin.DHCP, dhcp_server=ip_address("10.0.2.2"), mac=NIC.mac),),
        targets=(TARGET,),
    ),
    "two-paths": IbftTable(
        oem_id=b"ISCSIB",
        oem_table_id=b"TWOPATHS",
        control=IbftControl(flags=1),
        initiator=IbftInitiator(
            isns_server=ip_address("10.0.2.9"),
            slp_server=ip_address("10.0.2.10"),
            primary_radius=ip_address("10.0.2.11"),
            secondary_radius=ip_address("2001:db8::11"),
            name=INITIATOR.name,
        ),
        nics=(NIC, _SECOND_NIC),
        targets=(TARGET, _SECOND_TARGET),
        extensions=IbftExtensions(flags=1, body=b"vendor data"),
    ),
    "chap": IbftTable(
        initiator=INITIATOR,
        nics=(NIC,),
        targets=(
            IbftTarget(
                address=TARGET.address,
                lun=TARGET.lun,
                name=TARGET.name,
                chap_type=ChapType.CHAP,
                chap_name="initiator",
                chap_secret=Secret(b"initiator secret"),
            ),
        ),
    ),
    "four-paths": IbftTable(
        initiator=INITIATOR,
        nics=tuple(
            IbftNic(index=i, flags=1, address=ip_address(f"10.0.{i}.15"), prefix_len=24, mac=bytes((2, 0, 0, 0, 0, i)))
            for i in range(4)
        ),
        targets=tuple(
            IbftTarget(index=i, flags=1, address=ip_address(f"10.0.{i}.2"), nic_index=i, name=TARGET.name)
            for i in range(4)
        ),
    ),
    "no-targets": IbftTable(initiator=INITIATOR, nics=(NIC,)),
}
"""Tables without fault."""


def _two_paths() -> tuple[bytes, IbftTable]:
    image = build(TABLES["two-paths"])
    table = parse(image).table
    if table is None:
        raise ValueError("a built table can be read")
    return image, table


def _slot(number: int) -> int:
    """Where the control structure has its offset ``number``: 0 initiator, 1 NIC 0, 2 target 0, 3 NIC 1, 4 target 1."""
    return layout.CONTROL_OFFSET + layout.INITIATOR_OFFSET + 2 * number


def broken() -> dict[str, bytes]:
    """Tables with one fault each, made from ``two-paths``; the checksum is right unless the name says otherwise."""
    image, table = _two_paths()
    nic, target = table.nics[0].offset, table.targets[0].offset
    name_at = target + layout.TARGET.field("name").offset
    u16 = struct.Struct("<H").pack
    return {
        "bad-checksum": poke(
            image, layout.CHECKSUM_OFFSET, bytes([image[layout.CHECKSUM_OFFSET] ^ 0x5A]), sealed=False
        ),
        "cut-off": image[: len(image) - 40],
        "only-header": image[: layout.ACPI_HEADER_SIZE],
        "wrong-signature": poke(image, 0, b"SSDT"),
        "revision-2": poke(image, layout.REVISION_OFFSET, b"\x02"),
        "length-too-long": poke(image, layout.LENGTH_OFFSET, b"\xff\xff\xff\x7f", sealed=False),
        "control-id-wrong": poke(image, layout.CONTROL_OFFSET, b"\x04"),
        "control-length-lies": poke(image, layout.CONTROL_OFFSET + 2, u16(0xFFFE)),
        "nic-outside": poke(image, _slot(1), u16(len(image) - 3)),
        "nic-length-short": poke(image, nic + layout.STRUCTURE_LENGTH_OFFSET, u16(90)),
        "nic-overlaps-header": poke(image, _slot(1), u16(8)),
        "target-overlaps-nic": poke(image, _slot(2), u16(nic)),
        "target-name-outside": poke(image, name_at + 2, u16(0xFFF0)),
        "target-name-in-structure": poke(image, name_at + 2, u16(nic)),
        "target-name-control": poke(image, image.index(TARGET.name.encode()) + 30 - 10, b"\x1b"),
        "target-port-0": poke(image, target + layout.TARGET.field("port").offset, bytes(2)),
        "target-nic-missing": poke(image, target + layout.TARGET.field("nic_index").offset, b"\x07"),
        "vlan-5000": poke(image, nic + layout.NIC.field("vlan").offset, u16(5000)),
        "all-ones": seal(image[: layout.CONTROL_OFFSET] + b"\xff" * (len(image) - layout.CONTROL_OFFSET)),
    }


def files() -> dict[str, bytes]:
    """File name and content of everything this module makes."""
    made = {f"built-{name}.bin": build(table) for name, table in TABLES.items()}
    return made | {f"broken-{name}.bin": content for name, content in broken().items()}


def main() -> None:
    """Write the files beside this one."""
    for name, content in files().items():
        (HERE / name).write_bytes(content)


if __name__ == "__main__":
    main()
