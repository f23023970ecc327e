# SPDX-License-Identifier: LGPL-2.1-or-later
"""resolv.conf and network.json: when they are written, with which mode, and never in part."""

from __future__ import annotations

import json
import os
import stat
from ipaddress import ip_address
from pathlib import Path

import pytest

from iscsiboot.network.files import read_leases, resolver_state, state_path, write_resolver, write_state
from iscsiboot.network.steps import WriteResolver
from tests.unit.network.support import lease

STEP = WriteResolver(servers=tuple(ip_address(f"10.0.0.{number}") for number in range(1, 5)), search=("a.example", "b"))


def test_resolver_contents(tmp_path: Path) -> None:
    write_resolver(tmp_path, STEP)
    path = tmp_path / "resolv.conf"
    assert path.read_text().splitlines()[1:] == [
        "nameserver 10.0.0.1",
        "nameserver 10.0.0.2",
        "nameserver 10.0.0.3",
        "# nameserver 10.0.0.4",
        "search a.example b",
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [entry.name for entry in tmp_path.iterdir()] == ["resolv.conf"], "no temporary file stays"


@pytest.mark.parametrize(
    ("make", "free"),
    [
        (lambda path: None, True),
        (lambda path: path.touch(), True),
        (lambda path: path.write_text("nameserver 10.0.0.1\n"), False),
        (lambda path: path.symlink_to("../run/systemd/resolve/stub-resolv.conf"), False),
        (lambda path: (path.with_name("target").touch(), path.symlink_to("target")), False),
        (lambda path: path.mkdir(), False),
        (lambda path: os.mkfifo(path), False),
    ],
    ids=["missing", "empty", "full", "dangling-link", "link-to-empty", "directory", "fifo"],
)
def test_when_the_resolver_may_be_written(tmp_path: Path, make: object, free: bool) -> None:
    assert callable(make)
    make(tmp_path / "resolv.conf")
    found, why = resolver_state(tmp_path)
    assert (found, bool(why)) == (free, not free)


def test_state_is_private_and_replaced_whole(tmp_path: Path) -> None:
    state_path(tmp_path).parent.mkdir()
    state_path(tmp_path).write_text("old")
    state_path(tmp_path).chmod(0o644)
    before = state_path(tmp_path).stat().st_ino
    write_state(tmp_path, [{"netdev": "eth0", "lease": lease().to_json()}])
    found = state_path(tmp_path).stat()
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_ino != before
    assert json.loads(state_path(tmp_path).read_text())["nics"][0]["lease"]["address"] == "10.0.0.5/24"
    assert read_leases(tmp_path) == {("eth0", "10.0.0.5"): lease()}
    assert [entry.name for entry in state_path(tmp_path).parent.iterdir()] == ["network.json"]


def test_a_planted_temporary_name_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / f".resolv.conf.{os.getpid()}").symlink_to(victim)
    write_resolver(tmp_path, STEP)
    assert victim.read_text() == "untouched"
    assert (tmp_path / "resolv.conf").read_text().startswith("#")


def test_no_state_is_no_lease(tmp_path: Path) -> None:
    assert read_leases(tmp_path) == {}
