# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sessions, listed by open-iscsi's ``iscsiadm`` and by ours from the same fake /sys: the same bytes, the same status.

Trees are drawn from a seed, with everything in them that a kernel may show: sessions and hosts in any number, names of
any bytes, redirects, attributes that are missing or unset, sessions half built, disks in every state. What differs on
purpose has a test of its own below, with the words of both.
"""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Iterator, Sequence
from difflib import unified_diff
from itertools import pairwise
from pathlib import Path

import pytest

from iscsiboot.sysfs.listing import list_rows
from tests.doubles.sysfs_tree import UNREADABLE, SysfsTree, Value
from tests.interop.peer_admin import Outcome, Program, Result, materialize, our_program, peer_program, run, unavailable

pytestmark = [
    pytest.mark.interop,
    pytest.mark.root,
    pytest.mark.skipif(bool(unavailable()), reason=unavailable()),
]

SEEDS = range(40)
TARGET = "iqn.2026-01.org.example:kernel"
LISTS = (["-m", "session"], *(["-m", "session", "-P", str(level)] for level in range(4)))
_STATE_OF_THE_DAEMON = re.compile(rb"\t\t(iSCSI Connection|Internal iscsid Session) State: .*")


@pytest.fixture(scope="module")
def peer() -> Program:
    return peer_program(print)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return our_program(tmp_path_factory.mktemp("ours"))


@pytest.fixture
def tree(tmp_path: Path) -> SysfsTree:
    return SysfsTree(tmp_path / "sys")


def draw(root: Path, seed: int) -> SysfsTree:
    """A machine with up to nine sessions."""
    chance = random.Random(seed)
    tree = SysfsTree(root, version=chance.choice(("2.0-870", "2.0-870", None)))
    for sid in chance.sample(range(1, 1300), chance.randint(1, 9)):
        host = sid + 1
        tree.add_host(host, scsi=_drawn(chance, HOST_SCSI), parent="platform", bare=False, **_drawn(chance, HOST))
        state, connection_state = chance.choice(STATES)
        connection = _drawn(chance, CONNECTION) | {"state": connection_state} if chance.random() < 0.9 else None
        tree.add_session(sid, host=host, connection=connection, state=state, **_drawn(chance, SESSION))
        for lun in chance.sample((0, 1, 2, 3, 10, 11, 100, 255, 16384), chance.randint(0, 5)):
            block = chance.choice((None, f"sd{sid}x{lun}"))
            state = chance.choice(("running", "running", "offline", "transport-offline", "blocked", "(null)", None))
            tree.add_unit(sid, lun, block=block, partitions=chance.randint(0, 2), state=state)
    return tree


ADDRESSES = ("10.0.2.2", "10.0.2.2", "10.0.2.3", "2001:db8::1", "fe80::1%eth0", "storage", "san.example.org")
NUMBERS = ("0", "1", "512", "262144", "16776192", "-1", "(null)", "", None)
TIMES = ("0", "5", "120", "86400", "-1", None)
NAMES = ("me", "a name with spaces", "(null)", "", None, "s\N{LATIN SMALL LETTER O WITH DIAERESIS}")
HOST_SCSI: dict[str, Sequence[Value]] = {
    "proc_name": ("iscsi_tcp", "iscsi_tcp", "iscsi_iser"),
    "state": ("running", "recovery", "(null)", None),
}
HOST: dict[str, Sequence[Value]] = {
    "hwaddress": ("(null)", "(null)", None, "02:00:00:00:00:01"),
    "ipaddress": ("10.0.2.15", "2001:db8::15", "(null)", None, ""),
    "netdev": ("(null)", "eth0", None),
    "initiatorname": ("(null)", "iqn.2026-01.org.example:host", None),
}
CONNECTION: dict[str, Sequence[Value]] = {
    "address": (*ADDRESSES, None),
    "port": ("3260", "3260", "3261", "0", None),
    "persistent_address": (*ADDRESSES, None, "(null)"),
    "persistent_port": ("3260", "3260", "3261", "-1", None),
    "header_digest": ("0", "1", "2", None),
    "data_digest": ("0", "1", "-1", None),
    "max_recv_dlength": NUMBERS[:-1],
    "max_xmit_dlength": NUMBERS,
}
STATES: tuple[tuple[Value, Value], ...] = (
    *[("LOGGED_IN", "up")] * 4,
    *(("LOGGED_IN", None), ("FAILED", "failed"), ("FREE", "bound"), ("FREE", "failed"), (None, None)),
)
"""Of the session and of its connection."""
SESSION: dict[str, Sequence[Value]] = {
    "targetname": (TARGET, TARGET, "iqn.2026-01.org.example:b", "eui.02004567A425678D", b"iqn.\xe4\xff", "(null)"),
    "tpgt": ("1", "1", "2", "257", "-1", None),
    "creator": ("286", "-249482449", "-1", None),
    "ifacename": ("default", "iface0", "10.99.0.1:3260:pv0", "(null)", "", None),
    "initiatorname": ("iqn.2026-01.org.example:guest", "(null)", None),
    "recovery_tmo": TIMES,
    "tgt_reset_tmo": TIMES,
    "lu_reset_tmo": TIMES,
    "abort_tmo": TIMES,
    "username": NAMES,
    "password": NAMES,
    "username_in": NAMES,
    "password_in": NAMES,
    "first_burst_len": NUMBERS,
    "max_burst_len": NUMBERS,
    "immediate_data": ("0", "1", "-1", None),
    "initial_r2t": ("0", "1", "(null)"),
    "max_outstanding_r2t": NUMBERS,
}


def _drawn(chance: random.Random, choices: dict[str, Sequence[Value]]) -> dict[str, Value]:
    return {name: chance.choice(values) for name, values in choices.items()}


def words(result: Result) -> tuple[bytes, bytes, int]:
    """What must be equal. The peer's daemon says "logged in" of every session here; a kernel that does not is right."""
    blocks = re.split(rb"(?=\t\tSID: )", result.stdout)
    kept = [block if b"State: LOGGED_IN" in block else _STATE_OF_THE_DAEMON.sub(b"-", block) for block in blocks]
    return b"".join(kept), result.stderr, result.status


