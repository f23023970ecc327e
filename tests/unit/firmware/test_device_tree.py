# SPDX-License-Identifier: LGPL-2.1-or-later
"""OpenFirmware's boot path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.firmware.device_tree import parse_boot_path, read_device_tree
from iscsiboot.firmware.report import SourceResult, SourceState
from iscsiboot.model.boot import BootConfig
from iscsiboot.model.lun import Lun
from tests.unit.firmware.trees import Tree
from tests.unit.ibft.strategies import UNHURRIED

DEVICE = "/vdevice/l-lan@30000002"
ARGUMENTS = (
    "iscsi,itname=iqn.2026-11.org.example:power,iname=iqn.2026-11.org.example:disk,siaddr=10.0.0.1,iport=3261,"
    "ciaddr=10.0.0.2,subnet-mask=255.255.255.0,giaddr=10.0.0.254,ilun=1000000000000,bootp-retries=5"
)


def read(tree: Tree, path: str, mac: bytes = bytes.fromhex("525400123456")) -> SourceResult:
    tree.property("chosen/bootpath", path.encode() + b"\0")
    tree.property(f"{DEVICE.strip('/')}/local-mac-address", mac)
    return read_device_tree(tree.roots)


def config_of(result: SourceResult) -> BootConfig:
    assert result.config is not None
    return result.config


def test_whole_path(tree: Tree) -> None:
    result = read(tree, f"{DEVICE}:{ARGUMENTS}".replace("1000000000000", "0001000000000000"))
    config = config_of(result)
    (nic,), (target,) = config.nics, config.targets
    assert config.initiator_name is not None
    assert config.initiator_name.value == "iqn.2026-11.org.example:power"
    assert nic.mac is not None
    assert nic.prefix_len is not None
    assert nic.gateway is not None
    assert (nic.mac.value, nic.prefix_len.value, str(nic.gateway.value)) == ("52:54:00:12:34:56", 24, "10.0.0.254")
    assert nic.dhcp is None
    assert (str(target.address.value), target.port.value, target.lun.value) == ("10.0.0.1", 3261, Lun.from_number(1))
    assert config.nic_of(target) == nic
    path = tree.roots.proc / "device-tree" / "chosen" / "bootpath"
    assert str(target.address.source) == f"device-tree ({path}, siaddr)"
    assert str(target.name.source) == f"device-tree ({path}, iname)"
    assert str(config.initiator_name.source) == f"device-tree ({path}, itname)"
    assert [item.what for item in result.ignored] == ['"bootp-retries" of the boot path']
    assert result.findings == ()


def test_below_sysfs_when_proc_has_no_link(tree: Tree) -> None:
    tree.write("firmware/devicetree/base/chosen/bootpath", f"{DEVICE}:{ARGUMENTS}\0")
    result = read_device_tree(tree.roots)
    assert result.status.path == tree.roots.sysfs / "firmware/devicetree/base/chosen/bootpath"
    assert result.status.state is SourceState.PRESENT


@pytest.mark.parametrize("qualifier", ["bootp", "dhcpv6"])
def test_dhcp(tree: Tree, qualifier: str) -> None:
    (nic,) = config_of(read(tree, f"{DEVICE}:{qualifier},{ARGUMENTS}")).nics
    assert nic.dhcp is not None
    assert nic.dhcp.value is True


@pytest.mark.parametrize(
    "path",
    ["", "/vdevice/disk@8000", f"{DEVICE}:bootp,siaddr=10.0.0.1", ":", f"{DEVICE}:"],
    ids=["empty", "disk", "plain network boot", "colon", "no arguments"],
)
def test_paths_that_are_no_iscsi_boot(tree: Tree, path: str) -> None:
    result = read(tree, path)
    assert result.status.state is SourceState.ABSENT
    assert result.config is None
    assert "no iSCSI" in result.status.why


def test_nothing_there(tree: Tree) -> None:
    assert read_device_tree(tree.roots).status.state is SourceState.ABSENT


@pytest.mark.parametrize(
    ("text", "lun"),
    [
        ("0", Lun(bytes(8))),
        ("1", Lun.from_number(1)),
        ("4752-3A4F-6b7e-2F99", Lun.parse("4752-3A4F-6b7e-2F99")),
        ("0x0002000000000000", Lun.from_number(2)),
    ],
)
def test_lun_forms(tree: Tree, text: str, lun: Lun) -> None:
    (target,) = config_of(read(tree, f"{DEVICE}:iscsi,iname=eui.02004567a425678d,siaddr=10.0.0.1,ilun={text}")).targets
    assert target.lun.value == lun


def test_mutual_chap_and_no_secret_in_sight(tree: Tree) -> None:
    chap = "ichapid=me,ichappw=canary-one,chapid=it,chappw=canary-two"
    result = read(tree, f"{DEVICE}:iscsi,iname=eui.02004567a425678d,siaddr=10.0.0.1,{chap}")
    (target,) = config_of(result).targets
    assert target.credentials is not None
    credentials = target.credentials.value
    assert credentials.incoming is not None
    assert (credentials.outgoing.name, credentials.incoming.name) == ("me", "it")
    assert (credentials.outgoing.secret.reveal(), credentials.incoming.secret.reveal()) == (
        b"canary-one",
        b"canary-two",
    )
    assert "canary" not in repr(result)


def test_ipv6_in_brackets_and_the_padded_mac_of_a_virtual_lan(tree: Tree) -> None:
    arguments = "ipv6,iscsi,iname=eui.02004567a425678d,siaddr=[2001:db8::1],ciaddr=2001:db8::2"
    config = config_of(read(tree, f"{DEVICE}:{arguments}", b"\0\0" + bytes.fromhex("525400123456")))
    (nic,), (target,) = config.nics, config.targets
    assert str(target.address.value) == "2001:db8::1"
    assert nic.mac is not None
    assert nic.mac.value == "52:54:00:12:34:56"


@pytest.mark.parametrize(
    ("argument", "key"),
    [
        ("siaddr=10.0.0.999", "siaddr"),
        ("iport=70000", "iport"),
        ("iport=", "iport"),
        ("ilun=xyz", "ilun"),
        ("subnet-mask=255.0.255.0", "subnet-mask"),
        ("ciaddr=fe80::1%eth0/64", "ciaddr"),
        ("itname=a\x1b[2J", "itname"),
        ("ichappw=", "ichappw"),
        ("chappw=" + "x" * 256, "chappw"),
    ],
)
def test_values_that_are_none(tree: Tree, argument: str, key: str) -> None:
    result = read(tree, f"{DEVICE}:iscsi,{argument}")
    assert ("boot path", key) in [(each.structure, each.field) for each in result.findings]
    assert all(str(each).isprintable() for each in result.findings)
    assert config_of(result).targets == ()


@pytest.mark.parametrize("device", ["/../../etc", "/vdevice/./x", "", "/a\0b", "/vdevice/l-lan@30000002/../x"])
def test_a_path_never_leads_out_of_the_tree(tree: Tree, device: str) -> None:
    result = read(tree, f"{device}:{ARGUMENTS}")
    (nic,) = config_of(result).nics
    assert nic.mac is None
    assert ("boot path", "device") in [(each.structure, each.field) for each in result.findings]


def test_first_of_two_counts() -> None:
    parsed = parse_boot_path("/x:iscsi,siaddr=10.0.0.1,siaddr=10.0.0.2")
    assert parsed is not None
    assert parsed.values == {"siaddr": "10.0.0.1"}


@UNHURRIED
@given(st.text())
def test_any_text_can_be_taken_apart(text: str) -> None:
    parsed = parse_boot_path(text)
    assert parsed is None or parsed.device == text.partition(":")[0]


def test_properties_that_fail(tree: Tree) -> None:
    (tree.roots.proc / "device-tree/chosen/bootpath").mkdir(parents=True)
    result = read_device_tree(tree.roots)
    assert (result.status.state, result.status.why) == (SourceState.UNUSABLE, "Is a directory")


def test_a_mac_property_that_fails_gives_way_to_the_other(tree: Tree) -> None:
    tree.property("chosen/bootpath", f"{DEVICE}:{ARGUMENTS}".encode())
    node = DEVICE.strip("/")
    tree.property(f"{node}/mac-address", bytes.fromhex("525400123456"))
    (tree.roots.proc / "device-tree" / node / "local-mac-address").mkdir()
    result = read_device_tree(tree.roots)
    (nic,) = config_of(result).nics
    assert nic.mac is not None
    assert ("boot path", "local-mac-address") in [(each.structure, each.field) for each in result.findings]
