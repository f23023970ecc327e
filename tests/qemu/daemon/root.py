# SPDX-License-Identifier: LGPL-2.1-or-later
"""A machine whose root is on iSCSI, its daemon in the worst moments: the harness's side of guest/daemon_root.py.

By hand: ``-m tests.qemu.daemon.root [ARGUMENT]...``, ISCSIBOOT_CHECK_ALL=1 for the long form. Arguments are more of the
kernel's: ``iscsiboot.kills=N`` says how often the daemon is killed, ``iscsiboot.first`` ends after that.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iscsiboot.model.credentials import Credentials
from iscsiboot.model.deadline import Deadline
from tests.doubles.tgt import TargetSpec, Tgtd
from tests.qemu.daemon.guest import wants_long
from tests.qemu.daemon.root_disk import examined, with_units_enabled
from tests.qemu.harness.cable import Cable
from tests.qemu.harness.cache import default_root
from tests.qemu.harness.cases import CHAP, BootCase
from tests.qemu.harness.errors import HarnessError
from tests.qemu.harness.machine import ONE, TWO, ConsoleLine, Ended, Event, Machine, VerdictBytes
from tests.qemu.harness.process import tell_stderr
from tests.qemu.harness.run import BootResult, Laboratory, boot

SWITCH_ROOT = re.compile(r"Starting .*Switch Root")
"""systemd's words on the console as it leaves the initramfs."""
LAST_MOMENTS = (re.compile(r"Reached target .*Unmount All Filesystems"), re.compile(r"Sending SIGTERM to remaining"))
"""Of a shutdown: every unit has stopped, and every process is ended; then root is written out and mounted read-only."""
SWITCH_SECONDS, LAST_SECONDS = 3.0, 3.0
BOOT_SECONDS = 600.0
SHORT_SECONDS, LONG_SECONDS = 900.0, 5400.0
"""Of the boot, and of the trials after it: a quarter of an hour at most, three minutes on a quiet machine."""
SECOND = "iqn.2025-01.org.example:second"
SECOND_MIB = 64


