# SPDX-License-Identifier: LGPL-2.1-or-later
"""iscsid as it is, on a kernel in memory: ``python3 -m tests.interop.iscsid_on_double ORDER... -- OPTION...``.

To be run in a place of its own (:mod:`tests.interop.iscsid_lab`). The kernel double lives in the daemon's process; its
sysfs and /proc are below /run/machine. The target is a listening port of 127.0.0.1, the kernel double answers its login
PDUs. What is to happen is told over the socket /run/control (:data:`ORDERS`), by a thread only this one has.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from iscsiboot.daemon import iscsid, roles
from iscsiboot.daemon.settings import Places
from iscsiboot.errors import IscsiBootError, Stage
from iscsiboot.keeper import adoption
from iscsiboot.keeper.handover import Takeover, take_over
from iscsiboot.keeper.log import Log
from iscsiboot.keeper.values import Known, Source
from iscsiboot.model.lun import Lun
from iscsiboot.model.portal import Portal, parse_ip
from iscsiboot.netlink.socket import IscsiNetlink
from iscsiboot.netlink.uapi import KEvent, Param
from iscsiboot.session.values import AttachRequest, Environment
from iscsiboot.session.workers import Answer
from tests.doubles.iscsi_kernel import PORT, FakeKernel, kernel_event
from tests.unit.keeper.engine.world import PortalServer, _no_monitor

MACHINE = Path("/run/machine")
REMOVAL_SECONDS = 60.0
"""The kernel takes so long to remove a session nobody completes."""
INITIATOR = "iqn.2026-01.org.example:guest"
TARGET = "iqn.2026-01.org.example:disk"


class Machine:
    """The double and what can be done to it from outside."""

    def __init__(self) -> None:
        self.kernel = FakeKernel(MACHINE)
        self.server = PortalServer()
        Path("/run/port").write_text(str(self.server.port))
        proc = self.kernel.proc
        (proc / "1").mkdir()
        for table in ("self/mountinfo", "1/mountinfo"):
            (proc / table).write_text("")
        (proc / "swaps").write_text("Filename Type Size Used Priority\n")
        (self.kernel.sysfs / "class/block").mkdir(parents=True)

    def environment(self) -> Environment:
        return Environment(
            open_netlink=lambda: IscsiNetlink(self.kernel.transport(PORT + os.getpid()), now=time.monotonic),
            open_monitor=_no_monitor,
            sysfs=self.kernel.sysfs,
            proc=self.kernel.proc,
        )

    def session(self) -> None:
        """A session another program has made, that works."""
        made = self.kernel.leftover(creator=77, state="LOGGED_IN", connection="up")
        made.params = {
            Param.ISCSI_PARAM_TARGET_NAME: TARGET,
            Param.ISCSI_PARAM_INITIATOR_NAME: INITIATOR,
            Param.ISCSI_PARAM_IFACE_NAME: "default",
            Param.ISCSI_PARAM_TPGT: "1",
            Param.ISCSI_PARAM_PERSISTENT_ADDRESS: "127.0.0.1",
            Param.ISCSI_PARAM_PERSISTENT_PORT: str(self.server.port),
        }
        made.units = {Lun.from_number(1): (0, "sda")}
        self.kernel.show(made)

    def stranger(self) -> None:
        """Another program has made a session, and the kernel tells of it."""
        self.session()
        made = max(self.kernel.sessions.values(), key=lambda session: session.sid)
        self.kernel.multicast(kernel_event(KEvent.ISCSI_KEVENT_CREATE_SESSION, made.sid, made.host))

    def spoiled(self) -> None:
        """Sessions cannot be looked at."""
        why = IscsiBootError("sysfs is not there", stage=Stage.SESSION)
        mock.patch.object(adoption, "look", side_effect=why).start()

    def handed(self) -> None:
        """An initramfs keeper has handed session 1 over; it has never known what stands on it."""
        request = AttachRequest(
            initiator_name=INITIATOR,
            target_name=TARGET,
            portal=Portal(address=parse_ip("127.0.0.1"), port=self.server.port),
            lun=None,
        )

        async def taken(*, run: Path, log: Log, now: Callable[[], float], seconds: float) -> Takeover:
            takeover = await take_over(run=run, log=log, now=now, seconds=seconds)
            takeover.known = {1: Known(request=request, source=Source.KEEPER)}
            return takeover

        mock.patch("iscsiboot.daemon.daemon.take_over", taken).start()

    def blind(self) -> None:
        """What stands on which disk cannot be found out: the process that looks is ended."""
        mock.patch.object(roles, "find_roles", blind).start()

    def half(self) -> None:
        """A session nobody completes, and the kernel takes its time to remove it."""
        self.kernel.leftover(creator=992, connection="bound", state="FREE")
        mock.patch.object(adoption, "_remove", side_effect=lambda *_: time.sleep(REMOVAL_SECONDS)).start()

    def mounted(self) -> None:
        """The disk is mounted on /."""
        block = self.kernel.sysfs / "class/block/sda"
        block.mkdir(exist_ok=True)
        (block / "dev").write_text("8:0\n")
        for table in ("self/mountinfo", "1/mountinfo"):
            (self.kernel.proc / table).write_text("22 1 8:0 / / rw shared:1 - ext4 /dev/sda rw\n")

    def break_(self, sid: int) -> None:
        """The connection of a session ends."""
        self.kernel.break_connection(sid)

    def away(self) -> None:
        """The target refuses connections."""
        self.server.close()

    def back(self) -> None:
        """It takes them again."""
        self.server.open()

    def requests(self) -> list[str]:
        """The names of the requests to the kernel so far."""
        return self.kernel.names


ORDERS: dict[str, Callable[..., object]] = {
    "session": Machine.session,
    "stranger": Machine.stranger,
    "spoiled": Machine.spoiled,
    "handed": Machine.handed,
    "half": Machine.half,
    "blind": Machine.blind,
    "mounted": Machine.mounted,
    "break": Machine.break_,
    "away": Machine.away,
    "back": Machine.back,
    "requests": Machine.requests,
}
CONTROL = "/run/control"


def _obey(machine: Machine, listener: socket.socket) -> None:
    """Do what is ordered, a JSON list a connection; the double has the kernel's own lock."""
    while True:
        link, _ = listener.accept()
        with link, link.makefile("rw") as stream:
            name, *arguments = json.loads(stream.readline())
            stream.write(json.dumps(ORDERS[name](machine, *arguments)) + "\n")


def blind(*_: str) -> Answer:
    """A look at the disks that never comes to an end of its own."""
    os._exit(9)


def main(argv: list[str]) -> int:
    """Be the daemon. What is to be there before it, is made by the words in front of ``--``."""
    first, options = argv[: argv.index("--")], argv[argv.index("--") + 1 :]
    machine = Machine()
    for word in first:
        ORDERS[word](machine)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(CONTROL)
    listener.listen()
    threading.Thread(target=_obey, args=(machine, listener), daemon=True).start()
    places = Places(
        config="/run/etc/iscsid.conf",
        initiator_name="/run/etc/initiatorname.iscsi",
        database="/run/etc",
        etc="/run/etc",
        sysfs=str(MACHINE / "sys"),
        proc=str(MACHINE / "proc"),
        run="/run",
    )
    return iscsid.main(options, environ=os.environ, places=places, environment=machine.environment())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
