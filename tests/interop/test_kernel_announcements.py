# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel of this machine: its mount table and its uevents, heard by a loop exactly when something changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

MOUNTS = """
import asyncio, json, sys
sys.path.insert(0, {root!r})
from iscsiboot.daemon.roles import Tables
from iscsiboot.keeper import libc

async def main():
    loop = asyncio.get_running_loop()
    tables = Tables("/proc")
    tables.take()
    heard, turns = [], []
    def ready():
        tables.take()
        heard.append(loop.time())
    loop.add_reader(tables.fileno(), ready)
    await asyncio.sleep(0.2)
    quiet = len(heard)
    counts = []
    for step in range(5):
        libc.mount("none", {place!r}, "tmpfs")
        await asyncio.sleep(0.1)
        counts.append(len(heard))
        libc.umount({place!r}, libc.MNT_DETACH)
        await asyncio.sleep(0.1)
        counts.append(len(heard))
    print(json.dumps({{"quiet": quiet, "counts": counts}}))

libc.unshare(libc.CLONE_NEWNS)
libc.mount("none", "/", "", libc.MS_REC | libc.MS_PRIVATE)
asyncio.run(main())
"""


def run(code: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.interop
@pytest.mark.root
def test_each_mount_and_unmount_is_heard_once_and_nothing_else(tmp_path: Path) -> None:
    answer = run(MOUNTS.format(root=str(ROOT), place=str(tmp_path)))
    assert answer["quiet"] == 0
    assert answer["counts"] == list(range(1, 11))


WATCH = """
import asyncio, json, sys
sys.path.insert(0, {root!r})
from iscsiboot.daemon.roles import RoleWatch
from iscsiboot.keeper import libc
from iscsiboot.keeper.hands import Hands

async def main():
    lines, told = [], []
    log = lambda level, text: lines.append(text)
    watch = RoleWatch(sysfs="/sys", proc="/proc", run="/run", hands=Hands(log=log), log=log, set_roles=told.append)
    await watch.start()
    await asyncio.sleep(1.5)
    counts = [len(told)]
    for step in range(200):
        libc.mount("none", {place!r}, "tmpfs")
        libc.umount({place!r}, libc.MNT_DETACH)
        await asyncio.sleep(0)
    await asyncio.sleep(3)
    counts.append(len(told))
    watch.close()
    print(json.dumps({{"counts": counts, "lines": lines}}))

libc.unshare(libc.CLONE_NEWNS)
libc.mount("none", "/", "", libc.MS_REC | libc.MS_PRIVATE)
asyncio.run(main())
"""


@pytest.mark.interop
@pytest.mark.root
def test_a_storm_of_mounts_makes_one_look_or_two(tmp_path: Path) -> None:
    answer = run(WATCH.format(root=str(ROOT), place=str(tmp_path)))
    before, after = answer["counts"]
    # The rest of the machine may mount something at any time, too.
    assert before >= 1
    assert 1 <= after - before <= 4
    assert not answer["lines"]


UEVENTS = """
import asyncio, json, sys
sys.path.insert(0, {root!r})
from iscsiboot.daemon.uevents import Uevents

async def main():
    heard, lines = [], []
    uevents = Uevents(lambda level, text: lines.append(text), heard.append)
    uevents.attach(asyncio.get_running_loop())
    with open("/sys/class/net/lo/uevent", "w") as file:
        file.write("change")
    await asyncio.sleep(0.3)
    uevents.close()
    print(json.dumps({{"lines": lines, "heard": [[e.action, e.path, e.subsystem, e.values["INTERFACE"]] for e in heard
        if e.subsystem == "net"]}}))

asyncio.run(main())
"""


@pytest.mark.interop
@pytest.mark.root
def test_the_kernels_own_announcement_is_heard_and_understood() -> None:
    if not os.access("/sys/class/net/lo/uevent", os.W_OK):
        pytest.skip("sysfs cannot be written to here")
    answer = run(UEVENTS.format(root=str(ROOT)))
    assert not answer["lines"]
    assert ["change", "/devices/virtual/net/lo", "net", "lo"] in answer["heard"]
