# SPDX-License-Identifier: LGPL-2.1-or-later
"""A login machine and a scripted target back to back in memory, with every byte written down."""

from __future__ import annotations

from dataclasses import dataclass, field

from iscsiboot.errors import ExitCode
from iscsiboot.initiator.config import LoginConfig
from iscsiboot.initiator.events import LoginRedirected, LoginSucceeded
from iscsiboot.initiator.login import LoginMachine
from iscsiboot.initiator.pdu.header import BHS_LENGTH
from iscsiboot.initiator.states import State
from iscsiboot.model.credentials import Chap, Credentials, Secret
from iscsiboot.model.params import SessionParams
from iscsiboot.model.portal import Portal, parse_ip
from tests.doubles.target import ScriptedTarget

INITIATOR = "iqn.2004-01.com.example:host"
TARGET = "iqn.2004-01.com.example:disk"
USER = ("user", b"initiator secret")
OWN = ("target", b"secret of the target")
PORTAL = Portal(address=parse_ip("192.0.2.1"))


def fixed_entropy(length: int) -> bytes:
    """The same bytes each time: what makes a transcript reproducible."""
    return bytes(range(1, length + 1))


def credentials(*, mutual: bool = False) -> Credentials:
    """Those the scripted target knows as USER and OWN."""
    outgoing, incoming = (Chap(name=name, secret=Secret(secret)) for name, secret in (USER, OWN))
    return Credentials(outgoing=outgoing, incoming=incoming if mutual else None)


def config(**fields: object) -> LoginConfig:
    """A login like the first of any boot."""
    plain: dict[str, object] = {
        "initiator_name": INITIATOR,
        "target_name": TARGET,
        "isid": bytes.fromhex("00023d000001"),
        "params": SessionParams(),
        "portal": PORTAL,
    }
    return LoginConfig(**(plain | fields))  # type: ignore[arg-type]  # fields by name, checked by LoginConfig


@dataclass
class Transcript:
    """What went over the wire in memory."""

    sent: list[tuple[bytes, bytes]] = field(default_factory=list)
    answered: list[bytes] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    """The machine's state before each answer and at the end."""

    def text(self, number: int) -> list[str]:
        """The pairs of one request."""
        return [item.decode() for item in self.sent[number][1].split(b"\0") if item]

    def flags(self) -> list[int]:
        """The flag byte of each request."""
        return [bhs[1] for bhs, _ in self.sent]


def converse(
    machine: LoginMachine, target: ScriptedTarget, transcript: Transcript | None = None, *, padded: bool = True
) -> LoginSucceeded | LoginRedirected:
    """Run the login to its end; a target that goes silent or closes ends it as a driver would."""
    log = transcript if transcript is not None else Transcript()
    machine.start()
    try:
        while machine.outcome is None:
            request = machine.next_request()
            assert request is not None, "neither an outcome nor anything to send"
            log.sent.append(request)
            log.states.append(machine.state)
            reply = target.receive(*request)
            wire = reply.wire()
            log.answered.append(wire)
            if not wire:
                raise machine.abandon("no answer", exit_code=ExitCode.PDU_TIMEOUT)
            bhs, data = wire[:BHS_LENGTH], wire[BHS_LENGTH:]
            following = machine.following(bhs)
            machine.receive(bhs, data[:following] if padded else data[: int.from_bytes(bhs[5:8], "big")])
    finally:
        log.states.append(machine.state)
    return machine.outcome
