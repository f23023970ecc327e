# SPDX-License-Identifier: LGPL-2.1-or-later
"""``--wait-device``: which session's disks, how long, and the names they have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from iscsiboot.admin.login_devices import DeviceWatch
from iscsiboot.admin.runner import LoginOrder
from iscsiboot.errors import ExitCode, IscsiBootError
from iscsiboot.netlink.socket import IscsiNetlink
from iscsiboot.session.values import Environment
from tests.doubles.sysfs_tree import SysfsTree
from tests.unit.admin.scripted_runner import TARGET, Streams, pair
from tests.unit.session.conftest import FakeMonitor


class Desk:
    """Everything one test needs."""

    def __init__(self, root: Path) -> None:
        self.tree = SysfsTree(root / "sys")
        self.streams = Streams(root, debug=1)
        self.monitor = FakeMonitor()
        self.by_path = root / "by-path"
        self.environment = Environment(
            open_netlink=_no_netlink, open_monitor=self.monitor.open, sysfs=root / "sys", now=lambda: 100.0
        )

    def watch(self, seconds: float | None = 5) -> DeviceWatch:
        return DeviceWatch(self.streams.context, seconds, environment=self.environment, by_path=self.by_path)

    def session(self, sid: int, name: str = "a", *blocks: str) -> None:
        where = {"persistent_address": "10.0.0.1", "address": "10.0.0.1"}
        self.tree.add_session(sid, targetname=TARGET + name, connection=where)
        for lun, block in enumerate(blocks):
            self.tree.add_unit(sid, lun, block=block)


def _no_netlink() -> IscsiNetlink:
    raise AssertionError("waiting for a device needs no netlink")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def order(**values: str) -> LoginOrder:
    return LoginOrder(*pair("a", **values))


def test_all_disks_of_the_session(desk: Desk) -> None:
    desk.session(1, "a", "sda", "sdb")
    desk.session(2, "b", "sdc")
    desk.monitor.ready = {"sda", "sdb"}
    assert desk.watch().wait(order(), 1) == ("/dev/sda", "/dev/sdb")


def test_without_a_number_it_is_the_youngest_of_the_record(desk: Desk) -> None:
    """A daemon does not tell the number of the session it made."""
    desk.session(3, "a", "sda")
    desk.session(10, "a", "sdb")
    desk.monitor.ready = {"sda", "sdb"}
    assert desk.watch().wait(order(), None) == ("/dev/sdb",)


def test_udev_is_waited_for(desk: Desk) -> None:
    desk.session(1, "a", "sda")
    desk.monitor.ready = set()
    step: Callable[[], None] = lambda: desk.monitor.ready.add("sda")  # noqa: E731
    desk.monitor.steps = [step]
    assert desk.watch().wait(order(), 1) == ("/dev/sda",)


def test_udev_that_is_late_is_21(desk: Desk) -> None:
    desk.session(1, "a", "sda")
    desk.monitor.ready = set()
    with pytest.raises(IscsiBootError, match="udev has not handled /dev/sda within 5 s") as caught:
        desk.watch().wait(order(), 1)
    assert caught.value.exit_code is ExitCode.NO_OBJS_FOUND


def test_a_target_without_units_is_21(desk: Desk) -> None:
    desk.session(1, "a")
    with pytest.raises(IscsiBootError, match="reports no LUN") as caught:
        desk.watch().wait(order(), 1)
    assert caught.value.exit_code is ExitCode.NO_OBJS_FOUND


def test_a_session_that_is_gone_again_is_21(desk: Desk) -> None:
    with pytest.raises(IscsiBootError, match="gone again") as caught:
        desk.watch().wait(order(), 1)
    assert caught.value.exit_code is ExitCode.NO_OBJS_FOUND


def test_a_manual_scan_has_nothing_to_wait_for(desk: Desk) -> None:
    desk.session(1, "a")
    assert desk.watch().wait(order(node__session__scan="manual"), 1) == ()
    assert "no device is waited for" in desk.streams.err.getvalue()


def test_the_time_is_for_all_of_them(desk: Desk) -> None:
    """The clock begins with the first device that is waited for, and goes on for the next."""
    desk.session(1, "a", "sda")
    desk.session(2, "b", "sdb")
    desk.monitor.ready = {"sda", "sdb"}
    watch = desk.watch()
    watch.wait(order(), 1)
    first = watch._deadline
    watch.wait(LoginOrder(*pair("b")), 2)
    assert watch._deadline is first
    assert first is not None
    assert first.at == 105.0


def test_links(desk: Desk) -> None:
    watch = desk.watch()
    assert watch.links("/dev/sda") == ()
    desk.by_path.mkdir()
    for name, target in (("ip-b-lun-1", "../../sda"), ("ip-a-lun-1", "../../sda"), ("ip-c-lun-1", "../../sdb")):
        (desk.by_path / name).symlink_to(target)
    assert watch.links("/dev/sda") == (f"{desk.by_path}/ip-a-lun-1", f"{desk.by_path}/ip-b-lun-1")


def test_listening_begins_before_the_login_and_ends(desk: Desk) -> None:
    watch = desk.watch()
    assert desk.monitor.opened == 1
    watch.close()
    assert desk.monitor.closed == 1
