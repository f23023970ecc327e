# SPDX-License-Identifier: LGPL-2.1-or-later
"""The iBFT's format as a table: structures, fields, offsets, sizes, kinds and flags (iBFT 1.02, chapter 3).

All numbers are little endian and unsigned. Addresses are 16 bytes in network order, IPv4 as ``::ffff:a.b.c.d``, all
zero when not set. A string or secret is a pair of 16-bit numbers, length (without its NUL) and offset from the start
of the table, pointing into a heap that may lie anywhere in the table.

A field's ``attribute`` is the name of the dataclass field in :mod:`iscsiboot.ibft.structures` it is kept in.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum, IntFlag, auto


class StructureId(IntEnum):
    """First byte of every structure (1.02, 3.2)."""

    RESERVED = 0
    CONTROL = 1
    INITIATOR = 2
    NIC = 3
    TARGET = 4
    EXTENSIONS = 5


class Kind(Enum):
    """What a field holds."""

    U8 = auto()
    U16 = auto()
    ADDRESS = auto()
    MAC = auto()
    LUN = auto()
    STRING = auto()
    SECRET = auto()
    """A string that is never shown."""

    @property
    def size(self) -> int:
        """Bytes the field takes in its structure (a string's bytes are in the heap)."""
        return _SIZES[self]


_SIZES = {
    Kind.U8: 1,
    Kind.U16: 2,
    Kind.ADDRESS: 16,
    Kind.MAC: 6,
    Kind.LUN: 8,
    Kind.STRING: 4,
    Kind.SECRET: 4,
}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a structure."""

    attribute: str
    label: str
    """How messages name it."""
    offset: int
    """Bytes from the start of the structure."""
    kind: Kind


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """One structure: the six-byte header, then ``fields``."""

    id: StructureId
    name: str
    size: int
    """Bytes with the header: what the header's length field must say."""
    fields: tuple[Field, ...]

    def field(self, attribute: str) -> Field:
        """The field kept in ``attribute``; KeyError when there is none."""
        for candidate in self.fields:
            if candidate.attribute == attribute:
                return candidate
        raise KeyError(attribute)


# --- ACPI table header (3.3). The 24 reserved bytes hold OEM revision and creator in tables of ordinary ACPI tools.
SIGNATURES = (b"iBFT", b"IBFT", b"BIFT")
"""The specification's two spellings, and the one of Broadcom's offload firmware (the kernel looks for all three)."""
REVISION = 1
STRUCTURE_VERSION = 1
ACPI_HEADER_SIZE = 48
LENGTH_OFFSET = 4
REVISION_OFFSET = 8
CHECKSUM_OFFSET = 9
OEM_ID_OFFSET, OEM_ID_SIZE = 10, 6
OEM_TABLE_ID_OFFSET, OEM_TABLE_ID_SIZE = 16, 8
RESERVED_OFFSET, RESERVED_SIZE = 24, 24
TABLE_MAX = 1 << 16
"""Offsets have 16 bits, so nothing beyond can be reached."""
ALIGNMENT = 8
"""Structures start at multiples of 8 (3.4.4)."""

# --- standard structure header (3.2): id, version, length (16 bits), index, flags
STRUCTURE_HEADER_SIZE = 6
ID_OFFSET, VERSION_OFFSET, STRUCTURE_LENGTH_OFFSET, INDEX_OFFSET, FLAGS_OFFSET = 0, 1, 2, 4, 5

# --- control structure (3.4)
CONTROL_OFFSET = ACPI_HEADER_SIZE
CONTROL_SIZE = 18
"""With two pairs of offsets. Longer when firmware has more (3.4.3; EDK II does with three attempts or more)."""
EXTENSIONS_OFFSET = 6
INITIATOR_OFFSET = 8
PAIRS_OFFSET = 10
"""NIC 0, target 0, NIC 1, target 1, and so on, two bytes each."""
PAIR_SIZE = 4


class ControlFlag(IntFlag):
    """Flags of the control structure."""

    BOOT_FAILOVER = 1
    """"Boot failover" in the specification; iPXE reads it as "log in to the selected target only"."""


class BlockFlag(IntFlag):
    """Flags that initiator, NIC and target share."""

    VALID = 1
    BOOT_SELECTED = 2


class NicFlag(IntFlag):
    """Flags of a NIC beyond :class:`BlockFlag`."""

    GLOBAL = 4
    """The address is global, not link local."""


class TargetFlag(IntFlag):
    """Flags of a target beyond :class:`BlockFlag`."""

    RADIUS_CHAP = 4
    RADIUS_REVERSE_CHAP = 8


class ChapType(IntEnum):
    """Authentication a target wants (3.7)."""

    NONE = 0
    CHAP = 1
    MUTUAL = 2


class Origin(IntEnum):
    """Where a NIC's address came from (2.6; Windows' NL_PREFIX_ORIGIN)."""

    OTHER = 0
    MANUAL = 1
    WELL_KNOWN = 2
    DHCP = 3
    ROUTER_ADVERTISEMENT = 4
    UNCHANGED = 0xF


INITIATOR = Layout(
    id=StructureId.INITIATOR,
    name="initiator",
    size=74,
    fields=(
        Field("isns_server", "iSNS server", 6, Kind.ADDRESS),
        Field("slp_server", "SLP server", 22, Kind.ADDRESS),
        Field("primary_radius", "primary RADIUS server", 38, Kind.ADDRESS),
        Field("secondary_radius", "secondary RADIUS server", 54, Kind.ADDRESS),
        Field("name", "initiator name", 70, Kind.STRING),
    ),
)

NIC = Layout(
    id=StructureId.NIC,
    name="NIC",
    size=102,
    fields=(
        Field("address", "IP address", 6, Kind.ADDRESS),
        Field("prefix_len", "prefix length", 22, Kind.U8),
        Field("origin", "origin", 23, Kind.U8),
        Field("gateway", "gateway", 24, Kind.ADDRESS),
        Field("primary_dns", "primary DNS", 40, Kind.ADDRESS),
        Field("secondary_dns", "secondary DNS", 56, Kind.ADDRESS),
        Field("dhcp_server", "DHCP server", 72, Kind.ADDRESS),
        Field("vlan", "VLAN", 88, Kind.U16),
        Field("mac", "MAC address", 90, Kind.MAC),
        Field("pci", "PCI bus/device/function", 96, Kind.U16),
        Field("hostname", "host name", 98, Kind.STRING),
    ),
)

TARGET = Layout(
    id=StructureId.TARGET,
    name="target",
    size=54,
    fields=(
        Field("address", "IP address", 6, Kind.ADDRESS),
        Field("port", "port", 22, Kind.U16),
        Field("lun", "LUN", 24, Kind.LUN),
        Field("chap_type", "CHAP type", 32, Kind.U8),
        Field("nic_index", "NIC association", 33, Kind.U8),
        Field("name", "target name", 34, Kind.STRING),
        Field("chap_name", "CHAP name", 38, Kind.STRING),
        Field("chap_secret", "CHAP secret", 42, Kind.SECRET),
        Field("reverse_chap_name", "reverse CHAP name", 46, Kind.STRING),
        Field("reverse_chap_secret", "reverse CHAP secret", 50, Kind.SECRET),
    ),
)

EXTENSIONS = Layout(id=StructureId.EXTENSIONS, name="extensions", size=STRUCTURE_HEADER_SIZE, fields=())
"""Reserved for growth: no version of the specification fills it, so what follows the header is kept as bytes."""

LAYOUTS = {layout.id: layout for layout in (INITIATOR, NIC, TARGET, EXTENSIONS)}
