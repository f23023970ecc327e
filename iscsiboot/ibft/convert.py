# SPDX-License-Identifier: LGPL-2.1-or-later
"""From what a table says to what a boot may use: the one place where values of an iBFT are judged.

The kernel's sysfs view and the device tree are brought into the same structures and judged here too, so a rule holds
for every source. Nothing disappears silently: what has no effect comes back as :class:`Ignored`.

The rules, where the specification leaves room:

* A structure counts when it is marked valid *or* boot selected. open-iscsi takes any non-zero flags; tables with
  "selected" alone exist (dracut's issue tracker), tables with other bits alone do not.
* Names pass :func:`check_iscsi_name`; a target without a good name, address or port is left out, the others stay.
* A target that wants CHAP but lacks a name or secret is left out: logging in without would be a downgrade.
* CHAP type 0 means none, also when names and secrets lie around. An undefined type is decided by what is there.
* RADIUS keeps the secrets on a server we do not ask: such a target is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from iscsiboot.errors import quoted
from iscsiboot.ibft import layout
from iscsiboot.ibft.checks import VLAN_MAX, prefix_max
from iscsiboot.ibft.layout import ChapType, Layout, Origin, TargetFlag
from iscsiboot.ibft.parser import ParseResult
from iscsiboot.ibft.structures import IbftInitiator, IbftNic, IbftTarget
from iscsiboot.model.boot import BootConfig, BootNic, BootTarget, Ignored, Source, Sourced
from iscsiboot.model.credentials import Chap, Credentials, Secret
from iscsiboot.model.names import InvalidName, check_iscsi_name
from iscsiboot.model.portal import IpAddress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")

SourceOf = Callable[[str], Source]
"""From the attribute of a structure (``vlan``) to the source that is named for its value."""


@dataclass(slots=True)
class Judge:
    """Turns structures of one source into boot values, and collects what it leaves out."""

    kind: str
    ignored: list[Ignored] = field(default_factory=list)

    def leave_out(self, what: str, why: str, source: Source) -> None:
        """Note something that has no effect."""
        self.ignored.append(Ignored(what=what, why=why, source=source))

    def initiator_name(self, initiator: IbftInitiator, source: SourceOf) -> Sourced[str] | None:
        """The initiator's name when it is one."""
        try:
            return Sourced(check_iscsi_name(initiator.name), source("name"))
        except InvalidName as bad:
            self.leave_out("initiator name", str(bad), source("name"))
            return None

    def isns_servers(self, initiator: IbftInitiator, source: SourceOf) -> tuple[Sourced[IpAddress], ...]:
        """The iSNS server is used; SLP and RADIUS servers are reported and left out."""
        for attribute in ("slp_server", "primary_radius", "secondary_radius"):
            address = getattr(initiator, attribute)
            if address is not None:
                label = layout.INITIATOR.field(attribute).label
                self.leave_out(f"{label} {address}", "iscsiboot asks no such server", source(attribute))
        if initiator.isns_server is None:
            return ()
        return (Sourced(initiator.isns_server, source("isns_server")),)

    def nic(self, nic: IbftNic, source: SourceOf) -> BootNic | None:
        """A NIC, None for an unused slot."""
        if not (nic.valid or nic.boot_selected):
            self.leave_out(f"NIC {nic.index}", "not marked valid", source("flags"))
            return None
        address = self._address(nic, source)
        dns = [(nic.primary_dns, "primary_dns"), (nic.secondary_dns, "secondary_dns")]
        return BootNic(
            index=nic.index,
            boot_selected=nic.boot_selected,
            mac=self._mac(nic, source),
            address=address,
            prefix_len=self._prefix(nic, source) if address else None,
            gateway=_sourced(nic.gateway, "gateway", source),
            dns=tuple(Sourced(server, source(attribute)) for server, attribute in dns if server is not None),
            dhcp=_dhcp(nic, source),
            dhcp_server=_sourced(nic.dhcp_server, "dhcp_server", source),
            origin=self._origin(nic, source),
            vlan=self._vlan(nic, source),
            # Bus 0, device 0, function 0 is a host bridge, never a NIC: firmware that does not know leaves zero.
            pci=Sourced(_bdf(nic.pci), source("pci")) if nic.pci else None,
            hostname=self._hostname(nic, source),
        )

    def target(self, target: IbftTarget, nic_indexes: set[int], source: SourceOf) -> BootTarget | None:
        """A target, None when it is unused or something a login needs is missing or wrong."""
        what = f"target {target.index}"
        if not (target.valid or target.boot_selected):
            self.leave_out(what, "not marked valid", source("flags"))
            return None
        try:
            name = check_iscsi_name(target.name)
        except InvalidName as bad:
            self.leave_out(what, f"its name is not usable: {bad}", source("name"))
            return None
        if target.address is None:
            self.leave_out(what, "it has no IP address", source("address"))
            return None
        if not 1 <= target.port <= 0xFFFF:
            self.leave_out(what, f"port {target.port} is not a TCP port", source("port"))
            return None
        usable, credentials = self._credentials(target, source)
        if not usable:
            return None
        return BootTarget(
            index=target.index,
            boot_selected=target.boot_selected,
            name=Sourced(name, source("name")),
            address=Sourced(target.address, source("address")),
            port=Sourced(target.port, source("port")),
            lun=Sourced(target.lun, source("lun")),
            nic_index=self._nic_index(target, nic_indexes, source),
            credentials=credentials,
        )

    def _address(self, nic: IbftNic, source: SourceOf) -> Sourced[IpAddress] | None:
        if nic.address is None:
            return None
        if nic.address.is_multicast or nic.address.is_loopback:
            self.leave_out(f"NIC {nic.index} address {nic.address}", "not an address of a host", source("address"))
            return None
        return Sourced(nic.address, source("address"))

    def _prefix(self, nic: IbftNic, source: SourceOf) -> Sourced[int] | None:
        if nic.address is None or nic.prefix_len == 0:
            return None
        if nic.prefix_len > prefix_max(nic.address):
            what = f"NIC {nic.index} prefix length {nic.prefix_len}"
            self.leave_out(what, f"too long for {nic.address}", source("prefix_len"))
            return None
        return Sourced(nic.prefix_len, source("prefix_len"))

    def _mac(self, nic: IbftNic, source: SourceOf) -> Sourced[str] | None:
        if nic.mac is None:
            return None
        if nic.mac[0] & 1:
            what = f"NIC {nic.index} MAC address {nic.mac.hex(':')}"
            self.leave_out(what, "a group address belongs to no NIC", source("mac"))
            return None
        return Sourced(nic.mac.hex(":"), source("mac"))

    def _vlan(self, nic: IbftNic, source: SourceOf) -> Sourced[int] | None:
        if nic.vlan == 0:
            return None
        if nic.vlan > VLAN_MAX:
            self.leave_out(f"NIC {nic.index} VLAN {nic.vlan}", f"outside 1 to {VLAN_MAX}", source("vlan"))
            return None
        return Sourced(nic.vlan, source("vlan"))

    def _origin(self, nic: IbftNic, source: SourceOf) -> Sourced[int] | None:
        if nic.origin not in list(Origin):
            self.leave_out(f"NIC {nic.index} origin {nic.origin}", "not an origin that is defined", source("origin"))
            return None
        return Sourced(nic.origin, source("origin"))

    def _hostname(self, nic: IbftNic, source: SourceOf) -> Sourced[str] | None:
        if not nic.hostname:
            return None
        # It may become the kernel's host name and part of a DHCP request: letters, digits, dots, dashes.
        plain = nic.hostname.replace("-", "").replace(".", "").replace("_", "")
        if not (plain.isascii() and plain.isalnum() and len(nic.hostname) <= 253):
            what = f"NIC {nic.index} host name {quoted(nic.hostname)}"
            self.leave_out(what, "not a host name", source("hostname"))
            return None
        return Sourced(nic.hostname, source("hostname"))

    def _nic_index(self, target: IbftTarget, nic_indexes: set[int], source: SourceOf) -> Sourced[int] | None:
        if target.nic_index in nic_indexes:
            return Sourced(target.nic_index, source("nic_index"))
        what = f"target {target.index} NIC association {target.nic_index}"
        self.leave_out(what, "there is no such NIC; the target is tied to none", source("nic_index"))
        return None

    def _credentials(self, target: IbftTarget, source: SourceOf) -> tuple[bool, Sourced[Credentials] | None]:
        """Whether the target can be used, and what to prove and demand there."""
        what = f"target {target.index}"
        if target.flags & (TargetFlag.RADIUS_CHAP | TargetFlag.RADIUS_REVERSE_CHAP):
            self.leave_out(
                what, "it wants CHAP secrets of a RADIUS server, which iscsiboot does not ask", source("flags")
            )
            return False, None
        chap_type = _chap_type(target)
        if chap_type is ChapType.NONE:
            if target.chap_secret or target.reverse_chap_secret:
                why = "the CHAP type is 0, no authentication"
                self.leave_out(f"{what} CHAP name and secret", why, source("chap_type"))
            return True, None
        outgoing = self._chap(what, target.chap_name, target.chap_secret, "chap", source)
        if outgoing is None:
            return False, None
        incoming = None
        if chap_type is ChapType.MUTUAL:
            incoming = self._chap(what, target.reverse_chap_name, target.reverse_chap_secret, "reverse_chap", source)
            if incoming is None:
                return False, None
        elif target.reverse_chap_secret:
            why = "the CHAP type is 1, one way"
            self.leave_out(f"{what} reverse CHAP name and secret", why, source("chap_type"))
        try:
            return True, Sourced(Credentials(outgoing=outgoing, incoming=incoming), source("chap_name"))
        except ValueError as bad:
            self.leave_out(what, str(bad), source("reverse_chap_secret"))
            return False, None

    def _chap(self, what: str, name: str, secret: Secret | None, prefix: str, source: SourceOf) -> Chap | None:
        """One direction, None (and a note) when it is incomplete."""
        labels = {attribute: layout.TARGET.field(f"{prefix}_{attribute}").label for attribute in ("name", "secret")}
        if secret is None:
            self.leave_out(what, f"it wants CHAP, but the {labels['secret']} is missing", source(f"{prefix}_secret"))
            return None
        try:
            return Chap(name=name, secret=secret)
        except ValueError as bad:
            self.leave_out(what, f"its {labels['name']} is not usable: {bad}", source(f"{prefix}_name"))
            return None