def both(
    peer: Program, ours: Program, commands: Sequence[Sequence[str]], tree: SysfsTree
) -> Iterator[tuple[Result, Result]]:
    """Each command's results, the peer's first."""
    outcomes: list[Outcome] = [
        run(program, commands, sysfs=tree.root, daemon=0 if program is peer else None) for program in (peer, ours)
    ]
    return zip(outcomes[0].results, outcomes[1].results, strict=True)


def assert_same(peer: Program, ours: Program, commands: Sequence[Sequence[str]], tree: SysfsTree) -> None:
    for theirs, mine in both(peer, ours, commands, tree):
        assert words(mine) == words(theirs), difference(theirs, mine)


def difference(theirs: Result, mine: Result) -> str:
    """The lines of the two that are not the same."""
    return "\n".join(unified_diff(theirs.shown().splitlines(), mine.shown().splitlines(), "peer", "ours", lineterm=""))


@pytest.mark.parametrize("seed", SEEDS)
def test_lists_of_a_drawn_machine(peer: Program, ours: Program, tmp_path: Path, seed: int) -> None:
    tree = draw(tmp_path / "sys", seed)
    commands = [*LISTS, ["-m", "session", "-P", "3", "-S"]]
    # The peer's other reader, behind -r, wants a name and a tag.
    named = [row.sid for row in list_rows(str(tree)) if row.target and row.tpgt != -1]
    commands += [["-m", "session", "-r", str(sid), "-P", "3"] for sid in named[:1]]
    assert_same(peer, ours, commands, tree)


