# SPDX-License-Identifier: LGPL-2.1-or-later
"""A machine whose root is on iSCSI, its daemon in the worst moments: the harness's side of guest/daemon_root.py.

By hand: ``-m tests.qemu.daemon.root``, ISCSIBOOT_CHECK_ALL=1 for the long form.
"""

from __future__ import annotations

import json
import re
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from iscsiboot.model.deadline import Deadline
from tests.qemu.daemon.guest import wants_long
from tests.qemu.harness.cable import Cable
from tests.qemu.harness.cache import default_root
from tests.qemu.harness.cases import BootCase
from tests.qemu.harness.errors import HarnessError
from tests.qemu.harness.machine import ConsoleLine, Ended, Event, Machine, VerdictBytes
from tests.qemu.harness.process import tell_stderr
from tests.qemu.harness.run import BootResult, Laboratory, boot

SWITCH_ROOT = re.compile(r"Starting .*Switch Root")
"""systemd's words on the console as it leaves the initramfs."""
SWITCH_SECONDS = 3.0
BOOT_SECONDS = 600.0
SHORT_SECONDS, LONG_SECONDS = 900.0, 3600.0
"""Of the boot, and of the trials after it: about one and two minutes on a quiet machine."""


@dataclass(slots=True)
class Conversation:
    """What the harness does for the agent in the guest, and what it hears from it."""

    cut_at_switch: bool = True
    """The target is away from switch-root on, before any daemon can be there."""
    cable: Cable | None = None
    result: dict[str, Any] = field(default_factory=dict)
    switched: bool = False
    mend_at: float = 0.0
    _buffer: bytes = b""

    def take(self, cable: Cable) -> None:
        """The cable of this boot."""
        self.cable = cable

    def observe(self, machine: Machine, event: Event | int) -> None:
        """Cut as the initramfs is left, and mend when its time has come; something always happens on a console."""
        if self.cable is None:
            return
        words = isinstance(event, ConsoleLine) and SWITCH_ROOT.search(event.text) is not None
        if words and self.cut_at_switch and not self.switched:
            self.switched = True
            self.cable.cut()
            time.sleep(SWITCH_SECONDS)
            self.cable.mend()

    def visit(self, machine: Machine) -> None:
        """Answer the agent until it is done. HarnessError when it is late, or said that it failed."""
        seconds = LONG_SECONDS if wants_long() else SHORT_SECONDS
        deadline = Deadline.after(seconds, now=time.monotonic(), reason="the daemon's trials")
        for event in machine.events(deadline):
            if isinstance(event, VerdictBytes):
                self._buffer += event.data
                while b"\n" in self._buffer:
                    line, _, self._buffer = self._buffer.partition(b"\n")
                    self._hear(machine, json.loads(line))
            elif isinstance(event, Ended):
                break
        if not self.result:
            raise HarnessError(f"the trials did not end: {' | '.join(machine.lines.last_lines())}")

    def _hear(self, machine: Machine, said: dict[str, Any]) -> None:
        if "result" in said:
            self.result = said["result"]
            return
        if self.cable is None:
            raise HarnessError("no cable was made for this boot")
        answer: dict[str, Any] = {"logins": len(self.cable.log.logins)}
        if said["please"] == "cut":
            began = time.monotonic()
            self.cable.cut()
            time.sleep(said["seconds"])
            self.cable.mend()
            answer["off"] = round(time.monotonic() - began, 2)
        machine.answer(json.dumps(answer).encode() + b"\n")


def trial(laboratory: Laboratory, *more: str, seconds: float = BOOT_SECONDS) -> tuple[BootResult, Conversation]:
    """Boot, all trials, power off. ``more`` are kernel arguments; ``seconds`` bounds the boot."""
    talk = Conversation()
    extra = ["iscsiboot.stay", "iscsiboot.daemon-trials", "systemd.wants=iscsid.service", *more]
    if wants_long():
        extra.append("iscsiboot.long")
    # Without CHAP, because tgt refuses a list of algorithms and each login would be two.
    case = BootCase(name="daemon-root", seconds=seconds)
    result = boot(case, laboratory, extra=extra, observer=talk.observe, visit=talk.visit, cable=talk.take)
    return result, talk


def main() -> int:
    """Make it and print what was seen."""
    result, talk = trial(Laboratory.at(default_root(), tell_stderr))
    cuts = talk.cable.log.cuts if talk.cable else []
    said = {"verdict": result.verdict.said, "cuts": cuts, "log": str(result.log), **talk.result}
    sys.stdout.write(json.dumps(said, indent=1) + "\n")
    return 1 if "failed" in talk.result else 0


if __name__ == "__main__":
    sys.exit(main())
