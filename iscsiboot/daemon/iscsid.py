# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsid``: from a command line to a daemon at work, and back to an exit status.

Order: options, address and second instance, fork, pid file, log, hygiene, the loop (:mod:`iscsiboot.daemon.daemon`).
The address is bound before anything slow, so clients of a daemon that is being started wait instead of failing. Every
failure of the start is one line on standard error and status 1, also of a daemon in the background.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path

from iscsiboot.daemon.daemon import Daemon
from iscsiboot.daemon.holder import second_instance
from iscsiboot.daemon.holdoff import Lasting, hold
from iscsiboot.daemon.loop_log import take_complaints
from iscsiboot.daemon.notify import Notifier, forget, listening_socket
from iscsiboot.daemon.options import PROGRAM, Answered, Options, UsageError, parse
from iscsiboot.daemon.pidfile import NotWritten, PidFile
from iscsiboot.daemon.process import Parent, change_user, detach, lift_descriptors
from iscsiboot.daemon.settings import Places, read_settings
from iscsiboot.daemon.squatter import BACKLOG, squatter
from iscsiboot.database.record import COMPATIBLE
from iscsiboot.errors import ExitCode, IscsiBootError, Stage, printable
from iscsiboot.ipc import server
from iscsiboot.keeper import hygiene, seal
from iscsiboot.keeper.log import Level, Log
from iscsiboot.keeper.logring import LogRing
from iscsiboot.keeper.rights import Rights
from iscsiboot.keeper.sinks import KmsgSink, Sink, StreamSink, SyslogSink
from iscsiboot.session.machine import this_machine
from iscsiboot.session.values import Environment
from iscsiboot.session.workers import leave_standard_files


def main(
    argv: Sequence[str],
    *,
    program: str = PROGRAM,
    environ: MutableMapping[str, str],
    places: Places | None = None,
    environment: Environment | None = None,
) -> int:
    """One run; the exit status. The service manager's variables are taken out of ``environ``.

    ``places`` and ``environment`` are the machine; tests give another one.
    """
    began = time.monotonic()
    notifier = Notifier.from_environment(environ)
    status = _run(argv, environ, program=program, places=places, environment=environment)
    if status == ExitCode.SUCCESS or not notifier.supervised:
        return min(status, ExitCode.ERR)
    run = (places or Places()).run
    let_go(Path(run) / "iscsiboot")
    hold(run, began, notifier)
    return status


def let_go(run: Path) -> None:
    """Hold nothing any more, however the run failed: whoever stands behind this daemon waits for its connection's end
    and for the right to act, and must not wait until the process ends, too.
    """
    # The right first, which closing any descriptor of its file gives back: who loses the connection looks at it once.
    Rights.open(run, lambda *_: None).close()
    # What is collected later would close numbers that are somebody else's by then.
    gc.disable()
    hygiene.close_descriptors({0, 1, 2})


def _run(
    argv: Sequence[str],
    environ: MutableMapping[str, str],
    *,
    program: str,
    places: Places | None,
    environment: Environment | None,
) -> int:
    """The run itself; one of :class:`Lasting` tells a service manager more than 1 does."""
    try:
        options = parse(argv, COMPATIBLE, program=program)
    except Answered as answer:
        sys.stdout.write(answer.text)
        return ExitCode.SUCCESS
    except UsageError as error:
        sys.stderr.write(error.text)
        return Lasting.USAGE
    if os.geteuid():
        _say("only root may run it; next: use sudo, or systemctl start iscsid")
        return Lasting.NOPERM
    try:
        options = options.whole()
        handed = listening_socket(environ)
    except FileNotFoundError:
        _say("a path is not whole, and the folder it was started in is gone")
        return ExitCode.ERR
    except IscsiBootError as error:
        _say(error.line())
        return Lasting.CONFIG
    parent = Parent()
    try:
        # Closed at the end: clients of a daemon that failed are refused, or wait at the manager's socket for the next.
        with handed or _own_listener() or nullcontext() as listener:
            if not options.foreground:
                child, status = detach(_say)
                if child is None:
                    return status
                parent = child
            lift_descriptors()
            there = places or Places.of(options)
            machine = environment or this_machine(sysfs=Path(there.sysfs), proc=Path(there.proc))
            return _serve(options, listener, parent, environ, places=there, environment=machine)
    except IscsiBootError as error:
        _fail(parent, error.line())
    except OSError as error:
        _fail(parent, f"{error.strerror or error}")
    return ExitCode.ERR


def _say(line: str) -> None:
    sys.stderr.write(f"{PROGRAM}: {printable(line)}\n")


