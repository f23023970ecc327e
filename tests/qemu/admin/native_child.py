# SPDX-License-Identifier: LGPL-2.1-or-later
"""The part of :mod:`.native` inside the namespaces: mounts, targets, then the agent's rounds over the sections."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tests.doubles.peer_iscsid import ADDRESS, serve
from tests.qemu.admin import agent
from tests.qemu.admin.steps import NATIVE, parse

HERE = Path(__file__).resolve().parent
LOOKED_UP = (
    "passwd",
    "group",
    "hosts",
    "host.conf",
    "nsswitch.conf",
    "gai.conf",
    "services",
    "protocols",
    "ld.so.cache",
)
"""Files of /etc that names and libraries are looked up in."""


def mount(*words: str) -> None:
    """One mount; CalledProcessError when it is refused."""
    subprocess.run(["mount", *words], check=True)


def set_up(work: Path) -> None:
    """The system both programs see. Nothing of the machine's own is written to from here on."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "link", "add", "dummy0", "type", "veth", "peer", "name", "far"], check=True)
    subprocess.run(["ip", "link", "set", "far", "up"], check=True)
    etc = work / "etc"
    (etc / "iscsi").mkdir(parents=True)
    for name in LOOKED_UP:
        source = Path("/etc", name)
        if source.exists():
            (etc / name).write_bytes(source.read_bytes())
    # Some commands go by the order of the directory: the same file system as the guest's has the same.
    mount("-t", "ext4", "-o", "loop", str(work / "database.img"), str(etc / "iscsi"))
    for name in ("lo", "dummy0"):
        (work / "sys/class/net" / name).mkdir(parents=True)
    (work / "disks").mkdir()
    agent.START, agent.OUT, agent.ERR = work / "start", work / "out", work / "err"
    script = (HERE / "targets.sh").read_text().replace("/disks", str(work / "disks"))
    mount("--rbind", str(etc), "/etc")
    mount("-t", "tmpfs", "none", "/run")
    Path("/run/lock/iscsi").mkdir(parents=True)
    mount("--bind", str(work / "sys"), "/sys")
    subprocess.run(["sh", "-c", script], check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr)


class Native(agent.Round):
    """A round without a kernel: the program is found on PATH, no module, no daemon but what :func:`serve` answers."""

    def __init__(self, name: str, directory: str, environment: dict[str, str]) -> None:
        super().__init__(name, Path(directory, "iscsiadm"), Path(directory, "iscsid"))
        self._environment = environment

    def _install(self) -> None:
        os.environ["PATH"] = f"{self._program.parent}:/usr/sbin:/usr/bin:/sbin:/bin"
        os.environ.pop("LD_LIBRARY_PATH", None)
        os.environ.update(self._environment)

    def _get_ready(self) -> None:
        agent.PID_FILE.write_text(f"{os.getpid()}\n")

    def _clean(self) -> None:
        self._stop_daemon()

    def _stop_daemon(self) -> None:
        agent.PID_FILE.unlink(missing_ok=True)


def main() -> int:
    """Answer the one request on standard input."""
    request: dict[str, Any] = json.load(sys.stdin)
    work = Path(request["work"])
    steps = [step for step in parse((work / "script.txt").read_text()) if step.section in NATIVE]
    os.environ.update(LC_ALL="C.UTF-8", HOME="/root")
    os.umask(0o022)
    set_up(work)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(ADDRESS)
    listener.listen(64)
    threading.Thread(target=serve, args=(listener, 0), daemon=True).start()
    for name, program in request["programs"].items():
        # The control is only there to be found out: the first section is enough for it.
        played = [step for step in steps if step.section == steps[0].section] if name == "control" else steps
        Native(name, program["directory"], program["environment"]).play(played)
    agent.emit({"end": request["nonce"]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
