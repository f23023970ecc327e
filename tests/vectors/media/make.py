# SPDX-License-Identifier: LGPL-2.1-or-later
"""Records what probe reads of media made by the tools that define them, so that the tests need none of the tools.

``python3 -m tests.vectors.media.make`` writes media.json beside this file; every tool named below has to be on PATH.
Of each medium the 512-byte sectors are kept that were read and are not all zero. Boot code is not ours to keep: it is
blotted out where mkfs put some.
"""

from __future__ import annotations

import base64
import json
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from iscsiboot.toolkit.media import examine
from tests.interop.test_media_tools import UUID, gpt_with_esp, image, run
from tests.unit.toolkit.media_support import drive

FILE = Path(__file__).with_name("media.json")
SECTOR = 512


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one medium is made."""

    made_by: str
    """The tool, whose version is asked for with ``version``."""
    version: tuple[str, ...]
    build: Callable[[Path], Path]
    block_size: int = 512
    optical: bool = False
    blot: tuple[int, int] | None = None
    """Bytes of the first sector that are boot code."""
    keep: int = 1 << 62
    """Bytes from the beginning that are kept: what follows a LUKS header is keys, noise by design."""


def _formatted(mib: int, *argv: str, stdin: str = "") -> Callable[[Path], Path]:
    def build(directory: Path) -> Path:
        disk = image(directory, mib)
        run(*(disk if word == "DISK" else word for word in argv), stdin=stdin)
        return disk

    return build


def _cd(directory: Path) -> Path:
    tree, disk = directory / "tree", directory / "cd.iso"
    tree.mkdir()
    (tree / "loader").write_bytes(bytes(2048))
    (tree / "efi.img").write_bytes(bytes(1 << 20))
    run(
        *("xorriso", "-as", "mkisofs", "-quiet", "-V", "A CD", "-o", disk, "-b", "loader", "-no-emul-boot"),
        *("-boot-load-size", "4", "-eltorito-alt-boot", "-e", "efi.img", "-no-emul-boot", tree),
    )
    return disk


_LOGICAL = (
    "label: dos\nlabel-id: 0xcafe0001\nstart=2048, size=8192, type=83, bootable\nstart=10240, type=5\n"
    "start=12288, size=4096, type=82\nstart=20480, size=4096, type=ef\n"
)
_LUKS = ("--uuid", UUID, "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "DISK", "-")
_LABELLED = ("-L", "a label", "-U", UUID, "DISK")

RECIPES = {
    "ext4": Recipe(made_by="mkfs.ext4", version=("-V",), build=_formatted(16, "mkfs.ext4", "-q", *_LABELLED)),
    "xfs": Recipe(
        made_by="mkfs.xfs",
        version=("-V",),
        build=_formatted(320, "mkfs.xfs", "-q", "-L", "a label", "-m", f"uuid={UUID}", "DISK"),
    ),
    "btrfs": Recipe(
        made_by="mkfs.btrfs", version=("--version",), build=_formatted(128, "mkfs.btrfs", "-q", *_LABELLED)
    ),
    "f2fs": Recipe(
        made_by="mkfs.f2fs", version=("-V",), build=_formatted(64, "mkfs.f2fs", "-q", "-l", "a label", "DISK")
    ),
    "swap": Recipe(made_by="mkswap", version=("--version",), build=_formatted(4, "mkswap", *_LABELLED)),
    "fat12": Recipe(
        made_by="mkfs.fat",
        version=("--help",),
        build=_formatted(2, "mkfs.fat", "-F", "12", "-n", "A LABEL", "DISK"),
        blot=(62, 510),
    ),
    "ntfs": Recipe(
        made_by="mkfs.ntfs",
        version=("--version",),
        build=_formatted(16, "mkfs.ntfs", "-q", "-F", "-s", "512", "-p", "0", "-H", "0", "-S", "0", "DISK"),
        blot=(84, 510),
    ),
    "luks1": Recipe(
        made_by="cryptsetup",
        version=("--version",),
        build=_formatted(20, "cryptsetup", "luksFormat", "-q", "--type", "luks1", *_LUKS, stdin="a passphrase"),
        keep=4096,
    ),
    "luks2": Recipe(
        made_by="cryptsetup",
        version=("--version",),
        build=_formatted(20, "cryptsetup", "luksFormat", "-q", "--type", "luks2", *_LUKS, stdin="a passphrase"),
        keep=4096,
    ),
    "gpt-installed": Recipe(made_by="sfdisk", version=("--version",), build=gpt_with_esp),
    "gpt-4096": Recipe(
        made_by="fdisk",
        version=("--version",),
        build=_formatted(16, "fdisk", "-b", "4096", "DISK", stdin="g\nn\n1\n256\n767\nw\n"),
        block_size=4096,
    ),
    "mbr-logical": Recipe(
        made_by="sfdisk", version=("--version",), build=_formatted(64, "sfdisk", "-q", "DISK", stdin=_LOGICAL)
    ),
    "cd": Recipe(made_by="xorriso", version=("-version",), build=_cd, block_size=2048, optical=True),
}


def record(recipe: Recipe, directory: Path) -> dict[str, object]:
    """Make a medium and keep what is read of it."""
    path = recipe.build(directory)
    size = path.stat().st_size
    sectors: dict[int, bytes] = {}
    with path.open("r+b") as file:
        if recipe.blot is not None:
            file.seek(recipe.blot[0])
            file.write(bytes(recipe.blot[1] - recipe.blot[0]))

        def read(offset: int, length: int) -> bytes:
            first, last = offset // SECTOR, -(-(offset + length) // SECTOR)
            file.seek(first * SECTOR)
            data = file.read((last - first) * SECTOR)
            for number in range(first, last):
                sector = data[(number - first) * SECTOR : (number - first + 1) * SECTOR]
                if any(sector) and number * SECTOR < recipe.keep:
                    sectors[number] = sector
            return data[offset - first * SECTOR :][:length]

        drive(examine(size, recipe.block_size, optical=recipe.optical), read)
    packed = zlib.compress(b"".join(number.to_bytes(8, "big") + sectors[number] for number in sorted(sectors)), 9)
    return {
        "made_by": _version(recipe),
        "size": size,
        "block_size": recipe.block_size,
        "optical": recipe.optical,
        "sectors": base64.b64encode(packed).decode(),
    }


def _version(recipe: Recipe) -> str:
    import subprocess

    done = subprocess.run([recipe.made_by, *recipe.version], capture_output=True, text=True, check=False)
    return next(line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip())


def load(entry: dict[str, object]) -> Callable[[int, int], bytes]:
    """A recorded medium to read from; what was not kept is zero."""
    packed = zlib.decompress(base64.b64decode(str(entry["sectors"])))
    step = 8 + SECTOR
    sectors = {
        int.from_bytes(packed[at : at + 8], "big"): packed[at + 8 : at + step] for at in range(0, len(packed), step)
    }

    def read(offset: int, length: int) -> bytes:
        first, last = offset // SECTOR, -(-(offset + length) // SECTOR)
        data = b"".join(sectors.get(number, bytes(SECTOR)) for number in range(first, last))
        return data[offset - first * SECTOR :][:length]

    return read


def main() -> None:
    """Write the file anew."""
    entries = {}
    for name, recipe in RECIPES.items():
        with tempfile.TemporaryDirectory() as directory:
            entries[name] = record(recipe, Path(directory))
    FILE.write_text(json.dumps(entries, indent=1) + "\n")


if __name__ == "__main__":
    main()
