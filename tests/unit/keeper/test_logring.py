# SPDX-License-Identifier: LGPL-2.1-or-later
"""A log that never waits: what sinks take, what waits, what is lost and told; real sockets, pipes, terminals, files."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import pty
import select
import signal
import socket
import stat
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from iscsiboot.keeper import logring
from iscsiboot.keeper.log import Level
from iscsiboot.keeper.logring import LINE_CHARACTERS, LogRing
from iscsiboot.keeper.sinks import KmsgSink, Sink, StreamSink, SyslogSink, Took


class Scripted:
    """Says what it is told to; takes everything after that."""

    def __init__(self, *answers: Took, descriptor: int | None = None) -> None:
        self.answers = list(answers)
        self.taken: list[tuple[Level, str]] = []
        self.offered = 0
        self.closed = False
        self._descriptor = descriptor

    def write(self, level: Level, line: str) -> Took:
        self.offered += 1
        answer = self.answers.pop(0) if self.answers else Took.YES
        if answer is Took.YES:
            self.taken.append((level, line))
        return answer

    def fileno(self) -> int | None:
        return self._descriptor

    def close(self) -> None:
        self.closed = True

    @property
    def texts(self) -> list[str]:
        return [text for _, text in self.taken]


PATIENCE = 60.0
"""Seconds. Who waited for a reader that does not read would wait for ever."""


def descriptors() -> list[str]:
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


@pytest.fixture(autouse=True)
def no_descriptor_left() -> Iterator[None]:
    before = descriptors()
    yield
    assert descriptors() == before


async def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


# The ring. ------------------------------------------------------------------------------------------------------------


def test_every_sink_gets_every_line_in_order() -> None:
    first, second = Scripted(), Scripted()
    ring = LogRing(first, second)
    for number in range(5):
        ring(Level.NOTICE, f"line {number}")
    assert first.texts == second.texts == [f"line {number}" for number in range(5)]
    assert (ring.waiting, ring.lost) == (0, 0)


def test_the_level_keeps_lines_out_and_can_be_changed() -> None:
    sink = Scripted()
    ring = LogRing(sink, level=Level.WARNING)
    ring(Level.INFO, "no")
    ring(Level.WARNING, "yes")
    ring.level = Level.DEBUG
    ring(Level.DEBUG, "now")
    assert sink.texts == ["yes", "now"]


def test_what_is_not_taken_waits_and_goes_first() -> None:
    sink = Scripted(Took.NOT_NOW, Took.NOT_NOW)
    ring = LogRing(sink)
    ring(Level.INFO, "a")
    ring(Level.INFO, "b")
    assert (sink.taken, ring.waiting) == ([], 2)
    ring(Level.INFO, "c")
    assert sink.texts == ["a", "b", "c"]


def test_a_slow_sink_does_not_hold_up_another() -> None:
    slow, fast = Scripted(*[Took.NOT_NOW] * 10), Scripted()
    ring = LogRing(slow, fast)
    for number in range(5):
        ring(Level.INFO, str(number))
    assert fast.texts == list("01234")
    assert ring.waiting == 5
    assert not ring.flush()


def test_a_full_ring_loses_the_oldest_counts_and_tells() -> None:
    sink = Scripted(*[Took.GONE] * 10)
    ring = LogRing(sink, capacity=4)
    for number in range(10):
        ring(Level.INFO, str(number))
    assert (ring.lost, ring.waiting) == (6, 4)
    sink.answers.clear()
    assert ring.flush()
    assert sink.taken[0] == (Level.WARNING, "6 log lines were lost here")
    assert sink.texts[1:] == ["6", "7", "8", "9"]
    ring(Level.INFO, "later")
    assert sink.texts[-1] == "later"
    assert sum("lost" in text for text in sink.texts) == 1


def test_memory_is_bounded_whatever_is_said() -> None:
    sink = Scripted(*[Took.GONE] * 100_000)
    ring = LogRing(sink, capacity=8)
    for _ in range(1000):
        ring(Level.INFO, "x" * 100_000)
    ring(Level.INFO, "\x1b" * 100_000)
    sink.answers.clear()
    ring.flush()
    assert len(sink.taken) == 9
    assert max(map(len, sink.texts)) == LINE_CHARACTERS


def test_a_line_is_one_line() -> None:
    sink = Scripted()
    LogRing(sink)(Level.INFO, "a\nb\x1b[2J\udc80")
    assert "\n" not in sink.texts[0]
    assert sink.texts[0].isprintable()


def test_with_a_loop_a_line_is_offered_when_it_can_be_taken() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            while True:
                try:
                    ours.send(b"x")
                except BlockingIOError:
                    break
            sink = Scripted(Took.NOT_NOW, descriptor=ours.fileno())
            ring = LogRing(sink)
            ring.attach(asyncio.get_running_loop())
            ring(Level.INFO, "a")
            ring(Level.INFO, "b")
            await asyncio.sleep(0.05)
            # Not asked once a line, not asked in a circle.
            assert (sink.offered, ring.waiting) == (1, 2)
            while True:
                try:
                    theirs.recv(10)
                except BlockingIOError:
                    break
            await until(lambda: ring.waiting == 0)
            assert sink.texts == ["a", "b"]
            offered = sink.offered
            await asyncio.sleep(0.05)
            assert sink.offered == offered
            ring.close()

    asyncio.run(main())


def test_who_is_not_there_is_asked_again_at_growing_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logring, "AGAIN_SECONDS", (0.02, 0.08))

    async def main() -> None:
        sink = Scripted(*[Took.GONE] * 4)
        ring = LogRing(sink)
        ring.attach(asyncio.get_running_loop())
        began = time.monotonic()
        ring(Level.INFO, "a")
        await until(lambda: bool(sink.taken))
        assert time.monotonic() - began >= 0.02 + 0.04 + 0.08 + 0.08
        assert sink.offered == 5
        ring.close()
        assert sink.closed

    asyncio.run(main())


def test_what_was_said_before_the_loop_comes_out_with_it_and_an_end_leaves_no_timer() -> None:
    async def main() -> None:
        sink = Scripted(Took.GONE, Took.GONE)
        ring = LogRing(sink)
        ring(Level.INFO, "early")
        ring.attach(asyncio.get_running_loop())
        ring.detach()
        ring(Level.INFO, "late")
        assert sink.texts == ["early", "late"]

    asyncio.run(main())


# The sinks. -----------------------------------------------------------------------------------------------------------


def test_syslog_gets_datagrams_with_priority_and_pid(tmp_path: Path) -> None:
    path = tmp_path / "log"
    sink = SyslogSink("iscsid", path=path)
    assert sink.write(Level.ERROR, "nobody there") is Took.GONE
    assert sink.fileno() is None
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
        assert sink.write(Level.ERROR, "héllo") is Took.YES
        assert server.recv(1000).decode() == f"<27>iscsid[{os.getpid()}]: héllo"
        assert sink.write(Level.DEBUG, "x") is Took.YES
        assert server.recv(1000).startswith(b"<31>iscsid[")
    sink.close()


def test_syslog_that_is_full_blocks_nobody_and_one_that_comes_back_is_found(tmp_path: Path) -> None:
    path = tmp_path / "log"

    async def main() -> None:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        server.bind(str(path))
        ring = LogRing(SyslogSink("iscsid", path=path), capacity=5000)
        ring.attach(asyncio.get_running_loop())
        began = time.monotonic()
        for number in range(4000):
            ring(Level.INFO, str(number))
        assert time.monotonic() - began < PATIENCE
        assert ring.waiting > 0
        received: list[str] = []
        server.setblocking(False)

        def read() -> bool:
            while True:
                try:
                    received.append(server.recv(1000).decode().rsplit(" ", 1)[1])
                except BlockingIOError:
                    return len(received) == 4000

        await until(read)
        assert received == [str(number) for number in range(4000)]
        # A restart: the socket is another one under the same name.
        server.close()
        ring(Level.INFO, "lost?")
        assert ring.waiting == 1
        path.unlink()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.bind(str(path))
            assert ring.flush()
            assert other.recv(1000).endswith(b"lost?")
        ring.close()

    asyncio.run(main())


def read_all(descriptor: int) -> bytes:
    os.set_blocking(descriptor, False)
    data = b""
    while True:
        try:
            chunk = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return data
        if not chunk:
            return data
        data += chunk


def test_a_pipe_is_written_whole_lines_and_stays_as_it_is_for_others() -> None:
    reading, writing = os.pipe()
    sink = StreamSink(writing, ident="iscsid")
    ring = LogRing(sink, capacity=10_000)
    for number in range(6000):
        ring(Level.INFO, f"line {number:04d} " + "x" * 30)
    assert ring.waiting
    assert not fcntl.fcntl(writing, fcntl.F_GETFL) & os.O_NONBLOCK
    data = b""
    while ring.waiting:
        data += read_all(reading)
        ring.flush()
    data += read_all(reading)
    lines = data.decode().splitlines()
    assert lines == [f"iscsid: line {number:04d} " + "x" * 30 for number in range(6000)]
    ring.close()
    os.close(reading)
    os.close(writing)


def test_a_pipe_without_a_reader_is_gone_and_kills_nobody() -> None:
    reading, writing = os.pipe()
    sink = StreamSink(writing)
    os.close(reading)
    assert sink.write(Level.INFO, "x") is Took.GONE
    sink.close()
    os.close(writing)


def test_a_journal_stream_gets_levels() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sink = StreamSink(ours.fileno(), journal=True)
        assert sink.write(Level.WARNING, "careful") is Took.YES
        assert theirs.recv(100) == b"<4>careful\n"
        theirs.close()
        assert sink.write(Level.WARNING, "careful") is Took.GONE
        sink.close()
        assert ours.fileno() != -1
        os.fstat(ours.fileno())


def test_a_socket_that_is_full_blocks_nobody_and_nothing_is_torn() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ring = LogRing(StreamSink(ours.fileno()), capacity=10_000)
        for number in range(3000):
            ring(Level.INFO, f"{number} " + "y" * 200)
        assert ring.waiting
        data = b""
        while ring.waiting:
            data += theirs.recv(1 << 20)
            ring.flush()
        theirs.setblocking(False)
        while True:
            try:
                data += theirs.recv(1 << 20)
            except BlockingIOError:
                break
        assert data.decode().splitlines() == [f"{number} " + "y" * 200 for number in range(3000)]
        ring.close()


def test_a_stopped_terminal_blocks_nobody() -> None:
    master, slave = pty.openpty()
    termios.tcflow(slave, termios.TCOOFF)
    ring = LogRing(StreamSink(slave))
    began = time.monotonic()
    for number in range(100):
        ring(Level.INFO, f"{number}")
    assert time.monotonic() - began < PATIENCE
    assert ring.waiting == 100
    termios.tcflow(slave, termios.TCOON)
    assert ring.flush()
    assert read_all(master).decode().split() == [str(number) for number in range(100)]
    ring.close()
    os.close(master)
    os.close(slave)


def test_streams_share_a_ring_by_level() -> None:
    (out_reader, out), (err_reader, err) = os.pipe(), os.pipe()
    info = frozenset({Level.INFO})
    ring = LogRing(StreamSink(out, levels=info), StreamSink(err, ident="iscsid", levels=frozenset(Level) - info))
    ring(Level.INFO, "fine")
    ring(Level.ERROR, "not fine")
    assert read_all(out_reader) == b"fine\n"
    assert read_all(err_reader) == b"iscsid: not fine\n"
    ring.close()
    for descriptor in (out_reader, out, err_reader, err):
        os.close(descriptor)


def test_a_regular_file_is_written_by_a_child_that_waits_for_us(tmp_path: Path) -> None:
    """A FIFO nobody reads stands for the disk that hangs: the child's write blocks, ours do not."""
    path = tmp_path / "log"
    with path.open("w") as file:
        sink = StreamSink(file.fileno(), ident="iscsid")
        ring = LogRing(sink)
        assert stat.S_ISREG(os.fstat(file.fileno()).st_mode)
        for number in range(200):
            ring(Level.INFO, str(number))
        ring.close()
        # The child ends with us.
        pid, status = os.waitpid(-1, 0)
    assert (pid > 0, status) == (True, 0)
    assert path.read_text().splitlines() == [f"iscsid: {number}" for number in range(200)]


