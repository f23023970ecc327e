# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel's view of boot data, good and odd."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from iscsiboot.firmware import kernel_view
from iscsiboot.firmware.files import ATTRIBUTE_MAX, read_file, why_not
from iscsiboot.firmware.kernel_view import read_hba_views, read_ibft_view
from iscsiboot.firmware.netdev import find_netdev, pci_number
from iscsiboot.firmware.report import SourceResult, SourceState
from iscsiboot.model.boot import BootConfig, BootNic, BootTarget
from iscsiboot.model.lun import Lun
from tests.unit.firmware.trees import INITIATOR, NIC, PCI, TARGET, Tree


def config_of(result: SourceResult) -> BootConfig:
    assert result.config is not None
    return result.config


def nic_of(tree: Tree) -> BootNic:
    (nic,) = config_of(read_ibft_view(tree.roots.sysfs)).nics
    return nic


def target_of(tree: Tree) -> BootTarget:
    (target,) = config_of(read_ibft_view(tree.roots.sysfs)).targets
    return target


def test_nothing_there(tree: Tree) -> None:
    result = read_ibft_view(tree.roots.sysfs)
    assert result.status.state is SourceState.ABSENT
    assert result.config is None
    assert read_hba_views(tree.roots.sysfs) == []


def test_every_source_is_a_path(tree: Tree) -> None:
    tree.plain_view()
    target = target_of(tree)
    directory = tree.roots.sysfs / "firmware" / "ibft" / "target0"
    assert str(target.port.source) == f"sysfs-ibft ({directory / 'port'})"
    assert target.name.source.where == str(directory / "target-name")
    assert target.address.source.where == str(directory / "ip-addr")


def test_structures_are_read_by_number_not_by_name(tree: Tree) -> None:
    for number in (10, 2, 0):
        tree.view(f"target{number}", TARGET | {"index": f"{number}\n"})
    targets = config_of(read_ibft_view(tree.roots.sysfs)).targets
    assert [target.index for target in targets] == [0, 2, 10]


def test_what_is_no_structure_is_left_alone(tree: Tree) -> None:
    tree.plain_view()
    for name in ("target", "target1x", "target-1", "ethernet999", "xtarget1", "target256", "acpi_header"):
        tree.view(name, TARGET | NIC)
    config = config_of(read_ibft_view(tree.roots.sysfs))
    assert (len(config.nics), len(config.targets)) == (1, 1)


@pytest.mark.parametrize(
    ("file", "text", "attribute", "value"),
    [
        ("ip-addr", "fe80:0000:0000:0000:5054:00ff:fe12:3456\n", "address", "fe80::5054:ff:fe12:3456"),
        ("gateway", "10.0.2.2\n", "gateway", "10.0.2.2"),
        ("vlan", "100\n", "vlan", "100"),
        ("dhcp", "10.0.2.2\n", "dhcp_server", "10.0.2.2"),
        ("hostname", "lab-guest\n", "hostname", "lab-guest"),
        ("mac", "52:54:00:AB:CD:EF\n", "mac", "52:54:00:ab:cd:ef"),
        ("origin", "15\n", "origin", "15"),
    ],
)
def test_values_of_a_nic(tree: Tree, file: str, text: str, attribute: str, value: str) -> None:
    tree.view("ethernet0", NIC | {file: text})
    assert str(getattr(nic_of(tree), attribute).value) == value


def test_an_old_kernel_has_only_the_netmask(tree: Tree) -> None:
    tree.view("ethernet0", {name: text for name, text in NIC.items() if name != "prefix-len"})
    prefix = nic_of(tree).prefix_len
    assert prefix is not None
    assert prefix.value == 24


