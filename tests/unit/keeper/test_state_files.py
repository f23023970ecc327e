# SPDX-License-Identifier: LGPL-2.1-or-later
"""/run/iscsiboot/sessions: written whole, closed to others, believed only when nobody else could have written it."""

from __future__ import annotations

import base64
import os
import socket
from pathlib import Path

import pytest

from iscsiboot.keeper import document, state_files
from iscsiboot.keeper.values import Role, Source
from tests.unit.keeper.test_document import FULL, SECRET, plain


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_what_is_written_is_read(run: Path) -> None:
    assert state_files.read(run) == state_files.State()
    state_files.write(run, 3, FULL, Role(system=("root",)))
    state_files.write(run, 12, plain())
    state = state_files.read(run)
    assert state.known == {3: FULL, 12: plain(source=Source.STATE)}
    assert state.roles == {3: Role(system=("root",))}
    assert state.problems == ()


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_nobody_else_reads_them(run: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        state_files.write(run, 3, FULL)
        state_files.write(run, 3, FULL)
    finally:
        os.umask(before)
    assert mode(run) & 0o022 == 0, "others may read what is not secret there"
    assert mode(run / "sessions") == 0o700
    assert mode(run / "sessions" / "3.json") == 0o600
    assert sorted(path.name for path in (run / "sessions").iterdir()) == ["3.json"]


def test_a_newer_word_takes_the_place_of_the_older(run: Path) -> None:
    state_files.write(run, 3, FULL)
    with (run / "sessions" / "3.json").open("rb") as old:
        state_files.write(run, 3, plain())
        assert SECRET_IN_BASE64 in old.read(), "who had it open reads it to its end: it is another file now"
    assert state_files.read(run).known == {3: plain(source=Source.STATE)}


SECRET_IN_BASE64 = base64.b64encode(SECRET)


def test_a_file_that_cannot_be_written_leaves_the_older(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state_files.write(run, 3, plain())

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(OSError, match="No space"):
        state_files.write(run, 3, FULL)
    assert state_files.read(run).known == {3: plain(source=Source.STATE)}
    assert sorted(path.name for path in (run / "sessions").iterdir()) == ["3.json"]


def test_removal(run: Path) -> None:
    state_files.remove(run, 3)
    state_files.write(run, 3, plain())
    state_files.remove(run, 3)
    state_files.remove(run, 3)
    assert state_files.read(run).known == {}


def test_files_of_sessions_that_are_gone_are_pruned(run: Path) -> None:
    state_files.prune(run, frozenset())
    for sid in (1, 2, 30):
        state_files.write(run, sid, plain())
    (run / "sessions" / ".2.999").write_text("left by a killed writer")
    (run / "sessions" / "README").write_text("not ours")
    state_files.prune(run, frozenset({2}))
    assert sorted(path.name for path in (run / "sessions").iterdir()) == ["2.json", "README"]


@pytest.mark.parametrize("data", [b"", b"{", b"\0" * 100, b'{"iscsiboot-sessions": 1, "sessions": {"3": 5}}'])
def test_a_damaged_file_costs_itself_only(run: Path, data: bytes) -> None:
    state_files.write(run, 3, plain())
    state_files.write(run, 4, plain())
    (run / "sessions" / "3.json").write_bytes(data)
    state = state_files.read(run)
    assert set(state.known) == {4}
    assert len(state.problems) == 1
    assert str(run / "sessions" / "3.json") in state.problems[0]


def test_a_file_speaks_of_the_session_in_its_name_alone(run: Path) -> None:
    state_files.write(run, 3, plain())
    (run / "sessions" / "3.json").write_bytes(document.dump({3: plain(), 4: FULL}))
    assert set(state_files.read(run).known) == {3}
    (run / "sessions" / "3.json").write_bytes(document.dump({4: FULL}))
    state = state_files.read(run)
    assert state.known == {}
    assert "it is about no session 3" in state.problems[0]


def test_what_cannot_be_pruned_stays_and_stops_nothing(run: Path, tmp_path: Path) -> None:
    state_files.write(run, 1, plain())
    folder = run / "sessions"
    (folder / "5.json").mkdir()
    state_files.prune(run, frozenset())
    assert [entry.name for entry in folder.iterdir()] == ["5.json"], "the others are gone all the same"
    (tmp_path / "sessions").write_text("")
    state_files.prune(tmp_path, frozenset())


def test_other_names_are_passed_over(run: Path) -> None:
    state_files.write(run, 3, plain())
    for name in ("3.json~", "x.json", ".3.77", "-1.json", "٣.json", "99999999999.json"):
        (run / "sessions" / name).write_bytes(document.dump({3: FULL}))
    state = state_files.read(run)
    assert state.known == {3: plain(source=Source.STATE)}
    assert state.problems == ()


def test_a_file_others_may_read_is_not_believed(run: Path) -> None:
    state_files.write(run, 3, plain())
    (run / "sessions" / "3.json").chmod(0o644)
    state = state_files.read(run)
    assert state.known == {}
    assert "others may read it" in state.problems[0]


@pytest.mark.parametrize("which", ["", "sessions"])
def test_a_folder_others_may_write_to_is_not_believed(run: Path, which: str) -> None:
    state_files.write(run, 3, plain())
    (run / which).chmod(0o777)
    state = state_files.read(run)
    assert state.known == {}
    assert "others may write to it (mode 0777): what is there is not believed" in state.problems[0]
    with pytest.raises(PermissionError):
        state_files.write(run, 3, plain())


@pytest.mark.parametrize("which", ["", "sessions"])
def test_a_link_is_no_folder(run: Path, tmp_path: Path, which: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    state_files.write(elsewhere, 3, plain())
    if which:
        run.mkdir()
        (run / which).symlink_to(elsewhere / which)
    else:
        run.symlink_to(elsewhere)
    assert state_files.read(run).known == {}
    assert len(state_files.read(run).problems) == 1
    with pytest.raises(OSError, match=r"."):
        state_files.write(run, 4, plain())
    assert not (elsewhere / "sessions" / "4.json").exists()


@pytest.mark.parametrize("kind", ["link", "fifo", "socket", "folder"])
def test_what_is_no_file_is_told_and_holds_nobody_up(
    run: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state_files.write(run, 4, plain())
    path = run / "sessions" / "3.json"
    if kind == "link":
        path.symlink_to(tmp_path / "nowhere")
    elif kind == "fifo":
        os.mkfifo(path, 0o600)
    elif kind == "socket":
        monkeypatch.chdir(path.parent)  # the name of a socket is short
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(path.name)
    else:
        path.mkdir(mode=0o700)
    state = state_files.read(run)
    assert set(state.known) == {4}
    assert len(state.problems) == 1


def test_a_link_in_the_place_of_a_temporary_file_is_not_followed(run: Path, tmp_path: Path) -> None:
    state_files.write(run, 3, plain())
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (run / "sessions" / f".3.{os.getpid()}").symlink_to(victim)
    with pytest.raises(OSError, match=r"."):
        state_files.write(run, 3, FULL)
    assert victim.read_text() == "precious"