def to_boot_config(result: ParseResult, kind: str = "acpi-ibft") -> tuple[BootConfig | None, tuple[Ignored, ...]]:
    """What a boot may use of a parsed table. None, with the reason, for a table that is not intact."""
    judge = Judge(kind)
    if result.table is None or not result.intact:
        problem = str(result.errors[0]) if result.errors else "not an iBFT"
        judge.leave_out("the whole table", problem, Source(kind=kind, where=""))
        return None, tuple(judge.ignored)
    table, initiator = result.table, result.table.initiator
    found_nics = [judge.nic(nic, _offsets(kind, layout.NIC, nic)) for nic in table.nics]
    nics = tuple(nic for nic in found_nics if nic is not None)
    indexes = {nic.index for nic in nics}
    found_targets = [judge.target(item, indexes, _offsets(kind, layout.TARGET, item)) for item in table.targets]
    name, isns = None, ()  # type: Sourced[str] | None, tuple[Sourced[IpAddress], ...]
    if initiator is not None:
        source = _offsets(kind, layout.INITIATOR, initiator)
        name, isns = judge.initiator_name(initiator, source), judge.isns_servers(initiator, source)
    config = BootConfig(
        initiator_name=name,
        isns_servers=isns,
        nics=nics,
        targets=tuple(target for target in found_targets if target is not None),
    )
    return config, tuple(judge.ignored)


