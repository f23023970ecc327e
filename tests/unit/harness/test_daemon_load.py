# SPDX-License-Identifier: LGPL-2.1-or-later
"""The load of the daemon's trials finds what it is there to find: else its silence would mean nothing."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.qemu.daemon.load import BLOCK, BLOCKS, GAP_SECONDS, READ_EVERY, Load, Result, Writer, after, content


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(bytes(BLOCK * BLOCKS))
    return path


class Harmed(Writer):
    """A load whose disk is written to behind its back, each block just before it is checked."""

    def __init__(self, path: Path, harm: bytes) -> None:
        super().__init__(path)
        self._path = path
        self._harm = harm

    def check(self, block: int) -> None:
        with self._path.open("r+b") as file:
            file.seek(block * BLOCK)
            file.write(self._harm)
            os.fsync(file.fileno())
        super().check(block)


def ran(writer: Writer, seconds: float = 0.3) -> Result:
    """What a load says after so many seconds."""

    def end() -> None:
        time.sleep(seconds)
        writer.stop(signal.SIGTERM, None)

    helper = threading.Thread(target=end)
    helper.start()
    writer.run()
    helper.join()
    return writer.result


def test_a_good_disk_has_nothing_wrong(disk: Path) -> None:
    result = ran(Writer(disk))
    assert (result.errors, result.wrong) == ([], [])
    assert result.writes > 0
    assert result.reads > 0


@pytest.mark.parametrize("harm", [bytes(BLOCK), content(1, 1), content(0, 10**6)], ids=["zeros", "elsewhere", "number"])
def test_another_content_is_found(disk: Path, harm: bytes) -> None:
    assert ran(Harmed(disk, harm)).wrong


def test_a_block_is_another_with_another_number_or_place() -> None:
    assert len({content(place, number) for place in range(5) for number in range(5)}) == 25
    assert len(content(3, 4)) == BLOCK


@pytest.mark.parametrize(("moment", "seconds"), [(5.0, 0.0), (10.0, 2.5), (12.0, 0.5), (13.0, 0.0)])
def test_when_writes_went_on(moment: float, seconds: float) -> None:
    assert after([[1.0, 2.0], [10.0, 12.5]], moment) == seconds


def test_a_process_of_its_own_tells_at_its_end(disk: Path) -> None:
    load = Load(str(disk))
    time.sleep(0.2)
    said = load.end()
    assert (said["errors"], said["wrong"]) == ([], [])
    assert said["writes"] > 0


def test_a_phase_ends_with_a_mark(disk: Path) -> None:
    load = Load(str(disk))
    time.sleep(0.1)
    load.mark()
    time.sleep(0.1)
    said = load.end()
    assert [phase["done"] > 0 for phase in said["phases"]] == [True, True]
    assert max(phase["worst"] for phase in said["phases"]) == said["worst"]
    assert all(phase["late"] >= 0 for phase in said["phases"])


class Slow(Writer):
    """A load whose disk takes long for one read."""

    def check(self, block: int) -> None:
        if self.result.writes == READ_EVERY:
            time.sleep(GAP_SECONDS * 1.2)
        super().check(block)


def test_a_read_that_takes_long_is_a_gap_too(disk: Path) -> None:
    result = ran(Slow(disk), 1.0)
    assert len(result.gaps) >= 1
    assert result.worst > GAP_SECONDS


def test_a_disk_that_is_not_there_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="does not start"):
        Load(str(tmp_path / "nothing"))
