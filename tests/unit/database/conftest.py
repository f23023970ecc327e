# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fixtures of the database's tests."""

from __future__ import annotations

import math

import pytest

from iscsiboot.database import commit


@pytest.fixture(autouse=True)
def steady_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches stay as large as a test makes them, however slow the disk of the machine is at that moment."""
    monkeypatch.setattr(commit, "SLOW", math.inf)
