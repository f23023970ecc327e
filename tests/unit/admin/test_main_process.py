# SPDX-License-Identifier: LGPL-2.1-or-later
"""The process around a command: closed streams, readers that go away, full disks, Ctrl-C, warnings, any bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

ROOT = Path(__file__).resolve().parents[3]
PRELUDE = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}]
sys.argv[0] = "/usr/sbin/name"
from iscsiboot.admin.process import process
"""
FULL = Path("/dev/full")


Stream = IO[bytes] | int


def start(
    body: str,
    *argv: str,
    stdout: Stream = subprocess.PIPE,
    stderr: Stream = subprocess.PIPE,
    preexec_fn: Callable[[], None] | None = None,
) -> subprocess.Popen[bytes]:
    """A process whose command has the lines ``body`` (with argv, out, err, program)."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    text = f"{PRELUDE}\ndef command(argv, out, err, program):\n{lines}\nprocess(command, 'tool')\n"
    command = [sys.executable, "-ISXutf8", "-c", text, *argv]
    return subprocess.Popen(command, stdout=stdout, stderr=stderr, preexec_fn=preexec_fn)


def result(
    body: str,
    *argv: str,
    stdout: Stream = subprocess.PIPE,
    stderr: Stream = subprocess.PIPE,
    preexec_fn: Callable[[], None] | None = None,
) -> tuple[int, bytes, bytes]:
    with start(body, *argv, stdout=stdout, stderr=stderr, preexec_fn=preexec_fn) as running:
        out, err = running.communicate(timeout=60)
        return running.returncode, out, err


def test_status_and_streams_are_the_commands() -> None:
    assert result("out.write('a\\n'); err.write('b\\n'); return 21") == (21, b"a\n", b"b\n")


def test_the_command_gets_its_arguments_and_the_callers_name() -> None:
    assert result("out.write(f'{program} {argv}'); return 0", "-x", "y")[1] == b"name ['-x', 'y']"


def test_any_bytes_go_through() -> None:
    name = b"\xff\xe9 caf\xc3\xa9"
    assert result("out.write(argv[0]); err.write(argv[0]); return 0", os.fsdecode(name)) == (0, name, name)


def test_new_files_are_for_root_alone() -> None:
    assert result("import os; out.write(oct(os.umask(0))); return 0")[1] == b"0o77"


def test_no_library_warns_on_stderr() -> None:
    assert result("import warnings; warnings.warn('x', RuntimeWarning); warnings.warn('y'); return 0") == (0, b"", b"")


def test_ctrl_c_is_the_peers_line() -> None:
    assert result("raise KeyboardInterrupt") == (1, b"", b"tool: caught SIGINT, exiting...\n")


def test_a_signal_in_the_middle() -> None:
    with start("out.write('ready\\n'); out.flush()\nimport signal\nwhile True: signal.pause()") as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (1, b"tool: caught SIGINT, exiting...\n")


@pytest.mark.parametrize("size", [1, 100_000], ids=["at the end", "in the middle"])
def test_a_reader_that_went_away_ends_it_quietly_by_sigpipe(size: int) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        status, _, err = result(f"out.write('x' * {size}); return 0", stdout=writing)
    finally:
        os.close(writing)
    assert (status, err) == (-signal.SIGPIPE, b"")


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
@pytest.mark.parametrize("size", [1, 100_000], ids=["at the end", "in the middle"])
def test_a_full_disk_is_one_line_and_no_success(size: int) -> None:
    with FULL.open("wb") as full:
        status, _, err = result(f"out.write('x' * {size}); return 0", stdout=full)
    assert (status, err) == (1, b"tool: could not write to standard output: No space left on device\n")


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
def test_stderr_that_cannot_be_written_changes_no_status() -> None:
    with FULL.open("wb") as full:
        assert result("return 21", stderr=full)[0] == 21


def closed(*descriptors: int) -> Callable[[], None]:
    """A preexec_fn that closes standard streams, as ``>&-`` does."""

    def close() -> None:
        for number in descriptors:
            os.close(number)

    return close


@pytest.mark.parametrize("numbers", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_closed_streams_are_no_failure_and_never_become_files(numbers: tuple[int, ...], tmp_path: Path) -> None:
    file = tmp_path / "record"
    body = (
        f"import os\nnumber = os.open({str(file)!r}, os.O_WRONLY | os.O_CREAT)\nout.write('secret'); out.flush()\n"
        "err.write('secret'); err.flush()\nreturn number if number < 3 else 0"
    )
    status, _, _ = result(body, preexec_fn=closed(*numbers))
    assert (status, file.read_bytes()) == (0, b"")
