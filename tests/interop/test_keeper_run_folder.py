# SPDX-License-Identifier: LGPL-2.1-or-later
"""A run folder that is full or cannot be written to: the sessions pass from guard to daemon to standby all the same."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from iscsiboot.keeper import libc, state_files
from iscsiboot.keeper.values import Role
from tests.unit.keeper.guard_kit import PATIENCE, Stage, known, new_stage, with_standby

pytestmark = [pytest.mark.interop, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

REMOUNT = 32
READ_ONLY = 1
"""MS_REMOUNT, MS_RDONLY of mount(2)."""


def no_inodes(run: Path) -> None:
    """As /run when somebody has filled it with files: nothing can be made in it."""
    libc.mount("none", str(run), "tmpfs", 0, "size=64k,nr_inodes=2,mode=0755")
    (run / "last").touch()
    with pytest.raises(OSError, match="No space left"):
        (run / "more").touch()


def no_blocks(run: Path) -> None:
    """The same with one large file: files can be made, and nothing be written to them."""
    libc.mount("none", str(run), "tmpfs", 0, "size=64k,mode=0755")
    with (run / "large").open("wb", buffering=0) as file:
        written = file.write(bytes(1 << 20))
        assert written == 64 << 10


def read_only(run: Path) -> None:
    """As /run after an error of a system that has it on a disk."""
    libc.mount("none", str(run), "tmpfs", 0, "mode=0755")
    libc.mount("none", str(run), "tmpfs", REMOUNT | READ_ONLY)


@pytest.fixture(params=[no_inodes, no_blocks, read_only])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    make: Callable[[Path], None] = request.param
    mounted: list[str] = []
    try:
        with new_stage() as made:
            made.run.mkdir()
            make(made.run)
            mounted.append(str(made.run))
            yield made
    finally:
        # When every process on it has ended; the stage has left it where it was.
        for place in mounted:
            libc.umount(place, libc.MNT_DETACH)
            shutil.rmtree(Path(place).parent)


def test_from_the_guard_to_a_daemon_to_its_standby_to_the_next(stage: Stage) -> None:
    guard = stage.guard({1: known(), 7: known(7)})
    stage.wait_acting(guard)
    name = f"@{stage.name}\n"
    for count in (1, 2, 3):
        daemon = stage.daemon(with_standby)
        stage.until_lines("settled", count)
        assert stage.actor() == daemon
        assert 1 in stage.lines("begin")[-1]["sids"], "it was told what there is"
        standby = stage.adopt(stage.lines("standby")[-1]["standby"])
        # Without a lock only the name tells who is there; the standby has it when the one before has ended.
        stage.wait_end(guard)
        stage.until(lambda: name in Path("/proc/net/unix").read_text())
        stage.kill(daemon)
        stage.wait_acting(standby)
        guard = standby


def test_a_guard_that_is_killed_costs_the_next_one_what_it_knew_and_nothing_else(stage: Stage) -> None:
    guard = stage.guard()
    stage.wait_acting(guard)
    stage.kill(guard, signal.SIGKILL)
    stage.wait_end(guard)
    # It waits for nobody: what it might wait is longer than this test does.
    daemon = stage.daemon(with_standby, seconds=2 * PATIENCE)
    stage.wait_acting(daemon)
    stage.until_lines("settled", 1)


def test_what_cannot_be_kept_is_an_error_and_no_half_file(stage: Stage) -> None:
    with pytest.raises(OSError, match=r"No space left|Read-only"):
        state_files.write(stage.run, 1, known(), Role())
    assert state_files.read(stage.run).known == {}
    state_files.prune(stage.run, ())
