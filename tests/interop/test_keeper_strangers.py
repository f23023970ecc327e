# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guards among other users: one who sits on the abstract name, one who asks for the sessions, one who floods it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from iscsiboot.keeper import handover
from tests.unit.keeper.guard_kit import Stage, known, leave_and_idle, new_stage, with_standby

pytestmark = [pytest.mark.interop, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

NOBODY = 65534
SQUAT = """
import os, socket, sys, time
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sock = socket.socket(socket.AF_UNIX)
sock.bind(chr(0) + sys.argv[1])
answer = b'{"iscsiboot-keeper":1,"document":{"iscsiboot-sessions":1,"sessions":{}}}\\n{"done":true}\\n'
if sys.argv[2] == "listen":
    sock.listen(64)
print("there", flush=True)
while True:
    if sys.argv[2] == "listen":
        connection, _ = sock.accept()
        try:
            connection.sendall(answer)
        except OSError:
            pass  # whoever has seen who sits here is gone already
    else:
        time.sleep(60)
"""
FLOOD = """
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
print("there", flush=True)
held = []
while True:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(chr(0) + sys.argv[1])
        sock.sendall(b'{"iscsiboot-keeper":1,"want":"sessions"}' + b" " * 1000)
    except OSError:
        pass
    held = [*held[-200:], sock]
"""


@pytest.fixture
def stage() -> Iterator[Stage]:
    with new_stage() as made:
        # The folder is root's alone where pytest runs; other users must be able to look for the socket in it.
        made.run.parent.chmod(0o755)
        yield made


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for child in started:
        child.kill()
        child.wait()


def other_user(children: list[subprocess.Popen[bytes]], script: str, *arguments: str) -> int:
    child = subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE)
    children.append(child)
    assert child.stdout is not None
    assert child.stdout.readline() == b"there\n"
    return child.pid


@pytest.mark.parametrize("how", ["listen", "bind"])
def test_somebody_on_the_abstract_name(stage: Stage, children: list[subprocess.Popen[bytes]], how: str) -> None:
    """He could take hand-overs, and hand out sessions of his own. Nobody asks him, nobody tells him anything."""
    squatter = other_user(children, SQUAT, stage.name, how)
    guard = stage.guard()
    stage.wait_acting(guard)
    daemon = stage.daemon(leave_and_idle)
    stage.wait_acting(daemon)
    assert stage.lines("begin")[-1]["sids"] == [1]
    stage.wait_end(guard)
    who = f"process {squatter} of user {NOBODY}" if how == "listen" else "somebody"
    assert stage.logged(f"{who} sits on the abstract socket @{stage.name}; this guard listens at")
    if how == "listen":
        assert stage.logged(f"process {squatter} of user {NOBODY} sits on @{stage.name}, where root's guard should be")


def test_a_standby_behind_a_daemon_beside_a_squatter(stage: Stage, children: list[subprocess.Popen[bytes]]) -> None:
    other_user(children, SQUAT, stage.name, "listen")

    for count in range(1, 4):
        daemon = stage.daemon(with_standby)
        stage.until_lines("settled", count)
        standby = stage.adopt(stage.lines("standby")[-1]["standby"])
        stage.kill(daemon)
        stage.wait_acting(standby)


def test_a_squatter_that_comes_between_two_guards(stage: Stage, children: list[subprocess.Popen[bytes]]) -> None:
    """The name was the guard's; it died, and somebody else was quicker than the next."""
    guard = stage.guard()
    stage.wait_acting(guard)
    stage.kill(guard)
    stage.wait_end(guard)
    other_user(children, SQUAT, stage.name, "listen")
    guard = stage.guard({5: known(5)})
    stage.wait_acting(guard)
    daemon = stage.daemon(leave_and_idle)
    stage.wait_acting(daemon)
    assert stage.lines("begin")[-1]["sids"] == [5]


def as_nobody(stage: Stage, path: str) -> str:
    """What another user gets who asks for the sessions there."""
    script = """
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sock = socket.socket(socket.AF_UNIX)
sock.settimeout(10)
try:
    sock.connect(chr(0) + sys.argv[1][1:] if sys.argv[1].startswith("@") else sys.argv[1])
    sock.sendall(b'{"iscsiboot-keeper":1,"want":"sessions"}\\n')
    print(sock.recv(65536))
except OSError as error:
    print(type(error).__name__)
"""
    done = subprocess.run([sys.executable, "-c", script, path], stdout=subprocess.PIPE, timeout=30, check=True)
    return done.stdout.decode().strip()