@pytest.mark.parametrize(
    ("directory", "file", "text", "field"),
    [
        pytest.param("ethernet0", "ip-addr", "10.0.2.256\n", "IP address", id="address"),
        pytest.param("ethernet0", "mac", "52:54:00\n", "MAC address", id="mac"),
        pytest.param("ethernet0", "vlan", "65536\n", "VLAN", id="vlan"),
        pytest.param("ethernet0", "vlan", "-1\n", "VLAN", id="negative"),
        pytest.param("ethernet0", "vlan", "9" * 4000, "VLAN", id="very long number"),
        pytest.param("ethernet0", "vlan", "\xb2\n", "VLAN", id="not ASCII"),
        pytest.param("ethernet0", "hostname", "a\x1b[2Jb\n", "host name", id="escape"),
        pytest.param("ethernet0", "hostname", "\xff\xfe\n", "host name", id="not UTF-8"),
        pytest.param("ethernet0", "hostname", "a" * 2000 + "\n", "host name", id="long"),
        pytest.param("target0", "flags", "256\n", "flags", id="flags"),
        pytest.param("target0", "lun", "zzz\n", "LUN", id="lun"),
        pytest.param("target0", "chap-secret", "x" * 256 + "\n", "CHAP secret", id="secret too long"),
        pytest.param("target0", "chap-secret", "a\0b\n", "CHAP secret", id="secret with NUL"),
    ],
)
def test_text_that_is_no_value_is_a_finding(tree: Tree, directory: str, file: str, text: str, field: str) -> None:
    tree.plain_view()
    tree.view(directory, {file: text})
    result = read_ibft_view(tree.roots.sysfs)
    assert (directory, field) in [(each.structure, each.field) for each in result.findings]
    assert all(str(each).isprintable() for each in result.findings)


def test_a_finding_about_a_secret_does_not_show_it(tree: Tree) -> None:
    tree.plain_view()
    tree.view("target0", {"chap-type": "1\n", "chap-name": "me\n", "chap-secret": "canary\0canary\n"})
    result = read_ibft_view(tree.roots.sysfs)
    assert "canary" not in repr(result)
    assert config_of(result).targets == ()


def test_attributes_longer_than_a_page_are_findings(tree: Tree) -> None:
    tree.plain_view()
    tree.view("target0", {"target-name": "x" * (ATTRIBUTE_MAX + 1)})
    result = read_ibft_view(tree.roots.sysfs)
    assert ("target0", "target-name") in [(each.structure, each.field) for each in result.findings]
    assert config_of(result).targets == ()


@pytest.mark.parametrize(
    ("lun", "expected"),
    [("01000000\n", "1"), ("401000000\n", "4001"), ("010000000\n", "10"), (None, "0"), ("\n", "0")],
    ids=["1", "flat", "16", "not given", "empty"],
)
def test_lun(tree: Tree, lun: str | None, expected: str) -> None:
    tree.plain_view()
    path = tree.roots.sysfs / "firmware/ibft/target0/lun"
    path.unlink() if lun is None else path.write_text(lun)
    assert str(target_of(tree).lun.value) == expected
    assert ("not given" in target_of(tree).lun.source.where) == (expected == "0")


def test_an_unclear_lun_takes_the_target_out(tree: Tree) -> None:
    tree.plain_view()
    tree.view("target0", {"lun": "1111111111\n"})
    result = read_ibft_view(tree.roots.sysfs)
    assert config_of(result).targets == ()
    assert [item.what for item in result.ignored] == ["target 0"]
    assert "not clear" in result.ignored[0].why


def test_port_not_given_is_the_standard_one(tree: Tree) -> None:
    tree.view("target0", {name: text for name, text in TARGET.items() if name != "port"})
    port = target_of(tree).port
    assert (port.value, port.source.where.endswith("port, not given: default")) == (3260, True)


@pytest.mark.parametrize(
    ("chap_type", "usable", "outgoing", "incoming"),
    [("0", True, False, False), ("1", True, True, False), ("2", True, True, True), (None, True, True, True)],
)
def test_chap(tree: Tree, chap_type: str | None, usable: bool, outgoing: bool, incoming: bool) -> None:
    tree.plain_view()
    tree.view(
        "target0",
        {
            "chap-name": "me\n",
            "chap-secret": "secret with blank at the end \n",
            "rev-chap-name": "it\n",
            "rev-chap-name-secret": "other secret\n",
        },
    )
    path = tree.roots.sysfs / "firmware/ibft/target0/chap-type"
    path.unlink() if chap_type is None else path.write_text(f"{chap_type}\n")
    credentials = target_of(tree).credentials
    assert (credentials is not None) == outgoing
    if credentials is not None:
        assert credentials.value.outgoing.secret.reveal() == b"secret with blank at the end "
        assert (credentials.value.incoming is not None) == incoming


def test_flags_decide(tree: Tree) -> None:
    tree.plain_view()
    tree.view("target1", TARGET | {"index": "1\n", "flags": "0\n"})
    tree.view("ethernet1", NIC | {"index": "1\n", "flags": "0\n"})
    result = read_ibft_view(tree.roots.sysfs)
    assert len(config_of(result).targets) == 1
    assert {(item.what, item.why) for item in result.ignored} == {
        ("target 1", "not marked valid"),
        ("NIC 1", "not marked valid"),
    }


