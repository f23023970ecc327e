# SPDX-License-Identifier: LGPL-2.1-or-later
"""The service manager's side: what it is told, by a socket that may be full; what it hands over."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from iscsiboot.daemon import notify
from iscsiboot.daemon.notify import Notifier, listening_socket
from iscsiboot.errors import IscsiBootError
from tests.doubles.virtual_time import run_virtually

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
        server.setblocking(False)
        yield server, str(path)


def heard(server: socket.socket) -> list[list[str]]:
    found = []
    while True:
        try:
            found.append(server.recv(4096).decode().split("\n"))
        except BlockingIOError:
            return found


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def test_what_is_told(manager: tuple[socket.socket, str]) -> None:
    server, path = manager
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": path})
    assert notifier.supervised
    notifier.status("Taking over")
    notifier.ready("Ready to process requests")
    notifier.status("Ready to process requests")
    notifier.main_process(42)
    notifier.stopping()
    assert heard(server) == [
        ["STATUS=Taking over"],
        ["READY=1", "STATUS=Ready to process requests"],
        ["MAINPID=42"],
        ["STOPPING=1"],
    ]
    notifier.close()
    assert not notifier.supervised


def test_a_reload_has_its_time_and_an_end(manager: tuple[socket.socket, str]) -> None:
    server, path = manager
    notifier = Notifier(path)
    notifier.reloading()
    notifier.ready()
    first, second = heard(server)
    assert first[0] == "RELOADING=1"
    assert first[1].startswith("MONOTONIC_USEC=")
    assert second == ["READY=1"]
    notifier.close()


def test_an_abstract_address(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(f"\0{tmp_path}")
        notifier = Notifier(f"@{tmp_path}")
        notifier.ready()
        assert server.recv(100) == b"READY=1"
        notifier.close()


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative"])
def test_without_a_manager_nothing_is_sent(address: str) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": address} if address else {})
    assert not notifier.supervised
    notifier.ready("x")
    notifier.close()


def test_a_status_is_one_line(manager: tuple[socket.socket, str]) -> None:
    server, path = manager
    notifier = Notifier(path)
    notifier.status("a\nREADY=1\n" + "x" * 1000)
    ((line,),) = heard(server)
    assert line.startswith("STATUS=a\\nREADY=1\\n")
    assert len(line) < 300
    notifier.close()


def test_a_manager_that_hangs_holds_up_nobody_and_learns_the_newest(manager: tuple[socket.socket, str]) -> None:
    server, path = manager

    async def main() -> None:
        notifier = Notifier(path)
        notifier.attach(asyncio.get_running_loop())
        for number in range(3000):
            notifier.status(str(number))
        notifier.ready("now")
        await asyncio.sleep(0.05)
        messages: list[list[str]] = []

        def read() -> bool:
            messages.extend(heard(server))
            return any("READY=1" in message for message in messages)

        await until(read)
        assert "STATUS=now" in messages[-1]
        assert len(messages) < 3000
        # And it is not asked in a circle afterwards.
        assert not notifier._waits
        notifier.close()

    asyncio.run(main())


def test_a_manager_that_starts_itself_anew_is_told_with_the_next(tmp_path: Path) -> None:
    path = tmp_path / "notify"
    notifier = Notifier(str(path))
    notifier.ready("early")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
        server.setblocking(False)
        notifier.status("later")
        assert heard(server) == [["READY=1", "STATUS=later"]]
    path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
        server.setblocking(False)
        notifier.status("lost")
        notifier.status("found")
        assert heard(server)[-1] == ["STATUS=found"]
    notifier.close()


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [
        ("30000000", "", 30.0),
        ("30000000", "own", 30.0),
        ("30000000", "1", None),
        ("0", "", None),
        ("", "", None),
        ("-5", "", None),
        ("x", "", None),
        ("٣", "", None),
    ],
)
def test_how_often_a_sign_of_life_is_due(usec: str, pid: str, seconds: float | None) -> None:
    environ = {"WATCHDOG_USEC": usec, "WATCHDOG_PID": str(os.getpid()) if pid == "own" else pid}
    assert Notifier.from_environment(environ).watchdog_seconds == seconds


def test_signs_of_life_come_at_half_the_time_while_the_loop_works(manager: tuple[socket.socket, str]) -> None:
    server, path = manager

    async def main() -> None:
        notifier = Notifier(path, watchdog_seconds=30)
        assert heard(server) == []
        notifier.attach(asyncio.get_running_loop())
        await asyncio.sleep(100)
        notifier.detach()
        # At once, and then after each 15 s.
        assert heard(server) == [["WATCHDOG=1"]] * 7
        await asyncio.sleep(100)
        assert heard(server) == []
        notifier.close()

    run_virtually(main())


# Socket activation. ---------------------------------------------------------------------------------------------------

ACTIVATED = """
import os, socket, sys
sys.path.insert(0, {root!r})
from iscsiboot.daemon.notify import listening_socket
from iscsiboot.errors import IscsiBootError
made = {made}
os.dup2(made.fileno(), 3, inheritable=True)
environ = {{"LISTEN_FDS": {count!r}, "LISTEN_PID": str(os.getpid() + {other})}}
try:
    got = listening_socket(environ)
except IscsiBootError as error:
    print("refused", error.line())
else:
    print("none" if got is None else f"{{got.fileno()}} {{got.get_inheritable()}} {{got.gettimeout()}}")
"""
LISTENING = "socket.socket(socket.AF_UNIX); made.bind('\\0test-' + str(os.getpid())); made.listen()"


def activated(made: str, count: str = "1", other: int = 0) -> str:
    code = ACTIVATED.format(root=str(ROOT), made=made, count=count, other=other)
    run = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_the_managers_socket_is_used() -> None:
    assert activated(LISTENING) == "3 False 0.0"


def test_a_socket_meant_for_another_process_is_not_ours() -> None:
    assert activated(LISTENING, other=1) == "none"


@pytest.mark.parametrize("count", ["0", "2", "x"])
def test_another_number_of_sockets_is_refused_in_the_peers_words(count: str) -> None:
    assert "Did not receive exactly one IPC socket from systemd" in activated(LISTENING, count)


@pytest.mark.parametrize(
    "made",
    [
        "socket.socket(socket.AF_UNIX)",
        "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); made.bind('\\0d' + str(os.getpid()))",
        "socket.socket(socket.AF_INET); made.bind(('127.0.0.1', 0)); made.listen()",
        "open(os.devnull)",
    ],
)
def test_what_is_no_listening_stream_socket_is_refused(made: str) -> None:
    assert activated(made).startswith("refused")


def test_without_a_manager_there_is_no_socket() -> None:
    assert listening_socket({}) is None


def test_programs_we_start_are_not_the_service() -> None:
    environ = {"NOTIFY_SOCKET": "/x", "LISTEN_FDS": "1", "LISTEN_PID": "1", "WATCHDOG_USEC": "1", "PATH": "/bin"}
    notify.forget(environ)
    assert environ == {"PATH": "/bin"}


def test_a_refusal_says_what_to_do() -> None:
    with pytest.raises(IscsiBootError, match=r"iscsid\.socket"):
        listening_socket({"LISTEN_FDS": "2", "LISTEN_PID": str(os.getpid())})
