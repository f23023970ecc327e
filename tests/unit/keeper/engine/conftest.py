# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs a coroutine in a world, on a clock by hand."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from tests.doubles.virtual_time import run_virtually
from tests.unit.keeper.engine.world import World, world

Run = Callable[[Callable[[World], Coroutine[None, None, None]]], None]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a test in a world of its own."""

    def run(test: Callable[[World], Coroutine[None, None, None]]) -> None:
        async def inside() -> None:
            async with world(tmp_path) as made:
                await test(made)

        run_virtually(inside())

    return run
