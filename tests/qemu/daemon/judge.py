# SPDX-License-Identifier: LGPL-2.1-or-later
"""On the host: what the tests of all trials have in common."""

from __future__ import annotations

from typing import Any

import pytest

from tests.qemu.daemon.guest import LONG_ONLY, Seen, wants_long

RETURN_SECONDS = 5.0
"""From the target's return until writes go on: an attempt a second and the login, which an emulated processor of a busy
host makes longer still. Quiet it is one second; the figures themselves are in what the trials print."""
STALL_SECONDS = 1.0
"""What an emulated processor makes two writes wait when a Python starts beside them, whoever starts it; a login of the
peer's takes longer."""


def said(seen: Seen, name: str) -> dict[str, Any]:
    """What the guest saw in a trial; its own words when the trial could not be made."""
    if name in LONG_ONLY and not wants_long():
        pytest.skip(f"{name}: a trial of make check-all")
    assert "failed" not in seen[name], seen[name]["failed"]
    return seen[name]


def clean(load: dict[str, Any]) -> None:
    """No I/O error, every block is what was written last."""
    assert (load["errors"], load["wrong"]) == ([], [])
    assert load["writes"] > 0
    assert load["reads"] > 0
