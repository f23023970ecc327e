# SPDX-License-Identifier: LGPL-2.1-or-later
"""dracut's module, driven as dracut drives it: sourced into bash, its functions called, dracut's own functions stubbed.

The stubs record what they are asked for, so the tests state what an image would get. That real dracut is content with
it is shown by the boots (tests/qemu).
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

STUBS = r"""
record() { printf '%s\n' "$*" >> "$RECORD"; }
for name in inst_simple inst_multiple inst_hook instmods dracut_need_initqueue dinfo derror dfatal systemctl_stub; do
    eval "$name() { record $name \"\$@\"; }"
done
SYSTEMCTL=systemctl_stub
find_binary() { [[ " $BINARIES " == *" $1 "* ]] && printf '%s' "$PREFIX/bin/$1"; }
require_binaries() {
    local b
    for b in "$@"; do find_binary "$b" > /dev/null || { record missing "$b"; return 1; }; done
}
dracut_module_included() { [[ " $INCLUDED " == *" $1 "* ]]; }
for_each_host_dev_and_slaves() { local d; for d in $HOST_DEVICES; do "$1" "$d" && return 0; done; return 1; }
. "$MODULE"
"""


@dataclass(frozen=True)
class Outcome:
    status: int
    calls: list[str]
    """What the stubs recorded, in order."""
    out: str

    def asked(self, function: str) -> list[str]:
        return [call.removeprefix(f"{function} ") for call in self.calls if call.startswith(f"{function} ")]


class Dracut:
    """One run of a function of the module, with dracut's variables as keyword arguments."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.prefix = place / "usr"
        self.initdir = place / "initdir"
        self.initdir.mkdir()
        self.sysfs = place / "sys"
        (self.sysfs / "dev/block").mkdir(parents=True)
        (self.prefix / "bin").mkdir(parents=True)
        self.program(0)

    def program(self, status: int) -> None:
        """An ``iscsiboot`` that records its arguments and ends with ``status``."""
        program = self.prefix / "bin/iscsiboot"
        program.write_text(f'#!/bin/sh\nprintf "iscsiboot %s\\n" "$*" >> "$RECORD"\nexit {status}\n')
        program.chmod(0o755)

    def disk(self, number: str, device: str) -> None:
        """A block device of sysfs, ``device`` below /sys/devices."""
        real = self.sysfs / "devices" / device
        real.mkdir(parents=True)
        (self.sysfs / "dev/block" / number).symlink_to(real)

    def call(self, function: str, **variables: str) -> Outcome:
        record = self.place / "record"
        record.write_text("")
        names = {"INCLUDED": "systemd", "BINARIES": "iscsiboot modprobe", "dracutmodules": "all"} | variables
        environment = {
            "PATH": os.environ["PATH"],
            "RECORD": str(record),
            "PREFIX": str(self.prefix),
            "MODULE": str(ROOT / "dracut-module/95iscsiboot/module-setup.sh"),
            "initdir": str(self.initdir),
            "moddir": "/modules.d/95iscsiboot",
            "systemdsystemunitdir": "/usr/lib/systemd/system",
            "systemdnetwork": "/usr/lib/systemd/network",
            "systemdnetworkconfdir": "/etc/systemd/network",
            "ISCSIBOOT_SYSFS": str(self.sysfs),
        }
        # dracut's argument: check gets the value of $hostonly, unquoted
        script = f"{STUBS}\n{function} $hostonly\n"
        run = subprocess.run(
            ["bash", "-c", script], capture_output=True, text=True, check=False, env=environment | names
        )
        assert "command not found" not in run.stderr
        return Outcome(run.returncode, record.read_text().splitlines(), run.stdout)


@pytest.fixture
def dracut(tmp_path: Path) -> Dracut:
    return Dracut(tmp_path)


ISCSI_DISK = "platform/host2/session1/target2:0:0/2:0:0:1/block/sda"
LOCAL_DISK = "pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sda"


