# SPDX-License-Identifier: LGPL-2.1-or-later
"""Values of a live session that can be changed without a new login.

``recovery_tmo`` may be written in sysfs by others: by multipathd for its paths, by an administrator. From then on the
kernel takes no notice of SET_PARAM for it, which suits us: what somebody set by hand goes before what follows from a
role. Only an order given to us goes the same way as theirs.

The kernel starts to send its pings when a connection starts, so pings that were off are on only after the next login.
"""

from __future__ import annotations

from iscsiboot.errors import IscsiBootError
from iscsiboot.keeper.attempt import Told
from iscsiboot.keeper.port import KernelPort
from iscsiboot.keeper.values import Timers
from iscsiboot.netlink import messages
from iscsiboot.netlink.uapi import Param
from iscsiboot.session.steps import CID
from iscsiboot.sysfs.attributes import read_int, write_attribute


def set_timers(port: KernelPort, sid: int, wanted: Timers, told: Told, *, insist: bool = False) -> None:
    """Tell the kernel what it was not told yet; what it refuses, being without a connection, the next login tells.

    ``insist``: by order, so also where ``recovery_tmo`` was set in sysfs. Nothing here waits for target or disk.
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
    path = port.sysfs / "class" / "iscsi_session" / f"session{sid}" / "recovery_tmo"
    if insist and read_int(path) != wanted.recovery:
        try:
            write_attribute(path, "off" if wanted.recovery < 0 else str(wanted.recovery))
        except OSError:
            # Refused while the session is down (EBUSY); the next login tells it.
            told.pop(Param.ISCSI_PARAM_SESS_RECOVERY_TMO, None)


def read_timers(port: KernelPort, sid: int) -> tuple[int | None, int | None, int | None]:
    """``recovery_tmo``, the interval of the pings and their time-out as the kernel has them; seconds."""
    session = port.sysfs / "class" / "iscsi_session" / f"session{sid}"
    connection = port.sysfs / "class" / "iscsi_connection" / f"connection{sid}:{CID}"
    return read_int(session / "recovery_tmo"), read_int(connection / "recv_tmo"), read_int(connection / "ping_tmo")
