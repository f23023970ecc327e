# SPDX-License-Identifier: LGPL-2.1-or-later
"""The cache: one build a key, nothing half done, one builder at a time."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tests.qemu.harness.cache import KEPT_PER_KIND, Cache, digest, digest_tree, prune_files


def quiet(line: str) -> None:
    """No progress."""


def test_builds_once(tmp_path: Path) -> None:
    built: list[Path] = []

    def build(work: Path) -> None:
        built.append(work)
        (work / "file").write_text("done")

    cache = Cache(tmp_path / "c", quiet)
    first, second = cache.entry("disk", "k", build), cache.entry("disk", "k", build)
    assert first == second == tmp_path / "c/disk-k"
    assert (first / "file").read_text() == "done"
    assert len(built) == 1
    assert not built[0].exists()


@pytest.mark.parametrize("error", [OSError("no space"), KeyboardInterrupt()], ids=["error", "ctrl-c"])
def test_an_interrupted_build_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    def build(work: Path) -> None:
        (work / "half").write_text("x")
        raise error

    cache = Cache(tmp_path, quiet)
    with pytest.raises(type(error)):
        cache.entry("disk", "k", build)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".building-old").mkdir()
    Cache(tmp_path, quiet).entry("disk", "k", lambda work: None)
    assert not (tmp_path / ".building-old").exists()


def test_old_entries_go_and_the_newest_stay(tmp_path: Path) -> None:
    cache = Cache(tmp_path, quiet)
    for number in range(KEPT_PER_KIND + 2):
        path = cache.entry("disk", str(number), lambda work: None)
        os.utime(path, (1000 + number, 1000 + number))
    cache.entry("other", "x", lambda work: None)
    kept = sorted(path.name for path in tmp_path.glob("disk-*"))
    assert kept == [f"disk-{number}" for number in range(2, KEPT_PER_KIND + 2)]
    assert (tmp_path / "other-x").exists()


def test_use_makes_an_entry_young(tmp_path: Path) -> None:
    cache = Cache(tmp_path, quiet)
    path = cache.entry("disk", "k", lambda work: None)
    os.utime(path, (1000, 1000))
    cache.entry("disk", "k", lambda work: None)
    assert path.stat().st_mtime > 2000


def test_two_runs_build_one_after_the_other(tmp_path: Path) -> None:
    said: list[str] = []
    inside, go_on = threading.Event(), threading.Event()
    builds: list[str] = []

    def slow(work: Path) -> None:
        builds.append("first")
        inside.set()
        assert go_on.wait(5)

    first = threading.Thread(target=lambda: Cache(tmp_path, quiet).entry("disk", "k", slow))
    first.start()
    assert inside.wait(5)

    def tell(line: str) -> None:
        said.append(line)
        go_on.set()

    Cache(tmp_path, tell).entry("disk", "k", lambda work: builds.append("second"))
    first.join(5)
    assert builds == ["first"], "the second run uses what the first one built while it waited"
    assert said == ["another run is building; waiting for it"]


def test_digest_keeps_parts_apart() -> None:
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("a") == digest(b"a")


def test_digest_of_a_tree_sees_path_mode_content_and_links(tmp_path: Path) -> None:
    file = tmp_path / "d/f"
    file.parent.mkdir()
    file.write_text("1")
    seen = {digest_tree(tmp_path)}
    file.write_text("2")
    seen.add(digest_tree(tmp_path))
    file.chmod(0o755)
    seen.add(digest_tree(tmp_path))
    (tmp_path / "l").symlink_to("f")
    seen.add(digest_tree(tmp_path))
    (tmp_path / "l").unlink()
    (tmp_path / "l").symlink_to("g")
    seen.add(digest_tree(tmp_path))
    file.rename(tmp_path / "d/g")
    seen.add(digest_tree(tmp_path))
    assert len(seen) == 6


def test_digest_of_a_tree_does_not_see_byte_code_and_times(tmp_path: Path) -> None:
    file = tmp_path / "f.py"
    file.write_text("1")
    before = digest_tree(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__/f.pyc").write_text("x")
    os.utime(file, (1, 1))
    assert digest_tree(tmp_path) == before


def test_logs_are_pruned_oldest_first(tmp_path: Path) -> None:
    for number in range(5):
        path = tmp_path / str(number)
        path.touch()
        os.utime(path, (number, number))
    prune_files(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "4"]


def test_a_log_that_goes_meanwhile_harms_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two guests side by side prune at the same instant."""
    (tmp_path / "there").touch()
    both = [tmp_path / "there", tmp_path / "gone"]
    monkeypatch.setattr(Path, "iterdir", lambda _: iter(both))
    prune_files(tmp_path, keep=1)
    assert (tmp_path / "there").exists()


def test_scratch_is_gone_afterwards_also_after_an_error(tmp_path: Path) -> None:
    cache = Cache(tmp_path, quiet)
    with cache.scratch() as path:
        (path / "disk").touch()
        assert path.parent == tmp_path
    with pytest.raises(KeyboardInterrupt), cache.scratch():
        raise KeyboardInterrupt
    assert not list(tmp_path.glob(".run-*"))


def test_scratch_of_a_killed_run_is_removed_and_one_in_use_is_not(tmp_path: Path) -> None:
    left = tmp_path / ".run-left"
    left.mkdir()
    (left / "disk").touch()
    with Cache(tmp_path, quiet).scratch() as first, Cache(tmp_path, quiet).scratch() as second:
        assert not left.exists()
        assert first.exists()
        assert first != second
