# SPDX-License-Identifier: LGPL-2.1-or-later
"""``-R``: which attributes are written, in which order, and what a unit that does not answer costs the others."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from iscsiboot.admin.json_out import finish
from iscsiboot.admin.rescan import rescan_sessions
from iscsiboot.sysfs.listing import list_rows
from tests.doubles.sysfs_tree import SysfsTree
from tests.unit.admin.scripted_runner import Streams, wishes


@pytest.fixture
def tree(tmp_path: Path) -> SysfsTree:
    made = SysfsTree(tmp_path / "sys")
    for sid in (1, 2):
        made.add_session(sid, targetname=f"t{sid}")
        made.add_unit(sid, 0)
        made.add_unit(sid, 1)
    return made


def written(tree: SysfsTree) -> dict[str, str]:
    """What the attributes hold, the fake kernel's empty ones left out."""
    paths = [*tree.root.glob("bus/scsi/devices/*:*:*:*/rescan"), *tree.root.glob("class/scsi_host/*/scan")]
    return {
        f"{path.parent.name}/{path.name}": path.read_text()
        for path in paths
        if path.is_file() and path.read_text().strip()
    }


def test_every_unit_then_the_host(tmp_path: Path, tree: SysfsTree) -> None:
    streams = Streams(tmp_path)
    assert rescan_sessions(list_rows(streams.context.paths.sysfs), streams.context) == 0
    assert streams.lines == [
        "Rescanning session [sid: 1, target: t1, portal: 10.0.2.2,3260]",
        "Rescanning session [sid: 2, target: t2, portal: 10.0.2.2,3260]",
    ]
    found = {name: text.strip() for name, text in written(tree).items()}
    assert found == {
        "2:0:0:0/rescan": "1",
        "2:0:0:1/rescan": "1",
        "host2/scan": "- - -",
        "3:0:0:0/rescan": "1",
        "3:0:0:1/rescan": "1",
        "host3/scan": "- - -",
    }


def test_what_cannot_be_written_is_told_and_the_rest_is_done(tmp_path: Path, tree: SysfsTree) -> None:
    """As 2.1.8 with a scan attribute that is a directory: a line on stderr, exit code 0."""
    scan = tree.root / "class" / "scsi_host" / "host2" / "scan"
    scan.unlink()
    scan.mkdir()
    streams = Streams(tmp_path)
    assert rescan_sessions(list_rows(streams.context.paths.sysfs), streams.context) == 0
    assert streams.lines[2:] == [f"E iscsiadm: Could not open {tree.root}/class/scsi_host/host2/scan err 21"]
    assert written(tree)["host3/scan"].strip() == "- - -"


def test_one_that_hangs_delays_no_other_and_is_31(tmp_path: Path, tree: SysfsTree) -> None:
    """A FIFO that nobody reads holds its writer as a dead unit does."""
    rescan = tree.root / "bus" / "scsi" / "devices" / "2:0:0:0" / "rescan"
    rescan.unlink()
    os.mkfifo(rescan)
    streams = Streams(tmp_path)
    code = rescan_sessions(list_rows(streams.context.paths.sysfs), streams.context, wishes(timeout=0.3))
    assert code == 31
    assert streams.lines[2:] == [
        "E iscsiadm: session 1: rescan: it was not done after 0.3 s; next: see dmesg for a unit that does not answer",
        "E iscsiadm: Could not execute operation on all sessions: child process terminated",
    ]
    assert written(tree)["host3/scan"].strip() == "- - -"


def test_json(tmp_path: Path, tree: SysfsTree) -> None:
    streams = Streams(tmp_path, json=True)
    code = rescan_sessions(list_rows(streams.context.paths.sysfs), streams.context)
    finish(streams.context, code)
    made = json.loads(streams.out.getvalue())
    assert (made["kind"], made["messages"]) == ("rescan", [])
    assert [(item["sid"], item["exit_code"]) for item in made["objects"]] == [(1, 0), (2, 0)]
