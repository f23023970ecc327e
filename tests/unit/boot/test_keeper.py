# SPDX-License-Identifier: LGPL-2.1-or-later
"""The keeper as iscsistart sees it: when one is left, and that nothing it does can spoil a boot that has its disk."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from iscsiboot.boot import keeper, private_root
from iscsiboot.boot.iscsistart import Interrupted
from iscsiboot.boot.keeper import SEALED, Roots, Session, leave, wanted
from iscsiboot.boot.keeper_child import leave_control_group, leave_starter
from iscsiboot.boot.known import known_sessions
from iscsiboot.boot.options import UsageError, parse
from iscsiboot.boot.readiness import tell_ready
from iscsiboot.initiator.chap import ChapAlgorithm
from iscsiboot.keeper.log import Level
from iscsiboot.keeper.values import Source
from iscsiboot.model.timeline import Mark
from tests.unit.boot.test_paths import Recorder, end_each_child_at_its_birth, nowhere_else, path
from tests.unit.initramfs.test_closure import late_imports

ROOT = Path(__file__).resolve().parents[3]
SESSION = Session(sid=7, tpgt=3, request=path(1).request, algorithm=ChapAlgorithm.SHA1)
LOGIN = ["-i", "iqn.2001-04.com.example:i", "-g", "1", "-t", "iqn.2001-04.com.example:t", "-a", "10.0.2.2"]


@pytest.mark.parametrize(
    ("choice", "cmdline", "in_initramfs", "answer"),
    [
        (None, "quiet root=LABEL=x", True, True),
        (None, "quiet root=LABEL=x", False, False),
        (None, "rd.iscsiboot.keeper=0", True, False),
        (None, "rd.iscsiboot.keeper=no", True, False),
        (None, "rd.iscsiboot.keeper=OFF quiet", True, False),
        (None, "rd.iscsiboot.keeper=0 rd.iscsiboot.keeper=1", True, True),
        (None, "rd.iscsiboot.keeper=1 rd.iscsiboot.keeper=0", True, False),
        (None, "rd.iscsiboot.keeper", True, True),
        (None, "rd.iscsiboot.keeper=1", False, False),
        (None, "rd.iscsiboot.keepers=0 xrd.iscsiboot.keeper=0", True, True),
        (True, "rd.iscsiboot.keeper=0", False, True),
        (False, "rd.iscsiboot.keeper=1", True, False),
    ],
)
def test_who_decides(choice: bool | None, cmdline: str, in_initramfs: bool, answer: bool) -> None:
    assert wanted(choice, cmdline, in_initramfs=in_initramfs) is answer


def test_the_options() -> None:
    assert parse(["-b"]).keeper is None
    assert parse(["-b", "--keeper"]).keeper is True
    assert parse(["-b", "--keeper", "--no-keeper"]).keeper is False
    assert parse([*LOGIN, "--no-keeper", "--keeper"]).keeper is True
    with pytest.raises(UsageError):
        parse(["-b", "--keeper=1"])


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def left(life: keeper.Life) -> Recorder:
    """What ``leave`` tells of a keeper that lives so."""
    recorder = Recorder()
    leave([SESSION], Roots(), report=recorder, now=time.monotonic, life=life)
    return recorder


def reaped(recorder: Recorder) -> int:
    """The status of the keeper, whose number is in what was told."""
    words = recorder.marks[0][1] if recorder.marks else recorder.notes[0].removeprefix("keeper, ").partition(":")[0]
    return os.waitstatus_to_exitcode(os.waitpid(int(words.removeprefix("process ")), 0)[1])


def test_iscsistart_goes_on_when_the_keeper_stands_alone_and_not_before() -> None:
    """The keeper lives on: what it does afterwards nobody waits for."""
    held, release = os.pipe()
    before = time.monotonic()

    def life(sessions: Sequence[Session], roots: Roots, ready: int) -> None:
        os.close(release)
        assert list(sessions) == [SESSION]
        signal.sigtimedwait([], 0.3)
        # In two parts, as a pipe may hand it over.
        os.write(ready, SEALED[:3])
        os.write(ready, SEALED[3:])
        os.close(ready)
        os.read(held, 1)

    recorder = left(life)
    assert time.monotonic() - before >= 0.3
    assert [mark for mark, _ in recorder.marks] == [Mark.KEEPER]
    assert not recorder.notes
    pid = int(recorder.marks[0][1].removeprefix("process "))
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    os.close(release)
    os.close(held)
    assert reaped(recorder) == 0


def fails(*_: object) -> None:
    raise RuntimeError("the keeper's own fault")


def is_killed(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hangs(*_: object) -> None:
    signal.pause()


@pytest.mark.parametrize(("life", "status"), [(fails, 1), (is_killed, -9), (lambda *_: None, 0)])
def test_a_keeper_that_ends_early_is_told_at_once(
    life: keeper.Life, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    before = time.monotonic()
    recorder = left(life)
    assert time.monotonic() - before < keeper.SEAL_SECONDS / 2
    assert not recorder.marks
    assert recorder.notes[0].endswith(": it ended before it was ready; the kernel's log has its last lines")
    assert reaped(recorder) == status
    assert ("the keeper's own fault" in capfd.readouterr().err) is (life is fails)


def test_a_signal_at_its_birth_means_iscsistart_and_not_the_keeper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(number: int, _: object) -> None:
        raise Interrupted(number)

    def life(sessions: Sequence[Session], roots: Roots, ready: int) -> None:
        leave_starter()
        os.write(ready, SEALED)
        assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())

    end_each_child_at_its_birth(monkeypatch)
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        with nowhere_else(tmp_path / "escaped"):
            recorder = left(life)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert [mark for mark, _ in recorder.marks] == [Mark.KEEPER]
    assert reaped(recorder) == 0


def test_a_keeper_that_hangs_holds_the_boot_for_its_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "SEAL_SECONDS", 0.2)
    recorder = left(hangs)
    assert "it is not ready in time" in recorder.notes[0]
    pid = int(recorder.notes[0].removeprefix("keeper, process ").partition(":")[0])
    os.kill(pid, signal.SIGKILL)
    assert reaped(recorder) == -9


def test_who_interrupts_the_wait_has_a_disk_and_a_keeper(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> str | None:
        raise Interrupted(signal.SIGINT)

    monkeypatch.setattr(keeper.Fork, "wait", interrupt)
    recorder = left(lambda *_: None)
    assert recorder.notes[0].endswith("it was not waited for")
    assert reaped(recorder) == 0


def test_without_a_process_the_boot_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    before = open_files()
    monkeypatch.setattr(os, "fork", refuse)
    recorder = left(lambda *_: None)
    assert recorder.notes == [
        "no keeper, so nobody recovers the session before a daemon runs: Resource temporarily unavailable"
    ]
    assert open_files() == before


def test_what_the_keeper_knows_is_what_the_login_was_made_with() -> None:
    known = known_sessions([SESSION, Session(sid=8, tpgt=None, request=path(2).request)])
    assert set(known) == {7, 8}
    assert (known[7].request, known[7].source, known[7].tpgt) == (SESSION.request, Source.ORDER, 3)
    assert (known[7].unknown, known[7].record, known[8].tpgt) == ((), None, None)
    assert (known[7].algorithm, known[8].algorithm) == (ChapAlgorithm.SHA1, None)


def test_the_boot_loads_nothing_of_what_only_the_keeper_needs() -> None:
    """The engine and asyncio cost more than the rest of the boot path: the fork pays, while the root is mounted."""
    code = "import iscsiboot.boot.iscsistart, sys; print('\\n'.join(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(run.stdout.split())
    assert "iscsiboot.boot.keeper" in loaded
    heavy = ("asyncio", "json", "logging", "concurrent", "iscsiboot.keeper", "iscsiboot.boot.keeper_child")
    assert not {name for name in loaded if name in heavy or name.startswith(tuple(f"{each}." for each in heavy))}


BOOT_ONLY = ("iscsiboot.boot.", "iscsiboot.firmware.", "iscsiboot.network.", "iscsiboot.session.devices")
"""What iscsistart had loaded and the keeper does not use."""
LOADED_BY_KEEPER = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from iscsiboot.boot import keeper_child
keeper_child.seal.preload(keeper_child.LATE)
print(*(f"{{name}} {{getattr(module, '__file__', None)}}" for name, module in sys.modules.items()), sep="\\n")
"""


