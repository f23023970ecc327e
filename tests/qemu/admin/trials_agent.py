# SPDX-License-Identifier: LGPL-2.1-or-later
"""In the guest: what happens to our iscsiadm in bad moments. One JSON object a trial on standard output.

A trial says what it saw; :mod:`tests.qemu.test_admin_trials` judges it. The target is tgt in a network namespace of its
own: stopped by a signal it takes connections and answers nothing, its cable can be pulled, and it can be killed.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.qemu.admin.agent import emit, note, run

IQN = "iqn.2026-01.org.example:"
PORTAL = "10.2.0.2:3260"
PROGRAM = "/ours/sbin/iscsiadm"
CONF = Path("/etc/iscsi/iscsid.conf")
CONTROL = "9"
TARGETS = {"one": 1, "two": 2, "empty": 0}  # how many disks each has
LOGIN_SECONDS = 10
"""Login timeout of the records; an attempt begins within that time, or none."""
PINGS = ("node.conn[0].timeo.noop_out_interval", "node.conn[0].timeo.noop_out_timeout")
"""Rare by default, or a target that is silent for a trial breaks sessions as well."""
WAIT_SECONDS = 60.0
OUT, ERR = Path("/tmp/held-out"), Path("/tmp/held-err")

Seen = dict[str, Any]


class TrialFailed(Exception):
    """The guest could not be put into the state a trial begins with."""


# -- what there is ----------------------------------------------------------------------------------------------------


def text_of(path: Path) -> str:
    """An attribute of sysfs, empty when it is not there (any more)."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def kernel() -> Seen:
    """Sessions as "TARGET STATE", how many hosts and connections there are, and the disks."""
    top = Path("/sys/class/iscsi_session")
    sessions = (f"{text_of(each / 'targetname')} {text_of(each / 'state')}" for each in top.glob("session*"))
    return {
        "sessions": sorted(sessions),
        "hosts": len(list(Path("/sys/class/iscsi_host").glob("*"))),
        "connections": len(list(Path("/sys/class/iscsi_connection").glob("*"))),
        "disks": sorted(path.name for path in Path("/sys/block").glob("sd*")),
    }


def until(what: str, there: Callable[[], bool]) -> None:
    """Wait for what nobody tells of: a class of sysfs, a daemon that is no service. TrialFailed when it is late."""
    ends = time.monotonic() + WAIT_SECONDS
    while not there():
        if time.monotonic() > ends:
            raise TrialFailed(f"{what}: not within {WAIT_SECONDS:g} s; there is {kernel()}")
        time.sleep(0.05)


# -- commands ---------------------------------------------------------------------------------------------------------


def tool(*words: str) -> Seen:
    """One run of ours to its end."""
    out, err, status, spent = run([PROGRAM, *words])
    return {"words": " ".join(words), "out": out, "err": err, "status": status, "seconds": round(spent, 1)}


def good(*words: str) -> Seen:
    """A run that prepares something; TrialFailed when it does not succeed."""
    done = tool(*words)
    if done["status"] != 0:
        raise TrialFailed(str(done))
    return done


def shell(words: str) -> str:
    """A preparation of the system; TrialFailed with its words when it does not succeed."""
    out, err, status, _ = run(["sh", "-c", words])
    if status != 0:
        raise TrialFailed(f"{words}: {status}: {out} {err}".strip())
    return out


def node(name: str, *words: str) -> tuple[str, ...]:
    """The arguments of node mode for one of the targets."""
    return ("-m", "node", "-T", IQN + name, "-p", PORTAL, *words)


def pings(seconds: str) -> list[str]:
    """The arguments of an update that has the kernel ask the target this often, "0" for never."""
    return [word for name in PINGS for word in ("-n", name, "-v", seconds)]


