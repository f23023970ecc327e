# SPDX-License-Identifier: LGPL-2.1-or-later
"""The part of tests/interop/peer_admin.py that runs inside the namespaces: mounts, commands, what they left.

A request is one JSON document on stdin, the answer one on stdout. Bytes travel as latin-1 text.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.doubles.peer_iscsid import ADDRESS, serve

Tree = dict[str, tuple[str, str, str]]
"""Path below /etc/iscsi -> kind (``file``, ``link``, ``folder``), mode in octal, content or where a link leads."""

ISCSI = Path("/etc/iscsi")


def snapshot(root: Path) -> Tree:
    """Everything below ``root``."""
    found: Tree = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        mode = oct(stat.S_IMODE(status.st_mode))[2:]
        if path.is_symlink():
            entry = ("link", "", str(path.readlink()))
        elif path.is_dir():
            entry = ("folder", mode, "")
        else:
            entry = ("file", mode, path.read_bytes().decode("latin-1"))
        found[str(path.relative_to(root))] = entry
    return found


def replace(root: Path, source: Path) -> None:
    """Make the content of ``root``, which is a mount point, a copy of ``source``."""
    for path in root.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    shutil.copytree(source, root, symlinks=True, dirs_exist_ok=True)
    root.chmod(0o755)


def mount(*arguments: str) -> None:
    """One mount; CalledProcessError when it is refused."""
    subprocess.run(["mount", *arguments], check=True)


def set_up(request: dict[str, Any]) -> None:
    """Put the request's trees where the program looks."""
    replace(Path(request["etc"]) / "iscsi", Path(request["tree"]))
    mount("--bind", request["etc"], "/etc")
    mount("-t", "tmpfs", "none", "/run")
    Path("/run/lock").mkdir()
    mount("--bind", request["sysfs"], "/sys")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    if request["daemon"] == "ours":
        from tests.interop import ipc_daemon  # asyncio, for this case alone

        ipc_daemon.start()
    elif request["daemon"] is not None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(ADDRESS)
        listener.listen(64)
        threading.Thread(target=serve, args=(listener, request["daemon"]), daemon=True).start()


def execute(argv: list[str], request: dict[str, Any], before: Tree) -> dict[str, Any]:
    """Run one command and say what it did; with ``fresh``, put back what it changed."""
    begin = time.perf_counter()
    done = subprocess.run(
        ["iscsiadm", *argv],
        capture_output=True,
        check=False,
        env=request["environment"],
        timeout=request["seconds"],
        stdin=subprocess.DEVNULL,
        cwd="/",
    )
    seconds = time.perf_counter() - begin
    tree = None
    if request["fresh"]:
        tree = snapshot(ISCSI)
        if tree != before:
            replace(ISCSI, Path(request["tree"]))
    return {
        "argv": argv,
        "stdout": done.stdout.decode("latin-1"),
        "stderr": done.stderr.decode("latin-1"),
        "status": done.returncode,
        "seconds": seconds,
        "tree": tree,
    }


def main() -> None:
    """Answer the one request on stdin."""
    request = json.load(sys.stdin)
    set_up(request)
    before = snapshot(ISCSI)
    if request["at_rest"]:
        os.sync()
    results = [execute(argv, request, before) for argv in request["commands"]]
    json.dump({"results": results, "tree": snapshot(ISCSI)}, sys.stdout)


if __name__ == "__main__":
    main()
