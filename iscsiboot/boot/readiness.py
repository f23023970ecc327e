# SPDX-License-Identifier: LGPL-2.1-or-later
"""Telling systemd that the disk is there, before the process ends (sd_notify(3)).

``iscsiboot-root.service`` counts as started from this word on, and the boot goes on to mount the root; the process has
something left to do that the mount need not wait for.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

SOCKET = "NOTIFY_SOCKET"
SEND_SECONDS = 10.0
"""Process 1 reads its socket all the time, but it may have much to do in a boot."""


def tell_ready(environ: Mapping[str, str], status: str) -> bool:
    """Send ``READY=1``; False when nobody asked for it, or it could not be sent."""
    address = environ.get(SOCKET, "")
    if not address.startswith(("/", "@")):
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(SEND_SECONDS)
            # A name that begins with @ is of the abstract kind, whose first byte is 0.
            sender.connect("\0" + address[1:] if address[0] == "@" else address)
            sender.send(f"READY=1\nSTATUS={status}".encode())
    except OSError:
        return False
    return True
