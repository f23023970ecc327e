# SPDX-License-Identifier: LGPL-2.1-or-later
"""Several sources: who wins, why, and that nothing disappears silently; and the one-line verdict."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from iscsiboot.errors import ExitCode, Stage
from iscsiboot.firmware.read import read_firmware
from iscsiboot.firmware.report import FirmwareReport, SourceState
from iscsiboot.ibft.builder import build, poke
from iscsiboot.ibft.layout import CHECKSUM_OFFSET
from iscsiboot.ibft.structures import IbftTable
from iscsiboot.model.boot import BootConfig
from iscsiboot.model.lun import Lun
from tests.unit.firmware.trees import TARGET, Tree
from tests.vectors.ibft import make

PLAIN = build(make.PLAIN)


def config_of(report: FirmwareReport) -> BootConfig:
    assert report.config is not None
    return report.config


def ignored(report: FirmwareReport) -> list[tuple[str, str]]:
    return [(item.what, item.why) for item in report.ignored]


def with_target(**changes: object) -> bytes:
    return build(replace(make.PLAIN, targets=(replace(make.TARGET, **changes),)))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["iBFT", "IBFT", "BIFT"])
def test_raw_table_alone(tree: Tree, name: str) -> None:
    tree.acpi(PLAIN, name)
    report = read_firmware(tree.roots)
    assert report.problem() is None
    assert config_of(report).targets[0].lun.value == Lun.from_number(1)
    assert {status.kind: status.state for status in report.sources}["acpi-ibft"] is SourceState.PRESENT


def test_same_table_twice_gives_each_value_once(tree: Tree) -> None:
    tree.acpi(PLAIN)
    tree.plain_view()
    report = read_firmware(tree.roots)
    config = config_of(report)
    assert (len(config.nics), len(config.targets)) == (1, 1)
    assert config.targets[0].name.source.kind == "acpi-ibft"
    assert report.ignored == ()


def test_the_raw_table_knows_the_lun(tree: Tree) -> None:
    """The kernel's text of this LUN has several readings; the raw table has the bytes."""
    lun = Lun(bytes.fromhex("1101010101010111"))
    tree.acpi(with_target(lun=lun))
    tree.plain_view()
    tree.view("target0", {"lun": "11111111111\n"})
    report = read_firmware(tree.roots)
    assert config_of(report).targets[0].lun.value == lun
    assert any("not clear" in why for _, why in ignored(report))


def test_a_contradiction_in_one_value_is_told(tree: Tree) -> None:
    tree.acpi(PLAIN)
    tree.plain_view()
    tree.view("ethernet0", {"gateway": "10.0.2.99\n"})
    report = read_firmware(tree.roots)
    gateway = config_of(report).nics[0].gateway
    assert gateway is not None
    assert str(gateway.value) == "10.0.2.2"
    assert ignored(report) == [("NIC 0 gateway 10.0.2.99", "acpi-ibft says 10.0.2.2")]


def test_what_only_the_kernel_shows_is_added(tree: Tree) -> None:
    tree.acpi(PLAIN)
    tree.plain_view()
    tree.view("ethernet0", {"dhcp": "10.0.2.1\n"})
    tree.view("target1", TARGET | {"index": "1\n", "target-name": "iqn.2026-11.org.example:second\n"})
    config = config_of(read_firmware(tree.roots))
    server = config.nics[0].dhcp_server
    assert server is not None
    assert server.source.kind == "sysfs-ibft"
    assert [target.index for target in config.targets] == [0, 1]


@pytest.mark.parametrize(
    "changes",
    [{"name": "iqn.2026-11.org.example:other"}, {"address": ip_address("10.9.9.9")}, {"port": 3261}],
    ids=["name", "address", "port"],
)
def test_another_table_in_low_memory_wins_as_a_whole(tree: Tree, changes: dict[str, object]) -> None:
    tree.acpi(with_target(**changes))
    tree.plain_view()
    report = read_firmware(tree.roots)
    (target,) = config_of(report).targets
    assert target.name.value == make.TARGET.name
    assert target.name.source.kind == "sysfs-ibft"
    ((what, why),) = ignored(report)
    assert what == "everything of acpi-ibft"
    assert "the kernel shows another table" in why


def test_secrets_that_differ_are_not_told(tree: Tree) -> None:
    tree.acpi(build(make.TABLES["chap"]))
    tree.plain_view()
    tree.view("target0", {"chap-type": "1\n", "chap-name": "initiator\n", "chap-secret": "canary\n"})
    report = read_firmware(tree.roots)
    assert ignored(report) == [("target 0 credentials", "acpi-ibft has others")]
    assert "canary" not in repr(report)


def test_adapters_only_without_an_ibft(tree: Tree) -> None:
    tree.plain_view("iscsi_boot0")
    report = read_firmware(tree.roots)
    assert config_of(report).targets[0].name.source.kind == "iscsi_boot0"
    tree.acpi(PLAIN)
    report = read_firmware(tree.roots)
    assert config_of(report).targets[0].name.source.kind == "acpi-ibft"
    assert ignored(report) == [("everything of iscsi_boot0", "acpi-ibft says what this boot is from")]