def test_the_drawn_machines_hold_what_they_should(tmp_path: Path) -> None:
    """The generator at work: else the comparison could go on while it compares less and less."""
    seen = {"sessions": 0, "half": 0, "units": 0, "repeated": 0}
    for seed in SEEDS:
        tree = draw(tmp_path / str(seed), seed)
        names = sorted(path.name for path in (tree.root / "class/iscsi_session").iterdir())
        connections = {path.name for path in (tree.root / "class/iscsi_connection").iterdir()}
        targets = [(tree.root / "class/iscsi_session" / name / "targetname").read_bytes() for name in names]
        seen["sessions"] += len(names)
        seen["half"] += sum(f"connection{name.removeprefix('session')}:0" not in connections for name in names)
        seen["units"] += len(list((tree.root / "block").iterdir()))
        seen["repeated"] += sum(one == two for one, two in pairwise(targets))
    assert seen["sessions"] >= 150
    assert min(seen.values()) >= 15, seen


ARGUMENTS = [
    *([], ["-P", "4"], ["-P", "-5"], ["-P", "x"], ["-S"], ["-o", "show"], ["-o", "update"], ["-o", "delete"]),
    *(["-o", "nonpersistent"], ["-o", "new"], ["-o", "new", "-o", "show"], ["-o", "new", "-u"], ["-R", "-o", "new"]),
    *(["-u", "-o", "show"], ["-n", "a", "-v", "b"], ["-I", "default"], ["-l"], ["-p", "10.0.2.2"], ["-T", TARGET]),
    *(["-r", "1"], ["-r", "1", "-P", "0"], ["-r", "1", "-P", "1"], ["-r", "1", "-P", "4"], ["-r", "1", "-P", "-5"]),
    *(["-r", "1", "-o", "show"], ["-r", "1", "-o", "update"], ["-r", "1", "-o", "nonpersistent"]),
    *(["-r", "1", "-o", "update", "-n", "node.startup", "-v", "manual"], ["-r", "1", "-o", "delete"]),
    *(["-r", "1", "-o", "new", "-u"], ["-r", "1", "-o", "new", "-o", "show"], ["-r", "1", "-u", "-o", "show"]),
    *(["-r", "1", "-P", "1", "-o", "bogus"], ["-r", "1", "-P", "1", "-o", "show", "-o", "bogus"]),
    *(["-r", "9"], ["-r", "9", "-P", "1"], ["-r", "9", "-P", "9"], ["-r", "9", "-u"], ["-r", "9", "-o", "new"]),
    *(["-r", "0"], ["-r", "-1"], ["-r", "abc"], ["-r", "1x"], ["-r", "/etc/passwd"], ["-r", "/etc", "-P", "1"]),
    *(["-r", "/sys/class/scsi_host/host2"], ["-r", "/sys/devices/platform/host9/session9", "-P", "1"]),
    *(["-r", "/sys/class/iscsi_session/session1", "-P", "1"], ["-r", "/sys/block/sda", "-P", "1"]),
    *(["-r", "/sys/devices/platform/host2/session1", "-P", "2"], ["--sid=1", "--print=3", "--show"]),
]


@pytest.mark.parametrize("record", [False, True], ids=["no-record", "record"])
def test_arguments(peer: Program, ours: Program, tree: SysfsTree, tmp_path: Path, record: bool) -> None:
    tree.add_session(1)
    tree.add_session(10, targetname="iqn.2026-01.org.example:b")
    tree.add_unit(1, 1, block="sda")
    make = [["-m", "node", "-o", "new", "-T", TARGET, "-p", "10.0.2.2,1"]] if record else []
    made = run(peer, make, daemon=0)
    assert [result.status for result in made.results] == [0] * record
    etc = materialize(made.tree, tmp_path / "etc")
    commands = [["-m", "session", *arguments] for arguments in ARGUMENTS]
    theirs = run(peer, commands, tree=etc, sysfs=tree.root, daemon=0, fresh=True)
    mine = run(ours, commands, tree=etc, sysfs=tree.root, fresh=True)
    for one, two in zip(theirs.results, mine.results, strict=True):
        assert words(two) == words(one), difference(one, two)


@pytest.mark.parametrize(
    "arguments", [[], ["-P", "3"], ["-P", "9"], ["-u"], ["-R"], ["-s"], ["-r", "1"], ["-o", "new"]]
)
def test_a_machine_without_sessions(peer: Program, ours: Program, tree: SysfsTree, arguments: list[str]) -> None:
    assert_same(peer, ours, [["-m", "session", *arguments]], tree)
    shutil.rmtree(tree.root / "class")
    assert_same(peer, ours, [["-m", "session", *arguments]], tree)


