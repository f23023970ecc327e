# SPDX-License-Identifier: LGPL-2.1-or-later
"""All paths at once: one login here, several in a child process each.

Why processes and not threads: a termination signal has to turn into an exception inside every login under way, so
that each undoes its half-made session, and Python delivers signals to one thread only. A fork after the imports
costs nothing, and a path that breaks down cannot take another one with it.

The rule for several: the boot goes on as soon as one path that firmware booted from has its disk; the others get
:data:`GRACE` seconds more and are then ended, which undoes them. One dead path never stops a boot.
"""

from __future__ import annotations

import os
import selectors
import signal
import sys
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field

from iscsiboot.boot.keeper import Session
from iscsiboot.boot.plan import PlannedPath
from iscsiboot.errors import ExitCode, IscsiBootError, Stage, printable
from iscsiboot.initiator.chap import ChapAlgorithm
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.report import Report
from iscsiboot.model.timeline import Mark
from iscsiboot.session.forking import ENDING_SIGNALS, fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn
else:
    NoReturn = object

GRACE = 10.0
"""Seconds the other paths have after the first boot disk is there."""
UNDO_TIME = 15.0
"""Seconds an ended path has for its undo before it is killed."""
_LINE_LIMIT = 16384

AttachPath = Callable[[PlannedPath, Report], Session | None]
"""Attaches one path or raises IscsiBootError; the session it made or found, None when there is none to tell of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PathResult:
    """How one path ended."""

    path: PlannedPath
    error: str | None
    """The one-line failure, None for success."""
    exit_code: ExitCode = ExitCode.SUCCESS
    session: Session | None = None
    """What is there now; None when the path failed."""


@dataclass(slots=True)
class _Child:
    path: PlannedPath
    pid: int
    pipe: int
    buffer: bytearray = field(default_factory=bytearray)
    session: Session | None = None
    result: PathResult | None = None
    closed: bool = False
    """Its end of the pipe is closed: it has ended, or is about to."""
    ended: bool = False
    """We told it to end; an end without a result is then no accident."""


class _PipeReport:
    """The report of a child: notes and marks travel to the parent as lines ``note TEXT`` and ``mark NAME DETAIL``.

    Its last lines are ``session SID TPGT`` (``-`` for an unknown tag) and ``done CODE`` or ``fail CODE LINE``.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def note(self, text: str) -> None:
        self.send("note", text)

    def mark(self, mark: Mark, detail: str = "") -> None:
        self.send("mark", f"{mark.name} {detail}")

    def send(self, kind: str, text: str) -> None:
        """One line, whole or not at all to the reader: it is shorter than PIPE_BUF."""
        try:
            os.write(self._descriptor, f"{kind} {printable(text)}"[:4000].encode("utf-8", "replace") + b"\n")
        except OSError:
            pass  # the parent is gone; the login goes on or is ended by the signal that took the parent


def run_one(path: PlannedPath, attach_path: AttachPath, report: Report) -> PathResult:
    """Attach a single path in this process."""
    try:
        session = attach_path(path, report)
    except IscsiBootError as error:
        return PathResult(path=path, error=error.line(), exit_code=error.exit_code)
    return PathResult(path=path, error=None, session=session)


def run_all(
    paths: Sequence[PlannedPath],
    attach_path: AttachPath,
    *,
    report: Report,
    deadline: Deadline,
    now: Callable[[], float],
) -> tuple[PathResult, ...]:
    """Attach every path concurrently; results in the order of ``paths``."""
    if len(paths) == 1:
        return (run_one(paths[0], attach_path, report),)
    children: list[_Child] = []
    try:
        for path in paths:
            _spawn(path, attach_path, children)
        _follow(children, report, deadline, now)
    finally:
        _end(children, report, now)
    return tuple(child.result or _without_result(child) for child in children)


def _without_result(child: _Child) -> PathResult:
    if child.ended:
        return PathResult(path=child.path, error=_ended_line(child.path), exit_code=ExitCode.TRANS_TIMEOUT)
    return PathResult(path=child.path, error=_died_line(child.path), exit_code=ExitCode.CHILD_TERMINATED)


def _ended_line(path: PlannedPath) -> str:
    return IscsiBootError(
        "ended before its disk was there, the boot goes on with another path",
        stage=Stage.LOGIN,
        subject=path.subject,
        hint="look at this target and its network; log in to it from the running system",
    ).line()


