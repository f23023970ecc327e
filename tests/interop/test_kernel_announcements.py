# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel of this machine: its mount table and its uevents, heard by a loop exactly when something changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from iscsiboot.model.deadline import Deadline
from iscsiboot.session.devices import UdevMonitor

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


STORM = """
import json, socket, sys
sys.path.insert(0, {root!r})
from iscsiboot.netlink.socket import make_room
from iscsiboot.netlink.uapi import NLMSGHDR, UEVENT_SIZE

NETLINK_USERSOCK = 2
reader = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_USERSOCK)
make_room(reader)
reader.bind((0, 0))
writer = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_USERSOCK)
writer.setblocking(False)
count = 0
try:
    while True:
        writer.sendto(bytes(NLMSGHDR.size + UEVENT_SIZE), reader.getsockname())
        count += 1
except BlockingIOError:
    print(json.dumps({{"count": count}}))
"""


@pytest.mark.interop
@pytest.mark.root
def test_the_events_of_hundreds_of_sessions_wait_for_a_busy_reader() -> None:
    """A session that breaks and comes back is some five events; two hundred of them, five times over."""
    assert run(STORM.format(root=str(ROOT)))["count"] >= 200 * 5 * 5


@pytest.mark.interop
@pytest.mark.root
def test_who_waits_for_a_disk_hears_the_kernel_where_no_udevd_runs() -> None:
    """A disk its driver was still looking at was waited for in vain there: the messages of udev never come."""
    pytest.importorskip("pyudev")
    disks = sorted(Path("/sys/block").glob("*/uevent"))
    if not disks or not os.access(disks[0], os.W_OK):
        pytest.skip("there is no disk here that could announce itself")
    monitor = UdevMonitor(now=time.monotonic)
    try:
        while monitor.wait(Deadline(at=0.0, reason="what was said before")):
            pass
        disks[0].write_text("change")
        assert monitor.wait(Deadline.after(5.0, now=time.monotonic(), reason="the kernel's word"))
    finally:
        monitor.close()