def test_a_session_without_connection(peer: Program, ours: Program, tree: SysfsTree) -> None:
    tree.add_session(1, connection=None)
    commands = [["-m", "session", "-r", "1", *arguments] for arguments in ([], ["-P", "1"], ["-o", "show"])]
    for theirs, mine in both(peer, ours, commands, tree):
        kept = [line for line in theirs.stderr.splitlines() if not line.startswith(b"iSCSI ERROR: ")]
        assert (mine.stdout, mine.stderr.splitlines(), mine.status) == (theirs.stdout, kept, theirs.status)


# What differs on purpose


def test_difference_an_endless_recovery_timeout(peer: Program, ours: Program, tree: SysfsTree) -> None:
    """The kernel writes "off"; the peer reads a number in it, and 0 means the contrary: to fail at once."""
    tree.add_session(1, recovery_tmo="off")
    ((theirs, mine),) = both(peer, ours, [["-m", "session", "-P", "2"]], tree)
    assert b"\t\tRecovery Timeout: 0\n" in theirs.stdout
    assert theirs.stdout.replace(b"Recovery Timeout: 0", b"Recovery Timeout: -1") == mine.stdout


def test_difference_control_characters(peer: Program, ours: Program, tree: SysfsTree) -> None:
    """A target could take the terminal; no name that holds one can have been logged in to with our tools."""
    tree.add_session(1, targetname=b"iqn.\x1b[31m")
    ((theirs, mine),) = both(peer, ours, [["-m", "session"]], tree)
    assert theirs.stdout == b"tcp: [1] 10.0.2.2:3260,1 iqn.\x1b[31m (non-flash)\n"
    assert mine.stdout == b"tcp: [1] 10.0.2.2:3260,1 iqn.\\x1b[31m (non-flash)\n"


def test_difference_half_built_sessions_are_no_failure(peer: Program, ours: Program, tree: SysfsTree) -> None:
    """The peer writes to stderr what it found missing; programs take that for a failed command (clients.md, 2)."""
    tree.add_session(1)
    tree.add_session(2, targetname=None)
    ((theirs, mine),) = both(peer, ours, [["-m", "session"]], tree)
    assert theirs.stderr.startswith(b"iSCSI ERROR: Failed to read 'targetname'")
    assert (mine.stdout, mine.stderr, mine.status) == (theirs.stdout, b"", 0)


@pytest.mark.parametrize("name", ["tpgt", "abort_tmo", "username", "password_in"])
def test_difference_an_unreadable_attribute_hides_no_session(
    peer: Program, ours: Program, tree: SysfsTree, name: str
) -> None:
    """The peer leaves the whole session out, and says there is none: an installer would log in again."""
    tree.add_session(1, host=2, connection={}, **{name: UNREADABLE})
    ((theirs, mine),) = both(peer, ours, [["-m", "session"]], tree)
    assert (theirs.stdout, theirs.status) == (b"", 21)
    tag = b"-1" if name == "tpgt" else b"1"
    assert mine.stdout == b"tcp: [1] 10.0.2.2:3260,%s iqn.2026-01.org.example:kernel (non-flash)\n" % tag
    assert (mine.stderr, mine.status) == (b"", 0)


def test_difference_no_daemon(peer: Program, ours: Program, tree: SysfsTree) -> None:
    """Without iscsid the peer waits a second, complains and knows no state; a list of ours needs no daemon."""
    tree.add_session(1)
    theirs = run(peer, [["-m", "session", "-P", "1"]], sysfs=tree.root).results[0]
    mine = run(ours, [["-m", "session", "-P", "1"]], sysfs=tree.root).results[0]
    assert b"can not connect to iSCSI daemon" in theirs.stderr
    assert theirs.stdout.count(b"State: Unknown") == 2
    assert b"iSCSI Connection State: LOGGED IN\n" in mine.stdout
    assert _STATE_OF_THE_DAEMON.sub(b"-", theirs.stdout) == _STATE_OF_THE_DAEMON.sub(b"-", mine.stdout)
    assert mine.stderr == b""
