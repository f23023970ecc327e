# SPDX-License-Identifier: LGPL-2.1-or-later
"""A target with many portals of which some never answer, and how long a probe of all of them takes.

Everything happens in a network namespace of a child process and goes with it: tgtd listens on every address, and
nftables drops what would open a connection to the last ones. Such a portal looks like a host behind a dead switch: no
refusal, no ICMP, nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.initiator.farm import Farm
from tests.doubles.directory import Served, directory
from tests.doubles.server import TargetServer
from tests.doubles.session import FullTarget, Plan
from tests.qemu.harness.errors import CHECKOUT, HarnessError
from tests.qemu.harness.process import tell_stderr, tied

PORT = 3260
LISTER = "10.64.1.1"
"""Address of the portal that names all the others."""
PORTALS_MAX = 250
DISK_BYTES = 16 << 20
PROBE_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """One probe of all portals."""

    portals: int
    dark: int
    """Of them, those that never answer."""
    timeout: float
    """The connect timeout the probe ran with, seconds."""
    seconds: float
    """From before the command is started to its end."""


def addresses(count: int) -> list[str]:
    """``count`` addresses of a network that exists only in the namespace."""
    return [f"10.64.0.{number}" for number in range(1, count + 1)]


def network_script(live: Sequence[str], dark: Sequence[str]) -> str:
    """The shell commands that make the network inside the namespace."""
    lines = ["set -eu", "ip link set lo up"]
    lines += [f"ip addr add {address}/32 dev lo" for address in (*live, *dark)]
    if dark:
        lines += [
            "nft add table ip dark",
            "nft add chain ip dark in '{ type filter hook input priority 0; }'",
            f"nft add rule ip dark in ip daddr '{{ {', '.join(dark)} }}' tcp flags syn drop",
        ]
    return "\n".join(lines)


def probe_command(portal: str, timeout: float) -> list[str]:
    """Ours, of all portals the target names at ``portal``."""
    program = [sys.executable, "-m", "iscsiboot", "probe"]
    return [*program, portal, "--all-portals", "--json", "--timeout", f"{timeout:g}"]


def tally(said: str) -> tuple[int, int]:
    """How many portals answered and how many could not be connected to, as ``probe --json`` tells.

    HarnessError when it is no report.
    """
    try:
        failures = [path["failure"] for path in json.loads(said)["paths"]]
        unreached = [failure for failure in failures if failure is not None and failure["stage"] == "connect"]
    except (ValueError, KeyError, TypeError) as error:
        raise HarnessError(f"probe printed no report: {error!r}") from error
    return failures.count(None), len(unreached)


def measure(portals: int, dark: int, timeout: float) -> Probe:
    """Inside the namespace: the targets, then one probe of all portals.

    tgt names only the portal it was asked at, so the list comes from a scripted target beside it.
    """
    if not 0 <= dark < portals <= PORTALS_MAX:
        raise HarnessError(f"{dark} dark portals of {portals}: at least one must answer, {PORTALS_MAX} are the most")
    everyone = addresses(portals)
    live, silent = everyone[: portals - dark], everyone[portals - dark :]
    subprocess.run(["/bin/sh", "-c", network_script((*live, LISTER), silent)], check=True)
    served = Served(Farm.name(1), [f"{address}:{PORT},1" for address in everyone])
    plan = Plan(records=directory([served]))
    with tempfile.TemporaryDirectory(prefix="blackholes-") as name, ExitStack() as stack:
        backing = Path(name) / "disk"
        with backing.open("wb") as disk:
            disk.truncate(DISK_BYTES)
        stack.enter_context(Farm(1, tell=tell_stderr, addresses=everyone, port=PORT, backing=backing))
        lister = stack.enter_context(TargetServer(lambda: FullTarget(plan), host=LISTER))
        started = time.perf_counter()
        done = subprocess.run(
            probe_command(f"{LISTER}:{lister.port}", timeout),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=CHECKOUT,
            timeout=PROBE_SECONDS,
            check=False,
        )
        spent = time.perf_counter() - started
    answered, failed = tally(done.stdout)
    if (answered, failed) != (len(live), len(silent)):
        raise HarnessError(f"{answered} portals answered, {failed} failed: {done.stdout[-300:]} {done.stderr[-300:]}")
    return Probe(portals=portals, dark=dark, timeout=timeout, seconds=spent)


def in_namespace(portals: int, dark: int, timeout: float) -> Probe:
    """:func:`measure` in a child with a network namespace of its own."""
    words = [f"--portals={portals}", f"--dark={dark}", f"--timeout={timeout}"]
    argv = ["unshare", "--net", "--", sys.executable, "-m", "benchmarks.initiator.blackholes", *words]
    done = subprocess.run(tied(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=CHECKOUT, check=False)
    if done.returncode:
        raise HarnessError(f"the probe of {portals} portals could not be measured: status {done.returncode}")
    return Probe(**json.loads(done.stdout))


def main(argv: Sequence[str]) -> int:
    """The child in the namespace: one JSON object on standard output."""
    parser = argparse.ArgumentParser(prog="benchmarks.initiator.blackholes", description="probe of many portals")
    parser.add_argument("--portals", type=int, required=True)
    parser.add_argument("--dark", type=int, required=True)
    parser.add_argument("--timeout", type=float, required=True)
    options = parser.parse_args(argv)
    try:
        result = measure(options.portals, options.dark, options.timeout)
    except HarnessError as error:
        tell_stderr(str(error))
        return 2
    json.dump(asdict(result), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
