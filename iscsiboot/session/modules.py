# SPDX-License-Identifier: LGPL-2.1-or-later
"""Kernel modules a login needs, loaded while other work goes on: ``modprobe`` runs beside us.

``modprobe`` is started early and asked late (:class:`Loading`), because under way it costs us nothing. It is run by
path and with a fixed environment; its words go into the error when a module is not to be had.
"""

from __future__ import annotations

import os
import selectors
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from iscsiboot.errors import ExitCode, IscsiBootError, Stage, quoted
from iscsiboot.model.deadline import Deadline

MODPROBE = ("/sbin/modprobe", "/usr/sbin/modprobe", "/bin/modprobe", "/usr/bin/modprobe")
_OUTPUT_LIMIT = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Module:
    """A kernel module, and the file of sysfs that shows it is already there."""

    name: str
    shows_at: str
    """Below sysfs: ``class/iscsi_transport/tcp``."""


ISCSI_TCP = Module(name="iscsi_tcp", shows_at="class/iscsi_transport/tcp")
ISCSI_IBFT = Module(name="iscsi_ibft", shows_at="firmware/ibft")


class ModuleError(IscsiBootError):
    """The kernel has no such module, or refuses it."""

    def __init__(self, name: str, cause: str, hint: str) -> None:
        super().__init__(cause, stage=Stage.MODULES, subject=name, hint=hint, exit_code=ExitCode.TRANS_NOT_FOUND)


class Loading:
    """One ``modprobe`` under way; nothing is started when the module is there already."""

    def __init__(
        self, module: Module, *, sysfs: Path, programs: Sequence[str] = MODPROBE, in_image: bool = True
    ) -> None:
        """``in_image``: we run in an initramfs, so what is missing has to go into it."""
        self.module = module
        self._in_image = in_image
        self._place = sysfs / module.shows_at
        self._pid = 0
        self._output = -1
        self._absent = False
        if not self._place.exists():
            self._start(programs)

    def _start(self, programs: Sequence[str]) -> None:
        program = next((path for path in programs if os.access(path, os.X_OK)), None)
        if program is None:
            self._absent = True
            return
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            self._pid = os.posix_spawn(
                program,
                [program, self.module.name],
                {"PATH": "/sbin:/usr/sbin:/bin:/usr/bin", "LC_ALL": "C"},
                file_actions=[(os.POSIX_SPAWN_DUP2, writing, 1), (os.POSIX_SPAWN_DUP2, writing, 2)],
            )
        finally:
            os.close(writing)
        self._output = reading

    def wait(self, deadline: Deadline, now: Callable[[], float]) -> None:
        """Return when the module is there; :class:`ModuleError` with modprobe's words when it is not."""
        if self._pid:
            words, status = self._finish(deadline, now)
            if status == 0 or self._place.exists():
                return
            raise ModuleError(self.module.name, self._cause(words, status), self._hint())
        if self._absent and not self._place.exists():
            raise ModuleError(self.module.name, "is not loaded and there is no modprobe to load it", self._hint())

    def _hint(self) -> str:
        release = os.uname().release
        if not self._in_image:
            return f"install {self.module.name} of kernel {release}; after an update of the kernel, restart"
        return f"put {self.module.name} of kernel {release} into the image (dracut --add-drivers {self.module.name})"

    @staticmethod
    def _cause(words: str, status: int) -> str:
        if status < 0:
            return f"modprobe was killed by signal {-status}"
        return f"cannot be loaded, modprobe says {quoted(words.strip() or f'exit status {status}', 200)}"

    def _finish(self, deadline: Deadline, now: Callable[[], float]) -> tuple[str, int]:
        """Output and exit status of modprobe. The pipe's end is the event; the process is reaped right after it."""
        chunks: list[bytes] = []
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._output, selectors.EVENT_READ)
                while True:
                    if not selector.select(deadline.remaining(now())):
                        os.kill(self._pid, signal.SIGKILL)
                        break
                    chunk = os.read(self._output, 4096)
                    if not chunk:
                        break
                    if sum(map(len, chunks)) < _OUTPUT_LIMIT:
                        chunks.append(chunk)
        finally:
            os.close(self._output)
            self._output = -1
            _, status = os.waitpid(self._pid, 0)
            self._pid = 0
        return b"".join(chunks)[:_OUTPUT_LIMIT].decode("utf-8", "replace"), os.waitstatus_to_exitcode(status)
