# SPDX-License-Identifier: LGPL-2.1-or-later
"""A lock between processes of one boot that dies with its holder (flock on a file below /run)."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from iscsiboot.errors import IscsiBootError, Stage


@contextmanager
def exclusive(run: Path, name: str) -> Iterator[None]:
    """Hold ``<run>/iscsiboot/<name>.lock``. The wait is bounded by the holder's own deadline: it ends or dies."""
    directory = run / "iscsiboot"
    path = directory / f"{name}.lock"
    try:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise IscsiBootError(
            f"cannot be made: {error.strerror}", stage=Stage.NETWORK, subject=str(path), hint="make /run writable"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
