# SPDX-License-Identifier: LGPL-2.1-or-later
"""A session in full feature phase and the other side of it, a PDU at a time and numbered as a target numbers them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar

from iscsiboot.initiator.config import SessionType
from iscsiboot.initiator.events import LoginSucceeded
from iscsiboot.initiator.fullfeature import FullFeature
from iscsiboot.initiator.fullfeature_states import Phase
from iscsiboot.initiator.negotiation import Negotiated
from iscsiboot.initiator.pdu.control import NopIn
from iscsiboot.initiator.pdu.header import RESERVED_TAG, Pdu
from iscsiboot.initiator.pdu.registry import INITIATOR_PDUS, decode
from iscsiboot.initiator.pdu.scsi import DataIn, ReadyToTransfer
from iscsiboot.initiator.session_events import SessionEvent
from iscsiboot.initiator.stream import RawPdu
from iscsiboot.initiator.timers import Timers
from iscsiboot.model.lun import Lun

SUBJECT = "iqn.2004-01.com.example:disk at 192.0.2.1:3260"
LUN = Lun.from_number(1)
OTHER_LUN = Lun.from_number(2)
READ_10 = bytes.fromhex("28000000000000000800")
WRITE_10 = bytes.fromhex("2a000000000000000800")
STATSN = 100
CMDSN = 7
WRAP = 1 << 32

P = TypeVar("P", bound=Pdu)
E = TypeVar("E")

AGREED = Negotiated(
    header_digest=False,
    data_digest=False,
    initial_r2t=False,
    immediate_data=True,
    max_burst_length=4096,
    first_burst_length=2048,
    max_outstanding_r2t=1,
    max_recv_data_segment_length=1024,
    max_xmit_data_segment_length=512,
    default_time2wait=2,
    default_time2retain=0,
    error_recovery_level=0,
    max_connections=1,
    data_pdu_in_order=True,
    data_sequence_in_order=True,
)


def agreed(**changes: Any) -> Negotiated:
    """What was negotiated, with small limits so that little data needs many PDUs."""
    return replace(AGREED, **changes)


def logged_in(negotiated: Negotiated = AGREED, *, statsn: int = STATSN, window: int = 32) -> LoginSucceeded:
    """The end of a login whose last response had ``statsn``, and room for ``window`` commands."""
    return LoginSucceeded(
        negotiated=negotiated,
        tsih=1,
        tpgt=1,
        target_alias=None,
        statsn=statsn,
        exp_cmdsn=CMDSN,
        max_cmdsn=(CMDSN + window - 1) % WRAP,
    )


@dataclass(frozen=True)
class Sent:
    """A PDU of ours."""

    pdu: Any
    data: bytes
    ahs: bytes


class Session:
    """The machine and a target that does what the test says, honest in its numbers unless told otherwise."""

    def __init__(
        self,
        *,
        timers: Timers | None = None,
        session_type: SessionType = SessionType.NORMAL,
        statsn: int = STATSN,
        window: int = 32,
        cid: int = 0,
        **changes: Any,
    ) -> None:
        self.machine = FullFeature(
            logged_in(agreed(**changes), statsn=statsn, window=window),
            subject=SUBJECT,
            cmdsn=CMDSN,
            now=0.0,
            timers=timers or Timers(ping_interval=0),
            session_type=session_type,
            cid=cid,
        )
        self.now = 0.0
        self.statsn = (statsn + 1) % WRAP
        self.exp_cmdsn = CMDSN
        self.max_cmdsn = (CMDSN + window - 1) % WRAP

    def phase(self) -> Phase:
        """The machine's; a call and not a property, so that mypy expects it to change."""
        return self.machine.phase

    def sent(self) -> list[Sent]:
        """Everything that is to be sent now."""
        found = []
        while (raw := self.machine.next_pdu()) is not None:
            pdu = decode(raw.bhs, INITIATOR_PDUS)
            assert pdu.data_length == len(raw.data)
            assert pdu.ahs_length == len(raw.ahs)
            cmdsn = getattr(pdu, "cmdsn", None)
            if cmdsn is not None and not getattr(pdu, "immediate", False):
                self.exp_cmdsn = (cmdsn + 1) % WRAP
            found.append(Sent(pdu, raw.data, raw.ahs))
        return found

    def one(self, kind: type[P]) -> P:
        """The only PDU to be sent now."""
        (only,) = self.sent()
        assert isinstance(only.pdu, kind)
        return only.pdu

    def give(self, pdu: Pdu, data: bytes = b"", **lies: Any) -> None:
        """A PDU of the target, numbered; ``lies`` replaces fields after that."""
        takes = not isinstance(pdu, ReadyToTransfer)
        if isinstance(pdu, DataIn):
            takes = pdu.status_present
        elif isinstance(pdu, NopIn):
            takes = pdu.itt != RESERVED_TAG
        numbers = {"statsn": self.statsn, "exp_cmdsn": self.exp_cmdsn, "max_cmdsn": self.max_cmdsn}
        if takes:
            self.statsn = (self.statsn + 1) % WRAP
        whole = replace(pdu, **{"data_length": len(data), **numbers, **lies})
        self.machine.receive(RawPdu(whole.encode(), b"", data), self.now)

    def events(self) -> list[SessionEvent]:
        """Everything that happened."""
        found = []
        while (event := self.machine.next_event()) is not None:
            found.append(event)
        return found

    def event(self, kind: type[E]) -> E:
        """The only thing that happened."""
        (only,) = self.events()
        assert isinstance(only, kind)
        return only

    # Calls with the arguments most tests want.

    def read(self, length: int = 4096, *, lun: Lun = LUN) -> int:
        return self.machine.command(lun, READ_10, now=self.now, read_length=length)

    def write(self, data: bytes, *, lun: Lun = LUN) -> int:
        return self.machine.command(lun, WRITE_10, now=self.now, data_out=data)


def pattern(length: int) -> bytes:
    """Bytes none of which stands where another could."""
    return b"".join(at.to_bytes(4, "big") for at in range(-(-length // 4)))[:length]
