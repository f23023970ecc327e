# SPDX-License-Identifier: LGPL-2.1-or-later
"""What each firmware lane hands to the machine."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from iscsiboot.ibft.convert import to_boot_config
from iscsiboot.ibft.parser import parse
from iscsiboot.model.boot import BootConfig
from iscsiboot.model.credentials import Credentials
from tests.qemu.harness.cases import CHAP, INCOMING, INITIATOR, MUTUAL, OUTGOING, TARGET
from tests.qemu.harness.firmware import FirmwareSpec, Lane, ipxe_script, table_bytes, with_firmware
from tests.qemu.harness.machine import DEFAULT_MAC, MachineSpec

SPEC = FirmwareSpec(initiator=INITIATOR, target=TARGET, port=3261, lun=1, mac=DEFAULT_MAC)
MACHINE = MachineSpec(accel=())


def config_of(spec: FirmwareSpec) -> BootConfig:
    config, _ = to_boot_config(parse(table_bytes(spec)), "test")
    assert config is not None
    return config


def test_the_table_says_what_the_spec_says() -> None:
    config = config_of(SPEC)
    (target,) = config.targets
    nic = config.nic_of(target)
    assert config.initiator_name is not None
    assert nic is not None
    assert nic.mac is not None
    assert nic.address is not None
    assert (config.initiator_name.value, target.name.value, target.port.value) == (INITIATOR, TARGET, 3261)
    assert target.address.value == IPv4Address("10.0.2.2")
    assert target.lun.value.kernel == 1
    assert (nic.mac.value, nic.address.value) == (DEFAULT_MAC, IPv4Address("10.0.2.15"))
    assert nic.dhcp is None or not nic.dhcp.value
    assert target.credentials is None


def test_dhcp() -> None:
    nic = config_of(replace(SPEC, dhcp=True)).nics[0]
    assert nic.dhcp is not None
    assert nic.dhcp.value is True


@pytest.mark.parametrize("credentials", [CHAP, MUTUAL], ids=["chap", "mutual"])
def test_credentials(credentials: Credentials) -> None:
    found = config_of(replace(SPEC, credentials=credentials)).targets[0].credentials
    assert found is not None
    assert found.value == credentials


def test_a_bad_checksum_is_really_bad_and_the_only_fault() -> None:
    good, bad = table_bytes(SPEC), table_bytes(replace(SPEC, checksum_ok=False))
    assert sum(good) % 256 == 0
    assert sum(bad) % 256 != 0
    assert [place for place, (one, other) in enumerate(zip(good, bad, strict=True)) if one != other] == [9]


def test_ipxe_script() -> None:
    lines = ipxe_script(SPEC, ("a=1", "b")).splitlines()
    assert lines[0] == "#!ipxe"
    assert f"set initiator-iqn {INITIATOR}" in lines
    assert "set keep-san 1" in lines
    assert f"sanhook --drive 0x80 iscsi:10.0.2.2::3261:1:{TARGET} || goto lost" in lines
    assert "kernel tftp://10.0.2.2/kernel a=1 b initrd=initramfs || goto lost" in lines
    assert lines.index(":lost") > lines.index("boot || goto lost")
    assert lines[-1] == "poweroff", "a firmware that cannot go on must end the machine"
    assert not any("username" in line or "password" in line for line in lines)


def test_ipxe_lun_is_hexadecimal() -> None:
    assert f"::3261:1f:{TARGET}" in ipxe_script(replace(SPEC, lun=31), ())


def test_ipxe_credentials() -> None:
    lines = ipxe_script(replace(SPEC, credentials=MUTUAL), ()).splitlines()
    for name, chap in (("", OUTGOING), ("reverse-", INCOMING)):
        assert f"set {name}username {chap.name}" in lines
        assert f"set {name}password {chap.secret.reveal().decode()}" in lines
    assert not any("reverse" in line for line in ipxe_script(replace(SPEC, credentials=CHAP), ()).splitlines())


@pytest.fixture
def boot_files(tmp_path: Path) -> dict[str, Path]:
    files = {"kernel": tmp_path / "k", "initramfs": tmp_path / "i", "runtime": tmp_path / "run"}
    files["kernel"].write_bytes(b"kernel")
    files["initramfs"].write_bytes(b"initramfs")
    files["runtime"].mkdir()
    return files


def lane(which: Lane, files: dict[str, Path]) -> MachineSpec:
    return with_firmware(
        MACHINE,
        which,
        SPEC,
        kernel=files["kernel"],
        initramfs=files["initramfs"],
        arguments=("root=x",),
        runtime=files["runtime"],
    )


def test_table_lane(boot_files: dict[str, Path]) -> None:
    spec = lane(Lane.TABLE, boot_files)
    assert spec.acpi_table is not None
    assert spec.acpi_table.read_bytes() == table_bytes(SPEC)
    assert (spec.kernel, spec.initrd, spec.append) == (boot_files["kernel"], boot_files["initramfs"], ("root=x",))
    assert spec.low_memory is None
    assert spec.tftp is None


def test_low_memory_lane(boot_files: dict[str, Path]) -> None:
    spec = lane(Lane.LOWMEM, boot_files)
    assert spec.low_memory is not None
    path, address = spec.low_memory
    assert path.read_bytes() == table_bytes(SPEC)
    assert address % 16 == 0, "the kernel looks at every 16th byte only"
    assert address >= 0x80000
    assert address + len(table_bytes(SPEC)) <= 0x9FC00, "the BIOS's extended data area begins there"
    assert spec.acpi_table is None


def test_ipxe_lane(boot_files: dict[str, Path]) -> None:
    spec = lane(Lane.IPXE_BIOS, boot_files)
    assert spec.tftp is not None
    directory, name = spec.tftp
    assert (directory / name).read_text() == ipxe_script(SPEC, ("root=x",))
    assert (directory / "kernel").read_bytes() == b"kernel"
    assert (directory / "initramfs").read_bytes() == b"initramfs"
    assert spec.kernel is None
    assert spec.append == ()
