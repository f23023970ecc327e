# SPDX-License-Identifier: LGPL-2.1-or-later
"""Boots that must reach multi-user with their root on iSCSI, and what may not be in the images they boot from."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from iscsiboot.model.timeline import Mark
from tests.qemu.harness.cases import BOOTS, BootCase
from tests.qemu.harness.disk import Variant
from tests.qemu.harness.firmware import Lane
from tests.qemu.harness.run import BootResult, Laboratory, boot

pytestmark = [pytest.mark.boot, pytest.mark.root]

WANTED_MARKS = {
    Mark.KERNEL,
    Mark.TABLE_READ,
    Mark.LINK,
    Mark.ADDRESS,
    Mark.LOGIN,
    Mark.DISK,
    Mark.ROOT_MOUNTED,
    Mark.MULTI_USER,
}
PEERS_FILES = re.compile(
    r"(?:^|/)(?:iscsid|iscsiadm|iscsiuio|iscsid\.conf|libopeniscsiusr\.so[.0-9]*|open-iscsi[^/]*)$"
)


@pytest.mark.parametrize("case", BOOTS, ids=lambda case: case.name)
def test_reaches_multi_user_with_its_root_on_iscsi(case: BootCase, laboratory: Laboratory) -> None:
    """The verdict's own checks (nonce, disk, session, target, no open-iscsi) are in :func:`boot`."""
    result = boot(case, laboratory)
    check_timeline(result)
    check_authentication(case, result)
    check_keeper(result)
    assert result.verdict.said["root"]["options"].split(",")[0] == "rw"
    found = "iBFT found at" if case.lane is Lane.IPXE_BIOS else "iBFT detected"
    assert found in result.verdict.said["ibft"]
    assert result.powered_off, f"the machine did not power off by itself, see {result.log}"


def check_timeline(result: BootResult) -> None:
    """Every wanted mark is there, once, and in the order of a boot. (Connecting may take two attempts.)"""
    entries = result.verdict.timeline()
    order = [entry.mark for entry in entries if entry.mark in WANTED_MARKS]
    assert order == sorted(WANTED_MARKS, key=list(Mark).index)
    assert entries[-1].at < result.verdict.received_at
    assert result.verdict.firmware_seconds > 0


def check_keeper(result: BootResult) -> None:
    """One keeper has come through switch-root, owes nothing to the initramfs, and would hand the session over."""
    said = result.verdict.said
    (keeper,) = said["keepers"]
    assert keeper["argv0"] == "@iscsiboot-keeper"
    assert keeper["comm"] == "iscsiboot-keepe"
    assert keeper["locked_kib"] >= keeper["resident_kib"] * 0.9
    assert keeper["oom_score_adj"] == -1000
    assert keeper["cgroup"] == "0::/init.scope"
    assert keeper["root"] == ["dev", "proc", "run", "sys"]
    assert sorted(keeper["mounts"]) == ["/", "/proc", "/run/iscsiboot", "/sys"]
    assert not keeper["mapped"], "a file it runs from is on a file system that is still there"
    sid = result.verdict.session["name"].removeprefix("session")
    assert said["hand_over"] == {sid: result.verdict.session["targetname"]}
    assert said["keepers_afterwards"] == [keeper["pid"]]
    assert said["state_files"] == [f"{sid}.json"]
    ready = [entry for entry in result.verdict.timeline() if entry.mark is Mark.KEEPER]
    assert [entry.detail for entry in ready] == [f"process {keeper['pid']}"]
    assert not [line.text for line in result.lines if re.search(r"iscsistart: (no )?keeper", line.text)]


def test_without_a_keeper_there_is_none(laboratory: Laboratory) -> None:
    """The control of what is looked for above, and what the kernel's command line is for: the boot is the same else."""
    result = boot(BOOTS[1], laboratory, extra=("rd.iscsiboot.keeper=0",))
    said = result.verdict.said
    assert said["keepers"] == []
    assert "ConnectionRefusedError" in said["hand_over"]["error"]
    assert len(said["state_files"]) == 1, "for the daemon there is a file in any case"
    assert Mark.KEEPER not in {entry.mark for entry in result.verdict.timeline()}


def check_authentication(case: BootCase, result: BootResult) -> None:
    """The kernel's session was made with the names of this case's credentials."""
    session, wanted = result.verdict.session, case.credentials
    assert session["username"] == (wanted.outgoing.name if wanted else "(null)")
    assert session["username_in"] == (wanted.incoming.name if wanted and wanted.incoming else "(null)")


@pytest.mark.parametrize("variant", [Variant.SYSTEMD, Variant.SHELL], ids=lambda variant: variant.value)
def test_initramfs_has_our_program_and_nothing_of_open_iscsi(variant: Variant, laboratory: Laboratory) -> None:
    names = archive_names(laboratory.builder.files(variant).initramfs)
    assert [name for name in names if name.endswith("sbin/iscsistart")]
    assert not [name for name in names if PEERS_FILES.search(name)]
    systemd = [name for name in names if name.endswith("lib/systemd/systemd")]
    assert bool(systemd) is (variant is Variant.SYSTEMD)


def test_initramfs_of_the_control_lacks_one_kernel_module_only(laboratory: Laboratory) -> None:
    """Else that control could fail for another reason than its own."""
    whole = kernel_modules(laboratory.builder.files(Variant.SYSTEMD).initramfs)
    control = kernel_modules(laboratory.builder.files(Variant.WITHOUT_ISCSI_TCP).initramfs)
    assert whole - control == {"iscsi_tcp"}
    assert not control - whole


def archive_names(image: Path) -> list[str]:
    """The paths in a zstd-compressed cpio archive."""
    archive = subprocess.run(["zstd", "-dcq", str(image)], stdout=subprocess.PIPE, check=True).stdout
    listing = subprocess.run(["cpio", "-t", "--quiet"], input=archive, stdout=subprocess.PIPE, check=True).stdout
    return listing.decode().splitlines()


def kernel_modules(image: Path) -> set[str]:
    """Names of the kernel modules in an initramfs."""
    return {Path(name).name.removesuffix(".ko") for name in archive_names(image) if name.endswith(".ko")}
