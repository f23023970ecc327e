# SPDX-License-Identifier: LGPL-2.1-or-later
"""The installed ``iscsiadm`` as other programs meet it: what is in the file, and that nothing around it gets in.

Numbers are those of the list of what real clients rely on.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``sbin/iscsiadm`` of an installation."""
    prefix = tmp_path_factory.mktemp("prefix")
    subprocess.run(["make", "-s", "-C", str(ROOT), "install", f"PREFIX={prefix}"], check=True, stdin=subprocess.DEVNULL)
    return prefix / "sbin/iscsiadm"


def answer(program: Path, *argv: str | bytes, **environment: str) -> tuple[int, bytes, bytes]:
    done = subprocess.run([program, *argv], capture_output=True, check=False, env=environment, cwd="/")
    return done.returncode, done.stdout, done.stderr


def test_client_1_os_brick_finds_manual_scan_in_the_file(program: Path) -> None:
    found = subprocess.run(["grep", "-F", "node.session.scan", program], capture_output=True, check=False)
    assert found.returncode == 0


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"PYTHONWARNINGS": "always", "PYTHONDEVMODE": "1", "PYTHONVERBOSE": "1", "PYTHONPROFILEIMPORTTIME": "1"},
        {"LANG": "C"},
        {"LC_ALL": "POSIX"},
        {"LC_ALL": "de_DE.ISO-8859-1"},
        {"LC_ALL": "no_such_locale"},
        {"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii:strict"},
    ],
    ids=str,
)
def test_client_2_nothing_is_on_stderr_after_success(environment: dict[str, str], program: Path) -> None:
    status, out, err = answer(program, "-h", **environment)
    assert (status, err) == (0, b"")
    assert out.startswith(b"iscsiadm -m discoverydb ")


def test_client_2_modules_of_the_caller_are_not_loaded(program: Path, tmp_path: Path) -> None:
    for name in ("os.py", "io.py", "iscsiboot.py", "sitecustomize.py", "warnings.py"):
        (tmp_path / name).write_text("raise SystemExit('taken over')\n")
    done = subprocess.run(
        [program, "-V"], capture_output=True, check=False, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    "line",
    ["--target iqn.x:y", "--targ=iqn.x:y", "--op=update", "--portal=192.0.2.1:3260", "-I a -I b", "-o show -o new"],
)
@pytest.mark.parametrize("mode", ["--mode node", "--mode=node", "-mnode", "--mod=node"])
def test_client_8_spellings_are_understood(mode: str, line: str, program: Path) -> None:
    """The version comes last and is refused by name, so everything before it was understood."""
    status, _, err = answer(program, *line.split(), *mode.split(), "-V")
    assert (status, err) == (7, b"iscsiadm: node mode: option '-V' is not allowed/supported\n")


def test_client_10_words_that_belong_to_nothing_are_no_mistake(program: Path) -> None:
    assert answer(program, "stray", "-V", "words") == (0, b"iscsiadm version 2.1.8\n", b"")


def test_client_19_the_third_word_is_a_version_newer_than_2_0_871(program: Path) -> None:
    status, out, err = answer(program, "--version")
    words = out.split()
    assert (status, err, words[:2]) == (0, b"", [b"iscsiadm", b"version"])
    assert tuple(int(part) for part in words[2].split(b".")) > (2, 0, 871)


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "de_DE.ISO-8859-1"])
def test_any_bytes_of_a_name_come_back_as_they_were(locale: str, program: Path) -> None:
    status, _, err = answer(program, "-o", b"\xc3\xa9", LC_ALL=locale)
    assert (status, err) == (7, b"iscsiadm: can not recognize operation: '\xc3\xa9'\n")


def test_a_reader_that_goes_away_ends_it_by_sigpipe(program: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([program, "-h"], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b"")


def test_byte_code_is_installed_beside_the_modules(program: Path) -> None:
    package = program.parent.parent / "lib/iscsiboot/iscsiboot"
    compiled = {path.name.partition(".")[0] for path in (package / "admin/__pycache__").glob("*.pyc")}
    assert compiled == {path.stem for path in (package / "admin").glob("*.py")}
