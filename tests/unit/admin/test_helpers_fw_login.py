# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsi_fw_login`` and its udev rule: one login at a time, and only for what firmware shows."""

from __future__ import annotations

import fcntl
import re
import stat
import subprocess
import sys
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import TextIO

import pytest

from iscsiboot.admin.context import Paths
from iscsiboot.admin.fw_login import LOCK, main

ROOT = Path(__file__).resolve().parents[3]
RULE = ROOT / "hooks" / "50-iscsi-firmware-login.rules.in"


@pytest.mark.parametrize("status", [0, 21, 22])
@pytest.mark.parametrize("argv", [(), ("target0",)], ids=["plain", "with a word"])
def test_it_is_iscsiadm_s_firmware_login(tmp_path: Path, argv: Sequence[str], status: int) -> None:
    calls: list[tuple[str, ...]] = []

    def command(arguments: Sequence[str], out: TextIO, err: TextIO) -> int:
        calls.append(tuple(arguments))
        out.write("out")
        err.write("err")
        return status

    out, err = StringIO(), StringIO()
    assert main(argv, out, err, command, paths=Paths(run=str(tmp_path))) == status
    assert (calls, out.getvalue(), err.getvalue()) == ([("-m", "fw", "-l")], "out", "err")


def test_a_second_run_waits_and_the_lock_is_gone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / LOCK

    def command(_arguments: Sequence[str], _out: TextIO, _err: TextIO) -> int:
        with path.open("rb") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return 0

    assert main((), StringIO(), StringIO(), command, paths=Paths(run=str(tmp_path))) == 0
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_lock_is_let_go_when_the_login_is_interrupted(tmp_path: Path) -> None:
    def command(_arguments: Sequence[str], _out: TextIO, _err: TextIO) -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        main((), StringIO(), StringIO(), command, paths=Paths(run=str(tmp_path)))
    with (tmp_path / LOCK).open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("kind", ["no directory", "symbolic link"])
def test_without_a_lock_there_is_no_login(tmp_path: Path, kind: str) -> None:
    run = tmp_path / "run"
    if kind == "symbolic link":
        run.mkdir()
        (run / LOCK).symlink_to(tmp_path / "elsewhere")

    def command(_arguments: Sequence[str], _out: TextIO, _err: TextIO) -> int:
        raise AssertionError("it logged in")

    err = StringIO()
    assert main((), StringIO(), err, command, paths=Paths(run=str(run))) == 1
    assert err.getvalue().startswith(f"iscsi_fw_login: {run}/{LOCK} cannot be made: ")
    assert not (tmp_path / "elsewhere").exists()


def rules() -> list[list[tuple[str, str, str]]]:
    """Key, operator and value of each part of each rule; a line that is no rule fails."""
    part = re.compile(r'([A-Z]+(?:\{[^}]+\})?)(==|!=|\+=|=)"([^"]*)"')
    found = []
    for line in RULE.read_text().splitlines():
        if line and not line.startswith("#"):
            pieces = line.split(", ")
            matches = [part.fullmatch(piece) for piece in pieces]
            assert all(matches), line
            found.append([(match[1], match[2], match[3]) for match in matches if match])
    return found


def test_the_rule_skips_everything_but_a_new_target_of_an_adapter() -> None:
    end = ("GOTO", "=", "iscsi_firmware_login_end")
    first, second, third, *_, last = rules()
    assert [first, second, third] == [
        [("ACTION", "!=", "add"), end],
        [("SUBSYSTEM", "!=", "iscsi_boot*"), end],
        [("DEVPATH", "!=", "*/target*"), end],
    ]
    assert last == [("LABEL", "=", "iscsi_firmware_login_end")]


def test_the_rule_runs_it_once_and_under_systemd_outside_udev() -> None:
    """systemd-udevd.service has IPAddressDeny=any: what it runs itself reaches no target."""
    running = [rule for rule in rules() if any(key == "RUN" for key, _, _ in rule)]
    assert running == [
        [
            ("TEST", "==", "/run/systemd/system"),
            ("RUN", "+=", "/usr/bin/systemd-run --quiet --no-block --collect @SBINDIR@/iscsi_fw_login"),
        ],
        [("TEST", "!=", "/run/systemd/system"), ("RUN", "+=", "@SBINDIR@/iscsi_fw_login")],
    ]


def test_the_process_ends_with_the_status_of_iscsiadm(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "import iscsiboot.admin.main as iscsiadm, iscsiboot.admin.fw_login as helper\n"
        f"helper.Paths = lambda: type('Paths', (), dict(run={str(tmp_path)!r}))\n"
        "def false(argv, out, err, paths=None):\n    out.write(' '.join(argv))\n    return 21\n"
        "iscsiadm.main = false\nhelper.run()\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (21, "-m fw -l", "")