def test_the_child_that_hangs_on_a_disk_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate_reader, gate = os.pipe()
    write = os.write
    parent = os.getpid()

    def held(descriptor: int, data: bytes) -> int:
        if os.getpid() != parent:
            os.read(gate_reader, 1)
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", held)
    # The child closes what is not its own, so the gate has a number it keeps.
    monkeypatch.setattr("iscsiboot.keeper.sinks.close_descriptors", lambda keep: os.close(gate))
    path = tmp_path / "log"
    with path.open("w") as file:
        ring = LogRing(StreamSink(file.fileno()), capacity=10)
        began = time.monotonic()
        for number in range(5000):
            ring(Level.INFO, f"{number} " + "z" * 500)
        assert time.monotonic() - began < PATIENCE
        assert ring.lost > 0
        os.close(gate)
        ring.close()
        os.waitpid(-1, 0)
    os.close(gate_reader)
    assert path.read_text().startswith("0 zzz")


def test_no_stream_at_all_takes_lines_and_forgets_them() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    sink = StreamSink(writing)
    assert sink.write(Level.INFO, "x") is Took.YES
    assert sink.fileno() is None
    sink.close()


@pytest.fixture
def kmsg(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A FIFO in place of /dev/kmsg, and its end to read: who writes there waits when nobody reads."""
    path = tmp_path / "kmsg"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    before = children()
    yield path, reader
    os.close(reader)
    for child in children() - before:
        os.waitpid(child, 0)


def read_until(reader: int, words: bytes) -> bytes:
    """What comes, up to ``words``."""
    data, end = b"", time.monotonic() + PATIENCE
    while words not in data:
        assert time.monotonic() < end, data[-500:]
        select.select([reader], [], [], 0.1)
        data += read_all(reader)
    return data


def test_the_kernels_log_gets_records_it_can_hold(kmsg: tuple[Path, int]) -> None:
    path, reader = kmsg
    sink: Sink = KmsgSink("iscsiboot-keeper", path=path)
    assert sink.write(Level.NOTICE, "x" * 5000) is Took.YES
    record = read_until(reader, b"x" * 900)
    assert record.startswith(b"<29>iscsiboot-keeper: xxx")
    assert len(record) == 976
    sink.close()


def test_a_console_that_stands_still_holds_up_its_writer_and_not_the_loop(kmsg: tuple[Path, int]) -> None:
    """What the kernel does to who writes to /dev/kmsg while a serial line is held; the FIFO is full for as long."""
    path, reader = kmsg
    timer_ran: list[float] = []

    async def main() -> bytes:
        ring = LogRing(KmsgSink("k", path=path), capacity=100)
        ring.attach(asyncio.get_running_loop())
        asyncio.get_running_loop().call_later(0.05, lambda: timer_ran.append(time.monotonic()))
        began = time.monotonic()
        for number in range(2000):
            ring(Level.INFO, f"line {number} " + "y" * 500)
        assert time.monotonic() - began < PATIENCE
        assert ring.waiting == 100
        lost = ring.lost
        assert lost > 0
        await asyncio.sleep(0.2)
        assert len(timer_ran) == 1, "the loop goes on"
        assert ring.waiting == 100, "the console still stands"
        data = b""
        while b"line 1999" not in data:
            data += read_all(reader)
            await asyncio.sleep(0.001)
        assert f"k: {lost} log lines were lost here".encode() in data
        ring.close()
        return data

    data = asyncio.run(main())
    assert data.startswith(b"<30>k: line 0 y")


def test_a_guard_ends_while_its_line_waits_for_the_console(kmsg: tuple[Path, int]) -> None:
    path, reader = kmsg
    ring = LogRing(KmsgSink("k", path=path), capacity=10)
    for number in range(1000):
        ring(Level.INFO, f"line {number} " + "y" * 500)
    began = time.monotonic()
    ring.close()
    assert time.monotonic() - began < PATIENCE
    # Whatever it had been given comes all the same.
    assert b"line 100 " in read_until(reader, b"line 100 ")


def test_who_writes_the_kernels_log_is_called_so_and_is_made_anew_when_killed(kmsg: tuple[Path, int]) -> None:
    path, reader = kmsg
    before = children()
    ring = LogRing(KmsgSink("k", path=path))
    (child,) = children() - before
    ring(Level.INFO, "one")
    read_until(reader, b"one")
    assert Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[0] == b"@iscsiboot-log"
    assert {str(entry.readlink()) for entry in Path(f"/proc/{child}/fd").iterdir()} >= {str(path)}
    assert len(list(Path(f"/proc/{child}/fd").iterdir())) == 2
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        os.kill(child, number)
    ring(Level.INFO, "two")
    read_until(reader, b"two")
    os.kill(child, signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    ring(Level.INFO, "three")
    ring(Level.INFO, "four")
    assert ring.flush()
    assert b"three" in read_until(reader, b"four")
    assert child not in children(), "it is reaped"
    assert len(children() - before) == 1
    ring.close()


def children() -> set[int]:
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


def test_a_full_file_system_costs_lines_and_not_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, parent = os.write, os.getpid()

    def full(descriptor: int, data: bytes) -> int:
        if os.getpid() != parent and b"lost" in data:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    path = tmp_path / "log"
    with path.open("w") as file:
        ring = LogRing(StreamSink(file.fileno()))
        for text in ("one", "lost", "two"):
            ring(Level.INFO, text)
        ring.close()
        os.waitpid(-1, 0)
    assert path.read_text() == "one\ntwo\n"


def test_where_the_kernels_log_may_not_be_written_lines_are_forgotten(tmp_path: Path) -> None:
    sink = KmsgSink("x", path=tmp_path / "none")
    assert sink.write(Level.NOTICE, "x") is Took.YES
    sink.close()


def test_lines_from_a_thread_that_is_not_the_loops_do_no_harm_without_a_loop() -> None:
    sink = Scripted()
    ring = LogRing(sink)
    thread = threading.Thread(target=ring, args=(Level.INFO, "from elsewhere"))
    thread.start()
    thread.join()
    assert sink.texts == ["from elsewhere"]
