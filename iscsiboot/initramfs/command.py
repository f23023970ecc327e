# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsiboot image``: what the boot path brings into an initramfs, what it costs, and the tree itself.

Image builders call ``iscsiboot image --stage DIR`` and copy nothing on their own: shell decides nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.initramfs.entries import Entry, Kind
from iscsiboot.initramfs.facts import gather, installed_layout
from iscsiboot.initramfs.plan import make_plan
from iscsiboot.initramfs.render import stage_tree
from iscsiboot.initramfs.report import as_json, as_table, measure
from iscsiboot.initramfs.sysroot import Sysroot


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="iscsiboot image",
        description="What iscsistart, its interpreter and its libraries bring into an initramfs.",
        epilog="Exit status 1 when the report exceeds the budget.",
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--report", action="store_true", help="what each part costs (default)")
    action.add_argument("--list", action="store_true", help="every path, and what asked for it")
    action.add_argument("--stage", metavar="DIR", type=Path, help="write the tree below DIR, for an image builder")
    parser.add_argument("--json", action="store_true", help="report or list for programs")
    parser.add_argument(
        "--host-only", action="store_true", help="the image is for this machine alone: its initiator name goes in, too"
    )
    parser.add_argument("--sysroot", metavar="DIR", type=Path, default=Path("/"), help="take the files from this tree")
    parser.add_argument("--launcher", metavar="PATH", help="iscsistart inside the tree (default: beside this program)")
    return parser


def main(argv: Sequence[str], out: TextIO, err: TextIO) -> int:
    """Run the subcommand; argparse itself ends the process for ``--help`` and usage errors."""
    options = _parser().parse_args(argv)
    sysroot = Sysroot(options.sysroot)
    facts = gather(
        installed_layout(options.sysroot, options.launcher),
        lambda text: _note(err, text) if err.isatty() else None,
        host_only=options.host_only,
    )
    entries = make_plan(facts)
    if options.stage is not None:
        if not options.stage.is_dir():
            raise IscsiBootError("is not a directory", stage=Stage.IMAGE, subject=str(options.stage))
        written = stage_tree(entries, sysroot, options.stage)
        _note(err, f"{written} of {len(entries)} paths written below {options.stage}")
        return ExitCode.SUCCESS
    if options.list:
        _list(entries, out, as_records=options.json)
        return ExitCode.SUCCESS
    report = measure(entries, sysroot)
    out.write(json.dumps(as_json(report), indent=2) + "\n" if options.json else as_table(report))
    return ExitCode.SUCCESS if report.within else ExitCode.ERR


def _note(err: TextIO, text: str) -> None:
    err.write(f"iscsiboot image: {text}\n")


def _list(entries: tuple[Entry, ...], out: TextIO, *, as_records: bool) -> None:
    if as_records:
        records = [
            {
                "path": entry.path,
                "kind": entry.kind.value,
                "part": entry.part.value,
                "why": entry.why,
                "source": entry.source or None,
                "target": entry.target or None,
            }
            for entry in entries
        ]
        out.write(json.dumps(records, indent=2) + "\n")
        return
    for entry in entries:
        arrow = f" -> {entry.target}" if entry.kind is Kind.SYMLINK else ""
        slash = "/" if entry.kind is Kind.DIRECTORY else ""
        out.write(f"{entry.path}{slash}{arrow}  [{entry.part.value}: {entry.why}]\n")
