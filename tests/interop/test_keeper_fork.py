# SPDX-License-Identifier: LGPL-2.1-or-later
"""The keeper's real fork on this machine: what it has left of its starter, and what switch-root can do to it."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from iscsiboot.boot import keeper, keeper_child, private_root
from iscsiboot.boot.keeper import Roots, Session
from iscsiboot.keeper import libc
from iscsiboot.model.deadline import Deadline
from tests.unit.boot.test_paths import path

pytestmark = [pytest.mark.interop, pytest.mark.root]

SESSION = Session(sid=7, tpgt=1, request=path(1).request)
OLD_ROOT: list[int] = []
"""In the keeper: its old root, opened when it was about to be left."""
SYSROOT_FILE: list[str] = []
"""A file on a file system that was mounted when the keeper was forked."""


def read(name: str) -> str:
    return Path(name).read_text(errors="replace")


def names(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def descriptors() -> list[str]:
    """Those open now, but for the one that lists them and the test's own."""
    numbers = [path.name for path in Path("/proc/self/fd").iterdir()]
    return [number for number in numbers if Path(f"/proc/self/fd/{number}").exists() and int(number) not in OLD_ROOT]


def probe(known: dict[int, Any], *, run: Path, **_: object) -> None:
    """In place of the guard: tell what the keeper is and sees, into the folder it shares with the daemon; then stay."""
    status = dict(line.split(":\t", 1) for line in read("/proc/self/status").splitlines() if ":\t" in line)
    try:
        import tabnanny  # noqa: F401 - any module nobody has loaded
    except ImportError as error:
        refused = type(error).__name__
    else:
        refused = "no"
    Path("/dev/null").write_bytes(b"x")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0):
        pass
    hidden = []
    for name in ("proc/self", "sys/class", SYSROOT_FILE[0].lstrip("/")):
        for old in OLD_ROOT:
            try:
                os.stat(name, dir_fd=old)
                hidden.append(name)
            except FileNotFoundError:
                pass
    told = {
        "pid": os.getpid(),
        "known": {str(sid): one.request.target_name for sid, one in known.items()},
        "root": names("/"),
        "mounts": [line.split()[4] for line in read("/proc/self/mountinfo").splitlines()],
        "cmdline": read("/proc/self/cmdline").rstrip("\0"),
        "comm": status["Name"],
        "ignored": int(status["SigIgn"], 16),
        "session": os.getsid(0),
        "sysfs": names("/sys/class")[:3],
        "fds": {number: str(Path(f"/proc/self/fd/{number}").readlink()) for number in descriptors()},
        "sealed": refused,
        "hidden": hidden,
    }
    (run / "told.part").write_text(json.dumps(told))
    (run / "told.part").rename(run / "told.json")
    while True:
        signal.pause()


def no_pivot(*_: object) -> None:
    """pivot_root(2) as it answers in an initramfs."""
    OLD_ROOT.append(os.open("/", os.O_PATH))
    raise OSError(errno.EINVAL, "Invalid argument")


class Silent:
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.marks: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def mark(self, mark: object, detail: str = "") -> None:
        self.marks.append(detail)


def in_a_child(work: Callable[[], None]) -> None:
    """Run it in a fork, so that the mounts it makes are nobody else's; its exception is this test's failure."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            work()
            status = 0
        except BaseException:  # noqa: BLE001 - told below
            os.write(writing, traceback.format_exc().encode())
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        # Whatever the keeper inherits of this pipe it has closed; else this would wait for it.
        words = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, words


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """``run`` and ``sysroot`` of a made-up initramfs; a keeper that was left there is ended."""
    for name in ("run", "sysroot"):
        (tmp_path / name).mkdir()
    yield tmp_path
    if (tmp_path / "pid").exists():
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def starter(place: Path) -> None:
    """What iscsistart's process is: a namespace with the root mounted, a console, a lock, then the keeper."""
    libc.unshare(libc.CLONE_NEWNS)
    libc.mount("", "/", "", libc.MS_REC | libc.MS_PRIVATE)
    libc.mount("x", str(place / "sysroot"), "tmpfs")
    libc.mount("x", str(place / "run"), "tmpfs")
    (place / "sysroot/file").touch()
    SYSROOT_FILE.append(str(place / "sysroot/file"))
    lock = os.open(place / "lock", os.O_RDWR | os.O_CREAT)
    report = Silent()
    before = time.monotonic()
    keeper.leave([SESSION], Roots(root=place, run=place / "run"), report=report, now=time.monotonic)
    sys.stderr.write(f"sealed after {time.monotonic() - before:.3f} s\n")
    assert not report.notes, report.notes
    pid = int(report.marks[0].removeprefix("process "))
    (place / "pid").write_text(str(pid))
    told = wait_for(place / "run/iscsiboot/told.json", pid)
    (place / "told.json").write_bytes(told)
    # What switch-root does next is no concern of a process that stands alone.
    libc.umount(str(place / "sysroot"))
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGHUP)
    os.close(lock)


