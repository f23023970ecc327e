# SPDX-License-Identifier: LGPL-2.1-or-later
"""Live values of a session: the disks of one that waits for ever give up no command for its age."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from iscsiboot.keeper import live
from iscsiboot.keeper.live import set_timers
from iscsiboot.keeper.port import KernelPort
from iscsiboot.keeper.values import Timers


@pytest.fixture(autouse=True)
def whole_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attribute has the last value alone; a file would have the rest of the one before, too."""
    monkeypatch.setattr(live, "write_attribute", Path.write_text)


def port(sysfs: Path) -> KernelPort:
    """One whose kernel takes everything."""

    def ask(*_: Any) -> None:
        return None

    return cast(KernelPort, SimpleNamespace(sysfs=sysfs, handle=1, ask=ask))


def disk(sysfs: Path, sid: int, lun: int, retries: str) -> Path:
    """The attribute of a disk of a session."""
    device = f"{sid}:0:0:{lun}"
    place = sysfs / f"class/iscsi_session/session{sid}/device/target{sid}:0:0/{device}/scsi_disk/{device}"
    place.mkdir(parents=True)
    path = place / "max_retries"
    path.write_text(retries + "\n")
    return path


@pytest.mark.parametrize(("recovery", "after"), [(-1, "-1"), (120, "5"), (0, "5")])
def test_who_waits_for_ever_retries_for_ever(tmp_path: Path, recovery: int, after: str) -> None:
    ours = [disk(tmp_path, 3, lun, "5") for lun in (1, 2)]
    other = disk(tmp_path, 4, 1, "5")
    set_timers(port(tmp_path), 3, Timers(recovery=recovery, noop_interval=5, noop_timeout=5), {}, {})
    assert [path.read_text().strip() for path in ours] == [after, after]
    assert other.read_text() == "5\n"


def test_an_older_kernel_has_no_such_value(tmp_path: Path) -> None:
    disk(tmp_path, 3, 1, "5").unlink()
    set_timers(port(tmp_path), 3, Timers(recovery=-1, noop_interval=5, noop_timeout=5), {}, {})


FOR_EVER = Timers(recovery=-1, noop_interval=5, noop_timeout=5)
BOUNDED = Timers(recovery=5, noop_interval=2, noop_timeout=2)


def test_who_need_not_wait_any_longer_retries_as_before(tmp_path: Path) -> None:
    """A second path came, or /var was unmounted. What somebody wrote meanwhile stays."""
    own, by_hand, gone = (disk(tmp_path, 3, lun, retries) for lun, retries in ((1, "7"), (2, "5"), (3, "5")))
    retries: dict[str, int] = {}
    for _ in range(2):
        set_timers(port(tmp_path), 3, FOR_EVER, {}, retries)
    by_hand.write_text("9\n")
    gone.unlink()
    set_timers(port(tmp_path), 3, BOUNDED, {}, retries)
    assert (own.read_text(), by_hand.read_text()) == ("7", "9\n")
    assert not retries


def test_disks_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    """A target may show others every hour."""
    retries: dict[str, int] = {}
    for lun in range(3):
        path = disk(tmp_path, 3, lun, "7")
        set_timers(port(tmp_path), 3, FOR_EVER, {}, retries)
        assert retries == {f"3:0:0:{lun}": 7}
        path.unlink()


def test_what_a_guard_that_has_said_nothing_may_have_set_is_taken_back_too(tmp_path: Path) -> None:
    left = disk(tmp_path, 3, 1, "-1")
    retries: dict[str, int] = {}
    set_timers(port(tmp_path), 3, FOR_EVER, {}, retries, untold=True)
    set_timers(port(tmp_path), 3, BOUNDED, {}, retries)
    assert left.read_text() == "5"


def test_what_somebody_else_lets_retry_for_ever_does_so_ever_after(tmp_path: Path) -> None:
    theirs, ours = disk(tmp_path, 3, 1, "-1"), disk(tmp_path, 3, 2, "-1")
    retries = {"3:0:0:2": 7}
    set_timers(port(tmp_path), 3, FOR_EVER, {}, retries)
    set_timers(port(tmp_path), 3, BOUNDED, {}, retries)
    assert (theirs.read_text(), ours.read_text()) == ("-1\n", "7")


def test_who_never_waited_for_ever_keeps_what_somebody_wrote(tmp_path: Path) -> None:
    path = disk(tmp_path, 3, 1, "-1")
    set_timers(port(tmp_path), 3, BOUNDED, {}, {})
    assert path.read_text() == "-1\n"
