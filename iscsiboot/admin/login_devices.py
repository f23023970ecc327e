# SPDX-License-Identifier: LGPL-2.1-or-later
"""``--wait-device``: a login is over when its disks can be opened by the names udev gives them."""

from __future__ import annotations

from pathlib import Path

from iscsiboot.admin.context import Context
from iscsiboot.admin.matching import pattern_of, rows_of, transport_of
from iscsiboot.admin.runner import LoginOrder
from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.timeline import Mark
from iscsiboot.session.devices import wait_for_disks
from iscsiboot.session.machine import this_machine
from iscsiboot.session.values import Environment
from iscsiboot.sysfs.listing import SessionRow, list_rows

DEVICE_SECONDS = 60.0
"""For all devices together, when ``--timeout`` does not say."""
BY_PATH = Path("/dev/disk/by-path")


class _Notices:
    """Takes the waiting's remarks to the terminal."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def note(self, text: str) -> None:
        self._context.notice(text)

    def mark(self, mark: Mark, detail: str = "") -> None:
        """Nobody draws this."""


class DeviceWatch:
    """Listens to udev from construction on, which has to be before the logins, or their events are missed."""

    def __init__(
        self,
        context: Context,
        seconds: float | None,
        *,
        environment: Environment | None = None,
        by_path: Path = BY_PATH,
    ) -> None:
        self._context = context
        paths = context.paths
        self._environment = environment or this_machine(sysfs=Path(paths.sysfs), proc=Path(paths.proc))
        self._seconds = DEVICE_SECONDS if seconds is None else seconds
        self._by_path = by_path
        self._deadline: Deadline | None = None
        self._monitor = self._environment.open_monitor()

    def wait(self, order: LoginOrder, sid: int | None) -> tuple[str, ...]:
        """The devices of a new session (``/dev/sda``). The time for all of them begins with the first call.

        IscsiBootError with exit code 21 when there is no disk in time; the session stays, as it is logged in.
        """
        if self._deadline is None:
            self._deadline = Deadline.after(self._seconds, now=self._environment.now(), reason="the block devices")
        if order.record.get("node.session.scan") == "manual":
            self._context.notice(f"{order.key.target}: node.session.scan is manual, so no device is waited for")
            return ()
        row = self._row(order, sid)
        left = self._deadline.remaining(self._environment.now())
        self._context.trace(1, f"devices: those of session {row.sid} on host{row.host}, {left:.1f} s at most")
        found = wait_for_disks(
            sysfs=self._environment.sysfs,
            sid=row.sid,
            host=row.host,
            lun=None,
            target_name=row.target,
            monitor=self._monitor,
            deadline=self._deadline,
            report=_Notices(self._context),
        )
        late = [device.path for device in found if not device.ready]
        if late:
            raise IscsiBootError(
                f"udev has not handled {', '.join(late)} within {self._seconds:g} s",
                stage=Stage.DEVICE,
                subject=row.target,
                hint="is udevd running? udevadm settle; give it more time with --timeout",
                exit_code=ExitCode.NO_OBJS_FOUND,
            )
        return tuple(device.path for device in found)

    def _row(self, order: LoginOrder, sid: int | None) -> SessionRow:
        rows = list_rows(self._context.paths.sysfs)
        fitting = [row for row in rows if row.sid == sid] or rows_of(
            pattern_of(order.key, transport_of(order.record)), rows
        )
        if not fitting:
            raise IscsiBootError(
                "the session is gone again",
                stage=Stage.DEVICE,
                subject=order.key.target,
                hint="see dmesg for why the connection ended",
                exit_code=ExitCode.NO_OBJS_FOUND,
            )
        return max(fitting, key=lambda row: row.sid)

    def links(self, device: str) -> tuple[str, ...]:
        """The names of ``device`` in ``/dev/disk/by-path``."""
        try:
            found = [path for path in self._by_path.iterdir() if path.is_symlink()]
            return tuple(sorted(str(path) for path in found if path.readlink().name == Path(device).name))
        except OSError:
            return ()  # udev changes the folder as we read it, or there is none

    def close(self) -> None:
        """Stop listening."""
        self._monitor.close()