def test_nothing_the_guard_needs_is_left_to_import_after_the_seal() -> None:
    """In a fresh interpreter: this one may have loaded it for another test, and a boot for a login of its own."""
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LOADED_BY_KEEPER], capture_output=True, text=True, check=True
    )
    loaded = dict(line.split(" ", 1) for line in run.stdout.splitlines())
    own = [
        Path(file) for name, file in loaded.items() if name.startswith("iscsiboot.") and not name.startswith(BOOT_ONLY)
    ]
    assert len(own) > 40
    late = {name: file for file in own for name in late_imports(file)}
    assert {"hashlib", "hmac"} <= set(late)
    assert not {name: str(file) for name, file in late.items() if name not in loaded}


class TestReadiness:
    @pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
    def test_systemd_is_told_once(self, abstract: bool, tmp_path: Path) -> None:
        name = f"@iscsiboot-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind("\0" + name[1:] if abstract else name)
            assert tell_ready({"NOTIFY_SOCKET": name}, "the disk is there")
            systemd.settimeout(5)
            assert systemd.recv(1000) == b"READY=1\nSTATUS=the disk is there"
            systemd.setblocking(False)
            with pytest.raises(BlockingIOError):
                systemd.recv(1000)

    @pytest.mark.parametrize(
        "environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}, {"NOTIFY_SOCKET": "/nonexistent/x"}]
    )
    def test_nobody_to_tell(self, environ: dict[str, str]) -> None:
        assert not tell_ready(environ, "x")


