# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsiboot status [--watch] [--json]``: who guards the sessions of this machine, and how they are.

Asks iscsid, else the guard that stands where it will be, else the kernel (:mod:`iscsiboot.toolkit.status_view`). A
watch outlives all of them: it goes on with whoever is there next.
"""

from __future__ import annotations

import argparse
import errno
import os
import select
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TextIO

from iscsiboot.errors import ExitCode, IscsiBootError, Stage, quoted
from iscsiboot.ipc.client import connect
from iscsiboot.keeper.handover import ask_status
from iscsiboot.keeper.values import Status
from iscsiboot.toolkit import status_render as render
from iscsiboot.toolkit.status_view import UP, Kind, Machine, View, look, status_of

ANSWER_SECONDS = 10.0
"""For iscsid to answer; it is never busy for so long."""
LOOK_SECONDS = 1.0
"""Between two looks when nobody tells changes: the kernel announces sessions that come and go, not how they are."""
GONE = "gone"
RUN = Path("/run/iscsiboot")
"""Where guards meet (:mod:`iscsiboot.keeper.meeting`)."""


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for."""

    watch: bool
    json: bool


@dataclass(frozen=True, slots=True)
class Watched:
    """What a watch needs beside the machine: who tells changes, the clock, and time that passes."""

    events: Callable[[], Iterator[object]]
    """Sessions as iscsid sends them, until an IscsiBootError ends it."""
    pause: Callable[[float], object]
    now: Callable[[], float] = time.time


def parser() -> argparse.ArgumentParser:
    """The parser, which the test of the manual page reads too."""
    made = argparse.ArgumentParser(
        prog="iscsiboot status",
        description="Who guards the iSCSI sessions of this machine, what they carry, and how they are.",
        epilog="The exit status is 0 when every session is connected and guarded, 20 when nobody guards them, 32 when "
        "one is not connected, and another of iscsiadm's when who guards cannot be asked.",
        exit_on_error=False,
        add_help=False,
        allow_abbrev=False,
    )
    made.add_argument("-h", "--help", action="store_true", help="show this help")
    made.add_argument("--watch", action="store_true", help="go on and tell changes, until it is interrupted")
    made.add_argument("--json", action="store_true", help="print JSON, schema in docs/status-json.md")
    return made


def parse(argv: Sequence[str]) -> Options | None:
    """The options, None when help is asked for. :class:`IscsiBootError` with exit code 7 otherwise."""
    try:
        given, unknown = parser().parse_known_args(list(argv))
    except argparse.ArgumentError as bad:
        raise _usage_error(str(bad)) from bad
    if given.help:
        return None
    if unknown:
        raise _usage_error(f"unknown argument {quoted(unknown[0])}")
    return Options(watch=given.watch, json=given.json)


def _usage_error(cause: str) -> IscsiBootError:
    return IscsiBootError(cause, stage=Stage.ARGUMENTS, hint="iscsiboot status --help", exit_code=ExitCode.INVAL)


def main(argv: Sequence[str], out: TextIO, err: TextIO) -> int:
    """The command without its name; the exit status."""
    options = parse(argv)
    if options is None:
        out.write(parser().format_help())
        return ExitCode.SUCCESS
    machine = this_machine(err)
    if options.watch:
        reader = _descriptor(out)
        watch(machine, Watched(partial(_events, reader), partial(_pause, reader)), render_json=options.json, out=out)
    view = look(machine)
    out.write(render.document(view) if options.json else render.text(view, time.time()))
    if view.guard.problem is not None:
        out.flush()
        err.write(f"iscsiboot status: {view.guard.problem.line()}\n")
    return exit_status(view)


def exit_status(view: View) -> ExitCode:
    """What monitoring asks: unguarded sessions before broken ones, those before what we cannot know."""
    guard = view.guard
    if guard.kind is Kind.NOBODY and view.sessions:
        return ExitCode.ISCSID_NOTCONN
    if any(status.phase != UP for status in view.sessions):
        return ExitCode.SESSION_NOT_CONNECTED
    if guard.kind is Kind.UNKNOWN and guard.problem is not None:
        return guard.problem.exit_code
    return ExitCode.SUCCESS


