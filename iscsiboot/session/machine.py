# SPDX-License-Identifier: LGPL-2.1-or-later
"""The machine this runs on as an :class:`Environment`, and what is said when its kernel has no iSCSI.

Apart from :mod:`iscsiboot.session.attach`, so that a logout and a look at counters start without the login engine.
"""

from __future__ import annotations

import time
from pathlib import Path

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.netlink.socket import IscsiNetlink
from iscsiboot.session.devices import UdevMonitor
from iscsiboot.session.values import Environment

TRANSPORT = "tcp"


def this_machine(*, sysfs: Path = Path("/sys"), proc: Path = Path("/proc")) -> Environment:
    """The machine this runs on, its kernel shown at these roots."""
    return Environment(
        sysfs=sysfs,
        proc=proc,
        open_netlink=lambda: IscsiNetlink.open(now=time.monotonic),
        open_monitor=lambda: UdevMonitor(now=time.monotonic),
    )


def no_transport(environment: Environment) -> IscsiBootError:
    """Why the transport's handle cannot be read: the module is not loaded, or we may not (it is root's alone)."""
    if (environment.sysfs / "class" / "iscsi_transport" / TRANSPORT).is_dir():
        return IscsiBootError(
            "the kernel does not show the handle of its iSCSI transport to us",
            stage=Stage.HANDOFF,
            subject="iscsi_tcp",
            hint="run it as root",
            exit_code=ExitCode.ACCESS,
        )
    return IscsiBootError(
        "this kernel has no iSCSI over TCP",
        stage=Stage.MODULES,
        subject="iscsi_tcp",
        hint="modprobe iscsi_tcp; in an initramfs the module has to be part of the image",
        exit_code=ExitCode.TRANS_NOT_FOUND,
    )
