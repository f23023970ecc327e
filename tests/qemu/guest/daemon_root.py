# SPDX-License-Identifier: LGPL-2.1-or-later
"""In the booted root on iSCSI: its daemon is killed, restarted, cut off and starved while root is written to.

Runs after multi-user when the kernel's command line has ``iscsiboot.daemon-trials``. The harness and this agent talk
over the verdict port, a line of JSON each way: ``{"please": "cut", "seconds": 5}`` is answered when it is done. The
result is ``{"result": {...}}``, after which the machine is powered off.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.qemu.daemon.load import BLOCK, BLOCKS, Load
from tests.qemu.guest import daemon_units as units
from tests.qemu.guest.daemon_machine import (
    ASK_SECONDS,
    Harness,
    Seen,
    guards,
    is_ready,
    journal,
    next_daemon,
    output,
    pid_of_the_daemon,
    since,
    state,
    stuck,
    trouble,
    until,
    up,
    words,
)
from tests.qemu.guest.daemon_trials import Trials

PORT = Path("/dev/virtio-ports/iscsiboot.verdict")
PLACE, LAST = Path("/root/load"), Path("/root/last")
LAST_LINES = 100_000
UNDISTURBED_SECONDS, STORY_SECONDS = 5.0, 4.0


def loaded(*trials: Callable[[], Seen]) -> Seen:
    """What trials saw with one load over all of them, and what became of the load."""
    seen: Seen = {}
    load = Load(str(PLACE))
    for trial in trials:
        began = time.monotonic()
        sys.stdout.write(f"{trial.__name__}\n")
        sys.stdout.flush()
        try:
            seen[trial.__name__] = trial()
        except (OSError, RuntimeError, LookupError, subprocess.SubprocessError) as error:
            traceback.print_exc()  # the others are made all the same
            seen[trial.__name__] = {"failed": f"{type(error).__name__}: {error}"}
        seen[trial.__name__]["took"] = round(time.monotonic() - began, 1)
        time.sleep(1.0)
    return {**seen, "load": load.end()}


def restarted(trials: Trials) -> Seen:
    """Kills and restarts under one load, whose phases are: undisturbed, beside bystanders, then these."""
    load = Load(str(PLACE))
    time.sleep(UNDISTURBED_SECONDS)
    load.mark()
    seen: Seen = {"bystanders": trials.bystanders()}
    load.mark()
    seen |= {"kills": trials.kills(), "restarts": trials.restarts()}
    return {**seen, "load": load.end()}


def collect(harness: Harness, known: dict[str, str]) -> Seen:
    """All of it, or with ``iscsiboot.first`` the first part; ``known`` is the kernel's command line."""
    long = "iscsiboot.long" in known
    kills = int(known.get("iscsiboot.kills", "100" if long else "3"))
    seen: Seen = {"units": units.as_booted(), "logins": harness.please("count")["logins"]}
    PLACE.write_bytes(bytes(BLOCK * BLOCKS))
    os.sync()
    second = harness.please("second")
    trials = Trials(harness, long=long, kills=kills, second=second["target"])
    seen["restarted"] = restarted(trials)
    seen |= {"state": state(), "logins after": harness.please("count")["logins"]}
    if "iscsiboot.first" in known:
        return seen
    seen["first client"] = units.first_client(second["target"], second["port"])
    seen["replaced"] = loaded(trials.upgrade, trials.hung)
    seen["logins replaced"] = harness.please("count")["logins"]
    cuts = (trials.cut_while_up, trials.cut_while_dead, trials.cut_in_hand_over, trials.stall, trials.frozen)
    seen["cut"] = loaded(*cuts)
    seen |= {"logins at last": harness.please("count")["logins"], "automatic": units.automatic(**second)}
    seen |= {"trouble": trouble(), "stuck": stuck(), "guards": guards(), "state at last": state()}
    lines = journal()
    return {**seen, "journal": len(lines), "last lines": lines[-100:]}


def tell_story(harness: Harness) -> Seen:
    """A kill and a cut under load, for the picture of a boot in docs/daemon.md."""
    until("the daemon", is_ready, ASK_SECONDS)
    ready = since()
    PLACE.write_bytes(bytes(BLOCK * BLOCKS))
    os.sync()
    load = Load(str(PLACE))
    time.sleep(STORY_SECONDS)
    old, killed = pid_of_the_daemon(), time.monotonic()
    os.kill(old, signal.SIGKILL)
    next_daemon(old)
    time.sleep(STORY_SECONDS)
    harness.please("cut", seconds=3.0)
    until("root's session", up)
    time.sleep(STORY_SECONDS)
    return {"ready": ready, "killed": killed, "ready again": since(), "load": load.end(), "journal": journal()}


def main() -> None:
    """Everything, then the end of the machine: with what nobody has written out yet, and a console that tells it."""
    known = words()
    with PORT.open("r+b", buffering=0) as port:
        harness = Harness(port)
        try:
            story = "iscsiboot.story" in known
            result = tell_story(harness) if story else collect(harness, known)
        except Exception as error:  # noqa: BLE001  # whatever it is, the harness shall have its words
            traceback.print_exc()
            log = output("journalctl", "-b", "-o", "short-monotonic", "-n", "60")
            result = {"failed": f"{type(error).__name__}: {error}", "log": log, "state": state(), "guards": guards()}
        harness.tell(result)
    LAST.write_text("".join(f"line {number} of {known['iscsiboot.nonce']}\n" for number in range(LAST_LINES)))
    output("dmesg", "--console-level", "info")
    output("systemctl", "--no-block", "poweroff")


if __name__ == "__main__":
    main()
