# SPDX-License-Identifier: LGPL-2.1-or-later
"""BootConfig: what firmware (or another source) says about this boot, every value with its source.

All sources (iBFT, sysfs, device tree, later the command line and DHCP) end in these values; everything after them
reads only these. A value nobody gave is None; nothing here invents a default.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from iscsiboot.model.credentials import Credentials
from iscsiboot.model.lun import Lun
from iscsiboot.model.portal import IpAddress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Generic, TypeVar

    T_co = TypeVar("T_co", covariant=True)
else:

    class Generic:
        """In typing's place, whose import would cost more than this module."""

        __slots__ = ()

        def __class_getitem__(cls, _: object) -> type[Generic]:
            return cls

    T_co = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where a value was read."""

    kind: str
    """One word: ``acpi-ibft``, ``sysfs-ibft``, ``iscsi_boot0``, ``device-tree``, ``arguments``, ``dhcp``."""
    where: str
    """The place inside: ``target 0, IP address, offset 0x1a4``, or a path of sysfs."""

    def __str__(self) -> str:
        return f"{self.kind} ({self.where})" if self.where else self.kind


@dataclass(frozen=True, slots=True)
class Sourced(Generic[T_co]):
    """A value and the place it was read from."""

    value: T_co
    source: Source


@dataclass(frozen=True, kw_only=True, slots=True)
class BootNic:
    """One NIC structure: the interface firmware used, and how it was configured."""

    index: int
    """The structure's index; targets name their NIC by it."""
    boot_selected: bool = False
    mac: Sourced[str] | None = None
    """Lower case, colons: ``52:54:00:12:34:56``."""
    netdev: Sourced[str] | None = None
    """The kernel's name, when sysfs ties the entry to a device."""
    address: Sourced[IpAddress] | None = None
    prefix_len: Sourced[int] | None = None
    gateway: Sourced[IpAddress] | None = None
    dns: tuple[Sourced[IpAddress], ...] = ()
    dhcp: Sourced[bool] | None = None
    """True when firmware had its address by DHCP (origin 3, or a DHCP server recorded)."""
    dhcp_server: Sourced[IpAddress] | None = None
    origin: Sourced[int] | None = None
    """The iBFT's IP prefix origin: 0 other, 1 manual, 2 well known, 3 DHCP, 4 router advertisement, 0xf unchanged."""
    vlan: Sourced[int] | None = None
    """1 to 4094; None is untagged."""
    pci: Sourced[str] | None = None
    """``0000:00:03.0``."""
    hostname: Sourced[str] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class BootTarget:
    """One target structure."""

    index: int
    boot_selected: bool = False
    name: Sourced[str]
    """Passed the name grammar."""
    address: Sourced[IpAddress]
    port: Sourced[int]
    lun: Sourced[Lun]
    nic_index: Sourced[int] | None = None
    credentials: Sourced[Credentials] | None = field(default=None, repr=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class BootConfig:
    """Everything a boot needs to know, from one or several sources."""

    initiator_name: Sourced[str] | None
    isns_servers: tuple[Sourced[IpAddress], ...] = ()
    nics: tuple[BootNic, ...] = ()
    targets: tuple[BootTarget, ...] = ()

    def nic_of(self, target: BootTarget) -> BootNic | None:
        """The NIC a target is reached through, None when the source ties it to none."""
        if target.nic_index is None:
            return None
        return next((nic for nic in self.nics if nic.index == target.nic_index.value), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ignored:
    """Something a source said that has no effect, and why: nothing disappears silently."""

    what: str
    why: str
    source: Source
