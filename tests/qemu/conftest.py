# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the boot tests share: one laboratory, root, and the programs it needs. A skip says what is missing."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.qemu.daemon.guest import GROUPS, Seen, run_at_once, wants_long
from tests.qemu.harness.cache import default_root
from tests.qemu.harness.process import tell_stderr
from tests.qemu.harness.run import Laboratory

PROGRAMS = ("qemu-system-x86_64", "mmdebstrap", "tgtd", "tgtadm", "mke2fs", "unshare", "setpriv", "cpio", "zstd")


@pytest.fixture(scope="session")
def laboratory() -> Laboratory:
    """The laboratory, its disk built on first use and found in the cache afterwards."""
    if os.geteuid() != 0:
        pytest.skip("boot tests need root")
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        pytest.skip(f"boot tests need {', '.join(missing)}: sh tools/setup.sh check")
    return Laboratory.at(default_root(), tell_stderr)


@pytest.fixture(scope="session")
def daemon_seen(laboratory: Laboratory) -> Seen:
    """What the daemon's trials saw, in two guests side by side."""
    return run_at_once(laboratory, GROUPS, long=wants_long())
