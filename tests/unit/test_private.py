# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files with secrets: which are read, which are refused with what to do, and that no descriptor is left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from iscsiboot.errors import ExitCode, Stage
from iscsiboot.private import SecretsError, read_private

LIMIT = 16


@pytest.fixture(autouse=True)
def _no_descriptor_is_left() -> Iterator[None]:
    folder = Path("/proc/self/fd")
    before = set(folder.iterdir())
    yield
    assert set(folder.iterdir()) == before


def private(path: Path, content: bytes = b"secret", mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
@pytest.mark.parametrize("content", [b"", b"secret\n", bytes(LIMIT)], ids=["empty", "line", "as-large-as-may-be"])
def test_a_file_of_our_own_is_read_as_it_is(tmp_path: Path, mode: int, content: bytes) -> None:
    assert read_private(private(tmp_path / "file", content, mode), limit=LIMIT) == content


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o620, 0o602, 0o601, 0o666])
def test_a_file_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = private(tmp_path / "file", mode=mode)
    with pytest.raises(SecretsError, match=f"others may read it .mode {mode:04o}") as caught:
        read_private(path, limit=LIMIT)
    assert caught.value.hint == f"chmod 0600 {path}, and change the secret"
    assert (caught.value.stage, caught.value.exit_code) == (Stage.ARGUMENTS, ExitCode.INVAL)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = private(tmp_path / "file")
    os.chown(path, 12345, 12345)
    with pytest.raises(SecretsError, match="belongs to user 12345"):
        read_private(path, limit=LIMIT)


def test_a_file_we_may_not_read_says_whose_business_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Root may read everything, so the refusal is made here."""

    def denied(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    path = private(tmp_path / "file")
    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(SecretsError, match="cannot be read: Permission denied; next: run this as the file's owner"):
        read_private(path, limit=LIMIT)


def test_a_file_that_fails_while_it_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(_: int) -> os.stat_result:
        raise OSError(5, "Input/output error")

    path = private(tmp_path / "file")
    monkeypatch.setattr(os, "fstat", broken)
    with pytest.raises(SecretsError, match="cannot be read: Input/output error"):
        read_private(path, limit=LIMIT)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    for path, words in (
        (tmp_path, "is no regular file"),
        (tmp_path / "fifo", "is no regular file"),
        (Path("/dev/null"), "is no regular file"),
        (tmp_path / "absent", "cannot be read: No such file"),
        (tmp_path / "a\0b", "cannot be read: embedded null"),
        (private(tmp_path / "large", bytes(LIMIT + 1)), f"is larger than {LIMIT} bytes"),
    ):
        with pytest.raises(SecretsError, match=words) as caught:
            read_private(path, limit=LIMIT)
        assert caught.value.hint
        assert caught.value.line().isprintable()