def _fail(parent: Parent, line: str) -> None:
    if not parent.failed(line):
        _say(line)


def _own_listener() -> socket.socket | None:
    """A socket of our own; None while a user's process has the address, IscsiBootError when it is another daemon's."""
    try:
        return server.listening_socket(backlog=BACKLOG)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise IscsiBootError(
                f"Can not bind IPC socket: {error.strerror}", stage=Stage.DAEMON, hint="look at the system's log"
            ) from error
        if squatter() is None:
            raise second_instance() from error
        return None


def _serve(
    options: Options,
    listener: socket.socket | None,
    parent: Parent,
    environ: MutableMapping[str, str],
    *,
    places: Places,
    environment: Environment,
) -> int:
    """Be the daemon until it is told to stop; the exit status. What fails before the log is open is raised."""
    notifier = Notifier.from_environment(environ)
    forget(environ)
    # Held until the process ends: the next one may begin when this one is really gone.
    with _pid_file(options, supervised=notifier.supervised) as problem:
        log = LogRing(*_sinks(options, environ), level=Level.DEBUG if options.debug else Level.INFO)
        if problem:
            log(Level.WARNING, problem)
        try:
            asyncio.run(_work(options, listener, parent, notifier, log, places=places, environment=environment))
        except IscsiBootError as error:
            line = error.line()
        except Exception as error:  # noqa: BLE001 - nobody but the log sees how a daemon ends
            line = f"a fault of this program ends it: {seal.fault_words(error)}; next: report this"
        else:
            return ExitCode.SUCCESS
        finally:
            log.flush()
        log(Level.ERROR, line)
        parent.failed(line)
        log.close()
        return ExitCode.ERR


@contextmanager
def _pid_file(options: Options, *, supervised: bool) -> Iterator[str]:
    """Hold the pid file meanwhile; what is wrong with it.

    One that was asked for has to be there. The usual one is for others' scripts: a full /run leaves no root unguarded.
    """
    path, problem = options.pid_file(supervised=supervised), ""
    with ExitStack() as held:
        try:
            if path is not None:
                held.enter_context(PidFile(path))
        except NotWritten as error:
            if options.pid is not None:
                raise
            problem = (
                f"{path} {error.cause}: scripts that look for it will think that this daemon does not run;"
                " next: make room there and restart the daemon, no session notices"
            )
        yield problem


def _sinks(options: Options, environ: Mapping[str, str]) -> tuple[Sink, ...]:
    """Syslog in the background; in the foreground the journal, or as the peer: what is only told on standard output."""
    if not options.foreground:
        return (SyslogSink(PROGRAM),)
    if _is_journal(environ):
        return (StreamSink(2, journal=True),)
    told = frozenset({Level.INFO})
    return StreamSink(1, levels=told), StreamSink(2, ident=PROGRAM, levels=frozenset(Level) - told)


def _is_journal(environ: Mapping[str, str]) -> bool:
    """Whether standard error leads to systemd's journal (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        state = os.fstat(2)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{state.st_dev}:{state.st_ino}"


def _open_log_of_standby() -> Log:
    """The kernel's log: it is the last that is there at a shutdown, and a child waits for it in our place.

    Our own streams are left: whoever reads them from a pipe waits for the daemon's end, not for the standby's.
    """
    leave_standard_files()
    return LogRing(KmsgSink(PROGRAM))


async def _work(
    options: Options,
    listener: socket.socket | None,
    parent: Parent,
    notifier: Notifier,
    log: LogRing,
    *,
    places: Places,
    environment: Environment,
) -> None:
    loop = asyncio.get_running_loop()
    log.attach(loop)
    take_complaints(log, loop.time)
    notifier.attach(loop)
    daemon = Daemon(
        places=places,
        settings=read_settings(places, partial(log, Level.NOTICE), partial(log, Level.WARNING)),
        environment=environment,
        log=log,
        open_log=_open_log_of_standby,
        notifier=notifier,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, daemon.stop)
    loop.add_signal_handler(signal.SIGHUP, daemon.reload)
    # Everything is loaded now: from here on no disk is needed.
    seal.preload()
    hygiene.harden(log, comm=PROGRAM, title=(sys.argv[0], *sys.argv[1:]))
    seal.seal(log)
    try:
        await daemon.start(listener)
        change_user(options.uid, options.gid, partial(log, Level.WARNING))
        log(Level.NOTICE, f"iSCSI daemon with pid={os.getpid()} started!")
        daemon.ready()
        parent.ready()
        await daemon.until_stopped()
    finally:
        await daemon.end()
        notifier.close()
