# SPDX-License-Identifier: LGPL-2.1-or-later
"""Kill a login after every one of its netlink requests, start again, and judge what the kernel holds. Root, in a guest.

    kill_steps.py ADDRESS:PORT TARGET LUN [--only N,N,...]

The target needs no authentication and has no LUN 99. The guest must have no session when this begins. Prints progress
on stderr and one JSON line on stdout: ``{"ok": true, "steps": 32, "failures": []}``; exit status 0 when ok. What is
judged:

* killed (SIGKILL) after request N, for every N; then started again: exactly one session, logged in, made anew before
  START_CONN and reused after it, with the block device;
* killed in the same places; then a second start that fails (no such LUN): no session left;
* SIGTERM in the middle: no session left, by the dying process itself;
* a session of a live process in mid-login is not touched;
* four threads at once make four sessions;
* a session whose connection broke and whose creator is gone is replaced, unless its disk is in use.

At the end no session is left. Writes a swap signature on the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from iscsiboot.errors import IscsiBootError, Stage
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.lun import Lun
from iscsiboot.model.portal import Portal, parse_ip
from iscsiboot.model.report import NullReport
from iscsiboot.netlink.socket import IscsiNetlink
from iscsiboot.session.attach import Attached, AttachRequest, attach, this_machine
from iscsiboot.session.leftovers import remove
from iscsiboot.session.steps import unbind
from iscsiboot.sysfs.sessions import LOGGED_IN, SessionView, list_sessions, read_transport
from tests.qemu.guest.attach_once import INITIATOR, CountingNetlink, Terminated, terminate

SYSFS = Path("/sys")
ABSENT_LUN = 99
SECONDS = 60.0


def say(text: str) -> None:
    """Progress, for whoever reads the console."""
    sys.stderr.write(f"{text}\n")


class Judge:
    """Collects what was not as it must be."""

    def __init__(self) -> None:
        self.failures: list[str] = []

    def expect(self, holds: bool, what: str) -> None:
        """Note ``what`` unless it holds."""
        if not holds:
            self.failures.append(what)
            say(f"FAILED: {what}")


def run(request: AttachRequest, *, kill_at: int = 0, hang_at: int = 0, announce: int | None = None) -> Attached:
    """One attach in this process."""
    CountingNetlink.prepare(kill_at=kill_at, hang_at=hang_at, announce=announce)
    environment = replace(this_machine(), open_netlink=lambda: CountingNetlink.open(now=time.monotonic))
    deadline = Deadline.after(SECONDS, now=time.monotonic(), reason="the disk")
    return attach(request, environment=environment, deadline=deadline, report=NullReport())


@contextmanager
def child(request: AttachRequest, *, kill_at: int = 0, hang_at: int = 0) -> Iterator[tuple[int, int]]:
    """A process attaching; gives its pid and the pipe it writes to when it hangs. Killed and reaped at the end."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.signal(signal.SIGTERM, terminate)
            run(request, kill_at=kill_at, hang_at=hang_at, announce=writer)
            status = 0
        except Terminated:
            status = 15
        finally:
            os._exit(status)
    os.close(writer)
    try:
        yield pid, reader
    finally:
        os.close(reader)
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def killed(request: AttachRequest, step: int) -> int:
    """Run a login that dies after request ``step``; its wait status."""
    with child(request, kill_at=step) as (pid, _):
        return os.waitpid(pid, 0)[1]


def log_out_all() -> None:
    """Remove every session, disks first."""
    transport = read_transport(SYSFS, "tcp")
    assert transport is not None
    with IscsiNetlink.open(now=time.monotonic) as netlink:
        for session in list_sessions(SYSFS):
            if session.state == LOGGED_IN:
                unbind(netlink, transport, session.sid, time.monotonic)
            remove(session, netlink=netlink, transport=transport, now=time.monotonic)


def summary(sessions: tuple[SessionView, ...]) -> str:
    """States and targets, for a message."""
    return str([(view.sid, view.state, view.target_name) for view in sessions])


