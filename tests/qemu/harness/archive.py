# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest that is one initramfs and no disk: Debian packages from the cache, and over them what a run brings along.

It boots in seconds, and whatever a program writes there goes to memory and is gone with the guest. The base is built
once under a key of everything it is made from; the overlay is packed for each run.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.qemu.harness.cache import Cache, digest
from tests.qemu.harness.disk import PRIVATE, SUITE, apt_proxy, apt_sources, mmdebstrap_command, one
from tests.qemu.harness.errors import CHECKOUT
from tests.qemu.harness.process import Tell, run_long

PACK_SECONDS = 600.0
BUILD_SECONDS = 1800.0

_PACK = """
set -eu
tree=$1 output=$2 finish=$3; shift 3
release=$(basename "$tree"/boot/vmlinuz-* | sed s/vmlinuz-//)
cp "$tree/boot/vmlinuz-$release" "$output/"
for module in "$@"; do chroot "$tree" modprobe -S "$release" --show-depends "$module"; done >"$output/modules"
if [ -n "$finish" ]; then chroot "$tree" /bin/sh -euc "$finish"; fi
cd "$tree"
{
    find . -xdev \\( -path ./boot -o -path ./usr/lib/modules -o -path ./var/cache -o -path ./var/lib/apt \\
        -o -name 'perl*' -o -name 'hwdb*' -o -path ./usr/lib/x86_64-linux-gnu/gconv \\) -prune -o -print
    printf '%s\\n' ./usr/lib/modules "./usr/lib/modules/$release"
    find "./usr/lib/modules/$release" -maxdepth 1 -name 'modules.*'
    sed -n 's,^insmod .*/lib/modules/,./usr/lib/modules/,p' "$output/modules" | while read -r file; do
        until [ "$file" = ./usr/lib/modules ]; do echo "$file"; file=${file%/*}; done
    done
} | sort -u | cpio --quiet -o -H newc >"$output/base.cpio"
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What a guest is made from."""

    name: str
    """Its kind in the cache."""
    packages: tuple[str, ...]
    modules: tuple[str, ...]
    """Kernel modules that come along, with what they need; the guest's process 1 loads them."""
    finish: str = ""
    """Shell commands run in the tree, with ``-eu``, before it is packed."""

    def key(self) -> str:
        """Changes with anything that goes into the archive."""
        return digest(SUITE, *self.packages, *self.modules, self.finish, _PACK)


@dataclass(frozen=True, slots=True)
class Base:
    """A built recipe."""

    kernel: Path
    archive: Path


def base(recipe: Recipe, cache: Cache, tell: Tell) -> Base:
    """The recipe's kernel and archive, from the cache or made now (a minute or two)."""

    def build(work: Path) -> None:
        tree, log = work / "tree", work / "build.log"
        argv = mmdebstrap_command(tree, apt_sources(Path("/etc/apt")), apt_proxy(), packages=recipe.packages)
        what = f"Debian tree {recipe.name}"
        run_long([*PRIVATE, *argv], what=what, log=log, seconds=BUILD_SECONDS, tell=tell)
        pack = ["/bin/sh", "-c", _PACK, "sh", str(tree), str(work), recipe.finish, *recipe.modules]
        run_long([*PRIVATE, *pack], what=f"archive {recipe.name}", log=log, seconds=PACK_SECONDS, tell=tell)
        shutil.rmtree(tree)

    entry = cache.entry(recipe.name, recipe.key(), build)
    return Base(kernel=one(entry, "vmlinuz-*"), archive=entry / "base.cpio")


def process_1(directory: Path, script: Path) -> None:
    """``script`` as the guest's process 1, and what all of them share beside it."""
    shutil.copyfile(script, directory / "init")
    (directory / "init").chmod(0o755)
    shutil.copyfile(CHECKOUT / "tests/qemu/guest/process1.sh", directory / "process1.sh")


def initrd(parts: Sequence[Path], stage: Path, output: Path) -> None:
    """Archives and the files below ``stage`` as one initramfs; later files win over earlier ones."""
    with output.open("wb") as joined:
        for part in parts:
            with part.open("rb") as archive:
                shutil.copyfileobj(archive, joined)
        joined.flush()
        subprocess.run(
            ["/bin/sh", "-c", "find . | cpio --quiet -o -H newc -R 0:0"], stdout=joined, cwd=stage, check=True
        )
