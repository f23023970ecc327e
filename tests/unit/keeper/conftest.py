# SPDX-License-Identifier: LGPL-2.1-or-later
"""A machine of its own for each test of guard processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.keeper.guard_kit import Stage, new_stage


@pytest.fixture
def stage() -> Iterator[Stage]:
    """Afterwards everything on it is ended, and what holds in every test is checked."""
    with new_stage() as made:
        yield made
