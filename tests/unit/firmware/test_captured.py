# SPDX-License-Identifier: LGPL-2.1-or-later
"""Real tables of iPXE, and what a real kernel made of them (tests/vectors/ibft/README.md).

Two readers we did not write agree with ours: the raw table through our parser and the same table through the kernel's
iscsi_ibft must give the same boot.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from iscsiboot.firmware.acpi import explain_table
from iscsiboot.firmware.read import read_firmware
from iscsiboot.firmware.report import SourceState
from iscsiboot.ibft.parser import parse
from iscsiboot.model.boot import BootConfig, Sourced
from iscsiboot.model.credentials import Chap, Credentials, Secret
from iscsiboot.model.lun import Lun
from tests.unit.firmware.trees import VECTORS, Tree

CAPTURED = ["ipxe-bios-plain", "ipxe-bios-mutual", "ipxe-uefi-mutual"]


def bare(value: Any) -> Any:
    """A boot value without its sources."""
    if isinstance(value, Sourced):
        return value.value
    if isinstance(value, tuple):
        return [bare(each) for each in value]
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, (Credentials, Lun)):
        return {spec.name: bare(getattr(value, spec.name)) for spec in fields(value)}
    return value


def table_config(name: str) -> BootConfig:
    path = VECTORS / f"captured-{name}.bin"
    config = explain_table(path.read_bytes(), path, "ibft-file").config
    assert config is not None
    return config


@pytest.mark.parametrize("name", CAPTURED)
def test_a_real_table_is_without_fault(name: str) -> None:
    result = parse((VECTORS / f"captured-{name}.bin").read_bytes())
    assert result.intact
    assert result.findings == ()
    assert result.table is not None
    assert (result.table.oem_id, result.table.oem_table_id) == (b"FENSYS", b"iPXE")


@pytest.mark.parametrize("name", CAPTURED)
def test_the_kernel_reads_the_same_boot_from_it(name: str, tree: Tree) -> None:
    tree.captured(name)
    report = read_firmware(tree.roots)
    assert report.config is not None
    assert report.problem() is None
    assert (report.ignored, report.findings) == ((), ())
    (nic,) = report.config.nics
    assert nic.netdev is not None
    assert nic.netdev.value == "eth0"
    without_name = replace(report.config, nics=(replace(nic, netdev=None),))
    assert bare(without_name) == bare(table_config(name))


@pytest.mark.parametrize("name", CAPTURED)
def test_values_of_the_script_that_made_it(name: str) -> None:
    lane = name.split("-")[1]
    config = table_config(name)
    assert config.initiator_name is not None
    assert config.initiator_name.value == f"iqn.2026-11.org.example:ipxe-{lane}"
    (nic,), (target,) = config.nics, config.targets
    values = bare(nic)
    assert (values["mac"], str(values["address"]), values["prefix_len"]) == ("52:54:00:12:34:56", "10.0.2.15", 24)
    assert (values["dhcp"], values["pci"], values["hostname"]) == (True, "0000:00:08.0", f"lab-{lane}")
    assert (nic.boot_selected, target.boot_selected) == (True, True)
    assert (str(target.address.value), target.port.value) == ("10.0.2.2", 33771)
    assert target.lun.value == Lun.from_number(1)
    assert config.nic_of(target) == nic


def test_mutual_chap_of_a_real_table() -> None:
    for name in ("ipxe-bios-mutual", "ipxe-uefi-mutual"):
        (target,) = table_config(name).targets
        assert target.credentials is not None
        assert target.credentials.value == Credentials(
            outgoing=Chap(name="chap-initiator", secret=Secret(b"initiatorSecret1")),
            incoming=Chap(name="chap-target", secret=Secret(b"targetSecret22")),
        )
    assert table_config("ipxe-bios-plain").targets[0].credentials is None


def test_raw_table_and_kernel_view_together(tree: Tree) -> None:
    """UEFI: both sources are there; values come from the table, the device's name from the kernel."""
    tree.captured("ipxe-uefi-mutual")
    tree.acpi((VECTORS / "captured-ipxe-uefi-mutual.bin").read_bytes())
    report = read_firmware(tree.roots)
    states = {status.kind: status.state for status in report.sources}
    assert states == {
        "device-tree": SourceState.ABSENT,
        "acpi-ibft": SourceState.PRESENT,
        "sysfs-ibft": SourceState.PRESENT,
    }
    assert report.config is not None
    (nic,) = report.config.nics
    assert nic.mac is not None
    assert nic.netdev is not None
    assert nic.mac.source.kind == "acpi-ibft"
    assert nic.netdev.source.kind == "sysfs-ibft"
    assert report.ignored == ()


def test_the_kernel_reads_a_table_of_our_builder_as_we_do(tree: Tree) -> None:
    """IPv6, VLAN, mutual CHAP, a LUN of four levels and a second path through Linux's iscsi_ibft.

    NIC 1's PCI address had no device in that machine, so the kernel shows none.
    """
    tree.listing("built-two-paths")
    report = read_firmware(tree.roots)
    path = VECTORS / "built-two-paths.bin"
    ours = explain_table(path.read_bytes(), path, "ibft-file")
    assert report.config is not None
    assert ours.config is not None
    assert report.findings == ()
    first, second = ours.config.nics
    assert bare(report.config) == bare(replace(ours.config, nics=(first, replace(second, pci=None))))
    assert [item.what for item in report.ignored] == [item.what for item in ours.ignored]
