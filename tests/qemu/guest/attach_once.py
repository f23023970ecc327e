# SPDX-License-Identifier: LGPL-2.1-or-later
"""Attach one target in a guest, as root, and print what came of it as one JSON line.

    attach_once.py ADDRESS:PORT TARGET LUN|all [--user NAME] [--seconds N] [--kill-at N | --hang-at N]

The CHAP secret comes from the environment (CHAP_SECRET). ``--kill-at N`` ends the process by SIGKILL after its Nth
netlink request (counted from 1), ``--hang-at N`` prints ``!`` there and stops until a signal comes. SIGTERM
becomes an exception, as in the programs of this project.

Run with the source tree as working directory or in PYTHONPATH.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import sys
import time
from dataclasses import replace
from types import FrameType

from iscsiboot.errors import IscsiBootError
from iscsiboot.model.credentials import Chap, Credentials, Secret
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.lun import Lun
from iscsiboot.model.params import SessionParams
from iscsiboot.model.portal import Portal, parse_ip
from iscsiboot.model.timeline import Mark
from iscsiboot.netlink.messages import Reply, Request
from iscsiboot.netlink.socket import IscsiNetlink
from iscsiboot.session.attach import AttachRequest, attach, this_machine

INITIATOR = "iqn.2026-01.org.example:guest"


class Terminated(BaseException):
    """SIGTERM came: like KeyboardInterrupt no error, so nothing that handles errors may catch it."""


class StderrReport:
    """Notes and marks with the time since start, for whoever reads the guest's console."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def note(self, text: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - self._start:7.3f}] {text}\n")

    def mark(self, mark: Mark, detail: str = "") -> None:
        self.note(f"* {mark.value}: {detail}")


class CountingNetlink(IscsiNetlink):
    """Counts requests and ends or stops the process right after one of them."""

    count = 0
    trace: tuple[str, ...] = ()
    kill_at = 0
    hang_at = 0
    announce: int | None = None

    @classmethod
    def prepare(cls, *, kill_at: int = 0, hang_at: int = 0, announce: int | None = None) -> None:
        """Count from 0; ``announce`` is a descriptor that gets a ``!`` when the process stops."""
        cls.count, cls.trace = 0, ()
        cls.kill_at, cls.hang_at, cls.announce = kill_at, hang_at, announce

    def request(self, request: Request, deadline: Deadline) -> Reply:
        try:
            return super().request(request, deadline)
        finally:
            self._after(request)

    @classmethod
    def _after(cls, request: Request) -> None:
        cls.count += 1
        cls.trace = (*cls.trace, request.type.name.removeprefix("ISCSI_UEVENT_"))
        if cls.count == cls.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if cls.count == cls.hang_at:
            cls._stop()

    @classmethod
    def _stop(cls) -> None:
        """Stand still until a signal comes. pause(2) would sleep through one that comes just before it."""
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writing)
        os.write(sys.stdout.fileno() if cls.announce is None else cls.announce, b"!")
        select.select([reading], [], [])


def terminate(number: int, frame: FrameType | None) -> None:
    """The signal handler every program of this project installs: SIGTERM becomes an exception."""
    raise Terminated


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("portal")
    parser.add_argument("target")
    parser.add_argument("lun")
    parser.add_argument("--user")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--kill-at", type=int, default=0)
    parser.add_argument("--hang-at", type=int, default=0)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, terminate)
    host, _, port = options.portal.rpartition(":")
    request = AttachRequest(
        initiator_name=INITIATOR,
        target_name=options.target,
        portal=Portal(address=parse_ip(host), port=int(port)),
        lun=None if options.lun == "all" else Lun.from_number(int(options.lun)),
        params=SessionParams(),
        credentials=_credentials(options.user),
    )
    CountingNetlink.prepare(kill_at=options.kill_at, hang_at=options.hang_at)
    environment = replace(this_machine(), open_netlink=lambda: CountingNetlink.open(now=time.monotonic))
    began = time.monotonic()
    deadline = Deadline.after(options.seconds, now=began, reason=f"the disk of {options.target}")
    answer: dict[str, object]
    try:
        attached = attach(request, environment=environment, deadline=deadline, report=StderrReport())
    except Terminated:
        answer = {"ok": False, "terminated": True}
    except IscsiBootError as error:
        answer = {"ok": False, "stage": error.stage.value, "exit_code": int(error.exit_code), "line": error.line()}
    else:
        answer = {
            "ok": True,
            "sid": attached.sid,
            "host": attached.host,
            "reused": attached.reused,
            "tpgt": attached.tpgt,
            "devices": [device.path for device in attached.devices],
            "ready": all(device.ready for device in attached.devices),
        }
    answer |= {"seconds": round(time.monotonic() - began, 3), "requests": CountingNetlink.trace}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0 if answer["ok"] else 1


def _credentials(user: str | None) -> Credentials | None:
    if user is None:
        return None
    return Credentials(outgoing=Chap(name=user, secret=Secret(os.environb[b"CHAP_SECRET"])))


if __name__ == "__main__":
    sys.exit(main())
