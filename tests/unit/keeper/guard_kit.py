# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guards and takers as real processes, with an engine that does nothing but say when it acts.

Who acts holds an flock of its own on one file, apart from what is tested: two at once are seen, whatever the code under
test believes. Everybody writes what happens to one journal, a line each with the time, so the order is the true one.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import json
import os
import select
import signal
import socket
import tempfile
import time
import traceback
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest

from iscsiboot.keeper import endings, guardian, handover, hygiene, libc, meeting
from iscsiboot.keeper.actor import Event
from iscsiboot.keeper.channel import Message
from iscsiboot.keeper.engine import Engine, NothingLeft
from iscsiboot.keeper.log import Level, Log
from iscsiboot.keeper.standby import Standby
from iscsiboot.keeper.values import Known, Role, Source
from iscsiboot.model.credentials import Chap, Credentials, Secret
from iscsiboot.model.portal import Portal, parse_ip
from iscsiboot.session.values import AttachRequest, Environment

PATIENCE = 60.0
"""Seconds for anything that has to happen; a machine with every core taken needs some. No test takes so long that
succeeds.
"""
SECRET = b"a secret of twelve"
PR_SET_CHILD_SUBREAPER = 36
"""``linux/prctl.h``."""
WANT = {"iscsiboot-keeper": 1, "want": "sessions"}
"""A taker's first word."""


def known(number: int = 1, **changes: Any) -> Known:
    """A session's description; ``changes`` go into the request."""
    values: dict[str, Any] = {
        "initiator_name": "iqn.2026-01.org.example:guest",
        "target_name": f"iqn.2026-01.org.example:disk{number}",
        "portal": Portal(address=parse_ip("10.0.0.1")),
        "lun": None,
        "credentials": Credentials(outgoing=Chap(name="guest", secret=Secret(SECRET))),
    }
    return Known(request=AttachRequest(**(values | changes)), source=Source.ORDER, tpgt=1)


def no_kernel() -> Any:
    raise AssertionError("no guard of these tests talks to a kernel")


ENVIRONMENT = Environment(open_netlink=no_kernel, open_monitor=no_kernel)


