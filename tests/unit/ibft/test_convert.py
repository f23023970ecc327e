# SPDX-License-Identifier: LGPL-2.1-or-later
"""What of a table a boot may use, and that the rest is reported."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given

from iscsiboot.ibft.builder import build, poke
from iscsiboot.ibft.convert import to_boot_config
from iscsiboot.ibft.parser import parse
from iscsiboot.ibft.structures import IbftInitiator, IbftTable
from iscsiboot.model.boot import BootConfig, BootNic, BootTarget, Ignored
from iscsiboot.model.credentials import Secret
from iscsiboot.model.lun import Lun
from tests.unit.ibft.strategies import UNHURRIED, tables
from tests.vectors.ibft import make


def convert(table: IbftTable) -> tuple[BootConfig, tuple[Ignored, ...]]:
    config, ignored = to_boot_config(parse(build(table)))
    assert config is not None
    return config, ignored


def with_nic(**changes: Any) -> tuple[BootNic, tuple[Ignored, ...]]:
    config, ignored = convert(replace(make.PLAIN, nics=(replace(make.NIC, **changes),)))
    return config.nics[0], ignored


def with_target(**changes: Any) -> tuple[BootTarget | None, tuple[Ignored, ...]]:
    config, ignored = convert(replace(make.PLAIN, targets=(replace(make.TARGET, **changes),)))
    return (config.targets[0] if config.targets else None), ignored


def test_every_value_of_a_plain_table_and_its_place() -> None:
    config, ignored = convert(make.PLAIN)
    (nic,), (target,) = config.nics, config.targets
    shown = {
        str(each.value): each.source.where
        for each in (config.initiator_name, nic.mac, nic.address, nic.gateway, nic.pci, nic.hostname)
        if each is not None
    }
    assert shown == {
        "iqn.2026-11.org.example:initiator": "initiator 0, initiator name, offset 0x8e",
        "52:54:00:12:34:56": "NIC 0, MAC address, offset 0xf2",
        "10.0.2.15": "NIC 0, IP address, offset 0x9e",
        "10.0.2.2": "NIC 0, gateway, offset 0xb0",
        "0000:00:03.0": "NIC 0, PCI bus/device/function, offset 0xf8",
        "lab-guest": "NIC 0, host name, offset 0xfa",
    }
    assert [str(server.value) for server in nic.dns] == ["10.0.2.3", "10.0.2.4"]
    assert (target.name.value, target.port.value, target.lun.value) == (make.TARGET.name, 3260, Lun.from_number(1))
    assert str(target.address.source) == "acpi-ibft (target 0, IP address, offset 0x106)"
    assert (nic.boot_selected, target.boot_selected, nic.vlan, ignored) == (True, True, None, ())


def test_offsets_of_the_sources_are_true() -> None:
    """The bytes at the place a source names are the value's."""
    image = build(make.PLAIN)
    (nic,) = convert(make.PLAIN)[0].nics
    assert nic.mac is not None
    assert nic.address is not None
    at = [int(each.source.where.rsplit("0x", 1)[1], 16) for each in (nic.mac, nic.address)]
    assert image[at[0] : at[0] + 6].hex(":") == nic.mac.value
    assert image[at[1] + 12 : at[1] + 16] == nic.address.value.packed


def test_two_paths() -> None:
    config, ignored = convert(make.TABLES["two-paths"])
    first, second = config.targets
    nic = config.nic_of(second)
    assert nic is not None
    assert nic.vlan is not None
    assert (nic.index, nic.vlan.value, str(nic.address.value if nic.address else "")) == (1, 100, "2001:db8:1::15")
    assert (first.boot_selected, second.boot_selected) == (True, False)
    assert str(second.lun.value) == "4752-3a4f-6b7e-2f99"
    assert second.credentials is not None
    assert second.credentials.value.incoming is not None
    assert [str(server.value) for server in config.isns_servers] == ["10.0.2.9"]
    assert [item.what for item in ignored] == [
        "SLP server 10.0.2.10",
        "primary RADIUS server 10.0.2.11",
        "secondary RADIUS server 2001:db8::11",
    ]


