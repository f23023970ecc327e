# SPDX-License-Identifier: LGPL-2.1-or-later
"""Children end with the harness, long work tells its progress, failures come with their last words."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.qemu.harness import process
from tests.qemu.harness.errors import HarnessError
from tests.qemu.harness.process import Process, run_long


def test_a_child_that_ignores_term_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "TERMINATE_SECONDS", 0.2)
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    argv = ["sh", "-c", f"trap '' TERM; echo > {ready}; while :; do sleep 5; done"]
    with Process(argv, log=tmp_path / "log") as running:
        ready.read_text()
        child = running.child
    assert child.returncode == -signal.SIGKILL


def test_output_is_kept(tmp_path: Path) -> None:
    with Process(["sh", "-c", "echo out; echo err >&2"], log=tmp_path / "log") as running:
        assert running.child.wait(10) == 0
        assert running.output() == "out\nerr\n"


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with Process(["/nonexistent/program"], log=tmp_path / "log") as running:
        assert running.child.wait(10) == 127
        assert "/nonexistent/program" in running.output()


def test_outside_the_block_there_is_no_child(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="not started"):
        _ = Process(["true"], log=tmp_path / "log").child


KILLED_PARENT = """
import sys, os
from pathlib import Path
from tests.qemu.harness.process import Process
ready = sys.argv[1] + ".ready"
os.mkfifo(ready)
with Process(["sh", "-c", f"echo >{ready}; exec sleep 300"], log=Path(sys.argv[1])) as running:
    Path(ready).read_text()
    print(running.child.pid, flush=True)
    sys.stdin.read()
"""


def test_children_die_when_the_harness_is_killed(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", KILLED_PARENT, str(tmp_path / "log")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        grandchild = int(parent.stdout.readline())
        ended = os.pidfd_open(grandchild)
        try:
            parent.kill()
            assert select.select([ended], [], [], 10)[0], "the grandchild outlived its parent"
        finally:
            os.close(ended)


def test_long_work_tells_what_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "REPORT_EVERY_SECONDS", 0.1)
    said: list[str] = []
    argv = ["sh", "-c", "echo unpacking; sleep 0.5"]
    run_long(argv, what="tree", log=tmp_path / "log", seconds=10, tell=said.append)
    assert any(line.startswith("tree: ") and line.endswith("unpacking") for line in said)
    assert said[-1].startswith("tree: done in ")


def test_failure_has_the_last_words_and_the_log(tmp_path: Path) -> None:
    with pytest.raises(HarnessError) as caught:
        run_long(["sh", "-c", "echo why; exit 3"], what="tree", log=tmp_path / "log", seconds=10, tell=print)
    assert str(caught.value) == f"tree: exit status 3: why; see {tmp_path / 'log'}"


def test_time_out(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"tree: not finished after 0 s"):
        run_long(["sleep", "60"], what="tree", log=tmp_path / "log", seconds=0.2, tell=print)
