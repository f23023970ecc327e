# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plans for many machines: what is missing is planned, what is there is not."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, ip_address, ip_interface
from typing import Any

import pytest

from iscsiboot.network.facts import IFF_UP, LinkFact, NetworkFacts
from iscsiboot.network.lease import DhcpLease, LeaseRoute
from iscsiboot.network.plan import (
    dns_servers,
    find_base,
    find_target,
    plan_nic,
    plan_resolver,
    unreachable,
    usable_gateway,
    vlan_name,
)
from iscsiboot.network.request import NicRequest
from iscsiboot.network.steps import WriteResolver
from tests.unit.network.support import MAC, READY, FakeKernel, address, lease, link, request, route

OTHER = "52:54:00:aa:00:02"
DOWN: dict[str, Any] = {"flags": 0}


def described(wanted: NicRequest, facts: NetworkFacts, granted: DhcpLease | None = None) -> list[str]:
    return [step.describe() for step in plan_nic(wanted, facts, granted)]


def facts(*links: LinkFact, addresses: tuple[str, ...] = (), routes: tuple[Any, ...] = ()) -> NetworkFacts:
    """Addresses are on the device with index 2 and bring their subnet's route."""
    present = tuple(address(text) for text in addresses)
    connected = tuple(route(text) for text in addresses)
    return NetworkFacts(links=links, addresses=present, routes=(*connected, *routes))


def via(destination: str, gateway: str | None) -> LeaseRoute:
    return LeaseRoute(destination=IPv4Network(destination), gateway=IPv4Address(gateway) if gateway else None)


