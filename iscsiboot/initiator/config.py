# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a login is started with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from iscsiboot.initiator.chap import STRONGEST_FIRST, ChapAlgorithm
from iscsiboot.initiator.negotiation import Negotiated
from iscsiboot.model.credentials import Credentials
from iscsiboot.model.names import NAME_MAX_BYTES
from iscsiboot.model.params import SessionParams
from iscsiboot.model.portal import Portal


class SessionType(Enum):
    """What a session is for (RFC 7143 section 13.21); the value is the text on the wire."""

    NORMAL = "Normal"
    DISCOVERY = "Discovery"
    """No SCSI commands: text requests and logout alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoginConfig:
    """Everything one login needs. ValueError when a value cannot stand in a PDU."""

    session_type: SessionType = SessionType.NORMAL
    initiator_name: str
    target_name: str
    """Empty for a discovery session that is with no target but with the portal."""
    initiator_alias: str = ""
    """Empty: none is sent."""
    isid: bytes
    """Six bytes that name the session among this initiator's. A login with the ISID of a living session to the same
    target portal group, and ``tsih`` 0, reinstates it: the target ends the old one first (section 6.3.5)."""
    tsih: int = 0
    """The target's handle of the session this connection joins; 0 begins a session. With a ``cid`` the session has
    already the target ends that connection first (connection reinstatement, section 6.3.4)."""
    cid: int = 0
    session: Negotiated | None = None
    """What the leading connection agreed on, when ``tsih`` is not 0: it is not negotiated again."""
    params: SessionParams
    credentials: Credentials | None = None
    chap_algorithms: tuple[ChapAlgorithm, ...] = STRONGEST_FIRST
    """Offered in this order; those this host cannot compute are left out."""
    cmdsn: int = 1
    """CmdSN of every request of the login: they are immediate and so do not advance it."""
    exp_statsn: int = 0
    """ExpStatSN of the first request; not 0 when a connection is continued."""
    portal: Portal | None = None
    """For messages, and the portal group tag when the target names none."""

    def __post_init__(self) -> None:
        if len(self.isid) != 6:
            raise ValueError(f"an ISID has 6 bytes, not {len(self.isid)}")
        if not self.initiator_name:
            raise ValueError("the initiator name is empty")
        if not self.target_name and self.session_type is SessionType.NORMAL:
            raise ValueError("the target name is empty")
        for what, text in (
            ("initiator name", self.initiator_name),
            ("target name", self.target_name),
            ("initiator alias", self.initiator_alias),
        ):
            if len(text.encode()) > NAME_MAX_BYTES or not text.isprintable():
                raise ValueError(f"the {what} has unprintable characters or more than {NAME_MAX_BYTES} bytes")
        if not self.chap_algorithms or len(set(self.chap_algorithms)) != len(self.chap_algorithms):
            raise ValueError("chap_algorithms is empty or names one twice")
        if not (0 <= self.tsih < 1 << 16 and 0 <= self.cid < 1 << 16):
            raise ValueError("tsih and cid have 16 bits")
        if (self.tsih == 0) != (self.session is None):
            raise ValueError("a session to be joined needs both its tsih and what holds in it")
        if not (0 <= self.cmdsn < 1 << 32 and 0 <= self.exp_statsn < 1 << 32):
            raise ValueError("cmdsn and exp_statsn have 32 bits")