class TestCheck:
    def test_only_when_asked_in_a_general_image(self, dracut: Dracut) -> None:
        assert dracut.call("check").status == 255

    @pytest.mark.parametrize("binaries", ["modprobe", "iscsiboot"])
    def test_never_without_its_programs(self, dracut: Dracut, binaries: str) -> None:
        outcome = dracut.call("check", BINARIES=binaries)
        assert outcome.status == 1
        assert outcome.asked("missing")

    @pytest.mark.parametrize(
        ("device", "status"), [(ISCSI_DISK, 0), (LOCAL_DISK, 255)], ids=["root-on-iscsi", "root-local"]
    )
    @pytest.mark.parametrize("variable", ["hostonly", "mount_needs"])
    def test_hostonly_follows_the_running_root(self, dracut: Dracut, variable: str, device: str, status: int) -> None:
        dracut.disk("8:1", device)
        assert dracut.call("check", HOST_DEVICES="8:1", **{variable: "1"}).status == status

    def test_any_disk_below_root_decides(self, dracut: Dracut) -> None:
        dracut.disk("8:1", LOCAL_DISK)
        dracut.disk("8:17", ISCSI_DISK)
        assert dracut.call("check", hostonly="-h", HOST_DEVICES="8:1 8:17").status == 0

    def test_a_working_boot_with_open_iscsi_is_not_changed_silently(self, dracut: Dracut) -> None:
        dracut.disk("8:1", ISCSI_DISK)
        outcome = dracut.call("check", hostonly="-h", HOST_DEVICES="8:1", INCLUDED="systemd iscsi")
        assert outcome.status == 255
        assert "omit_dracutmodules" in outcome.asked("dinfo")[0]

    @pytest.mark.parametrize("variable", ["add_dracutmodules", "force_add_dracutmodules", "dracutmodules"])
    def test_both_asked_for_ends_dracut_with_the_way_out(self, dracut: Dracut, variable: str) -> None:
        outcome = dracut.call("check", **{variable: "base iscsi iscsiboot"})
        assert outcome.status == 1
        (message,) = outcome.asked("dfatal")
        assert "--omit iscsi " in message
        assert "--omit iscsiboot " in message

    @pytest.mark.parametrize("omitted", ["iscsi", "iscsiboot"])
    def test_what_is_omitted_is_no_conflict(self, dracut: Dracut, omitted: str) -> None:
        outcome = dracut.call("check", add_dracutmodules="iscsi iscsiboot", omit_dracutmodules=omitted)
        assert outcome.status == 255
        assert not outcome.asked("dfatal")

    def test_names_are_compared_whole(self, dracut: Dracut) -> None:
        assert dracut.call("check", add_dracutmodules="iscsiboot iscsi-other").status == 255


def test_it_depends_on_no_network_module(dracut: Dracut) -> None:
    assert dracut.call("depends").out.split() == ["udev-rules", "rootfs-block"]


class TestInstallkernel:
    def test_session_modules_are_always_there_and_nics_follow_hostonly(self, dracut: Dracut) -> None:
        stub = 'instmods() { record instmods "hostonly=$hostonly" "$@"; }; installkernel'
        always, optional, nics = dracut.call(stub, hostonly="-h").asked("instmods")
        assert {"iscsi_tcp", "libiscsi", "scsi_transport_iscsi", "sd_mod"} <= set(always.split())
        assert always.startswith("hostonly= ")
        assert "-s" not in always.split(), "an image without these cannot boot: dracut must complain"
        assert {"-s", "iscsi_ibft", "8021q"} <= set(optional.split())
        assert {"hostonly=-h", "=drivers/net/ethernet", "virtio_net"} <= set(nics.split())

    @pytest.mark.parametrize(
        ("module", "included", "wanted"),
        [
            ("iscsi_ibft.ko", "systemd", True),
            ("iscsi_ibft.ko.zst", "systemd", True),
            ("iscsi_tcp.ko", "systemd", False),
            ("iscsi_ibft.ko", "base", False),
        ],
        ids=["module", "compressed-module", "no-such-module", "no-systemd"],
    )
    def test_the_table_module_is_loaded_early_where_the_image_has_it(
        self, dracut: Dracut, module: str, included: str, wanted: bool
    ) -> None:
        place = dracut.initdir / "lib/modules/6.1.0/kernel/drivers"
        place.mkdir(parents=True)
        (place / module).touch()
        installed = dracut.call("installkernel", INCLUDED=included).asked("inst_simple")
        hooks = f"{dracut.prefix}/lib/iscsiboot/hooks"
        expected = [
            f"{hooks}/iscsiboot.modules-load.conf /usr/lib/modules-load.d/iscsiboot.conf",
            f"{hooks}/iscsiboot-root.ibft.conf /usr/lib/systemd/system/iscsiboot-root.service.d/ibft.conf",
        ]
        assert installed == (expected if wanted else [])