def test_isns_is_kept_others_are_ignored(tree: Tree) -> None:
    tree.view("initiator", INITIATOR | {"isns-server": "10.0.2.9\n", "slp-server": "10.0.2.10\n"})
    result = read_ibft_view(tree.roots.sysfs)
    assert [str(server.value) for server in config_of(result).isns_servers] == ["10.0.2.9"]
    assert [item.what for item in result.ignored] == ["SLP server 10.0.2.10"]


def test_only_root_may_read(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel answers EACCES to everybody else although the mode is 0444."""
    tree.plain_view()

    def refuse(path: Path, limit: int) -> bytes | None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(kernel_view, "read_file", refuse)
    result = read_ibft_view(tree.roots.sysfs)
    assert result.config is None
    assert result.status.state is SourceState.UNUSABLE
    assert result.status.why == "Permission denied (only root can read it)"


def test_an_attribute_that_fails_is_a_finding(tree: Tree) -> None:
    tree.plain_view()
    (tree.roots.sysfs / "firmware/ibft/ethernet0/gateway").mkdir()
    result = read_ibft_view(tree.roots.sysfs)
    assert ("ethernet0", "gateway") in [(each.structure, each.field) for each in result.findings]
    assert len(config_of(result).targets) == 1


def test_adapters_by_number(tree: Tree) -> None:
    for number in (10, 9, 1):
        tree.plain_view(f"iscsi_boot{number}")
    tree.write("firmware/iscsi_bootx/target0/flags", "3\n")
    results = read_hba_views(tree.roots.sysfs)
    assert [result.status.kind for result in results] == ["iscsi_boot1", "iscsi_boot9", "iscsi_boot10"]
    assert all(len(config_of(result).targets) == 1 for result in results)


@pytest.mark.parametrize(
    ("below", "mac", "found"),
    [
        pytest.param(["net/enp0s8"], NIC["mac"], "enp0s8", id="on the function"),
        pytest.param(["virtio2/net/eth0"], NIC["mac"], "eth0", id="virtio"),
        pytest.param(["net/a", "net/b"], NIC["mac"], None, id="two, none with the MAC"),
        pytest.param([], NIC["mac"], None, id="driver not loaded"),
    ],
)
def test_network_device(tree: Tree, below: list[str], mac: str, found: str | None) -> None:
    (tree.roots.sysfs / PCI).mkdir(parents=True)
    for name in below:
        tree.netdev(name, "02:00:00:00:00:01")
    netdev = find_netdev(tree.roots.sysfs / PCI, bytes.fromhex(mac.strip().replace(":", "")))
    assert (None if netdev is None else netdev.name) == found


def test_one_of_two_network_devices_by_its_mac(tree: Tree) -> None:
    tree.netdev("net/port0", "02:00:00:00:00:01")
    tree.netdev("net/port1", "02:00:00:00:00:02")
    netdev = find_netdev(tree.roots.sysfs / PCI, bytes.fromhex("020000000002"))
    assert netdev is not None
    assert netdev.name == "port1"
    assert find_netdev(tree.roots.sysfs / PCI, None) is None


@pytest.mark.parametrize(
    ("link", "number"),
    [
        ("../0000:00:08.0", 0x40),
        ("../0000:01:1f.7", 0x1FF),
        ("../0001:00:08.0", 0),
        ("../0000:00:20.0", 0),
        ("../virtio0", 0),
    ],
)
def test_pci_address_of_the_link(tmp_path: Path, link: str, number: int) -> None:
    (tmp_path / "device").symlink_to(link)
    assert pci_number(tmp_path / "device") == number
    assert pci_number(tmp_path / "no such link") == 0


def test_bounded_reads(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert read_file(path, 10) is None
    assert read_file(tmp_path / "file" / "below", 10) is None
    path.write_bytes(b"x" * 10)
    assert read_file(path, 10) == b"x" * 10
    with pytest.raises(OSError, match="File too large") as caught:
        read_file(path, 9)
    assert why_not(caught.value) == "File too large"


def test_lun_one_is_the_wire_form(tree: Tree) -> None:
    tree.plain_view()
    assert target_of(tree).lun.value == Lun.from_number(1)
