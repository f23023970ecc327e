# SPDX-License-Identifier: LGPL-2.1-or-later
"""A table as values. Numbers are kept as the table has them (a VLAN of 5000 stays 5000); :mod:`convert` judges them.

Every value here can be written by :mod:`builder` and read back equal; what a table cannot hold is refused with
ValueError on construction. ``offset`` is where the parser found a structure; it takes no part in comparisons.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from iscsiboot.ibft import layout
from iscsiboot.ibft.layout import BlockFlag, ControlFlag, Kind, Layout, NicFlag
from iscsiboot.model.credentials import Secret
from iscsiboot.model.lun import Lun
from iscsiboot.model.portal import IpAddress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STRING_MAX = 1024
"""Bytes. Names have at most 255 (CHAP, host) or 223 (iSCSI); the rest is room for those who count differently."""

NO_LUN = Lun(bytes(8))
"""Eight zero bytes: LUN 0, and what an unset field holds."""


def _check(structure: object, own_layout: Layout) -> None:
    """ValueError unless every field of ``structure`` fits its place in the table."""
    for name in ("index", "flags"):
        _check_number(name, getattr(structure, name), 0xFF)
    for spec in own_layout.fields:
        value: Any = getattr(structure, spec.attribute)
        if spec.kind is Kind.U8:
            _check_number(spec.label, value, 0xFF)
        elif spec.kind is Kind.U16:
            _check_number(spec.label, value, 0xFFFF)
        elif spec.kind is Kind.ADDRESS:
            _check_address(spec.label, value)
        elif spec.kind is Kind.MAC:
            _check_mac(spec.label, value)
        elif spec.kind is Kind.STRING:
            _check_string(spec.label, value)
        elif spec.kind is Kind.SECRET and value is not None and b"\0" in value.reveal():
            raise ValueError(f"a {spec.label} cannot hold a NUL: readers, the kernel among them, stop there")


def _check_number(label: str, value: int, largest: int) -> None:
    if not 0 <= value <= largest:
        raise ValueError(f"{label} {value} is outside 0 to {largest}")


def _check_address(label: str, value: IpAddress | None) -> None:
    if value is None:
        return
    if value.is_unspecified:
        raise ValueError(f"{label}: the unspecified address means 'not set' in a table; use None")
    if isinstance(value, IPv6Address) and (value.scope_id is not None or value.ipv4_mapped is not None):
        raise ValueError(f"{label}: a table has no scope, and holds IPv4 as IPv4-mapped; use a plain address")


def _check_mac(label: str, value: bytes | None) -> None:
    if value is not None and (len(value) != 6 or value == bytes(6)):
        raise ValueError(f"{label}: six bytes, not all zero (which means 'not set'; use None)")


def _check_string(label: str, value: str) -> None:
    if len(value.encode("utf-8")) > STRING_MAX:
        raise ValueError(f"{label} has more than {STRING_MAX} bytes")
    if not value.isprintable():
        raise ValueError(f"{label} has a character that cannot be printed")


@dataclass(frozen=True, kw_only=True, slots=True)
class IbftControl:
    """The control structure without its offsets: the builder places structures, the parser follows them."""

    flags: int = 0

    def __post_init__(self) -> None:
        _check_number("flags", self.flags, 0xFF)

    @property
    def boot_failover(self) -> bool:
        """Bit 0 (see :class:`layout.ControlFlag`)."""
        return bool(self.flags & ControlFlag.BOOT_FAILOVER)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Block:
    """What initiator, NIC, target and extensions share."""

    index: int = 0
    flags: int = BlockFlag.VALID | BlockFlag.BOOT_SELECTED
    offset: int = field(default=0, compare=False)
    """Bytes from the start of the table to this structure, 0 when it was not parsed."""

    @property
    def valid(self) -> bool:
        """Firmware says the structure holds something."""
        return bool(self.flags & BlockFlag.VALID)

    @property
    def boot_selected(self) -> bool:
        """Firmware booted, or tried to, by this one."""
        return bool(self.flags & BlockFlag.BOOT_SELECTED)


@dataclass(frozen=True, kw_only=True, slots=True)
class IbftInitiator(_Block):
    """Structure 2."""

    isns_server: IpAddress | None = None
    slp_server: IpAddress | None = None
    primary_radius: IpAddress | None = None
    secondary_radius: IpAddress | None = None
    name: str = ""

    def __post_init__(self) -> None:
        _check(self, layout.INITIATOR)


@dataclass(frozen=True, kw_only=True, slots=True)
class IbftNic(_Block):
    """Structure 3."""

    address: IpAddress | None = None
    prefix_len: int = 0
    origin: int = 0
    """:class:`layout.Origin`, or a number it does not have."""
    gateway: IpAddress | None = None
    primary_dns: IpAddress | None = None
    secondary_dns: IpAddress | None = None
    dhcp_server: IpAddress | None = None
    vlan: int = 0
    mac: bytes | None = None
    pci: int = 0
    """Bus in bits 8 to 15, device in 3 to 7, function in 0 to 2; PCI domain 0 is implied."""
    hostname: str = ""

    def __post_init__(self) -> None:
        _check(self, layout.NIC)

    @property
    def global_address(self) -> bool:
        """The address is global, not link local, says firmware."""
        return bool(self.flags & NicFlag.GLOBAL)


@dataclass(frozen=True, kw_only=True, slots=True)
class IbftTarget(_Block):
    """Structure 4. Secrets print as ``********``."""

    address: IpAddress | None = None
    port: int = 3260
    lun: Lun = NO_LUN
    chap_type: int = 0
    """:class:`layout.ChapType`, or a number it does not have."""
    nic_index: int = 0
    name: str = ""
    chap_name: str = ""
    chap_secret: Secret | None = None
    reverse_chap_name: str = ""
    reverse_chap_secret: Secret | None = None

    def __post_init__(self) -> None:
        _check(self, layout.TARGET)


@dataclass(frozen=True, kw_only=True, slots=True)
class IbftExtensions(_Block):
    """Structure 5: nobody has defined what is in it, so it is kept whole."""

    body: bytes = b""

    def __post_init__(self) -> None:
        _check(self, layout.EXTENSIONS)
        if len(self.body) > 0xFFFF - layout.STRUCTURE_HEADER_SIZE:
            raise ValueError("the extensions' length does not fit 16 bits")


Structure = IbftInitiator | IbftNic | IbftTarget | IbftExtensions


@dataclass(frozen=True, kw_only=True, slots=True)
class IbftTable:
    """A whole table. NICs and targets stand in the order of the control structure's offsets."""

    signature: bytes = layout.SIGNATURES[0]
    oem_id: bytes = b""
    """At most 6 bytes, padding removed."""
    oem_table_id: bytes = b""
    """At most 8 bytes, padding removed."""
    reserved: bytes = bytes(layout.RESERVED_SIZE)
    """24 bytes; iPXE and ACPI tools keep OEM revision and creator in the first 12."""
    control: IbftControl = IbftControl()
    initiator: IbftInitiator | None = None
    nics: tuple[IbftNic, ...] = ()
    targets: tuple[IbftTarget, ...] = ()
    extensions: IbftExtensions | None = None

    def __post_init__(self) -> None:
        if self.signature not in layout.SIGNATURES:
            raise ValueError("not a signature of an iBFT")
        for name, value, size in (
            ("OEM id", self.oem_id, layout.OEM_ID_SIZE),
            ("OEM table id", self.oem_table_id, layout.OEM_TABLE_ID_SIZE),
        ):
            if len(value) > size or value.endswith(b"\0"):
                raise ValueError(f"{name}: at most {size} bytes, without the NUL padding")
        if len(self.reserved) != layout.RESERVED_SIZE:
            raise ValueError(f"the reserved bytes of the header are {layout.RESERVED_SIZE}")


def decode_address(raw: bytes) -> IpAddress | None:
    """16 bytes to an address: IPv4-mapped to IPv4; all zero, and ``::ffff:0.0.0.0``, to None (as the kernel does)."""
    address = IPv6Address(raw)
    plain: IPv4Address | IPv6Address = address.ipv4_mapped or address
    return None if plain.is_unspecified else plain


def encode_address(address: IpAddress | None) -> bytes:
    """The inverse of :func:`decode_address`."""
    if address is None:
        return bytes(16)
    if isinstance(address, IPv4Address):
        return bytes(10) + b"\xff\xff" + address.packed
    return address.packed