class TestInstall:
    def test_the_program_decides_what_goes_in(self, dracut: Dracut) -> None:
        outcome = dracut.call("install")
        assert outcome.status == 0
        assert outcome.asked("iscsiboot") == [f"image --stage {dracut.initdir}"]
        assert "modprobe" in outcome.asked("inst_multiple")

    def test_an_image_for_this_machine_alone_is_told_as_one(self, dracut: Dracut) -> None:
        """Its initiator name goes in; into an image for many machines it must not."""
        outcome = dracut.call("install", hostonly="-h")
        assert outcome.asked("iscsiboot") == [f"image --host-only --stage {dracut.initdir}"]

    def test_a_sysroot_is_handed_on(self, dracut: Dracut, tmp_path: Path) -> None:
        target = tmp_path / "target" / str(dracut.prefix).lstrip("/") / "bin"
        target.mkdir(parents=True)
        (target / "iscsiboot").write_text((dracut.prefix / "bin/iscsiboot").read_text())
        (target / "iscsiboot").chmod(0o755)
        outcome = dracut.call("install", dracutsysrootdir=str(tmp_path / "target"))
        assert outcome.asked("iscsiboot") == [f"image --sysroot {tmp_path}/target --stage {dracut.initdir}"]

    def test_with_systemd_the_units_are_wanted_and_no_hook_runs(self, dracut: Dracut) -> None:
        outcome = dracut.call("install", INCLUDED="systemd udev-rules")
        units = f"{dracut.prefix}/lib/systemd/system"
        for unit in ("iscsiboot-root.service", "iscsiboot-root-mounted.service"):
            assert f"{units}/{unit} /usr/lib/systemd/system/{unit}" in outcome.asked("inst_simple")
            assert f"-q --root {dracut.initdir} add-wants initrd.target {unit}" in outcome.asked("systemctl_stub")
        assert not outcome.asked("inst_hook")

    def test_without_systemd_the_hooks_run_and_no_unit_is_there(self, dracut: Dracut) -> None:
        outcome = dracut.call("install", INCLUDED="base")
        assert outcome.asked("inst_hook") == [
            "pre-trigger 50 /modules.d/95iscsiboot/iscsiboot-start.sh",
            "initqueue 10 /modules.d/95iscsiboot/iscsiboot-wait.sh",
            "initqueue/finished 10 /modules.d/95iscsiboot/iscsiboot-finished.sh",
            f"pre-pivot 05 {dracut.prefix}/lib/iscsiboot/hooks/mark-root-mounted.sh",
        ]
        assert not [call for call in outcome.asked("inst_simple") if ".service" in call]

    def test_every_file_it_installs_is_installed_by_make(self, dracut: Dracut, tmp_path: Path) -> None:
        staged = tmp_path / "staged"
        subprocess.run(["make", "-s", "-C", str(ROOT), "install", f"DESTDIR={staged}", "PREFIX=/usr"], check=True)
        (dracut.initdir / "lib/modules").mkdir(parents=True)
        (dracut.initdir / "lib/modules/iscsi_ibft.ko").touch()
        for included in ("systemd", "base"):
            outcome = dracut.call("install; installkernel", INCLUDED=included)
            paths = [call.split()[0] for call in outcome.asked("inst_simple")]
            paths += [call.split()[2] for call in outcome.asked("inst_hook")]
            assert paths
            for path in paths:
                installed = path.replace(str(dracut.prefix), "/usr").replace("/modules.d", "/usr/lib/dracut/modules.d")
                assert (staged / installed.lstrip("/")).is_file(), path

    def test_nic_names_of_the_host_only_in_its_own_image(self, dracut: Dracut) -> None:
        general = dracut.call("install").asked("inst_multiple")
        assert "-o /usr/lib/systemd/network/*.link" in general
        assert not [call for call in general if "/etc/" in call]
        assert "-H -o /etc/systemd/network/*.link" in dracut.call("install", hostonly="-h").asked("inst_multiple")

    def test_an_image_that_cannot_be_made_ends_dracut(self, dracut: Dracut) -> None:
        dracut.program(1)
        outcome = dracut.call("install; record went on")
        assert outcome.status == 1
        assert outcome.asked("dfatal")
        assert "went on" not in outcome.calls

    def test_dracuts_own_module_beside_it_ends_dracut_before_anything_is_installed(self, dracut: Dracut) -> None:
        outcome = dracut.call("install; record went on", INCLUDED="systemd iscsi")
        assert outcome.status == 1
        assert [call.split()[0] for call in outcome.calls] == ["dfatal"]
