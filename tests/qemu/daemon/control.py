# SPDX-License-Identifier: LGPL-2.1-or-later
"""In the guest: what this machine takes for a thing at this moment, without anything of ours that could be slow.

An emulated processor that shares the host with others is ten to fifty times slower than a real one, and never twice
alike. So no trial compares a time with a fixed figure alone: it measures a control in the same minute.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import time
from statistics import median

from tests.qemu.daemon.sessions import INITIATOR, OURS
from tests.qemu.daemon.storage import ADDRESS, IQN, port_of

LOGINS = 5
ANSWER_SECONDS = 30.0
OFFERS = (
    *("HeaderDigest=None", "DataDigest=None", "MaxConnections=1", "InitialR2T=No", "ImmediateData=Yes"),
    *("MaxBurstLength=262144", "FirstBurstLength=65536", "DefaultTime2Wait=2", "DefaultTime2Retain=0"),
    *("MaxOutstandingR2T=1", "ErrorRecoveryLevel=0", "DataPDUInOrder=Yes", "DataSequenceInOrder=Yes"),
)
"""What nobody offers LIO proposes itself, and does not grant the login before it has been answered."""
_HEADER = 48
_STATUS_CLASS = 36
_LOGIN, _ANSWER = 0x43, 0x23
"""Login Request (immediate) and Login Response (RFC 7143, 11.12 and 11.13)."""
_STRAIGHT_ON = 0x87
"""Transit, asked for and granted, from the operational stage to the full feature phase."""


def login_seconds(name: str = "two") -> float:
    """The middle one of a few logins by hand at an open target that wants no secret: connect, one PDU, its answer.

    No kernel session comes of it; LIO does for it what it does for one. OSError when it is not granted.
    """
    return round(median(login((ADDRESS, port_of(name)), IQN + name, number) for number in range(LOGINS)), 4)


def login(portal: tuple[str, int], name: str, number: int) -> float:
    """The seconds of one; ``number``, below 256, makes it a session of its own. OSError when it is not granted."""
    names = (f"InitiatorName={INITIATOR}-control", "SessionType=Normal", f"TargetName={name}")
    text = "".join(f"{pair}\0" for pair in (*names, *OFFERS)).encode()
    began = time.monotonic()
    with socket.create_connection(portal, ANSWER_SECONDS) as stream:
        stream.sendall(_request(text, number))
        answer = b""
        while len(answer) < _HEADER:
            part = stream.recv(_HEADER - len(answer))
            if not part:
                raise OSError(f"{name} hangs up on a login")
            answer += part
    if answer[:2] != bytes([_ANSWER, _STRAIGHT_ON]) or answer[_STATUS_CLASS]:
        raise OSError(f"{name} does not grant a login: {answer.hex()}")
    return time.monotonic() - began


def _request(text: bytes, number: int) -> bytes:
    """The Login Request that offers nothing but names; ``number`` makes the ISID another each time."""
    isid = bytes([0x80, 0, 0, 0, 0, number])  # type 10b: a random one, of which these are as good as any
    lengths = struct.pack(">I", len(text))  # no additional header
    header = struct.pack(">BBBB4s6sHI", _LOGIN, _STRAIGHT_ON, 0, 0, lengths, isid, 0, 1)
    header += struct.pack(">HHII", 1, 0, 1, 0)  # CID, reserved, CmdSN, ExpStatSN
    return header.ljust(_HEADER, b"\0") + text + bytes(-len(text) % 4)


def start_something() -> None:
    """The work of our daemon's start, and none of its deeds: the same interpreter loads the same modules and ends."""
    subprocess.run([OURS + "iscsid", "--version"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
