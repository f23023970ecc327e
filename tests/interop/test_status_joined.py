# SPDX-License-Identifier: LGPL-2.1-or-later
"""iscsiboot status beside the whole daemon on the kernel double: from health through an outage to the standby."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest

from tests.interop.iscsid_lab import PYTHON, Place
from tests.interop.test_iscsid_joined import TARGET, Joined

pytestmark = [pytest.mark.interop, pytest.mark.root]

STATUS = (PYTHON, "-B", "-m", "iscsiboot", "status")


def test_an_outage_is_shown_and_its_end(place: Place) -> None:
    joined = Joined(place, "session", "mounted")
    joined.until(lambda: bool(place.ask("status")["daemon"]["standby"]), "the standby")
    code, out, err = place.run(*STATUS)
    assert (code, err) == (0, "")
    first, second, *_ = out.splitlines()
    assert re.fullmatch(r"iscsid \S+ \(process \d+, up \d+(\.\d)? s\) guards 1 session\.", first)
    assert re.fullmatch(r"Process \d+ takes its place when it is gone\.", second)
    assert re.search(rf"^ +1  connected +\S+ s +root +0 +{TARGET} +127\.0\.0\.1:\d+$", out, re.MULTILINE)
    assert " is mounted on /" in out

    watcher = place.spawn(*STATUS, "--watch")
    assert watcher.stdout is not None
    while TARGET not in watcher.stdout.readline():
        pass
    joined.order("away")
    joined.order("break", 1)
    joined.until(lambda: bool(joined.sessions()[0]["last_error"]), "an attempt that fails")
    code, out, err = place.run(*STATUS)
    assert (code, err) == (32, "")
    assert out.startswith("iscsid ")
    assert "guards 1 session, 1 not connected." in out
    assert re.search(r"^     last error .* ago: connect: 127\.0\.0\.1:\d+: .*; next: ", out, re.MULTILINE)
    joined.order("back")
    joined.until(joined.up, "the recovery")
    said: list[str] = []
    while not said or " connected" not in said[-1]:
        said.append(watcher.stdout.readline())
    told = [line for line in said if re.match(r"\d\d:\d\d:\d\d ", line)]
    assert "session 1 (root)" in told[0]
    assert "recovering" in told[0]
    code, out, _ = place.run(*STATUS, "--json")
    (session,) = json.loads(out)["sessions"]
    assert (code, session["phase"], session["recoveries"]) == (0, "up", 1)
    assert session["last_error"].startswith("connect: ")
    joined.end()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_watch_goes_on_when_the_daemon_ends(place: Place, how: signal.Signals) -> None:
    joined = Joined(place, "session", "mounted")
    joined.until(lambda: bool(place.ask("status")["daemon"]["standby"]), "the standby")
    standby = place.ask("status")["daemon"]["standby"]
    watcher = place.spawn(*STATUS, "--watch")
    assert watcher.stdout is not None
    while TARGET not in watcher.stdout.readline():
        pass
    joined.process.send_signal(how)
    said = ""
    while not re.match(r"\d\d:\d\d:\d\d ", said):
        said = watcher.stdout.readline()
    assert said[9:] == f"The keeper (process {standby}) guards 1 session; iscsid does not answer requests.\n"
    watcher.send_signal(signal.SIGINT)
    assert watcher.wait(10) == 130
    assert watcher.stderr is not None
    assert watcher.stderr.read() == ""


def test_when_the_daemon_ends_its_standby_is_asked(place: Place) -> None:
    joined = Joined(place, "session", "mounted")
    joined.until(lambda: bool(place.ask("status")["daemon"]["standby"]), "the standby")
    standby = place.ask("status")["daemon"]["standby"]
    joined.end()
    code, out, err = place.run(*STATUS, "--json")
    said = json.loads(out)
    assert (code, err) == (0, "")
    assert (said["guard"]["kind"], said["guard"]["pid"]) == ("keeper", standby)
    (session,) = said["sessions"]
    assert (session["sid"], session["target"], session["role"], session["phase"]) == (1, TARGET, "root", "up")
    os.kill(standby, signal.SIGKILL)
    code, out, _ = place.run(*STATUS)
    assert (code, out) == (0, "There is no session, and iscsid does not run.\n"), "this machine's own sysfs has none"
