# SPDX-License-Identifier: LGPL-2.1-or-later
"""What programs of others find of a daemon at work on sessions; docs/daemon.md has the list of what they look for."""

from __future__ import annotations

import time

import pytest

from tests.interop.iscsid_lab import Place
from tests.interop.test_iscsid_joined import TARGET, Joined

pytestmark = [pytest.mark.interop, pytest.mark.root]

OWN_NAME = "iqn.2026-01.org.example:of-the-interface"
IFACE = "10.99.0.1:3260:pv0"
"""As kubelet names them."""


def shown(place: Place, kind: str, name: str) -> str:
    return place.run("sh", "-c", f"cat /run/machine/sys/class/iscsi_{kind}/*/{name}")[1].strip()


def test_a_login_by_the_daemon_leaves_what_others_read_in_sysfs(place: Place) -> None:
    """kubelet, libvirt, vdsm, os-brick, Proxmox, xapi, lsscsi, libmultipath and udev read these, without asking us."""
    joined = Joined(place)
    port = place.run("cat", "/run/port")[1]
    record = {
        "node.name": TARGET,
        "node.tpgt": "1",
        "node.conn[0].address": "127.0.0.1",
        "node.conn[0].port": port,
        "iface.iscsi_ifacename": IFACE,
        "iface.transport_name": "tcp",
        "iface.initiatorname": OWN_NAME,
        "node.session.auth.username": "user",
        "node.session.auth.password": "a secret of this one",
        "node.session.timeo.replacement_timeout": "77",
    }
    assert place.ask("login", {"record": record}).get("sid") == 1
    session = {
        "targetname": TARGET,
        "initiatorname": OWN_NAME,
        "ifacename": IFACE,
        "tpgt": "3",  # as the target says
        "username": "user",
        "recovery_tmo": "77",
        "state": "LOGGED_IN",
    }
    assert {name: shown(place, "session", name) for name in session} == session
    connection = {"persistent_address": "127.0.0.1", "persistent_port": port, "address": "127.0.0.1"}
    assert {name: shown(place, "connection", name) for name in connection} == connection
    joined.end()


def test_a_login_without_a_scan_is_over_at_once(place: Place) -> None:
    """open-iscsi 2.1.10 hung here, and kubelet's volumes with it."""
    joined = Joined(place)
    port = place.run("cat", "/run/port")[1]
    record = {
        "node.name": TARGET,
        "node.conn[0].address": "127.0.0.1",
        "node.conn[0].port": port,
        "node.session.scan": "manual",
    }
    began = time.monotonic()
    assert place.ask("login", {"record": record}).get("sid") == 1
    assert time.monotonic() - began < 20
    assert shown(place, "session", "state") == "LOGGED_IN"
    assert place.run("sh", "-c", "ls -d /run/machine/sys/devices/platform/host*/session*/target*")[1] == ""
    joined.end()


def test_a_record_of_another_release_is_logged_in_by(place: Place) -> None:
    """The peer's library listed no record at all once one had a key it did not know."""
    joined = Joined(place)
    answer = joined.login(record=newer(place))
    assert answer.get("sid") == 1, answer
    joined.end()


def newer(place: Place) -> dict[str, str]:
    return {
        "node.name": TARGET,
        "node.conn[0].address": "127.0.0.1",
        "node.conn[0].port": place.run("cat", "/run/port")[1],
        "node.session.of_a_later_release": "Yes",
        "node.conn[0].tcp.congestion_control": "reno",
    }


def test_only_the_daemon_is_found_by_its_name(place: Place) -> None:
    """NixOS ends what pgrep finds with -9, YaST and longhorn take the first: a standby must not be among them."""
    joined = Joined(place, "session", "mounted")
    joined.until(lambda: bool(place.ask("status")["daemon"]["standby"]), "the standby")
    about = place.ask("status")["daemon"]
    ours = {about["pid"], about["standby"]}
    found = {int(word) for word in place.run("pgrep", "iscsid")[1].split()}
    assert found & ours == {about["pid"]}
    assert int(place.run("pgrep", "--exact", "--oldest", "iscsid")[1]) <= about["pid"]
    assert about["standby"] not in {int(word) for word in place.run("pidof", "iscsid")[1].split()}
    assert "iscsid" not in place.run("ps", "-o", "cmd=", "-p", str(about["standby"]))[1], "as OCF's agents look"
    joined.end()
