# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finding the disk of a LUN, and pyudev without a child process."""

from __future__ import annotations

import ctypes.util
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.lun import Lun
from iscsiboot.session.devices import UdevMonitor, find_disks, open_context
from iscsiboot.session.values import BlockDevice
from tests.doubles.iscsi_kernel import FakeKernel
from tests.unit.session.conftest import FakeMonitor, RecordingReport

ONE = Lun.from_number(1)


class Scene:
    """A logged-in session whose target has some LUNs."""

    def __init__(self, root: Path) -> None:
        self.kernel = FakeKernel(root)
        self.session = self.kernel.leftover(creator=1, state="LOGGED_IN", connection="up")
        self.monitor = FakeMonitor()
        self.report = RecordingReport()

    def find(self, lun: Lun | None = ONE) -> tuple[BlockDevice, ...]:
        return find_disks(
            sysfs=self.kernel.sysfs,
            sid=self.session.sid,
            host=self.session.host,
            lun=lun,
            target_name="iqn.2026-01.org.example:disk",
            monitor=self.monitor,
            deadline=Deadline(at=100.0, reason="the disk"),
            now=lambda: 0.0,
            report=self.report,
        )


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    made = Scene(tmp_path)
    monkeypatch.setattr("iscsiboot.session.devices.scan_host", made.kernel.scan)
    return made


def test_a_disk_that_is_there_already_is_not_waited_for(scene: Scene) -> None:
    assert scene.find() == (BlockDevice(name="sda", lun=ONE, ready=True),)
    assert scene.report.notes == []


def test_driver_and_udev_are_waited_for(scene: Scene) -> None:
    scene.kernel.luns = {ONE: (0, None)}
    scene.monitor.ready.clear()

    def driver() -> None:
        scene.session.units[ONE] = (0, "sda")
        scene.kernel.show(scene.session)

    scene.monitor.steps = [object(), driver, object(), lambda: scene.monitor.ready.add("sda"), object()]
    assert scene.find() == (BlockDevice(name="sda", lun=ONE, ready=True),)
    assert len(scene.monitor.steps) == 1, "not a wait too many"


def test_the_wait_is_the_grace_and_not_the_whole_deadline(scene: Scene) -> None:
    scene.monitor.ready.clear()
    waits: list[float] = []

    def wait(deadline: Deadline) -> bool:
        waits.append(deadline.at)
        return False

    scene.monitor.wait = wait  # type: ignore[method-assign]  # to see the deadline
    assert scene.find() == (BlockDevice(name="sda", lun=ONE, ready=False),)
    assert waits == [10.0]
    (note,) = scene.report.notes
    assert "/dev/sda: udev has not handled it" in note


