# SPDX-License-Identifier: LGPL-2.1-or-later
"""Our server at open-iscsi's socket, for the peer's own iscsiadm: answers by number of session, keeps what it is asked.

Runs inside the namespaces of :mod:`tests.interop.peer_admin_child`. What it was asked stands in ``/etc/iscsi/asked`` at
the end, one JSON list a line.
"""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.ipc.protocol import Request
from iscsiboot.ipc.server import Server, listening_socket
from iscsiboot.ipc.serving import Reply
from iscsiboot.netlink.statistics import COUNTERS

ASKED = Path("/etc/iscsi/asked")
PHASES = {1: "up", 2: "waiting", 3: "trying", 4: "leaving", 5: "stopping"}
"""Session: its phase."""
KEPT = 3
"""The session that is not logged out."""
CUSTOM = [["tx_sendpage_failures", 5], ["eh_abort_cnt", 7]]


class Desk:
    """The handler."""

    async def handle(self, request: Request, reply: Reply) -> dict[str, Any]:
        """Note it, answer it."""
        members = {name: value for name, value in request.fields.items() if name == "sid"}
        with ASKED.open("a") as file:
            print(json.dumps([request.action, members]), file=file)
        sid = members.get("sid", 0)
        if request.action == "config":
            return {
                "initiator_name": "iqn.2026-01.org.example:peer",
                "alias": "a",
                "config_file": "/etc/iscsi/iscsid.conf",
            }
        if request.action == "status":
            return {"sessions": [{"sid": sid, "phase": PHASES[sid]}] if sid in PHASES else []}
        if request.action == "stats":
            return {"counters": [[name, at] for at, name in enumerate(COUNTERS)], "custom": CUSTOM}
        if request.action == "logout" and sid == KEPT:
            raise IscsiBootError("in use", stage=Stage.SESSION, subject=f"session {sid}", exit_code=ExitCode.BUSY)
        return {}


def start() -> None:
    """Serve from a thread until the process ends; returns when the socket is there."""
    listener = listening_socket()

    async def serve() -> None:
        await Server(Desk(), lambda level, text: None).start(listener)
        await asyncio.Event().wait()

    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
