# SPDX-License-Identifier: LGPL-2.1-or-later
"""Values of a live session that can be changed without a new login.

``recovery_tmo`` may be written in sysfs by others: by multipathd for its paths, by an administrator. From then on the
kernel takes no notice of SET_PARAM for it, which suits us: what somebody set by hand goes before what follows from a
role. Only an order given to us goes the same way as theirs.

A session that waits for ever needs disks that do, too: the SCSI layer fails a command that meets an error, if only the
Unit Attention of the new session, when it was made longer ago than its time-out times its tries, three minutes. Since
Linux 5.10 ``max_retries`` of a disk takes -1 for "no such end"; it counts for commands made afterwards. When it need
not wait any longer they get back what they had, but for those where somebody wrote another number meanwhile. What they
had goes from guard to guard (:attr:`~.values.Known.retries`), so that a disk which an administrator lets retry for ever
is not taken for one of ours. A disk that appears later has its turn when its session's units were looked for by us, and
in the daemon also when the kernel announces it, whoever has looked.

The kernel starts to send its pings when a connection starts, so pings that were off are on only after the next login.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from iscsiboot.errors import IscsiBootError
from iscsiboot.keeper.attempt import Told
from iscsiboot.keeper.port import KernelPort
from iscsiboot.keeper.values import Timers
from iscsiboot.netlink import messages
from iscsiboot.netlink.uapi import Param
from iscsiboot.session.steps import CID
from iscsiboot.sysfs.attributes import read_int, write_attribute

RETRY_FOR_EVER = -1
"""SCSI_CMD_RETRIES_NO_LIMIT."""
RETRIES_DEFAULT = 5
"""SD_MAX_RETRIES: of a disk that retries for ever when it is first seen, and the guard before us, of an older version
or killed, has not said that it was another's doing."""

_MAX_RETRIES = "target*/*/scsi_disk/*/max_retries"

Retries = dict[str, int]
"""What the disks that retry for ever had before, by SCSI address (``3:0:0:1``)."""


def set_timers(
    port: KernelPort,
    sid: int,
    wanted: Timers,
    told: Told,
    retries: Retries,
    *,
    untold: bool = False,
    insist: bool = False,
) -> None:
    """Tell the kernel what it was not told yet; what it refuses, being without a connection, the next login tells.

    ``told`` and ``retries`` are the session's, and kept up to date here. ``untold``: a disk may retry for ever by a
    guard that has not said so. ``insist``: by order, so also where ``recovery_tmo`` was set in sysfs. Nothing here
    waits for target or disk.
    """
    for param, value in (
        (Param.ISCSI_PARAM_SESS_RECOVERY_TMO, wanted.recovery),
        (Param.ISCSI_PARAM_PING_TMO, wanted.noop_timeout),
        (Param.ISCSI_PARAM_RECV_TMO, wanted.noop_interval),
    ):
        text = str(value)
        if told.get(param) == text and not insist:
            continue
        try:
            port.ask(messages.set_param(port.handle, sid=sid, cid=CID, param=param, value=text))
        except IscsiBootError:
            told.pop(param, None)
        else:
            told[param] = text
    device = port.sysfs / "class" / "iscsi_session" / f"session{sid}" / "device"
    if wanted.recovery < 0:
        _retry_for_ever(device, retries, untold)
    else:
        _retry_as_before(device, retries)
    path = port.sysfs / "class" / "iscsi_session" / f"session{sid}" / "recovery_tmo"
    if insist and read_int(path) != wanted.recovery:
        try:
            write_attribute(path, "off" if wanted.recovery < 0 else str(wanted.recovery))
        except OSError:
            # Refused while the session is down (EBUSY); the next login tells it.
            told.pop(Param.ISCSI_PARAM_SESS_RECOVERY_TMO, None)


def _retry_for_ever(device: Path, before: Retries, untold: bool) -> None:
    """No command of the disks below it is failed for its age. Kernels without the attribute are left as they are.

    Disks that are gone are forgotten: a target may show ever new ones.
    """
    paths = tuple(device.glob(_MAX_RETRIES))
    for name in before.keys() - {path.parent.name for path in paths}:
        del before[name]
    for path in paths:
        count = read_int(path)
        if count is None:
            continue
        if count != RETRY_FOR_EVER:
            before[path.parent.name] = count
            with suppress(OSError):  # it is being removed
                write_attribute(path, str(RETRY_FOR_EVER))
        elif untold:
            before.setdefault(path.parent.name, RETRIES_DEFAULT)


def _retry_as_before(device: Path, before: Retries) -> None:
    """Undo it; at a session that never waited for ever nothing is looked at."""
    for path in device.glob(_MAX_RETRIES) if before else ():
        count = before.get(path.parent.name)
        if count is not None and read_int(path) == RETRY_FOR_EVER:
            with suppress(OSError):  # as above
                write_attribute(path, str(count))
    before.clear()


def read_timers(port: KernelPort, sid: int) -> tuple[int | None, int | None, int | None]:
    """``recovery_tmo``, the interval of the pings and their time-out as the kernel has them; seconds."""
    session = port.sysfs / "class" / "iscsi_session" / f"session{sid}"
    connection = port.sysfs / "class" / "iscsi_connection" / f"connection{sid}:{CID}"
    return read_int(session / "recovery_tmo"), read_int(connection / "recv_tmo"), read_int(connection / "ping_tmo")
