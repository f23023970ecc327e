# SPDX-License-Identifier: LGPL-2.1-or-later
"""``tools/demo.py`` ended half way: nothing of it runs or is mounted afterwards, whatever it did and how it ended.

Every process the demonstration starts, however far removed, inherits a mark in its environment, so "nothing is left" is
looked for in all of /proc and not among known children.
"""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from secrets import token_hex

import pytest

from iscsiboot.model.deadline import Deadline
from tests.qemu.harness.cache import Cache, default_root
from tests.qemu.harness.cases import CASES
from tests.qemu.harness.disk import Variant
from tests.qemu.harness.errors import CHECKOUT
from tests.qemu.harness.process import tell_stderr
from tests.qemu.harness.run import Laboratory

pytestmark = [pytest.mark.boot, pytest.mark.root]

MARK = "ISCSIBOOT_DEMO_MARK"
END_SECONDS = 30


def marked(mark: str) -> dict[int, str]:
    """Process ids and command lines of what runs with ``mark`` in its environment."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(process.name)] = words.decode("utf-8", "replace")
        except OSError:
            continue  # it ended while we looked, or is a kernel thread
    return found


def await_ends(descriptors: list[int]) -> None:
    """Return when every process has ended, or after END_SECONDS: who was killed is gone a moment after the killer."""
    deadline = Deadline.after(END_SECONDS, now=time.monotonic(), reason="the demonstration's processes to end")
    for descriptor in descriptors:
        select.select([descriptor], [], [], deadline.remaining(time.monotonic()))
        os.close(descriptor)


def interrupted(words: str, number: signal.Signals, cache: Path, tmp_path: Path) -> tuple[int, list[str], str]:
    """Run the demonstration until it says ``words``, send the signal; exit status, processes left, and its output."""
    mark = token_hex(8)
    env = {**os.environ, MARK: mark, "XDG_CACHE_HOME": str(cache), "PYTHONUNBUFFERED": "1"}
    argv = [sys.executable, str(CHECKOUT / "tools/demo.py"), "--svg", str(tmp_path / "t.svg")]
    said, running = [], []
    with subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stderr is not None
        for line in demo.stderr:
            said.append(line)
            if words in line:
                for pid in marked(mark):
                    with contextlib.suppress(ProcessLookupError):
                        running.append(os.pidfd_open(pid))
                demo.send_signal(number)
                break
        said += demo.communicate(timeout=END_SECONDS)[1].splitlines(keepends=True)
    assert len(running) >= 2, "the demonstration and what it waits for"
    await_ends(running)
    return demo.returncode, list(marked(mark).values()), "".join(said)


def mounts() -> str:
    """The mounts this process sees, without those other work of this machine may change."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return "\n".join(line for line in lines if "iscsiboot" in line)


def cache_of_its_own(directory: Path) -> Path:
    """A cache with everything that is finished in the common one, where nobody else makes a run's directory."""
    directory.mkdir(parents=True)
    for entry in default_root().iterdir():
        if entry.name[0] != "." and entry.name not in ("lock", "logs"):
            (directory / entry.name).symlink_to(entry)
    return directory


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_while_the_tree_is_made(number: signal.Signals, tmp_path: Path, laboratory: Laboratory) -> None:
    before = mounts()
    status, left, said = interrupted("Debian tree: ", number, tmp_path / "cache", tmp_path)
    assert (status, left) == (130, []), said
    assert "interrupted; nothing of it is left running" in said
    assert mounts() == before
    # The lock file stays; a half entry of a process that was still on its way out goes with the next build.
    assert {path.name for path in (tmp_path / "cache/iscsiboot").iterdir() if path.name[0] != "."} == {"lock"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_while_the_machine_runs(number: signal.Signals, tmp_path: Path, laboratory: Laboratory) -> None:
    laboratory.builder.files(Variant.SYSTEMD)
    before, mine = mounts(), cache_of_its_own(tmp_path / "cache/iscsiboot")
    status, left, said = interrupted("firmware: iPXE runs", number, mine.parent, tmp_path)
    assert (status, left) == (130, []), said
    assert mounts() == before
    assert not list(mine.glob(".run-*")), "the copy of the disk is gone"


def test_killed_without_a_chance_to_clean_up(tmp_path: Path, laboratory: Laboratory) -> None:
    """The kernel ends what it had started; the next run removes the files."""
    laboratory.builder.files(Variant.SYSTEMD)
    mine = cache_of_its_own(tmp_path / "cache/iscsiboot")
    status, left, said = interrupted("firmware: iPXE runs", signal.SIGKILL, mine.parent, tmp_path)
    assert status == -signal.SIGKILL
    assert left == [], said
    (before,) = mine.glob(".run-*")
    with Cache(mine, tell_stderr).scratch() as scratch:
        assert list(mine.glob(".run-*")) == [scratch]
    assert scratch != before


class Typist:
    """A person at a terminal: reads what is printed until words appear, types."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self.screen = ""

    def until(self, words: str, seconds: float) -> None:
        """Read until ``words`` appear behind what was read before."""
        start = len(self.screen)
        deadline = Deadline.after(seconds, now=time.monotonic(), reason=words)
        while words not in self.screen[start:]:
            ready, _, _ = select.select([self._terminal], [], [], deadline.remaining(time.monotonic()))
            assert ready, f"{words!r} did not appear: {self.screen[-2000:]}"
            self.screen += os.read(self._terminal, 4096).decode("utf-8", "replace")

    def type(self, text: str) -> None:
        """Press the keys."""
        os.write(self._terminal, text.encode())


def test_the_shell_is_a_root_shell_on_the_iscsi_root(tmp_path: Path, laboratory: Laboratory) -> None:
    laboratory.builder.files(Variant.SYSTEMD)
    case = CASES["table-static-chap"]
    ours, theirs = pty.openpty()
    argv = [sys.executable, str(CHECKOUT / "tools/demo.py"), "--shell", "--case", case.name]
    argv += ["--svg", str(tmp_path / "t.svg")]
    with subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs) as demo:
        try:
            os.close(theirs)
            person = Typist(ours)
            person.until("Ctrl-A X ends it", case.seconds)
            person.until("root@iscsiboot-test", 60)
            # The answer is computed, so the echo of what was typed is not taken for it.
            person.type("findmnt -no SOURCE,FSTYPE / | tr a-z A-Z; echo $((6 * 7)) of $(id -un)\r")
            person.until("42 of root", 60)
            assert "/DEV/SDA EXT4" in person.screen
            person.type("\x01x")
            person.until("verdict:  the machine reached multi-user", 60)
            assert demo.wait(END_SECONDS) == 0
        finally:
            demo.kill()
            os.close(ours)
    assert (tmp_path / "t.svg").read_text().startswith("<svg ")
