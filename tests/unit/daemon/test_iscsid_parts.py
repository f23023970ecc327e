# SPDX-License-Identifier: LGPL-2.1-or-later
"""The small parts around the loop: who holds the address, the fork and its parent, the loop's own complaints."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from iscsiboot.daemon import process
from iscsiboot.daemon.holder import holders, second_instance
from iscsiboot.daemon.logout_guard import LogoutGuard
from iscsiboot.daemon.loop_log import AGAIN_SECONDS, KINDS_MAX, LoopLog, take_complaints
from iscsiboot.daemon.options import Options
from iscsiboot.daemon.process import Parent, change_user, detach
from iscsiboot.daemon.settings import Places, read_settings
from iscsiboot.errors import ExitCode, IscsiBootError, quoted
from iscsiboot.keeper import libc
from iscsiboot.keeper.log import Level
from iscsiboot.session.workers import Ended, Job
from tests.doubles.iscsi_kernel import FakeKernel

# Who holds the address. --------------------------------------------------------------------------------


def test_the_holder_of_a_listening_address_is_found() -> None:
    address = f"\0iscsiboot-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        assert holders("/proc", address) == [], "it is bound, and nobody listens"
        listener.listen()
        assert holders("/proc", address) == [os.getpid()]
        line = second_instance("/proc", address).line()
    comm = Path("/proc/self/comm").read_text().strip()
    assert line == (
        f'daemon: Can not bind IPC socket: process {os.getpid()} ("{comm}") listens there already;'
        f" next: that one guards the sessions; end it first if this one is wanted: kill {os.getpid()}"
    )


def tree(root: Path, holding: tuple[int, ...], row: str) -> str:
    """A /proc with one listener of inode 77, held by these processes."""
    (root / "net").mkdir()
    head = "Num       RefCount Protocol Flags    Type St Inode Path\n"
    (root / "net/unix").write_text(head + row + "\n")
    for pid in holding:
        (root / str(pid) / "fd").mkdir(parents=True)
        (root / str(pid) / "fd/3").symlink_to("socket:[77]")
        (root / str(pid) / "comm").write_text("iscsid\n")
    return str(root)


ROW = "0000000000000000: 00000002 00000000 00010000 0001 01 77 @ISCSIADM_ABSTRACT_NAMESPACE"


@pytest.mark.parametrize(
    ("holding", "row", "words"),
    [
        ((1,), ROW, "systemd holds it (iscsid.socket); next: start the daemon by its unit: systemctl start"),
        ((1, 55), ROW, 'process 55 ("iscsid") listens there already'),
        ((55,), ROW, "kill 55"),
        ((), ROW, "another process listens there already; next: look for it: ss -xlp"),
        ((55,), ROW.replace("00010000", "00000000"), "another process listens"),
        ((55,), "nonsense", "another process listens"),
        ((55,), ROW + " x", "another process listens"),
    ],
)
def test_what_a_second_daemon_says(tmp_path: Path, holding: tuple[int, ...], row: str, words: str) -> None:
    error = second_instance(tree(tmp_path, holding, row))
    assert error.exit_code is ExitCode.ERR
    assert error.cause.startswith("Can not bind IPC socket: ")
    assert words in error.line()


def test_without_proc_nobody_is_named(tmp_path: Path) -> None:
    assert holders(str(tmp_path / "none"), "\0x") == []


# The fork. ---------------------------------------------------------------------------------------------


def forked(life: str, monkeypatch: pytest.MonkeyPatch, *, seconds: float = 20.0) -> tuple[int, list[str]]:
    """What the parent ends with, and says, when its child lives so."""
    monkeypatch.setattr(process, "READY_SECONDS", seconds)
    said: list[str] = []
    child, status = detach(said.append)
    if child is not None:
        try:
            if life == "ready":
                child.ready()
            elif life == "failed":
                child.failed("it did not work")
            elif life == "waits":
                os.read(os.pipe()[0], 1)
            elif life == "killed":
                os.kill(os.getpid(), 9)
        finally:
            os._exit(3)
    reap()
    return status, said


def reap() -> None:
    """What a parent that ends leaves to process 1."""
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


@pytest.mark.parametrize(
    ("life", "status", "words"),
    [
        ("ready", 0, ""),
        ("failed", 1, "it did not work"),
        ("ends", 1, "iscsid ended before it was ready (exit status 3)"),
        ("killed", 1, "iscsid ended before it was ready (killed by SIGKILL)"),
    ],
)
def test_the_parent_waits_for_the_word(life: str, status: int, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert forked(life, monkeypatch) == (status, [words] if words else [])


def test_a_daemon_that_takes_long_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    monkeypatch.setattr(process, "READY_SECONDS", 0.2)
    said: list[str] = []
    child, status = detach(said.append)
    if child is not None:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    os.close(writing)
    os.close(reading)
    reap()
    assert status == 0
    assert len(said) == 1
    assert "is not ready after 0.2 s; it goes on" in said[0]


def test_in_the_foreground_there_is_no_parent_to_tell() -> None:
    parent = Parent()
    parent.ready()
    assert not parent.failed("x")
    assert sys.stdout.writable()


def test_a_parent_that_is_gone_is_no_trouble() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    assert Parent(writing).failed("x")


@pytest.mark.parametrize(
    ("uid", "gid", "limit", "calls"),
    [
        (0, 0, 8192, []),
        (5, 0, resource.RLIM_INFINITY, [("setgroups", []), ("setuid", 5)]),
        (0, 7, 8192, [("setgid", 7), ("setgroups", [])]),
        (5, 7, 8192, [("munlockall", None), ("setgid", 7), ("setgroups", []), ("setuid", 5)]),
    ],
)
def test_the_group_goes_before_the_user_and_a_lock_he_may_not_have_before_both(
    uid: int, gid: int, limit: int, calls: list[tuple[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, object]] = []
    for name in ("setgid", "setgroups", "setuid"):
        monkeypatch.setattr(os, name, lambda value, name=name: seen.append((name, value)))
    monkeypatch.setattr(libc, "munlockall", lambda: seen.append(("munlockall", None)))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    told: list[str] = []
    change_user(uid, gid, told.append)
    assert seen == calls
    assert len(told) == sum(name == "munlockall" for name, _ in calls)


# The loop's complaints. --------------------------------------------------------------------------------


class Clock:
    """Time by hand."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def complaints() -> tuple[Clock, list[str], LoopLog]:
    clock, lines = Clock(), []

    def log(level: Level, text: str) -> None:
        assert level is Level.WARNING
        lines.append(text)

    return clock, lines, LoopLog(log, clock)