def _spawn(path: PlannedPath, attach_path: AttachPath, children: list[_Child]) -> None:
    """One child more; it is among ``children`` before a signal can lead away from here."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(reading, False)
    held = (reading, *(sibling.pipe for sibling in children))

    def born(pid: int) -> None:
        children.append(_Child(path=path, pid=pid, pipe=reading))

    try:
        fork(lambda mask: _be_child(mask, path, attach_path, writing, shut=held), born)
    except OSError:
        os.close(reading)
        raise
    finally:
        os.close(writing)


def _be_child(
    mask: Set[int], path: PlannedPath, attach_path: AttachPath, writing: int, *, shut: Sequence[int]
) -> NoReturn:
    """The whole life of a child; ``shut`` is what it got from its parent and shall not hold."""
    status = 1
    try:
        # The parent's handler is the child's, too: a signal is an exception in the login from here on.
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for descriptor in shut:
            os.close(descriptor)
        pipe = _PipeReport(writing)
        result = run_one(path, attach_path, pipe)
        # From here on the parent shall learn the result: an end now would deny a session that stands.
        for number in ENDING_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if result.session is not None:
            pipe.send("session", _numbers_of(result.session))
        pipe.send("done" if result.error is None else "fail", f"{int(result.exit_code)} {result.error or ''}")
        status = 0
    except KeyboardInterrupt:
        status = 2  # ended by the parent or by whoever ended both; the login has undone itself on the way here
    except BaseException:  # noqa: BLE001 - a bug is shown and stays in this process; the parent tells of the end
        sys.excepthook(*sys.exc_info())
    finally:
        # Whatever happens, a child must never return into the parent's code.
        sys.stderr.flush()
        os._exit(status)


def _follow(children: Sequence[_Child], report: Report, deadline: Deadline, now: Callable[[], float]) -> None:
    """Read the children's lines until all are done, or one boot disk is there and the grace is over."""
    with selectors.DefaultSelector() as selector:
        for child in children:
            selector.register(child.pipe, selectors.EVENT_READ, child)
        limit = deadline
        while selector.get_map():
            ready = selector.select(limit.remaining(now()))
            if not ready and limit.passed(now()):
                return
            for key, _ in ready:
                if not _read(key.data, report):
                    selector.unregister(key.fd)
                    key.data.closed = True
            if limit is deadline and any(_is_boot_disk(child) for child in children):
                limit = deadline.within(GRACE, now=now(), reason="the other paths")


def _is_boot_disk(child: _Child) -> bool:
    return child.path.boot_selected and child.result is not None and child.result.error is None


def _numbers_of(session: Session) -> str:
    """A session on the pipe; its request is known on both sides."""
    algorithm = None if session.algorithm is None else int(session.algorithm)
    return " ".join("-" if number is None else str(number) for number in (session.sid, session.tpgt, algorithm))


def _session_of(text: str, path: PlannedPath) -> Session:
    sid, tpgt, algorithm = (None if word == "-" else int(word) for word in text.split())
    if sid is None:
        raise ValueError("a session without its number")
    alone = None if algorithm is None else ChapAlgorithm(algorithm)
    return Session(sid=sid, tpgt=tpgt, request=path.request, algorithm=alone)


def _read(child: _Child, report: Report) -> bool:
    """Take what the child sent; False at its end. A line that is no line of ours is shown, not believed."""
    chunk = os.read(child.pipe, 65536)
    child.buffer += chunk
    *lines, rest = bytes(child.buffer).split(b"\n")
    child.buffer[:] = rest[-_LINE_LIMIT:]
    for raw in lines:
        kind, _, text = raw.decode("utf-8", "replace").partition(" ")
        if kind == "mark":
            name, _, detail = text.partition(" ")
            report.mark(Mark[name], detail)
        elif kind == "session":
            child.session = _session_of(text, child.path)
        elif kind in ("done", "fail"):
            code, _, error = text.partition(" ")
            child.result = PathResult(
                path=child.path, error=error or None, exit_code=ExitCode(int(code)), session=child.session
            )
        else:
            report.note(text)
    return bool(chunk)


def _died_line(path: PlannedPath) -> str:
    return IscsiBootError(
        "its process ended without a result",
        stage=Stage.LOGIN,
        subject=path.subject,
        hint="look for a traceback above, or for the kernel's out-of-memory killer in dmesg; report it",
    ).line()


def _end(children: Sequence[_Child], report: Report, now: Callable[[], float]) -> None:
    """Tell the unfinished to undo themselves, wait for that, kill what does not end; every child is reaped."""
    for child in children:
        if child.result is None and not child.closed:
            child.ended = True
            os.kill(child.pid, signal.SIGTERM)
    limit = Deadline.after(UNDO_TIME, now=now(), reason="the undo of unfinished paths")
    for child in children:
        descriptor = os.pidfd_open(child.pid)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(descriptor, selectors.EVENT_READ)
                if not selector.select(limit.remaining(now())):
                    report.note(f"{child.path.subject}: did not end in {UNDO_TIME:.0f} s, killed")
                    os.kill(child.pid, signal.SIGKILL)
        finally:
            os.close(descriptor)
            os.waitpid(child.pid, 0)
        while _read(child, report):
            pass
        os.close(child.pipe)
