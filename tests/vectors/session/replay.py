# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads recorded sessions and drives the connection that held them, over again, by the same few requests.

A session is a script of requests made one after the other, each after the event that ended the one before. So what a
connection sends depends on nothing but what it received, and a replay has to send the recorded bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from iscsiboot.initiator import scsi
from iscsiboot.initiator.chap import STRONGEST_FIRST, ChapAlgorithm
from iscsiboot.initiator.config import LoginConfig, SessionType
from iscsiboot.initiator.connection import Connection, Event
from iscsiboot.initiator.discovery import DiscoveryFinished
from iscsiboot.initiator.errors import LoginError
from iscsiboot.initiator.events import LoginSucceeded
from iscsiboot.initiator.session_events import CommandFinished, LoggedOut, Pong
from iscsiboot.model.credentials import Credentials
from iscsiboot.model.lun import Lun
from iscsiboot.model.params import Digest, SessionParams
from iscsiboot.model.portal import Portal, parse_ip
from tests.doubles.peers import account

HERE = Path(__file__).parent
TARGET = "iqn.2026-11.example.iscsiboot:vectors"
USER, OWN = ("user", "initiator-secret"), ("tgt", "secret-of-the-target")
BLOCK = 512
DATA = bytes(number * 7 & 0xFF for number in range(20 * BLOCK))
"""Written and read back: more than one Data-Out and Data-In of the segments below."""
_PARAMS = SessionParams(
    max_recv_data_segment_length=4096, first_burst_length=4096, max_burst_length=8192, initial_r2t=True
)

Request = Callable[[Connection, Lun], int]
END_EVENTS = (LoginSucceeded, Pong, CommandFinished, DiscoveryFinished, LoggedOut)
"""Each step of a script ends with one of these."""


def _command(cdb: bytes, *, read_length: int = 0, data_out: bytes = b"") -> Request:
    return lambda connection, lun: connection.command(lun, cdb, now=0.0, read_length=read_length, data_out=data_out)


def _ask(request: scsi.Request[object]) -> Request:
    return _command(request.cdb, read_length=request.length)


def _normal() -> list[Request]:
    blocks = len(DATA) // BLOCK
    write = bytes([0x2A, 0, *(8).to_bytes(4, "big"), 0, *blocks.to_bytes(2, "big"), 0])
    return [
        lambda connection, lun: connection.ping(0.0, b"iscsiboot"),
        # The first command of a session meets the unit attention of a new nexus where a target has one.
        _command(bytes(6)),
        _command(bytes(6)),
        _ask(scsi.inquiry()),
        _ask(scsi.read_capacity_10()),
        _command(write, data_out=DATA),
        _ask(scsi.read(8, blocks, BLOCK)),
        lambda connection, lun: connection.logout(0.0),
    ]


def _discovery() -> list[Request]:
    return [lambda connection, lun: connection.discover(0.0), lambda connection, lun: connection.logout(0.0)]


SCRIPTS: dict[str, Callable[[], list[Request]]] = {"none": list, "normal": _normal, "discovery": _discovery}
"""What is asked after the login."""


@dataclass
class Recording:
    """One file: how the session was set up, and what went over the wire in turns."""

    peer: str
    """Name and version, and how it was run."""
    auth: str
    digests: str
    script: str
    lun: int
    algorithms: tuple[ChapAlgorithm, ...] = STRONGEST_FIRST
    target: str = TARGET
    ends: str = ""
    """``success``, or the cause of the LoginError."""
    turns: list[tuple[str, bytes]] = field(default_factory=list)
    """``>`` bytes of ours, ``<`` bytes of the target's: all of one direction until the other began."""

    @classmethod
    def load(cls, path: Path) -> Recording:
        """Read a file of the form the README gives."""
        fields: dict[str, str] = {}
        turns: list[tuple[str, bytes]] = []
        for line in path.read_text().splitlines():
            word, _, rest = line.partition(" ")
            if word in ("<", ">"):
                turns.append((word, bytes.fromhex(rest)))
            else:
                fields[word] = rest
        algorithms = tuple(ChapAlgorithm(int(number)) for number in fields.pop("algorithms").split(","))
        return cls(lun=int(fields.pop("lun")), algorithms=algorithms, turns=turns, **fields)

    def save(self, path: Path) -> None:
        """The inverse of :meth:`load`."""
        lines = [f"{name} {getattr(self, name)}" for name in ("peer", "auth", "digests", "script", "lun")]
        lines += [f"algorithms {','.join(str(int(number)) for number in self.algorithms)}"]
        lines += [f"{name} {getattr(self, name)}" for name in ("target", "ends")]
        lines += [f"{direction} {data.hex()}" for direction, data in self.turns]
        path.write_text("\n".join(lines) + "\n")

    def add(self, direction: str, data: bytes) -> None:
        """More bytes; joined to the turn they belong to."""
        if self.turns and self.turns[-1][0] == direction:
            self.turns[-1] = (direction, self.turns[-1][1] + data)
        else:
            self.turns.append((direction, data))

    def connection(self) -> Connection:
        """A connection that sends what was recorded, as long as nothing has changed. Its entropy is 1, 2, 3 ..."""
        discovery = self.script == "discovery"
        credentials = None
        if self.auth != "none":
            incoming = account(OWN) if self.auth == "mutual" else None
            credentials = Credentials(outgoing=account(USER), incoming=incoming)
        digest = Digest.CRC32C if self.digests == "both" else Digest.NONE
        config = LoginConfig(
            session_type=SessionType.DISCOVERY if discovery else SessionType.NORMAL,
            initiator_name="iqn.2026-11.example.iscsiboot:tests",
            initiator_alias="tests",
            target_name="" if discovery else self.target,
            isid=bytes.fromhex("00023d000007"),
            params=replace(_PARAMS, header_digest=digest, data_digest=digest),
            credentials=credentials,
            chap_algorithms=self.algorithms,
            portal=Portal(address=parse_ip("192.0.2.1"), port=3260),
        )
        return Connection(config, entropy=lambda length: bytes(range(1, length + 1)))


class Player:
    """Takes a connection through a recording's script: what to send now, given everything received so far."""

    def __init__(self, recording: Recording) -> None:
        self.connection = recording.connection()
        self.events: list[Event] = []
        self._lun = Lun.from_number(recording.lun)
        self._steps = iter(SCRIPTS[recording.script]())
        self.done = False
        self.failed = ""
        self.connection.start()

    def receive(self, data: bytes) -> None:
        """Bytes of the target; a refused login is told by ``failed``."""
        try:
            self.connection.receive(data, 0.0)
        except LoginError as error:
            self.failed, self.done = error.cause, True

    def send(self) -> bytes:
        """Bytes for the target."""
        while (event := self.connection.next_event()) is not None:
            self.events.append(event)
            if isinstance(event, END_EVENTS):
                self._step()
        return self.connection.data_to_send()

    def _step(self) -> None:
        step = next(self._steps, None)
        if step is None:
            self.done = True
        else:
            step(self.connection, self._lun)
