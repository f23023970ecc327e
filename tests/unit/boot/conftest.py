# SPDX-License-Identifier: LGPL-2.1-or-later
"""What holds for all of these tests: none leaves a process behind, a keeper least of all, which no signal ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _no_process_stays() -> Iterator[None]:
    """Fail the test that leaves a child behind, and end it; what others left before is theirs."""
    before = _children()
    yield
    left = _children() - before
    for pid in left:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert not left


def _children() -> set[int]:
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    return {int(word) for word in children.read_text().split()} if children.exists() else set()
