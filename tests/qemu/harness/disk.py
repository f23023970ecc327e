# SPDX-License-Identifier: LGPL-2.1-or-later
"""Root disk, kernel and initramfs of the machine under test, made from Debian packages and ``make install``.

Three layers, each cached under a key of what goes into it:

* ``base``: a Debian 12 tree (mmdebstrap, about a minute). Its key holds suite and packages, never our code;
* ``disk``: the tree with ``make install`` of this checkout and the test's own files over it, as an ext4 image;
* ``initramfs``: what dracut makes inside the same tree, one a :class:`Variant`.

After a change of our code only the last two are made again. No open-iscsi is in any of them; a boot test asserts it.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tests.qemu.harness.cache import Cache, digest, digest_tree
from tests.qemu.harness.errors import CHECKOUT, HarnessError
from tests.qemu.harness.process import Tell, run_long

SUITE = "bookworm"
PACKAGES = (
    *("systemd-sysv", "udev", "kmod", "login", "procps", "iproute2", "e2fsprogs", "linux-image-amd64"),
    *("dracut", "cpio", "zstd", "binutils", "python3", "python3-pyroute2", "python3-pyudev", "python3-pyelftools"),
)
LABEL = "iscsiboot-root"
DISK_MIB = 1024
GUEST_MODULES_LEFT_OUT = (
    *("drivers/gpu", "drivers/media", "drivers/net/wireless", "drivers/net/can", "drivers/net/usb", "sound"),
    *("drivers/net/ethernet", "drivers/scsi", "drivers/hid", "drivers/watchdog", "drivers/mmc", "drivers/iio"),
    *("drivers/usb/serial", "drivers/usb/gadget", "drivers/isdn", "drivers/staging", "drivers/hwmon", "drivers/ata"),
    *("fs/ocfs2", "fs/gfs2", "fs/f2fs", "fs/ceph", "fs/smb", "fs/btrfs", "fs/reiserfs", "fs/jfs", "fs/nilfs2"),
)
"""Drivers of hardware no QEMU machine has: an initramfs for any hardware would carry them, and the emulated processor
would spend ten seconds a boot on unpacking them. What the project needs is decided by dracut from what is left."""
GUEST_MODULES_KEPT = (
    *("drivers/net/ethernet/intel/e1000", "drivers/net/ethernet/intel/e1000e", "drivers/net/ethernet/realtek"),
    *("drivers/scsi/device_handler", "drivers/scsi/*iscsi*", "drivers/scsi/scsi_*.ko", "drivers/scsi/s[dgrt]*_mod.ko"),
    *("drivers/scsi/virtio_scsi.ko", "drivers/scsi/sg.ko", "drivers/ata/libata.ko", "drivers/ata/ata_piix.ko"),
)
"""What of the directories above stays: the NICs QEMU emulates, SCSI without its adapters, the machine's own disks."""

_HERE = Path(__file__).resolve().parent
_GUEST_FILES = (
    ("verdict.py", "usr/libexec/iscsiboot-test/verdict.py", 0o755),
    ("verdict.service", "etc/systemd/system/iscsiboot-verdict.service", 0o644),
    ("kill-steps.sh", "usr/libexec/iscsiboot-test/kill-steps.sh", 0o755),
    ("kill-steps.service", "etc/systemd/system/iscsiboot-kill-steps.service", 0o644),
    ("kill_steps.py", "usr/libexec/iscsiboot-test/tests/qemu/guest/kill_steps.py", 0o644),
    ("attach_once.py", "usr/libexec/iscsiboot-test/tests/qemu/guest/attach_once.py", 0o644),
    ("daemon_root.py", "usr/libexec/iscsiboot-test/tests/qemu/guest/daemon_root.py", 0o644),
    ("daemon_machine.py", "usr/libexec/iscsiboot-test/tests/qemu/guest/daemon_machine.py", 0o644),
    ("daemon_trials.py", "usr/libexec/iscsiboot-test/tests/qemu/guest/daemon_trials.py", 0o644),
    ("daemon_units.py", "usr/libexec/iscsiboot-test/tests/qemu/guest/daemon_units.py", 0o644),
    ("../daemon/load.py", "usr/libexec/iscsiboot-test/tests/qemu/daemon/load.py", 0o644),
    ("../daemon/processes.py", "usr/libexec/iscsiboot-test/tests/qemu/daemon/processes.py", 0o644),
    ("daemon-root.service", "etc/systemd/system/iscsiboot-daemon-root.service", 0o644),
    ("autologin.conf", "etc/systemd/system/serial-getty@ttyS0.service.d/autologin.conf", 0o644),
    ("fstab", "etc/fstab", 0o644),
)
"""Test-only files of the disk: name in tests/qemu/guest, path in the disk, mode."""


