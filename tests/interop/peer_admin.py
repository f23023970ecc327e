# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs open-iscsi's ``iscsiadm`` and ours on equal trees, and hands back all that anybody can see of each.

The peer is Debian's package, downloaded into the test cache and unpacked there, never installed. Both programs run as
``iscsiadm``, found on PATH, in namespaces of their own (mounts, network): ``/etc/iscsi`` is a copy of a tree, ``/etc``
else what name lookups need, ``/sys`` a tree of the test's choice (empty by default), ``/run`` empty. The right to load
kernel modules is taken away. Nothing of the machine is changed.

    peer = peer_program(print)
    outcome = run(peer, [["-m", "node"]], tree=Path("some/etc-iscsi"))
    outcome.results[0].stdout, outcome.results[0].status, outcome.tree
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.interop.peer_admin_child import Tree
from tests.qemu.harness.cache import Cache, default_root, digest
from tests.qemu.harness.errors import HarnessError
from tests.qemu.harness.process import Tell

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("open-iscsi", "libopeniscsiusr", "libisns0")
"""What a machine without open-iscsi lacks; the other libraries come with systemd and apt."""
TOOLS = ("unshare", "setpriv", "dpkg", "apt-get")
COMMAND_SECONDS = 60.0
_ETC = ("passwd", "group", "hosts", "host.conf", "nsswitch.conf", "gai.conf", "services", "protocols", "ld.so.cache")
"""Files of /etc that names and libraries are looked up in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """An ``iscsiadm`` that can be run: its directory is first on PATH."""

    name: str
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """One command: what it printed, its exit status (negative: the signal), and its wall time in seconds."""

    argv: tuple[str, ...]
    stdout: bytes
    stderr: bytes
    status: int
    seconds: float
    tree: Tree | None
    """What /etc/iscsi held after it, in a run with ``fresh``."""

    def shown(self) -> str:
        """The command and its words, as a person would copy them from a terminal."""
        parts = [f"$ iscsiadm {' '.join(self.argv)}"]
        parts += [f"  | {line}" for line in self.stdout.decode(errors="backslashreplace").splitlines()]
        parts += [f"  ! {line}" for line in self.stderr.decode(errors="backslashreplace").splitlines()]
        return "\n".join([*parts, f"  = {self.status}"])


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """Several commands one after the other, and the tree at the end."""

    results: tuple[Result, ...]
    tree: Tree


def unavailable() -> str:
    """Why the comparison cannot run on this machine; empty when it can."""
    if os.geteuid() != 0:
        return "namespaces need root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"not installed: {', '.join(missing)}" if missing else ""


def peer_program(tell: Tell) -> Program:
    """Debian's iscsiadm, fetched when the cache does not have this release yet. :class:`HarnessError` without apt."""
    versions = [_candidate(package) for package in PACKAGES]
    place = Cache(default_root(), tell).entry("open-iscsi", digest(*PACKAGES, *versions), _unpack)
    libraries = [path.parent for path in place.rglob("libopeniscsiusr.so*")]
    if not libraries:
        raise HarnessError(f"{place} holds no libopeniscsiusr")
    found = sorted(place.glob("**/sbin/iscsiadm"))
    if not found:
        raise HarnessError(f"{place} holds no iscsiadm")
    return Program(name="peer", directory=found[0].parent, environment={"LD_LIBRARY_PATH": str(libraries[0])})