class TestControlGroup:
    def log(self, lines: list[str]) -> Callable[[Level, str], None]:
        return lambda level, text: lines.append(f"{level.name} {text}")

    @pytest.mark.parametrize(
        "hierarchies",
        [["sys/fs/cgroup"], ["sys/fs/cgroup/unified", "sys/fs/cgroup/systemd"], []],
        ids=["v2", "hybrid", "none"],
    )
    def test_the_root_group_of_what_is_there(self, hierarchies: list[str], tmp_path: Path) -> None:
        for name in hierarchies:
            (tmp_path / name).mkdir(parents=True)
            (tmp_path / name / "cgroup.procs").touch()
        lines: list[str] = []
        leave_control_group(self.log(lines), tmp_path)
        assert [(tmp_path / name / "cgroup.procs").read_text() for name in hierarchies] == ["0"] * len(hierarchies)
        assert not lines

    def test_a_refusal_is_told_with_what_it_costs(self, tmp_path: Path) -> None:
        (tmp_path / "sys/fs/cgroup/cgroup.procs").mkdir(parents=True)
        lines: list[str] = []
        leave_control_group(self.log(lines), tmp_path)
        assert len(lines) == 1
        assert lines[0].startswith("WARNING ")
        assert "cgroup.procs: Is a directory: the keeper stays in the control group" in lines[0]


class TestMounts:
    MOUNTINFO = (
        "1 1 0:2 / / rw - rootfs rootfs rw\n"
        "22 1 0:20 / /proc rw,nosuid shared:5 - proc proc rw\n"
        "23 1 0:21 / /with\\040blank rw - tmpfs x\\040y rw\n"
        "24 1 8:1 /a /sysroot/b\\134c rw - ext4 /dev/sda1 rw\n"
    )

    def test_every_mount_but_the_root(self) -> None:
        assert private_root.other_mounts(self.MOUNTINFO.encode()) == ["/proc", "/with blank", "/sysroot/b\\c"]

    def test_only_a_line_feed_ends_a_line(self) -> None:
        odd = "25 1 8:2 / /a\x0bb\rc\x85d rw - ext4 /dev/sda2 rw\n"
        assert private_root.other_mounts((self.MOUNTINFO + odd).encode())[-1] == "/a\x0bb\rc\x85d"

    def test_the_new_root_is_built_where_nothing_is_mounted(self, tmp_path: Path) -> None:
        for name in ("dev/pts", "proc", "sysroot/b", "usr", "var"):
            (tmp_path / name).mkdir(parents=True)
        (tmp_path / "bin").symlink_to("usr")
        (tmp_path / "init").touch()
        mounts = [str(tmp_path / name) for name in ("proc", "dev/pts", "sysroot/b")]
        assert private_root.building_place(mounts, tmp_path) == tmp_path / "usr"
        with pytest.raises(OSError, match="no directory"):
            private_root.building_place([*mounts, *(str(tmp_path / name) for name in ("usr", "var"))], tmp_path)