class Variant(Enum):
    """An initramfs; the value is its name in the cache."""

    SYSTEMD = "systemd"
    SHELL = "shell"
    """dracut's own shell init, no systemd in the image."""
    WITHOUT_ISCSI_TCP = "without-iscsi-tcp"
    """:attr:`SYSTEMD` with that kernel module taken out: a control."""
    PLAIN = "plain"
    """No code of ours, for the harness's own tests from a local disk."""


_OMITTED = "crypt dm nvdimm resume lunmask overlay-root virtiofs kernel-modules-extra"
"""dracut modules for storage this machine does not have."""
_COMMON = ("--compress", "zstd -3 -T0", "--omit")
DRACUT_ARGUMENTS: dict[Variant, tuple[str, ...]] = {
    Variant.SYSTEMD: (*_COMMON, _OMITTED, "--add", "iscsiboot"),
    Variant.SHELL: (*_COMMON, f"{_OMITTED} systemd", "--add", "iscsiboot"),
    Variant.WITHOUT_ISCSI_TCP: (*_COMMON, _OMITTED, "--add", "iscsiboot", "--omit-drivers", "iscsi_tcp"),
    Variant.PLAIN: (*_COMMON, f"{_OMITTED} iscsiboot"),
}

_STUB_HOOK = (  # kernel and dracut packages call this script to make an initramfs; it must exist and do nothing
    'mkdir -p "$1/etc/kernel/postinst.d" && printf "#!/bin/sh\\n" >"$1/etc/kernel/postinst.d/dracut"'
    ' && chmod 755 "$1/etc/kernel/postinst.d/dracut"'
)


PRIVATE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
"""Mounts and processes of a build are its own and end with it, also when it is killed half way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BootFiles:
    """What a boot needs from the cache. The disk is never written: every boot runs on a copy."""

    disk: Path
    disk_nonce: str
    """Written into the disk when it was built; the verdict has to say it."""
    kernel: Path
    initramfs: Path


class DiskBuilder:
    """Builds and finds the layers for one checkout."""

    def __init__(self, cache: Cache, *, tell: Tell, checkout: Path = CHECKOUT) -> None:
        self._cache = cache
        self._tell = tell
        self._checkout = checkout
        self._known: dict[Variant, BootFiles] = {}

    def files(self, variant: Variant) -> BootFiles:
        """Disk, kernel and the initramfs of ``variant``, built as far as they are not in the cache.

        Looked for once: one run boots one state of the checkout, also when it is edited meanwhile.
        """
        if variant not in self._known:
            self._known[variant] = self._find(variant)
        return self._known[variant]

    def tree(self) -> Path:
        """The Debian tree below everything: kernel, modules and programs, nothing of ours. Only read it."""
        return self._cache.entry("base", base_key(), self._build_base) / "tree"

    def _find(self, variant: Variant) -> BootFiles:
        base = self.tree().parent
        kernel = one(base / "tree/boot", "vmlinuz-*")
        with tempfile.TemporaryDirectory(prefix="iscsiboot-install-") as name:
            stage = Path(name)
            self._install(stage, ours=variant is not Variant.PLAIN)
            key = digest(base.name, digest_tree(stage), (_HERE / "in-tree.sh").read_bytes(), f"{DISK_MIB} {LABEL}")
            disk = self._cache.entry("disk", key, lambda work: self._build_disk(work, base, stage, key))
            arguments = DRACUT_ARGUMENTS[variant]
            image = self._cache.entry(
                f"initramfs-{variant.value}",
                digest(key, *arguments),
                lambda work: self._build_initramfs(work, base, stage, kernel.name.removeprefix("vmlinuz-"), arguments),
            )
        nonce = (disk / "nonce").read_text()
        return BootFiles(disk=disk / "disk.img", disk_nonce=nonce, kernel=kernel, initramfs=image / "initramfs.img")

    def _build_base(self, work: Path) -> None:
        argv = mmdebstrap_command(work / "tree", apt_sources(Path("/etc/apt")), apt_proxy())
        run_long([*PRIVATE, *argv], what="Debian tree", log=work / "build.log", seconds=1800, tell=self._tell)

    def _install(self, stage: Path, *, ours: bool) -> None:
        """``make install`` and the test's own files, as they will lie in the disk."""
        if ours:
            argv = ["make", "-s", "-C", str(self._checkout), "install", f"DESTDIR={stage}", "PREFIX=/usr"]
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
            if done.returncode:
                raise HarnessError(f"make install: {' | '.join(done.stderr.splitlines()[-4:])}")
        for source, target, mode in _GUEST_FILES:
            path = stage / target
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(_HERE.parent / "guest" / source, path)
            path.chmod(mode)
        (stage / "etc/hostname").write_text("iscsiboot-test\n")
        # Without D-Bus systemd starts terminals on tty2 to tty6 for nobody to see.
        (stage / "etc/systemd/system/getty-static.service").symlink_to("/dev/null")
        wants = stage / "etc/systemd/system/multi-user.target.wants"
        wants.mkdir()
        for unit in ("iscsiboot-verdict.service", "iscsiboot-kill-steps.service", "iscsiboot-daemon-root.service"):
            (wants / unit).symlink_to(f"../{unit}")

    def _build_disk(self, work: Path, base: Path, stage: Path, key: str) -> None:
        # An empty machine-id would make systemd treat each boot as the first: presets, setup, minutes.
        files = work / "files"
        shutil.copytree(stage, files, symlinks=True)
        (files / "etc/machine-id").write_text(digest(key) * 2 + "\n")
        (work / "nonce").write_text(key)
        (files / "etc/iscsiboot-disk").write_text(key)
        self._in_tree("disk", work, base, files, work / "disk.img", (str(DISK_MIB), LABEL), "root disk")
        shutil.rmtree(files)

    def _build_initramfs(self, work: Path, base: Path, stage: Path, release: str, arguments: Sequence[str]) -> None:
        self._in_tree("initramfs", work, base, stage, work / "initramfs.img", (release, *arguments), "initramfs")

    def _in_tree(
        self, action: str, work: Path, base: Path, files: Path, output: Path, extra: Sequence[str], what: str
    ) -> None:
        scratch = work / "scratch"
        scratch.mkdir()
        inside = ["/bin/sh", str(_HERE / "in-tree.sh"), action, *map(str, (base / "tree", files, scratch, output))]
        run_long([*PRIVATE, "--net", *inside, *extra], what=what, log=work / "build.log", seconds=600, tell=self._tell)
        shutil.rmtree(scratch)


