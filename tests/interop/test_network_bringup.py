# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bring-up against the kernel and dnsmasq, in namespaces."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.interop.network_lab import MAC, Lab, find, has_link_kind, lab

pytestmark = [pytest.mark.root, pytest.mark.interop]

STATIC: dict[str, Any] = {"mac": MAC, "address": "10.77.0.9", "prefix_len": 24, "gateway": "10.77.0.1"}
POOL = "--dhcp-range=10.77.0.50,10.77.0.99,255.255.255.0,120"


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        yield made


@pytest.fixture
def vlan_kernel() -> None:
    if not has_link_kind("vlan"):
        pytest.skip("this kernel has no VLAN devices (8021q)")


def test_static_ipv4_with_gateway(net: Lab) -> None:
    net.cable()
    boot = net.boot({**STATIC, "destinations": ["10.77.0.1", "10.99.0.1"]})
    (nic,) = boot.result()["nics"]
    assert (nic["error"], nic["addresses"], nic["netdev"], nic["changed"]) == (None, ["10.77.0.9/24"], "eth0", True)
    assert [route["gateway"] for route in net.routes("default")] == ["10.77.0.1"]
    (host,) = net.routes("10.99.0.1")
    assert (host["gateway"], host["protocol"]) == ("10.77.0.1", "static")
    assert not net.routes("exact", "10.77.0.1/32"), "an on-link destination needs no route"
    assert [line for line in boot.lines if line.startswith("mark")] == [
        "mark link eth0",
        "mark address eth0 10.77.0.9/24",
    ]
    assert net.reaches("10.77.0.1")


def test_second_run_changes_nothing(net: Lab) -> None:
    net.no_ipv6()
    net.cable()
    net.dnsmasq(POOL, "--dhcp-option=3,10.77.0.1", "--dhcp-option=6,10.77.0.53")
    first, second = net.boot({"mac": MAC, "dhcp": True, "destinations": ["10.99.0.1"]}, runs=2).results()
    assert (first["nics"][0]["error"], first["nics"][0]["changed"]) == (None, True)
    assert first["events"] > 0, "the control: the listener hears changes"
    assert (second["nics"][0]["error"], second["nics"][0]["changed"], second["events"]) == (None, False, 0)
    assert second["nics"][0]["addresses"] == first["nics"][0]["addresses"]
    assert second["nics"][0]["lease"] == first["nics"][0]["lease"], "the lease survives in network.json"


@pytest.mark.parametrize("dhcp", [False, True], ids=["static", "dhcp"])
def test_address_of_somebody_else_is_kept(net: Lab, dhcp: bool) -> None:
    net.cable()
    net.on(net.client, "link", "set", "eth0", "up")
    net.on(net.client, "addr", "add", "10.77.0.9/24", "dev", "eth0")
    net.on(net.client, "route", "add", "default", "via", "10.77.0.1")
    (nic,) = net.boot({**STATIC, "dhcp": dhcp, "destinations": ["10.99.0.1"]}).result()["nics"]
    assert (nic["error"], nic["changed"], nic["addresses"]) == (None, False, ["10.77.0.9/24"])
    assert len(net.routes("default")) == 1


def test_existing_default_route_is_not_outranked(net: Lab) -> None:
    net.cable("other", mac="52:54:00:aa:00:02", address="10.78.0.1/24")
    net.cable()
    net.on(net.client, "link", "set", "other", "up")
    net.on(net.client, "addr", "add", "10.78.0.9/24", "dev", "other")
    net.on(net.client, "route", "add", "default", "via", "10.78.0.1", "metric", "2000")
    (nic,) = net.boot({**STATIC, "destinations": ["10.99.0.1"]}).result()["nics"]
    assert nic["error"] is None
    assert [route["dev"] for route in net.routes("default")] == ["other"]
    assert [route["dev"] for route in net.routes("10.99.0.1")] == ["eth0"]


