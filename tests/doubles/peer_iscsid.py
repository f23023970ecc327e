# SPDX-License-Identifier: LGPL-2.1-or-later
"""The other end of open-iscsi's private IPC: enough of ``iscsid`` for the peer's ``iscsiadm`` to run without a kernel.

The real daemon does not start where the kernel has no NETLINK_ISCSI. The peer's command asks it for the path of
iscsid.conf before it makes a record, and hands it logins and logouts; with this double those paths run to their end
and print what they print. It counts on nothing in the requests but their number and, for logins, where the name stands.

    python3 -m tests.doubles.peer_iscsid READY [STATUS...]

binds the abstract socket of the network namespace it runs in, makes the file READY, and serves until it is killed.
STATUS is what every login, logout and question for counters is answered with; 0 is success. Several numbers answer one
such request each, in the order they come; the last one goes on.

Source: open-iscsi 2.1.8, observed; the layout is that of gcc on x86-64 (reference chapter 7).
"""

from __future__ import annotations

import socket
import struct
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path

ADDRESS = "\0ISCSIADM_ABSTRACT_NAMESPACE"
REPLY_BYTES = 2464
SESSION_LOGIN, SESSION_LOGOUT, SESSION_STATS, CONFIG_INAME, CONFIG_FILE, SESSION_INFO = 1, 2, 7, 8, 10, 13
JUDGED = (SESSION_LOGIN, SESSION_LOGOUT, SESSION_STATS)
CONFIG_PATH = b"/etc/iscsi/iscsid.conf"
INITIATOR_NAME = b"iqn.2026-01.org.example:peer"
_HEADER = struct.Struct("=II")
LOGGED_IN = struct.pack("=ii", 0, 3)
"""What SESSION_INFO is answered with for every session: recovery stage "no change", connection "logged in"."""
CUSTOM = ((b"tx_sendpage_failures", 5), (b"eh_abort_cnt", 7))
STATISTICS = (
    bytes(56)
    + struct.pack("=QQ19II", *range(21), len(CUSTOM))
    + b"".join(name.ljust(64, b"\0") + struct.pack("=Q", value) for name, value in CUSTOM)
)
"""What SESSION_STATS is answered with: a netlink header nobody looks at, then ``struct iscsi_stats``."""


def answer(request: bytes, status: int) -> bytes:
    """The reply to one request: its command, an error number, then what was asked for."""
    command, _ = _HEADER.unpack_from(request)
    text = {
        CONFIG_FILE: CONFIG_PATH,
        CONFIG_INAME: INITIATOR_NAME,
        SESSION_INFO: LOGGED_IN,
        SESSION_STATS: STATISTICS,
    }.get(command, b"")
    error = status if command in JUDGED else 0
    return (_HEADER.pack(command, error) + text).ljust(REPLY_BYTES, b"\0")


def serve(listener: socket.socket, status: int | Sequence[int]) -> None:
    """Answer requests one after the other; the peer waits for no second one before it has the first answer."""
    judgements = deque([status] if isinstance(status, int) else status)
    while True:
        connection, _ = listener.accept()
        with connection:
            request = connection.recv(1 << 17)
            if len(request) < _HEADER.size:
                continue
            judged = _HEADER.unpack_from(request)[0] in JUDGED
            judgement = judgements.popleft() if judged and len(judgements) > 1 else judgements[0]
            try:
                connection.sendall(answer(request, judgement))
            except BrokenPipeError:
                # With -W the peer closes right after it has sent.
                continue


def main(argv: list[str]) -> None:
    """Serve until killed."""
    status = [int(word) for word in argv[2:]] or 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(ADDRESS)
        listener.listen(64)
        Path(argv[1]).touch()
        serve(listener, status)


if __name__ == "__main__":
    main(sys.argv)
