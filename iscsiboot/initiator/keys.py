# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every key a login may carry, as one table (RFC 7143 sections 12 and 13, RFC 7144 section 6).

The table says how a key is negotiated; :mod:`iscsiboot.initiator.negotiation` does it and knows no key by itself.
Adding a key is adding a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

YES = "Yes"
NO = "No"
NONE = "None"

NOT_UNDERSTOOD = "NotUnderstood"
IRRELEVANT = "Irrelevant"
REJECT = "Reject"
CONSTANTS = frozenset({NOT_UNDERSTOOD, IRRELEVANT, REJECT})
"""Answers that settle a key without a value (section 6.2); no key may be offered with one of them."""


class Kind(Enum):
    """How the result follows from the two sides' values."""

    LIST = "list"
    """The answer is one item of the offered list."""
    MINIMUM = "minimum"
    MAXIMUM = "maximum"
    AND = "and"
    OR = "or"
    NUMBER = "declared number"
    """Told, not negotiated, as is TEXT."""
    TEXT = "declared text"
    OBSOLETE = "obsolete"
    """Answered with Reject (RFC 7143 section 13.25)."""


class Sender(Enum):
    """Who may begin with the key."""

    INITIATOR = "initiator"
    TARGET = "target"
    BOTH = "both"


class Scope(Enum):
    """What the value holds for."""

    SESSION = "session"
    CONNECTION = "connection"


class Phase(Enum):
    """In which stage of a login the key may be sent."""

    SECURITY = "security negotiation"
    OPERATIONAL = "operational negotiation"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class KeySpec:
    """One row."""

    name: str
    kind: Kind
    sender: Sender
    scope: Scope
    phase: Phase
    default: str | None = None
    """The value that holds when the key is not negotiated; None: there is none."""
    low: int = 0
    high: int = 0
    """The legal range of a number."""
    choices: tuple[str, ...] = ()
    """What this implementation can accept from a list a target offers."""

    @property
    def declared(self) -> bool:
        """Whether the key is told rather than negotiated, so that no answer is due."""
        return self.kind in (Kind.NUMBER, Kind.TEXT)

    @property
    def numeric(self) -> bool:
        """Whether the value is a number in ``low`` to ``high``."""
        return self.kind in (Kind.MINIMUM, Kind.MAXIMUM, Kind.NUMBER)


_I, _T, _B = Sender.INITIATOR, Sender.TARGET, Sender.BOTH
_SW, _CO = Scope.SESSION, Scope.CONNECTION
_SEC, _OP, _ANY = Phase.SECURITY, Phase.OPERATIONAL, Phase.ANY
_LENGTH_MAX = (1 << 24) - 1

_ROWS = (
    KeySpec("AuthMethod", Kind.LIST, _B, _CO, _SEC, NONE),
    KeySpec("CHAP_A", Kind.LIST, _I, _CO, _SEC),
    KeySpec("CHAP_I", Kind.NUMBER, _B, _CO, _SEC, None, 0, 255),
    KeySpec("CHAP_C", Kind.TEXT, _B, _CO, _SEC),
    KeySpec("CHAP_N", Kind.TEXT, _B, _CO, _SEC),
    KeySpec("CHAP_R", Kind.TEXT, _B, _CO, _SEC),
    KeySpec("HeaderDigest", Kind.LIST, _B, _CO, _OP, NONE, choices=(NONE,)),
    KeySpec("DataDigest", Kind.LIST, _B, _CO, _OP, NONE, choices=(NONE,)),
    KeySpec("MaxConnections", Kind.MINIMUM, _B, _SW, _OP, "1", 1, 65535),
    KeySpec("TargetName", Kind.TEXT, _I, _SW, _ANY),
    KeySpec("InitiatorName", Kind.TEXT, _I, _SW, _ANY),
    KeySpec("TargetAlias", Kind.TEXT, _T, _SW, _ANY),
    KeySpec("InitiatorAlias", Kind.TEXT, _I, _SW, _ANY),
    KeySpec("TargetAddress", Kind.TEXT, _T, _SW, _ANY),
    KeySpec("TargetPortalGroupTag", Kind.NUMBER, _T, _SW, _ANY, None, 0, 65535),
    KeySpec("InitialR2T", Kind.OR, _B, _SW, _OP, YES),
    KeySpec("ImmediateData", Kind.AND, _B, _SW, _OP, YES),
    KeySpec("MaxRecvDataSegmentLength", Kind.NUMBER, _B, _CO, _ANY, "8192", 512, _LENGTH_MAX),
    KeySpec("MaxBurstLength", Kind.MINIMUM, _B, _SW, _OP, "262144", 512, _LENGTH_MAX),
    KeySpec("FirstBurstLength", Kind.MINIMUM, _B, _SW, _OP, "65536", 512, _LENGTH_MAX),
    KeySpec("DefaultTime2Wait", Kind.MAXIMUM, _B, _SW, _OP, "2", 0, 3600),
    KeySpec("DefaultTime2Retain", Kind.MINIMUM, _B, _SW, _OP, "20", 0, 3600),
    KeySpec("MaxOutstandingR2T", Kind.MINIMUM, _B, _SW, _OP, "1", 1, 65535),
    KeySpec("DataPDUInOrder", Kind.OR, _B, _SW, _OP, YES),
    KeySpec("DataSequenceInOrder", Kind.OR, _B, _SW, _OP, YES),
    KeySpec("ErrorRecoveryLevel", Kind.MINIMUM, _B, _SW, _OP, "0", 0, 2),
    KeySpec("SessionType", Kind.TEXT, _I, _SW, _ANY, "Normal"),
    KeySpec("TaskReporting", Kind.LIST, _B, _SW, _OP, "RFC3720", choices=("RFC3720",)),
    KeySpec("iSCSIProtocolLevel", Kind.MINIMUM, _B, _SW, _OP, "1", 0, 31),
    KeySpec("IFMarker", Kind.AND, _B, _CO, _OP, NO),
    KeySpec("OFMarker", Kind.AND, _B, _CO, _OP, NO),
    KeySpec("IFMarkInt", Kind.OBSOLETE, _B, _CO, _OP),
    KeySpec("OFMarkInt", Kind.OBSOLETE, _B, _CO, _OP),
)

KEYS: dict[str, KeySpec] = {row.name: row for row in _ROWS}
"""Every row by its name on the wire."""

REPEATABLE = frozenset({"TargetAddress"})
"""Keys a target may declare more than once in one login (section 6.3)."""
