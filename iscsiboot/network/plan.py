# SPDX-License-Identifier: LGPL-2.1-or-later
"""From a request and a picture of the machine to the changes that are missing. Pure, and empty when all is in place.

Rules:

* What somebody else configured (the kernel's ``ip=``, systemd-networkd, NetworkManager) is kept: an address that is
  there is not added, and a NIC that is to have *some* address by DHCP and has one is left alone.
* A tagged NIC has its address on the VLAN device; the base device is only set up. A port of a bridge or bond carries
  no address: its master does.
* An existing route is never outranked. A default route is added only when none is there, or behind the ones there; a
  destination off the subnet gets a host route through the gateway, so it stays on its NIC whatever else changes.
* A gateway that does not lie in the subnet is not used (a host address, /32, has none to lie in: the gateway is taken
  as a neighbour then).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_network

from iscsiboot.model.portal import IpAddress
from iscsiboot.network.facts import AddressFact, IpInterface, IpNetwork, LinkFact, NetworkFacts, RouteFact, covers
from iscsiboot.network.facts import find_nic as find_link
from iscsiboot.network.lease import DhcpLease
from iscsiboot.network.request import Method, NicRequest, firmware_interface, method_of
from iscsiboot.network.steps import AddAddress, AddRoute, CreateVlan, Device, LinkUp, SetMtu, Step, WriteResolver

METRIC_BASE = 1024
"""Ours start where systemd-networkd's are, plus the device's index: two boot NICs never tie, and NetworkManager (100)
or an administrator's route (0) comes first."""
NAME_MAX = 15
"""IFNAMSIZ less the final NUL (include/uapi/linux/if.h)."""
_NOT_CREATED = -1
"""Stands for the index of a device this plan makes."""
_DEFAULT_ROUTES: dict[int, IpNetwork] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}


def find_base(request: NicRequest, facts: NetworkFacts) -> LinkFact | None:
    """The device under the address: the NIC itself or its bond or bridge. None while the NIC has not appeared."""
    nic = request.nic
    link = find_link(
        facts,
        mac=request.mac,
        name=nic.netdev.value if nic.netdev is not None else None,
        pci=nic.pci.value.lower() if nic.pci is not None else None,
    )
    return None if link is None else facts.carrier_of_addresses(link)


def find_target(request: NicRequest, facts: NetworkFacts) -> LinkFact | None:
    """The device that carries the address: the VLAN device of a tagged NIC, else its base. None while absent."""
    base = find_base(request, facts)
    if base is None or request.nic.vlan is None:
        return base
    return facts.vlan_on(base, request.nic.vlan.value)


def vlan_name(base: LinkFact, vlan_id: int) -> str:
    """``eth0.100``; ``if2.100`` when that would be longer than a name may be."""
    name = f"{base.name}.{vlan_id}"
    return name if len(name) <= NAME_MAX else f"if{base.index}.{vlan_id}"


def plan_nic(request: NicRequest, facts: NetworkFacts, lease: DhcpLease | None = None) -> tuple[Step, ...]:
    """The missing changes, in order; empty when nothing is missing, or while the NIC has not appeared.

    Without a lease the plan of a DHCP NIC without an address ends with its link: the rest is planned when the lease
    is there.
    """
    base = find_base(request, facts)
    if base is None:
        return ()
    links, device = _plan_links(request, facts, base, lease)
    target = facts.link(device.index)
    present = [] if target is None else [fact for fact in facts.addresses if fact.index == target.index]
    addresses = _plan_address(request, device, present, lease)
    interfaces = [fact.address for fact in present] + [step.address for step in addresses]
    routes = _plan_routes(request, facts, device, interfaces, METRIC_BASE + base.index, lease)
    return (*links, *addresses, *routes)


def plan_resolver(
    results: Iterable[tuple[Sequence[IpAddress], str | None]], *, resolver_free: bool
) -> tuple[WriteResolver, ...]:
    """The DNS servers and domains of all NICs in one file, each once; nothing when none is known or a file is there."""
    servers: dict[IpAddress, None] = {}
    search: dict[str, None] = {}
    for dns, domain in results:
        servers.update(dict.fromkeys(dns))
        if domain:
            search[domain] = None
    if not servers or not resolver_free:
        return ()
    return (WriteResolver(servers=tuple(servers), search=tuple(search)),)


