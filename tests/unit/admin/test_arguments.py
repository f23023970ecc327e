# SPDX-License-Identifier: LGPL-2.1-or-later
"""Values of options: C's numbers, portals in every notation, session ids and paths, hosts. What counts is the peer."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from iscsiboot.admin.arguments import (
    BadArgument,
    check_iface_name,
    number,
    parse_host,
    parse_index,
    parse_portal,
    parse_sid,
    unsigned_number,
)
from iscsiboot.errors import ExitCode, IscsiBootError

LIBC = ctypes.CDLL(None)
LIBC.strtoul.restype = ctypes.c_ulong
NUMBERS = st.one_of(
    st.text(alphabet=" \t\n+-0123456789x", max_size=24),
    st.integers(min_value=-(2**70), max_value=2**70).map(str),
    st.text(max_size=8).filter(lambda text: "\0" not in text),
)


@given(NUMBERS)
@example("9" * 5000)
@example("-" + "9" * 5000)
def test_number_is_atoi(text: str) -> None:
    # The library's atoi, on the bytes the peer would get.
    assert number(text) == LIBC.atoi(ctypes.c_char_p(text.encode()))


@given(NUMBERS)
@example("18446744073709551615")
@example("18446744073709551616")
@example("-18446744073709551616")
@example("9" * 5000)
def test_unsigned_number_is_strtoul_in_an_int(text: str) -> None:
    value = LIBC.strtoul(ctypes.c_char_p(text.encode()), None, 10)
    assert unsigned_number(text) == ctypes.c_int(value).value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ("", -1, -1)),
        ("192.0.2.1", ("192.0.2.1", -1, -1)),
        ("192.0.2.1:99", ("192.0.2.1", 99, -1)),
        ("192.0.2.1:99,5", ("192.0.2.1", 99, 5)),
        ("192.0.2.1,5", ("192.0.2.1", -1, 5)),
        ("192.0.2.1:", ("192.0.2.1", 0, -1)),
        ("192.0.2.1,", ("192.0.2.1", -1, 0)),
        ("192.0.2.1:x", ("192.0.2.1", 0, -1)),
        ("192.0.2.1:99x", ("192.0.2.1", 99, -1)),
        ("192.0.2.1:,5", ("192.0.2.1", 0, 5)),
        ("192.0.2.1:70000", ("192.0.2.1", 70000, -1)),
        ("192.0.2.1:-1", ("192.0.2.1", -1, -1)),
        ("192.0.2.1:4294967297", ("192.0.2.1", 1, -1)),
        ("192.0.2.1:99:88", ("192.0.2.1", 99, -1)),
        ("192.0.2.1,5,6", ("192.0.2.1", -1, 5)),
        ("192.0.2.1,65536", ("192.0.2.1", -1, 65536)),
        ("192.0.2.1,4294967295", ("192.0.2.1", -1, -1)),
        ("storage", ("storage", -1, -1)),
        ("storage:99", ("storage", 99, -1)),
        ("storage:99,4", ("storage", 99, 4)),
        ("storage,4", ("storage", -1, 4)),
        ("storage.example:99", ("storage.example", 99, -1)),
        ("2001:db8::1", ("2001:db8::1", -1, -1)),
        ("2001:db8::1,4", ("2001:db8::1", -1, 4)),
        ("[2001:db8::1]", ("2001:db8::1", -1, -1)),
        ("[2001:db8::1]:99", ("2001:db8::1", 99, -1)),
        ("[2001:db8::1]:99,4", ("2001:db8::1", 99, 4)),
        ("[2001:db8::1],4", ("2001:db8::1", -1, 4)),
        ("[2001:db8::1]x", ("2001:db8::1", -1, -1)),
        ("[2001:db8::1]x:99", ("2001:db8::1", 99, -1)),
        ("[fe80::1%eth0]:99", ("fe80::1%eth0", 99, -1)),
        ("fe80::1%eth0", ("fe80::1%eth0", -1, -1)),
        ("::", ("::", -1, -1)),
        (":", ("", 0, -1)),
        (":99", ("", 99, -1)),
        (",", ("", -1, 0)),
        ("[]", ("", -1, -1)),
        ("[]:99", ("", 99, -1)),
    ],
    ids=str,
)
def test_portals_the_peer_reads_the_same_way(text: str, expected: tuple[str, int, int]) -> None:
    assert parse_portal(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[::ffff:192.0.2.9]:99,3", ("::ffff:192.0.2.9", 99, 3)),
        ("::ffff:192.0.2.9", ("::ffff:192.0.2.9", -1, -1)),
        ("::ffff:192.0.2.9,3", ("::ffff:192.0.2.9", -1, 3)),
        ("[fe80::1%eth0.5]:99", ("fe80::1%eth0.5", 99, -1)),
        ("[storage]:1.2", ("storage", 1, -1)),
        ("storage,4:99", ("storage", -1, 4)),
    ],
    ids=str,
)
def test_portals_the_peer_gets_wrong(text: str, expected: tuple[str, int, int]) -> None:
    assert parse_portal(text) == expected


@pytest.mark.parametrize("text", ["[", "[2001:db8::1", "[2001:db8::1,4", "[2001:db8::1:99"])
def test_a_bracket_that_is_not_closed_is_refused(text: str) -> None:
    with pytest.raises(IscsiBootError, match="not closed") as caught:
        parse_portal(text)
    assert caught.value.exit_code is ExitCode.INVAL


@given(st.text())
def test_any_text_is_a_portal_or_a_failure(text: str) -> None:
    if text.startswith("[") and "]" not in text:
        with pytest.raises(IscsiBootError) as caught:
            parse_portal(text)
        assert caught.value.line().isprintable()
        return
    host, port, tag = parse_portal(text)
    assert host in text
    assert -(2**31) <= port < 2**31
    assert -(2**31) <= tag < 2**31


@pytest.mark.parametrize("name", ["a", "i" * 64, "é" * 32, "10.99.0.1:3260:pv0"])
def test_iface_names_of_1_to_64_bytes(name: str) -> None:
    assert check_iface_name(name) == name


@pytest.mark.parametrize("name", ["", "i" * 65, "é" * 33, "\udcff" * 65])
def test_other_iface_names_are_told_on_stdout(name: str) -> None:
    with pytest.raises(BadArgument) as caught:
        check_iface_name(name)
    assert caught.value.stdout
    assert caught.value.exit_code is ExitCode.INVAL
    assert caught.value.lines == (f"Invalid iface name {name}. Must be from 1 to 64 characters.",)


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """Sessions 1 and 12 of host 2, links to them, and folders that only look like one."""
    root = tmp_path / "sys"
    for name in ("host2/session1/target2:0:0/2:0:0:1", "host2/session12", "host3"):
        (root / "devices/platform" / name).mkdir(parents=True)
    for folder in list(root.rglob("*")):
        (folder / "uevent").touch()
    for name in ("class/iscsi_session", "nouevent/session7", "class/iscsi_host"):
        (root / name).mkdir(parents=True)
    (root / "class/iscsi_session/session1").symlink_to("../../devices/platform/host2/session1")
    (root / "class/gone").symlink_to("/nowhere")
    (root / "file").touch()
    return root


@pytest.mark.parametrize(
    ("text", "sid"), [("1", 1), (" 1", 1), ("+1", 1), ("007", 7), ("2147483647", 2147483647), ("4294967297", 1)]
)
def test_a_positive_number_is_a_session(text: str, sid: int, sysfs: Path) -> None:
    assert parse_sid(text, str(sysfs)) == sid


@pytest.mark.parametrize(
    ("path", "sid"),
    [
        ("devices/platform/host2/session1", 1),
        ("devices/platform/host2/session1/", 1),
        ("devices/platform/host2/session12", 12),
        ("devices/platform/host2/session1/target2:0:0/2:0:0:1", 1),
        ("devices/platform/host2/../host2/session12", 12),
        ("class/iscsi_session/session1", 1),
    ],
)
def test_a_path_in_sysfs_is_a_session(path: str, sid: int, sysfs: Path) -> None:
    assert parse_sid(f"{sysfs}/{path}", str(sysfs)) == sid


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "-0", "x", "1x", "0x1", "1.0", "2147483648", "9" * 5000, "/nowhere", "a\0b"]
)
def test_what_is_neither_number_nor_folder_ends_with_1(text: str, sysfs: Path) -> None:
    with pytest.raises(BadArgument) as caught:
        parse_sid(text, str(sysfs))
    assert caught.value.exit_code is ExitCode.ERR
    assert caught.value.lines == (f"{text} is an invalid session ID or path",)


def test_a_file_is_no_session(sysfs: Path) -> None:
    with pytest.raises(BadArgument) as caught:
        parse_sid(f"{sysfs}/file", str(sysfs))
    assert (caught.value.exit_code, caught.value.lines) == (ExitCode.ERR, (f"{sysfs}/file is not a directory",))


@pytest.mark.parametrize(
    ("path", "first"),
    [
        ("", "Could not get dev for . Possible sysfs incompatibility."),
        ("/nouevent/session7", "Could not get dev for /nouevent/session7. Possible sysfs incompatibility."),
        ("/devices/platform/host3", "Unable to find sid in path {path}"),
        ("/class/gone", "Unable to find sid in path {path}"),
    ],
)
def test_a_folder_that_is_no_session(path: str, first: str, sysfs: Path) -> None:
    text = f"{sysfs}{path}"
    with pytest.raises(BadArgument) as caught:
        parse_sid(text, str(sysfs))
    assert caught.value.exit_code is ExitCode.INVAL
    assert caught.value.lines == (first.format(path=text), f"invalid sid '{text}'")


def test_a_folder_outside_sysfs_is_no_session(sysfs: Path, tmp_path: Path) -> None:
    place = tmp_path / "session5"
    place.mkdir()
    with pytest.raises(BadArgument) as caught:
        parse_sid(str(place), str(sysfs))
    assert caught.value.lines[0] == f"Could not get dev for {place}. Possible sysfs incompatibility."


@pytest.mark.parametrize(("text", "host"), [("3", 3), ("x", 0), ("", 0), ("4294967295", 4294967295), (" 7x", 7)])
def test_hosts_by_number(text: str, host: int, sysfs: Path) -> None:
    assert parse_host(text, str(sysfs)) == host


@pytest.mark.parametrize("text", ["-1", "4294967296", "9" * 50])
def test_hosts_out_of_range(text: str, sysfs: Path) -> None:
    with pytest.raises(BadArgument) as caught:
        parse_host(text, str(sysfs))
    assert caught.value.lines == (f"Invalid host no {text}. Numerical result out of range.",)


def test_hosts_by_mac(sysfs: Path) -> None:
    for name, mac in (("host4", "52:54:00:12:34:56\n"), ("host11", "52:54:00:AA:BB:CC\n"), ("host1", None)):
        folder = sysfs / "class/iscsi_host" / name
        folder.mkdir()
        if mac:
            (folder / "hwaddress").write_text(mac)
    assert parse_host("52:54:00:12:34:56", str(sysfs)) == 4
    assert parse_host("52:54:00:aa:bb:cc", str(sysfs)) == 11
    for unknown in ("52:54:00:12:34:57", ":", "52:54:00:12:34:5"):
        with pytest.raises(BadArgument) as caught:
            parse_host(unknown, str(sysfs))
        assert caught.value.lines == ("Could not match MAC to host.",)


def test_a_machine_without_iscsi_hosts_matches_no_mac(tmp_path: Path) -> None:
    with pytest.raises(BadArgument):
        parse_host("52:54:00:12:34:56", str(tmp_path))


@pytest.mark.parametrize(
    ("text", "index"), [("4", 4), ("y", 0), ("", 0), ("18446744073709551615", 2**64 - 1), ("-1", 2**64 - 1)]
)
def test_indexes(text: str, index: int) -> None:
    assert parse_index(text) == index


@pytest.mark.parametrize("text", ["18446744073709551616", "-18446744073709551616", "9" * 5000])
def test_indexes_out_of_range(text: str) -> None:
    with pytest.raises(BadArgument) as caught:
        parse_index(text)
    assert caught.value.lines == (f"Invalid index {text}. Numerical result out of range.",)


def test_no_path_is_opened_for_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "lstat", lambda _: pytest.fail("a number is no path"))
    assert parse_sid("5") == 5
