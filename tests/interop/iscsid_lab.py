# SPDX-License-Identifier: LGPL-2.1-or-later
"""A place of its own for daemons: a network namespace (the abstract socket lives in one) and a /run of its own.

    with Place() as place:
        daemon = place.spawn(program, "-f")
        place.ask("status")

As a program it is a client inside that place: ``python3 -m tests.interop.iscsid_lab ACTION JSON`` prints the answer.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from iscsiboot.errors import IscsiBootError
from iscsiboot.ipc import client

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "/usr/bin/python3"
SECONDS = 60.0


def rendered(folder: Path) -> Path:
    """``iscsid`` as ``make install`` leaves it, running from this tree."""
    command = [PYTHON, "-B", str(ROOT / "programs/render.py"), PYTHON, str(ROOT), str(folder), str(folder)]
    text = subprocess.run(
        command, input=(ROOT / "programs/iscsid.in").read_text(), capture_output=True, text=True, check=True
    ).stdout
    program = folder / "iscsid"
    program.write_text(text)
    program.chmod(0o755)
    return program


class Place:
    """The namespaces, held by a process that does nothing."""

    def __enter__(self) -> Place:
        script = "mount -t tmpfs none /run && mkdir /run/etc && ip link set lo up && echo ready && exec sleep infinity"
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "sh", "-c", script], stdout=subprocess.PIPE, text=True
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n"
        self._spawned: list[subprocess.Popen[str]] = []
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._spawned:
            if process.poll() is None:
                process.terminate()
            try:
                process.communicate(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                for stream in (process.stdout, process.stderr):
                    if stream is not None:
                        stream.close()
        self._end_the_rest()
        self._holder.kill()
        self._holder.communicate()

    def _end_the_rest(self) -> None:
        """Daemons in the background and standbys: whoever is in our namespaces, by number."""
        ours = os.readlink(f"/proc/{self._holder.pid}/ns/net")  # noqa: PTH115  # no path of a file
        for entry in os.listdir("/proc"):  # noqa: PTH208  # as above
            if entry.isdigit() and int(entry) not in (self._holder.pid, os.getpid()):
                try:
                    if os.readlink(f"/proc/{entry}/ns/net") == ours:  # noqa: PTH115  # as above
                        os.kill(int(entry), signal.SIGKILL)
                except OSError:
                    continue  # it has ended

    def _inside(self, command: Sequence[str]) -> list[str]:
        return ["nsenter", f"--target={self._holder.pid}", "--net", "--mount", f"--wd={ROOT}", *command]

    def run(self, *command: str, environ: Mapping[str, str] | None = None, text: str = "") -> tuple[int, str, str]:
        """Status, stdout and stderr."""
        done = subprocess.run(
            self._inside(command),
            capture_output=True,
            text=True,
            input=text,
            timeout=SECONDS,
            check=False,
            env={**os.environ, **(environ or {})},
        )
        return done.returncode, done.stdout, done.stderr

    def spawn(self, *command: str, environ: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start it; ended with the place."""
        process = subprocess.Popen(
            self._inside(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environ or {})},
        )
        self._spawned.append(process)
        return process

    def ask(self, action: str, fields: Mapping[str, Any] | None = None, *, uid: int = 0) -> dict[str, Any]:
        """What the daemon answers; a failure has ``code`` and ``line``."""
        user = ["setpriv", f"--reuid={uid}", "--clear-groups"] if uid else []
        module = "tests.interop.iscsid_lab"
        status, out, err = self.run(*user, PYTHON, "-B", "-m", module, action, json.dumps(fields or {}))
        assert status == 0, err
        answer: dict[str, Any] = json.loads(out)
        return answer


def _main(action: str, fields: str) -> None:
    try:
        with client.connect() as connection:
            answer = connection.ask(action, json.loads(fields), seconds=SECONDS / 2)
    except IscsiBootError as error:
        answer = {"code": int(error.exit_code), "line": error.line()}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    _main(*sys.argv[1:])