def dns_servers(request: NicRequest, lease: DhcpLease | None) -> tuple[IpAddress, ...]:
    """The lease's servers, then firmware's, each once; zero, multicast and loopback addresses are none."""
    given: list[IpAddress] = [*(lease.dns if lease is not None else ()), *(item.value for item in request.nic.dns)]
    usable = [address for address in given if _is_host(address)]
    return tuple(dict.fromkeys(usable))


def usable_gateway(gateway: IpAddress | None, interface: IpInterface) -> IpAddress | None:
    """``gateway`` when a packet from ``interface`` can be handed to it, else None."""
    if gateway is None or gateway.version != interface.version or not _is_host(gateway) or gateway == interface.ip:
        return None
    network = interface.network
    if network.prefixlen == network.max_prefixlen or (gateway.version == 6 and gateway.is_link_local):
        return gateway
    if not covers(network, gateway):
        return None
    edges = network.version == 4 and network.prefixlen < 31
    if edges and gateway in (network.network_address, network.broadcast_address):
        return None
    return gateway


def unreachable(request: NicRequest, facts: NetworkFacts) -> tuple[IpAddress, ...]:
    """Destinations no route leads to."""
    return tuple(item for item in request.destinations if _on_link_by_scope(item) is False and not facts.route_to(item))


def wanted_address_present(request: NicRequest, present: Iterable[AddressFact]) -> bool:
    """Whether a device with these addresses needs no other for this request."""
    method = method_of(request)
    if method is Method.STATIC:
        interface = firmware_interface(request)
        return interface is not None and any(fact.address.ip == interface.ip for fact in present)
    version = 4 if method is Method.DHCP4 else 6
    return any(fact.address.version == version and not fact.address.ip.is_link_local for fact in present)


def _plan_links(
    request: NicRequest, facts: NetworkFacts, base: LinkFact, lease: DhcpLease | None
) -> tuple[list[Step], Device]:
    """The steps that make the device ready for an address, and that device."""
    device = Device(index=base.index, name=base.name)
    steps: list[Step] = []
    mtu = _wanted_mtu(request, base, lease)
    tagged = request.nic.vlan is not None
    # A VLAN device takes at most its base's MTU. The base is only ever raised for it: other VLANs may need theirs.
    if mtu is not None and (base.mtu < mtu if tagged else base.mtu != mtu):
        steps.append(SetMtu(device=device, mtu=mtu))
    if not base.up:
        steps.append(LinkUp(device=device))
    if request.nic.vlan is None:
        return steps, device
    vlan_id = request.nic.vlan.value
    vlan = facts.vlan_on(base, vlan_id)
    if vlan is None:
        name = vlan_name(base, vlan_id)
        steps.append(CreateVlan(base=device, vlan_id=vlan_id, name=name))
        device = Device(index=None, name=name)
    else:
        device = Device(index=vlan.index, name=vlan.name)
    # A new VLAN device inherits its base's MTU, as the step before may just have set it.
    inherited = max(base.mtu, mtu or 0) if vlan is None else vlan.mtu
    if mtu is not None and inherited != mtu:
        steps.append(SetMtu(device=device, mtu=mtu))
    if vlan is None or not vlan.up:
        steps.append(LinkUp(device=device))
    return steps, device


def _wanted_mtu(request: NicRequest, base: LinkFact, lease: DhcpLease | None) -> int | None:
    """The request's MTU; a DHCP server's only when the device can do it: a wrong one there must not stop a boot."""
    if request.mtu is not None or lease is None or lease.mtu is None:
        return request.mtu
    fits = base.min_mtu <= lease.mtu and (base.max_mtu == 0 or lease.mtu <= base.max_mtu)
    return lease.mtu if fits else None


def _plan_address(
    request: NicRequest, device: Device, present: Sequence[AddressFact], lease: DhcpLease | None
) -> list[AddAddress]:
    method = method_of(request)
    if method is Method.ROUTER_ADVERTISEMENT:
        return []
    if lease is not None:
        if any(fact.address.ip == lease.address.ip for fact in present):
            return []
        return [AddAddress(device=device, address=lease.address)]
    interface = firmware_interface(request)
    if method is not Method.STATIC or interface is None or wanted_address_present(request, present):
        return []
    return [AddAddress(device=device, address=interface)]