class Held:
    """A command that is at work. A pipe nobody writes to tells when the last process of it is gone."""

    def __init__(self, *words: str) -> None:
        self._reading, writing = os.pipe()
        self._began = time.monotonic()
        with OUT.open("wb") as out, ERR.open("wb") as err:
            self._child = subprocess.Popen(
                [PROGRAM, *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                pass_fds=(writing,),
            )
        os.close(writing)

    def signal(self, number: signal.Signals, *, everyone: bool) -> None:
        """Send it, to the whole group as a terminal does, or to the command alone."""
        (os.killpg if everyone else os.kill)(self._child.pid, number)
        self._began = time.monotonic()

    def status(self) -> int:
        """How it ended; negative is the number of the signal."""
        return self._child.wait(WAIT_SECONDS)

    def gone(self) -> float:
        """Wait for the end of every process of it; seconds since the signal."""
        if not select.select([self._reading], [], [], WAIT_SECONDS)[0]:
            raise TrialFailed("processes of the command are still there")
        os.close(self._reading)
        return round(time.monotonic() - self._began, 1)


# -- the target -------------------------------------------------------------------------------------------------------


class Target:
    """tgt in its namespace."""

    def __init__(self) -> None:
        argv = ["ip", "netns", "exec", "storage", "tgtd", "-f", "-C", CONTROL, "--iscsi", f"portal={PORTAL}"]
        # ip becomes tgtd, so the process id is tgtd's own.
        self._child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=sys.stderr)
        until("tgtd", lambda: run(["sh", "-c", f"{self.admin} --mode target --op show"])[2] == 0)
        for tid, (name, disks) in enumerate(TARGETS.items(), 1):
            shell(f"{self.admin} --mode target --op new --tid {tid} --targetname {IQN}{name}")
            for lun in range(1, disks + 1):
                disk = f"/disks/{name}-{lun}"
                shell(f"truncate -s 16M {disk}")
                unit = f"--mode logicalunit --op new --tid {tid} --lun {lun} --backing-store {disk}"
                shell(f"{self.admin} {unit}")
            shell(f"{self.admin} --mode target --op bind --tid {tid} --initiator-address ALL")

    @property
    def admin(self) -> str:
        """The command that configures it."""
        return f"tgtadm -C {CONTROL} --lld iscsi"

    @contextmanager
    def silent(self) -> Iterator[None]:
        """It takes connections and requests, and answers none of them until the end."""
        self._child.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._child.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """At once, as a machine that loses its power but not its network."""
        self._child.kill()
        self._child.wait()


@contextmanager
def cable_out() -> Iterator[None]:
    """No carrier on either end until the end of the block."""
    shell("ip -n storage link set port down")
    try:
        yield
    finally:
        shell("ip -n storage link set port up")


# -- the trials -------------------------------------------------------------------------------------------------------


def interrupted(target: Target, number: signal.Signals, *, everyone: bool, answers: bool) -> Seen:
    """A signal in the middle of a login whose answer is held back; then the same login again, and its end.

    ``answers``: the target answers as soon as the signal is sent, and not only when all processes are gone.
    """
    with target.silent():
        held = Held(*node("one", "-l"))
        until("half a session", lambda: f"{IQN}one FREE" in kernel()["sessions"])
        seen: Seen = {"during": kernel()}
        held.signal(number, everyone=everyone)
        seen["status"] = held.status()
        if not answers:
            seen |= {"gone": held.gone(), "after": kernel(), "listed": tool("-m", "session")}
    if answers:
        seen |= {"gone": held.gone(), "after": kernel()}
    seen |= {"out": OUT.read_text(), "err": ERR.read_text()}
    seen |= {"again": tool(*node("one", "-l", "--wait-device")), "then": kernel()}
    return {**seen, "logout": tool(*node("one", "-u")), "last": kernel()}


def ctrl_c(target: Target) -> Seen:
    """Ctrl-C at a terminal: every process of the command has it."""
    return interrupted(target, signal.SIGINT, everyone=True, answers=False)


def hangup(target: Target) -> Seen:
    """The terminal goes away."""
    return interrupted(target, signal.SIGHUP, everyone=True, answers=False)


