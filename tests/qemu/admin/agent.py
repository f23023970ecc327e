# SPDX-License-Identifier: LGPL-2.1-or-later
"""In the guest: run the script once a round and write what happened, one JSON object a step, to standard output.

A round is one implementation of iscsiadm. Before each section everything starts again: targets, the database, the
kernel's modules (so that session and host numbers begin at the same number) and the round's own iscsid.
Progress goes to standard error, which is the console.
"""

from __future__ import annotations

import json
import os
import select
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.qemu.admin.steps import Kind, Step, parse

ETC = Path("/etc/iscsi")
START = Path("/harness/start")
"""The database every section starts with, with the configuration."""
FIRMWARE = Path("/sys/firmware/acpi/tables")
"""Hidden, for a section that is not about it: the initiator's name of the firmware comes before the file's in ours."""
OUR_DAEMON, PEER_DAEMON = Path("/ours/sbin/iscsid"), Path("/peer/iscsid")
PROGRAM = Path("/usr/sbin/iscsiadm")
DATABASE = ("nodes", "send_targets", "static", "fw", "isns", "ifaces")
MODULES = ("iscsi_ibft", "iscsi_tcp", "libiscsi_tcp", "libiscsi", "scsi_transport_iscsi")
"""In the order they can be removed."""
OUT, ERR = Path("/tmp/out"), Path("/tmp/err")
PID_FILE = Path("/run/iscsid.pid")
SYSLOG = Path("/dev/log")
COMMAND_SECONDS = 150.0
STOP_SECONDS = 10.0
WAIT_SECONDS = 30.0
_VOLATILE = ("uevent", "exp_statsn", "creator")
"""Attributes that hold a process id or count what went over the wire."""


def note(text: str) -> None:
    """A line for the console."""
    sys.stderr.write(f"guest: {text}\n")
    sys.stderr.flush()


def emit(record: dict[str, Any]) -> None:
    """A line for the host."""
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


def hear_daemons() -> None:
    """What the daemons say to syslog, on the console: without it nobody would know why one did what it did."""
    SYSLOG.unlink(missing_ok=True)
    ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ear.bind(str(SYSLOG))

    def repeat() -> None:
        while True:
            said = ear.recv(8192).decode(errors="replace").rstrip("\n\0")
            sys.stderr.write(f"daemon: {time.monotonic():.2f} {said}\n")

    threading.Thread(target=repeat, name="syslog", daemon=True).start()


class RoundFailed(Exception):
    """A preparation failed or the guest could not be put into its starting state."""


# -- the database as values -------------------------------------------------------------------------------------------


def database() -> dict[str, list[str]]:
    """Path below /etc/iscsi -> [kind, mode, content or link target], for everything of the database."""
    found: dict[str, list[str]] = {}
    pending = [ETC / name for name in DATABASE]
    while pending:
        path = pending.pop()
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        mode = oct(stat.S_IMODE(status.st_mode))
        name = str(path.relative_to(ETC))
        if stat.S_ISDIR(status.st_mode):
            found[name] = ["directory", mode, ""]
            pending += list(path.iterdir())
        elif stat.S_ISLNK(status.st_mode):
            found[name] = ["link", "", str(path.readlink())]
        else:
            found[name] = ["file", mode, path.read_text(errors="surrogateescape")]
    return found


def changes(before: dict[str, list[str]], after: dict[str, list[str]]) -> dict[str, list[str] | None]:
    """What of ``after`` is new or other than ``before``; None for what is gone."""
    found: dict[str, list[str] | None] = {name: entry for name, entry in after.items() if before.get(name) != entry}
    found.update({name: None for name in before if name not in after})
    return dict(sorted(found.items()))


# -- what the kernel shows --------------------------------------------------------------------------------------------


def _attributes(directory: Path) -> Iterator[str]:
    for path in sorted(directory.iterdir()):
        if not path.is_file() or path.is_symlink() or path.name in _VOLATILE:
            continue
        try:
            text = path.read_text(errors="replace").strip()
        except OSError as error:
            text = f"({error.strerror})"
        yield f"{path.name}={text}"


def kernel() -> str:
    """Hosts, sessions and connections with their attributes, and the SCSI devices: one item a line."""
    lines: list[str] = []
    for kind in ("iscsi_host", "iscsi_session", "iscsi_connection"):
        top = Path("/sys/class") / kind
        for device in sorted(top.iterdir()) if top.exists() else ():
            lines += [f"{kind} {device.name} {text}" for text in _attributes(device)]
    for device in sorted(Path("/sys/class/scsi_device").glob("*")):
        blocks = [path.name for path in (device / "device/block").glob("*")]
        depth = (device / "device/queue_depth").read_text().strip()
        lines.append(f"scsi_device {device.name} block={','.join(blocks)} queue_depth={depth}")
    return "".join(f"{line}\n" for line in lines)


