# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sessions, connections, hosts and transports from a tree laid out as kernel 6.1 lays it out."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from iscsiboot.model.portal import Portal, parse_ip
from iscsiboot.sysfs.attributes import numbered, read_flag, read_int, read_text
from iscsiboot.sysfs.sessions import (
    TransportView,
    list_connections,
    list_sessions,
    read_host,
    read_session,
    read_session_secret,
    read_transport,
)

# Read in a guest from a session with tgt, Debian 12 (values of /sys/class/iscsi_session/session1).
SESSION = {
    "recovery_tmo": "120",
    "ifacename": "default",
    "password": "(null)",
    "tpgt": "1",
    "erl": "0",
    "initiatorname": "iqn.2026-01.org.example:guest",
    "password_in": "(null)",
    "initial_r2t": "1",
    "creator": "-249482449",
    "first_burst_len": "65536",
    "targetname": "iqn.2026-01.org.example:kernel",
    "immediate_data": "1",
    "max_outstanding_r2t": "1",
    "data_pdu_in_order": "1",
    "data_seq_in_order": "1",
    "username_in": "(null)",
    "state": "LOGGED_IN",
    "max_burst_len": "262144",
    "lu_reset_tmo": "30",
    "tgt_reset_tmo": "30",
    "username": "(null)",
    "abort_tmo": "15",
}
CONNECTION = {
    "address": "10.0.2.2",
    "max_recv_dlength": "262144",
    "recv_tmo": "0",
    "port": "33731",
    "persistent_address": "10.0.2.2",
    "exp_statsn": "147",
    "ping_tmo": "0",
    "persistent_port": "33731",
    "state": "up",
    "data_digest": "0",
    "header_digest": "1",
    "max_xmit_dlength": "8192",
}