def our_program(prefix: Path) -> Program:
    """Ours: the checkout, installed into ``prefix`` with byte code by ``make install``."""
    command = ["make", "-s", "-C", str(ROOT), "install", f"PREFIX={prefix}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise HarnessError(f"make install failed: {done.stderr.strip()}")
    return Program(name="ours", directory=prefix / "sbin")


def run(
    program: Program,
    commands: Sequence[Sequence[str]],
    *,
    tree: Path | None = None,
    sysfs: Path | None = None,
    fresh: bool = False,
    daemon: int | Sequence[int] | Literal["ours"] | None = None,
    environment: Mapping[str, str] | None = None,
    scenarios: Sequence[str] = (),
    at_rest: bool = False,
) -> Outcome:
    """Run each command line (without the program's name) and say what came of it.

    ``tree`` becomes /etc/iscsi (a copy; None: empty), ``sysfs`` becomes /sys. With ``fresh`` every command finds the
    tree as it was, and its result says what it left. ``daemon`` starts tests.doubles.peer_iscsid, which gives the peer
    the path of its configuration and answers logins and logouts with this status (several: one each, in order);
    ``"ours"`` starts our server instead (tests.interop.ipc_daemon). ``scenarios`` are targets to discover
    (tests.interop.discovery_child). With ``at_rest`` the tree is on the disk before the first command, as one that was
    written days ago. :class:`HarnessError` when nothing could be run.
    """
    with tempfile.TemporaryDirectory(prefix="iscsiadm-", dir="/tmp") as name:
        work = Path(name)
        request = {
            "etc": str(_make_etc(work)),
            "tree": str(tree or _empty(work / "tree")),
            "sysfs": str(sysfs or _empty(work / "sys")),
            "commands": [list(command) for command in commands],
            "fresh": fresh,
            "daemon": daemon,
            "seconds": COMMAND_SECONDS,
            "scenarios": list(scenarios),
            "at_rest": at_rest,
            "environment": {
                "PATH": f"{program.directory}:/usr/sbin:/usr/bin:/sbin:/bin",
                "LANG": "C.UTF-8",
                **program.environment,
                **(environment or {}),
            },
        }
        child = "discovery_child" if scenarios else "peer_admin_child"
        answer = _run_child(json.dumps(request), f"tests.interop.{child}")
    return Outcome(results=tuple(_result(item) for item in answer["results"]), tree=_tree(answer["tree"]))


def materialize(tree: Tree, root: Path) -> Path:
    """Write what an :class:`Outcome` holds below ``root``, for the next run to start from."""
    root.mkdir(parents=True, exist_ok=True)
    for name, (kind, mode, content) in tree.items():
        path = root / name
        if kind == "folder":
            path.mkdir()
        elif kind == "link":
            path.symlink_to(content)
        else:
            path.write_bytes(content.encode("latin-1"))
        if mode:
            path.chmod(int(mode, 8))
    return root


def _run_child(request: str, module: str) -> dict[str, Any]:
    command = [
        "unshare",
        "--mount",
        "--net",
        "--",
        "setpriv",
        "--bounding-set",
        "-sys_module",
        "--inh-caps",
        "-sys_module",
    ]
    command += [sys.executable, "-m", module]
    done = subprocess.run(command, input=request, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise HarnessError(f"the namespaces could not be set up: {done.stderr.strip()[-500:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _result(item: dict[str, Any]) -> Result:
    return Result(
        argv=tuple(item["argv"]),
        stdout=item["stdout"].encode("latin-1"),
        stderr=item["stderr"].encode("latin-1"),
        status=item["status"],
        seconds=item["seconds"],
        tree=None if item["tree"] is None else _tree(item["tree"]),
    )


def _tree(items: dict[str, list[str]]) -> Tree:
    return {path: (kind, mode, content) for path, (kind, mode, content) in items.items()}


def _make_etc(work: Path) -> Path:
    etc = work / "etc"
    (etc / "iscsi").mkdir(parents=True)
    for name in _ETC:
        source = Path("/etc") / name
        if source.exists():
            shutil.copy(source, etc / name)
    return etc


def _empty(path: Path) -> Path:
    path.mkdir()
    return path


def _candidate(package: str) -> str:
    """The version apt would download."""
    done = subprocess.run(
        ["apt-cache", "policy", package], capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    for line in done.stdout.splitlines():
        word, _, version = line.strip().partition(": ")
        if word == "Candidate" and version != "(none)":
            return version.strip()
    raise HarnessError(f"apt knows no package {package}; run: apt-get update")


def _unpack(place: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="debs-", dir="/tmp") as name:
        # apt drops its rights for the download and must be able to write here.
        Path(name).chmod(0o777)
        done = subprocess.run(["apt-get", "download", *PACKAGES], cwd=name, capture_output=True, text=True, check=False)
        if done.returncode:
            raise HarnessError(f"apt-get download failed: {done.stderr.strip()[-300:]}")
        for package in sorted(Path(name).glob("*.deb")):
            subprocess.run(["dpkg", "-x", str(package), str(place)], check=True, capture_output=True)