def second_start_completes(request: AttachRequest, step: int, steps: int, judge: Judge) -> None:
    """Killed after ``step``, then a normal start."""
    status = killed(request, step)
    judge.expect(os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, f"step {step}: not killed")
    before = list_sessions(SYSFS)
    judge.expect(len(before) == 1, f"step {step}: after the kill {summary(before)}")
    try:
        attached = run(request)
    except IscsiBootError as error:
        judge.expect(False, f"step {step}: the second start failed: {error.line()}")
        return
    sessions = list_sessions(SYSFS)
    judge.expect([view.state for view in sessions] == [LOGGED_IN], f"step {step}: {summary(sessions)}")
    judge.expect(sessions[0].sid == attached.sid, f"step {step}: session {attached.sid} told, {summary(sessions)}")
    judge.expect(attached.reused == (step == steps), f"step {step}: reused is {attached.reused}")
    node = Path(attached.devices[0].path)
    judge.expect(stat.S_ISBLK(node.stat().st_mode), f"step {step}: {node} is no block device")
    with node.open("rb") as disk:
        judge.expect(len(disk.read(4096)) == 4096, f"step {step}: {node} does not read")


def second_start_fails(request: AttachRequest, step: int, steps: int, judge: Judge) -> None:
    """Killed after ``step``, then a start for a LUN that does not exist."""
    killed(request, step)
    try:
        run(replace(request, lun=Lun.from_number(ABSENT_LUN)))
        judge.expect(False, f"step {step}: LUN {ABSENT_LUN} was found")
    except IscsiBootError as error:
        judge.expect(error.stage is Stage.SCAN, f"step {step}: {error.line()}")
    left = list_sessions(SYSFS)
    # A healthy session found there is not this start's to remove.
    judge.expect(len(left) == (1 if step == steps else 0), f"step {step}, failing second start: {summary(left)}")


def terminated(request: AttachRequest, step: int, judge: Judge) -> None:
    """SIGTERM while the login stands after request ``step``."""
    with child(request, hang_at=step) as (pid, pipe):
        judge.expect(os.read(pipe, 1) == b"!", f"SIGTERM at {step}: the login did not get there")
        os.kill(pid, signal.SIGTERM)
        status = os.waitpid(pid, 0)[1]
    judge.expect(os.waitstatus_to_exitcode(status) == 15, f"SIGTERM at {step}: status {status:#x}")
    left = list_sessions(SYSFS)
    judge.expect(not left, f"SIGTERM at {step}: {summary(left)}")