def test_dhcp_with_gateway_and_dns(net: Lab, tmp_path: Path) -> None:
    net.cable()
    net.dnsmasq(
        POOL,
        "--dhcp-option=3,10.77.0.1",
        "--dhcp-option=6,10.77.0.53,10.77.0.54",
        "--dhcp-option=26,1400",
        "--domain=boot.example",
        "--dhcp-option=17,iscsi:10.77.0.1::::iqn.2020-01.example:disk",
    )
    (nic,) = net.boot({"mac": MAC, "dhcp": True, "destinations": ["10.99.0.1"]}).result()["nics"]
    assert nic["error"] is None
    assert nic["dns"] == ["10.77.0.53", "10.77.0.54"]
    assert nic["lease"]["lease_seconds"] == 120
    assert bytes.fromhex(nic["lease"]["root_path"]) == b"iscsi:10.77.0.1::::iqn.2020-01.example:disk"
    assert net.link("eth0")["mtu"] == 1400
    (default,) = net.routes("default")
    assert (default["gateway"], default["protocol"]) == ("10.77.0.1", "dhcp")
    leased = (tmp_path / "leases").read_text().split()
    assert leased[4] == f"01:{MAC}", "the client id is the hardware form"
    assert nic["addresses"] == [f"{leased[2]}/24"]
    resolver = (tmp_path / "etc/resolv.conf").read_text().splitlines()
    assert resolver[1:] == ["nameserver 10.77.0.53", "nameserver 10.77.0.54", "search boot.example"]
    state = tmp_path / "run/iscsiboot/network.json"
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    (written,) = json.loads(state.read_text())["nics"]
    assert (written["method"], written["lease"]["server"], written["netdev"]) == ("DHCPv4", "10.77.0.1", "eth0")


def test_dhcp_asks_for_the_address_firmware_had(net: Lab, tmp_path: Path) -> None:
    net.cable()
    net.dnsmasq(POOL, "--dhcp-authoritative")
    (nic,) = net.boot({"mac": MAC, "dhcp": True, "address": "10.77.0.77"}).result()["nics"]
    assert (nic["error"], nic["addresses"]) == (None, ["10.77.0.77/24"])
    assert "DHCPDISCOVER" not in (tmp_path / "dnsmasq.log").read_text()


def test_dhcp_refused_address_is_given_up(net: Lab) -> None:
    net.cable()
    net.dnsmasq(POOL, "--dhcp-authoritative")
    boot = net.boot({"mac": MAC, "dhcp": True, "address": "192.168.9.9", "prefix_len": 24})
    (nic,) = boot.result()["nics"]
    assert nic["error"] is None
    assert nic["addresses"][0].startswith("10.77.0.")
    assert find(boot.lines, "refused the address")


def test_dhcp_unconfirmed_address_is_used_as_firmware_obtained_it(net: Lab) -> None:
    net.cable()
    boot = net.boot({**STATIC, "dhcp": True, "destinations": ["10.77.0.1"]}, seconds=30)
    run = boot.result()
    assert (run["nics"][0]["error"], run["nics"][0]["addresses"]) == (None, ["10.77.0.9/24"])
    assert find(boot.lines, "no DHCP server confirmed 10.77.0.9")


def test_dhcp_classless_routes_replace_the_router(net: Lab) -> None:
    net.cable()
    net.dnsmasq(POOL, "--dhcp-option=3,10.77.0.1", "--dhcp-option=121,10.88.0.0/16,10.77.0.2,0.0.0.0/0,10.77.0.3")
    (nic,) = net.boot({"mac": MAC, "dhcp": True, "destinations": ["10.88.1.1", "10.99.0.1"]}).result()["nics"]
    assert nic["error"] is None
    assert [route["gateway"] for route in net.routes("10.88.0.0/16")] == ["10.77.0.2"]
    assert [route["gateway"] for route in net.routes("default")] == ["10.77.0.3"]
    assert not net.routes("exact", "10.88.1.1/32")


@pytest.mark.usefixtures("vlan_kernel")
def test_dhcp_on_a_vlan(net: Lab) -> None:
    if shutil.which("dnsmasq") is None:
        pytest.skip("no dnsmasq")
    net.cable(address="")
    net.on(net.server, "link", "add", "link", "s-eth0", "name", "tagged", "type", "vlan", "id", "100")
    net.on(net.server, "addr", "add", "10.77.0.1/24", "dev", "tagged")
    net.on(net.server, "link", "set", "tagged", "up")
    net.dnsmasq(POOL, interface="tagged")
    (nic,) = net.boot({"mac": MAC, "dhcp": True, "vlan": 100, "destinations": ["10.77.0.1"]}).result()["nics"]
    assert (nic["error"], nic["netdev"]) == (None, "eth0.100")
    assert net.link("eth0.100")["linkinfo"]["info_data"]["id"] == 100
    assert not json.loads(net.on(net.client, "-j", "-4", "addr", "show", "dev", "eth0")), "the base has no address"
    assert net.reaches("10.77.0.1")