class Stage:
    """One machine: a run folder, a name, a journal, and every process started on it."""

    def __init__(self, folder: Path) -> None:
        self.run = folder / "run"
        self.name = f"ISCSIBOOT_TEST_{folder.name}"
        self.journal = folder / "journal"
        self.acting = folder / "acting"
        self.journal.touch()
        self.acting.touch()
        self._processes: dict[int, int] = {}
        """Descriptors of those we started or were told of: a number alone may soon be another process's."""

    # What the processes do. ------------------------------------------------------------------------------------------

    def note(self, what: str, **more: object) -> None:
        """A line of the journal, whole whoever else writes."""
        line = json.dumps({"at": time.monotonic(), "pid": os.getpid(), "what": what, **more}) + "\n"
        with self.journal.open("a") as file:
            os.write(file.fileno(), line.encode())

    def log(self, level: Level, text: str) -> None:
        """A :data:`Log`."""
        self.note("log", level=int(level), text=text)

    def engine(self, **quirks: Any) -> Callable[[Environment, Log, Path], Engine]:
        """A maker of engines for :func:`guardian.guard`."""
        return lambda environment, log, run: JournalEngine(self, **quirks)

    def spawn(self, life: Callable[[], object]) -> int:
        """A process that lives so."""
        pid = os.fork()
        if pid == 0:
            self._live(life)
        self._processes[pid] = _pidfd_open(pid)
        return pid

    def _live(self, life: Callable[[], object]) -> NoReturn:
        status = 1
        try:
            os.setsid()
            # None of the test's sockets may live on here, nor the collector close numbers that are ours by then.
            gc.freeze()
            hygiene.close_descriptors({0, 1, 2})
            life()
            status = 0
        except BaseException:  # noqa: BLE001 - told to the test, and the process ends
            self.note("fault", text=traceback.format_exc())
        finally:
            os._exit(status)

    def guard(self, sessions: Mapping[int, Known] | None = None, **quirks: Any) -> int:
        """A guard process as iscsistart leaves it."""
        roles = quirks.pop("roles", None)
        mine = {1: known()} if sessions is None else sessions

        def life() -> None:
            guardian.guard(
                mine,
                environment=ENVIRONMENT,
                log=self.log,
                run=self.run,
                name=self.name,
                roles=roles,
                engine=self.engine(**quirks),
            )
            self.note("left")

        return self.spawn(life)

    def daemon(self, life: Callable[[Daemon], Coroutine[Any, Any, None]], **options: Any) -> int:
        """A process that takes over and acts, then does what ``life`` has it do."""
        return self.spawn(lambda: asyncio.run(Daemon(self, **options).live(life)))

    # What the test looks at. -----------------------------------------------------------------------------------------

    def lines(self, what: str = "") -> list[dict[str, Any]]:
        """The journal, or its lines of one kind."""
        text = self.journal.read_text()
        # The last line may be on its way still.
        every = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        return [line for line in every if not what or line["what"] == what]

    def logged(self, words: str) -> bool:
        """Whether a log line has these words."""
        return any(words in line["text"] for line in self.lines("log"))

    def until(self, condition: Callable[[], object], *, told: str = "") -> None:
        """Wait for something the journal will show."""
        end = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"not in time: {told}\n{self.journal.read_text()}")
            select.select([], [], [], 0.003)

    def until_lines(self, what: str, count: int) -> None:
        """Until there are so many lines of a kind."""
        self.until(lambda: len(self.lines(what)) >= count, told=f"{count} x {what}")

    def begun(self, pid: int | None = None) -> int:
        """How often somebody, or that process, began to act."""
        return sum(pid in (None, line["pid"]) for line in self.lines("begin"))

    def wait_acting(self, pid: int, times: int = 1) -> None:
        """Until that process has begun to act for the so-manieth time."""
        self.until(lambda: self.begun(pid) >= times, told=f"{pid} acts")

    def actor(self) -> int | None:
        """Who acts by the flock that no code under test knows of."""
        with self.acting.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                line = [line for line in self.lines() if line["what"] == "begin"][-1]
                return int(line["pid"])
        return None

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        """Send a signal to a process of ours."""
        signal.pidfd_send_signal(self._processes[pid], number)

    def is_alive(self, pid: int) -> bool:
        """Whether that process of ours has not ended."""
        return pid in self._processes and not select.select([self._processes[pid]], [], [], 0)[0]

    def wait_end(self, pid: int) -> None:
        """Until that process is gone; a child of ours is reaped."""
        descriptor = self._processes[pid]
        self.until(lambda: select.select([descriptor], [], [], 0)[0], told=f"{pid} ends")
        with suppress(ChildProcessError):  # a grandchild is process 1's to reap
            os.waitpid(pid, os.WNOHANG)

    def check(self) -> None:
        """What holds in every test: never two at once, and no fault."""
        assert not self.lines("double"), self.journal.read_text()
        assert not self.lines("fault"), self.journal.read_text()

    def forget(self, what: str) -> None:
        """A fault the test wanted is no reason to fail."""
        lines = [json.dumps(line) + "\n" for line in self.lines() if line["what"] != what]
        self.journal.write_text("".join(lines))

    def adopt(self, pid: int) -> int:
        """A standby, to be ended with the others."""
        if pid not in self._processes:
            descriptor = _pidfd_open(pid)
            if _is_standby(pid):
                self._processes[pid] = descriptor
            else:
                os.close(descriptor)
        return pid

    def close(self) -> None:
        """End everything: daemons, then the standbys they have made up to their end, then what those have made."""
        while self._processes:
            ended = dict(self._processes)
            for descriptor in ended.values():
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            for pid, descriptor in ended.items():
                self.wait_end(pid)
                os.close(descriptor)
            self._processes = {}
            for line in self.lines("standby"):
                if line["standby"] not in ended:
                    with suppress(ProcessLookupError):
                        self.adopt(line["standby"])


_pidfd_open = os.pidfd_open
"""Also for tests of kernels that have none."""


def _is_standby(pid: int) -> bool:
    """Whether the number is still that of a guard, and not by now of somebody else's process."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().startswith("iscsiboot")
    except (FileNotFoundError, ProcessLookupError):
        return False


def _is_exiting(pid: int) -> bool:
    """Whether the kernel is taking that process apart: PF_EXITING in the flags of /proc/PID/stat."""
    try:
        return bool(int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[6]) & 0x4)
    except (FileNotFoundError, ProcessLookupError):
        return True


def only_by_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks again after a time, in place of being told, looks after an hour: too late for any test."""
    monkeypatch.setattr(handover, "PAUSES", (3600.0, 3600.0))
    for module in (endings, meeting):
        monkeypatch.setattr(module, "AGAIN_SECONDS", 3600.0)
    monkeypatch.setattr(guardian, "AGAIN_SECONDS", (3600.0, 3600.0))


class JournalEngine:
    """Acts on nothing, and says when."""

    def __init__(
        self,
        stage: Stage,
        *,
        stop_seconds: float = 0.0,
        stop_hangs: bool = False,
        fails: int = 0,
        empty: bool = False,
        sessions: Mapping[int, Known] | None = None,
    ) -> None:
        self._stage = stage
        self._stop_seconds = stop_seconds
        self._stop_hangs = stop_hangs
        self._fails = fails
        self._empty = empty
        self._known: dict[int, Known] = dict(sessions or {})
        self._acting: int | None = None

    async def start(
        self, sessions: Mapping[int, Known], roles: Mapping[int, Role], events: asyncio.Queue[Event]
    ) -> None:
        if len(self._stage.lines("failed")) < self._fails:
            self._stage.note("failed")
            raise RuntimeError("this engine does not start")
        self._known = {**self._known, **sessions}
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGUSR1, events.put_nowait, NothingLeft("the last session is gone", self)
        )
        self._acting = begin(self._stage, sids=sorted(self._known), roles=[list(roles[sid].system) for sid in roles])
        if self._empty:
            events.put_nowait(NothingLeft("there is no session to guard", self))

    def guarded(self) -> dict[int, Known]:
        return self._known

    def status(self) -> list[Message]:
        return [{"sid": sid} for sid in self._known]

    async def stop(self) -> None:
        if self._acting is None:
            return
        acting, self._acting = self._acting, None
        self._stage.note("stopping")
        if self._stop_hangs:
            await asyncio.get_running_loop().create_future()
        if self._stop_seconds:
            await pause(self._stop_seconds)
        end(self._stage, acting)