def base_key() -> str:
    """The key of the Debian tree: nothing of our code is in it."""
    return digest(SUITE, *PACKAGES, *GUEST_MODULES_LEFT_OUT, *GUEST_MODULES_KEPT, _STUB_HOOK)


def mmdebstrap_command(
    tree: Path, sources: Sequence[Path], proxy: str, *, packages: Sequence[str] = PACKAGES
) -> list[str]:
    """The command that makes the tree from the host's own package sources."""
    filters = [f"path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale")]
    filters += [f"path-exclude=/lib/modules/*/kernel/{part}/*" for part in GUEST_MODULES_LEFT_OUT]
    # dpkg goes by the last filter that matches.
    filters += [f"path-include=/lib/modules/*/kernel/{part}*" for part in GUEST_MODULES_KEPT]
    argv = ["mmdebstrap", "--mode=root", "--variant=minbase", f"--include={','.join(packages)}"]
    argv += [f"--dpkgopt={rule}" for rule in filters]
    argv += ["--dpkgopt=force-confold", f"--essential-hook={_STUB_HOOK}"]
    if proxy:
        argv.append(f"--aptopt=Acquire::http::Proxy {proxy!r}".replace("'", '"'))
    return [*argv, SUITE, str(tree), *map(str, sources)]


def apt_sources(apt: Path) -> list[Path]:
    """The host's package source files that speak of :data:`SUITE`; empty lets mmdebstrap use its own default."""
    candidates = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*.list"))]
    candidates += sorted((apt / "sources.list.d").glob("*.sources"))
    return [path for path in candidates if path.is_file() and SUITE in path.read_text(errors="replace")]


def apt_proxy() -> str:
    """The proxy the host's apt uses, empty for none."""
    argv = ["apt-config", "shell", "proxy", "Acquire::http::Proxy"]
    said = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False).stdout
    return said.strip().removeprefix("proxy=").strip("'")


def one(directory: Path, pattern: str) -> Path:
    """The only file of ``directory`` that matches."""
    found = sorted(directory.glob(pattern))
    if len(found) != 1:
        raise HarnessError(f"{directory}: {len(found)} files match {pattern}, expected one")
    return found[0]