@pytest.mark.usefixtures("vlan_kernel")
def test_vlan_and_mtu_static_twice(net: Lab) -> None:
    net.no_ipv6()
    net.cable(address="")
    request = {**STATIC, "gateway": "10.77.0.1", "vlan": 7, "mtu": 9000}
    first, second = net.boot(request, runs=2).results()
    assert (first["nics"][0]["error"], first["nics"][0]["netdev"]) == (None, "eth0.7")
    assert (net.link("eth0")["mtu"], net.link("eth0.7")["mtu"]) == (9000, 9000)
    assert (second["nics"][0]["changed"], second["events"]) == (False, 0)


@pytest.mark.usefixtures("vlan_kernel")
def test_existing_vlan_device_of_another_name_is_used(net: Lab) -> None:
    net.cable(address="")
    net.on(net.client, "link", "add", "link", "eth0", "name", "storage", "type", "vlan", "id", "7")
    (nic,) = net.boot({**STATIC, "vlan": 7}).result()["nics"]
    assert (nic["error"], nic["netdev"]) == (None, "storage")


def test_taken_vlan_name_is_an_error(net: Lab) -> None:
    net.cable()
    net.on(net.client, "link", "add", "eth0.7", "type", "bridge")
    (nic,) = net.boot({**STATIC, "vlan": 7}).result()["nics"]
    assert "a device with this name exists" in nic["error"]


def test_port_of_a_bridge_has_its_address_on_the_bridge(net: Lab) -> None:
    net.cable()
    net.on(net.client, "link", "add", "br0", "type", "bridge")
    net.on(net.client, "link", "set", "eth0", "master", "br0", "up")
    net.on(net.client, "link", "set", "br0", "up")
    (nic,) = net.boot({**STATIC, "destinations": ["10.77.0.1"]}).result()["nics"]
    assert (nic["error"], nic["netdev"]) == (None, "br0")


def test_late_nic(net: Lab) -> None:
    boot = net.boot(STATIC)
    boot.wait_for("waiting for it to appear")
    net.cable()
    (nic,) = boot.result()["nics"]
    assert (nic["error"], nic["addresses"]) == (None, ["10.77.0.9/24"])


def test_nic_that_vanishes_and_comes_back(net: Lab) -> None:
    net.cable(up=False)
    boot = net.boot(STATIC)
    boot.wait_for("waiting for carrier")
    net.on(net.server, "link", "del", "s-eth0")
    boot.wait_for("waiting for it to appear")
    net.cable()
    (nic,) = boot.result()["nics"]
    assert (nic["error"], nic["addresses"]) == (None, ["10.77.0.9/24"])


def test_late_carrier(net: Lab) -> None:
    net.cable(up=False)
    net.dnsmasq(POOL)
    boot = net.boot({"mac": MAC})
    boot.wait_for("waiting for carrier")
    net.on(net.server, "link", "set", "s-eth0", "up")
    run = boot.result()
    assert run["nics"][0]["error"] is None
    assert run["seconds"] < 5


def test_late_dhcp_server(net: Lab) -> None:
    net.cable()
    boot = net.boot({"mac": MAC}, seconds=25)
    boot.wait_for("asking for an address")
    net.dnsmasq(POOL)
    (nic,) = boot.result()["nics"]
    assert nic["error"] is None
    assert nic["addresses"]


@pytest.mark.parametrize(
    ("spec", "cable", "words"),
    [
        ({**STATIC, "mac": "52:54:00:00:00:99"}, True,
         ["no NIC with MAC 52:54:00:00:00:99", "eth0 (52:54:00:aa:00:01)"]),
        (STATIC, False, ["eth0 has no carrier", "cable or switch port"]),
        ({"mac": MAC, "dhcp": True}, True, ["no answer from a DHCP server", "eth0"]),
        ({"mac": MAC, "address": "fd77::9", "prefix_len": 64, "destinations": ["fd99::1"]}, True,
         ["no route to fd99::1", "no router advertisement"]),
    ],
    ids=["absent", "no-carrier", "no-server", "no-router"],
)  # fmt: skip
def test_nothing_comes_within_the_deadline(net: Lab, spec: dict[str, Any], cable: bool, words: list[str]) -> None:
    net.cable(up=cable)
    # Duplicate address detection of the kernel comes before the wait for a router and takes up to 2 s by itself.
    seconds = 8 if "fd77::9" in spec.values() else 3
    run = net.boot(spec, seconds=seconds).result()
    (nic,) = run["nics"]
    assert nic["error"].startswith("network: NIC ")
    assert all(word in nic["error"] for word in words), nic["error"]
    assert nic["retryable"]
    assert seconds - 0.1 < run["seconds"] < seconds + 2


