# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two programs, one script: what may differ between open-iscsi's ``iscsiadm`` and ours, and that nothing else does.

:data:`ALLOWED` is the whole of what a comparison overlooks, each row with its reason. A command whose result differs
on purpose is no row of it: it is a :class:`Purpose` in the tests, with the words of both.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.interop.peer_admin import Outcome, Program, Result, run

Lines = list[bytes]


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowed:
    """Something both outputs go through before they are compared."""

    name: str
    reason: str
    change: Callable[[Result, Lines], Lines]


def _no_source_place(_: Result, lines: Lines) -> Lines:
    return [re.sub(rb"\s+# \w+\.c:\w+\(\):\d+$", b"", line) for line in lines]


def _no_module_loader(_: Result, lines: Lines) -> Lines:
    noise = (b"libkmod: ERROR ", b"iscsiadm: Could not insert module ", b"iscsiadm: Could not scan /sys/class/iscsi_t")
    return [line for line in lines if not line.startswith(noise)]


def _sorted_when_many(result: Result, lines: Lines) -> Lines:
    words = set(result.argv)
    many = words & {"new", "update", "delete", "-L", "-U", "-l", "-R"} and "iface" not in words
    return sorted(lines) if many else lines


ALLOWED = (
    Allowed(
        name="place in the library's sources",
        reason="libopeniscsiusr ends its messages with file, function and line of its C sources; ours has none",
        change=_no_source_place,
    ),
    Allowed(
        name="module loader",
        reason="the peer loads a driver before it writes a record that names it, and tells how that went; a record"
        " needs no driver, so ours loads none",
        change=_no_module_loader,
    ),
    Allowed(
        name="order of records",
        reason="the peer goes through records as the file system happens to give them, ours by name",
        change=_sorted_when_many,
    ),
)
EMPTY_FOLDERS = "the peer makes ifaces/ and nodes/ when it looks for something in them, ours when it stores something"


def script(text: str) -> list[list[str]]:
    """One command for each line; ``n`` is node mode, ``i`` iface mode."""
    modes = {"n": ["-m", "node"], "i": ["-m", "iface"]}
    commands = []
    for line in filter(str.strip, text.splitlines()):
        first, *rest = shlex.split(line)
        commands.append(modes[first] + rest)
    return commands


def words(result: Result) -> tuple[Lines, Lines, int]:
    """stdout, stderr and status after the rows of :data:`ALLOWED`."""
    streams = []
    for stream in (result.stdout, result.stderr):
        lines = stream.split(b"\n")
        for row in ALLOWED:
            lines = row.change(result, lines)
        streams.append(lines)
    return streams[0], streams[1], result.status


def files(outcome: Outcome) -> dict[str, tuple[str, str, str]]:
    """The tree without folders at its top that hold nothing, see :data:`EMPTY_FOLDERS`."""
    holding = {name.partition("/")[0] for name in outcome.tree if "/" in name}
    return {
        name: entry for name, entry in outcome.tree.items() if entry[0] != "folder" or "/" in name or name in holding
    }


def compare(
    peer: Program,
    ours: Program,
    commands: Sequence[Sequence[str]],
    *,
    tree: Path | None = None,
    sysfs: Path | None = None,
    status: int = 0,
) -> Outcome:
    """Run the script with both; AssertionError tells the first command that differs, or the files that do.

    ``status`` is what the peer's daemon answers to logins. Returns our outcome.
    """
    theirs = run(peer, commands, tree=tree, sysfs=sysfs, daemon=status)
    mine = run(ours, commands, tree=tree, sysfs=sysfs)
    for number, (one, other) in enumerate(zip(theirs.results, mine.results, strict=True)):
        if words(one) != words(other):
            before = "\n".join(result.shown() for result in theirs.results[max(0, number - 6) : number])
            raise AssertionError(f"{before}\npeer:\n{one.shown()}\nours:\n{other.shown()}")
    left, right = files(theirs), files(mine)
    if left != right:
        script = "\n".join(f"iscsiadm {' '.join(command)}" for command in commands)
        raise AssertionError(f"after\n{script}\n{_tree_difference(left, right)}")
    return mine


@dataclass(frozen=True, kw_only=True, slots=True)
class Purpose:
    """A command whose result is another than the peer's because it should be."""

    name: str
    reason: str
    before: str = ""
    command: str
    peer: tuple[str, str, int]
    """stdout, what stderr begins with, exit status."""
    ours: tuple[str, str, int]

    def check(self, peer: Program, ours: Program, *, tree: Path, sysfs: Path) -> None:
        """Run it with both; AssertionError when either says something else, so also when they do not differ."""
        commands = script(self.before) + script(self.command)
        # A backslash and an n in the table stand for a line break.
        commands[-1] = [word.replace("\\n", "\n") for word in commands[-1]]
        for program, expected, daemon in ((peer, self.peer, 0), (ours, self.ours, None)):
            result = run(program, commands, tree=tree, sysfs=sysfs, daemon=daemon).results[-1]
            stderr = result.stderr.decode()
            assert result.stdout.decode() == expected[0], program.name
            assert stderr.startswith(expected[1]), program.name
            assert bool(stderr) == bool(expected[1]), program.name
            assert result.status == expected[2], program.name


def _tree_difference(left: dict[str, tuple[str, str, str]], right: dict[str, tuple[str, str, str]]) -> str:
    lines = [f"only the peer has {name}" for name in sorted(left.keys() - right.keys())]
    lines += [f"only ours has {name}" for name in sorted(right.keys() - left.keys())]
    for name in sorted(left.keys() & right.keys()):
        if left[name] != right[name]:
            lines.append(f"{name}: {left[name][:2]} / {right[name][:2]}")
            old, new = left[name][2].split("\n"), right[name][2].split("\n")
            lines += [f"  peer: {line}" for line in old if line not in new]
            lines += [f"  ours: {line}" for line in new if line not in old]
    return "\n".join(lines)
