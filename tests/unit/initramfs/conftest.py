# SPDX-License-Identifier: LGPL-2.1-or-later
"""One installation by ``make install`` and one plan of it, shared by the tests that look at the real thing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from iscsiboot.initramfs.entries import Entry
from iscsiboot.initramfs.facts import Facts, Layout, gather
from iscsiboot.initramfs.plan import make_plan

ROOT = Path(__file__).resolve().parents[3]


def site_directories() -> tuple[str, ...]:
    """Where the host's interpreter finds pyroute2 and pyudev."""
    code = "import pyroute2, pyudev, os; print(*{os.path.dirname(m.__path__[0]) for m in (pyroute2, pyudev)})"
    run = subprocess.run(["/usr/bin/python3", "-I", "-c", code], capture_output=True, text=True, check=True)
    return tuple(run.stdout.split())


@pytest.fixture(scope="session")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PREFIX of an installation."""
    place = tmp_path_factory.mktemp("installed") / "usr"
    subprocess.run(["make", "-s", "-C", str(ROOT), "install", f"PREFIX={place}"], check=True, stdin=subprocess.DEVNULL)
    return place


@pytest.fixture(scope="session")
def facts(prefix: Path) -> Facts:
    """The facts of that installation on this host."""
    return gather(
        Layout(
            launcher=f"{prefix}/sbin/iscsistart",
            libdir=f"{prefix}/lib/iscsiboot",
            sites=site_directories(),
            root=Path("/"),
        )
    )


@pytest.fixture(scope="session")
def plan(facts: Facts) -> tuple[Entry, ...]:
    """The plan made of them."""
    return make_plan(facts)
