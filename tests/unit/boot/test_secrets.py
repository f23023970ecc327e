# SPDX-License-Identifier: LGPL-2.1-or-later
"""Credentials: from which place, in which order, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from iscsiboot.boot.options import parse
from iscsiboot.boot.parameters import BootParameters, apply_settings
from iscsiboot.boot.secrets import FILE_MAX_BYTES, from_directory, from_file, gather
from iscsiboot.model.credentials import Credentials
from iscsiboot.private import SecretsError

LOGIN = ["-i", "iqn.2001-04.com.example:i", "-g", "1", "-t", "iqn.2001-04.com.example:t", "-a", "10.0.2.2"]
FILE = "node.session.auth.username = file-user\nnode.session.auth.password = file-secret\n"


def private(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_nobody_gave_any() -> None:
    assert gather(parse(LOGIN), BootParameters(), BootParameters(), {}, remark=pytest.fail) is None


def test_every_source_in_its_order(tmp_path: Path) -> None:
    file = private(tmp_path / "secrets", FILE)
    directory = tmp_path / "credentials"
    directory.mkdir()
    private(directory / "iscsiboot.username", "unit-user\n", 0o400)
    private(directory / "iscsiboot.password", "unit-secret\n", 0o400)
    environment = {"ISCSIBOOT_USERNAME": "env-user", "ISCSIBOOT_PASSWORD": "env-secret"}
    pairs = [("node.session.auth.username", "conf-user"), ("node.session.auth.password", "conf-secret")]
    config = apply_settings(BootParameters(), pairs, origin="conf").parameters
    param = apply_settings(BootParameters(), [("node.session.auth.username", "P-user")], origin="-P").parameters
    none = BootParameters()

    def names(argv: list[str], on_command_line: BootParameters, environ: dict[str, str]) -> tuple[str, bytes]:
        found = gather(parse([*LOGIN, *argv]), on_command_line, config, environ, remark=pytest.fail)
        assert found is not None
        return found.outgoing.name, found.outgoing.secret.reveal()

    with_unit = environment | {"CREDENTIALS_DIRECTORY": str(directory)}
    assert names([], none, {}) == ("conf-user", b"conf-secret")
    assert names([], none, environment) == ("env-user", b"env-secret")
    assert names([], none, with_unit) == ("unit-user", b"unit-secret")
    assert names(["--credentials", str(file)], none, with_unit) == ("file-user", b"file-secret")
    assert names(["--credentials", str(file)], param, with_unit) == ("P-user", b"file-secret")
    assert names(["-u", "argv", "-w", "argv-secret"], param, with_unit) == ("argv", b"argv-secret")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o620])
def test_a_file_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = private(tmp_path / "secrets", FILE, mode)
    with pytest.raises(SecretsError, match="others may read it") as caught:
        from_file(path)
    assert "file-secret" not in caught.value.line()
    assert f"chmod 0600 {path}" in caught.value.line()


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SecretsError, match="is no regular file"):
        from_file(tmp_path)
    with pytest.raises(SecretsError, match=f"larger than {FILE_MAX_BYTES}"):
        from_file(private(tmp_path / "large", "#" * (FILE_MAX_BYTES + 1)))
    (tmp_path / "iscsiboot.username").mkdir()
    with pytest.raises(SecretsError, match="is no regular file"):
        from_directory(tmp_path)


@pytest.mark.parametrize("line", ["node.session.auth.pasword = typo", "node.session.queue_depth = 3", "word"])
def test_a_credentials_file_holds_credentials_only(tmp_path: Path, line: str) -> None:
    with pytest.raises(SecretsError):
        from_file(private(tmp_path / "secrets", f"{FILE}{line}\n"))


def test_a_directory_without_ours_gives_nothing(tmp_path: Path) -> None:
    assert from_directory(tmp_path).password is None


@pytest.mark.parametrize(
    ("pairs", "cause"),
    [
        ({"username": "u", "password": "secret-one", "password_in": "secret-two"}, "username_in is not set"),
        (
            {"username": "u", "password": "secret-one", "username_in": "t", "password_in": "secret-one"},
            "must differ",
        ),
        ({"username": "u\a", "password": "secret-one"}, "printable"),
    ],
)
def test_what_cannot_be_used_is_refused_without_showing_it(pairs: dict[str, str], cause: str) -> None:
    """Every other half: tests/unit/test_half_chap.py."""
    with pytest.raises(SecretsError, match=cause) as caught:
        gathered(pairs)
    assert "secret-" not in caught.value.line()


def gathered(pairs: dict[str, str]) -> Credentials | None:
    settings = [(f"node.session.auth.{name}", value) for name, value in pairs.items()]
    params = apply_settings(BootParameters(), settings, origin="-P").parameters
    return gather(parse(LOGIN), params, BootParameters(), {}, remark=pytest.fail)


def test_mutual() -> None:
    found = gathered({"username": "u", "password": "s1", "username_in": "t", "password_in": "s2"})
    assert found is not None
    assert found.incoming is not None
    assert found.incoming.name == "t"
