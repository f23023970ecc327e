# SPDX-License-Identifier: LGPL-2.1-or-later
"""A tree to fill for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.firmware.trees import Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)