def this_machine(err: TextIO) -> Machine:
    """The machine this runs on."""

    def log(_: int, line: str) -> None:
        err.write(f"iscsiboot status: {line}\n")

    def keeper() -> Mapping[str, Any] | None:
        return ask_status(run=RUN, log=log)

    return Machine(ask_daemon=_ask, ask_keeper=keeper if os.geteuid() == 0 else None)


def _ask() -> Mapping[str, Any]:
    with connect(seconds=ANSWER_SECONDS) as client:
        return client.ask("status", seconds=ANSWER_SECONDS)


def _events(reader: int | None = None) -> Iterator[object]:
    with connect(seconds=ANSWER_SECONDS) as client:
        for event in client.watch(reader=reader):
            if event is not None:
                yield event.get("session")


def _descriptor(out: TextIO) -> int | None:
    """Where the lines go; None for a file that is only in memory."""
    try:
        return out.fileno()
    except OSError:
        return None


def _pause(reader: int | None, seconds: float) -> None:
    """Wait; BrokenPipeError when whoever reads our lines goes away meanwhile: the next one may be long in coming."""
    poll = select.poll()
    if reader is not None:
        poll.register(reader, 0)
    if poll.poll(seconds * 1000):
        raise BrokenPipeError(errno.EPIPE, "nobody reads what is written")


# Watching. ------------------------------------------------------------------------------------------------------------


def watch(machine: Machine, watched: Watched, *, render_json: bool, out: TextIO) -> NoReturn:
    """Show the view, then what changes; ends by an exception alone (an interruption, a reader that has gone)."""
    view = look(machine)
    out.write(render.document(view) if render_json else render.text(view, watched.now()))
    out.flush()
    log = _Log(view, watched.now, render_json=render_json, out=out)
    while True:
        if log.view.guard.kind is Kind.DAEMON:
            try:
                for said in watched.events():
                    if (status := status_of(said)) is not None:
                        log.session(status)
            except IscsiBootError:
                pass  # who guards now is what the next look shows
        watched.pause(LOOK_SECONDS)
        log.whole(look(machine))


class _Log:
    """What was shown last, and a line for each difference from it."""

    def __init__(self, view: View, now: Callable[[], float], *, render_json: bool, out: TextIO) -> None:
        self.view = view
        self._sessions = {status.sid: status for status in view.sessions}
        self._now = now
        self._json = render_json
        self._out = out

    def whole(self, view: View) -> None:
        """Another look: the guard and each session."""
        before, self.view = self.view, view
        if _identity(before) != _identity(view):
            self._write(
                render.event(self._now(), guard=render.guard_object(view.guard))
                if self._json
                else render.guard_change(view, self._clock(), self._now())
            )
        for status in view.sessions:
            self.session(status)
        for sid in set(self._sessions) - {status.sid for status in view.sessions}:
            self._forget(sid)

    def session(self, status: Status) -> None:
        """One session as it is now."""
        before = self._sessions.get(status.sid)
        if status.phase == GONE:
            if before is not None:
                self._forget(status.sid)
            return
        self._sessions[status.sid] = status
        if not self._json:
            self._write(render.change(before, status, self._clock()))
        elif before != status:
            self._write(render.event(self._now(), session=render.session_object(status)))

    def _forget(self, sid: int) -> None:
        before = self._sessions.pop(sid)
        self._write(render.event(self._now(), gone=sid) if self._json else render.gone(before, self._clock()))

    def _clock(self) -> str:
        return time.strftime("%H:%M:%S", time.localtime(self._now()))

    def _write(self, line: str | None) -> None:
        if line is not None:
            self._out.write(line.rstrip("\n") + "\n")
            self._out.flush()


def _identity(view: View) -> tuple[object, ...]:
    """What makes a guard another one."""
    return view.guard.kind, view.guard.pid, view.guard.ready