@pytest.mark.parametrize("name", ["bad-checksum", "cut-off", "revision-2", "wrong-signature", "length-too-long"])
def test_a_table_that_is_not_intact_gives_nothing_and_the_reason(name: str) -> None:
    result = parse((make.HERE / f"broken-{name}.bin").read_bytes())
    config, ignored = to_boot_config(result)
    assert config is None
    assert [item.why for item in ignored] == [str(result.errors[0])]


def test_one_broken_nic_leaves_the_rest() -> None:
    config, ignored = to_boot_config(parse((make.HERE / "broken-nic-outside.bin").read_bytes()))
    assert config is not None
    assert [nic.index for nic in config.nics] == [1]
    assert [target.index for target in config.targets] == [0, 1]
    assert config.targets[0].nic_index is None
    assert any(item.what == "target 0 NIC association 0" for item in ignored)


@pytest.mark.parametrize(
    ("changes", "attribute", "what"),
    [
        pytest.param({"vlan": 4095}, "vlan", "NIC 0 VLAN 4095", id="vlan 4095"),
        pytest.param({"prefix_len": 33}, "prefix_len", "NIC 0 prefix length 33", id="prefix"),
        pytest.param({"mac": b"\x01\0\0\0\0\1"}, "mac", "NIC 0 MAC address 01:00:00:00:00:01", id="group MAC"),
        pytest.param({"origin": 9}, "origin", "NIC 0 origin 9", id="origin"),
        pytest.param({"address": ip_address("127.0.0.1")}, "address", "NIC 0 address 127.0.0.1", id="loopback"),
        pytest.param({"address": ip_address("ff02::1")}, "address", "NIC 0 address ff02::1", id="multicast"),
        pytest.param({"hostname": "a b"}, "hostname", 'NIC 0 host name "a b"', id="host name"),
        pytest.param({"hostname": "$(reboot)"}, "hostname", 'NIC 0 host name "$(reboot)"', id="shell"),
        pytest.param({"hostname": "h" * 254}, "hostname", None, id="long host name"),
    ],
)
def test_nic_values_that_are_not_used(changes: dict[str, Any], attribute: str, what: str | None) -> None:
    nic, ignored = with_nic(**changes)
    assert getattr(nic, attribute) is None
    assert len(ignored) == 1
    assert what is None or ignored[0].what == what


@pytest.mark.parametrize(
    ("changes", "attribute"),
    [({"mac": None}, "mac"), ({"prefix_len": 0}, "prefix_len"), ({"pci": 0}, "pci"), ({"gateway": None}, "gateway")],
)
def test_nic_values_that_are_not_set(changes: dict[str, Any], attribute: str) -> None:
    nic, ignored = with_nic(**changes)
    assert getattr(nic, attribute) is None
    assert ignored == ()


@pytest.mark.parametrize(
    ("origin", "server", "expected"),
    [(3, None, True), (0, "10.0.2.1", True), (1, None, False), (0, None, None), (4, None, None)],
)
def test_dhcp(origin: int, server: str | None, expected: bool | None) -> None:
    nic, _ = with_nic(origin=origin, dhcp_server=None if server is None else ip_address(server))
    assert (None if nic.dhcp is None else nic.dhcp.value) is expected


@pytest.mark.parametrize(
    ("pci", "text"), [(0x0018, "0000:00:03.0"), (0x01FF, "0000:01:1f.7"), (0xFF01, "0000:ff:00.1")]
)
def test_pci_address(pci: int, text: str) -> None:
    nic, _ = with_nic(pci=pci)
    assert nic.pci is not None
    assert nic.pci.value == text


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        pytest.param({"flags": 0}, "not marked valid", id="flags"),
        pytest.param({"flags": 4}, "not marked valid", id="other flags"),
        pytest.param({"name": ""}, "its name is not usable: the name is empty", id="no name"),
        pytest.param({"name": "../../etc"}, "its name is not usable", id="path as name"),
        pytest.param({"address": None}, "it has no IP address", id="no address"),
        pytest.param({"port": 0}, "port 0 is not a TCP port", id="port 0"),
        pytest.param({"flags": 7}, "RADIUS", id="radius"),
        pytest.param({"chap_type": 1}, "the CHAP secret is missing", id="no secret"),
        pytest.param({"chap_type": 1, "chap_secret": Secret(b"s" * 12)}, "CHAP name is not usable", id="no CHAP name"),
        pytest.param(
            {"chap_type": 2, "chap_name": "me", "chap_secret": Secret(b"s" * 12)},
            "the reverse CHAP secret is missing",
            id="mutual without the target's secret",
        ),
        pytest.param(
            {
                "chap_type": 2,
                "chap_name": "me",
                "chap_secret": Secret(b"s" * 12),
                "reverse_chap_name": "it",
                "reverse_chap_secret": Secret(b"s" * 12),
            },
            "must differ",
            id="one secret for both directions",
        ),
    ],
)
def test_targets_that_are_left_out(changes: dict[str, Any], why: str) -> None:
    target, ignored = with_target(**changes)
    assert target is None
    assert [item.what for item in ignored] == ["target 0"]
    assert why in ignored[0].why