def test_a_table_without_target_gives_way(tree: Tree) -> None:
    tree.acpi(build(make.TABLES["no-targets"]))
    tree.plain_view("iscsi_boot0")
    report = read_firmware(tree.roots)
    assert config_of(report).targets[0].name.source.kind == "iscsi_boot0"
    assert ignored(report) == [("everything of acpi-ibft", "it names no target that can be used")]


def test_open_firmware_wins(tree: Tree) -> None:
    tree.property("chosen/bootpath", b"/vdevice/l-lan@3:iscsi,iname=eui.02004567a425678d,siaddr=10.0.0.1\0")
    tree.acpi(PLAIN)
    report = read_firmware(tree.roots)
    assert config_of(report).targets[0].name.value == "eui.02004567a425678d"
    assert ("everything of acpi-ibft", "device-tree says what this boot is from") in ignored(report)


def test_no_table_at_all(tree: Tree) -> None:
    problem = read_firmware(tree.roots).problem()
    assert problem is not None
    assert (problem.stage, problem.exit_code, problem.retryable) == (Stage.FIRMWARE, ExitCode.NO_OBJS_FOUND, False)
    assert "no firmware boot table at all" in problem.line()
    assert str(tree.roots.sysfs / "firmware" / "ibft") in problem.line()


def test_broken_table(tree: Tree) -> None:
    tree.acpi(poke(PLAIN, CHECKSUM_OFFSET, bytes([PLAIN[CHECKSUM_OFFSET] ^ 1]), sealed=False))
    report = read_firmware(tree.roots)
    assert report.config is None
    problem = report.problem(["[    1.0] iBFT has incorrect checksum (0x1)!"])
    assert problem is not None
    assert problem.exit_code is ExitCode.NO_OBJS_FOUND
    assert "checksum is wrong" in problem.cause
    assert problem.subject.endswith("firmware/acpi/tables/iBFT")


def test_broken_raw_table_beside_a_good_view_is_no_problem(tree: Tree) -> None:
    tree.acpi(poke(PLAIN, 0, b"SSDT"))
    tree.plain_view()
    report = read_firmware(tree.roots)
    assert report.problem() is None
    assert config_of(report).targets[0].name.source.kind == "sysfs-ibft"
    assert {status.kind: status.state for status in report.sources}["acpi-ibft"] is SourceState.UNUSABLE


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("[   17.0] iBFT has incorrect checksum (0x5a)!", "the kernel refused it: iBFT has incorrect checksum (0x5a)!"),
        ("iBFT module supports only revision 1, while this is 2.", "supports only revision 1, while this is 2."),
        ("iBFT error: Control header is invalid!\x1b[2J", "iBFT error: Control header is invalid!\\x1b[2J"),
        ("[    0.0] iBFT found at 0x000000000009e620.", "found a table in memory at 0x000000000009e620"),
    ],
)
def test_the_kernels_log_names_the_cause(tree: Tree, line: str, cause: str) -> None:
    log = ["[    0.0] iBFT found at 0x9e620." if "found" not in line else "", "noise", line]
    problem = read_firmware(tree.roots).problem(log)
    assert problem is not None
    assert cause in problem.line()
    assert problem.line().isprintable()


def test_a_table_without_usable_target_says_why(tree: Tree) -> None:
    tree.acpi(with_target(port=0))
    problem = read_firmware(tree.roots).problem()
    assert problem is not None
    assert "target 0: port 0 is not a TCP port" in problem.line()


def test_a_table_larger_than_any_is_unusable(tree: Tree) -> None:
    tree.acpi(b"iBFT" + bytes(70000))
    report = read_firmware(tree.roots)
    assert report.config is None
    problem = report.problem()
    assert problem is not None
    assert "File too large" in problem.cause


def test_what_two_views_leave_out_is_told_once(tree: Tree) -> None:
    unused = replace(make.TARGET, index=1, flags=0)
    tree.acpi(build(replace(make.PLAIN, targets=(make.TARGET, unused))))
    tree.plain_view()
    tree.view("target1", TARGET | {"index": "1\n", "flags": "0\n"})
    assert ignored(read_firmware(tree.roots)) == [("target 1", "not marked valid")]


def test_findings_name_their_source(tree: Tree) -> None:
    tree.acpi(build(replace(make.PLAIN, nics=(replace(make.NIC, vlan=5000),))))
    findings = [str(finding) for finding in read_firmware(tree.roots).findings]
    assert findings == ["acpi-ibft: error: NIC 0, VLAN, offset 0xf0: 5000 is outside 0 to 4094"]


def test_an_empty_table_is_a_config_without_anything(tree: Tree) -> None:
    tree.acpi(build(IbftTable()))
    report = read_firmware(tree.roots)
    assert config_of(report) == BootConfig(initiator_name=None)
    assert report.problem() is not None
