# SPDX-License-Identifier: LGPL-2.1-or-later
"""Invariant: whatever is on a medium, examining it ends with a value; all its texts are printable, every read lies
inside the medium, and together they stay below the budget.

A fixed budget runs here; ISCSIBOOT_FUZZ_EXAMPLES sets another one for a long run.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from enum import Enum

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iscsiboot.toolkit.media import examine
from iscsiboot.toolkit.media_values import BUDGET, Media
from tests.unit.toolkit.media_support import (
    BIOS_BOOT,
    ESP,
    LINUX,
    RAID,
    Part,
    drive,
    esp,
    ext4,
    gpt_disk,
    mbr,
    mbr_entry,
    over,
    place,
)
from tests.unit.toolkit.test_media import BOOTABLE, EFI_SECTION, iso

SETTINGS = settings(
    max_examples=int(os.environ.get("ISCSIBOOT_FUZZ_EXAMPLES", "120")),
    deadline=None,
    derandomize="ISCSIBOOT_FUZZ_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)


def _seeds() -> list[bytes]:
    """Media with something of everything, to be damaged."""
    disk = gpt_disk(
        Part(BIOS_BOOT, 34, 63), Part(ESP, 64, 6000), Part(LINUX, 6001, 7000), Part(RAID, 7001, 8000), code=b"GRUB"
    )
    place(disk, 64 * 512, esp(12, "BOOTX64.EFI", vendor="DEBIAN"))
    place(disk, 6001 * 512, ext4())
    chain = bytearray(1 << 20)
    place(chain, 0, mbr(mbr_entry(0x05, 100, 400), mbr_entry(0xEF, 600, 100, active=True), code=b"code"))
    place(chain, 100 * 512, mbr(mbr_entry(0x83, 8, 20), mbr_entry(0x05, 200, 100)))
    place(chain, 300 * 512, mbr(mbr_entry(0x82, 8, 20)))
    return [bytes(disk), bytes(chain), esp(12, "BOOTX64.EFI"), iso(BOOTABLE, EFI_SECTION, BOOTABLE), ext4()]


SEEDS = _seeds()
damage = st.lists(
    st.tuples(
        # Where structures are, and anywhere.
        st.one_of(st.integers(0, 1100), st.integers(0, 40_000), st.integers(0, 1 << 22)),
        st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from([b"\xff" * 8, b"\0" * 32, b"\x55\xaa"])),
    ),
    max_size=12,
)


def texts(value: object) -> Iterator[str]:
    """Every string in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Enum):
        return
    elif isinstance(value, tuple):
        for item in value:
            yield from texts(item)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from texts(getattr(value, field.name))


def check(data: bytes, size: int, block_size: int, optical: bool) -> None:
    driven = drive(examine(size, block_size, optical=optical), over(data))
    assert isinstance(driven.media, Media)
    assert all(text.isprintable() for text in texts(driven.media))
    assert all(0 <= extent.offset < extent.offset + extent.length <= size for extent in driven.extents)
    assert sum(extent.length for extent in driven.extents) <= BUDGET


@SETTINGS
@given(st.integers(0, len(SEEDS) - 1), damage, st.sampled_from([512, 2048, 4096, 65536]), st.booleans(), st.data())
def test_damaged_media(
    seed: int, hits: list[tuple[int, bytes]], block: int, optical: bool, draw: st.DataObject
) -> None:
    data = bytearray(SEEDS[seed])
    for offset, raw in hits:
        at = offset % len(data)
        data[at : at + len(raw)] = raw
    size = draw.draw(st.sampled_from([len(data), len(data) // 2, len(data) * 3, 1 << 62]))
    check(bytes(data), size, block, optical)


@SETTINGS
@given(st.binary(max_size=4096), st.integers(0, 1 << 70), st.sampled_from([512, 4096]))
def test_any_bytes(data: bytes, size: int, block_size: int) -> None:
    check(data, size, block_size, False)
