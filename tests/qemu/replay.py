# SPDX-License-Identifier: LGPL-2.1-or-later
"""``python3 -m tests.qemu.replay [CASE]``: a boot of the tests again, its console live; without a case, their names."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tests.qemu.harness.cache import default_root
from tests.qemu.harness.cases import CASES
from tests.qemu.harness.errors import BootFailed, HarnessError
from tests.qemu.harness.machine import ConsoleLine, Event, Machine
from tests.qemu.harness.process import tell_stderr
from tests.qemu.harness.run import Laboratory, boot


def show(machine: Machine, event: Event | int) -> None:
    """Console lines with their time."""
    if isinstance(event, ConsoleLine):
        sys.stdout.write(f"{event.at:7.2f}  {event.text}\n")
        sys.stdout.flush()


def main(argv: Sequence[str]) -> int:
    """Exit status 0 for a boot with its verdict, 1 for one without, 2 when it could not be tried."""
    if len(argv) != 1 or argv[0] not in CASES:
        sys.stdout.write("\n".join(["usage: python3 -m tests.qemu.replay CASE", *(f"  {name}" for name in CASES), ""]))
        return 2
    try:
        result = boot(CASES[argv[0]], Laboratory.at(default_root(), tell_stderr), observer=show)
    except BootFailed as failure:
        sys.stderr.write(f"{failure}\n")
        return 1
    except HarnessError as error:
        sys.stderr.write(f"replay: {error}\n")
        return 2
    after = f"verdict after {result.verdict.received_at:.1f} s, machine off after {result.seconds:.1f} s"
    sys.stdout.write(f"{after}: {result.log}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
