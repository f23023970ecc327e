# SPDX-License-Identifier: LGPL-2.1-or-later
"""What several comparisons with open-iscsi need, made once in a run."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.interop.iscsid_lab import Place
from tests.interop.peer_admin import Program, our_program, peer_program


@pytest.fixture(scope="session")
def peer_admin() -> Program:
    """Debian's iscsiadm."""
    return peer_program(print)


@pytest.fixture(scope="session")
def our_admin(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Ours, as ``make install`` leaves it."""
    return our_program(tmp_path_factory.mktemp("iscsiadm"))


@pytest.fixture
def place() -> Iterator[Place]:
    """Where a daemon runs by itself."""
    if os.geteuid():
        pytest.skip("needs root")
    with Place() as made:
        yield made