def test_another_user_is_told_nothing(stage: Stage) -> None:
    guard = stage.guard()
    stage.wait_acting(guard)
    assert as_nobody(stage, f"@{stage.name}") in ("b''", "ConnectionResetError", "BrokenPipeError")
    assert as_nobody(stage, str(stage.run / "keeper.sock")) == "PermissionError"
    stage.until(lambda: stage.logged(f"of user {NOBODY} asked for the sessions and got no answer"), told="it is told")
    # A second time is not worth a second line.
    as_nobody(stage, f"@{stage.name}")
    time.sleep(0.1)
    assert sum("got no answer" in line["text"] for line in stage.lines("log")) == 1


def test_a_flood_of_connections_does_not_keep_the_daemon_away(
    stage: Stage, children: list[subprocess.Popen[bytes]]
) -> None:
    guard = stage.guard()
    stage.wait_acting(guard)
    for _ in range(2):
        other_user(children, FLOOD, stage.name)
    time.sleep(0.3)
    daemon = stage.daemon(leave_and_idle)
    stage.wait_acting(daemon)
    assert stage.lines("begin")[-1]["sids"] == [1]
    assert sum("got no answer" in line["text"] for line in stage.lines("log")) == 1


def test_another_user_cannot_hold_the_right_to_act(stage: Stage) -> None:
    guard = stage.guard()
    stage.wait_acting(guard)
    script = """
import os, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
for flags in (os.O_RDONLY, os.O_RDWR):
    try:
        os.open(sys.argv[1], flags)
        print("open")
    except PermissionError:
        print("no")
"""
    path = str(stage.run / "guard.lock")
    done = subprocess.run([sys.executable, "-c", script, path], stdout=subprocess.PIPE, timeout=30, check=True)
    assert done.stdout == b"no\nno\n"


def test_a_guard_in_a_mount_namespace_of_its_own(stage: Stage) -> None:
    """As the keeper of the initramfs lives: another root, the run folder bind-mounted into it."""
    from iscsiboot.keeper import guardian, libc
    from tests.unit.keeper.guard_kit import ENVIRONMENT

    stage.run.mkdir(mode=0o755)
    journal = stage.journal.parent

    def life() -> None:
        libc.unshare(0x00020000)  # CLONE_NEWNS
        libc.mount("", "/", "", 0x44000)  # MS_REC | MS_PRIVATE
        # What the journal is in goes away for everybody else's path; ours stays what it was.
        libc.mount("tmpfs", "/mnt", "tmpfs")
        Path("/mnt/run").mkdir()
        libc.mount(str(stage.run), "/mnt/run", "", 0x1000)  # MS_BIND
        guardian.guard(
            {1: known()},
            environment=ENVIRONMENT,
            log=stage.log,
            run=Path("/mnt/run"),
            name=stage.name,
            engine=stage.engine(),
        )

    guard = stage.spawn(life)
    stage.wait_acting(guard)
    daemon = stage.daemon(leave_and_idle)
    stage.wait_acting(daemon)
    stage.wait_end(guard)
    assert [line["what"] for line in stage.lines() if line["what"] in ("begin", "end")] == ["begin", "end", "begin"]
    # One lock file in two namespaces is one lock.
    assert handover.ask_status(run=stage.run, log=stage.log, name=stage.name) is None
    assert journal.exists()


def test_by_the_second_way_alone(stage: Stage) -> None:
    """Abstract names are those of a network namespace: from another one the folder is the only way."""
    from iscsiboot.keeper import guardian, libc
    from tests.unit.keeper.guard_kit import ENVIRONMENT

    def life() -> None:
        libc.unshare(0x40000000)  # CLONE_NEWNET
        guardian.guard(
            {1: known()}, environment=ENVIRONMENT, log=stage.log, run=stage.run, name=stage.name, engine=stage.engine()
        )

    guard = stage.spawn(life)
    stage.wait_acting(guard)
    with pytest.raises(ConnectionRefusedError), socket.socket(socket.AF_UNIX) as sock:
        sock.connect(f"\0{stage.name}")
    daemon = stage.daemon(leave_and_idle)
    stage.wait_acting(daemon)
    assert stage.lines("begin")[-1]["sids"] == [1]


def test_a_stale_socket_of_a_dead_guard_is_in_nobodys_way(stage: Stage) -> None:
    guard = stage.guard()
    stage.wait_acting(guard)
    stage.until(lambda: (stage.run / "keeper.sock").exists(), told="it listens")
    stage.kill(guard, signal.SIGKILL)
    stage.wait_end(guard)
    assert (stage.run / "keeper.sock").exists()
    daemon = stage.daemon(leave_and_idle)
    stage.wait_acting(daemon)
    stage.kill(daemon)
    stage.wait_end(daemon)
    guard = stage.guard()
    stage.wait_acting(guard)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(stage.run / "keeper.sock"))
