# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel prints a LUN's bytes without padding."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsiboot.firmware.kernel_lun import parse_kernel_lun
from iscsiboot.model.lun import Lun
from tests.unit.ibft.strategies import UNHURRIED


def kernel_prints(lun: Lun) -> str:
    """iscsi_ibft.c: eight times ``%x``."""
    return "".join(f"{byte:x}" for byte in lun.wire)


def test_every_single_level_lun_is_exact() -> None:
    for number in range(16384):
        lun = Lun.from_number(number)
        assert parse_kernel_lun(kernel_prints(lun)) == lun


@UNHURRIED
@given(st.binary(min_size=8, max_size=8).map(Lun))
def test_a_reading_prints_as_it_was_printed(lun: Lun) -> None:
    text = kernel_prints(lun)
    with suppress(ValueError):
        assert kernel_prints(parse_kernel_lun(text)) == text


@pytest.mark.parametrize("lun", ["4752-3A4F-6b7e-2F99", "0102-0304-0506-0708"])
def test_eight_and_sixteen_digits_are_exact(lun: str) -> None:
    assert parse_kernel_lun(kernel_prints(Lun.parse(lun))) == Lun.parse(lun)


@pytest.mark.parametrize("text", ["", "0", "0100000", "01000000g", "01 00000", "1" * 17, "0x000001", "\u0661" * 8])
def test_what_the_kernel_never_prints(text: str) -> None:
    with pytest.raises(ValueError, match="eight bytes"):
        parse_kernel_lun(text)


def test_unclear_ones_are_refused() -> None:
    with pytest.raises(ValueError, match="readings"):
        parse_kernel_lun("1111111111")
