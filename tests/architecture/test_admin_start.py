# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the start of ``iscsiadm`` costs, counted in modules: a listing loads what it needs and nothing else.

A stopwatch would fail on a busy machine; a module that should not be there is found on any. Times are in
docs/performance.md. The allow-lists are frozen: whoever adds a module here has looked at what it costs
(``python3 -X importtime``).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

INTERPRETER = frozenset(
    {"__future__", "__main__", "builtins", "marshal", "sys", "time", "warnings", "zipimport", "types", "errno"}
    | {"_abc", "_codecs", "_frozen_importlib", "_frozen_importlib_external", "_imp", "_io", "_signal", "_stat"}
    | {"_thread", "_warnings", "_weakref", "abc", "codecs", "encodings", "encodings.aliases", "encodings.utf_8", "io"}
    | {"genericpath", "os", "os.path", "posix", "posixpath", "stat", "_collections_abc"}
)
"""What the interpreter loads by itself, and ``os``."""
ENUM = frozenset({"enum", "functools", "collections", "keyword", "operator", "reprlib", "itertools"})
"""``enum`` and what it needs; the exit codes are one."""
BUILT_IN = frozenset({"_collections", "_functools", "_operator", "itertools"})
"""Compiled into the interpreter, so no file is read."""
REGULAR_EXPRESSIONS = frozenset({"re", "re._casefix", "re._compiler", "re._constants", "re._parser", "_sre", "copyreg"})
STANDARD = INTERPRETER | ENUM | BUILT_IN | REGULAR_EXPRESSIONS

FRONT = frozenset(
    {"iscsiboot", "iscsiboot.errors", "iscsiboot.admin"}
    | {f"iscsiboot.admin.{name}" for name in ("arguments", "context", "getopt_long", "main", "options", "process")}
)
SESSIONS = frozenset({"iscsiboot.admin.session_mode", "iscsiboot.sysfs", "iscsiboot.sysfs.listing"})
NODES = frozenset(
    {"iscsiboot.admin.node_mode", "iscsiboot.admin.node_list", "iscsiboot.database"}
    | {
        f"iscsiboot.database.{name}"
        for name in (
            *("body", "failure", "key", "keys", "keys_iface", "keys_node", "lines", "names", "nodes", "reading"),
            *("record", "store", "tree"),
        )
    }
)

RUN = """
import io, sys
sys.path[:0] = [sys.argv.pop(1)]
from iscsiboot.admin.context import Paths
from iscsiboot.admin.main import main
root = sys.argv.pop(1)
paths = Paths(config=root, database=root, etc=root, sysfs=f"{root}/sys", proc=f"{root}/proc", run=f"{root}/run")
out, err = io.StringIO(), io.StringIO()
status = main(sys.argv[1:], out, err, paths)
loaded = sorted(sys.modules)
import json
json.dump([status, out.getvalue(), err.getvalue(), loaded], sys.stdout)
"""


def run(argv: str, root: Path) -> tuple[int, str, str, set[str]]:
    """Status, stdout, stderr of a command line in a fresh interpreter, and every module it loaded."""
    done = subprocess.run(
        [sys.executable, "-ISBXutf8", "-c", RUN, str(ROOT), str(root), *argv.split()],
        capture_output=True,
        text=True,
        check=True,
    )
    status, out, err, loaded = json.loads(done.stdout)
    return status, out, err, set(loaded)


@pytest.mark.parametrize(
    ("argv", "allowed", "error"),
    [
        ("-m session", FRONT | SESSIONS, "iscsiadm: No active sessions.\n"),
        ("-m node", FRONT | NODES, "iscsiadm: No records found\n"),
        ("-m node -T x -p y", FRONT | NODES, "iscsiadm: No records found\n"),
        ("-m node -P 1", FRONT | NODES, "iscsiadm: No records found\n"),
    ],
)
def test_a_listing_loads_what_it_needs(argv: str, allowed: frozenset[str], error: str, tmp_path: Path) -> None:
    status, out, err, loaded = run(argv, tmp_path)
    assert (status, out, err) == (21, "", error)
    assert loaded - STANDARD - allowed == set()
    # A name nobody loads any more hides the next one that should not be there.
    assert {name for name in allowed if name not in loaded} == set()


def test_listing_writes_nothing(tmp_path: Path) -> None:
    """The peer makes the root of the database even to list it; ours must list on a disk mounted read-only."""
    root = tmp_path / "absent"
    assert run("-m node", root)[0] == 21
    assert not root.exists()


def test_the_test_can_fail(tmp_path: Path) -> None:
    loaded = run("-m node --json", tmp_path)[3]
    assert "json" in loaded - STANDARD - FRONT - NODES
