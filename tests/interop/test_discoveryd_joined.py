# SPDX-License-Identifier: LGPL-2.1-or-later
"""The discovery daemon in the whole daemon: a real server asked each second, sessions on the kernel double."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest

from tests.interop.iscsid_lab import PYTHON, Place
from tests.interop.test_iscsid_joined import TARGET, Joined

pytestmark = [pytest.mark.interop, pytest.mark.root]

B, C = (f"iqn.2004-01.com.example:{letter}" for letter in "bc")

SERVER = """\
import sys, time
from iscsiboot.database.config import parse_config
from iscsiboot.database.store import Database
from tests.unit.admin.discovery_kit import FullTarget, TargetServer, at, offering

portal = "127.0.0.1:" + open("/run/port").read() + ",1"
plans = [offering(*(at(name, portal) for name in names.split())) for names in sys.argv[1:]]
open("/run/turn", "w").write("0")
with TargetServer(lambda: FullTarget(plans[int(open("/run/turn").read())]), host="127.0.0.1") as server:
    record = parse_config("/run/etc/iscsid.conf", None, notice=print).sendtargets().changed({
        "discovery.sendtargets.address": "127.0.0.1",
        "discovery.sendtargets.port": str(server.port),
        "discovery.sendtargets.use_discoveryd": "Yes",
        "discovery.sendtargets.discoveryd_poll_inval": "1",
    })
    with Database("/run/etc").change() as change:
        change.put_discovery(record)
    print("ready", flush=True)
    time.sleep(120)
"""
"""Answers with one of its lists of targets, all at the double's portal: that whose turn it is (:func:`answer_with`)."""


def serve(joined: Joined, *lists: str) -> subprocess.Popen[str]:
    """A server that is to be asked, and the daemon told of it."""
    server = joined.place.spawn(PYTHON, "-B", "-c", SERVER, *lists)
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n", server.communicate()
    joined.process.send_signal(signal.SIGHUP)
    return server


def answer_with(joined: Joined, number: int) -> None:
    """Which list the server has from now on, 0 at first: a state lasts until the test has seen it."""
    assert joined.place.run("sh", "-c", f"echo {number} > /run/turn.new && mv /run/turn.new /run/turn")[0] == 0


def targets(joined: Joined) -> list[str]:
    return sorted(item["target"] for item in joined.sessions())


def test_sessions_follow_what_a_server_names_and_never_the_systems(place: Place) -> None:
    joined = Joined(place, "session", "mounted")
    joined.until(joined.up, "the adoption")
    lists = (f"{TARGET} {B}", f"{B} {C}", C)
    serve(joined, *lists)
    joined.until(lambda: targets(joined) == sorted([TARGET, B]), "the first list")
    answer_with(joined, 1)
    joined.until(lambda: targets(joined) == sorted([TARGET, B, C]), "the second list")
    answer_with(joined, 2)
    joined.until(lambda: targets(joined) == sorted([TARGET, C]), "the third list")
    (root,) = [item for item in joined.sessions() if item["target"] == TARGET]
    assert (root["sid"], root["phase"], root["recoveries"]) == (1, "up", 0)
    _, err = joined.end()
    assert err.count(f'discovered "{B} at 127.0.0.1:') == 1
    assert err.count("is not offered any more: session 2 was logged out") == 1


def test_a_server_that_dies_costs_a_line_and_no_session(place: Place) -> None:
    joined = Joined(place)
    server = serve(joined, f"{B} {C}")
    joined.until(lambda: targets(joined) == [B, C], "the list")
    server.kill()
    server.wait()
    time.sleep(3.5)  # some rounds; that nothing happens in them cannot be waited for
    assert targets(joined) == [B, C]
    _, err = joined.end()
    assert err.count("Could not perform SendTargets") == 1
    assert err.count("discovered ") == 2


def test_the_next_daemon_goes_on_where_the_last_one_was(place: Place) -> None:
    """open-iscsi's logs out of all it has made when it ends."""
    joined = Joined(place)
    serve(joined, f"{B} {C}")
    joined.until(lambda: targets(joined) == [B, C], "the list")
    joined.end()
    assert place.run("cat", "/run/iscsiboot/discoveryd.json")[1].count("example:") == 2
