# SPDX-License-Identifier: LGPL-2.1-or-later
"""The whole daemon on the kernel double: sessions adopted, broken, healed, made and ended by requests, handed on."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.interop.iscsid_lab import PYTHON, Place
from tests.interop.iscsid_on_double import REMOVAL_SECONDS

pytestmark = [pytest.mark.interop, pytest.mark.root]

TARGET = "iqn.2026-01.org.example:disk"


class Joined:
    """A daemon on the double."""

    def __init__(self, place: Place, *before: str) -> None:
        self.place = place
        place.run("sh", "-c", "echo InitiatorName=iqn.2026-01.org.example:guest > /run/etc/initiatorname.iscsi")
        command = (PYTHON, "-B", "-m", "tests.interop.iscsid_on_double", *before, "--", "-f", "-d", "1")
        self.process = place.spawn(*command)
        self.until(lambda: "ISCSIADM" in place.run("cat", "/proc/self/net/unix")[1], "the socket")

    def order(self, *words: object) -> Any:
        script = (
            "import socket, sys\n"
            "s = socket.socket(socket.AF_UNIX); s.connect('/run/control'); f = s.makefile('rw')\n"
            "f.write(sys.argv[1] + '\\n'); f.flush(); print(f.readline())\n"
        )
        return json.loads(self.place.run(PYTHON, "-c", script, json.dumps(words))[1])

    def sessions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.place.ask("status")["sessions"]
        return found

    def until(self, there: Callable[[], bool], what: str, seconds: float = 60.0) -> float:
        began = time.monotonic()
        while not there():
            if time.monotonic() > began + seconds or self.process.poll() is not None:
                self.process.kill()
                raise AssertionError(f"not within {seconds:g} s: {what}\n{self.process.communicate()}")
            time.sleep(0.05)
        return time.monotonic() - began

    def up(self) -> bool:
        return [item["phase"] for item in self.sessions()] == ["up"]

    def login(self, target: str = TARGET, **fields: object) -> dict[str, Any]:
        port = self.place.run("cat", "/run/port")[1]
        where = {"node.name": target, "node.conn[0].address": "127.0.0.1", "node.conn[0].port": port, "node.tpgt": "1"}
        record = where | {"node.conn[0].timeo.login_timeout": "5", "node.session.initial_login_retry_max": "1"}
        return self.place.ask("login", {"record": record, **fields})

    def end(self) -> tuple[str, str]:
        """Tell it to end; what it said."""
        self.process.terminate()
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, out + err
        assert "fault of this program" not in out + err
        assert "was not loaded at the start" not in out + err
        return out, err


def test_a_session_that_works_is_adopted_without_a_request(place: Place) -> None:
    joined = Joined(place, "session")
    (session,) = joined.sessions()
    assert (session["sid"], session["phase"], session["target"], session["source"]) == (1, "up", TARGET, "sysfs")
    assert joined.order("requests") == []
    joined.end()
    assert place.run("cat", "/run/iscsiboot/sessions/1.json")[0] == 0


def test_neither_its_start_nor_its_end_waits_for_the_kernel_to_remove_a_half_made_session(place: Place) -> None:
    began = time.monotonic()
    joined = Joined(place, "session", "half")
    joined.until(joined.up, "the adoption")
    joined.end()
    assert time.monotonic() - began < REMOVAL_SECONDS


def test_a_session_that_breaks_is_healed(place: Place) -> None:
    joined = Joined(place, "session")
    joined.until(joined.up, "the adoption")
    joined.order("break", 1)
    joined.until(lambda: [item["recoveries"] for item in joined.sessions()] == [1], "the recovery")
    assert joined.order("requests")[0] == "STOP_CONN"
    _, err = joined.end()
    assert err.count("[target: iqn.2026-01.org.example:disk, portal: 127.0.0.1,") == 2, err


def test_a_login_by_request_and_its_end(place: Place) -> None:
    joined = Joined(place)
    assert joined.login()["sid"] == 1
    assert joined.login()["code"] == 15
    assert joined.login(wanted=0)["sid"] == 2
    assert joined.login(wanted=2)["code"] == 15
    assert joined.login("iqn.2026-01.org.example:other")["sid"] == 3
    assert [item["source"] for item in joined.sessions()] == ["our own login"] * 3
    three = ["1.json", "2.json", "3.json"]
    joined.until(lambda: place.run("ls", "/run/iscsiboot/sessions")[1].split() == three, "the files")
    assert place.run("stat", "-c", "%a", "/run/iscsiboot/sessions")[1] == "700\n"
    assert place.ask("logout", {"sid": 2}) == {"sid": 2}
    assert place.ask("logout", {"sid": 2})["code"] == 2
    assert place.ask("logout", {"sid": 3, "insist": True}) == {"sid": 3}
    joined.until(lambda: place.run("ls", "/run/iscsiboot/sessions")[1].split() == ["1.json"], "the files")
    joined.end()


def test_a_target_that_refuses_is_told_with_the_code_of_a_client(place: Place) -> None:
    joined = Joined(place)
    joined.order("away")
    assert joined.login(seconds=20)["code"] == 8
    joined.order("back")
    assert joined.login()["sid"] >= 1
    joined.end()


def test_requests_about_a_session(place: Place) -> None:
    joined = Joined(place, "session")
    joined.until(joined.up, "the adoption")
    assert place.ask("rescan", {"sid": 1}) == {}
    answer = place.ask("set", {"sid": 1, "timers": {"recovery": 77}})
    assert answer["timers"]["recovery"] == 77
    assert place.ask("set", {"sid": 1, "timers": {"recovery": -2}})["code"] == 7
    assert place.ask("reconnect", {"sid": 1}) == {}
    joined.until(lambda: joined.order("requests")[-1] == "START_CONN" and joined.up(), "the new connection")
    assert place.ask("settle", {"records": []}) == {"lines": []}
    joined.end()


def test_the_systems_disk_has_a_standby_which_guards_when_the_daemon_ends(place: Place) -> None:
    joined = Joined(place, "session", "mounted")
    joined.until(lambda: bool(place.ask("status")["daemon"]["standby"]), "the standby")
    (session,) = joined.sessions()
    assert (session["role"], session["recovery_tmo"]) == ("root", -1)
    standby = place.ask("status")["daemon"]["standby"]
    assert Path(f"/proc/{standby}/cmdline").read_bytes().startswith(b"@")
    refused = place.ask("logout", {"sid": 1})
    assert refused["code"] == 28
    assert "is mounted on /" in refused["line"]
    joined.end()
    assert not Path(f"/proc/{standby}/stat").read_text().rpartition(")")[2].startswith(" Z")
    os.kill(standby, signal.SIGKILL)


def test_what_was_handed_over_without_a_role_is_the_systems_until_somebody_has_looked(place: Place) -> None:
    """The guard before may leave, and the look at the disks may fail: a root must not be without a guard meanwhile."""
    joined = Joined(place, "session", "handed", "blind")
    joined.until(joined.up, "the adoption")
    assert place.ask("status")["daemon"]["standby"]
    (session,) = joined.sessions()
    assert session["role"] == "system"
    _, err = joined.end()
    assert "what stands on which disk is not known" in err


def test_a_standby_that_is_killed_is_replaced(place: Place) -> None:
    joined = Joined(place, "session", "mounted")
    joined.until(lambda: bool(place.ask("status")["daemon"]["standby"]), "the standby")
    first = place.ask("status")["daemon"]["standby"]
    os.kill(first, signal.SIGKILL)
    joined.until(lambda: place.ask("status")["daemon"]["standby"] not in (None, first), "another standby")
    second = place.ask("status")["daemon"]["standby"]
    joined.end()
    os.kill(second, signal.SIGKILL)


def test_a_mount_that_comes_later_makes_the_session_the_systems(place: Place) -> None:
    joined = Joined(place, "session")
    joined.until(joined.up, "the adoption")
    assert place.ask("status")["daemon"]["standby"] is None
    joined.order("mounted")
    assert place.ask("logout", {"sid": 1})["code"] == 28, "looked at when it is asked, not when roles are"
    joined.end()


def test_events_are_watched(place: Place) -> None:
    joined = Joined(place, "session")
    joined.until(joined.up, "the adoption")
    script = (
        "import json\n"
        "from iscsiboot.ipc import client\n"
        "with client.connect() as c:\n"
        "    for event in c.watch(every=1.0):\n"
        "        if event: print(json.dumps(event), flush=True)\n"
    )
    watcher = place.spawn(PYTHON, "-B", "-c", script)
    assert watcher.stdout is not None
    first = json.loads(watcher.stdout.readline())
    assert first["session"]["phase"] == "up"
    assert json.loads(watcher.stdout.readline()) == {"complete": True}
    joined.order("away")
    joined.order("break", 1)
    phases = []
    while "waiting" not in phases:
        phases.append(json.loads(watcher.stdout.readline())["session"]["phase"])
    joined.order("back")
    while phases[-1] != "up":
        phases.append(json.loads(watcher.stdout.readline())["session"]["phase"])
    joined.end()
    assert watcher.wait(20) is not None


def test_a_session_somebody_else_makes_is_adopted_a_moment_later(place: Place) -> None:
    """A rescue shell's iscsistart, or open-iscsi's: its maker is given the time to finish."""
    joined = Joined(place)
    assert joined.sessions() == []
    began = time.monotonic()
    joined.order("stranger")
    joined.until(joined.up, "the adoption")
    assert time.monotonic() - began > 2
    assert joined.order("requests") == []
    joined.end()


def test_a_daemon_that_cannot_look_at_the_sessions_leaves_them_to_the_guard_before_it(place: Place) -> None:
    """It has the right to act by then: to keep it and do nothing would leave the root to nobody."""
    place.run("sh", "-c", "echo InitiatorName=iqn.2026-01.org.example:guest > /run/etc/initiatorname.iscsi")
    command = (PYTHON, "-B", "-m", "tests.interop.iscsid_on_double", "session", "spoiled", "--", "-f")
    status, _, err = place.run(*command)
    assert status == 1
    assert "sysfs is not there" in err


def test_a_second_daemon_in_another_network_finds_the_first_acting(place: Place) -> None:
    """Two sockets, one machine: the right to act is one lock."""
    joined = Joined(place, "session")
    joined.until(joined.up, "the adoption")
    place.run("sh", "-c", "rm -rf /run/machine")
    command = (PYTHON, "-B", "-m", "tests.interop.iscsid_on_double", "--", "-f", "-n")
    status, _, err = place.run("unshare", "--net", "sh", "-c", f"rm -f /run/control; exec {' '.join(command)}")
    assert status == 1
    assert f"{joined.process.pid}" in err


def test_changed_secrets_are_read_at_a_hangup(place: Place) -> None:
    joined = Joined(place)
    assert joined.login()["sid"] == 1
    joined.process.send_signal(signal.SIGHUP)
    joined.until(lambda: place.ask("config")["safe_logout"] is False, "the answer")
    place.run("sh", "-c", "echo iscsid.safe_logout = Yes > /run/etc/iscsid.conf")
    joined.process.send_signal(signal.SIGHUP)
    joined.until(lambda: place.ask("config")["safe_logout"] is True, "the new settings")
    _, err = joined.end()
    assert "settings and secrets were read again" in err
