# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the machine's network looks like, as frozen values: one dump of the kernel's links, addresses and routes.

The bring-up is level-triggered: an rtnetlink event only says *that* something changed; *what* is true now is always
read by a new dump into :class:`NetworkFacts`. A lost or reordered event therefore cannot leave a wrong picture.

Everything here is pure; :mod:`.rtnl` makes the values, :mod:`.plan` reads them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network

from iscsiboot.model.portal import IpAddress

IpInterface = IPv4Interface | IPv6Interface
IpNetwork = IPv4Network | IPv6Network

# include/uapi/linux/if.h
IFF_UP = 0x1
IFF_RUNNING = 0x40
IFF_LOWER_UP = 0x10000
# include/uapi/linux/if_addr.h
IFA_F_DADFAILED = 0x08
IFA_F_DEPRECATED = 0x20
IFA_F_TENTATIVE = 0x40
IFA_F_OPTIMISTIC = 0x04

_STACKED_KINDS = frozenset({"vlan", "bridge", "bond", "team", "macvlan", "macvtap", "ipvlan", "macsec", "hsr", "vrf"})
"""Devices made on top of others; they borrow a MAC and are never the NIC itself."""
_ADDRESS_TAKING_KINDS = frozenset({"bridge", "bond", "team", "hsr", "openvswitch"})
"""Masters that carry the addresses of their ports, besides hardware (Hyper-V's netvsc over a virtual function, virtio's
failover). A VRF is a master too, but its ports keep their addresses."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkFact:
    """One network device (RTM_NEWLINK)."""

    index: int
    name: str
    mac: str = ""
    """Lower case, colons; empty for devices without."""
    permanent_mac: str = ""
    """IFLA_PERM_ADDRESS: what is burnt in, whatever a bond or an administrator set."""
    flags: int = 0
    operstate: str = "UNKNOWN"
    mtu: int = 1500
    min_mtu: int = 0
    max_mtu: int = 0
    """0: the driver states no limit."""
    kind: str = ""
    """``vlan``, ``bridge``, ``veth``...; empty for hardware."""
    master: int | None = None
    link: int | None = None
    """The device below (VLAN, macvlan)."""
    vlan_id: int | None = None
    device_path: str = ""
    """Where sysfs' ``device`` link leads: only real (or virtual) hardware has one."""

    @property
    def up(self) -> bool:
        """Administratively up."""
        return bool(self.flags & IFF_UP)

    @property
    def ready(self) -> bool:
        """A packet sent now leaves the machine.

        IFF_LOWER_UP is the carrier. IFF_RUNNING comes a moment later (linkwatch, net/core/link_watch.c) and with it the
        real queueing discipline: a packet sent between the two is dropped without a word.
        """
        wanted = IFF_UP | IFF_LOWER_UP | IFF_RUNNING
        return self.flags & wanted == wanted


@dataclass(frozen=True, kw_only=True, slots=True)
class AddressFact:
    """One address (RTM_NEWADDR)."""

    index: int
    address: IpInterface
    flags: int = 0

    @property
    def tentative(self) -> bool:
        """Duplicate address detection still runs; the address cannot be a source yet."""
        return bool(self.flags & IFA_F_TENTATIVE) and not self.flags & IFA_F_OPTIMISTIC

    @property
    def duplicate(self) -> bool:
        """Duplicate address detection found another owner."""
        return bool(self.flags & IFA_F_DADFAILED)


@dataclass(frozen=True, kw_only=True, slots=True)
class RouteFact:
    """One unicast route of the main table (RTM_NEWROUTE)."""

    destination: IpNetwork
    index: int | None
    """The outgoing device; None for several next hops."""
    gateway: IpAddress | None = None
    metric: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkFacts:
    """One picture of the machine."""

    links: tuple[LinkFact, ...] = ()
    addresses: tuple[AddressFact, ...] = ()
    routes: tuple[RouteFact, ...] = ()

    def link(self, index: int | None) -> LinkFact | None:
        """The device with this index."""
        return next((link for link in self.links if link.index == index), None)

    def named(self, name: str) -> LinkFact | None:
        """The device with this name."""
        return next((link for link in self.links if link.name == name), None)

    def vlan_on(self, base: LinkFact, vlan_id: int) -> LinkFact | None:
        """The VLAN device with this id on ``base``, whatever it is called."""
        return next(
            (link for link in self.links if link.kind == "vlan" and (link.link, link.vlan_id) == (base.index, vlan_id)),
            None,
        )

    def addresses_of(self, link: LinkFact, version: int) -> tuple[AddressFact, ...]:
        """Addresses of one family on a device."""
        return tuple(fact for fact in self.addresses if fact.index == link.index and fact.address.version == version)

    def route_to(self, destination: IpAddress) -> RouteFact | None:
        """The route the kernel takes: longest prefix, then lowest metric."""
        matching = [route for route in self.routes if covers(route.destination, destination)]
        return min(matching, key=lambda route: (-route.destination.prefixlen, route.metric), default=None)

    def default_routes(self, version: int) -> tuple[RouteFact, ...]:
        """Default routes of one family."""
        return tuple(
            route for route in self.routes if route.destination.version == version and route.destination.prefixlen == 0
        )

    def carrier_of_addresses(self, link: LinkFact) -> LinkFact:
        """``link``, or the top of its chain of masters: a port of a bridge or bond carries no address itself.

        The chain ends at a VRF, whose ports keep theirs, and after as many steps as there are devices.
        """
        for _ in self.links:
            master = self.link(link.master)
            if master is None or (master.kind not in _ADDRESS_TAKING_KINDS and not master.device_path):
                break
            link = master
        return link


def covers(network: IpNetwork, address: IpAddress) -> bool:
    """Whether ``address`` lies in ``network``; False across families. A scope id plays no part."""
    if network.version != address.version:
        return False
    return int(network.network_address) == int(address) & int(network.netmask)


def find_nic(facts: NetworkFacts, *, mac: str | None, name: str | None, pci: str | None) -> LinkFact | None:
    """The device a boot NIC means, None while it has not appeared.

    The MAC decides when there is one: names change when udev renames. Several devices share a MAC when VLANs, bridges
    or bonds stand on the NIC; hardware is preferred, then a permanent address over a set one, then the lower device.
    Without a MAC the PCI address decides, then the name.
    """
    if mac is not None:
        candidates: Iterable[LinkFact] = [
            link for link in facts.links if mac in (link.mac, link.permanent_mac) and link.kind not in _STACKED_KINDS
        ]
    elif pci is not None and (behind := [link for link in facts.links if pci in link.device_path.split("/")]):
        candidates = behind
    else:
        return None if name is None else facts.named(name)
    return min(
        candidates,
        key=lambda link: (not link.device_path, link.permanent_mac != mac, link.name != name, link.index),
        default=None,
    )
