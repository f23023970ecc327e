# SPDX-License-Identifier: LGPL-2.1-or-later
"""When a disk is there: the scan for it, its block device, and udev being done with it.

The scan's write returns after the kernel has asked the target, so a LUN that did not appear by then does not exist.
The disk driver looks at a new LUN asynchronously, and udev after it: those two are waited for, with pyudev.
"""

from __future__ import annotations

import selectors
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.lun import Lun
from iscsiboot.model.report import Report
from iscsiboot.session.values import BlockDevice, DiskMonitor
from iscsiboot.sysfs.disks import UnitView, list_units, scan_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

UDEV_GRACE = 10.0
"""Seconds for a driver to take the LUN, and for udev once the block device is there. A driver that has it may take its
time, since it asks the target: a unit that becomes ready takes longer than any grace.
"""

_LIBUDEV = "libudev.so.1"


_IMPORT_LOCK = threading.Lock()


def open_context() -> tuple[Any, Any]:
    """The pyudev module and a Context of it, made without a child process.

    pyudev finds its library by ``ctypes.util.find_library("udev")``, which runs ldconfig, gcc and ld: none of them is
    in an initramfs (Debian patches this out, PyPI's pyudev has it). The soname has been libudev.so.1 since 2012 and the
    loader finds it by itself, so that name is the answer to this one question while pyudev is imported and opened; any
    other question gets the ordinary answer, and afterwards ``ctypes.util`` is as it was. ImportError, OSError when
    pyudev or the library is missing.
    """
    import ctypes.util

    with _IMPORT_LOCK:
        ordinary = ctypes.util.find_library

        def find_library(name: str) -> str | None:
            return _LIBUDEV if name == "udev" else ordinary(name)

        ctypes.util.find_library = find_library
        try:
            import pyudev

            return pyudev, pyudev.Context()
        finally:
            ctypes.util.find_library = ordinary


class UdevMonitor:
    """Listens to messages about block devices: udev's own, which come when the rules have run and the links exist, and
    the kernel's, which are all there is where no udevd runs. Listens from construction on.
    """

    def __init__(self, *, now: Callable[[], float]) -> None:
        self._now = now
        try:
            self._pyudev, self._context = open_context()
            self._monitors = [
                self._pyudev.Monitor.from_netlink(self._context, source=source) for source in ("udev", "kernel")
            ]
            for monitor in self._monitors:
                monitor.filter_by("block")
                monitor.start()
        except (ImportError, OSError) as error:
            raise IscsiBootError(
                f"cannot listen to udev: {error}",
                stage=Stage.DEVICE,
                subject="pyudev",
                hint="python3-pyudev and libudev.so.1 must be installed (in the initramfs: part of the image)",
                exit_code=ExitCode.INTERNAL,
            ) from error
        self._selector = selectors.DefaultSelector()
        for monitor in self._monitors:
            self._selector.register(monitor.fileno(), selectors.EVENT_READ)

    def wait(self, deadline: Deadline) -> bool:
        """Read what was said about disks, waiting for it; False when the deadline passes first."""
        if not self._selector.select(deadline.remaining(self._now())):
            return False
        # Which disk it was does not matter: the caller looks at the state of all it waits for.
        for monitor in self._monitors:
            while monitor.poll(timeout=0) is not None:
                pass
        return True

    def settled(self, name: str) -> bool:
        """Whether udev's database knows the device."""
        try:
            return bool(self._pyudev.Devices.from_name(self._context, "block", name).is_initialized)
        except self._pyudev.DeviceNotFoundError:
            return False

    def close(self) -> None:
        """Stop listening (the sockets go with the monitor objects, which only this one holds)."""
        self._selector.close()
        self._monitors.clear()


def find_disks(
    *,
    sysfs: Path,
    sid: int,
    host: int,
    lun: Lun | None,
    target_name: str,
    monitor: DiskMonitor,
    deadline: Deadline,
    now: Callable[[], float],
    report: Report,
) -> tuple[BlockDevice, ...]:
    """Scan for the wanted LUN (None: all) and wait for its block device; ``monitor`` was opened before.

    :class:`IscsiBootError` of stage SCAN when the LUN does not exist, of stage DEVICE when it is no disk or the
    kernel makes no block device of it. That udev is slow or absent is only noted: the kernel's device exists then.
    """
    scan_host(sysfs, host, lun)

    def grace() -> Deadline:
        return deadline.within(UDEV_GRACE, now=now(), reason="the block device")

    return wait_for_disks(
        sysfs=sysfs,
        sid=sid,
        host=host,
        lun=lun,
        target_name=target_name,
        monitor=monitor,
        deadline=deadline,
        grace=grace,
        report=report,
    )


