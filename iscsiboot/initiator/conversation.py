# SPDX-License-Identifier: LGPL-2.1-or-later
"""Requests and responses of a login in lockstep: everything that holds for a PDU whatever the login is about.

Builds requests (long texts cut by the C bit), checks each response against the request it answers, puts continued
texts together and counts. What a text means is the machine's business (:mod:`iscsiboot.initiator.login`).

What the peer may do differently without harm is accepted and remarked, so that it is known when something else fails:
a kernel that sends our PDUs rewrites the initiator task tag, so only its staying the same is checked; nobody acts on
StatSN or ISID before full feature phase, so a target that counts or echoes oddly still gets its session.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from iscsiboot.initiator import status
from iscsiboot.initiator.config import LoginConfig
from iscsiboot.initiator.errors import ProtocolViolation
from iscsiboot.initiator.pdu.header import Header, Opcode, pad
from iscsiboot.initiator.pdu.login import LOGIN_DATA_MAX, LoginRequest, LoginResponse, LoginStage
from iscsiboot.initiator.pdu.reject import Reject
from iscsiboot.initiator.states import Event
from iscsiboot.initiator.text import Pairs, TextAssembler, encode_pairs, split_text

EXCHANGES_MAX = 32
"""Responses one login may take. A mutual CHAP login takes four; the rest is for targets that continue long texts."""
REMARKS_MAX = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Incoming:
    """A checked response."""

    event: Event
    response: LoginResponse
    data: bytes
    """Its data segment without padding."""
    pairs: Pairs
    """The whole text once it is complete; empty for every event but STAYED and MOVED."""


class Conversation:
    """The PDU side of one login. Every method that takes bytes raises :class:`ProtocolViolation`."""

    def __init__(self, config: LoginConfig) -> None:
        self._config = config
        self._outbox: deque[tuple[bytes, bytes]] = deque()
        self._unsent: deque[bytes] = deque()
        self._text = TextAssembler()
        self._csg = LoginStage.SECURITY
        self._nsg: LoginStage | None = None
        self._offered: LoginStage | None = None
        self._received = 0
        self._itt: int | None = None
        self._exp_statsn = config.exp_statsn
        self._remarks: list[str] = []

    @property
    def stage(self) -> LoginStage:
        """The stage of the last request."""
        return self._csg

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was accepted although it was not expected, in order, at most :data:`REMARKS_MAX`."""
        return tuple(self._remarks)

    def remark(self, text: str) -> None:
        """Keep a line for the caller's log; a peer cannot make them many."""
        if len(self._remarks) < REMARKS_MAX and text not in self._remarks:
            self._remarks.append(text)

    def next_request(self) -> tuple[bytes, bytes] | None:
        """Header and padded data of the next PDU to send."""
        return self._outbox.popleft() if self._outbox else None

    def say(self, pairs: Pairs, csg: LoginStage, nsg: LoginStage | None) -> None:
        """Queue a request with these keys; with ``nsg`` it offers to move to that stage."""
        self._csg, self._nsg = csg, nsg
        self._unsent.extend(split_text(encode_pairs(pairs), LOGIN_DATA_MAX))
        self._send_next()

    def ask_more(self) -> None:
        """Queue the empty request that answers a response with the C bit (section 6.2)."""
        self.say((), self._csg, None)

    def _send_next(self) -> None:
        chunk = self._unsent.popleft()
        self._offered = None if self._unsent else self._nsg
        request = LoginRequest(
            transit=self._offered is not None,
            cont=bool(self._unsent),
            csg=self._csg,
            nsg=self._offered or 0,
            isid=self._config.isid,
            tsih=self._config.tsih,
            cid=self._config.cid,
            cmdsn=self._config.cmdsn,
            exp_statsn=self._exp_statsn,
            data_length=len(chunk),
        )
        self._outbox.append((request.encode(), pad(chunk)))

    def header(self, bhs: bytes) -> Header:
        """The header of a PDU that may come during login, and nothing longer than a login allows."""
        header = Header.decode(bhs)
        if header.opcode not in (Opcode.LOGIN_RESPONSE, Opcode.REJECT):
            raise ProtocolViolation(
                f"the target sent a PDU that has no place in a login: {Opcode.words(header.opcode)}",
                hint="check that an iSCSI target listens on this port",
            )
        if header.ahs_length:
            raise ProtocolViolation(f"a PDU of the login has {header.ahs_length} bytes of additional headers")
        if header.data_length > LOGIN_DATA_MAX:
            raise ProtocolViolation(
                f"a PDU of the login has {header.data_length} bytes of data, at most {LOGIN_DATA_MAX} are allowed"
            )
        return header

    def take(self, bhs: bytes, data: bytes) -> Incoming | None:
        """One PDU, checked; None when it only acknowledged a part of our text and the next part is queued."""
        header = self.header(bhs)
        if len(data) < header.data_length:
            raise ProtocolViolation(f"{len(data)} bytes of data came, the header announces {header.data_length}")
        data = data[: header.data_length]
        self._received += 1
        if self._received > EXCHANGES_MAX:
            raise ProtocolViolation(f"the login is not over after {EXCHANGES_MAX} answers")
        if header.opcode == Opcode.REJECT:
            raise ProtocolViolation(f"the target rejected our PDU: {Reject.decode(bhs).words}")
        response = LoginResponse.decode(bhs)
        event = _classify(response)
        if event in (Event.REFUSED, Event.REDIRECTED):
            return Incoming(event=event, response=response, data=data, pairs=())
        self._check(response)
        if self._unsent:
            if event is not Event.STAYED or data:
                raise ProtocolViolation("the target answered before our text was complete")
            self._send_next()
            return None
        pairs = self._text.add(data, more=event is Event.CONTINUED)
        return Incoming(event=event, response=response, data=data, pairs=pairs or ())

    def _check(self, response: LoginResponse) -> None:
        """The rules of section 11.13 for a response that lets the login go on."""
        if response.version_active != 0:
            raise ProtocolViolation(f"the target speaks version {response.version_active} of iSCSI, we speak version 0")
        if response.cont and response.transit:
            raise ProtocolViolation("the target announces more text and the next stage at once")
        if response.csg != self._csg:
            wants_proof = self._config.credentials is None and response.csg == LoginStage.SECURITY
            raise ProtocolViolation(
                f"the target answered in stage {response.csg}, we asked in stage {int(self._csg)}",
                hint="the target seems to want CHAP: configure user name and secret" if wants_proof else "",
            )
        if response.transit and response.nsg != self._offered:
            raise ProtocolViolation(f"the target moves to stage {response.nsg}, which we did not offer")
        if self._itt is not None and response.itt != self._itt:
            raise ProtocolViolation(f"the task tag changed during login from {self._itt:#x} to {response.itt:#x}")
        if response.isid != self._config.isid:
            self.remark(f"the target answered with ISID {response.isid.hex()}, ours is {self._config.isid.hex()}")
        if self._itt is not None and response.statsn != self._exp_statsn:
            self.remark(f"the target sent StatSN {response.statsn}, {self._exp_statsn} was due")
        self._itt = response.itt
        self._exp_statsn = response.statsn + 1 & 0xFFFFFFFF


def _classify(response: LoginResponse) -> Event:
    if response.status_class == status.REDIRECTION_CLASS:
        return Event.REDIRECTED
    if response.status_class != status.SUCCESS_CLASS:
        return Event.REFUSED
    if response.cont:
        return Event.CONTINUED
    return Event.MOVED if response.transit else Event.STAYED
