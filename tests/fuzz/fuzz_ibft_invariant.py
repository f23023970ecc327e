# SPDX-License-Identifier: LGPL-2.1-or-later
"""The invariant both iBFT fuzzers hold, and the mutations they share.

For every input: ``parse`` and ``to_boot_config`` return; findings are bounded and can be printed; a table that is not
intact gives no BootConfig; what reaches a BootConfig kept the rules; nothing behind the table's end is read; a table
that was read can be written and read again.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from iscsiboot.ibft import layout
from iscsiboot.ibft.builder import build, seal
from iscsiboot.ibft.convert import to_boot_config
from iscsiboot.ibft.findings import FINDINGS_MAX
from iscsiboot.ibft.parser import ParseResult, parse
from iscsiboot.model.boot import BootConfig
from iscsiboot.model.names import check_iscsi_name

CANARY = b"canary-behind-the-table" * 8


def check(data: bytes, *, rebuild: bool = True) -> ParseResult:
    """Hold the invariant for one input; AssertionError when it does not. Returns the result for statistics."""
    result = parse(data)
    assert len(result.findings) <= FINDINGS_MAX + 1
    for finding in result.findings:
        assert finding.structure
        assert finding.field
        assert str(finding).isprintable()
        assert finding.offset is None or 0 <= finding.offset < layout.TABLE_MAX
    config, ignored = to_boot_config(result)
    assert all(item.what and item.why for item in ignored)
    if config is None:
        assert ignored
        assert result.errors
    else:
        assert result.intact
        _check_config(config)
    if rebuild:
        _check_nothing_behind_is_read(data, result)
        _check_rebuild(result)
    return result


def _check_config(config: BootConfig) -> None:
    if config.initiator_name is not None:
        assert check_iscsi_name(config.initiator_name.value) == config.initiator_name.value
    for nic in config.nics:
        assert nic.vlan is None or 1 <= nic.vlan.value <= 4094
        assert nic.mac is None or not int(nic.mac.value[:2], 16) & 1
        if nic.prefix_len is not None:
            assert nic.address is not None
            assert 1 <= nic.prefix_len.value <= nic.address.value.max_prefixlen
        assert nic.hostname is None or nic.hostname.value.isprintable()
    indexes = [nic.index for nic in config.nics]
    assert len(indexes) == len(set(indexes))
    for target in config.targets:
        assert check_iscsi_name(target.name.value) == target.name.value
        assert 1 <= target.port.value <= 65535
        assert target.nic_index is None or target.nic_index.value in indexes


def _check_nothing_behind_is_read(data: bytes, result: ParseResult) -> None:
    """Bytes that follow a complete table change nothing. (A cut-off one would be completed by them.)"""
    length = int.from_bytes(data[4:8], "little")
    if len(data) >= 66 and layout.ACPI_HEADER_SIZE + layout.CONTROL_SIZE <= length <= len(data):
        longer = parse(data + CANARY)
        assert longer.table == result.table
        assert longer.intact == result.intact
        assert "canary" not in repr(longer)


def _check_rebuild(result: ParseResult) -> None:
    if result.table is None:
        return
    try:
        image = build(result.table)
    except ValueError as error:
        # Strings may share bytes in a table that was read; written apart they may not fit.
        assert "at most" in str(error) or "16-bit" in str(error)  # noqa: PT017
        return
    assert parse(image).table == result.table


def flip_bits(image: bytearray, rng: random.Random) -> None:
    """One to eight bits anywhere."""
    for _ in range(rng.randint(1, 8)):
        image[rng.randrange(len(image))] ^= 1 << rng.randrange(8)


def lie_in_control(image: bytearray, rng: random.Random) -> None:
    """An offset or the length of the control structure gets a value from around the table."""
    at = layout.CONTROL_OFFSET + rng.choice((2, 6, 8, 10, 12, 14, 16))
    image[at : at + 2] = (rng.randrange(-4, len(image) + 64) & 0xFFFF).to_bytes(2, "little")


def swap_words(image: bytearray, rng: random.Random) -> None:
    """Two 16-bit words change places: offsets that overlap, lengths that are offsets."""
    one, two = (rng.randrange(layout.CONTROL_OFFSET, len(image) - 2) & ~1 for _ in range(2))
    image[one : one + 2], image[two : two + 2] = image[two : two + 2], image[one : one + 2]


def extreme_word(image: bytearray, rng: random.Random) -> None:
    """A 16-bit word becomes one of the values arithmetic goes wrong at."""
    at = rng.randrange(layout.CONTROL_OFFSET, len(image) - 2)
    image[at : at + 2] = rng.choice((0, 1, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF, len(image), len(image) - 1)).to_bytes(
        2, "little"
    )


def cut(image: bytearray, rng: random.Random) -> None:
    """The end is missing."""
    del image[rng.randrange(8, len(image)) :]


def copy_block(image: bytearray, rng: random.Random) -> None:
    """A stretch of the table is written over another."""
    size = rng.randrange(2, 110)
    source, target = rng.randrange(len(image)), rng.randrange(len(image))
    block = bytes(image[source : source + size])
    image[target : target + len(block)] = block


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip_bits,
    lie_in_control,
    swap_words,
    extreme_word,
    copy_block,
    cut,
)


def mutate(image: bytes, rng: random.Random) -> bytes:
    """``image`` after one to four mutations; three times in four with length and checksum made right again."""
    changed = bytearray(image)
    for _ in range(rng.randint(1, 4)):
        if len(changed) > 120:
            rng.choice(MUTATIONS)(changed, rng)
    return seal(changed) if rng.random() < 0.75 and len(changed) > layout.CHECKSUM_OFFSET else bytes(changed)