@dataclass(slots=True)
class Conversation:
    """What the harness does for the agent in the guest, and what it hears from it. Times are the host's."""

    cut_at_switch: bool = True
    """The target is away from switch-root on, before any daemon can be there."""
    cable: Cable | None = None
    disk: Path | None = None
    result: dict[str, Any] = field(default_factory=dict)
    switched: bool = False
    power_on: float = 0.0
    clock: float = float("inf")
    """Our clock less the guest's: of all it said, the one that was under way the shortest."""
    status: int | None = None
    """QEMU's, when the machine ended by itself."""
    after: dict[str, Any] = field(default_factory=dict)
    """The root disk when the machine is off (:func:`.examined`)."""
    last_cuts: list[str] = field(default_factory=list)
    _stack: ExitStack = field(default_factory=ExitStack)
    _second: Cable | None = None
    _buffer: bytes = b""

    def take(self, cable: Cable) -> None:
        """The cable of this boot."""
        self.cable = cable

    def prepare(self, disk: Path) -> None:
        """The root disk of this boot, before anybody reads it."""
        self.disk = disk
        with_units_enabled(disk)

    def observe(self, machine: Machine, event: Event | int) -> None:
        """Cut as the initramfs is left, and mend when its time has come; something always happens on a console."""
        self.power_on = self.power_on or time.monotonic() - machine.age
        words = isinstance(event, ConsoleLine) and SWITCH_ROOT.search(event.text) is not None
        if words and self.cut_at_switch and not self.switched:
            self.switched = True
            self._cut(SWITCH_SECONDS)

    def visit(self, machine: Machine) -> None:
        """Answer the agent until the machine is off. HarnessError when it is late, or said that it failed."""
        seconds = LONG_SECONDS if wants_long() else SHORT_SECONDS
        deadline = Deadline.after(seconds, now=time.monotonic(), reason="the daemon's trials")
        with self._stack:
            for event in machine.events(deadline):
                if isinstance(event, VerdictBytes):
                    self._buffer += event.data
                    while b"\n" in self._buffer:
                        line, _, self._buffer = self._buffer.partition(b"\n")
                        self._hear(machine, json.loads(line))
                elif isinstance(event, ConsoleLine) and self.result:
                    self._see_off(event.text)
                elif isinstance(event, Ended):
                    self.status = event.status
        if self.disk is not None and self.status is not None:
            self.after = examined(self.disk)
        if not self.result:
            raise HarnessError(f"the trials did not end: {' | '.join(machine.lines.last_lines())}")

    def _see_off(self, text: str) -> None:
        for moment in LAST_MOMENTS:
            if moment.search(text) and moment.pattern not in self.last_cuts:
                self.last_cuts.append(moment.pattern)
                self._cut(LAST_SECONDS)

    def _hear(self, machine: Machine, said: dict[str, Any]) -> None:
        self.clock = min(self.clock, time.monotonic() - said["at"])
        if "result" in said:
            self.result = said["result"]
            return
        answer: dict[str, Any] = {"logins": len(self._first().log.logins)}
        if said["please"] == "cut":
            answer |= {"cut": len(self._first().log.cuts), "off": self._cut(said["seconds"])}
        elif said["please"] == "second":
            answer = {"target": SECOND, "port": self._second_target().port}
        machine.answer(json.dumps(answer).encode() + b"\n")

    def _first(self) -> Cable:
        if self.cable is None:
            raise HarnessError("no cable was made for this boot")
        return self.cable

    def _cut(self, seconds: float) -> float:
        """Every target is away for that long; how long it was."""
        began, cables = time.monotonic(), [self._first(), *([self._second] if self._second else [])]
        for cable in cables:
            cable.cut()
        time.sleep(seconds)
        for cable in cables:
            cable.mend()
        return round(time.monotonic() - began, 2)

    def _second_target(self) -> Cable:
        """Another target with a disk of its own, behind a cable of its own."""
        if self._second is None:
            if self.disk is None:
                raise HarnessError("no disk was made for this boot")
            disk = self.disk.with_name("second.img")
            with disk.open("wb") as file:
                file.truncate(SECOND_MIB << 20)
            target = self._stack.enter_context(Tgtd(TargetSpec(name=SECOND, disk=disk)))
            self._second = self._stack.enter_context(Cable(target.port))
        return self._second


def trial(
    laboratory: Laboratory,
    *more: str,
    seconds: float = BOOT_SECONDS,
    credentials: Credentials | None = CHAP,
    talk: Conversation | None = None,
) -> tuple[BootResult, Conversation]:
    """Boot, all trials, power off. ``more`` are kernel arguments; ``seconds`` bounds the boot. With CHAP the very first
    login is two, since tgt refuses a list of algorithms; no later one may be. ``talk`` is for who wants to know what
    was seen of a boot that failed.
    """
    talk = talk or Conversation()
    extra = ["iscsiboot.stay", "iscsiboot.daemon-trials", *more]
    if wants_long():
        extra.append("iscsiboot.long")
    case = BootCase(name="daemon-root", seconds=seconds, credentials=credentials)
    result = boot(
        case,
        laboratory,
        extra=extra,
        observer=talk.observe,
        visit=talk.visit,
        cable=talk.take,
        disk=talk.prepare,
        processors=TWO if wants_long() else ONE,
    )
    return result, talk


def told(result: BootResult, talk: Conversation) -> dict[str, Any]:
    """Everything that was seen, as JSON."""
    log = talk.cable.log if talk.cable else None
    seen: dict[str, Any] = {"verdict": result.verdict.said, "log": str(result.log), **talk.result}
    if log is not None:
        seen |= {"cuts": log.cuts, "recoveries": log.recoveries(), "logouts": log.logouts, "login times": log.logins}
    return {**seen, "after": talk.after, "status": talk.status, "last cuts": talk.last_cuts}


def main(argv: Sequence[str]) -> int:
    """Make it and print what was seen."""
    result, talk = trial(Laboratory.at(default_root(), tell_stderr), *argv)
    sys.stdout.write(json.dumps(told(result, talk), indent=1) + "\n")
    return 1 if "failed" in talk.result else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
