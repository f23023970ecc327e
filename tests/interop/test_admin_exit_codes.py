# SPDX-License-Identifier: LGPL-2.1-or-later
"""Exit codes in real situations: the installed programs, the peer's beside ours.

Here are those that need no kernel and no target; docs/exit-codes.md says where the others are shown.
"""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.doubles.peers import LOOPBACK
from tests.doubles.sysfs_tree import SysfsTree
from tests.interop.peer_admin import Program, materialize, run, unavailable

pytestmark = [
    pytest.mark.interop,
    pytest.mark.root,
    pytest.mark.skipif(bool(unavailable()), reason=unavailable()),
]

TARGET = "iqn.2000-01.example:a"
SITUATIONS = [
    (0, "-m node"),
    (0, "-k 0"),
    (1, "-m session -r 0"),
    (3, "-m node -I nosuch"),
    (4, "-m discovery -t st -p no.such.host.invalid"),
    (6, "-m discoverydb -t st -p 192.0.2.77"),
    (6, "-m iface -I nosuch"),
    (7, "-m bogus"),
    (7, f"-m node -T {TARGET} -o update -n no.such.setting -v 1"),
    (11, f"-m discovery -t st -p {LOOPBACK}:1"),
    (15, f"-m node -T {TARGET} -o delete"),
    (21, "-m node -T iqn.2000-01.example:none"),
    (21, "-m fw"),
    (22, "-m session -r 99"),
]
ONLY_OURS = [(17, "-m discovery -t isns -p 127.0.0.1:1"), (27, "-m host")]
"""Until their issue is done: the peer has iSNS and host mode."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, peer_admin: Program) -> Path:
    """``tree``: one record and an initiator name. ``sys``: a session of that record, and no firmware."""
    place = tmp_path_factory.mktemp("codes")
    made = run(peer_admin, [["-m", "node", "-o", "new", "-T", TARGET, "-p", "192.0.2.1:3260,1"]], daemon=0)
    tree = materialize(made.tree, place / "tree")
    (tree / "initiatorname.iscsi").write_text("InitiatorName=iqn.2000-01.example:initiator\n")
    sysfs = SysfsTree(place / "sys")
    portal = {"persistent_address": "192.0.2.1", "persistent_port": "3260", "address": "192.0.2.1", "port": "3260"}
    sysfs.add_session(1, connection=portal, targetname=TARGET, tpgt="1", ifacename="default")
    (place / "sys/firmware").mkdir()
    return place


@pytest.mark.parametrize(("status", "line"), [*SITUATIONS, *ONLY_OURS], ids=str)
def test_the_status_of_a_real_situation(
    status: int, line: str, place: Path, peer_admin: Program, our_admin: Program
) -> None:
    for program in (our_admin,) if (status, line) in ONLY_OURS else (peer_admin, our_admin):
        # The peer asks its daemon for the name of the initiator before it discovers.
        daemon = 0 if program is peer_admin and "discovery" in line else None
        result = run(program, [line.split()], tree=place / "tree", sysfs=place / "sys", daemon=daemon).results[0]
        assert result.status == status, f"{program.name}: {result.shown()}"


def test_no_record_is_lost_by_any_of_them(place: Path, our_admin: Program) -> None:
    commands = [line.split() for status, line in SITUATIONS if status in (1, 3, 6, 7, 15, 21, 22)]
    before = run(our_admin, [], tree=place / "tree", sysfs=place / "sys").tree
    assert run(our_admin, commands, tree=place / "tree", sysfs=place / "sys").tree == before


def test_nothing_listens_where_the_discovery_is_refused() -> None:
    """Port 1 of the loopback is free here; the namespaces of the runs have a loopback of their own anyway."""
    with socket.socket() as probe:
        assert probe.connect_ex((LOOPBACK, 1)) != 0
