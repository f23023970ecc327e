# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian's iscsiadm beside our server: it looks for its own daemon under that name, and has to get along with ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.doubles.sysfs_tree import SysfsTree
from tests.interop.ipc_daemon import CUSTOM, KEPT, PHASES
from tests.interop.peer_admin import Outcome, Program, run, unavailable

pytestmark = [
    pytest.mark.interop,
    pytest.mark.root,
    pytest.mark.skipif(bool(unavailable()), reason=unavailable()),
]

TARGET = "iqn.2026-01.org.example:"
WORDS = {
    "up": ("LOGGED IN", "NO CHANGE"),
    "stopping": ("TRANSPORT WAIT", "REOPEN"),
    "waiting": ("TRANSPORT WAIT", "REOPEN"),
    "trying": ("IN LOGIN", "REOPEN"),
    "leaving": ("IN LOGOUT", "NO CHANGE"),
}
"""Phase of ours: connection state and internal state as the peer prints them."""


@pytest.fixture
def tree(tmp_path: Path) -> SysfsTree:
    made = SysfsTree(tmp_path / "sys")
    for sid in PHASES:
        made.add_session(sid, targetname=f"{TARGET}{sid}", tpgt="1")
    return made


def asked(outcome: Outcome) -> list[tuple[str, int | None]]:
    """What reached the daemon: action and session."""
    kind = outcome.tree.get("asked")
    lines = [json.loads(line) for line in kind[2].splitlines()] if kind else []
    return [(action, members.get("sid")) for action, members in lines]


def test_states_of_sessions(peer_admin: Program, tree: SysfsTree) -> None:
    outcome = run(peer_admin, [["-m", "session", "-P", "1"]], sysfs=tree.root, daemon="ours")
    text = outcome.results[0].stdout.decode()
    assert outcome.results[0].status == 0, outcome.results[0].shown()
    found = {}
    for block in text.split("SID: ")[1:]:
        lines = {
            name.strip(): value.strip() for name, _, value in (line.partition(": ") for line in block.splitlines()[1:])
        }
        states = (lines["iSCSI Connection State"], lines["Internal iscsid Session State"])
        found[int(block.split()[0])] = states
    assert found == {sid: WORDS[phase] for sid, phase in PHASES.items()}
    assert sorted(asked(outcome)) == [("status", sid) for sid in sorted(PHASES)]


def test_logouts(peer_admin: Program, tree: SysfsTree) -> None:
    outcome = run(peer_admin, [["-m", "session", "-u"]], sysfs=tree.root, daemon="ours")
    (result,) = outcome.results
    assert result.status == 28
    assert b"initiator reported error (28 - device or resource in use)" in result.stderr
    successes = [line for line in result.stdout.decode().splitlines() if line.endswith("successful.")]
    assert [line.split("sid: ")[1].split(",")[0] for line in successes] == [str(sid) for sid in PHASES if sid != KEPT]
    assert sorted(asked(outcome)) == [("logout", sid) for sid in sorted(PHASES)]


def test_counters(peer_admin: Program, tree: SysfsTree) -> None:
    outcome = run(peer_admin, [["-m", "session", "-r", "1", "-s"]], sysfs=tree.root, daemon="ours")
    lines = [line.strip() for line in outcome.results[0].stdout.decode().splitlines()]
    assert outcome.results[0].status == 0, outcome.results[0].shown()
    assert {"txdata_octets: 0", "rxdata_octets: 1", "rjt_pdus: 18"} <= set(lines)
    assert {f"{name}: {value}" for name, value in CUSTOM} <= set(lines)
    assert asked(outcome) == [("stats", 1)]


def test_the_path_of_the_configuration(peer_admin: Program) -> None:
    """Without an answer the peer makes its record from other defaults, and complains."""
    new = ["-m", "node", "-o", "new", "-T", f"{TARGET}a", "-p", "10.0.0.1:3260,1"]
    outcome = run(peer_admin, [new], daemon="ours")
    assert outcome.results[0].status == 0, outcome.results[0].shown()
    assert outcome.results[0].stderr == b""
    assert asked(outcome) == [("config", None)]


def test_a_login_is_refused(peer_admin: Program, tree: SysfsTree) -> None:
    """Its record comes as a structure that is another one in each release."""
    new = ["-m", "node", "-o", "new", "-T", f"{TARGET}a", "-p", "10.0.0.1:3260,1"]
    outcome = run(peer_admin, [new, ["-m", "node", "-l"]], sysfs=tree.root, daemon="ours")
    result = outcome.results[1]
    assert result.status == 16, result.shown()
    assert b"initiator reported error (16 - Unknown request)" in result.stderr
    assert ("login", None) not in asked(outcome)


def test_stopping_it(peer_admin: Program, our_admin: Program) -> None:
    for program in (peer_admin, our_admin):
        outcome = run(program, [["-k", "0"]], daemon="ours")
        (result,) = outcome.results
        assert (result.status, result.stdout, result.stderr) == (0, b"", b""), result.shown()
        assert asked(outcome) == [("stop", None)]