def test_destination_without_gateway_is_told_at_once(net: Lab) -> None:
    net.cable()
    spec = {**STATIC, "gateway": "192.168.1.1", "destinations": ["10.99.0.1"]}
    run = net.boot(spec, seconds=15).result()
    assert "no route to 10.99.0.1 from 10.77.0.9/24" in run["nics"][0]["error"]
    assert not net.routes("default")
    assert run["seconds"] < 5


def test_host_address_reaches_its_gateway(net: Lab) -> None:
    net.cable()
    spec = {"mac": MAC, "address": "10.77.0.9", "gateway": "10.77.0.1", "destinations": ["10.99.0.1"]}
    (nic,) = net.boot(spec).result()["nics"]
    assert (nic["error"], nic["addresses"]) == (None, ["10.77.0.9/32"])
    assert net.routes("10.99.0.1")[0]["flags"] == ["onlink"]
    assert net.reaches("10.77.0.1")


def test_static_ipv6_waits_for_its_check(net: Lab) -> None:
    net.cable(address="fd77::1/64")
    spec = {"mac": MAC, "address": "fd77::9", "prefix_len": 64, "gateway": "fd77::1", "destinations": ["fd99::1"]}
    run = net.boot(spec).result()
    assert (run["nics"][0]["error"], run["nics"][0]["addresses"]) == (None, ["fd77::9/64"])
    assert "tentative" not in net.on(net.client, "-6", "addr", "show", "dev", "eth0")
    assert net.routes("fd99::1", version=6)[0]["gateway"] == "fd77::1"
    assert net.reaches("fd77::1")


def test_duplicate_ipv6_address_is_an_error(net: Lab) -> None:
    net.cable(address="")
    net.on(net.server, "addr", "add", "fd77::9/64", "dev", "s-eth0", "nodad")
    (nic,) = net.boot({"mac": MAC, "address": "fd77::9", "prefix_len": 64}).result()["nics"]
    assert "another machine on the link uses fd77::9" in nic["error"]


def test_router_advertisement(net: Lab) -> None:
    net.cable(address="fd77::1/64")
    net.dnsmasq("--dhcp-range=fd77::,ra-only", "--enable-ra")
    (nic,) = net.boot({"mac": MAC, "destinations": ["fd99::1"]}, seconds=25).result()["nics"]
    assert nic["error"] is None
    assert nic["addresses"][0].startswith("fd77::")


def test_disabled_ipv6_is_told(net: Lab) -> None:
    net.no_ipv6()
    net.cable()
    (nic,) = net.boot({"mac": MAC, "address": "fd77::9", "prefix_len": 64}).result()["nics"]
    assert "IPv6 is disabled" in nic["error"]


def test_dead_nic_does_not_stop_the_other(net: Lab) -> None:
    net.cable("eth1", mac="52:54:00:aa:00:02", up=False, address="")
    net.cable()
    dead = {"mac": "52:54:00:aa:00:02", "address": "10.78.0.9", "prefix_len": 24}
    run = net.boot(dead, {**STATIC, "destinations": ["10.77.0.1"]}, seconds=30).result()
    assert "eth1 has no carrier" in run["nics"][0]["error"]
    assert (run["nics"][1]["error"], run["nics"][1]["addresses"]) == (None, ["10.77.0.9/24"])
    assert 1.9 < run["seconds"] < 5, "the straggler has its two seconds, not the whole deadline"


def test_two_nics_in_one_subnet_keep_their_targets(net: Lab) -> None:
    net.cable("eth1", mac="52:54:00:aa:00:02", address="10.77.0.2/24")
    net.cable()
    other = {"mac": "52:54:00:aa:00:02", "address": "10.77.0.8", "prefix_len": 24, "destinations": ["10.77.0.2"]}
    run = net.boot({**STATIC, "destinations": ["10.77.0.1"]}, other).result()
    assert [nic["error"] for nic in run["nics"]] == [None, None]
    for destination, device in (("10.77.0.1", "eth0"), ("10.77.0.2", "eth1")):
        (taken,) = json.loads(net.on(net.client, "-j", "route", "get", destination))
        assert taken["dev"] == device