def logged_in() -> int:
    """Sessions the kernel says are logged in."""
    states = (path.read_text().strip() for path in Path("/sys/class/iscsi_session").glob("*/state"))
    return sum(state == "LOGGED_IN" for state in states)


def sessions() -> dict[str, list[Any]]:
    """Session number -> target, address, port, interface, host number, {disk: LUN}."""
    found: dict[str, list[Any]] = {}
    for session in Path("/sys/class/iscsi_session").glob("session*"):
        number = session.name.removeprefix("session")
        connection = Path("/sys/class/iscsi_connection", f"connection{number}:0")
        host = next(part for part in session.resolve().parts if part.startswith("host"))
        disks = {path.name: path.parts[-3].rsplit(":")[-1] for path in session.glob("device/target*/*/block/*")}
        try:
            texts = [session / "targetname", connection / "persistent_address", connection / "persistent_port"]
            texts.append(session / "ifacename")
            found[number] = [*(path.read_text().strip() for path in texts), host.removeprefix("host"), disks]
        except OSError:
            continue  # on its way in or out: a login nobody waited for
    return found


def wait_sessions(count: int) -> None:
    """Until ``count`` sessions are logged in; RoundFailed when it takes too long."""
    ends = time.monotonic() + WAIT_SECONDS
    while logged_in() != count:
        if time.monotonic() > ends:
            raise RoundFailed(f"{logged_in()} sessions instead of {count}")
        # A class of sysfs tells nobody that it changed, and this is a test's guest.
        time.sleep(0.1)


# -- running ----------------------------------------------------------------------------------------------------------


def stuck() -> str:
    """What each process of an initiator is doing, for who asks why a command does not end."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            if "iscsi" not in line:
                continue
            state, parent, *_ = (place / "stat").read_text().rpartition(")")[2].split()
            waits = (place / "stack").read_text().split("\n")[:4]
            files = [f"{path.name}={path.readlink()}" for path in (place / "fd").iterdir()]
        except OSError:
            continue  # it has ended meanwhile
        found.append(f"{place.name} of {parent} ({line[:80]}): {state} {waits} {files}")
    return " | ".join(found)


def run(argv: list[str], *, seconds: float = COMMAND_SECONDS) -> tuple[str, str, int | str, float]:
    """Standard output, standard error, exit status (or "timeout") and seconds."""
    started = time.monotonic()
    with (
        OUT.open("wb+") as out,  # files: a daemon the command leaves behind would keep a pipe open
        ERR.open("wb+") as err,
        subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True) as child,
    ):
        status: int | str
        try:
            status = child.wait(seconds)
        except subprocess.TimeoutExpired:
            note(f"{' '.join(argv)}: not done; {stuck()}")
            os.killpg(child.pid, signal.SIGKILL)
            status = "timeout"
        spent = time.monotonic() - started
        out.seek(0)
        err.seek(0)
        return out.read().decode(errors="replace"), err.read().decode(errors="replace"), status, spent


def shell(words: str) -> None:
    """A preparation; RoundFailed when it does not succeed."""
    out, err, status, _ = run(["sh", "-c", words])
    if status != 0:
        raise RoundFailed(f"{words}: {status}: {out} {err}".strip())


def stop_daemon() -> None:
    """End the round's daemon, which left its process id in a file, and wait until it is gone."""
    try:
        descriptor = os.pidfd_open(int(PID_FILE.read_text().split()[0]))
    except (FileNotFoundError, IndexError, ValueError, ProcessLookupError):
        PID_FILE.unlink(missing_ok=True)
        return
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        if not select.select([descriptor], [], [], STOP_SECONDS)[0]:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            select.select([descriptor], [], [])
    finally:
        os.close(descriptor)
    PID_FILE.unlink(missing_ok=True)


