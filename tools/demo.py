#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""``make demo``: a machine boots from real firmware to multi-user with its root on iSCSI, and says where the time went.

``make demo-shell`` (``--shell``) leaves you logged in on its serial console. Exit status: 0 when the booted root
reported the wanted boot, 1 when it did not, 2 when it could not be tried, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from iscsiboot.toolkit.timeline import render_svg, render_table
from tests.qemu.harness.cache import default_root
from tests.qemu.harness.cases import CASES, BootCase
from tests.qemu.harness.errors import BootFailed, HarnessError
from tests.qemu.harness.machine import ConsoleLine, Event, Machine, VerdictBytes
from tests.qemu.harness.process import tell_stderr
from tests.qemu.harness.run import BootResult, Laboratory, boot
from tests.qemu.harness.terminal import interact, standard

CASE = "ipxe-bios"
_MILESTONES = (
    ("Open Source Network Boot Firmware", "firmware: iPXE runs"),
    ("Registered SAN device", "firmware: iSCSI disk attached, iBFT written"),
    ("tftp://10.0.2.2/initramfs", "firmware: kernel and initramfs loaded"),
    ("Welcome to", "kernel runs, systemd starts"),
    ("iscsistart: version", "iscsistart reads the table"),
    ("Mounted sysroot.mount", "root mounted"),
)
"""Words of the console and what they mean to somebody who watches; each is told the first time."""


class Milestones:
    """Tells how far the boot is; with ``everything`` the whole console instead."""

    def __init__(self, *, everything: bool) -> None:
        self._everything = everything
        self._told: set[str] = set()

    def __call__(self, _machine: Machine, event: Event | int) -> None:
        """An observer of :func:`tests.qemu.harness.run.boot`."""
        # Not from the console: the login prompt resets the line and eats what systemd says about multi-user.
        if isinstance(event, VerdictBytes):
            tell_stderr(f"{event.at:6.1f} s  multi-user reached, the booted system reports")
        if not isinstance(event, ConsoleLine):
            return
        if self._everything:
            print(f"{event.at:7.2f}  {event.text}", flush=True)
            return
        for words, meaning in _MILESTONES:
            if words in event.text and meaning not in self._told:
                self._told.add(meaning)
                tell_stderr(f"{event.at:6.1f} s  {meaning}")
        if "iscsistart: " in event.text and "; next: " in event.text:
            tell_stderr(f"{event.at:6.1f} s  {event.text.strip()}")


def shell(machine: Machine) -> None:
    """What happens after the verdict when a person wants to look around."""
    tell_stderr("you are root in the booted machine; Ctrl-A X ends it")
    interact(machine, keyboard=standard()[0], screen=standard()[1])


def show(result: BootResult, case: BootCase, svg: Path) -> None:
    """Timeline as table and picture, and the verdict."""
    verdict = result.verdict
    entries, firmware = verdict.timeline(), verdict.firmware_seconds
    svg.parent.mkdir(parents=True, exist_ok=True)
    svg.write_text(render_svg(entries, firmware=firmware, title=f"Root on iSCSI: {case.name}"), encoding="utf-8")
    session = verdict.session
    print(f"\n{render_table(entries, firmware=firmware)}")
    print(f"root:     {verdict.said['root']['source']} = LUN {session['lun']} of {session['targetname']}")
    print(f"session:  {session['name']} at {session['persistent_address']}:{session['persistent_port']}")
    print(f"system:   {verdict.said['packages']} packages, open-iscsi is none of them")
    print(f"picture:  {svg}\nconsole:  {result.log}")
    print("verdict:  the machine reached multi-user with its root on iSCSI")


def terminated(_number: int, _frame: FrameType | None) -> None:
    """A TERM ends the demonstration as Ctrl-C does: through every ``finally``."""
    raise KeyboardInterrupt


def main(argv: Sequence[str]) -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(prog="demo", description="Boot a virtual machine with its root on iSCSI.")
    parser.add_argument("--shell", action="store_true", help="stay, logged in on its serial console")
    parser.add_argument("--console", action="store_true", help="show the machine's console instead of milestones")
    parser.add_argument("--case", choices=sorted(CASES), default=CASE, help=f"which boot of the tests (default {CASE})")
    parser.add_argument("--svg", type=Path, default=Path("build/timeline.svg"), help="where the picture goes")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, terminated)
    case = CASES[options.case]
    try:
        result = boot(
            case,
            Laboratory.at(default_root(), tell_stderr),
            extra=("iscsiboot.stay", "iscsiboot.shell") if options.shell else (),
            observer=Milestones(everything=options.console),
            visit=shell if options.shell else None,
        )
        show(result, case, options.svg)
    except BootFailed as failure:
        print(f"\n{failure}\nverdict:  FAILED: {failure.cause}", file=sys.stderr)
        return 1
    except HarnessError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ndemo: interrupted; nothing of it is left running", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