def begin(stage: Stage, **more: object) -> int:
    """Act: an flock of one's own, and a line."""
    descriptor = os.open(stage.acting, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        before = stage.lines("begin")[-1]["pid"]
        if not _is_exiting(before):
            stage.note("double", other=before)
        # One that is on its way out acts no more; its files are closed one by one.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    stage.note("begin", **more)
    return descriptor


def end(stage: Stage, descriptor: int) -> None:
    """Act no more."""
    stage.note("end")
    os.close(descriptor)


async def pause(seconds: float) -> None:
    """Some time on the loop."""
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(seconds, future.set_result, None)
    await future


async def for_ever() -> None:
    """Until killed."""
    await asyncio.get_running_loop().create_future()


class Daemon:
    """What iscsid does of it, in its order."""

    def __init__(self, stage: Stage, *, seconds: float = PATIENCE, log: Log | None = None) -> None:
        self.stage = stage
        self.seconds = seconds
        self.log = log or stage.log
        self.standby: Standby | None = None
        self._acting: int | None = None

    async def live(self, life: Callable[[Daemon], Coroutine[Any, Any, None]]) -> None:
        self.taken = await handover.take_over(
            run=self.stage.run, log=self.log, now=time.monotonic, seconds=self.seconds, name=self.stage.name
        )
        secrets = [
            item.request.credentials.outgoing.secret.reveal() == SECRET
            for item in self.taken.known.values()
            if item.request.credentials is not None
        ]
        roles = {str(sid): list(role.system) for sid, role in self.taken.roles.items()}
        self._acting = begin(self.stage, sids=sorted(self.taken.known), secrets=secrets, told=roles)
        await life(self)

    async def fork_standby(self, sessions: Mapping[int, Known] | None = None, **quirks: Any) -> None:
        """And wait until it is ready."""
        self.standby = Standby.fork(
            environment=ENVIRONMENT,
            open_log=lambda: self.stage.log,
            run=self.stage.run,
            name=self.stage.name,
            engine=self.stage.engine(**quirks),
        )
        self.stage.note("standby", standby=self.standby.pid)
        self.standby.update({1: known()} if sessions is None else sessions, {1: Role(system=("the root",))})
        if await self.standby.ready(PATIENCE):
            self.stage.note("ready")

    def stop(self) -> None:
        """Act no more, as Keeper.stop_acting and Takeover.release."""
        assert self._acting is not None
        acting, self._acting = self._acting, None
        end(self.stage, acting)
        self.taken.release()


# What a daemon may do once it acts. -----------------------------------------------------------------------------------


async def idle(_: Daemon) -> None:
    """The guard before it stays behind it."""
    await for_ever()


async def leave_and_idle(daemon: Daemon) -> None:
    """The guard before it may end; it has no standby of its own."""
    daemon.taken.leave()
    await for_ever()


async def with_standby(daemon: Daemon) -> None:
    """As iscsid does it; ``settled`` when it is done."""
    await daemon.fork_standby()
    daemon.taken.leave()
    daemon.stage.note("settled")
    await for_ever()


@contextmanager
def no_orphans() -> Iterator[None]:
    """Who was made by a process that was killed before it could tell is this one's child, and is ended."""
    before = _children()
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        while orphans := _children() - before:
            for pid in orphans:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0)


def _children() -> set[int]:
    return {int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}


@contextmanager
def new_stage() -> Iterator[Stage]:
    """A machine of one's own; afterwards everything on it is ended, and what holds in every test is checked."""
    # Not pytest's folder: the name of a Unix socket has room for 107 bytes.
    with tempfile.TemporaryDirectory(prefix="ib", ignore_cleanup_errors=True) as folder, no_orphans():
        stage = Stage(Path(folder))
        try:
            yield stage
            stage.check()
        finally:
            stage.close()


class Talker:
    """A peer that speaks the protocol by hand, from the test's own process."""

    def __init__(self, stage: Stage) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(f"\0{stage.name}")
        self._file = self.sock.makefile("rb")

    def say(self, message: object) -> None:
        self.sock.sendall((json.dumps(message) + "\n").encode())

    def hear(self) -> Any:
        """The next message; None at the end."""
        line = self._file.readline()
        return json.loads(line) if line else None

    def close(self) -> None:
        self._file.close()
        self.sock.close()
