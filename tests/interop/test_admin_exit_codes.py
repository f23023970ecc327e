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
    SysfsTree(place / "tcp").add_transport("tcp")
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


FROM_A_DAEMON = (16, 18, 20, 32, 33)
"""Statuses the peer passes on from iscsid, or has because there is none (20)."""


@pytest.mark.parametrize("status", FROM_A_DAEMON)
def test_what_another_daemon_says_is_not_said_by_ours(
    status: int, place: Path, peer_admin: Program, our_admin: Program
) -> None:
    """Where the peer exits with it, ours asks nobody: it goes its own way and says what came of that.

    Open-iscsi's daemon is none it can give orders to; with none at all and nothing that starts one (20), it needs none.
    """
    daemon = None if status == 20 else status
    # Without a daemon a logout of the peer ends with 21, whatever the sessions.
    for line in (f"-m node -T {TARGET} -l", *(["-m session -u"] if daemon else [])):
        argv = line.split()
        # A login needs no session to be there; a logout needs one.
        sysfs = place / ("sys" if "-u" in argv else "tcp")
        theirs = run(peer_admin, [argv], tree=place / "tree", sysfs=sysfs, daemon=daemon).results[0]
        assert theirs.status == status, theirs.shown()
        ours = run(our_admin, [argv], tree=place / "tree", sysfs=sysfs, daemon=daemon).results[0]
        assert ours.status not in (0, *FROM_A_DAEMON), ours.shown()
        assert f"initiator reported error ({ours.status} - ".encode() in ours.stderr, ours.shown()


def test_k_beside_a_daemon_of_another_make(place: Path, our_admin: Program) -> None:
    """It is told from none at all, and the status is that of every ``-k``."""
    beside = run(our_admin, [["-k", "0"]], tree=place / "tree", daemon=0).results[0]
    alone = run(our_admin, [["-k", "0"]], tree=place / "tree").results[0]
    assert (beside.status, beside.stdout) == (alone.status, alone.stdout) == (0, b"")
    assert b"initiator reported error (18 - could not communicate to iscsid)" in beside.stderr
    assert b"initiator reported error (20 - could not connect to iscsid)" in alone.stderr


def test_no_record_is_lost_by_any_of_them(place: Path, our_admin: Program) -> None:
    commands = [line.split() for status, line in SITUATIONS if status in (1, 3, 6, 7, 15, 21, 22)]
    before = run(our_admin, [], tree=place / "tree", sysfs=place / "sys").tree
    assert run(our_admin, commands, tree=place / "tree", sysfs=place / "sys").tree == before


def test_nothing_listens_where_the_discovery_is_refused() -> None:
    """Port 1 of the loopback is free here; the namespaces of the runs have a loopback of their own anyway."""
    with socket.socket() as probe:
        assert probe.connect_ex((LOOPBACK, 1)) != 0