def _plan_routes(
    request: NicRequest,
    facts: NetworkFacts,
    device: Device,
    interfaces: Sequence[IpInterface],
    metric: int,
    lease: DhcpLease | None,
) -> list[AddRoute]:
    """Routes of the lease, host routes to destinations, default route, given the addresses the device (will) have."""
    own = _NOT_CREATED if device.index is None else device.index
    connected = [
        RouteFact(destination=interface.network, index=own)
        for interface in interfaces
        if interface.network.prefixlen < interface.max_prefixlen
    ]
    view = replace(facts, routes=(*facts.routes, *connected))
    by_dhcp = lease is not None
    steps: list[AddRoute] = []

    def add(destination: IpNetwork, gateway: IpAddress | None, onlink: bool, rank: int) -> None:
        nonlocal view
        step = AddRoute(
            device=device, destination=destination, gateway=gateway, onlink=onlink, metric=rank, dhcp=by_dhcp
        )
        steps.append(step)
        view = replace(view, routes=(*view.routes, RouteFact(destination=destination, index=own, gateway=gateway)))

    for route in lease.routes if lease is not None else ():
        usable, onlink = _next_hop(route.gateway, interfaces, lease)
        if usable and route.destination.prefixlen and _may_add(view, route.destination, own, metric):
            add(route.destination, route.gateway, onlink, metric)

    gateways = _gateways(request, interfaces, lease)
    for destination in request.destinations:
        if _on_link_by_scope(destination) or not any(item.version == destination.version for item in interfaces):
            continue
        current = view.route_to(destination)
        if current is not None and (current.index == own or current.destination.prefixlen == destination.max_prefixlen):
            continue
        host = ip_network(str(destination).partition("%")[0])
        gateway, onlink = gateways.get(destination.version, (None, False))
        if _neighbour(destination, interfaces, gateway):
            add(host, None, False, 0)
        elif gateway is not None:
            add(host, gateway, onlink, 0)

    for version, (gateway, onlink) in gateways.items():
        if gateway is not None and _may_add(facts, _DEFAULT_ROUTES[version], own, metric):
            add(_DEFAULT_ROUTES[version], gateway, onlink, metric)
    return steps


def _gateways(
    request: NicRequest, interfaces: Sequence[IpInterface], lease: DhcpLease | None
) -> dict[int, tuple[IpAddress | None, bool]]:
    """Per family the first usable gateway, and whether it must be declared a neighbour."""
    given: list[IpAddress] = []
    if lease is not None:
        default = [route.gateway for route in lease.routes if not route.destination.prefixlen and route.gateway]
        given += [*default, *lease.routers]
    elif request.nic.gateway is not None:
        given.append(request.nic.gateway.value)
    found: dict[int, tuple[IpAddress | None, bool]] = {}
    for candidate in given:
        usable, onlink = _next_hop(candidate, interfaces, lease)
        if usable:
            found.setdefault(candidate.version, (candidate, onlink))
    return found


def _next_hop(
    gateway: IpAddress | None, interfaces: Sequence[IpInterface], lease: DhcpLease | None
) -> tuple[bool, bool]:
    """Whether a route can go through ``gateway``, and whether that must be declared a neighbour."""
    if gateway is None:
        return True, False
    for interface in interfaces:
        if usable_gateway(gateway, interface) is not None:
            return True, interface.network.prefixlen == interface.max_prefixlen
    # RFC 3442: a route without a router may make a router outside the subnet reachable for the routes after it.
    on_link = lease.routes if lease is not None else ()
    return any(route.gateway is None and covers(route.destination, gateway) for route in on_link), False


def _may_add(facts: NetworkFacts, destination: IpNetwork, own: int, metric: int) -> bool:
    """Whether a route there is missing on our device and would not come before another device's."""
    same = [route for route in facts.routes if route.destination == destination]
    return all(route.index != own and route.metric < metric for route in same)


def _neighbour(destination: IpAddress, interfaces: Sequence[IpInterface], gateway: IpAddress | None) -> bool:
    """Whether the destination is on the link: in a subnet, or a host address knows no other way."""
    same = [item for item in interfaces if item.version == destination.version]
    if any(covers(item.network, destination) for item in same if item.network.prefixlen < item.max_prefixlen):
        return True
    hosts = [item for item in same if item.network.prefixlen == item.max_prefixlen and not item.ip.is_link_local]
    return gateway is None and bool(hosts)


def _on_link_by_scope(destination: IpAddress) -> bool:
    """Link-local destinations need no route: their scope names the device."""
    return destination.version == 6 and destination.is_link_local


def _is_host(address: IpAddress) -> bool:
    return not (
        address.is_unspecified or address.is_multicast or address.is_loopback or str(address) == "255.255.255.255"
    )
