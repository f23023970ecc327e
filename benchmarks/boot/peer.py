# SPDX-License-Identifier: LGPL-2.1-or-later
"""The peer's initramfs: Debian's own initramfs-tools with open-iscsi, made in a Debian tree of its own.

Same suite, kernel package and kernel module filter as the tree our image is made in, same compressor and level. Only
the initramfs is taken from that tree: kernel and root disk of both are the same files.
"""

from __future__ import annotations

from pathlib import Path

from tests.qemu.harness.cache import Cache, digest
from tests.qemu.harness.disk import (
    GUEST_MODULES_KEPT,
    GUEST_MODULES_LEFT_OUT,
    PRIVATE,
    SUITE,
    apt_proxy,
    apt_sources,
    mmdebstrap_command,
    one,
)
from tests.qemu.harness.errors import HarnessError
from tests.qemu.harness.process import Tell, run_long

PACKAGES = (
    *("systemd-sysv", "udev", "kmod", "login", "procps", "iproute2", "e2fsprogs", "linux-image-amd64"),
    *("initramfs-tools", "cpio", "zstd", "open-iscsi"),
)
ARGUMENT = "iscsi_auto"
"""Kernel argument that makes the peer's script use the firmware's table."""

_CONFIGURE = (
    "set -eu; cd $1; "
    "printf 'InitiatorName=iqn.1993-08.org.debian:01:benchmark\\n' >etc/iscsi/initiatorname.iscsi; "
    "mkdir -p etc/initramfs-tools/conf.d; "
    "printf 'MODULES=most\\nCOMPRESS=zstd\\nCOMPRESSLEVEL=3\\n' >etc/initramfs-tools/conf.d/benchmark; "
    "release=$(basename boot/vmlinuz-* | sed s/vmlinuz-//); "
    "mount -t proc proc proc; mount -t sysfs -o ro sysfs sys; mount --rbind /dev dev; mount -t tmpfs tmpfs tmp; "
    "chroot . /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "
    "mkinitramfs -o /boot/peer.img $release"
)


def peer_initramfs(cache: Cache, tell: Tell, *, kernel: Path) -> Path:
    """The image, from the cache or made now. HarnessError when its kernel is not the one our boots use."""

    def build(work: Path) -> None:
        tree = work / "tree"
        argv = mmdebstrap_command(tree, apt_sources(Path("/etc/apt")), apt_proxy(), packages=PACKAGES)
        run_long([*PRIVATE, *argv], what="Debian tree with open-iscsi", log=work / "build.log", seconds=1800, tell=tell)
        configure = ["/bin/sh", "-c", _CONFIGURE, "sh", str(tree)]
        run_long([*PRIVATE, *configure], what="the peer's image", log=work / "build.log", seconds=600, tell=tell)
        (work / "release").write_text(one(tree / "boot", "vmlinuz-*").name)

    key = digest(SUITE, *PACKAGES, *GUEST_MODULES_LEFT_OUT, *GUEST_MODULES_KEPT, _CONFIGURE)
    entry = cache.entry("peer", key, build)
    if (entry / "release").read_text() != kernel.name:
        raise HarnessError(
            f"the peer's image is for {(entry / 'release').read_text()}, our boots use {kernel.name}: "
            "the archive has moved on between the two builds; remove both from the cache"
        )
    return entry / "tree/boot/peer.img"
