# SPDX-License-Identifier: LGPL-2.1-or-later
"""Logins, logouts, counters and rescans: what Debian's iscsiadm says of a daemon's answers, ours says of a runner's.

The peer talks to a double of its daemon, ours to a scripted runner; both see the same records and the same /sys. What
ours prints more, the line behind each failure, is taken away before the comparison, and nothing else is.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from iscsiboot.admin.context import Context
from iscsiboot.admin.login import login_nodes
from iscsiboot.admin.logout import logout_sessions
from iscsiboot.admin.rescan import rescan_sessions
from iscsiboot.admin.runner import Result
from iscsiboot.admin.stats import print_stats
from iscsiboot.errors import ExitCode
from iscsiboot.sysfs.listing import list_rows
from tests.doubles.peer_iscsid import CUSTOM
from tests.doubles.sysfs_tree import SysfsTree
from tests.interop.peer_admin import Program, run, unavailable
from tests.unit.admin.scripted_runner import TARGET, ScriptedRunner, Streams, failure, pair, statistics

pytestmark = [pytest.mark.interop, pytest.mark.skipif(bool(unavailable()), reason=unavailable())]

Said = tuple[list[str], list[str], int]
"""stdout, stderr and exit status."""


@pytest.fixture
def tree(tmp_path: Path) -> SysfsTree:
    return SysfsTree(tmp_path / "sys")


def peer(program: Program, tree: SysfsTree, command: str, statuses: Sequence[int], *before: str) -> Said:
    commands = [line.split() for line in (*before, command)]
    outcome = run(program, commands, sysfs=tree.root, daemon=list(statuses))
    for result in outcome.results[:-1]:
        assert result.status == 0, result.shown()
    result = outcome.results[-1]
    return result.stdout.decode().splitlines(), result.stderr.decode().splitlines(), result.status


def ours(root: Path, do: Callable[[Context], int]) -> Said:
    streams = Streams(root)
    code = do(streams.context)
    # The line of ours behind a failure.
    err = [line for line in streams.err.getvalue().splitlines() if "; next: ask it why" not in line]
    return streams.out.getvalue().splitlines(), err, code


def runner(statuses: Sequence[int]) -> ScriptedRunner:
    def made(status: int) -> Result:
        return Result() if status == 0 else Result(failure=failure(ExitCode(status)))

    return ScriptedRunner(*map(made, statuses))


def sessions(tree: SysfsTree, *places: tuple[str, str, int]) -> None:
    for sid, (name, address, port) in enumerate(places, start=1):
        where = {"persistent_address": address, "address": address, "persistent_port": str(port), "port": str(port)}
        tree.add_session(sid, targetname=TARGET + name, connection=where, tpgt="1")
        tree.add_unit(sid, 0)
        tree.add_unit(sid, 1)


NEW = f"-m node -o new -T {TARGET}a -p 10.0.0.1:3260,1"


@pytest.mark.parametrize("status", range(34))
def test_every_answer_to_a_login(tmp_path: Path, peer_admin: Program, tree: SysfsTree, status: int) -> None:
    said = peer(peer_admin, tree, f"-m node -T {TARGET}a -l", [status], NEW)
    assert said == ours(tmp_path, lambda context: login_nodes([pair("a")], context, None, runner=runner([status])))
    assert said[2] == status


# No daemon answers 21 to a logout; the peer takes it for its own "nothing found" and says that too.
@pytest.mark.parametrize("status", [status for status in range(34) if status != ExitCode.NO_OBJS_FOUND])
def test_every_answer_to_a_logout(tmp_path: Path, peer_admin: Program, tree: SysfsTree, status: int) -> None:
    sessions(tree, ("a", "10.0.0.1", 3260))
    said = peer(peer_admin, tree, "-m session -u", [status])
    rows = list_rows(str(tree))
    assert said == ours(tmp_path, lambda context: logout_sessions(rows, context, None, runner=runner([status])))


@pytest.mark.parametrize(
    ("wanted", "present", "statuses"),
    [(1, 1, [0]), (1, 2, [0]), (3, 1, [0, 0]), (3, 0, [0, 8, 5]), (2, 2, [0]), (0, 0, [0])],
    ids=str,
)
def test_how_many_sessions(
    tmp_path: Path, peer_admin: Program, tree: SysfsTree, wanted: int, present: int, statuses: list[int]
) -> None:
    sessions(tree, *[("a", "10.0.0.1", 3260)] * present)
    more = f"-m node -T {TARGET}a -o update -n node.session.nr_sessions -v {wanted}"
    said = peer(peer_admin, tree, f"-m node -T {TARGET}a -l", statuses, NEW, more)
    record = pair("a", node__session__nr_sessions=str(wanted))
    assert said == ours(tmp_path, lambda context: login_nodes([record], context, None, runner=runner(statuses)))


def test_without_waiting(tmp_path: Path, peer_admin: Program, tree: SysfsTree) -> None:
    said = peer(peer_admin, tree, f"-m node -T {TARGET}a -l -W", [24], NEW)
    assert said == ours(
        tmp_path, lambda context: login_nodes([pair("a")], context, None, wait=False, runner=runner([24]))
    )


NINE = [
    ("a", "10.0.0.1", 3260),
    ("b", "10.0.0.1", 3260),
    ("a", "10.0.0.2", 3260),
    ("a", "10.0.0.1", 3260),
    ("a", "10.0.0.2", 3260),
    ("a", "10.0.0.1", 3261),
    ("b", "10.0.0.2", 3260),
    ("a", "10.0.0.1", 3260),
    ("c", "10.0.0.1", 3260),
]


@pytest.mark.parametrize(
    "statuses", [[0] * 9, [0, 10, 9, 0, 0, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0, 0, 0, 28], [9] * 9], ids=str
)
def test_the_order_and_the_code_of_many_logouts(
    tmp_path: Path, peer_admin: Program, tree: SysfsTree, statuses: list[int]
) -> None:
    sessions(tree, *NINE)
    said = peer(peer_admin, tree, "-m session -u", statuses)
    rows = list_rows(str(tree))
    assert said == ours(tmp_path, lambda context: logout_sessions(rows, context, None, runner=runner(statuses)))


def test_the_order_of_twelve(tmp_path: Path, peer_admin: Program, tree: SysfsTree) -> None:
    """More than nine: 10 stands before 2 in the list both begin with."""
    sessions(tree, *[("abc"[number % 3], f"10.0.0.{1 + number % 2}", 3260) for number in range(12)])
    said = peer(peer_admin, tree, "-m session -u", [0])
    rows = list_rows(str(tree))
    assert said == ours(tmp_path, lambda context: logout_sessions(rows, context, None, runner=runner([])))


def test_counters(tmp_path: Path, peer_admin: Program, tree: SysfsTree) -> None:
    sessions(tree, ("a", "10.0.0.1", 3260), ("b", "10.0.0.1", 3260))
    said = peer(peer_admin, tree, "-m session -s", [0])
    made = ScriptedRunner()
    for sid in (1, 2):
        made.counters[sid] = statistics(*((name.decode(), value) for name, value in CUSTOM))
    assert said == ours(tmp_path, lambda context: print_stats(list_rows(str(tree)), context, runner=made))


def test_a_rescan_writes_the_same(tmp_path: Path, peer_admin: Program, tree: SysfsTree) -> None:
    sessions(tree, *NINE[:3])
    shutil.copytree(tree.root, tmp_path / "peer", symlinks=True)
    copied = SysfsTree.__new__(SysfsTree)
    copied.root = tmp_path / "peer"
    said = peer(peer_admin, copied, "-m session -R", [0])
    mine = ours(tmp_path, lambda context: rescan_sessions(list_rows(str(tree)), context))
    # The peer's children write their line each when they come to it.
    assert (sorted(said[0]), said[1:]) == (sorted(mine[0]), mine[1:])
    assert _written(copied.root) == _written(tree.root)
    assert len(_written(tree.root)) == 9


def _written(root: Path) -> dict[str, str]:
    found = {}
    for path in [*root.rglob("rescan"), *root.rglob("scan")]:
        text = path.read_text().strip()
        if text and not path.is_symlink():
            found[str(path.relative_to(root))] = text
    return {name: text for name, text in found.items() if not any(part.is_symlink() for part in (root / name).parents)}