def killed_whole(target: Target) -> Seen:
    """SIGKILL for everything: nobody can clean up."""
    return interrupted(target, signal.SIGKILL, everyone=True, answers=False)


def killed_command(target: Target) -> Seen:
    """SIGKILL for the command alone: its login goes on, as open-iscsi's daemon would."""
    return interrupted(target, signal.SIGKILL, everyone=False, answers=True)


def ctrl_c_of_two(target: Target) -> Seen:
    """Ctrl-C when one of three sessions is there already: that one stays, and the document says what became of each."""
    good(*node("two", "-l"))
    with target.silent():
        held = Held("-m", "node", "-L", "all", "--json")
        until("half a session", lambda: f"{IQN}one FREE" in kernel()["sessions"])
        held.signal(signal.SIGINT, everyone=True)
        seen = {"status": held.status(), "gone": held.gone(), "after": kernel()}
    return {**seen, "out": OUT.read_text(), "err": ERR.read_text(), "logout": tool("-m", "session", "-u")}


def logout_without_cable(target: Target) -> Seen:
    """The cable is pulled, then somebody logs out: with the record's pings, and without them by ``--timeout``."""
    good(*node("one", "-o", "update", *pings("2")))
    good(*node("one", "-l", "--wait-device"))
    with cable_out():
        seen: Seen = {"pings": tool(*node("one", "-u", "-d", "1")), "after pings": kernel()}
    good(*node("one", "-o", "update", *pings("0")))
    good(*node("one", "-l", "--wait-device"))
    with cable_out():
        seen["bounded"] = tool(*node("one", "-u", "--timeout", "3", "-d", "1"))
        seen["after bounded"] = kernel()
    return {**seen, "again": tool(*node("one", "-l")), "logout": tool(*node("one", "-u"))}


def wait_device(target: Target) -> Seen:
    """The names of the disks are there when the command is over; a target without disks."""
    seen: Seen = {"login": tool(*node("two", "-l", "--wait-device"))}
    seen["names"] = sorted(str(path) for path in Path("/dev/disk/by-path").glob(f"*{IQN}two*"))
    seen["empty"] = tool(*node("empty", "-l", "--wait-device", "--timeout", "20"))
    return {**seen, "left": kernel()["sessions"], "logout": tool("-m", "node", "-U", "all")}


def documents(target: Target) -> Seen:
    """``--json`` of everything that makes, asks and ends sessions."""
    return {
        "login": tool(*node("two", "-l", "--wait-device", "--json")),
        "all": tool("-m", "node", "-L", "all", "--wait-device", "--json"),
        "rescan": tool(*node("two", "-R", "--json")),
        "rescan all": tool("-m", "session", "-R", "--json"),
        "logout": tool(*node("two", "-u", "--json")),
        "logout all": tool("-m", "node", "-U", "all", "--json"),
        "nothing": tool("-m", "session", "-u", "--json"),
    }


def no_wait(target: Target) -> Seen:
    """``-W`` is over before the target has answered; the session comes later."""
    with target.silent():
        seen: Seen = {"login": tool(*node("one", "-l", "-W"))}
        until("half a session", lambda: f"{IQN}one FREE" in kernel()["sessions"])
    until("the session", lambda: kernel()["sessions"] == [f"{IQN}one LOGGED_IN"])
    until("its disk", lambda: kernel()["disks"] == ["sda"])
    seen["sent"] = tool(*node("empty", "-l", "-W", "--json"))
    until("both sessions", lambda: kernel()["sessions"] == [f"{IQN}{name} LOGGED_IN" for name in ("empty", "one")])
    return {**seen, "logout": tool("-m", "node", "-U", "all"), "last": kernel()}


def number_of(name: str) -> str:
    """The session number of a target."""
    for path in Path("/sys/class/iscsi_session").glob("session*"):
        if text_of(path / "targetname") == IQN + name:
            return path.name.removeprefix("session")
    raise TrialFailed(f"no session to {name}")


