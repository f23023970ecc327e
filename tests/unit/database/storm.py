# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many processes at once, and writers killed at any instant: what must hold, and a long form of it.

    python3 -m tests.unit.database.storm --kills 5000 --processes 64 --rounds 200 [--durable]

Every writer sets two settings of a record to one token in one change, so a record in which they differ is torn. Prints
the seed first; ``--seed`` repeats a run's choices (not its timing).
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from iscsiboot.database import commit
from iscsiboot.database.check import check
from iscsiboot.database.files import Files
from iscsiboot.database.names import NodeKey, Source
from iscsiboot.database.record import Record
from iscsiboot.database.store import Database
from tests.unit.database.samples import Quick, node, work

FIRST, SECOND = "node.session.auth.username", "node.session.auth.username_in"
SHARED = [f"iqn.shared:{number}" for number in range(8)]


@dataclass
class Count:
    """What was done and looked at."""

    kills: int = 0
    changes: int = 0
    read: int = 0
    problems: list[str] = field(default_factory=list)


def look(key: NodeKey, record: Record) -> str:
    """What is wrong with a record, "" for nothing."""
    if record.node_key != key:
        return f"{key} holds {record.node_key}"
    if record.get(FIRST) != record.get(SECOND):
        return f"{key} is torn: {record.get(FIRST)} and {record.get(SECOND)}"
    return ""


def look_at_all(database: Database, count: Count) -> dict[NodeKey, Record]:
    """Read every record; problems are counted, notices are problems."""
    database.notice = count.problems.append
    found = {}
    for key, record in database.nodes():
        found[key] = record
        count.read += 1
        problem = look(key, record)
        if problem:
            count.problems.append(problem)
    return found


def token(source: random.Random) -> dict[str, str]:
    """Two settings with one value of any length."""
    text = f"{source.getrandbits(64):x}" * source.randrange(1, 12)
    return {FIRST: text, SECOND: text}


def worker(root: str, number: int, rounds: int, seed: int, files: Files) -> Count:
    """Add, update, delete and read at random; own records are known exactly, shared ones are everybody's."""
    source, count = random.Random(seed * 1000 + number), Count()
    database, mine = Database(root), dict[NodeKey, str]()
    for at in range(rounds):
        what = source.randrange(5)
        target = f"iqn.own:{number}.{source.randrange(4)}"
        key = NodeKey(target, "10.0.0.1", 3260, 1)
        if what == 0:
            look_at_all(database, count)
            continue
        values = token(source)
        count.changes += 1
        with database.change(files=files, timeout=120) as change:
            if what == 1:
                change.put_node(node(target).changed(values), source=Source("static"))
                mine[key] = values[FIRST]
            elif what == 2:
                if change.delete_node(key) != (key in mine):
                    count.problems.append(f"{key}: deleted or not, against what was known")
                mine.pop(key, None)
            else:
                keys = [NodeKey(shared, "10.0.0.1", 3260, 1) for shared in source.sample(SHARED, 3)]
                if change.update_nodes(keys, values) != 3:
                    count.problems.append(f"round {at}: a shared record is missing")
    found = look_at_all(database, count)
    own = {key: record.get(FIRST) for key, record in found.items() if key.target.startswith(f"iqn.own:{number}.")}
    if own != mine:
        count.problems.append(f"worker {number} knows {sorted(mine)} and finds {sorted(own)}")
    return count


def forked(work_of_child: object) -> int:
    """A child process that does ``work_of_child()`` and ends with 0 unless it raised."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        if callable(work_of_child):
            work_of_child()
        status = 0
    finally:
        os._exit(status)


def processes(root: Path, number: int, rounds: int, seed: int, files: Files) -> Count:
    """``number`` workers at once; what they counted, and what is there when all have ended."""
    database, total = Database(str(root)), Count()
    with database.change(files=files) as change:
        for target in SHARED:
            change.put_node(node(target), source=Source("static"))
    results = root.parent / f"{root.name}-results"
    results.mkdir()

    def run(at: int) -> None:
        count = worker(str(root), at, rounds, seed, files)
        lines = [f"{count.changes} {count.read}", *count.problems]
        (results / str(at)).write_text("\n".join(lines))

    pids = [forked(lambda at=at: run(at)) for at in range(number)]
    failed = sum(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0 for pid in pids)
    if failed:
        total.problems.append(f"{failed} workers failed")
    for file in results.iterdir():
        first, *problems = file.read_text().split("\n")
        total.changes += int(first.split()[0])
        total.read += int(first.split()[1])
        total.problems += problems
    look_at_all(database, total)
    total.problems += [finding.line() for finding in check(str(root), run=str(results))[0] if finding.kind != "empty"]
    if work(root):
        total.problems.append(f"left behind: {work(root)}")
    return total


def victim(root: str, seed: int, files: Files) -> None:
    """Change all shared records, add and delete others, until killed."""
    source, database = random.Random(seed), Database(root)
    keys = [NodeKey(target, "10.0.0.1", 3260, 1) for target in SHARED]
    while True:
        with database.change(files=files) as change:
            change.update_nodes(keys, token(source))
        target = f"iqn.own:{source.randrange(3)}"
        with database.change(files=files) as change:
            if source.randrange(2):
                change.put_node(node(target).changed(token(source)), source=Source("static"))
            else:
                change.delete_node(NodeKey(target, "10.0.0.1", 3260, 1))


def kills(root: Path, number: int, seed: int, files: Files) -> Count:
    """Kill a writer ``number`` times at a random instant; look at every record each time."""
    source, count = random.Random(seed), Count()
    # Batches of two, so that swapped and recycled files are met too: the fourth takes those of the first.
    commit.BATCH, commit.MANY = 2, 2
    database = Database(str(root))
    with database.change(files=files) as change:
        for target in SHARED:
            change.put_node(node(target))
    while count.kills < number:
        pid = forked(lambda: victim(str(root), source.getrandbits(32), files))
        time.sleep(source.uniform(0.0, 0.02))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        count.kills += 1
        found = look_at_all(database, count)
        missing = [target for target in SHARED if NodeKey(target, "10.0.0.1", 3260, 1) not in found]
        if missing:
            count.problems.append(f"after kill {count.kills}: {missing} are lost")
        if count.problems:
            break
    with database.change(files=files):
        pass
    if work(root):
        count.problems.append(f"left behind: {work(root)}")
    return count


def say(first: str, *more: str) -> None:
    """A line and what belongs to it."""
    sys.stdout.write("\n  ".join([first, *more]) + "\n")
    sys.stdout.flush()


def main() -> int:
    """The long form."""
    parser = argparse.ArgumentParser(description="kill writers and let many processes at one database")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(31))
    parser.add_argument("--durable", action="store_true", help="wait for the disk as the program does")
    options = parser.parse_args()
    say(f"seed {options.seed}")
    folder = Path(tempfile.mkdtemp(prefix="iscsiboot-storm-"))
    files = Files() if options.durable else Quick()
    try:
        killed = kills(folder / "kills", options.kills, options.seed, files)
        say(f"{killed.kills} kills, {killed.read} records read", *killed.problems)
        many = processes(folder / "processes", options.processes, options.rounds, options.seed, files)
        said = f"{options.processes} processes, {many.changes} changes, {many.read} records read"
        say(said, *many.problems)
    finally:
        shutil.rmtree(folder)
    return 1 if killed.problems or many.problems else 0


if __name__ == "__main__":
    sys.exit(main())
