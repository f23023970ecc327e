# SPDX-License-Identifier: LGPL-2.1-or-later
"""Real targets as configuration: tgtadm's arguments, istgt.conf, LIO's configfs; nothing is started here."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.doubles.istgt import accounts, configuration
from tests.doubles.peers import LOOPBACK, TargetSpec, account, free_port
from tests.doubles.tgt import admin_commands
from tests.qemu.harness.errors import HarnessError
from tests.qemu.harness.lio import lay_out, module_order, target_script

TARGET = "iqn.2026-11.example.iscsiboot:root"
OUTGOING, INCOMING = account(("machine", "initiator-secret-16")), account(("storage", "target-secret-14"))
KEYS = {"MaxBurstLength": "4096"}


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(bytes(3 << 20))
    return path


def test_commands_in_the_order_tgt_needs() -> None:
    spec = TargetSpec(name=TARGET, disk=Path("/d"), chap=OUTGOING, mutual=INCOMING, keys=KEYS)
    commands = [" ".join(words) for words in admin_commands([spec])]
    account = "--lld iscsi --mode account"
    assert commands == [
        f"--lld iscsi --mode target --tid 1 --op new --targetname {TARGET}",
        "--lld iscsi --mode logicalunit --tid 1 --op new --lun 1 --backing-store /d",
        f"{account} --op new --user machine --password initiator-secret-16",
        f"{account} --tid 1 --op bind --user machine",
        f"{account} --op new --user storage --password target-secret-14",
        f"{account} --tid 1 --op bind --user storage --outgoing",
        "--lld iscsi --mode target --tid 1 --op update --name MaxBurstLength --value 4096",
        "--lld iscsi --mode target --tid 1 --op bind --initiator-address ALL",
    ]


def test_without_chap_there_are_no_accounts_and_without_disk_no_lun() -> None:
    words = [word for command in admin_commands([TargetSpec(name=TARGET)]) for word in command]
    assert "account" not in words
    assert "logicalunit" not in words


def test_one_account_serves_two_targets_and_has_one_secret() -> None:
    specs = [TargetSpec(name=f"{TARGET}-{number}", chap=OUTGOING) for number in (1, 2)]
    commands = [" ".join(words) for words in admin_commands(specs)]
    assert len([words for words in commands if "--password" in words]) == 1
    assert [re.findall(r"--tid (\d)", words) for words in commands if "--op bind --user" in words] == [["1"], ["2"]]
    other = TargetSpec(name=TARGET, chap=account(("machine", "another-secret-17")))
    with pytest.raises(ValueError, match="machine has two secrets") as caught:
        admin_commands([specs[0], other])
    assert "another" not in str(caught.value)


def test_a_target_does_not_prove_itself_to_anybody() -> None:
    with pytest.raises(ValueError, match="only to an initiator that does"):
        TargetSpec(name=TARGET, mutual=INCOMING)


def test_a_description_does_not_show_its_secrets() -> None:
    assert "secret-1" not in repr(TargetSpec(name=TARGET, chap=OUTGOING, mutual=INCOMING))


@pytest.mark.parametrize("address", [LOOPBACK, "::1"])
def test_a_free_port_is_free(address: str) -> None:
    port = free_port(address)
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as listener:
        listener.bind((address, port))


def test_istgt_has_a_unit_and_a_group_for_each_target(disk: Path, tmp_path: Path) -> None:
    specs = [
        TargetSpec(name=f"{TARGET}-open", disk=disk, keys=KEYS),
        TargetSpec(name=f"{TARGET}-chap", disk=disk, chap=OUTGOING, keys=KEYS),
        TargetSpec(name=f"{TARGET}-mutual", disk=disk, chap=OUTGOING, mutual=INCOMING, luns=(0, 3), keys=KEYS),
    ]
    text = configuration(specs, portal="127.0.0.1:3", control="127.0.0.1:4", runtime=tmp_path)
    assert re.findall(r"AuthMethod (.*)", text.partition("[PortalGroup1]")[2]) == ["None", "CHAP", "CHAP Mutual"]
    assert re.findall(r"AuthGroup (.*)", text.partition("[PortalGroup1]")[2]) == ["None", "AuthGroup2", "AuthGroup3"]
    assert re.findall(r"LUN(\d) Storage \S+ (\S+)", text) == [("0", "3MB"), ("0", "3MB"), ("0", "3MB"), ("3", "3MB")]
    assert "  MaxBurstLength 4096\n" in text
    assert "  FirstBurstLength 65536\n" in text
    assert accounts(specs).splitlines() == [
        "[AuthGroup2]",
        '  Auth "machine" "initiator-secret-16"',
        "[AuthGroup3]",
        '  Auth "machine" "initiator-secret-16" "storage" "target-secret-14"',
    ]
    assert "secret" not in text


@pytest.mark.parametrize(
    ("second", "says"),
    [
        (lambda disk: TargetSpec(name="iqn.2026-11.example:2", disk=disk, keys=KEYS), "the same keys"),
        (lambda disk: TargetSpec(name="iqn.2026-11.example:2"), "has no disk"),
    ],
    ids=["keys", "disk"],
)
def test_what_one_istgt_cannot_be(second: Callable[[Path], TargetSpec], says: str, disk: Path, tmp_path: Path) -> None:
    specs = [TargetSpec(name=TARGET, disk=disk), second(disk)]
    with pytest.raises(ValueError, match=says):
        configuration(specs, portal="127.0.0.1:3", control="127.0.0.1:4", runtime=tmp_path)


def test_modules_come_after_what_they_need() -> None:
    dependencies = "k/a-b.ko: k/c.ko k/d.ko.xz\nk/c.ko:\nk/d.ko.xz: k/c.ko\nk/e.ko:\n"
    assert module_order(dependencies, ["a_b", "c"]) == ["k/c.ko", "k/d.ko.xz", "k/a-b.ko"]
    with pytest.raises(HarnessError, match="no module f"):
        module_order(dependencies, ["f"])


def test_lio_in_configfs(tmp_path: Path) -> None:
    """The script runs against a plain directory: everything lands in the file LIO would read it from."""
    specs = [
        TargetSpec(name=f"{TARGET}-open"),
        TargetSpec(
            name=f"{TARGET}-mutual",
            chap=account(("mach'ine", "initiator-$ecret-16")),
            mutual=INCOMING,
            keys={"MaxRecvDataSegmentLength": "1024"},
        ),
    ]
    for spec in specs:
        for name in ("attrib", "auth", "param", "np", "lun"):
            (tmp_path / "iscsi" / spec.name / "tpgt_1" / name).mkdir(parents=True)
    script = target_script(specs).replace("cd /sys/kernel/config/target", f"cd {tmp_path}")
    subprocess.run(["sh", "-eu", "-c", script], check=True, timeout=20)
    opened, mutual = (tmp_path / "iscsi" / spec.name / "tpgt_1" for spec in specs)
    assert (opened / "attrib/authentication").read_text() == "0"
    assert not list((opened / "auth").iterdir())
    assert (mutual / "attrib/authentication").read_text() == "1"
    assert (mutual / "auth/userid").read_text() == "mach'ine"
    assert (mutual / "auth/password").read_text() == "initiator-$ecret-16"
    assert (mutual / "auth/userid_mutual").read_text() == "storage"
    assert (mutual / "param/MaxXmitDataSegmentLength").read_text() == "1024"
    for group in (opened, mutual):
        assert (group / "lun/lun_0/disk").resolve() == tmp_path / "core/rd_mcp_0/disk"
        assert (group / "np/0.0.0.0:3260").is_dir()
        assert (group / "enable").read_text() == "1\n"


def test_a_kernel_without_the_modules_is_told(tmp_path: Path) -> None:
    modules = tmp_path / "tree/lib/modules/6.1"
    modules.mkdir(parents=True)
    (modules / "modules.dep").write_text("")
    with pytest.raises(HarnessError, match="no module virtio_pci"):
        lay_out(tmp_path / "root", tmp_path / "tree", [TargetSpec(name=TARGET)], "nonce")
