# SPDX-License-Identifier: LGPL-2.1-or-later
"""The peers' matrix: every target x authentication x digests x limits, and the controls, as one Markdown table.

``/usr/bin/python3 -m tests.interop.matrix [--peer tgt|istgt|LIO]...`` as root. Exit status 1 when a cell is not as the
table in matrix_table.py says. The same cells are tests in test_matrix.py.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from iscsiboot.errors import IscsiBootError
from tests.doubles.istgt import Istgt
from tests.doubles.peers import Peer, TargetSpec
from tests.doubles.tgt import Tgtd
from tests.interop.matrix_session import Unexpected, carry_out
from tests.interop.matrix_table import BASE, Cell, Digests, Limits, PeerName, cells, digest_specs, specs
from tests.qemu.harness.cache import default_root
from tests.qemu.harness.lio import Lio
from tests.qemu.harness.process import tell_stderr
from tests.qemu.harness.run import Laboratory

DISK_MIB = 32


@dataclass(frozen=True, slots=True)
class Site:
    """A running peer and the names of all its targets."""

    peer: Peer
    names: tuple[str, ...]


Sites = Mapping[Limits, Site]
"""Where the targets of each kind of limits are."""


@contextmanager
def running_tgt() -> Iterator[Sites]:
    """One tgtd for all."""
    with _disks() as give:
        # tgt takes no digest unless it is told to.
        digests = {"HeaderDigest": "CRC32C,None", "DataDigest": "CRC32C,None"}
        every = [give(replace(spec, keys={**digests, **spec.keys})) for spec in _all_specs()]
        with Tgtd(*every) as peer:
            yield _everywhere(peer, every)


@contextmanager
def running_istgt() -> Iterator[Sites]:
    """One istgt for each kind of limits: they are settings of the process. Its digests cannot be restricted."""
    with _disks() as give, ExitStack() as stack:
        sites = {}
        for limits in Limits:
            some = [give(spec) for spec in specs(limits)]
            # istgt refuses to start with InitialR2T=No.
            some = [replace(spec, keys={**spec.keys, "InitialR2T": "Yes"}) for spec in some]
            sites[limits] = Site(stack.enter_context(Istgt(*some)), tuple(spec.name for spec in some))
        yield sites


@contextmanager
def running_lio(laboratory: Laboratory) -> Iterator[Sites]:
    """One guest for all."""
    with Lio(*_all_specs(), laboratory=laboratory) as peer:
        yield _everywhere(peer, _all_specs())


def _all_specs() -> list[TargetSpec]:
    return [*(spec for limits in Limits for spec in specs(limits)), *digest_specs()]


def _everywhere(peer: Peer, every: Sequence[TargetSpec]) -> Sites:
    site = Site(peer, tuple(spec.name for spec in every))
    return dict.fromkeys(Limits, site)


@contextmanager
def _disks() -> Iterator[Callable[[TargetSpec], TargetSpec]]:
    """Gives each target an empty disk of its own: a peer may keep one to itself."""
    with tempfile.TemporaryDirectory(prefix="matrix-") as name:

        def give(spec: TargetSpec) -> TargetSpec:
            disk = Path(name) / spec.name.removeprefix(f"{BASE}:")
            with disk.open("wb") as file:
                file.truncate(DISK_MIB << 20)
            return replace(spec, disk=disk)

        yield give


def outcome(cell: Cell, sites: Sites) -> str:
    """What became of the cell, as the matrix shows it."""
    site = sites[cell.limits]
    return carry_out(cell, site.peer, site.names)


def table(results: Sequence[tuple[Cell, str]]) -> str:
    """The Markdown: the sessions that work with one column for each kind of digests, then the controls."""
    lines = ["| target | authentication | limits | " + " | ".join(f"digests {d.value[0]}" for d in Digests) + " |"]
    lines.append("|---" * (3 + len(Digests)) + "|")
    rows: dict[tuple[str, str, str], dict[Digests, str]] = {}
    for cell, text in results:
        if not cell.control:
            rows.setdefault((cell.peer.value, cell.auth.value, cell.limits.value), {})[cell.digests] = text
    for axes, found in rows.items():
        lines.append(f"| {' | '.join((*axes, *(found.get(digests, '-') for digests in Digests)))} |")
    lines += ["", "| target | control | outcome |", "|---|---|---|"]
    controls = [(cell, text) for cell, text in results if cell.control]
    lines += [f"| {cell.peer.value} | {cell.control} | {text.replace('|', '/')} |" for cell, text in controls]
    return "\n".join(lines) + "\n"


def running(peer: PeerName) -> AbstractContextManager[Sites]:
    """The peer with all targets of its cells."""
    if peer is PeerName.TGT:
        return running_tgt()
    if peer is PeerName.ISTGT:
        return running_istgt()
    return running_lio(Laboratory.at(default_root(), tell_stderr))


def measure(peer: PeerName, results: list[tuple[Cell, str]]) -> bool:
    """Run all cells of a peer into ``results``; whether each was as it should be."""
    right = True
    with running(peer) as sites:
        for cell in cells(peer):
            try:
                results.append((cell, outcome(cell, sites)))
            except (Unexpected, IscsiBootError) as error:
                right = False
                results.append((cell, f"**WRONG**: {error}"))
    return right


def main(argv: Sequence[str] | None = None) -> int:
    """Write the matrix to standard output."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.interop.matrix", description="The peers' matrix.")
    parser.add_argument("--peer", action="append", choices=[peer.value for peer in PeerName], help="only this one")
    chosen = parser.parse_args(argv).peer
    results: list[tuple[Cell, str]] = []
    right = [measure(peer, results) for peer in PeerName if chosen is None or peer.value in chosen]
    sys.stdout.write(table(results))
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(main())
