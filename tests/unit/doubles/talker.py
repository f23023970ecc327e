# SPDX-License-Identifier: LGPL-2.1-or-later
"""An initiator made by hand to test the target double with: it counts right unless told otherwise, decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from iscsiboot.initiator.pdu.control import LogoutRequest, NopOut, TextRequest
from iscsiboot.initiator.pdu.header import BHS_LENGTH, RESERVED_TAG, Pdu
from iscsiboot.initiator.pdu.login import LoginRequest, LoginResponse
from iscsiboot.initiator.pdu.registry import TARGET_PDUS, decode
from iscsiboot.initiator.pdu.scsi import (
    DataIn,
    DataOut,
    ScsiCommand,
    TaskManagementRequest,
)
from tests.doubles.disk import Device, LogicalUnit, lun_bytes
from tests.doubles.limits import Limits
from tests.doubles.numbers import takes_statsn
from tests.doubles.session import FullTarget, Plan
from tests.doubles.target import Script, text_of
from tests.doubles.text import CONTINUED_LUN
from tests.doubles.wire import Action, Send, digest

IMAGE = bytes(index // 512 for index in range(512 * 64))
READ_8 = bytes.fromhex("28000000000100000800")
WRITE_8 = bytes.fromhex("2a000000000100000800")
READY = bytes(6)
FREE = Limits(initial_r2t=False)
KEYS = {
    "InitiatorName": "iqn.2004-01.com.example:host",
    "TargetName": "iqn.2004-01.com.example:disk",
    "SessionType": "Normal",
    "HeaderDigest": "None",
    "DataDigest": "None",
    "InitialR2T": "No",
    "ImmediateData": "Yes",
    "MaxBurstLength": "2048",
    "FirstBurstLength": "1024",
    "MaxOutstandingR2T": "1",
    "MaxRecvDataSegmentLength": "512",
}


@dataclass(frozen=True)
class Answer:
    """One PDU of the target."""

    pdu: Any
    """Of one of the classes a target sends."""
    data: bytes


def answers(actions: Sequence[Action], *, header_digest: bool = False, data_digest: bool = False) -> list[Answer]:
    """The whole PDUs among them; digests are checked."""
    stream = b"".join(action.data for action in actions if isinstance(action, Send))
    found = []
    while stream:
        bhs, length = stream[:BHS_LENGTH], int.from_bytes(stream[5:8], "big")
        at = BHS_LENGTH
        if header_digest:
            assert stream[at : at + 4] == digest(bhs)
            at += 4
        data, at = stream[at : at + length], at + -(-length // 4) * 4
        if data_digest and length:
            assert stream[at : at + 4] == digest(data.ljust(-(-length // 4) * 4, b"\0"))
            at += 4
        found.append(Answer(decode(bhs, TARGET_PDUS), data))
        stream = stream[at:]
    return found


class Talker:
    """One connection to a :class:`FullTarget`."""

    def __init__(self, plan: Plan | None = None, **keys: str) -> None:
        self.target = FullTarget(plan)
        self.keys = KEYS | {key: value for key, value in keys.items() if value}
        for key, value in keys.items():
            if not value:
                del self.keys[key]
        self.cmdsn = 1
        self.statsn = 0
        self.itt = 0
        self.actions: list[Action] = []
        self.header_digest = self.data_digest = False

    def login(self) -> LoginResponse:
        """Straight to full feature phase."""
        pdu = LoginRequest(transit=True, csg=1, nsg=3, isid=bytes(6), cmdsn=1, exp_statsn=0)
        response = self.send(pdu, text_of(list(self.keys.items())))[0].pdu
        assert isinstance(response, LoginResponse)
        assert response.nsg == 3
        self.statsn = response.statsn + 1
        self.header_digest, self.data_digest = self.target.agreed.header_digest, self.target.agreed.data_digest
        return response

    def send(self, pdu: Pdu, data: bytes = b"", *, ahs: bytes = b"") -> list[Answer]:
        """Exactly this; what comes back is also kept as ``actions``."""
        header = replace(pdu, data_length=len(data), ahs_length=len(ahs)).encode() + ahs
        padded = data.ljust(-(-len(data) // 4) * 4, b"\0")
        wire = header + (digest(header) if self.header_digest else b"") + padded
        return self.raw(wire + (digest(padded) if self.data_digest and data else b""))

    def raw(self, wire: bytes) -> list[Answer]:
        """Any bytes."""
        self.actions = self.target.receive(wire)
        found = answers(self.actions, header_digest=self.header_digest, data_digest=self.data_digest)
        for answer in found:
            uses_none = isinstance(answer.pdu, DataIn) and not answer.pdu.status_present
            self.statsn = (
                self.statsn if uses_none else max(self.statsn, answer.pdu.statsn + (not _tells_next(answer.pdu)))
            )
        return found

    def next_tag(self) -> int:
        """A task tag."""
        self.itt += 1
        return self.itt

    def numbers(self) -> dict[str, Any]:
        """For the next request that takes a CmdSN."""
        self.cmdsn += 1
        return {"cmdsn": self.cmdsn - 1, "exp_statsn": self.statsn}

    def command(
        self,
        cdb: bytes,
        data: bytes = b"",
        *,
        lun: int = 0,
        expected: int = 0,
        write: bool = False,
        final: bool = True,
        **other: Any,
    ) -> list[Answer]:
        """A SCSI command with ``data`` as immediate data."""
        pdu = ScsiCommand(
            final=final,
            read=bool(expected) and not write,
            write=write,
            lun=lun_bytes(lun),
            itt=self.next_tag(),
            expected_length=expected,
            cdb=cdb.ljust(16, b"\0"),
            **self.numbers(),
        )
        return self.send(replace(pdu, **other), data)

    def data_out(self, data: bytes, **values: Any) -> list[Answer]:
        """Data for the last command."""
        fields: dict[str, Any] = {"final": True, "datasn": 0, "buffer_offset": 0} | values
        return self.send(DataOut(itt=self.itt, exp_statsn=self.statsn, **fields), data)

    def text(self, data: bytes, **values: Any) -> list[Answer]:
        """A Text Request."""
        goes_on = "ttt" in values
        lun = CONTINUED_LUN if goes_on else bytes(8)
        fields: dict[str, Any] = {"itt": self.itt if goes_on else self.next_tag(), "lun": lun} | values
        return self.send(TextRequest(**fields, **self.numbers()), data)

    def ping(self, data: bytes = b"") -> list[Answer]:
        """A NOP-Out that wants an answer."""
        return self.send(NopOut(itt=self.next_tag(), **self.numbers()), data)

    def pong(self, ttt: int) -> list[Answer]:
        """The answer to a NOP-In."""
        return self.send(NopOut(immediate=True, itt=RESERVED_TAG, ttt=ttt, cmdsn=self.cmdsn, exp_statsn=self.statsn))

    def manage(self, function: int, **values: Any) -> list[Answer]:
        """A task management request."""
        pdu = TaskManagementRequest(
            function=function,
            itt=self.next_tag(),
            cmdsn=self.cmdsn,
            exp_statsn=self.statsn,
            **values,
        )
        return self.send(pdu)

    def logout(self, **values: Any) -> list[Answer]:
        """A Logout Request."""
        return self.send(LogoutRequest(itt=self.next_tag(), **self.numbers(), **values))


def _tells_next(pdu: Pdu) -> bool:
    """Whether its StatSN is the next one's, not its own (R2T, NOP-In without task)."""
    return not takes_statsn(pdu)


def plan(**fields: object) -> Plan:
    """A disk that lives at LUN 0 and one that is dead at LUN 1, behind a target that does not insist on R2T."""
    device = Device({0: LogicalUnit(IMAGE), 1: LogicalUnit(IMAGE, dead=True)})
    return replace(Plan(device=device, login=Script(limits=FREE)), **fields)  # type: ignore[arg-type]  # fields by name


def talker(made: Plan | None = None, **keys: Any) -> Talker:
    """A talker in full feature phase."""
    ready = Talker(made or plan(), **keys)
    ready.login()
    return ready
