#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the booted system says about itself, written to the harness's virtio-serial port as one line of JSON.

Runs inside the machine under test after multi-user, from the root file system, with Debian's Python and nothing of
iscsiboot, so the code under test does not judge itself. Powers off afterwards unless the kernel argument
``iscsiboot.stay`` is given.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

PORT = Path("/dev/virtio-ports/iscsiboot.verdict")
SYS = Path("/sys")


def run(*argv: str) -> str:
    """Output of a command, empty when it fails."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def arguments() -> dict[str, str]:
    """The kernel command line as a dictionary; an argument without value maps to an empty string."""
    words = (word.partition("=") for word in Path("/proc/cmdline").read_text().split())
    return {key: value for key, _, value in words}


def root_mount() -> dict[str, str]:
    """Device number, source and file system of ``/`` (proc(5), mountinfo fields 3, 5, and those after ``-``)."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if fields[4] == "/":
            kind, source, options = after.split(" ", 2)
            return {"device": fields[2], "type": kind, "source": source, "options": options}
    return {}


def session_of(device: str) -> dict[str, str]:
    """The iSCSI session whose disk ``device`` (major:minor) is, from sysfs; empty when it is none."""
    path = (SYS / "dev/block" / device).resolve()
    session = next((part for part in path.parts if re.fullmatch(r"session\d+", part)), None)
    if session is None:
        return {}
    found = {"name": session, "disk": str(path), "lun": next(p for p in path.parts if p.count(":") == 3).split(":")[3]}
    for key in ("targetname", "state", "initiatorname", "username", "username_in"):
        found[key] = read(SYS / "class/iscsi_session" / session / key)
    connection = SYS / "class/iscsi_connection" / f"connection{session.removeprefix('session')}:0"
    for key in ("persistent_address", "persistent_port"):
        found[key] = read(connection / key)
    return found


def read(path: Path) -> str:
    """A sysfs value; empty when the kernel does not show it."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def kernel_said_at(words: str) -> float | None:
    """When the kernel first logged a line with these words (a regular expression), seconds since it started."""
    found = re.search(rf"^\[\s*([0-9.]+)\] .*{words}", run("dmesg"), re.MULTILINE)
    return float(found[1]) if found else None


def systemd_at(unit: str, stamp: str) -> float | None:
    """A time stamp of systemd in seconds since the kernel started; ``unit`` empty asks the manager itself."""
    value = run("systemctl", "show", "--value", "-p", stamp, *([unit] if unit else []))
    return int(value) / 1e6 if value.isdigit() and int(value) else None


def keepers() -> list[dict[str, Any]]:
    """Every process whose command line begins as the keeper's, and what the kernel shows of it."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
            if not words[0].startswith(b"@iscsiboot-keeper"):
                continue
            status = dict(re.findall(r"^(\w+):\s*(.*)$", (place / "status").read_text(), re.MULTILINE))
            keeper = {
                "pid": int(place.name),
                "argv0": words[0].decode(),
                "comm": status["Name"],
                "locked_kib": int(status["VmLck"].split()[0]),
                "resident_kib": int(status["VmRSS"].split()[0]),
                "switches": int(status["voluntary_ctxt_switches"]),
                "oom_score_adj": int((place / "oom_score_adj").read_text()),
                "cgroup": (place / "cgroup").read_text().strip(),
                "root": sorted(path.name for path in (place / "root").iterdir()),
                "mounts": [line.split()[4] for line in (place / "mountinfo").read_text().splitlines()],
                "files": sorted({str(path.readlink()) for path in (place / "fd").iterdir()}),
                "mapped": sorted({line.split()[5] for line in mapped_files(place)}),
            }
        except OSError:
            continue  # it ended meanwhile
        found.append(keeper)
    return found


def mapped_files(place: Path) -> list[str]:
    """Lines of ``maps`` about files of a file system that is there: none may be, the initramfs is deleted."""
    lines = (place / "maps").read_text().splitlines()
    return [line for line in lines if "/" in line and not line.endswith("(deleted)")]


def ask_keeper() -> dict[str, Any]:
    """Begin a hand-over and break it off before it is agreed: what the keeper would hand over, without secrets."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(20)
            link.connect("\0ISCSIBOOT_KEEPER")
            link.sendall(b'{"iscsiboot-keeper": 1, "want": "sessions"}\n')
            with link.makefile("rb") as answers:
                document = json.loads(answers.readline())["document"]
    except (OSError, ValueError, KeyError) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    sessions = document["sessions"]
    return {sid: one["request"]["target_name"] for sid, one in sessions.items()}


def collect() -> dict[str, Any]:
    """The whole verdict. ``boottime`` is last: the harness puts guest time and its own side by side with it."""
    root = root_mount()
    timeline = Path("/run/iscsiboot/timeline.jsonl")
    return {
        "nonce": arguments().get("iscsiboot.nonce", ""),
        "disk_nonce": read(Path("/etc/iscsiboot-disk")),
        "root": root,
        "session": session_of(root.get("device", "")),
        "sessions": len(list(SYS.glob("class/iscsi_session/session*"))),
        "cmdline": Path("/proc/cmdline").read_text().strip(),
        "kernel": Path("/proc/sys/kernel/osrelease").read_text().strip(),
        "ibft": run("sh", "-c", "dmesg | grep -o 'iBFT .*'"),
        "open_iscsi": run("dpkg-query", "-W", "-f", "${db:Status-Status}", "open-iscsi") not in ("", "not-installed"),
        "packages": len(run("dpkg-query", "-W").splitlines()),
        "timeline": timeline.read_text().splitlines() if timeline.exists() else [],
        "disk_attached_at": kernel_said_at(r"sd .*Attached SCSI disk"),
        # The first file system mounted: in the initramfs that is the root.
        "root_mounted_at": kernel_said_at(r"EXT4-fs \(\w+\): mounted filesystem"),
        "userspace_at": systemd_at("", "UserspaceTimestampMonotonic"),
        "multi_user_at": systemd_at("multi-user.target", "ActiveEnterTimestampMonotonic"),
        "failed": [line.split()[0] for line in run("systemctl", "--failed", "--plain", "--no-legend").splitlines()],
        "keepers": keepers(),
        "hand_over": ask_keeper(),
        # After that: a hand-over nobody agreed to changes nothing.
        "keepers_afterwards": [keeper["pid"] for keeper in keepers()],
        "state_files": sorted(path.name for path in Path("/run/iscsiboot/sessions").glob("*.json")),
        "boottime": time.clock_gettime(time.CLOCK_BOOTTIME),
    }


def main() -> None:
    """Report, then end the machine."""
    with PORT.open("wb", buffering=0) as port:
        port.write(json.dumps(collect()).encode() + b"\n")
    if "iscsiboot.stay" not in arguments():
        run("systemctl", "--no-block", "poweroff")


if __name__ == "__main__":
    main()