def break_connection(request: AttachRequest) -> None:
    """Have the kernel lose the TCP connection; returns when the session has failed by it."""
    with IscsiNetlink.open(now=time.monotonic) as netlink:
        command = ["ss", "-K", "dst", str(request.portal.address), "dport", "=", str(request.portal.port)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        deadline = Deadline.after(20, now=time.monotonic(), reason="the connection to break")
        while any(view.state == LOGGED_IN for view in list_sessions(SYSFS)):
            if netlink.next_event(deadline) is None:
                return


def broken_one_is_replaced(request: AttachRequest, judge: Judge) -> None:
    """A session that worked, lost its connection, and whose creator is gone: a new one takes its place."""
    with child(request) as (pid, _):
        judge.expect(os.waitpid(pid, 0)[1] == 0, "broken: the first login failed")
    before = list_sessions(SYSFS)
    break_connection(request)
    broken = list_sessions(SYSFS)
    judge.expect([view.state for view in broken] == ["FAILED"], f"broken: not broken: {summary(broken)}")
    attached = run(request)
    sessions = list_sessions(SYSFS)
    judge.expect([view.state for view in sessions] == [LOGGED_IN], f"broken: replaced by {summary(sessions)}")
    judge.expect(not attached.reused and attached.sid != before[0].sid, f"broken: session {attached.sid} again")
    judge.expect(Path(attached.devices[0].path).exists(), "broken: no disk after it")


def broken_one_in_use_is_kept(request: AttachRequest, judge: Judge) -> None:
    """The same with a swap area of its disk in use: refused at once, nothing touched."""
    disk = run(request).devices[0].path
    subprocess.run(["mkswap", disk], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["swapon", disk], check=True)
    break_connection(request)
    before = list_sessions(SYSFS)
    try:
        run(request)
        judge.expect(False, "in use: the session was replaced under its swap")
    except IscsiBootError as error:
        judge.expect("is swap" in error.cause and not error.retryable, f"in use: {error.line()}")
    judge.expect(list_sessions(SYSFS) == before, f"in use: touched: {summary(list_sessions(SYSFS))}")
    # Nothing was swapped out, so this needs no I/O; with the swap on, the guest could not even power off.
    subprocess.run(["swapoff", disk], check=True)


def threads_do_not_disturb_each_other(request: AttachRequest, judge: Judge) -> None:
    """Several paths at once, each with an iface name of its own, in one process."""
    CountingNetlink.prepare()
    results: list[Attached | IscsiBootError] = []

    def one(number: int) -> None:
        mine = replace(request, iface_name=f"path{number}")
        deadline = Deadline.after(SECONDS, now=time.monotonic(), reason="the disk")
        try:
            results.append(attach(mine, environment=this_machine(), deadline=deadline, report=NullReport()))
        except IscsiBootError as error:
            results.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    judge.expect(all(isinstance(result, Attached) and not result.reused for result in results), f"threads: {results}")
    sessions = list_sessions(SYSFS)
    judge.expect([view.state for view in sessions] == [LOGGED_IN] * 4, f"threads: {summary(sessions)}")
    names = {view.iface_name for view in sessions}
    judge.expect(names == {f"path{number}" for number in range(4)}, f"threads: ifaces {names}")
    disks = {device.path for result in results if isinstance(result, Attached) for device in result.devices}
    judge.expect(len(disks) == 4, f"threads: disks {disks}")


def live_one_is_left_alone(request: AttachRequest, step: int, judge: Judge) -> None:
    """A second start while another process stands after request ``step``: the other's session survives."""
    with child(request, hang_at=step) as (_, pipe):
        os.read(pipe, 1)
        theirs = list_sessions(SYSFS)
        environment = replace(this_machine(), pause=lambda event, seconds: True)
        deadline = Deadline.after(SECONDS, now=time.monotonic(), reason="the disk")
        try:
            attach(request, environment=environment, deadline=deadline, report=NullReport())
        except IscsiBootError as error:
            judge.expect(error.retryable, f"live at {step}: {error.line()}")
        now = {view.sid for view in list_sessions(SYSFS)}
        judge.expect(theirs[0].sid in now, f"live at {step}: session {theirs[0].sid} was removed")


def main() -> int:
    """Run everything and print the verdict."""
    parser = argparse.ArgumentParser()
    parser.add_argument("portal")
    parser.add_argument("target")
    parser.add_argument("lun", type=int)
    parser.add_argument("--only", default="", help="kill after these requests only, and skip the other ends")
    options = parser.parse_args()
    host, _, port = options.portal.rpartition(":")
    request = AttachRequest(
        initiator_name=INITIATOR,
        target_name=options.target,
        portal=Portal(address=parse_ip(host), port=int(port)),
        lun=Lun.from_number(options.lun),
    )
    judge = Judge()
    judge.expect(not list_sessions(SYSFS), "there are sessions before anything was done")
    run(request)
    steps = CountingNetlink.count
    names = list(CountingNetlink.trace)
    log_out_all()
    judge.expect(not list_sessions(SYSFS), "logging out leaves sessions")
    chosen = [int(word) for word in options.only.split(",") if word] or list(range(1, steps + 1))
    # One step of each kind is enough where the kind decides and not the place.
    kinds = [] if options.only else sorted({names.index(name) + 1 for name in names} | {steps - 1, steps})
    for step in chosen:
        say(f"kill after {step}/{steps} {names[step - 1]}")
        second_start_completes(request, step, steps, judge)
        log_out_all()
    for step in kinds:
        say(f"other ends after {step}/{steps} {names[step - 1]}")
        second_start_fails(request, step, steps, judge)
        log_out_all()
        terminated(request, step, judge)
        log_out_all()
        if step < steps:
            live_one_is_left_alone(request, step, judge)
            log_out_all()
    say("several threads")
    threads_do_not_disturb_each_other(request, judge)
    log_out_all()
    say("broken sessions")
    broken_one_is_replaced(request, judge)
    log_out_all()
    broken_one_in_use_is_kept(request, judge)
    log_out_all()
    left = list_sessions(SYSFS)
    judge.expect(not left, f"at the end {summary(left)}")
    sys.stdout.write(json.dumps({"ok": not judge.failures, "steps": steps, "failures": judge.failures}) + "\n")
    return 1 if judge.failures else 0


if __name__ == "__main__":
    sys.exit(main())