def test_selected_alone_counts_as_valid() -> None:
    target, ignored = with_target(flags=2)
    assert target is not None
    assert target.boot_selected
    assert ignored == ()


CHAP = {"chap_name": "me", "chap_secret": Secret(b"one secret"), "reverse_chap_name": "it"}
BOTH = CHAP | {"reverse_chap_secret": Secret(b"two secrets")}


@pytest.mark.parametrize(
    ("chap_type", "values", "outgoing", "incoming", "left_out"),
    [
        pytest.param(0, BOTH, False, False, 1, id="0: none, though there are secrets"),
        pytest.param(0, {}, False, False, 0, id="0: none"),
        pytest.param(1, CHAP, True, False, 0, id="1: one way"),
        pytest.param(1, BOTH, True, False, 1, id="1: one way, though there are both"),
        pytest.param(2, BOTH, True, True, 0, id="2: mutual"),
        pytest.param(9, BOTH, True, True, 0, id="unknown: both are there"),
        pytest.param(9, CHAP, True, False, 0, id="unknown: one is there"),
        pytest.param(9, {}, False, False, 0, id="unknown: none is there"),
    ],
)
def test_chap_type(chap_type: int, values: dict[str, Any], outgoing: bool, incoming: bool, left_out: int) -> None:
    target, ignored = with_target(chap_type=chap_type, **values)
    assert target is not None
    credentials = target.credentials
    assert (credentials is not None) == outgoing
    assert (credentials is not None and credentials.value.incoming is not None) == incoming
    assert len(ignored) == left_out
    assert "secret" not in repr(ignored).replace("name and secret", "").lower()


def test_upper_case_names_stay_as_firmware_used_them() -> None:
    target, _ = with_target(name="IQN.2026-11.org.example:DISK")
    assert target is not None
    assert target.name.value == "IQN.2026-11.org.example:DISK"


def test_initiator_without_usable_name_leaves_the_targets() -> None:
    config, ignored = convert(replace(make.PLAIN, initiator=IbftInitiator(name="nonsense")))
    assert config.initiator_name is None
    assert len(config.targets) == 1
    assert [item.what for item in ignored] == ["initiator name"]
    assert convert(replace(make.PLAIN, initiator=None))[0].initiator_name is None


def test_initiator_is_used_though_not_marked_valid() -> None:
    config, _ = convert(replace(make.PLAIN, initiator=replace(make.INITIATOR, flags=0)))
    assert config.initiator_name is not None


def test_kind_is_the_callers() -> None:
    config, _ = to_boot_config(parse(build(make.PLAIN)), kind="ibft-file")
    assert config is not None
    assert config.targets[0].name.source.kind == "ibft-file"


@UNHURRIED
@given(tables)
def test_any_table_gives_values_that_keep_the_rules(table: IbftTable) -> None:
    config, ignored = convert(table)
    used = {nic.index for nic in config.nics}
    left = {item.what for item in ignored}
    assert all(nic.index in used or f"NIC {nic.index}" in left for nic in table.nics)
    named = {target.index for target in config.targets}
    assert all(target.index in named or f"target {target.index}" in left for target in table.targets)


def test_mutating_a_byte_under_the_checksum_is_never_acted_on() -> None:
    image = build(make.PLAIN)
    for offset in range(len(image)):
        changed = poke(image, offset, bytes([image[offset] ^ 0x10]), sealed=False)
        assert to_boot_config(parse(changed))[0] is None, offset
