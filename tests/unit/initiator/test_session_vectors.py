# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whole sessions with real targets, recorded (tests/vectors/session/README.md) and held again, byte for byte."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from iscsiboot.initiator.discovery import TargetFound
from iscsiboot.initiator.events import LoginSucceeded
from iscsiboot.initiator.session_events import GOOD, CommandFinished, LoggedOut, Pong
from tests.vectors.session.replay import BLOCK, DATA, HERE, OWN, SCRIPTS, TARGET, USER, Player, Recording

RECORDINGS = sorted(HERE.glob("*.txt"))
KINDS = ("chap", "digests", "discovery", "mutual", "mutual-digests", "none", "refused")


def test_there_is_each_kind_from_each_target() -> None:
    wanted = sorted(f"{peer}-{kind}" for peer in ("istgt", "lio", "tgt") for kind in KINDS)
    assert sorted(path.stem for path in RECORDINGS) == wanted


def replay(recording: Recording, piece: int) -> Player:
    """Feed the target's turns in pieces; each turn of ours must come out as recorded."""
    player = Player(recording)
    directions = [direction for direction, _ in recording.turns]
    assert directions[0] == ">"
    assert all(one != other for one, other in pairwise(directions))
    sent = player.send()
    for direction, data in recording.turns:
        if direction == ">":
            assert sent.hex() == data.hex()
            sent = b""
            continue
        for at in range(0, len(data), piece):
            player.receive(data[at : at + piece])
            sent += player.send()
    assert sent == b""
    return player


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("piece", [1, 48, 1 << 20], ids=["bytes", "headers", "turns"])
def test_replay(path: Path, piece: int) -> None:
    recording = Recording.load(path)
    player = replay(recording, piece)
    assert player.done
    assert (player.failed or "success") == recording.ends
    login = player.events[0] if player.events else None
    assert isinstance(login, LoginSucceeded) == (recording.ends == "success")
    if isinstance(login, LoginSucceeded):
        assert login.mutual == (recording.auth == "mutual")
        assert (login.algorithm is not None) == (recording.auth != "none")
        assert (login.negotiated.header_digest, login.negotiated.data_digest) == (recording.digests == "both",) * 2


@pytest.mark.parametrize(
    "path", [path for path in RECORDINGS if "refused" not in path.stem], ids=lambda path: path.stem
)
def test_what_the_sessions_were_about(path: Path) -> None:
    recording = Recording.load(path)
    events = replay(recording, 1 << 20).events
    assert len(events) >= 1 + len(SCRIPTS[recording.script]())
    if recording.script == "discovery":
        names = [event.target.name for event in events if isinstance(event, TargetFound)]
        assert sorted(names) == [f"{TARGET}-{auth}" for auth in ("chap", "mutual", "none")]
    if recording.script == "normal":
        assert [event.data for event in events if isinstance(event, Pong)] == [b"iscsiboot"]
        results = [event.result for event in events if isinstance(event, CommandFinished)]
        assert [result.status for result in results[1:]] == [GOOD] * 5
        assert results[-1].data == DATA
        assert int.from_bytes(results[3].data[4:8], "big") == BLOCK
    if recording.script != "none":
        assert isinstance(events[-1], LoggedOut)
        assert events[-1].response == 0


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_a_recording_survives_its_own_format_and_holds_no_secret(path: Path, tmp_path: Path) -> None:
    recording = Recording.load(path)
    recording.save(tmp_path / "again")
    assert (tmp_path / "again").read_text() == path.read_text()
    wire = b"".join(data for _, data in recording.turns)
    assert USER[1].encode() not in wire
    assert OWN[1].encode() not in wire


def test_a_changed_byte_of_ours_is_noticed() -> None:
    recording = Recording.load(HERE / "lio-none.txt")
    direction, data = recording.turns[2]
    recording.turns[2] = (direction, data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(AssertionError):
        replay(recording, 1 << 20)