STATIC: dict[str, Any] = {"address": "10.0.0.9", "prefix_len": 24, "gateway": "10.0.0.1"}
DEFAULT = "add route default via 10.0.0.1 on eth0 metric 1026"
CASES: dict[str, tuple[NicRequest, NetworkFacts, DhcpLease | None, list[str]]] = {
    "absent": (request(**STATIC), facts(link(mac=OTHER)), None, []),
    "static": (
        request(**STATIC, destinations=["10.0.0.2", "10.9.9.9"]),
        facts(link(**DOWN)),
        None,
        ["set eth0 up", "add address 10.0.0.9/24 to eth0", "add route 10.9.9.9/32 via 10.0.0.1 on eth0", DEFAULT],
    ),
    "static-in-place": (
        request(**STATIC, destinations=["10.0.0.2", "10.9.9.9"]),
        facts(link(), addresses=("10.0.0.9/24",), routes=(route("0.0.0.0/0", gateway="10.0.0.1"),)),
        None,
        [],
    ),
    "static-other-prefix-is-kept": (
        request(**STATIC),
        facts(link(), addresses=("10.0.0.9/16",), routes=(route("0.0.0.0/0", gateway="10.0.0.1"),)),
        None,
        [],
    ),
    "gateway-off-the-subnet": (
        request(address="10.0.0.9", prefix_len=24, gateway="10.1.0.1", destinations=["10.9.9.9"]),
        facts(link()),
        None,
        ["add address 10.0.0.9/24 to eth0"],
    ),
    "foreign-default-before-ours": (
        request(**STATIC),
        facts(link(), addresses=("10.0.0.9/24",), routes=(route("0.0.0.0/0", 7, "10.5.0.1", metric=100),)),
        None,
        [DEFAULT],
    ),
    "foreign-default-behind-ours": (
        request(**STATIC, destinations=["10.9.9.9"]),
        facts(link(), addresses=("10.0.0.9/24",), routes=(route("0.0.0.0/0", 7, "10.5.0.1", metric=2000),)),
        None,
        ["add route 10.9.9.9/32 via 10.0.0.1 on eth0"],
    ),
    "destination-in-a-subnet-another-nic-shares": (
        request(**STATIC, destinations=["10.0.0.2"]),
        facts(
            link(),
            link(1, "eth9", mac=OTHER),
            routes=(route("10.0.0.0/24", 1), route("0.0.0.0/0", gateway="10.0.0.1")),
        ),
        None,
        ["add address 10.0.0.9/24 to eth0", "add route 10.0.0.2/32 on eth0"],
    ),
    "destination-pinned-elsewhere-is-left": (
        request(address="10.0.0.9", prefix_len=24, destinations=["10.0.0.2"]),
        facts(link(), addresses=("10.0.0.9/24",), routes=(route("10.0.0.2/32", 7),)),
        None,
        [],
    ),
    "no-prefix": (
        request(address="10.0.0.9", gateway="10.0.0.1", destinations=["10.9.9.9"]),
        facts(link()),
        None,
        ["add address 10.0.0.9/32 to eth0", "add route 10.9.9.9/32 via 10.0.0.1 on eth0", DEFAULT],
    ),
    "no-prefix-no-gateway": (
        request(address="10.0.0.9", prefix_len=0, destinations=["10.9.9.9"]),
        facts(link()),
        None,
        ["add address 10.0.0.9/32 to eth0", "add route 10.9.9.9/32 on eth0"],
    ),
    "dhcp-before-the-lease": (request(dhcp=True), facts(link(**DOWN)), None, ["set eth0 up"]),
    "dhcp-when-nothing-is-said": (request(), facts(link()), None, []),
    "dhcp-has-an-address": (
        request(dhcp=True, gateway="10.0.0.1", destinations=["10.9.9.9"]),
        facts(link(), addresses=("10.0.0.44/24",)),
        None,
        ["add route 10.9.9.9/32 via 10.0.0.1 on eth0", DEFAULT],
    ),
    "lease": (
        request(dhcp=True, destinations=["10.9.9.9"]),
        facts(link()),
        lease(routers=(ip_address("10.0.0.1"),), mtu=1400),
        [
            "set MTU of eth0 to 1400",
            "add address 10.0.0.5/24 to eth0",
            "add route 10.9.9.9/32 via 10.0.0.1 on eth0",
            DEFAULT,
        ],
    ),
    "lease-mtu-the-device-cannot-do": (
        request(dhcp=True),
        facts(link(max_mtu=1500)),
        lease(mtu=9000),
        ["add address 10.0.0.5/24 to eth0"],
    ),
    "lease-mtu-under-the-request": (
        request(dhcp=True, mtu=1500),
        facts(link()),
        lease(mtu=1400),
        ["add address 10.0.0.5/24 to eth0"],
    ),
    "lease-of-a-host-address": (
        request(dhcp=True),
        facts(link()),
        lease("10.0.0.5/32", routers=(ip_address("10.0.0.1"),)),
        ["add address 10.0.0.5/32 to eth0", DEFAULT],
    ),
    "lease-classless-routes": (
        request(dhcp=True, destinations=["10.8.1.1"]),
        facts(link()),
        lease(
            routes=(
                via("10.8.0.0/16", "10.0.0.2"),
                via("172.16.0.1/32", None),
                via("0.0.0.0/0", "172.16.0.1"),
                via("10.7.0.0/16", "192.168.0.1"),
            )
        ),
        [
            "add address 10.0.0.5/24 to eth0",
            "add route 10.8.0.0/16 via 10.0.0.2 on eth0 metric 1026",
            "add route 172.16.0.1/32 on eth0 metric 1026",
            "add route default via 172.16.0.1 on eth0 metric 1026",
        ],
    ),
    "vlan": (
        request(**STATIC, vlan=100, mtu=9000),
        facts(link(**DOWN)),
        None,
        [
            "set MTU of eth0 to 9000",
            "set eth0 up",
            "create VLAN device eth0.100 (id 100 on eth0)",
            "set eth0.100 up",
            "add address 10.0.0.9/24 to eth0.100",
            "add route default via 10.0.0.1 on eth0.100 metric 1026",
        ],
    ),
    "vlan-smaller-than-its-base": (
        request(address="10.0.0.9", prefix_len=24, vlan=100, mtu=1400),
        facts(link(mtu=9000)),
        None,
        [
            "create VLAN device eth0.100 (id 100 on eth0)",
            "set MTU of eth0.100 to 1400",
            "set eth0.100 up",
            "add address 10.0.0.9/24 to eth0.100",
        ],
    ),
    "vlan-address-on-the-base-does-not-count": (
        request(address="10.0.0.9", prefix_len=24, vlan=100),
        facts(link(), link(5, "storage", kind="vlan", link=2, vlan_id=100), addresses=("10.0.0.9/24",)),
        None,
        ["add address 10.0.0.9/24 to storage"],
    ),
    "ipv6": (
        request(address="fd00::9", prefix_len=64, gateway="fe80::1", destinations=["fd00::2", "fd99::1", "fe80::5%2"]),
        facts(link()),
        None,
        [
            "add address fd00::9/64 to eth0",
            "add route fd99::1/128 via fe80::1 on eth0",
            "add route default via fe80::1 on eth0 metric 1026",
        ],
    ),
    "ipv6-by-dhcp-is-taken-as-it-stands": (
        request(address="fd00::9", dhcp=True), facts(link()), None, ["add address fd00::9/64 to eth0"],
    ),
    "router-advertisement": (request(origin=4, destinations=["fd00::2"]), facts(link(**DOWN)), None, ["set eth0 up"]),
    "ipv6-destination-and-no-address": (request(destinations=["fd00::2"]), facts(link()), None, []),
    "bond": (
        request(address="10.0.0.9", prefix_len=24),
        facts(link(3, "eth1", master=9), link(9, "bond0", kind="bond")),
        None,
        ["add address 10.0.0.9/24 to bond0"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("wanted", "machine", "granted", "expected"), CASES.values(), ids=CASES.keys())
def test_plan(wanted: NicRequest, machine: NetworkFacts, granted: DhcpLease | None, expected: list[str]) -> None:
    assert described(wanted, machine, granted) == expected


@pytest.mark.parametrize(("wanted", "machine", "granted", "expected"), CASES.values(), ids=CASES.keys())
def test_a_plan_carried_out_leaves_nothing_to_plan(
    wanted: NicRequest, machine: NetworkFacts, granted: DhcpLease | None, expected: list[str]
) -> None:
    kernel = FakeKernel(machine)
    for step in plan_nic(wanted, machine, granted):
        kernel.execute(step)
    assert described(wanted, kernel.facts, granted) == []
    kernel.close()


NICS: dict[str, tuple[tuple[LinkFact, ...], str]] = {
    "vlan-with-the-same-mac": ((link(1, "eth0.5", kind="vlan"), link(2, "eth0")), "eth0"),
    "hardware-before-virtual": ((link(1, "tap0", kind="tun"), link(2, "eth0", device_path="/sys/x")), "eth0"),
    "permanent-before-set": ((link(1, "a", permanent_mac=OTHER), link(2, "b", permanent_mac=MAC)), "b"),
    "permanent-under-a-bond": (
        (
            link(1, "a", mac=OTHER, permanent_mac=MAC, device_path="/x"),
            link(2, "b", permanent_mac=OTHER, device_path="/y"),
        ),
        "a",
    ),
    "port-of-a-bridge": ((link(2, "eth0", master=9), link(9, "br0", kind="bridge")), "br0"),
    "port-of-a-vrf-keeps-its-addresses": ((link(2, "eth0", master=9), link(9, "red", kind="vrf")), "eth0"),
    "virtual-function-under-netvsc": (
        (link(2, "vf", master=3, device_path="/pci"), link(3, "eth0", device_path="/vmbus")), "eth0",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("links", "name"), NICS.values(), ids=NICS.keys())
def test_which_device_a_mac_means(links: tuple[LinkFact, ...], name: str) -> None:
    found = find_base(request(), NetworkFacts(links=links))
    assert found is not None
    assert found.name == name


def test_masters_in_a_ring_end() -> None:
    ring = NetworkFacts(links=(link(2, "a", master=3, kind="bond"), link(3, "b", kind="bond", master=2)))
    assert ring.carrier_of_addresses(ring.links[0]) in ring.links


def test_without_mac_the_pci_address_then_the_name() -> None:
    machine = NetworkFacts(
        links=(link(2, "eth0"), link(3, "eth1", device_path="/sys/devices/pci0000:00/0000:00:03.0/virtio0"))
    )
    by_pci = find_base(request(mac=None, pci="0000:00:03.0", netdev="eth0"), machine)
    by_name = find_base(request(mac=None, netdev="eth0"), machine)
    assert (by_pci and by_pci.name, by_name and by_name.name) == ("eth1", "eth0")
    assert find_base(request(mac=OTHER, netdev="eth0"), machine) is None, (
        "a MAC that is absent is not replaced by a name"
    )


def test_vlan_target_is_absent_until_made() -> None:
    machine = NetworkFacts(links=(link(), link(4, "x", kind="vlan", link=2, vlan_id=6)))
    assert find_target(request(vlan=5), machine) is None
    found = find_target(request(vlan=6), machine)
    assert found is not None
    assert found.name == "x"


@pytest.mark.parametrize(
    ("base", "vlan", "name"),
    [("eth0", 5, "eth0.5"), ("enp130s0f0", 4094, "enp130s0f0.4094"), ("enp130s0f0n", 4094, "if2.4094")],
)
def test_vlan_names_fit_the_kernel(base: str, vlan: int, name: str) -> None:
    assert vlan_name(link(2, base), vlan) == name
    assert len(name) <= 15


@pytest.mark.parametrize(
    ("gateway", "own", "usable"),
    [
        ("10.0.0.1", "10.0.0.9/24", True),
        ("10.0.1.1", "10.0.0.9/24", False),
        ("10.0.0.9", "10.0.0.9/24", False),
        ("10.0.0.0", "10.0.0.9/24", False),
        ("10.0.0.255", "10.0.0.9/24", False),
        ("10.0.0.8", "10.0.0.9/31", True),
        ("172.16.0.1", "10.0.0.9/32", True),
        ("0.0.0.0", "10.0.0.9/32", False),
        ("224.0.0.1", "10.0.0.9/32", False),
        ("127.0.0.1", "10.0.0.9/32", False),
        ("fd00::1", "10.0.0.9/24", False),
        ("fe80::1", "fd00::9/64", True),
        ("fd01::1", "fd00::9/64", False),
    ],
)
def test_usable_gateway(gateway: str, own: str, usable: bool) -> None:
    assert (usable_gateway(ip_address(gateway), ip_interface(own)) is not None) is usable


def test_dns_servers_each_once_lease_first() -> None:
    granted = lease(dns=(ip_address("10.0.0.53"),))
    wanted = request(dns=["10.0.0.54", "10.0.0.53", "0.0.0.0", "224.0.0.1"])
    assert [str(server) for server in dns_servers(wanted, granted)] == ["10.0.0.53", "10.0.0.54"]


def test_resolver_joins_all_nics() -> None:
    first, second = ip_address("10.0.0.53"), ip_address("10.1.0.53")
    named = [((first,), "a.example"), ((second, first), None), ((), "a.example")]
    assert plan_resolver(named, resolver_free=True) == (WriteResolver(servers=(first, second), search=("a.example",)),)
    assert plan_resolver(named, resolver_free=False) == ()
    assert plan_resolver([((), "a.example")], resolver_free=True) == ()


def test_unreachable_destinations() -> None:
    machine = facts(link(), addresses=("10.0.0.9/24",))
    wanted = request(destinations=["10.0.0.2", "10.9.9.9", "fe80::1%2", "fd00::1"])
    assert [str(item) for item in unreachable(wanted, machine)] == ["10.9.9.9", "fd00::1"]


def test_ready_needs_carrier_and_queueing() -> None:
    assert link(flags=READY).ready
    assert not link(flags=IFF_UP).ready
    assert not link(flags=READY & ~0x40).ready, "linkwatch has not run: packets would be dropped"