def wait_for_disks(
    *,
    sysfs: Path,
    sid: int,
    host: int,
    lun: Lun | None,
    target_name: str,
    monitor: DiskMonitor,
    deadline: Deadline,
    grace: Callable[[], Deadline] | None = None,
    report: Report,
) -> tuple[BlockDevice, ...]:
    """The same after a scan that is over, with all the time ``deadline`` leaves for disk driver and udev.

    ``grace`` makes the earlier deadline for all but a driver that looks at the first disk; it counts from its end.
    """
    units = _wanted(list_units(sysfs, sid), lun)
    if not units:
        raise _absent(sysfs, sid, host, lun, target_name)
    if not any(unit.makes_block_device for unit in units):
        raise _not_a_disk(units, lun, target_name)
    limit: Deadline | None = None
    while True:
        disks = [unit for unit in _wanted(list_units(sysfs, sid), lun) if unit.makes_block_device]
        ready = disks and all(unit.blocks and all(map(monitor.settled, unit.blocks)) for unit in disks)
        probing = any(unit.driven for unit in disks) and not any(unit.blocks for unit in disks)
        if grace is None or probing:
            limit = deadline
        elif limit is None or limit is deadline:
            limit = grace()
        if ready or not monitor.wait(limit):
            break
    return _collect(disks, units, monitor, target_name, report)


def _wanted(units: tuple[UnitView, ...], lun: Lun | None) -> list[UnitView]:
    return [unit for unit in units if lun is None or unit.lun == lun]


def _collect(
    disks: list[UnitView], found: list[UnitView], monitor: DiskMonitor, target_name: str, report: Report
) -> tuple[BlockDevice, ...]:
    """The block devices there are when the waiting is over; an error when there is none at all."""
    devices = []
    for unit in disks:
        for name in unit.blocks:
            device = BlockDevice(name=name, lun=unit.lun, ready=monitor.settled(name))
            if not device.ready:
                report.note(f"{device.path}: udev has not handled it in time; is udevd running?")
            devices.append(device)
        if not unit.blocks:
            report.note(f"LUN {unit.lun} of {target_name}: no block device (state {unit.state})")
    if not devices:
        raise IscsiBootError(
            f"{_listing(found)} exists, but the kernel makes no block device of it",
            stage=Stage.DEVICE,
            subject=target_name,
            hint="is the module sd_mod there? see dmesg for read errors",
            exit_code=ExitCode.NO_OBJS_FOUND,
        )
    return tuple(devices)


def _absent(sysfs: Path, sid: int, host: int, lun: Lun | None, target_name: str) -> IscsiBootError:
    """The error for a LUN that is not there, with those that are: worth one more scan, since nothing else is left."""
    if lun is None:
        cause = "the target reports no LUN at all"
    else:
        scan_host(sysfs, host, None)
        units = list_units(sysfs, sid)
        cause = f"no LUN {lun} at this target; it has {_listing(units) if units else 'none for this initiator'}"
    return IscsiBootError(
        cause,
        stage=Stage.SCAN,
        subject=target_name,
        hint="check the LUN, and at the target which LUNs this initiator may see",
        exit_code=ExitCode.NO_OBJS_FOUND,
    )


def _not_a_disk(units: list[UnitView], lun: Lun | None, target_name: str) -> IscsiBootError:
    what = "the target has no disk, only" if lun is None else "this is no disk:"
    return IscsiBootError(
        f"{what} {_listing(units)}",
        stage=Stage.DEVICE,
        subject=target_name,
        hint="check the LUN (LUN 0 of some targets is their controller)",
        exit_code=ExitCode.NO_OBJS_FOUND,
    )


def _listing(units: Sequence[UnitView]) -> str:
    """``LUN 0 (array controller), LUN 1 (disk)``."""
    return ", ".join(f"LUN {unit.lun} ({unit.kind})" for unit in units)