def _offsets(kind: str, own: Layout, structure: IbftInitiator | IbftNic | IbftTarget) -> SourceOf:
    """Sources of a table: ``target 0, IP address, offset 0x1a4``."""

    def source(attribute: str) -> Source:
        if attribute == "flags":
            label, offset = "flags", layout.FLAGS_OFFSET
        else:
            spec = own.field(attribute)
            label, offset = spec.label, spec.offset
        where = f"{own.name} {structure.index}, {label}, offset {structure.offset + offset:#x}"
        return Source(kind=kind, where=where)

    return source


def _sourced(value: T | None, attribute: str, source: SourceOf) -> Sourced[T] | None:
    return None if value is None else Sourced(value, source(attribute))


def _dhcp(nic: IbftNic, source: SourceOf) -> Sourced[bool] | None:
    """Whether the address came by DHCP; None when the table does not say (origin 0, "other", and no server)."""
    if nic.origin == Origin.DHCP:
        return Sourced(True, source("origin"))
    if nic.dhcp_server is not None:
        return Sourced(True, source("dhcp_server"))
    return Sourced(False, source("origin")) if nic.origin == Origin.MANUAL else None


def _bdf(number: int) -> str:
    return f"0000:{number >> 8:02x}:{number >> 3 & 0x1F:02x}.{number & 7:x}"


def _chap_type(target: IbftTarget) -> ChapType:
    if target.chap_type in list(ChapType):
        return ChapType(target.chap_type)
    if target.reverse_chap_secret is not None:
        return ChapType.MUTUAL
    return ChapType.CHAP if target.chap_secret is not None else ChapType.NONE
