# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a guard imports where it first needs it is loaded before the seal, or never needed in a guard."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import importlib, json, sys
sys.path.insert(0, {root!r})
from iscsiboot.keeper import hygiene, seal
hygiene.without_openssl()
importlib.import_module({entry!r})
seal.preload()
print(json.dumps({{name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items() if module}}))
"""

IN_A_HAND = "asked for in a hand, which may import"
NEVER_IN_A_GUARD = {
    "ctypes.util": "udev's library: the scan after a login by order, in a hand",
    "pyudev": "the same",
    "iscsiboot.daemon.discovery_round": "the full feature phase, which only a discovery in a hand speaks",
    "iscsiboot.database.change": IN_A_HAND,
    "iscsiboot.firmware.read": IN_A_HAND,
    "iscsiboot.firmware.report": IN_A_HAND,
}


def loaded(entry: str) -> dict[str, str]:
    """Every module that is loaded when a guard that begins at ``entry`` seals its imports, and its file."""
    code = PROGRAM.format(root=str(ROOT), entry=entry)
    run = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    found: dict[str, str] = json.loads(run.stdout)
    return found


def late_imports(path: Path) -> Iterator[tuple[str, str]]:
    """(module, function) of each import inside a function."""
    for function in ast.walk(ast.parse(path.read_text())):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Import):
                yield from ((alias.name, function.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module, function.name
                for alias in node.names:
                    if (ROOT / f"{node.module}.{alias.name}".replace(".", "/")).with_suffix(".py").exists():
                        yield f"{node.module}.{alias.name}", function.name


@pytest.mark.parametrize("entry", ["iscsiboot.daemon.iscsid", "iscsiboot.keeper.guardian"])
def test_nothing_is_left_to_import_after_the_seal(entry: str) -> None:
    there = loaded(entry)
    missing = {
        f"{name}: {function} imports {wanted}"
        for name, file in there.items()
        if name.startswith("iscsiboot.")
        for wanted, function in late_imports(Path(file))
        if wanted not in there and wanted not in NEVER_IN_A_GUARD
    }
    assert not missing


def test_the_list_of_exceptions_has_no_dead_rows() -> None:
    there = loaded("iscsiboot.daemon.iscsid")
    wanted = {
        wanted
        for name, file in there.items()
        if name.startswith("iscsiboot.")
        for wanted, _ in late_imports(Path(file))
        if wanted not in there
    }
    assert wanted == set(NEVER_IN_A_GUARD)


@pytest.mark.parametrize("library", ["pyroute2", "pyudev", "ssl", "email", "http.client", "unittest"])
def test_what_a_guard_locks_is_only_what_it_needs(library: str) -> None:
    """Each costs locked memory for the life of the machine."""
    assert library not in loaded("iscsiboot.keeper.guardian")


def test_a_daemon_locks_no_openssl() -> None:
    assert "_ssl" not in loaded("iscsiboot.daemon.iscsid")
    assert "_hashlib" not in loaded("iscsiboot.daemon.iscsid")


THREADS = frozenset({"run_in_executor", "to_thread", "getaddrinfo", "getnameinfo", "create_connection", "Thread"})
"""Calls that start a thread, or may: asyncio looks names up in one."""


def thread_starters(path: Path) -> list[str]:
    return [
        f"{path.name}:{node.lineno}: {node.attr}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in THREADS
    ]


@pytest.mark.parametrize("part", ["keeper", "daemon", "ipc"])
def test_no_guard_starts_a_thread(part: str) -> None:
    """Its stack would be locked, and one that hangs in the kernel would keep the whole process from ending."""
    assert not [found for path in sorted((ROOT / "iscsiboot" / part).glob("*.py")) for found in thread_starters(path)]


def test_a_thread_would_be_seen() -> None:
    assert thread_starters(ROOT / "tests" / "interop" / "iscsid_on_double.py")
