# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every key of iSCSI as one table (RFC 7143 chapters 12 and 13, RFC 7145 chapter 6).

The table says how a key is negotiated; :mod:`iscsiboot.initiator.negotiation` does it and knows no key by itself.
Adding a key is adding a row. A name without a row is an extension key (``X-``, ``X#``) or somebody's mistake and is
answered with NotUnderstood. Extension digests (``Y-``) and authentication methods (``Z-``) are values; no list here
holds one.
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
    """Told, not negotiated, as are the next two."""
    BINARY = "declared binary number"
    """May be written in base64 too (section 6.1, regular-binary-value)."""
    TEXT = "declared text"
    OBSOLETE = "obsolete"
    """Answered with Reject (section 13.25)."""


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
    NONE = "none"


class Use(Enum):
    """When in the life of a session the key may be sent; the value is the RFC's abbreviation."""

    LEADING = "LO"
    """In the login of a session's first connection only."""
    LOGIN = "IO"
    """In the login of every connection."""
    FULL_FEATURE = "FFPO"
    """After it only."""
    ALL = "ALL"


class Relevance(Enum):
    """Where the key means anything; elsewhere we do not offer it and answer it with Irrelevant."""

    ALWAYS = "always"
    NORMAL = "in normal sessions"
    """Not in a discovery session, which moves no SCSI data."""
    ISER = "with RDMAExtensions=Yes"
    """Never here: over TCP we answer that key with No."""


@dataclass(frozen=True, slots=True)
class KeySpec:
    """One row."""

    name: str
    kind: Kind
    sender: Sender
    scope: Scope
    phase: Phase
    use: Use
    relevance: Relevance = Relevance.ALWAYS
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
        return self.kind in (Kind.NUMBER, Kind.BINARY, Kind.TEXT)

    @property
    def numeric(self) -> bool:
        """Whether the value is a number in ``low`` to ``high``."""
        return self.kind in (Kind.MINIMUM, Kind.MAXIMUM, Kind.NUMBER, Kind.BINARY)


_I, _T, _B = Sender.INITIATOR, Sender.TARGET, Sender.BOTH
_SW, _CO = Scope.SESSION, Scope.CONNECTION
_SEC, _OP, _ANY = Phase.SECURITY, Phase.OPERATIONAL, Phase.ANY
_LO, _IO, _ALL = Use.LEADING, Use.LOGIN, Use.ALL
_ALWAYS, _NORMAL, _ISER = Relevance.ALWAYS, Relevance.NORMAL, Relevance.ISER
_LENGTH_MAX = (1 << 24) - 1
_TIME_MAX = 3600
_COUNT_MAX = (1 << 32) - 1
_KERBEROS = ("KRB_AP_REQ", "KRB_AP_REP")
_SRP = ("TargetAuth", "SRP_U", "SRP_GROUP", "SRP_s", "SRP_A", "SRP_B", "SRP_M", "SRP_HM")

_ROWS = (
    # Security (chapter 12). CHAP alone is implemented; a key of the other methods is never due.
    KeySpec("AuthMethod", Kind.LIST, _B, _CO, _SEC, _IO, _ALWAYS, NONE),
    KeySpec("CHAP_A", Kind.LIST, _I, _CO, _SEC, _IO),
    KeySpec("CHAP_I", Kind.NUMBER, _B, _CO, _SEC, _IO, _ALWAYS, None, 0, 255),
    KeySpec("CHAP_C", Kind.TEXT, _B, _CO, _SEC, _IO),
    KeySpec("CHAP_N", Kind.TEXT, _B, _CO, _SEC, _IO),
    KeySpec("CHAP_R", Kind.TEXT, _B, _CO, _SEC, _IO),
    *(KeySpec(name, Kind.TEXT, _B, _CO, _SEC, _IO) for name in (*_KERBEROS, *_SRP)),
    # Login and operation (chapter 13), in its order.
    KeySpec("HeaderDigest", Kind.LIST, _B, _CO, _OP, _IO, _ALWAYS, NONE, choices=(NONE,)),
    KeySpec("DataDigest", Kind.LIST, _B, _CO, _OP, _IO, _ALWAYS, NONE, choices=(NONE,)),
    KeySpec("MaxConnections", Kind.MINIMUM, _B, _SW, _OP, _LO, _NORMAL, "1", 1, 65535),
    KeySpec("SendTargets", Kind.TEXT, _I, _SW, Phase.NONE, Use.FULL_FEATURE),
    # A target sends this one too, as the answer to SendTargets, which is no negotiation (initiator.discovery).
    KeySpec("TargetName", Kind.TEXT, _I, _SW, _ANY, _IO),
    KeySpec("InitiatorName", Kind.TEXT, _I, _SW, _ANY, _IO),
    KeySpec("TargetAlias", Kind.TEXT, _T, _SW, _ANY, _ALL),
    KeySpec("InitiatorAlias", Kind.TEXT, _I, _SW, _ANY, _ALL),
    KeySpec("TargetAddress", Kind.TEXT, _T, _SW, _ANY, _ALL),
    KeySpec("TargetPortalGroupTag", Kind.BINARY, _T, _SW, _ANY, _IO, _ALWAYS, None, 0, 65535),
    KeySpec("InitialR2T", Kind.OR, _B, _SW, _OP, _LO, _NORMAL, YES),
    KeySpec("ImmediateData", Kind.AND, _B, _SW, _OP, _LO, _NORMAL, YES),
    KeySpec("MaxRecvDataSegmentLength", Kind.NUMBER, _B, _CO, _ANY, _ALL, _ALWAYS, "8192", 512, _LENGTH_MAX),
    KeySpec("MaxBurstLength", Kind.MINIMUM, _B, _SW, _OP, _LO, _NORMAL, "262144", 512, _LENGTH_MAX),
    KeySpec("FirstBurstLength", Kind.MINIMUM, _B, _SW, _OP, _LO, _NORMAL, "65536", 512, _LENGTH_MAX),
    KeySpec("DefaultTime2Wait", Kind.MAXIMUM, _B, _SW, _OP, _LO, _ALWAYS, "2", 0, _TIME_MAX),
    KeySpec("DefaultTime2Retain", Kind.MINIMUM, _B, _SW, _OP, _LO, _ALWAYS, "20", 0, _TIME_MAX),
    KeySpec("MaxOutstandingR2T", Kind.MINIMUM, _B, _SW, _OP, _LO, _NORMAL, "1", 1, 65535),
    KeySpec("DataPDUInOrder", Kind.OR, _B, _SW, _OP, _LO, _NORMAL, YES),
    KeySpec("DataSequenceInOrder", Kind.OR, _B, _SW, _OP, _LO, _NORMAL, YES),
    KeySpec("ErrorRecoveryLevel", Kind.MINIMUM, _B, _SW, _OP, _LO, _ALWAYS, "0", 0, 2),
    KeySpec("SessionType", Kind.TEXT, _I, _SW, _ANY, _LO, _ALWAYS, "Normal"),
    KeySpec("TaskReporting", Kind.LIST, _B, _SW, _OP, _LO, _NORMAL, "RFC3720", choices=("RFC3720",)),
    KeySpec("iSCSIProtocolLevel", Kind.MINIMUM, _B, _SW, _OP, _LO, _NORMAL, "1", 0, 31),
    KeySpec("IFMarker", Kind.AND, _B, _CO, _OP, _IO, _ALWAYS, NO),
    KeySpec("OFMarker", Kind.AND, _B, _CO, _OP, _IO, _ALWAYS, NO),
    KeySpec("IFMarkInt", Kind.OBSOLETE, _B, _CO, _OP, _IO),
    KeySpec("OFMarkInt", Kind.OBSOLETE, _B, _CO, _OP, _IO),
    # iSER (RFC 7145 chapter 6): the answers that keep a connection on TCP.
    KeySpec("RDMAExtensions", Kind.AND, _B, _SW, _OP, _LO, _NORMAL, NO),
    KeySpec("InitiatorRecvDataSegmentLength", Kind.MINIMUM, _B, _CO, _OP, _IO, _ISER, "8192", 512, _LENGTH_MAX),
    KeySpec("TargetRecvDataSegmentLength", Kind.MINIMUM, _B, _CO, _OP, _IO, _ISER, "8192", 512, _LENGTH_MAX),
    KeySpec("MaxAHSLength", Kind.NUMBER, _B, _CO, _OP, _IO, _ISER, "256", 2, _COUNT_MAX),
    KeySpec("TaggedBufferForSolicitedDataOnly", Kind.TEXT, _B, _SW, _OP, _LO, _ISER, NO),
    KeySpec("iSERHelloRequired", Kind.AND, _B, _SW, _OP, _LO, _ISER, NO),
    KeySpec("MaxOutstandingUnexpectedPDUs", Kind.NUMBER, _B, _SW, _OP, _LO, _ISER, "0", 0, _COUNT_MAX),
)

KEYS: dict[str, KeySpec] = {row.name: row for row in _ROWS}
"""Every row by its name on the wire."""

REPEATABLE = frozenset({"TargetAddress"})
"""Keys a target may declare more than once in one login (section 6.3)."""
