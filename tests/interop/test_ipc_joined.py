# SPDX-License-Identifier: LGPL-2.1-or-later
"""The whole way: iscsiadm's command line, the socket, the whole daemon, a kernel in memory, and back to the words."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.interop.iscsid_lab import PYTHON, Place
from tests.interop.test_iscsid_joined import TARGET, Joined

pytestmark = [pytest.mark.interop, pytest.mark.root]

PROGRAM = """
from iscsiboot.admin.context import Paths
from iscsiboot.admin.main import main
from iscsiboot.admin.process import process
from iscsiboot.ipc.protocol import ADDRESS
paths = Paths(config="/run/etc", database="/run/etc", etc="/run/etc", sysfs="/run/machine/sys",
              proc="/run/machine/proc", run="/run", daemon=ADDRESS)
process(lambda argv, out, err, program: main(argv, out, err, paths), "iscsiadm")
"""


class Command:
    """A daemon, and iscsiadm beside it."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.joined = Joined(place)
        self.port = place.run("cat", "/run/port")[1]

    def __call__(self, line: str, status: int = 0) -> list[str]:
        """What it prints on stdout, then on stderr behind ``E``."""
        code, out, err = self.place.run(PYTHON, "-B", "-c", PROGRAM, *shlex.split(line))
        assert code == status, out + err
        return [*out.splitlines(), *(f"E {text.removeprefix('iscsiadm: ')}" for text in err.splitlines())]

    def start(self, line: str) -> subprocess.Popen[str]:
        """The same, and do not wait for it."""
        return self.place.spawn(PYTHON, "-B", "-c", PROGRAM, *shlex.split(line))

    def record(self, target: str, *settings: str) -> str:
        """Make a record; how a command names it."""
        where = f"-T {target} -p 127.0.0.1:{self.port}"
        self(f"-m node {where},1 -o new")
        for setting in ("node.conn[0].timeo.login_timeout=5", "node.session.initial_login_retry_max=1", *settings):
            name, _, value = setting.partition("=")
            self(f"-m node {where} -o update -n {name} -v {value}")
        return where

    def sids(self) -> list[int]:
        return sorted(item["sid"] for item in self.joined.sessions())


@pytest.fixture
def command() -> Iterator[Command]:
    if os.geteuid():
        pytest.skip("needs root")
    with Place() as place:
        yield Command(place)


def test_a_login_counters_and_a_logout(command: Command) -> None:
    where = command.record(TARGET)
    label = f"[iface: default, target: {TARGET}, portal: 127.0.0.1,{command.port}]"
    assert command(f"-m node {where} -l") == [f"Logging in to {label}", f"Login to {label} successful."]
    (session,) = command.joined.sessions()
    assert (session["phase"], session["source"], session["iface"]) == ("up", "our own login", "default")
    assert command(f"-m node {where} -l", 15)[0] == "E default: 1 session requested, but 1 already present."
    assert command("-m session") == [f"tcp: [1] 127.0.0.1:{command.port},3 {TARGET} (non-flash)"]
    # The kernel in memory counts nothing; the daemon says so, and the command passes it on.
    assert "the kernel's counters cannot be read" in command("-m session -s", 9)[0]
    assert command("-m session -r 1 -o new")[-1].endswith("successful.")
    assert command.sids() == [1, 2]
    assert [text.endswith("successful.") for text in command("-m session -u")] == [False, False, True, True]
    assert command.sids() == []
    command.joined.end()


def test_failures_keep_their_codes_and_words(command: Command) -> None:
    where = command.record(TARGET, "node.session.auth.username_in=me")
    command.joined.order("away")
    said = command(f"-m node {where} -l", 24)
    assert "E initiator reported error (24 - iSCSI login failed due to authorization failure)" in said
    other = command.record(f"{TARGET}2")
    said = command(f"-m node {other} -l", 8)
    assert "E initiator reported error (8 - connection timed out)" in said
    assert any(text.startswith(f"E connect: 127.0.0.1:{command.port}: ") for text in said)
    assert command.sids() == []
    command.joined.end()


def test_many_at_once(command: Command) -> None:
    for number in range(8):
        command.record(f"{TARGET}{number}")
    said = command("-m node -l")
    assert [text.endswith("successful.") for text in said] == [False] * 8 + [True] * 8
    assert len(command.sids()) == 8
    assert len([text for text in command("-m node -u") if text.endswith("successful.")]) == 8
    command.joined.end()


def test_a_login_nobody_waits_for(command: Command) -> None:
    where = command.record(TARGET)
    assert len(command(f"-m node {where} -l -W")) == 1
    command.joined.until(command.joined.up, "the session")
    command.joined.end()


def test_control_c_takes_the_login_back(command: Command) -> None:
    """The target takes no connections, so the login is still trying when the key is pressed."""
    where = command.record(TARGET, "node.session.initial_login_retry_max=20")
    command.joined.order("away")
    process = command.start(f"-m node {where} -l")
    assert process.stdout is not None
    process.stdout.readline()
    command.joined.until(lambda: command.place.run("cat", "/proc/self/net/unix")[1].count("ISCSIADM") >= 2, "the order")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (1, "", "iscsiadm: caught SIGINT, exiting...\n")
    command.joined.order("back")
    # Nothing goes on behind it: the place is free at once.
    assert command(f"-m node {where} -l")[-1].endswith("successful.")
    assert len(command.sids()) == 1
    command.joined.end()


def test_stopping_the_daemon_touches_no_session(command: Command) -> None:
    where = command.record(TARGET)
    command(f"-m node {where} -l")
    before = command.joined.order("requests")
    assert command("-k 0") == []
    assert command.joined.process.wait(30) == 0
    assert "DESTROY_SESSION" not in " ".join(before)
    assert command.place.run("ls", "/run/machine/sys/class/iscsi_session")[1].split() == ["session1"]
    assert command("-k 0")[0] == "E can not connect to iSCSI daemon (111)!"