def disk_of(name: str, lun: int = 1) -> str:
    """The disk of a target."""
    return str(Path(f"/dev/disk/by-path/ip-{PORTAL}-iscsi-{IQN}{name}-lun-{lun}").resolve())


def guard(target: Target) -> Seen:
    """/var on one session, swap on another, nothing on a third: who ends which, and what says so."""
    for name in ("one", "two"):
        good(*node(name, "-l", "--wait-device"))
    good(*node("empty", "-l"))
    var, swap = disk_of("one"), disk_of("two", 2)
    shell(f"mke2fs -q -t ext4 {var} && mount {var} /var && mkswap {swap} && swapon {swap}")
    seen: Seen = {"all": tool("-m", "node", "-U", "all", "--json"), "left": kernel()["sessions"]}
    seen["var"] = tool(*node("one", "-u"))
    seen["swap"] = tool("-m", "session", "-r", number_of("two"), "-u")
    seen["still"] = kernel()["sessions"]
    shell("swapoff -a")
    seen["no swap"] = tool(*node("two", "-u"))
    seen["force"] = tool(*node("one", "-u", "--force"))
    seen["after force"] = kernel()
    shell("umount -l /var")
    return seen


def safe_logout(target: Target) -> Seen:
    """``iscsid.safe_logout``: any mounted file system keeps its session, without it a data disk does not."""
    good(*node("one", "-l", "--wait-device"))
    disk = disk_of("one")
    shell(f"mke2fs -q -t ext4 {disk} && mount {disk} /mnt")
    before = CONF.read_text()
    CONF.write_text(f"{before}\niscsid.safe_logout = Yes\n")
    seen: Seen = {"kept": tool(*node("one", "-u")), "left": kernel()["sessions"]}
    CONF.write_text(before)
    seen |= {"ended": tool(*node("one", "-u")), "after": kernel()}
    shell("umount -l /mnt")
    return seen


def target_killed(target: Target) -> Seen:
    """The target is gone for good: the end of its session, and a login to where it was."""
    good(*node("one", "-l", "--wait-device"))
    target.kill()
    seen: Seen = {"logout": tool(*node("one", "-u")), "after": kernel()}
    return {**seen, "login": tool(*node("one", "-l", "--json")), "last": kernel()}


TRIALS: tuple[Callable[[Target], Seen], ...] = (
    ctrl_c,
    hangup,
    killed_whole,
    killed_command,
    ctrl_c_of_two,
    logout_without_cable,
    wait_device,
    documents,
    no_wait,
    guard,
    safe_logout,
    target_killed,
)


def prepare() -> Target:
    """The target, the records, short times."""
    with CONF.open("a") as file:
        file.write(f"\nnode.conn[0].timeo.login_timeout = {LOGIN_SECONDS}\nnode.session.initial_login_retry_max = 1\n")
        file.write("".join(f"{name} = 60\n" for name in PINGS))
    target = Target()
    for name in TARGETS:
        good("-m", "node", "-o", "new", "-T", IQN + name, "-p", f"{PORTAL},1")
    return target


def main() -> int:
    """Every trial, then the nonce; with words, only those trials."""
    target = prepare()
    for trial in TRIALS:
        if sys.argv[1:] and trial.__name__ not in sys.argv[1:]:
            continue
        started = time.monotonic()
        try:
            said = trial(target)
        except Exception as error:  # noqa: BLE001  # the trials after it shall run, and its fault is the finding
            traceback.print_exc()
            said = {"failed": f"{type(error).__name__}: {error}"}
            if kernel()["sessions"]:
                tool("-m", "session", "-u", "--force")
        spent = time.monotonic() - started
        note(f"{trial.__name__}: {'failed' if 'failed' in said else 'done'} in {spent:.0f} s; left: {kernel()}")
        emit({"check": trial.__name__, "took": round(spent, 1), **said})
    emit({"end": Path("/harness/nonce").read_text()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
