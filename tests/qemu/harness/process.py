# SPDX-License-Identifier: LGPL-2.1-or-later
"""Child processes that cannot outlive the harness, and long work that shows its progress.

Every child is started through ``setpriv --pdeathsig KILL``: the kernel ends it when the harness dies, also by SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from iscsiboot.model.deadline import Deadline
from tests.qemu.harness.errors import HarnessError

TERMINATE_SECONDS = 5.0
REPORT_EVERY_SECONDS = 5.0

Tell = Callable[[str], None]
"""Takes one line of progress."""


def tell_stderr(line: str) -> None:
    """Progress for a person or a CI log."""
    sys.stderr.write(f"iscsiboot: {line}\n")
    sys.stderr.flush()


def tied(argv: Sequence[str]) -> list[str]:
    """``argv`` such that the kernel kills it with its parent."""
    return ["setpriv", "--pdeathsig", "KILL", "--", *argv]


class Process:
    """A child for the time of a ``with`` block: TERM (if ``graceful``), then KILL, then reaped."""

    def __init__(
        self, argv: Sequence[str], *, log: Path, graceful: bool = True, env: Mapping[str, str] | None = None
    ) -> None:
        self._argv = argv
        self._log = log
        self._graceful = graceful
        self._env = env
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Process:
        try:
            with self._log.open("ab") as log:
                self._child = subprocess.Popen(
                    tied(self._argv),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self._env,
                    start_new_session=True,  # Ctrl-C reaches the harness, which ends its children in order
                )
        except OSError as error:
            raise HarnessError(f"{self._argv[0]} cannot be started: {error.strerror}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        child = self.child
        if child.poll() is None:
            if self._graceful:
                child.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(TERMINATE_SECONDS)
            child.kill()  # nothing happens to a child that has ended: it is reaped only by wait
        child.wait()

    @property
    def child(self) -> subprocess.Popen[bytes]:
        """The running child; an error outside the ``with`` block."""
        if self._child is None:
            raise HarnessError(f"{self._argv[0]} is not started")
        return self._child

    def output(self) -> str:
        """What the child wrote so far."""
        return self._log.read_text(errors="replace")


def run_long(argv: Sequence[str], *, what: str, log: Path, seconds: float, tell: Tell) -> None:
    """Run ``argv`` to its end, showing ``what``, the time it takes and its latest output line every few seconds.

    :class:`HarnessError` with the last lines and the log's path when it fails or takes longer than ``seconds``.
    """
    started = time.monotonic()
    deadline = Deadline.after(seconds, now=started, reason=what)
    # unshare blocks TERM while it waits for what it runs; killing it ends the whole namespace at once.
    with Process(argv, log=log, graceful=False) as process, selectors.DefaultSelector() as selector:
        ended = os.pidfd_open(process.child.pid)
        try:
            selector.register(ended, selectors.EVENT_READ)
            while not selector.select(min(REPORT_EVERY_SECONDS, deadline.remaining(time.monotonic()))):
                now = time.monotonic()
                if deadline.passed(now):
                    raise HarnessError(f"{what}: not finished after {seconds:.0f} s, see {log}")
                tell(f"{what}: {now - started:.0f} s  {_last_line(log)}")
        finally:
            os.close(ended)
        status = process.child.wait()
    if status:
        last = " | ".join(log.read_text(errors="replace").splitlines()[-4:])
        raise HarnessError(f"{what}: exit status {status}: {last}; see {log}")
    tell(f"{what}: done in {time.monotonic() - started:.0f} s")


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").rstrip().splitlines()
    return lines[-1][:90] if lines else ""
