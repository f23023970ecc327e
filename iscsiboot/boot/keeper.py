# SPDX-License-Identifier: LGPL-2.1-or-later
"""The keeper iscsistart leaves behind: whether there is to be one, the fork, and the wait until it stands alone.

The kernel holds a session, but nobody in the kernel makes a broken connection anew. From the login in the initramfs to
the start of the daemon that is the keeper's work: a fork of iscsistart, so it knows the sessions and their secrets
without a file. What the fork becomes is in :mod:`iscsiboot.boot.keeper_child`, imported in the fork: the boot does not
wait for it.

What must wait is switch-root, which deletes the initramfs: until the keeper has loaded all it needs, its files must
stay. So the fork says ``sealed`` when it is through, and iscsistart does not end before it; systemd was told before
that the disk is there (:mod:`iscsiboot.boot.readiness`) and mounts it meanwhile.
"""

from __future__ import annotations

import os
import selectors
import sys
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from iscsiboot.initiator.chap import ChapAlgorithm
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.report import Report
from iscsiboot.model.timeline import Mark
from iscsiboot.session.attach import AttachRequest
from iscsiboot.session.forking import fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn
else:
    NoReturn = object

PARAMETER = "rd.iscsiboot.keeper"
FOLDER = Path("iscsiboot")
"""Below /run: state files, and where guard and daemon meet. It is there before the fork: the timeline is in it."""
INITRAMFS = Path("initrd-release")
"""Below /etc: what every initramfs has, and nothing else (systemd's INITRD_INTERFACE)."""
SEALED = b"sealed\n"
SEAL_SECONDS = 60.0
"""The keeper takes 0.1 s on hardware and 4 s on a busy emulated processor, and waits for nothing but the processor."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """A session iscsistart has made or found, as far as a keeper needs it."""

    sid: int
    tpgt: int | None
    request: AttachRequest
    algorithm: ChapAlgorithm | None = None
    """Of CHAP, where it had to be offered alone (:class:`iscsiboot.session.values.Attached`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Roots:
    """Where the machine shows; tests hand in another one."""

    root: Path = Path("/")
    """Above ``sys/fs/cgroup``."""
    run: Path = Path("/run")


def wanted(choice: bool | None, cmdline: str, *, in_initramfs: bool) -> bool:
    """Whether a keeper is to be left behind.

    ``choice`` is that of the arguments and decides alone. Then the kernel's command line: its last
    ``rd.iscsiboot.keeper``, where 0, no and off forbid it. Then the place: an initramfs is about to go away and its
    sessions have nobody yet; a system that runs has a daemon to guard them.
    """
    if choice is not None:
        return choice
    allowed = True
    for word in cmdline.split():
        key, _, value = word.partition("=")
        if key == PARAMETER:
            allowed = value.lower() not in ("0", "no", "off")
    return allowed and in_initramfs


def leave(
    sessions: Sequence[Session], roots: Roots, *, report: Report, now: Callable[[], float], life: Life | None = None
) -> None:
    """Leave a keeper of ``sessions`` behind and wait until it stands alone. What goes wrong is told: the disk is there,
    and the boot goes on without a keeper.
    """
    try:
        fork = leave_behind(sessions, roots, life or _life)
    except OSError as error:
        report.note(f"no keeper, so nobody recovers the session before a daemon runs: {error.strerror}")
        return
    try:
        problem = fork.wait(Deadline.after(SEAL_SECONDS, now=now(), reason="the keeper"), now)
    except KeyboardInterrupt:
        problem = "it was not waited for"
    if problem is None:
        report.mark(Mark.KEEPER, f"process {fork.pid}")
    else:
        report.note(f"keeper, process {fork.pid}: {problem}")


def only_save(sessions: Sequence[Session], roots: Roots, *, report: Report) -> None:
    """No keeper: what the sessions were made with is kept in files, for the daemon that comes."""
    from iscsiboot.boot.known import known_sessions, save  # json and the writer of the files

    save(known_sessions(sessions), roots.run, note=report.note)


Life = Callable[[Sequence[Session], Roots, int], None]
"""What the fork does: the sessions, the machine, the descriptor to say :data:`SEALED` on. It begins with the signals
blocked that end a process (:func:`iscsiboot.session.forking.fork`): they mean iscsistart.
"""


def _life(sessions: Sequence[Session], roots: Roots, ready: int) -> None:
    """The real one."""
    from iscsiboot.boot.keeper_child import live  # asyncio and the engine

    live(sessions, roots, ready)


class Fork:
    """The keeper while iscsistart still looks at it."""

    def __init__(self, pid: int, pipe: int) -> None:
        self.pid = pid
        self._pipe = pipe

    def wait(self, deadline: Deadline, now: Callable[[], float]) -> str | None:
        """Until it stands alone: None, or in words why it does not."""
        said = b""
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._pipe, selectors.EVENT_READ)
                while SEALED not in said:
                    if not selector.select(deadline.remaining(now())):
                        return "it is not ready in time, and switch-root may end it; the kernel's log has its lines"
                    chunk = os.read(self._pipe, len(SEALED))
                    if not chunk:
                        return "it ended before it was ready; the kernel's log has its last lines"
                    said += chunk
        finally:
            os.close(self._pipe)
        return None


def leave_behind(sessions: Sequence[Session], roots: Roots, life: Life = _life) -> Fork:
    """Fork the keeper of ``sessions``. OSError when no process can be made."""
    reading, writing = os.pipe2(os.O_CLOEXEC)

    def live(_mask: Set[int]) -> NoReturn:
        status = 1
        try:
            os.close(reading)
            life(sessions, roots, writing)
            status = 0
        except BaseException:  # noqa: BLE001 - a fault of it is shown where its standard error leads, and ends it
            sys.excepthook(*sys.exc_info())
        finally:
            # Whatever happens, it must never return into iscsistart's code.
            os._exit(status)

    try:
        pid = fork(live)
    except OSError:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    return Fork(pid, reading)
