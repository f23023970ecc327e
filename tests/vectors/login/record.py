# SPDX-License-Identifier: LGPL-2.1-or-later
"""Records the ``tgt-*`` vectors anew: needs root and tgt. Run as ``python3 -m tests.vectors.login.record``."""

from __future__ import annotations

import socket

from iscsiboot.initiator.chap import STRONGEST_FIRST, ChapAlgorithm
from iscsiboot.initiator.errors import LoginError
from tests.doubles.tgt import TgtTarget, free_port
from tests.vectors.login.replay import HERE, OWN, TARGET, USER, Recording

MD5 = (ChapAlgorithm.MD5,)
PLAN = {
    "tgt-none": Recording(auth="none", algorithms=MD5, ends=""),
    "tgt-unknown-target": Recording(auth="none", algorithms=MD5, ends="", target=f"{TARGET}-absent"),
    "tgt-chap": Recording(auth="chap", algorithms=MD5, ends=""),
    "tgt-chap-misread-list": Recording(auth="chap", algorithms=STRONGEST_FIRST, ends=""),
    "tgt-mutual": Recording(auth="mutual", algorithms=MD5, ends=""),
}


def receive(sock: socket.socket, length: int) -> bytes:
    """Exactly ``length`` bytes."""
    data = b""
    while len(data) < length:
        chunk = sock.recv(length - len(data))
        assert chunk, "tgt closed the connection"
        data += chunk
    return data


def record(recording: Recording, port: int) -> None:
    """Hold the conversation and keep it."""
    machine = recording.machine()
    machine.start()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        try:
            while machine.outcome is None:
                request = machine.next_request()
                assert request is not None
                sock.sendall(b"".join(request))
                bhs = receive(sock, 48)
                data = receive(sock, machine.following(bhs))
                recording.exchanges.append((b"".join(request), bhs + data))
                machine.receive(bhs, data)
            recording.ends = "success"
        except LoginError as error:
            recording.ends = error.cause


def main() -> None:
    """Record every vector of the plan."""
    for name, recording in PLAN.items():
        chap = None if recording.auth == "none" else USER
        mutual = OWN if recording.auth == "mutual" else None
        with TgtTarget(port=free_port(), name=TARGET, chap=chap, mutual=mutual) as target:
            record(recording, target.port)
        recording.save(HERE / f"{name}.txt")


if __name__ == "__main__":
    main()
