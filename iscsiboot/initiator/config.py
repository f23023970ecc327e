# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a login is started with."""

from __future__ import annotations

from dataclasses import dataclass

from iscsiboot.initiator.chap import STRONGEST_FIRST, ChapAlgorithm
from iscsiboot.model.credentials import Credentials
from iscsiboot.model.names import NAME_MAX_BYTES
from iscsiboot.model.params import SessionParams
from iscsiboot.model.portal import Portal


@dataclass(frozen=True, kw_only=True, slots=True)
class LoginConfig:
    """Everything one login needs. ValueError when a value cannot stand in a PDU."""

    initiator_name: str
    target_name: str
    initiator_alias: str = ""
    """Empty: none is sent."""
    isid: bytes
    """Six bytes; with the initiator's name it says which session this is, so a second login with it takes over."""
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
        for what, text in (("initiator", self.initiator_name), ("target", self.target_name)):
            if not text:
                raise ValueError(f"the {what} name is empty")
        for what, text in (
            ("initiator name", self.initiator_name),
            ("target name", self.target_name),
            ("initiator alias", self.initiator_alias),
        ):
            if len(text.encode()) > NAME_MAX_BYTES or any(not char.isprintable() for char in text):
                raise ValueError(f"the {what} has unprintable characters or more than {NAME_MAX_BYTES} bytes")
        if not self.chap_algorithms or len(set(self.chap_algorithms)) != len(self.chap_algorithms):
            raise ValueError("chap_algorithms is empty or names one twice")
        if not (0 <= self.cmdsn < 1 << 32 and 0 <= self.exp_statsn < 1 << 32):
            raise ValueError("cmdsn and exp_statsn have 32 bits")
