# SPDX-License-Identifier: LGPL-2.1-or-later
"""The archive against the cpio program, the measure against gzip, the verdict against the budget."""

from __future__ import annotations

import io
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from iscsiboot.initramfs import cpio
from iscsiboot.initramfs.entries import Entry, Kind, Part
from iscsiboot.initramfs.report import BUDGET, SizeReport, as_json, as_table, measure
from iscsiboot.initramfs.sysroot import Sysroot

MEMBERS = [("/d", 0o040755, b""), ("/d/f", 0o100644, b"hello"), ("/d/l", 0o120777, b"f")]


def test_the_archive_is_one_to_cpio(tmp_path: Path) -> None:
    data = cpio.archive(MEMBERS)
    run = subprocess.run(["cpio", "-idm", "--quiet"], input=data, cwd=tmp_path, capture_output=True, check=False)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "d/f").read_bytes() == b"hello"
    assert (tmp_path / "d/l").readlink() == Path("f")


def test_every_member_is_aligned() -> None:
    for length in range(9):
        assert len(cpio.archive([("/" + "n" * length, 0o100644, bytes(length))])) % 4 == 0


def test_gzip_size_is_what_gzip_makes() -> None:
    data = cpio.archive(MEMBERS) * 50
    run = subprocess.run(["gzip", "-n", "-9"], input=data, capture_output=True, check=True)
    assert abs(cpio.gzip_size(data) - len(run.stdout)) <= 16


def test_zstd_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert cpio.zstd_size(b"data") is None


def sample(tmp_path: Path) -> tuple[tuple[Entry, ...], Sysroot]:
    (tmp_path / "a").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "b.py").write_text("x = 1\n" * 500)
    entries = (
        Entry(path="/d", kind=Kind.DIRECTORY, part=Part.OWN, why="t"),
        Entry(path="/d/a", kind=Kind.FILE, part=Part.LIBRARIES, why="t", source="/a"),
        Entry(path="/d/b.pyc", kind=Kind.BYTECODE, part=Part.OWN, why="t", source="/b.py"),
        Entry(path="/d/l", kind=Kind.SYMLINK, part=Part.OWN, why="t", target="a"),
    )
    return entries, Sysroot(tmp_path)


def test_each_part_and_the_whole(tmp_path: Path) -> None:
    report = measure(*sample(tmp_path))
    costs = {cost.part: cost for cost in report.costs}
    assert set(costs) == {Part.OWN, Part.LIBRARIES}
    assert costs[Part.LIBRARIES].bytes == 256 * 40
    assert costs[Part.OWN].files == 1
    assert report.bytes == sum(cost.bytes for cost in report.costs)
    assert 0 < report.gzip <= sum(cost.gzip for cost in report.costs)
    assert report.within


def test_the_verdict_depends_on_the_budget(tmp_path: Path) -> None:
    report = measure(*sample(tmp_path))
    assert replace(report, budget=report.gzip).within
    over = replace(report, budget=report.gzip - 1)
    assert not over.within
    assert "OVER the budget" in as_table(over)
    assert as_json(over)["within"] is False


def test_table_and_json_tell_the_same(tmp_path: Path) -> None:
    report = measure(*sample(tmp_path))
    table = as_table(report)
    assert f"{report.gzip / 1024:.1f} of 8192.0 KiB compressed, within the budget" in table
    for cost in report.costs:
        assert any(
            line.startswith(cost.part.value) and f"{cost.gzip / 1024:.1f}" in line for line in table.splitlines()
        )
    loaded = json.load(io.StringIO(json.dumps(as_json(report))))
    assert loaded["total"]["gzip"] == report.gzip
    assert loaded["budget"] == BUDGET == 8 * 1024 * 1024


def test_without_zstd_the_table_says_nothing_of_it() -> None:
    assert "zstd" not in as_table(SizeReport(costs=(), gzip=0, zstd=None))