def complain(handler: LoopLog, text: str, error: BaseException | None = None) -> None:
    info = None if error is None else (type(error), error, error.__traceback__)
    handler.handle(logging.LogRecord("asyncio", logging.ERROR, "x.py", 1, text, None, info))


def test_the_same_complaint_is_told_once_a_minute(complaints: tuple[Clock, list[str], LoopLog]) -> None:
    clock, lines, handler = complaints
    for _ in range(500):
        complain(handler, "socket.send() raised exception.")
    complain(handler, "another")
    assert lines == ["event loop: socket.send() raised exception.", "event loop: another"]
    clock.time += AGAIN_SECONDS
    complain(handler, "socket.send() raised exception.")
    assert len(lines) == 3


def test_a_fault_is_told_with_its_place_and_without_its_sources(
    complaints: tuple[Clock, list[str], LoopLog],
) -> None:
    _, lines, handler = complaints
    try:
        raise KeyError("x")
    except KeyError as error:
        complain(handler, "Task exception was never retrieved\nfuture: <Task ...>", error)
    (line,) = lines
    assert line.startswith("event loop: Task exception was never retrieved: KeyError: 'x' (test_iscsid_parts.py:")
    assert "\n" not in line


def test_ever_new_complaints_take_no_memory(complaints: tuple[Clock, list[str], LoopLog]) -> None:
    _, lines, handler = complaints
    for number in range(10 * KINDS_MAX):
        complain(handler, f"number {number}")
    assert len(lines) == 10 * KINDS_MAX
    assert len(handler._told) <= KINDS_MAX


def test_asyncio_complains_here_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("asyncio")
    for name in ("handlers", "level", "propagate"):
        monkeypatch.setattr(logger, name, getattr(logger, name))
    monkeypatch.setattr(logger, "handlers", list(logger.handlers))
    for name in ("lastResort", "raiseExceptions"):
        monkeypatch.setattr(logging, name, getattr(logging, name))
    lines: list[str] = []

    async def fail() -> None:
        asyncio.get_running_loop().call_soon(int, "no number")
        await asyncio.sleep(0.01)

    take_complaints(lambda _, text: lines.append(text), Clock())
    asyncio.run(fail())
    assert len(lines) == 1
    assert "ValueError" in lines[0]
    assert capfd.readouterr().err == ""


# The two files. ----------------------------------------------------------------------------------------


def settings_told(tmp_path: Path, options: Options) -> tuple[list[str], list[str]]:
    """What is noticed and what is warned of when the files of a command line are read."""
    there = Places.of(options)
    (tmp_path / "sys").mkdir(exist_ok=True)
    (tmp_path / "etc").mkdir(exist_ok=True)
    (tmp_path / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    roots = {name: str(tmp_path / name) for name in ("sys", "proc", "etc")}
    places = replace(there, sysfs=roots["sys"], proc=roots["proc"], etc=roots["etc"])
    notices: list[str] = []
    warnings: list[str] = []
    read_settings(places, notices.append, warnings.append)
    return notices, warnings


def test_a_file_named_by_an_option_that_is_not_there_is_told_in_one_line_each(tmp_path: Path) -> None:
    missing = f"{tmp_path}/none\x1b"
    shown = quoted(missing)
    config = f"-c {shown}: there is no such file; the built-in settings are used"
    name = f"-i {shown}: there is no such file; this machine's name comes from its firmware or identity"
    notices, warnings = settings_told(tmp_path, Options(config=missing, initiatorname=missing))
    assert (notices, warnings) == ([], [config, name])
    assert "\x1b" not in "".join(warnings)


def test_files_that_are_there_and_usual_ones_that_are_not_are_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "iscsid.conf").touch()
    (tmp_path / "name").write_text("InitiatorName=iqn.2026-01.org.example:me\n")
    options = Options(config=str(tmp_path / "iscsid.conf"), initiatorname=str(tmp_path / "name"))
    assert settings_told(tmp_path, options) == ([], [])
    usual = Places(config=f"{tmp_path}/none", initiator_name=str(tmp_path / "name"), sysfs=str(tmp_path))
    told: list[str] = []
    read_settings(usual, told.append)
    assert told == [], "an image without iscsid.conf has to boot"