def write(directory: Path, values: dict[str, str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (directory / name).write_text(f"{value}\n")


def add_session(sysfs: Path, sid: int = 1, host: int = 2, **changes: str) -> None:
    device = sysfs / "devices" / "platform" / f"host{host}" / f"session{sid}"
    base = device / "iscsi_session" / f"session{sid}"
    write(base, SESSION | changes)
    (sysfs / "class" / "iscsi_session").mkdir(parents=True, exist_ok=True)
    (sysfs / "class" / "iscsi_session" / f"session{sid}").symlink_to(base)
    write(sysfs / "class" / "scsi_host" / f"host{host}", {"proc_name": "iscsi_tcp", "state": "running"})


def add_connection(sysfs: Path, sid: int = 1, cid: int = 0, **changes: str) -> None:
    write(sysfs / "class" / "iscsi_connection" / f"connection{sid}:{cid}", CONNECTION | changes)


def test_a_whole_session(tmp_path: Path) -> None:
    add_session(tmp_path)
    add_connection(tmp_path)
    session = read_session(tmp_path, 1)
    assert session is not None
    assert (session.sid, session.host, session.transport) == (1, 2, "tcp")
    assert session.target_name == "iqn.2026-01.org.example:kernel"
    assert session.creator == 4045484847, "sysfs prints the u32 signed"
    assert (session.username, session.username_in) == (None, None)
    assert (session.initial_r2t, session.immediate_data) == (True, True)
    assert (session.first_burst_len, session.max_burst_len, session.max_outstanding_r2t) == (65536, 262144, 1)
    assert (session.abort_tmo, session.lu_reset_tmo, session.tgt_reset_tmo, session.recovery_tmo) == (15, 30, 30, 120)
    (connection,) = session.connections
    assert (connection.state, connection.header_digest, connection.data_digest) == ("up", True, False)
    assert (connection.max_recv_dlength, connection.max_xmit_dlength, connection.exp_statsn) == (262144, 8192, 147)
    assert connection.portals == (Portal(address=parse_ip("10.0.2.2"), port=33731),)


def test_a_session_just_created_has_numbers_only(tmp_path: Path) -> None:
    unset = dict.fromkeys(SESSION, "(null)") | {"state": "FREE", "creator": "277"}
    add_session(tmp_path, 1, 2, **unset)
    session = read_session(tmp_path, 1)
    assert session is not None
    assert (session.target_name, session.tpgt, session.erl, session.initial_r2t) == (None, None, None, None)
    assert (session.state, session.creator, session.connections) == ("FREE", 277, ())


def test_one_the_kernel_made_itself_has_no_creator(tmp_path: Path) -> None:
    add_session(tmp_path, creator="-1")
    session = read_session(tmp_path, 1)
    assert session is not None
    assert session.creator is None


def test_an_endless_recovery_timeout(tmp_path: Path) -> None:
    add_session(tmp_path, recovery_tmo="off")
    session = read_session(tmp_path, 1)
    assert session is not None
    assert session.recovery_tmo == -1


def test_sessions_come_by_number_and_only_sessions(tmp_path: Path) -> None:
    for sid in (10, 9, 1):
        add_session(tmp_path, sid, sid + 1)
    for name in ("sessionX", "session", "power"):
        (tmp_path / "class" / "iscsi_session" / name).mkdir()
    assert [(view.sid, view.host) for view in list_sessions(tmp_path)] == [(1, 2), (9, 10), (10, 11)]


def test_no_class_at_all_is_no_session(tmp_path: Path) -> None:
    assert list_sessions(tmp_path) == ()
    assert list_connections(tmp_path, 1) == ()
    assert read_session(tmp_path, 1) is None
    assert read_host(tmp_path, 1) is None


def test_a_session_that_vanishes_while_it_is_read_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for sid in (1, 2):
        add_session(tmp_path, sid, sid + 1)
    ordinary = numbered

    def numbered_then_gone(directory: Path, pattern: re.Pattern[str]) -> list[tuple[tuple[int, ...], Path]]:
        found = ordinary(directory, pattern)
        shutil.rmtree(tmp_path / "devices" / "platform" / "host2", ignore_errors=True)
        return found

    monkeypatch.setattr("iscsiboot.sysfs.sessions.numbered", numbered_then_gone)
    assert [view.sid for view in list_sessions(tmp_path)] == [2]


def test_attributes_that_vanish_are_unknown(tmp_path: Path) -> None:
    add_session(tmp_path)
    for entry in (tmp_path / "class" / "iscsi_session" / "session1").iterdir():
        entry.unlink()
    session = read_session(tmp_path, 1)
    assert session is not None
    assert (session.state, session.target_name, session.creator) == (None, None, None)


@pytest.mark.parametrize(
    ("changes", "endpoints"),
    [
        pytest.param({"address": "10.0.2.9"}, ["10.0.2.2:33731", "10.0.2.9:33731"], id="redirected"),
        pytest.param({"address": "(null)"}, ["10.0.2.2:33731"], id="no-socket"),
        pytest.param({"persistent_address": "(null)"}, ["10.0.2.2:33731"], id="nothing-stored"),
        pytest.param({"persistent_address": "(null)", "address": "(null)"}, [], id="neither"),
        pytest.param({"persistent_address": "nonsense"}, ["10.0.2.2:33731"], id="not-an-address"),
        pytest.param({"persistent_port": "0", "port": "70000"}, [], id="no-ports"),
        pytest.param({"persistent_address": "::ffff:10.0.2.2"}, ["10.0.2.2:33731"], id="mapped"),
        pytest.param({"persistent_address": "fd00::1", "address": "fd00::1"}, ["[fd00::1]:33731"], id="ipv6"),
    ],
)
def test_portals_of_a_connection(tmp_path: Path, changes: dict[str, str], endpoints: list[str]) -> None:
    add_connection(tmp_path, 1, 0, **changes)
    (connection,) = list_connections(tmp_path, 1)
    assert [portal.endpoint for portal in connection.portals] == endpoints


def test_connections_of_other_sessions_are_not_ours(tmp_path: Path) -> None:
    for sid, cid in ((1, 0), (11, 0), (1, 1), (2, 0)):
        add_connection(tmp_path, sid, cid)
    assert [(view.sid, view.cid) for view in list_connections(tmp_path, 1)] == [(1, 0), (1, 1)]


def test_secrets_are_read_on_demand_and_redacted(tmp_path: Path) -> None:
    add_session(tmp_path, password="open sesame", password_in="(null)", username="alice")
    secret = read_session_secret(tmp_path, 1)
    assert secret is not None
    assert secret.reveal() == b"open sesame"
    assert read_session_secret(tmp_path, 1, incoming=True) is None
    assert "sesame" not in repr(read_session(tmp_path, 1))


def test_transport(tmp_path: Path) -> None:
    assert read_transport(tmp_path, "tcp") is None
    write(tmp_path / "class" / "iscsi_transport" / "tcp", {"handle": "18446744072642220128", "caps": "0x39"})
    assert read_transport(tmp_path, "tcp") == TransportView(name="tcp", handle=18446744072642220128, caps=0x39)


def test_host(tmp_path: Path) -> None:
    add_session(tmp_path)
    write(
        tmp_path / "class" / "iscsi_host" / "host2",
        {"initiatorname": "iqn.2026-01.org.example:guest", "netdev": "eth0", "hwaddress": "(null)", "ipaddress": ""},
    )
    host = read_host(tmp_path, 2)
    assert host is not None
    assert (host.transport, host.state, host.netdev, host.hwaddress, host.address) == (
        "tcp",
        "running",
        "eth0",
        None,
        None,
    )


@pytest.mark.parametrize(
    ("content", "text", "number", "flag"),
    [
        (b"17\n", "17", 17, True),
        (b"0\n", "0", 0, False),
        (b"(null)\n", None, None, None),
        (b"<NULL>\n", None, None, None),
        (b"\n", None, None, None),
        (b"", None, None, None),
        (b"off\n", "off", -1, True),
        (b"x\xff\n", "x\udcff", None, None),
        (b" 5 \n", " 5 ", 5, True),
    ],
    ids=["number", "zero", "null", "NULL", "line-end", "empty", "off", "bytes", "blanks"],
)
def test_reading_attributes(
    tmp_path: Path, content: bytes, text: str | None, number: int | None, flag: bool | None
) -> None:
    path = tmp_path / "attribute"
    path.write_bytes(content)
    assert (read_text(path), read_int(path), read_flag(path)) == (text, number, flag)


def test_a_directory_is_no_attribute(tmp_path: Path) -> None:
    assert read_text(tmp_path) is None
    assert numbered(tmp_path / "absent", re.compile(r"session(\d+)")) == []