def test_a_driver_at_work_has_the_whole_deadline_and_udev_its_grace_after_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A unit that becomes ready keeps the disk driver busy for longer than any grace; a boot waits for it."""
    scene.kernel.luns = {ONE: (0, None)}
    scene.monitor.ready.clear()

    def scan(sysfs: Path, host: int, lun: Lun | None) -> None:
        scene.kernel.scan(sysfs, host, lun)
        session = sysfs / f"class/iscsi_session/session{scene.session.sid}/device"
        (unit,) = session.glob("target*/*:*:*:*")
        (unit / "driver").symlink_to("../sd")

    monkeypatch.setattr("iscsiboot.session.devices.scan_host", scan)
    waits: list[float] = []

    def wait(deadline: Deadline) -> bool:
        waits.append(deadline.at)
        if len(waits) == 2:
            scene.session.units[ONE] = (0, "sda")
            scene.kernel.show(scene.session)
        return len(waits) < 3

    scene.monitor.wait = wait  # type: ignore[method-assign]  # to see the deadlines
    assert scene.find() == (BlockDevice(name="sda", lun=ONE, ready=False),)
    assert waits == [100.0, 100.0, 10.0]


def test_no_block_device_in_time(scene: Scene) -> None:
    scene.kernel.luns = {ONE: (0, None)}
    with pytest.raises(IscsiBootError) as caught:
        scene.find()
    assert caught.value.stage is Stage.DEVICE
    assert caught.value.cause == "LUN 1 (disk) exists, but the kernel makes no block device of it"
    assert caught.value.exit_code is ExitCode.NO_OBJS_FOUND


@pytest.mark.parametrize(
    ("luns", "wanted", "stage", "cause"),
    [
        pytest.param({}, ONE, Stage.SCAN, "no LUN 1 at this target; it has none for this initiator", id="nothing"),
        pytest.param({}, None, Stage.SCAN, "the target reports no LUN at all", id="nothing-of-all"),
        pytest.param(
            {Lun.from_number(0): (12, None), Lun.from_number(5): (5, "sr0")},
            ONE,
            Stage.SCAN,
            "no LUN 1 at this target; it has LUN 0 (array controller), LUN 5 (CD/DVD)",
            id="others",
        ),
        pytest.param(
            {Lun.from_number(0): (12, None)},
            Lun.from_number(0),
            Stage.DEVICE,
            "this is no disk: LUN 0 (array controller)",
            id="controller",
        ),
        pytest.param(
            {Lun.from_number(0): (12, None)},
            None,
            Stage.DEVICE,
            "the target has no disk, only LUN 0 (array controller)",
            id="controller-of-all",
        ),
    ],
)
def test_what_is_wrong_is_said(
    scene: Scene, luns: dict[Lun, tuple[int, str | None]], wanted: Lun | None, stage: Stage, cause: str
) -> None:
    scene.kernel.luns = luns
    with pytest.raises(IscsiBootError) as caught:
        scene.find(wanted)
    assert (caught.value.stage, caught.value.cause) == (stage, cause)
    assert not caught.value.retryable


def test_one_disk_of_all_that_does_not_appear_is_only_noted(scene: Scene) -> None:
    scene.kernel.luns = {ONE: (0, "sda"), Lun.from_number(2): (0, None), Lun.from_number(0): (12, None)}
    assert [device.name for device in scene.find(None)] == ["sda"]
    (note,) = scene.report.notes
    assert note.startswith("LUN 2 of iqn.2026-01.org.example:disk: no block device")


def test_a_session_that_goes_during_the_wait(scene: Scene) -> None:
    scene.monitor.ready.clear()

    def gone() -> None:
        scene.session.units.clear()
        scene.kernel.show(scene.session)

    scene.monitor.steps = [gone]
    with pytest.raises(IscsiBootError, match="no block device"):
        scene.find()


# pyudev.

PYUDEV_OF_PYPI = textwrap.dedent(
    """
    import sys, types, ctypes
    from ctypes.util import find_library  # bound at import, used at Context(), as in pyudev._ctypeslib.utils

    class Context:
        def __init__(self):
            name = find_library("udev")
            ctypes.CDLL(name)
            self.name = name
            self.other = find_library("no-such-library-at-all")
    """
)


def test_no_child_process_is_needed(tmp_path: Path) -> None:
    """In a process of its own, with fork and exec forbidden and a pyudev that asks as PyPI's does."""
    (tmp_path / "pyudev.py").write_text(PYUDEV_OF_PYPI.replace('find_library("no-such-library-at-all")', "None"))
    program = textwrap.dedent(
        """
        import sys, ctypes.util
        def forbid(event, args):
            if event in ("subprocess.Popen", "os.fork", "os.exec", "os.posix_spawn", "os.system"):
                raise RuntimeError(event)
        sys.addaudithook(forbid)
        before = ctypes.util.find_library
        from iscsiboot.session.devices import open_context
        pyudev, context = open_context()
        assert context.name == "libudev.so.1", context.name
        assert ctypes.util.find_library is before
        """
    )
    root = Path(__file__).resolve().parents[3]
    environment = {"PYTHONPATH": f"{tmp_path}:{root}", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_other_libraries_are_looked_for_as_always(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pyudev.py").write_text(PYUDEV_OF_PYPI)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pyudev", raising=False)
    asked: list[str] = []

    def ordinary(name: str) -> None:
        asked.append(name)

    monkeypatch.setattr(ctypes.util, "find_library", ordinary)
    open_context()
    assert asked == ["no-such-library-at-all"]
    assert ctypes.util.find_library is ordinary
    del sys.modules["pyudev"]  # the stand-in; monkeypatch brings a real one back


def test_without_pyudev_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyudev", None)
    ordinary = ctypes.util.find_library
    with pytest.raises(IscsiBootError) as caught:
        UdevMonitor(now=lambda: 0.0)
    assert (caught.value.stage, caught.value.subject) == (Stage.DEVICE, "pyudev")
    assert ctypes.util.find_library is ordinary


def test_the_real_one_times_out_and_knows_no_such_disk() -> None:
    pytest.importorskip("pyudev")
    monitor = UdevMonitor(now=lambda: 0.0)
    try:
        assert monitor.wait(Deadline(at=0.0, reason="nothing")) in (True, False)
        assert not monitor.settled("no-such-disk")
    finally:
        monitor.close()
