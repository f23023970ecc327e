# SPDX-License-Identifier: LGPL-2.1-or-later
"""``python3 -m benchmarks.boot``: our boot and the peer's, in turn, as ratios.

Prints a table, writes two pictures and the raw figures, and renews the part of docs/performance.md between its markers.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.boot.measure import Pair, Row, Sample, render, rows, sample
from benchmarks.boot.peer import ARGUMENT, peer_initramfs
from benchmarks.boot.picture import Bar, phases, render_svg
from benchmarks.document import renewed
from tests.qemu.harness.cache import default_root
from tests.qemu.harness.cases import BootCase
from tests.qemu.harness.disk import BootFiles, Variant
from tests.qemu.harness.errors import HarnessError
from tests.qemu.harness.firmware import Lane
from tests.qemu.harness.kvm import accelerator
from tests.qemu.harness.machine import TWO
from tests.qemu.harness.process import tell_stderr
from tests.qemu.harness.run import BootResult, Laboratory, boot

CHECKOUT = Path(__file__).resolve().parents[2]
LANES = {"table": Lane.TABLE, "ipxe": Lane.IPXE_BIOS}


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.boot", description="boot beside open-iscsi, as ratios")
    parser.add_argument("--pairs", type=int, default=3, help="pairs of boots (default 3)")
    parser.add_argument("--lane", choices=sorted(LANES), default="table", help="how the machine gets its table")
    parser.add_argument(
        "--variant", choices=("systemd", "shell"), default="systemd", help="our image with systemd in it, or without"
    )
    return parser.parse_args(argv)


def marks(result: BootResult) -> Mapping[str, float]:
    """The last time of each mark."""
    return {entry.mark.value: entry.at for entry in result.verdict.timeline()}


def measure(laboratory: Laboratory, lane: str, count: int, ours: BootFiles, peer: BootFiles) -> tuple[list[Pair], Bar]:
    """Boot in turn, ours first in every other pair, so that a machine that grows slower hurts both."""
    case = BootCase(name=f"benchmark-{lane}", lane=LANES[lane])
    pairs: list[Pair] = []
    spent: list[Mapping[str, float]] = []

    def one_of_ours() -> Sample:
        result = boot(case, laboratory, files=ours, processors=TWO)
        spent.append(phases(marks(result)))
        return sample(result.verdict.said)

    def one_of_theirs() -> Sample:
        peer_case = replace(case, name=f"{case.name}-peer")
        return sample(boot(peer_case, laboratory, files=peer, extra=(ARGUMENT,), processors=TWO).verdict.said)

    for number in range(count):
        if number % 2 == 0:
            mine, theirs = one_of_ours(), one_of_theirs()
        else:
            theirs, mine = one_of_theirs(), one_of_ours()
        pairs.append(Pair(ours=mine, peer=theirs))
        tell_stderr(
            f"pair {number + 1} of {count}: attached {mine.attached:.1f} s, peer {theirs.attached:.1f} s; "
            f"mounted {mine.mounted:.1f} s, peer {theirs.mounted:.1f} s"
        )
    names = list(spent[0])
    middle = {name: statistics.median(each.get(name, 0.0) for each in spent) for name in names}
    return pairs, Bar(name="iscsiboot, dracut", phases=middle)


def describe(lane: str, variant: str, measured: Sequence[Row], ours: BootFiles, peer: BootFiles, accel: str) -> str:
    """The section of docs/performance.md."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    sizes = {name: files.initramfs.stat().st_size / 2**20 for name, files in (("ours", ours), ("peer", peer))}
    kernel = platform.release().partition("-")[0]
    return (
        f"### Lane `{lane}`, our image {'with' if variant == 'systemd' else 'without'} systemd\n\n{render(measured)}"
        f"| size of the initramfs | {sizes['ours']:.1f} MiB | {sizes['peer']:.1f} MiB | "
        f"{sizes['ours'] / sizes['peer']:.2f} |\n\n"
        f"{today}, QEMU with {accel}, {platform.machine()} host with Linux {kernel}, "
        f"`python3 -m benchmarks.boot --lane {lane} --variant {variant} --pairs {len(measured[0].ratios)}`.\n\n"
        f"![where the time goes](boot-{lane}-{variant}.svg)\n"
    )


def main(argv: Sequence[str]) -> int:
    """Run it; 2 when it could not be run."""
    options = arguments(argv)
    laboratory = Laboratory.at(default_root(), tell_stderr)
    try:
        ours = laboratory.builder.files(Variant(options.variant))
        image = peer_initramfs(laboratory.cache, tell_stderr, kernel=ours.kernel)
        peer = replace(ours, initramfs=image)
        pairs, bar = measure(laboratory, options.lane, options.pairs, ours, peer)
    except HarnessError as error:
        tell_stderr(str(error))
        return 2
    measured = rows(pairs)
    docs = CHECKOUT / "docs"
    theirs = statistics.median(pair.peer.attached for pair in pairs)
    rest = statistics.median(pair.peer.mounted for pair in pairs) - theirs
    peer_bar = Bar(name="open-iscsi", phases={"until the disk is attached": theirs, "mount": max(0.0, rest)})
    name = f"{options.lane}-{options.variant}"
    (docs / f"boot-{name}.svg").write_text(render_svg([bar, peer_bar], title=f"Boot, {name}, medians"))
    accel = "KVM" if "kvm" in accelerator(laboratory.cache.root, docs.parent) else "software emulation"
    text = describe(options.lane, options.variant, measured, ours, peer, accel)
    document = docs / "performance.md"
    document.write_text(renewed(document.read_text(), f"benchmarks.boot {name}", text))
    raw = [{"ours": [p.ours.attached, p.ours.mounted], "peer": [p.peer.attached, p.peer.mounted]} for p in pairs]
    print(json.dumps({"lane": options.lane, "pairs": raw}))
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