def wait_for(file: Path, pid: int) -> bytes:
    """The file's content when it is there; it appears whole."""
    deadline = Deadline.after(20, now=time.monotonic(), reason="the probe's report")
    while not file.exists():
        os.kill(pid, 0)
        assert not deadline.passed(time.monotonic())
        signal.sigtimedwait([], 0.01)
    return file.read_bytes()


@pytest.mark.parametrize("move", [False, True], ids=["pivot_root", "initramfs"])
def test_the_keeper_stands_alone(place: Path, monkeypatch: pytest.MonkeyPatch, move: bool) -> None:
    monkeypatch.setattr(keeper_child, "guard", probe)
    if move:
        monkeypatch.setattr(libc, "pivot_root", no_pivot)
    in_a_child(lambda: starter(place))
    told = json.loads((place / "told.json").read_text())
    run = str(place / "run/iscsiboot")
    assert told["known"] == {"7": SESSION.request.target_name}

    assert told["root"] == sorted(["dev", "proc", "sys", place.parts[1]])
    assert sorted(told["mounts"]) == sorted(["/", "/proc", "/sys", run])
    assert told["sysfs"]
    assert not told["hidden"], "an old mount lives on below the new root"

    assert told["cmdline"].startswith("@iscsiboot-keeper")
    assert told["comm"] == "iscsiboot-keepe"
    assert told["session"] == told["pid"]
    assert told["sealed"] == "Sealed"
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        assert told["ignored"] >> (number - 1) & 1, number
    standard = {told["fds"].pop(number) for number in ("0", "1", "2")}
    assert standard <= {"/dev/null", "/dev/kmsg"}
    others = [where for where in told["fds"].values() if where != "/dev/kmsg"]
    assert [where.partition(":")[0] for where in others] == ["socket"], "the way to who writes its log, nothing else"
    # It outlived its starter, and the signals.
    assert Path(f"/proc/{told['pid']}").exists()


def test_what_is_not_let_go_would_be_seen(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: the new root over mounts nobody has let go."""
    monkeypatch.setattr(keeper_child, "guard", probe)
    monkeypatch.setattr(libc, "pivot_root", no_pivot)
    monkeypatch.setattr(private_root, "other_mounts", lambda _: [])
    in_a_child(lambda: starter(place))
    told = json.loads((place / "told.json").read_text())
    assert told["hidden"] == ["proc/self", "sys/class", str(place / "sysroot/file").lstrip("/")]


def test_the_kernel_may_refuse_a_namespace(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on without, and says what that costs."""
    lines: list[str] = []

    def refuse(_: int) -> None:
        raise PermissionError(errno.EPERM, "unshare: Operation not permitted")

    before = names("/")
    monkeypatch.setattr(libc, "unshare", refuse)
    keeper_child.own_root(place / "run/iscsiboot", lambda level, text: lines.append(f"{level.name} {text}"))
    assert len(lines) == 1
    assert "WARNING no mount namespace of its own" in lines[0]
    assert names("/") == before


def test_the_namespace_of_everybody_else_stays_as_it_is(place: Path) -> None:
    before = read("/proc/self/mountinfo")

    def work() -> None:
        private_root.enter(place / "run")
        assert names("/") == sorted(["dev", "proc", "sys", place.parts[1]])

    in_a_child(work)
    assert read("/proc/self/mountinfo") == before
