# SPDX-License-Identifier: LGPL-2.1-or-later
"""Announcements of the kernel and of udev say that something changed; what it is now is read elsewhere."""

from __future__ import annotations

import errno
import socket

_RECEIVE_BYTES = 1 << 16


def drain(announcements: socket.socket) -> None:
    """Read a non-blocking socket empty. OSError when it fails; that some were lost (ENOBUFS) is all the same, since the
    state is read next.
    """
    while True:
        try:
            announcements.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