# What is mounted. --------------------------------------------------------------------------------------


class Inline:
    """Hands that do it here."""

    async def run(self, job: Job, *, seconds: float, what: str) -> Ended:
        return Ended(answer=job())


@pytest.mark.parametrize(
    ("mounts", "swap", "safe", "kept"),
    [
        ("", "", False, ""),
        ("22 1 8:0 / / rw - ext4 /dev/sda rw\n", "", False, "sda is mounted on /"),
        ("22 1 8:0 / /var rw - ext4 /dev/sda rw\n", "", False, "sda is mounted on /var"),
        ("22 1 8:0 / /srv rw - ext4 /dev/sda rw\n", "", False, ""),
        ("22 1 8:0 / /srv rw - ext4 /dev/sda rw\n", "", True, "sda is mounted on /srv"),
        ("22 1 8:16 / / rw - ext4 /dev/sdb rw\n", "", True, ""),
        ("", "/dev/sda partition 1024 0 -2\n", False, "sda is swap"),
    ],
)
def test_what_keeps_a_session(tmp_path: Path, mounts: str, swap: str, safe: bool, kept: str) -> None:
    kernel = FakeKernel(tmp_path)
    session = kernel.leftover(creator=1, state="LOGGED_IN", connection="up")
    session.units = dict(kernel.luns)
    kernel.show(session)
    for name, number in (("sda", "8:0"), ("sdb", "8:16")):
        (kernel.sysfs / "class/block" / name).mkdir(parents=True)
        (kernel.sysfs / "class/block" / name / "dev").write_text(f"{number}\n")
    (kernel.proc / "1").mkdir()
    for process_name in ("self", "1"):
        (kernel.proc / process_name / "mountinfo").write_text(mounts)
    (kernel.proc / "swaps").write_text("Filename Type Size Used Priority\n" + swap)
    places = Places(sysfs=str(kernel.sysfs), proc=str(kernel.proc), run=str(tmp_path))
    work = LogoutGuard(places=places, hands=Inline()).refuse_in_use(session.sid, safe_logout=safe)
    if not kept:
        asyncio.run(work)
        return
    with pytest.raises(IscsiBootError, match=kept) as caught:
        asyncio.run(work)
    assert caught.value.exit_code is ExitCode.BUSY


class Slow(Inline):
    """Hands whose first job is at work until it is let go."""

    def __init__(self) -> None:
        self.began = 0
        self.let_go = asyncio.Event()

    async def run(self, job: Job, *, seconds: float, what: str) -> Ended:
        self.began += 1
        seen = await super().run(job, seconds=seconds, what=what)
        if self.began == 1:
            await self.let_go.wait()
        return seen


def test_who_asks_during_a_look_is_answered_by_the_next_one(tmp_path: Path) -> None:
    """A hundred logouts are two looks; none is answered by what was read before it asked, and one may be given up."""
    kernel = FakeKernel(tmp_path)
    session = kernel.leftover(creator=1, state="LOGGED_IN", connection="up")
    session.units = dict(kernel.luns)
    kernel.show(session)
    (kernel.sysfs / "class/block/sda").mkdir(parents=True)
    (kernel.sysfs / "class/block/sda/dev").write_text("8:0\n")
    mounts = kernel.proc / "self/mountinfo"
    mounts.parent.mkdir(exist_ok=True)
    mounts.write_text("")

    async def ask() -> tuple[list[object], int]:
        hands = Slow()
        guard = LogoutGuard(
            places=Places(sysfs=str(kernel.sysfs), proc=str(kernel.proc), run=str(tmp_path)), hands=hands
        )
        early = asyncio.create_task(guard.refuse_in_use(session.sid, safe_logout=True))
        while not hands.began:
            await asyncio.sleep(0)
        mounts.write_text("22 1 8:0 / /srv rw - ext4 /dev/sda rw\n")
        late = [asyncio.create_task(guard.refuse_in_use(session.sid, safe_logout=True)) for _ in range(99)]
        await asyncio.sleep(0)
        late[0].cancel()
        hands.let_go.set()
        return await asyncio.gather(early, *late, return_exceptions=True), hands.began

    (early, cancelled, *late), looks = asyncio.run(ask())
    assert early is None
    assert isinstance(cancelled, asyncio.CancelledError)
    assert {str(error) for error in late} == {str(late[0])}
    assert "sda is mounted on /srv" in str(late[0])
    assert looks == 2