class Round:
    """One implementation going through the script."""

    def __init__(self, name: str, program: Path, daemon: Path) -> None:
        self._name = name
        self._program = program
        self._daemon = daemon
        self._section = ""
        self._tree: dict[str, list[str]] = {}

    def play(self, steps: list[Step]) -> None:
        """Every step, its result to the host."""
        self._install()
        broken = ""
        for step in steps:
            if step.section == broken:
                continue
            try:
                if step.section != self._section:
                    self._begin(step.section)
                self._step(step)
            except RoundFailed as failure:
                # The rest of the section would only repeat this failure in other words.
                broken = step.section
                note(f"{self._name}: {step.section}: {failure}")
                emit({"round": self._name, "line": step.line, "words": step.words, "failed": str(failure)})
        self._clean()

    def _install(self) -> None:
        """Have the round's program found as ``iscsiadm``."""
        PROGRAM.unlink(missing_ok=True)
        PROGRAM.symlink_to(self._program)

    def _begin(self, section: str) -> None:
        started = time.monotonic()
        self._section = section
        self._clean()
        for path in ETC.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        shutil.copytree(START, ETC, dirs_exist_ok=True)
        self._tree = database()
        self._get_ready()
        note(f"{self._name}: {section} (ready in {time.monotonic() - started:.1f} s)")

    def _get_ready(self) -> None:
        """The kernel's modules, the daemon, and no firmware."""
        shell(f"modprobe iscsi_tcp; mountpoint -q {FIRMWARE} || mount -t tmpfs none {FIRMWARE}")
        shell(str(self._daemon))

    def _clean(self) -> None:
        """No session, no daemon, no modules: whatever the section left behind."""
        if any(Path("/sys/class").glob("iscsi_session/*")):
            note(f"{self._name}: {self._section} left sessions behind")
            self._end_sessions()
        stop_daemon()
        for module in MODULES:
            if Path("/sys/module", module).exists():
                shell(f"rmmod {module}")

    def _end_sessions(self) -> None:
        """Log out of everything with the peer's programs, whoever logged in: its daemon takes any session over."""
        stop_daemon()
        run([str(PEER_DAEMON)])
        ends = time.monotonic() + WAIT_SECONDS
        while any(Path("/sys/class").glob("iscsi_session/*")):
            if time.monotonic() > ends:
                raise RoundFailed("sessions of the section before cannot be ended")
            run(["/peer/iscsiadm", "-m", "session", "-u"])
            time.sleep(0.5)  # it refuses while it takes the session over
        stop_daemon()

    def _stop_daemon(self) -> None:
        stop_daemon()

    def _step(self, step: Step) -> None:
        if step.kind is Kind.PREPARE:
            shell(step.words)
            self._tree = database()
            return
        if step.kind is Kind.ACTION:
            self._action(step)
            return
        argv = shlex.split(step.words) if step.kind is Kind.COMMAND else ["sh", "-c", step.words]
        out, err, status, spent = run(argv)
        tree = database()
        changed = changes(self._tree, tree)
        self._tree = tree
        self._result(step, stdout=out, stderr=err, status=status, seconds=round(spent, 2), tree=changed)

    def _action(self, step: Step) -> None:
        action, _, rest = step.words.partition(" ")
        if action == "sessions":
            wait_sessions(int(rest))
        elif action == "stop":
            self._stop_daemon()
        elif action == "kernel":
            self._result(step, stdout=kernel())
        else:
            count = sum(entry[0] == "file" and name.startswith("nodes/") for name, entry in database().items())
            self._result(step, stdout=f"{count}\n")

    def _result(self, step: Step, **said: Any) -> None:
        emit({"round": self._name, "line": step.line, "words": step.words, "sessions": sessions(), **said})


def main() -> int:
    """Rounds from the command line (``peer``, ``ours``, ``control``), and after ``--`` the only sections to play.

    A section's name has "_" for its blanks.
    """
    rounds, _, sections = " ".join(sys.argv[1:]).partition("--")
    wanted = [section.replace("_", " ") for section in sections.split()]
    steps = parse(Path("/harness/script.txt").read_text())
    if wanted:
        steps = [step for step in steps if step.section in wanted]
    programs = {
        "peer": (Path("/peer/iscsiadm"), Path("/peer/iscsid")),
        "control": (Path("/peer/control"), Path("/peer/iscsid")),
        "ours": (Path("/ours/sbin/iscsiadm"), OUR_DAEMON),
    }
    hear_daemons()
    for name in rounds.split():
        started = time.monotonic()
        # The control is only there to be found out: the first section is enough for it.
        played = [step for step in steps if step.section == steps[0].section] if name == "control" else steps
        Round(name, *programs[name]).play(played)
        note(f"{name}: done in {time.monotonic() - started:.0f} s")
    emit({"end": Path("/harness/nonce").read_text()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
